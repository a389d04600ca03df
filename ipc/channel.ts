/**
 * A typed conversation over a socket: whole messages, the descriptors that belong to them, bounded
 * queues, and one way to end.
 *
 * @module
 */
import { isErrno } from "./errno.ts";
import { type Fd, isGone } from "./fd.ts";
import { decodePayload, encodeFrame, FrameError, FrameReader } from "./frame.ts";
import type { Strangers } from "./aside.ts";
import { poller } from "./poller.ts";
import type { Room } from "./room.ts";
import { hasUnread, maxDescriptors, receive, send, shutdown } from "./socket.ts";

/** How a channel understands what comes in. */
export interface Codec<In> {
  /** Checks a value from outside; throws on anything that is not exactly a message. */
  readonly decode: (value: unknown) => In;
  /** How many descriptors a message of this type carries. */
  readonly descriptors: (message: In) => number;
}

/** A message that came in, and its descriptors, which the receiver now owns. */
export interface Incoming<In> {
  readonly message: In;
  readonly descriptors: readonly Fd[];
}

/** Closes what came with a message that is not going to be handled. */
export function drop({ descriptors }: Incoming<unknown>): void {
  for (const fd of descriptors) fd.close();
}

/** The most bytes that wait for a peer that does not read; beyond, the peer is given up. */
const maxQueue = 4 * 1024 * 1024;

/** How many messages, or parts of one, a peer that never stops is heard before others have a turn. */
const turn = 64;

interface Outgoing {
  bytes: Uint8Array;
  descriptors: readonly Fd[];
}

/** Both directions of one connection. It owns the socket. */
export class Channel<In, Out> implements Disposable {
  readonly #socket: Fd;
  readonly #codec: Codec<In>;
  readonly #room: Room | undefined;
  readonly #strangers: Strangers | undefined;
  readonly #reader = new FrameReader();
  #received: Fd[] = [];
  #queue: Outgoing[] = [];
  #queued = 0;
  #flushing = false;
  #failure: Error | undefined;
  #deaf = false;
  #unheard = false;
  #heard = 0;
  #taken = 0;

  /**
   * @param room for messages that have come in part, are being handled, or wait to be taken
   * @param strangers sees to the descriptors that come in, where the peer may have chosen them
   */
  constructor(socket: Fd, codec: Codec<In>, room?: Room, strangers?: Strangers) {
    this.#socket = socket;
    this.#codec = codec;
    this.#room = room;
    this.#strangers = strangers;
  }

  get closed(): boolean {
    return this.#socket.closed;
  }

  /** Whether the peer has yet to read something of what was sent, or has left without doing so. */
  get unheard(): boolean {
    return this.#unheard || (!this.#socket.closed && hasUnread(this.#socket.number));
  }

  /** The socket's number, to ask the kernel about the peer. */
  get fd(): number {
    return this.#socket.number;
  }

  /** How many bytes the peer has not taken yet. */
  get backlog(): number {
    return this.#queued;
  }

  /** A message has come in part and the rest is awaited. */
  get partial(): boolean {
    return this.#reader.pending > 0;
  }

