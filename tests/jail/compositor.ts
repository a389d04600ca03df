/**
 * A Wayland compositor without a screen, for what a real one of Debian 12 does not have yet: security
 * contexts. It keeps the rules of the protocol as libwayland's server does, and tells of whoever does
 * not; or it breaks them itself, in one of several ways.
 *
 * @module
 */
import { isErrno } from "../../ipc/errno.ts";
import { type Fd, pipe } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { accept, connect, listen, type Peer, peerOf, receive, send } from "../../ipc/socket.ts";
import { perl } from "./probe.ts";

/** How it is; each but the first two is an offence. */
export const manners = [
  "makes contexts",
  "makes none",
  "accepts nobody",
  "says nothing",
  "says nothing of a context",
  "sends garbage",
  "sends a message that is too long",
  "sends a message that is too short",
  "sends a text that is longer than its message",
  "sends an event of an object that there is not",
  "answers what was not asked yet",
  "has globals without an end",
  "reports an error",
  "hangs up at once",
  "hangs up in the middle",
  "sends descriptors",
] as const;
export type Manner = typeof manners[number];

/** A security context, as whoever made it said. */
export interface TestContext {
  readonly maker: Peer;
  engine: string | undefined;
  app: string | undefined;
  instance: string | undefined;
  committed: boolean;
  /** Nobody is let in by it any more. */
  readonly ended: Promise<void>;
}

const managerName = "wp_security_context_manager_v1";
const display = 1;

/** How the globals begin that tell a client whose context it is in. */
const inContext = "test_in_context";

/**
 * The words of a client, which tells what a compositor offers it: the names of its globals, a line
 * each. It finds the compositor as all do.
 */
export const globalsOf: readonly string[] = perl(
  `use Socket;
  my $at = "$ENV{XDG_RUNTIME_DIR}/$ENV{WAYLAND_DISPLAY}";
  socket my $s, AF_UNIX, SOCK_STREAM, 0 or die;
  connect $s, sockaddr_un($at) or die "connect $at: ", name(), "\\n";
  syswrite $s, pack "L6", 1, 12 << 16 | 1, 2, 1, 12 << 16, 3;
  my $in = "";
  for (;;) {
    while (length $in >= 8) {
      my ($object, $word) = unpack "LL", $in;
      my $size = $word >> 16;
      last if length $in < $size;
      my $event = substr $in, 8, $size - 8;
      $in = substr $in, $size;
      exit 0 if $object == 3;
      print unpack("x4 L/a", $event) =~ s/\\0//r, "\\n" if $object == 2;
    }
    sysread $s, $in, 4096, length $in or die "hung up\\n";
  }`,
);

/** Which context a client's globals say that it is in: `ENGINE APP`. */
export function contextIn(globals: string): string | undefined {
  return globals.split("\n").find((line) => line.startsWith(inContext))?.slice(
    inContext.length + 1,
  );
}

/** Whether a client can make contexts itself. */
export function offersContexts(globals: string): boolean {
  return globals.split("\n").includes(managerName);
}

export class TestCompositor implements Disposable {
  /** All that were made, the ended ones too. */
  readonly contexts: TestContext[] = [];
  /** What a client did that it must not. */
  readonly faults: string[] = [];
  manner: Manner;
  /** How many have connected, by no context. */
  connections = 0;
  readonly #open = new DisposableStack();

  /** @param path where it listens, and whose that is */
  constructor(path: string, manner: Manner, owner: number) {
    this.manner = manner;
    const listener = this.#open.use(listen(path, 1));
    Deno.chownSync(path, owner, owner);
    if (manner === "accepts nobody") this.#fill(path);
    else void this.#accept(listener, undefined);
  }

  /** Lets as many wait as may. */
  #fill(path: string): void {
    try {
      for (;;) this.#open.use(connect(path));
    } catch (error) {
      if (!isErrno(error, "EAGAIN")) throw error;
    }
  }

  async #accept(listener: Fd, context: TestContext | undefined): Promise<void> {
    while (!listener.closed) {
      await poller.readable(listener.number);
      if (listener.closed) return;
      const socket = accept(listener.number);
      if (socket === undefined) continue;
      if (context === undefined) this.connections++;
      this.#open.use(socket);
      void new Connection(this, socket, context).run();
    }
  }

  /** Begins to accept by a context, until the other end says to stop. */
  serve(context: TestContext, listening: Fd, until: Fd, ended: () => void): void {
    this.#open.use(listening);
    this.#open.use(until);
    void this.#accept(listening, context);
    // Of nothing but its hanging up.
    void poller.wait(until.number, 0).then(() => {
      listening.close();
      until.close();
      ended();
    });
  }

  [Symbol.dispose](): void {
    this.#open.dispose();
  }
}

