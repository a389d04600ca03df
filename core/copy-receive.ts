/**
 * The end of a copy that receives. All of it is written into a folder of its own beside the place
 * where it is meant to be, and moved there when it is whole: until then nothing has changed.
 *
 * Run by the client for `get`, where what comes is the word of a jail that may be hostile; and by the
 * copier in the jail for `put`. Nothing here is ever looked up by a path: a name is made, new, in a
 * folder that is open, so that no link can lead a write elsewhere, whoever made it and whenever. What
 * is made has the mode that was sent, which has room for no set-user-id bit, and belongs to whoever
 * runs this.
 *
 * @module
 */
import { isErrno, SystemError } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import { FrameError } from "../ipc/frame.ts";
import {
  type CopyReader,
  isEntryName,
  Piece,
  records,
  type Sent,
  type Skipped,
} from "./copy-stream.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  changeMode,
  createFile,
  effectiveUid,
  exchange,
  makeFolder,
  moveNew,
  namesIn,
  openFolder,
  removeFile,
  removeFolder,
  rename,
  setModified,
  setSize,
  statusAt,
  statusOf,
  symbolicLink,
  type Time,
  tryLock,
} from "./kernel.ts";
import { printable } from "./log.ts";

const stagingPrefix = ".appjail-copy-";

/** Whether this is the folder of a copy that is under way, or was interrupted. */
export function isStagingName(name: string): boolean {
  return name.startsWith(stagingPrefix) && /^[0-9a-f]{16}$/.test(name.slice(stagingPrefix.length));
}

function failed(what: string, name: string, why: unknown): AppjailError {
  const words = printable(wordsOf(why));
  return new AppjailError("copy-failed", `Cannot ${what} ${printable(name)}: ${words}`, {
    cause: why,
  });
}

/** What is not to be overwritten is told before anything is copied. */
export function refuseToOverwrite(target: Fd, names: readonly string[], where: string): void {
  const there = names.filter((name) => statusAt(target, name) !== undefined);
  const [first] = there;
  if (first === undefined) return;
  const others = there.length - 1;
  const more = others === 0 ? "" : `, and so ${others === 1 ? "is one" : `are ${others}`} more`;
  throw new AppjailError(
    "copy-failed",
    `Cannot copy: ${printable(where)}${printable(first)} is there already${more}; ` +
      "--force replaces what is there",
  );
}

// --- The folder in which it is made ----------------------------------------------------------

/** A folder or a file that is being made, and what it gets when it is whole. */
interface Open {
  readonly fd: Fd;
  readonly name: string;
  readonly mode: number;
  readonly modified: Time;
}

/**
 * A folder beside the target, which goes away with what is left in it. It is locked for as long as
 * the copy lives, which the kernel ends when its process does: so the next copy knows what to remove.
 */
export class Staging implements Disposable {
  readonly folder: Fd;
  readonly #target: Fd;
  readonly #name: string;
  /** Folders get their mode when they have been moved: that takes the right to write to them. */
  readonly #finish: Open[] = [];

  private constructor(target: Fd, name: string, folder: Fd) {
    this.#target = target;
    this.#name = name;
    this.folder = folder;
  }

  /** Removes what copies that were interrupted have left, and makes a new folder. */
  static make(target: Fd): Staging {
    for (const name of namesIn(target)) if (isStagingName(name)) removeAbandoned(target, name);
    for (;;) {
      const random = crypto.getRandomValues(new Uint8Array(8)).toHex();
      const name = stagingPrefix + random;
      if (!makeFolder(target, name, 0o700)) continue;
      const folder = openFolder(target, name);
      // Another copy may have taken it for abandoned, a moment ago.
      const { inode, uid } = statusOf(folder);
      const ours = uid === effectiveUid() && isFree(folder);
      if (ours && statusAt(target, name)?.inode === inode) return new Staging(target, name, folder);
      folder.close();
    }
  }

  /** A folder is whole, and gets its mode once it is in its place. */
  finishLater(folder: Open): void {
    this.#finish.push(folder);
  }

