/**
 * What the two ends of a copy say to each other, through two pipes: records, which are frames of JSON
 * as everywhere, and between them the bytes of files, which are not copied by JavaScript.
 *
 * Both ends are this program: one in the client, the other in the jail, where it is a program like
 * any other and may have been replaced by one that lies. So the reader takes nothing that is not
 * exactly a record of its kind, holds a bounded amount of memory, and a name is one name: there is no
 * path in the stream that could lead anywhere.
 *
 * ```text
 *   u32 length          little-endian, its highest bit clear: a record of so many bytes of JSON
 *   u32 length | 2^31   so many bytes of the file that is open, at the place that follows: u64
 * ```
 *
 * @module
 */
import * as v from "valibot";
import { SystemError } from "../ipc/errno.ts";
import { type Fd, setNonblocking } from "../ipc/fd.ts";
import { decodePayload, encodeFrame, FrameError } from "../ipc/frame.ts";
import { EAGAIN, EINTR, errno, F_SETPIPE_SZ, sys, syscall } from "../ipc/libc.ts";
import { Arena } from "../ipc/memory.ts";
import { bytesOf } from "../ipc/octets.ts";
import { poller } from "../ipc/poller.ts";
import { pause } from "./deadline.ts";
import { readAt, writeAt } from "./kernel.ts";

/** The longest record: a link's target has 4096 bytes at most, and JSON may write each with six. */
const maxRecord = 64 * 1024;
/** The most bytes of a file in one piece. */
const maxPiece = 512 * 1024;
/** What a pipe is made to hold: fewer turns, where the kernel allows it. */
const pipeSize = 1024 * 1024;
const bufferSize = 1024 * 1024;
const headerSize = 4;
const pieceHeaderSize = 12;
const pieceMark = 0x80000000;
/** For how long one end may go on before signals, timers and the other things have their turn. */
const turn = 30;

// --- Records ---------------------------------------------------------------------------------

const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));

/** Whether this can be the name of a file in a folder: one step, and not out of it. */
export function isEntryName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name) &&
    bytesOf(name).length <= 255;
}

const entryName = v.pipe(v.string(), v.check(isEntryName, "this is no name of a file"));
const path = v.pipe(
  v.string(),
  v.check((text) => text !== "" && !text.includes("\0") && bytesOf(text).length < 4096, "no path"),
);
/** No set-user-id, set-group-id or sticky bit can be said, let alone be carried out. */
const mode = v.pipe(count, v.maxValue(0o777));
const modified = v.tuple([
  v.pipe(v.number(), v.integer(), v.minValue(-(2 ** 40)), v.maxValue(2 ** 40)),
  v.pipe(count, v.maxValue(999_999_999)),
]);
const why = v.picklist(["socket", "device", "unfinished", "gone"]);
const words = v.pipe(v.string(), v.maxLength(8192));

function kind<const T extends string>(type: T) {
  return v.literal(type);
}

/*
 * the end that sends              the end that receives
 *   measured ────────────────────▶               (at any time before the end)
 *   entry* ──────────────────────▶               (each name that was asked for, once)
 *   end | failed ────────────────▶
 *
 *   entry:  link
 *        |  file, bytes*, close
 *        |  folder, entry*, leave
 *   and anywhere: skipped
 */
const sent = v.variant("type", [
  v.strictObject({ type: kind("folder"), name: entryName, mode, modified }),
  v.strictObject({ type: kind("leave") }),
  v.strictObject({ type: kind("file"), name: entryName, mode, modified }),
  v.strictObject({ type: kind("close"), size: count }),
  v.strictObject({ type: kind("link"), name: entryName, target: path }),
  v.strictObject({ type: kind("skipped"), path: v.pipe(v.string(), v.maxLength(32_768)), why }),
  v.strictObject({ type: kind("measured"), bytes: count }),
  v.strictObject({ type: kind("end") }),
  v.strictObject({ type: kind("failed"), message: words }),
]);
export type Sent = v.InferOutput<typeof sent>;
export type Skipped = Extract<Sent, { readonly type: "skipped" }>;

