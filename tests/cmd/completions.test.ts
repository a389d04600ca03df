/** The completions, in the shells that they are for, with a stub in the place of appjail. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { statusText } from "../../cmd/status.ts";
import {
  absolutePath,
  appUid,
  commandLine,
  lendName,
  ownerUid,
  parsed,
  profileName,
  programName,
} from "../../core/names.ts";
import type { JailReport } from "../../core/protocol.ts";
import { Scratch } from "../scratch.ts";
import { inProcess } from "./appjail.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const verbs = [
  ...["run", "status", "stop", "logs", "events", "stats", "profiles", "profile", "daemon"],
  ...["completions", "help"],
];
/** Those that have a uid, and those that are only written. */
const profiles = ["mail", "web", "work"];
const written = ["firefox"];

async function scriptFor(shell: string): Promise<string> {
  const { code, stdout, stderr } = await inProcess(["completions", shell]);
  deepEqual([code, stderr], [0, ""]);
  return stdout;
}

/** Each option of a verb, in each of its spellings, as its help has it. */
async function optionsOf(verb: string): Promise<readonly string[]> {
  const { stdout } = await inProcess(["help", verb]);
  const [, options = ""] = stdout.split("\noptions:\n");
  return options.split("\n\n")[0]?.split("\n").flatMap((line) =>
    [...line.slice(0, 24).matchAll(/(?<=^|[\s[])--?[A-Za-z][-A-Za-z]*/g)].map(([word]) => word)
  ).filter((word) => word !== "--") ?? [];
}

/** What bash offers for a line, given as bash cuts it into words; the cursor is at the last one. */
async function offered(
  lines: readonly (readonly string[])[],
  folder = "/",
): Promise<readonly (readonly string[])[]> {
  using scratch = new Scratch();
  const script = scratch.file("completion", await scriptFor("bash"));
  const driver = scratch.file(
    "driver",
    `source ${script}
appjail() {
  [[ $* == profiles || $* == "profile list --names" ]] || { echo "called with $*" >&2; return 1; }
  [[ $* == profiles ]] || printf '%s\\n' ${written.join(" ")}
  printf '%s\\n' ${profiles.join(" ")}
}
line() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
  _appjail
  ((\${#COMPREPLY[@]})) && printf '%s\\n' "\${COMPREPLY[@]}"
  echo "-- end"
}
${
      lines.map((words) =>
        `line appjail ${words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ")}`
      ).join("\n")
    }
`,
  );
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["--norc", "--noprofile", driver],
    cwd: folder,
  }).output();
  const text = new TextDecoder();
  equal(text.decode(stderr), "");
  return text.decode(stdout).split("-- end\n").slice(0, -1)
    .map((part) => part.split("\n").slice(0, -1));
}

function isInstalled(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => {
    try {
      return Deno.statSync(`${folder}/${program}`).isFile;
    } catch {
      return false;
    }
  });
}

for (const [shell, option] of [["bash", "-n"], ["zsh", "-n"], ["fish", "--no-execute"]] as const) {
  Deno.test(`${shell} takes its script`, { ignore: !isInstalled(shell) }, async () => {
    using scratch = new Scratch();
    const { success, stderr } = await new Deno.Command(shell, {
      args: [option, scratch.file("script", await scriptFor(shell))],
    }).output();
    ok(success, new TextDecoder().decode(stderr));
  });
}

Deno.test("every command and every option is in every script", async () => {
  const scripts = [await scriptFor("bash"), await scriptFor("zsh"), await scriptFor("fish")];
  for (const verb of verbs) {
    const options = await optionsOf(verb);
    ok(options.includes("--help") && options.includes("-h"));
    for (const script of scripts) {
      ok(script.includes(verb));
      for (const option of options.filter((option) => option.startsWith("--"))) {
        ok(
          script.includes(option) || script.includes(`-l ${option.slice(2)}`),
          `${verb} ${option}`,
        );
      }
    }
  }
});

Deno.test("bash offers the commands, and the options that stand before them", async () => {
  const [all = [], some, options, afterSocket, cut] = await offered([
    [""],
    ["st"],
    ["--"],
    ["--socket", "/x", "st"],
    ["--socket", "=", "/x", "profiles"],
  ]);
  for (const word of [...verbs, "--socket", "--version", "--help"]) ok(all.includes(word), word);
  deepEqual(some, ["status", "stop", "stats"]);
  deepEqual(options, ["--socket", "--version", "--help"]);
  deepEqual(afterSocket, ["status", "stop", "stats"]);
  deepEqual(cut, ["profiles"]);
});

Deno.test("bash offers each command's options, all of them and no other's", async () => {
  const found = await offered(verbs.map((verb) => [verb, "-"]));
  for (const [at, verb] of verbs.entries()) {
    deepEqual([...(found[at] ?? [])].sort(), [...await optionsOf(verb)].sort(), verb);
  }
});

Deno.test("bash offers the profiles that there are now, wherever one is meant", async () => {
  const places = [
    ["stop", ""],
    ["stop", "mail", ""],
    ["status", ""],
    ["status", "--json", ""],
    ["logs", ""],
    ["logs", "-f", ""],
    ["--socket", "/x", "stop", ""],
  ];
  const found = await offered(places);
  for (const [at, words] of places.entries()) deepEqual(found[at], profiles, words.join(" "));
  const wider = [
    ["run", "-p", ""],
    ["run", "--detach", "--profile", ""],
    ["run", "--profile", "="],
    ["profile", "new", "x", "--from", ""],
  ];
  for (const one of await offered(wider)) deepEqual(one, [...written, ...profiles]);
  deepEqual(await offered([["profile", "sh"], ["profile", "edit", "fi"]]), [["show"], ["firefox"]]);
  deepEqual(await offered([["stop", "w"], ["run", "--profile", "=", "wo"], ["stop", "x"]]), [
    ["web", "work"],
    ["work"],
    [],
  ]);
});

Deno.test("bash offers files and folders where an option takes one", async () => {
  using scratch = new Scratch();
  for (const name of ["folder", "other folder"]) scratch.folder(name);
  scratch.file("file.toml");
  const all = ["file.toml", "folder", "other folder"];
  const lines = [
    ["--socket", ""],
    ["status", "--socket", "fi"],
    ["daemon", "--config", ""],
    ["daemon", "--data-root", ""],
    ["run", "--cwd", "o"],
    ["run", "-C", ""],
  ];
  deepEqual((await offered(lines, scratch.path)).map((words) => [...words].sort()), [
    all,
    ["file.toml"],
    all,
    all.slice(1),
    ["other folder"],
    all.slice(1),
  ]);
});

Deno.test("bash offers nothing where only the person knows", async () => {
  deepEqual(
    await offered([
      ["daemon", "--bus", ""],
      ["daemon", "--uid-range", "1"],
      ["stop", "--timeout", ""],
      ["run", "-e", ""],
      ["run", "--env", "A", "=", "b"],
      ["profiles", ""],
      ["daemon", ""],
      ["nonsense", ""],
    ]),
    Array(8).fill([]),
  );
  deepEqual(await offered([["help", "r"], ["completions", ""]]), [["run"], [
    "bash",
    "zsh",
    "fish",
  ]]);
});

Deno.test("bash offers a command where run's is due, and no option of ours behind it", async () => {
  using scratch = new Scratch();
  scratch.file("--detached notes");
  const [command, dash, after, afterDashes, behindEnv, ours] = await offered([
    ["run", "mkfif"],
    ["run", "-p", "work", "mkfif"],
    ["run", "mkfifo", "--de"],
    ["run", "--", "mkfif"],
    ["run", "-e", "A", "=", "b", "mkfif"],
    ["run", "--de"],
  ], scratch.path);
  for (const found of [command, dash, afterDashes, behindEnv]) {
    // Once for each folder in PATH that has it: bash itself shows it once.
    deepEqual([...new Set(found)], ["mkfifo"]);
  }
  deepEqual(after, ["--detached notes"]);
  deepEqual(ours, ["--detach"]);
});

// --- The same in every shell -----------------------------------------------------------------

const wrong = (why: string): Error => new Error(why);

/** What the daemon would say: two jails run, and one of them is lent something. */
function statusOfNow(): string {
  const report = (profile: string, uid: number): JailReport => ({
    profile: parsed(profileName, profile, wrong),
    owner: parsed(ownerUid, 1000, wrong),
    uid: parsed(appUid, uid, wrong),
    state: "running",
    jailer_pid: 4711,
    started: 0,
    programs: [1, 2].map((number) => ({
      program: parsed(programName, `${profile}.${number}`, wrong),
      argv: parsed(commandLine, ["sleep", "600"], wrong),
      pid: number + 5,
      cwd: parsed(absolutePath, "/", wrong),
      terminal: false,
      started: 0,
    })),
    processes: 3,
    memory_bytes: 1,
    cpu_ms: 1,
    home: { kind: null, unlocked: false, until: null, problem: null },
    lends: profile === "work"
      ? ["Pictures", "an old list"].map((name) => ({
        name: parsed(lendName, name, wrong),
        path: parsed(absolutePath, `/home/alice/${name}`, wrong),
        write: false,
        until: null,
        at: null,
        context: false,
      }))
      : [],
    limits: { memory: null, processes: null, cpu: null },
    changed: false,
  });
  const options = { owners: false, width: Infinity, now: 0 };
  return statusText([report("mail", 1100), report("work", 1102)], options);
}

/** A program in appjail's place that answers what the completions ask. */
function standIn(scratch: Scratch): void {
  scratch.file("status", statusOfNow());
  scratch.file(
    "appjail",
    `#!/bin/sh
case "$*" in
  profiles) printf '%s\\n' ${profiles.join(" ")} ;;
  "profile list --names") printf '%s\\n' ${written.join(" ")} ${profiles.join(" ")} ;;
  status) cat "\${0%/*}/status" ;;
  *) echo "called with $*" >&2; exit 1 ;;
