/**
 * Removing a tree for good, as root, whatever an application has put into it.
 *
 * The tree lies where root alone can reach it, so that nobody moves anything while it is removed. No
 * link is followed and nothing that is mounted there is entered. The way up is by `..`, which is
 * checked, so that two descriptors are enough however deep the tree is: a program can make folders
 * far deeper than a path is long.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  namesIn,
  openFolder,
  openFolderBy,
  removeFile,
  removeFolder,
  statusAt,
  statusOf,
} from "./kernel.ts";
import { printable } from "./log.ts";
import type { Pace } from "./pace.ts";

/** A folder on the way down to where the removal is. */
interface Level {
  /** Its name in the one above. */
  readonly name: string;
  readonly inode: string;
  /** What is still in it. */
  readonly names: string[];
}

/**
 * Removes a name in a folder and all that is below it. What was removed stays so when it fails or is
 * stopped, and the next call goes on.
 *
 * @param removed called for each name that is gone
 */
export async function removeTree(
  parent: Fd,
  name: string,
  pace: Pace,
  removed: () => void = () => {},
): Promise<void> {
  const levels: Level[] = [];
  const path = (last: string): string =>
    printable([...levels.map((level) => level.name), last].join("/").slice(-1000));
  const enter = (from: Fd, name: string): Fd => {
    const folder = openFolderBy(from, name, "no mounts");
    levels.push({ name, inode: statusOf(folder).inode, names: [...namesIn(folder)] });
    return folder;
  };
  let here: Fd | undefined;
  let at = name;
  try {
    if (removeNode(parent, name)) return removed();
    here = enter(parent, name);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      await pace.step();
      const next = level.names.pop();
      at = next ?? level.name;
      if (next !== undefined) {
        if (removeNode(here, next)) removed();
        else {
          const below = enter(here, next);
          here.close();
          here = below;
        }
        continue;
      }
      levels.pop();
      const above = levels.at(-1);
      if (above === undefined) {
        removeFolder(parent, level.name);
        return removed();
      }
      const up = openFolder(here, "..");
      here.close();
      here = up;
      if (statusOf(here).inode !== above.inode) throw new Error("it is moved while it is removed");
      removeFolder(here, level.name);
      removed();
    }
  } catch (error) {
    if (error instanceof DOMException) throw error; // told to stop
    const why = isErrno(error, "EXDEV", "EBUSY")
      ? "something is mounted there; unmount it"
      : isErrno(error, "EPERM")
      ? "it may be immutable; try: chattr -R -i -a"
      : wordsOf(error);
    throw new AppjailError("vault-failed", `Cannot remove ${path(at)}: ${printable(why)}`, {
      cause: error,
    });
  } finally {
    here?.close();
  }
}

/**
 * Counts the names below a folder, and the bytes that they take on the disk. Nothing that is mounted
 * there is entered.
 *
 * @param counted called for each name, with the sums so far
 */
export async function measureTree(
  top: Fd,
  pace: Pace,
  counted: (files: number, bytes: number) => void = () => {},
): Promise<{ readonly files: number; readonly bytes: number }> {
  let [files, bytes] = [0, 0];
  const enter = (folder: Fd, name: string): Fd => openFolderBy(folder, name, "no mounts");
  const level = (name: string, folder: Fd): Level => (
    { name, inode: statusOf(folder).inode, names: [...namesIn(folder)] }
  );
  let here = enter(top, ".");
  try {
    const levels = [level("", here)];
    for (let last = levels.at(-1); last !== undefined; last = levels.at(-1)) {
      await pace.step();
      const name = last.names.pop();
      if (name === undefined) {
        levels.pop();
        const above = levels.at(-1);
        if (above === undefined) break;
        const up = openFolder(here, "..");
        here.close();
        here = up;
        if (statusOf(here).inode !== above.inode) {
          throw new Error("it is moved while it is measured");
        }
        continue;
      }
      const status = statusAt(here, name);
      if (status === undefined) continue;
      files++;
      // What has several names goes with the last of them.
      bytes += Math.floor(status.stored / (status.kind === "file" ? status.links : 1));
      counted(files, bytes);
      if (status.kind !== "folder") continue;
      let below: Fd;
      try {
        below = enter(here, name);
      } catch (error) {
        if (isErrno(error, "EXDEV")) continue;
        throw error;
      }
      here.close();
      here = below;
      levels.push(level(name, here));
    }
    return { files, bytes };
  } finally {
    here.close();
  }
}

/** Removes what is no folder, or is nothing at all; false for a folder. */
function removeNode(folder: Fd, name: string): boolean {
  try {
    removeFile(folder, name);
    return true;
  } catch (error) {
    if (isErrno(error, "EISDIR")) return false;
    throw error;
  }
}
