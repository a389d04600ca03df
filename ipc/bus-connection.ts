/**
 * The way to a message bus: its address, a unix socket, the SASL handshake, whole messages in and
 * out.
 *
 * Run by the dispatcher. It stands in for dbus-next's own transport, which would start programs for
 * `unixexec:` addresses, ask X11 for one, try three authentication methods one after the other,
 * never notices that the bus is gone, and has no bound on what waits to be written.
 */
import { type Frame, Framer } from "./bus-message.ts";

/**
 * While more than this waits to be written, nothing is read: a flood of calls fills the bus's
 * memory, not ours.
 */
const HIGH_WATER = 1024 * 1024;

/**
 * Rejects with `what` as the message when the promise is not settled in time. `late` is given a
 * value that comes after all, so that what it holds can be let go.
 */
export async function within<T>(
  milliseconds: number,
  what: string,
  promise: Promise<T>,
  late?: (value: T) => void,
): Promise<T> {
  const { promise: deadline, reject } = Promise.withResolvers<never>();
  let expired = false;
  const timer = setTimeout(() => {
    expired = true;
    reject(new Error(what));
  }, milliseconds);
  promise.then((value) => expired ? late?.(value) : undefined, () => {});
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The address of a bus: `system`, `session`, or an address as D-Bus writes it. It is checked here,
 * so that a mistake is reported before anything is started.
 */
export function resolveBusAddress(
  bus: string,
  env: Readonly<Record<string, string | undefined>>,
): string {
  const address = bus === "system"
    ? env["DBUS_SYSTEM_BUS_ADDRESS"] ||
      "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket"
    : bus === "session"
    ? env["DBUS_SESSION_BUS_ADDRESS"]
    : bus;
  if (!address) {
    throw new Error("Cannot find the session bus: DBUS_SESSION_BUS_ADDRESS is not set");
  }
  socketPaths(address);
  return address;
}

/** The sockets that an address names, in the order in which they are to be tried. */
function socketPaths(address: string): readonly [string, ...string[]] {
  const paths: string[] = [];
  let refusal = "it names no address";
  for (const entry of address.split(";")) {
    if (entry === "") continue;
    const [, transport, list] = /^([a-z-]+):(.*)$/s.exec(entry) ?? [];
    if (transport === undefined || list === undefined) {
      refusal = "it is not of the form unix:path=/some/socket";
      continue;
    }
    const keys = new Map(
      list.split(",").map((pair) => {
        const at = pair.indexOf("=");
        return at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
      }),
    );
    const path = keys.get("path");
    if (transport !== "unix") refusal = `${transport}: is not supported, use unix:path=`;
    else if (keys.has("abstract")) {
      refusal = "unix:abstract= is not supported, let the bus listen on unix:path=";
    } else if (path === undefined) refusal = "it has no path=";
    else {
      let plain = "";
      try {
        plain = decodeURIComponent(path);
      } catch {
        // Not UTF-8 behind the escapes: no path that Deno could open.
      }
      if (plain.startsWith("/") && !plain.includes("\0")) paths.push(plain);
      else refusal = "its path is not absolute";
    }
  }
  const [first, ...others] = paths;
  if (first === undefined) {
    throw new Error(`Cannot use the bus address ${JSON.stringify(address)}: ${refusal}`);
  }
  return [first, ...others];
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function connectFirst(address: string): Promise<Deno.UnixConn> {
  const failures: string[] = [];
  for (const path of socketPaths(address)) {
    try {
      return await Deno.connect({ transport: "unix", path });
    } catch (error) {
      failures.push(`${path}: ${reason(error)}`);
    }
  }
  throw new Error(`Cannot reach the bus at ${failures.join("; ")}`);
}

/**
 * AUTH EXTERNAL without saying which uid we claim to be: the bus takes the one that the kernel
 * reports for the socket. dbus-next sends its own getuid(), which is another number on the other
 * side of a user namespace.
 */
async function authenticate(socket: Deno.UnixConn): Promise<void> {
  const buffer = new Uint8Array(512);
  let filled = 0;
  async function tell(text: string): Promise<void> {
    let rest = new TextEncoder().encode(text);
    while (rest.length > 0) rest = rest.subarray(await socket.write(rest));
  }
  // The server speaks only when spoken to, so one read never reaches into the next line.
  async function answer(): Promise<string> {
    filled = 0;
    while (true) {
      const count = await socket.read(buffer.subarray(filled));
      if (count === null) throw new Error("it closed the connection during authentication");
      filled += count;
      const line = new TextDecoder().decode(buffer.subarray(0, filled));
      if (line.endsWith("\r\n")) return line.slice(0, -2);
      if (filled === buffer.length) throw new Error("its authentication answer is too long");
    }
  }
  await tell("\0AUTH EXTERNAL\r\n");
  let line = await answer();
  if (line === "DATA" || line === "DATA ") {
    await tell("DATA\r\n");
    line = await answer();
  }
  if (!/^OK [0-9a-fA-F]+$/.test(line)) {
    throw new Error(`it refuses the credentials of this process (${JSON.stringify(line)})`);
  }
  await tell("BEGIN\r\n");
}

export class BusConnection {
  readonly #socket: Deno.UnixConn;
  readonly #deadlineMs: number;
  readonly #end = Promise.withResolvers<string>();
  #queue: Uint8Array[] = [];
  #queued = 0;
  #writing = false;
  #open = true;
  #drained = Promise.withResolvers<void>();

  private constructor(socket: Deno.UnixConn, deadlineMs: number) {
    this.#socket = socket;
    this.#deadlineMs = deadlineMs;
  }

  /** Connects and authenticates, or rejects with one line that says why, in bounded time. */
  static async open(address: string, deadlineMs: number): Promise<BusConnection> {
    const late = `Cannot reach the bus at ${address}: no connection within ${deadlineMs} ms`;
    const socket = await within(deadlineMs, late, connectFirst(address), (it) => it.close());
    try {
      const mute = `no answer to authentication within ${deadlineMs} ms`;
      await within(deadlineMs, mute, authenticate(socket));
    } catch (error) {
      socket.close();
      throw new Error(`Cannot use the bus at ${address}: ${reason(error)}`);
    }
    return new BusConnection(socket, deadlineMs);
  }

  /** Resolves with the reason, whichever side ended the connection. */
  get closed(): Promise<string> {
    return this.#end.promise;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** How many bytes the bus has not taken yet. */
  get waiting(): number {
    return this.#queued;
  }

  close(why: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.#queue = [];
    this.#queued = 0;
    this.#drained.resolve();
    this.#socket.close();
    this.#end.resolve(why);
  }

  /** Hands every message that comes to `receive`, until the end. `receive` must not throw. */
  async read(maxMessage: number, receive: (frame: Frame) => void): Promise<void> {
    const framer = new Framer(maxMessage);
    const chunk = new Uint8Array(64 * 1024);
    try {
      while (this.#open) {
        if (this.#queued > HIGH_WATER) {
          await this.#drained.promise;
          continue;
        }
        const count = await this.#socket.read(chunk);
        if (count === null) return this.close("the bus closed the connection");
        for (const frame of framer.push(chunk.subarray(0, count))) {
          receive(frame);
          if (!this.#open) return;
        }
      }
    } catch (error) {
      this.close(`the connection to the bus failed: ${reason(error)}`);
    }
  }

  send(message: Uint8Array): void {
    if (!this.#open) return;
    this.#queue.push(message);
    this.#queued += message.length;
    if (!this.#writing) void this.#write();
  }

  /** Resolves when all that was sent is with the kernel, or the connection is closed. */
  async flushed(): Promise<void> {
    while (this.#open && this.#queued > 0) await this.#drained.promise;
  }

  async #write(): Promise<void> {
    this.#writing = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        let rest = next;
        while (rest.length > 0) {
          const mute = `it took nothing for ${this.#deadlineMs} ms`;
          const count = await within(this.#deadlineMs, mute, this.#socket.write(rest));
          rest = rest.subarray(count);
          if (!this.#open) return;
        }
        this.#queued -= next.length;
        if (this.#queued <= HIGH_WATER / 2) {
          this.#drained.resolve();
          this.#drained = Promise.withResolvers();
        }
      }
    } catch (error) {
      this.close(`the connection to the bus failed: ${reason(error)}`);
    } finally {
      this.#writing = false;
    }
  }
}
