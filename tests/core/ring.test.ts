/** core/ring.ts: the output of programs, bounded, and cut into lines. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { encodeFrame } from "../../ipc/frame.ts";
import type { ProgramName } from "../../core/names.ts";
import { fromJailer, type OutputLine, toClient } from "../../core/protocol.ts";
import { LineCutter, longestLine, OutputRing } from "../../core/ring.ts";
import { Random } from "../random.ts";

const program = "work.1" as ProgramName;

function append(ring: OutputRing, ...texts: readonly string[]): void {
  for (const text of texts) ring.append(program, "stdout", text, 5);
}

const textsOf = (lines: readonly OutputLine[]): readonly string[] => lines.map(({ text }) => text);
const numbersOf = (lines: readonly OutputLine[]): readonly number[] =>
  lines.map(({ sequence }) => sequence);

Deno.test("lines come back in their order, numbered from 0, from wherever one was", () => {
  const ring = new OutputRing(10_000);
  equal(ring.next, 0);
  deepEqual(ring.from(0), []);
  append(ring, "a", "b", "c");
  deepEqual(ring.append(program, "stderr", "d", 7), {
    sequence: 3,
    program,
    stream: "stderr",
    text: "d",
    at: 7,
  });
  equal(ring.next, 4);
  deepEqual(textsOf(ring.from(0)), ["a", "b", "c", "d"]);
  deepEqual(textsOf(ring.from(2)), ["c", "d"]);
  deepEqual(textsOf(ring.from(1, 2)), ["b", "c"]);
  deepEqual(ring.from(4), []);
  deepEqual(ring.from(1000), []);
});

Deno.test("the oldest lines make room, and their numbers are not given again", () => {
  const ring = new OutputRing(1000);
  for (let at = 0; at < 5000; at++) append(ring, `line ${at}`);
  const kept = ring.from(0);
  equal(kept.at(-1)?.text, "line 4999");
  deepEqual(
    numbersOf(kept),
    Array.from({ length: kept.length }, (_, at) => 5000 - kept.length + at),
  );
  ok(kept.length >= 5 && kept.length < 15, `${kept.length}`);
  equal(ring.next, 5000);
});

Deno.test("a line that is longer than the ring is kept alone", () => {
  const ring = new OutputRing(100);
  append(ring, "a", "x".repeat(5000));
  deepEqual(textsOf(ring.from(0)).map((text) => text.length), [5000]);
  append(ring, "b");
  deepEqual(textsOf(ring.from(0)), ["b"]);
});

Deno.test("what is held is bounded, whatever is written", () => {
  const random = new Random(2);
  const ring = new OutputRing(64 * 1024);
  for (let i = 0; i < 3000; i++) {
    append(ring, "x".repeat(random.of([0, 1, 80, random.below(longestLine)])));
    if (i % 100 > 0) continue;
    let [held, from] = [0, 0];
    for (let part = ring.from(from); part.length > 0; part = ring.from(from)) {
      for (const { text, sequence } of part) {
        held += text.length + 100;
        from = sequence + 1;
      }
    }
    ok(held <= 64 * 1024, `${held}`);
  }
});

Deno.test("lines that were numbered elsewhere keep their numbers; those that are not newer are passed over", () => {
  const ring = new OutputRing(10_000);
  const line = (sequence: number): OutputLine => ({
    sequence,
    program,
    stream: "stdout",
    text: `${sequence}`,
    at: 0,
  });
  deepEqual([3, 4, 4, 2, 0, 9, 3].map((sequence) => ring.add(line(sequence))), [
    true,
    true,
    false,
    false,
    false,
    true,
    false,
  ]);
  deepEqual(numbersOf(ring.from(0)), [3, 4, 9]);
  deepEqual(numbersOf(ring.from(5)), [9]);
  equal(ring.next, 10);
});

for (
  const [what, character] of [["NULs", "\0"], ["Chinese", "漢"], ["halves", "\ud83d"]] as const
) {
  Deno.test(`a ring that is full of ${what} is sent in messages that are not too long`, () => {
    const ring = new OutputRing(256 * 1024);
    for (let i = 0; i < 100; i++) append(ring, character.repeat(longestLine));
    let [from, seen] = [0, 0];
    for (;;) {
      const lines = ring.from(from, 64);
      const last = lines.at(-1);
      if (last === undefined) break;
      const message = { type: "output", lines } as const;
      encodeFrame(message);
      deepEqual(toClient.decode(message), message);
      deepEqual(fromJailer.decode(message), message);
      from = last.sequence + 1;
      seen += lines.length;
    }
    ok(seen > 20);
    equal(from, 100);
  });
}

// --- Cutting -------------------------------------------------------------------------------------

/** The lines of a stream that came in these pieces. */
function cut(pieces: readonly Uint8Array[]): readonly string[] {
  const cutter = new LineCutter();
  return [...pieces.flatMap((piece) => [...cutter.push(piece)]), ...cutter.end()];
}

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const whole = (text: string): readonly string[] => cut([bytesOf(text)]);

