/** The portals of the owner's desktop: what comes through, and what does not unless a profile says so. */
import assert from "node:assert/strict";
import { deskTest, withProfiles } from "./desk.ts";
import { Peer } from "./peer.ts";
import { type Outcome, uA, until } from "../jail/world.ts";

const portal = "org.freedesktop.portal.Desktop";
const portalAt = "/org/freedesktop/portal/desktop";
const notifications = "org.freedesktop.Notifications";

/** As docs/portals.md has them. */
const more = (member: string): string =>
  `extends = "graphical"\ndbus.session = "filtered"\nsame_uid = true\n` +
  `dbus.call = ["${portal}=org.freedesktop.portal.${member}@${portalAt}"]`;

const options = withProfiles({
  app: 'extends = "notifying"',
  links: more("OpenURI.OpenURI"),
  tells: more("Notification.*"),
  chooses: more("FileChooser.*"),
});
/** Asks where to save, writes there, and says how it went: `ARGV` is a title, a folder and a name. */
const saver = `
const { Gio, GLib } = imports.gi;
const bus = Gio.bus_get_sync(Gio.BusType.SESSION, null);
const loop = new GLib.MainLoop(null, false);
bus.signal_subscribe(null, "org.freedesktop.portal.Request", "Response", null, null, 0,
  (_bus, _sender, _path, _face, _member, args) => {
    const { uris } = args.recursiveUnpack()[1];
    print(uris);
    try {
      Gio.File.new_for_uri(uris[0]).create(0, null);
      print("written");
    } catch (error) {
      print(error.message);
    }
    loop.quit();
  });
const [title, folder, name] = ARGV;
const options = {
  current_name: new GLib.Variant("s", name),
  current_folder: new GLib.Variant("ay", new TextEncoder().encode(folder + "\\0")),
};
bus.call_sync("${portal}", "${portalAt}", "org.freedesktop.portal.FileChooser", "SaveFile",
  new GLib.Variant("(ssa{sv})", ["", title, options]), null, 0, 10000, null);
loop.run();
`;
const programs = [
  ...["xdg-desktop-portal", "xdg-desktop-portal-gtk", "Xvfb", "xauth", "dbus-daemon"],
  ...["xdg-dbus-proxy", "gdbus", "gio", "gjs", "xdotool"],
];

