/**
 * The signals of ipc/bus.ts, each for one connection, and its objects that come and go, each one
 * person's: against a real dbus-daemon, and against a bus that the test plays.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import type { BusServiceOptions } from "../../ipc/bus.ts";
import { checkBody, SIGNAL } from "../../ipc/bus-message.ts";
import {
  BUS,
  busctl,
  call,
  encode,
  ERR,
  type Fake,
  fromBus,
  gdbus,
  INTERFACE,
  NAME,
  numberOf,
  PATH,
  rawClient,
  type Received,
  run,
  start,
  startDaemon,
  startFake,
  textOf,
  until,
  type Wire,
  Writer,
} from "./private-bus.ts";

const MANAGER = `${BUS}.ObjectManager`;
const OBJECT = `${INTERFACE}.Thing`;

/** Things of two people, each of which has a colour. */
function declared(): {
  readonly options: Partial<BusServiceOptions>;
  readonly things: Map<string, { uid: number; colour: string }>;
} {
  const things = new Map<string, { uid: number; colour: string }>();
  return {
    things,
    options: {
      methods: [
        { name: "Subscribe", in: [], out: [] },
        { name: "Unsubscribe", in: [], out: [] },
        { name: "Uid", in: [], out: [{ name: "uid", type: "u" }] },
      ],
      signals: [
        { name: "Happened", args: [{ name: "what", type: "s" }] },
        { name: "Missed", args: [{ name: "count", type: "u" }] },
      ],
      missed: "Missed",
      objects: {
        folder: "thing",
        interface: OBJECT,
        properties: [
          { name: "Colour", type: "s", emits: "true" },
          { name: "Owner", type: "u", emits: "const" },
        ],
        names: (uid) => [...things].filter(([, thing]) => thing.uid === uid).map(([name]) => name),
        values: (uid, name) => {
          const thing = things.get(name);
          if (thing === undefined || (uid !== 0 && uid !== thing.uid)) return undefined;
          return { Colour: thing.colour, Owner: thing.uid };
        },
      },
      handle: async ({ method, uid, subscribe, unsubscribe }) => {
        if (method === "Subscribe") await subscribe();
        if (method === "Unsubscribe") await unsubscribe();
        return method === "Uid" ? [uid] : [];
      },
    },
  };
}

const own = Deno.uid() ?? 0;

/** The next signal, whatever comes before it. */
async function signal(wire: Wire): Promise<Received> {
  for (;;) {
    const message = await wire.take();
    if (message.header.type === SIGNAL && message.header.sender !== BUS) return message;
  }
}

Deno.test("a signal is for those who have subscribed, and has their name on it", async () => {
  await using bus = await startDaemon();
  const { options } = declared();
  await using test = await start(bus.address, options);
  using listener = await rawClient(bus);
  using other = await rawClient(bus);
  // A rule that would match any broadcast of it.
  await other.send(encode({
    ...{ serial: 2, destination: BUS, path: "/org/freedesktop/DBus", interface: BUS },
    ...{ member: "AddMatch", signature: "s", body: new Writer().string("type='signal'") },
  }));
  await other.answer(2);
  test.service.emit(own, "Happened", ["before"]);
  await listener.send(call(2, "Subscribe"));
  await listener.answer(2);
  test.service.emit(own, "Happened", ["now"]);
  test.service.emit(own + 1, "Happened", ["to somebody else"]);
  const now = await signal(listener);
  equal(textOf(now), "now");
  const { header } = now;
  deepEqual([header.path, header.interface, header.member], [PATH, INTERFACE, "Happened"]);
  match(header.destination ?? "", /^:1\.\d+$/);
  equal(header.sender, test.service.uniqueName);
  // Twice is once.
  await listener.send(call(3, "Subscribe"));
  await listener.answer(3);
  test.service.emit(own, "Happened", ["once"]);
  equal(textOf(await signal(listener)), "once");
  await listener.send(call(4, "Unsubscribe"));
  await listener.answer(4);
  test.service.emit(own, "Happened", ["after"]);
  for (const [client, serial] of [[listener, 5], [other, 3]] as const) {
    await client.send(call(serial, "Uid"));
    for (;;) {
      const next = await client.take();
      if (next.header.replySerial === serial) break;
      ok(next.header.sender === BUS, `${next.header.member} came to who has not subscribed`);
    }
  }
});

