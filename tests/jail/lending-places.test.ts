/**
 * Lending: from every kind of file system, what is there from the start of a jail, and the folder
 * that each profile of a person's shares with them.
 */
import assert from "node:assert/strict";
import { plainSpec } from "../../core/protocol.ts";
import {
  fileOf,
  folderOf,
  groups,
  inside,
  keep,
  lend,
  mountsBelow,
  refused,
  unlend,
} from "./lent.ts";
import { person, personsGroup, withPerson } from "./person.ts";
import { StandIn } from "./stand-in.ts";
import { execute, firstUid, jailTest, themeTest, uA, until, World } from "./world.ts";

/** Runs a command that has to succeed. */
async function must(...words: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await execute(words);
  assert.equal(code, 0, `${words.join(" ")}: ${stdout}${stderr}`);
}

/** What a file system needs to be tried. */
interface Tried {
  readonly make?: readonly string[];
  readonly megabytes?: number;
}

const tried: Readonly<Record<string, Tried>> = {
  ext4: { make: ["mkfs.ext4", "-q"], megabytes: 16 },
  xfs: { make: ["mkfs.xfs", "-q"], megabytes: 300 },
  btrfs: { make: ["mkfs.btrfs", "-q"], megabytes: 128 },
  tmpfs: {},
};

/** Whether the kernel has a file system, and the machine the program that makes one. */
async function lacks(type: string, { make }: Tried): Promise<string | undefined> {
  if (!new RegExp(`\t${type}$`, "m").test(Deno.readTextFileSync("/proc/filesystems"))) {
    return `this kernel has no ${type}`;
  }
  if (make === undefined) return undefined;
  const { code } = await execute(["sh", "-c", `command -v ${make[0]}`]);
  return code === 0 ? undefined : `${make[0]} is not installed`;
}

for (const [type, how] of Object.entries(tried)) {
  const why = await lacks(type, how);
  Deno.test({
    name: `what is lent from ${type} is the app's inside and the owner's outside${
      why === undefined ? "" : ` (${why})`
    }`,
    ignore: Deno.uid() !== 0 || why !== undefined,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      await using world = await World.start();
      const mount = `${world.folder}/disk`;
      await Deno.mkdir(mount);
      if (how.make === undefined) await must("mount", "-t", "tmpfs", "-o", "size=1m", "x", mount);
      else {
        await must("truncate", "-s", `${how.megabytes}M`, `${world.folder}/image`);
        await must(...how.make, `${world.folder}/image`);
        await must("mount", "-o", "loop", `${world.folder}/image`, mount);
      }
      try {
        const docs = await folderOf(world, `${mount}/docs`);
        await fileOf(`${docs}/mine`, "mine\n");
        await fileOf(`${docs}/roots`, "", 0, 0o600);
        await keep(world, "work");
        await lend(world, "work", docs, "--rw");
        await lend(world, "work", `${docs}/mine`, "--as", "one");
        const words = "cat mine ../one; stat -c '%u %g' mine roots . ; echo new > new; " +
          "mkdir d; mv new d; ln d/new hard; chmod 640 hard; cat roots 2>/dev/null || echo no; " +
          "(echo x > ../one) 2>/dev/null || echo no";
        const own = `${firstUid} ${firstUid}`;
        assert.equal(
          await inside(world, "work", `cd ~/lent/docs; ${words}`),
          `mine\nmine\n${own}\n65534 65534\n${own}\nno\nno`,
        );
        const { uid, gid, mode } = await Deno.stat(`${docs}/d/new`);
        assert.deepEqual([uid, gid, (mode ?? 0) & 0o777], [uA, groups[uA], 0o640]);
        // As the owner has it outside, so it is inside: no right is taken from the mode.
        await Deno.chmod(docs, 0o500);
        assert.equal(
          await inside(world, "work", "cd ~/lent/docs; touch x 2>/dev/null || echo no"),
          "no",
        );
        await unlend(world, "work", "docs");
        assert.equal((await world.client(["stop", "--all", "--force"], { uid: uA })).code, 0);
        // Nothing holds it any more.
        await must("umount", mount);
      } finally {
        await execute(["umount", "-l", mount]);
      }
    },
  });
}

