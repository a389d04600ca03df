/** Strangers at the sockets: whatever they send, they are dropped, and everybody else is served. */
import assert from "node:assert/strict";
import { pipe, readAll } from "../../ipc/fd.ts";
import { within } from "../../core/deadline.ts";
import { encodeFrame } from "../../ipc/frame.ts";
import {
  clientHello,
  descriptors,
  dispatcherHello,
  frame,
  holdings,
  Peer,
  runMessage,
  textFrame,
  together,
} from "./peer.ts";
import { firstUid, jailTest, uA, uB, until, World } from "./world.ts";

const hello = encodeFrame(clientHello);
const status = { type: "status", profile: null, everyone: false };

/** What breaks the rules whoever hears it, as the first or the second thing that is said. */
const malformed: Readonly<Record<string, Uint8Array>> = {
  "a length of 0": frame(0),
  "a length of 1, and no JSON": frame(1, "x"),
  "a length of 1, and JSON that is no message": frame(1, "1"),
  "a length of 1 MiB and one": frame(1024 * 1024 + 1, "{"),
  "a length of 2^31": frame(2 ** 31, "{"),
  "a length of 2^32-1": frame(2 ** 32 - 1, "{"),
  "invalid UTF-8": textFrame(Uint8Array.of(0x22, 0xff, 0xfe, 0x22)),
  "an overlong NUL": textFrame(Uint8Array.of(0x22, 0xc0, 0x80, 0x22)),
  "a surrogate in UTF-8": textFrame(Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22)),
  "two values in one frame": textFrame("{}{}"),
  "deep arrays": textFrame("[".repeat(500_000) + "]".repeat(500_000)),
  "deep objects": textFrame('{"a":'.repeat(100_000) + "1" + "}".repeat(100_000)),
  "arrays that never close": textFrame("[".repeat(1024 * 1024)),
  "nothing but null": textFrame("null"),
  "an array": textFrame("[]"),
  "a type that is none": textFrame('{"type":"shutdown"}'),
  "a type that every object has": textFrame('{"type":"constructor"}'),
  "no type": textFrame("{}"),
};

/** What a client must not say instead of a request. */
const misspoken: Readonly<Record<string, unknown>> = {
  "a second hello": clientHello,
  "a signal to nothing": { type: "signal", signal: "SIGTERM" },
  "an unknown field": { ...status, more: 1 },
  "a field twice removed": { type: "status", profile: null },
  "a prototype": JSON.parse(`{"__proto__":{"everyone":true},"type":"status","profile":null}`),
  "a helper's request": { type: "end", id: 1, uid: firstUid },
  "a jailer's request": { type: "terminate" },
  "a profile with a slash": { type: "status", profile: "../x", everyone: false },
  "a profile that is a number": { type: "status", profile: 5, everyone: false },
  "a NUL in a command": runMessage("x", ["true", "a\0b"], "log"),
  "no command": runMessage("x", [], "log"),
  "an empty command": runMessage("x", [""], "log"),
  "a variable that is none": { ...runMessage("x", ["true"], "log"), env: { "A=B": "" } },
  "a relative folder": { ...runMessage("x", ["true"], "log"), cwd: "tmp" },
  "an endless timeout": { type: "stop", profiles: [], force: false, timeout: 1e300, lock: false },
  "a negative timeout": { type: "stop", profiles: [], force: false, timeout: -1, lock: false },
};

/** That a person is served, right now. */
async function served(world: World, uid = uA): Promise<void> {
  const run = world.run("calm", ["echo", "served"], { uid });
  assert.equal(await within(run, 60_000, () => new Error("nobody is served")), "served");
}

/** The runtime makes a pair of sockets of its own when it first needs one, and keeps it. */
const lazily = 2;

/** The beginning of the longest message there can be. */
const half = together(hello, frame(1024 * 1024, new Uint8Array(1024 * 1024 - 1).fill(0x20)));

/** What is said until the end, a failure left out. It begins with a hello. */
async function answers(peer: Peer, role: string): Promise<readonly string[]> {
  const [first, ...more] = await peer.rest();
  assert.equal(first?.type, "hello");
  assert.equal(first.role, role);
  return more.map(({ type }) => type).filter((type) => type !== "failed");
}

