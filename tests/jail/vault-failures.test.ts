/**
 * What can go wrong with an encrypted home. After each of it: the person was told, nothing is
 * mounted, nothing runs, nothing lies there in the clear, and the next start works.
 */
import assert from "node:assert/strict";
import { volumeKinds } from "../../core/protocol.ts";
import { readText } from "../../core/kernel.ts";
import { allPids } from "../../core/process.ts";
import { configName, mountAt } from "../../core/volume.ts";
import {
  allLocked,
  encryptedProfile,
  passphrase,
  programsOf,
  remains,
  shell,
  withPassphrase,
} from "./volumes.ts";
import { execute, firstUid, jailTest, themeTest, until, World } from "./world.ts";

/** What is left, where there is to be nothing but the volume itself; and the home opens again. */
async function intact(world: World, home: string, profile = "work"): Promise<void> {
  await allLocked(world, 40);
  const names = [...Deno.readDirSync(home)].map(({ name }) => name);
  assert(!names.includes("note"), `there is plaintext: ${names}`);
  const { code, stdout, stderr } = await withPassphrase(world, [
    ...["run", "-p", profile, "--", "cat", "note"],
  ]);
  assert.deepEqual([code, stdout], [0, "kept\n"], `${stderr}\n${world.log.slice(-1500)}`);
  assert.equal((await world.client(["stop", "--force", profile])).code, 0);
  await allLocked(world, 40);
}

/** The pid of a home's watchdog. */
function watchdogOf(world: World): number {
  const found = allPids().find((pid) => {
    const [name = "", ...words] = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return name.endsWith("/appjail-watchdog") && words.some((word) => word.includes(world.data));
  });
  assert(found !== undefined, "there is a watchdog");
  return found;
}

function programOf(home: string): number {
  const [pid, ...more] = programsOf(home);
  assert(pid !== undefined && more.length === 0, "one program serves the home");
  return pid;
}

/** A program that stays in the jail, and its client. */
async function staying(world: World, home: string): Promise<Deno.ChildProcess> {
  const client = world.spawn([
    ...["run", "--passphrase-fd", "0", "-p", "work", "--", "sh", "-c"],
    "exec 3> open; echo there; exec sleep 1000",
  ]);
  const writer = client.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`${passphrase}\n`));
  await writer.close();
  await until("its program runs", async () => {
    const [jail] = await world.status();
    return jail?.programs.length === 1;
  });
  await until(
    "its file is open",
    async () =>
      (await execute(["sh", "-c", `ls -l /proc/*/fd 2>/dev/null | grep -q '/home/work/open$'`]))
        .code === 0,
  );
  assert.equal(programsOf(home).length, 1);
  return client;
}

async function ended(client: Deno.ChildProcess) {
  const { code, signal, stderr } = await client.output();
  return { code, signal, stderr: new TextDecoder().decode(stderr) };
}

