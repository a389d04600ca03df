/**
 * The helper against a dispatcher that has been taken over: whatever that one says, the helper asks
 * its own registry, does nothing that it was not made for, and goes on serving.
 */
import assert from "node:assert/strict";
import { open } from "../../ipc/fd.ts";
import { encodeFrame } from "../../ipc/frame.ts";
import { plainSpec, protocolVersion, toHelper } from "../../core/protocol.ts";

import { StandIn } from "./stand-in.ts";
import { appProcesses, firstUid, jailTest, lastUid, ownEtc, uA, until, World } from "./world.ts";

/** What the helper has made so far: the registry byte for byte, and every name in its folders. */
function made(world: World): unknown {
  const names = (folder: string): readonly string[] =>
    [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return {
    uids: Deno.readTextFileSync(`${world.state}/uids.json`),
    state: names(world.state),
    homes: names(world.data).map((name) => {
      const { uid, gid, mode } = Deno.lstatSync(`${world.data}/${name}`);
      return [name, uid, gid, mode];
    }),
    jails: names(`${world.runtime}/jails`),
    sockets: names(`${world.runtime}/ctl`),
    processes: appProcesses(),
  };
}

const spec = plainSpec;

/** A jail that stays as it is. */
async function running(world: World, profile: string): Promise<void> {
  const { code, stderr } = await world.client(
    ["run", "--detach", "-p", profile, "--", "sleep", "1000"],
    { uid: uA },
  );
  assert.equal(code, 0, stderr);
}

jailTest("a uid that was never given is refused, whoever's it is", async () => {
  await using world = await World.start();
  await running(world, "mine");
  const before = made(world);
  {
    using dispatcher = await StandIn.take(world);
    const refused = async (message: object, code: string, words: RegExp): Promise<void> => {
      const answer = await dispatcher.ask({ id: 7, ...message });
      assert(answer.type === "refused" && answer.code === code, JSON.stringify(answer));
      assert.match(answer.message, words);
    };
    // The next one, the last one, a person's, others outside the range, the largest there is.
    for (const uid of [firstUid + 1, lastUid, 1000, lastUid + 1, 65533, 65536, 4294967294]) {
      const never = new RegExp(`uid ${uid} was given to no profile`);
      await refused({ type: "homes", uids: [firstUid, uid] }, "denied", never);
      await refused({ type: "keep", uid, until: 0 }, "denied", never);
      await refused({ type: "lock", uid }, "denied", never);
      await refused({ type: "start", uid, spec }, "denied", never);
      await refused({ type: "end", uid, jail: null }, "denied", never);
      const { name, path, write } = lent;
      const wanted = { name, path, write, until: null };
      await refused({ type: "lend", uid, ...wanted }, "denied", never);
      await refused({ type: "unlend", uid, name }, "denied", never);
    }
    // Nobody in a jail is somebody who can have jails.
    for (const owner of [firstUid, lastUid]) {
      await refused({ type: "allocate", owner, profile: "x" }, "denied", /belongs to a jail/);
    }
    await refused({ type: "start", uid: firstUid, spec }, "start-failed", /runs already/);
    assert.deepEqual(made(world), before);
    const next = { id: 8, type: "allocate", owner: uA, profile: "next" };
    assert.deepEqual(await dispatcher.ask(next), { type: "allocated", id: 8, uid: firstUid + 1 });
  }
  assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
});

const lent = {
  name: "x",
  path: "/tmp",
  write: false,
  at: null,
  skip_missing: false,
  unless: null,
  context: "none",
};
/** Names and paths that there must not be. */
const wrongNames: readonly unknown[] = [
  ...[
    "",
    ".",
    "..",
    "a/b",
    "/",
    "../x",
    "a\0",
    "a\nb",
    "a\u202eb",
    "x".repeat(201),
    "ä".repeat(101),
  ],
  ...[5, null, ["x"]],
];
const wrongPaths: readonly unknown[] = [
  ...["", "x", "../x", "./x", "/a\0b", `/${"x".repeat(5000)}`, 5, null],
];
const wrongLends: readonly unknown[] = [
  ...wrongNames.map((name) => ({ ...lent, name })),
  ...wrongPaths.map((path) => ({ ...lent, path })),
  ...["home", "", "/a\0", 5].map((at) => ({ ...lent, at })),
  { ...lent, write: "yes" },
  { ...lent, skip_missing: null },
  { ...lent, context: true },
  { ...lent, context: "always" },
  { ...lent, unless: "" },
  { ...lent, unless: "../x" },
  { ...lent, device: true },
];

type Attempt = readonly [what: string, message: unknown];

/** Every uid, owner and name that there must not be, in every request. */
const wrongValues: readonly Attempt[] = [
  ...[
    ...[0, -1, 4294967295, 4294967296 + firstUid, 999, 65534, 65535, firstUid + 0.5],
    ...[`${firstUid}`, "root", "", null, [firstUid], {}, true],
  ].flatMap((uid): Attempt[] => [
    [`start of uid ${JSON.stringify(uid)}`, { type: "start", id: 1, uid, spec }],
    [`lock of uid ${JSON.stringify(uid)}`, { type: "lock", id: 1, uid }],
    [`unlock of uid ${JSON.stringify(uid)}`, { type: "unlock", id: 1, uid }],
    [`end of uid ${JSON.stringify(uid)}`, { type: "end", id: 1, uid, jail: null }],
  ]),
  ...[-1, 4294967295, 65535, 0.5, "0", null].map((owner): Attempt => [
    `an owner ${JSON.stringify(owner)}`,
    { type: "allocate", id: 1, owner, profile: "x" },
  ]),
  ...[
    ...["../x", "a/b", "", "-rf", ".", "..", "a".repeat(300), "a\nb", "a\0b", "$(id)", "a b", "ä"],
    ...["--tmpfs", "a\u202eb", "root", "nobody", null, 5, ["x"]],
  ].map((profile): Attempt => [
    `a profile ${JSON.stringify(profile).slice(0, 20)}`,
    { type: "allocate", id: 1, owner: uA, profile },
  ]),
  ...[
    { ...spec, bind: ["/root"] },
    { ...spec, share_ipc: true },
    { ...spec, network: "all" },
    { ...spec, network: ["host"] },
    ...["shared", "lend", "network"].map((name) => ({ ...spec, [name]: undefined })),
    ...wrongLends.map((one) => ({ ...spec, lend: [one] })),
    { ...spec, lend: Array(257).fill(lent) },
    {},
    null,
    ["--bind", "/", "/"],
  ].map((spec): Attempt => [
    `a spec ${JSON.stringify(spec)}`,
    { type: "start", id: 1, uid: firstUid, spec },
  ]),
  ...[
    ...wrongNames.map((name) => ({ name, path: "/tmp" })),
    ...wrongPaths.map((path) => ({ name: "x", path })),
  ].map((one): Attempt => [
    `a lend ${JSON.stringify(one).slice(0, 60)}`,
    { type: "lend", id: 1, uid: firstUid, write: false, until: null, ...one },
  ]),
  ...["", "..", "a/b", null].map((name): Attempt => [
    `an unlend of ${JSON.stringify(name)}`,
    { type: "unlend", id: 1, uid: firstUid, name },
  ]),
  ["a request that there is not", { type: "chown", id: 1, uid: firstUid }],
  ["a request of another channel", { type: "exec", id: 1, argv: ["id"] }],
  ["a field that there is not", { type: "end", id: 1, uid: firstUid, jail: null, force: true }],
  ["a field of the prototype", { type: "end", id: 1, uid: firstUid, jail: null, constructor: 1 }],
  ["a type of the prototype", { type: "toString", id: 1 }],
  ["no id", { type: "end", uid: firstUid, jail: null }],
  ["an id that is no number", { type: "end", id: "1", uid: firstUid, jail: null }],
  ["another role", { type: "hello", role: "helper", protocol: protocolVersion, version: "" }],
  ["a list", [{ type: "end", id: 1, uid: firstUid, jail: null }]],
  ["null", null],
];

Deno.test("every wrong uid, owner, name, spec and type is no message to the helper", () => {
  for (const [what, message] of wrongValues) {
    const value = JSON.parse(JSON.stringify(message));
    assert.throws(() => toHelper.decode(value), /^TypeError: No dispatcher message/, what);
  }
});

const frame = (payload: string | Uint8Array, length?: number): Uint8Array => {
  const body = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, length ?? body.length, true);
  bytes.set(body, 4);
  return bytes;
};
const harmless = JSON.stringify({ type: "end", id: 1, uid: lastUid, jail: null });