/** A client. */
class Connection {
  readonly #compositor: TestCompositor;
  readonly #socket: Fd;
  readonly #context: TestContext | undefined;
  readonly #objects = new Map<number, string>([[display, "wl_display"]]);
  readonly #descriptors: Fd[] = [];
  readonly #made = new Map<number, { context: TestContext; commit: () => void }>();
  #rest = new Uint8Array(0);
  #last = display;

  constructor(compositor: TestCompositor, socket: Fd, context: TestContext | undefined) {
    this.#compositor = compositor;
    this.#socket = socket;
    this.#context = context;
  }

  async run(): Promise<void> {
    try {
      if (this.#compositor.manner === "hangs up at once") return;
      while (!this.#socket.closed) {
        await poller.readable(this.#socket.number);
        if (this.#socket.closed) return;
        const received = receive(this.#socket.number);
        if (received === undefined) continue;
        this.#descriptors.push(...received.descriptors);
        if (received.bytes.length === 0) return;
        this.#take(received.bytes);
      }
    } catch (error) {
      this.#compositor.faults.push(String(error));
    } finally {
      this.#socket.close();
      for (const fd of this.#descriptors) fd.close();
    }
  }

  #take(bytes: Uint8Array): void {
    let left = Uint8Array.from([...this.#rest, ...bytes]);
    while (left.length >= 8) {
      const view = new DataView(left.buffer, left.byteOffset);
      const word = view.getUint32(4, true);
      const size = word >>> 16;
      if (size < 8 || size % 4 !== 0) throw new Error(`a request of ${size} bytes`);
      if (left.length < size) break;
      this.#request(view.getUint32(0, true), word & 0xffff, new Words(left.slice(8, size)));
      left = left.slice(size);
    }
    this.#rest = left;
  }

  #request(object: number, opcode: number, words: Words): void {
    const kind = this.#objects.get(object);
    const request = `${kind}.${opcode}`;
    switch (request) {
      case "wl_display.0": {
        const callback = this.#make(words.number(), "wl_callback");
        this.#answer(callback);
        break;
      }
      case "wl_display.1":
        this.#globals(this.#make(words.number(), "wl_registry"));
        break;
      case "wl_registry.0": {
        const [name, wanted, version] = [words.number(), words.text(), words.number()];
        if (name !== 7 || wanted !== managerName || version !== 1) {
          throw new Error(`binds global ${name}, ${wanted}, version ${version}`);
        }
        this.#make(words.number(), "manager");
        break;
      }
      case "manager.0":
      case "context.0":
        this.#objects.delete(object);
        break;
      case "manager.1":
        this.#createListener(this.#make(words.number(), "context"));
        break;
      case "context.1":
      case "context.2":
      case "context.3": {
        const made = this.#made.get(object)?.context;
        const key = (["engine", "app", "instance"] as const)[opcode - 1];
        if (made === undefined || key === undefined) throw new Error("no context");
        if (made.committed) throw new Error("already_used");
        if (made[key] !== undefined) throw new Error("already_set");
        made[key] = words.text();
        break;
      }
      case "context.4":
        this.#made.get(object)?.commit();
        break;
      default:
        throw new Error(`request ${opcode} of object ${object}, ${kind}`);
    }
    words.end();
  }

  /** A client counts, and leaves none out. */
  #make(id: number, kind: string): number {
    if (id !== this.#last + 1) throw new Error(`object ${id} comes after ${this.#last}`);
    this.#last = id;
    this.#objects.set(id, kind);
    return id;
  }

  #createListener(id: number): void {
    const [listening, until] = this.#descriptors.splice(0, 2);
    if (listening === undefined || until === undefined) throw new Error("no descriptors came");
    // To accept from what does not listen is EINVAL.
    accept(listening.number)?.close();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const context: TestContext = {
      maker: peerOf(this.#socket.number),
      engine: undefined,
      app: undefined,
      instance: undefined,
      committed: false,
      ended,
    };
    this.#made.set(id, {
      context,
      commit: () => {
        if (context.committed) throw new Error("already_used");
        context.committed = true;
        this.#compositor.contexts.push(context);
        this.#compositor.serve(context, listening, until, resolve);
      },
    });
  }

  #globals(registry: number): void {
    const { manner } = this.#compositor;
    const globals = ["wl_compositor", "wl_shm", "wl_seat"];
    if (this.#context !== undefined) {
      const { engine, app } = this.#context;
      globals.push(`${inContext} ${engine} ${app}`);
    }
    globals.forEach((name, at) => this.#send(registry, 0, at + 1, name, 4));
    // Contexts are not made within contexts.
    if (this.#context !== undefined || manner === "makes none") return;
    this.#send(registry, 0, 7, managerName, 1);
  }

  /** Answers a wl_display.sync. */
  #answer(callback: number): void {
    const made = this.#made.size > 0;
    if (this.#context === undefined) {
      switch (this.#compositor.manner) {
        case "makes contexts":
        case "makes none":
        case "accepts nobody":
        case "hangs up at once":
          break;
        case "says nothing":
          return;
        case "says nothing of a context":
          if (made) return;
          break;
        case "sends garbage":
          return this.#raw(crypto.getRandomValues(new Uint8Array(5_000)));
        case "sends a message that is too long":
          return this.#raw(new Uint8Array(new Uint32Array([2, 0xfffc << 16]).buffer));
        case "sends a message that is too short":
          return this.#raw(new Uint8Array(new Uint32Array([2, 4 << 16]).buffer));
        case "sends a text that is longer than its message":
          return this.#raw(new Uint8Array(new Uint32Array([2, 20 << 16, 9, 0xffffffff, 0]).buffer));
        case "sends an event of an object that there is not":
          return this.#send(99, 0, 1);
        case "answers what was not asked yet":
          this.#send(callback + 3, 0, 1);
          break;
        case "has globals without an end":
          // Many small ones would fill its queue with what the kernel needs for each.
          for (let part = 0; part < 2; part++) {
            const globals = Array.from({ length: 200 }, (_, at) => [
              ...eventBytes(2, 0, 100 + at, "x".repeat(200), 1),
            ]);
            this.#raw(Uint8Array.from(globals.flat()));
          }
          return;
        case "reports an error":
          if (!made) break;
          return this.#send(display, 0, 5, 3, "invalid_metadata: \x1b[31mno\n");
        case "hangs up in the middle":
          this.#raw(new Uint8Array(new Uint32Array([2, 32 << 16, 9]).buffer));
          return this.#socket.close();
        case "sends descriptors": {
          const { read, write } = pipe();
          using one = read;
          using other = write;
          send(this.#socket.number, eventBytes(display, 1, 3), [one.number, other.number]);
          break;
        }
        default:
          return this.#compositor.manner satisfies never;
      }
    }
    this.#send(callback, 0, 1);
    this.#send(display, 1, callback);
  }

  #send(object: number, opcode: number, ...words: readonly (number | string)[]): void {
    this.#raw(eventBytes(object, opcode, ...words));
  }

  /** As much as there is room for: a client that does not read has had enough. */
  #raw(bytes: Uint8Array): void {
    try {
      send(this.#socket.number, bytes);
    } catch {
      // It has hung up.
    }
  }
}

/** What a message carries, word after word. */
class Words {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #at = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  number(): number {
    const value = new DataView(this.#bytes.buffer).getUint32(this.#at, true);
    this.#at += 4;
    return value;
  }

  text(): string {
    const length = this.number();
    const text = this.#bytes.slice(this.#at, this.#at + length);
    const whole = Math.ceil(length / 4) * 4;
    if (text.length !== length || text.indexOf(0) !== length - 1) throw new Error("no text");
    if (this.#bytes.slice(this.#at + length, this.#at + whole).some((byte) => byte !== 0)) {
      throw new Error("what fills a text up is not zero");
    }
    this.#at += whole;
    return new TextDecoder("utf-8", { fatal: true }).decode(text.subarray(0, -1));
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw new Error("a request has more than it should");
  }
}

/** An event, of numbers and texts. */
export function eventBytes(
  object: number,
  opcode: number,
  ...words: readonly (number | string)[]
): Uint8Array<ArrayBuffer> {
  const body = words.flatMap((word) => {
    if (typeof word === "number") return [...new Uint8Array(new Uint32Array([word]).buffer)];
    const text = new TextEncoder().encode(`${word}\0`);
    const fill = Array<number>((4 - text.length % 4) % 4).fill(0);
    return [...new Uint8Array(new Uint32Array([text.length]).buffer), ...text, ...fill];
  });
  const head = new Uint32Array([object, (8 + body.length) << 16 | opcode]);
  return Uint8Array.from([...new Uint8Array(head.buffer), ...body]);
}
