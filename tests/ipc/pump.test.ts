/** ipc/pump.ts: bytes that go through are those that came, in whatever portions. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { open, pipe, readSome, setNonblocking, writeAll, writeSome } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { Pump } from "../../ipc/pump.ts";
import { openPseudoTerminal } from "../../ipc/tty.ts";
import { Random } from "../random.ts";
import { Scratch } from "../scratch.ts";

Deno.test("a file goes through two pipes byte for byte, however little there is room for", () => {
  const random = new Random(17);
  const bytes = random.bytes(700_000);
  const [source, target] = [pipe({ nonblocking: true }), pipe({ nonblocking: true })];
  using stack = new DisposableStack();
  for (const fd of [source.read, source.write, target.read, target.write]) stack.use(fd);
  const pump = new Pump();
  const out = new Uint8Array(bytes.length);
  let [given, taken] = [0, 0];
  let state = pump.fill(source.read.number);
  equal(state, "none yet");
  while (state !== "end" || pump.pending > 0) {
    if (given < bytes.length && random.below(2) === 0) {
      given +=
        writeSome(source.write.number, bytes.subarray(given, given + random.below(90_000))) ?? 0;
      if (given === bytes.length) source.write.close();
    }
    if (pump.pending === 0 && state !== "end") state = pump.fill(source.read.number);
    pump.flush(target.write.number, random.of([64 * 1024, 4096, 1]));
    if (random.below(2) === 0) {
      taken += readSome(target.read.number, out.subarray(taken)) ?? 0;
    }
  }
  target.write.close();
  for (let count = 1; count > 0; taken += count) {
    count = readSome(target.read.number, out.subarray(taken)) ?? 0;
  }
  equal(taken, bytes.length);
  deepEqual(out, bytes);
});

Deno.test("nothing is read while something waits to be written", () => {
  using scratch = new Scratch();
  using file = open(scratch.file("file", "abc"), 0);
  const { read, write } = pipe({ nonblocking: true });
  using _read = read, _write = write;
  const pump = new Pump();
  equal(pump.last, undefined);
  equal(pump.fill(file.number), "some");
  equal(pump.last, 0x63);
  writeAll(write.number, Uint8Array.of(1));
  equal(pump.fill(read.number), "some");
  equal(pump.pending, 3);
  equal(readSome(read.number, new Uint8Array(9)), 1);
});

Deno.test("one write at a time is what a pipe surely has room for", () => {
  using zero = open("/dev/zero", 0);
  const { read, write } = pipe();
  using _read = read, _write = write;
  const pump = new Pump();
  equal(pump.fill(zero.number, true), "some");
  const { pending } = pump;
  // A descriptor that blocks would block at the second one.
  equal(pump.flush(write.number, 4096), false);
  equal(pump.pending, pending - 4096);
});

Deno.test("the end of a terminal is an end like any other, after what was written to it", async () => {
  const { master, slave } = openPseudoTerminal();
  using _master = master;
  setNonblocking(master.number);
  writeAll(slave.number, new TextEncoder().encode("bye"));
  // The kernel passes it on in its own time.
  await poller.readable(master.number);
  slave.close();
  const pump = new Pump();
  equal(pump.fill(master.number), "some");
  equal(pump.pending, 3);
  using nothing = open("/dev/null", 1);
  equal(pump.flush(nothing.number), true);
  equal(pump.fill(master.number), "end");
});

Deno.test("an error is told as what it is", () => {
  const pump = new Pump();
  throws(() => pump.fill(-1), { code: "EBADF", call: "read" });
  using zero = open("/dev/zero", 0);
  pump.fill(zero.number, true);
  throws(() => pump.flush(-1), { code: "EBADF", call: "write" });
  const { read, write } = pipe();
  using _write = write;
  read.close();
  throws(() => pump.flush(write.number), { code: "EPIPE" });
});
