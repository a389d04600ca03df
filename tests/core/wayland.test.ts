/** core/wayland.ts: requests as bytes, and what is made of a compositor's answers, whatever comes. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import {
  CompositorAnswers,
  contextRequests,
  lookRequests,
  WaylandFault,
} from "../../core/wayland.ts";
import { Random } from "../random.ts";

/** An event, by its words: numbers, and texts with all that is to stand there. */
function event(object: number, opcode: number, ...words: readonly (number | string)[]) {
  const body = words.flatMap((word) =>
    typeof word === "number"
      ? [...new Uint8Array(new Uint32Array([word]).buffer)]
      : [...new TextEncoder().encode(word)]
  );
  const head = new Uint32Array([object, (8 + body.length) << 16 | opcode]);
  return Uint8Array.from([...new Uint8Array(head.buffer), ...body]);
}

const managerText = "wp_security_context_manager_v1\0\0";
const seat = event(2, 0, 1, 8, "wl_seat\0", 7);
const manager = event(2, 0, 12, 31, managerText, 1);
const removed = event(2, 1, 12);
const [looked, made] = [event(3, 0, 99), event(6, 0, 100)];
const forgotten = event(1, 1, 3);

function answers(...parts: readonly Uint8Array[]): CompositorAnswers {
  const all = new CompositorAnswers();
  for (const part of parts) all.push(part);
  return all;
}

/** Bytes as pairs of digits, words apart. */
function hex(bytes: Uint8Array<ArrayBuffer>): string {
  return bytes.toHex().match(/.{8}/g)?.join(" ") ?? "";
}

Deno.test("what is asked first: the registry, and to be told when all of it was said", () => {
  equal(hex(lookRequests()), "01000000 01000c00 02000000 01000000 00000c00 03000000");
});

Deno.test("a context is asked for in one go, each text with its NUL and filled up with zeros", () => {
  const requests = contextRequests(12, { engine: "abc", app: "abcd", instance: "é" });
  const words = hex(requests).split(" ");
  equal(requests.length % 4, 0);
  // wl_registry.bind: the global, what it is, the version, the new object.
  deepEqual(words.slice(0, 4), ["02000000", "00003800", "0c000000", "1f000000"]);
  equal(new TextDecoder().decode(requests.subarray(16, 48)), managerText);
  deepEqual(words.slice(12), [
    ...["01000000", "04000000"],
    ...["04000000", "01000c00", "05000000"],
    ...["05000000", "01001000", "04000000", "61626300"],
    ...["05000000", "02001400", "05000000", "61626364", "00000000"],
    ...["05000000", "03001000", "03000000", "c3a90000"],
    ...["05000000", "04000800", "05000000", "00000800", "04000000", "00000800"],
    ...["01000000", "00000c00", "06000000"],
  ]);
});

Deno.test("a global is found among others, however its bytes are cut", () => {
  const whole = Uint8Array.from([...seat, ...manager, ...seat, ...looked, ...forgotten]);
  for (let size = 1; size <= whole.length; size++) {
    const all = new CompositorAnswers();
    for (let at = 0; at < whole.length; at += size) {
      equal(all.complete, at >= whole.length - forgotten.length, `${size}: ${at}`);
      all.push(whole.subarray(at, at + size));
      if (at + size >= whole.length - forgotten.length) break;
    }
    ok(all.complete);
    equal(all.manager, 12);
  }
});

Deno.test("there is none where it is not told of, or was taken back", () => {
  equal(answers(seat, looked).manager, undefined);
  equal(answers(manager, removed, looked).manager, undefined);
  equal(answers(event(2, 0, 12, 31, managerText.replace("v1", "v2"), 1)).manager, undefined);
  equal(answers(event(2, 0, 12, 30, managerText.replace("1\0", "\0\0"), 1)).manager, undefined);
  // The first of two is as good as the other.
  equal(answers(manager, event(2, 0, 13, 31, managerText, 1)).manager, 12);
});