/*
 * client                         the copier in the jail
 *   send, path*, go ─────────────▶               then the copier sends
 *
 *   receive, path*, go ──────────▶               (the names that will come)
 *         ◀──────────────────────── ready | failed
 *                                                then the client sends
 *         ◀──────────────────────── arrived | failed
 */
const asked = v.variant("type", [
  v.strictObject({ type: kind("send"), version: count, measure: v.boolean() }),
  v.strictObject({ type: kind("receive"), version: count, folder: path, force: v.boolean() }),
  v.strictObject({ type: kind("path"), path }),
  v.strictObject({ type: kind("go") }),
]);
export type Asked = v.InferOutput<typeof asked>;

const answered = v.variant("type", [
  v.strictObject({ type: kind("ready") }),
  v.strictObject({ type: kind("arrived") }),
  v.strictObject({ type: kind("failed"), message: words }),
]);
export type Answered = v.InferOutput<typeof answered>;

/** What can be read from a stream. */
export const records = { sent, asked, answered } as const;

/** The bytes of a file, as far as they are there: they are gone when the next item is asked for. */
export class Piece {
  readonly offset: number;
  readonly size: number;
  readonly #address: number;

  constructor(offset: number, size: number, address: number) {
    this.offset = offset;
    this.size = size;
    this.#address = address;
  }

  writeTo(fd: Fd): void {
    writeAt(fd, this.#address, this.size, this.offset);
  }
}

// --- Reading ---------------------------------------------------------------------------------

/** Gives everything else its turn now and then: what is always ready is never waited for. */
export class Turns {
  #since = performance.now();

  async pass(): Promise<void> {
    if (performance.now() - this.#since < turn) return;
    await pause(0);
    this.#since = performance.now();
  }
}

/** The end of a stream from which it is read. The other's: whatever it says may be a lie. */
export class CopyReader {
  readonly #fd: Fd;
  readonly #arena = new Arena(bufferSize);
  readonly #turns = new Turns();
  #start = 0;
  #end = 0;
  /** What has not come yet of a piece that is under way. */
  #rest = 0;
  #offset = 0;

  constructor(fd: Fd) {
    setNonblocking(fd.number);
    syscall(sys.fcntl, fd.number, F_SETPIPE_SZ, pipeSize);
    this.#fd = fd;
  }

  get #pending(): number {
    return this.#end - this.#start;
  }

