/** What is sent to another machine's login shell, whichever that is. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { isHost, remoteLine } from "../../core/far.ts";
import { bytesOf, textOf } from "../../ipc/octets.ts";
import { Scratch } from "../scratch.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const words: readonly string[] = [
  ...["", "a", "two words", "a'b", 'a"b', "a\\b", "\\", "'", "\\'", "\\\\", "a\\\\'"],
  ...[
    "a\nb",
    "\n",
    "a\n\n",
    "\t",
    "\r",
    "\x07\x1b[2J",
    "!",
    "a!b",
    "$x",
    "$(id)",
    "`id`",
    "*",
    "?",
  ],
  ...["~", "=ls", "%self", "{a,b}", "[a]", "a;b", "a&", "|", "#x", "(x)", "<x>", "^x", "-n", "--"],
  ...["ü ☃ 漢字 🦀", "\u00a0", "\u2028", textOf(new Uint8Array([0x61, 0xff, 0x27, 0xc3]))],
];

for (const shell of ["sh", "bash", "dash", "zsh", "fish", "tcsh"]) {
  const path = ["/bin", "/usr/bin"].map((folder) => `${folder}/${shell}`).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
  Deno.test(`${shell} makes the same words of it`, { ignore: path === undefined }, async () => {
    using scratch = new Scratch();
    scratch.file("program", '#!/bin/sh\nprintf "%s\\0" "$@"\nexit 7\n', 0o755);
    const run = async (given: readonly string[]): Promise<void> => {
      const { code, stdout, stderr } = await new Deno.Command(path ?? "", {
        args: ["-c", remoteLine(["program", ...given])],
        env: { PATH: `${scratch.path}:/usr/bin:/bin`, HOME: scratch.path },
        cwd: scratch.path,
      }).output();
      deepEqual([code, new TextDecoder().decode(stderr)], [7, ""]);
      const all = given.map((word) => `${word}\0`).join("");
      deepEqual([...stdout], given.length === 0 ? [0] : [...bytesOf(all)]);
    };
    await run(words);
    await run([]);
    for (const word of ["two words", "=ls", "a!b", "'", "", "{a,b}", "*", "ü ☃"]) await run([word]);
  });
}

Deno.test("what needs no more than quotes can be read on its way", () => {
  equal(
    remoteLine(["appjail", "run", "-p", "work", "--", "ls", "two words"]),
    `sh -c 'appjail "$@"; exit $?' appjail run -p work -- ls 'two words'`,
  );
  // To the last character, nothing that a shell could stumble over.
  ok(/^sh -c 'eval "\$\(echo [A-Za-z0-9+/=]+ \| base64 -d\)"; exit \$\?'$/.test(
    remoteLine(["appjail", "a'b\n!"]),
  ));
});

Deno.test("a machine's name is no option, and no part of a command", () => {
  for (
    const name of [
      ...["host", "alice@host", "a-b.example.org", "10.0.0.1", "::1", "alice@[::1]", "x"],
      ...["ssh://alice@host:2222", "host%eth0", "rechner-ü"],
    ]
  ) ok(isHost(name), name);
  for (
    const name of [
      ...[
        "",
        "-oProxyCommand=id",
        "-",
        "a b",
        "a\nb",
        "a\0b",
        "$(id)",
        "`id`",
        "a;b",
        "a|b",
        "a&b",
      ],
      ...["a'b", 'a"b', "a\\b", "<a", "{a}", "\x1b[2J"],
    ]
  ) ok(!isHost(name), name);
});
