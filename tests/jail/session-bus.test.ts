/** The private session bus of a jail: there when somebody wants it, for that jail's programs alone. */
import assert from "node:assert/strict";
import { perl, sorted } from "./probe.ts";
import { asUser, execute, firstUid, themeTest, uA, until } from "./world.ts";

const getId = "dbus-send --session --print-reply=literal --dest=org.freedesktop.DBus / " +
  "org.freedesktop.DBus.GetId | tr -d ' '";
const buses = "ps -C dbus-daemon -o pid= | tr -d ' '";

themeTest(
  "each jail has a session bus of its own",
  { flags: ["--network", "none"] },
  async (t, world) => {
    const { jailer_pid } = await world.keep("work");
    await world.keep("other");
    const address = `/run/user/${firstUid}/bus`;

    await t.step("no process of it is there before somebody calls, but its socket is", async () => {
      assert.equal(await world.shell("work", buses), "");
      assert.equal(
        await world.shell("work", 'stat -c "%F %a %n" "${DBUS_SESSION_BUS_ADDRESS#unix:path=}"'),
        `socket 600 ${address}`,
      );
      assert.equal(await world.shell("work", buses), "");
    });

    await t.step("all programs of the profile have the same, another profile another", async () => {
      const ids = await Promise.all([1, 2, 3, 4].map(() => world.shell("work", getId)));
      assert.match(ids[0] ?? "", /^[0-9a-f]{32}$/);
      assert.equal(new Set(ids).size, 1);
      assert.match(await world.shell("work", buses), /^\d+$/);
      assert.notEqual(await world.shell("other", getId), ids[0]);
    });

    await t.step("two programs talk over it", async () => {
      const words = ["dbus-monitor", "--session", "type='signal',interface='org.example.Hello'"];
      const listener = world.spawn(["run", "-p", "work", "--", ...words]);
      let heard = "";
      const listening = (async () => {
        const text = listener.stdout.pipeThrough(new TextDecoderStream());
        for await (const part of text) heard += part;
      })();
      await until("the listener has heard the other", async () => {
        await world.shell("work", "dbus-send --session / org.example.Hello.Greet string:it-is-me");
        return heard.includes("it-is-me");
      });
      await world.shell("work", "kill $(ps -C dbus-monitor -o pid=)");
      assert.equal((await listener.status).code, 128 + 15);
      await listening;
      await listener.stdin.close();
      await listener.stderr.cancel();
    });

    await t.step("nobody else can connect: another jail, another user, another name", async () => {
      const tries = perl(
        `use Socket;
        for my $name (@ARGV) { socket my $s, AF_UNIX, SOCK_STREAM, 0;
          said "connect", connect $s, sockaddr_un($name) }`,
        ...[address, `/proc/${jailer_pid}/root${address}`, `${world.data}/${firstUid}${address}`],
      );
      const refused = /^(connect: (ENOENT|EACCES)\n?){3}$/;
      assert.match(await world.run("other", tries), refused);
      assert.match((await execute(asUser(uA, tries))).stdout, refused);
      assert.match((await execute(asUser(firstUid + 1, tries))).stdout, refused);
      // In the jail's network, which is its own here, nothing listens under any other name.
      const names = await world.shell("work", "awk 'NR > 1 && NF > 7 { print $8 }' /proc/net/unix");
      assert.deepEqual([...new Set(names.split("\n"))], [address]);
    });

    await t.step("when it was killed, the next who calls gets a new one", async () => {
      const before = await world.shell("work", getId);
      await world.shell("work", "kill -9 $(ps -C dbus-daemon -o pid=)");
      const after = await world.shell("work", getId);
      assert.match(after, /^[0-9a-f]{32}$/);
      assert.notEqual(after, before);
      assert.match(await world.shell("work", buses), /^\d+$/);
    });
  },
);

themeTest("a service of the session bus, and the end of both", { linger: 0 }, async (t, world) => {
  const home = `${world.data}/${firstUid}`;
  await t.step("a service has nothing of the bus's own", async () => {
    const script = "tr '\\0' '\\n' < /proc/$$/environ > ~/environ; ls /proc/self/fd > ~/fds.new; " +
      "mv ~/fds.new ~/fds; exec sleep 1000";
    const folder = "~/.local/share/dbus-1/services";
    await world.run("work", [
      "sh",
      "-c",
      `mkdir -p ${folder} ~/bin; printf '%s\\n' "$1" > ~/bin/tell; chmod +x ~/bin/tell
      printf '[D-BUS Service]\\nName=org.example.Tell\\nExec=/home/work/bin/tell\\n' > ${folder}/t.service
      dbus-send --session --type=method_call --dest=org.example.Tell / org.example.Tell.Tell
      until test -e ~/fds; do sleep 0.1; done`,
      "sh",
      `#!/bin/sh\n${script}`,
    ]);
    // ls has the folder open as 3.
    assert.deepEqual(sorted(await Deno.readTextFile(`${home}/fds`)), ["0", "1", "2", "3"]);
    const names = sorted(await Deno.readTextFile(`${home}/environ`)).map((line) =>
      line.split("=")[0]
    );
    assert.deepEqual(
      names.filter((name) => !name?.startsWith("DBUS_")),
      [
        "APPJAIL_PROFILE",
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "PWD",
        "SHELL",
        "USER",
        "XDG_RUNTIME_DIR",
      ],
    );
  });
  await t.step("they do not keep a jail in which nothing else runs", async () => {
    await until("the jail has left", async () => (await world.status()).length === 0);
    await until(
      "nothing of it is left",
      async () => (await execute(["pgrep", "-u", String(firstUid)])).stdout === "",
    );
  });
});
