/** The system bus, as far as a profile lets a jail in. The machine's own is not touched. */
import assert from "node:assert/strict";
import { changed, deskTest, withProfiles } from "./desk.ts";
import { Peer } from "./peer.ts";
import { firstUid, type Outcome, uA, until } from "../jail/world.ts";

const name = "org.example.Power";
const path = "/org/example/Power";
const secret = "org.example.Secret";
const interfaces = `<interface name="${name}">
<method name="Query"><arg type="s" direction="in"/><arg type="u" direction="out"/></method>
<method name="Off"/><signal name="Changed"><arg type="s"/></signal>
<signal name="Told"><arg type="s"/></signal></interface>`;

/** As on most machines: everybody may call, and only root may have a name. */
const policy = `<policy context="default"><allow user="*"/><allow send_type="method_call"/>
<allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow send_type="signal"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/>
<allow receive_type="error"/><allow receive_type="signal"/></policy>
<policy user="root"><allow own="*"/></policy>
<policy user="nobody"><allow own="org.appjail.AppJail"/></policy>`;

const rules = [
  'dbus.session = "none"',
  'dbus.system = "filtered"',
  `dbus.system_call = ["${name}=${name}.Query@${path}"]`,
  `dbus.system_broadcast = ["${name}=${name}.Changed@${path}"]`,
].join("\n");

const options = withProfiles({
  query: rules,
  strict: 'preset = "secure"\ndbus.system = "filtered"',
  apart: 'dbus.system = "none"',
}, {
  bus: true,
  policy,
  // The helper knows one place for it. In its own namespace the test's bus is there.
  ...changed(
    "mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/dbus; : >/run/dbus/system_bus_socket; " +
      'mount --bind "$0/bus" /run/dbus/system_bus_socket',
  ),
});
const programs = ["dbus-daemon", "xdg-dbus-proxy", "gdbus", "gjs"];

