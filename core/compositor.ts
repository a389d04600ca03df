/**
 * The conversation with a compositor about security contexts, over a socket that is connected to it.
 *
 * Run by the helper, and by `appjail plan`, which only looks. A compositor may be slow, dead or
 * hostile: all of it together has one deadline, nothing but that conversation waits for it, and what
 * is read of it is bounded in core/wayland.ts.
 *
 * @module
 */
import { type Fd, isGone, readSome } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { send } from "../ipc/socket.ts";
import { within } from "./deadline.ts";
import {
  CompositorAnswers,
  type ContextName,
  contextRequests,
  lookRequests,
  WaylandFault,
} from "./wayland.ts";

/** One that answers does so in a millisecond; one that does not can show no window either. */
export const compositorPatience = 2_000;

/** A compositor, as somebody to ask. The socket is its caller's, who closes it. */
export class Compositor {
  readonly #socket: Fd;
  readonly #limit: number;
  readonly #answers = new CompositorAnswers();

  /** @param patience how long all of it may take, in milliseconds */
  constructor(socket: Fd, patience: number) {
    this.#socket = socket;
    this.#limit = performance.now() + patience;
  }

  /** Whether it makes security contexts. @throws {WaylandFault} when it does not say */
  async makesContexts(): Promise<boolean> {
    await this.#ask(lookRequests());
    return this.#answers.manager !== undefined;
  }

  /**
   * Has one made, by a compositor that makes them: it then accepts at `listening`, whoever has asked
   * for that, until the other ends of `until` are closed.
   *
   * @throws {WaylandFault} when it does not say that it has done so
   */
  async makeContext(name: ContextName, listening: Fd, until: Fd): Promise<void> {
    const { manager } = this.#answers;
    if (manager === undefined) throw new WaylandFault("it makes no security contexts");
    this.#answers.expectContext();
    await this.#ask(contextRequests(manager, name), [listening.number, until.number]);
  }

  async #ask(requests: Uint8Array, descriptors: readonly number[] = []): Promise<void> {
    try {
      // It has room for a few hundred bytes, or has stopped to read.
      if (send(this.#socket.number, requests, descriptors) !== requests.length) {
        throw new WaylandFault("it takes no requests");
      }
      const rest = Math.max(0, this.#limit - performance.now());
      await within(this.#listen(), rest, () => new WaylandFault("it does not answer"));
    } catch (error) {
      throw isGone(error) ? new WaylandFault("it has hung up") : error;
    }
  }

  async #listen(): Promise<void> {
    const buffer = new Uint8Array(16 * 1024);
    while (!this.#answers.complete) {
      await poller.readable(this.#socket.number);
      // By read(2), which lets go of any descriptor that comes along.
      const count = readSome(this.#socket.number, buffer);
      if (count === 0) throw new WaylandFault("it has hung up");
      if (count !== undefined) this.#answers.push(buffer.subarray(0, count));
    }
  }
}
