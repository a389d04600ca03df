/** What the profile that others begin with lets through to the owner's desktop: by real programs. */
import assert from "node:assert/strict";
import { type Desk, deskTest, withProfiles } from "./desk.ts";
import { Peer, type PeerCall } from "./peer.ts";
import { type Outcome, uA, until, type World } from "../jail/world.ts";

const named = "org.kde.StatusNotifierItem-7-1";
const options = withProfiles({
  app: 'extends = "notifying"',
  named: `extends = "notifying"\ndbus.own = ["${named}"]`,
});
const programs = ["dbus-daemon", "xdg-dbus-proxy", "gjs", "gdbus", "notify-send"];

const notifications = "org.freedesktop.Notifications";
const notificationsAt = "/org/freedesktop/Notifications";
const screenSaver = "org.freedesktop.ScreenSaver";
const watcher = "org.kde.StatusNotifierWatcher";
const watcherAt = "/StatusNotifierWatcher";
const item = "org.kde.StatusNotifierItem";
const itemAt = "/org/ayatana/NotificationItem/test";

/** A desktop as KDE's: one program has all the names, and serves more than they say. */
async function panel({ env }: Desk): Promise<Peer> {
  const args = (direction: "in" | "out", ...types: readonly string[]): string =>
    types.map((type) => `<arg type="${type}" direction="${direction}"/>`).join("");
  return await Peer.start({
    address: env["DBUS_SESSION_BUS_ADDRESS"] ?? "",
    uid: uA,
    names: [notifications, screenSaver, watcher],
    objects: [
      {
        path: notificationsAt,
        interfaces: `<interface name="${notifications}">
<method name="Notify">${args("in", "s", "u", "s", "s", "s", "as", "a{sv}", "i")}${
          args("out", "u")
        }</method>
<method name="CloseNotification">${args("in", "u")}</method>
<method name="GetCapabilities">${args("out", "as")}</method>
<method name="GetServerInformation">${args("out", "s", "s", "s", "s")}</method>
<signal name="ActionInvoked"><arg type="u"/><arg type="s"/></signal>
<signal name="NotificationClosed"><arg type="u"/><arg type="u"/></signal></interface>`,
        answers: {
          Notify: "(uint32 42,)",
          GetCapabilities: "(['body', 'actions'],)",
          GetServerInformation: "('panel', 'test', '1', '1.2')",
        },
      },
      ...["/ScreenSaver", "/org/freedesktop/ScreenSaver"].map((path) => ({
        path,
        interfaces: `<interface name="${screenSaver}">
<method name="Inhibit">${args("in", "s", "s")}${args("out", "u")}</method>
<method name="UnInhibit">${args("in", "u")}</method><method name="Lock"/></interface>`,
        answers: { Inhibit: "(uint32 7,)" },
      })),
      {
        path: watcherAt,
        interfaces: `<interface name="${watcher}">
<method name="RegisterStatusNotifierItem">${args("in", "s")}</method>
<method name="RegisterStatusNotifierHost">${args("in", "s")}</method>
<property name="IsStatusNotifierHostRegistered" type="b" access="read"/>
<signal name="StatusNotifierHostRegistered"/></interface>`,
        properties: { IsStatusNotifierHostRegistered: "true" },
      },
      {
        path: "/PlasmaShell",
        interfaces: `<interface name="org.kde.PlasmaShell">
<method name="evaluateScript">${args("in", "s")}${args("out", "s")}</method></interface>`,
        answers: { evaluateScript: "('done',)" },
      },
    ],
  });
}