deskTest("portals", programs, options, async (t, world, desk) => {
  await desk.sessionBus();
  await desk.xServer();
  await using shown = await Peer.start({
    address: desk.env["DBUS_SESSION_BUS_ADDRESS"] ?? "",
    uid: uA,
    names: [notifications],
    objects: [{
      path: "/org/freedesktop/Notifications",
      interfaces: `<interface name="${notifications}"><method name="Notify">
${"s u s s s as a{sv} i".split(" ").map((type) => `<arg type="${type}" direction="in"/>`).join("")}
<arg type="u" direction="out"/></method></interface>`,
      answers: { Notify: "(uint32 42,)" },
    }],
  });
  // What the owner has for links: it writes down which, and who has opened it.
  const opened = `${desk.folder}/opened`;
  await desk.done("mkdir", "-p", ".config", ".local/share/applications");
  await Deno.writeTextFile(
    `${desk.folder}/.local/share/applications/browser.desktop`,
    "[Desktop Entry]\nType=Application\nName=browser\nMimeType=x-scheme-handler/https;\n" +
      `Exec=sh -c 'echo "$(id -u) $1" >>${opened}' sh %u\n`,
  );
  await Deno.writeTextFile(
    `${desk.folder}/.config/mimeapps.list`,
    "[Default Applications]\nx-scheme-handler/https=browser.desktop\n",
  );
  await desk.portals();

  const run = (profile: string, ...argv: readonly string[]): Promise<Outcome> =>
    world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });
  const call = (profile: string, member: string, ...args: readonly string[]): Promise<Outcome> =>
    run(
      profile,
      ...["gdbus", "call", "--session", "--timeout", "10", "--dest", portal],
      ...["--object-path", portalAt, "--method", `org.freedesktop.portal.${member}`, ...args],
    );

  await t.step("dark or light can be read, by those profiles that notify", async () => {
    const one = await call("app", "Settings.Read", "org.freedesktop.appearance", "color-scheme");
    assert.equal(one.stdout, "(<<uint32 0>>,)\n", one.stderr);
    const all = await call("app", "Settings.ReadAll", "['org.gnome.desktop.interface']");
    assert.match(all.stdout, /'icon-theme': <'[^']+'>/, all.stderr);
  });

  await t.step("no other portal can be used, and the log says which was asked for", async () => {
    const options = "@a{sv} {}";
    const refused: readonly (readonly [member: string, ...args: string[]])[] = [
      ["OpenURI.OpenURI", "''", "https://example.org/", options],
      ["FileChooser.OpenFile", "''", "'open'", options],
      ["Notification.AddNotification", "x", "{'title': <'x'>}"],
      ["Email.ComposeEmail", "''", options],
      ["Account.GetUserInformation", "''", options],
      ["Print.PreparePrint", "''", "'x'", options, options, options],
      ["Camera.AccessCamera", options],
      ["DynamicLauncher.Install", "x", "x", "x", options],
    ];
    for (const [member, ...args] of refused) {
      const { code, stderr } = await call("app", member, ...args);
      assert.notEqual(code, 0, member);
      assert.match(stderr, /AccessDenied/, member);
      const line = `${portal} call org.freedesktop.portal.${member} at ${portalAt}\n`;
      await until(line, () => world.log.includes(`jail app: the bus refused it: ${line}`));
    }
    assert.deepEqual(shown.calls, []);
  });

  await t.step("with a rule, a link opens in the owner's own browser", async () => {
    const open = (profile: string, link: string): Promise<Outcome> =>
      run(profile, ...["env", "GTK_USE_PORTAL=1", "timeout", "10", "gio", "open", link]);
    // Without one, gio(1) says nothing of it.
    await open("app", "https://example.org/never");
    const { code, stderr } = await open("links", "https://example.org/now?a=b");
    assert.equal(code, 0, stderr);
    const text = await until(
      "it is opened",
      () => Deno.readTextFile(opened).catch(() => undefined),
    );
    assert.equal(text, `${uA} https://example.org/now?a=b\n`);
    // A file is no link.
    await call("links", "OpenURI.OpenURI", "''", "file:///etc/passwd", "@a{sv} {}");
    await call("links", "OpenURI.OpenURI", "''", "https://example.org/then", "@a{sv} {}");
    const both = await until("the next is opened", async () => {
      const words = await Deno.readTextFile(opened);
      return words.includes("then") && words;
    });
    assert.equal(both, `${text}${uA} https://example.org/then\n`);
  });

  await t.step("with a rule, a notification comes by the portal", async () => {
    const words = ["Notification.AddNotification", "one", "{'title': <'Mail'>, 'body': <'x'>}"];
    const { code, stderr } = await call("tells", ...words as [string, ...string[]]);
    assert.equal(code, 0, stderr);
    const { args } = await until("it is shown", () => shown.calls[0]);
    assert.match(args, /'Mail', 'x'/);
  });

  await t.step(
    "who chooses a file chooses one of the owner's, which the jail has not",
    async () => {
      const saving = run(
        "chooses",
        "timeout",
        "60",
        "gjs",
        "-c",
        saver,
        "Save it",
        desk.folder,
        "x",
      );
      let ended = false;
      void saving.finally(() => ended = true);
      // What a person would press, for as long as it takes until the window has the keys.
      const press = ["search", "--name", "^Save it$", "windowfocus", "key", "Return"];
      await until("it is saved", async () => {
        await desk.run("xdotool", ...press);
        return ended;
      }, 60);
      const { code, stdout, stderr } = await saving;
      assert.equal(code, 0, stderr);
      assert.match(stdout, new RegExp(`^file://${desk.folder}/x\n.*No such file or directory\n$`));
      await assert.rejects(Deno.stat(`${desk.folder}/x`), Deno.errors.NotFound);
    },
  );
});