Deno.test("what is asked for later is answered later", () => {
  const all = answers(manager, looked);
  ok(all.complete);
  throws(() => answers(manager, looked, made), /event 0 of object 6, which has none/);
  throws(() => answers(manager, made), /event 0 of object 6/);
  all.expectContext();
  ok(!all.complete);
  all.push(forgotten);
  throws(() => answers(manager, looked, looked), /event 0 of object 3/);
  all.push(made);
  ok(all.complete);
});

Deno.test("a complaint is an end, and its words are cut", () => {
  throws(
    () => answers(event(1, 0, 4, 2, 8, "nested!\0")),
    { message: "it reports error 2 of object 4: nested!" },
  );
  const long = `${"x".repeat(399)}\0`;
  throws(() => answers(event(1, 0, 4, 2, 400, long)), (error) => {
    ok(error instanceof WaylandFault && error.message.length < 250);
    return true;
  });
});

Deno.test("what is no event of an object that there is, is refused", () => {
  const wrong: Readonly<Record<string, Uint8Array>> = {
    "it sends a message of 4 bytes": Uint8Array.from([...event(2, 1).subarray(0, 6), 4, 0]),
    "it sends a message of 4100 bytes": event(2, 0, "x".repeat(4092)),
    "it sends a message of 9 bytes": event(2, 0, "x"),
    "event 2 of object 2": event(2, 2),
    "event 0 of object 0": event(0, 0),
    "event 1 of object 3": event(3, 1, 9),
    "an event of it is too short": event(2, 1),
    "an event of it is too long": event(2, 1, 5, 6),
    "a text of it has 0 bytes": event(2, 0, 1, 0, 1),
    "a text of it has 13 bytes": event(2, 0, 1, 13, "wl_seat\0", 7),
    "a text of it has 4294967295 bytes": event(2, 0, 1, 0xffffffff, "wl_seat\0", 7),
    "a text of it ends elsewhere": event(2, 0, 1, 8, "wl\0seat\0", 7),
  };
  for (const [why, bytes] of Object.entries(wrong)) {
    throws(
      () => answers(bytes),
      (error) => error instanceof WaylandFault && error.message.includes(why),
      why,
    );
  }
  throws(() => answers(event(2, 0, 1, 7, "wl_seat\0", 7)), /ends elsewhere/);
});

Deno.test("so much is read, and no more", () => {
  const all = new CompositorAnswers();
  for (let count = 0; count + seat.length <= 64 * 1024; count += seat.length) all.push(seat);
  throws(() => all.push(seat), /more than 65536 bytes/);
  // A message that never ends is none.
  const endless = event(2, 0, "x".repeat(4088)).subarray(0, 4095);
  const waiting = answers(...Array.from({ length: 10 }, (_, at) => endless.subarray(at, at + 1)));
  ok(!waiting.complete);
});

Deno.test("whatever a compositor says is an answer or a fault, and nothing else", () => {
  const random = new Random(11);
  const events = [seat, manager, removed, looked, made, forgotten];
  let [found, faults] = [0, 0];
  for (let turn = 0; turn < 20_000; turn++) {
    const stream = Uint8Array.from(
      Array.from({ length: random.below(8) }, () => [...random.of(events)]).flat(),
    );
    // A byte here and there, or an end too early, or something more.
    for (let times = random.below(4); times > 0 && stream.length > 0; times--) {
      stream[random.below(stream.length)] = random.below(256);
    }
    const cut = stream.subarray(0, random.below(4) === 0 ? random.below(stream.length) : undefined);
    const bytes = random.below(4) === 0
      ? Uint8Array.from([...cut, ...random.bytes(random.below(40))])
      : cut;
    const all = new CompositorAnswers();
    try {
      for (let at = 0; at < bytes.length;) {
        const size = 1 + random.below(40);
        all.push(bytes.subarray(at, at + size));
        at += size;
        if (all.complete && random.below(2) === 0) all.expectContext();
      }
      // Nothing is made up: what it has found was said.
      if (all.manager !== undefined) {
        ok(new TextDecoder("latin1").decode(bytes).includes(managerText.slice(0, 31)));
        found++;
      }
    } catch (error) {
      ok(error instanceof WaylandFault, String(error));
      faults++;
    }
  }
  ok(found > 500 && faults > 5_000, `${found} ${faults}`);
});