/** What is no frame at all. */
const noise: readonly (readonly [what: string, bytes: Uint8Array])[] = [
  ["a frame of no length", frame("", 0)],
  ["a frame of 2 GiB", frame("", 0x80000000)],
  ["a frame of 4 GiB", frame("", 0xffffffff)],
  ["a frame of 1 MiB and a byte", frame("", 1024 * 1024 + 1)],
  ["no JSON", frame("{]")],
  ["no UTF-8", frame(new Uint8Array([0x22, 0xff, 0x22]))],
  ["JSON that is deep", frame("[".repeat(500_000) + "]".repeat(500_000))],
  ["two values in a frame", frame(harmless + harmless)],
];

jailTest(
  "the helper hangs up on what is no request, and serves the next dispatcher",
  async () => {
    await using world = await World.start();
    await running(world, "mine");
    const before = made(world);
    let helper = world.helperPid;
    using stray = open("/dev/null", 0);
    const spoken = [
      ...["start of uid 0", "end of uid -1", "lock of uid 4294967295", 'start of uid "root"'],
      ...[`start of uid ${4294967296 + firstUid}`, 'a profile "../x"', 'a profile "a\\u0000b"'],
      ...[
        `a spec ${JSON.stringify({ ...spec, bind: ["/root"] })}`,
        "a request that there is not",
      ],
    ];
    const attempts: readonly (readonly [string, (dispatcher: StandIn) => void])[] = [
      ...wrongValues.filter(([what]) => spoken.includes(what)).map(([what, message]) =>
        [what, (dispatcher: StandIn) => dispatcher.raw(encodeFrame(message))] as const
      ),
      ...noise.map(([what, bytes]) =>
        [what, (dispatcher: StandIn) => dispatcher.raw(bytes)] as const
      ),
      [
        "another protocol",
        (dispatcher) =>
          dispatcher.say({ type: "hello", role: "dispatcher", protocol: 0, version: "" }),
      ],
      [
        "a descriptor with a request",
        (dispatcher) => dispatcher.raw(frame(harmless), [stray.number]),
      ],
      ["the end in the middle of a message", (dispatcher) => {
        dispatcher.raw(frame(harmless).subarray(0, 20));
        dispatcher[Symbol.dispose]();
      }],
    ];
    assert.equal(attempts.length, spoken.length + noise.length + 3);
    let count = 0;
    for (const [what, attempt] of attempts) {
      const log = world.log.length;
      {
        using dispatcher = await StandIn.take(world);
        attempt(dispatcher);
        await dispatcher.dropped();
      }
      await until(
        `another dispatcher after ${what}`,
        () => world.log.slice(log).includes("the dispatcher is gone; starting another"),
      );
      assert.equal(world.helperPid, helper);
      // A helper whose dispatchers die all the time waits longer and longer; a fresh one does not.
      if (++count % 4 > 0) continue;
      assert.equal(await world.stopDaemon(), 0);
      await world.startDaemon();
      helper = world.helperPid;
    }
    assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
    assert.deepEqual(made(world), before);
  },
);

