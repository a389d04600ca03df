/**
 * Whether a copy of a home is the same as the home: every name, and of each its content, owner, mode,
 * time, links, attributes. It knows nothing of how the copy was made, so that an error there is not
 * made twice.
 *
 * rsync(1) could be asked instead, by a second run that is to find nothing. It does not see that two
 * files of the home are one in the copy (left by an earlier run, when they still were one), says
 * nothing while it reads, and compares times either to the second or to the nanosecond, of which
 * encfs has neither.
 *
 * The copy is looked at through the mount to which it was written a moment ago. So nothing is taken
 * from what the kernel remembers: encfs cuts a time to the second when a file gets its name, and
 * the kernel would still say what it was before.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import { Arena } from "../ipc/memory.ts";
import {
  attributeAt,
  attributesAt,
  forgetContent,
  freshStatusAt,
  namesIn,
  openFile,
  openFolderBy,
  readAt,
  readLink,
  removeFile,
  setTimesAt,
  type Status,
  statusOf,
} from "./kernel.ts";
import type { Pace } from "./pace.ts";
import type { HomeKind } from "./protocol.ts";
import { isCarried } from "./survey.ts";

/** What is not the same. */
export interface Difference {
  /** From the top of the home. */
  readonly path: string;
  readonly what:
    | "missing"
    | "extra"
    | "kind"
    | "owner"
    | "mode"
    | "time"
    | "size"
    | "content"
    | "link"
    | "device"
    | "linked"
    | "attributes";
}

export interface Comparison {
  readonly differences: readonly Difference[];
  readonly names: number;
  readonly bytes: number;
  /** How many files have holes that are much smaller in the copy. */
  readonly thick: number;
}

export interface CompareOptions {
  /** What the copy lies in. */
  readonly target: HomeKind;
  /**
   * Makes right what rsync does not notice: sets a time, takes away what has the wrong content or is
   * linked wrongly, so that it is copied anew.
   */
  readonly mend: boolean;
  readonly pace: Pace;
  readonly compared?: (names: number, bytes: number) => void;
}

/** Of how many nanoseconds a time is made there. encfs sets times by utimes(2). */
const grain: Readonly<Record<HomeKind, number>> = { plain: 1, gocryptfs: 1, encfs: 1000 };

/** No more are told. */
const mostTold = 1000;

/** Where what is read of either file is placed. */
const blockSize = 256 * 1024;
interface Block {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}
function makeBlock(): Block {
  const arena = new Arena(blockSize);
  return {
    address: arena.addressOf(0),
    bytes: arena.bytes,
    words: new Int32Array(arena.bytes.buffer),
  };
}
const blocks = [makeBlock(), makeBlock()] as const;

/** Compares two trees, from their open tops down. */
export async function compareTrees(
  from: Fd,
  to: Fd,
  options: CompareOptions,
): Promise<Comparison> {
  const work = new Work(options);
  await work.run(from, to);
  return work;
}

class Work implements Comparison {
  readonly differences: Difference[] = [];
  names = 0;
  bytes = 0;
  thick = 0;
  readonly #options: CompareOptions;
  readonly #grain: number;
  /** Which file of the copy is which of the home, for those that have several names; and back. */
  readonly #copies = new Map<string, string>();
  readonly #originals = new Map<string, string>();

  constructor(options: CompareOptions) {
    this.#options = options;
    this.#grain = grain[options.target];
  }

  async run(from: Fd, to: Fd): Promise<void> {
    await this.#folder(from, to, "");
    this.#common(from, to, ".", "", statusOf(from), statusOf(to));
    this.#time(to, ".", "", statusOf(from), statusOf(to));
  }

