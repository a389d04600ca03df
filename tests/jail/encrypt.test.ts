/**
 * Plain homes that become encrypted and plain again, as a person lets them: through the client, with
 * real encfs and gocryptfs.
 */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { allPids, parentOf } from "../../core/process.ts";
import { volumeKinds } from "../../core/protocol.ts";
import { listing, makeOddTree } from "./odd-tree.ts";
import { allLocked, passphrase, remains, shell, withPassphrase } from "./volumes.ts";
import { firstUid, type Outcome, themeTest, until, type World } from "./world.ts";

const other = "another-Staple9clip";

/** Runs a program in a home, and says what it printed. */
async function inHome(world: World, script: string, secret = passphrase): Promise<Outcome> {
  return await withPassphrase(world, ["run", "-p", "work", "--", "sh", "-euc", script], secret);
}

/** What there is in the data root. */
function inRoot(world: World): Promise<string> {
  return shell('ls -A "$1" | grep -v "^.lock$" | tr "\\n" " "', world.data);
}

async function stopped(world: World): Promise<void> {
  assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
  await allLocked(world);
}

const longestNames = { encfs: 167, gocryptfs: 255 } as const;
const grains = { encfs: 1000, gocryptfs: 1 } as const;

for (const kind of volumeKinds) {
  themeTest(`a home becomes ${kind} and plain again`, {}, async (t, world) => {
    const uid = Number(await world.shell("work", "id -u"));
    await stopped(world);
    const home = `${world.data}/${uid}`;
    await makeOddTree(home, longestNames[kind]);
    // But for when the home's own folder was changed: a new passphrase is written to it.
    const look = async () =>
      (await listing(home, grains[kind])).map((line) =>
        line.startsWith('["",') ? line.replace(/"-?\d+\.\d+"/, "-") : line
      );
    const before = await look();

    await t.step("the plain one is removed when it was said so", async () => {
      const { code, stdout, stderr } = await withPassphrase(world, [
        ...["encrypt", "--yes", "--with", kind, "work"],
      ]);
      assert.equal(code, 0, stderr + world.log.slice(-2000));
      assert.match(stdout, /^encrypted work; \d+ files, 3\d MB, verified\n$/);
      assert.match(stderr, /attributes of the system's own/);
      assert.match(stderr, /the old home is removed\n$/);
      assert.deepEqual(remains(world), []);
      assert.equal(await inRoot(world), `${uid} `);
      assert.equal((await world.status())[0].home.kind, kind);
      await assert.rejects(Deno.lstat(`${home}/big`));
    });
    await t.step("a program runs in it", async () => {
      const { code, stdout, stderr } = await inHome(world, "cat a; stat -c %u:%a .");
      assert.equal(code, 0, stderr);
      assert.equal(stdout, `hello${uid}:700\n`);
      await stopped(world);
    });
    await t.step("it gets another passphrase from who knows the one it has", async () => {
      const passwd = (lines: string) => withPassphrase(world, ["passwd", "work"], lines);
      const wrong = await passwd(`wrong\n${other}`);
      assert.equal(wrong.code, 111);
      assert.match(wrong.stderr, /is wrong/);
      const { code, stderr } = await passwd(`${passphrase}\n${other}`);
      assert.equal(code, 0, stderr);
      assert.equal((await inHome(world, "true")).code, 111);
      assert.equal((await inHome(world, "cat a", other)).stdout, "hello");
      await stopped(world);
    });
    await t.step("what it is already, it does not become", async () => {
      const { code, stderr } = await withPassphrase(world, ["encrypt", "work"]);
      assert.equal(code, 111);
      assert.match(stderr, new RegExp(`home of "work": it is encrypted already \\(${kind}\\)`));
    });
    await t.step("decrypted, it is what it was", async () => {
      const wrong = await withPassphrase(world, ["decrypt", "work"]);
      assert.equal(wrong.code, 111);
      assert.match(wrong.stderr, /is wrong/);
      const { code, stdout, stderr } = await withPassphrase(world, ["decrypt", "work"], other);
      assert.equal(code, 0, stderr);
      assert.match(
        stdout,
        /^decrypted work; .*\nthe encrypted copy is still there; .* decrypt work\n$/,
      );
      assert.deepEqual(remains(world), []);
      assert.deepEqual(await look(), before);
      assert.equal(await world.shell("work", "cat a"), "hello");
      await stopped(world);
    });
    await t.step("the old one is asked about again", async () => {
      const refused = await withPassphrase(world, ["encrypt", "work"]);
      assert.match(refused.stderr, /decide on it first: appjail decrypt work/);
      const { code, stdout, stderr } = await world.client(["decrypt", "--keep-volume", "work"]);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /^work was decrypted before; its encrypted copy is still there\n$/);
      assert.equal(await inRoot(world), `${uid} ${uid}.volume `);
    });
    // Only its find(1) could remove it otherwise: it is deep.
    await shell('rm -rf "$1"', `${world.data}/${uid}.volume`);
  });
}

