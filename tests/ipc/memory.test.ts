/** ipc/memory.ts: what C code is told to read lies where it is said to lie. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { Arena } from "../../ipc/memory.ts";
import { Random } from "../random.ts";

const textAt = (arena: Arena, offset: number): string =>
  new TextDecoder().decode(arena.bytes.subarray(offset, arena.bytes.indexOf(0, offset)));

Deno.test("an address is that of the bytes", () => {
  const arena = new Arena(64);
  const offset = arena.take(8);
  arena.view.setBigUint64(offset, 0x0123456789abcdefn, true);
  const pointer = Deno.UnsafePointer.create(BigInt(arena.addressOf(offset)));
  ok(pointer !== null);
  equal(new Deno.UnsafePointerView(pointer).getBigUint64(), 0x0123456789abcdefn);
});

Deno.test("places are aligned to eight bytes, zeroed, and none overlaps another", () => {
  const random = new Random(1);
  const arena = new Arena(100_000);
  for (let round = 0; round < 50; round++) {
    arena.reset();
    let end = 0;
    for (let i = 0; i < 50; i++) {
      const size = random.below(100);
      const offset = arena.take(size);
      equal(offset % 8, 0);
      ok(offset >= end && offset < end + 8);
      ok(arena.bytes.subarray(offset, offset + size).every((byte) => byte === 0));
      arena.bytes.fill(0xaa, offset, offset + size);
      end = offset + size;
    }
  }
});

Deno.test("what does not fit is refused before anything is written", () => {
  const arena = new Arena(64);
  arena.bytes.fill(7);
  throws(() => arena.take(65), RangeError);
  throws(() => arena.text("x".repeat(64)), RangeError);
  deepEqual([...arena.bytes], Array(64).fill(7));
  equal(arena.text("x".repeat(63)), 0);
  throws(() => arena.take(1), RangeError);
  arena.reset();
  equal(arena.take(64), 0);
});

Deno.test("a text ends with a NUL and may not hold another", () => {
  const arena = new Arena(64);
  arena.bytes.fill(0xff);
  const offset = arena.text("grün 😀");
  equal(textAt(arena, offset), "grün 😀");
  for (const text of ["\0", "/etc/passwd\0.txt", "x\0"]) throws(() => arena.text(text), TypeError);
});

Deno.test("a list of texts is an array of pointers that ends with none", () => {
  const arena = new Arena(1024);
  arena.bytes.fill(0xff);
  const words = ["sh", "", "-c", "ä"];
  const array = arena.texts(words);
  words.forEach((word, at) => {
    const pointer = Number(arena.view.getBigUint64(array + at * 8, true));
    equal(textAt(arena, pointer - arena.addressOf(0)), word);
  });
  equal(arena.view.getBigUint64(array + words.length * 8, true), 0n);
});

Deno.test("an empty list of texts is the end alone", () => {
  const arena = new Arena(64);
  arena.bytes.fill(0xff);
  equal(arena.view.getBigUint64(arena.texts([]), true), 0n);
});
