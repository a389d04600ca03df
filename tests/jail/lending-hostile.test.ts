/**
 * Lending against those who want more of it: a dispatcher that was taken over, links that are
 * swapped, a helper that is killed at any time. No mount is ever left.
 */
import assert from "node:assert/strict";
import { type DispatcherToClient, plainSpec } from "../../core/protocol.ts";
import { fileOf, folderOf, inside, keep, lend, mountsBelow } from "./lent.ts";
import { answerOf, askAs, StandIn } from "./stand-in.ts";
import { asUser, execute, firstUid, jailTest, uA, uB, until, World } from "./world.ts";

/** A request, sent from here: a client of its own would take its time. */
async function ask(world: World, message: object): Promise<DispatcherToClient | undefined> {
  return await answerOf(askAs(uA, world, message));
}

function lending(path: string, name: string, write = false): object {
  return { type: "lend", profile: "work", name, path, write, keep: null };
}

function taking(name: string): object {
  return { type: "unlend", profile: "work", name };
}

/** That the helper's mounts, the jail and the dispatcher's list say the same. */
async function agree(world: World): Promise<readonly string[]> {
  const [jail] = await until("the jail is told of", async () => {
    const all = await world.status(uA);
    return all[0]?.state === "running" ? all : undefined;
  });
  const listed = jail.lends.map(({ name }: { name: string }) => name).sort();
  const folder = `${world.runtime}/jails/${firstUid}/lend`;
  const mounted = mountsBelow(folder).map((path) => path.slice(folder.length + 1)).sort();
  assert.deepEqual(mounted, listed);
  const seen = await inside(world, "work", "ls ~/lent");
  assert.deepEqual(seen.split("\n").filter((name) => name !== "").sort(), listed);
  return listed;
}

