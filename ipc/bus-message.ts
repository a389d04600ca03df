/**
 * D-Bus messages as bytes: cutting a stream into messages, and proving that a message is well
 * formed.
 *
 * Run by the dispatcher, in front of dbus-next. It trusts nothing: not the peer that wrote a
 * message, nor that the bus checked it (dbus-daemon does, other buses may not). dbus-next's own
 * parser believes every length it reads: `a()` never ends, a huge array eats the memory, `h`
 * without a descriptor throws out of a stream's event. So it is shown only messages that have
 * passed here. It produces no values: decoding stays dbus-next's.
 *
 * Rules are those of the D-Bus specification 0.43, "Type System" and "Message Protocol".
 */

export const METHOD_CALL = 1;
export const METHOD_RETURN = 2;
export const ERROR = 3;
export const SIGNAL = 4;

/** Header flag: the caller does not want an answer, so none may be sent. */
export const NO_REPLY_EXPECTED = 1;

/** The fixed part of a header, up to and with the length of the header fields. */
const PROLOGUE = 16;
/**
 * Names are at most 255 bytes, but object paths have no bound in the specification: here they have.
 */
const MAX_FIELDS = 16 * 1024;
/**
 * "The maximum length of a message […] is 2^27": above it, the stream is out of step and cannot be
 * trusted.
 */
const MAX_LEGAL_MESSAGE = 2 ** 27;
const MAX_NESTING = 64;

/** The message breaks the specification, or a limit of ours. The text is for the sender. */
export class MessageFault extends Error {
  override readonly name = "MessageFault";
}

export interface Header {
  readonly type: number;
  readonly flags: number;
  readonly serial: number;
  readonly path: string | undefined;
  readonly interface: string | undefined;
  readonly member: string | undefined;
  readonly errorName: string | undefined;
  readonly replySerial: number | undefined;
  readonly destination: string | undefined;
  readonly sender: string | undefined;
  readonly signature: string;
  readonly fds: number;
  /** Where the body begins: always a multiple of 8, so that alignment counts from either start. */
  readonly bodyStart: number;
  readonly littleEndian: boolean;
}

/** One complete D-Bus type: its code, and for a container what it holds. */
export interface Type {
  readonly code: string;
  readonly of: readonly Type[];
}

const BASIC = "ybnqiuxtdsogh";
const ALIGNMENT: Readonly<Record<string, number>> = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2, b: 4, i: 4, u: 4, h: 4, s: 4, o: 4, a: 4 },
  ...{ x: 8, t: 8, d: 8, "(": 8, "{": 8 },
};

const ELEMENT = /^[A-Za-z_][A-Za-z0-9_]*$/;
const PATH = /^\/(?:[A-Za-z0-9_]+(?:\/[A-Za-z0-9_]+)*)?$/;
const INTERFACE = /^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+$/;
const UNIQUE_NAME = /^:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+$/;
const WELL_KNOWN_NAME = /^[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)+$/;

export function isObjectPath(text: string): boolean {
  return PATH.test(text);
}

/** Also the grammar of error names. */
export function isInterfaceName(text: string): boolean {
  return text.length <= 255 && INTERFACE.test(text);
}

export function isMemberName(text: string): boolean {
  return text.length <= 255 && ELEMENT.test(text);
}

export function isUniqueName(text: string): boolean {
  return text.length <= 255 && UNIQUE_NAME.test(text);
}

export function isWellKnownName(text: string): boolean {
  return text.length <= 255 && WELL_KNOWN_NAME.test(text);
}