themeTest("where nothing can be lent from says so", {}, async (t, world) => {
  await keep(world, "work");
  const [lower, upper, work, merged] = await Promise.all(
    ["lower", "upper", "work", "merged"].map((name) => folderOf(world, name)),
  );
  await t.step("an overlay, which this kernel may be able to id-map", async () => {
    await fileOf(`${lower}/file`, "low\n");
    await must(
      "mount",
      "-t",
      "overlay",
      "-o",
      `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
      "x",
      `${merged}`,
    );
    try {
      const { code, stderr } = await world.client(["lend", "work", `${merged}/file`], { uid: uA });
      if (code === 0) {
        assert.equal(await inside(world, "work", "cat ~/lent/file"), "low");
        await unlend(world, "work", "file");
      } else {
        assert.equal(
          stderr,
          `appjail: Cannot lend "${merged}/file" to "work": it lies on a file system of type overlay, ` +
            "which this kernel cannot id-map\n",
        );
      }
    } finally {
      await must("umount", `${merged}`);
    }
  });
  await t.step("FUSE, whose server is not asked for anything", async () => {
    const [cipher, plain] = [await folderOf(world, "cipher", 0), await folderOf(world, "plain")];
    await must("gocryptfs", "-q", "-init", "-extpass", "echo x", cipher);
    await must("gocryptfs", "-q", "-allow_other", "-extpass", "echo x", cipher, plain);
    try {
      await fileOf(`${plain}/file`, "");
      for (const path of [plain, `${plain}/file`]) {
        assert.match(
          await refused(world, ["work", path]),
          /it lies on a file system of (type fuse\.gocryptfs|FUSE), of which nothing can be lent\n$/,
        );
      }
    } finally {
      await must("umount", plain);
    }
  });
  await t.step("what is id-mapped already", async () => {
    const docs = await folderOf(world, "docs");
    await lend(world, "work", docs);
    const target = await folderOf(world, "mapped");
    await must("mount", "--bind", `${world.runtime}/jails/${firstUid}/lend/docs`, target);
    try {
      assert.match(
        await refused(world, ["work", target]),
        /it lies on a mount of type \w+ that is id-mapped already\n$/,
      );
    } finally {
      await must("umount", target);
    }
  });
});

/** A start that a dispatcher may ask for. */
function start(id: number, lend: readonly unknown[]): unknown {
  return { type: "start", id, uid: firstUid, spec: { ...plainSpec, lend } };
}

jailTest("what a jail is lent from the start is there, all of it, or the jail is not", async () => {
  await using world = await World.start({ linger: 2 });
  await world.run("work", ["true"], { uid: uA });
  assert.equal((await world.client(["stop", "work"], { uid: uA })).code, 0);
  const before = mountsBelow(world.runtime);
  const music = await folderOf(world, "music");
  await fileOf(`${music}/song`, "la\n");
  const wanted = { write: true, at: null, skip_missing: false, unless: null, context: "none" };
  const some = { name: "music", path: music, ...wanted };
  const at = (place: string, name = "music", path = music) => ({ ...some, name, path, at: place });
  {
    using dispatcher = await StandIn.take(world);
    let id = 0;
    const refuse = async (lend: readonly unknown[], words: RegExp): Promise<void> => {
      dispatcher.say(start(++id, lend));
      const answer = await dispatcher.hear();
      assert(answer?.type === "refused" && answer.code === "start-failed", JSON.stringify(answer));
      assert.match(answer.message, words);
      assert.deepEqual(mountsBelow(world.runtime), before);
      assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);
    };
    const missing = { ...some, name: "no", path: `${music}/nothing` };
    await refuse(
      [some, missing],
      /^Cannot start jail "work": Cannot lend "\/.*\/nothing" to "work": there is no such file/,
    );
    await refuse([some, { ...some, at: "/home/work/x" }], /something is lent as "music"$/);
    await refuse([{ ...some, path: "/etc/shadow", skip_missing: true }], /you may not open it$/);
    await refuse(
      [{ ...some, path: "/proc/1/root" }],
      /of type proc, of which nothing can be lent$/,
    );
    await refuse([{ ...some, path: world.data }], /appjail's own is there$|may not open it$/);
    for (
      const place of [
        "/etc/passwd",
        "/usr/bin",
        "/home/work",
        "/home/work/lent/x",
        "/run/appjail",
        "/",
      ]
    ) {
      await refuse([at(place)], /^Cannot start jail "work": Cannot lend "\/.*" to "work": at \//);
    }
    await refuse([at("/mnt/a"), at("/mnt/a/b", "b")], /something below something that is lent$/);
    // A link that the app has laid leads to nothing that is there before the home.
    await Deno.symlink("../../etc", `${world.data}/${firstUid}/trap`);
    dispatcher.say(start(++id, [at("/home/work/trap")]));
    assert.equal((await dispatcher.hear())?.type, "lends");
    assert.equal((await dispatcher.hear())?.type, "starting");
    for (let heard = await dispatcher.hear();; heard = await dispatcher.hear()) {
      assert(heard !== undefined);
      if (heard.type === "refused" || heard.type === "ended") break;
    }
    assert.deepEqual(mountsBelow(world.runtime), before);
    await Deno.remove(`${world.data}/${firstUid}/trap`);
    const places = [at("/home/work/.config/Music"), at("/mnt/song", "song", `${music}/song`)];
    const instead = { ...at("/mnt/instead", "instead"), unless: "song" };
    const other = { ...at("/mnt/other", "other"), unless: "no" };
    const absent = { ...missing, skip_missing: true };
    dispatcher.say(start(++id, [instead, other, ...places, absent]));
    const said = [await dispatcher.hear(), await dispatcher.hear(), await dispatcher.hear()];
    assert.deepEqual(said.map((one) => one?.type), ["lends", "starting", "started"]);
  }
  // The next dispatcher is told of it.
  const [jail] = await until("it is adopted", async () => {
    const all = await world.status(uA);
    return all[0]?.lends.length === 3 ? all : undefined;
  });
  assert.deepEqual(jail.lends.map((one: { at: string }) => one.at), [
    "/home/work/.config/Music",
    "/mnt/song",
    // "no" is not there, so what is only for its place is.
    "/mnt/other",
  ]);
  const script =
    "cat ~/.config/Music/song ~/lent/music/song /mnt/song; echo x > ~/.config/Music/new; ls ~/lent; ls /mnt";
  assert.equal(await inside(world, "work", script), "la\nla\nla\nmusic\nother\nsong\nother\nsong");
  assert.equal((await Deno.stat(`${music}/new`)).uid, uA);
  const { code, stderr } = await world.client(["unlend", "work", "music"], { uid: uA });
  assert.equal(code, 111);
  assert.match(
    stderr,
    /^appjail: Cannot take "music" back from "work": it is there for as long as the jail is; try: appjail stop work\n$/,
  );
  assert.equal((await world.client(["stop", "work"], { uid: uA })).code, 0);
  assert.deepEqual(mountsBelow(world.runtime), before);
});

themeTest("a person's home has a folder for each profile", withPerson, async (t, world) => {
  const home = `${world.folder}/pat`;
  const run = (profile: string, script: string): Promise<string> =>
    world.shell(profile, script, { uid: person });
  const below = (): readonly string[] => mountsBelow(`${world.runtime}/jails`, world.helperPid);

  await t.step(
    "made when it is first used, the person's own, and shared with the jail",
    async () => {
      assert.equal(
        await run(
          "work",
          "echo hello > ~/shared/note; stat -c %u ~/shared ~/shared/note; ls ~/lent",
        ),
        `${firstUid}\n${firstUid}\nshared`,
      );
      for (
        const [path, mode] of [["Shared", 0o700], ["Shared/work", 0o700], [
          "Shared/work/note",
          0o644,
        ]] as const
      ) {
        const status = await Deno.lstat(`${home}/${path}`);
        assert.deepEqual([status.uid, status.gid, (status.mode ?? 0) & 0o777], [
          person,
          personsGroup,
          mode,
        ], path);
      }
      assert.deepEqual([...Deno.readDirSync(home)].map(({ name }) => name), ["Shared"]);
      const { stdout } = await world.client(["status"], { uid: person });
      assert.match(stdout, /^ {2}lent \/home\/work\/shared +rw .*\/pat\/Shared\/work$/m);
    },
  );

  await t.step("another profile has another one, and sees nothing of this", async () => {
    assert.equal(await run("play", "ls -A ~/shared; ls ~/shared/.. "), "lent\nshared");
    assert.equal(await run("work", "cat ~/shared/note"), "hello");
  });

  await t.step("it stays when the jail has ended", async () => {
    assert.equal((await world.client(["stop", "--all"], { uid: person })).code, 0);
    assert.deepEqual(below(), []);
    assert.equal(await run("work", "cat ~/shared/note"), "hello");
    assert.equal((await world.client(["stop", "--all"], { uid: person })).code, 0);
  });

  await t.step(
    "where it cannot be made, the jail starts without it, and the log says why",
    async () => {
      await Deno.rename(`${home}/Shared`, `${home}/kept`);
      const theirs = await folderOf(world, "theirs");
      for (
        const [make, why] of [
          [() => Deno.writeTextFile(`${home}/Shared`, ""), /no folder of yours|no folder/],
          [() => Deno.symlink(theirs, `${home}/Shared`), /is no folder of yours/],
          [() => Deno.symlink("/root", `${home}/Shared`), /may not open it|may not go there/],
        ] as const
      ) {
        await make();
        const log = world.log.length;
        assert.equal(await run("work", "ls -A ~/lent; ls -A ~/shared"), "");
        assert.match(world.log.slice(log), /jail work has no ~\/shared: /);
        assert.match(world.log.slice(log), why);
        assert.equal((await world.client(["stop", "--all"], { uid: person })).code, 0);
        await Deno.remove(`${home}/Shared`);
      }
      assert.deepEqual([...Deno.readDirSync(theirs)], []);
    },
  );

  await t.step("root and the system's accounts have none", async () => {
    assert.equal(
      await world.shell("work", "ls -A ~ ~/lent", { uid: uA }),
      "/home/work:\nlent\n\n/home/work/lent:",
    );
    assert.equal(
      await world.shell("work", "ls -A ~ ~/lent"),
      "/home/work:\nlent\n\n/home/work/lent:",
    );
  });
});