jailTest("a dispatcher that was taken over lends nothing that its owner may not open", async () => {
  await using world = await World.start();
  const docs = await folderOf(world, "docs");
  await fileOf(`${world.folder}/uBs`, "", uB);
  await fileOf(`${world.folder}/roots`, "", 0);
  await keep(world, "work");
  await keep(world, "idle");
  await world.client(["stop", "idle"], { uid: uA });
  {
    using dispatcher = await StandIn.take(world);
    const refused = async (message: object, words: RegExp): Promise<void> => {
      const answer = await dispatcher.ask({ id: 1, ...message });
      assert(answer.type === "refused" && answer.code === "lend-refused", JSON.stringify(answer));
      assert.match(answer.message, words);
    };
    const wanted = { type: "lend", uid: firstUid, name: "x", write: true, until: null };
    await refused({ ...wanted, path: `${world.folder}/uBs` }, /you may not open it$/);
    await refused({ ...wanted, path: `${world.folder}/roots` }, /you may not open it$/);
    await refused({ ...wanted, path: "/root" }, /you may not open it$/);
    await refused({ ...wanted, path: "/root/x" }, /you may not go there$/);
    for (
      const path of [
        "/proc/1/root",
        "/proc/self/root",
        "/proc/self/fd/4",
        `/proc/${world.helperPid}/cwd`,
      ]
    ) {
      await refused({ ...wanted, path }, /of type proc, of which nothing can be lent$/);
    }
    for (
      const path of [
        world.runtime,
        "/",
        `${docs}/../`,
        `${world.folder}/.`,
        `/${"./".repeat(2000)}`,
      ]
    ) {
      await refused({ ...wanted, path }, /a folder of appjail's own is there$/);
    }
    await refused({ ...wanted, path: world.data }, /appjail's own is there$|may not open it$/);
    await refused({ ...wanted, path: `/${"x".repeat(300)}` }, /a name in it is too long$/);
    await refused({ ...wanted, path: "/dev/mem" }, /of type devtmpfs/);
    // One that does not run, and one that was never lent.
    await refused({ ...wanted, uid: firstUid + 1, path: docs }, /"idle": it does not run$/);
    await refused({ type: "unlend", uid: firstUid, name: "x" }, /nothing of that name is lent/);
    for (let count = 0; count < 256; count++) {
      const answer = await dispatcher.ask(
        { ...wanted, id: count, name: `${count}`, path: docs } as never,
      );
      assert.equal(answer.type, "lent", JSON.stringify(answer));
    }
    await refused({ ...wanted, path: docs }, /256 are lent already$/);
    // A dispatcher that keeps no rules is gone, and the jails are as they were.
    dispatcher.say({ ...wanted, id: 5, name: "../../x", path: docs });
    await dispatcher.dropped();
  }
  assert.equal((await agree(world)).length, 256);
  assert.equal((await world.client(["stop", "--all", "--force"], { uid: uA })).code, 0);
  assert.deepEqual(mountsBelow(`${world.runtime}/jails`), []);
});

jailTest("paths that are long together are too long for a table, and for no message", async () => {
  await using world = await World.start();
  let path = await folderOf(world, "deep");
  for (let depth = 0; depth < 14; depth++) {
    path = await folderOf(world, `${path}/${"ä".repeat(120)}`);
  }
  await keep(world, "work");
  let lent = 0;
  for (;; lent++) {
    const answer = await ask(world, lending(path, `${lent}`));
    if (answer?.type === "done") continue;
    assert(answer?.type === "failed" && answer.code === "lend-refused", JSON.stringify(answer));
    assert.match(answer.message, /the paths of all that is lent are too long together$/);
    break;
  }
  assert(lent > 20, `${lent}`);
  assert.equal((await agree(world)).length, lent);
});

jailTest(
  "a link that is swapped all the time lends what its owner may open, or nothing",
  async () => {
    await using world = await World.start();
    const mine = await folderOf(world, "mine");
    await fileOf(`${mine}/file`, "mine\n");
    const theirs = await folderOf(world, "theirs", 0, 0o700);
    await fileOf(`${theirs}/file`, "root's\n", 0, 0o644);
    const place = await folderOf(world, "place");
    await keep(world, "work");
    // The last part, one on the way, and a folder and a link that take turns.
    const script =
      'cd "$1"; ln -s ../mine a; ln -s ../theirs b; ln -s ../mine/file c; ln -s ../theirs/file d; ' +
      "mkdir e; echo mine > e/file; exec perl -e 'for (;;) { rename q(a), q(x); rename q(b), q(a); rename q(x), q(b); " +
      "rename q(c), q(y); rename q(d), q(c); rename q(y), q(d); " +
      "rename q(e), q(z); rename q(b), q(e); rename q(e), q(b); rename q(z), q(e) }'";
    const [command = "", ...args] = asUser(uA, ["sh", "-c", script, "sh", place]);
    const swapping = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      await until("it swaps", () => [...Deno.readDirSync(place)].length >= 5);
      const outcomes = { lent: 0, refused: 0 };
      for (let turn = 0; turn < 300; turn++) {
        const path = `${place}/${["a/file", "c", "e/file", "b/file", "a"][turn % 5]}`;
        const answer = await ask(world, lending(path, "x", true));
        if (answer?.type === "failed") {
          assert.equal(answer.code, "lend-refused", answer.message);
          outcomes.refused++;
          continue;
        }
        assert.equal(answer?.type, "done");
        outcomes.lent++;
        const at = `${world.runtime}/jails/${firstUid}/lend/x`;
        const file = Deno.statSync(at).isFile ? at : `${at}/file`;
        assert.equal(Deno.readTextFileSync(file), "mine\n", path);
        assert.equal((await ask(world, taking("x")))?.type, "done");
      }
      assert(outcomes.lent > 10 && outcomes.refused > 10, JSON.stringify(outcomes));
    } finally {
      swapping.kill("SIGKILL");
      await swapping.status;
    }
    assert.deepEqual(await agree(world), []);
  },
);

jailTest("a thousand lends and unlends leave nothing", async () => {
  await using world = await World.start();
  const docs = await folderOf(world, "docs");
  await fileOf(`${docs}/file`, "text\n");
  await keep(world, "work");
  const [before, open] = [mountsBelow(world.folder), openIn(world.helperPid)];
  for (let turn = 0; turn < 1000; turn++) {
    const path = turn % 2 === 0 ? docs : `${docs}/file`;
    assert.equal((await ask(world, lending(path, "x", turn % 3 === 0)))?.type, "done");
    if (turn % 250 === 0) {
      assert.match(
        await inside(world, "work", "cat ~/lent/x ~/lent/x/file 2>/dev/null; true"),
        /^text$/,
      );
    }
    assert.equal((await ask(world, taking("x")))?.type, "done");
  }
  assert.deepEqual(await agree(world), []);
  assert.deepEqual(mountsBelow(world.folder), before);
  // The namespace of the jail's ids is kept.
  assert(openIn(world.helperPid) <= open + 1);
  assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails/${firstUid}/lend`)], []);
});

/** How many descriptors a process has. */
function openIn(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

jailTest(
  "the next dispatcher, and the next daemon, know what is lent, and when it ends",
  async () => {
    await using world = await World.start();
    const docs = await folderOf(world, "docs");
    await keep(world, "work");
    await lend(world, "work", docs, "--as", "stays", "--rw");
    await lend(world, "work", docs, "--as", "timed", "--for", "1h");
    const told = (await world.status(uA))[0].lends;
    assert.equal(told.length, 2);
    Deno.kill(await world.dispatcherPid(), "SIGKILL");
    await until("another dispatcher tells the same", async () => {
      const [jail] = await world.status(uA).catch(() => []);
      return jail?.lends.length === 2 && JSON.stringify(jail.lends) === JSON.stringify(told);
    });
    assert.equal(await world.stopDaemon(), 0);
    // Its time ends while no daemon is there.
    const file = `${world.runtime}/jails/${firstUid}/lends`;
    assert.deepEqual(((await Deno.stat(file)).mode ?? 0) & 0o777, 0o600);
    const table = JSON.parse(Deno.readTextFileSync(file));
    table.lends[1].until = Date.now() - 1;
    Deno.writeTextFileSync(file, JSON.stringify(table));
    await world.startDaemon();
    await until("that one is taken back", async () => {
      const [jail] = await world.status(uA);
      return jail.lends.length === 1;
    });
    assert.deepEqual(await agree(world), ["stays"]);
    await inside(world, "work", "touch ~/lent/stays/x");
    assert.equal((await ask(world, taking("stays")))?.type, "done");
    assert.deepEqual(await agree(world), []);
  },
);

jailTest("what an earlier helper has left half is taken away, or done with", async () => {
  await using world = await World.start();
  const docs = await folderOf(world, "docs");
  const theirs = await folderOf(world, "theirs", uB, 0o700);
  await keep(world, "work");
  for (const name of ["whole", "unmounted", "untold"]) {
    await lend(world, "work", docs, "--as", name);
  }
  Deno.kill(world.helperPid, "SIGKILL");
  await world.daemonEnded();
  const jail = `${world.runtime}/jails/${firstUid}`;
  // Killed after its umount; before its table; with a place for a mount; with two in one place.
  assert.equal((await execute(["umount", `${jail}/lend/unmounted`])).code, 0);
  const table = JSON.parse(Deno.readTextFileSync(`${jail}/lends`));
  table.lends = table.lends.filter(({ name }: { name: string }) => name !== "untold");
  table.lends.push({ ...table.lends[0], name: "never" });
  Deno.writeTextFileSync(`${jail}/lends`, JSON.stringify(table));
  Deno.mkdirSync(`${jail}/lend/place`);
  Deno.writeTextFileSync(`${jail}/lend/file`, "");
  assert.equal((await execute(["mount", "--bind", theirs, `${jail}/lend/untold`])).code, 0);
  await world.startDaemon();
  assert.deepEqual(await agree(world), ["whole"]);
  assert.deepEqual([...Deno.readDirSync(`${jail}/lend`)].map(({ name }) => name), ["whole"]);
  // A table that cannot be understood is none: then everything is taken back.
  for (const text of ["", "{}", "[]", '{"version":1,"lends":[{"name":"../x"}]}']) {
    Deno.kill(world.helperPid, "SIGKILL");
    await world.daemonEnded();
    Deno.writeTextFileSync(`${jail}/lends`, text);
    await world.startDaemon();
    assert.deepEqual(await agree(world), []);
    await lend(world, "work", docs);
  }
  // A jail that ends while no daemon is there.
  Deno.kill(world.helperPid, "SIGKILL");
  await world.daemonEnded();
  const { pid } = JSON.parse(Deno.readTextFileSync(`${jail}/state`));
  Deno.kill(pid, "SIGKILL");
  await world.startDaemon();
  assert.deepEqual(mountsBelow(`${world.runtime}/jails`), []);
  assert.equal(await inside(world, "work", "ls -A ~/lent"), "");
});

jailTest("a helper that is killed at any time while it lends leaves no mount", async () => {
  await using world = await World.start();
  const docs = await folderOf(world, "docs");
  await keep(world, "work");
  for (let turn = 0; turn < 10; turn++) {
    const name = (at: number): string => `${turn}-${at}`;
    const all = Array.from(
      { length: 40 },
      (_, at) => ask(world, at % 3 === 2 ? taking(name(at - 2)) : lending(docs, name(at))),
    );
    // After so many answers: each time it is somewhere else.
    let over = 0;
    for (const one of all) void one.finally(() => over++);
    await until("some are done", () => over >= turn * 4);
    Deno.kill(world.helperPid, "SIGKILL");
    await Promise.all(all);
    await world.daemonEnded();
    await world.startDaemon();
    for (const left of await agree(world)) {
      assert.equal((await ask(world, taking(left)))?.type, "done");
    }
    assert.deepEqual(await agree(world), []);
  }
  assert.equal((await world.client(["stop", "--all"], { uid: uA })).code, 0);
  assert.deepEqual(mountsBelow(`${world.runtime}/jails`), []);
});

jailTest(
  "a helper that is killed while a jail starts with what it is lent leaves no mount",
  async () => {
    await using world = await World.start({ linger: 1 });
    const docs = await folderOf(world, "docs");
    await world.run("work", ["true"], { uid: uA });
    const all = Array.from({ length: 50 }, (_, at) => ({
      name: `${at}`,
      path: docs,
      write: false,
      at: at % 2 === 0 ? `/mnt/${at}` : null,
      skip_missing: false,
      context: "none",
      unless: null,
    }));
    const jail = `${world.runtime}/jails/${firstUid}`;
    const lent = (): number => mountsBelow(`${jail}/lend`).length;
    const there = (path: string): boolean => {
      try {
        Deno.lstatSync(path);
        return true;
      } catch {
        return false;
      }
    };
    const steps: readonly (() => boolean)[] = [
      () => there(`${jail}/lend`),
      () => mountsBelow(jail).length > 0,
      ...[1, 10, 30, 50].map((count) => () => lent() >= count),
      () => there(`${jail}/state`),
    ];
    for (const seen of steps) {
      await world.client(["stop", "--all", "--force"], { uid: uA });
      {
        using dispatcher = await StandIn.take(world);
        dispatcher.say({
          type: "start",
          id: 1,
          uid: firstUid,
          spec: { ...plainSpec, lend: all },
        });
        // Nothing is awaited: the helper is not to get ahead.
        const limit = Date.now() + 20_000;
        while (!seen() && !there(`${jail}/state`)) assert(Date.now() < limit);
        Deno.kill(world.helperPid, "SIGKILL");
      }
      await world.daemonEnded();
      await world.startDaemon();
      assert.equal(
        await world.client(["stop", "--all", "--force"], { uid: uA }).then(({ code }) => code),
        0,
      );
      await until("the jail has ended", () => !there(jail));
      assert.deepEqual(mountsBelow(`${world.runtime}/jails`), []);
      assert.equal(
        await inside(world, "work", "ls -A ~/lent; ls -d /mnt 2>/dev/null; true"),
        "",
      );
    }
  },
);
