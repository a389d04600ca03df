/**
 * ipc/frame.ts: what a stranger sends, however it is cut. Every peer of appjail is read through it.
 */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { decodePayload, encodeFrame, FrameError, FrameReader, maxFrame } from "../../ipc/frame.ts";
import { Random } from "../random.ts";

/** How many inputs the fuzz has; `APPJAIL_FUZZ=1000000` for a thorough run, of about a minute. */
const inputs = Number(Deno.env.get("APPJAIL_FUZZ") || 50_000);
/** Where its numbers begin. A failure prints it: `APPJAIL_FUZZ_SEED` makes the same run again. */
const seed = Number(Deno.env.get("APPJAIL_FUZZ_SEED") || Date.now() % 2 ** 32);

/** A header that promises `length` bytes, and what follows it. */
function framed(length: number, ...body: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes.set(body, 4);
  return bytes;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Every whole frame that a reader has. */
function drained(reader: FrameReader): readonly Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
  return frames;
}

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

Deno.test("a frame is its length, little-endian, and its JSON", () => {
  deepEqual([...encodeFrame({ a: "ü" })], [10, 0, 0, 0, ...bytesOf('{"a":"ü"}')]);
});

for (const length of [0, maxFrame + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
  Deno.test(`a length of ${length} is refused as soon as it is known, and nothing is set aside`, () => {
    const reader = new FrameReader();
    const before = reader.capacity;
    const header = framed(length);
    reader.push(header.subarray(0, 3));
    equal(reader.next(), undefined);
    reader.push(header.subarray(3));
    throws(() => reader.next(), FrameError);
    // Whoever goes on is told the same again.
    reader.push(new Uint8Array([123, 125]));
    throws(() => reader.next(), FrameError);
    equal(reader.capacity, before);
  });
}

for (const length of [1, 2, 4095, 4096, 65_535, 65_536, maxFrame - 1, maxFrame]) {
  Deno.test(`a frame of ${length} bytes comes as it was sent, and not before its last byte`, () => {
    const payload = new Uint8Array(length).map((_, at) => at * 7);
    const reader = new FrameReader();
    reader.push(framed(length));
    for (let at = 0; at < length - 1; at += 64 * 1024) {
      reader.push(payload.subarray(at, Math.min(at + 64 * 1024, length - 1)));
      equal(reader.next(), undefined);
    }
    reader.push(payload.subarray(length - 1));
    equal(reader.pending, 4 + length);
    ok(equalBytes(reader.next(), payload));
    equal(reader.next(), undefined);
    equal(reader.pending, 0);
  });
}

Deno.test("one byte at a time makes the same frames", () => {
  const reader = new FrameReader();
  const messages = [{ type: "profiles" }, "Grüße", [1, 2, null], {}];
  const seen: unknown[] = [];
  for (const byte of joined(...messages.map(encodeFrame))) {
    reader.push(Uint8Array.of(byte));
    seen.push(...drained(reader).map(decodePayload));
  }
  deepEqual(seen, messages);
});

Deno.test("frames that come together are told apart, and the beginning of the next one is kept", () => {
  const reader = new FrameReader();
  const third = encodeFrame("third");
  reader.push(joined(encodeFrame("first"), encodeFrame("second"), third.subarray(0, 6)));
  deepEqual(drained(reader).map(decodePayload), ["first", "second"]);
  equal(reader.pending, 6);
  reader.push(third.subarray(6));
  deepEqual(drained(reader).map(decodePayload), ["third"]);
});

Deno.test("frames before a refused length are still read", () => {
  const reader = new FrameReader();
  reader.push(joined(encodeFrame(1), framed(0)));
  equal(decodePayload(reader.next() ?? new Uint8Array()), 1);
  throws(() => reader.next(), FrameError);
});

Deno.test("a payload is the receiver's own: what comes later does not change it", () => {
  const reader = new FrameReader();
  const given = encodeFrame("first");
  reader.push(given);
  given.fill(0);
  const payload = reader.next() ?? new Uint8Array();
  reader.push(encodeFrame("xxxxx"));
  reader.next();
  equal(decodePayload(payload), "first");
});

Deno.test("memory grows with what has come, not with what was promised", () => {
  const reader = new FrameReader();
  reader.push(framed(maxFrame, ...bytesOf('{"')));
  equal(reader.next(), undefined);
  equal(reader.capacity, 4096);
  for (let sent = 2; sent < 200_000; sent += 1000) {
    reader.push(new Uint8Array(1000));
    ok(reader.capacity <= Math.max(4096, 2 * reader.pending), `${reader.capacity} bytes are held`);
  }
});

Deno.test("memory is given back after a long frame, also when another one follows it at once", () => {
  const long = encodeFrame("x".repeat(maxFrame - 2));
  equal(long.length, 4 + maxFrame);
  const chunk = 64 * 1024;
  const reader = new FrameReader();
  let most = 0;
  const push = (bytes: Uint8Array): number => {
    let frames = 0;
    for (let at = 0; at < bytes.length; at += chunk) {
      reader.push(bytes.subarray(at, at + chunk));
      frames += drained(reader).length;
      most = Math.max(most, reader.capacity);
    }
    return frames;
  };
  equal(push(long), 1);
  ok(reader.capacity <= chunk, `${reader.capacity} bytes are kept for nothing`);
  // Twenty, each read cutting into the next one, and never an empty buffer in between.
  equal(push(joined(encodeFrame(1), ...Array.from({ length: 20 }, () => long))), 21);
  ok(most <= 2 * (maxFrame + 4 + chunk), `${most} bytes`);
  for (let i = 0; i < 3000; i++) push(encodeFrame("short"));
  ok(reader.capacity <= 2 * (maxFrame + 4 + chunk));
});

Deno.test("a message that is too long is not sent", () => {
  equal(encodeFrame("x".repeat(maxFrame - 2)).length, 4 + maxFrame);
  throws(() => encodeFrame("x".repeat(maxFrame - 1)), FrameError);
  // Bytes count, not characters.
  throws(() => encodeFrame("ü".repeat(maxFrame / 2)), FrameError);
});

Deno.test("half a surrogate pair in a message cannot make a frame that the reader refuses", () => {
  const reader = new FrameReader();
  reader.push(encodeFrame({ text: "\ud83d" }));
  deepEqual(drained(reader).map(decodePayload), [{ text: "\ud83d" }]);
});

for (
  const [what, payload] of [
    ["a lonely continuation byte", [0x22, 0x80, 0x22]],
    ["an overlong NUL", [0x22, 0xc0, 0x80, 0x22]],
    ["a surrogate", [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ["a code point above U+10FFFF", [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22]],
    ["a cut character", [0x22, 0xe2, 0x82]],
    ["Latin-1", [0x22, 0xfc, 0x22]],
    ["a byte order mark", [0xef, 0xbb, 0xbf, 0x7b, 0x7d]],
    ["UTF-16", [0xff, 0xfe, 0x7b, 0x00]],
    ["nothing", []],
    ["spaces", [0x20, 0x20]],
    ["words", [...bytesOf("hello")]],
    ["two values", [...bytesOf("{}{}")]],
    ["a NUL behind the value", [...bytesOf("{}\0")]],
    ["single quotes", [...bytesOf("{'a':1}")]],
    ["NaN", [...bytesOf("NaN")]],
  ] as const
) {
  Deno.test(`${what} is not JSON in UTF-8, and the refusal quotes none of it`, () => {
    throws(() => decodePayload(Uint8Array.from(payload)), {
      name: "FrameError",
      message: "A frame is refused: it does not hold JSON in UTF-8",
    });
  });
}

Deno.test("deep JSON is refused, and never ends the process", () => {
  const depth = 500_000;
  for (
    const text of [
      "[".repeat(depth),
      '{"a":'.repeat(depth / 5),
      "[".repeat(depth) + "]".repeat(depth),
      '{"a":'.repeat(100_000) + "1" + "}".repeat(100_000),
      "[".repeat(17) + "]".repeat(17),
    ]
  ) throws(() => decodePayload(bytesOf(text)), { name: "FrameError", message: /nested too deep/ });
  deepEqual(
    decodePayload(bytesOf("[".repeat(16) + "]".repeat(16))),
    Array(15).fill(0).reduce((inner) => [inner], []),
  );
});

Deno.test("JSON of more parts than any message has is refused before there is any object", () => {
  const parts = (count: number): Uint8Array => bytesOf(`[${"{},".repeat(count - 2)}{}]`);
  equal((decodePayload(parts(65_536)) as unknown[]).length, 65_535);
  throws(() => decodePayload(parts(65_537)), { name: "FrameError", message: /too many parts/ });
});

Deno.test("brackets in a text are no parts, whatever stands before them", () => {
  for (
    const text of ["[".repeat(100_000), '\\"[[', "\\\\", '"[[[[[[[[[[[[[[[[[[[[[[[', '\u005b["[[']
  ) {
    equal(decodePayload(bytesOf(JSON.stringify(text))), text);
    deepEqual(decodePayload(bytesOf(JSON.stringify({ [text]: [text] }))), { [text]: [text] });
  }
  // A text that does not end hides nothing.
  throws(() => decodePayload(bytesOf('"\\"' + "[".repeat(100))), FrameError);
});

Deno.test("a reader that has given its memory back holds none", () => {
  const reader = new FrameReader();
  reader.push(framed(maxFrame, ...new Uint8Array(100_000)));
  ok(reader.capacity >= 100_000);
  reader.release();
  deepEqual([reader.capacity, reader.pending], [0, 0]);
});

// --- The fuzz ----------------------------------------------------------------------------------

/** The same reader as anybody would write it who trusts every length that may be. */
class Model {
  readonly frames: Uint8Array[] = [];
  refused = false;
  pending = 0;
  #header: number[] = [];
  #body = new Uint8Array();
  #filled = 0;

  push(bytes: Uint8Array): void {
    this.pending += bytes.length;
    for (const byte of bytes) {
      if (this.refused) return;
      if (this.#header.length < 4) {
        this.#header.push(byte);
        if (this.#header.length < 4) continue;
        const length = this.#header.reduce((sum, byte, at) => sum + byte * 256 ** at, 0);
        if (isAllowed(length)) this.#body = new Uint8Array(length);
        else this.refused = true;
        continue;
      }
      this.#body[this.#filled++] = byte;
      if (this.#filled < this.#body.length) continue;
      this.frames.push(this.#body);
      this.#header = [];
      this.#filled = 0;
    }
  }
}

function isAllowed(length: number): boolean {
  return length >= 1 && length <= 1_048_576;
}

/** The text of UTF-8 by the table of RFC 3629, section 4; `undefined` where it is none. */
function textOf(bytes: Uint8Array): string | undefined {
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at] ?? 0;
    const size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size === 0 || first > 0xf4 || at + size > bytes.length) return undefined;
    let point = size === 1 ? first : first & (0xff >> (size + 1));
    for (let next = at + 1; next < at + size; next++) {
      const byte = bytes[next] ?? 0;
      if ((byte & 0xc0) !== 0x80) return undefined;
      point = point * 64 + (byte & 0x3f);
    }
    if (point >= 0xd800 && point <= 0xdfff || point > 0x10ffff) return undefined;
    if (point < ([0, 0, 0x80, 0x800, 0x10000][size] ?? 0)) return undefined;
    text += String.fromCodePoint(point);
    at += size;
  }
  return text;
}

/** A value as JSON, or the word for what is none. */
function meaning(read: () => unknown): string {
  try {
    return JSON.stringify(read());
  } catch (error) {
    ok(error instanceof FrameError || error instanceof SyntaxError, `${error}`);
    return "refused";
  }
}

function expected(payload: Uint8Array): string {
  return meaning(() => {
    const text = textOf(payload);
    if (text === undefined) throw new SyntaxError("not UTF-8");
    return JSON.parse(text);
  });
}

function equalBytes(a: Uint8Array | undefined, b: Uint8Array): boolean {
  if (a?.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** A piece of what a peer could send: mostly right, often wrong. */
function piece(random: Random): Uint8Array {
  const whole = (): Uint8Array<ArrayBuffer> => encodeFrame(random.json());
  switch (random.below(12)) {
    case 0: // A length that is refused.
      return framed(random.of([0, maxFrame + 1, 2 ** 31, 2 ** 32 - 1, random.below(2 ** 32)]));
    case 1: // Anything at all.
      return random.bytes(random.below(12));
    case 2: // A frame that was cut short: what follows is taken for its rest.
      return whole().subarray(0, random.below(12));
    case 3: { // A bit that was turned over.
      const frame = whole();
      const at = random.below(frame.length);
      frame[at] = (frame[at] ?? 0) ^ (1 << random.below(8));
      return frame;
    }
    case 4: { // A right length before anything.
      const body = random.bytes(1 + random.below(40));
      return framed(body.length, ...body);
    }
    case 5: { // Text with bytes that no text has.
      const frame = encodeFrame({ text: "äöü€😀" });
      frame[4 + random.below(frame.length - 4)] = random.below(256);
      return frame;
    }
    case 6: // Now and then, a long one.
      if (random.below(400) > 0) return whole();
      return encodeFrame("x".repeat(random.of([maxFrame - 2, random.below(maxFrame - 2)])));
    default:
      return whole();
  }
}

/** Where a stream is cut: not at all, everywhere, or wherever. */
function* cuts(random: Random, stream: Uint8Array): Generator<Uint8Array> {
  const style = random.below(4);
  const chunk = style === 0
    ? stream.length
    : style === 1 && stream.length < 500
    ? 1
    : style === 2
    ? 64 * 1024
    : 1 + random.below(stream.length);
  for (let at = 0; at < stream.length; at += chunk) yield stream.subarray(at, at + chunk);
}

/** What a reader may keep for the next frame when it has none. */
const keeps = 64 * 1024;

/** One conversation, until its peer is refused or leaves; returns how many inputs it took. */
function converse(random: Random, left: number): number {
  const [reader, model] = [new FrameReader(), new Model()];
  let [taken, most] = [0, 0];
  while (taken < left) {
    taken++;
    const stream = joined(...Array.from({ length: 1 + random.below(3) }, () => piece(random)));
    for (const bytes of cuts(random, stream)) {
      most = Math.max(most, reader.pending + bytes.length);
      reader.push(bytes);
      model.push(bytes);
      ok(reader.capacity <= Math.max(keeps, 2 * most), `${reader.capacity} bytes for ${most}`);
      // Whoever reads may be late.
      if (random.below(8) === 0 && reader.pending < 2 * maxFrame) continue;
      for (const frame of model.frames.splice(0)) {
        const payload = reader.next();
        ok(payload !== undefined && equalBytes(payload, frame), "another frame came");
        model.pending -= 4 + frame.length;
        if (frame.length < 10_000) equal(meaning(() => decodePayload(payload)), expected(frame));
      }
      if (model.refused) {
        throws(() => reader.next(), FrameError);
        return taken;
      }
      equal(reader.next(), undefined);
      equal(reader.pending, model.pending);
      if (reader.pending === 0) {
        most = 0;
        ok(reader.capacity <= keeps, `${reader.capacity} bytes are kept for nothing`);
      }
    }
    if (random.below(20) === 0) break;
  }
  return taken;
}

Deno.test(`${inputs} inputs, random, cut and merged, are read as the model reads them`, () => {
  const [began, before] = [performance.now(), Deno.memoryUsage().rss];
  const random = new Random(seed);
  let [done, highest] = [0, 0];
  try {
    for (let conversations = 0; done < inputs; conversations++) {
      done += converse(random, inputs - done);
      if (conversations % 1000 === 0) highest = Math.max(highest, Deno.memoryUsage().rss);
    }
  } catch (error) {
    throw new Error(`input ${done}; run it again with APPJAIL_FUZZ_SEED=${seed}`, { cause: error });
  }
  const grown = Math.round((highest - before) / 2 ** 20);
  ok(grown < 512, `the process grew by ${grown} MiB`);
  if (Deno.env.has("APPJAIL_FUZZ")) {
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(
      `${done} inputs in ${seconds} s, seed ${seed}; at most ${grown} MiB more than before`,
    );
  }
});
