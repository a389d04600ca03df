/**
 * The way to what is to be lent: a path, gone step by step as its person would go it.
 *
 * Run by the helper, with the person's ids. Each step is taken from the folder that was opened by
 * the step before, so nothing is checked that is not then used; a link that is swapped meanwhile
 * leads where the person could have gone by themselves, at most. The kernel could walk the whole path
 * at once. But then a folder of FUSE, or of a server that does not answer, would keep the helper for
 * as long as it likes, and everybody with it: so no step is taken into a file system that asks
 * somebody else.
 *
 * @module
 */
import { isErrno, SystemError } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import { linkText, mayUse, mountOf, openPlace, type Place, placeOf } from "./mounts.ts";

/**
 * File systems that answer by themselves, and in which nothing is but files. What is not named here
 * is not entered: /proc and /sys, FUSE, the network.
 */
const localTypes: ReadonlySet<string> = new Set([
  ...["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "nilfs2", "bcachefs", "zfs"],
  ...["tmpfs", "ramfs", "rootfs", "overlay", "squashfs", "erofs"],
  ...["vfat", "exfat", "ntfs3", "iso9660", "udf", "hfsplus"],
]);

/** How many links are followed on the way. path_resolution(7). */
const linksMost = 40;

/** How many names a way may have, those in links too. */
const stepsMost = 4096;

/** The types of all mounts, by their numbers. */
export type MountTypes = ReadonlyMap<number, string>;

/** Reads /proc/self/mountinfo. proc(5). */
export function mountTypes(text: string): MountTypes {
  const types = new Map<number, string>();
  for (const line of text.split("\n")) {
    const [, id, type] = /^([0-9]+) .* - ([^ ]+) /.exec(line) ?? [];
    if (id !== undefined && type !== undefined) types.set(Number(id), type);
  }
  return types;
}

/** Why something cannot be lent, in words that go on after a colon. */
export class NotLendable extends Error {
  /** Whether the reason is that there is nothing. */
  readonly missing: boolean;
  constructor(why: string, missing = false) {
    super(why);
    this.missing = missing;
  }
}

/** The end of a path. */
export interface Reached {
  readonly target: Fd;
  readonly kind: "folder" | "file" | "socket";
  readonly place: Place;
  /** The type of its file system, such as ext4. */
  readonly type: string;
  /** The folder that it lies in; of a folder, that one itself. */
  readonly folder: Fd;
}

const kinds: Readonly<Record<number, Reached["kind"]>> = {
  0o040000: "folder",
  0o100000: "file",
  0o140000: "socket",
};
const link = 0o120000;
const typeBits = 0o170000; // S_IFMT

/**
 * Goes the whole way, and makes sure that the person may use what is there: read a file, list and
 * enter a folder, connect to a socket. Whether they may write shows when it is written to.
 *
 * @param path absolute
 * @param uid the person's, which this thread has for files
 * @throws {NotLendable} with the reason, in words
 */
export function reach(path: string, uid: number, types: MountTypes): Reached & Disposable {
  using held = new DisposableStack();
  try {
    const { target, folder, type } = walk(path, uid, types, held);
    const place = placeOf(target);
    const kind = kinds[place.mode & typeBits];
    if (kind === undefined) {
      throw new NotLendable("it is neither a folder, nor a file, nor a socket");
    }
    const rights = { folder: 4 + 1, file: 4, socket: 2 }[kind];
    if (!mayUse(target, rights)) throw new NotLendable("you may not open it");
    const kept = held.move();
    const end = { target, kind, place, type, folder: kind === "folder" ? target : folder };
    return { ...end, [Symbol.dispose]: () => kept.dispose() };
  } catch (error) {
    throw asReason(error);
  }
}

function asReason(error: unknown): unknown {
  if (error instanceof TypeError) return new NotLendable("a link on the way is no UTF-8");
  if (!(error instanceof SystemError)) return error;
  switch (error.code) {
    case "ENOENT":
      return new NotLendable("there is no such file or folder", true);
    case "ENOTDIR":
      return new NotLendable("a part of it is no folder", true);
    case "EACCES":
    case "EPERM":
      return new NotLendable("you may not go there");
    case "ELOOP":
      return new NotLendable("too many symbolic links are on the way");
    case "ENAMETOOLONG":
      return new NotLendable("a name in it is too long");
    default:
      return error;
  }
}

/** Where the way has led so far. */
interface Standing {
  readonly target: Fd;
  readonly type: string;
}

function walk(
  path: string,
  uid: number,
  types: MountTypes,
  held: DisposableStack,
): Standing & { readonly folder: Fd } {
  const root = held.use(openPlace(undefined, "/"));
  const top: Standing = { target: root, type: enter(root, types) };
  let [at, before] = [top, top];
  /** What is behind us is closed at once: a way may be long. */
  const leave = ({ target }: Standing): void => {
    if (target !== root && target !== at.target && target !== before.target) target.close();
  };
  held.defer(() => {
    for (const { target } of [at, before]) target.close();
  });
  const steps = stepsOf(path);
  for (let count = 0, links = 0;; count++) {
    const step = steps.shift();
    if (step === undefined) return { ...at, folder: before.target };
    if (count > stepsMost) throw new NotLendable("the way to it is too long");
    const target = openPlace(at.target, step);
    const next = { target, type: typeAt(target, types) };
    try {
      const place = placeOf(target);
      if ((place.mode & typeBits) !== link) {
        const [behind, last] = [before, at];
        [before, at] = [last, next];
        leave(behind);
        continue;
      }
      if (++links > linksMost) throw new SystemError("open", 40, step); // ELOOP
      const { mode, uid: owner } = placeOf(at.target);
      // As fs.protected_symlinks has it, whether it is set or not: in /tmp anybody can lay a link.
      if ((mode & 0o1002) === 0o1002 && place.uid !== uid && place.uid !== owner) {
        throw new NotLendable(`${JSON.stringify(step)} on the way is somebody else's link`);
      }
      const text = linkText(target);
      steps.unshift(...stepsOf(text));
      if (!text.startsWith("/")) continue;
      const behind = [before, at];
      [before, at] = [top, top];
      behind.forEach(leave);
    } finally {
      leave(next);
    }
  }
}

/** A slash at the end asks for a folder. */
function stepsOf(path: string): string[] {
  const steps = path.split("/").filter((step) => step !== "");
  return path.endsWith("/") ? [...steps, "."] : steps;
}

/** The type of the file system that a step has led to; whatever is behind it is closed. */
function typeAt(place: Fd, types: MountTypes): string {
  try {
    return enter(place, types);
  } catch (error) {
    place.close();
    throw error;
  }
}

/** The same, unless it is one that must not be entered. */
function enter(place: Fd, types: MountTypes): string {
  let mount: number;
  try {
    mount = mountOf(place);
  } catch (error) {
    if (!isErrno(error, "EACCES")) throw error;
    throw new NotLendable("it lies on a file system of FUSE, of which nothing can be lent");
  }
  const type = types.get(mount);
  if (type === undefined) throw new NotLendable("something was mounted on the way just now");
  if (localTypes.has(type)) return type;
  throw new NotLendable(`it lies on a file system of type ${type}, of which nothing can be lent`);
}
