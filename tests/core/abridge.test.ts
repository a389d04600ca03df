/** core/abridge.ts: whatever programs are called, and wherever they stand, they can be told of. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { encodeFrame } from "../../ipc/frame.ts";
import { abridge, abridgeAll } from "../../core/abridge.ts";
import { fromJailer, type ProgramReport, toClient } from "../../core/protocol.ts";
import { Random } from "../random.ts";

/** As many as a jailer runs, and as many ends as it keeps. */
const [programsMost, exitsMost] = [2048, 1024];
const longestName = "x".repeat(64);

function report(argv: readonly string[], cwd = "/", at = 1): ProgramReport {
  return {
    program: `${longestName}.${at}`,
    argv,
    pid: 0x7fffffff,
    cwd,
    terminal: false,
    started: 1_700_000_000_000,
  } as ProgramReport;
}

Deno.test("a command line of an ordinary length is told as it is", () => {
  const argv = ["firefox", "--new-tab", "https://example.org/?q=ä", "", "x".repeat(4000)];
  equal(abridge(argv), argv);
  const reports = [report(argv, "/home/work/" + "y".repeat(4000)), report(["sh"])];
  deepEqual(abridgeAll(reports), reports);
});

Deno.test("of a long one the first words are told, and that there are more", () => {
  deepEqual(abridge(["abc", "defgh", "i"], 8), ["abc", "def…"]);
  deepEqual(abridge(["abc"], 2), ["a…"]);
  deepEqual(abridge(["", "", "", ""], 2), ["", "", "…"]);
  const [word = ""] = abridge(["x".repeat(131_071)]);
  ok(word.length <= 4096 && word.endsWith("…"));
  ok(abridge(Array(16_384).fill("")).length < 5000);
});

Deno.test("what is told is the beginning of what there is, in bounded length", () => {
  const random = new Random(15);
  for (let i = 0; i < 1000; i++) {
    const argv = Array.from({ length: 1 + random.below(8) }, () => random.text(12));
    const room = 1 + random.below(60);
    const shown = abridge(argv, room);
    ok(shown.length >= 1 && shown.join(" ").length <= room + 1, `${shown.length}`);
    if (shown.length === argv.length && !shown.at(-1)?.endsWith("…")) deepEqual(shown, argv);
    deepEqual(shown.slice(0, -1), argv.slice(0, shown.length - 1));
    const last = shown.at(-1) ?? "";
    ok(argv[shown.length - 1]?.startsWith(last.replace(/…$/, "")), JSON.stringify([argv, shown]));
  }
});

for (
  const [what, word, folder] of [
    ["what JSON takes six bytes for", "\x01".repeat(131_071), `/${"\x01".repeat(4094)}`],
    ["halves of characters", "\ud83d".repeat(40_000), `/${"\udcff".repeat(1300)}`],
    ["Chinese", "漢".repeat(40_000), `/${"漢".repeat(1300)}`],
    ["nothing", "", "/"],
    ["ordinary words", "--an-option=/with/a/path ", `/home/work${"/folder".repeat(40)}`],
  ] as const
) {
  Deno.test(`a full jail of programs called ${what} fits into each message that tells of it`, () => {
    const argv = ["sh", ...Array(word === "" ? 16_000 : 8).fill(word)];
    const programs = abridgeAll(
      Array.from({ length: programsMost }, (_, at) => report(argv, folder, at + 1)),
    );
    equal(programs.length, programsMost);
    const status = { by: "signal", signal: 127, core: false } as const;
    const exits = programs.slice(0, exitsMost).map(({ program }) => ({ program, status }));
    const present = { type: "present", programs, exits } as const;
    const reported = {
      type: "reported",
      id: 1,
      programs,
      processes: 4096,
      memory_bytes: 2 ** 40,
      cpu_ms: 1,
    };
    for (const message of [present, reported]) encodeFrame(message);
    deepEqual(fromJailer.decode(present), present);
    const jail = {
      profile: longestName,
      owner: 4_294_967_294,
      uid: 4_294_967_294,
      state: "running",
      jailer_pid: 0x7fffffff,
      started: 1_700_000_000_000,
      programs,
      processes: 4096,
      memory_bytes: 2 ** 50,
      cpu_ms: 2 ** 50,
      home: { kind: null, unlocked: false, until: null, problem: null },
      // As many paths as the helper lends together, see core/lending.ts.
      lends: Array.from({ length: 24 }, (_, at) => ({
        name: `${at}`,
        path: `/${"x".repeat(3990)}`,
        write: true,
        until: 1_700_000_000_000,
        at: null,
        context: false,
      })),
      limits: {
        memory: { most: 2 ** 50, by: "rlimit" },
        processes: { most: 4_194_304, by: "rlimit" },
        cpu: { most: 1_000_000, by: "nothing" },
      },
      changed: false,
    };
    const message = { type: "reported", jails: [jail] };
    encodeFrame(message);
    deepEqual(toClient.decode(message), message);
  });
}
