/**
 * What there is in a home, and whether a volume can hold it: looked at before anything is copied, so
 * that whatever cannot be carried is named first.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import { bytesOf } from "../ipc/octets.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  attributesAt,
  namesIn,
  openFolderBy,
  readLink,
  type Status,
  statusAt,
  statusOf,
} from "./kernel.ts";
import { printable } from "./log.ts";
import type { Pace } from "./pace.ts";
import type { HomeKind } from "./protocol.ts";

/** What a kind of home can hold. The numbers were found by trying. */
interface Capacity {
  /** The bytes of a name. */
  readonly name: number;
  /** The bytes of what a symbolic link says. */
  readonly link: number;
  /** The bytes of a name as it lies on the disk, where whole paths are made of such. */
  readonly stored: (bytes: number) => number;
}

const capacities: Readonly<Record<HomeKind, Capacity>> = {
  plain: { name: 255, link: 4095, stored: (bytes) => bytes },
  // 175 bytes become 238, 176 would become 259; and while a file is copied, its name is 8 longer.
  encfs: {
    name: 167,
    link: 3000,
    // Blocks of 16 with at least a byte of padding, two of a checksum, six bits to the letter.
    stored: (bytes) => Math.ceil((16 * Math.floor(bytes / 16) + 18) * 4 / 3),
  },
  // Long names lie in files of their own, and paths are walked name by name.
  gocryptfs: { name: 255, link: 3000, stored: (bytes) => bytes },
};

/** PATH_MAX without its NUL, and what a file that is being copied has more in its name. */
const pathMost = 4095 - 8;

/** What a hole has at the least, in bytes; a file system may keep less in another way. */
const block = 4096;

/** What was counted. */
export interface Survey {
  /** All names but the top: files, folders, links and whatever else. */
  readonly names: number;
  readonly folders: number;
  /** Of the files' content; what has several names is counted once. */
  readonly bytes: number;
  /** What it takes on the disk. */
  readonly stored: number;
  /** The paths, from the top, of files that have holes. */
  readonly sparse: readonly string[];
  /** How many names have attributes that are carried. */
  readonly withAttributes: number;
  /** How many have others, see {@linkcode isCarried}. */
  readonly withOthers: number;
}

export interface SurveyOptions {
  /** What it is to be copied to; without, it is only counted. */
  readonly target?: HomeKind;
  /** The longest path at which the tree lies, or will. */
  readonly prefix?: string;
  readonly pace: Pace;
  readonly counted?: (names: number, bytes: number) => void;
}

/**
 * Whether an extended attribute is copied: those that a program can make, and access control lists.
 * What is in `security` and `trusted` (file capabilities, labels) is the system's own: encrypted file
 * systems refuse it or hold it unencrypted, and in a jail nothing of it has an effect.
 */
export function isCarried(attribute: string): boolean {
  return attribute.startsWith("user.") || attribute.startsWith("system.posix_acl_");
}

/** Written by the system to every file, where it is used. */
const everywhere: ReadonlySet<string> = new Set(["security.selinux", "security.ima"]);

/**
 * Counts what is in a folder.
 *
 * @throws {AppjailError} `vault-failed` for what the target cannot hold
 */
export async function survey(top: Fd, options: SurveyOptions): Promise<Survey> {
  const { target = "plain", pace, counted = () => {} } = options;
  const capacity = capacities[target];
  const sparse: string[] = [];
  const total = {
    ...{ names: 0, folders: 0, bytes: 0, stored: 0 },
    ...{ sparse, withAttributes: 0, withOthers: 0 },
  };
  const linked = new Set<string>();
  const refused = (path: string, why: string): AppjailError =>
    new AppjailError(
      "vault-failed",
      `Cannot convert the home: ${printable(path.slice(-1000))}: ${why}; nothing was changed`,
    );

  const look = (folder: Fd, name: string, path: string, status: Status): void => {
    total.names++;
    total.stored += status.stored;
    if (status.immutable) {
      throw refused(path, "it is immutable, which cannot be carried along; try: chattr -i -a");
    }
    if (bytesOf(name).length > capacity.name) {
      throw refused(path, tooLong("its name", target, capacity.name));
    }
    if (status.kind === "link") {
      const leads = readLink(folder, name);
      if (leads === undefined) throw refused(path, "the link cannot be read");
      if (bytesOf(leads).length > capacity.link) {
        throw refused(path, tooLong("what the link says", target, capacity.link));
      }
    }
    if (status.kind === "file") {
      const again = status.links > 1 && linked.has(status.inode);
      if (status.links > 1) linked.add(status.inode);
      if (!again) total.bytes += status.size;
      if (status.size - status.stored >= block) sparse.push(path);
    }
    const attributes = attributesAt(folder, name);
    if (attributes.some(isCarried)) total.withAttributes++;
    if (attributes.some((one) => !isCarried(one) && !everywhere.has(one))) total.withOthers++;
  };

  const walk = async (folder: Fd, path: string, length: number): Promise<void> => {
    total.folders++;
    for (const name of namesIn(folder)) {
      await pace.step();
      counted(total.names, total.bytes);
      const status = statusAt(folder, name);
      const below = path === "" ? name : `${path}/${name}`;
      if (status === undefined) {
        throw refused(below, "it is gone; does a program still write there?");
      }
      const bytes = bytesOf(name).length;
      const longer = length + 1 + Math.max(bytes, capacity.stored(bytes));
      if (longer > pathMost) throw refused(below, tooLong("its path", target));
      look(folder, name, below, status);
      if (status.kind !== "folder") continue;
      using inside = enter(folder, name, below);
      await walk(inside, below, longer);
    }
  };

  const enter = (folder: Fd, name: string, path: string): Fd => {
    try {
      return openFolderBy(folder, name, "no mounts");
    } catch (error) {
      throw refused(
        path,
        isErrno(error, "EXDEV") ? "something is mounted there; unmount it first" : wordsOf(error),
      );
    }
  };

  total.stored += statusOf(top).stored;
  await walk(top, "", bytesOf(options.prefix ?? "").length);
  return total;
}

function tooLong(what: string, target: HomeKind, most?: number): string {
  const than = most === undefined ? "" : ` (of more than ${most} bytes)`;
  const other = target === "encfs" ? "; gocryptfs can hold longer ones" : "";
  return `${what} is too long${than} for ${target === "plain" ? "a plain home" : target}${other}`;
}