for (const kind of volumeKinds) {
  themeTest(`${kind}: passphrases that do not open it`, {}, async (t, world) => {
    const { home } = await encryptedProfile(world, "work", kind);
    const wrong = /^appjail: The passphrase of work \(\w+\) that descriptor 0 gave is wrong\n$/;
    const attempts: readonly (readonly [
      what: string,
      given: Uint8Array | string,
      code: number,
      words: RegExp,
    ])[] = [
      ["a wrong one", "wrong\n", 111, wrong],
      ["one too many a letter", `${passphrase}x\n`, 111, wrong],
      ["one too few", `${passphrase.slice(0, -1)}\n`, 111, wrong],
      ["one that is not UTF-8", new Uint8Array([0xff, 0xfe, 0x80, 0x0a]), 111, wrong],
      ["the longest that there may be", `${"x".repeat(2047)}\n`, 111, wrong],
      ["an empty one", "\n", 100, /The passphrase is empty/],
      ["nothing at all", "", 100, /The passphrase is empty/],
      ["one of 64 KiB", `${"x".repeat(65_536)}\n`, 100, /longer than 2047 bytes/],
      ["one with a NUL in it", "corr\0ect\n", 100, /NUL/],
    ];
    for (const [what, given, status, words] of attempts) {
      await t.step(what, async () => {
        const file = `${world.folder}/given`;
        await Deno.writeFile(
          file,
          typeof given === "string" ? new TextEncoder().encode(given) : given,
        );
        const [command = "", ...args] = world.clientWords([
          ...["run", "--passphrase-fd", "0", "-p", "work", "--", "touch", "here"],
        ]);
        const { code, stderr } = await execute(
          ["sh", "-c", 'exec "$@" < "$0"', file, command, ...args],
          { env: { APPJAIL_SOCKET: world.socket } },
        );
        assert.equal(code, status, stderr);
        assert.match(stderr, /^appjail: [^\n]+\n$/);
        assert.match(stderr, words);
        await allLocked(world);
        assert.deepEqual(remains(world), []);
      });
    }
    await t.step("and the right one does", () => intact(world, home));
  });

  themeTest(`${kind}: a configuration that is not what it was`, {}, async (t, world) => {
    const { uid, home } = await encryptedProfile(world, "work", kind);
    // It was opened once, and so there is a copy.
    await intact(world, home);
    const config = `${home}/${configName[kind]}`;
    const original = await Deno.readFile(config);
    const restore = async () => {
      await shell('rm -rf "$1"', config);
      await Deno.writeFile(config, original, { mode: 0o600 });
    };
    const refused = async (words: RegExp): Promise<void> => {
      const before = await shell('find "$1" -printf "%p %s %T@ %m %u\n" | sort', home);
      const { code, stderr } = await withPassphrase(world, [
        "run",
        "-p",
        "work",
        "--",
        "touch",
        "x",
      ]);
      assert.equal(code, 111, stderr);
      assert.match(stderr, /^appjail: Cannot use the encrypted home [^\n]+\n$/);
      assert.match(stderr, words);
      assert.equal(await shell('find "$1" -printf "%p %s %T@ %m %u\n" | sort', home), before);
      assert.deepEqual(remains(world), []);
    };
    const other = kind === "encfs" ? configName.gocryptfs : configName.encfs;
    const cases: readonly (readonly [what: string, script: string, words: RegExp])[] = [
      ["it is gone", 'rm "$1"', /is gone, .* a copy is in the state folder/],
      ["the app's own", `chown ${uid}:${uid} "$1"`, /only root can write.*chown root:root/],
      ["one that others can write", 'chmod 666 "$1"', /only root can write/],
      ["a link", 'mv "$1" "$1.real"; ln -s "$1.real" "$1"', /it is a link/],
      ["a second name", 'ln "$1" "$1.too"', /no plain file/],
      ["a folder", 'rm "$1"; mkdir "$1"', /no plain file/],
      ["cut in half", 'truncate -s 200 "$1"', /damaged/],
      ["empty", ': > "$1"', /damaged/],
      ["far too long", 'truncate -s 1M "$1"', /too long/],
      ["not text", 'head -c 1000 /dev/zero | tr "\\0" "\\377" > "$1"', /valid|damaged/],
      ["two kinds", `cp "$1" "$(dirname "$1")/${other}"`, /both .* stand in it/],
    ];
    for (const [what, script, words] of cases) {
      await t.step(what, async () => {
        await shell(script, config);
        await refused(words);
        await restore();
        await shell('cd "$1"; rm -f ./*.real ./.*.real ./*.too ./.*.too "$2"', home, other);
      });
    }
    await t.step("the copy opens it", async () => {
      await Deno.remove(config);
      const copies = [...Deno.readDirSync(`${world.state}/volumes`)].map(({ name }) => name);
      assert.equal(copies.length, 1);
      await Deno.copyFile(`${world.state}/volumes/${copies[0]}`, config);
      await intact(world, home);
    });
  });
}

themeTest("an app cannot make its plain home a volume", {}, async (t, world) => {
  await t.step("a configuration of its own is refused, and no passphrase asked for", async () => {
    const { code, stdout } = await execute(["sh", "-c", 'id -u; echo "$0"', "x"]);
    assert.deepEqual([code, stdout], [0, "0\nx\n"]);
    await world.shell(
      "work",
      'echo \'{"EncryptedKey":1,"ScryptObject":1,"Version":2}\' > gocryptfs.conf',
    );
    await world.client(["stop", "--force", "work"]);
    const { code: status, stderr } = await world.client(["run", "-p", "work", "--", "true"]);
    assert.equal(status, 111);
    assert.match(stderr, /gocryptfs\.conf: it has to be a file that only root can write/);
    const [jail] = await world.status();
    assert.match(jail.home.problem, /only root can write/);
    assert.match((await world.client(["status"])).stdout, /^work +\d+ +refused +locked/m);
  });
  await t.step("nor its leftovers", async () => {
    const home = `${world.data}/${firstUid}`;
    await shell('rm "$1/gocryptfs.conf"; echo x > "$1/gocryptfs.diriv"', home);
    const { stderr } = await world.client(["run", "-p", "work", "--", "true"]);
    assert.match(stderr, /its gocryptfs\.conf is gone/);
    await shell('rm "$1/gocryptfs.diriv"; echo x > "$1/.encfs5"', home);
    assert.match((await world.client(["run", "-p", "work", "--", "true"])).stderr, /an old encfs/);
  });
});

