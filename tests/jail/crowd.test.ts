/** Many profiles and jails at once, and stops that meet starts. */
import assert from "node:assert/strict";
import { jailTest, type Outcome, uA, until, World } from "./world.ts";

/** A client that says something of its own, and ends with a status of its own. */
function speak(world: World, profile: string, number: number): Promise<Outcome> {
  const script = `echo begin ${number}; echo end ${number}; echo err ${number} >&2; exit ${number}`;
  return world.client(["run", "-p", profile, "sh", "-c", script], { uid: uA });
}

function heard(number: number, outcome: Outcome): void {
  assert.deepEqual(outcome, {
    code: number,
    stdout: `begin ${number}\nend ${number}\n`,
    stderr: `err ${number}\n`,
  });
}

jailTest("40 jails live at once, and each of them is served", async (t) => {
  await using world = await World.start({ linger: 60 });
  // More than the foreign calls that Deno lets wait at a time.
  const profiles = Array.from({ length: 40 }, (_, at) => `p${at}`);

  await t.step("20 that are started at the same time", async () => {
    const outcomes = await Promise.all(
      profiles.slice(0, 20).map((profile, number) => speak(world, profile, number)),
    );
    outcomes.forEach((outcome, number) => heard(number, outcome));
  });

  await t.step("20 more, beside them", async () => {
    const outcomes = await Promise.all(
      profiles.slice(20).map((profile, number) => speak(world, profile, number)),
    );
    outcomes.forEach((outcome, number) => heard(number, outcome));
  });

  await t.step("they are 40, each with a uid and a first process of its own", async () => {
    const jails = await world.status(uA);
    assert.deepEqual(jails.map(({ profile }) => profile).sort(), [...profiles].sort());
    assert.equal(new Set(jails.map(({ uid }) => uid)).size, 40);
    assert.equal(new Set(jails.map(({ jailer_pid }) => jailer_pid)).size, 40);
    assert.deepEqual(new Set(jails.map(({ state }) => state)), new Set(["idle"]));
  });

  await t.step("the first, the last and one in between are joined", async () => {
    for (const [number, profile] of [[1, "p0"], [2, "p39"], [3, "p17"]] as const) {
      heard(number, await speak(world, profile, number));
    }
  });

  await t.step("and all are stopped at once", async () => {
    const { code, stdout } = await world.client(["stop", "--all"], { uid: uA });
    assert.equal(code, 0);
    assert.deepEqual(
      stdout.trimEnd().split("\n").sort(),
      profiles.map((profile) => `stopped ${profile}`).sort(),
    );
    assert.deepEqual(await world.status(uA), []);
  });
});

jailTest("stops meet starts, and each other", async (t) => {
  await using world = await World.start();
  const stop = (...words: string[]): Promise<Outcome> =>
    world.client(["stop", ...words], { uid: uA });
  const next = async (): Promise<void> => heard(5, await speak(world, "work", 5));

  await t.step("a stop while the jail is starting", async () => {
    await next();
    for (const words of [["work"], ["--force", "work"], ["--timeout", "0", "work"]]) {
      for (let turn = 0; turn < 2; turn++) {
        await stop("--force", "work");
        const run = speak(world, "work", 7);
        await until("it is starting", async () => (await world.status(uA)).length > 0);
        const stopped = await stop(...words);
        assert.equal(stopped.code, 0, stopped.stderr);
        // It has run to its end, was killed, or had no jail any more: it knows which.
        const { code, stderr } = await run;
        assert([7, 111, 137, 143].includes(code), `${code}: ${stderr}`);
        // It may have been killed before it was known that it had started.
        if (code === 111) assert.match(stderr, /^(err 7\n)?appjail: [^\n]+\n$/);
      }
    }
    await next();
  });

  await t.step("runs while the jail is leaving are for the next one", async () => {
    const stubborn = "exec > /dev/null 2>&1; trap '' TERM; while :; do sleep 0.02; done";
    const old = world.spawn(["run", "-p", "work", "sh", "-c", stubborn], { uid: uA });
    const { jailer_pid } = await until("it runs", async () => {
      const [jail] = await world.status(uA);
      return jail?.programs.length === 1 && jail;
    });
    const stopping = stop("--timeout", "1", "work");
    await until("it is leaving", async () => (await world.status(uA))[0]?.state === "leaving");
    const runs = Promise.all([1, 2, 3].map((number) => speak(world, "work", number)));
    assert.equal((await stopping).stdout, "stopped work; 1 program had to be killed\n");
    (await runs).forEach((outcome, at) => heard(at + 1, outcome));
    assert.equal((await old.output()).code, 137);
    const [jail] = await world.status(uA);
    assert.notEqual(jail?.jailer_pid, jailer_pid);
  });

  await t.step("two stops of two jails, and four of the same", async () => {
    await speak(world, "work", 1);
    await speak(world, "mail", 1);
    for (const outcome of await Promise.all([stop("work"), stop("mail")])) {
      assert.equal(outcome.code, 0, outcome.stderr);
    }
    assert.deepEqual(await world.status(uA), []);
    await speak(world, "work", 1);
    const same = [["work"], ["work"], ["--all"], ["--force", "work"]];
    for (const outcome of await Promise.all(same.map((words) => stop(...words)))) {
      assert.equal(outcome.code, 0, outcome.stderr);
    }
    assert.deepEqual(await world.status(uA), []);
    await next();
  });
});

jailTest("a person has as many profiles as there may be, and is told so", async () => {
  await using world = await World.start({
    before: (folder) => Deno.writeTextFile(`${folder}/appjail.toml`, "max_profiles = 3\n"),
    wrap: (words, folder) => [...words, "--config", `${folder}/appjail.toml`],
  });
  for (const profile of ["a", "b", "c", "a"]) await world.run(profile, ["true"], { uid: uA });
  const { code, stderr } = await world.client(["run", "-p", "d", "true"], { uid: uA });
  assert.equal(code, 111);
  assert.equal(
    stderr,
    `appjail: Cannot make profile "d": uid ${uA} has 3 already, the most there may be\n`,
  );
  await world.run("d", ["true"]);
  await world.run("c", ["true"], { uid: uA });
});
