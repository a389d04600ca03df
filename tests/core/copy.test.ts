/** core/copy-*.ts: what arrives is what was sent, and what a liar sends arrives nowhere. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { open, pipe, setNonblocking, writeSome } from "../../ipc/fd.ts";
import { encodeFrame } from "../../ipc/frame.ts";
import { poller } from "../../ipc/poller.ts";
import { isStagingName, receiveAll, Staging } from "../../core/copy-receive.ts";
import { sendAll, splitPath } from "../../core/copy-send.ts";
import { CopyReader, CopyWriter, isEntryName, Piece, records } from "../../core/copy-stream.ts";
import { tryLock } from "../../core/kernel.ts";
import { Random } from "../random.ts";
import { leakingNothing, Scratch } from "../scratch.ts";

const asked = { mask: 0, skipped: () => {}, measured: () => {}, copied: () => {} } as const;

/** Every name below a folder, with what it is. */
function tree(path: string, below = ""): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { name } of Deno.readDirSync(path)) {
    const [at, full] = [`${path}/${name}`, `${below}${name}`];
    const status = Deno.lstatSync(at);
    const mode = ((status.mode ?? 0) & 0o7777).toString(8);
    if (status.isSymlink) found[full] = `-> ${Deno.readLinkSync(at)}`;
    else if (status.isDirectory) {
      found[full] = `folder ${mode}`;
      Object.assign(found, tree(at, `${full}/`));
    } else found[full] = `${mode} ${Deno.readTextFileSync(at).slice(0, 40)}`;
  }
  return found;
}

/** A record as it travels. */
function record(value: unknown): Uint8Array {
  return encodeFrame(value);
}

/** Bytes of a file as they travel. */
function piece(offset: number, text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const whole = new Uint8Array(12 + bytes.length);
  const view = new DataView(whole.buffer);
  view.setUint32(0, 0x80000000 + bytes.length, true);
  view.setBigUint64(4, BigInt(offset), true);
  whole.set(bytes, 12);
  return whole;
}

const modified = [1_000_000_000, 5];
const file = (name: string, mode = 0o644) => record({ type: "file", name, mode, modified });
const folder = (name: string, mode = 0o755) => record({ type: "folder", name, mode, modified });
const link = (name: string, target: string) => record({ type: "link", name, target });
const close = (size: number) => record({ type: "close", size });
const leave = record({ type: "leave" });
const end = record({ type: "end" });

/** Lets a stream be received into a folder; what was asked for are these names. */
async function receive(
  stream: readonly Uint8Array[],
  into: string,
  names: readonly string[],
  options: Partial<Parameters<typeof receiveAll>[2]> & { readonly force?: boolean } = {},
): Promise<void> {
  const { read, write } = pipe();
  using input = read;
  using output = write;
  using target = open(into, 0);
  setNonblocking(output.number);
  const feed = async (): Promise<void> => {
    for (const bytes of stream) {
      for (let rest = bytes; rest.length > 0 && !output.closed;) {
        const count = writeSome(output.number, rest);
        if (count === undefined) await poller.writable(output.number);
        else rest = rest.subarray(count);
      }
    }
    output.close();
  };
  using staging = Staging.make(target);
  const feeding = feed().catch(() => {});
  try {
    await receiveAll(new CopyReader(input), staging, { ...asked, names, ...options });
    staging.commit(names, options.force ?? false, "");
  } finally {
    input.close();
    output.close();
    await feeding;
  }
}

