/** ipc/channel.ts over real sockets: with a friend at the other end, and with somebody else. */
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { Channel, type Codec } from "../../ipc/channel.ts";
import { Fd, isOpen, open, pipe, readSome } from "../../ipc/fd.ts";
import { encodeFrame, FrameError, maxFrame } from "../../ipc/frame.ts";
import { poller } from "../../ipc/poller.ts";
import { maxDescriptors, pair, receive, send } from "../../ipc/socket.ts";
import { Random } from "../random.ts";
import { leakingNothing, openDescriptors, Scratch } from "../scratch.ts";
import { narrow, sendAll } from "./peer.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

/** A message of these tests; `fds` is how many descriptors it says that it carries. */
interface Message {
  readonly text: string;
  readonly fds?: number;
}

const codec: Codec<Message> = {
  decode: (value) => {
    if (typeof value !== "object" || value === null || !("text" in value)) {
      throw new TypeError("no message of ours");
    }
    return value as Message;
  },
  descriptors: ({ fds = 0 }) => fds,
};

type TestChannel = Channel<Message, Message>;

function channels(): readonly [TestChannel, TestChannel] {
  const [left, right] = pair();
  return [new Channel(left, codec), new Channel(right, codec)];
}

/** A channel, and the bare socket at its other end. */
function facing(): readonly [TestChannel, Fd] {
  const [left, right] = pair();
  return [new Channel(left, codec), right];
}

/** That many descriptors of /dev/null. */
function nulls(count: number): Fd[] {
  return Array.from({ length: count }, () => open("/dev/null", 0));
}

const numbers = (fds: readonly Fd[]): number[] => fds.map((fd) => fd.number);

/** How many of these belong to /dev/null: what the tests hand over. */
function openNulls(): number {
  return [...openDescriptors().values()].filter((path) => path === "/dev/null").length;
}

/** Everything that a channel still receives. */
async function rest(channel: TestChannel): Promise<readonly string[]> {
  const texts: string[] = [];
  for (let next = await channel.receive(); next !== undefined; next = await channel.receive()) {
    for (const fd of next.descriptors) fd.close();
    texts.push(next.message.text);
  }
  return texts;
}

// --- Friends -------------------------------------------------------------------------------------

Deno.test("messages come in their order, both ways, and the end is told once and for all", async () => {
  await leakingNothing(async () => {
    const [left, right] = channels();
    const texts = Array.from({ length: 100 }, (_, at) => `message ${at} 😀`);
    for (const text of texts) left.send({ text });
    right.send({ text: "back" });
    equal((await left.receive())?.message.text, "back");
    left.close();
    deepEqual(await rest(right), texts);
    equal(right.closed, true);
    equal(await right.receive(), undefined);
  });
});

Deno.test("descriptors arrive with their message, and the sender has them no more", async () => {
  using scratch = new Scratch();
  await leakingNothing(async () => {
    const [left, right] = channels();
    using _left = left, _right = right;
    const files = [1, 2, 3].map((at) => open(scratch.file(`${at}`, `file ${at}`), 0));
    left.send({ text: "none" });
    left.send({ text: "two", fds: 2 }, files.slice(0, 2));
    left.send({ text: "one", fds: 1 }, files.slice(2));
    deepEqual(files.map((fd) => fd.closed), [true, true, true]);
    const seen: string[] = [];
    for (let i = 0; i < 3; i++) {
      const incoming = await right.receive();
      ok(incoming !== undefined);
      const contents = incoming.descriptors.map((fd) => {
        using file = fd;
        const buffer = new Uint8Array(20);
        return new TextDecoder().decode(buffer.subarray(0, readSome(file.number, buffer)));
      });
      seen.push([incoming.message.text, ...contents].join(","));
    }
    deepEqual(seen, ["none", "two,file 1,file 2", "one,file 3"]);
  });
});

Deno.test("the longest messages pass through the smallest buffer, with their descriptors", async () => {
  await leakingNothing(async () => {
    const [left, right] = pair();
    narrow(left);
    using sender: TestChannel = new Channel(left, codec);
    using receiver: TestChannel = new Channel(right, codec);
    const empty = encodeFrame({ text: "", fds: 3 }).length - 4;
    const texts = ["a", "b", "c"].map((letter) => letter.repeat(maxFrame - empty));
    for (const text of texts) sender.send({ text, fds: 3 }, nulls(3));
    ok(sender.backlog > 2 * maxFrame, "the test needs a socket that is full");
    for (const text of texts) {
      const incoming = await receiver.receive();
      equal(incoming?.message.text === text, true);
      equal(incoming?.descriptors.length, 3);
      for (const fd of incoming?.descriptors ?? []) fd.close();
    }
    await sender.drain();
    equal(sender.backlog, 0);
  });
});

