/** A home in memory: empty at each start, and nothing of the one on the disk, encrypted or not. */
import assert from "node:assert/strict";
import { volumeKinds } from "../../core/protocol.ts";
import { allLocked, encryptedProfile, programsOf, shell, withPassphrase } from "./volumes.ts";
import { execute, firstUid, type Outcome, themeTest, type World } from "./world.ts";

/** What the administrator says of a profile from here on; null: nothing. */
async function says(world: World, profile: string, text: string | null): Promise<void> {
  const file = `${world.folder}/admin/${profile}.toml`;
  await (text === null ? Deno.remove(file) : Deno.writeTextFile(file, text));
}

/** Runs a script where nobody can be asked for a passphrase. */
async function unasked(world: World, profile: string, script: string): Promise<Outcome> {
  const words = world.clientWords(["run", "-p", profile, "--", "sh", "-euc", script]);
  return await execute(["setsid", "--wait", ...words], {
    env: { APPJAIL_SOCKET: world.socket, APPJAIL_ASKPASS: "", DISPLAY: "", WAYLAND_DISPLAY: "" },
  });
}

for (const kind of volumeKinds) {
  themeTest(`a home in memory, where there is one of ${kind}`, {}, async (t, world) => {
    const { home } = await encryptedProfile(world, "work", kind);
    await says(world, "work", 'home = "ephemeral"\n');
    const files = (): Promise<string> => shell('ls -lAR --time-style=full-iso "$1"', home);
    const before = await files();
    const locked = async (): Promise<void> => {
      const [jail] = await world.status();
      assert.deepEqual([jail.home.kind, jail.home.unlocked], [kind, false]);
      assert.deepEqual(programsOf(home), []);
    };

    await t.step("nobody is asked, the volume stays locked, and each start is empty", async () => {
      for (let turn = 0; turn < 2; turn++) {
        const { code, stdout, stderr } = await unasked(
          world,
          "work",
          "ls -A ~; echo mine > ~/note; stat -f -c %T ~",
        );
        assert.deepEqual([code, stdout], [0, "lent\ntmpfs\n"], stderr);
        await locked();
        assert.equal((await world.client(["stop", "work"])).code, 0);
      }
      assert.equal(await files(), before);
    });

    await t.step("a volume that is unlocked stays so, and is not seen", async () => {
      assert.equal((await withPassphrase(world, ["unlock", "work"])).code, 0);
      const { code, stdout, stderr } = await unasked(world, "work", "ls -A ~");
      assert.deepEqual([code, stdout], [0, "lent\n"], stderr);
      assert.equal((await world.client(["stop", "work"])).code, 0);
      const [jail] = await world.status();
      assert.equal(jail.home.unlocked, true);
      assert.equal((await world.client(["lock", "work"])).code, 0);
      await locked();
    });

    await t.step("without that, the passphrase is asked for, and all is there", async () => {
      await says(world, "work", null);
      const refused = await unasked(world, "work", "true");
      assert.equal(refused.code, 111);
      assert.match(refused.stderr, /Cannot ask for the passphrase of work/);
      const { stdout, stderr } = await withPassphrase(world, [
        ...["run", "-p", "work", "--", "sh", "-c", "cat note; ls -A"],
      ]);
      assert.equal(stdout, "kept\nlent\nnote\n", stderr);
      await world.client(["stop", "work"]);
      await allLocked(world);
    });
  });
}

themeTest(
  "a profile whose home was always in memory has none on the disk",
  {},
  async (t, world) => {
    await says(world, "work", 'home = "ephemeral"\n');
    assert.equal(await world.shell("work", "echo x > ~/x; id -u"), String(firstUid));
    await world.client(["stop", "work"]);
    assert.deepEqual([...Deno.readDirSync(world.data)].map(({ name }) => name), [".lock"]);

    await t.step("whatever stands in its place is left alone", async () => {
      await Deno.symlink("/etc", `${world.data}/${firstUid}`);
      assert.equal(await world.shell("work", "ls -A ~"), "lent");
      await world.client(["stop", "work"]);
      assert.equal((await Deno.lstat(`${world.data}/${firstUid}`)).isSymlink, true);
      await Deno.remove(`${world.data}/${firstUid}`);
    });
    await t.step("it can be deleted, and its uid be given again", async () => {
      const words = ["profile", "delete", "work", "--home", "--yes"];
      const { code, stdout, stderr } = await world.client(words);
      assert.equal(code, 0, stdout + stderr);
      assert.equal(await world.shell("next", "id -u"), String(firstUid));
    });
  },
);
