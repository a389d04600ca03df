/**
 * Bytes from one descriptor to another, without a copy in between that JavaScript could see: what is
 * read into the buffer is written from there.
 *
 * @module
 */
import { isErrno, SystemError } from "./errno.ts";
import { EAGAIN, EINTR, errno, sys, syscall } from "./libc.ts";
import { Arena } from "./memory.ts";

/** As much as a pseudo-terminal or a pipe holds. */
const bufferSize = 64 * 1024;

/** What one read brought. */
export type Filled = "some" | "none yet" | "end";

/** A buffer between two descriptors. It needs the FFI permission once, to be made. */
export class Pump {
  readonly #arena = new Arena(bufferSize);
  #start = 0;
  #end = 0;

  /** How many bytes wait to be written. */
  get pending(): number {
    return this.#end - this.#start;
  }

  /** The last byte that came; `undefined` before the first. */
  get last(): number | undefined {
    return this.#end === 0 ? undefined : this.#arena.bytes[this.#end - 1];
  }

  /**
   * Reads as much as is there and fits, once the buffer is empty. The end of a terminal whose other
   * end is closed (EIO, pty(7)) is an end like any other.
   *
   * @param blocks the descriptor may block: it has to be readable, and is read once
   */
  fill(fd: number, blocks = false): Filled {
    if (this.pending > 0) return "some";
    this.#start = this.#end = 0;
    while (this.#end < bufferSize) {
      const room = bufferSize - this.#end;
      const count = syscall(sys.read, fd, this.#arena.addressOf(this.#end), room);
      if (count > 0) {
        this.#end += count;
        if (blocks) return "some";
        continue;
      }
      const code = count < 0 ? errno() : 0;
      if (code === EINTR) continue;
      if (this.#end > 0) return "some";
      if (count === 0) return "end";
      if (code === EAGAIN) return "none yet";
      const error = new SystemError("read", code);
      if (isErrno(error, "EIO")) return "end";
      throw error;
    }
    return "some";
  }

  /**
   * Writes what waits; true when all of it is written, false when there is no room for more.
   *
   * @param most bytes in one go: what a pipe surely has room for once it is writable (PIPE_BUF), lest
   * a descriptor that blocks does
   */
  flush(fd: number, most = bufferSize): boolean {
    while (this.pending > 0) {
      const size = Math.min(this.pending, most);
      const count = syscall(sys.write, fd, this.#arena.addressOf(this.#start), size);
      if (count >= 0) {
        this.#start += count;
        if (most < bufferSize && this.pending > 0) return false;
        continue;
      }
      const code = errno();
      if (code === EINTR) continue;
      if (code === EAGAIN) return false;
      throw new SystemError("write", code);
    }
    return true;
  }
}
