/** kill -9 of each part, in the middle of things: nobody hangs, programs live, the next one works. */
import assert from "node:assert/strict";
import { firstUid, jailTest, type Outcome, uA, uidsOf, until, World } from "./world.ts";

const text = new TextDecoder();

/** How a client that was started ends. Its streams end when its program has closed them, too. */
async function ended(client: Deno.ChildProcess): Promise<Outcome> {
  const { code, stdout, stderr } = await client.output();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** A program that goes on until its home has a file called `end`, and then exits with what is in it. */
const untilTold =
  'exec > /dev/null 2>&1; until [ -e ~/end ]; do sleep 0.02; done; exit "$(cat ~/end)"';

/** A client that has `script` run, and runs it when this returns. */
async function running(world: World, script: string): Promise<Deno.ChildProcess> {
  const before = (await programs(world, script)).length;
  const client = world.spawn(["run", "-p", "work", "sh", "-c", script], { uid: uA });
  await until("it runs", async () => (await programs(world, script)).length > before);
  return client;
}

/** What runs, or what runs of one script. */
async function programs(world: World, script?: string): Promise<readonly string[]> {
  const [jail] = await world.status(uA);
  return ((jail?.programs ?? []) as readonly { program: string; argv: readonly string[] }[])
    .filter(({ argv }) => script === undefined || argv[2] === script)
    .map(({ program }) => program);
}

async function jailerPid(world: World): Promise<number> {
  const [jail] = await world.status(uA);
  return jail.jailer_pid;
}

/** Twenty joins, each with a status and an output of its own. */
function joins(
  world: World,
): readonly { readonly number: number; readonly end: Promise<Outcome> }[] {
  return Array.from({ length: 20 }, (_, number) => ({
    number,
    end: ended(
      world.spawn([
        "run",
        "-p",
        "work",
        "sh",
        "-c",
        `echo begin; sleep 0.1; echo ${number}; exit ${number}`,
      ], {
        uid: uA,
      }),
    ),
  }));
}

/** That a join had its right result, or a clear error; returns which. */
function judge(number: number, { code, stdout, stderr }: Outcome): "result" | "error" {
  if (stderr === "") {
    assert.equal(stdout, `begin\n${number}\n`);
    assert.equal(code, number);
    return "result";
  }
  assert.match(
    stderr,
    /^appjail: (The daemon went away |No daemon answers at |The daemon at \S+ does not answer)[^\n]*\n$/,
  );
  assert.equal(code, 111, stderr);
  return "error";
}

/** Kills for real, at once. */
function kill(pid: number): void {
  Deno.kill(pid, "SIGKILL");
}

/** Kills the dispatcher, and does something before the helper may start another. */
async function withoutDispatcher(world: World, work: () => Promise<void>): Promise<void> {
  const dispatcher = await world.dispatcherPid();
  Deno.kill(world.helperPid, "SIGSTOP");
  try {
    kill(dispatcher);
    // Its first thread may have ended before the others, which have its sockets open still.
    await until("all of it is dead", () =>
      uidsOf(dispatcher).length === 0 &&
      [...Deno.readDirSync(`/proc/${dispatcher}/task`)].length === 1);
    await work();
  } finally {
    Deno.kill(world.helperPid, "SIGCONT");
  }
}

jailTest("the dispatcher is killed in the middle of 20 joins", async () => {
  await using world = await World.start();
  const survivor = await running(world, untilTold);
  const jailer = await jailerPid(world);
  const counts = { result: 0, error: 0 };
  // At the beginning, when the first have been started, when the first have ended, near the end.
  for (const moment of [0, 1, 5, 15]) {
    const dispatcher = await world.dispatcherPid();
    let over = 0;
    const all = joins(world).map(({ number, end }) => ({
      number,
      end: end.finally(() => over++),
    }));
    if (moment === 1) await until("some run", () => world.log.includes("work.2 as"));
    else await until("some have ended", () => over >= moment);
    kill(dispatcher);
    for (const { number, end } of all) counts[judge(number, await end)]++;
    assert.equal(await world.shell("work", "echo next", { uid: uA }), "next");
    assert.equal(await jailerPid(world), jailer, "it is the same jail");
  }
  assert(counts.result > 0, JSON.stringify(counts));
  // Whoever was told that their program's fate is unknown can see it; no program is left over.
  await until("the others have ended", async () => (await programs(world)).length === 1);
  await Deno.writeTextFile(`${world.data}/${firstUid}/end`, "33");
  assert.equal((await ended(survivor)).code, 33);
});

jailTest("a client has its program's status, whoever is killed meanwhile", async (t) => {
  await using world = await World.start();
  const home = `${world.data}/${firstUid}`;

  await t.step("when it ends while no dispatcher is there", async () => {
    const client = await running(world, untilTold);
    const jailer = await jailerPid(world);
    await withoutDispatcher(world, async () => {
      await Deno.writeTextFile(`${home}/end`, "44");
      await until(
        "nothing runs in the jail",
        () => !Deno.readTextFileSync(`/proc/${jailer}/task/${jailer}/children`).trim(),
      );
    });
    assert.equal((await ended(client)).code, 44);
    await Deno.remove(`${home}/end`);
  });

  await t.step("when dispatchers are killed again and again", async () => {
    const client = await running(world, untilTold);
    for (let turn = 0; turn < 3; turn++) {
      kill(await world.dispatcherPid());
      // Each is there before it is killed, and has let the client in.
      await until("it is served again", async () => (await programs(world)).length === 1);
    }
    await Deno.writeTextFile(`${home}/end`, "55");
    assert.equal((await ended(client)).code, 55);
    await Deno.remove(`${home}/end`);
  });

  await t.step("and its signals reach the program still, as does that it was killed", async () => {
    const script =
      `exec > /dev/null 2>&1; for name in USR2 HUP; do trap "echo $name >> ~/got" $name; done
      trap 'exit 66' TERM; echo ready > ~/got; while :; do sleep 0.02; done`;
    const got = (words: string) =>
      until(
        `${words} came`,
        async () =>
          (await Deno.readTextFile(`${home}/got`).catch(() => "")).replaceAll("\n", " ") === words,
      );
    const client = await running(world, script);
    await got("ready ");
    await withoutDispatcher(world, () => Promise.resolve(client.kill("SIGUSR2")));
    await got("ready USR2 ");
    client.kill("SIGTERM");
    assert.equal((await ended(client)).code, 66);

    const killed = await running(world, script);
    await got("ready ");
    kill(await world.dispatcherPid());
    await until("it is served again", async () => (await programs(world)).length === 1);
    killed.kill("SIGUSR2");
    await got("ready USR2 ");
    killed.kill("SIGKILL");
    await ended(killed);
    await got("ready USR2 HUP ");
  });
});

jailTest("helper and dispatcher are killed in the middle of 20 joins", async () => {
  await using world = await World.start();
  const survivor = await running(world, untilTold);
  const jailer = await jailerPid(world);

  // The helper alone: the dispatcher sees it and leaves. The next daemon finds the clients waiting.
  const first = joins(world);
  await until("some run", () => world.log.includes("work.2 as"));
  kill(world.helperPid);
  await world.daemonEnded();
  await world.startDaemon();
  for (const { number, end } of first) judge(number, await end);
  assert.equal(await world.shell("work", "echo next", { uid: uA }), "next");
  assert.equal(await jailerPid(world), jailer, "it is the same jail");

  // Both, and nobody starts another: whoever waits gives up, in words.
  const said = world.log.length;
  const second = joins(world);
  const waiting = await running(world, "exec > /dev/null 2>&1; exec sleep 1000");
  await until("some run", () => /runs work\.\d+ as/.test(world.log.slice(said)));
  const dispatcher = await world.dispatcherPid();
  // The dispatcher first: without its helper it may have left by itself.
  Deno.kill(world.helperPid, "SIGSTOP");
  kill(dispatcher);
  kill(world.helperPid);
  await world.daemonEnded();
  for (const { number, end } of second) judge(number, await end);
  const { code, stderr } = await ended(waiting);
  assert.equal(code, 111);
  assert.match(stderr, /work\.\d+ may still run; when the daemon runs again, appjail status tells/);
  assert.deepEqual(uidsOf(jailer), [firstUid, firstUid, firstUid, firstUid], "the jail lives");
  await world.startDaemon();
  assert.equal(await world.shell("work", "echo next", { uid: uA }), "next");
  assert.equal(await jailerPid(world), jailer, "it is the same jail");
  await until("what nobody waits for is listed", async () => (await programs(world)).length === 2);
  assert.equal((await world.client(["stop", "work"], { uid: uA })).code, 0);
  assert.equal((await ended(survivor)).code, 111, "its client gave up, too");
  assert.deepEqual(await world.status(uA), []);
});

jailTest("the jailer is killed while its programs run", async () => {
  await using world = await World.start({ linger: 60 });
  const clients = [];
  for (let count = 0; count < 3; count++) {
    clients.push(await running(world, "exec > /dev/null 2>&1; exec sleep 1000"));
  }
  const follower = world.spawn(["logs", "-f", "work"], { uid: uA });
  const jailer = await jailerPid(world);
  kill(jailer);
  for (const client of clients) {
    const { code, stderr } = await ended(client);
    assert.equal(code, 137, stderr);
  }
  await until("it is gone", async () => (await world.status(uA)).length === 0);
  assert.equal(await world.shell("work", "echo next", { uid: uA }), "next");
  assert.notEqual(await jailerPid(world), jailer);
  follower.kill("SIGKILL");
  await ended(follower);
  // A client that comes at the very moment of its death has an answer, too.
  for (let turn = 0; turn < 5; turn++) {
    await world.shell("work", "true", { uid: uA });
    const pid = await jailerPid(world);
    const client = world.spawn(["run", "-p", "work", "sh", "-c", "exit 7"], { uid: uA });
    const runs = world.log.length;
    // Before it has come, while it is being served, or afterwards.
    if (turn % 2 === 1) await until("it is served", () => world.log.length > runs);
    kill(pid);
    const { code, stderr } = await ended(client);
    assert([7, 111, 137].includes(code), `${code}: ${stderr}`);
    if (code === 111) assert.match(stderr, /^appjail: [^\n]+\n$/);
  }
});

jailTest("whoever asks something else is told that the daemon went away", async () => {
  await using world = await World.start();
  await running(world, "trap '' TERM; touch ~/ready; while :; do sleep 0.05; done");
  const ready = `${world.data}/${firstUid}/ready`;
  await until("it ignores what stop sends", () => Deno.stat(ready).catch(() => undefined));
  const logged = await world.client(["run", "-d", "-p", "work", "echo", "said"], { uid: uA });
  assert.equal(logged.code, 0, logged.stderr);
  const follower = world.spawn(["logs", "-f", "work"], { uid: uA });
  const said = follower.stdout.getReader();
  assert.match(text.decode((await said.read()).value), /said/);
  said.releaseLock();
  const stopping = world.spawn(["stop", "--timeout", "3600", "work"], { uid: uA });
  await until("it is being stopped", async () => (await world.status(uA))[0]?.state === "leaving");
  kill(await world.dispatcherPid());
  for (const client of [follower, stopping]) {
    const { code, stderr } = await ended(client);
    assert.equal(code, 111, stderr);
    assert.match(stderr, /^appjail: The daemon went away before it had answered; try again\n$/);
  }
  assert.equal((await programs(world)).length, 1, "the jail lives");
  assert.equal((await world.client(["stop", "--force", "work"], { uid: uA })).code, 0);
});
