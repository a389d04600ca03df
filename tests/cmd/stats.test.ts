/** The table of `appjail stats`. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { statsText } from "../../cmd/stats.ts";
import type { OwnerFigures } from "../../core/protocol.ts";
import { branded } from "../core/played.ts";

/** Half past ten, where the tests run. */
const now = new Date(2026, 0, 15, 10, 30, 0).getTime();

const none = {
  starts: 0,
  joins: 0,
  programs: 0,
  wrong_passphrases: 0,
  failures: [],
  start_ms: null,
  join_ms: null,
};
const work = {
  ...none,
  profile: "work",
  starts: 1,
  joins: 20,
  programs: 21,
  start_ms: { min: 40.25, median: 40.25, p95: 40.25, max: 40.25 },
  join_ms: { min: 9, median: 12.5, p95: 20, max: 31 },
};

function shown(figures: unknown, owner = false): readonly string[] {
  const whole = branded<OwnerFigures>({
    owner: 1000,
    since: now - 90_000,
    ...none,
    ...Object(figures),
  });
  return statsText(whole, { owner, now }).split("\n").slice(0, -1);
}

Deno.test("a line for each profile, with its counts and its times", () => {
  const { profile: _, ...all } = work;
  const [head, columns, row, ...rest] = shown({ ...all, profiles: [work] });
  equal(
    head,
    "since 2026-01-15 10:28:30, 1m30s ago; times in ms, START and JOIN are medians",
  );
  deepEqual(columns?.split(/ +/), [
    ...["PROFILE", "STARTS", "JOINS", "PROGRAMS", "FAILED"],
    ...["START", "(MIN", "P95", "MAX)", "JOIN", "(MIN", "P95", "MAX)"],
  ]);
  deepEqual(row?.split(/ +/), [
    ...["work", "1", "20", "21", "0"],
    ...["40.3", "40.3", "40.3", "40.3", "12.5", "9.0", "20.0", "31.0"],
  ]);
  // One profile alone needs no sum.
  deepEqual(rest, []);
});

Deno.test("several profiles have their sum below them, and what failed by its name", () => {
  const lines = shown({
    ...work,
    starts: 3,
    failures: [{ code: "command-not-found", times: 2 }, { code: "denied", times: 1 }],
    wrong_passphrases: 4,
    profiles: [work, { ...work, profile: "mail", join_ms: null }],
  }, true);
  ok(lines[0]?.startsWith("uid 1000, since "));
  deepEqual(lines.slice(2).map((line) => line.split(/ +/).slice(0, 5)), [
    ["work", "1", "20", "21", "0"],
    ["mail", "1", "20", "21", "0"],
    ["(all)", "3", "20", "21", "3"],
    ["failed:", "command-not-found", "2,", "denied", "1"],
    ["wrong", "passphrases:", "4"],
  ]);
  // A time that was never measured is none.
  deepEqual(lines[3]?.split(/ +/).slice(-4), ["-", "-", "-", "-"]);
});

Deno.test("a failure that is about no profile shows in the sum", () => {
  const lines = shown({ ...work, failures: [{ code: "denied", times: 1 }], profiles: [work] });
  equal(lines.at(-2)?.split(/ +/)[0], "(all)");
});
