/**
 * Encrypted homes, with real encfs and gocryptfs: unlocked for a jail, locked with it, and nothing of
 * the plaintext left anywhere.
 */
import assert from "node:assert/strict";
import { volumeKinds } from "../../core/protocol.ts";
import {
  allLocked,
  encryptedProfile,
  openPlainly,
  passphrase,
  remains,
  shell,
  withPassphrase,
} from "./volumes.ts";
import { execute, firstUid, themeTest, until } from "./world.ts";

const checkout = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
/** A real tree of many files, and a database such as Firefox has. */
const fill = `cp -r ${checkout}/core ${checkout}/cmd ${checkout}/ipc ${checkout}/docs .
  echo kept > note; mkdir -p .mozilla; cd .mozilla
  sqlite3 places.sqlite 'PRAGMA journal_mode=WAL; CREATE TABLE moz_places (id INTEGER PRIMARY KEY, url);
    INSERT INTO moz_places (url) VALUES ("https://example.org/");' >/dev/null`;

for (const kind of volumeKinds) {
  themeTest(`a volume of plain ${kind} is a home`, { linger: 3600 }, async (t, world) => {
    const { uid, home } = await encryptedProfile(world, "work", kind, fill);

    await t.step("status shows it locked", async () => {
      const [jail] = await world.status();
      assert.deepEqual([jail.state, jail.home.kind, jail.home.unlocked], ["locked", kind, false]);
      const { stdout } = await world.client(["status"]);
      assert.match(stdout, new RegExp(`^work +${uid} +${kind} +locked +- +- +- +0$`, "m"));
    });
    await t.step("nothing runs, and nothing is written, without the passphrase", async () => {
      const before = await shell('ls -lAR --time-style=full-iso "$1"', home);
      // Nobody can be asked: there is no terminal.
      const words = world.clientWords(["run", "-p", "work", "--", "touch", "here"]);
      const { code, stderr } = await execute(["setsid", "--wait", ...words], {
        env: {
          APPJAIL_SOCKET: world.socket,
          APPJAIL_ASKPASS: "",
          DISPLAY: "",
          WAYLAND_DISPLAY: "",
        },
      });
      assert.equal(code, 111, stderr);
      assert.match(stderr, /^appjail: Cannot ask for the passphrase of work [^\n]*\n$/);
      assert.equal(await shell('ls -lAR --time-style=full-iso "$1"', home), before);
      assert.deepEqual(remains(world), []);
    });
    await t.step("a program reads what is in it, and writes", async () => {
      const { code, stdout, stderr } = await withPassphrase(world, [
        ...["run", "-p", "work", "--", "sh", "-euc"],
        `cat note; id -u; stat -c %u:%a ~; cd .mozilla
        sqlite3 places.sqlite 'INSERT INTO moz_places (url) VALUES ("https://example.net/"); SELECT url FROM moz_places;'
        sqlite3 places.sqlite 'PRAGMA integrity_check'
        cd; mkdir new; umask 077; echo written > new/file; ln -s file new/link
        mv ipc moved; rm -r docs; head -c 3000000 /dev/urandom > big; sha256sum < big > big.sum`,
      ]);
      assert.equal(code, 0, stderr);
      assert.equal(
        stdout,
        `kept\n${uid}\n${uid}:700\nhttps://example.org/\nhttps://example.net/\nok\n`,
      );
    });
    await t.step("a second program joins, and is not asked", async () => {
      const said = await world.shell(
        "work",
        "cat new/file; sha256sum < big | cmp - big.sum && pwd",
      );
      assert.equal(said, "written\n/home/work");
      const [jail] = await world.status();
      assert.deepEqual([jail.state, jail.home.unlocked], ["idle", true]);
    });
    await t.step("nobody else reaches it: another uid, another jail", async () => {
      const path = `${world.runtime}/vault/${uid}/home`;
      for (const other of [5, uid + 50]) {
        const words = ["setpriv", `--reuid=${other}`, `--regid=${other}`, "--clear-groups", "--"];
        const { code } = await execute([...words, "ls", path]);
        assert.notEqual(code, 0, `uid ${other}`);
      }
      assert.equal(await world.shell("other", `ls ${path} /data 2>&1 >/dev/null | wc -l`), "2");
      await world.client(["stop", "--force", "other"]);
    });
    await t.step("it is locked soon after its last program, however long jails stay", async () => {
      await allLocked(world);
      assert.equal((await world.status())[0].state, "locked");
    });
    await t.step(`plain ${kind} opens it, and finds every change`, async () => {
      await openPlainly(kind, home, `${world.folder}/look`, async () => {
        const said = await shell(
          `cd "$1"; cat note new/file new/link; stat -c %U:%a new/file | sed s/.*://
          diff -r moved ${checkout}/ipc; diff -r core ${checkout}/core; test ! -e docs
          sha256sum < big | cmp - big.sum; sqlite3 .mozilla/places.sqlite 'SELECT count(*) FROM moz_places'
          find . -not -uid ${uid} -not -name .encfs6.xml | wc -l`,
          `${world.folder}/look`,
        );
        assert.equal(said, "kept\nwritten\nwritten\n600\n2\n0");
      });
    });
  });
}

