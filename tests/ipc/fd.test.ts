/** ipc/fd.ts: whose a descriptor is, that none gets lost, and reading and writing it. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import {
  closeAllOnExec,
  duplicate,
  Fd,
  isGone,
  isOpen,
  isTerminal,
  namesIn,
  open,
  pipe,
  readAll,
  readSome,
  setCloseOnExec,
  setNonblocking,
  writeAll,
  writeSome,
} from "../../ipc/fd.ts";
import { SystemError } from "../../ipc/errno.ts";
import { Random } from "../random.ts";
import { isCloseOnExec, leakingNothing, openDescriptors, Scratch } from "../scratch.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

Deno.test("to close a descriptor twice does not close its next owner's", () => {
  const first = open("/dev/null", 0);
  const { number } = first;
  first.close();
  using second = open("/dev/null", 0);
  equal(second.number, number, "the test needs the same number again");
  first.close();
  first[Symbol.dispose]();
  equal(isOpen(number), true);
});

Deno.test("a closed descriptor has no number any more", () => {
  const fd = open("/dev/null", 0);
  equal(fd.closed, false);
  fd.close();
  equal(fd.closed, true);
  throws(() => fd.number, { name: "SystemError", code: "EBADF" });
  throws(() => fd.release(), { code: "EBADF" });
});

Deno.test("a released descriptor stays open and is somebody else's to close", async () => {
  await leakingNothing(() => {
    const fd = open("/dev/null", 0);
    const number = fd.release();
    fd.close();
    equal(isOpen(number), true);
    new Fd(number).close();
    equal(isOpen(number), false);
  });
});

Deno.test("a descriptor is closed at the end of its block, however that is left", async () => {
  await leakingNothing(() => {
    throws(() => {
      using _fd = open("/dev/null", 0);
      throw new Error("left");
    });
  });
});

Deno.test("a file that cannot be opened is named, with the reason", () => {
  throws(() => open("/nonexistent/file", 0), {
    message: 'open("/nonexistent/file"): ENOENT, no such file or directory',
  });
  throws(() => open("/etc/passwd\0.txt", 0), TypeError);
});

Deno.test("nothing that is opened outlives an exec unless it is told to", () => {
  using stack = new DisposableStack();
  const { read, write } = pipe();
  const other = pipe({ nonblocking: true });
  const file = open("/dev/null", 2);
  const all = [file, read, write, other.read, other.write, new Fd(duplicate(0).release())];
  for (const fd of all) {
    stack.use(fd);
    equal(isCloseOnExec(fd.number), true);
  }
  setCloseOnExec(file.number, false);
  equal(isCloseOnExec(file.number), false);
  equal(isCloseOnExec(read.number), true);
  setCloseOnExec(file.number, true);
  equal(isCloseOnExec(file.number), true);
  setCloseOnExec(file.number, false);
  closeAllOnExec();
  for (const fd of openDescriptors().keys()) equal(isCloseOnExec(fd), fd > 2, `${fd}`);
});

Deno.test("a duplicate is the same open file, at the number asked for or above", () => {
  using scratch = new Scratch();
  using file = open(scratch.file("file", "abcdef"), 0);
  using second = duplicate(file.number, 100);
  ok(second.number >= 100);
  const buffer = new Uint8Array(3);
  equal(readSome(file.number, buffer), 3);
  equal(readSome(second.number, buffer), 3);
  equal(new TextDecoder().decode(buffer), "def");
  throws(() => duplicate(-1), { code: "EBADF" });
});

Deno.test("a non-blocking pipe says when there is nothing, and when there is no room", () => {
  const { read, write } = pipe({ nonblocking: true });
  using _read = read, _write = write;
  equal(readSome(read.number, new Uint8Array(10)), undefined);
  let written = 0;
  for (;;) {
    const count = writeSome(write.number, new Uint8Array(200_000));
    if (count === undefined) break;
    written += count;
  }
  ok(written >= 65_536);
  let taken = 0;
  for (;;) {
    const count = readSome(read.number, new Uint8Array(200_000));
    if (count === undefined) break;
    taken += count;
  }
  equal(taken, written);
  write.close();
  equal(readSome(read.number, new Uint8Array(10)), 0);
});

Deno.test("a pipe can be made non-blocking later", () => {
  const { read, write } = pipe();
  using _read = read, _write = write;
  setNonblocking(read.number);
  equal(readSome(read.number, new Uint8Array(1)), undefined);
});

Deno.test("to write where nobody reads is an error that says so, and no signal", () => {
  const { read, write } = pipe();
  using _write = write;
  read.close();
  throws(() => writeAll(write.number, Uint8Array.of(1)), (error) => {
    equal(isGone(error), true);
    return error instanceof SystemError && error.code === "EPIPE";
  });
  equal(isGone(new SystemError("write", 28)), false);
  equal(isGone(new Error("EPIPE")), false);
});

Deno.test("what was written is read, byte for byte, however long it is", () => {
  using scratch = new Scratch();
  const random = new Random(3);
  for (const size of [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1_000_000]) {
    const bytes = random.bytes(size);
    const path = scratch.file("file");
    {
      using file = open(path, 1);
      writeAll(file.number, bytes);
    }
    using file = open(path, 0);
    deepEqual(readAll(file.number, 1_000_000), bytes);
  }
});

Deno.test("a file of exactly the limit is read, and one byte more is too much", () => {
  using scratch = new Scratch();
  for (const size of [0, 1, 100, 4095, 4096, 4097, 16_384, 70_000]) {
    const path = scratch.file("file", "x".repeat(size));
    const read = (limit: number): number => {
      using file = open(path, 0);
      return readAll(file.number, limit).length;
    };
    equal(read(size), size);
    equal(read(size + 1), size);
    if (size > 0) throws(() => read(size - 1), { code: "EFBIG" });
  }
  using endless = open("/dev/zero", 0);
  throws(() => readAll(endless.number, 100_000), { code: "EFBIG" });
});

Deno.test("every name in a folder is listed once, however many there are", () => {
  using scratch = new Scratch();
  const names = [
    ...Array.from({ length: 500 }, (_, at) => `${"a long name ".repeat(15)}${at}`),
    "ü 😀",
    "-rf",
    "new\nline",
    "...",
    "x".repeat(255),
  ];
  for (const name of names) scratch.file(name);
  using folder = open(scratch.path, 0);
  deepEqual([...namesIn(folder.number)].sort(), names.sort());
  using file = open("/dev/null", 0);
  throws(() => namesIn(file.number), { code: "ENOTDIR" });
});

Deno.test("a terminal is told from what is none", () => {
  using terminal = open("/dev/ptmx", 2);
  equal(isTerminal(terminal.number), true);
  using file = open("/dev/null", 2);
  equal(isTerminal(file.number), false);
  equal(isTerminal(-1), false);
});

Deno.test("a number is open or not", () => {
  equal(isOpen(0), true);
  equal(isOpen(-1), false);
  equal(isOpen(1_000_000), false);
});

// --- What a role inherits (attack 10) ------------------------------------------------------------

Deno.test("of what is inherited only what is wanted stays, and goes no further", async () => {
  const module = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: [
      "-c",
      'exec 7</etc/passwd 8</ 9</dev/zero 200</etc/hostname; exec "$@"',
      "bash",
      Deno.execPath(),
      "eval",
      `import { closeInherited } from ${module("../../ipc/fd.ts")};
       import { isCloseOnExec, openDescriptors } from ${module("../scratch.ts")};
       const before = openDescriptors();
       const closed = closeInherited([9, 11]);
       const after = openDescriptors();
       const again = closeInherited([]);
       const child = await new Deno.Command("ls", { args: ["/proc/self/fd"] }).output();
       console.log(JSON.stringify({
         had: [7, 8, 9, 200].every((fd) => before.has(fd)),
         closed,
         left: [7, 8, 9, 200].filter((fd) => after.has(fd)),
         fewer: before.size - after.size,
         again,
         loose: [...after.keys()].filter((fd) => fd > 2 && !isCloseOnExec(fd)),
         standard: [0, 1, 2].every((fd) => after.has(fd)),
         works: Deno.readTextFileSync("/etc/passwd").includes("root"),
         // The fourth is its own listing.
         passedOn: new TextDecoder().decode(child.stdout).trim().split("\\n"),
       }));`,
    ],
    cwd: "/",
  }).output();
  const text = new TextDecoder();
  ok(stdout.length > 0, text.decode(stderr));
  const { closed, fewer, passedOn, ...rest } = JSON.parse(text.decode(stdout));
  deepEqual(rest, { had: true, left: [9], again: 0, loose: [], standard: true, works: true });
  // Whoever runs the tests may hand down some of its own.
  equal(closed, fewer);
  ok(closed >= 3);
  deepEqual(passedOn, ["0", "1", "2", "3"]);
});