/** The first of rsync's processes. */
function rsyncOf(world: World): Promise<number> {
  const isOne = (pid: number): boolean => {
    const words = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return /(^|\/)rsync$/.test(words[0] ?? "") && words.join(" ").includes(world.folder);
  };
  return until("rsync copies", () => {
    const found = allPids().filter(isOne);
    return found.find((pid) => !found.includes(parentOf(pid) ?? 0));
  });
}

/** Begins to encrypt, and stands still in the middle. */
async function halfWay(world: World): Promise<{ client: Deno.ChildProcess; rsync: number }> {
  const client = world.spawn(["encrypt", "--passphrase-fd", "0", "work"]);
  const writer = client.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`${passphrase}\n`));
  await writer.close();
  const rsync = await rsyncOf(world);
  Deno.kill(rsync, "SIGSTOP");
  return { client, rsync };
}

async function killed(client: Deno.ChildProcess): Promise<void> {
  client.kill("SIGKILL");
  await client.output();
}

themeTest("whatever comes in between, the home is whole", {}, async (t, world) => {
  const fill =
    "mkdir -p many; cd many; i=0; while [ $i -lt 1000 ]; do echo $i > f$i; i=$((i+1)); done; " +
    "head -c 20000000 /dev/zero > zeros; cd; echo kept > note";
  await world.shell("work", fill);

  await t.step("a jail that is there has to be stopped first", async () => {
    await world.keep("work");
    const { code, stderr } = await withPassphrase(world, ["encrypt", "work"]);
    assert.equal(code, 111);
    assert.match(stderr, /stop it first: appjail stop work/);
    await stopped(world);
  });
  await t.step("meanwhile no program is started, and nobody else encrypts it", async () => {
    const { client } = await halfWay(world);
    const run = await world.client(["run", "-p", "work", "true"]);
    assert.equal(run.code, 111);
    assert.match(run.stderr, /Cannot start jail "work": Its home is being encrypted/);
    for (const args of [["encrypt", "work"], ["decrypt", "work"], ["passwd", "work"]]) {
      const { code, stderr } = await withPassphrase(world, args, `${passphrase}\n${other}`);
      assert.equal(code, 111, stderr);
      assert.match(stderr, /home of "work": Its home is being encrypted/);
    }
    assert.equal((await world.client(["lock", "work"])).code, 111);
    assert.equal((await world.client(["run", "-p", "elsewhere", "true"])).code, 0);
    await killed(client);
    await allLocked(world);
  });
  await t.step("a client that was killed leaves it plain", async () => {
    assert.equal(await world.shell("work", "cat note; echo more > note; rm many/f7"), "kept");
    await stopped(world);
  });
  await t.step("the next one goes on, with the passphrase that was given", async () => {
    const wrong = await withPassphrase(world, ["encrypt", "work"], other);
    assert.equal(wrong.code, 111);
    assert.match(wrong.stderr, /is wrong/);
    const { client } = await halfWay(world);
    await killed(client);
    await allLocked(world);
  });
  await t.step("the daemon is killed, and the next one finds it plain", async () => {
    const { client } = await halfWay(world);
    Deno.kill(world.helperPid, "SIGKILL");
    await world.daemonEnded();
    assert.equal((await client.status).code, 111);
    await Promise.all([client.stdout.cancel(), client.stderr.cancel()]);
    await world.startDaemon();
    await allLocked(world);
    assert.equal(await world.shell("work", "cat note; ls many | wc -l"), "more\n1000");
    await stopped(world);
  });
  await t.step("the dispatcher is killed, and it is locked", async () => {
    const { client } = await halfWay(world);
    Deno.kill(await world.dispatcherPid(), "SIGKILL");
    assert.equal((await client.status).code, 111);
    await Promise.all([client.stdout.cancel(), client.stderr.cancel()]);
    await allLocked(world);
    await until("another serves", async () => (await world.client(["status"])).code === 0);
  });
  await t.step("it can be used in between, and changed", async () => {
    assert.equal(await world.shell("work", "rm -r many; ls -I lent"), "note");
    await stopped(world);
  });
  await t.step("with a passphrase that nobody knows any more, it is begun anew", async () => {
    await world.shell("work", "i=0; while [ $i -lt 1000 ]; do echo $i > f$i; i=$((i+1)); done");
    await stopped(world);
    const { client } = await halfWay(world);
    await killed(client);
    await allLocked(world);
    const anew = ["encrypt", "--anew", "--keep-plain", "work"];
    const { code, stderr } = await withPassphrase(world, anew, other);
    assert.equal(code, 0, stderr);
    assert.equal((await inHome(world, "cat note f7", other)).stdout, "more\n7\n");
    await stopped(world);
    const back = await withPassphrase(world, ["decrypt", "--yes", "work"], other);
    assert.equal(back.code, 0, back.stderr);
    assert.equal(await world.shell("work", "cat note; rm f*"), "more");
    await stopped(world);
    await shell('rm -r "$1"', `${world.data}/${firstUid}.plain`);
  });
  await t.step("with another kind it begins anew, and the plain one is kept", async () => {
    const { code, stdout, stderr } = await withPassphrase(world, [
      ...["encrypt", "--keep-plain", "--with", "encfs", "work"],
    ]);
    assert.equal(code, 0, stderr + world.log.slice(-2000));
    assert.match(stdout, /^encrypted work; /);
    assert.match(stderr, new RegExp(`the old home is kept: ${world.data}/${firstUid}\\.plain\n$`));
    const plain = await Deno.lstat(`${world.data}/${firstUid}.plain`);
    assert.deepEqual([plain.uid, (plain.mode ?? 0) & 0o777], [0, 0o700]);
    const { stdout: said } = await inHome(world, "cat note; ls -I lent");
    assert.equal(said, "more\nnote\n");
    await stopped(world);
  });
});

