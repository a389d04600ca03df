/**
 * The Debian package in a fresh Debian 12 with systemd: installed, used, upgraded under running jails,
 * removed and purged, after which nothing is left but what docs/install.md says.
 */
import assert from "node:assert/strict";
import manifest from "../../deno.json" with { type: "json" };
import { firstUid, isRoot, lastUid, until } from "../jail/world.ts";
import { Scratch } from "../scratch.ts";
import { Machine } from "./machine.ts";
import { copySource, packageOf, root } from "./source.ts";

const [major, minor, patch] = manifest.version.split(".").map(Number);
const next = `${major}.${minor}.${Number(patch) + 1}`;

/** The package of this source, and that of the same with a higher version, as it will be one day. */
async function twoPackages(
  scratch: string,
): Promise<{ readonly older: string; readonly newer: string }> {
  const words = ["--compression", "gzip"];
  const source = `${scratch}/source`;
  await copySource(source);
  const json = `${source}/deno.json`;
  Deno.writeTextFileSync(
    json,
    Deno.readTextFileSync(json).replace(`"${manifest.version}"`, `"${next}"`),
  );
  return {
    older: await packageOf(root, `${scratch}/out`, words),
    newer: await packageOf(source, `${scratch}/out`, words),
  };
}

const install = "apt-get -qq -o Dpkg::Use-Pty=0 install -y";

/** Every file of the machine that a package could have to do with, every user and every group. */
const everything =
  `find / /run -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp \\
    -o -path /var/cache -o -path /var/log -o -path /var/lib/apt -o -path /root -o -path /home \\
    -o -path /run/systemd -o -path '/var/lib/dpkg/*-old' -o -path '/var/cache/debconf/*-old' \\
    -o -name '.#*' -o -path /var/lib/systemd/timers \\) -prune -o -print | sort
  getent passwd; getent group`;

