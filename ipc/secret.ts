/**
 * Bytes that nobody else is to see: they lie in one place, and are overwritten when they have served.
 *
 * What is read goes there straight from the kernel, is never a string and never moves: V8 keeps the
 * memory of an `ArrayBuffer` outside of its heap, but that of a small `new Uint8Array(n)` within,
 * where collecting garbage copies it and leaves the old copy behind.
 *
 * @module
 */
import { SystemError } from "./errno.ts";
import { EAGAIN, EINTR, errno, numberOf, sys, syscall } from "./libc.ts";
import { Arena } from "./memory.ts";

const mlock = numberOf(149, 228);

/** Room for secret bytes. Whoever holds it disposes of it, and with it of all that was in it. */
export class Secret implements Disposable {
  readonly #arena: Arena;
  #size = 0;

  constructor(room = 4096) {
    this.#arena = new Arena(room);
    // So that it is never written to swap. Where a process may not lock so little, it goes without.
    syscall(mlock, this.#arena.addressOf(0), room);
  }

  /** The bytes themselves, no copy of them. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#arena.at(0, this.#size);
  }

  get size(): number {
    return this.#size;
  }

  /** How much there is still room for. */
  get left(): number {
    return this.#arena.bytes.length - this.#size;
  }

  /**
   * One read(2), behind what is there already, of as many bytes as there is room for.
   *
   * @returns how many, 0 at the end, `undefined` when nothing is there yet
   */
  read(fd: number, most = this.left): number | undefined {
    const size = Math.min(most, this.left);
    for (;;) {
      const count = syscall(sys.read, fd, this.#arena.addressOf(this.#size), size);
      if (count >= 0) {
        this.#size += count;
        return count;
      }
      const code = errno();
      if (code === EAGAIN) return undefined;
      if (code !== EINTR) throw new SystemError("read", code);
    }
  }

  /** Writes all of it to a blocking descriptor. */
  write(fd: number): void {
    for (let done = 0; done < this.#size;) {
      const count = syscall(sys.write, fd, this.#arena.addressOf(done), this.#size - done);
      if (count >= 0) {
        done += count;
        continue;
      }
      const code = errno();
      if (code !== EINTR) throw new SystemError("write", code);
    }
  }

  /** One byte more. */
  push(byte: number): void {
    if (this.left === 0) throw new SystemError("append", 90);
    this.#arena.bytes[this.#size++] = byte;
  }

  append(bytes: Uint8Array): void {
    if (bytes.length > this.left) throw new SystemError("append", 90);
    this.#arena.bytes.set(bytes, this.#size);
    this.#size += bytes.length;
  }

  /** Forgets what lies from an offset on. */
  cut(from = 0): void {
    this.#arena.bytes.fill(0, from);
    this.#size = Math.min(this.#size, from);
  }

  /** Forgets what lies before an offset. */
  shift(until: number): void {
    const rest = this.#size - until;
    this.#arena.bytes.copyWithin(0, until, this.#size);
    this.cut(rest);
  }

  [Symbol.dispose](): void {
    this.cut();
  }
}