for (const kind of volumeKinds) {
  themeTest(`${kind}: what holds it is killed or stopped`, {}, async (t, world) => {
    const { home } = await encryptedProfile(world, "work", kind);

    await t.step("its program is killed", async () => {
      const client = await staying(world, home);
      Deno.kill(programOf(home), "SIGKILL");
      const { code, stderr } = await ended(client);
      assert.equal(code, 137, stderr);
      assert.match(
        stderr,
        /^appjail: jail work was ended: its home cannot be read any more: .*\n$/,
      );
      assert.match(stderr, new RegExp(`${kind} has ended, killed by signal 9`));
      await intact(world, home);
    });
    await t.step("its program is stopped, and somebody waits for it", async () => {
      const client = await staying(world, home);
      Deno.kill(programOf(home), "SIGSTOP");
      // It may be the jailer itself that waits, for the folder to start in.
      const reader = world.client(["run", "-d", "-p", "work", "--", "sh", "-c", "cat note; ls"]);
      const { code, stderr } = await world.client(["stop", "--timeout", "1", "work"]);
      assert.equal(code, 0, `${stderr}${world.log.slice(-1500)}`);
      await reader;
      // Whichever came first: what asks it to end, or the end of its jail.
      assert([143, 137].includes((await ended(client)).code));
      await intact(world, home);
    });
    await t.step("its watchdog is killed", async () => {
      const client = await staying(world, home);
      Deno.kill(watchdogOf(world), "SIGKILL");
      const { code, stderr } = await ended(client);
      assert.equal(code, 137, stderr);
      assert.match(stderr, /^appjail: jail work was ended: its home has lost its watchdog/);
      await intact(world, home);
    });
    await t.step("its watchdog is stopped", async () => {
      const client = await staying(world, home);
      Deno.kill(watchdogOf(world), "SIGSTOP");
      const stopped = world.client(["stop", "--force", "work"]);
      assert.equal((await ended(client)).code, 137);
      assert.equal((await stopped).code, 0, (await stopped).stderr);
      await intact(world, home);
    });
    await t.step("its jailer is killed", async () => {
      const client = await staying(world, home);
      Deno.kill((await world.status())[0].jailer_pid, "SIGKILL");
      assert.equal((await ended(client)).code, 137);
      await intact(world, home);
    });
    await t.step("the dispatcher is killed", async () => {
      const client = await staying(world, home);
      Deno.kill(await world.dispatcherPid(), "SIGKILL");
      await until("it is back", async () => (await world.status()).length === 1);
      assert.equal(await world.shell("work", "cat note"), "kept");
      assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
      assert.equal((await ended(client)).code, 137);
      await intact(world, home);
    });
    await t.step("the daemon is killed, and its jail ends before the next one comes", async () => {
      const client = await staying(world, home);
      const jailer = (await world.status())[0].jailer_pid;
      Deno.kill(world.helperPid, "SIGKILL");
      await world.daemonEnded();
      assert.equal(programsOf(home).length, 1);
      Deno.kill(jailer, "SIGKILL");
      // Nobody is there but the watchdog.
      await allLocked(world);
      await world.startDaemon();
      await ended(client);
      await intact(world, home);
    });
    await t.step("the daemon is killed, and the next one finds it unlocked", async () => {
      const client = await staying(world, home);
      Deno.kill(world.helperPid, "SIGKILL");
      await world.daemonEnded();
      await world.startDaemon();
      const [jail] = await world.status();
      assert.deepEqual([jail.state, jail.home.unlocked], ["running", true]);
      assert.equal(await world.shell("work", "cat note"), "kept");
      assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
      await ended(client);
      await intact(world, home);
    });
    await t.step("everything is killed at once", async () => {
      const client = await staying(world, home);
      const jailer = (await world.status())[0].jailer_pid;
      const pids = [
        ...[world.helperPid, await world.dispatcherPid(), watchdogOf(world), programOf(home)],
        jailer,
      ];
      for (const pid of pids) Deno.kill(pid, "SIGKILL");
      await world.daemonEnded();
      await world.startDaemon();
      await ended(client);
      await intact(world, home);
    });
    await t.step("somebody on the machine looks at it when it is to be locked", async () => {
      const client = await staying(world, home);
      const looking = new Deno.Command("sleep", {
        args: ["1000"],
        cwd: `${world.runtime}/vault/${firstUid}/home`,
      }).spawn();
      // And a copy of the mount is in another namespace.
      const copy = new Deno.Command("unshare", { args: ["--mount", "sleep", "1000"] }).spawn();
      await until(
        "it has its own",
        () =>
          Deno.readLinkSync(`/proc/${copy.pid}/ns/mnt`) !== Deno.readLinkSync("/proc/self/ns/mnt"),
      );
      try {
        assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
        await ended(client);
        await allLocked(world, 40);
        // The plaintext is reachable through neither.
        const path = `${world.runtime}/vault/${firstUid}/home/note`;
        for (const root of [`/proc/${looking.pid}/cwd/note`, `/proc/${copy.pid}/root${path}`]) {
          const { code, stdout } = await execute(["cat", root]);
          assert.notEqual(code, 0, root);
          assert.equal(stdout, "");
        }
      } finally {
        for (const child of [looking, copy]) {
          child.kill("SIGKILL");
          await child.status;
        }
      }
      await intact(world, home);
    });
  });
}