/** Splits a signature into its complete types, or throws a {@linkcode MessageFault}. */
export function parseSignature(signature: string): readonly Type[] {
  const fault = (why: string) => new MessageFault(`Bad signature "${signature}": ${why}`);
  if (signature.length > 255) throw new MessageFault("Bad signature: longer than 255");
  let at = 0;

  function one(arrays: number, structs: number): Type {
    const code = signature[at++];
    if (code === undefined) throw fault("it ends too early");
    if (code === "v" || BASIC.includes(code)) return { code, of: [] };
    if (code === "a") {
      if (arrays === 32) throw fault("arrays nest too deep");
      if (signature[at] !== "{") return { code, of: [one(arrays + 1, structs)] };
      at++;
      const of = list("}", arrays + 1, structs + 1);
      const [key] = of;
      if (of.length !== 2 || key === undefined || !BASIC.includes(key.code)) {
        throw fault("a dictionary entry is a basic key and one value");
      }
      return { code, of: [{ code: "{", of }] };
    }
    if (code === "(") {
      const of = list(")", arrays, structs + 1);
      // An array of empty structures would have elements without a size.
      if (of.length === 0) throw fault("a structure is empty");
      return { code, of };
    }
    throw fault(`"${code}" is no type`);
  }

  function list(end: string, arrays: number, structs: number): Type[] {
    if (structs > 32) throw fault("structures nest too deep");
    const types: Type[] = [];
    while (signature[at] !== end) types.push(one(arrays, structs));
    at++;
    return types;
  }

  const types: Type[] = [];
  while (at < signature.length) types.push(one(0, 0));
  return types;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads from bytes that lie; every read is checked against the end before it is made. */
class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #littleEndian: boolean;
  readonly end: number;
  at: number;

  constructor(bytes: Uint8Array, littleEndian: boolean, at: number, end: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#littleEndian = littleEndian;
    this.at = at;
    this.end = end;
  }

  get littleEndian(): boolean {
    return this.#littleEndian;
  }

  skip(count: number): void {
    if (count > this.end - this.at) throw new MessageFault("A value runs past the end");
    this.at += count;
  }

  align(boundary: number): void {
    const from = this.at;
    this.skip((boundary - from % boundary) % boundary);
    for (let at = from; at < this.at; at++) {
      if (this.#bytes[at] !== 0) throw new MessageFault("Padding is not zero");
    }
  }

  byte(): number {
    this.skip(1);
    return this.#view.getUint8(this.at - 1);
  }

  u32(): number {
    this.align(4);
    this.skip(4);
    return this.#view.getUint32(this.at - 4, this.#littleEndian);
  }

  #text(length: number): string {
    const start = this.at;
    this.skip(length);
    if (this.byte() !== 0) throw new MessageFault("A string does not end with NUL");
    try {
      const text = utf8.decode(this.#bytes.subarray(start, start + length));
      if (text.includes("\0")) throw new MessageFault("A string contains NUL");
      return text;
    } catch (error) {
      throw error instanceof MessageFault ? error : new MessageFault("A string is not UTF-8");
    }
  }

  string(): string {
    return this.#text(this.u32());
  }

  signature(): string {
    return this.#text(this.byte());
  }
}

/** Walks one value of a type and checks all of it; `count` is called once for each value. */
function walk(cursor: Cursor, type: Type, depth: number, count: () => void): string | undefined {
  if (depth > MAX_NESTING) throw new MessageFault("Values nest too deep");
  count();
  switch (type.code) {
    case "y":
      cursor.skip(1);
      return undefined;
    case "b":
      if (cursor.u32() > 1) throw new MessageFault("A boolean is neither 0 nor 1");
      return undefined;
    case "n":
    case "q":
      cursor.align(2);
      cursor.skip(2);
      return undefined;
    case "i":
    case "u":
      cursor.u32();
      return undefined;
    case "x":
    case "t":
      // dbus-next 0.10.2 swaps the halves of a big-endian 64-bit number: better refused than
      // misread.
      if (!cursor.littleEndian) {
        throw new MessageFault("64-bit numbers are accepted in little-endian messages only");
      }
      cursor.align(8);
      cursor.skip(8);
      return undefined;
    case "d":
      cursor.align(8);
      cursor.skip(8);
      return undefined;
    case "h":
      throw new MessageFault("File descriptors are not accepted");
    case "s":
      return cursor.string();
    case "o": {
      const path = cursor.string();
      if (!isObjectPath(path)) throw new MessageFault("An object path is malformed");
      return path;
    }
    case "g": {
      const signature = cursor.signature();
      parseSignature(signature);
      return signature;
    }
    case "v": {
      const [inner, ...more] = parseSignature(cursor.signature());
      if (inner === undefined || more.length > 0) {
        throw new MessageFault("A variant does not hold exactly one value");
      }
      walk(cursor, inner, depth + 1, count);
      return undefined;
    }
    case "(":
      cursor.align(8);
      for (const member of type.of) walk(cursor, member, depth + 1, count);
      return undefined;
    case "{": {
      cursor.align(8);
      const [key, value] = type.of;
      if (key === undefined || value === undefined) throw new MessageFault("Bad dictionary");
      // dbus-next fills a plain object by assignment, where this key would set the prototype
      // instead.
      if (walk(cursor, key, depth + 1, count) === "__proto__") {
        throw new MessageFault('The dictionary key "__proto__" is not accepted');
      }
      walk(cursor, value, depth + 1, count);
      return undefined;
    }
    case "a": {
      const length = cursor.u32();
      const [element] = type.of;
      if (element === undefined) throw new MessageFault("Bad array");
      cursor.align(ALIGNMENT[element.code] ?? 8);
      if (length > cursor.end - cursor.at) throw new MessageFault("An array runs past the end");
      const end = cursor.at + length;
      if (element.code === "y") {
        cursor.at = end;
        return undefined;
      }
      while (cursor.at < end) walk(cursor, element, depth + 1, count);
      if (cursor.at !== end) throw new MessageFault("An array does not end with its last element");
      return undefined;
    }
    default:
      throw new MessageFault(`"${type.code}" is no type`);
  }
}

/** The length of the header of the message that begins so, up to its body. */
function headLength(bytes: Uint8Array): { readonly head: number; readonly body: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const littleEndian = view.getUint8(0) === 0x6c;
  if (!littleEndian && view.getUint8(0) !== 0x42) throw new MessageFault("Not a D-Bus message");
  if (view.getUint8(3) !== 1) throw new MessageFault("Not protocol version 1");
  const body = view.getUint32(4, littleEndian);
  const fields = view.getUint32(12, littleEndian);
  const head = PROLOGUE + Math.ceil(fields / 8) * 8;
  if (head + body > MAX_LEGAL_MESSAGE) throw new MessageFault("Longer than any message may be");
  return { head, body };
}

/** Which field codes there are, and the type that each must have. */
const FIELDS = ["", "o", "s", "s", "s", "u", "s", "s", "g", "u"];

/** Reads a header from bytes that hold at least all of it. */
export function parseHeader(bytes: Uint8Array): Header {
  const { head, body } = headLength(bytes);
  const littleEndian = bytes[0] === 0x6c;
  const start = new Cursor(bytes, littleEndian, 8, PROLOGUE);
  const serial = start.u32();
  const end = PROLOGUE + start.u32();
  const cursor = new Cursor(bytes, littleEndian, PROLOGUE, end);
  const found: (string | number | undefined)[] = [];

  while (cursor.at < end) {
    cursor.align(8);
    const code = cursor.byte();
    const signature = cursor.signature();
    const expected = FIELDS[code];
    if (code === 0) throw new MessageFault("Header field 0 is invalid");
    if (expected === undefined) {
      // A field of a later specification: "must be ignored", but it has to be well formed to be
      // passed over.
      const [type, ...more] = parseSignature(signature);
      if (type === undefined || more.length > 0) throw new MessageFault("Bad header field");
      walk(cursor, type, 0, () => {});
      continue;
    }
    if (signature !== expected) throw new MessageFault(`Header field ${code} has a wrong type`);
    if (found[code] !== undefined) throw new MessageFault(`Header field ${code} is given twice`);
    found[code] = expected === "u"
      ? cursor.u32()
      : expected === "g"
      ? cursor.signature()
      : cursor.string();
  }
  new Cursor(bytes, littleEndian, end, head).align(8);

  const text = (code: number, valid: (text: string) => boolean): string | undefined => {
    const value = found[code];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || !valid(value)) {
      throw new MessageFault(`Header field ${code} is malformed`);
    }
    return value;
  };
  const number = (code: number): number | undefined => {
    const value = found[code];
    return typeof value === "number" ? value : undefined;
  };
  const isBusName = (name: string) => isUniqueName(name) || isWellKnownName(name);
  const header: Header = {
    type: bytes[1] ?? 0,
    flags: bytes[2] ?? 0,
    serial,
    path: text(1, isObjectPath),
    interface: text(2, isInterfaceName),
    member: text(3, isMemberName),
    errorName: text(4, isInterfaceName),
    replySerial: number(5),
    destination: text(6, isBusName),
    sender: text(7, isBusName),
    signature: text(8, () => true) ?? "",
    fds: number(9) ?? 0,
    bodyStart: head,
    littleEndian,
  };
  if (header.serial === 0) throw new MessageFault("The serial is 0");
  if ((header.signature === "") !== (body === 0)) {
    throw new MessageFault("Body and signature do not agree");
  }
  const required: Readonly<Record<number, readonly unknown[]>> = {
    [METHOD_CALL]: [header.path, header.member],
    [METHOD_RETURN]: [header.replySerial],
    [ERROR]: [header.replySerial, header.errorName],
    [SIGNAL]: [header.path, header.interface, header.member],
  };
  if (required[header.type]?.includes(undefined) ?? true) {
    throw new MessageFault("A required header field is missing, or the type is unknown");
  }
  return header;
}

