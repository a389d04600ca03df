/** ipc/octets.ts: bytes that need not be UTF-8, as text and back. */
import { deepEqual, equal } from "node:assert/strict";
import { namesIn, open } from "../../ipc/fd.ts";
import { bytesOf, textOf } from "../../ipc/octets.ts";
import { makeFolder, removeFolder } from "../../core/kernel.ts";
import { printable } from "../../core/log.ts";
import { Random } from "../random.ts";
import { Scratch } from "../scratch.ts";

Deno.test("UTF-8 is what it is for everybody, a byte order mark included", () => {
  for (const text of ["", "a", "äß€漢😀", "\ufeffa", "\ufffd", "a\0b"]) {
    const bytes = new TextEncoder().encode(text);
    equal(textOf(bytes), text);
    deepEqual(bytesOf(text), bytes);
  }
});

Deno.test("a byte that is part of no character is kept beside those that are", () => {
  const bytes = new Uint8Array([0x61, 0xff, 0xc3, 0xa4, 0xc3, 0xed, 0xb2, 0x80, 0xf0, 0x9f, 0x98]);
  const text = textOf(bytes);
  equal(text, "a\udcffä\udcc3\udced\udcb2\udc80\udcf0\udc9f\udc98");
  deepEqual(bytesOf(text), bytes);
  equal(JSON.parse(JSON.stringify(text)), text);
  equal(printable("a\udcffb\ud800"), "a\\xffb\\ud800");
});

Deno.test("any bytes come back as they were", () => {
  const random = new Random(1);
  const likely = [
    0x2f,
    0x61,
    0x80,
    0xbf,
    0xc0,
    0xc3,
    0xa4,
    0xe2,
    0x82,
    0xac,
    0xed,
    0xf0,
    0x9f,
    0xf5,
  ];
  for (let round = 0; round < 2000; round++) {
    const bytes = round % 2 === 0
      ? random.bytes(random.below(40))
      : new Uint8Array(Array.from({ length: random.below(40) }, () => random.of(likely)));
    deepEqual(bytesOf(textOf(bytes)), bytes);
  }
});

Deno.test("no slash, dot or NUL hides in what is not a character", () => {
  for (let code = 0xd800; code <= 0xdfff; code++) {
    const bytes = bytesOf(String.fromCharCode(code));
    equal(bytes.every((byte) => byte >= 0x80), true);
  }
});

Deno.test("a file is found by the name that the kernel gives it", () => {
  using scratch = new Scratch();
  const name = textOf(new Uint8Array([0x66, 0xfc, 0x0a, 0x2d]));
  using folder = open(scratch.path, 0);
  equal(makeFolder(folder, name, 0o700), true);
  deepEqual(namesIn(folder.number), [name]);
  equal(removeFolder(folder, name), true);
  deepEqual(namesIn(folder.number), []);
});