Deno.test("a line ends with a newline, or with the stream", () => {
  deepEqual(whole(""), []);
  deepEqual(whole("\n"), [""]);
  deepEqual(whole("a"), ["a"]);
  deepEqual(whole("a\nb\n"), ["a", "b"]);
  deepEqual(whole("a\n\n\nb"), ["a", "", "", "b"]);
  deepEqual(whole("a\rb\r\n\0c"), ["a\rb\r", "\0c"]);
});

Deno.test("a line is told as soon as it is complete", () => {
  const cutter = new LineCutter();
  deepEqual(cutter.push(bytesOf("on")), []);
  deepEqual(cutter.push(bytesOf("e\ntw")), ["one"]);
  deepEqual(cutter.push(bytesOf("o")), []);
  deepEqual(cutter.push(bytesOf("\n")), ["two"]);
  deepEqual(cutter.end(), []);
});

Deno.test("a character that is cut between two pieces is whole again", () => {
  const bytes = bytesOf("ä€😀\n漢");
  for (let at = 0; at <= bytes.length; at++) {
    deepEqual(cut([bytes.subarray(0, at), bytes.subarray(at)]), ["ä€😀", "漢"]);
  }
  deepEqual(cut([...bytes].map((byte) => Uint8Array.of(byte))), ["ä€😀", "漢"]);
});

Deno.test("what is no UTF-8 is shown as such, and nothing else is lost", () => {
  const bytes = Uint8Array.of(0x61, 0xff, 0x62, 0x0a, 0xe2, 0x82, 0x0a, 0x63, 0xf0, 0x9f);
  const lines = cut([bytes]);
  deepEqual(lines, ["a\ufffdb", "\ufffd", "c\ufffd"]);
  deepEqual(cut([...bytes].map((byte) => Uint8Array.of(byte))), lines);
});

Deno.test("a line that is too long becomes several, and no character is cut in two", () => {
  const lengths = (text: string): readonly number[] => whole(text).map((line) => line.length);
  const most = longestLine;
  deepEqual(lengths("x".repeat(most)), [most]);
  deepEqual(lengths("x".repeat(most) + "\n"), [most]);
  deepEqual(lengths("x".repeat(most + 1) + "\n"), [most, 1]);
  deepEqual(lengths("x".repeat(3 * most) + "\ny"), [most, most, most, 1]);
  for (const before of ["", "x"]) {
    const text = before + "😀".repeat(most);
    const lines = whole(text);
    equal(lines.join(""), text);
    for (const line of lines) ok(line.isWellFormed() && line.length <= most);
  }
});

Deno.test("how a stream was cut makes no difference to its lines, and what is kept is bounded", () => {
  const random = new Random(9);
  for (let round = 0; round < 60; round++) {
    const long = random.below(3) === 0;
    const text = Array.from(
      { length: 1 + random.below(6) },
      () =>
        random.below(2) === 0 && long
          ? random.of(["x", "ä", "😀", "漢"]).repeat(random.below(2.5 * longestLine))
          : random.text(40),
    ).join(random.of(["\n", "", "\n\n"]));
    const bytes = bytesOf(text);
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const size = 1 + random.below(random.of([3, 100, 16 * 1024]));
      pieces.push(bytes.subarray(at, at + size));
      at += size;
    }
    const lines = cut(pieces);
    deepEqual(lines, cut([bytes]), `round ${round}`);
    // Newlines at the end of a line that was exactly the longest are its own.
    equal(lines.join(""), text.replaceAll("\n", ""));
    for (const line of lines) ok(line.length <= longestLine);
  }
});
