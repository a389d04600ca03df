/** The owner's session bus, as far as a profile lets a jail in: with a real proxy, and a real bus. */
import assert from "node:assert/strict";
import { type BusCall, type BusService, serveBus } from "../../ipc/bus.ts";
import { readText } from "../../core/kernel.ts";
import { allPids } from "../../core/process.ts";
import { type Desk, deskTest, withProfiles } from "./desk.ts";
import { execute, firstUid, type Outcome, uA, uidsOf, until, type World } from "../jail/world.ts";

const notifications = "org.freedesktop.Notifications";
const secrets = "org.freedesktop.secrets";

const profiles = withProfiles({
  notify: `dbus = { session = "filtered", talk = ["${notifications}"] }`,
  system: 'dbus = { system = "filtered" }',
  apart: 'dbus = { session = "private" }',
});

/** Something on the owner's bus that writes down who calls it. */
async function serve(desk: Desk, name: string, calls: BusCall[]): Promise<BusService> {
  const inward = "ssuss".split("").map((type, at) => ({ name: `in${at}`, type }));
  return await serveBus({
    address: desk.env["DBUS_SESSION_BUS_ADDRESS"] ?? "",
    name,
    path: `/${name.replaceAll(".", "/")}`,
    interface: name,
    methods: [{
      name: "Notify",
      in: [{ name: "app", type: "s" }, { name: "replaces", type: "u" }, ...inward.slice(3)],
      out: [{ name: "id", type: "u" }],
    }],
    properties: [],
    handle: (call) => {
      calls.push(call);
      return Promise.resolve([42]);
    },
    log: () => {},
  });
}

/** The proxies of a world. */
function proxies(world: World): readonly number[] {
  return allPids().filter((pid) => {
    const [program = "", ...words] = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return program.endsWith("/xdg-dbus-proxy") &&
      words.some((word) => word.startsWith(`${world.runtime}/`));
  });
}

const programs = ["dbus-daemon", "xdg-dbus-proxy", "gdbus", "gjs"];

