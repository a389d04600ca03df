/**
 * Device files that a jail may use: which groups open them for it. A device belongs to root and to a
 * group, as /dev/dri/renderD128 does to `render`; a jail's uid is in none. Run by the helper.
 *
 * A group is given for a device that the jail sees and its owner may open, and for no other: nobody
 * gets by a profile what they have not. access(2), capabilities(7). And only for one that root has put
 * there: in /dev/shm anybody can mount a file system of their own, FUSE, which says of its files
 * whatever they like, `root`, `disk` and that everybody may open them.
 *
 * @module
 */
import { arena, numberOf, path, syscall } from "../ipc/libc.ts";
import { isErrno } from "../ipc/errno.ts";
import { namesIn, openFolder, statusAt } from "./kernel.ts";
import { onBehalfOf, type Person } from "./on-behalf.ts";

const sys = { faccessat2: numberOf(439, 439) } as const;
const AT_FDCWD = -100;
/** fcntl.h, unistd.h; the same on x86-64 and arm64. */
const AT_EACCESS = 0x200;
const [R_OK, W_OK] = [4, 2];
const S_IFCHR = 0o020000;

/** The device files at a path, or in the folder that it is. */
function filesAt(device: string): readonly string[] {
  const found = statusAt("root", device);
  if (found?.kind !== "folder") return found === undefined ? [] : [device];
  try {
    using folder = openFolder("root", device);
    return namesIn(folder).map((name) => `${device}/${name}`);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

/** Whether the ids for files of this moment may read and write it. */
function mayOpen(file: string): boolean {
  const at = path(file);
  return syscall(sys.faccessat2, AT_FDCWD, at, R_OK | W_OK, AT_EACCESS) === 0;
}

/** Whether nobody but root can have put something there: each folder on the way is root's alone. */
function isRoots(path: string): boolean {
  const parts = path.split("/").slice(1, -1);
  // From the top: nothing is asked of a folder that is somebody else's.
  return parts.every((_, at) => {
    const folder = statusAt("root", `/${parts.slice(0, at + 1).join("/")}`);
    return folder?.kind === "folder" && folder.uid === 0 && (folder.mode & 0o022) === 0;
  });
}

/** The groups that a jail has to have, beside none, to use these devices as its owner may. */
export function groupsFor(devices: readonly string[], owner: Person): readonly number[] {
  // Root may open all that there is; that is no measure.
  if (owner.uid === 0) return [];
  const groups = new Set<number>();
  for (const file of devices.filter(isRoots).flatMap(filesAt).filter(isRoots)) {
    const found = statusAt("root", file);
    if (found === undefined || found.type !== S_IFCHR || found.gid === 0) continue;
    if ((found.mode & 0o060) !== 0o060) continue;
    if (onBehalfOf(owner, () => mayOpen(file))) groups.add(found.gid);
  }
  arena.reset();
  return [...groups].sort((a, b) => a - b);
}
