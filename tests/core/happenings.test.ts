/**
 * What jails tell whoever watches them: what happens, when it happens, and nothing that did not. The
 * helper and the jailers are played.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import type { Happening, Witness } from "../../core/jail.ts";
import { noLimits } from "../../core/limits.ts";
import type { Environment } from "../../core/names.ts";
import type { Allocation } from "../../core/protocol.ts";
import { branded, owner, Theatre } from "./played.ts";

const allocation: Allocation = branded({ uid: 1100, owner, profile: "work" });
const live = branded<Parameters<typeof Theatre.open>[2] & object>([{
  uid: 1100,
  pid: 55,
  started: 1,
  jail: "an earlier life",
  encrypted: false,
  limits: noLimits,
}]);

const program = {
  argv: ["/usr/bin/true", "secret"],
  cwd: null,
  cwd_required: true,
  terminal: null,
  env: {} as Environment,
  stdio: "log",
  descriptors: [],
} as const;

const run = (theatre: Theatre) => theatre.jails.run(owner, "work", program);

/** What was told, each without whom it is about. */
function told({ happened }: Theatre): readonly unknown[] {
  return happened.map((one) => {
    const { owner: whose, profile, uid, ...rest } = one;
    deepEqual([whose, profile, uid], [owner, "work", 1100]);
    return rest;
  });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 5000; i++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`waited in vain: ${what}`);
}

const last = ({ happened }: Theatre, event: Happening["event"]): boolean =>
  happened.at(-1)?.event === event;

const begun = { event: "jail-started" };
const started = { event: "program-started", program: "work.1", command: "/usr/bin/true" };

Deno.test("a jail's life is told from its start to its end, and of a command its first word", async () => {
  await using theatre = Theatre.open(0);
  const { exited, program } = await run(theatre);
  theatre.alive()?.exit(program, 3);
  await exited;
  await until("the idle jail leaves", () => last(theatre, "jail-stopped"));
  deepEqual(told(theatre), [
    begun,
    started,
    { event: "program-exited", program: "work.1", status: { by: "exit", code: 3 } },
    { event: "jail-stopped", reason: "idle", why: null },
  ]);
});

Deno.test("who is asked to end has been asked, and who is gone by itself is lost", async (t) => {
  await t.step("a stop", async () => {
    await using theatre = Theatre.open();
    const { within } = await run(theatre);
    await within.stop(false, 1000);
    deepEqual(told(theatre).slice(2), [
      { event: "program-exited", program: "work.1", status: { by: "exit", code: 143 } },
      { event: "jail-stopped", reason: "asked", why: null },
    ]);
  });
  await t.step("a kill", async () => {
    await using theatre = Theatre.open();
    const { within } = await run(theatre);
    await within.stop(true, 0);
    deepEqual(told(theatre).slice(2), [
      {
        event: "program-exited",
        program: "work.1",
        status: { by: "signal", signal: 9, core: false },
      },
      { event: "jail-stopped", reason: "asked", why: null },
    ]);
  });
  await t.step("neither", async () => {
    await using theatre = Theatre.open();
    await run(theatre);
    const jail = theatre.alive();
    ok(jail !== undefined);
    theatre.end(jail, null);
    await until("it is told", () => last(theatre, "jail-stopped"));
    deepEqual(told(theatre).at(-1), { event: "jail-stopped", reason: "lost", why: null });
  });
  await t.step("and one that stopped well is no reason for the next", async () => {
    await using theatre = Theatre.open();
    const { within } = await run(theatre);
    await within.stop(true, 0);
    await run(theatre);
    const jail = theatre.alive();
    ok(jail !== undefined);
    theatre.end(jail, null);
    await until("it is told", () => last(theatre, "jail-stopped"));
    deepEqual(told(theatre).at(-1), { event: "jail-stopped", reason: "lost", why: null });
  });
});

Deno.test("a jailer that breaks the rules is told as what it is", async () => {
  await using theatre = Theatre.open();
  await run(theatre);
  theatre.alive()?.channel?.send(theatre.script.hello);
  await until("it is told", () => last(theatre, "jail-stopped"));
  const end = theatre.happened.at(-1);
  ok(end?.event === "jail-stopped");
  equal(end.reason, "failed");
  match(end.why ?? "", /said hello twice/);
});

Deno.test("a jail that did not start has not started, and has not stopped", async () => {
  await using theatre = Theatre.open();
  theatre.script.refusal = "no";
  await rejects(run(theatre));
  deepEqual(told(theatre), []);
});

Deno.test("of a jail that was there before, only what happens now is told", async () => {
  await using theatre = Theatre.open(3_600_000, [allocation], live);
  const before = branded<"work.7">("work.7");
  theatre.alive()?.programs.set(
    branded(before),
    branded({ program: before, argv: ["x"], pid: 9, cwd: "/", terminal: false, started: 1 }),
  );
  // Whoever asks waits until it has said what runs in it.
  const reports = await theatre.jails.status(owner, null, false);
  deepEqual(reports.map(({ programs }) => programs.map(({ program }) => program)), [["work.7"]]);
  deepEqual(told(theatre), []);
  theatre.alive()?.exit(branded(before), 1);
  await until("its end is told", () => theatre.happened.length > 0);
  await theatre.jails.find(owner, branded("work"))?.stop(true, 0);
  deepEqual(told(theatre), [
    { event: "program-exited", program: "work.7", status: { by: "exit", code: 1 } },
    { event: "jail-stopped", reason: "asked", why: null },
  ]);
});

Deno.test("an end that nobody heard has no time, and is not told", async () => {
  await using theatre = Theatre.open(3_600_000, [allocation], live);
  theatre.alive()?.channel?.send(branded({
    type: "present",
    programs: [],
    exits: [{ program: "work.3", status: { by: "exit", code: 0 } }],
  }));
  await theatre.jails.status(owner, null, false);
  deepEqual(told(theatre), []);
});

Deno.test("a home that is locked was used by what has ended before", async () => {
  await using theatre = Theatre.open(0);
  await run(theatre);
  const jail = theatre.alive();
  ok(jail !== undefined);
  // As the helper says it: nothing runs any more, the home is locked, the jail is gone.
  theatre.jails.locking(branded({ uid: 1100, why: null }));
  theatre.jails.turned(branded({ uid: 1100, unlocked: false, note: "by force" }));
  theatre.end(jail, null);
  await until("it is told", () => last(theatre, "home-locked"));
  deepEqual(told(theatre).slice(2).map((one) => ({ ...Object(one) }).event), [
    "program-exited",
    "jail-stopped",
    "home-locked",
  ]);
  theatre.jails.turned(branded({ uid: 1100, unlocked: true, note: null }));
  deepEqual(told(theatre).at(-1), { event: "home-unlocked" });
});

Deno.test("who starts a jail is told from who joins it, and only time that tells something is told", async () => {
  await using theatre = Theatre.open();
  const ran: (readonly [boolean, boolean])[] = [];
  Object.assign(
    theatre.witness,
    {
      ran: (of: Allocation, joined: boolean, took: number | undefined) => {
        equal(of.uid, 1100);
        ok(took === undefined || (took >= 0 && took < 60_000));
        ran.push([joined, took !== undefined]);
      },
    } satisfies Partial<Witness>,
  );
  const together = await Promise.all([run(theatre), run(theatre), run(theatre)]);
  deepEqual(together.map(({ joined }) => joined), [false, true, true]);
  const later = await run(theatre);
  equal(later.joined, true);
  // Who joined a jail that was about to be has waited for its start.
  deepEqual(ran, [[false, true], [true, false], [true, false], [true, true]]);
});