deskTest("the system bus, filtered", programs, options, async (t, world) => {
  const peer = (names: readonly string[]) =>
    Peer.start({
      address: world.busAddress,
      uid: 0,
      names,
      objects: [
        { path, interfaces, answers: { Query: "(uint32 42,)" } },
        { path: "/org/example/Other", interfaces, answers: { Query: "(uint32 43,)" } },
      ],
    });
  await using power = await peer([name]);
  await using other = await peer([secret]);
  const run = (profile: string, ...argv: readonly string[]): Promise<Outcome> =>
    world.client(["run", "-p", profile, ...argv], { uid: uA });
  const call = (
    profile: string,
    member: string,
    { dest = name, at = path, args = [] }: {
      readonly dest?: string;
      readonly at?: string;
      readonly args?: readonly string[];
    } = {},
  ): Promise<Outcome> =>
    run(
      profile,
      ...["gdbus", "call", "--system", "--timeout", "5", "--dest", dest, "--object-path", at],
      ...["--method", member, ...args],
    );
  const query = { args: ["hello"] };

  await t.step("the call that a rule names goes through, as its owner's", async () => {
    const { code, stdout, stderr } = await call("query", `${name}.Query`, query);
    assert.equal(code, 0, `${stderr}\n${world.log}`);
    assert.equal(stdout, "(uint32 42,)\n");
    assert.deepEqual(power.calls.map(({ uid, member, args }) => [uid, member, args]), [
      [uA, `${name}.Query`, "('hello',)"],
    ]);
  });

  await t.step("everything else is refused, and the refusal is in the log", async () => {
    const bus = { dest: "org.freedesktop.DBus", at: "/org/freedesktop/DBus" };
    const refused: readonly (readonly [member: string, more: Parameters<typeof call>[2]])[] = [
      [`${name}.Off`, {}],
      [`${name}.Query`, { ...query, at: "/org/example/Other" }],
      [`${name}.Query`, { ...query, dest: secret }],
      [`${name}.Query`, { ...query, dest: other.name }],
      ["org.freedesktop.DBus.Properties.GetAll", { args: [name] }],
      ["org.appjail.AppJail1.List", { dest: "org.appjail.AppJail", at: "/org/appjail/AppJail" }],
    ];
    for (const [member, more] of refused) {
      const { code } = await call("query", member, more);
      assert.notEqual(code, 0, `${member} ${JSON.stringify(more)}`);
    }
    const own = await call("query", "org.freedesktop.DBus.RequestName", {
      ...bus,
      args: ["org.example.Mine", "0"],
    });
    assert.notEqual(own.code, 0);
    const { stdout } = await call("query", "org.freedesktop.DBus.ListNames", bus);
    assert.match(stdout, /org\.example\.Power/);
    assert.doesNotMatch(stdout, /Secret|AppJail/);
    assert.equal(power.calls.length, 1);
    assert.deepEqual(other.calls, []);
    for (
      const line of [
        `${name} call ${name}.Off at ${path}`,
        `${name} call ${name}.Query at /org/example/Other`,
        `${secret} call ${name}.Query at ${path}`,
        "org.appjail.AppJail call org.appjail.AppJail1.List at /org/appjail/AppJail",
      ]
    ) {
      await until(line, () => world.log.includes(`jail query: the bus refused it: ${line}\n`));
    }
  });

  await t.step("the signal that a rule names is heard, and no other one", async () => {
    const words = ["gdbus", "monitor", "--system", "--dest", name];
    const listener = world.spawn(["run", "-p", "query", "--", ...words], { uid: uA });
    let heard = "";
    const listening = (async () => {
      const text = listener.stdout.pipeThrough(new TextDecoderStream());
      for await (const part of text) heard += part;
    })();
    await until("it is heard", async () => {
      await power.emit(path, `${name}.Told`, "('never',)");
      await power.emit("/org/example/Other", `${name}.Changed`, "('elsewhere',)");
      await power.emit(path, `${name}.Changed`, "('now',)");
      return heard.includes("Changed ('now',)");
    });
    assert.doesNotMatch(heard, /never|elsewhere/);
    await world.client(["stop", "query"], { uid: uA });
    await listener.status;
    await listening;
    await listener.stdin.close();
    await listener.stderr.cancel();
  });

  await t.step(
    "without rules nothing goes through, and without the bus there is none",
    async () => {
      assert.notEqual((await call("strict", `${name}.Query`, query)).code, 0);
      const socket = ["ls", "/run/dbus/system_bus_socket"];
      assert.equal((await run("strict", ...socket)).code, 0);
      assert.notEqual((await run("apart", ...socket)).code, 0);
      assert.notEqual((await call("apart", `${name}.Query`, query)).code, 0);
      assert.equal(power.calls.length, 1);
    },
  );

  await t.step("what it listens at is the jail's alone, and goes with it", async () => {
    await world.client(["stop", "--all"], { uid: uA });
    assert.equal((await run("query", "--detach", "--", "sleep", "1000")).code, 0);
    const socket = `${world.runtime}/buses/${firstUid}/system`;
    const { uid, mode } = await Deno.stat(socket);
    assert.deepEqual([uid, (mode ?? 0) & 0o777], [firstUid, 0o600]);
    assert.deepEqual([...Deno.readDirSync(`${world.runtime}/buses/${firstUid}`)].length, 1);
    await world.client(["stop", "query"], { uid: uA });
    await assert.rejects(Deno.stat(socket), Deno.errors.NotFound);
  });
});

const none = withProfiles(
  { query: rules },
  changed("mount -t tmpfs -o mode=755 tmpfs /run"),
);

deskTest("where there is no system bus", programs, none, async (_t, world) => {
  const { code, stderr } = await world.client(["run", "-p", "query", "true"], { uid: uA });
  assert.equal(code, 111);
  assert.match(
    stderr,
    /^appjail: Cannot start jail "query": there is no bus at \/run\/dbus\/system_bus_socket: /,
  );
});
