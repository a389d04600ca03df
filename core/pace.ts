/**
 * Long work that others' turns come in between of, and that can be told to stop.
 *
 * System calls here are synchronous: without a break, a process that walks through a large tree would
 * neither say how far it is nor hear that nobody waits for it any more.
 *
 * @module
 */
import { pause } from "./deadline.ts";

/** How long it may take until others have a turn, in milliseconds. */
const turn = 20;

/** The breaks of one piece of work. */
export class Pace {
  readonly #signal: AbortSignal;
  #last = performance.now();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** To be awaited after each small step. Throws once the work is to stop. */
  async step(): Promise<void> {
    if (performance.now() - this.#last < turn) return;
    // A promise that is kept already lets nothing in but other such promises: this wait does.
    await pause(0);
    this.#signal.throwIfAborted();
    this.#last = performance.now();
  }
}
