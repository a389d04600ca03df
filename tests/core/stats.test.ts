/** core/stats.ts: what is counted and timed, for each owner and each of their profiles. */
import { deepEqual, equal, ok } from "node:assert/strict";
import type { OwnerUid, ProfileName } from "../../core/names.ts";
import type { Allocation } from "../../core/protocol.ts";
import { Stats, Times } from "../../core/stats.ts";
import { branded } from "./played.ts";

const alice = branded<OwnerUid>(1000);
const bob = branded<OwnerUid>(1001);
const work = branded<ProfileName>("work");

function allocation(owner: OwnerUid, profile: string, uid = 1100): Allocation {
  return branded({ uid, owner, profile });
}

Deno.test("times are summed up by their extremes, their middle and their slow end", () => {
  const times = new Times();
  equal(times.spread, null);
  times.add(7.125);
  deepEqual(times.spread, { min: 7.13, median: 7.13, p95: 7.13, max: 7.13 });
  const hundred = new Times();
  // In no order: 37 and 100 have no divisor in common.
  for (let at = 0; at < 100; at++) hundred.add(at * 37 % 100 + 1);
  deepEqual(hundred.spread, { min: 1, median: 50, p95: 95, max: 100 });
  const two = new Times();
  two.add(10);
  two.add(2);
  deepEqual(two.spread, { min: 2, median: 2, p95: 10, max: 10 });
});

Deno.test("the middle is that of the last times, the extremes are those of all", () => {
  const times = new Times();
  times.add(1000);
  times.add(1);
  for (let at = 0; at < 300; at++) times.add(20 + (at % 2));
  deepEqual(times.spread, { min: 1, median: 20, p95: 21, max: 1000 });
});

Deno.test("starts, joins, programs and failures are counted for the profile and for its owner", () => {
  const stats = new Stats(() => new Set([alice, bob]), 42);
  stats.ran(allocation(alice, "work"), false, 30);
  stats.ran(allocation(alice, "work"), true, 10);
  stats.ran(allocation(alice, "work"), true, undefined);
  stats.ran(allocation(alice, "mail", 1101), false, 50);
  stats.wrong(allocation(alice, "mail", 1101));
  stats.failed(alice, work, "command-not-found");
  stats.failed(alice, null, "unknown-profile");
  stats.failed(alice, null, "unknown-profile");
  stats.ran(allocation(bob, "work", 1102), false, 99);
  const { profiles, ...all } = stats.of(alice);
  deepEqual(all, {
    owner: alice,
    since: 42,
    starts: 2,
    joins: 2,
    programs: 4,
    wrong_passphrases: 1,
    failures: [{ code: "command-not-found", times: 1 }, { code: "unknown-profile", times: 2 }],
    start_ms: { min: 30, median: 30, p95: 50, max: 50 },
    // Whoever waited for a start of somebody else's has not shown how long a join takes.
    join_ms: { min: 10, median: 10, p95: 10, max: 10 },
  });
  deepEqual(
    profiles.map(({ profile, starts, joins, failures, wrong_passphrases }) => ({
      ...{ profile, starts, joins, failures, wrong_passphrases },
    })),
    [
      {
        profile: "work",
        starts: 1,
        joins: 2,
        failures: [{ code: "command-not-found", times: 1 }],
        wrong_passphrases: 0,
      },
      { profile: "mail", starts: 1, joins: 0, failures: [], wrong_passphrases: 1 },
    ],
  );
  deepEqual(stats.everybody().map(({ owner, programs }) => [owner, programs]), [
    [alice, 4],
    [bob, 1],
  ]);
});

Deno.test("what is kept is bounded, however many profiles and people there are", () => {
  const stats = new Stats(() => new Set([alice]));
  for (let at = 0; at < 2000; at++) {
    stats.failed(alice, branded<ProfileName>(`p${at}`), "denied");
    stats.failed(branded<OwnerUid>(5000 + at), null, "denied");
  }
  const { profiles, failures } = stats.of(alice);
  ok(profiles.length <= 512);
  // None is lost to the sum.
  deepEqual(failures, [{ code: "denied", times: 2000 }]);
  ok(stats.everybody().length <= 66, `${stats.everybody().length}`);
});
