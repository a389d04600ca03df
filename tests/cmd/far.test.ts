/** The words that go to another machine, with a program in the place of ssh. */
import { deepEqual, equal, match } from "node:assert/strict";
import { farIn } from "../../cmd/far-words.ts";
import { Scratch } from "../scratch.ts";
import { appjail, inProcess } from "./appjail.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

Deno.test("the machine is named before the command, in each way in which an option is", () => {
  const words = ["status", "-H", "other"];
  for (
    const args of [
      ["-H", "alice@host", ...words],
      ["-Halice@host", ...words],
      ["--host", "alice@host", ...words],
      ["--host=alice@host", ...words],
    ]
  ) deepEqual(farIn(args), { host: "alice@host", words });
  for (
    const args of [
      ["--socket", "/x", "-H", "host", "status"],
      ["-H", "host", "--socket", "/x", "status"],
    ]
  ) deepEqual(farIn(args), { host: "host", words: ["--socket", "/x", "status"] });
  deepEqual(farIn(["--socket=/x", "--host=h", "ps"]), { host: "h", words: ["--socket=/x", "ps"] });
  // Behind a command it is that one's own.
  for (const args of [["run", "-H", "x"], ["status", "--host", "x"], ["--socket", "-H", "x"], []]) {
    equal(farIn(args), undefined, args.join(" "));
  }
});

Deno.test("what makes no sense on another machine is refused, with what does", async () => {
  for (
    const [args, says] of [
      [["-H"], "Cannot use --host: its value is missing; see: appjail help"],
      [["-H", "x"], "Cannot do anything on x: a command is needed; see: appjail help"],
      [
        ["-H", "x", "--socket", "/y"],
        "Cannot do anything on x: a command is needed; see: appjail help",
      ],
      [
        ["-H", "-lroot", "status"],
        'Cannot use --host "-lroot": it has to be [USER@]HOST, as ssh takes it; see: appjail help',
      ],
      [
        ["-H", "x", "daemon"],
        'Cannot do "daemon" on x: the daemon would end with the connection; ' +
        "try: ssh x sudo systemctl start appjail",
      ],
      [
        ["--socket", "/y", "-H", "x", "completions", "bash"],
        'Cannot do "completions" on x: completions are for the shell of this machine; ' +
        "try: appjail completions SHELL",
      ],
      [
        ["-H", "x", "desktop", "list"],
        'Cannot do "desktop" on x: its menu entries are that machine\'s own; ' +
        "try: ssh x appjail desktop list",
      ],
    ] as const
  ) {
    deepEqual(await inProcess(args), { code: 100, stdout: "", stderr: `appjail: ${says}\n` });
  }
});

/** What is in the place of ssh: it prints what it was given. */
const echo = `#!/bin/sh\nprintf '[%s]\\n' "$@"\nexit 7\n`;

Deno.test("ssh gets the machine behind all options, and one line; it is looked for in PATH", async () => {
  using scratch = new Scratch();
  scratch.file("ssh", echo, 0o755);
  const env = { PATH: `${scratch.path}:/usr/bin:/bin`, APPJAIL_SSH: "" };
  deepEqual(await appjail(["-H", "alice@host", "run", "-p", "work", "ls", "a b"], env), {
    code: 7,
    stdout: `[--]\n[alice@host]\n[sh -c 'appjail "$@"; exit $?' appjail run -p work ls 'a b']\n`,
    stderr: "",
  });
});

Deno.test("APPJAIL_SSH says another ssh, and options of it, as a shell takes them", async () => {
  using scratch = new Scratch();
  const other = scratch.file("other ssh", echo, 0o755);
  const env = { APPJAIL_SSH: `'${other}' -p 2222 -F 'a file'` };
  const { code, stdout } = await appjail(["-H", "host", "status"], env);
  equal(code, 7);
  match(stdout, /^\[-p\]\n\[2222\]\n\[-F\]\n\[a file\]\n\[--\]\n\[host\]\n\[sh -c /);
});
