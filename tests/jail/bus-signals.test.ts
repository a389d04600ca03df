/**
 * Signals, objects, events and figures on a bus with the policy of a real system bus: their owner has
 * them all, and somebody else nothing, however they listen.
 */
import assert from "node:assert/strict";
import { systemPolicy } from "./system-policy.ts";
import { encryptedProfile, withPassphrase } from "./volumes.ts";
import {
  asUser,
  execute,
  firstUid,
  jailTest,
  type Outcome,
  uA,
  uB,
  until,
  World,
} from "./world.ts";

const name = "org.appjail.AppJail";
const path = "/org/appjail/AppJail";
const jailPath = `${path}/jail/_${firstUid}`;

/**
 * Somebody who subscribes whenever the daemon is there, has every match rule that may be of use, and
 * prints each signal as JSON. GLib's client, as anybody has it.
 */
const listener = `
import json, sys
from gi.repository import Gio, GLib
NAME, PATH = "${name}", "${path}"
bus = Gio.DBusConnection.new_for_address_sync(
    sys.argv[1],
    Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION,
    None, None,
)
def heard(_bus, sender, path, interface, signal, arguments):
    print(json.dumps([path, interface, signal, arguments.unpack()]), flush=True)
def ask(method, argument):
    return bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
        method, GLib.Variant("(s)", (argument,)), None, 0, -1, None)
ask("AddMatch", "type='signal'")
for rule in ["eavesdrop='true',type='signal'", "eavesdrop='true'"]:
    try:
        ask("AddMatch", rule)
    except GLib.Error as error:
        # A bus as it should be takes no such rule.
        assert Gio.DBusError.get_remote_error(error) == "org.freedesktop.DBus.Error.AccessDenied"
bus.signal_subscribe(None, None, None, None, None, Gio.DBusSignalFlags.NONE, heard)
def appeared(*_):
    bus.call_sync(NAME, PATH, NAME + "1", "Subscribe", None, None, 0, -1, None)
    print(json.dumps(["", "", "subscribed", []]), flush=True)
Gio.bus_watch_name_on_connection(bus, NAME, Gio.BusNameWatcherFlags.NONE, appeared, None)
GLib.MainLoop().run()
`;

type Signal = readonly [path: string, on: string, name: string, args: readonly unknown[]];