jailTest(
  "who sends what is no request is dropped, all others are served",
  async () => {
    await using world = await World.start();
    const pid = await world.dispatcherPid();
    const mischief = async (): Promise<void> => {
      for (const [name, bytes] of Object.entries(malformed)) {
        for (const first of [new Uint8Array(), hello]) {
          using peer = new Peer(world.socket);
          await peer.write(together(first, bytes));
          assert.deepEqual(await answers(peer, "dispatcher"), [], name);
        }
      }
      for (const [name, message] of Object.entries(misspoken)) {
        using peer = new Peer(world.socket);
        await peer.write(together(hello, encodeFrame(message)));
        assert.deepEqual(await answers(peer, "dispatcher"), [], name);
      }
      for (const first of [{ ...clientHello, protocol: 0 }, dispatcherHello, status]) {
        using peer = new Peer(world.socket);
        await peer.write(together(encodeFrame(first), encodeFrame(status)));
        assert.deepEqual(await answers(peer, "dispatcher"), [], JSON.stringify(first));
      }
    };
    await mischief();
    await served(world);
    const before = holdings(pid);
    await mischief();
    await served(world);
    // What would be most, were it made into objects before it is judged.
    for (let turn = 0; turn < 60; turn++) {
      using peer = new Peer(world.socket);
      await peer.write(malformed["deep arrays"] ?? hello);
      await peer.rest();
    }
    await served(world);
    await until(
      "every descriptor is closed",
      () => holdings(pid).descriptors <= before.descriptors + lazily,
    );
    // What one message may cost, at its worst, some times over: garbage waits to be collected.
    const { memory } = holdings(pid);
    assert(memory < before.memory + 64 * 1024, `${before.memory} kB before, ${memory} kB after`);
    assert.equal(await world.dispatcherPid(), pid, "the dispatcher was not replaced");
    assert.equal((await world.client(["profiles"])).stdout, "", "no uid was spent");
  },
);

jailTest("a request is understood however it comes", async (t) => {
  await using world = await World.start();
  const request = encodeFrame(runMessage("bits", ["sh", "-c", "exit 7"]));

  await t.step("one byte at a time, its descriptors with the first", async () => {
    using peer = new Peer(world.socket);
    await peer.hear("hello");
    for (const byte of hello) await peer.write(Uint8Array.of(byte));
    let fds = descriptors(3);
    for (const byte of request) {
      await peer.write(Uint8Array.of(byte), fds);
      fds = [];
    }
    const { program } = await peer.hear("started");
    const status = { by: "exit", code: 7 };
    assert.deepEqual(await peer.rest(), [{ type: "exited", program, status }]);
  });

  await t.step("all in one write", async () => {
    using peer = new Peer(world.socket);
    await peer.write(together(hello, request), descriptors(3));
    assert.equal((await peer.hear("exited")).status.code, 7);
  });

  await t.step("with words that no shell could pass", async () => {
    using peer = new Peer(world.socket);
    const { read, write } = pipe();
    using output = read;
    const argv = ["printf", "%s|", "\ud800", "\x01\n\x7f", "𝔘", "\\x41", '"', ""];
    await peer.write(together(hello, encodeFrame(runMessage("bits", argv))), [
      ...descriptors(1),
      write,
      ...descriptors(1),
    ]);
    assert.equal((await peer.hear("exited")).status.code, 0);
    // Half of a pair is no character; UTF-8 has a sign for that.
    assert.equal(
      new TextDecoder().decode(readAll(output.number, 1024)),
      '\ufffd|\x01\n\x7f|𝔘|\\x41|"||',
    );
  });
});

