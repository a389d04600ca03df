/**
 * A plan is what the jail then is: the words of both are the same, and the kernel is asked. And what a
 * profile says of a jail is so: its name, its network, its folders in memory, its filter.
 */
import assert from "node:assert/strict";
import { jailTest, uA, World } from "./world.ts";

jailTest("a plan tells what the jail then is, and starts nothing", async (t) => {
  await using world = await World.start({ linger: 600 });
  const as = { uid: uA };
  const write = async (name: string, text: string): Promise<void> => {
    const file = `${world.folder}/${name}.toml`;
    await Deno.writeTextFile(file, text);
    const { code, stderr } = await world.client(["profile", "edit", name, file], as);
    assert.equal(code, 0, stderr);
  };
  const plan = async (name: string) => {
    const { code, stdout, stderr } = await world.client(["plan", "--json", name], as);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  await write(
    "still",
    `network = "none"
hostname = "elsewhere"
home = "ephemeral"
tmpfs = ["~/cache", "/usr/share/doc"]
seccomp = "strict"
shared = false
linger = 600
`,
  );

  await t.step("nothing is started, and no uid is given", async () => {
    const { uid, running, spec } = await plan("still");
    assert.deepEqual([uid, running, spec.network, spec.hostname], [
      null,
      false,
      "none",
      "elsewhere",
    ]);
    assert.deepEqual(await world.status(uA), []);
    assert.deepEqual([...Deno.readDirSync(world.data)].filter(({ name }) => name !== ".lock"), []);
  });

  await t.step("what it tells to be mounted is mounted, and nothing else", async () => {
    const script = "cut -d' ' -f5,6 /proc/self/mountinfo";
    const there = new Map(
      (await world.shell("still", script, as)).split("\n").map((line) => {
        const [at = "", options = ""] = line.split(" ");
        return [at, options.split(",").includes("ro")] as const;
      }),
    );
    const { mounts } = await plan("still");
    const planned: readonly { at: string; kind: string; optional: boolean }[] = mounts;
    const places = planned.filter(({ kind }) => kind !== "link" && kind !== "folder");
    for (const { at, kind, optional } of places) {
      if (optional && !there.has(at)) continue;
      assert(there.has(at), `${at} is planned and not there`);
      if (kind === "writable" || kind === "memory") assert.equal(there.get(at), false, at);
      if (kind === "read-only") assert.equal(there.get(at), true, at);
    }
    // What bubblewrap makes of /dev, and the root, are told of as one.
    const inDev = (at: string): boolean => at === "/" || /^\/(?:dev|run\/appjail)\//.test(at);
    const untold = [...there.keys()].filter((at) =>
      !inDev(at) && !places.some((one) => one.at === at) && !at.startsWith("/home/still/lent")
    );
    assert.deepEqual(untold, []);
  });

  await t.step("its name, its network and its folders are as the profile says", async () => {
    const shell = (script: string) => world.shell("still", script, as);
    assert.equal(await shell("uname -n"), "elsewhere");
    assert.equal(await shell("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo");
    assert.equal(
      await shell("ls -A ~/cache /usr/share/doc | tr -d '\n'"),
      [
        "/home/still/cache:/usr/share/doc:",
      ].join(""),
    );
    assert.equal(await shell("echo x > ~/note; echo x > ~/cache/x; cat ~/note"), "x");
  });

  await t.step("its filter is the strict one", async () => {
    const { code, stderr } = await world.client(
      ["run", "-p", "still", "unshare", "-U", "true"],
      as,
    );
    assert.equal(code, 1);
    assert.match(stderr, /Operation not permitted/);
  });

  await t.step("nothing of a home that is not kept stays", async () => {
    assert.equal((await world.client(["stop", "--force", "still"], as)).code, 0);
    assert.equal(await world.shell("still", "ls -A", as), "cache\nlent");
    await world.client(["stop", "--force", "still"], as);
  });

  await t.step("a person reads the same, in words", async () => {
    const { code, stdout } = await world.client(["plan", "still"], as);
    assert.equal(code, 0);
    assert.match(stdout, /^still, uid \d+: nothing was started$/m);
    assert.match(stdout, /^network +none$/m);
    assert.match(stdout, /^ {2}\/usr\/share\/doc +memory$/m);
    assert.match(stdout, /^system calls +strict: without .*ptrace/m);
    assert.equal(/[\p{Cc}--\n]/v.test(stdout), false);
  });

  await t.step("there is no plan of somebody else's, nor of none", async () => {
    const { code, stderr } = await world.client(["plan", "still"], { uid: uA + 1 });
    assert.equal(code, 111);
    assert.match(stderr, /There is no profile "still"/);
  });
});

jailTest("a program sees its owner's uid where the profile says so, and has its own", async () => {
  await using world = await World.start();
  const file = `${world.folder}/p.toml`;
  await Deno.writeTextFile(file, "same_uid = true\n");
  const kept = await world.client(["profile", "edit", "twin", file], { uid: uA });
  assert.equal(kept.code, 0, kept.stderr);
  const seen = await world.shell(
    "twin",
    'id -u; stat -c %u ~; echo "$XDG_RUNTIME_DIR"; echo x > f',
    {
      uid: uA,
    },
  );
  assert.equal(seen, `${uA}\n${uA}\n/run/user/${uA}`);
  const [jail] = await world.status(uA);
  assert.notEqual(jail.uid, uA);
  const { uid } = await Deno.lstat(`${world.data}/${jail.uid}/f`);
  assert.equal(uid, jail.uid);
});
