/**
 * `autodelete`: a home goes with its jail, however that ends and whoever is there then; and no other
 * home does, nor anything that was lent.
 */
import assert from "node:assert/strict";
import { folderOf } from "./lent.ts";
import { allLocked, passphrase, withPassphrase } from "./volumes.ts";
import { appProcesses, execute, firstUid, jailTest, uA, until, World } from "./world.ts";

const as = { uid: uA };

async function write(world: World, name: string, text: string): Promise<void> {
  const file = `${world.folder}/${name}.toml`;
  await Deno.writeTextFile(file, `shared = false\n${text}\n`);
  const { code, stderr } = await world.client(["profile", "edit", name, file], as);
  assert.equal(code, 0, stderr);
}

/** What is in the data root, but for the daemon's lock. */
function homes(world: World): readonly string[] {
  return [...Deno.readDirSync(world.data)].map(({ name }) => name)
    .filter((name) => name !== ".lock").sort();
}

/** What the daemon is still to delete. */
function promises(world: World): readonly string[] {
  return [...Deno.readDirSync(world.state)].map(({ name }) => name)
    .filter((name) => name.startsWith("throwaway"));
}

async function ended(world: World): Promise<void> {
  await until("the jail has ended", async () => (await world.status(uA)).length === 0);
}

jailTest("a home is deleted with its jail, where its profile says so", async (t) => {
  await using world = await World.start({ linger: 0 });
  const lent = await folderOf(world, "lent");
  const lend = `lend = [{ path = "${lent}", mode = "rw", at = "~/work" }]`;
  await write(world, "brief", `autodelete = true\n${lend}`);

  await t.step("when the last program has ended, and what was lent stays", async () => {
    const script = "echo mine > ~/file; mkdir -p ~/a/b; echo yours > ~/work/file && id -u";
    assert.equal(await world.shell("brief", script, as), `${firstUid}`);
    await ended(world);
    assert.deepEqual([homes(world), promises(world)], [[], []]);
    assert.equal(await Deno.readTextFile(`${lent}/file`), "yours\n");
    // The next has the same uid, and begins anew.
    assert.equal(await world.shell("brief", "id -u; ls -A", as), `${firstUid}\nlent\nwork`);
    await ended(world);
  });

  await t.step("not before the last one", async () => {
    await using stays = world.spawn(["run", "-p", "brief", "sh", "-c", "echo x; cat"], as);
    const reader = stays.stdout.getReader();
    await reader.read();
    await world.shell("brief", "echo mine > ~/file", as);
    assert.equal(await world.shell("brief", "cat ~/file", as), "mine");
    await stays.stdin.close();
    assert.equal((await stays.status).code, 0);
    await Promise.all([reader.cancel(), stays.stderr.cancel()]);
    await ended(world);
    assert.deepEqual(homes(world), []);
  });

  await t.step("many requests at its end each have a home", async () => {
    const runs = Array.from({ length: 12 }, () => world.shell("brief", "cd && pwd", as));
    assert.deepEqual(new Set(await Promise.all(runs)), new Set(["/home/brief"]));
    await ended(world);
    assert.deepEqual(homes(world), []);
  });

  await t.step("when it is stopped by force", async () => {
    await world.client(["run", "-p", "brief", "--detach", "--", "sleep", "1000"], as);
    assert.deepEqual(homes(world), [`${firstUid}`]);
    assert.equal((await world.client(["stop", "--force", "brief"], as)).code, 0);
    assert.deepEqual([homes(world), promises(world)], [[], []]);
  });

  await t.step("when it ends while there is no daemon", async () => {
    await world.client(["run", "-p", "brief", "--detach", "--", "sleep", "1000"], as);
    Deno.kill(world.helperPid, "SIGKILL");
    await world.daemonEnded();
    for (const pid of appProcesses(firstUid)) Deno.kill(pid, "SIGKILL");
    await until("nothing of it runs", () => appProcesses(firstUid).length === 0);
    assert.deepEqual([homes(world), promises(world)], [[`${firstUid}`], [
      `throwaway-${firstUid}`,
    ]]);
    await world.startDaemon();
    await until("its home is deleted", () => promises(world).length === 0);
    assert.deepEqual(homes(world), []);
  });

  await t.step("when its dispatcher is another by then", async () => {
    await world.client(["run", "-p", "brief", "--detach", "--", "sleep", "1000"], as);
    const pid = await world.dispatcherPid();
    Deno.kill(pid, "SIGKILL");
    await until("another dispatcher answers", async () => await world.dispatcherPid() !== pid);
    assert.equal((await world.client(["stop", "brief"], as)).code, 0);
    assert.deepEqual([homes(world), promises(world)], [[], []]);
  });

  await t.step(
    "an encrypted one too, and while it is kept unlocked not before it is locked",
    async () => {
      await write(world, "safe", "autodelete = true");
      const succeeds = async (...words: readonly string[]): Promise<void> => {
        const { code, stderr } = await withPassphrase(world, words, passphrase, as);
        assert.equal(code, 0, stderr);
      };
      await succeeds("encrypt", "--new", "safe");
      await succeeds("run", "-p", "safe", "--", "sh", "-c", "echo secret > ~/file");
      await allLocked(world);
      await until("it is deleted", () => homes(world).length === 0);
      await succeeds("encrypt", "--new", "safe");
      await succeeds("unlock", "safe");
      await world.shell("safe", "echo secret > ~/file", as);
      await until("it has ended", async () => (await world.status(uA))[0]?.state === "unlocked");
      assert.equal(await world.shell("safe", "cat ~/file", as), "secret");
      assert.equal((await world.client(["lock", "safe"], as)).code, 0);
      assert.deepEqual([homes(world), promises(world)], [[], []]);
    },
  );

  await t.step("a plan says so", async () => {
    const { stdout } = await world.client(["plan", "brief"], as);
    assert.match(stdout, /^home +deleted when the jail has ended$/m);
  });
});

