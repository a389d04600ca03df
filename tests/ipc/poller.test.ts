/** ipc/poller.ts: many waits, one poll(2), on real sockets. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { type Fd, pipe, readSome, writeSome } from "../../ipc/fd.ts";
import { POLLHUP, POLLIN, POLLNVAL, POLLOUT } from "../../ipc/libc.ts";
import { poller } from "../../ipc/poller.ts";
import { pair, receive, send } from "../../ipc/socket.ts";
import { Random } from "../random.ts";
import { leakingNothing } from "../scratch.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const byte = Uint8Array.of(1);

/** Returns when whatever was ready before has been told: a wait that is made now is not earlier. */
async function roundTrip(): Promise<void> {
  using stack = new DisposableStack();
  for (let i = 0; i < 2; i++) {
    const [left, right] = pair();
    stack.use(left), stack.use(right);
    const ready = poller.readable(right.number);
    send(left.number, byte);
    await ready;
  }
}

Deno.test("200 waits at a time, where Deno lets 32 calls wait, are answered each in its turn", async () => {
  await leakingNothing(async () => {
    using stack = new DisposableStack();
    const random = new Random(7);
    const pairs = Array.from({ length: 200 }, () => pair());
    for (const [left, right] of pairs) stack.use(left), stack.use(right);
    const answered = new Set<number>();
    const waits = pairs.map(async ([, right], at) => {
      const events = await poller.readable(right.number);
      equal(events & POLLIN, POLLIN);
      equal(receive(right.number)?.bytes.length, 1);
      answered.add(at);
    });
    await roundTrip();
    equal(answered.size, 0);
    const order = pairs.map((_, at) => at);
    while (order.length > 0) {
      const [at = 0] = order.splice(random.below(order.length), 1);
      const [left] = pairs[at] ?? [];
      ok(left !== undefined);
      send(left.number, byte);
      await waits[at];
      equal(answered.size, 200 - order.length);
    }
  });
});

Deno.test("a wait that is made while the poll waits joins it", async () => {
  const [[a, b], [c, d]] = [pair(), pair()];
  using stack = new DisposableStack();
  for (const fd of [a, b, c, d]) stack.use(fd);
  const first = poller.readable(b.number);
  await roundTrip();
  const second = poller.readable(d.number);
  send(c.number, byte);
  await second;
  send(a.number, byte);
  await first;
});

Deno.test("one descriptor can be awaited for reading and for writing at a time", async () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  let readable = false;
  const reading = poller.readable(left.number).then((events) => {
    readable = true;
    return events;
  });
  equal(await poller.writable(left.number) & POLLOUT, POLLOUT);
  await roundTrip();
  equal(readable, false);
  send(right.number, byte);
  equal(await reading & POLLIN, POLLIN);
});

Deno.test("everybody who waits for a descriptor is told", async () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  const waits = Array.from({ length: 5 }, () => poller.readable(left.number));
  send(right.number, byte);
  equal((await Promise.all(waits)).length, 5);
});

Deno.test("a wait ends when the other end is gone", async () => {
  const { read, write } = pipe();
  using _read = read;
  const wait = poller.readable(read.number);
  await roundTrip();
  write.close();
  equal(await wait & POLLHUP, POLLHUP);
});

Deno.test("a full pipe is writable again when something was read", async () => {
  const { read, write } = pipe({ nonblocking: true });
  using _read = read, _write = write;
  while (writeSome(write.number, new Uint8Array(4096)) !== undefined);
  let writable = false;
  const wait = poller.writable(write.number).then(() => writable = true);
  await roundTrip();
  equal(writable, false);
  // A pipe has room when a whole page of it has.
  readSome(read.number, new Uint8Array(64 * 1024));
  await wait;
});

Deno.test("to forget a descriptor ends its waits, and no other", async () => {
  const [[a, b], [c, d]] = [pair(), pair()];
  using stack = new DisposableStack();
  for (const fd of [a, b, c, d]) stack.use(fd);
  const mine = [poller.readable(b.number), poller.readable(b.number)];
  let others = false;
  const other = poller.readable(d.number).then(() => others = true);
  await roundTrip();
  poller.forget(b.number);
  deepEqual(await Promise.all(mine), [POLLNVAL, POLLNVAL]);
  await roundTrip();
  equal(others, false);
  send(c.number, byte);
  await other;
});