/** A process that prints what it hears. */
class Ear implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #read: Promise<unknown>;
  #text = "";
  #errors = "";

  constructor(words: readonly string[], uid: number) {
    const [command = "", ...args] = asUser(uid, words);
    const child = new Deno.Command(command, {
      args,
      cwd: "/",
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const read = async (
      stream: ReadableStream<Uint8Array<ArrayBuffer>>,
      take: (text: string) => void,
    ): Promise<void> => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) take(text);
    };
    this.#child = child;
    this.#read = Promise.all([
      read(child.stdout, (text) => this.#text += text),
      read(child.stderr, (text) => this.#errors += text),
    ]);
  }

  get text(): string {
    return this.#text;
  }

  get signals(): readonly Signal[] {
    return this.#text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  }

  /** Those of the main interface, as `name args`. */
  get main(): readonly string[] {
    return this.signals.filter(([, on]) => on === `${name}1`)
      .map(([, , signal, args]) => [signal, ...args].join(" ").trimEnd());
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    await until(what, holds).catch((error) => {
      throw new Error(`${error}\n${this.#text}${this.#errors}`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await this.#child.status;
    await this.#read;
  }
}

function listen(world: World, uid: number): Ear {
  return new Ear(["/usr/bin/python3", "-c", listener, world.busAddress], uid);
}

function call(
  world: World,
  uid: number,
  at: string,
  ...words: readonly string[]
): Promise<Outcome> {
  return execute(asUser(uid, [
    ...["gdbus", "call", "--address", world.busAddress, "--dest", name, "--object-path", at],
    ...["--method", ...words],
  ]));
}

jailTest("an owner hears all of their own jails, and nobody else anything", async (t) => {
  await using world = await World.start({ bus: true, policy: systemPolicy() ?? "", linger: 0 });
  await encryptedProfile(world, "safe", "gocryptfs", "true", [], { uid: uA });
  await using mine = listen(world, uA);
  await using theirs = listen(world, uB);
  await using roots = listen(world, 0);
  // It tries to become a monitor, and to eavesdrop where it may not.
  await using spy = new Ear(["dbus-monitor", "--address", world.busAddress], uB);
  await using admin = new Ear(["dbus-monitor", "--address", world.busAddress], 0);
  for (const ear of [mine, theirs, roots]) {
    await ear.until(
      "it has subscribed",
      () => ear.signals.some(([, , one]) => one === "subscribed"),
    );
  }
  for (const ear of [spy, admin]) await ear.until("it listens", () => ear.text.includes("member="));

  await t.step("signals, in their order", async () => {
    const { code } = await withPassphrase(
      world,
      ["run", "-p", "safe", "--", "sh", "-c", "exit 3"],
      undefined,
      { uid: uA },
    );
    assert.equal(code, 3);
    await mine.until(
      "the jail is gone",
      () => mine.signals.some(([, , signal]) => signal === "InterfacesRemoved"),
    );
    assert.deepEqual(mine.main, [
      `HomeUnlocked safe ${firstUid}`,
      `JailStarted safe ${firstUid}`,
      `ProgramStarted safe ${firstUid} safe.1 sh`,
      `ProgramExited safe ${firstUid} safe.1 3 0`,
      `JailStopped safe ${firstUid} idle`,
      `HomeLocked safe ${firstUid}`,
    ]);
    assert(mine.signals.every(([at, on]) => on !== `${name}1` || at === path));
  });

  await t.step("the jail as an object, from its beginning to its end", () => {
    const about = mine.signals.filter(([, on]) => on.startsWith("org.freedesktop.DBus."));
    const [added, ...changes] = about.slice(0, -1);
    assert.deepEqual(added?.slice(0, 3), [
      path,
      "org.freedesktop.DBus.ObjectManager",
      "InterfacesAdded",
    ]);
    const [at, interfaces] = added?.[3] ?? [];
    assert.equal(at, jailPath);
    // deno-lint-ignore no-explicit-any -- as it came
    const first: any = { ...Object(interfaces)[`${name}1.Jail`] };
    assert.deepEqual(Object.keys(first).sort(), [
      ...["Encrypted", "JailerPid", "Profile", "Programs", "Started", "State", "Uid"],
    ]);
    assert.deepEqual([first.Profile, first.Uid], ["safe", firstUid]);
    const states: string[] = [first.State];
    for (const [from, on, signal, [of, changed, invalidated]] of changes) {
      assert.deepEqual(
        [from, on, signal, of, invalidated],
        [
          jailPath,
          "org.freedesktop.DBus.Properties",
          "PropertiesChanged",
          `${name}1.Jail`,
          [],
        ],
      );
      const { State } = { ...Object(changed) };
      if (State !== undefined) states.push(State);
    }
    // What comes and goes in one breath may be told as one.
    assert.match(states.join(" "), /^(starting )?running( idle)?( leaving)?$/);
    assert.deepEqual(about.at(-1)?.slice(2), [
      "InterfacesRemoved",
      [jailPath, [`${name}1.Jail`]],
    ]);
  });

  await t.step("objects and properties are their owner's, and root may read them", async () => {
    const kept = await world.client(["run", "-d", "-p", "other", "sleep", "1000"], { uid: uA });
    assert.equal(kept.code, 0, kept.stderr);
    const at = `${path}/jail/_${firstUid + 1}`;
    const managed = (uid: number) =>
      call(world, uid, path, "org.freedesktop.DBus.ObjectManager.GetManagedObjects");
    assert.match(
      (await managed(uA)).stdout,
      new RegExp(`^\\({objectpath '${at}': .*'State': <'running'>.*\\['other.1'\\]`),
    );
    for (const uid of [uB, 0]) {
      assert.equal((await managed(uid)).stdout, "(@a{oa{sa{sv}}} {},)\n");
      const { stdout } = await call(
        world,
        uid,
        `${path}/jail`,
        "org.freedesktop.DBus.Introspectable.Introspect",
      );
      assert(stdout.includes("<node>") && !stdout.includes("<node name"), stdout);
    }
    const get = ["org.freedesktop.DBus.Properties.Get", `${name}1.Jail`, "State"];
    const all = ["org.freedesktop.DBus.Properties.GetAll", `${name}1.Jail`];
    const describe = ["org.freedesktop.DBus.Introspectable.Introspect"];
    for (const uid of [uA, 0]) {
      assert.equal((await call(world, uid, at, ...get)).stdout, "(<'running'>,)\n");
      assert.match((await call(world, uid, at, ...all)).stdout, /'Profile': <'other'>/);
      assert.match((await call(world, uid, at, ...describe)).stdout, /name="JailerPid"/);
    }
    for (const words of [get, all, describe]) {
      const another = await call(world, uB, at, ...words);
      const none = await call(world, uB, `${path}/jail/_${firstUid + 50}`, ...words);
      assert.match(another.stderr, /UnknownObject: There is no object/);
      assert.equal(
        another.stderr.replaceAll(`_${firstUid + 1}`, ""),
        none.stderr.replaceAll(`_${firstUid + 50}`, ""),
      );
    }
    const set = ["org.freedesktop.DBus.Properties.Set", `${name}1.Jail`, "State", "<'idle'>"];
    assert.match((await call(world, uA, at, ...set)).stderr, /PropertyReadOnly/);
    assert.match((await call(world, uB, at, ...set)).stderr, /UnknownObject/);
    const { code } = await world.client(["stop", "other"], { uid: uA });
    assert.equal(code, 0);
    await mine.until(
      "it is told",
      () => mine.main.includes(`JailStopped other ${firstUid + 1} asked`),
    );
  });

  await t.step("the bus lets nobody but root watch", async () => {
    const monitor = await execute(asUser(uB, [
      ...["gdbus", "call", "--address", world.busAddress, "--dest", "org.freedesktop.DBus"],
      ...["--object-path", "/org/freedesktop/DBus"],
      ...["--method", "org.freedesktop.DBus.Monitoring.BecomeMonitor", "[]", "0"],
    ]));
    assert.match(monitor.stderr, /AccessDenied/);
  });

  await t.step("somebody else has heard nothing of all that", async () => {
    // A word to everybody comes after whatever came before.
    const word = await execute([
      ...["dbus-send", `--bus=${world.busAddress}`, "--type=signal", "/mark"],
      ...["org.example.Mark.Said", "string:done"],
    ]);
    assert.equal(word.code, 0, word.stderr);
    for (const ear of [theirs, roots, spy, admin, mine]) {
      await ear.until("it hears what is for all", () => ear.text.includes("org.example.Mark"));
    }
    for (const ear of [theirs, roots]) {
      const ours = ear.signals.filter(([at, on]) =>
        at.startsWith(path) || on.startsWith(name) || on.includes("ObjectManager") ||
        on.includes("Properties")
      );
      assert.deepEqual(ours, []);
    }
    for (
      const words of ["JailStarted", "PropertiesChanged", "InterfacesAdded", "safe", "other.1"]
    ) {
      assert(!spy.text.includes(words), `${words}\n${spy.text}`);
      // Were it not there at all, that would be no wonder.
      assert(admin.text.includes(words), words);
    }
    for (const args of [["events", "--json"], ["status", "--json"]]) {
      const { stdout } = await world.client(args, { uid: uB });
      assert(/^(\[\]\n)?$/.test(stdout), stdout);
    }
    const [{ programs }] = JSON.parse(
      (await world.client(["stats", "--json"], { uid: uB })).stdout,
    );
    assert.equal(programs, 0);
  });

  await t.step("nor is anything of it in what the dispatcher broadcasts", () => {
    // A monitor sees each message with its destination: null destination is for all.
    const broadcast = admin.text.split("\n").filter((line) =>
      /^signal .*destination=\(null destination\)/.test(line) && line.includes(path)
    );
    assert.deepEqual(broadcast, []);
  });
});

jailTest(
  "a dispatcher that comes back is subscribed to anew, and by so many at the most",
  async (t) => {
    await using world = await World.start({ bus: true, policy: systemPolicy() ?? "", linger: 0 });
    await using mine = listen(world, uA);
    const subscriptions = () => mine.signals.filter(([, , one]) => one === "subscribed").length;
    await mine.until("it has subscribed", () => subscriptions() === 1);

    await t.step("another dispatcher knows nobody until they subscribe again", async () => {
      const pid = await world.dispatcherPid();
      Deno.kill(pid, "SIGKILL");
      await mine.until("it has subscribed again", () => subscriptions() === 2);
      assert.equal(await world.run("work", ["echo", "x"], { uid: uA }), "x");
      await mine.until("it hears", () => mine.main.includes(`JailStopped work ${firstUid} idle`));
    });

    await t.step(
      "17 connections of one person are one too many, and another person's is not",
      async () => {
        const many = `
import sys
from gi.repository import Gio, GLib
F = Gio.DBusConnectionFlags
for count in range(17):
    bus = Gio.DBusConnection.new_for_address_sync(
        sys.argv[1], F.AUTHENTICATION_CLIENT | F.MESSAGE_BUS_CONNECTION, None, None)
    globals()["kept%d" % count] = bus
    try:
        bus.call_sync("${name}", "${path}", "${name}1", "Subscribe", None, None, 0, -1, None)
    except GLib.Error as error:
        print(count, error.message)
        break
`;
        const { stdout, stderr } = await execute(
          asUser(uB, ["/usr/bin/python3", "-c", many, world.busAddress]),
        );
        assert.equal(
          stdout,
          "16 GDBus.Error:org.appjail.Error.LimitsExceeded: You have 16 subscriptions, the most there may be\n",
          stderr,
        );
        // With the connections the subscriptions are gone.
        await until("there is room again", async () => {
          const again = await execute(
            asUser(uB, ["/usr/bin/python3", "-c", many.replace("17", "1"), world.busAddress]),
          );
          return again.stdout === "" && again.code === 0;
        });
      },
    );
  },
);
