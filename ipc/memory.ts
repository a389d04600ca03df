/**
 * Memory whose address is known, for the structures that C calls take by pointer.
 *
 * Run by every role. `Deno.UnsafePointer.of` asks for the FFI permission on each call, so an arena
 * takes its one address when the module is loaded; afterwards a role can give the permission up and
 * still make every call. An `ArrayBuffer` is never moved, so the address stays right for as long as
 * the arena is referenced.
 *
 * @module
 */

import { bytesOf } from "./octets.ts";

/** A bump allocator over one buffer. `reset` before each call; nothing survives it. */
export class Arena {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly #base: number;
  #top = 0;

  /** @param size in bytes. Needs the FFI permission, this once. */
  constructor(size: number) {
    const buffer = new ArrayBuffer(size);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    // An address of user space has 47 bits (48 on arm64): a number holds it exactly.
    this.#base = Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.bytes)));
  }

  reset(): void {
    this.#top = 0;
  }

  /** Takes `size` zeroed bytes, eight-byte aligned, and returns their offset. */
  take(size: number): number {
    const offset = (this.#top + 7) & ~7;
    const end = offset + size;
    if (end > this.bytes.length) {
      throw new RangeError(
        `Cannot place ${size} more bytes for a system call: only ${this.bytes.length} are set aside`,
      );
    }
    this.bytes.fill(0, offset, end);
    this.#top = end;
    return offset;
  }

  /** Places a NUL-terminated string and returns its offset. Fails on NUL, which would cut it. */
  text(value: string): number {
    if (value.includes("\0")) {
      throw new TypeError("A NUL byte cannot be part of a path or argument");
    }
    const bytes = bytesOf(value);
    const offset = this.take(bytes.length + 1);
    this.bytes.set(bytes, offset);
    return offset;
  }

  /** Places a NULL-terminated `char *[]` and returns its offset. */
  texts(values: readonly string[]): number {
    const offsets = values.map((value) => this.text(value));
    const array = this.take((offsets.length + 1) * 8);
    offsets.forEach((offset, index) => this.pointer(array + index * 8, offset));
    return array;
  }

  /** Writes at `offset` a pointer to what lies at `target`. */
  pointer(offset: number, target: number): void {
    this.view.setBigUint64(offset, BigInt(this.#base + target), true);
  }

  /** The address of what lies at `offset`. */
  addressOf(offset: number): number {
    return this.#base + offset;
  }

  /** The bytes from `offset` on, to be given to a call as its buffer. */
  at(offset: number, size?: number): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(offset, size === undefined ? undefined : offset + size);
  }
}