Deno.test("what is subscribed ends with the connection, and the rule for that with it", async () => {
  await using fake = await startFake(declared().options);
  const { wire, test } = fake;
  await subscribe(fake, ":1.7", 2, 1001);
  // A peer cannot say that another has gone, and one that comes has not gone.
  const left = (name: string, sender: string, now = "") =>
    encode({
      ...{ type: 4, serial: 9, path: "/org/freedesktop/DBus", interface: BUS, sender },
      ...{ member: "NameOwnerChanged", signature: "sss" },
      body: new Writer().string(name).string(name).string(now),
    });
  await wire.send(left(":1.7", ":1.9"), left(":1.8", BUS), left(":1.7", BUS, ":1.7"));
  await wire.send(fake.from(":1.7", 3, "Uid"));
  equal((await wire.take()).header.replySerial, 3);
  test.service.emit(1001, "Happened", ["there"]);
  equal((await signal(wire)).header.destination, ":1.7");
  await wire.send(left(":1.7", BUS));
  const question = await wire.take();
  equal(question.header.member, "RemoveMatch");
  equal(textOf(question), ruleFor(":1.7"));
  await wire.send(fromBus(question.header.serial, "", new Writer()));
  test.service.emit(1001, "Happened", ["gone"]);
  await wire.send(fake.from(":1.8", 4, "Uid"));
  await fake.tellUid(1002);
  equal((await wire.take()).header.replySerial, 4);
});

Deno.test("who left before the bus watched for it is not subscribed", async () => {
  await using fake = await startFake(declared().options);
  const { wire, test } = fake;
  await wire.send(fake.from(":1.7", 2, "Subscribe"));
  await fake.tellUid(1001);
  await answerQuestion(wire, "AddMatch", new Writer());
  const asked = await wire.take();
  equal(asked.header.member, "NameHasOwner");
  await wire.send(fromBus(asked.header.serial, "b", new Writer().u32(0)));
  await answerQuestion(wire, "RemoveMatch", new Writer());
  equal((await wire.take()).header.replySerial, 2);
  test.service.emit(1001, "Happened", ["x"]);
  await wire.send(fake.from(":1.7", 3, "Uid"));
  equal((await wire.take()).header.replySerial, 3);
});

Deno.test("a bus that takes no rule makes the subscription fail, and leaves none", async () => {
  await using fake = await startFake(declared().options);
  const { wire } = fake;
  for (const serial of [2, 3]) {
    await wire.send(fake.from(":1.7", serial, "Subscribe"));
    if (serial === 2) await fake.tellUid(1001);
    const asked = await wire.take();
    equal(asked.header.member, "AddMatch");
    const error = { type: 3, error: `${ERR}.LimitsExceeded` };
    await wire.send(fromBus(asked.header.serial, "s", new Writer().string("no"), error));
    equal((await wire.answer(serial)).header.errorName, `${ERR}.LimitsExceeded`);
  }
});