jailTest(
  "descriptors that are too many or too few cost the connection",
  async () => {
    await using world = await World.start();
    const pid = await world.dispatcherPid();
    await served(world);
    const before = holdings(pid).descriptors;
    const run = encodeFrame(runMessage("fds", ["sleep", "1000"]));
    for (const count of [0, 1, 2]) {
      using peer = new Peer(world.socket);
      await peer.write(together(hello, run), descriptors(count));
      assert.deepEqual(await answers(peer, "dispatcher"), [], `${count} of 3`);
    }
    for (
      const [what, count] of [[hello, 1], [encodeFrame(status), 8], [textFrame("{"), 3]] as const
    ) {
      using peer = new Peer(world.socket);
      await peer.write(what, descriptors(count));
      await peer.write(together(...(what === hello ? [] : [hello, encodeFrame(status)])));
      assert.deepEqual(await answers(peer, "dispatcher"), [], `${count} with what carries none`);
    }
    // Often enough to be seen, were a descriptor to stay open each time.
    for (let turn = 0; turn < 10; turn++) {
      using early = new Peer(world.socket);
      await early.write(run, descriptors(3));
      assert.deepEqual(await answers(early, "dispatcher"), [], "a request before the hello");
      using twice = new Peer(world.socket);
      await twice.write(together(hello, run), descriptors(3));
      await twice.hear("started");
      await twice.write(run, descriptors(3));
      assert.deepEqual(await twice.rest(), [], "a second request");
    }
    for (const count of [4, 8]) {
      using peer = new Peer(world.socket);
      await peer.write(together(hello, run), descriptors(count));
      // It may have been started: then it is told that its client has left.
      await peer.rest();
    }
    {
      // One descriptor with each byte: more than the longest message has.
      using peer = new Peer(world.socket);
      for (const byte of together(hello, run)) {
        if (!await peer.write(Uint8Array.of(byte), descriptors(1))) break;
      }
      assert.deepEqual(await answers(peer, "dispatcher"), []);
    }
    {
      // As many as the kernel lets pass: it cuts off what nobody asked it for, and says so.
      using peer = new Peer(world.socket);
      await peer.hear("hello");
      assert.equal(peer.sendMany(0), 1);
      assert.deepEqual(await peer.rest(), []);
    }
    await served(world);
    await until(
      "every descriptor is closed",
      () => holdings(pid).descriptors <= before + lazily,
    );
    await until(
      "every program has ended",
      async () => (await world.status()).every(({ programs }) => programs.length === 0),
    );
  },
);

jailTest("hundreds of connections of one person hold up nobody, and do not stay", async () => {
  await using world = await World.start();
  const pid = await world.dispatcherPid();
  await served(world);
  const before = holdings(pid);
  using crowd = new DisposableStack();
  const join = (): Peer => crowd.use(new Peer(world.socket));
  const silent = Array.from({ length: 540 }, join);
  // These have said the half of something large, as much as one person may.
  const stopped = Array.from({ length: 60 }, join);
  const writing = stopped.map((peer) => peer.write(half));
  await until("they are there", () => holdings(pid).descriptors >= before.descriptors + 600);
  await served(world);
  const refused = await world.client(["profiles"]);
  assert.match(refused.stderr, /Too many requests at a time/);
  assert.equal(refused.code, 111);
  await served(world, uB);
  const { memory } = holdings(pid);
  assert(memory < before.memory + 128 * 1024, `${before.memory} kB before, ${memory} kB with them`);
  // Who does not say anything is not kept: this is the one wait for the deadline of a request.
  for (const peer of silent) {
    const [first, second, ...more] = await peer.rest();
    assert.equal(first.type, "hello");
    assert.equal(second?.code, "protocol");
    assert.equal(second.message, "The request did not come in time");
    assert.deepEqual(more, []);
  }
  for (const peer of stopped) await peer.rest();
  await Promise.all(writing);
  await until(
    "every descriptor is closed",
    () => holdings(pid).descriptors <= before.descriptors + lazily,
  );
  assert.equal((await world.client(["profiles"])).code, 0);
});

jailTest("what one person has said by halves stays below a bound", async () => {
  await using world = await World.start();
  const pid = await world.dispatcherPid();
  await served(world);
  const before = holdings(pid);
  using crowd = new DisposableStack();
  const peers = Array.from({ length: 300 }, () => crowd.use(new Peer(world.socket)));
  const written = await Promise.all(peers.map((peer) => peer.write(half)));
  assert(written.includes(false), "some were dropped for it");
  await served(world, uB);
  const { memory } = holdings(pid);
  assert(memory < before.memory + 128 * 1024, `${before.memory} kB before, ${memory} kB with them`);
});

