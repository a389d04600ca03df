/**
 * core/jail.ts and core/jails.ts: who gets which jail, whether it is started or joined, and what
 * becomes of everybody when it ends. The helper and the jailers are played.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type Fd, open } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { AppjailError } from "../../core/errors.ts";
import type { Jail } from "../../core/jail.ts";
import { noLimits } from "../../core/limits.ts";
import type { Environment, ProgramName } from "../../core/names.ts";
import type { ExitStatus } from "../../core/protocol.ts";
import { Random } from "../random.ts";
import { leakingNothing } from "../scratch.ts";
import { branded, owner, Theatre } from "./played.ts";

function program(argv: readonly string[] = ["true"], descriptors: readonly Fd[] = []) {
  return {
    argv,
    cwd: null,
    cwd_required: true,
    terminal: null,
    env: {} as Environment,
    stdio: descriptors.length > 0 ? "passed" : "log",
    descriptors,
  } as const;
}

const run = (theatre: Theatre, profile: string | null = "work", argv?: readonly string[]) =>
  theatre.jails.run(owner, profile, program(argv));

/** Waits until something holds. */
async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 5000; i++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`waited in vain: ${what}`);
}

/** How an AppjailError says it, and its code. */
const failure = (code: string, words: RegExp) => (error: unknown): boolean => {
  ok(error instanceof AppjailError, `${error}`);
  equal(error.code, code);
  match(error.message, words);
  return true;
};

const requests = (theatre: Theatre, type: string): number =>
  theatre.asked.filter((one) => one.type === type).length;
const told = (theatre: Theatre, type: string): number =>
  theatre.told.filter((one) => one.type === type).length;

// --- Starting and joining ------------------------------------------------------------------------

Deno.test("50 first requests at a time make one uid, one jail and 50 programs (attack 17)", async () => {
  await leakingNothing(async () => {
    await using theatre = Theatre.open();
    const all = await Promise.all(Array.from({ length: 50 }, () => run(theatre)));
    equal(new Set(all.map(({ program }) => program)).size, 50);
    deepEqual([...new Set(all.map(({ within }) => within.allocation.uid))], [1100]);
    deepEqual([...new Set(all.map(({ jail }) => jail))], ["life 1"]);
    equal(requests(theatre, "allocate"), 1);
    equal(requests(theatre, "start"), 1);
    const exits = all.map(({ exited }) => exited);
    for (const { program } of all) theatre.alive()?.exit(program, Number(program.split(".")[1]));
    deepEqual(
      await Promise.all(exits),
      all.map(({ program }) => ({ by: "exit", code: Number(program.split(".")[1]) })),
    );
  });
});

Deno.test("two people's profiles of one name are two jails, and neither reaches the other's", async () => {
  await using theatre = Theatre.open();
  const other = branded<typeof owner>(1001);
  const [mine, theirs] = await Promise.all([
    run(theatre),
    theatre.jails.run(other, "work", program()),
  ]);
  equal(new Set([mine.within.allocation.uid, theirs.within.allocation.uid]).size, 2);
  deepEqual(theatre.jails.profiles(owner).map(({ uid }) => uid), [mine.within.allocation.uid]);
  equal((await theatre.jails.status(other, null, false)).length, 1);
  await run(theatre, "private");
  const unknown = failure("unknown-profile", /You have no profile "private"/);
  const name = branded<Parameters<typeof theatre.jails.known>[1]>("private");
  await rejects(theatre.jails.status(other, name, false), unknown);
  await rejects(theatre.jails.again(other, branded("private.1"), "life 3"), unknown);
  for (
    const ask of [() => theatre.jails.known(other, name), () => theatre.jails.chosen(other, [name])]
  ) {
    await rejects(async () => await Promise.resolve(ask()), unknown);
  }
  // Not even root reaches a profile by the name that somebody else gave it.
  await rejects(theatre.jails.status(branded(0), name, false), unknown);
  await rejects(theatre.jails.status(other, null, true), failure("denied", /only root/));
  equal((await theatre.jails.status(branded(0), null, true)).length, 3);
  deepEqual(theatre.jails.chosen(other, []).map(({ allocation }) => allocation.owner), [other]);
  equal(theatre.jails.chosen(branded(0), []).length, 3);
});