Deno.test("a number that is given again does not answer the wait of its last owner", async () => {
  const [a, b] = pair();
  using _a = a;
  const number = b.number;
  const old = poller.readable(number);
  await roundTrip();
  b.close();
  const [c, d] = pair();
  using _c = c, _d = d;
  ok([c.number, d.number].includes(number), "the test needs the same number again");
  equal(await old, POLLNVAL);
  const [reader, writer] = c.number === number ? [c, d] : [d, c];
  let early = false;
  const wait = poller.readable(reader.number).then(() => early = true);
  await roundTrip();
  equal(early, false);
  send(writer.number, byte);
  await wait;
});

Deno.test("a descriptor that is closed already is told at once", async () => {
  const [a, b] = pair();
  const { number } = a;
  a.close();
  b.close();
  equal(await poller.readable(number), POLLNVAL);
});

Deno.test("closing one of many in any order loses nobody's wait", async () => {
  const random = new Random(11);
  await leakingNothing(async () => {
    const open: (readonly [Fd, Fd])[] = Array.from({ length: 60 }, () => pair());
    const told = new Map<Fd, Promise<number>>();
    for (const [, right] of open) told.set(right, poller.readable(right.number));
    while (open.length > 0) {
      const [chosen] = open.splice(random.below(open.length), 1);
      ok(chosen !== undefined);
      const [left, right] = chosen;
      switch (random.below(3)) {
        case 0:
          right.close();
          equal(await told.get(right), POLLNVAL);
          break;
        case 1:
          left.close();
          equal((await told.get(right) ?? 0) & POLLHUP, POLLHUP);
          break;
        default:
          send(left.number, byte);
          equal(await told.get(right), POLLIN);
      }
      left.close();
      right.close();
    }
  });
});

/** Resolves when so many milliseconds are over. */
function over(milliseconds: number): Promise<void> {
  return new Promise((resolve) => void poller.after(milliseconds, resolve));
}

Deno.test("alarms ring in the order of their times, none too early, also while a descriptor is awaited", async () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  const readable = poller.readable(right.number);
  const began = performance.now();
  const rung: number[] = [];
  await roundTrip();
  await Promise.all([30, 0, 10, 20, 10].map(async (time) => {
    await over(time);
    ok(performance.now() - began >= time);
    rung.push(time);
  }));
  deepEqual(rung, [0, 10, 10, 20, 30]);
  send(left.number, byte);
  await readable;
});

Deno.test("an alarm that is earlier than what the poll waits for is not late for that", async () => {
  const cancel = poller.after(3_600_000, () => {});
  await roundTrip();
  await over(1);
  cancel();
});

Deno.test("an alarm at 0 rings when what is ready has had its turn", async () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  send(left.number, byte);
  const told: string[] = [];
  const alarm = over(0).then(() => told.push("alarm"));
  await poller.readable(right.number).then(() => told.push("readable"));
  await alarm;
  deepEqual(told, ["readable", "alarm"]);
});

Deno.test("what was cancelled does not ring, not even by an alarm of the same time", async () => {
  const rung: number[] = [];
  const cancels = [0, 1, 2].map((number) =>
    poller.after(1, () => {
      rung.push(number);
      for (const cancel of cancels) cancel();
    })
  );
  poller.after(0, () => rung.push(-1))();
  await over(5);
  deepEqual(rung, [0]);
});

Deno.test("an alarm that comes back without end leaves everybody else a turn", async () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  let going = true;
  const again = (): void => void (going && poller.after(0, again));
  again();
  send(left.number, byte);
  await poller.readable(right.number);
  await new Promise((resolve) => setTimeout(resolve, 0));
  going = false;
  await over(1);
});

Deno.test("a brief wait is for one descriptor, and yields to whatever else is awaited", async () => {
  const [[a, b], [c, d]] = [pair(), pair()];
  using stack = new DisposableStack();
  for (const fd of [a, b, c, d]) stack.use(fd);
  equal(poller.briefly(b.number, POLLIN), false);
  send(a.number, byte);
  equal(poller.briefly(b.number, POLLIN), true);
  equal(poller.briefly(b.number, POLLOUT), true);
  const other = poller.readable(d.number);
  equal(poller.briefly(b.number, POLLIN), true);
  send(c.number, byte);
  equal(poller.briefly(b.number, POLLIN), false);
  // It is told as ever.
  equal(await other, POLLIN);
  equal(poller.briefly(b.number, POLLIN), true);
});
