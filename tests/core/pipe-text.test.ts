/** What a program prints, as it comes through a pipe. */
import { equal } from "node:assert/strict";
import { pipe, writeAll } from "../../ipc/fd.ts";
import { textThrough } from "../../core/pipe-text.ts";

/** What is read of bytes that were all there before. */
async function through(bytes: Uint8Array<ArrayBuffer>, most: number): Promise<string> {
  const { read, write } = pipe({ nonblocking: true });
  using end = read;
  writeAll(write.number, bytes);
  write.close();
  return await textThrough(end, most);
}

Deno.test("a character is whole, wherever what is read is cut", async () => {
  for (const before of [4093, 4094, 4095, 4096]) {
    const text = `${"a".repeat(before)}€äb`;
    equal(await through(new TextEncoder().encode(text), 10_000), text);
  }
  // One that ends in the middle of a character says so.
  equal(await through(Uint8Array.of(0x61, 0xe2, 0x82), 10), "a\ufffd");
});

Deno.test("what is too much is read, and thrown away", async () => {
  equal((await through(new Uint8Array(20_000).fill(0x61), 5000)).length, 8192);
});
