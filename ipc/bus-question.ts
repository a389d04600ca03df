/**
 * One question to a bus itself, and its answer: for who is on no bus, and has no use for dbus-next.
 *
 * @module
 */
import { BusConnection, within } from "./bus-connection.ts";
import { checkBody, ERROR, METHOD_CALL, METHOD_RETURN } from "./bus-message.ts";

const BUS = "org.freedesktop.DBus";
/** No answer of the bus's own is as long. */
const MAX_MESSAGE = 64 * 1024;

/** Bytes of a message, each value at its place. D-Bus Specification, Marshaling. */
class Writer {
  readonly bytes: number[] = [];

  align(boundary: number): void {
    while (this.bytes.length % boundary !== 0) this.bytes.push(0);
  }

  u32(value: number): void {
    this.align(4);
    for (let shift = 0; shift < 32; shift += 8) this.bytes.push((value >>> shift) & 0xff);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u32(bytes.length);
    this.bytes.push(...bytes, 0);
  }

  signature(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.bytes.push(bytes.length, ...bytes, 0);
  }

  /** One of the header's fields: an object path, a string or a signature. */
  field(code: number, type: "o" | "s" | "g", value: string): void {
    this.align(8);
    this.bytes.push(code);
    this.signature(type);
    if (type === "g") this.signature(value);
    else this.string(value);
  }
}

/** A call of one of the bus's own methods, with a string or without. */
function call(serial: number, member: string, argument: string | undefined): Uint8Array {
  const body = new Writer();
  if (argument !== undefined) body.string(argument);
  const fields = new Writer();
  fields.field(1, "o", "/org/freedesktop/DBus");
  fields.field(2, "s", BUS);
  fields.field(3, "s", member);
  fields.field(6, "s", BUS);
  if (argument !== undefined) fields.field(8, "g", "s");
  const head = new Writer();
  head.bytes.push(0x6c, METHOD_CALL, 0, 1);
  head.u32(body.bytes.length);
  head.u32(serial);
  head.u32(fields.bytes.length);
  // The fields begin at 16: what is aligned among them is so in the whole.
  head.bytes.push(...fields.bytes);
  head.align(8);
  return new Uint8Array([...head.bytes, ...body.bytes]);
}

/**
 * The uid that has a name on a bus; `undefined`: nobody has it.
 *
 * @throws {Error} in words, when the bus cannot be reached or does not answer
 */
export async function uidOfName(
  address: string,
  name: string,
  deadlineMs: number,
): Promise<number | undefined> {
  const bus = await BusConnection.open(address, deadlineMs);
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  void bus.closed.then((why) => reject(new Error(why)));
  void bus.read(MAX_MESSAGE, (frame) => {
    if (frame.kind !== "message" || frame.header.replySerial !== 2) return;
    const { header, bytes } = frame;
    if (header.sender !== BUS) return;
    if (header.type === ERROR) return resolve(undefined);
    if (header.type !== METHOD_RETURN || header.signature !== "u") return;
    try {
      checkBody(bytes, header, 1);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      resolve(view.getUint32(header.bodyStart, header.littleEndian));
    } catch (error) {
      reject(error);
    }
  });
  try {
    bus.send(call(1, "Hello", undefined));
    bus.send(call(2, "GetConnectionUnixUser", name));
    return await within(deadlineMs, "the bus does not answer", promise);
  } finally {
    bus.close("it was asked all there is");
  }
}