Deno.test("a profile that nobody named is made only for a command that there is", async () => {
  await using theatre = Theatre.open();
  const made = (): readonly string[] => theatre.jails.profiles(owner).map(({ profile }) => profile);
  for (
    const command of ["no-such-command", "/usr/bin/no-such-command", "/home/x", "./x", "/etc/x"]
  ) {
    await rejects(run(theatre, null, [command]), failure("command-not-found", /Cannot run/));
  }
  await rejects(run(theatre, null, ["/usr/share"]), failure("command-not-executable", /share/));
  for (const command of ["/usr/bin/-rf", "a b", "..", "/", "$(id)"]) {
    await rejects(run(theatre, null, [command]), failure("invalid-argument", /name one with -p/));
  }
  for (
    const name of ["../x", "a/b", "", "-rf", ".", "x".repeat(300), "a\n", "a\0", "$(id)", "root"]
  ) {
    await rejects(run(theatre, name), failure("invalid-argument", /as a profile/));
  }
  deepEqual(made(), []);
  equal(requests(theatre, "allocate"), 0);
  await run(theatre, null, ["true"]);
  await run(theatre, null, ["/bin/sh"]);
  // Named, it is made for whatever is in its own home.
  await run(theatre, "mine", ["./own-script"]);
  // Once it is there, the jail itself says what there is.
  await run(theatre, null, ["/home/true/true"]);
  deepEqual(made(), ["true", "sh", "mine"]);
});

Deno.test("a PATH that the caller gives is the one in which a command is looked up", async () => {
  await using theatre = Theatre.open();
  const asked = { ...program(["sh"]), env: branded<Environment>({ PATH: "/nonexistent:bin" }) };
  await rejects(theatre.jails.run(owner, null, asked), failure("command-not-found", /"sh"/));
});

// --- Failing -------------------------------------------------------------------------------------

Deno.test("a jail that cannot be started fails all who wait for it, and the next one may try again", async () => {
  await leakingNothing(async () => {
    await using theatre = Theatre.open();
    theatre.script.refusal = "bubblewrap is not installed";
    const files = [1, 2, 3].map(() => open("/dev/null", 0));
    const all = await Promise.allSettled([
      theatre.jails.run(owner, "work", program(["true"], files)),
      run(theatre),
      run(theatre),
    ]);
    for (const one of all) {
      ok(one.status === "rejected");
      failure("start-failed", /bubblewrap is not installed/)(one.reason);
    }
    deepEqual(files.map((fd) => fd.closed), [true, true, true]);
    equal(requests(theatre, "start"), 1);
    theatre.script.refusal = undefined;
    equal((await run(theatre)).jail, "life 1");
  });
});

Deno.test("a program that cannot be started fails alone", async () => {
  await using theatre = Theatre.open();
  theatre.script.exec = ({ argv }) => argv[0] === "bad" ? "it may not be executed" : undefined;
  const [bad, good] = await Promise.allSettled([run(theatre, "work", ["bad"]), run(theatre)]);
  ok(bad.status === "rejected" && good.status === "fulfilled");
  failure("command-not-executable", /may not be executed/)(bad.reason);
  equal(requests(theatre, "start"), 1);
});

Deno.test("a jail that ends takes its programs with it, and everybody who waits is told", async () => {
  await leakingNothing(async () => {
    await using theatre = Theatre.open();
    const { exited, within: jail } = await run(theatre);
    theatre.script.silent = true;
    const asked = run(theatre);
    asked.catch(() => {});
    await until("the jailer was asked", () => told(theatre, "exec") === 2);
    const played = theatre.alive();
    ok(played !== undefined);
    theatre.end(played, "it was killed");
    deepEqual(await exited, { by: "signal", signal: 9, core: false });
    await rejects(asked, failure("lost", /has ended: it was killed/));
    equal(jail.life, "absent");
    theatre.script.silent = false;
    equal((await run(theatre)).jail, "life 2");
  });
});