/** A program with an icon, as GTK's are: `ARGV` is where its object is, and what name it wants. */
const icon = `
const { Gio, GLib } = imports.gi;
const [path, name = ""] = ARGV;
const bus = Gio.bus_get_sync(Gio.BusType.SESSION, null);
const ask = (dest, path, face, method, args) =>
  bus.call_sync(dest, path, face, method, args, null, 0, 5000, null);
const [info] = Gio.DBusNodeInfo.new_for_xml('<node><interface name="${item}">' +
  '<method name="Activate"><arg type="i" direction="in"/><arg type="i" direction="in"/></method>' +
  '<property name="Id" type="s" access="read"/><property name="IconName" type="s" access="read"/>' +
  '<signal name="NewIcon"/></interface></node>').interfaces;
const values = { Id: "test", IconName: "mail-unread" };
bus.register_object(path, info, (_bus, _sender, path, face, method, args, call) => {
  print(method + " " + args.print(false));
  call.return_value(null);
  bus.emit_signal(null, path, face, "NewIcon", null);
}, (_bus, _sender, _path, _face, name) => new GLib.Variant("s", values[name]), null);
if (name !== "") {
  const args = new GLib.Variant("(su)", [name, 4]);
  const [got] = ask("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", args)
    .deepUnpack();
  if (got !== 1) throw new Error(name + " is somebody else's");
}
const [shown] = ask("${watcher}", "${watcherAt}", "org.freedesktop.DBus.Properties", "Get",
  new GLib.Variant("(ss)", ["${watcher}", "IsStatusNotifierHostRegistered"])).deepUnpack();
print("shown " + shown.deepUnpack());
bus.signal_subscribe("${watcher}", "${watcher}", "StatusNotifierHostRegistered", "${watcherAt}",
  null, 0, () => print("another host"));
ask("${watcher}", "${watcherAt}", "${watcher}", "RegisterStatusNotifierItem",
  new GLib.Variant("(s)", [name || path]));
new GLib.MainLoop(null, false).run();
`;

/** A program in a jail that goes on, and what it says. */
async function starting(world: World, desk: Desk, profile: string, words: readonly string[]) {
  const child = world.spawn(["run", "-p", profile, "--", ...words], { uid: uA, env: desk.env });
  const streams = { stdout: "", stderr: "" };
  const reading = (["stdout", "stderr"] as const).map(async (name) => {
    for await (const part of child[name].pipeThrough(new TextDecoderStream())) {
      streams[name] += part;
    }
  });
  await child.stdin.close();
  return {
    said: () => streams.stdout,
    complained: () => streams.stderr,
    ended: async () => {
      const { code } = await child.status;
      await Promise.all(reading);
      return code;
    },
  };
}