themeTest("a home can be encrypted from the beginning", {}, async (t, world) => {
  await t.step("a typing error does not make a profile", async () => {
    const { code, stderr } = await withPassphrase(world, ["encrypt", "wrok"]);
    assert.equal(code, 111);
    assert.match(stderr, /You have no profile "wrok"; to make one: appjail encrypt --new wrok$/m);
    assert.deepEqual(await world.status(), []);
  });
  await t.step("a new profile's is, and nobody is asked about what was there before", async () => {
    const { code, stdout, stderr } = await withPassphrase(world, ["encrypt", "--new", "work"]);
    assert.equal(code, 0, stderr + world.log.slice(-2000));
    assert.equal(stdout, "encrypted work; 0 files, 0 B, verified\n");
    assert.match(stderr, /the old home is removed\n$/);
    assert.equal(await inRoot(world), `${firstUid} `);
    assert.equal((await inHome(world, "echo secret > note; stat -c %u:%a .")).code, 0);
    await stopped(world);
    const found = await shell('grep -rl secret "$1" || true', world.data);
    assert.equal(found, "");
  });
  await t.step("with --new, one that is there is not made again", async () => {
    const { code, stderr } = await withPassphrase(world, ["encrypt", "--new", "work"]);
    assert.equal(code, 111);
    assert.match(stderr, /encrypted already/);
    assert.equal((await inHome(world, "cat note")).stdout, "secret\n");
    await stopped(world);
  });
});