for (
  const [what, hello, words] of [
    [
      "of another version",
      { type: "hello", role: "jailer", protocol: 99, version: "9" },
      /another version/,
    ],
    ["that begins with something else", { type: "idle" }, /another version/],
  ] as const
) {
  Deno.test(`a jailer ${what} is ended, and whoever waits is told`, async () => {
    await leakingNothing(async () => {
      await using theatre = Theatre.open();
      const right = theatre.script.hello;
      theatre.script.hello = hello;
      await rejects(run(theatre), failure("no-answer", words));
      await until("it was ended", () => theatre.alive() === undefined);
      equal(requests(theatre, "end"), 1);
      theatre.script.hello = right;
      await run(theatre);
    });
  });
}

Deno.test("a jailer that breaks the rules is ended, and no other jail notices (attack 22)", async () => {
  await leakingNothing(async () => {
    await using theatre = Theatre.open();
    const [bad, good] = [await run(theatre, "bad"), await run(theatre, "good")];
    const jail = theatre.alive(bad.within.allocation.uid);
    jail?.channel?.send(
      branded({ type: "exited", program: "../x", status: { by: "exit", code: 0 } }),
    );
    deepEqual(await bad.exited, { by: "signal", signal: 9, core: false });
    await until("it was ended", () => theatre.alive(bad.within.allocation.uid) === undefined);
    theatre.alive(good.within.allocation.uid)?.exit(good.program, 5);
    deepEqual(await good.exited, { by: "exit", code: 5 });
  });
});

// --- Ends that are remembered --------------------------------------------------------------------

Deno.test("the end of a program is told to who comes back, for this life of the jail alone", async () => {
  await using theatre = Theatre.open();
  const first = await run(theatre);
  const second = await run(theatre);
  const wait = async (program: string, life: string | null = first.jail) =>
    await (await theatre.jails.again(owner, branded(program), life)).exited;
  theatre.alive()?.exit(first.program, 3);
  await first.exited;
  deepEqual(await wait(first.program), { by: "exit", code: 3 });
  const running = wait(second.program);
  theatre.alive()?.exit(second.program, 4);
  deepEqual(await running, { by: "exit", code: 4 });
  await rejects(wait("work.99"), failure("unknown-program", /There is no program/));
  await rejects(wait(first.program, "life 7"), failure("unknown-program", /has ended/));
});

Deno.test("ends are remembered in bounded number", async () => {
  await using theatre = Theatre.open();
  const all = await Promise.all(Array.from({ length: 1100 }, () => run(theatre)));
  for (const { program } of all) theatre.alive()?.exit(program);
  for (const { exited } of all) await exited;
  const again = async (at: number): Promise<ExitStatus> =>
    await (await theatre.jails.again(owner, branded(all.at(at)?.program), null)).exited;
  await rejects(again(0), failure("unknown-program", /./));
  deepEqual(await again(-1), { by: "exit", code: 0 });
  await until("all ends are acknowledged", () => told(theatre, "heard") === 1100);
});

// --- Idle, leaving, stopping ---------------------------------------------------------------------

Deno.test("an idle jail leaves after a while, and the next request makes another", async () => {
  await leakingNothing(async () => {
    await using theatre = Theatre.open(0);
    const first = await run(theatre);
    theatre.alive()?.exit(first.program);
    await until("it has left", () => theatre.alive() === undefined);
    equal(requests(theatre, "end"), 0, "it left by itself");
    const second = await run(theatre);
    equal(second.jail, "life 2");
    equal(second.within.allocation.uid, first.within.allocation.uid);
  });
});

Deno.test("whoever comes while a jail is idle joins it; it does not leave then", async () => {
  await using theatre = Theatre.open(20);
  const first = await run(theatre);
  theatre.alive()?.exit(first.program);
  const jail = first.within;
  await until("it is idle", () => jail.life === "idle");
  const second = await run(theatre);
  equal(second.jail, first.jail);
  await new Promise((resolve) => setTimeout(resolve, 40));
  equal(jail.life, "running");
  equal(told(theatre, "leave"), 0);
});

