/** How a program ended: the same, to wait(2), as that of a program without a jail. */
import assert from "node:assert/strict";
import { spawn } from "../../core/kernel.ts";
import { open } from "../../ipc/fd.ts";
import { Child, type Ended, Terminal, terminalTest } from "./driver.ts";

/** Scripts of a shell, whose end is compared. */
const scripts: readonly string[] = [
  "true",
  "false",
  "exit 0",
  "exit 1",
  "exit 2",
  "exit 42",
  "exit 100",
  "exit 111",
  "exit 125",
  "exit 126",
  "exit 127",
  "exit 128",
  "exit 129",
  "exit 137",
  "exit 254",
  "exit 255",
  "exit 256",
  // Signals of its own, with a core where there is one.
  ...["HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV"].map((
    name,
  ) => `kill -${name} $$`),
  ...[
    "USR2",
    "PIPE",
    "ALRM",
    "TERM",
    "STKFLT",
    "XCPU",
    "XFSZ",
    "VTALRM",
    "PROF",
    "IO",
    "PWR",
    "SYS",
  ]
    .map((name) => `kill -${name} $$`),
  "kill -34 $$",
  "kill -64 $$",
  // Those that end nothing.
  "kill -CHLD $$; exit 3",
  "kill -CONT $$; exit 3",
  "kill -WINCH $$; exit 3",
  "kill -URG $$; exit 3",
  // Limits.
  "ulimit -t 1; while :; do :; done",
  "ulimit -f 0; echo too much > ${TMPDIR:-/tmp}/limited-$$; exit 4",
  // What the shell cannot run.
  "nothing-of-this-name",
  "exec nothing-of-this-name",
  "exec /etc/passwd",
  "exec /etc",
  "/etc/passwd",
  // Children.
  "sh -c 'exit 7'",
  "sh -c 'kill -SEGV $$'; exit $?",
  "sh -c 'kill -KILL $$'",
  "sleep 100 & kill -STOP $!; kill -KILL $!; wait $!",
  "sleep 100 & kill -STOP $!; kill -CONT $!; kill -TERM $!; wait $!",
  "(exit 9) | (exit 5)",
  "false | true",
  "exit 3 & wait $!",
  // Traps.
  "trap 'exit 17' TERM; kill -TERM $$; exit 1",
  "trap '' TERM; kill -TERM $$; exit 18",
  "trap 'exit 19' EXIT; exit 1",
  "trap 'kill -INT $$' EXIT; trap - INT; exit 1",
  "trap : INT; kill -INT $$; exit 20",
  "set -e; false; exit 21",
  "exec true",
  "exec sh -c 'kill -TERM $$'",
  "exec >&-; echo nowhere || exit 22",
  // A core is not written where none may be.
  "ulimit -c 0; kill -SEGV $$",
];

/** Runs words to their end without a terminal: with wait(2)'s own status. */
async function endOf(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Ended> {
  using nothing = open("/dev/null", 2);
  const [path = "", ...rest] = words;
  const pid = spawn({
    path: "/usr/bin/env",
    argv: ["env", path, ...rest],
    env: { ...Deno.env.toObject(), ...env },
    descriptors: [nothing.number, nothing.number, nothing.number],
    cwd: "/",
    session: true,
  });
  return await new Child(pid).ended(words.join(" "));
}

/** How many run at a time. */
const together = 6;

async function everyEnd(
  run: (script: string) => Promise<Ended>,
): Promise<ReadonlyMap<string, Omit<Ended, "core">>> {
  const ends = new Map<string, Omit<Ended, "core">>();
  const rest = [...scripts];
  await Promise.all(Array.from({ length: together }, async () => {
    for (let script = rest.shift(); script !== undefined; script = rest.shift()) {
      // The client writes no core of its own.
      const { code, signal } = await run(script);
      ends.set(script, { code, signal });
    }
  }));
  return new Map([...ends].sort(([a], [b]) => (a < b ? -1 : 1)));
}

terminalTest("a client ends as its program does", async (t, world) => {
  const env = { APPJAIL_SOCKET: world.socket, TMPDIR: world.folder };
  assert(scripts.length >= 40);
  const run = ["run", "-p", "work", "--", "sh", "-c"];
  const local = await everyEnd((script) => endOf(["sh", "-c", script], env));

  await t.step("without a terminal", async () => {
    assert.deepEqual(
      await everyEnd((script) => endOf([...world.clientWords(run), script], env)),
      local,
    );
  });
  await t.step("at a terminal", async () => {
    const atTerminal = async (words: readonly string[]): Promise<Ended> => {
      await using term = Terminal.start(words, { env });
      return await term.ended();
    };
    const localAtTerminal = await everyEnd((script) => atTerminal(["sh", "-c", script]));
    assert.deepEqual(
      await everyEnd((script) => atTerminal([...world.clientWords(run), script])),
      localAtTerminal,
    );
  });
  await t.step("what cannot be run has a shell's status", async () => {
    await world.shell("work", "printf x > ~/script; printf 'exit 5' > ~/good; chmod +x ~/good");
    for (const option of ["-t", "-T"]) {
      for (
        const [command, code] of [
          ["nothing-of-this-name", 127],
          ["/nothing/of/this/name", 127],
          ["/etc/passwd", 126],
          ["/etc", 126],
          ["/home/work/script", 126],
          // Without a first line that names its interpreter it is the shell's. execvp(3).
          ["/home/work/good", 5],
        ] as const
      ) {
        const words = ["run", option, "-p", "work", "--", command];
        const { code: found, stderr, stdout } = await world.client(words);
        assert.equal(found, code, `${words.join(" ")}: ${stderr}${stdout}`);
      }
    }
  });
  await t.step("a core is told of", async () => {
    const pattern = await Deno.readTextFile("/proc/sys/kernel/core_pattern");
    const { stderr } = await world.client([
      ...["run", "-p", "work", "--", "sh", "-c", "cd /tmp; ulimit -c unlimited; kill -SEGV $$"],
    ]);
    // Where cores go to a program out there, or the limit forbids them, none is.
    if (pattern.startsWith("core")) assert.match(stderr, /^appjail: work\.\d+ has dumped core\n$/);
  });
});