  /**
   * The next record, of one of the {@linkcode records}, or bytes of a file; `undefined` at the end of
   * the stream.
   *
   * @throws {FrameError} when it is anything else
   */
  async next<const S extends v.GenericSchema>(
    schema: S,
  ): Promise<v.InferOutput<S> | Piece | undefined> {
    await this.#turns.pass();
    if (this.#rest === 0) {
      if (!await this.#need(headerSize, true)) return undefined;
      const length = this.#arena.view.getUint32(this.#start, true);
      if (length < pieceMark) return await this.#record(length, schema);
      await this.#need(pieceHeaderSize);
      const offset = this.#arena.view.getBigUint64(this.#start + headerSize, true);
      this.#rest = length - pieceMark;
      if (
        this.#rest === 0 || this.#rest > maxPiece || offset > Number.MAX_SAFE_INTEGER - maxPiece
      ) {
        throw new FrameError("A piece of a file is refused: it is empty, too long or too far away");
      }
      this.#offset = Number(offset);
      this.#start += pieceHeaderSize;
    }
    await this.#need(1);
    const size = Math.min(this.#rest, this.#pending);
    const piece = new Piece(this.#offset, size, this.#arena.addressOf(this.#start));
    this.#start += size;
    this.#offset += size;
    this.#rest -= size;
    return piece;
  }

  async #record<const S extends v.GenericSchema>(
    length: number,
    schema: S,
  ): Promise<v.InferOutput<S>> {
    if (length === 0 || length > maxRecord) {
      throw new FrameError(`A record of ${length} bytes is refused: 1 to ${maxRecord} are allowed`);
    }
    await this.#need(headerSize + length);
    const payload = this.#arena.at(this.#start + headerSize, length);
    const parsed = v.safeParse(schema, decodePayload(payload), { abortEarly: true });
    this.#start += headerSize + length;
    if (!parsed.success) throw new FrameError(`A record is refused: ${parsed.issues[0].message}`);
    return parsed.output;
  }

  /** Waits until so many bytes are there; false at the end, where it may end. */
  async #need(size: number, mayEnd = false): Promise<boolean> {
    while (this.#pending < size) {
      if (this.#start === this.#end) this.#start = this.#end = 0;
      else if (this.#start + size > bufferSize) {
        this.#arena.bytes.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      const room = bufferSize - this.#end;
      const address = this.#arena.addressOf(this.#end);
      const count = syscall(sys.read, this.#fd.number, address, room);
      if (count > 0) {
        this.#end += count;
        continue;
      }
      const code = count < 0 ? errno() : 0;
      if (code === EAGAIN) await poller.readable(this.#fd.number);
      else if (count === 0) {
        if (mayEnd && this.#pending === 0) return false;
        throw new FrameError("The other end left in the middle");
      } else if (code !== EINTR) throw new SystemError("read", code);
    }
    return true;
  }
}

// --- Writing ---------------------------------------------------------------------------------

/** The end of a stream to which it is written. */
export class CopyWriter {
  readonly #fd: Fd;
  readonly #arena = new Arena(bufferSize);
  readonly #turns = new Turns();
  #end = 0;
  #copied = 0;

  constructor(fd: Fd) {
    setNonblocking(fd.number);
    syscall(sys.fcntl, fd.number, F_SETPIPE_SZ, pipeSize);
    this.#fd = fd;
  }

  /** How many bytes of files have been written. */
  get copied(): number {
    return this.#copied;
  }

  /** Writes a record, when the buffer is full or {@linkcode flush} is called. */
  async record(record: Sent | Asked | Answered): Promise<void> {
    const frame = encodeFrame(record);
    if (frame.length > headerSize + maxRecord) throw new FrameError("This record is too long");
    await this.#room(frame.length);
    this.#arena.bytes.set(frame, this.#end);
    this.#end += frame.length;
    await this.#turns.pass();
  }

  /** Writes what a file has from one place to another; returns where it ended. */
  async bytes(fd: Fd, from: number, to: number): Promise<number> {
    let offset = from;
    while (offset < to) {
      const wanted = Math.min(to - offset, maxPiece);
      await this.#room(pieceHeaderSize + wanted);
      const { view } = this.#arena;
      const count = readAt(
        fd,
        this.#arena.addressOf(this.#end + pieceHeaderSize),
        wanted,
        offset,
      );
      if (count === 0) break;
      view.setUint32(this.#end, count + pieceMark, true);
      view.setBigUint64(this.#end + headerSize, BigInt(offset), true);
      this.#end += pieceHeaderSize + count;
      offset += count;
      this.#copied += count;
      await this.#turns.pass();
    }
    return offset;
  }

  async #room(size: number): Promise<void> {
    if (this.#end + size > bufferSize) await this.flush();
  }

  /** Writes all that waits. */
  async flush(): Promise<void> {
    for (let start = 0; start < this.#end;) {
      const address = this.#arena.addressOf(start);
      const count = syscall(sys.write, this.#fd.number, address, this.#end - start);
      if (count >= 0) {
        start += count;
        continue;
      }
      const code = errno();
      if (code === EAGAIN) await poller.writable(this.#fd.number);
      else if (code !== EINTR) throw new SystemError("write", code, "the other end");
    }
    this.#end = 0;
  }
}