jailTest("requests that cross leave one jail or none, and both know of it", async () => {
  await using world = await World.start();
  await world.run("mine", ["true"], { uid: uA });
  assert.equal((await world.client(["stop", "mine"], { uid: uA })).code, 0);
  using dispatcher = await StandIn.take(world);
  const uid = firstUid;
  const start = (id: number) => encodeFrame({ type: "start", id, uid, spec });
  const end = (id: number) => encodeFrame({ type: "end", id, uid, jail: null });
  const say = (...frames: readonly Uint8Array[]): void =>
    dispatcher.raw(new Uint8Array(frames.flatMap((one) => [...one])));
  /** What is said until one of this type is, sorted: answers to two requests may pass each other. */
  const until = async (type: string): Promise<readonly string[]> => {
    for (const said: string[] = [];;) {
      const message = await dispatcher.hear();
      assert(message !== undefined);
      said.push("id" in message ? `${message.type} ${message.id}` : message.type);
      if (message.type === type) return said.sort();
    }
  };

  say(start(1), start(2));
  assert.deepEqual(await until("started"), ["refused 2", "started 1", "starting 1"]);
  say(end(3), end(4));
  assert.deepEqual(await until("ended"), ["ended"]);
  assert.deepEqual(appProcesses(), []);

  // An end that comes too early is for the jail that is on its way.
  say(start(5), end(6), start(7));
  assert.deepEqual(await until("ended"), ["ended", "refused 7", "started 5", "starting 5"]);
  assert.deepEqual(appProcesses(), []);

  // One that comes too late is not for the next.
  say(start(8));
  await until("started");
  say(end(9));
  await until("ended");
  say(end(10), start(11), end(12), end(13), start(14));
  assert.deepEqual(await until("ended"), ["ended", "refused 14", "started 11", "starting 11"]);
  assert.deepEqual(appProcesses(), []);
  say(end(15), start(16));
  assert.deepEqual(await until("started"), ["started 16", "starting 16"]);
  const names = [...Deno.readDirSync(`${world.runtime}/jails/${uid}`)].map(({ name }) => name);
  assert(names.includes("state"), names.join());
  say(end(17));
  await until("ended");
  assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);
  assert.deepEqual([...Deno.readDirSync(`${world.runtime}/ctl`)], []);
});

