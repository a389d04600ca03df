/** The table of `appjail status`: for a terminal of any width, and for programs of any name. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { busyness, clock, statusText } from "../../cmd/status.ts";
import { noLimits } from "../../core/limits.ts";
import type { AbsolutePath, AppUid, OwnerUid, ProfileName, ProgramName } from "../../core/names.ts";
import type { JailReport, ProgramReport } from "../../core/protocol.ts";
import { widthOf } from "../../core/table.ts";
import { Random } from "../random.ts";

/** Half past ten, where the tests run. */
const now = new Date(2026, 0, 15, 10, 30, 0).getTime();
const second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;

const cwd = "/home/work" as AbsolutePath;

function program(argv: readonly string[], ago = 0, at = 1): ProgramReport {
  return {
    program: `work.${at}` as ProgramName,
    argv,
    pid: at + 1,
    cwd,
    terminal: false,
    started: now - ago,
  };
}

function jail(change: Partial<JailReport> = {}): JailReport {
  return {
    profile: "work" as ProfileName,
    owner: 1000 as OwnerUid,
    uid: 1100 as AppUid,
    state: "running",
    jailer_pid: 4321,
    started: now - 5 * minute,
    programs: [],
    processes: 0,
    memory_bytes: 12.5 * 2 ** 20,
    cpu_ms: 1500,
    home: { kind: null, unlocked: false, until: null, problem: null },
    lends: [],
    limits: noLimits,
    changed: false,
    ...change,
  };
}

const wide = { owners: false, width: Infinity, now };

/** How the words of a program are shown. */
function shown(...argv: readonly string[]): string {
  const text = statusText([jail({ programs: [program(argv)] })], wide);
  const [, , line = "", ...rest] = text.split("\n");
  deepEqual(rest, [""], "a program has one line");
  const prefix = "  work.1  pid 2  0s  ";
  ok(line.startsWith(prefix), line);
  return line.slice(prefix.length);
}

Deno.test("a line for each jail, below it one for each of its programs", () => {
  const jails = [
    jail({
      programs: [program(["firefox", "--headless"], 65 * minute), program(["sh"], 3 * second, 12)],
    }),
    jail({
      profile: "mail" as ProfileName,
      uid: 1999 as AppUid,
      state: "starting",
      jailer_pid: null,
      started: now - 3 * day,
      memory_bytes: 3 * 2 ** 30,
    }),
  ];
  equal(
    statusText(jails, wide),
    `PROFILE   UID  STATE      PID  SINCE         MEMORY  PROGRAMS
work     1100  running   4321  10:25       12.5 MiB  2
  work.1   pid 2   1h5m  firefox --headless
  work.12  pid 13    3s  sh
mail     1999  starting     -  2026-01-12   3.0 GiB  0
`,
  );
});

Deno.test("root sees whose each jail is", () => {
  const [head = "", line = ""] = statusText([jail()], { ...wide, owners: true }).split("\n");
  deepEqual(head.split(/ +/).slice(0, 3), ["PROFILE", "OWNER", "UID"]);
  deepEqual(line.split(/ +/).slice(0, 3), ["work", "1000", "1100"]);
});

Deno.test("what is long ago is told less exactly", () => {
  const duration = (ago: number): string =>
    statusText([jail({ programs: [program(["x"], ago)] })], wide).split("\n")[2]
      ?.trim().split(/ +/)[3] ?? "";
  const expected: Readonly<Record<string, number>> = {
    "0s": 0,
    "59s": 59 * second + 999,
    "1m0s": minute,
    "59m59s": hour - second,
    "1h0m": hour + 59 * second,
    "23h59m": day - second,
    "1d0h": day,
    "400d5h": 400 * day + 5 * hour,
  };
  for (const [text, ago] of Object.entries(expected)) equal(duration(ago), text);
  // A clock that was set back.
  equal(duration(-hour), "0s");
});

Deno.test("today's jails have a time, older ones a day", () => {
  const since = (started: number): string =>
    statusText([jail({ started })], wide).split("\n")[1]?.split(/ +/)[4] ?? "";
  equal(since(now), "10:30");
  equal(since(new Date(2026, 0, 15, 0, 0, 1).getTime()), "00:00");
  equal(since(new Date(2026, 0, 14, 23, 59, 59).getTime()), "2026-01-14");
  equal(since(new Date(2025, 11, 1).getTime()), "2025-12-01");
  equal(clock(new Date(2026, 0, 1, 3, 4, 5)), "03:04:05");
});

Deno.test("a program's words are shown so that a shell would take them as they are", () => {
  equal(
    shown("firefox", "--new-tab", "https://a.b/c?d=e%20f"),
    "firefox --new-tab 'https://a.b/c?d=e%20f'",
  );
  equal(shown("a b", "", "it's", "x=y"), "'a b' '' 'it'\\''s' x=y");
  equal(shown("$(id)", "`id`", "a;b", "*", "~", "#x"), "'$(id)' '`id`' 'a;b' '*' '~' '#x'");
  equal(shown("Grüße", "漢字", "/usr/bin/x-1.2_3"), "Grüße 漢字 /usr/bin/x-1.2_3");
});

