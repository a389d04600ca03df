/** A file system of FUSE in a person's home, whose server does not answer: it is nobody else's trouble. */
import assert from "node:assert/strict";
import { folderOf } from "./lent.ts";
import { shell } from "./volumes.ts";
import { execute, jailTest, ownEtc, uA, until, World } from "./world.ts";

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