Deno.test("a whole tree arrives as it was, but for the bits that nobody may carry", async () => {
  using scratch = new Scratch();
  const [from, to] = [scratch.folder("from"), scratch.folder("to")];
  Deno.writeTextFileSync(`${from}/plain`, "text");
  Deno.chmodSync(`${from}/plain`, 0o6751);
  Deno.mkdirSync(`${from}/deep/er`, { recursive: true });
  Deno.writeTextFileSync(`${from}/deep/er/-x \n`, "odd");
  Deno.symlinkSync("/etc/passwd", `${from}/deep/out`);
  Deno.symlinkSync("nowhere", `${from}/dangling`);
  Deno.writeTextFileSync(`${from}/deep/read-only`, "");
  Deno.chmodSync(`${from}/deep/read-only`, 0o400);
  Deno.chmodSync(`${from}/deep/er`, 0o555);
  Deno.chmodSync(`${from}/deep`, 0o1755);
  Deno.utimeSync(`${from}/plain`, 1_000_000_000, 1_000_000_000);
  Deno.utimeSync(`${from}/deep`, 1_000_000_001, 1_000_000_001);
  const names = ["plain", "deep", "dangling"];
  await leakingNothing(async () => {
    const { read, write } = pipe();
    using input = read;
    using output = write;
    using source = open(from, 0);
    using target = open(to, 0);
    using staging = Staging.make(target);
    const sources = names.map((name) => ({ folder: source, name, shown: name }));
    let bytes = 0;
    await Promise.all([
      sendAll(new CopyWriter(output), sources, { measure: true, skipped: () => {} }),
      receiveAll(new CopyReader(input), staging, {
        ...asked,
        names,
        copied: (more) => bytes += more,
      }),
    ]);
    deepEqual(Object.keys(tree(to)).filter((name) => !name.startsWith(".appjail-copy-")), []);
    staging.commit(names, false, "");
    equal(bytes, 7);
  });
  deepEqual(tree(to), {
    "plain": "751 text",
    "deep": "folder 755",
    "deep/er": "folder 555",
    "deep/er/-x \n": "644 odd",
    "deep/out": "-> /etc/passwd",
    "deep/read-only": "400 ",
    "dangling": "-> nowhere",
  });
  equal(Deno.statSync(`${to}/plain`).mtime?.getTime(), 1e12);
  equal(Deno.statSync(`${to}/deep`).mtime?.getTime(), 1e12 + 1000);
  for (const path of ["from", "to"]) Deno.chmodSync(`${scratch.path}/${path}/deep/er`, 0o755);
});

Deno.test("holes stay holes, wherever they are", async () => {
  using scratch = new Scratch();
  const [from, to] = [scratch.folder("from"), scratch.folder("to")];
  const [mega, giga] = [1024 ** 2, 1024 ** 3];
  const shapes: Record<string, readonly [at: number, size: number][]> = {
    "nothing but a hole": [],
    "at its begin": [[0, 5000]],
    "in its middle": [[giga, 3 * mega + 7], [2 * giga, 1]],
    "at its end": [[3 * giga - 1, 1]],
  };
  for (const [name, pieces] of Object.entries(shapes)) {
    using out = Deno.openSync(`${from}/${name}`, { write: true, create: true });
    out.truncateSync(3 * giga);
    for (const [at, size] of pieces) {
      out.seekSync(at, Deno.SeekMode.Start);
      for (let rest = new Uint8Array(size).fill(7); rest.length > 0;) {
        rest = rest.subarray(out.writeSync(rest));
      }
    }
  }
  const names = Object.keys(shapes);
  const { read, write } = pipe();
  using input = read;
  using output = write;
  using source = open(from, 0);
  using target = open(to, 0);
  using staging = Staging.make(target);
  let bytes = 0;
  const sources = names.map((name) => ({ folder: source, name, shown: name }));
  await Promise.all([
    sendAll(new CopyWriter(output), sources, { measure: false, skipped: () => {} }),
    receiveAll(new CopyReader(input), staging, { ...asked, names, copied: (n) => bytes += n }),
  ]);
  staging.commit(names, false, "");
  ok(bytes < 4 * mega, `${bytes} bytes were sent`);
  for (const [name, pieces] of Object.entries(shapes)) {
    const status = Deno.statSync(`${to}/${name}`);
    equal(status.size, 3 * giga, name);
    ok((status.blocks ?? 0) * 512 < 8 * mega, `${name}: ${status.blocks} blocks`);
    using copied = Deno.openSync(`${to}/${name}`);
    for (const [at, size] of pieces) {
      copied.seekSync(at, Deno.SeekMode.Start);
      const read = new Uint8Array(Math.min(size, 100));
      equal(copied.readSync(read), read.length);
      ok(read.every((byte) => byte === 7), name);
    }
  }
});

