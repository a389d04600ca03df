/**
 * An object with an interface on a message bus, and objects below it that come and go, served with
 * dbus-next.
 *
 * Loaded by the dispatcher alone (`await import("../ipc/bus.ts")`), and the only file that imports
 * dbus-next. Every byte that comes was written by somebody else: any user of the machine can call,
 * and the bus forwards what it likes. So dbus-next, which trusts what it reads, is used for what it
 * does well (making, decoding and matching messages), and stands between two walls:
 *
 *     the bus ═▶ bus-connection ─▶ Framer, checkBody ─▶ dbus-next ─▶ handle()
 *             ◀═ bounded queue  ◀─ parseHeader, checkBody ◀─ dbus-next ◀─ values
 *
 * What passes in is a well-formed call of a declared method with its declared signature, or an
 * answer of the bus itself: no peer can answer in the bus's place and so become another uid. What
 * passes out is well formed too: one bad object path, and the bus would throw us off.
 *
 * Who calls is known by the uid that the bus reports for the sender's unique name, never by a pid.
 * A signal is for one connection, whose uid the bus has reported, and has its name on it: none is ever
 * broadcast. There are no proxies, no match rules but those of ipc/bus-subscribers.ts, no calls to
 * anybody but the bus; no peer's XML is ever read.
 *
 * Deno permissions: read, write and net for the socket alone, `--allow-read=S --allow-write=S
 * --allow-net=unix:S`; no env, sys, run or ffi. dbus-next is imported by its parts: its entry file
 * would load node:net, for a transport that is not used.
 */
import messages from "dbus-next/lib/message.js";
import MessageBus from "dbus-next/lib/bus.js";
import compat from "dbus-next/lib/marshall-compat.js";
import messageType from "dbus-next/lib/message-type.js";
import variants from "dbus-next/lib/variant.js";
import { BusConnection, within } from "./bus-connection.ts";
import {
  type BusArgument,
  type BusDeclaration,
  type BusObjects,
  checkDeclaration,
  introspect,
  INTROSPECTABLE,
  type Node,
  nodeAt,
  OBJECT_MANAGER,
  objectPath,
  PEER,
  PROPERTIES,
  STANDARD,
} from "./bus-introspection.ts";
import {
  checkBody,
  ERROR,
  type Frame,
  type Header,
  isInterfaceName,
  isUniqueName,
  MessageFault,
  METHOD_CALL,
  NO_REPLY_EXPECTED,
  parseHeader,
  parseSignature,
  SIGNAL,
  type Type,
} from "./bus-message.ts";

import { type Subscriber, Subscribers } from "./bus-subscribers.ts";

export { resolveBusAddress } from "./bus-connection.ts";
export type { BusArgument, BusMethod, BusObjects, BusProperty } from "./bus-introspection.ts";

/** A call that came, its arguments checked against the method's declaration. */
export interface BusCall {
  readonly method: string;
  /** Whom the bus says the sender is. */
  readonly uid: number;
  /** The unique name of the connection, such as `:1.42`. */
  readonly sender: string;
  /**
   * Plain values: variants are unwrapped, dictionaries are objects without a prototype, `x` and `t`
   * are bigint, `ay` is a Uint8Array.
   */
  readonly args: readonly unknown[];
  /** The caller's connection gets signals from now on, for as long as it is there. */
  readonly subscribe: () => Promise<void>;
  /** It gets none any more. */
  readonly unsubscribe: () => Promise<void>;
}

/** A value for which the declaration says only `v`. */
export interface BusVariant {
  readonly type: string;
  readonly value: unknown;
}

export function variant(type: string, value: unknown): BusVariant {
  return { type, value };
}

/**
 * An error that the caller is meant to see, name and text. Any other is logged, and the caller told
 * only that it failed.
 */
export class BusError extends Error {
  override readonly name = "BusError";
  readonly errorName: string;

  constructor(errorName: string, message: string) {
    if (!isInterfaceName(errorName)) throw new TypeError(`Bad D-Bus error name: ${errorName}`);
    super(message);
    this.errorName = errorName;
  }
}

export interface BusServiceOptions extends BusDeclaration {
  /** As {@linkcode resolveBusAddress} gives it. */
  readonly address: string;
  /**
   * Answers a call with the values of the declared out arguments; a dictionary is a plain object, a
   * `v` a {@linkcode variant}. The caller's slot is taken until it settles, so it must settle.
   */
  readonly handle: (call: BusCall) => Promise<readonly unknown[]>;
  /** One line; never more than a few in a second, whatever peers do. */
  readonly log: (line: string) => void;
  /** For every wait on the bus. Default 10 s. */
  readonly deadlineMs?: number;
  /** Calls being handled at a time, in all and for one uid. Default 512 and 64. */
  readonly maxCalls?: number;
  readonly maxCallsPerUid?: number;
  /** Among the signals: the one by which a subscriber learns how many (`u`) it was not told. */
  readonly missed?: string;
}