Deno.test("whoever comes while a jail leaves gets the next one", async () => {
  await using theatre = Theatre.open();
  const first = await run(theatre);
  const jail = first.within;
  const stopped = jail.stop(true, 0);
  const [second, third] = await Promise.all([run(theatre), run(theatre)]);
  deepEqual(await stopped, { killed: 1, problem: null, note: null });
  deepEqual([second.jail, third.jail], ["life 2", "life 2"]);
});

Deno.test("a stop asks first, and kills nothing that ends by itself", async () => {
  await using theatre = Theatre.open();
  const { exited, within: jail } = await run(theatre);
  deepEqual(await jail.stop(false, 60_000), { killed: 0, problem: null, note: null });
  deepEqual(await exited, { by: "exit", code: 143 });
  equal(jail.life, "absent");
  equal(told(theatre, "terminate"), 1);
  equal(requests(theatre, "end"), 0);
  // There is nothing more to stop.
  deepEqual(await jail.stop(false, 60_000), { killed: 0, problem: null, note: null });
});

Deno.test("a stop by force kills at once, also in the middle of a patient one", async () => {
  await using theatre = Theatre.open();
  const { exited, within: jail } = await run(theatre);
  theatre.script.silent = true;
  const patient = jail.stop(false, 3_600_000);
  await until("it was asked", () => told(theatre, "terminate") === 1);
  const forced = jail.stop(true, 0);
  equal((await forced).problem, null);
  equal((await patient).problem, null);
  deepEqual(await exited, { by: "signal", signal: 9, core: false });
});

Deno.test("what is stopped does not answer: it is killed when its time is over (attack 13)", async () => {
  await using theatre = Theatre.open();
  const { exited, within: jail } = await run(theatre);
  theatre.script.silent = true;
  deepEqual(await jail.stop(false, 5), { killed: 1, problem: null, note: null });
  deepEqual(await exited, { by: "signal", signal: 9, core: false });
});

// --- Deadlines -----------------------------------------------------------------------------------

/** A world in which a second takes ten milliseconds, for what nobody wants to wait for. */
function hurried(): Disposable {
  const { after } = poller;
  poller.after = (delay, callback) => after.call(poller, delay / 100, callback);
  return { [Symbol.dispose]: () => poller.after = after };
}

Deno.test("a jailer that is stopped gives its callers an error, and its jail is shown as silent", async () => {
  await using theatre = Theatre.open();
  const { within: jail } = await run(theatre);
  theatre.script.silent = true;
  using _clock = hurried();
  await rejects(
    run(theatre),
    failure("no-answer", /"work" does not answer; appjail stop --force work ends it$/),
  );
  const [report] = await theatre.jails.status(owner, null, false);
  equal(report?.state, "silent");
  deepEqual(report?.programs.map(({ argv }) => argv), [["true"]]);
  equal((await jail.stop(true, 0)).problem, null);
});

Deno.test("a jail whose jailer never comes up is ended", async () => {
  await using theatre = Theatre.open();
  theatre.script.silent = true;
  using _clock = hurried();
  await rejects(run(theatre), failure("no-answer", /does not (?:come up|answer)/));
  await until("it was ended", () => theatre.alive() === undefined);
});

Deno.test("an idle jail that does not leave is ended", async () => {
  await using theatre = Theatre.open(0);
  const { program, exited } = await run(theatre);
  theatre.script.silent = true;
  using _clock = hurried();
  theatre.alive()?.exit(program);
  await exited;
  await until("it was ended", () => theatre.alive() === undefined);
  equal(requests(theatre, "end"), 1);
});

Deno.test("a jail that cannot be ended keeps nobody waiting for ever: not who stops it, not who comes", async () => {
  await using theatre = Theatre.open();
  const { within: jail } = await run(theatre);
  theatre.script.ends = false;
  using _clock = hurried();
  match((await jail.stop(true, 0)).problem ?? "", /jail "work" does not end/);
  await rejects(run(theatre), failure("no-answer", /jail "work" is ending and has not ended yet/));
  equal(jail.life, "leaving");
});

// --- A dispatcher that was started again ---------------------------------------------------------

