/** A file system of FUSE whose server does not answer: it is nobody's trouble but its person's. */
import assert from "node:assert/strict";
import { folderOf } from "./lent.ts";
import { shell } from "./volumes.ts";
import { execute, firstUid, jailTest, ownEtc, uA, until, World } from "./world.ts";

jailTest("a jail starts although its owner's settings lie where nobody answers", async () => {
  await using world = await World.start({
    ...ownEtc,
    before: async (folder) => {
      await ownEtc.before(folder);
      const passwd = await Deno.readTextFile(`${folder}/etc/passwd`);
      const lines = passwd.split("\n").map((line) =>
        line.split(":")[2] === `${uA}`
          ? line.replace(/:[^:]*:([^:]*)$/, `:${folder}/home:$1`)
          : line
      );
      await Deno.writeTextFile(`${folder}/etc/passwd`, lines.join("\n"));
      const lends = '[[lend]]\npath = "xdg-download"\n';
      await Deno.writeTextFile(`${folder}/admin/work.toml`, lends);
    },
  });
  const home = await folderOf(world, "home");
  const [downloads, settings] = [`${home}/Downloads`, `${home}/.config`];
  for (const folder of [downloads, settings]) await folderOf(world, folder);
  const cipher = await folderOf(world, "cipher", 0);
  // Mounted before the daemon looks, and where the daemon looks: it has a mount namespace of its own.
  const there = ["nsenter", "--mount", `--target=${world.helperPid}`, "--"];
  await shell('gocryptfs -q -init -extpass "echo x" "$1"', cipher);
  const words = ["gocryptfs", "-q", "-fg", "-allow_other", "-extpass", "echo x", cipher, settings];
  const [command = "", ...args] = [...there, ...words];
  const server = new Deno.Command(command, { args, stdin: "null", stderr: "null" }).spawn();
  try {
    await until("it is mounted", async () => {
      const mounts = await Deno.readTextFile(`/proc/${world.helperPid}/mounts`);
      return mounts.includes(` ${settings} fuse`);
    });
    const file = `${settings}/user-dirs.dirs`;
    const written = await execute([...there, "sh", "-c", `echo > ${file}; chown ${uA} ${file}`]);
    assert.equal(written.code, 0, written.stderr);
    server.kill("SIGSTOP");
    assert.equal(await world.shell("work", "ls ~/lent", { uid: uA }), "download");
  } finally {
    server.kill("SIGCONT");
    await execute([...there, "umount", settings]);
    await server.status;
  }
});

jailTest("streams that lie where nobody answers hold up no other person", async () => {
  await using world = await World.start();
  const [cipher, plain] = [await folderOf(world, "cipher", 0), await folderOf(world, "plain")];
  await shell('gocryptfs -q -init -extpass "echo x" "$1"', cipher);
  const args = ["-q", "-fg", "-allow_other", "-extpass", "echo x", cipher, plain];
  const server = new Deno.Command("gocryptfs", { args, stdin: "null", stderr: "null" }).spawn();
  try {
    await until(
      "it is mounted",
      async () => (await Deno.readTextFile("/proc/mounts")).includes(` ${plain} fuse`),
    );
    await Deno.writeTextFile(`${plain}/file`, "");
    const stubborn = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--no-check"],
        new URL("stubborn.ts", import.meta.url).pathname,
        ...[world.socket, `${plain}/file`, `${server.pid}`, "30"],
      ],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const said = await stubborn.stdout.getReader().read();
    assert.equal(new TextDecoder().decode(said.value), "sent\n");
    assert.equal(await world.run("work", ["echo", "hello"], { uid: uA }), "hello");
    const { code, stdout } = await world.client(["profiles"], { uid: uA });
    assert.deepEqual([code, stdout], [0, "work\n"]);
    // So many cannot be closed that there may not be more of this person's.
    assert.match((await world.client(["profiles"])).stderr, /their file system does not answer\n$/);
    server.kill("SIGCONT");
    await stubborn.stdin.close();
    await stubborn.status;
    await until(
      "root is served again",
      async () => (await world.client(["profiles"])).stdout === "stuck\n",
    );
  } finally {
    server.kill("SIGCONT");
    await execute(["umount", "-l", plain]);
    await server.status;
  }
});

jailTest(
  "what somebody has mounted where a proxy listens is taken away, and not looked at",
  async () => {
    await using world = await World.start();
    // It stays until it is stopped: what is left of it is taken away when it ends.
    await world.keep("work");
    const place = `${world.runtime}/buses/${firstUid}`;
    const cipher = await folderOf(world, "cipher", 0);
    await folderOf(world, place);
    await shell('gocryptfs -q -init -extpass "echo x" "$1"', cipher);
    const args = ["-q", "-fg", "-allow_other", "-extpass", "echo x", cipher, place];
    const server = new Deno.Command("gocryptfs", { args, stdin: "null", stderr: "null" }).spawn();
    try {
      await until(
        "it is mounted",
        async () => (await Deno.readTextFile("/proc/mounts")).includes(` ${place} fuse`),
      );
      server.kill("SIGSTOP");
      assert.equal((await world.client(["stop", "work"])).code, 0);
      assert.equal(await world.run("work", ["echo", "hello"]), "hello");
      assert.deepEqual([...Deno.readDirSync(`${world.runtime}/buses`)], []);
    } finally {
      try {
        server.kill("SIGCONT");
      } catch {
        // It has ended with its mount.
      }
      await execute(["umount", "-l", place]);
      await server.status;
    }
  },
);