export interface BusService {
  /** Our unique name. */
  readonly uniqueName: string;
  /** Resolves with the reason when the name is lost, the bus is gone, or after `close`. */
  readonly closed: Promise<string>;
  /** Sends what is waiting, gives up the name, leaves the bus. */
  readonly close: () => Promise<void>;
  /** Sends a declared signal to the subscribers of one person, and nobody else. */
  readonly emit: (uid: number, signal: string, args: readonly unknown[]) => void;
  /** Tells them that an object is there, or is not any more. */
  readonly added: (uid: number, name: string) => void;
  readonly removed: (uid: number, name: string) => void;
  /** Tells them that properties of an object have other values. */
  readonly changed: (uid: number, name: string, properties: readonly string[]) => void;
}

const BUS = "org.freedesktop.DBus";
const BUS_PATH = "/org/freedesktop/DBus";
const DO_NOT_QUEUE = 4;
const PRIMARY_OWNER = 1;

const MAX_MESSAGE = 1024 * 1024;
/** dbus-next makes hundreds of bytes of objects out of a value of one byte. */
const MAX_VALUES = 16 * 1024;
const MAX_ANSWER_VALUES = 256 * 1024;
/**
 * The arguments of all calls being handled, as they came on the wire; of one uid, a quarter of it.
 */
const MAX_HELD = 16 * 1024 * 1024;
const MAX_UIDS = 1024;
/** While more than this waits to be written, subscribers are told later how much they have missed. */
const SIGNAL_WATER = 256 * 1024;
/** How many signals are remembered until the bus may say that it did not pass one on. */
const MAX_SENT = 4096;
const MAX_ERROR_TEXT = 1000;
const MAX_LOG_LINE = 2000;

const FAILED = `${BUS}.Error.Failed`;
const NO_OWNER = `${BUS}.Error.NameHasNoOwner`;
const LIMITS_EXCEEDED = `${BUS}.Error.LimitsExceeded`;
const INVALID_ARGS = `${BUS}.Error.InvalidArgs`;

/* The edge to dbus-next: it has types for its entry file only, so what is used is declared here. */

interface NextMessage {
  readonly type: number;
  readonly flags: number;
  serial: number | null;
  readonly path: string;
  readonly interface: string | undefined;
  readonly member: string;
  readonly errorName: string | undefined;
  readonly sender: string;
  readonly body: readonly unknown[];
}

interface NextMessageClass {
  new (fields: Readonly<Record<string, unknown>>): NextMessage;
  newError(to: { serial: number | null; sender: string }, name: string, text: string): NextMessage;
  newMethodReturn(
    to: { serial: number | null; sender: string },
    signature: string,
    body: readonly unknown[],
  ): NextMessage;
}

/** What dbus-next's MessageBus asks of a connection; its own, in lib/connection.js, is not used. */
interface NextConnection {
  on(event: string, listener: (message: NextMessage) => void): void;
  message(message: NextMessage): void;
}

interface NextBus {
  addMethodHandler(handler: (message: NextMessage) => boolean): void;
  call(message: NextMessage): Promise<NextMessage>;
  send(message: NextMessage): void;
  on(event: "connect" | "error", listener: (error?: unknown) => void): void;
  newSerial(): number;
  readonly name: string | null;
  readonly _methodReturnHandlers: Record<number, unknown>;
}

/** As much of a stream as dbus-next's unmarshaller uses. */
interface NextStream {
  on(event: "readable", listener: () => void): void;
  read(size: number): unknown;
}

const Message = messageType.Message as NextMessageClass;
const Variant = variants.Variant as new (signature: string, value: unknown) => object;
const newMessageBus = (connection: NextConnection) => new MessageBus(connection) as NextBus;
const marshal = compat.marshallMessage as (message: NextMessage) => [Uint8Array, unknown];
const toJs = compat.messageToJsFmt as (raw: unknown) => Readonly<Record<string, unknown>>;
const unmarshal = messages.unmarshalMessages as (
  stream: NextStream,
  receive: (raw: unknown) => void,
  options: Readonly<Record<string, unknown>>,
) => void;

/**
 * Decodes one whole message that has passed the checks; what dbus-next throws is thrown here, and
 * not out of an event.
 */
function decode(bytes: Uint8Array<ArrayBuffer>): NextMessage {
  let at = 0;
  let message: NextMessage | undefined;
  const stream: NextStream = {
    on: (_event, readable) => readable(),
    read(size) {
      if (at >= bytes.length) return null;
      at += size;
      return Buffer.from(bytes.buffer, bytes.byteOffset + at - size, size);
    },
  };
  unmarshal(stream, (raw) => message = new Message(toJs(raw)), {});
  if (message === undefined) throw new Error("dbus-next found no message");
  return message;
}

