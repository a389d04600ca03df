/**
 * Frames: a u32 length, little-endian, then that many bytes of UTF-8 JSON.
 *
 * The reader keeps what it has been given and yields a frame only when the whole of it has come.
 * A length is judged when its four bytes are there, before anything is set aside for it, and memory
 * grows with the bytes that have really come, not with the length that was promised.
 *
 * @module
 */

/** The longest payload, in bytes. */
export const maxFrame: number = 1024 * 1024;

/** How deep JSON may be nested, and how many objects and arrays may be in it. */
const maxDepth = 16;
const maxNodes = 64 * 1024;

const smallest = 4 * 1024;

/** What a peer sent is not a frame. The connection cannot be used any further. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** Cuts a stream into frames. */
export class FrameReader {
  #buffer = new Uint8Array(smallest);
  #start = 0;
  #end = 0;

  /** How many bytes wait that are not yet a whole frame. */
  get pending(): number {
    return this.#end - this.#start;
  }

  /** How many bytes of memory it holds. */
  get capacity(): number {
    return this.#buffer.length;
  }

  /** Takes more of the stream; the bytes are copied. Call {@linkcode next} until it has no more. */
  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
      const needed = this.#end + bytes.length;
      if (needed > this.#buffer.length) {
        this.#resize(Math.max(needed, Math.min(2 * needed, maxFrame + 4)));
      }
    }
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /**
   * The payload of the next whole frame, or `undefined` when more has to come.
   *
   * @throws {FrameError} on a length of 0 or above {@linkcode maxFrame}
   */
  next(): Uint8Array<ArrayBuffer> | undefined {
    if (this.pending < 4) return undefined;
    const length = new DataView(this.#buffer.buffer).getUint32(this.#start, true);
    if (length === 0 || length > maxFrame) {
      throw new FrameError(`A frame of ${length} bytes is refused: 1 to ${maxFrame} are allowed`);
    }
    if (this.pending < 4 + length) return undefined;
    const payload = this.#buffer.slice(this.#start + 4, this.#start + 4 + length);
    this.#start += 4 + length;
    if (this.#start === this.#end) {
      this.#start = this.#end = 0;
      if (this.#buffer.length > 16 * smallest) this.#resize(smallest);
    }
    return payload;
  }

  /** Gives its memory back. It is of no use afterwards. */
  release(): void {
    this.#start = this.#end = 0;
    this.#resize(0);
  }

  /** What is given up is free at once: strangers would fill it faster than garbage is collected. */
  #resize(capacity: number): void {
    this.#buffer = new Uint8Array(this.#buffer.buffer.transfer(capacity));
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * A value as a frame.
 *
 * @throws {FrameError} when its JSON is longer than {@linkcode maxFrame}
 */
export function encodeFrame(value: unknown): Uint8Array<ArrayBuffer> {
  const payload = encoder.encode(JSON.stringify(value));
  if (payload.length > maxFrame) {
    throw new FrameError(`A message of ${payload.length} bytes is too long: ${maxFrame} at most`);
  }
  const frame = new Uint8Array(4 + payload.length);
  new DataView(frame.buffer).setUint32(0, payload.length, true);
  frame.set(payload, 4);
  return frame;
}

/**
 * A payload as a value that nobody has checked yet.
 *
 * @throws {FrameError} when it is not UTF-8 or not JSON, or no message could be so intricate
 */
export function decodePayload(payload: Uint8Array): unknown {
  if (isIntricate(payload)) {
    throw new FrameError("A frame is refused: its JSON is nested too deep, or has too many parts");
  }
  try {
    return JSON.parse(decoder.decode(payload));
  } catch {
    throw new FrameError("A frame is refused: it does not hold JSON in UTF-8");
  }
}

/**
 * Whether JSON would become a heap of objects many times its own size. Told from the bytes, before
 * there is any object.
 */
function isIntricate(json: Uint8Array): boolean {
  let [depth, nodes, quoted] = [0, 0, false];
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (quoted) {
      if (byte === 0x5c) at++; // backslash
      else if (byte === 0x22) quoted = false;
      continue;
    }
    switch (byte) {
      case 0x22: // "
        quoted = true;
        break;
      case 0x5b: // [
      case 0x7b: // {
        if (++depth > maxDepth || ++nodes > maxNodes) return true;
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
    }
  }
  return false;
}
