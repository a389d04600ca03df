/**
 * Lending: what of its owner's a jail is lent, what that is inside, and what is never lent (issue
 * "desktop", proof 4).
 */
import assert from "node:assert/strict";
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
import { execute, firstUid, jailTest, themeTest, uA, uB, until, World } from "./world.ts";

themeTest("what is lent to a jail that runs", { linger: 1 }, async (t, world) => {
  const docs = await folderOf(world, "docs");
  await fileOf(`${docs}/letter`, "dear\n");
  await keep(world, "work");
  const jail = `${world.runtime}/jails/${firstUid}`;
  const before = mountsBelow(jail);

  await t.step("a folder is the app's own inside, and the owner's outside", async () => {
    assert.equal(
      await lend(world, "work", docs, "--rw"),
      "lent '~/lent/docs' to work, to be changed; until work ends, or appjail unlend work docs\n",
    );
    const words =
      "cat letter; stat -c '%u %g' letter; echo new > new; mkdir d; mv new d; ls ~/lent";
    assert.equal(
      await inside(world, "work", `cd ~/lent/docs; ${words}`),
      `dear\n${firstUid} ${firstUid}\ndocs`,
    );
    for (const made of [`${docs}/d`, `${docs}/d/new`]) {
      const { uid, gid } = await Deno.stat(made);
      assert.deepEqual([uid, gid], [uA, groups[uA]], made);
    }
    assert.equal(await Deno.readTextFile(`${docs}/d/new`), "new\n");
  });

  await t.step("what happens on one side is seen on the other", async () => {
    await Deno.rename(`${docs}/letter`, `${docs}/moved`);
    assert.equal(
      await inside(world, "work", "cd ~/lent/docs; ls; rm -r d; mv moved letter"),
      "d\nmoved",
    );
    assert.deepEqual([...Deno.readDirSync(docs)].map(({ name }) => name), ["letter"]);
  });

  await t.step("it is gone when it is taken back", async () => {
    assert.equal(await unlend(world, "work", "docs"), "taken back '~/lent/docs' from work\n");
    assert.equal(await inside(world, "work", "ls -A ~/lent"), "");
    assert.deepEqual(mountsBelow(jail), before);
  });

  await t.step(
    "read-only is the default, and nothing in the folder of what is lent can be made",
    async () => {
      await lend(world, "work", docs);
      const writes = [
        "echo x > docs/letter",
        "touch docs/x",
        "rm docs/letter",
        "touch x",
        "rmdir docs",
      ];
      for (const command of [...writes, "chmod 777 .", "mv docs x", "mount -o remount,rw docs"]) {
        assert.equal(
          await inside(world, "work", `cd ~/lent; (${command}) 2>/dev/null || echo no`),
          "no",
          command,
        );
      }
      assert.equal(await Deno.readTextFile(`${docs}/letter`), "dear\n");
      await unlend(world, "work", "docs");
    },
  );

  await t.step("to be changed is what the owner may change, and nothing else", async () => {
    const theirs = await folderOf(world, "theirs", uB);
    await fileOf(`${theirs}/open`, "uB's\n", uB, 0o644);
    await fileOf(`${theirs}/hidden`, "uB's\n", uB, 0o600);
    await lend(world, "work", theirs, "--rw");
    const script = "cd ~/lent/theirs; stat -c '%u %g' open; cat open; " +
      "for c in 'cat hidden' 'echo x > open' 'touch x' 'rm -f open'; do (eval $c) 2>/dev/null || echo no; done";
    assert.equal(await inside(world, "work", script), "65534 65534\nuB's\nno\nno\nno\nno");
    await unlend(world, "work", "theirs");
  });

  await t.step("a single file, a name of one's own, a path from where one is", async () => {
    const { code, stdout, stderr } = await world.client(
      ["lend", "work", "letter", "--as", "Ein Brief.txt", "--rw"],
      { uid: uA, cwd: docs },
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^lent '~\/lent\/Ein Brief\.txt' to work, to be changed; /);
    const script = "cd ~/lent; cat *; echo more >> 'Ein Brief.txt'; rm -f * 2>/dev/null; ls";
    assert.equal(await inside(world, "work", script), "dear\nEin Brief.txt");
    assert.equal(await Deno.readTextFile(`${docs}/letter`), "dear\nmore\n");
    // An editor that saves by renaming puts another file in its place: the one that was lent stays.
    await fileOf(`${docs}/letter.new`, "other\n");
    await Deno.rename(`${docs}/letter.new`, `${docs}/letter`);
    assert.equal(await inside(world, "work", "cat ~/lent/*"), "dear\nmore");
    await unlend(world, "work", "Ein Brief.txt");
  });

  await t.step(
    "links lead to what the jail itself has there, and to nothing of the owner's",
    async () => {
      const links = await folderOf(world, "links");
      const secret = await folderOf(world, "secret");
      await fileOf(`${secret}/key`, "key\n");
      for (
        const [name, target] of [["up", "../secret/key"], ["whole", `${secret}/key`], [
          "passwd",
          "/etc/passwd",
        ]]
      ) {
        await Deno.symlink(target ?? "", `${links}/${name}`);
      }
      await lend(world, "work", links);
      const script =
        "cd ~/lent/links; for f in up whole; do cat $f 2>/dev/null || echo none; done; " +
        "grep -c ^games: passwd; ls ../secret ../../secret 2>/dev/null; ls -d ~/lent/links/../../../*";
      assert.equal(
        await inside(world, "work", script),
        "none\nnone\n1\n/home/work/lent/links/../../../work",
      );
      await unlend(world, "work", "links");
      // On the way to what is lent they are followed, as the owner would.
      await Deno.symlink(secret, `${docs}/there`);
      await lend(world, "work", `${docs}/there/key`);
      assert.equal(await inside(world, "work", "cat ~/lent/key"), "key");
      await unlend(world, "work", "key");
    },
  );

  await t.step("what is mounted below is not lent, nor what is mounted there later", async () => {
    const outer = await folderOf(world, "outer");
    for (const name of ["before", "after"]) await Deno.mkdir(`${outer}/${name}`);
    const mount = async (name: string): Promise<void> => {
      const { code } = await execute([
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "mode=0777,size=64k",
        "x",
        `${outer}/${name}`,
      ]);
      assert.equal(code, 0);
      await Deno.writeTextFile(`${outer}/${name}/file`, "");
    };
    await execute(["mount", "--bind", outer, outer]);
    await execute(["mount", "--make-shared", outer]);
    try {
      await mount("before");
      await lend(world, "work", outer);
      await mount("after");
      assert.equal(
        await inside(world, "work", "cd ~/lent/outer; ls; ls before after"),
        "after\nbefore\nafter:\n\nbefore:",
      );
      await unlend(world, "work", "outer");
    } finally {
      for (const name of ["before", "after", ""]) {
        await execute(["umount", "-l", `${outer}/${name}`]);
      }
    }
  });

  await t.step("set-user-id bits and devices have no effect", async () => {
    const tools = await folderOf(world, "tools");
    await Deno.copyFile("/usr/bin/id", `${tools}/id`);
    await Deno.chown(`${tools}/id`, uA, groups[uA] ?? uA);
    await Deno.chmod(`${tools}/id`, 0o4755);
    await execute(["mknod", "-m", "666", `${tools}/zero`, "c", "1", "5"]);
    await lend(world, "work", tools);
    assert.equal(
      await inside(
        world,
        "work",
        "~/lent/tools/id -u; head -c1 ~/lent/tools/zero 2>/dev/null || echo no",
      ),
      `${firstUid}\nno`,
    );
    await unlend(world, "work", "tools");
  });

  await t.step("a socket can be connected to, by this jail and by no other uid", async () => {
    const path = `${docs}/socket`;
    using listener = Deno.listen({ transport: "unix", path });
    await Deno.chown(path, uA, groups[uA] ?? uA);
    await Deno.chmod(path, 0o600);
    const serving = (async () => {
      for await (const connection of listener) {
        await connection.write(new TextEncoder().encode("served"));
        connection.close();
      }
    })();
    await lend(world, "work", path);
    const connect = (
      to: string,
    ) => [
      "perl",
      "-MIO::Socket::UNIX",
      "-e",
      "print +(IO::Socket::UNIX->new($ARGV[0]) // die)->getline",
      to,
    ];
    assert.equal(await world.run("work", connect("/home/work/lent/socket"), { uid: uA }), "served");
    // As the socket itself refuses, so does where it is lent from.
    for (const to of [path, `${world.runtime}/jails/${firstUid}/lend/socket`]) {
      const { code } = await execute([
        "setpriv",
        `--reuid=${firstUid + 1}`,
        "--clear-groups",
        "--",
        ...connect(to),
      ]);
      assert.notEqual(code, 0, to);
    }
    assert.equal(await world.shell("play", "ls -A ~/lent; ls /home", { uid: uA }), "play");
    await unlend(world, "work", "socket");
    listener.close();
    await serving;
  });

  await t.step("a program that has it open keeps that, and cannot reach it any more", async () => {
    await lend(world, "work", docs, "--as", "first");
    const { code, stdout } = await world.client(
      [
        "run",
        "-p",
        "work",
        "--detach",
        "--",
        "sh",
        "-c",
        "exec 9< ~/lent/first/letter; echo open > ~/open; until [ -e ~/go ]; do sleep 0.02; done; cat <&9 > ~/read; ls ~/lent >> ~/read; mv ~/read ~/done",
      ],
      { uid: uA },
    );
    assert.equal(code, 0);
    await until("it has it open", () => exists(`${world.data}/${firstUid}/open`));
    await unlend(world, "work", "first");
    assert.equal(await inside(world, "work", "touch ~/go; ls -A ~/lent"), "");
    await until(`${stdout} is done`, () => exists(`${world.data}/${firstUid}/done`));
    assert.equal(await inside(world, "work", "cat ~/done"), "other");
    assert.deepEqual(mountsBelow(jail), before);
  });

  await t.step("it is listed, and ends by itself when its time is over", async () => {
    await lend(world, "work", docs, "--for", "1h");
    await lend(world, "work", `${docs}/letter`, "--rw", "--as", "a b");
    const [{ lends: [one, other] }] = await world.status(uA);
    assert(Math.abs(one.until - Date.now() - 3_600_000) < 60_000);
    assert.deepEqual(
      [{ ...one, until: 0 }, other],
      [
        { name: "docs", path: docs, write: false, until: 0, at: null, context: false },
        { name: "a b", path: `${docs}/letter`, write: true, until: null, at: null, context: false },
      ],
    );
    const { stdout } = await world.client(["status"], { uid: uA });
    assert.match(stdout, /^ {2}lent '~\/lent\/docs' +ro {2}until [0-9]{2}:[0-9]{2} +\/.*\/docs$/m);
    assert.match(stdout, /^ {2}lent '~\/lent\/a b' +rw {2} +\/.*\/docs\/letter$/m);
    await unlend(world, "work", "a b");
    await unlend(world, "work", "docs");
    await lend(world, "work", docs, "--for", "1s");
    await until("its time is over", async () => (await world.status(uA))[0].lends.length === 0);
    assert.equal(await inside(world, "work", "ls -A ~/lent"), "");
  });

  await t.step("what the owner may not open is not lent", async () => {
    const closed = await folderOf(world, "closed", uB, 0o700);
    await fileOf(`${closed}/file`, "", uB, 0o644);
    await fileOf(`${world.folder}/roots`, "", 0, 0o600);
    await fileOf(`${world.folder}/uBs`, "", uB, 0o640);
    for (const path of [closed, `${world.folder}/roots`, `${world.folder}/uBs`, "/etc/shadow"]) {
      assert.match(await refused(world, ["work", path]), /: you may not open it\n$/);
    }
    assert.match(await refused(world, ["work", `${closed}/file`]), /: you may not go there\n$/);
    assert.match(
      await refused(world, ["work", `${docs}/nothing`]),
      /: there is no such file or folder\n$/,
    );
    assert.match(
      await refused(world, ["work", `${docs}/letter/x`]),
      /: a part of it is no folder\n$/,
    );
    await Deno.symlink("loop", `${docs}/loop`);
    assert.match(
      await refused(world, ["work", `${docs}/loop`]),
      /: too many symbolic links are on the way\n$/,
    );
    // A group of the owner's opens what it opens to the owner.
    await fileOf(`${world.folder}/groups`, "", 0, 0o640, groups[uA]);
    await lend(world, "work", `${world.folder}/groups`);
    await unlend(world, "work", "groups");
  });

  await t.step("what is no file of anybody's is not lent, nor what is appjail's own", async () => {
    const of = (type: string) =>
      new RegExp(`it lies on a file system of type ${type}, of which nothing can be lent\n$`);
    for (
      const path of [
        "/proc",
        "/proc/1/root",
        "/proc/self/root",
        "/proc/self/fd/3",
        "/proc/self/cwd",
      ]
    ) {
      assert.match(await refused(world, ["work", path, "--as", "x"]), of("proc"), path);
    }
    assert.match(await refused(world, ["work", "/sys"]), of("sysfs"));
    assert.match(await refused(world, ["work", "/dev/null"]), of("devtmpfs"));
    await Deno.symlink("/proc/self/root", `${docs}/root`);
    assert.match(await refused(world, ["work", `${docs}/root/`, "--as", "x"]), of("proc"));
    await execute(["mkfifo", "-m", "666", `${docs}/fifo`]);
    await execute(["mknod", "-m", "666", `${docs}/device`, "c", "1", "3"]);
    for (const name of ["fifo", "device"]) {
      assert.match(
        await refused(world, ["work", `${docs}/${name}`]),
        /neither a folder, nor a file, nor a socket\n$/,
      );
    }
    const own = /: a folder of appjail's own is there\n$/;
    await Deno.symlink(world.runtime, `${docs}/run`);
    // Neither a part of it, nor what it lies in.
    for (
      const path of [
        world.runtime,
        `${docs}/run/`,
        `${world.runtime}/appjail.sock`,
        world.folder,
        "/",
      ]
    ) {
      assert.match(await refused(world, ["work", path, "--as", "x"]), own, path);
    }
    for (const path of [world.data, world.state]) {
      assert.match(
        await refused(world, ["work", path, "--as", "x"]),
        /may not open it|appjail's own/,
        path,
      );
    }
  });

  await t.step("a name is one name, of something that is there once", async () => {
    for (const name of ["", ".", "..", "../x", "a/b", "a\nb", "x".repeat(201)]) {
      const { code, stderr } = await world.client(["lend", "work", docs, "--as", name], {
        uid: uA,
      });
      assert.equal(code, 100, name);
      assert.match(stderr, /^appjail: Cannot use /);
    }
    await lend(world, "work", docs);
    assert.match(await refused(world, ["work", docs]), /: something is lent as "docs"\n$/);
    await unlend(world, "work", "docs");
    const { code, stderr } = await world.client(["unlend", "work", "docs"], { uid: uA });
    assert.equal(code, 111);
    assert.equal(
      stderr,
      'appjail: Cannot take "docs" back from "work": nothing of that name is lent; see: appjail status work\n',
    );
  });

  await t.step("another person's jail is lent nothing, and tells nothing", async () => {
    await lend(world, "work", docs);
    for (const words of [["lend", "work", docs], ["unlend", "work", "docs"]]) {
      const { code, stderr } = await world.client(words, { uid: uB });
      assert.equal(code, 111);
      assert.equal(stderr, 'appjail: You have no profile "work"\n');
    }
    assert.equal(await inside(world, "work", "ls ~/lent"), "docs");
    await unlend(world, "work", "docs");
  });

  await t.step("root's profiles are lent nothing", async () => {
    await keep(world, "roots", 0);
    assert.match(
      await refused(world, ["roots", "/etc"], 0),
      /: root's profiles are lent nothing\n$/,
    );
  });

  await t.step("a file that a command names is lent to it, to read, while it runs", async () => {
    const report = `${docs}/report.txt`;
    await fileOf(report, "mine\n");
    const run = async (...words: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await world.client(["run", "-p", "work", ...words], {
        uid: uA,
        cwd: docs,
      });
      assert.equal(code, 0, stderr);
      return stdout;
    };
    // A jail of its own each time: then nothing else runs, and a name is free again.
    await world.client(["stop", "--all", "--force"], { uid: uA });
    const show = ["sh", "-c", 'echo "$@"; cat "$1"; (echo x > "$1") 2>/dev/null || echo no', "sh"];
    const where = "/home/work/lent/report.txt";
    const ended = (): Promise<unknown> =>
      until(
        "it is taken back",
        () => mountsBelow(`${world.runtime}/jails/${firstUid}/lend`).length === 0,
      );
    for (const path of [report, "report.txt", "./report.txt", "../docs/report.txt"]) {
      assert.equal(await run(...show, path, "more"), `${where} more\nmine\nno\n`);
      await ended();
    }
    // Twice the same is two names, which end as it does.
    assert.equal(await run("cat", report, report), "mine\nmine\n");
    await ended();
    assert.equal(await run("echo", report, report), `${where} /home/work/lent/report-2.txt\n`);
    await ended();
    // What is no whole word, no file, nobody's, or somebody else's, stays as it is.
    await Deno.mkdir(`${docs}/folder`);
    await fileOf(`${docs}/roots`, "", 0, 0o644);
    const plain = [`--file=${report}`, `${docs}/folder`, `${docs}/nothing`, `${docs}/roots`];
    const other = ["", "-", "/usr/bin/id", "/etc/passwd", ...plain];
    assert.equal(await run("echo", ...other), `${other.join(" ")}\n`);
    assert.equal(await run("--no-auto-lend", "echo", report), `${report}\n`);
    // In a folder of its own, the program's words are meant from there.
    assert.equal(await run("--cwd", "/tmp", "echo", "report.txt"), "report.txt\n");
    assert.equal(await run("--cwd", "/tmp", "echo", report), `${where}\n`);
    await ended();
    // What cannot be run is lent nothing.
    const { code } = await world.client(["run", "-p", "work", "nonsense", report], { uid: uA });
    assert.equal(code, 127);
    await ended();
  });

  await t.step(
    "there is no more of it when the jail has ended, and a jail has to run",
    async () => {
      await keep(world, "work");
      await lend(world, "work", docs, "--rw");
      await lend(world, "work", `${docs}/letter`);
      assert.equal((await world.client(["stop", "--all", "--force"], { uid: uA })).code, 0);
      assert.deepEqual(mountsBelow(`${world.runtime}/jails/${firstUid}`), []);
      assert.equal(
        await refused(world, ["work", docs]),
        `appjail: Cannot lend ${
          JSON.stringify(docs)
        } to "work": no program of it runs; start one first, ` +
          "such as: appjail shell work\n",
      );
      assert.equal(await inside(world, "work", "ls -A ~/lent"), "");
    },
  );
});

