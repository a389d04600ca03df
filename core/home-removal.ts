/**
 * Removing a home for good: it is moved to where root alone can reach it, and what was moved there is
 * removed, however often that is interrupted. Its uid may be given again when nothing is left.
 *
 *     DATA/<uid>                     the home
 *     DATA/.<uid>.removal/<uid>      what is to be removed, in a folder that is root's alone
 *
 * Run by the helper. Removing takes long and is done elsewhere: cmd/converter.ts.
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import type { Places } from "./conversion.ts";
import { AppjailError } from "./errors.ts";
import {
  makeFolder,
  moveNew,
  namesIn,
  openFolder,
  readLink,
  readText,
  removeFile,
  removeFolder,
  statusAt,
  statusOf,
  synchronize,
} from "./kernel.ts";
import type { AppUid } from "./names.ts";
import { forgetConfig, mountPoints } from "./volume.ts";

/** The folder in the data root in which is what is to be removed. */
export function removalName(uid: AppUid): string {
  return `.${uid}.removal`;
}

function failed(uid: AppUid, why: string): AppjailError {
  return new AppjailError("home-refused", `Cannot remove the home of uid ${uid}: ${why}`);
}

/** What stands in a home's place and is none is left alone, whatever it is. */
export function refuseForeign(dataRoot: Fd, uid: AppUid): void {
  const home = statusAt(dataRoot, String(uid));
  if (home === undefined || (home.kind === "folder" && home.uid === uid)) return;
  throw failed(uid, `${uid} in the data root is no folder of its own`);
}

/**
 * Moves a home to where it is to be removed.
 *
 * @returns false when there is something already, which has to be removed first
 */
export function moveAway({ dataRoot }: Pick<Places, "dataRoot">, uid: AppUid): boolean {
  makeFolder(dataRoot, removalName(uid), 0o700);
  using folder = openFolder(dataRoot, removalName(uid));
  const { uid: owner, mode } = statusOf(folder);
  if (owner !== 0 || (mode & 0o077) !== 0) {
    throw failed(uid, `${removalName(uid)} in the data root is not root's alone`);
  }
  if (statusAt(dataRoot, String(uid)) === undefined) return true;
  refuseForeign(dataRoot, uid);
  const path = `${readLink("root", `/proc/self/fd/${dataRoot.number}`) ?? ""}/${uid}`;
  const mounted = mountPoints(readText("/proc/self/mountinfo", 16 * 1024 * 1024))
    .find((point) => point === path || point.startsWith(`${path}/`));
  if (mounted !== undefined) throw failed(uid, `${mounted} is a mount; unmount it first`);
  if (!moveNew(String(uid), dataRoot, folder)) return false;
  synchronize(folder);
  synchronize(dataRoot);
  return true;
}

/** All that was moved away is removed: what is known of the home goes, too. */
export function movedIsGone({ dataRoot, state }: Places, uid: AppUid): void {
  removeFolder(dataRoot, removalName(uid));
  synchronize(dataRoot);
  forgetConfig(state, uid);
  try {
    using volumes = openFolder(state, "volumes");
    removeFile(volumes, `${uid}.lock`);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

/** What there is of a uid's in the data root: its home, old ones that were kept, unfinished work. */
export function remainsOf(dataRoot: Fd, uid: number): readonly string[] {
  const kept = new RegExp(`^${uid}(?:\\.(?:plain|volume)(?:\\.\\d+)?)?$`);
  return namesIn(dataRoot).filter((name) =>
    kept.test(name) || [`.${uid}.removal`, `.${uid}.conversion`, `.${uid}.new`].includes(name)
  );
}