Deno.test("one person has 16 subscriptions, and all have 256", async () => {
  await using fake = await startFake(declared().options);
  const { wire } = fake;
  const refused = async (sender: string, serial: number, uid: number, words: RegExp) => {
    await wire.send(fake.from(sender, serial, "Subscribe"));
    await fake.tellUid(uid);
    const answer = await wire.answer(serial);
    equal(answer.header.errorName, `${ERR}.LimitsExceeded`);
    match(textOf(answer), words);
  };
  let serial = 1;
  for (let uid = 1001; uid <= 1016; uid++) {
    for (let peer = 0; peer < 16; peer++) {
      await subscribe(fake, `:${uid}.${peer}`, ++serial, uid);
    }
    if (uid === 1001) await refused(":1001.16", ++serial, uid, /You have 16 subscriptions/);
  }
  await refused(":1017.0", ++serial, 1017, /There are 256 subscriptions/);
  // One that is given back is another's.
  await wire.send(fake.from(":1001.3", ++serial, "Unsubscribe"));
  await answerQuestion(wire, "RemoveMatch", new Writer());
  equal((await wire.take()).header.replySerial, serial);
  await wire.send(fake.from(":1017.0", ++serial, "Subscribe"));
  await answerQuestion(wire, "AddMatch", new Writer());
  await answerQuestion(wire, "NameHasOwner", new Writer().u32(1), "b");
  equal((await wire.take()).header.replySerial, serial);
});

Deno.test("a person's objects are listed, described and read; another's are not there", async () => {
  await using bus = await startDaemon();
  const { options, things } = declared();
  await using _test = await start(bus.address, options);
  things.set("_1", { uid: own, colour: "red" });
  things.set("_2", { uid: own + 1, colour: "blue" });
  const managed = await gdbus(bus, `${MANAGER}.GetManagedObjects`);
  const [path, other] = [1, 2].map((number) => `${PATH}/thing/_${number}`) as [string, string];
  equal(
    managed.out.trim(),
    `({objectpath '${path}': {'${OBJECT}': {'Colour': <'red'>, 'Owner': <uint32 ${own}>}}},)`,
  );
  equal((await busctl(bus, "tree", "--list", NAME)).out.includes("/thing/_1"), true);
  equal((await busctl(bus, "tree", "--list", NAME)).out.includes("/thing/_2"), false);
  const described = await busctl(bus, "introspect", NAME, path);
  match(described.out, /\.Colour +property +s +"red" +emits-change/);
  match(described.out, /\.Owner +property +u +\d+ +const/);
  const main = await busctl(bus, "introspect", NAME, PATH);
  for (const words of [/\.Happened +signal +s/, /\.InterfacesAdded +signal +oa\{sa\{sv\}\}/]) {
    match(main.out, words);
  }
  const get = (at: string) => busctl(bus, "get-property", NAME, at, OBJECT, "Colour");
  equal((await get(path)).out, 's "red"\n');
  if (own !== 0) return;
  // Root, who asks for one by its name, is told; the list has only its own.
  equal((await get(other)).out, 's "blue"\n');
});

Deno.test("another's object answers as one that does not exist, whatever is called", async () => {
  await using fake = await startFake(declared().options);
  const { things, options } = declared();
  await using theirs = await startFake(options);
  things.set("_2", { uid: 1002, colour: "blue" });
  let serial = 1;
  /** What a call of uid 1001's on object _2 comes to. */
  const answer = async (
    { wire, from }: Fake,
    member: string,
    more: Parameters<Fake["from"]>[3],
  ) => {
    await wire.send(from(":1.7", ++serial, member, { path: `${PATH}/thing/_2`, ...more }));
    for (;;) {
      const message = await wire.take();
      if (message.header.member !== "GetConnectionUnixUser") {
        const { errorName } = message.header;
        return [errorName, errorName === undefined ? "" : textOf(message)];
      }
      await wire.send(fromBus(message.header.serial, "u", new Writer().u32(1001)));
    }
  };
  const properties = `${BUS}.Properties`;
  const two = (a: string, b: string) => new Writer().string(a).string(b);
  const calls: readonly (readonly [string, Parameters<Fake["from"]>[3]])[] = [
    ["Introspect", { interface: `${BUS}.Introspectable` }],
    ["Get", { interface: properties, signature: "ss", body: two(OBJECT, "Colour") }],
    ["Get", { interface: properties, signature: "ss", body: two(OBJECT, "Nothing") }],
    ["Get", { interface: properties, signature: "ss", body: two("org.x.Y", "Colour") }],
    ["GetAll", { interface: properties, signature: "s", body: new Writer().string(OBJECT) }],
    ["Paint", { interface: OBJECT }],
    ["Get", { interface: properties, signature: "s", body: new Writer().string("x") }],
    ["GetManagedObjects", { interface: MANAGER }],
  ];
  for (const [member, more] of calls) {
    const [there, not] = [await answer(theirs, member, more), await answer(fake, member, more)];
    deepEqual(there, not, member);
    ok(there[0] !== undefined, member);
  }
});

