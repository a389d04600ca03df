/** The words that a person types: what they mean, and what is said of those that mean nothing. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { protocolVersion } from "../../core/protocol.ts";
import manifest from "../../deno.json" with { type: "json" };
import { appjail, inProcess } from "./appjail.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const verbs = [
  ...[
    "run",
    "status",
    "stop",
    "logs",
    "events",
    "stats",
    "profiles",
    "daemon",
    "completions",
    "help",
  ],
];

/** That words are refused with one line on standard error, and the status for it. */
async function refuses(args: readonly string[], words: string, status = 100): Promise<void> {
  deepEqual(await inProcess(args), { code: status, stdout: "", stderr: `appjail: ${words}\n` });
}

// --- As a process --------------------------------------------------------------------------------

Deno.test("a mistyped command is told, with the one that was meant", async () => {
  deepEqual(await appjail(["stauts"]), {
    code: 100,
    stdout: "",
    stderr: 'appjail: Cannot use "stauts": there is no such command; did you mean "status"?\n',
  });
});

Deno.test("the version says which program, which Deno, which form and which protocol", async () => {
  deepEqual(await appjail(["--version"]), {
    code: 0,
    stdout: `appjail ${manifest.version} (from source; Deno ${Deno.version.deno}; ` +
      `protocol ${protocolVersion})\n`,
    stderr: "",
  });
});

Deno.test("run has a way of its own, and the same voice", async () => {
  deepEqual(await appjail(["run", "--detahc", "x"]), {
    code: 100,
    stdout: "",
    stderr: "appjail: Cannot use --detahc: run has no such option; see: appjail help run\n",
  });
});

Deno.test("a role that is called by hand says so in a line, without a stack", async () => {
  for (const args of [["jailer"], ["dispatcher", "{}"]]) {
    const { code, stdout, stderr } = await appjail(args);
    ok(code === 100 || code === 111);
    equal(stdout, "");
    match(stderr, new RegExp(`^appjail-${args[0]}: [^\n]+\n$`));
  }
});

// --- What is said --------------------------------------------------------------------------------

Deno.test("help names every command, wherever it is asked for", async () => {
  const { code, stdout, stderr } = await inProcess(["help"]);
  deepEqual([code, stderr], [0, ""]);
  for (const verb of verbs) match(stdout, new RegExp(`^  ${verb} +[A-Z]`, "m"));
  for (const line of stdout.split("\n")) ok(line.length <= 80, line);
  for (const args of [["--help"], ["-h"], ["help", "--help"], ["--socket", "/x", "--help"]]) {
    deepEqual(await inProcess(args), { code, stdout, stderr });
  }
  // Without a word it was used wrongly.
  deepEqual(await inProcess([]), { code: 100, stdout: "", stderr: stdout });
});

Deno.test("every command is explained, by help and by itself", async () => {
  for (const verb of verbs) {
    const help = await inProcess(["help", verb]);
    deepEqual([help.code, help.stderr], [0, ""]);
    match(help.stdout, new RegExp(`^usage:\n  appjail ${verb} `));
    if (verb === "help") continue;
    for (const option of ["--help", "-h"]) deepEqual(await inProcess([verb, option]), help);
  }
  const { stdout } = await inProcess(["help", "run"]);
  for (const word of ["--profile", "--detach", "--cwd", "--env", "--socket", "127", "126", "111"]) {
    ok(stdout.includes(word), word);
  }
});

Deno.test("what there is not is told, with what was meant where that can be guessed", async () => {
  await refuses(["nonsense"], 'Cannot use "nonsense": there is no such command; see: appjail help');
  await refuses(
    ["help", "stpo"],
    'Cannot use "stpo": there is no such command; did you mean "stop"?',
  );
  await refuses(
    ["--verison"],
    'Cannot use "--verison": there is no such option; did you mean "--version"?',
  );
  await refuses(["-q"], 'Cannot use "-q": there is no such option; see: appjail help');
  await refuses(
    ["status", "--jsn"],
    'Cannot use "--jsn": status has no such option; did you mean "--json"?',
  );
  await refuses(
    ["stop", "-x", "a"],
    'Cannot use "-x": stop has no such option; see: appjail help stop',
  );
  await refuses(
    ["a\nb\x1b[2J"],
    'Cannot use "a\\nb\\u001b[2J": there is no such command; see: appjail help',
  );
});