/** dbus-next's values as plain ones, see {@linkcode BusCall}. The depth is bounded by checkBody. */
function plain(value: unknown): unknown {
  if (value instanceof Variant) return plain((value as unknown as BusVariant).value);
  // A copy: dbus-next gives a window on the whole message.
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const copy: Record<string, unknown> = Object.create(null);
  for (const [key, inner] of Object.entries(value)) copy[key] = plain(inner);
  return copy;
}

/** Plain values as dbus-next wants them for this type; it marks a dictionary by its constructor. */
function toNext(type: Type, value: unknown): unknown {
  const [first, second] = type.of;
  if (type.code === "v") {
    const { type: inner, value: held } = (value ?? {}) as Partial<BusVariant>;
    if (typeof inner !== "string") throw new TypeError("a variant is wanted");
    const [tree, ...more] = parseSignature(inner);
    if (tree === undefined || more.length > 0) throw new TypeError("a variant holds one value");
    return new Variant(inner, toNext(tree, held));
  }
  if (type.code === "(") {
    if (!Array.isArray(value)) throw new TypeError("an array is wanted for a structure");
    return value.map((inner, at) => toNext(type.of[at] ?? type, inner));
  }
  if (type.code !== "a" || first === undefined) return value;
  const entry = first.code === "{" ? first.of[1] : second;
  if (entry !== undefined) {
    if (typeof value !== "object" || value === null) throw new TypeError("an object is wanted");
    return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, toNext(entry, it)]));
  }
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (!Array.isArray(value)) throw new TypeError("an array is wanted");
  return value.map((inner) => toNext(first, inner));
}

/** The properties of an object, or some of them, with their types. */
function variantsOf(
  { properties }: BusObjects,
  values: Readonly<Record<string, unknown>>,
  names?: readonly string[],
): Readonly<Record<string, BusVariant>> {
  return Object.fromEntries(
    properties.filter(({ name }) => names?.includes(name) ?? true)
      .map(({ name, type }) => [name, variant(type, values[name])]),
  );
}

function unknownObject(path: string): BusError {
  return new BusError(`${BUS}.Error.UnknownObject`, `There is no object ${path}`);
}

const signatureOf = (list: readonly BusArgument[]) => list.map(({ type }) => type).join("");

/** At most `burst` lines in ten seconds; the next window tells how many were left out. */
function throttled(log: (line: string) => void, burst: number): (line: string) => void {
  let begun = 0;
  let lines = 0;
  return (line) => {
    const now = performance.now();
    if (now - begun > 10_000) {
      if (lines > burst) log(`bus: ${lines - burst} more lines were left out`);
      begun = now;
      lines = 0;
    }
    // What peers wrote must not begin a line of its own, nor colour a terminal.
    // deno-lint-ignore no-control-regex
    const shown = line.replaceAll(/[\x00-\x1f\x7f-\x9f]+ */g, " ").slice(0, MAX_LOG_LINE);
    if (++lines <= burst) log(`bus: ${shown}`);
  };
}

/** What calls take while they are handled: counted in all and for one key, refused beyond. */
class Slots<Key> {
  readonly #maxCalls: number;
  readonly #maxBytes: number;
  readonly #taken = new Map<Key, { calls: number; bytes: number }>();

  constructor(maxCalls: number, maxBytes: number) {
    this.#maxCalls = maxCalls;
    this.#maxBytes = maxBytes;
  }

  /** Takes a slot and returns what gives it back, or undefined when there is none. */
  take(key: Key, bytes: number): Disposable | undefined {
    const taken = this.#taken.get(key) ?? { calls: 0, bytes: 0 };
    if (taken.calls >= this.#maxCalls || taken.bytes + bytes > this.#maxBytes) return undefined;
    taken.calls += 1;
    taken.bytes += bytes;
    this.#taken.set(key, taken);
    return {
      [Symbol.dispose]: () => {
        taken.calls -= 1;
        taken.bytes -= bytes;
        if (taken.calls === 0) this.#taken.delete(key);
      },
    };
  }
}

/** What a call asks for, found before its body is looked at. */
interface Target {
  readonly node: Node;
  readonly interface: string;
  readonly member: string;
  readonly out: string;
}

interface Admitted extends Target {
  /** Bytes on the wire. */
  readonly size: number;
}

class Service {
  readonly #options: BusServiceOptions;
  readonly #connection: BusConnection;
  readonly #deadlineMs: number;
  readonly #complain: (line: string) => void;
  readonly #bus: NextBus;
  #deliver: (message: NextMessage) => void = () => {};
  readonly #greeting = Promise.withResolvers<string>();
  /** The calls that were let in, on their way through dbus-next to #dispatch. */
  readonly #admitted = new WeakMap<NextMessage, Admitted>();
  /** Questions to the bus that are open: all fail when it goes. */
  readonly #asking = new Set<(error: Error) => void>();
  readonly #all: Slots<"all">;
  readonly #byUid: Slots<number>;
  readonly #bySender: Slots<string>;
  /**
   * The bus never gives a unique name twice, so an answer stays true; bounded, the oldest leaves.
   */
  readonly #uids = new Map<string, number>();
  readonly #asked = new Map<string, Promise<number | undefined>>();
  readonly #subscribers: Subscribers;
  /** Signals by their serials, and how many events each is about. */
  readonly #sent = new Map<number, { readonly subscriber: Subscriber; readonly count: number }>();
  #catchingUp = false;
  #machineId: Promise<readonly unknown[]> | undefined;

