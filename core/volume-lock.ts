/**
 * Locking a volume that is mounted: the way from the kindest means to the last one, each with a
 * deadline. Run by the watchdog, and by the helper where a watchdog was killed.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { type Fd, open, writeAll } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { pause } from "./deadline.ts";
import { wordsOf } from "./errors.ts";
import { signalPidfd, unmount, unmountUnused } from "./kernel.ts";
import { mountAt } from "./volume.ts";

/** How long whoever still uses something of it is waited for before it is taken away, milliseconds. */
const busyPatience = 1_500;
/** encfs takes up to two seconds to leave after it was unmounted. */
const leavePatience = 5_000;
const termPatience = 1_000;
const killPatience = 2_000;

/** A mounted volume, and the process that serves it. */
export interface Mounted {
  /** Where it is mounted. */
  readonly target: string;
  /** A pidfd of the process; `undefined` when none is left. */
  readonly program: Fd | undefined;
}

/**
 * Unmounts the volume and ends its process: afterwards nothing of the plaintext can be reached, in
 * whatever mount namespace a copy of the mount may still be.
 *
 * @returns what could not be done in the kindest way; null when all was
 * @throws when the volume is mounted still
 */
export async function lockVolume({ target, program }: Mounted): Promise<string | null> {
  const device = mountAt(target)?.device;
  const ended = program === undefined ? Promise.resolve() : poller.readable(program.number);
  const leaves = (milliseconds: number): Promise<boolean> =>
    Promise.race([ended.then(() => true), pause(milliseconds).then(() => false)]);
  const trouble: string[] = [];

  const limit = performance.now() + busyPatience;
  for (let turn = 0, result = unmountUnused(target); result === "busy"; turn++) {
    if (performance.now() > limit) {
      trouble.push("somebody on this machine still used it");
      unmount(target);
      break;
    }
    await pause(Math.min(50, 2 ** turn));
    result = unmountUnused(target);
  }
  if (program !== undefined && !await leaves(leavePatience)) {
    // Another mount namespace may have a copy of the mount: its process would serve that for ever.
    signalPidfd(program, 15);
    trouble.push("its process had to be ended");
    if (!await leaves(termPatience)) {
      signalPidfd(program, 9);
      trouble[trouble.length - 1] = "its process had to be killed";
    }
  }
  // Nobody can reach what nobody serves; what waits for an answer is told that there is none.
  if (device !== undefined && trouble.length > 0) abortConnection(device);
  if (!await leaves(killPatience)) trouble.push("its process does not end");
  // One that was mounted over another, by whoever was asked twice.
  for (let left = mountAt(target), turn = 0; left !== undefined; left = mountAt(target), turn++) {
    if (turn > 8) throw new Error(`${target} is still mounted`);
    unmount(target);
  }
  return trouble.length === 0 ? null : trouble.join(", ");
}

/**
 * Ends a FUSE connection: whoever waits for an answer gets an error, and so does everybody from then
 * on, through any copy of the mount. Documentation/filesystems/fuse.rst, "Aborting a filesystem
 * connection".
 *
 * @param device of the mount, `major:minor`
 */
export function abortConnection(device: string): void {
  const minor = /^\d+:(\d+)$/.exec(device)?.[1];
  if (minor === undefined) return;
  try {
    using control = open(`/sys/fs/fuse/connections/${minor}/abort`, 1);
    writeAll(control.number, new TextEncoder().encode("1"));
  } catch (error) {
    // It is gone, or fusectl is not mounted here.
    if (!isErrno(error, "ENOENT")) throw new Error(`It cannot be cut off: ${wordsOf(error)}`);
  }
}
