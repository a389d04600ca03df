/**
 * How much memory somebody may make us keep, over all of their connections.
 *
 * @module
 */

/** So many bytes, which are taken and given back. */
export class Room {
  #left: number;

  constructor(size: number) {
    this.#left = size;
  }

  /** Takes `bytes` of it, or nothing and false when there are not so many left. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#left += bytes;
  }
}
