/** One jail, as the dispatcher keeps it, with a jailer and a helper that the test plays. */
import assert from "node:assert/strict";
import { Channel } from "../../ipc/channel.ts";
import { pair } from "../../ipc/socket.ts";
import { within } from "../../core/deadline.ts";
import type { HelperLink } from "../../core/helper-link.ts";
import { homeOf } from "../../core/environment.ts";
import { Jail, type Program } from "../../core/jail.ts";
import { plainStyle } from "../../core/log.ts";
import { appUid, ownerUid, parse, profileName, programName } from "../../core/names.ts";
import {
  type DispatcherToJailer,
  fromJailer,
  type JailerToDispatcher,
  protocolVersion,
  toJailer,
} from "../../core/protocol.ts";
import { unwatched, unwritten } from "./played.ts";

type Played = Channel<DispatcherToJailer, JailerToDispatcher>;

function value<T>(parsed: { readonly value: T } | { readonly wrong: string }): T {
  assert("value" in parsed);
  return parsed.value;
}

const allocation = {
  uid: value(parse(appUid, 1100)),
  owner: value(parse(ownerUid, 1000)),
  profile: value(parse(profileName, "work")),
};
const started = {
  program: value(parse(programName, "work.1")),
  argv: ["true"],
  pid: 2,
  cwd: homeOf(allocation.profile),
  terminal: false,
  started: 1,
};
const program: Program = {
  argv: ["true"],
  cwd: null,
  cwd_required: false,
  env: {},
  terminal: null,
  stdio: "log",
  descriptors: [],
};

/** A jail whose jailer is at the other end of the returned channel, and how often it was ended. */
function play(): { readonly jail: Jail; readonly jailer: Played; readonly ends: () => number } {
  const [ours, theirs] = pair();
  const jailer: Played = new Channel(theirs, toJailer);
  let ends = 0;
  const live = { uid: allocation.uid, pid: 1234, started: 1, jail: "1234-1" };
  const helper = {
    start: (_uid: number, _spec: unknown, starting: () => void) => {
      starting();
      return Promise.resolve(live);
    },
    end: () => {
      ends++;
      void jail.ended({ problem: null, said: null, why: null, note: null });
    },
  };
  const jail: Jail = new Jail(allocation, {
    helper: helper as unknown as HelperLink,
    connect: () => new Channel(ours, fromJailer),
    profiles: unwritten,
    network: "host",
    linger: 0,
    version: "0",
    log: { style: plainStyle, warn: () => {}, info: () => {}, debug: () => {} },
    witness: unwatched,
  });
  return { jail, jailer, ends: () => ends };
}

/** What the jailer hears next, hellos and what it was heard of left out. */
async function heard(jailer: Played): Promise<DispatcherToJailer> {
  for (;;) {
    const incoming = await within(jailer.receive(), 10_000, () => new Error("it hears nothing"));
    assert(incoming !== undefined, "the dispatcher has hung up");
    if (!["hello", "heard"].includes(incoming.message.type)) return incoming.message;
  }
}

function sayHello(jailer: Played): void {
  jailer.send({ type: "hello", role: "jailer", protocol: protocolVersion, version: "0" });
  jailer.send({ type: "present", programs: [], exits: [] });
}

Deno.test("a jailer that says idle in one breath with its answer is let go", async (t) => {
  const answers: Readonly<Record<string, (id: number) => readonly JailerToDispatcher[]>> = {
    "after a refusal": (id) => [
      { type: "refused", id, code: "command-not-found", message: "It is not there" },
    ],
    "after a program that has ended already": (id) => [
      { type: "started", id, program: started, master: false },
      { type: "exited", program: started.program, status: { by: "exit", code: 0 } },
    ],
  };
  for (const [name, answer] of Object.entries(answers)) {
    await t.step(name, async () => {
      const { jail, jailer } = play();
      using _ = jailer;
      const asked = jail.run(program).then(({ exited }) => exited, (error) => error);
      const exec = await heard(jailer);
      assert(exec.type === "exec");
      sayHello(jailer);
      for (const message of answer(exec.id)) jailer.send(message);
      jailer.send({ type: "idle" });
      await asked;
      // With nothing to linger for, this is the next thing that it hears.
      assert.equal((await heard(jailer)).type, "leave");
      jailer.close();
      await jail.ended({ problem: null, said: null, why: null, note: null });
      assert.equal(jail.life, "absent");
    });
  }
});

Deno.test("a program that nobody waits for any more is killed", async () => {
  const { jail, jailer } = play();
  using _ = jailer;
  const asked = jail.run(program);
  const exec = await heard(jailer);
  assert(exec.type === "exec");
  sayHello(jailer);
  jailer.send({ type: "started", id: exec.id, program: started, master: false });
  await asked;
  // An answer to a request that was given up comes under a number that is not known.
  const late = { ...started, program: value(parse(programName, "work.2")), pid: 3 };
  jailer.send({ type: "started", id: exec.id + 1, program: late, master: false });
  assert.deepEqual(await heard(jailer), {
    type: "signal",
    program: "work.2",
    signal: "SIGKILL",
  });
  jailer.close();
  await jail.ended({ problem: null, said: null, why: null, note: null });
});

Deno.test("a request says until when somebody waits for it", async () => {
  const { jail, jailer } = play();
  using _ = jailer;
  const asked = jail.run(program);
  const exec = await heard(jailer);
  assert(exec.type === "exec");
  assert(exec.before > Date.now() && exec.before < Date.now() + 60_000);
  jailer.close();
  await jail.ended({ problem: null, said: null, why: null, note: null });
  await assert.rejects(asked);
});

Deno.test("a jail that ends before it is up says what its parts complained of", async () => {
  const { jail, jailer } = play();
  using _ = jailer;
  const asked = jail.run(program);
  await heard(jailer);
  jailer.close();
  await jail.ended({ problem: null, said: "bwrap: Can't do it", why: null, note: null });
  await assert.rejects(asked, {
    code: "start-failed",
    message: 'Cannot start jail "work": bwrap: Can\'t do it',
  });
});

Deno.test("a jailer that hangs up and stays is ended, and its callers are told", async () => {
  const { jail, jailer, ends } = play();
  const asked = jail.run(program);
  await heard(jailer);
  sayHello(jailer);
  await jailer.drain();
  jailer.close();
  await assert.rejects(asked, { code: "no-answer", message: /its jailer has hung up/ });
  assert.equal(ends(), 1);
  assert.equal(jail.life, "absent");
});
