/** core/chronicle.ts: what has happened, kept in bounds, and read at everybody's own pace. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { Chronicle, eventsMost, type Follower } from "../../core/chronicle.ts";
import type { Happening } from "../../core/jail.ts";
import type { OwnerUid } from "../../core/names.ts";
import { type Event, event } from "../../core/protocol.ts";
import { parse } from "../../core/names.ts";
import { branded } from "./played.ts";

const [alice, bob, root] = [1000, 1001, 0].map((uid) => branded<OwnerUid>(uid)) as [
  OwnerUid,
  OwnerUid,
  OwnerUid,
];
const known = () => new Set([alice, bob]);

/** A refusal, of which there may be any number. */
function refusal(owner: OwnerUid, message: string, profile = "work"): Happening {
  return branded({
    event: "refused",
    owner,
    profile,
    uid: 1100,
    request: "run",
    code: "denied",
    message,
  });
}

function messages(events: readonly Event[]): readonly string[] {
  return events.map((one) => one.event === "refused" ? one.message : one.event);
}

/** All that there is to be read now. */
function readAll(follower: Follower): { readonly messages: readonly string[]; missed: number } {
  const all: string[] = [];
  let missed = 0;
  for (let read = follower.read(); read !== undefined; read = follower.read()) {
    all.push(...messages(read.events));
    missed += read.missed;
  }
  return { messages: all, missed };
}

Deno.test("a person reads their own events, numbered from 0, and nothing of anybody else's", () => {
  const chronicle = new Chronicle(known);
  chronicle.tell(refusal(alice, "a"), 5);
  chronicle.tell(refusal(bob, "b"), 6);
  chronicle.tell(refusal(alice, "c"), 7);
  using mine = chronicle.follow(alice);
  using theirs = chronicle.follow(bob);
  const read = mine.read();
  deepEqual(read?.events.map(({ sequence, at, owner }) => [sequence, at, owner]), [
    [0, 5, alice],
    [1, 7, alice],
  ]);
  deepEqual(messages(read?.events ?? []), ["a", "c"]);
  equal(mine.read(), undefined);
  deepEqual(readAll(theirs), { messages: ["b"], missed: 0 });
  // How much happens to others is not to be told from the numbers.
  chronicle.tell(refusal(alice, "d"));
  chronicle.tell(refusal(bob, "e"));
  equal(theirs.read()?.events[0]?.sequence, 1);
});

Deno.test("every event that is kept is one that may be sent", () => {
  const chronicle = new Chronicle(known);
  const about = { owner: alice, profile: "work", uid: 1100 };
  const long = "x".repeat(100_000);
  const all: readonly Happening[] = branded([
    { event: "jail-started", ...about },
    { event: "jail-stopped", ...about, reason: "failed", why: long },
    { event: "jail-stopped", ...about, reason: "idle", why: null },
    { event: "program-started", ...about, program: "work.1", command: long },
    {
      event: "program-exited",
      ...about,
      program: "work.1",
      status: { by: "exit", code: 3 },
    },
    { event: "home-unlocked", ...about },
    { event: "home-locked", ...about, note: long },
    { event: "lent", ...about, name: "x", path: `/${"p".repeat(4000)}`, write: true, until: 9 },
    { event: "unlent", ...about, name: "x", reason: "expired" },
    { event: "refused", ...about, profile: null, request: "run", code: "limit", message: long },
  ]);
  for (const one of all) chronicle.tell(one);
  using follower = chronicle.follow(alice);
  const read = follower.read()?.events ?? [];
  equal(read.length, all.length);
  for (const one of read) {
    deepEqual(parse(event(), one), { value: one });
    ok(JSON.stringify(one).length < 5000, one.event);
  }
  // What is cut says so; a path is what it is.
  ok(read.every((one) => one.event !== "refused" || one.message.endsWith("x…")));
  ok(read.some((one) => one.event === "lent" && one.path.length === 4001));
});