esac
`,
    0o755,
  );
}

/** How each shell is started with nothing of anybody's settings. */
const shellsHere: Readonly<Record<string, readonly string[]>> = {
  bash: ["--norc", "--noprofile"],
  zsh: ["-f"],
  fish: ["--no-config"],
};

/** What a shell offers behind each line. */
async function offeredBy(
  shell: string,
  lines: readonly string[],
  scratch: Scratch,
): Promise<readonly (readonly string[])[]> {
  const { stdout, stderr } = await new Deno.Command(shell, {
    args: [
      ...shellsHere[shell] ?? [],
      new URL(`complete.${shell}`, import.meta.url).pathname,
      scratch.file("script", await scriptFor(shell)),
      ...lines,
    ],
    // A terminal that nothing is painted on.
    env: { PATH: `${scratch.path}:${Deno.env.get("PATH")}`, HOME: scratch.path, TERM: "dumb" },
    cwd: `${scratch.path}/here`,
  }).output();
  const text = new TextDecoder();
  equal(text.decode(stderr), "");
  return text.decode(stdout).split("-- end\n").slice(0, -1)
    .map((part) => part.split("\n").slice(0, -1));
}

/** The end of a line, and what every shell has to offer for it. */
const offers: Readonly<Record<string, readonly string[]>> = {
  "appjail sto": ["stop"],
  "appjail --socket /x prof": ["profile", "profiles"],
  "appjail help unl": ["unlend", "unlock"],
  "appjail completions ": ["bash", "fish", "zsh"],
  "appjail stop ": profiles,
  "appjail stop mail w": ["web", "work"],
  "appjail stop --socket /x w": ["web", "work"],
  "appjail stop --forc": ["--force"],
  "appjail stop x": [],
  "appjail run -p w": ["web", "work"],
  "appjail run -p f": ["firefox"],
  "appjail run --socket /x -p w": ["web", "work"],
  "appjail run --detac": ["--detach"],
  "appjail run mkfif": ["mkfifo"],
  "appjail run -- mkfif": ["mkfifo"],
  "appjail run -e A=b mkfif": ["mkfifo"],
  "appjail run cat not": ["notes.txt"],
  "appjail run -p work cat not": ["notes.txt"],
  "appjail run mkfifo --de": [],
  "appjail lend w": ["web", "work"],
  "appjail lend work not": ["notes.txt"],
  "appjail lend --rw work not": ["notes.txt"],
  "appjail lend work notes.txt not": [],
  "appjail unlend work P": ["Pictures"],
  "appjail kill -s HUP work.": ["work.1", "work.2"],
  "appjail attach m": ["mail.1", "mail.2"],
  "appjail put not": ["notes.txt"],
  "appjail put notes.txt wo": ["work:"],
  "appjail get wo": ["work:"],
  "appjail encrypt --with g": ["gocryptfs"],
  "appjail plan f": ["firefox"],
  "appjail profile di": ["diff"],
  "appjail profile show f": ["firefox"],
  "appjail profile --socket /x show f": ["firefox"],
  "appjail profile new x --from f": ["firefox"],
  "appjail profile new x f": [],
  "appjail profile check not": ["notes.txt"],
  "appjail desktop ins": ["install"],
  "appjail desktop install firefox w": ["web", "work"],
  "appjail daemon --config not": ["notes.txt"],
  "appjail daemon --bus ": [],
};

for (const shell of Object.keys(shellsHere)) {
  Deno.test(`${shell} offers what fits, wherever the cursor is`, {
    ignore: !isInstalled(shell),
  }, async () => {
    using scratch = new Scratch();
    standIn(scratch);
    scratch.folder("here");
    scratch.file("here/notes.txt");
    const lines = Object.keys(offers);
    const found = await offeredBy(shell, lines, scratch);
    deepEqual(
      Object.fromEntries(lines.map((line, at) => [line, [...new Set(found[at])].sort()])),
      offers,
    );
  });
}
