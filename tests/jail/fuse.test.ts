/** A file system of FUSE whose server does not answer: it is nobody's trouble but its person's. */
import assert from "node:assert/strict";
import { folderOf } from "./lent.ts";
import { shell } from "./volumes.ts";
import { execute, firstUid, jailTest, ownEtc, uA, until, World } from "./world.ts";

/** A file system of FUSE, and its server, which can be stopped. */
class Silent implements AsyncDisposable {
  readonly #server: Deno.ChildProcess;
  readonly #unmount: readonly string[];

  private constructor(server: Deno.ChildProcess, unmount: readonly string[]) {
    this.#server = server;
    this.#unmount = unmount;
  }

  /** Mounts one at a folder, and waits until it is served. @param there words to stand before others */
  static async at(world: World, folder: string, there: readonly string[] = []): Promise<Silent> {
    const cipher = await folderOf(world, "cipher", 0);
    await shell('gocryptfs -q -init -extpass "echo x" "$1"', cipher);
    const words = ["gocryptfs", "-fg", "-allow_other", "-extpass", "echo x", cipher, folder];
    const [command = "", ...args] = [...there, ...words];
    const streams = { stdin: "null", stdout: "piped", stderr: "null" } as const;
    const server = new Deno.Command(command, { args, ...streams }).spawn();
    const silent = new Silent(server, [...there, "umount", "-l", folder]);
    // Before that it opens a file of its own, and whoever makes one meanwhile waits for it, and it for
    // them.
    let said = "";
    for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said.includes("mounted and ready")) return silent;
    }
    throw new Error(`gocryptfs has ended: ${said}`);
  }

  get pid(): number {
    return this.#server.pid;
  }

  stop(): void {
    this.#server.kill("SIGSTOP");
  }

  goOn(): void {
    try {
      this.#server.kill("SIGCONT");
    } catch {
      // It has ended with its mount.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.goOn();
    await execute(this.#unmount);
    await this.#server.status;
  }
}

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
  // Where the daemon looks: it has a mount namespace of its own.
  const there = ["nsenter", "--mount", `--target=${world.helperPid}`, "--"];
  await using silent = await Silent.at(world, settings, there);
  const file = `${settings}/user-dirs.dirs`;
  const written = await execute([...there, "sh", "-c", `echo > ${file}; chown ${uA} ${file}`]);
  assert.equal(written.code, 0, written.stderr);
  silent.stop();
  assert.equal(await world.shell("work", "ls ~/lent", { uid: uA }), "download");
});

jailTest("streams that lie where nobody answers hold up no other person", async () => {
  await using world = await World.start();
  const plain = await folderOf(world, "plain");
  await using silent = await Silent.at(world, plain);
  await Deno.writeTextFile(`${plain}/file`, "");
  const stubborn = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check"],
      new URL("stubborn.ts", import.meta.url).pathname,
      ...[world.socket, `${plain}/file`, `${silent.pid}`, "30"],
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
  silent.goOn();
  await stubborn.stdin.close();
  await stubborn.status;
  await until(
    "root is served again",
    async () => (await world.client(["profiles"])).stdout === "stuck\n",
  );
});

jailTest(
  "what somebody has mounted where a proxy listens is taken away, and not looked at",
  async () => {
    await using world = await World.start();
    // It stays until it is stopped: what is left of it is taken away when it ends.
    await world.keep("work");
    const place = `${world.runtime}/buses/${firstUid}`;
    await folderOf(world, place);
    await using silent = await Silent.at(world, place);
    silent.stop();
    assert.equal((await world.client(["stop", "work"])).code, 0);
    assert.equal(await world.run("work", ["echo", "hello"]), "hello");
    assert.deepEqual([...Deno.readDirSync(`${world.runtime}/buses`)], []);
  },
);