Deno.test({
  name: "the package lives on a fresh Debian, from its installation to its purge",
  ignore: !isRoot,
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    using scratch = new Scratch();
    const [{ older, newer }, made] = await Promise.all([
      twoPackages(scratch.path),
      Machine.make(),
    ]);
    await using machine = made;
    const asAlice = (script: string): Promise<string> => machine.run(script, "alice");
    const json = async (script: string) => JSON.parse(await asAlice(script));
    const unit = (name: string): Promise<string> =>
      machine.run(`systemctl show --property=ActiveState --value ${name}`);
    /** What of the range for profiles runs: each pid with its uid. */
    const jailed = (): Promise<string> =>
      machine.run(`for status in /proc/[0-9]*/status; do
        awk '/^Pid:/ { pid = $2 } /^Uid:/ && $2 >= ${firstUid} && $2 <= ${lastUid} { print pid }' \\
          $status 2>/dev/null || true; done`);

    await machine.put(older, "/older.deb");
    await machine.put(newer, "/newer.deb");
    await machine.boot();
    await machine.run("apt-get -qq update; useradd -m alice");
    // What it depends on, and what it recommends, stays when it goes.
    await machine.run(`apt-get -qq -o Dpkg::Use-Pty=0 satisfy -y \\
      "$(dpkg-deb -f /older.deb Depends)" "$(dpkg-deb -f /older.deb Recommends)"`);
    // Runs of the tests that share a machine share its uids.
    await machine.run(
      `mkdir /etc/appjail; echo 'uid_range = "${firstUid}-${lastUid}"' >/etc/appjail/appjail.toml`,
    );
    const before = await machine.run(everything);

    await t.step("installed, it is there as soon as somebody asks", async () => {
      await machine.run(`${install} /older.deb`);
      assert.equal(await machine.run("systemctl is-enabled appjail.socket"), "enabled");
      assert.deepEqual([await unit("appjail.socket"), await unit("appjail.service")], [
        "active",
        "inactive",
      ]);
      assert.match(await machine.run("getent passwd appjail"), /:\/usr\/sbin\/nologin$/);
      assert.equal(
        await machine.run("stat -c '%a %U' /run/appjail /run/appjail/appjail.sock"),
        [
          "755 root",
          "666 root",
        ].join("\n"),
      );
      const id = await asAlice("appjail run -p work id");
      assert.equal(id, `uid=${firstUid}(work) gid=${firstUid}(work) groups=${firstUid}(work)`);
      assert.equal(await unit("appjail.service"), "active");
      assert.equal(
        await machine.run("systemctl show --property=StatusText --value appjail"),
        "Serving /run/appjail",
      );
      assert.match(await asAlice("appjail profile list"), /^firefox /m);
    });

    await t.step("systemd finds nothing wrong with its units", async () => {
      const { code, stdout, stderr } = await machine.try(
        "systemd-analyze verify --man=no appjail.service appjail.socket",
      );
      assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: "", stderr: "" });
    });

    await t.step(
      "the bus starts it as well, and its dispatcher alone is called so there",
      async () => {
        await machine.run("systemctl stop appjail.service");
        const call = "dbus-send --system --print-reply --dest=org.appjail.AppJail " +
          "/org/appjail/AppJail org.appjail.AppJail1.List";
        assert.match(await asAlice(call), /^method return/);
        const owner = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / " +
          "org.freedesktop.DBus.GetConnectionUnixUser string:org.appjail.AppJail";
        const uid = await machine.run("id -u appjail");
        assert.match(await asAlice(owner), new RegExp(`uint32 ${uid}$`));
      },
    );

    await t.step(
      "a second program joins, and an encrypted home is one in /data alone",
      async () => {
        await asAlice(
          "appjail run --detach -p work sh -c 'echo there >/tmp/note; exec sleep 1000'",
        );
        assert.equal(await asAlice("appjail run -p work cat /tmp/note"), "there");
        assert.equal((await machine.try("appjail run -p work sh -c 'exit 7'", "alice")).code, 7);
        await asAlice(`echo secret >pw
        appjail encrypt --new --yes --passphrase-fd 3 bank 3<pw
        appjail run -p bank --passphrase-fd 3 sh -c 'echo money >~/note' 3<pw
        appjail run --detach -p bank --passphrase-fd 3 sleep 1000 3<pw
        mkdir lent; echo hi >lent/file; appjail lend work ~/lent`);
        const [bank] = await json("appjail status --json bank");
        assert.deepEqual(bank.home.kind, "gocryptfs");
        const home = `/data/${bank.uid}`;
        assert.match(await machine.run(`ls ${home}`), /gocryptfs\.conf/);
        assert.equal((await machine.try(`ls ${home}/note`)).code, 2);
      },
    );

    await t.step("limits are held by a scope of systemd's", async () => {
      await machine.run(`mkdir /etc/appjail/profiles
        printf '[limits]\\nmemory = "300M"\\n' >/etc/appjail/profiles/small.toml`);
      await asAlice("appjail run --detach -p small sleep 1000");
      const [small] = await json("appjail status --json small");
      assert.deepEqual(small.limits.memory, { most: 300 * 1024 * 1024, by: "cgroup" });
      const scope = "systemctl list-units --plain --no-legend 'appjail-*.scope' | cut -d' ' -f1";
      assert.equal(
        await machine.run(`systemctl show --property=MemoryMax --value "$(${scope})"`),
        `${300 * 1024 * 1024}`,
      );
      await asAlice("appjail stop small");
      await until("the scope is gone", async () => await machine.run(scope) === "");
      await machine.run("rm -r /etc/appjail/profiles");
    });

    /** Jails, programs, what is lent and what is unlocked are as they were. */
    const goesOn = async (pids: string): Promise<void> => {
      assert.equal(
        await asAlice("appjail run -p work sh -c 'cat /tmp/note ~/lent/lent/file'"),
        [
          "there",
          "hi",
        ].join("\n"),
      );
      assert.equal(await asAlice("appjail run -p bank sh -c 'cat ~/note'"), "money");
      assert.equal(await jailed(), pids);
      await asAlice("appjail unlend work lent; appjail lend work ~/lent");
      assert.equal(await asAlice("appjail run -p work sh -c 'cat ~/lent/lent/file'"), "hi");
    };

    await t.step("jails do not notice when the daemon is started again, or stopped", async () => {
      const pids = await jailed();
      assert.equal(pids.split("\n").length, 6);
      await machine.run("systemctl restart appjail.service");
      await goesOn(pids);
      await machine.run("systemctl stop appjail.service");
      assert.deepEqual([await unit("appjail.socket"), await unit("appjail.service")], [
        "active",
        "inactive",
      ]);
      assert.equal(await jailed(), pids);
      await goesOn(pids);
      assert.equal(await unit("appjail.service"), "active");
    });

    await t.step("nor when the package is upgraded, and the new daemon serves them", async () => {
      const pids = await jailed();
      const helper = await machine.run("systemctl show --property=MainPID --value appjail");
      await machine.run(`${install} /newer.deb`);
      assert.match(
        await asAlice("appjail --version"),
        new RegExp(`^appjail ${RegExp.escape(next)} `),
      );
      assert.notEqual(
        await machine.run("systemctl show --property=MainPID --value appjail"),
        helper,
      );
      await goesOn(pids);
      // The old program is gone from the disk.
      const parts = await machine.run("ls /usr/lib/appjail | grep -c '^[0-9a-f]*$'");
      assert.equal(parts, "1");
    });

    await t.step(
      "when the machine goes down, programs are asked to end, and homes are locked",
      async () => {
        await asAlice(
          `appjail run --detach -p work sh -c 'trap "echo asked >~/asked; exit" TERM; sleep 99 & wait'`,
        );
        await machine.shutDown();
        await machine.boot();
        assert.equal(await asAlice("appjail run -p work sh -c 'cat ~/asked'"), "asked");
        const log = await machine.run("journalctl --boot=-1 --unit=appjail.service --output=cat");
        assert.match(log, /^appjail-watchdog: home [0-9]+ is locked$/m);
      },
    );

    /** The processes that are a part of the daemon, as they call themselves. */
    const roles = (): Promise<string> =>
      machine.run(
        "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep '^[^ ]*appjail-[a-z]*$' || true",
      );

    await t.step(
      "removed, it ends its jails first, and leaves homes and who they belong to",
      async () => {
        await asAlice(`appjail run --detach -p work sleep 1000
        appjail run --detach -p bank --passphrase-fd 3 sleep 1000 3<pw`);
        for (const role of ["helper", "dispatcher", "watchdog"]) {
          assert.match(await roles(), new RegExp(`appjail-${role}$`, "m"));
        }
        await machine.run("apt-get -qq remove -y appjail");
        assert.equal(await jailed(), "");
        assert.equal(await roles(), "");
        assert.equal(await machine.run("grep ' /run/appjail' /proc/mounts || true"), "");
        assert.equal((await machine.try("ls /run/appjail /usr/bin/appjail")).code, 2);
        assert.equal(
          await machine.run("ls /data"),
          [0, 1, 2].map((at) => firstUid + at).join("\n"),
        );
        assert.equal(await unit("appjail.socket"), "inactive");
      },
    );

    await t.step("purged, it keeps the homes unless it is told otherwise", async () => {
      await machine.run("apt-get -qq purge -y appjail");
      assert.equal(await machine.run("ls /data"), [0, 1, 2].map((at) => firstUid + at).join("\n"));
      assert.equal(await machine.run("ls /var/lib/appjail"), "uids.json\nvolumes");
      assert.equal((await machine.try("getent passwd appjail")).code, 2);
      await machine.run(`${install} /newer.deb`);
      const opened = "appjail run -p bank --passphrase-fd 3 sh -c 'cat ~/note' 3<pw";
      assert.equal(await asAlice(opened), "money");
      assert.equal(await asAlice("appjail run -p work sh -c 'cat ~/asked'"), "asked");
    });

    await t.step("without systemd, a daemon and its jails end when it is removed", async () => {
      await machine.shutDown();
      const { code, stdout, stderr } = await machine.unbooted(`
        appjail daemon --bus none 2>/tmp/log &
        until grep -q ready /tmp/log; do sleep 0.1; done
        setpriv --reuid=alice --regid=alice --init-groups -- appjail run --detach -p work sleep 1000
        apt-get -qq remove -y appjail >/dev/null 2>&1
        wait
        grep -h "^Uid:.${firstUid}" /proc/[0-9]*/status || echo none
        ls /run/appjail 2>&1 || true`);
      assert.match(
        stdout,
        /^work\.\d+\nnone\nls: cannot access '\/run\/appjail'/m,
        `${code} ${stdout}\n${stderr}`,
      );
      await machine.boot();
    });

    await t.step("purged with the homes, it leaves nothing at all", async () => {
      await machine.run(`echo 'appjail appjail/purge-homes boolean true' | debconf-set-selections
        apt-get -qq purge -y appjail`);
      // What is a person's own stays, as is written down.
      assert.equal(await asAlice("ls ~/Shared"), "bank\nsmall\nwork");
      const changes = (from: string, to: string): readonly string[] => {
        const known = new Set(from.split("\n"));
        return to.split("\n").filter((line) => !known.has(line));
      };
      const after = await machine.run(everything);
      assert.deepEqual({ more: changes(before, after), fewer: changes(after, before) }, {
        more: [],
        fewer: [],
      });
    });
  },
});