Deno.test("objects that come, change and go are told in the standard's words", async () => {
  await using bus = await startDaemon();
  const { options, things } = declared();
  await using test = await start(bus.address, options);
  using listener = await rawClient(bus);
  await listener.send(call(2, "Subscribe"));
  await listener.answer(2);
  const next = async (member: string, on: string, signature: string, path: string) => {
    const message = await signal(listener);
    const { header } = message;
    deepEqual(
      [header.member, header.interface, header.signature, header.path],
      [member, on, signature, path],
    );
    checkBody(message.bytes, header, 100);
    return new TextDecoder().decode(message.bytes.subarray(header.bodyStart));
  };
  const path = `${PATH}/thing/_1`;
  things.set("_1", { uid: own, colour: "red" });
  test.service.added(own, "_1");
  const added = await next("InterfacesAdded", MANAGER, "oa{sa{sv}}", PATH);
  for (const part of [path, OBJECT, "Colour", "red", "Owner"]) ok(added.includes(part), part);
  things.set("_1", { uid: own, colour: "green" });
  test.service.changed(own, "_1", ["Colour"]);
  const changed = await next("PropertiesChanged", `${BUS}.Properties`, "sa{sv}as", path);
  for (const part of [OBJECT, "Colour", "green"]) ok(changed.includes(part), part);
  // What has not changed is not said again.
  ok(!changed.includes("Owner"));
  // One that was gone before it could be told is not told.
  test.service.added(own, "_3");
  things.delete("_1");
  test.service.changed(own, "_1", ["Colour"]);
  test.service.removed(own, "_1");
  const removed = await next("InterfacesRemoved", MANAGER, "oas", PATH);
  for (const part of [path, OBJECT]) ok(removed.includes(part), part);
  // Nobody has subscribed who could be told.
  things.set("_2", { uid: own + 1, colour: "blue" });
  test.service.added(own + 1, "_2");
  test.service.emit(own, "Happened", ["last"]);
  equal(textOf(await signal(listener)), "last");
});

Deno.test("what cannot be sent is told in the log, and the bus keeps us", async () => {
  await using bus = await startDaemon();
  const { options } = declared();
  await using test = await start(bus.address, options);
  using listener = await rawClient(bus);
  await listener.send(call(2, "Subscribe"));
  await listener.answer(2);
  for (const bad of [undefined, 5, "a\0b"]) test.service.emit(own, "Happened", [bad]);
  await rejects(async () => await test.service.emit(own, "Nothing", []), /There is no signal/);
  test.service.emit(own, "Happened", ["good"]);
  equal(textOf(await signal(listener)), "good");
  ok(test.lines.some((line) => line.includes("the signal Happened could not be sent")));
});

