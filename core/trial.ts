/**
 * Running a program to see whether it can be run, and what it says then.
 *
 * @module
 */
import { SystemError } from "../ipc/errno.ts";
import { type Fd, open, pipe } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { within } from "./deadline.ts";
import { exitStatusOf, shellStatus } from "./exit.ts";
import { openPidfd, signalPidfd, spawn, statusOfChild } from "./kernel.ts";
import { roleEnvironment } from "./launch.ts";
import { textThrough } from "./pipe-text.ts";

/** How long it may take: nothing that is tried takes half a second. */
const deadline = 10_000;
/** How much of what it says is kept, in characters. */
const most = 16 * 1024;

/** How it went. */
export interface Trial {
  /** As a shell has it in `$?`: 127 where there is no such program. */
  readonly status: number;
  readonly said: string;
  /** What it said on standard error. */
  readonly complaint: string;
}

/**
 * Runs it to its end.
 *
 * @param more descriptors that it has from 3 on
 */
export async function tryOut(
  argv: readonly string[],
  more: readonly number[] = [],
): Promise<Trial> {
  const [path = ""] = argv;
  const out = pipe({ nonblocking: true });
  const err = pipe({ nonblocking: true });
  using outRead = out.read;
  using errRead = err.read;
  let pid: number;
  {
    using outWrite = out.write;
    using errWrite = err.write;
    using nothing = open("/dev/null", 2);
    try {
      pid = spawn({
        path,
        argv,
        env: roleEnvironment,
        descriptors: [nothing.number, outWrite.number, errWrite.number, ...more],
        cwd: "/",
        session: true,
      });
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return { status: 127, said: "", complaint: error.message };
    }
  }
  using pidfd = openPidfd(pid);
  const all = Promise.all([
    textThrough(outRead, most),
    textThrough(errRead, most),
    endOf(pid, pidfd),
  ]);
  try {
    const [said, complaint, status] = await within(all, deadline, () => new Error("late"));
    return { status, said, complaint };
  } catch {
    if (pidfd !== undefined) signalPidfd(pidfd, 9);
    await endOf(pid, pidfd);
    return { status: 137, said: "", complaint: `it did not end in ${deadline / 1000} seconds` };
  }
}

/** The first line of what it complained of, or its status in words. */
export function troubleOf({ status, complaint }: Trial): string {
  const [first = ""] = complaint.trim().split("\n");
  return first === "" ? `it ended with status ${status}` : first;
}

async function endOf(pid: number, pidfd: Fd | undefined): Promise<number> {
  for (;;) {
    // A pidfd is readable when its process has ended. pidfd_open(2).
    if (pidfd !== undefined) await poller.readable(pidfd.number);
    const status = statusOfChild(pid);
    const ended = status === undefined ? undefined : exitStatusOf(status);
    if (ended !== undefined) return shellStatus(ended);
  }
}