deskTest("a program that notifies, and has an icon", programs, options, async (t, world, desk) => {
  await desk.sessionBus();
  await using peer = await panel(desk);
  const called = (member: string): readonly PeerCall[] =>
    peer.calls.filter((call) => call.member === member);
  const run = (profile: string, ...argv: readonly string[]): Promise<Outcome> =>
    world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });
  const call = (
    dest: string,
    at: string,
    member: string,
    ...args: readonly string[]
  ): Promise<Outcome> =>
    run(
      "app",
      ...["gdbus", "call", "--session", "--timeout", "5", "--dest", dest, "--object-path", at],
      ...["--method", member, ...args],
    );

  // GNOME tells the program that has asked, KDE whoever listens.
  for (const to of ["one", "all"] as const) {
    await t.step(`what is answered to a notification comes back: told to ${to}`, async () => {
      const before = called(`${notifications}.Notify`).length;
      const words = ["notify-send", "--wait", "--action=open=Open it", "Mail", "from Bob"];
      const sender = await starting(world, desk, "app", words);
      const { sender: from, args } = await until(
        "it is shown",
        () => called(`${notifications}.Notify`)[before],
      ).catch((error) => {
        throw new Error(`${sender.complained()}\n${world.log}`, { cause: error });
      });
      assert.match(args, /'Mail', 'from Bob', \['open', 'Open it'\]/);
      const destination = to === "one" ? from : null;
      await peer.emit(
        notificationsAt,
        `${notifications}.ActionInvoked`,
        "(uint32 42, 'open')",
        destination,
      );
      await peer.emit(
        notificationsAt,
        `${notifications}.NotificationClosed`,
        "(uint32 42, uint32 2)",
        destination,
      );
      assert.equal(await sender.ended(), 0, sender.complained());
      assert.equal(sender.said(), "open\n");
    });
  }

  await t.step("the screen stays on for as long as it is asked to", async () => {
    for (const at of ["/ScreenSaver", "/org/freedesktop/ScreenSaver"]) {
      const inhibited = await call(screenSaver, at, `${screenSaver}.Inhibit`, "app", "a film");
      assert.equal(inhibited.stdout, "(uint32 7,)\n", inhibited.stderr);
      assert.equal((await call(screenSaver, at, `${screenSaver}.UnInhibit`, "uint32 7")).code, 0);
    }
    assert.equal(called(`${screenSaver}.UnInhibit`).length, 2);
  });

  /** What the owner's panel does with an icon that was registered. */
  const use = async (profile: string, words: readonly string[], dest: string): Promise<void> => {
    const member = `${watcher}.RegisterStatusNotifierItem`;
    const before = called(member).length;
    const program = await starting(world, desk, profile, ["gjs", "-c", icon, ...words]);
    const { sender, args } = await until("it is registered", () => called(member)[before])
      .catch((error) => {
        throw new Error(`${program.complained()}\n${world.log}`, { cause: error });
      });
    assert.equal(args, `('${dest || itemAt}',)`);
    assert.equal(program.said(), "shown true\n");
    const at = ["--dest", dest || sender, "--object-path", itemAt];
    desk.start("monitor", ["gdbus", "monitor", "--session", ...at]);
    const shown = await desk.done(
      ...["gdbus", "call", "--session", ...at],
      ...["--method", "org.freedesktop.DBus.Properties.GetAll", item],
    );
    assert.match(shown, /'IconName': <'mail-unread'>/);
    await until("its own signals are heard", async () => {
      await desk.done(
        "gdbus",
        "call",
        "--session",
        ...at,
        "--method",
        `${item}.Activate`,
        "1",
        "2",
      );
      return (await desk.log("monitor")).includes(`${item}.NewIcon`);
    });
    assert.match(program.said(), /^Activate \(1, 2\)$/m);
    await until("it hears of another panel", async () => {
      await peer.emit(watcherAt, `${watcher}.StatusNotifierHostRegistered`, "()");
      return program.said().includes("another host");
    });
    await world.client(["stop", profile], { uid: uA });
    await program.ended();
  };

  await t.step("an icon is in the tray, and tells when it is clicked", async () => {
    await use("app", [itemAt], "");
  });

  await t.step("an icon by a name needs a profile that gives it the name", async () => {
    const { code, stderr } = await run("app", "gjs", "-c", icon, itemAt, named);
    assert.notEqual(code, 0);
    assert.match(stderr, /ServiceUnknown/);
    await until("it is told", () => world.log.includes(`.RequestName at /, for ${named}\n`));
    await use("named", [itemAt, named], named);
  });

  await t.step("nothing else is let through, by none of the names, and it is told", async () => {
    const before = peer.calls.length;
    const refused: readonly (readonly [string, string, string, ...string[]])[] = [
      ...[notifications, watcher, screenSaver, peer.name].map((dest) =>
        [dest, "/PlasmaShell", "org.kde.PlasmaShell.evaluateScript", "1"] as const
      ),
      [screenSaver, "/ScreenSaver", `${screenSaver}.Lock`],
      [watcher, watcherAt, `${watcher}.RegisterStatusNotifierHost`, "x"],
      [notifications, watcherAt, `${watcher}.RegisterStatusNotifierItem`, "x"],
    ];
    for (const [dest, at, member, ...args] of refused) {
      const { code, stderr } = await call(dest, at, member, ...args);
      assert.notEqual(code, 0, `${dest} ${member}`);
      assert.match(stderr, /AccessDenied/, `${dest} ${member}`);
      const line = `jail app: the bus refused it: ${dest} call ${member} at ${at}\n`;
      await until(line, () => world.log.includes(line));
    }
    assert.deepEqual(peer.calls.slice(before), []);
  });
});