  #differs(path: string, what: Difference["what"]): void {
    if (this.differences.length < mostTold) this.differences.push({ path, what });
  }

  async #folder(from: Fd, to: Fd, path: string): Promise<void> {
    const extra = new Set(namesIn(to));
    for (const name of namesIn(from)) {
      const below = path === "" ? name : `${path}/${name}`;
      if (extra.delete(name)) await this.#name(from, to, name, below);
      else this.#differs(below, "missing");
      this.names++;
      this.#options.compared?.(this.names, this.bytes);
      await this.#options.pace.step();
    }
    for (const name of extra) this.#differs(path === "" ? name : `${path}/${name}`, "extra");
  }

  async #name(from: Fd, to: Fd, name: string, path: string): Promise<void> {
    const [original, copy] = [freshStatusAt(from, name), freshStatusAt(to, name)];
    if (original === undefined || copy === undefined) return this.#differs(path, "missing");
    if (original.type !== copy.type) return this.#differs(path, "kind");
    if (original.kind === "folder") {
      using one = openFolderBy(from, name, "no mounts");
      using other = openFolderBy(to, name, "no mounts");
      await this.#folder(one, other, path);
    } else {
      const known = this.#linked(original, copy);
      if (known === "wrong") {
        this.#differs(path, "linked");
        if (this.#options.mend) removeFile(to, name);
        return;
      }
      if (original.kind === "link" && readLink(from, name) !== readLink(to, name)) {
        this.#differs(path, "link");
      }
      if (original.device !== copy.device) this.#differs(path, "device");
      if (original.kind === "file" && known === "new") {
        if (original.size !== copy.size) this.#differs(path, "size");
        else if (!await this.#content(from, to, name, original.size)) {
          this.#differs(path, "content");
          // It has the right size and time: rsync would take it for the same.
          if (this.#options.mend) removeFile(to, name);
          return;
        }
        // What has holes may have a few less in blocks of another size.
        if (original.stored < original.size && copy.stored > original.stored * 1.25 + 2 ** 20) {
          this.thick++;
        }
      }
    }
    this.#common(from, to, name, path, original, copy);
    // After what is below it, which may have been mended.
    this.#time(to, name, path, original, freshStatusAt(to, name) ?? copy);
  }

  /** Whether these two have the same names beside this one, as far as was seen. */
  #linked(original: Status, copy: Status): "new" | "known" | "wrong" {
    if (original.links < 2 && copy.links < 2) return "new";
    const [itsCopy, itsOriginal] = [
      this.#copies.get(original.inode),
      this.#originals.get(copy.inode),
    ];
    if (itsCopy === undefined && itsOriginal === undefined) {
      this.#copies.set(original.inode, copy.inode);
      this.#originals.set(copy.inode, original.inode);
      return "new";
    }
    return itsCopy === copy.inode && itsOriginal === original.inode ? "known" : "wrong";
  }

  #common(
    from: Fd,
    to: Fd,
    name: string,
    path: string,
    original: Status,
    copy: Status,
  ): void {
    if (original.uid !== copy.uid || original.gid !== copy.gid) this.#differs(path, "owner");
    if (original.mode !== copy.mode) this.#differs(path, "mode");
    const [ours, theirs] = [from, to].map((folder) =>
      attributesAt(folder, name).filter(isCarried).sort()
    );
    const same = ours?.join("\0") === theirs?.join("\0") &&
      ours?.every((one) => equalBytes(attributeAt(from, name, one), attributeAt(to, name, one)));
    if (same !== true) this.#differs(path, "attributes");
  }

  #time(to: Fd, name: string, path: string, original: Status, copy: Status): void {
    if (this.#sameTime(original, copy)) return;
    if (this.#options.mend) {
      setTimesAt(to, name, original.accessed, original.modified);
      const mended = freshStatusAt(to, name);
      if (mended !== undefined && this.#sameTime(original, mended)) return;
    }
    this.#differs(path, "time");
  }

  #sameTime({ modified: [s, ns] }: Status, { modified: [seconds, nanoseconds] }: Status): boolean {
    const round = (fraction: number): number => Math.floor(fraction / this.#grain);
    return s === seconds && round(ns) === round(nanoseconds);
  }

  async #content(from: Fd, to: Fd, name: string, size: number): Promise<boolean> {
    if (size === 0) return true;
    using one = openFile(from, name);
    using other = openFile(to, name);
    forgetContent(other);
    for (let at = 0; at < size;) {
      const want = Math.min(blockSize, size - at);
      const ours = fill(one, blocks[0], want, at);
      let theirs: number;
      try {
        theirs = fill(other, blocks[1], want, at);
      } catch (error) {
        // gocryptfs says that the file is damaged.
        if (isErrno(error, "EIO")) return false;
        throw error;
      }
      if (ours !== want || theirs !== want || !sameStart(want)) return false;
      at += want;
      this.bytes += want;
      this.#options.compared?.(this.names, this.bytes);
      await this.#options.pace.step();
    }
    return true;
  }
}

/** Reads as much as was asked for, if there is so much. */
function fill(file: Fd, block: Block, size: number, offset: number): number {
  let done = 0;
  while (done < size) {
    const count = readAt(file, block.address + done, size - done, offset + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** Whether both blocks begin with the same so many bytes. */
function sameStart(size: number): boolean {
  const [{ bytes, words }, { bytes: others, words: otherWords }] = blocks;
  const whole = size >> 2;
  for (let at = 0; at < whole; at++) if (words[at] !== otherWords[at]) return false;
  for (let at = whole << 2; at < size; at++) if (bytes[at] !== others[at]) return false;
  return true;
}

function equalBytes(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return one !== undefined && other !== undefined && one.length === other.length &&
    one.every((byte, at) => byte === other[at]);
}