themeTest("unlock keeps a home open, lock ends that", { linger: 1 }, async (t, world) => {
  const { uid } = await encryptedProfile(world, "work", "gocryptfs");
  const unlocked = async () => (await world.status())[0].home;

  await t.step("until it is locked", async () => {
    const { code, stdout, stderr } = await withPassphrase(world, ["unlock", "work"]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "unlocked work; lock it again: appjail lock work\n");
    assert.deepEqual(await unlocked(), {
      kind: "gocryptfs",
      unlocked: true,
      until: 0,
      problem: null,
    });
    assert.equal(await world.shell("work", "cat note"), "kept");
    await until("the jail has left", async () => (await world.status())[0].state === "unlocked");
    assert.equal(await world.shell("work", "cat note"), "kept");
  });
  await t.step("a daemon that is started again has it", async () => {
    await world.stopDaemon();
    assert.notEqual(remains(world).length, 0);
    await world.startDaemon();
    assert.equal((await unlocked()).until, 0);
    assert.equal(await world.shell("work", "cat note"), "kept");
  });
  await t.step("stop ends its programs and leaves it open", async () => {
    await world.keep("work");
    assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
    assert.equal((await unlocked()).unlocked, true);
  });
  await t.step("lock ends its programs, too", async () => {
    await world.keep("work");
    const { code, stdout, stderr } = await world.client(["lock", "work"]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "locked work\n");
    assert.deepEqual(remains(world), []);
    assert.equal((await unlocked()).unlocked, false);
  });
  await t.step("for a time", async () => {
    const { code, stdout } = await withPassphrase(world, ["unlock", "--for", "2s", "work"]);
    assert.equal(code, 0);
    assert.match(stdout, /^unlocked work; until \d\d:\d\d:\d\d, or appjail lock work\n$/);
    await allLocked(world);
    assert.equal((await unlocked()).unlocked, false);
  });
  await t.step("a time that is over while a program runs ends with the program", async () => {
    assert.equal((await withPassphrase(world, ["unlock", "--for", "10s", "work"])).code, 0);
    await world.keep("work");
    const until = (await unlocked()).until as number;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, until - Date.now()) + 500));
    assert.equal(await world.shell("work", "cat note"), "kept");
    assert.equal((await world.client(["stop", "--force", "work"])).code, 0);
    await allLocked(world);
  });
  await t.step("of what cannot be, in words", async () => {
    assert.equal((await world.client(["run", "-p", "plain", "true"])).code, 0);
    for (
      const [args, code, words] of [
        [["unlock", "plain"], 111, /home of "plain" is not encrypted; .*appjail encrypt plain/],
        [["unlock", "nobodys"], 111, /no profile "nobodys"/],
        [["unlock", "--for", "soon", "work"], 100, /Cannot use --for "soon"/],
        [["unlock", "--for", "0s", "work"], 100, /Cannot use --for "0s"/],
        [["unlock", "--passphrase-fd", "77", "work"], 100, /--passphrase-fd "77".*descriptor/],
        [["lock"], 100, /give the profiles' names, or --all/],
      ] as const
    ) {
      const outcome = await world.client(args);
      assert.equal(outcome.code, code, `${args.join(" ")}: ${outcome.stderr}`);
      assert.match(outcome.stderr, words);
    }
    assert.equal(uid, firstUid);
  });
});

themeTest("over D-Bus nobody can be asked", { bus: true }, async (t, world) => {
  await encryptedProfile(world, "work", "gocryptfs");
  const run = () =>
    execute([
      ...["gdbus", "call", "--address", world.busAddress, "--dest", "org.appjail.AppJail"],
      ...["--object-path", "/org/appjail/AppJail", "--method", "org.appjail.AppJail1.Run"],
      ...["work", "['cat', 'note']", "{}"],
    ]);

  await t.step("the error names the profile, and says what the person can do", async () => {
    const { code, stderr } = await run();
    assert.notEqual(code, 0);
    assert.match(stderr, /org\.appjail\.Error\.PassphraseRequired/);
    assert.match(stderr, /home of "work" is locked; unlock it: appjail unlock work/);
    assert.deepEqual(remains(world), []);
  });
  await t.step("once it is unlocked, programs run", async () => {
    assert.equal((await withPassphrase(world, ["unlock", "work"])).code, 0);
    const { code, stdout, stderr } = await run();
    assert.equal(code, 0, stderr);
    assert.match(stdout, /'work\.1'/);
    assert.equal((await world.client(["lock", "work"])).code, 0);
  });
});

themeTest("two who want a locked home at the same time", {}, async (_, world) => {
  await encryptedProfile(world, "work", "gocryptfs");
  // The first to be asked answers late: its descriptor has nothing yet.
  const words = ["run", "--passphrase-fd", "0", "-p", "work", "--", "cat", "note"];
  const clients = [world.spawn(words), world.spawn(words)];
  const outcomes = clients.map(async (client) => {
    const { code, stdout, stderr } = await client.output();
    const text = new TextDecoder();
    return [code, text.decode(stdout), text.decode(stderr)];
  });
  // Both get it, and only one is asked: the other's is never read, or is of no use.
  for (const client of clients) {
    const writer = client.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`${passphrase}\n`)).catch(() => {});
    await writer.close().catch(() => {});
  }
  assert.deepEqual(await Promise.all(outcomes), [[0, "kept\n", ""], [0, "kept\n", ""]]);
  assert.equal(world.log.match(/watchdog: home \d+ is unlocked/g)?.length, 1);
  await allLocked(world);
});
