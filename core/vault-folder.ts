/**
 * What the host keeps of a home while it is unlocked: `vault/<uid>/` below the runtime folder.
 *
 *     home           where the volume is mounted
 *     watchdog.sock  where its watchdog listens for a helper
 *     state          which processes hold it: JSON
 *
 * Only root can write here; the app's uid can pass, to its home. Run by the helper and the watchdog.
 *
 * @module
 */
import * as v from "valibot";
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import {
  changeMode,
  changeOwner,
  createFile,
  makeFolder,
  openFile,
  openFolder,
  removeFile,
  removeFolder,
  rename,
  statusOf,
} from "./kernel.ts";
import { type AppUid, appUid } from "./names.ts";
import { volumeKinds } from "./protocol.ts";

/** Its parts, below its folder. */
export const vaultParts = { home: "home", socket: "watchdog.sock", state: "state" } as const;

const process = v.strictObject({
  pid: v.pipe(v.number(), v.integer(), v.minValue(2), v.maxValue(0x7fffffff)),
  startTime: v.pipe(v.number(), v.integer(), v.minValue(0)),
  pidNamespace: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

/** What the `state` file says. */
export const vaultRecord = v.strictObject({
  version: v.literal(1),
  uid: appUid,
  kind: v.picklist(volumeKinds),
  watchdog: process,
  program: process,
});
export type VaultRecord = v.InferOutput<typeof vaultRecord>;

/** Makes the folder of a home that is about to be unlocked. */
export function makeVaultFolder(vaults: Fd, uid: AppUid): Fd {
  makeFolder(vaults, String(uid), 0o710);
  const folder = openFolder(vaults, String(uid));
  try {
    changeOwner(folder, 0, uid);
    changeMode(folder, 0o710);
    // Covered by the mount; until then there is nothing in it for anybody.
    makeFolder(folder, vaultParts.home, 0o700);
    return folder;
  } catch (error) {
    folder.close();
    throw error;
  }
}

export function writeVaultRecord(folder: Fd, record: VaultRecord): void {
  const scratch = ".state.new";
  removeFile(folder, scratch);
  {
    using file = createFile(folder, scratch, 0o600);
    writeAll(file.number, new TextEncoder().encode(JSON.stringify(record) + "\n"));
  }
  rename(folder, scratch, vaultParts.state);
}

/** What the `state` file says; `undefined` when nothing it says is of use. */
export function readVaultRecord(folder: Fd, uid: AppUid): VaultRecord | undefined {
  try {
    using file = openFile(folder, vaultParts.state);
    const status = statusOf(file);
    if (status.kind !== "file" || status.uid !== 0 || status.links !== 1) return undefined;
    const text = new TextDecoder().decode(readAll(file.number, 64 * 1024));
    const result = v.safeParse(vaultRecord, JSON.parse(text));
    return result.success && result.output.uid === uid ? result.output : undefined;
  } catch {
    return undefined;
  }
}

/** Removes the folder of a home that is locked. What is mounted in it makes it fail. */
export function removeVaultFolder(vaults: Fd, uid: AppUid): void {
  try {
    using folder = openFolder(vaults, String(uid));
    for (const name of [vaultParts.socket, vaultParts.state, ".state.new"]) {
      removeFile(folder, name);
    }
    removeFolder(folder, vaultParts.home);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return;
    throw error;
  }
  removeFolder(vaults, String(uid));
}
