/**
 * What the host keeps of a jail while it lives: `jails/<uid>/` below the runtime folder.
 *
 *     lock        held by the jail itself, dropped by the kernel when the jail is gone
 *     state       who it is: JSON, for people and for the next daemon
 *     lends       what it was lent: JSON, for the next daemon
 *     bus-log     a pipe: what it is refused on its owner's buses; see cmd/helper-buses.ts
 *     lend/       a mount of its own, in which what is lent is mounted; see core/lending.ts
 *     passwd …    what the jail sees in place of the host's files
 *
 * Run by the helper. Only root can write here; the app's uid can pass and read, so that its own
 * unprivileged bubblewrap can mount what is meant for it. What is read back is believed no more than
 * a stranger's word: core/process.ts verifies any pid.
 *
 * @module
 */
import * as v from "valibot";
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno, SystemError } from "../ipc/errno.ts";
import {
  changeMode,
  changeOwner,
  createFile,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  openLock,
  removeFile,
  removeFolder,
  rename,
  statusOf,
  tryLock,
} from "./kernel.ts";
import { type AppUid, appUid, ownerUid, profileName } from "./names.ts";
import { heldLimits, type Lent, lent } from "./protocol.ts";

const folderMode = 0o710;

/** What the `state` file says. */
export const jailRecord = v.strictObject({
  version: v.literal(1),
  uid: appUid,
  owner: ownerUid,
  profile: profileName,
  pid: v.pipe(v.number(), v.integer(), v.minValue(2), v.maxValue(0x7fffffff)),
  start_time: v.pipe(v.number(), v.integer(), v.minValue(0)),
  pid_namespace: v.pipe(v.number(), v.integer(), v.minValue(0)),
  /** Milliseconds since the epoch. */
  started: v.pipe(v.number(), v.integer(), v.minValue(0)),
  /** One that an earlier version has started does not say. */
  limits: v.optional(heldLimits),
});
export type JailRecord = v.InferOutput<typeof jailRecord>;

/** Makes the folder of a jail with the files it is to see, in place of any old one. */
export function makeJailFolder(
  jails: Fd,
  uid: AppUid,
  files: Readonly<Record<string, string>>,
): Fd {
  makeFolder(jails, String(uid), folderMode);
  const folder = openFolder(jails, String(uid));
  try {
    changeOwner(folder, 0, uid);
    changeMode(folder, folderMode);
    for (const [name, text] of Object.entries(files)) {
      removeFile(folder, name);
      using file = createFile(folder, name, 0o644);
      changeMode(file, 0o644);
      writeAll(file.number, new TextEncoder().encode(text));
    }
    return folder;
  } catch (error) {
    folder.close();
    throw error;
  }
}

/** Puts one more file into the folder of a jail, which only the jail may read. */
export function addJailFile(
  folder: Fd,
  uid: AppUid,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): void {
  removeFile(folder, name);
  using file = createFile(folder, name, 0o600);
  changeOwner(file, 0, uid);
  changeMode(file, 0o640);
  writeAll(file.number, bytes);
}

/**
 * Takes the lock of a jail; `undefined` when a live one has it, or when what stands there is no lock.
 * The descriptor is to be handed to the jail: the lock lasts for as long as anybody has it open.
 * flock(2).
 */
export function lockJail(folder: Fd): Fd | undefined {
  let lock: Fd;
  try {
    lock = openLock(folder, "lock");
  } catch (error) {
    if (isErrno(error, "ELOOP", "EISDIR", "ENXIO")) return undefined;
    throw error;
  }
  if (statusOf(lock).kind === "file" && tryLock(lock)) return lock;
  lock.close();
  return undefined;
}

/** Whether somebody has the lock of a jail: a process of it, or one that is about to become it. */
export function isLocked(jails: Fd, uid: AppUid): boolean {
  try {
    using folder = openFolder(jails, String(uid));
    using lock = openFile(folder, "lock");
    return statusOf(lock).kind === "file" && !tryLock(lock);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "ENXIO")) return false;
    throw error;
  }
}

/** Writes the `state` file, as a whole or not at all. */
export function writeRecord(folder: Fd, record: JailRecord): void {
  writeWhole(folder, "state", record, 0o644);
}

/** What is in the `lends` file: all that the jail has been lent. */
const lendsFile = v.strictObject({ version: v.literal(1), lends: v.array(lent) });

/** Writes the `lends` file, as a whole or not at all. */
export function writeLends(folder: Fd, lends: readonly Lent[]): void {
  // Paths of the owner's are nothing that the app needs to know.
  writeWhole(folder, "lends", { version: 1, lends }, 0o600);
}

/** What the `lends` file says; nothing, when it cannot be believed. */
export function readLends(folder: Fd): readonly Lent[] {
  try {
    using file = openFile(folder, "lends");
    const status = statusOf(file);
    if (status.kind !== "file" || status.uid !== 0 || status.links !== 1) return [];
    const text = new TextDecoder().decode(readAll(file.number, 4 * 1024 * 1024));
    const result = v.safeParse(lendsFile, JSON.parse(text), { abortEarly: true });
    return result.success ? result.output.lends : [];
  } catch (error) {
    if (error instanceof SystemError || error instanceof SyntaxError) return [];
    throw error;
  }
}

function writeWhole(folder: Fd, name: string, value: unknown, mode: number): void {
  const scratch = `.${name}.new`;
  removeFile(folder, scratch);
  {
    using file = createFile(folder, scratch, mode);
    changeMode(file, mode);
    writeAll(file.number, new TextEncoder().encode(JSON.stringify(value) + "\n"));
  }
  rename(folder, scratch, name);
}

/** What the `state` file says, or why nothing it says is of use. */
export function readRecord(folder: Fd, uid: AppUid): JailRecord | string {
  try {
    using file = openFile(folder, "state");
    const status = statusOf(file);
    if (status.kind !== "file" || status.uid !== 0 || status.links !== 1) {
      return "its state is not a file of root's";
    }
    const text = new TextDecoder().decode(readAll(file.number, 64 * 1024));
    const result = v.safeParse(jailRecord, JSON.parse(text), { abortEarly: true });
    if (!result.success) return `its state is not to be understood: ${result.issues[0].message}`;
    if (result.output.uid !== uid) return "its state is another jail's";
    return result.output;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "it has no state";
    return "its state cannot be read";
  }
}

/** Removes the folder of a jail that is gone. */
export function removeJailFolder(jails: Fd, uid: AppUid): void {
  try {
    using folder = openFolder(jails, String(uid));
    for (const name of namesIn(folder)) {
      try {
        removeFile(folder, name);
      } catch (error) {
        if (!isErrno(error, "EISDIR")) throw error;
        removeFolder(folder, name);
      }
    }
  } catch (error) {
    if (isErrno(error, "ENOENT")) return;
    if (!isErrno(error, "ENOTDIR", "ELOOP")) throw error;
    removeFile(jails, String(uid));
    return;
  }
  removeFolder(jails, String(uid));
}
