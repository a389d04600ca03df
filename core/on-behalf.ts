/**
 * Doing something as a person would: with their ids, their groups and none of root's rights, for one
 * short piece of work.
 *
 * Run by the helper, which is root and has only one thread that does anything. The calls are about
 * that thread alone, credentials(7): by their numbers, since libc's would change them all. With a
 * uid for files that is not 0, the kernel takes the capabilities away that pass over permissions,
 * capabilities(7); with an effective one, all of them. The real and the saved uid, by which it is
 * judged who may signal or trace a process, never change: kill(2), ptrace(2).
 *
 * @module
 */
import { arena, check, numberOf, syscall } from "../ipc/libc.ts";
import { effectiveUid, ownPid, signalProcess } from "./kernel.ts";

const sys = {
  getegid: numberOf(108, 177),
  getgroups: numberOf(115, 158),
  setfsgid: numberOf(123, 152),
  setfsuid: numberOf(122, 151),
  setgroups: numberOf(116, 159),
  setresgid: numberOf(119, 149),
  setresuid: numberOf(117, 147),
} as const;

/** NGROUPS_MAX, linux/limits.h. */
const groupsMost = 65_536;

/** Who somebody is. */
export interface Person {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/** The supplementary groups of this thread. getgroups(2). */
function groups(): readonly number[] {
  arena.reset();
  const list = arena.take(groupsMost * 4);
  const count = check(syscall(sys.getgroups, groupsMost, arena.addressOf(list)), "getgroups");
  return Array.from({ length: count }, (_, at) => arena.view.getUint32(list + at * 4, true));
}

function setGroups(wanted: readonly number[]): void {
  arena.reset();
  const list = arena.take(Math.max(1, wanted.length) * 4);
  wanted.forEach((gid, at) => arena.view.setUint32(list + at * 4, gid, true));
  check(syscall(sys.setgroups, wanted.length, arena.addressOf(list)), "setgroups");
}

/** Sets one of the ids for files; the call says nothing of a failure, so it is asked. setfsuid(2). */
function setId(call: number, id: number): boolean {
  const nobody = 0xffffffff; // which cannot be set: it only asks
  syscall(call, id);
  return syscall(call, nobody) >>> 0 === id;
}

/**
 * Does something with files as somebody else, and is root again afterwards, whatever happens.
 *
 * @param work must do nothing that goes on later, and only what reads or makes files
 * @throws {Error} when the ids cannot be taken; nothing was done then
 */
export function onBehalfOf<T>(person: Person, work: () => T): T {
  return as(
    person,
    () => setId(sys.setfsgid, person.gid) && setId(sys.setfsuid, person.uid),
    work,
  );
}

/**
 * Does something with a socket so that whoever is at its other end finds that person there and not
 * root: to connect, or to begin to listen. SO_PEERCRED, unix(7). The same holds for the work.
 */
export function knownAs<T>(person: Person, work: () => T): T {
  const same = -1;
  return as(
    person,
    () =>
      syscall(sys.setresgid, same, person.gid, same) === 0 &&
      syscall(sys.setresuid, same, person.uid, same) === 0,
    work,
  );
}

function as<T>(person: Person, become: () => boolean, work: () => T): T {
  const own = groups();
  try {
    setGroups(person.groups);
    if (!become()) throw new Error(`the ids of uid ${person.uid} cannot be taken`);
    return work();
  } finally {
    if (!backAsRoot(own)) {
      // A helper that acts as somebody else from here on is worse than none; the next one sweeps.
      const SIGKILL = 9;
      signalProcess(ownPid(), SIGKILL);
    }
  }
}

function backAsRoot(own: readonly number[]): boolean {
  const same = -1;
  try {
    // In this order: an effective uid takes the one for files with it, and only by itself does that
    // one give back the capabilities that it has taken. capabilities(7).
    const ids = setId(sys.setfsuid, 0) && setId(sys.setfsgid, 0) &&
      syscall(sys.setresuid, same, 0, same) === 0 && effectiveUid() === 0 &&
      syscall(sys.setresgid, same, 0, same) === 0 && syscall(sys.getegid) === 0;
    setGroups(own);
    const now = groups();
    return ids && now.length === own.length && now.every((gid, at) => gid === own[at]);
  } catch {
    return false;
  }
}