  /** Moves everything to its place, or nothing. */
  commit(names: readonly string[], force: boolean, where: string): void {
    const undo: (() => void)[] = [];
    try {
      for (const name of names) {
        if (moveNew(name, this.folder, this.#target)) {
          undo.push(() => moveNew(name, this.#target, this.folder));
        } else if (force) undo.push(this.#replace(name));
        else refuseToOverwrite(this.#target, [name], where);
      }
      for (const { fd, mode, modified } of this.#finish) {
        setModified(fd, modified);
        changeMode(fd, mode);
      }
    } catch (error) {
      for (const step of undo.reverse()) {
        try {
          step();
        } catch {
          // Somebody else has been there.
        }
      }
      if (error instanceof AppjailError) throw error;
      throw failed("move the copy to", where, error);
    }
  }

  /** Puts the new in the place of the old, and the old where it goes away with this; says how back. */
  #replace(name: string): () => void {
    const restore = makeMovable(this.#target, name);
    if (exchange(name, this.folder, this.#target)) {
      return () => {
        exchange(name, this.folder, this.#target);
        restore();
      };
    }
    // The file system cannot do it in one step. An end in between must not take the old one along.
    const old = `${name}${this.#name}`;
    rename(this.#target, name, old);
    try {
      if (!moveNew(name, this.folder, this.#target)) throw new SystemError("rename", 17, name);
    } catch (error) {
      rename(this.#target, old, name);
      restore();
      throw error;
    }
    moveNew(old, this.#target, this.folder);
    return () => {
      moveNew(name, this.#target, this.folder);
      moveNew(old, this.folder, this.#target);
      rename(this.#target, old, name);
      restore();
    };
  }

  [Symbol.dispose](): void {
    try {
      empty(this.folder);
      removeFolder(this.#target, this.#name);
    } catch {
      // Somebody has put something into it, or taken the right away: the next copy tries again.
    }
    for (const { fd } of this.#finish) fd.close();
    this.folder.close();
  }
}

/** A folder is moved elsewhere by those alone who may write to it. @returns what takes that back */
function makeMovable(target: Fd, name: string): () => void {
  const status = statusAt(target, name);
  if (status?.kind !== "folder" || (status.mode & 0o200) !== 0 || status.uid !== effectiveUid()) {
    return () => {};
  }
  const change = (mode: number): void => {
    using folder = openFolder(target, name);
    changeMode(folder, mode);
  };
  try {
    change(status.mode | 0o700);
  } catch {
    // One that may not be opened. To move it will tell.
  }
  return () => change(status.mode);
}

/** Takes the lock of a new folder, as far as there are any: NFS has none for folders. */
function isFree(folder: Fd): boolean {
  try {
    return tryLock(folder);
  } catch {
    // Nor can another copy have one, and so none removes what it cannot lock.
    return true;
  }
}

/** Removes a folder of a copy that was interrupted: one of our own, which nobody holds. */
function removeAbandoned(target: Fd, name: string): void {
  try {
    if (statusAt(target, name)?.uid !== effectiveUid()) return;
    using folder = openFolder(target, name);
    if (!tryLock(folder)) return;
    empty(folder);
    removeFolder(target, name);
  } catch {
    // It is in nobody's way.
  }
}

/** Removes everything in a folder; no link is followed. */
function empty(folder: Fd): void {
  changeMode(folder, 0o700);
  for (const name of namesIn(folder)) {
    try {
      removeFile(folder, name);
    } catch (error) {
      if (!isErrno(error, "EISDIR", "EPERM")) throw error;
      using inside = openFolder(folder, name);
      empty(inside);
      removeFolder(folder, name);
    }
  }
}

// --- Receiving -------------------------------------------------------------------------------

export interface ReceiveOptions {
  /** What has to come: these names, each once. */
  readonly names: readonly string[];
  /** Permissions that nothing gets. umask(2). */
  readonly mask: number;
  readonly skipped: (skipped: Skipped) => void;
  readonly measured: (bytes: number) => void;
  readonly copied: (bytes: number) => void;
}

/** Receives everything into a staging folder; returns when all of it is there. */
export async function receiveAll(
  reader: CopyReader,
  staging: Staging,
  options: ReceiveOptions,
): Promise<void> {
  using receiver = new Receiver(staging, options);
  for (;;) {
    const item = await reader.next(records.sent);
    if (item === undefined) throw new FrameError("The other end left before the end");
    if (item instanceof Piece) receiver.bytes(item);
    else if (item.type === "end") return receiver.end();
    else receiver.take(item);
  }
}

/** What the other end has said is against the rules. */
function lie(why: string): AppjailError {
  return new AppjailError("copy-failed", `The copy is refused: ${why}`);
}

type Entry = Exclude<Sent, { readonly type: "end" }>;

class Receiver implements Disposable {
  readonly #staging: Staging;
  readonly #options: ReceiveOptions;
  readonly #folders: Open[] = [];
  readonly #missing: Set<string>;
  #file: Open | undefined;
  #size = 0;

  constructor(staging: Staging, options: ReceiveOptions) {
    this.#staging = staging;
    this.#options = options;
    this.#missing = new Set(options.names);
  }

  [Symbol.dispose](): void {
    this.#file?.fd.close();
    for (const { fd } of this.#folders) fd.close();
  }

  /** Where things are made now. */
  get #at(): Fd {
    return this.#folders.at(-1)?.fd ?? this.#staging.folder;
  }

  #path(name: string): string {
    return [...this.#folders.map((folder) => folder.name), name].join("/");
  }

  take(item: Entry): void {
    const within = this.#file === undefined;
    switch (item.type) {
      case "folder":
        this.#expect(item.name, within);
        return this.#make(item.name, () => {
          if (!makeFolder(this.#at, item.name, 0o700)) throw lie("it has one name twice");
          const fd = openFolder(this.#at, item.name);
          this.#folders.push({ fd, ...this.#open(item) });
        });
      case "file":
        this.#expect(item.name, within);
        return this.#make(item.name, () => {
          this.#file = { fd: createFile(this.#at, item.name, 0o600), ...this.#open(item) };
          this.#size = 0;
        });
      case "link":
        this.#expect(item.name, within);
        return this.#make(item.name, () => symbolicLink(item.target, this.#at, item.name));
      case "leave": {
        const folder = within ? this.#folders.pop() : undefined;
        if (folder === undefined) throw lie("it leaves a folder that it is not in");
        if (this.#folders.length === 0) return this.#staging.finishLater(folder);
        using fd = folder.fd;
        setModified(fd, folder.modified);
        changeMode(fd, folder.mode);
        return;
      }
      case "close":
        return this.#close(item.size);
      case "skipped":
        return this.#options.skipped(item);
      case "measured":
        return this.#options.measured(item.bytes);
      case "failed":
        throw new AppjailError("copy-failed", printable(item.message));
      default:
        item satisfies never;
    }
  }

  #open({ name, mode, modified }: Extract<Entry, { readonly type: "file" | "folder" }>) {
    return { name, mode: mode & ~this.#options.mask, modified };
  }

  #expect(name: string, within: boolean): void {
    if (!within) throw lie("a file is not finished before the next one begins");
    // The reader has looked already; what everything rests on is looked at here as well.
    if (!isEntryName(name)) throw lie("this is no name of a file");
    if (isStagingName(name)) throw lie("this name is for copies that are under way");
    if (this.#folders.length === 0 && !this.#missing.delete(name)) {
      throw lie(`nobody asked for ${JSON.stringify(printable(name))}, or not twice`);
    }
  }

  #make(name: string, make: () => void): void {
    try {
      make();
    } catch (error) {
      if (error instanceof AppjailError) throw error;
      throw isErrno(error, "EEXIST")
        ? lie("it has one name twice")
        : failed("write", this.#path(name), error);
    }
  }

  bytes(piece: Piece): void {
    const file = this.#file;
    if (file === undefined) throw lie("bytes belong to no file");
    if (piece.offset < this.#size) throw lie("bytes of a file come twice");
    this.#make(file.name, () => piece.writeTo(file.fd));
    this.#size = piece.offset + piece.size;
    this.#options.copied(piece.size);
  }

  #close(size: number): void {
    const file = this.#file;
    if (file === undefined) throw lie("a file is finished that was not begun");
    if (size < this.#size) throw lie("a file is shorter than what came of it");
    using fd = file.fd;
    this.#file = undefined;
    this.#make(file.name, () => {
      if (size > this.#size) setSize(fd, size);
      setModified(fd, file.modified);
      changeMode(fd, file.mode);
    });
  }

  /** All is there. */
  end(): void {
    if (this.#file !== undefined || this.#folders.length > 0) throw lie("it ended too early");
    const [missing] = this.#missing;
    if (missing !== undefined) throw lie(`${JSON.stringify(printable(missing))} did not come`);
  }
}
