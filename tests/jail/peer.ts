/**
 * Somebody at the other end of one of appjail's sockets who need not keep any rule.
 *
 * @module
 */
import { type Fd, isGone, open } from "../../ipc/fd.ts";
import { decodePayload, encodeFrame, FrameReader } from "../../ipc/frame.ts";
import { check, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET, sys, syscall } from "../../ipc/libc.ts";
import { Arena } from "../../ipc/memory.ts";
import { poller } from "../../ipc/poller.ts";
import { connect, receive, send } from "../../ipc/socket.ts";
import { protocolVersion } from "../../core/protocol.ts";
import { noSession } from "../../core/session.ts";

export const clientHello = {
  type: "hello",
  role: "client",
  protocol: protocolVersion,
  version: "test",
} as const;

export const dispatcherHello = { ...clientHello, role: "dispatcher" } as const;

/** A request to run a program, for the dispatcher. */
export function runMessage(
  profile: string,
  argv: readonly string[],
  stdio = "passed",
): Readonly<Record<string, unknown>> {
  return {
    type: "run",
    profile,
    argv,
    cwd: null,
    cwd_required: false,
    env: {},
    inherited: {},
    session: noSession,
    lend: [],
    terminal: null,
    stdio,
  };
}

/** A length that promises a body, and the body, whatever it is. */
export function frame(length: number, body: string | Uint8Array = new Uint8Array()): Uint8Array {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const whole = new Uint8Array(4 + bytes.length);
  new DataView(whole.buffer).setUint32(0, length, true);
  whole.set(bytes, 4);
  return whole;
}

/** The frame of a text that need not be JSON. */
export function textFrame(body: string | Uint8Array): Uint8Array {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  return frame(bytes.length, bytes);
}

export function together(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** So many descriptors, to be given away. */
export function descriptors(count: number): readonly Fd[] {
  return Array.from({ length: count }, () => open("/dev/null", 2));
}

/** One connection. */
export class Peer implements Disposable {
  readonly socket: Fd;
  readonly #reader = new FrameReader();

  constructor(path: string) {
    this.socket = connect(path);
  }

  /** Writes all of it, descriptors with the first byte; false when the other end has hung up. */
  async write(bytes: Uint8Array, fds: readonly Fd[] = []): Promise<boolean> {
    try {
      let given = fds.map((fd) => fd.number);
      for (let rest = bytes; rest.length > 0;) {
        const count = send(this.socket.number, rest, given);
        if (count === undefined) {
          await poller.writable(this.socket.number);
          continue;
        }
        given = [];
        rest = rest.subarray(count);
      }
      return true;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  /**
   * Sends one byte with as many descriptors as the kernel lets pass, SCM_MAX_FD: more than any
   * program of ours would send. unix(7).
   */
  sendMany(byte: number): number {
    const count = 253;
    using fd = open("/dev/null", 2);
    const memory = new Arena(2048);
    const header = memory.take(56);
    const vector = memory.take(16);
    const data = memory.take(1);
    const control = memory.take(16 + count * 4 + 4);
    memory.bytes[data] = byte;
    memory.pointer(vector, data);
    memory.view.setBigUint64(vector + 8, 1n, true);
    memory.pointer(header + 16, vector);
    memory.view.setBigUint64(header + 24, 1n, true);
    memory.pointer(header + 32, control);
    memory.view.setBigUint64(header + 40, BigInt(16 + count * 4 + 4), true);
    memory.view.setBigUint64(control, BigInt(16 + count * 4), true);
    memory.view.setInt32(control + 8, SOL_SOCKET, true);
    memory.view.setInt32(control + 12, SCM_RIGHTS, true);
    for (let at = 0; at < count; at++) memory.view.setInt32(control + 16 + at * 4, fd.number, true);
    return check(
      syscall(sys.sendmsg, this.socket.number, memory.addressOf(header), MSG_DONTWAIT),
      "sendmsg",
    );
  }

  async say(message: unknown, fds: readonly Fd[] = []): Promise<boolean> {
    return await this.write(encodeFrame(message), fds);
  }

  /** The next message, or `undefined` at the end. */
  // deno-lint-ignore no-explicit-any -- a test looks into it as it likes
  async next(): Promise<any> {
    for (;;) {
      const payload = this.#reader.next();
      if (payload !== undefined) return decodePayload(payload);
      try {
        const received = receive(this.socket.number);
        if (received === undefined) await poller.readable(this.socket.number);
        else if (received.bytes.length === 0) return undefined;
        else this.#reader.push(received.bytes);
      } catch (error) {
        if (isGone(error)) return undefined;
        throw error;
      }
    }
  }

  /** The next message of a type; those before it are passed over. */
  // deno-lint-ignore no-explicit-any -- a test looks into it as it likes
  async hear(type: string): Promise<any> {
    for (;;) {
      const message = await this.next();
      if (message === undefined) throw new Error(`hung up instead of saying "${type}"`);
      if (message.type === type) return message;
      if (message.type === "failed") throw new Error(message.message);
    }
  }

  /** Everything that is still said, until the other end hangs up. */
  // deno-lint-ignore no-explicit-any -- a test looks into it as it likes
  async rest(): Promise<any[]> {
    const all = [];
    for (let message; (message = await this.next()) !== undefined;) all.push(message);
    return all;
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

/** What a process holds: descriptors, threads, and memory of its own in kB. proc(5). */
export function holdings(pid: number): {
  readonly descriptors: number;
  readonly threads: number;
  readonly memory: number;
} {
  const rollup = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
  return {
    descriptors: [...Deno.readDirSync(`/proc/${pid}/fd`)].length,
    threads: [...Deno.readDirSync(`/proc/${pid}/task`)].length,
    memory: [...rollup.matchAll(/^Private_(?:Clean|Dirty|Hugetlb): +(\d+) kB$/gm)]
      .reduce((sum, [, size]) => sum + Number(size), 0),
  };
}