Deno.test("too much, too little and what cannot be are told", async () => {
  await refuses(
    ["status", "a", "b"],
    'Cannot use "b": it is one too many; see: appjail help status',
  );
  await refuses(
    ["profiles", "a"],
    'Cannot use "a": it is one too many; see: appjail help profiles',
  );
  await refuses(["logs"], "Cannot do this: PROFILE is missing; see: appjail help logs");
  await refuses(["completions"], "Cannot do this: SHELL is missing; see: appjail help completions");
  await refuses(
    ["stop"],
    "Cannot stop: give the profiles' names, or --all; see: appjail help stop",
  );
  await refuses(
    ["stop", "--all", "x"],
    "Cannot stop: give names or --all, not both; see: appjail help stop",
  );
  await refuses(["run"], "Cannot run: a command is needed; see: appjail help run");
  await refuses(
    ["status", "--socket"],
    'Cannot use "--socket": its value is missing; see: appjail help status',
  );
  await refuses(["--socket"], "Cannot use --socket: its value is missing; see: appjail help");
  for (const twice of [["--json", "--json"], ["--socket", "/a", "--socket", "/b"]]) {
    await refuses(
      ["status", ...twice],
      `Cannot use "${twice[0]}": it was given before; see: appjail help status`,
    );
  }
  await refuses(
    ["completions", "tcsh"],
    'Cannot complete for "tcsh": it has to be bash, zsh or fish',
  );
});

Deno.test("a timeout is seconds, up to an hour", async () => {
  for (const text of ["x", "-1", "3601", "1e3", "", "NaN", "Infinity", "0x10", " 5"]) {
    await refuses(
      ["stop", "--timeout", text, "a"],
      `Cannot use "--timeout ${text}": it has to be 0 to 3600 seconds; see: appjail help stop`,
    );
  }
  for (const text of ["0", "0.5", "3600"]) {
    equal((await inProcess(["stop", "--timeout", text, "--socket", "/none", "a"])).code, 111, text);
  }
});

Deno.test("a profile is refused before anybody is asked about it", async () => {
  for (const verb of ["status", "stop", "logs", "events"]) {
    for (const name of ["../x", "a/b", "", ".", "x".repeat(300), "a\nb", "$(id)", "root"]) {
      const { code, stdout, stderr } = await inProcess([verb, "--socket", "/none", name]);
      deepEqual([code, stdout], [100, ""]);
      ok(stderr.startsWith(`appjail: Cannot use ${JSON.stringify(name)}: `), stderr);
    }
    // One that looks like an option needs to be told from one.
    equal((await inProcess([verb, "--socket", "/none", "--", "-rf"])).code, 100);
  }
});

Deno.test("the socket may be named before the command or behind it, or in the environment", async () => {
  const words =
    "No daemon answers at /none; start it: systemctl start appjail, or sudo appjail daemon";
  await refuses(["--socket", "/none", "status"], words, 111);
  await refuses(["--socket=/none", "status"], words, 111);
  await refuses(["status", "--socket", "/none"], words, 111);
  await refuses(["status", "--socket=/none"], words, 111);
  await refuses(["--socket", "/none", "run", "x"], words, 111);
  await refuses(["run", "--socket", "/none", "x"], words, 111);
  const elsewhere = { APPJAIL_SOCKET: "/elsewhere" };
  match((await inProcess(["profiles"], elsewhere)).stderr, /at \/elsewhere;/);
  match((await inProcess(["--socket", "/none", "profiles"], elsewhere)).stderr, /at \/none;/);
});

Deno.test("a command line that the kernel would not take is refused before anybody is asked", async () => {
  await refuses(
    ["run", "--socket", "/none", "x", "y".repeat(131_072)],
    "Cannot use the command: a word of it is longer than 128 KiB; see: appjail help run",
  );
  for (const words of [["-C", "tmp", "x"], ["x\0"], ["-e", "A=\0", "x"], [""]]) {
    equal((await inProcess(["run", "--socket", "/none", ...words])).code, 100);
  }
});