Deno.test("a stream that breaks a rule is refused, and nothing of it arrives", async (t) => {
  const whole = [file("a"), piece(0, "text"), close(4)];
  const cases: Record<string, readonly [stream: readonly Uint8Array[], says: RegExp]> = {
    "a path": [[file("a/b")], /no name of a file/],
    "an absolute path": [[file("/tmp/a")], /no name of a file/],
    "the folder above": [[folder(".."), file("x")], /no name of a file/],
    "the folder itself": [[folder(".")], /no name of a file/],
    "an empty name": [[file("")], /no name of a file/],
    "a NUL in a name": [[file("a\0b")], /no name of a file/],
    "a name that is too long": [[file("ä".repeat(128))], /no name of a file/],
    "the name of a copy under way": [
      [folder("a"), folder(`.appjail-copy-${"0".repeat(16)}`)],
      /under way/,
    ],
    "a name that nobody asked for": [[...whole, file("b")], /nobody asked/],
    "a name twice": [[...whole, file("a")], /not twice/],
    "a name twice, deeper": [[folder("a"), file("x"), close(0), file("x")], /one name twice/],
    "a file over a link": [[folder("a"), link("x", "../../victim"), file("x")], /one name twice/],
    "a folder over a link": [
      [folder("a"), link("x", "../../outside"), folder("x"), file("y")],
      /one name twice/,
    ],
    "a link to an empty path": [[link("a", "")], /refused/],
    "a link with a NUL in it": [[link("a", "x\0y")], /refused/],
    "a set-user-id bit": [[file("a", 0o4755)], /refused/],
    "a sticky bit": [[folder("a", 0o1777)], /refused/],
    "a mode that is none": [[record({ type: "file", name: "a", mode: -1, modified })], /refused/],
    "a time that is none": [
      [record({ type: "file", name: "a", mode: 0, modified: [0, 1e9] })],
      /refused/,
    ],
    "a field that nobody knows": [
      [record({ type: "file", name: "a", mode: 0, modified, uid: 0 })],
      /refused/,
    ],
    "a type that nobody knows": [[record({ type: "device", name: "a" })], /refused/],
    "no record": [[record(5)], /refused/],
    "bytes of no file": [[piece(0, "x")], /belong to no file/],
    "bytes twice": [[file("a"), piece(0, "text"), piece(3, "x")], /come twice/],
    "bytes far away": [[file("a"), piece(Number.MAX_SAFE_INTEGER, "x")], /too far away/],
    "an empty piece": [[file("a"), piece(0, "")], /refused/],
    "a file shorter than its bytes": [[file("a"), piece(0, "text"), close(3)], /shorter/],
    "a file of no bytes that anybody could store": [[file("a"), close(2 ** 53)], /refused/],
    "a file in a file": [[file("a"), file("b")], /not finished/],
    "a folder in a file": [[file("a"), folder("b")], /not finished/],
    "a link in a file": [[file("a"), link("b", "x")], /not finished/],
    "to leave where it is not": [[leave], /leaves a folder/],
    "to leave from a file": [[folder("a"), file("x"), leave], /leaves a folder/],
    "to close what is not open": [[close(0)], /was not begun/],
    "an end in a file": [[file("a"), end], /ended too early/],
    "an end in a folder": [[folder("a"), end], /ended too early/],
    "an end before all has come": [[end], /"a" did not come/],
    "no end": [whole, /left before the end/],
    "an end in mid-record": [[file("a").subarray(0, 9)], /in the middle/],
    "an end in mid-piece": [[file("a"), piece(0, "text").subarray(0, 14)], /in the middle/],
    "a record of no length": [[new Uint8Array(4)], /refused/],
    "a record of 2 GB": [[new Uint8Array([255, 255, 255, 127])], /refused/],
    "a piece of 2 GB": [[file("a"), new Uint8Array(12).fill(255, 0, 4)], /too long/],
    "no JSON": [[new Uint8Array([2, 0, 0, 0, 123, 123])], /JSON/],
    "its own failure": [
      [...whole, record({ type: "failed", message: "it \x1b[2J\nbroke" })],
      /^it \\x1b\[2J\\x0abroke$/,
    ],
  };
  for (const [name, [stream, says]] of Object.entries(cases)) {
    await t.step(name, async () => {
      using scratch = new Scratch();
      const target = scratch.folder("target");
      scratch.folder("outside");
      scratch.file("victim", "mine");
      scratch.file("target/old", "old");
      const before = tree(scratch.path);
      await leakingNothing(async () => {
        await rejects(receive(stream, target, ["a"]), (error: Error) => {
          match(error.message, says);
          return true;
        });
      });
      deepEqual(tree(scratch.path), before);
    });
  }
});

Deno.test("a link that arrives is a link, and nothing is written through it", async () => {
  using scratch = new Scratch();
  const target = scratch.folder("target");
  scratch.folder("outside");
  await receive([link("a", "../outside"), file("b"), close(0), end], target, ["a", "b"]);
  deepEqual(tree(scratch.path), {
    "outside": "folder 755",
    "target": "folder 755",
    "target/a": "-> ../outside",
    "target/b": "644 ",
  });
  // And one that stands in the target is replaced itself, when that is wished.
  await receive([folder("a"), file("x"), close(0), leave, end], target, ["a"], { force: true });
  equal(tree(scratch.path)["target/a/x"], "644 ");
  deepEqual(tree(`${scratch.path}/outside`), {});
});

Deno.test("nothing gets a permission that the umask takes", async () => {
  using scratch = new Scratch();
  const stream = [folder("a", 0o777), file("x", 0o666), close(0), leave, end];
  await receive(stream, scratch.path, ["a"], { mask: 0o027 });
  deepEqual(tree(scratch.path), { "a": "folder 750", "a/x": "640 " });
});

Deno.test("what cannot be moved to its place leaves everything as it was", async () => {
  using scratch = new Scratch();
  scratch.file("b", "old");
  const stream = [file("a"), close(0), file("b"), close(0), folder("c"), leave, end];
  const before = tree(scratch.path);
  await rejects(receive(stream, scratch.path, ["a", "b", "c"]), /b is there already; --force/);
  deepEqual(tree(scratch.path), before);
  // A name that did not come is no reason to keep the others.
  await receive(stream, scratch.path, ["a", "b", "c"], { force: true });
  deepEqual(tree(scratch.path), { "a": "644 ", "b": "644 ", "c": "folder 755" });
});

Deno.test("what was replaced is back when a later one fails", () => {
  using scratch = new Scratch();
  scratch.file("a", "old");
  using target = open(scratch.path, 0);
  using staging = Staging.make(target);
  const [name] = [...Deno.readDirSync(scratch.path)].map((one) => one.name).filter(isStagingName);
  Deno.writeTextFileSync(`${scratch.path}/${name}/a`, "new");
  throws(() => staging.commit(["a", "missing"], true, ""), /ENOENT/);
  deepEqual(Deno.readTextFileSync(`${scratch.path}/a`), "old");
});

Deno.test("what an interrupted copy has left goes with the next one, and one under way stays", () => {
  using scratch = new Scratch();
  const left = `.appjail-copy-${"a".repeat(16)}`;
  const other = ".appjail-copy-of-mine";
  Deno.mkdirSync(`${scratch.path}/${left}/deep/er`, { recursive: true });
  Deno.writeTextFileSync(`${scratch.path}/${left}/deep/er/file`, "");
  Deno.symlinkSync("/etc", `${scratch.path}/${left}/deep/link`);
  Deno.chmodSync(`${scratch.path}/${left}/deep/er`, 0o500);
  scratch.folder(other);
  const file = `.appjail-copy-${"b".repeat(16)}`;
  scratch.file(file, "a file of that name");
  using target = open(scratch.path, 0);
  const names = (): readonly string[] =>
    [...Deno.readDirSync(scratch.path)].map(({ name }) => name).sort();
  const first = Staging.make(target);
  const [live] = names().filter((name) => isStagingName(name) && name !== left && name !== file);
  {
    using _second = Staging.make(target);
    equal(names().length, 4);
    ok(names().includes(live ?? ""));
    ok(!names().includes(left));
  }
  using lock = open(`${scratch.path}/${live}`, 0);
  equal(tryLock(lock), false);
  first[Symbol.dispose]();
  deepEqual(names(), [file, other]);
});

Deno.test("a damaged stream is refused or arrives, and nothing else happens", async () => {
  const random = new Random(20260101);
  const good = [
    folder("a"),
    file("x"),
    piece(0, "some text"),
    piece(4096, "more"),
    close(5000),
    link("l", "/etc/passwd"),
    folder("b"),
    leave,
    record({ type: "skipped", path: "s", why: "socket" }),
    leave,
    end,
  ];
  using scratch = new Scratch();
  const target = scratch.folder("target");
  let [refused, arrived] = [0, 0];
  await leakingNothing(async () => {
    for (let round = 0; round < 400; round++) {
      const parts = [...good];
      const many = 1 + random.below(3);
      for (let i = 0; i < many; i++) {
        const at = random.below(parts.length);
        const part = parts[at] ?? end;
        switch (random.below(5)) {
          case 0:
            parts.splice(at, 1);
            break;
          case 1:
            parts.splice(at, 0, random.of(good));
            break;
          case 2: {
            const bytes = part.slice();
            bytes[random.below(bytes.length)] = random.below(256);
            parts[at] = bytes;
            break;
          }
          case 3:
            parts[at] = part.subarray(0, random.below(part.length));
            break;
          default:
            parts[at] = record(random.json());
        }
      }
      try {
        await receive(parts, target, ["a"]);
        arrived++;
        Deno.removeSync(`${target}/a`, { recursive: true });
      } catch (error) {
        ok(error instanceof Error);
        match(
          error.message,
          /refused|in the middle|before the end|is not|JSON|too|cut|EFBIG|no space/i,
          error.stack,
        );
        refused++;
      }
      deepEqual(Object.keys(tree(scratch.path)), ["target"]);
    }
  });
  ok(refused > 200 && arrived > 10, `${refused} refused, ${arrived} arrived`);
});

Deno.test("records and pieces come out whole, however the stream is cut", async () => {
  const random = new Random(3);
  const stream = [record({ type: "measured", bytes: 5 }), piece(7, "0123456789"), end];
  const whole = new Uint8Array(stream.reduce((sum, { length }) => sum + length, 0));
  stream.reduce((at, bytes) => (whole.set(bytes, at), at + bytes.length), 0);
  for (let round = 0; round < 50; round++) {
    const { read, write } = pipe();
    using input = read;
    using output = write;
    const reader = new CopyReader(input);
    let at = 0;
    const seen: unknown[] = [];
    let bytes = 0;
    const feed = (): void => {
      const size = 1 + random.below(12);
      writeSome(output.number, whole.subarray(at, at + size));
      at += size;
      if (at < whole.length) setTimeout(feed, 0);
      else output.close();
    };
    feed();
    for (;;) {
      const item = await reader.next(records.sent);
      if (item === undefined) break;
      if (item instanceof Piece) {
        equal(item.offset, 7 + bytes);
        bytes += item.size;
      } else seen.push(item.type);
    }
    deepEqual([seen, bytes], [["measured", "end"], 10]);
  }
});

Deno.test("a path is its folder and its last name", () => {
  const split = (path: string): string => Object.values(splitPath(path)).join(" | ");
  equal(split("a"), ". | a");
  equal(split("a/b/"), "a | b");
  equal(split("/a"), "/ | a");
  equal(split("/a//b"), "/a/ | b");
  equal(split("/"), ". | ");
  equal(split(""), ". | ");
  equal(split("a/.."), "a | ..");
  equal(isEntryName("\udcff".repeat(255)), true);
  equal(isEntryName("\udcff".repeat(256)), false);
});