themeTest("the place where it is mounted is taken", {}, async (t, world) => {
  const { home } = await encryptedProfile(world, "work", "gocryptfs");
  const place = `${world.runtime}/vault/${firstUid}`;
  await t.step("by a folder with something in it", async () => {
    await shell('mkdir -p "$1/home"; echo x > "$1/home/left"', place);
    const { code, stdout, stderr } = await withPassphrase(world, [
      "run",
      "-p",
      "work",
      "cat",
      "note",
    ]);
    // A FUSE mount over a folder that is not empty would hide what is there.
    if (code !== 0) assert.match(stderr, /^appjail: [^\n]+\n$/);
    else assert.equal(stdout, "kept\n");
    await world.client(["stop", "--force", "work"]);
    await shell('rm -rf "$1"', place);
    await intact(world, home);
  });
  await t.step("by another mount", async () => {
    await shell('mkdir -p "$1/home"; mount -t tmpfs none "$1/home"', place);
    assert.equal(mountAt(`${place}/home`)?.type, "tmpfs");
    assert.equal((await withPassphrase(world, ["run", "-p", "work", "cat", "note"])).code, 0);
    assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
    await intact(world, home);
  });
  await t.step("by a link", async () => {
    await shell('mkdir "$2"; ln -s "$2" "$1"', place, `${world.folder}/elsewhere`);
    assert.equal((await withPassphrase(world, ["run", "-p", "work", "cat", "note"])).code, 0);
    assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
    await intact(world, home);
    assert.deepEqual([...Deno.readDirSync(`${world.folder}/elsewhere`)], []);
  });
});

jailTest("without FUSE it is told so", async () => {
  await using world = await World.start({
    wrap: (words) => [
      ...["unshare", "--mount", "sh", "-c"],
      'mount --bind /dev/null /dev/fuse && exec "$@"',
      "sh",
      ...words,
    ],
  });
  await encryptedProfile(world, "work", "gocryptfs");
  await encryptedProfile(world, "other", "encfs");
  for (const profile of ["work", "other"]) {
    const { code, stderr } = await withPassphrase(world, ["run", "-p", profile, "--", "true"]);
    assert.equal(code, 111);
    assert.match(
      stderr,
      /^appjail: The home of "(work|other)": Cannot unlock: [^\n]*fuse[^\n]*\n$/i,
    );
  }
  await allLocked(world);
});

jailTest("a disk that is full is the program's matter, and nothing else's", async () => {
  await using world = await World.start({
    before: async (folder) => {
      await Deno.mkdir(`${folder}/data`, { mode: 0o711 });
      await shell('mount -t tmpfs -o size=2m,mode=711 none "$1/data"', folder);
    },
  });
  const { home } = await encryptedProfile(world, "work", "gocryptfs");
  const { code, stderr } = await withPassphrase(world, [
    ...["run", "-p", "work", "--", "sh", "-c"],
    "head -c 5000000 /dev/zero > big; rm -f big; cat note",
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /No space left on device/);
  await world.client(["stop", "--force", "work"]);
  await intact(world, home);
  await world.stopDaemon();
  await shell('umount "$1"', world.data);
});