Deno.test("the oldest events make room, in number and in bytes", () => {
  const chronicle = new Chronicle(known);
  for (let at = 0; at < 3 * eventsMost; at++) chronicle.tell(refusal(alice, `${at}`));
  {
    using follower = chronicle.follow(alice);
    // What was there before somebody came is not missed by them.
    const { messages, missed } = readAll(follower);
    equal(missed, 0);
    equal(messages.length, eventsMost);
    deepEqual([messages[0], messages.at(-1)], [`${2 * eventsMost}`, `${3 * eventsMost - 1}`]);
  }
  for (let at = 0; at < eventsMost; at++) chronicle.tell(refusal(alice, "y".repeat(1000)));
  using follower = chronicle.follow(alice);
  let bytes = 0;
  for (let read = follower.read(); read !== undefined; read = follower.read()) {
    bytes += JSON.stringify(read.events).length;
  }
  ok(bytes > 64 * 1024 && bytes < 160 * 1024, `${bytes}`);
});

Deno.test("whoever is slow finds what is there still, and is told how much is not", () => {
  const chronicle = new Chronicle(known);
  using slow = chronicle.follow(alice);
  using quick = chronicle.follow(alice);
  for (let at = 0; at < eventsMost + 100; at++) {
    chronicle.tell(refusal(alice, `${at}`));
    deepEqual(readAll(quick), { messages: [`${at}`], missed: 0 });
  }
  const first = slow.read();
  equal(first?.missed, 100);
  deepEqual(messages(first?.events ?? [])[0], "100");
  const rest = readAll(slow);
  equal(rest.missed, 0);
  equal(rest.messages.at(-1), `${eventsMost + 99}`);
  // And goes on as if nothing had been.
  chronicle.tell(refusal(alice, "after"));
  deepEqual(readAll(slow), { messages: ["after"], missed: 0 });
});

Deno.test("whoever waits is woken by what is theirs alone", async () => {
  const chronicle = new Chronicle(known);
  using mine = chronicle.follow(alice);
  let woken = 0;
  const waiting = mine.more().then(() => woken++);
  chronicle.tell(refusal(bob, "b"));
  await Promise.resolve();
  equal(woken, 0);
  chronicle.tell(refusal(alice, "a"));
  await waiting;
  equal(woken, 1);
  deepEqual(readAll(mine).messages, ["a"]);
});

Deno.test("root reads everybody's in the order in which they happened", () => {
  const chronicle = new Chronicle(known);
  const told: string[] = [];
  const tell = (owner: OwnerUid, message: string): void => {
    told.push(message);
    chronicle.tell(refusal(owner, message), 5);
  };
  using all = chronicle.follow(null);
  // Many of one owner's, more than are read at a time, around a few of another's.
  for (let at = 0; at < 400; at++) {
    tell(at % 97 === 3 ? bob : alice, `${at}`);
    if (at === 150) tell(root, "root's own");
  }
  deepEqual(readAll(all), { messages: told, missed: 0 });
  // What one owner has lost by their own flood is no other's.
  for (let at = 0; at < 2 * eventsMost; at++) chronicle.tell(refusal(alice, "flood"));
  chronicle.tell(refusal(bob, "still here"));
  const { messages, missed } = readAll(all);
  equal(missed, eventsMost);
  equal(messages.length, eventsMost + 1);
  equal(messages.at(-1), "still here");
});

Deno.test("who has no profile is remembered until too many others have none either", () => {
  const chronicle = new Chronicle(known);
  chronicle.tell(refusal(alice, "kept"));
  const stranger = branded<OwnerUid>(5000);
  chronicle.tell(refusal(stranger, "forgotten"));
  const followed = branded<OwnerUid>(5001);
  chronicle.tell(refusal(followed, "followed"));
  using follower = chronicle.follow(followed);
  for (let uid = 6000; uid < 6200; uid++) chronicle.tell(refusal(branded<OwnerUid>(uid), "x"));
  deepEqual(readAll(chronicle.follow(alice)).messages, ["kept"]);
  deepEqual(readAll(chronicle.follow(stranger)).messages, []);
  deepEqual(readAll(follower).messages, ["followed"]);
  chronicle.tell(refusal(followed, "more"));
  deepEqual(readAll(follower), { messages: ["more"], missed: 0 });
});

Deno.test("a listener hears every event once, until it has had enough", () => {
  const chronicle = new Chronicle(known);
  const heard: string[] = [];
  const unlisten = chronicle.listen((one) => heard.push(...messages([one])));
  chronicle.tell(refusal(alice, "a"));
  chronicle.tell(refusal(bob, "b"));
  unlisten();
  chronicle.tell(refusal(alice, "c"));
  deepEqual(heard, ["a", "b"]);
});