deskTest("the owner's session bus, filtered", programs, profiles, async (t, world, desk) => {
  await desk.sessionBus();
  const calls: BusCall[] = [];
  const told: BusCall[] = [];
  const services = [await serve(desk, notifications, calls), await serve(desk, secrets, told)];
  try {
    const run = (profile: string, ...argv: readonly string[]): Promise<Outcome> =>
      world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });
    const call = (profile: string, name: string, summary = "Hello"): Promise<Outcome> =>
      run(
        profile,
        ...["gdbus", "call", "--session", "--timeout", "5", "--dest", name],
        ...["--object-path", `/${name.replaceAll(".", "/")}`, "--method", `${name}.Notify`],
        ...["app", "0", summary, "body"],
      );

    await t.step(
      "a notification gets through, and the bus takes the jail for its owner",
      async () => {
        const { code, stdout, stderr } = await call("notify", notifications);
        assert.equal(code, 0, `${stderr}\n${world.log}`);
        assert.equal(stdout, "(uint32 42,)\n");
        assert.deepEqual(calls.map(({ uid, args }) => [uid, args]), [[uA, [
          "app",
          0,
          "Hello",
          "body",
        ]]]);
      },
    );

    await t.step("everything else is refused, and told in the log once", async () => {
      for (let turn = 0; turn < 3; turn++) assert.notEqual((await call("notify", secrets)).code, 0);
      assert.deepEqual(told, []);
      const names = await run(
        "notify",
        ...["gdbus", "call", "--session", "--dest", "org.freedesktop.DBus", "--object-path", "/"],
        ...["--method", "org.freedesktop.DBus.ListNames"],
      );
      assert.equal(names.code, 0, names.stderr);
      assert.match(names.stdout, /org\.freedesktop\.Notifications/);
      assert.doesNotMatch(names.stdout, /secrets/);
      const refusal = /jail notify: the bus refused it: .*org\.freedesktop\.secrets\b.*/g;
      await until("it is told", () => refusal.test(world.log));
      refusal.lastIndex = 0;
      const lines = [...world.log.matchAll(refusal)].map(([line]) => line);
      assert.deepEqual(lines, [...new Set(lines)]);
    });

    await t.step("nobody is reached by a name that they do not own on purpose", async () => {
      for (const name of services.map(({ uniqueName }) => uniqueName).slice(1)) {
        const words = ["--object-path", `/${secrets.replaceAll(".", "/")}`, "--method"];
        const { code } = await run(
          "notify",
          ...["gdbus", "call", "--session", "--timeout", "5", "--dest", name, ...words],
          ...[`${secrets}.Notify`, "app", "0", "Hello", "body"],
        );
        assert.notEqual(code, 0);
      }
      const own = await run(
        "notify",
        ...["gdbus", "call", "--session", "--dest", "org.freedesktop.DBus", "--object-path", "/"],
        ...["--method", "org.freedesktop.DBus.RequestName", "org.example.Mine", "0"],
      );
      assert.notEqual(own.code, 0);
      assert.deepEqual(told, []);
    });

    await t.step("the proxy is its owner's, and ends with the jail", async () => {
      assert.equal((await run("notify", "--detach", "--", "sleep", "1000")).code, 0);
      const [pid, ...more] = proxies(world);
      assert(pid !== undefined);
      assert.deepEqual(more, []);
      assert.deepEqual(new Set(uidsOf(pid)), new Set([uA]));
      assert.deepEqual([...Deno.readDirSync(`${world.runtime}/buses`)].map(({ name }) => name), [
        String(firstUid),
      ]);
      await world.client(["stop", "notify"], { uid: uA });
      await until("the proxy has ended", () => proxies(world).length === 0);
      assert.deepEqual([...Deno.readDirSync(`${world.runtime}/buses`)], []);
    });

    await t.step("a jail without a part in it has another bus", async () => {
      const { code } = await call("apart", notifications);
      assert.notEqual(code, 0);
      assert.equal(calls.length, 1);
      assert.deepEqual(proxies(world), []);
    });

    await t.step("the daemon is killed: it goes on, and still ends with the jail", async () => {
      assert.equal((await run("notify", "--detach", "--", "sleep", "1000")).code, 0);
      const [jail] = await world.status(uA);
      const dispatcher = await world.dispatcherPid();
      await execute(["kill", "-KILL", String(world.helperPid), String(dispatcher)]);
      await world.daemonEnded();
      assert.equal(proxies(world).length, 1);
      await execute(["kill", "-KILL", String(jail.jailer_pid)]);
      await until("the proxy has ended", () => proxies(world).length === 0);
      await world.startDaemon();
      await until(
        "nothing is left of it",
        () => [...Deno.readDirSync(`${world.runtime}/buses`)].length === 0,
      );
      assert.equal((await call("notify", notifications, "again")).code, 0);
    });

    await t.step("and one that a new daemon finds alive goes on, and is heard", async () => {
      // More than a pipe holds is refused while nobody listens.
      const script = `
        const { Gio, GLib } = imports.gi;
        const bus = Gio.bus_get_sync(Gio.BusType.SESSION, null);
        while (!GLib.file_test("go", GLib.FileTest.EXISTS)) GLib.usleep(10000);
        for (let count = 0; count < 2000; count++) {
          try {
            bus.call_sync("${secrets}", "/", "a.b", "C", null, null, 0, 5000, null);
          } catch {}
        }
        GLib.file_set_contents("done", "");
        GLib.usleep(1e9);`;
      const words = ["--detach", "--cwd", "/home/notify", "--", "gjs", "-c", script];
      assert.equal((await run("notify", ...words)).code, 0);
      await world.stopDaemon();
      const home = `${world.data}/${firstUid}`;
      await Deno.writeTextFile(`${home}/go`, "");
      await until(
        "it was refused all of it",
        () => Deno.stat(`${home}/done`).catch(() => undefined),
      );
      await world.startDaemon();
      const before = world.log.length;
      const { code, stderr } = await call("notify", notifications, "after");
      assert.equal(code, 0, stderr);
      assert.deepEqual(calls.at(-1)?.args[2], "after");
      assert.notEqual((await call("notify", secrets)).code, 0);
      const line = `jail notify: the bus refused it: ${secrets} call `;
      await until("it is told", () => world.log.slice(before).includes(line));
      const log = `${world.runtime}/jails/${firstUid}/bus-log`;
      assert.deepEqual([(await Deno.stat(log)).isFifo, (await Deno.stat(log)).uid], [true, 0]);
      assert.notEqual((await desk.run("cat", log)).code, 0);
      await world.client(["stop", "notify"], { uid: uA });
      await until("the proxy has ended", () => proxies(world).length === 0);
    });

    await t.step("what cannot be is told", async () => {
      const root = await world.client(["run", "-p", "notify", "true"], { env: desk.env });
      assert.equal(root.code, 111);
      assert.match(root.stderr, /root's profiles have no part in root's buses/);
      const env = { ...desk.env, DBUS_SESSION_BUS_ADDRESS: `unix:path=${desk.folder}/none` };
      const none = await world.client(["run", "-p", "notify", "true"], { uid: uA, env });
      assert.equal(none.code, 111, none.stderr);
      assert.match(none.stderr, /Cannot start jail "notify": there is no bus at .*\/none: /);
      assert.deepEqual(proxies(world), []);
      assert.deepEqual([...Deno.readDirSync(`${world.runtime}/buses`)], []);
    });
  } finally {
    for (const service of services) await service.close();
  }
});