Deno.test("drain returns when everything is taken, and not before", async () => {
  const [channel, peer] = facing();
  using _channel = channel, _peer = peer;
  await channel.drain();
  let sent = 0;
  while (channel.backlog < 100_000) {
    const message = { text: "x".repeat(10_000) };
    sent += encodeFrame(message).length;
    channel.send(message);
  }
  let drained = false;
  const done = channel.drain().then(() => drained = true);
  let taken = 0;
  while (taken < sent) {
    equal(drained && channel.backlog > 0, false);
    const received = receive(peer.number);
    if (received === undefined) await poller.readable(peer.number);
    else taken += received.bytes.length;
  }
  await done;
  equal(channel.backlog, 0);
});

Deno.test("drain returns when the channel is closed, or the peer is gone", async () => {
  await leakingNothing(async () => {
    for (const end of ["close", "leave"]) {
      const [channel, peer] = facing();
      while (channel.backlog === 0) channel.send({ text: "x".repeat(100_000) });
      const done = channel.drain();
      await poller.readable(peer.number);
      if (end === "close") channel.close();
      else peer.close();
      await done;
      equal(channel.backlog, 0);
      channel.close();
      peer.close();
    }
  });
});

Deno.test("a channel that is closed while somebody receives tells them the end", async () => {
  await leakingNothing(async () => {
    const [left, right] = channels();
    const waiting = right.receive();
    right.close();
    equal(await waiting, undefined);
    // And the other end hears of it.
    equal(await left.receive(), undefined);
    left.close();
  });
});

Deno.test("to send on a closed channel does nothing, and keeps no descriptor", async () => {
  await leakingNothing(() => {
    const [left, right] = channels();
    left.close();
    const files = nulls(2);
    left.send({ text: "x", fds: 2 }, files);
    deepEqual(files.map((fd) => fd.closed), [true, true]);
    equal(left.backlog, 0);
    right.close();
    left.close();
  });
});

Deno.test("to send to a peer that is gone does nothing, and what it said before is still heard", async () => {
  await leakingNothing(async () => {
    const [left, right] = channels();
    right.send({ text: "farewell", fds: 1 }, nulls(1));
    right.close();
    for (let i = 0; i < 3; i++) left.send({ text: "x", fds: 2 }, nulls(2));
    equal(left.backlog, 0);
    deepEqual(await rest(left), ["farewell"]);
    equal(left.closed, true);
  });
});

Deno.test("a message that is too long is the sender's mistake, and costs no descriptor", async () => {
  await leakingNothing(async () => {
    const [left, right] = channels();
    throws(() => left.send({ text: "x".repeat(maxFrame), fds: 2 }, nulls(2)), FrameError);
    left.send({ text: "short" });
    left.close();
    deepEqual(await rest(right), ["short"]);
  });
});

Deno.test("descriptors that wait in the queue are closed with the channel", async () => {
  await leakingNothing(() => {
    const [channel, peer] = facing();
    while (channel.backlog === 0) channel.send({ text: "x".repeat(100_000) });
    const before = openNulls();
    for (let i = 0; i < 10; i++) channel.send({ text: "x", fds: 3 }, nulls(3));
    equal(openNulls(), before + 30);
    channel.close();
    equal(openNulls(), before);
    peer.close();
  });
});

// --- Others (attack 22) --------------------------------------------------------------------------

/** That a channel refuses what its peer has sent, is closed, and has given back every descriptor. */
async function refused(
  write: (peer: Fd) => void,
  expected: RegExp,
  before: readonly string[] = [],
): Promise<void> {
  await leakingNothing(async () => {
    const [channel, peer] = facing();
    using _peer = peer;
    write(peer);
    for (const text of before) {
      const incoming = await channel.receive();
      equal(incoming?.message.text, text);
      for (const fd of incoming?.descriptors ?? []) fd.close();
    }
    await rejects(channel.receive(), expected);
    equal(channel.closed, true);
    equal(await channel.receive().catch(() => undefined), undefined);
    channel.send({ text: "nobody hears this" });
  });
}

const header = (length: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, length, true);
  return bytes;
};
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

for (const length of [0, maxFrame + 1, 2 ** 31, 2 ** 32 - 1]) {
  Deno.test(`a peer that announces ${length} bytes is dropped, after what it said before`, async () => {
    await refused(
      (peer) => {
        send(peer.number, encodeFrame({ text: "first" }));
        send(peer.number, header(length));
      },
      /is refused: 1 to 1048576 are allowed/,
      ["first"],
    );
  });
}