  constructor(options: BusServiceOptions, connection: BusConnection) {
    this.#options = options;
    this.#connection = connection;
    this.#deadlineMs = options.deadlineMs ?? 10_000;
    this.#complain = throttled(options.log, 20);
    const perUid = options.maxCallsPerUid ?? 64;
    this.#all = new Slots(options.maxCalls ?? 512, MAX_HELD);
    this.#byUid = new Slots(perUid, MAX_HELD / 4);
    this.#bySender = new Slots(perUid, MAX_HELD / 4);
    this.#subscribers = new Subscribers({
      ask: (member, argument) => this.#ask(member, "s", [argument]),
      refuse: (text) => new BusError(LIMITS_EXCEEDED, text),
    });

    // MessageBus says Hello in its constructor; the answer arrives through #receive.
    this.#bus = newMessageBus({
      on: (event, listener) => {
        if (event === "message") this.#deliver = listener;
      },
      message: (message) => this.#transmit(message),
    });
    this.#bus.on("connect", () => {
      const name = this.#bus.name;
      if (name !== null && isUniqueName(name)) this.#greeting.resolve(name);
      else this.#greeting.reject(new Error("the bus gave no name in answer to Hello"));
    });
    this.#bus.on("error", (error) => this.#complain(`dbus-next: ${String(error)}`));
    // dbus-next counts on past 2^32, from where on every message would be refused.
    let serial = 1;
    this.#bus.newSerial = () => serial = serial % 0x7fff_ffff + 1;
    this.#bus.addMethodHandler((message) => {
      this.#dispatch(message);
      // Always "handled": dbus-next's own handlers would answer Introspect, Properties and Peer,
      // and answer despite NO_REPLY.
      return true;
    });
    void connection.closed.then((reason) => {
      const error = new Error(reason);
      this.#greeting.reject(error);
      for (const fail of this.#asking) fail(error);
    });
    this.#greeting.promise.catch(() => {});
    void connection.read(MAX_MESSAGE, (frame) => {
      try {
        this.#receive(frame);
      } catch (error) {
        this.#complain(`a message was dropped: ${String(error)}`);
      }
    });
  }

  /** Joins the bus and takes the name. */
  async start(): Promise<string> {
    const { name, address } = this.#options;
    const mute = `no answer to Hello within ${this.#deadlineMs} ms`;
    const unique = await within(this.#deadlineMs, mute, this.#greeting.promise).catch((error) => {
      throw new Error(
        `Cannot join the bus at ${address}: ${error.message}; ` +
          "does it let this user in, and has the user a passwd entry?",
      );
    });
    const [answer] = await this.#ask("RequestName", "su", [name, DO_NOT_QUEUE]).catch((error) => {
      throw new Error(
        error instanceof BusError && error.errorName === `${BUS}.Error.AccessDenied`
          ? `Cannot own the bus name ${name}: the bus's policy refuses it to this user (${error.message})`
          : `Cannot own the bus name ${name}: ${error.message}`,
      );
    });
    if (answer !== PRIMARY_OWNER) {
      throw new Error(`Cannot own the bus name ${name}: another process owns it`);
    }
    return unique;
  }

  /**
   * Asks the bus itself, nobody else. Settles when it answers, at the deadline, or when the bus
   * goes.
   */
  #ask(
    member: string,
    signature: string,
    body: readonly unknown[],
    on: string = BUS,
  ): Promise<readonly unknown[]> {
    return new Promise((resolve, reject) => {
      const message = new Message({
        ...{ destination: BUS, path: BUS_PATH, interface: on, member, signature, body },
      });
      const settle = () => {
        clearTimeout(timer);
        this.#asking.delete(fail);
        // dbus-next would wait for the answer for ever.
        delete this.#bus._methodReturnHandlers[message.serial ?? 0];
      };
      const fail = (error: Error) => {
        settle();
        reject(error);
      };
      const timer = setTimeout(
        () => fail(new Error(`the bus did not answer ${member} within ${this.#deadlineMs} ms`)),
        this.#deadlineMs,
      );
      this.#asking.add(fail);
      if (!this.#connection.isOpen) return fail(new Error("the bus is gone"));
      this.#bus.call(message).then((answer) => {
        settle();
        resolve(answer.body);
      }, (error) => {
        const { type, text } = error as { type?: unknown; text?: unknown };
        fail(typeof type === "string" ? new BusError(type, String(text)) : error);
      });
    });
  }

  /** The wall on the way in. It may throw: the message is then dropped. */
  #receive(frame: Frame): void {
    if (frame.kind === "malformed") return this.#complain(`a malformed message came: ${frame.why}`);
    const { header } = frame;
    if (header.type === METHOD_CALL) return this.#admit(frame, header);
    // Only the bus is ever asked, so only the bus answers: a peer that guesses a serial must not
    // say who a caller is.
    if (header.sender !== BUS) {
      return this.#complain(`an unasked message of ${header.sender ?? "nobody"} was dropped`);
    }
    if (frame.kind === "oversized") throw new Error(`the bus sent ${frame.size} bytes`);
    checkBody(frame.bytes, header, MAX_VALUES);
    const message = decode(frame.bytes);
    if (header.type === SIGNAL) return this.#hear(header, message.body);
    if (header.type === ERROR && this.#notPassedOn(header, message)) return;
    if (header.type === ERROR && this.#bus.name === null) {
      // dbus-next would answer a refused Hello with an unhandled rejection, the end of the process.
      return this.#greeting.reject(new Error(`the bus refuses Hello: ${String(message.body[0])}`));
    }
    this.#deliver(message);
  }

  /** What the bus tells unasked, or by a rule of a subscriber's. */
  #hear(header: Header, [name, , owner]: readonly unknown[]): void {
    if (header.interface !== BUS) return;
    if (header.member === "NameLost" && name === this.#options.name) {
      return this.#connection.close(`the bus name ${this.#options.name} was lost`);
    }
    if (header.member === "NameOwnerChanged" && typeof name === "string" && owner === "") {
      this.#subscribers.remove(name).catch((error) => this.#complain(String(error)));
    }
  }

  /** A signal that its subscriber does not get: it does not read, or a policy is in the way. */
  #notPassedOn({ replySerial = 0, errorName }: Header, { body }: NextMessage): boolean {
    const sent = this.#sent.get(replySerial);
    if (sent === undefined) return false;
    this.#sent.delete(replySerial);
    // Whoever has gone is told nothing: the bus says that, too.
    if (errorName === `${BUS}.Error.ServiceUnknown` || errorName === NO_OWNER) return true;
    sent.subscriber.missed += sent.count;
    this.#complain(`the bus did not pass a signal on: ${String(body[0])}`);
    return true;
  }

  /** Lets a call in when it is one that is declared; otherwise tells the sender why not. */
  #admit(frame: Exclude<Frame, { kind: "malformed" }>, header: Header): void {
    const sender = header.sender ?? "";
    if (!isUniqueName(sender)) return this.#complain(`a call without a sender was dropped`);
    const to = { serial: header.serial, sender, flags: header.flags };
    let message: NextMessage;
    try {
      if (frame.kind === "oversized") {
        throw new BusError(LIMITS_EXCEEDED, `The message is longer than ${MAX_MESSAGE} bytes`);
      }
      const target = this.#find(header);
      if (header.fds > 0) throw new MessageFault("File descriptors are not accepted");
      checkBody(frame.bytes, header, MAX_VALUES);
      message = decode(frame.bytes);
      this.#admitted.set(message, { ...target, size: frame.bytes.length });
    } catch (error) {
      const fault = error instanceof MessageFault;
      return this.#fail(to, fault ? new BusError(INVALID_ARGS, error.message) : error);
    }
    this.#deliver(message);
  }

  /**
   * Finds what is called, or throws the standard error. An empty interface is legal: the member
   * decides.
   */
  #find({ path = "", interface: interfaceName, member, signature }: Header): Target {
    const { interface: main, methods, objects } = this.#options;
    const node = nodeAt(this.#options, path);
    // "Peer" is of the connection: any path will do. The rest is of an object.
    if (node === undefined && interfaceName !== PEER) throw unknownObject(path);
    const standard = (name: string) => [name, STANDARD[name]?.methods ?? []] as const;
    const candidates: readonly (readonly [string, typeof methods])[] = [
      ...(node?.kind === "own" ? [[main, methods] as const] : []),
      ...(node?.kind === "object" && objects ? [[objects.interface, []] as const] : []),
      standard(INTROSPECTABLE),
      standard(PEER),
      ...(node?.kind === "own" || node?.kind === "object" ? [standard(PROPERTIES)] : []),
      ...(node?.kind === "own" && objects ? [standard(OBJECT_MANAGER)] : []),
    ];
    const possible = candidates.filter(([name]) => (interfaceName ?? name) === name);
    if (possible.length === 0) {
      const text = `The object ${path} has no interface ${interfaceName}`;
      throw new BusError(`${BUS}.Error.UnknownInterface`, text);
    }
    for (const [name, declared] of possible) {
      const method = declared.find((method) => method.name === member);
      if (method === undefined) continue;
      const wanted = signatureOf(method.in);
      if (wanted !== signature) {
        throw new BusError(
          INVALID_ARGS,
          `${name}.${method.name} takes arguments of signature "${wanted}", not "${signature}"`,
        );
      }
      return {
        node: node ?? { kind: "parent" },
        interface: name,
        member: method.name,
        out: signatureOf(method.out),
      };
    }
    const text = `There is no method ${member}` + (interfaceName ? ` in ${interfaceName}` : "");
    throw new BusError(`${BUS}.Error.UnknownMethod`, text);
  }

  /**
   * A call that dbus-next has decoded. It must not throw: dbus-next would send its stack trace to
   * the caller.
   */
  #dispatch(message: NextMessage): void {
    const admitted = this.#admitted.get(message);
    if (admitted === undefined) return;
    void this.#serve(message, admitted).catch((error) => this.#fail(message, error));
  }

  async #serve(message: NextMessage, target: Admitted): Promise<void> {
    // No uid is needed for what is the same for everybody.
    const { node } = target;
    if (target.interface === INTROSPECTABLE && (node.kind === "own" || node.kind === "parent")) {
      return this.#answer(message, target.out, [introspect(this.#options, message.path, node)]);
    }
    if (target.interface === PEER) {
      if (target.member === "Ping") return this.#answer(message, target.out, []);
      // The bus knows the machine's id as well as we do, and then no file has to be read.
      this.#machineId ??= this.#ask("GetMachineId", "", [], PEER).catch((error) => {
        this.#machineId = undefined;
        throw error;
      });
      return this.#answer(message, target.out, await this.#machineId);
    }

    const { size } = target;
    using total = this.#all.take("all", size);
    if (total === undefined) throw new BusError(LIMITS_EXCEEDED, "The service is busy, try again");
    const tooMany = () => new BusError(LIMITS_EXCEEDED, "Too many calls of yours are waiting");
    let uid = this.#uids.get(message.sender);
    if (uid === undefined) {
      using waiting = this.#bySender.take(message.sender, size);
      if (waiting === undefined) throw tooMany();
      uid = await this.#uidOf(message.sender);
      // It left before the bus could say who it was: nobody waits for an answer, and nobody is
      // answerable for the call.
      if (uid === undefined) return;
    }
    using own = this.#byUid.take(uid, size);
    if (own === undefined) throw tooMany();
    this.#answer(message, target.out, await this.#perform(message, target, uid));
  }

  /** Does what is called for somebody, who is known by now. */
  async #perform(message: NextMessage, target: Admitted, uid: number): Promise<readonly unknown[]> {
    const { node, member } = target;
    const { objects, handle } = this.#options;
    // Another's is as if it were not there: the same words, whatever is called.
    const values = node.kind === "object" ? objects?.values(uid, node.name) : {};
    if (values === undefined) throw unknownObject(message.path);
    const { sender } = message;
    const args = message.body.map(plain);
    switch (target.interface) {
      case INTROSPECTABLE:
        return [introspect(this.#options, message.path, node, objects?.names(uid))];
      case OBJECT_MANAGER:
        return [this.#managed(uid)];
      case PROPERTIES:
        return await this.#property(node, values, member, String(args[0]), String(args[1]), uid);
      default:
        return await handle({
          method: member,
          uid,
          sender,
          args,
          subscribe: () => this.#subscribers.add(sender, uid),
          unsubscribe: () => this.#subscribers.remove(sender),
        });
    }
  }

  /** A person's objects, each with its properties. */
  #managed(uid: number): Readonly<Record<string, unknown>> {
    const { objects } = this.#options;
    return Object.fromEntries(
      (objects?.names(uid) ?? []).flatMap((name) => {
        const interfaces = this.#interfacesOf(uid, name);
        return interfaces === undefined ? [] : [[objectPath(this.#options, name), interfaces]];
      }),
    );
  }

  /** What the interface of an object says, by its name; as ObjectManager has it. */
  #interfacesOf(uid: number, name: string): Readonly<Record<string, unknown>> | undefined {
    const { objects } = this.#options;
    const values = objects?.values(uid, name);
    if (objects === undefined || values === undefined) return undefined;
    return { [objects.interface]: variantsOf(objects, values) };
  }

  async #property(
    node: Node,
    values: Readonly<Record<string, unknown>>,
    member: string,
    interfaceName: string,
    name: string,
    uid: number,
  ): Promise<readonly unknown[]> {
    const { interface: main, properties, objects } = this.#options;
    const object = node.kind === "object" ? objects : undefined;
    // The empty name stands for any interface.
    const known = interfaceName === "" || interfaceName === (object?.interface ?? main);
    const managing = interfaceName === OBJECT_MANAGER && (object !== undefined || !objects);
    if (!known && (managing || !Object.hasOwn(STANDARD, interfaceName))) {
      const text = `The object has no interface ${interfaceName}`;
      throw new BusError(`${BUS}.Error.UnknownInterface`, text);
    }
    const own = object?.properties.map(({ name, type }) => ({
      name,
      type,
      read: () => values[name],
    })) ?? properties;
    const mine = known ? own : [];
    if (member === "GetAll") {
      const all = await Promise.all(
        mine.map(async ({ name, type, read }) => [name, variant(type, await read(uid))] as const),
      );
      return [Object.fromEntries(all)];
    }
    const property = mine.find((property) => property.name === name);
    if (property === undefined) {
      throw new BusError(`${BUS}.Error.UnknownProperty`, `There is no property ${name}`);
    }
    if (member === "Set") {
      throw new BusError(`${BUS}.Error.PropertyReadOnly`, `The property ${name} is read-only`);
    }
    return [variant(property.type, await property.read(uid))];
  }

  /**
   * The uid behind a unique name, or undefined when it has left the bus. One question for any
   * number of calls.
   */
  #uidOf(sender: string): Promise<number | undefined> {
    const asked = this.#asked.get(sender) ?? this.#askUid(sender).finally(() => {
      this.#asked.delete(sender);
    });
    this.#asked.set(sender, asked);
    return asked;
  }

  async #askUid(sender: string): Promise<number | undefined> {
    try {
      const [uid] = await this.#ask("GetConnectionUnixUser", "s", [sender]);
      // (uid_t) -1 is "no user" to every system call.
      if (typeof uid !== "number" || uid === 0xffff_ffff) throw new Error("the bus gave no uid");
      if (this.#uids.size >= MAX_UIDS) {
        for (const oldest of this.#uids.keys()) {
          this.#uids.delete(oldest);
          break;
        }
      }
      this.#uids.set(sender, uid);
      return uid;
    } catch (error) {
      if (error instanceof BusError && error.errorName === NO_OWNER) {
        return undefined;
      }
      throw error;
    }
  }

  #answer(message: NextMessage, signature: string, values: readonly unknown[]): void {
    if (message.flags & NO_REPLY_EXPECTED) return;
    const types = parseSignature(signature);
    if (types.length !== values.length) {
      throw new Error(`${message.member} returned ${values.length} values for "${signature}"`);
    }
    const body = types.map((type, at) => toNext(type, values[at]));
    this.#bus.send(Message.newMethodReturn(message, signature, body));
  }

  #fail(
    to: { readonly serial: number | null; readonly sender: string; readonly flags: number },
    error: unknown,
  ): void {
    if (!(error instanceof BusError)) {
      const text = error instanceof Error ? error.stack ?? error.message : String(error);
      this.#complain(`a call of ${to.sender} failed: ${text}`);
    }
    if (to.flags & NO_REPLY_EXPECTED) return;
    const { errorName, message } = error instanceof BusError
      ? error
      : new BusError(FAILED, "The request failed; the service's log says why");
    // A NUL cannot be sent, and the text may quote what the caller wrote.
    const text = message.replaceAll("\0", "\ufffd").slice(0, MAX_ERROR_TEXT).toWellFormed();
    try {
      this.#bus.send(Message.newError(to, errorName, text));
    } catch (error) {
      this.#complain(`an error could not be sent: ${String(error)}`);
    }
  }

  /** The wall on the way out: where dbus-next would write to the socket. */
  #transmit(message: NextMessage): void {
    // dbus-next tells callers of its own troubles, with a stack trace.
    if (message.errorName?.startsWith("com.github.dbus_next.")) {
      return this.#complain(`dbus-next failed: ${String(message.body[0])}`);
    }
    const bytes = new Uint8Array(marshal(message)[0]);
    if (bytes.length > MAX_MESSAGE) {
      throw new BusError(LIMITS_EXCEEDED, `The answer is longer than ${MAX_MESSAGE} bytes`);
    }
    checkBody(bytes, parseHeader(bytes), MAX_ANSWER_VALUES);
    this.#connection.send(bytes);
  }

  // --- Signals -------------------------------------------------------------------------------

  emit(uid: number, name: string, args: readonly unknown[]): void {
    const { path, interface: on, signals = [] } = this.#options;
    const signal = signals.find((one) => one.name === name);
    if (signal === undefined) throw new TypeError(`There is no signal ${name}`);
    this.#signal(uid, { path, interface: on, member: name }, signatureOf(signal.args), args);
  }

  added(uid: number, name: string): void {
    const interfaces = this.#subscribers.of(uid).length === 0
      ? undefined
      : this.#interfacesOf(uid, name);
    if (interfaces === undefined) return;
    const { path } = this.#options;
    const body = [objectPath(this.#options, name), interfaces];
    const member = "InterfacesAdded";
    this.#signal(uid, { path, interface: OBJECT_MANAGER, member }, "oa{sa{sv}}", body);
  }

  removed(uid: number, name: string): void {
    const { path, objects } = this.#options;
    const body = [objectPath(this.#options, name), [objects?.interface]];
    const member = "InterfacesRemoved";
    this.#signal(uid, { path, interface: OBJECT_MANAGER, member }, "oas", body);
  }

  changed(uid: number, name: string, properties: readonly string[]): void {
    const { objects } = this.#options;
    const values = this.#subscribers.of(uid).length === 0 ? undefined : objects?.values(uid, name);
    if (objects === undefined || values === undefined) return;
    const body = [objects.interface, variantsOf(objects, values, properties), []];
    const path = objectPath(this.#options, name);
    const member = "PropertiesChanged";
    this.#signal(uid, { path, interface: PROPERTIES, member }, "sa{sv}as", body);
  }

  /** To each subscriber of one person, by its own name. */
  #signal(
    uid: number,
    what: { readonly path: string; readonly interface: string; readonly member: string },
    signature: string,
    values: readonly unknown[],
  ): void {
    for (const subscriber of this.#subscribers.of(uid)) {
      // Somebody else's flood, or a bus that stands still: nothing is put by for that.
      if (this.#connection.waiting > SIGNAL_WATER) {
        subscriber.missed++;
        this.#catchUp();
        continue;
      }
      this.#tellMissed(subscriber);
      this.#sendSignal(subscriber, 1, what, signature, values);
    }
  }

  /** @param count how many events it is about */
  #sendSignal(
    subscriber: Subscriber,
    count: number,
    what: { readonly path: string; readonly interface: string; readonly member: string },
    signature: string,
    values: readonly unknown[],
  ): void {
    try {
      const body = parseSignature(signature).map((type, at) => toNext(type, values[at]));
      const message = new Message({
        ...{ type: SIGNAL, flags: NO_REPLY_EXPECTED, destination: subscriber.sender },
        ...{ ...what, signature, body },
      });
      this.#bus.send(message);
      this.#sent.set(message.serial ?? 0, { subscriber, count });
      for (const oldest of this.#sent.keys()) {
        if (this.#sent.size <= MAX_SENT) break;
        this.#sent.delete(oldest);
      }
    } catch (error) {
      this.#complain(`the signal ${what.member} could not be sent: ${String(error)}`);
    }
  }

  /** Tells one how much it was not told. */
  #tellMissed(subscriber: Subscriber): void {
    const { path, interface: on, missed: member } = this.#options;
    const { missed } = subscriber;
    subscriber.missed = 0;
    if (missed === 0 || member === undefined) return;
    this.#sendSignal(subscriber, missed, { path, interface: on, member }, "u", [missed]);
  }

  /** Tells those who were not told something how much that was, once the bus takes it. */
  #catchUp(): void {
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    void this.#connection.flushed().then(() => {
      this.#catchingUp = false;
      for (const subscriber of this.#subscribers.behind) this.#tellMissed(subscriber);
    });
  }

  async close(): Promise<void> {
    const late = "the bus takes nothing";
    await within(this.#deadlineMs, late, this.#connection.flushed()).catch(() => {});
    this.#connection.close("closed by the service");
  }
}

/**
 * Joins the bus, takes the name, and serves. Resolves when the name is owned; rejects with one line
 * that says why not, in bounded time.
 */
export async function serveBus(options: BusServiceOptions): Promise<BusService> {
  checkDeclaration(options);
  const connection = await BusConnection.open(options.address, options.deadlineMs ?? 10_000);
  try {
    const service = new Service(options, connection);
    const uniqueName = await service.start();
    return {
      uniqueName,
      closed: connection.closed,
      close: () => service.close(),
      emit: (uid, signal, args) => service.emit(uid, signal, args),
      added: (uid, name) => service.added(uid, name),
      removed: (uid, name) => service.removed(uid, name),
      changed: (uid, name, properties) => service.changed(uid, name, properties),
    };
  } catch (error) {
    connection.close("the service could not start");
    throw error;
  }
}