/**
 * Checks that the body is exactly what the signature says, and holds no more than `maxValues`
 * values.
 */
export function checkBody(bytes: Uint8Array, header: Header, maxValues: number): void {
  const cursor = new Cursor(bytes, header.littleEndian, header.bodyStart, bytes.length);
  let values = 0;
  const count = () => {
    if (++values > maxValues) throw new MessageFault(`More than ${maxValues} values`);
  };
  for (const type of parseSignature(header.signature)) walk(cursor, type, 0, count);
  if (cursor.at !== cursor.end) throw new MessageFault("Something follows the last argument");
}

/**
 * What came: a whole message (its body not yet checked), or one that was passed over. `header` is
 * there when it could be read, so that the caller can be told.
 */
export type Frame =
  | { readonly kind: "message"; readonly header: Header; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "oversized"; readonly header: Header; readonly size: number }
  | { readonly kind: "malformed"; readonly why: string };

/**
 * Cuts a stream of bytes into messages. It holds at most one message of the permitted size; the
 * body of a larger one is counted and thrown away as it comes. It throws only when the stream
 * itself is out of step.
 */
export class Framer {
  readonly #maxMessage: number;
  #bytes = new Uint8Array(PROLOGUE);
  #filled = 0;
  #skip = 0;
  #head: Header | undefined;

