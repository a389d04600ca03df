/** ipc/room.ts, and the channels that share one: strangers cannot make us keep more than it has. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { Channel, type Codec } from "../../ipc/channel.ts";
import type { Fd } from "../../ipc/fd.ts";
import { encodeFrame, FrameError } from "../../ipc/frame.ts";
import { poller } from "../../ipc/poller.ts";
import { Room } from "../../ipc/room.ts";
import { pair, send } from "../../ipc/socket.ts";
import { Random } from "../random.ts";

// No timer and no wait outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const codec: Codec<unknown> = { decode: (value) => value, descriptors: () => 0 };

function facing(room: Room): readonly [Channel<unknown, unknown>, Fd] {
  const [left, right] = pair();
  return [new Channel(left, codec, room), right];
}

/** How much a room has left. */
function leftIn(room: Room): number {
  let left = 0;
  for (let step = 2 ** 30; step >= 1; step /= 2) if (room.take(step)) left += step;
  room.give(left);
  return left;
}

/** Sends everything, and waits where there is no room in the socket. */
async function sendSlowly(peer: Fd, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const count = send(peer.number, bytes.subarray(at));
    if (count === undefined) await poller.writable(peer.number);
    else at += count;
  }
}

Deno.test("a room gives what it has, all or nothing", () => {
  const room = new Room(10);
  equal(room.take(11), false);
  equal(room.take(7), true);
  equal(room.take(4), false);
  equal(room.take(3), true);
  equal(room.take(1), false);
  room.give(5);
  equal(leftIn(room), 5);
});

Deno.test("who says too much at a time is dropped, and all that it took is there again", async () => {
  const room = new Room(100_000);
  const [first, firstPeer] = facing(room);
  const [second, secondPeer] = facing(room);
  using stack = new DisposableStack();
  for (const one of [first, firstPeer, second, secondPeer]) stack.use(one);
  const frame = encodeFrame("x".repeat(300_000));
  const dropped = rejects(first.receive(), /Too much is said at a time/);
  await sendSlowly(firstPeer, frame).catch(() => {});
  await dropped;
  equal(first.closed, true);
  send(secondPeer.number, encodeFrame("short"));
  equal((await second.receive())?.message, "short");
  second.close();
  equal(leftIn(room), 100_000);
});

Deno.test("what waits for a peer that does not read takes room, until it is given up", async () => {
  const room = new Room(1_000_000);
  const [channel, peer] = facing(room);
  using _channel = channel, _peer = peer;
  for (let i = 0; i < 100 && !channel.closed; i++) channel.send("x".repeat(100_000));
  equal(channel.closed, true);
  await rejects(channel.receive(), FrameError);
  equal(leftIn(room), 1_000_000);
});

Deno.test("however it ends, nothing of the room is lost, and never more than it has is held", async () => {
  const random = new Random(16);
  const size = 400_000;
  const room = new Room(size);
  for (let round = 0; round < 40; round++) {
    const all = Array.from({ length: 1 + random.below(6) }, () => facing(room));
    await Promise.all(all.map(async ([channel, peer]) => {
      const sending = (async () => {
        for (let i = random.below(4); i >= 0 && !channel.closed; i--) {
          const bytes = random.below(5) === 0
            ? random.bytes(random.below(100))
            : encodeFrame("x".repeat(random.below(random.of([10, 1000, 200_000]))));
          await sendSlowly(peer, bytes.subarray(0, random.of([bytes.length, 5])));
        }
      })().catch(() => {}).finally(() => peer.close());
      try {
        while (await channel.receive() !== undefined) {
          ok(leftIn(room) >= 0);
          if (random.below(4) === 0) channel.send("y".repeat(random.below(50_000)));
        }
      } catch (error) {
        ok(error instanceof FrameError, `${error}`);
      }
      equal(channel.closed, true);
      await sending;
    }));
    equal(leftIn(room), size);
  }
  deepEqual(room.take(size), true);
});
