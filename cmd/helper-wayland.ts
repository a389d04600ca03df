/**
 * The helper's part of Wayland: it has the owner's compositor make a security context for a jail, a
 * socket of the jail's own, by which the compositor knows whoever connects for a jailed program.
 *
 *     RUNTIME/jails/<uid>/wayland    where the compositor accepts them; lent in place of its own
 *
 * The compositor ends that with the jail: the jailer, which is the jail's pid 1, holds the other end
 * of a pipe that the compositor watches, and the kernel closes that, whatever has become of the helper.
 *
 * Why root's part talks to a compositor, and not somebody with less: the dispatcher would have to be
 * handed a connection that no jail has, of everybody's compositor, and a process of the owner's takes
 * longer to start than all else together. What is at stake is a few hundred bytes, read by a parser
 * that can do nothing but fail. The compositor is reached as the owner, and sees the owner.
 *
 * @module
 */
import { type Fd, pipe } from "../ipc/fd.ts";
import { bind, connect, startListening } from "../ipc/socket.ts";
import { isErrno } from "../ipc/errno.ts";
import { Compositor, compositorPatience } from "../core/compositor.ts";
import { changeOwnerAt, removeFile } from "../core/kernel.ts";
import { NotLendable } from "../core/lend-path.ts";
import { ownerOf, reachAs, type StandIn } from "../core/lending.ts";
import { type Log, printable } from "../core/log.ts";
import { openPlace } from "../core/mounts.ts";
import { type AbsolutePath, absolutePath, parsed } from "../core/names.ts";
import { knownAs } from "../core/on-behalf.ts";
import type { Allocation, JailSpec } from "../core/protocol.ts";
import { WaylandFault } from "../core/wayland.ts";

/** The file, in the folder of a jail. */
const file = "wayland";
/** Whom the compositor is told to have made it. */
const engine = "org.appjail";
/** Where nothing else will do, there is time. */
const requiredPatience = 5_000;
/** How many may wait to be accepted. */
const backlog = 128;

/** The context of one jail, if it is to have one: made when it is lent, and ended with this. */
export class JailContext implements Disposable {
  /** What is lent in place of the compositor's own socket; `undefined` for a jail without Wayland. */
  readonly standIn: StandIn | undefined;
  readonly #open = new DisposableStack();
  #hold: Fd | undefined;

  /** @param folder of the jail, in which only root can make anything */
  constructor(allocation: Allocation, { lend }: JailSpec, folder: Fd, log: Log) {
    // It has one desktop: what else asks for a context is lent as it is.
    const wanted = lend.find(({ context }) => context !== "none");
    if (wanted === undefined) return;
    const required = wanted.context === "required";
    this.standIn = {
      name: wanted.name,
      make: async () => {
        const path = parsed(absolutePath, wanted.path, (wrong) => new NotLendable(wrong));
        const made = await makeContext({ allocation, path, required, folder });
        if (typeof made !== "string") {
          this.#hold = this.#open.use(made.hold);
          return this.#open.use(made.socket);
        }
        const why = `there is no security context of the compositor: ${printable(made)}`;
        if (required) throw new NotLendable(why);
        log.info(`jail ${allocation.profile} has the socket ${printable(path)} as it is: ${why}`);
        return undefined;
      },
    };
  }

  /** To be held open by somebody else, for as long as the jail lives. */
  get hold(): Fd | undefined {
    return this.#hold;
  }

  [Symbol.dispose](): void {
    this.#open.dispose();
  }
}

/** For whom a context is made. */
interface ContextOrder {
  readonly allocation: Allocation;
  /** Where the compositor listens. */
  readonly path: AbsolutePath;
  readonly required: boolean;
  readonly folder: Fd;
}

/**
 * Has a context made: the socket is the owner's, and nobody else's.
 *
 * @returns why there is none, in words that go on after "the compositor:"
 * @throws {NotLendable} where the owner can reach nothing at the path
 */
async function makeContext(
  { allocation: { uid, owner, profile }, path, required, folder }: ContextOrder,
): Promise<{ readonly hold: Fd; readonly socket: Fd } | string> {
  const person = ownerOf(owner);
  using reached = reachAs(person, path);
  if (reached.kind !== "socket") return "it is no socket";
  using made = new DisposableStack();
  try {
    // By what was reached, and not once more by its path.
    const at = `/proc/self/fd/${reached.target.number}`;
    using connection = knownAs(person, () => connect(at));
    const patience = required ? requiredPatience : compositorPatience;
    const compositor = new Compositor(connection, patience);
    if (!await compositor.makesContexts()) return "it makes no security contexts";
    removeFile(folder, file);
    using listening = bind(`/proc/self/fd/${folder.number}/${file}`);
    changeOwnerAt(folder, file, person.uid, person.gid);
    // A program that asks who accepts it finds its owner, as it would without a context.
    knownAs(person, () => startListening(listening, backlog));
    const { read, write } = pipe();
    using until = read;
    const hold = made.use(write);
    const instance = `${uid}-${Date.now()}`;
    await compositor.makeContext({ engine, app: profile, instance }, listening, until);
    const socket = openPlace(folder, file);
    made.move();
    return { hold, socket };
  } catch (error) {
    removeFile(folder, file);
    if (error instanceof WaylandFault) return error.message;
    if (isErrno(error, "ECONNREFUSED")) return "nobody listens at its socket";
    if (isErrno(error, "EAGAIN")) return "it accepts nobody";
    throw error;
  }
}
