/**
 * Against being stopped, as by SIGSTOP: whoever asks has an answer in the end, and all others do not
 * notice. These tests wait for the deadlines of the program itself.
 */
import assert from "node:assert/strict";
import { bounded, client, processesOf } from "./patient.ts";
import { themeTest, type World } from "./world.ts";

/**
 * A client that has to come back, with its output in a file: streams that were handed over lie in the queue of whoever
 * stands still, open, and so the end of a pipe would not come.
 */
async function clientToFile(
  world: World,
  args: readonly string[],
): Promise<{ readonly code: number; readonly said: string }> {
  const file = `${world.folder}/said`;
  const words = ["sh", "-c", 'exec "$@" > "$FILE" 2>&1', "sh", ...world.clientWords(args)];
  const { code } = await bounded(words, { APPJAIL_SOCKET: world.socket, FILE: file });
  return { code, said: await Deno.readTextFile(file) };
}

themeTest("a jailer that was stopped from outside", {}, async (t, world) => {
  const { jailer_pid } = await world.keep("work");
  Deno.kill(jailer_pid, "SIGSTOP");
  // The deadline is long; what else there is to see goes on in the meantime.
  const asked = clientToFile(world, ["run", "-p", "work", "--", "touch", "/home/work/ran"]);

  await t.step("status calls it silent, with what was known", async () => {
    const [jail] = await world.status();
    assert.equal(jail.state, "silent");
    assert.deepEqual(jail.programs.map(({ argv }: { argv: string[] }) => argv), [[
      "sleep",
      "1000",
    ]]);
    assert.match((await world.client(["status"])).stdout, /silent/);
  });
  await t.step("other profiles do not notice", async () => {
    assert.equal(await world.shell("other", "echo here"), "here");
  });
  await t.step("a run is told so", async () => {
    assert.deepEqual(await asked, {
      code: 111,
      said: 'appjail: Cannot run "touch": jail "work" does not answer; ' +
        "appjail stop --force work ends it\n",
    });
  });
  await t.step("what was refused is not run later, when it goes on", async () => {
    Deno.kill(jailer_pid, "SIGCONT");
    // This comes after it in the jailer's own queue.
    assert.equal(await world.shell("work", "ls ~"), "lent");
    const [jail] = await world.status();
    assert.deepEqual([jail.jailer_pid, jail.state, jail.programs.length], [
      jailer_pid,
      "running",
      1,
    ]);
  });
  await t.step("stop ends it, by force or not", async () => {
    const ways = [["work", "--force"], ["other", "--timeout", "1"]] as const;
    await Promise.all(ways.map(async ([profile, ...flags]) => {
      const { jailer_pid, uid } = await world.keep(profile);
      Deno.kill(jailer_pid, "SIGSTOP");
      const { code, stderr } = await client(world, ["stop", ...flags, profile]);
      assert.equal(code, 0, stderr);
      assert.equal(await processesOf(uid), 0);
    }));
  });
});

themeTest("a dispatcher that was stopped", {}, async (_, world) => {
  const pid = await world.dispatcherPid();
  Deno.kill(pid, "SIGSTOP");
  const { code, said } = await clientToFile(world, ["run", "-p", "work", "--", "true"]);
  Deno.kill(pid, "SIGCONT");
  assert.match(said, /^appjail: The daemon does not answer; .*\n$/);
  assert.equal(code, 111);
  // Nor does it run that later: this comes after it in its queue.
  assert.equal((await world.client(["run", "-p", "other", "--", "true"])).code, 0);
  assert.deepEqual((await world.status()).map(({ profile }) => profile), ["other"]);
});