Deno.test("a shell that is given the line has the program's words", async () => {
  const random = new Random(13);
  const words = Array.from(
    { length: 200 },
    () => random.text(8, "ab -'\"\\$`*?[]{}()<>|&;#~!=^%:,./äß漢😀\t"),
  );
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", `printf '%s\\n' ${shown(...words)}`],
    cwd: "/",
  }).output();
  deepEqual(new TextDecoder().decode(stdout).split("\n").slice(0, -1), words);
});

Deno.test("a program cannot steer the terminal by its words, nor make a line of its own", () => {
  const hostile = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\r\nPROFILE",
    "\u2028",
    "\u202egnp.exe",
    "\0".repeat(3),
    "\x7f",
  ];
  const line = shown(...hostile);
  ok(!/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u.test(line), JSON.stringify(line));
  ok(line.includes("\\x1b[2J\\x1b[H"));
});

Deno.test("a terminal of any width has no longer line, and as many lines as before", () => {
  const random = new Random(14);
  for (let i = 0; i < 300; i++) {
    const jails = Array.from({ length: random.below(3) }, () =>
      jail({
        profile: "x".repeat(1 + random.below(64)) as ProfileName,
        programs: Array.from(
          { length: random.below(3) },
          (_, at) => program([random.text(30), random.text(30)], random.below(1e9), at + 1),
        ),
      }));
    const width = 1 + random.below(120);
    const lines = statusText(jails, { owners: random.below(2) === 0, width, now }).split("\n");
    equal(lines.pop(), "");
    const programs = jails.reduce((sum, { programs }) => sum + programs.length, 0);
    equal(lines.length, 1 + jails.length + programs);
    for (const line of lines) {
      ok(widthOf(line) <= width, `${width}: ${line}`);
      ok(line === line.trimEnd());
    }
  }
});

Deno.test("what a jail is lent stands below its programs, and cannot steer the terminal", () => {
  const lends = [
    { name: "a b", path: "/home/a/x\x1b[2J", write: true, until: null, at: null },
    { name: "c", path: "/home/a/c", write: false, until: now + 5 * minute, at: "/mnt/c" },
    { name: ".w", path: "/run/w", write: true, until: null, at: "/run/x", context: true },
  ] as unknown as JailReport["lends"];
  const text = statusText([jail({ programs: [program(["sh"])], lends }), jail()], wide);
  const lines = text.split("\n");
  equal(lines.length, 8);
  match(lines[2] ?? "", /^ {2}work\.1 /);
  match(lines[3] ?? "", /^ {2}lent '~\/lent\/a b' +rw +'\/home\/a\/x\\x1b\[2J'$/);
  match(lines[4] ?? "", /^ {2}lent \/mnt\/c +ro +until \d\d:\d\d +\/home\/a\/c$/);
  match(lines[5] ?? "", /^ {2}lent \/run\/x +rw +in a security context +\/run\/w$/);
  match(lines[6] ?? "", /^work /);
});

Deno.test("what limits a jail stands below it, and what does not hold is told", () => {
  const by = (memory: "cgroup" | "rlimit", cpu: "cgroup" | "nothing"): JailReport["limits"] => ({
    memory: { most: 2 ** 29, by: memory },
    processes: { most: 100, by: memory },
    cpu: { most: 50, by: cpu },
  });
  const line = (limits: JailReport["limits"]) =>
    statusText([jail({ programs: [program(["sh"])], limits }), jail()], wide).split("\n")[3];
  equal(
    line(by("cgroup", "cgroup")),
    "  at most 512 MiB of memory, 100 processes and threads, 50 % of a processor",
  );
  equal(
    line(by("rlimit", "nothing")),
    "  at most 512 MiB of memory for each program, 100 processes and threads, " +
      "50 % of a processor (nothing holds it: no control group)",
  );
  match(line(noLimits) ?? "", /^work /);
});

Deno.test("how busy a jail is, is what it did since it was looked at before", () => {
  const before = [jail({ cpu_ms: 1000 }), jail({ uid: 1101 as AppUid, cpu_ms: 50 })];
  const now = [
    jail({ cpu_ms: 2500 }),
    // Another one by now, which has counted from the beginning.
    jail({ uid: 1101 as AppUid, cpu_ms: 90, jailer_pid: 9 }),
    jail({ uid: 1102 as AppUid }),
  ];
  deepEqual([...busyness(before, now, 1000)], [[1100, 150]]);
  // What ended unseen takes its share along.
  deepEqual([...busyness(now, before, 1000)], [[1100, 0]]);
  const busy = new Map([[1100, 150]]);
  const lines = statusText([jail(), jail({ uid: 1102 as AppUid })], { ...wide, busy }).split("\n");
  equal(lines[0]?.includes("MEMORY    CPU  PROGRAMS"), true, lines[0]);
  equal(/ 150 % /.test(lines[1] ?? ""), true, lines[1]);
});