jailTest("somebody who never stops talking keeps nobody else waiting", async () => {
  await using world = await World.start();
  await served(world);
  using peer = new Peer(world.socket);
  const loop = runMessage("loud", ["sh", "-c", "trap : USR1; while :; do sleep 0.1; done"]);
  await peer.write(together(hello, encodeFrame(loop)), descriptors(3));
  const { program } = await peer.hear("started");
  const signal = encodeFrame({ type: "signal", signal: "SIGUSR1" });
  const many = together(...Array.from({ length: 1000 }, () => signal));
  let talking = true;
  let said = 0;
  const talk = (async () => {
    while (talking && await peer.write(many)) said += 1000;
  })();
  for (let turn = 0; turn < 3; turn++) {
    const already = said;
    await served(world, uB);
    await until("it has been heard, too", () => said > already);
  }
  talking = false;
  await talk;
  const [jail] = await world.status();
  assert.deepEqual(jail.programs.map((one: { program: string }) => one.program), [program]);
  peer.socket.close();
  await until("its program has learned that it left", async () => {
    const [after] = await world.status();
    return after === undefined || after.programs.length === 0;
  });
});

jailTest("somebody who connects without end keeps nobody else waiting", async () => {
  await using world = await World.start();
  await served(world);
  const knock = new Worker(
    URL.createObjectURL(
      new Blob([
        `import { connect } from ${JSON.stringify(new URL("../../ipc/socket.ts", import.meta.url))};
         self.onmessage = ({ data }) => {
           const rest = new Int32Array(new SharedArrayBuffer(4));
           for (;;) {
             try { connect(data).close(); } catch { Atomics.wait(rest, 0, 0, 1); }
           }
         };`,
      ]),
    ),
    { type: "module" },
  );
  try {
    knock.postMessage(world.socket);
    for (let turn = 0; turn < 5; turn++) await served(world, uB);
  } finally {
    knock.terminate();
  }
});

jailTest("a program in a jail cannot ask for jails", async () => {
  await using world = await World.start();
  const { code, stderr } = await world.client(["run", "-p", "x", "true"], { uid: firstUid + 1 });
  assert.equal(code, 111);
  assert.match(stderr, /A program in a jail cannot ask for jails/);
  assert.match(
    await world.shell("inside", `[ -e '${world.socket}' ] || echo none; ls -a /run/appjail`),
    /^none\n/,
  );
});

jailTest("who sends a jailer what is no message is dropped, its programs go on", async () => {
  await using world = await World.start();
  const client = world.spawn(["run", "-p", "calm", "sh", "-c", "read line; exit $line"], {
    uid: uA,
  });
  const { jailer_pid: pid } = await until("it runs", async () => {
    const [jail] = await world.status(uA);
    return jail?.programs.length > 0 && jail;
  });
  await served(world);
  const socket = `${world.runtime}/ctl/${firstUid}.sock`;
  const before = holdings(pid);
  for (const [name, bytes] of Object.entries(malformed)) {
    using peer = new Peer(socket);
    await peer.write(bytes);
    assert.deepEqual(await answers(peer, "jailer"), [], name);
  }
  const { type: _run, profile: _profile, inherited: _inherited, ...words } = runMessage("", [
    "true",
  ]);
  const exec = { ...words, type: "exec", id: 1, before: Date.now() + 60_000 };
  for (
    const [message, count] of [
      [clientHello, 0],
      [{ ...dispatcherHello, protocol: 0 }, 0],
      [{ type: "terminate" }, 0],
      [{ type: "leave" }, 0],
      [exec, 3],
    ] as const
  ) {
    using peer = new Peer(socket);
    await peer.say(message, descriptors(count));
    assert.deepEqual(await answers(peer, "jailer"), [], JSON.stringify(message));
  }
  await served(world);
  // These begin as a dispatcher does, and so take the place of ours, which comes back.
  for (const next of [...Object.values(malformed), encodeFrame(exec), encodeFrame(status)]) {
    using peer = new Peer(socket);
    await peer.write(together(encodeFrame(dispatcherHello), next), descriptors(1));
    await peer.rest();
  }
  await served(world);
  await until(
    "every descriptor is closed",
    () => holdings(pid).descriptors <= before.descriptors + lazily,
  );
  const { memory } = holdings(pid);
  assert(memory < before.memory + 64 * 1024, `${before.memory} kB before, ${memory} kB after`);
  const writer = client.stdin.getWriter();
  await writer.write(new TextEncoder().encode("42\n"));
  await writer.close();
  assert.equal((await client.output()).code, 42);
});