jailTest("no other home is deleted", async (t) => {
  await using world = await World.start({ linger: 0 });
  const home = `${world.data}/${firstUid}`;
  await write(world, "kept", "");
  await world.shell("kept", "echo kept > ~/file", as);
  await ended(world);

  await t.step("of a jail that did not come to start", async () => {
    await write(world, "kept", `autodelete = true\nlend = [{ path = "${world.folder}/none" }]`);
    assert.equal((await world.client(["run", "-p", "kept", "true"], as)).code, 111);
    assert.deepEqual(promises(world), []);
    await world.stopDaemon();
    await world.startDaemon();
    assert.equal(await Deno.readTextFile(`${home}/file`), "kept\n");
  });

  await t.step("of a jail that did not have it", async () => {
    await write(world, "kept", `autodelete = true\nhome = "ephemeral"`);
    await world.shell("kept", "echo gone > ~/file", as);
    await ended(world);
    assert.equal(await Deno.readTextFile(`${home}/file`), "kept\n");
  });

  await t.step("while something is mounted in it, and then no jail has it", async () => {
    await write(world, "kept", "autodelete = true");
    await Deno.mkdir(`${home}/mount`);
    await world.client(["run", "-p", "kept", "--detach", "--", "sleep", "1000"], as);
    const mounted = await execute(["mount", "-t", "tmpfs", "none", `${home}/mount`]);
    assert.equal(mounted.code, 0, mounted.stderr);
    try {
      const { stdout, stderr } = await world.client(["stop", "kept"], as);
      assert.match(stdout + stderr, /to be deleted and is not: .*mount/);
      const run = await world.client(["run", "-p", "kept", "true"], as);
      assert.equal(run.code, 111);
      assert.match(run.stderr, /Cannot start jail "kept": the home is to be deleted and is not/);
      assert.equal(await Deno.readTextFile(`${home}/file`), "kept\n");
    } finally {
      await execute(["umount", `${home}/mount`]);
    }
    assert.equal(await world.shell("kept", "ls -A", as), "lent");
    await ended(world);
    assert.deepEqual([homes(world), promises(world)], [[], []]);
  });
});
