/**
 * Random things that can be had again: the same seed gives the same ones.
 *
 * @module
 */

/** Numbers by mulberry32, of Tommy Ettinger: small, quick, and good enough for tests. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to `limit` - 1; 0 when the limit is 0. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 2 ** 32 * limit);
  }

  of<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("nothing to choose from");
    return value;
  }

  bytes(size: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(size).map(() => this.below(256));
  }

  /** Up to `most` characters, some of which nobody expects. */
  text(
    most: number,
    alphabet: string = `az09 -_./\\"'$\n\t\0\x1b\x7f\x9bäß€漢😀\u0301\u202e`,
  ): string {
    const characters = [...alphabet];
    return Array.from({ length: this.below(most + 1) }, () => this.of(characters)).join("");
  }

  /** A small value that JSON can say. */
  json(depth = 2): unknown {
    switch (this.below(depth > 0 ? 7 : 5)) {
      case 0:
        return null;
      case 1:
        return this.below(2) === 0;
      case 2:
        return this.below(2 ** 32) - 2 ** 31;
      case 3:
      case 4:
        return this.text(12);
      case 5:
        return Array.from({ length: this.below(4) }, () => this.json(depth - 1));
      default:
        return Object.fromEntries(
          Array.from({ length: this.below(4) }, () => [this.text(6), this.json(depth - 1)]),
        );
    }
  }
}
