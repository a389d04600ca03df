/**
 * The end of a process that this one has started.
 *
 * @module
 */
import { poller } from "../ipc/poller.ts";
import { exitStatusOf } from "./exit.ts";
import { openPidfd, statusOfChild } from "./kernel.ts";
import type { ExitStatus } from "./protocol.ts";

/** Waits for it. Nobody else may wait for the same. */
export async function endOf(pid: number): Promise<ExitStatus> {
  using pidfd = openPidfd(pid);
  for (;;) {
    // A pidfd is readable when its process has ended. pidfd_open(2).
    if (pidfd !== undefined) await poller.readable(pidfd.number);
    const status = statusOfChild(pid);
    const ended = status === undefined ? undefined : exitStatusOf(status);
    if (ended !== undefined) return ended;
  }
}
