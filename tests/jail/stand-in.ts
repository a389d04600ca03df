/**
 * Takes the dispatcher's place, as somebody does who has found a hole in it: the test gets the very
 * socket that the helper listens to, and the dispatcher's own process is no more.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Channel } from "../../ipc/channel.ts";
import { Fd, writeAll } from "../../ipc/fd.ts";
import { numberOf, syscall } from "../../ipc/libc.ts";
import { connect, send } from "../../ipc/socket.ts";
import { within } from "../../core/deadline.ts";
import {
  type DispatcherToClient,
  fromHelper,
  type HelperToDispatcher,
  protocolVersion,
  toClient,
} from "../../core/protocol.ts";
import { clientHello } from "./peer.ts";
import type { World } from "./world.ts";

const pidfd_open = 434;
const pidfd_getfd = 438;

/** A second descriptor of what another process has open. pidfd_getfd(2). */
function take(pid: number, number: number): Fd {
  const opened = syscall(pidfd_open, pid);
  assert(opened >= 0, `pidfd_open(${pid})`);
  using pidfd = new Fd(opened);
  const fd = syscall(pidfd_getfd, pidfd.number, number);
  assert(fd >= 0, `pidfd_getfd(${pid}, ${number})`);
  return new Fd(fd);
}

/** A dispatcher that says whatever a test likes. */
export class StandIn implements Disposable {
  readonly #socket: Fd;
  readonly #channel: Channel<HelperToDispatcher, unknown>;
  /** The pid of the dispatcher that was. */
  readonly replaced: number;

  private constructor(socket: Fd, replaced: number) {
    this.#socket = socket;
    this.#channel = new Channel<HelperToDispatcher, unknown>(socket, fromHelper);
    this.replaced = replaced;
  }

  static async take(world: World): Promise<StandIn> {
    const pid = await world.dispatcherPid();
    const socket = take(pid, 3);
    Deno.kill(pid, "SIGKILL");
    const standIn = new StandIn(socket, pid);
    // The one before may not have come as far as this, and twice does no harm.
    standIn.say({ type: "hello", role: "dispatcher", protocol: protocolVersion, version: "0" });
    return standIn;
  }

  /** Says a message, or whatever else. */
  say(message: unknown): void {
    this.#channel.send(message);
  }

  /** Sends bytes that need be no frame, and descriptors with them. */
  raw(bytes: Uint8Array, descriptors: readonly number[] = []): void {
    if (descriptors.length === 0) writeAll(this.#socket.number, bytes);
    else assert.equal(send(this.#socket.number, bytes, descriptors), bytes.length);
  }

  /** The next thing that the helper says, greetings aside; `undefined` when it has hung up. */
  async hear(): Promise<HelperToDispatcher | undefined> {
    for (;;) {
      const next = this.#channel.receive();
      const message = (await within(next, 20_000, () => new Error("the helper says nothing")))
        ?.message;
      if (message?.type !== "hello" && message?.type !== "welcome") return message;
    }
  }

  /** Says something and returns the answer, which has to come next. */
  async ask(message: { readonly id: number }): Promise<HelperToDispatcher> {
    this.say(message);
    const answer = await this.hear();
    assert(answer !== undefined, `the helper hung up after ${JSON.stringify(message)}`);
    assert("id" in answer && answer.id === message.id, JSON.stringify(answer));
    return answer;
  }

  /** Waits until the helper has hung up. */
  async dropped(): Promise<void> {
    while (await this.hear() !== undefined);
  }

  [Symbol.dispose](): void {
    this.#channel.close();
  }
}

/** A client's connection as another user, for what the command line would never say. */
export function connectAs(uid: number, path: string): Channel<DispatcherToClient, unknown> {
  const setresuid = numberOf(117, 147);
  // The raw call is about this thread alone, and the kernel takes the peer's uid at connect.
  assert.equal(syscall(setresuid, -1, uid, -1), 0);
  try {
    return new Channel<DispatcherToClient, unknown>(connect(path), toClient);
  } finally {
    assert.equal(syscall(setresuid, -1, 0, -1), 0);
  }
}

/** A request of another user, sent from here: a client of its own would take its time. */
export function askAs(
  uid: number,
  world: World,
  message: unknown,
): Channel<DispatcherToClient, unknown> {
  const channel = connectAs(uid, world.socket);
  channel.send(clientHello);
  channel.send(message);
  return channel;
}

/** The daemon's answer, or nothing when it is gone: it is one of the two, and soon. */
export async function answerOf(
  channel: Channel<DispatcherToClient, unknown>,
): Promise<DispatcherToClient | undefined> {
  using open = channel;
  for (;;) {
    const next = await within(open.receive(), 30_000, () => new Error("the daemon is silent"));
    if (next?.message.type !== "hello") return next?.message;
  }
}
