/**
 * As much of Wayland as it takes to have a security context made: a few requests as bytes, and a
 * reader for what a compositor answers. Pure. Wayland Protocol, Wire Format; security-context-v1.
 *
 * The reader runs in the helper, which is root, and a compositor is whatever its owner calls so. So it
 * knows the five events that can come to objects of its own and refuses all else, judges each length
 * before it looks at what it measures, keeps one unfinished message at most, reads so many bytes and
 * no more, and looks at no text for longer than it must.
 *
 * @module
 */

/** The global by which a compositor makes security contexts. */
const managerName = "wp_security_context_manager_v1";
/** The version of it that is spoken here: every later one can do it too. */
const managerVersion = 1;

/** Who the objects are: a client gives the numbers itself, each once, from 2 on. */
const display = 1, registry = 2, looked = 3, manager = 4, context = 5, made = 6;

/** Both in a header: the opcode, and above it the whole message's length. */
const lengthShift = 16;
const headerSize = 8;
/** libwayland takes no longer one. */
const messageMost = 4096;
/** What is read of one compositor. One that offers a hundred globals says 6 KiB. */
const bytesMost = 64 * 1024;
/** How much of a text is looked at: of a complaint, say. */
const wordsMost = 200;

/** A compositor that breaks the rules, or that says that something was wrong. */
export class WaylandFault extends Error {}

/** How a sandbox names what is in it. */
export interface ContextName {
  readonly engine: string;
  readonly app: string;
  readonly instance: string;
}

/** The first words: what is there? */
export function lookRequests(): Uint8Array<ArrayBuffer> {
  return joined(
    request(display, 1, registry), // wl_display.get_registry
    request(display, 0, looked), // wl_display.sync
  );
}

/**
 * A security context, with the global of that number. Two descriptors go along: the listening
 * socket, and the end of a pipe that hangs up when nobody is to be let in any more.
 */
export function contextRequests(
  global: number,
  { engine, app, instance }: ContextName,
): Uint8Array<ArrayBuffer> {
  return joined(
    request(registry, 0, global, managerName, managerVersion, manager), // wl_registry.bind
    request(manager, 1, context), // create_listener; descriptors take no bytes
    request(context, 1, engine), // set_sandbox_engine
    request(context, 2, app), // set_app_id
    request(context, 3, instance), // set_instance_id
    request(context, 4), // commit
    request(context, 0), // destroy: the listener stays
    request(manager, 0), // destroy
    request(display, 0, made), // wl_display.sync
  );
}

/** One request, of numbers and texts: a text has its length, a NUL, and zeros up to four bytes. */
function request(
  object: number,
  opcode: number,
  ...words: readonly (number | string)[]
): Uint8Array<ArrayBuffer> {
  const texts = words.map((word) =>
    typeof word === "string" ? new TextEncoder().encode(`${word}\0`) : undefined
  );
  const size = texts.reduce((sum, text) => sum + 4 + padded(text?.length ?? 0), headerSize);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, object, true);
  view.setUint32(4, (size << lengthShift | opcode) >>> 0, true);
  let at = headerSize;
  words.forEach((word, index) => {
    const text = texts[index];
    view.setUint32(at, typeof word === "number" ? word : text?.length ?? 0, true);
    if (text !== undefined) bytes.set(text, at + 4);
    at += 4 + padded(text?.length ?? 0);
  });
  return bytes;
}

function joined(...parts: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

/** What a compositor has answered so far. */
export class CompositorAnswers {
  #rest = new Uint8Array(0);
  #taken = 0;
  #manager: number | undefined;
  /** The wl_callback that is to be called; `undefined` when it was. */
  #callback: typeof looked | typeof made | undefined = looked;

  /** Whether all is answered that was asked: {@linkcode lookRequests}, at first. */
  get complete(): boolean {
    return this.#callback === undefined;
  }

  /** From now on, {@linkcode contextRequests} are to be answered. */
  expectContext(): void {
    this.#callback = made;
  }

  /** The number of the global that makes contexts; `undefined` where there is none. */
  get manager(): number | undefined {
    return this.#manager;
  }

  /**
   * Takes what came, in whatever pieces.
   *
   * @throws {WaylandFault} and then nothing more is to be read
   */
  push(bytes: Uint8Array): void {
    this.#taken += bytes.length;
    if (this.#taken > bytesMost) throw new WaylandFault(`it says more than ${bytesMost} bytes`);
    const all = new Uint8Array(this.#rest.length + bytes.length);
    all.set(this.#rest);
    all.set(bytes, this.#rest.length);
    let at = 0;
    while (all.length - at >= headerSize) {
      const head = new DataView(all.buffer, at, headerSize);
      const word = head.getUint32(4, true);
      const size = word >>> lengthShift;
      if (size < headerSize || size > messageMost || size % 4 !== 0) {
        throw new WaylandFault(`it sends a message of ${size} bytes`);
      }
      if (all.length - at < size) break;
      this.#event(
        head.getUint32(0, true),
        word & 0xffff,
        new Event(all.subarray(at + headerSize, at + size)),
      );
      at += size;
    }
    this.#rest = all.slice(at);
  }

  #event(object: number, opcode: number, event: Event): void {
    if (object === display && opcode === 0) return refuse(event);
    if (object === display && opcode === 1) {
      event.number(); // delete_id: no number is given twice here
    } else if (object === registry && opcode === 0) {
      const name = event.number();
      const isManager = event.isText(managerName);
      event.number(); // its version
      if (isManager) this.#manager ??= name;
    } else if (object === registry && opcode === 1) {
      if (event.number() === this.#manager) this.#manager = undefined;
    } else if (object === this.#callback && opcode === 0) {
      event.number(); // a serial
      this.#callback = undefined;
    } else {
      throw new WaylandFault(`it sends event ${opcode} of object ${object}, which has none`);
    }
    event.end();
  }
}

/** wl_display.error: what was wrong with which object, and there is no going on. */
function refuse(event: Event): never {
  const object = event.number();
  const code = event.number();
  const words = textIn(event.text());
  event.end();
  throw new WaylandFault(`it reports error ${code} of object ${object}: ${words}`);
}

/** What an event carries, word after word. */
class Event {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  number(): number {
    if (this.#bytes.length - this.#at < 4) throw new WaylandFault("an event of it is too short");
    const value = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return value;
  }

  /** With its NUL. */
  text(): Uint8Array {
    const length = this.number();
    const left = this.#bytes.length - this.#at;
    if (length === 0 || length > left || padded(length) > left) {
      throw new WaylandFault(`a text of it has ${length} bytes, of which ${left} are there`);
    }
    const text = this.#bytes.subarray(this.#at, this.#at + length);
    if (text.indexOf(0) !== length - 1) throw new WaylandFault("a text of it ends elsewhere");
    this.#at += padded(length);
    return text;
  }

  /** Whether a text is this one: most are not even as long. */
  isText(wanted: string): boolean {
    const text = this.text();
    return text.length === wanted.length + 1 && textIn(text) === wanted;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw new WaylandFault("an event of it is too long");
  }
}

/** Without its NUL, and cut. */
function textIn(text: Uint8Array): string {
  return new TextDecoder().decode(text.subarray(0, Math.min(text.length - 1, wordsMost)));
}