  constructor(maxMessage: number) {
    this.#maxMessage = maxMessage;
  }

  *push(chunk: Uint8Array): Generator<Frame> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#skip > 0) {
        const passed = Math.min(this.#skip, rest.length);
        this.#skip -= passed;
        rest = rest.subarray(passed);
        continue;
      }
      const taken = rest.subarray(0, this.#bytes.length - this.#filled);
      this.#bytes.set(taken, this.#filled);
      this.#filled += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#filled < this.#bytes.length) return;
      const frame = this.#advance();
      if (frame !== undefined) yield frame;
    }
  }

  /** What was waited for is there: wait for more, or yield. */
  #advance(): Frame | undefined {
    const { head, body } = headLength(this.#bytes);
    if (this.#filled === PROLOGUE && head > PROLOGUE) {
      if (head <= MAX_FIELDS) return this.#grow(head);
      this.#reset(head - PROLOGUE + body);
      return { kind: "malformed", why: `its header fields take ${head - PROLOGUE} bytes` };
    }
    if (this.#head === undefined) {
      try {
        this.#head = parseHeader(this.#bytes);
      } catch (error) {
        this.#reset(body);
        return { kind: "malformed", why: error instanceof Error ? error.message : String(error) };
      }
      if (head + body > this.#maxMessage) {
        const header = this.#head;
        this.#reset(body);
        return { kind: "oversized", header, size: head + body };
      }
      if (body > 0) return this.#grow(head + body);
    }
    const frame: Frame = { kind: "message", header: this.#head, bytes: this.#bytes };
    this.#reset(0);
    return frame;
  }

  #grow(size: number): undefined {
    const bytes = new Uint8Array(size);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
  }

  #reset(skip: number): void {
    this.#bytes = new Uint8Array(PROLOGUE);
    this.#filled = 0;
    this.#head = undefined;
    this.#skip = skip;
  }
}