jailTest("a file that a program names stays while others may have got it from there", async () => {
  await using world = await World.start({ linger: 600 });
  const file = `${await folderOf(world, "docs")}/file`;
  await fileOf(file, "mine\n");
  const names = async (): Promise<readonly string[]> =>
    (await world.status(uA))[0].lends.map(({ name }: { name: string }) => name);
  // Nothing else runs: it is taken back with the program's end, and the jail stays.
  assert.equal(await world.run("work", ["cat", file], { uid: uA }), "mine");
  await until("it is taken back", async () => (await names()).length === 0);
  // Something runs to which it may have been handed over.
  await keep(world, "work");
  assert.equal(await world.run("work", ["cat", file], { uid: uA }), "mine");
  assert.deepEqual(await names(), ["file"]);
  assert.equal(await world.run("work", ["cat", file], { uid: uA }), "mine");
  assert.deepEqual(await names(), ["file", "file-2"]);
  // A program that is started by two at a time has a file for each.
  const both = await Promise.all(
    [1, 2, 3].map(() => world.run("work", ["cat", file], { uid: uA })),
  );
  assert.deepEqual(both, ["mine", "mine", "mine"]);
  assert.equal((await names()).length, 5);
  assert.equal((await world.client(["unlend", "work", "file-2"], { uid: uA })).code, 0);
});

jailTest("what cannot be lent to a program that names it keeps it from being run", async () => {
  await using world = await World.start();
  const [lower, upper, work, merged] = await Promise.all(
    ["lower", "upper", "work", "merged"].map((name) => folderOf(world, name)),
  );
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  const mounted = await execute(["mount", "-t", "overlay", "-o", options, "x", `${merged}`]);
  assert.equal(mounted.code, 0, mounted.stderr);
  try {
    await fileOf(`${merged}/file`, "mine\n");
    const { code, stdout, stderr } = await world.client(
      ["run", "-p", "work", "cat", `${merged}/file`],
      { uid: uA },
    );
    // A kernel that can id-map it lends it.
    if (code === 0) assert.equal(stdout, "mine\n");
    else {assert.match(
        stderr,
        /^appjail: Cannot lend .* cannot id-map; to run it without: --no-auto-lend\n$/,
      );}
    assert.equal(
      (await world.client(["run", "-p", "work", "--no-auto-lend", "echo", `${merged}/file`], {
        uid: uA,
      })).code,
      0,
    );
  } finally {
    await execute(["umount", "-l", `${merged}`]);
  }
});

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