for (
  const [what, payload, expected] of [
    ["is not UTF-8", "\x80", /does not hold JSON in UTF-8/],
    ["is not JSON", "{", /does not hold JSON in UTF-8/],
    ["is no message", "[1,2,3]", /no message of ours/],
    ["is deep", "[".repeat(500_000), /nested too deep/],
  ] as const
) {
  Deno.test(`a peer that sends what ${what} is dropped, and its descriptors with it`, async () => {
    const bytes = payload === "\x80" ? Uint8Array.of(0x80) : bytesOf(payload);
    await leakingNothing(async () => {
      const [channel, peer] = facing();
      using _peer = peer;
      const file = open("/dev/null", 0);
      send(peer.number, header(bytes.length), [file.number]);
      file.close();
      const writer = new Channel<Message, Message>(peer, codec);
      const received = rejects(channel.receive(), expected);
      for (let at = 0; at < bytes.length;) {
        const count = send(peer.number, bytes.subarray(at));
        if (count === undefined) await poller.writable(peer.number);
        else at += count;
      }
      await received;
      equal(channel.closed, true);
      writer.close();
    });
  });
}

Deno.test("a message with too few descriptors is refused, and those that came are closed", async () => {
  for (const count of [0, 1, 2]) {
    await refused(
      (peer) => {
        const files = nulls(count);
        send(peer.number, encodeFrame({ text: "x", fds: 3 }), numbers(files));
        for (const fd of files) fd.close();
      },
      new RegExp(`came with ${count} of 3 descriptors`),
    );
  }
});

Deno.test("descriptors beyond a message's own are closed, and end the conversation", async () => {
  for (const [takes, count] of [[0, 1], [0, 8], [3, 4], [3, 8]] as const) {
    await refused(
      (peer) => {
        const files = nulls(count);
        send(peer.number, encodeFrame({ text: "first", fds: takes }), numbers(files));
        for (const fd of files) fd.close();
        send(peer.number, encodeFrame({ text: "second" }));
      },
      /belong to no message/,
      ["first"],
    );
  }
});

Deno.test("a surplus cannot be kept for a later message", async () => {
  await refused(
    (peer) => {
      const files = nulls(8);
      send(peer.number, encodeFrame({ text: "first", fds: 0 }), numbers(files));
      for (const fd of files) fd.close();
      send(peer.number, encodeFrame({ text: "second", fds: 8 }));
    },
    /belong to no message/,
    ["first"],
  );
});

for (const count of [maxDescriptors + 1, 253]) {
  Deno.test(`${count} descriptors at a time end the conversation`, async () => {
    await refused(
      (peer) => sendAll(peer, encodeFrame({ text: "x", fds: 8 }), Array(count).fill(0)),
      /More descriptors came than any message carries/,
    );
  });
}

Deno.test("descriptors cannot be heaped up beside a message that never ends", async () => {
  await leakingNothing(async () => {
    const [channel, peer] = facing();
    using _peer = peer;
    const before = openDescriptors().size;
    const ended = rejects(channel.receive(), /More descriptors came than any message carries/);
    send(peer.number, header(1000));
    let most = 0;
    for (let i = 0; i < 20 && !channel.closed; i++) {
      try {
        send(peer.number, bytesOf("x"), Array(5).fill(0));
      } catch {
        break;
      }
      await poller.writable(peer.number);
      most = Math.max(most, openDescriptors().size - before);
    }
    await ended;
    ok(most <= maxDescriptors, `${most}`);
  });
});

Deno.test("a peer that stops in the middle keeps nobody else waiting, and is told when it leaves", async () => {
  await leakingNothing(async () => {
    const stopped = Array.from({ length: 40 }, () => facing());
    const waits = stopped.map(([channel, peer], at) => {
      const frame = encodeFrame({ text: "half" });
      send(peer.number, frame.subarray(0, 1 + at % (frame.length - 1)));
      return rejects(channel.receive(), /left in mid-message/);
    });
    const [left, right] = channels();
    const waiting = right.receive();
    left.send({ text: "whole" });
    equal((await waiting)?.message.text, "whole");
    left.close();
    right.close();
    deepEqual([...new Set(stopped.map(([channel]) => channel.partial))], [true]);
    for (const [, peer] of stopped) peer.close();
    await Promise.all(waits);
  });
});

Deno.test("one byte at a time makes a message", async () => {
  const [channel, peer] = facing();
  using _channel = channel, _peer = peer;
  const received = channel.receive();
  for (const byte of encodeFrame({ text: "slow" })) {
    send(peer.number, Uint8Array.of(byte));
    await poller.writable(peer.number);
  }
  equal((await received)?.message.text, "slow");
});