  /**
   * Sends a message, at once where there is room, else as soon as there is. The descriptors are
   * given away: they are closed here once they are sent, or the channel is.
   *
   * Sending on a closed channel does nothing: the end is for {@linkcode receive} to tell.
   *
   * @returns false when it is certain that the peer never gets it
   *
   * @throws {FrameError} when the message is too long; the channel is as it was before
   */
  send(message: Out, descriptors: readonly Fd[] = []): boolean {
    if (this.#socket.closed || this.#deaf) {
      for (const fd of descriptors) fd.close();
      return false;
    }
    let bytes: Uint8Array;
    try {
      bytes = encodeFrame(message);
    } catch (error) {
      for (const fd of descriptors) fd.close();
      throw error;
    }
    this.#queue.push({ bytes, descriptors });
    this.#queued += bytes.length;
    if (!this.#flushing) this.#flush();
    if (this.#queued > maxQueue || !this.#account()) {
      this.#fail(new FrameError(`The peer does not read: ${this.#queued} bytes wait for it`));
    }
    return !this.#socket.closed && !this.#deaf;
  }

  /** Waits until everything that was sent is taken, or the channel is closed. */
  async drain(): Promise<void> {
    while (!this.#socket.closed && this.#queue.length > 0) {
      await poller.writable(this.#socket.number);
      if (!this.#socket.closed) this.#flush();
    }
  }

  /** Writes what there is room for; true when nothing is left. */
  #flush(): boolean {
    try {
      for (;;) {
        const first = this.#queue[0];
        if (first === undefined) return true;
        const count = send(
          this.#socket.number,
          first.bytes,
          first.descriptors.map((fd) => fd.number),
        );
        if (count === undefined) break;
        for (const fd of first.descriptors) fd.close();
        this.#queued -= count;
        if (count === first.bytes.length) this.#queue.shift();
        else this.#queue[0] = { bytes: first.bytes.subarray(count), descriptors: [] };
      }
    } catch (error) {
      // A peer that has left may have said something before: that can still be received.
      if (isGone(error)) this.#discard();
      else this.#fail(error instanceof Error ? error : new Error(String(error)));
      return true;
    }
    if (!this.#flushing) {
      this.#flushing = true;
      void this.#keepFlushing();
    }
    return false;
  }

  async #keepFlushing(): Promise<void> {
    while (!this.#socket.closed) {
      await poller.writable(this.#socket.number);
      if (this.#socket.closed) break;
      const done = this.#flush();
      this.#account();
      if (done) break;
    }
    this.#flushing = false;
  }

  /**
   * The next message, or `undefined` at the end.
   *
   * @throws {FrameError} or what the codec throws, when the peer breaks the rules; the channel is
   * closed then
   */
  async receive(): Promise<Incoming<In> | undefined> {
    try {
      for (;;) {
        if (this.#failure !== undefined) throw this.#failure;
        if (this.#socket.closed) return undefined;
        if (!this.#account()) throw new FrameError("Too much is said at a time");
        if (this.#heard++ >= turn) {
          // A promise that is kept already lets nothing in but other such promises: this wait does.
          await new Promise<void>((resolve) => void poller.after(0, resolve));
          this.#heard = 0;
          continue;
        }
        const payload = this.#reader.next();
        if (payload !== undefined) return this.#open(payload);
        if (this.#received.length > 0 && this.#reader.pending === 0) {
          throw new FrameError("Descriptors came that belong to no message");
        }
        const received = receive(this.#socket.number);
        if (received === undefined) {
          await poller.readable(this.#socket.number);
          this.#heard = 0;
          continue;
        }
        const strangers = this.#strangers;
        for (const fd of received.descriptors) this.#received.push(strangers?.take(fd) ?? fd);
        if (received.surplus || this.#received.length > maxDescriptors) {
          throw new FrameError("More descriptors came than any message carries");
        }
        if (received.bytes.length === 0) {
          if (this.#reader.pending > 0) throw new FrameError("The peer left in mid-message");
          this.close();
          return undefined;
        }
        this.#reader.push(received.bytes);
      }
    } catch (error) {
      this.close();
      // So the kernel tells that something was never read. unix(7).
      if (isErrno(error, "ECONNRESET")) this.#unheard = true;
      if (isGone(error)) return undefined;
      throw error;
    }
  }

  #open(payload: Uint8Array<ArrayBuffer>): Incoming<In> {
    let value: unknown;
    try {
      value = decodePayload(payload);
    } finally {
      payload.buffer.transfer(0); // free at once
    }
    const message = this.#codec.decode(value);
    const count = this.#codec.descriptors(message);
    if (this.#received.length < count) {
      throw new FrameError(`A message came with ${this.#received.length} of ${count} descriptors`);
    }
    return { message, descriptors: this.#received.splice(0, count) };
  }

  /** Takes the room that is needed. A message's is given back when the next one is asked for. */
  #account(): boolean {
    const needed = this.#reader.capacity + this.#queued;
    if (needed <= this.#taken) this.#room?.give(this.#taken - needed);
    else if (this.#room?.take(needed - this.#taken) === false) return false;
    this.#taken = needed;
    return true;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.close();
  }

  #discard(): void {
    this.#deaf = true;
    for (const { descriptors } of this.#queue) for (const fd of descriptors) fd.close();
    this.#queue = [];
    this.#queued = 0;
  }

  /** Ends the conversation and gives back everything it holds. */
  close(): void {
    if (!this.#socket.closed) shutdown(this.#socket.number);
    this.#socket.close();
    for (const fd of this.#received) fd.close();
    this.#received = [];
    this.#reader.release();
    this.#discard();
    this.#account();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
