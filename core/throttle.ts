/**
 * A bound on how often something is told: a flood of it says no more than its beginning and a number.
 *
 * @module
 */

/** How many keys are remembered. */
const keysMost = 1024;

interface Window {
  begun: number;
  passed: number;
  held: number;
}

/** Lets so many of each key pass in so many milliseconds, and counts the rest. */
export class Throttle<Key> {
  readonly #most: number;
  readonly #milliseconds: number;
  readonly #now: () => number;
  readonly #windows = new Map<Key, Window>();

  constructor(most: number, milliseconds: number, now: () => number = () => performance.now()) {
    this.#most = most;
    this.#milliseconds = milliseconds;
    this.#now = now;
  }

  /** @returns how many were held back before this one; undefined: this one is held back, too */
  admit(key: Key): number | undefined {
    const now = this.#now();
    let window = this.#windows.get(key);
    if (window === undefined || now - window.begun > this.#milliseconds) {
      // The newest stands last, and the first is the one to go.
      this.#windows.delete(key);
      window = { begun: now, passed: 0, held: window?.held ?? 0 };
      this.#windows.set(key, window);
      for (const oldest of this.#windows.keys()) {
        if (this.#windows.size <= keysMost) break;
        this.#windows.delete(oldest);
      }
    }
    if (window.passed >= this.#most) {
      window.held++;
      return undefined;
    }
    window.passed++;
    const { held } = window;
    window.held = 0;
    return held;
  }
}
