/**
 * Closing what strangers have handed over. close(2) of a file asks its file system, and that of FUSE
 * is a program of somebody's: one that does not answer would stop whoever closes, and everybody whom
 * that one serves. So a file is closed by a thread that may wait. close(2), flush in fuse(4).
 *
 * At most 32 calls of a process wait at a time, see poller.ts; one person can have two of them, and all
 * together half. Of what has to wait for its turn, more than a few are for the owner of this to refuse.
 *
 * @module
 */
import { Fd } from "./fd.ts";
import { arena, numberOf, syscall } from "./libc.ts";
import { poller } from "./poller.ts";

const { symbols } = Deno.dlopen("libc.so.6", {
  close: { parameters: ["i32"], result: "i32", nonblocking: true },
});

const waitingEach = 2;
const waitingMost = 16;

let waiting = 0;
const queue: { readonly number: number; readonly by: Strangers }[] = [];

/** What a descriptor is, S_IFMT of its mode; nobody is asked. `undefined` when that cannot be told. */
function typeOf(number: number): number | undefined {
  const AT_EMPTY_PATH = 0x1000, AT_STATX_DONT_SYNC = 0x4000, STATX_TYPE = 1;
  arena.reset();
  const [empty, status] = [arena.text(""), arena.take(256)];
  const result = syscall(
    numberOf(332, 291), // statx
    number,
    arena.addressOf(empty),
    AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
    STATX_TYPE,
    arena.addressOf(status),
  );
  return result < 0 ? undefined : arena.view.getUint16(status + 28, true) & 0o170000;
}

const [pipe, terminal, socket] = [0o010000, 0o020000, 0o140000];

/** Whether it is a pipe, whatever it was said to be. */
export function isPipe(fd: Fd): boolean {
  return typeOf(fd.number) === pipe;
}

/** The descriptors that one person has handed over. */
export class Strangers {
  #pending = 0;
  #waiting = 0;

  /** How many are not closed yet although they should be. */
  get pending(): number {
    return this.#pending;
  }

  /** The same descriptor, to be closed as is said above. */
  take(fd: Fd): Fd {
    return new StrangersFd(fd.release(), this);
  }

  close(number: number): void {
    const type = typeOf(number);
    // A device file, a terminal say, asks a driver; its file system is not asked.
    if (type === pipe || type === socket || type === terminal) return new Fd(number).close();
    poller.forget(number);
    this.#pending++;
    queue.push({ number, by: this });
    proceed();
  }

  get busy(): boolean {
    return this.#waiting >= waitingEach;
  }

  async closeAside(number: number): Promise<void> {
    waiting++;
    this.#waiting++;
    await symbols.close(number);
    waiting--;
    this.#waiting--;
    this.#pending--;
    proceed();
  }
}

/** Lets those have their turn who may. */
function proceed(): void {
  for (let at = 0; at < queue.length && waiting < waitingMost;) {
    const { number, by } = queue[at] ?? {};
    if (number === undefined || by === undefined || by.busy) at++;
    else {
      queue.splice(at, 1);
      void by.closeAside(number);
    }
  }
}

class StrangersFd extends Fd {
  readonly #strangers: Strangers;

  constructor(number: number, strangers: Strangers) {
    super(number);
    this.#strangers = strangers;
  }

  override close(): void {
    if (!this.closed) this.#strangers.close(this.release());
  }
}
