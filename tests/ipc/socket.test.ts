/** ipc/socket.ts: real unix sockets, and a peer that keeps no rule. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { SystemError } from "../../ipc/errno.ts";
import { Fd, isGone, open, pipe, readSome, setNonblocking } from "../../ipc/fd.ts";
import { AF_UNIX, arena, check, SOCK_STREAM, sys, syscall } from "../../ipc/libc.ts";
import { poller } from "../../ipc/poller.ts";
import {
  accept,
  connect,
  hasLeft,
  listen,
  listensAt,
  maxDescriptors,
  pair,
  peerOf,
  receive,
  send,
  shutdown,
} from "../../ipc/socket.ts";
import { isCloseOnExec, leakingNothing, openDescriptors, Scratch } from "../scratch.ts";
import { sendAll } from "./peer.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);

Deno.test("a listening socket is its owner's alone, whatever the umask, which stays", () => {
  using scratch = new Scratch();
  const before = Deno.umask();
  try {
    for (const mask of [0, 0o022, 0o777]) {
      Deno.umask(mask);
      const path = `${scratch.path}/${mask}.sock`;
      using _socket = listen(path);
      equal((Deno.statSync(path).mode ?? 0) & 0o7777, 0o600);
      equal(Deno.umask(), mask);
      throws(() => listen(path), { code: "EADDRINUSE" });
      equal(Deno.umask(), mask);
    }
  } finally {
    Deno.umask(before);
  }
});

Deno.test("a path that sun_path cannot hold is refused, not cut", async () => {
  using scratch = new Scratch();
  const path = (bytes: number, of = "x"): string => {
    const room = bytes - scratch.path.length - 1;
    const size = bytesOf(of).length;
    return `${scratch.path}/${of.repeat(room / size)}${"y".repeat(room % size)}`;
  };
  await leakingNothing(() => {
    for (const name of [path(107), path(107, "ü")]) {
      equal(bytesOf(name).length, 107);
      using _listener = listen(name);
      using _socket = connect(name);
    }
    // The second one has few enough characters, but not bytes. The last ones are abstract, or cut.
    const wrong = [path(108), path(200, "ü"), "", "\0abstract", `${scratch.path}/a\0b`];
    for (const name of wrong) {
      throws(() => listen(name), { code: "ENAMETOOLONG" });
      throws(() => connect(name), { code: "ENAMETOOLONG" });
    }
  });
  equal([...Deno.readDirSync(scratch.path)].length, 2);
});

Deno.test("where nobody listens, a connection fails at once and says why", async () => {
  using scratch = new Scratch();
  const path = `${scratch.path}/socket`;
  await leakingNothing(() => {
    throws(() => connect(path), {
      message: `connect("${path}"): ENOENT, no such file or directory`,
    });
    throws(() => connect(scratch.file("file")), { code: "ECONNREFUSED" });
    listen(path).close();
    throws(() => connect(path), { code: "ECONNREFUSED" });
    throws(() => listen(`${scratch.path}/none/socket`), { code: "ENOENT" });
    using _full = listen(`${scratch.path}/full`, 0);
    using _first = connect(`${scratch.path}/full`);
    throws(() => connect(`${scratch.path}/full`), { code: "EAGAIN" });
  });
});

Deno.test("connections are accepted in their order, and nothing waits for one", async () => {
  using scratch = new Scratch();
  await leakingNothing(() => {
    using listener = listen(`${scratch.path}/socket`);
    equal(accept(listener.number), undefined);
    using first = connect(`${scratch.path}/socket`);
    using second = connect(`${scratch.path}/socket`);
    send(first.number, bytesOf("first"));
    send(second.number, bytesOf("second"));
    second.close();
    using one = accept(listener.number);
    using two = accept(listener.number);
    equal(accept(listener.number), undefined);
    ok(one !== undefined && two !== undefined);
    equal(textOf(receive(one.number)?.bytes), "first");
    equal(receive(one.number), undefined);
    // Who has left is served with what was said before.
    equal(textOf(receive(two.number)?.bytes), "second");
    equal(receive(two.number)?.bytes.length, 0);
    for (const fd of [listener, first, one]) equal(isCloseOnExec(fd.number), true);
  });
  throws(() => accept(0), SystemError);
});

Deno.test("the kernel says who is at the other end", async () => {
  using scratch = new Scratch();
  const path = `${scratch.path}/socket`;
  using listener = listen(path);
  using here = connect(path);
  using accepted = accept(listener.number);
  ok(accepted !== undefined);
  const own = { pid: Deno.pid, uid: Deno.uid() ?? -1, gid: Deno.gid() ?? -1 };
  deepEqual(peerOf(accepted.number), own);
  deepEqual(peerOf(here.number), own);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", `await Deno.connect({ transport: "unix", path: ${JSON.stringify(path)} });`],
  }).spawn();
  await poller.readable(listener.number);
  using other = accept(listener.number);
  deepEqual(peerOf(other?.number ?? -1), { ...own, pid: child.pid });
  await child.status;
  // It is who made the connection, also when it has ended.
  equal(peerOf(other?.number ?? -1).pid, child.pid);
  using file = open("/dev/null", 0);
  throws(() => peerOf(file.number), { code: "ENOTSOCK" });
});

Deno.test("a pair is connected both ways and non-blocking, and its end is seen", () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  equal(receive(left.number), undefined);
  equal(send(left.number, bytesOf("there")), 5);
  equal(send(right.number, bytesOf("back")), 4);
  equal(textOf(receive(right.number)?.bytes), "there");
  equal(textOf(receive(left.number)?.bytes), "back");
  shutdown(left.number);
  equal(receive(right.number)?.bytes.length, 0);
  throws(() => send(right.number, bytesOf("x")), (error) => isGone(error));
});

Deno.test("a full socket takes nothing, and what it took is what comes", () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  let [sent, taken] = [0, 0];
  for (;;) {
    const count = send(left.number, new Uint8Array(100_000).fill(sent % 251));
    if (count === undefined) break;
    ok(count > 0 && count <= 64 * 1024);
    sent += count;
  }
  shutdown(left.number);
  for (;;) {
    const size = receive(right.number)?.bytes.length ?? 0;
    if (size === 0) break;
    taken += size;
  }
  equal(taken, sent);
});

Deno.test("descriptors travel beside the bytes and are new ones of the same files", async () => {
  using scratch = new Scratch();
  await leakingNothing(() => {
    const [left, right] = pair();
    using _left = left, _right = right;
    using stack = new DisposableStack();
    const files = Array.from(
      { length: maxDescriptors },
      (_, at) => stack.use(open(scratch.file(`${at}`, `file ${at}`), 0)),
    );
    send(left.number, bytesOf("take them"), files.map((fd) => fd.number));
    for (const fd of files) fd.close();
    const received = receive(right.number);
    equal(textOf(received?.bytes), "take them");
    equal(received?.surplus, false);
    const texts = received?.descriptors.map((fd) => {
      equal(isCloseOnExec(fd.number), true);
      const buffer = new Uint8Array(100);
      const text = textOf(buffer.subarray(0, readSome(fd.number, buffer)));
      fd.close();
      return text;
    });
    deepEqual(texts, files.map((_, at) => `file ${at}`));
  });
});

Deno.test("one call never brings the descriptors of two messages", () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  for (const text of ["none", "one", "two", "none again"]) {
    const count = text === "one" ? 1 : text === "two" ? 2 : 0;
    send(left.number, bytesOf(text), Array(count).fill(0));
  }
  const seen: [string, number][] = [];
  for (;;) {
    const received = receive(right.number);
    if (received === undefined) break;
    seen.push([textOf(received.bytes), received.descriptors.length]);
    for (const fd of received.descriptors) fd.close();
  }
  // Bytes without descriptors may come with those before or after them, as unix(7) has it.
  equal(seen.map(([text]) => text).join(""), "noneonetwonone again");
  deepEqual(seen.map(([, count]) => count).filter((count) => count > 0), [1, 2]);
});

Deno.test("more descriptors than any message has are not sent, nor is anything else", () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  throws(() => send(left.number, bytesOf("x"), Array(maxDescriptors + 1).fill(0)), {
    code: "EINVAL",
  });
  equal(receive(right.number), undefined);
});

for (const count of [maxDescriptors + 1, 100, 253]) {
  Deno.test(`${count} descriptors in one message are told as too many, and most never get in`, async () => {
    await leakingNothing(() => {
      const [left, right] = pair();
      using _left = left, _right = right;
      const before = openDescriptors().size;
      sendAll(left, bytesOf("x"), Array(count).fill(0));
      const received = receive(right.number);
      equal(received?.surplus, true);
      equal(received?.descriptors.length, maxDescriptors);
      equal(openDescriptors().size, before + maxDescriptors);
      for (const fd of received?.descriptors ?? []) fd.close();
    });
  });
}

Deno.test("a descriptor that is closed already is not sent", () => {
  const [left, right] = pair();
  using _left = left, _right = right;
  throws(() => send(left.number, bytesOf("x"), [-1]), { code: "EBADF" });
  equal(receive(right.number), undefined);
});

Deno.test("who leaves with something unread is told as gone, after what was said", () => {
  const [left, right] = pair();
  using _right = right;
  send(right.number, bytesOf("never read"));
  send(left.number, bytesOf("last words"));
  left.close();
  equal(textOf(receive(right.number)?.bytes), "last words");
  throws(() => receive(right.number), (error) => isGone(error));
});

Deno.test("who has left is told from who has said all", () => {
  const [left, right] = pair();
  using _right = right;
  equal(hasLeft(right.number), false);
  send(left.number, bytesOf("all"));
  const SHUT_WR = 1;
  check(syscall(sys.shutdown, left.number, SHUT_WR), "shutdown");
  equal(hasLeft(right.number), false);
  left.close();
  equal(hasLeft(right.number), true);
  // What was said is still there.
  equal(textOf(receive(right.number)?.bytes), "all");
});

Deno.test("what is no socket is told as none", () => {
  const { read, write } = pipe();
  using _read = read, _write = write;
  setNonblocking(read.number);
  throws(() => receive(read.number), { code: "ENOTSOCK" });
  throws(() => send(write.number, bytesOf("x")), { code: "ENOTSOCK" });
  using closed = new Fd(-1);
  throws(() => receive(closed.number), { code: "EBADF" });
});

Deno.test("a descriptor that listens for streams tells where, and no other does", () => {
  using scratch = new Scratch();
  const path = `${scratch.path}/${"x".repeat(90 - scratch.path.length)}ü`;
  using listener = listen(path);
  equal(listensAt(listener.number), path);
  using client = connect(path);
  using accepted = accept(listener.number);
  equal(listensAt(client.number), undefined);
  equal(listensAt(accepted?.number ?? -1), undefined);
  const [one, other] = pair();
  using _one = one;
  using _other = other;
  equal(listensAt(one.number), undefined);
  using file = open("/dev/null", 0);
  equal(listensAt(file.number), undefined);
  equal(listensAt(-1), undefined);
  // Not for streams, and not at a path.
  const SOCK_SEQPACKET = 5;
  using packets = new Fd(check(syscall(sys.socket, AF_UNIX, SOCK_SEQPACKET), "socket"));
  using nameless = new Fd(check(syscall(sys.socket, AF_UNIX, SOCK_STREAM), "socket"));
  for (const socket of [packets, nameless]) {
    // unix(7): a bind of nothing but the family takes an abstract name that is free.
    arena.reset();
    const place = arena.take(2);
    arena.view.setUint16(place, AF_UNIX, true);
    check(syscall(sys.bind, socket.number, arena.addressOf(place), 2), "bind");
    check(syscall(sys.listen, socket.number, 1), "listen");
    equal(listensAt(socket.number), undefined);
  }
});