Deno.test("a peer that does not read is given up when too much waits for it", async () => {
  await leakingNothing(async () => {
    const [channel, peer] = facing();
    using _peer = peer;
    let most = 0;
    for (let i = 0; i < 100 && !channel.closed; i++) {
      channel.send({ text: "x".repeat(500_000), fds: 1 }, nulls(1));
      most = Math.max(most, channel.backlog);
    }
    equal(channel.closed, true);
    equal(channel.backlog, 0);
    ok(most > 1024 * 1024, "a slow peer has some time");
    ok(most <= 5 * 1024 * 1024, `${most} bytes were kept`);
    await rejects(channel.receive(), /The peer does not read/);
  });
});

Deno.test("a peer that sends without pause keeps nobody else waiting", async () => {
  const [channel, peer] = facing();
  const [left, right] = channels();
  using stack = new DisposableStack();
  for (const one of [channel, peer, left, right]) stack.use(one);
  // The other one waits already, in the poll.
  let waiting = 2;
  void right.receive().then(() => waiting--);
  await poller.writable(right.fd);
  const frame = encodeFrame({ text: "" });
  const many = new Uint8Array(frame.length * 1000).map((_, at) => frame[at % frame.length] ?? 0);
  left.send({ text: "me too" });
  setTimeout(() => waiting--, 0);
  // There is always a next message, so whoever had to wait for a pause would wait for ever.
  let [there, rest] = [0, new Uint8Array(0)];
  for (let heard = 0; waiting > 0; heard++) {
    ok(heard < 500_000, `${waiting} others were not served`);
    if (there - heard < 500) {
      if (rest.length === 0) rest = many;
      const sent = send(peer.number, rest) ?? 0;
      rest = rest.subarray(sent);
      there += Math.floor(sent / frame.length);
    }
    await channel.receive();
  }
});

Deno.test("whatever a peer sends, however it is cut, ends in a message, an error or an end", async () => {
  const seed = Number(Deno.env.get("APPJAIL_FUZZ_SEED") || Date.now() % 2 ** 32);
  const random = new Random(seed);
  const piece = (): Uint8Array => {
    switch (random.below(8)) {
      case 0:
        return header(random.of([0, 1, maxFrame, maxFrame + 1, 2 ** 31, random.below(2 ** 32)]));
      case 1:
        return random.bytes(random.below(10));
      case 2:
        return encodeFrame(random.json());
      default:
        return encodeFrame({ text: random.text(10), fds: random.of([0, 0, 1, 3, 8]) });
    }
  };
  const seen = { messages: 0, errors: 0, ends: 0 };
  try {
    await leakingNothing(async () => {
      for (let round = 0; round < 1200; round++) {
        const [channel, peer] = facing();
        for (let i = random.below(4); i >= 0 && !channel.closed; i--) {
          const bytes = piece();
          const cut = random.below(2) === 0 ? bytes.length : random.below(bytes.length);
          const files = nulls(random.of([0, 0, 1, 3, 8]));
          if (cut > 0) send(peer.number, bytes.subarray(0, cut), numbers(files));
          if (cut < bytes.length) send(peer.number, bytes.subarray(cut));
          for (const fd of files) fd.close();
        }
        peer.close();
        try {
          for (;;) {
            const incoming = await channel.receive();
            if (incoming === undefined) break;
            equal(incoming.descriptors.length, incoming.message.fds ?? 0);
            for (const fd of incoming.descriptors) {
              ok(isOpen(fd.number));
              fd.close();
            }
            seen.messages++;
          }
          seen.ends++;
        } catch (error) {
          ok(error instanceof FrameError || error instanceof TypeError, `${error}`);
          seen.errors++;
        }
        equal(channel.closed, true);
      }
    });
  } catch (error) {
    throw new Error(`run it again with APPJAIL_FUZZ_SEED=${seed}`, { cause: error });
  }
  for (const [what, count] of Object.entries(seen)) ok(count > 20, `only ${count} ${what}`);
});

Deno.test("what a peer has not read is known, also when it has left without reading it", async () => {
  for (const reads of [true, false]) {
    const [channel, peer] = facing();
    equal(channel.unheard, false);
    channel.send({ text: "x" });
    equal(channel.unheard, true);
    if (reads) {
      receive(peer.number);
      equal(channel.unheard, false);
    }
    peer.close();
    equal(await channel.receive(), undefined);
    equal(channel.unheard, !reads);
  }
});

Deno.test("a socket that is none is an error of the system, and closes the channel", async () => {
  const { read, write } = pipe();
  using _write = write;
  const channel: TestChannel = new Channel(read, codec);
  await rejects(channel.receive(), { code: "ENOTSOCK" });
  equal(channel.closed, true);
});