Deno.test("a subscriber who does not read costs nobody anything, and is told what it has missed", async () => {
  // A bus that keeps little for who does not read.
  await using bus = await startDaemon(
    undefined,
    `<limit name="max_outgoing_bytes">65536</limit>`,
  );
  const { options } = declared();
  await using test = await start(bus.address, options);
  using stuck = await rawClient(bus);
  using quick = await rawClient(bus);
  for (const client of [stuck, quick]) {
    await client.send(call(2, "Subscribe"));
    await client.answer(2);
  }
  const turns = 200, each = 50;
  const read = { quick: 0, stuck: 0, missed: 0 };
  for (let turn = 0; turn < turns; turn++) {
    for (let one = 0; one < each; one++) {
      test.service.emit(own, "Happened", [`${turn * each + one} ${"x".repeat(200)}`]);
    }
    // Whoever reads has all of it, in its order, however many do not.
    for (let one = 0; one < each; one++) {
      match(textOf(await signal(quick)), new RegExp(`^${read.quick++} x`));
    }
  }
  match((await gdbus(bus, `${BUS}.Peer.Ping`)).out, /^\(\)/);
  ok(test.lines.length < 100, `${test.lines.length} lines`);
  // Now it reads, and hears of the gap with what happens next.
  for (let after = 0; read.stuck + read.missed < turns * each + after; after++) {
    test.service.emit(own, "Happened", ["after"]);
    for (let last = ""; last !== "after";) {
      const message = await signal(stuck);
      if (message.header.member === "Missed") read.missed += numberOf(message);
      else {
        last = textOf(message);
        read.stuck++;
      }
    }
    ok(after < 20, JSON.stringify(read));
  }
  ok(read.missed > 0 && read.stuck > 0, JSON.stringify(read));
});

Deno.test("while the bus stands still nothing is put by for subscribers, and they are told later", async () => {
  await using fake = await startFake({ ...declared().options, deadlineMs: 60_000 });
  const { wire, test } = fake;
  await subscribe(fake, ":1.7", 2, 1001);
  const count = 50_000;
  for (let at = 0; at < count; at++) test.service.emit(1001, "Happened", ["x".repeat(1000)]);
  let happened = 0;
  for (;;) {
    const message = await signal(wire);
    if (message.header.member === "Missed") {
      // Far more than a megabyte would have waited.
      ok(happened < 2000, `${happened} were put by`);
      equal(happened + numberOf(message), count);
      break;
    }
    happened++;
  }
  test.service.emit(1001, "Happened", ["and goes on"]);
  equal(textOf(await signal(wire)), "and goes on");
});

Deno.test("a policy that keeps signals from people is told, in few lines", async () => {
  await using bus = await startDaemon(`<allow own="*"/><deny send_type="signal"/>`);
  const { options } = declared();
  await using test = await start(bus.address, options);
  using listener = await rawClient(bus);
  await listener.send(call(2, "Subscribe"));
  await listener.answer(2);
  for (let at = 0; at < 500; at++) test.service.emit(own, "Happened", [`${at}`]);
  await until(() => test.lines.length > 0, "it is told");
  match(test.lines[0] ?? "", /the bus did not pass a signal on: .*Happened/);
  const { out } = await run("gdbus", ...[
    "call",
    "--address",
    bus.address,
    "-d",
    NAME,
    "-o",
    PATH,
    "-m",
    `${INTERFACE}.Uid`,
  ]);
  equal(out.trim(), `(uint32 ${own},)`);
  ok(test.lines.length <= 21, `${test.lines.length} lines`);
});

/** Subscribes a sender that the bus has never told of. */
async function subscribe(fake: Fake, sender: string, serial: number, uid: number): Promise<void> {
  const { wire } = fake;
  await wire.send(fake.from(sender, serial, "Subscribe"));
  await fake.tellUid(uid);
  equal(textOf(await answerQuestion(wire, "AddMatch", new Writer())), ruleFor(sender));
  equal(textOf(await answerQuestion(wire, "NameHasOwner", new Writer().u32(1), "b")), sender);
  equal((await wire.take()).header.replySerial, serial);
}

/** Answers what the bus is asked next, which has to be this. */
async function answerQuestion(
  wire: Wire,
  member: string,
  body: Writer,
  signature = "",
): Promise<Received> {
  const question = await wire.take();
  equal(question.header.member, member);
  equal(question.header.destination, BUS);
  await wire.send(fromBus(question.header.serial, signature, body));
  return question;
}

function ruleFor(sender: string): string {
  return `type='signal',sender='${BUS}',interface='${BUS}',member='NameOwnerChanged',` +
    `path='/org/freedesktop/DBus',arg0='${sender}',arg2=''`;
}
