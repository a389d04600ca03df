/**
 * Which process a pid means. A number alone is never trusted: pids are given again, and a state file
 * may hold anything.
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { namesIn, openFolder, openPidfd, readLink, readText } from "./kernel.ts";

/** What tells one life of a pid from another. proc(5), namespaces(7). */
export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly startTime: number;
  /** The inode of its pid namespace. */
  readonly pidNamespace: number;
}

/** A line of /proc/PID/stat, the parts that are used. */
export interface ProcessStat {
  readonly state: string;
  readonly parent: number;
  readonly startTime: number;
}

/** The fields from the third on: the second, a name, may hold anything. proc_pid_stat(5). */
function fieldsOf(stat: string): readonly string[] {
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Parses /proc/PID/stat, whose second field may hold anything, brackets and newlines too. */
export function parseStat(text: string): ProcessStat | undefined {
  const fields = fieldsOf(text);
  const [state, parent, startTime] = [fields[0], Number(fields[1]), Number(fields[19])];
  if (state === undefined || !Number.isInteger(parent) || !Number.isInteger(startTime)) {
    return undefined;
  }
  return { state, parent, startTime };
}

/** The real uid of /proc/PID/status: its owner would be root for a process that forbids a look. */
export function realUid(pid: number | "self"): number | undefined {
  const line = /^Uid:\t(\d+)/m.exec(readText(`/proc/${pid}/status`) ?? "");
  return line === null ? undefined : Number(line[1]);
}

/** Who a pid is now; `undefined` when there is no such process, or it is only a zombie. */
export function identify(pid: number | "self"): ProcessIdentity | undefined {
  const text = readText(`/proc/${pid}/stat`);
  const stat = text === undefined ? undefined : parseStat(text);
  const namespace = /^pid:\[(\d+)\]$/.exec(readLink("root", `/proc/${pid}/ns/pid`) ?? "");
  if (text === undefined || stat === undefined || stat.state === "Z" || namespace === null) {
    return undefined;
  }
  return {
    pid: Number.parseInt(text, 10),
    startTime: stat.startTime,
    pidNamespace: Number(namespace[1]),
  };
}

/**
 * A pidfd of the process that `wanted` describes and that runs as `uid`, or `undefined`. The pidfd
 * comes first: what is read of /proc afterwards is of the process it means, or of none.
 *
 * @param inside whether it has to be in a pid namespace other than ours, as what a jail consists of
 */
export function openProcess(wanted: ProcessIdentity, uid: number, inside = true): Fd | undefined {
  if (!Number.isInteger(wanted.pid) || wanted.pid < 2) return undefined;
  const pidfd = openPidfd(wanted.pid);
  if (pidfd === undefined) return undefined;
  const found = identify(wanted.pid);
  if (
    found !== undefined && found.startTime === wanted.startTime &&
    found.pidNamespace === wanted.pidNamespace && realUid(wanted.pid) === uid &&
    (found.pidNamespace !== identify("self")?.pidNamespace) === inside
  ) return pidfd;
  pidfd.close();
  return undefined;
}

/** Every pid that can be seen. */
export function allPids(): readonly number[] {
  using proc = openFolder("root", "/proc");
  return namesIn(proc).filter((name) => /^[1-9][0-9]*$/.test(name)).map(Number);
}

/** The pids that run as `uid`, zombies left out. */
export function pidsOf(uid: number): readonly number[] {
  return allPids().filter((pid) => realUid(pid) === uid && identify(pid) !== undefined);
}

/**
 * A process's memory in bytes: its proportional share (PSS) where that may be read, else what is
 * resident and its own. proc(5).
 */
export function memoryOf(pid: number): number {
  const share = /^Pss:\s+(\d+) kB/m.exec(readText(`/proc/${pid}/smaps_rollup`) ?? "");
  if (share !== null) return Number(share[1]) * 1024;
  const [, resident = 0, shared = 0] = (readText(`/proc/${pid}/statm`) ?? "").split(" ").map(
    Number,
  );
  return (resident - shared) * 4096;
}

/** How often the kernel counts in a second, as programs are told of it: USER_HZ. time(7). */
const ticks = 100;

/**
 * How long a process has kept a processor busy, in milliseconds, with those of its children that have
 * ended and were waited for. proc_pid_stat(5).
 */
export function cpuOf(pid: number): number {
  const text = readText(`/proc/${pid}/stat`) ?? "";
  // utime, stime, cutime, cstime: fields 14 to 17.
  const times = fieldsOf(text).slice(11, 15).map(Number);
  return times.reduce((sum, one) => sum + (one || 0), 0) * (1000 / ticks);
}

/** The pid of a process's parent; `undefined` when it is gone. */
export function parentOf(pid: number): number | undefined {
  const text = readText(`/proc/${pid}/stat`);
  return text === undefined ? undefined : parseStat(text)?.parent;
}