jailTest("a dispatcher that ends while a jail is starting leaves it to the next one", async () => {
  await using world = await World.start();
  await world.run("mine", ["true"], { uid: uA });
  assert.equal((await world.client(["stop", "mine"], { uid: uA })).code, 0);
  {
    using dispatcher = await StandIn.take(world);
    dispatcher.say({ type: "start", id: 1, uid: firstUid, spec });
    assert.equal((await dispatcher.hear())?.type, "starting");
  }
  // Nobody asks for it: it is the next dispatcher that finds it, joins it and lets it go.
  assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
  await until("the jail is let go", () => appProcesses().length === 0);
});

jailTest("a uid that has become somebody's since it was given is not used", async () => {
  await using world = await World.start(ownEtc);
  await world.run("mine", ["true"], { uid: uA });
  assert.equal((await world.client(["stop", "mine"], { uid: uA })).code, 0);
  for (
    const [file, line] of [["passwd", `bob:x:${firstUid}:100::/:/bin/sh`], [
      "group",
      `bob:x:${firstUid}:`,
    ]] as const
  ) {
    const before = Deno.readTextFileSync(`${world.folder}/etc/${file}`);
    Deno.writeTextFileSync(`${world.folder}/etc/${file}`, `${before}${line}\n`);
    const { code, stderr } = await world.client(["run", "-p", "mine", "true"], { uid: uA });
    assert.equal(code, 111);
    assert.equal(
      stderr,
      `appjail: Cannot start jail "mine": its uid ${firstUid} has become "bob" on this machine; ` +
        "give that another\n",
    );
    Deno.writeTextFileSync(`${world.folder}/etc/${file}`, before);
  }
  assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
});