Deno.test("a jail that lives already is joined, not started", async () => {
  const allocation = branded<Jail["allocation"]>({ uid: 1100, owner, profile: "work" });
  const live = {
    uid: allocation.uid,
    pid: 5,
    started: 7,
    jail: "life of before",
    encrypted: false,
    limits: noLimits,
  };
  await using theatre = Theatre.open(3_600_000, [allocation], [live]);
  const before = branded<ProgramName>("work.77");
  theatre.alive()?.programs.set(
    before,
    branded({
      program: before,
      argv: ["sleep"],
      pid: 9,
      cwd: "/",
      terminal: false,
      started: 3,
    }),
  );
  const jail = theatre.jails.known(owner, allocation.profile);
  const waiting: Promise<ExitStatus> = jail.again(before, "life of before").then(({ exited }) =>
    exited
  );
  const { jail: life } = await run(theatre);
  equal(life, "life of before");
  equal(requests(theatre, "start"), 0);
  const [report] = await theatre.jails.status(owner, null, false);
  deepEqual([report?.jailer_pid, report?.started, report?.programs.length], [5, 7, 2]);
  theatre.alive()?.exit(before, 6);
  deepEqual(await waiting, { by: "exit", code: 6 });
});

// --- Whatever happens ----------------------------------------------------------------------------

Deno.test("in any order of requests, exits, stops and deaths everybody gets an answer", async () => {
  const seed = Number(Deno.env.get("APPJAIL_FUZZ_SEED") || Date.now() % 2 ** 32);
  const random = new Random(seed);
  const counts = { ran: 0, failed: 0, exited: 0 };
  try {
    await leakingNothing(async () => {
      for (let round = 0; round < 25; round++) {
        await using theatre = Theatre.open(random.of([0, 1, 3_600_000]));
        theatre.script.pause = () =>
          random.below(2) === 0
            ? Promise.resolve()
            : new Promise((resolve) => setTimeout(resolve, random.below(3)));
        const waiting: Promise<unknown>[] = [];
        const wait = (promise: Promise<unknown>): void => {
          promise.catch(() => {});
          waiting.push(promise);
        };
        for (let step = 0; step < 40; step++) {
          switch (random.below(9)) {
            case 0:
              theatre.script.refusal = random.below(4) === 0 ? "not now" : undefined;
              break;
            case 1: {
              const jail = theatre.alive();
              if (jail !== undefined && random.below(3) === 0) theatre.end(jail, "it died");
              break;
            }
            case 2: {
              const known = theatre.jails.profiles(owner)[0]?.profile;
              if (known === undefined) break;
              const jail = theatre.jails.known(owner, known);
              wait(
                jail.stop(random.below(2) === 0, random.below(5)).then(({ problem }) =>
                  ok(problem === null || problem === "it died", `${problem}`)
                ),
              );
              break;
            }
            case 3:
            case 4:
              for (const name of theatre.alive()?.programs.keys() ?? []) {
                if (random.below(2) === 0) theatre.alive()?.exit(name);
              }
              break;
            case 5:
              await new Promise((resolve) => setTimeout(resolve, random.below(4)));
              break;
            default:
              wait(
                run(theatre).then(({ exited }) => {
                  counts.ran++;
                  wait(exited.then(() => void counts.exited++));
                }, (error) => {
                  ok(error instanceof AppjailError, `${error}`);
                  // The last one: it died before anybody could talk to it.
                  const codes = ["start-failed", "lost", "no-answer"];
                  ok(codes.includes(error.code), `${error.code}: ${error}`);
                  counts.failed++;
                }),
              );
          }
        }
        theatre.script.refusal = undefined;
        // One who comes last of all is served, whatever was before.
        const last = await run(theatre).catch(() => run(theatre)).catch(() => run(theatre));
        const jail = last.within;
        await jail.stop(true, 0);
        for (let at = 0; at < waiting.length; at++) await waiting[at];
        await last.exited;
        equal(jail.life, "absent");
      }
    });
  } catch (error) {
    throw new Error(`run it again with APPJAIL_FUZZ_SEED=${seed}`, { cause: error });
  }
  equal(counts.exited, counts.ran);
  ok(counts.ran > 50 && counts.failed > 0, JSON.stringify(counts));
});
