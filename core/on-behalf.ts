/**
 * Doing something with files as a person would: with their ids, their groups and none of root's
 * rights, for one short piece of work.
 *
 * Run by the helper, which is root and has only one thread that does anything. The calls are about
 * that thread alone, credentials(7): by their numbers, since libc's would change them all. With a
 * uid for files that is not 0, the kernel takes the capabilities away that pass over permissions,
 * capabilities(7); and no uid by which signals or tracing are judged ever changes.
 *
 * @module
 */
import { arena, check, numberOf, syscall } from "../ipc/libc.ts";
import { ownPid, signalProcess } from "./kernel.ts";

const sys = {
  getgroups: numberOf(115, 158),
  setfsgid: numberOf(123, 152),
  setfsuid: numberOf(122, 151),
  setgroups: numberOf(116, 159),
} as const;

/** NGROUPS_MAX, linux/limits.h. */
const groupsMost = 65_536;

/** Who somebody is to the file systems. */
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
 * Does something as somebody else, and is root again afterwards, whatever happens.
 *
 * @param work must do nothing that goes on later, and only what reads or makes files
 * @throws {Error} when the ids cannot be taken; nothing was done then
 */
export function onBehalfOf<T>(person: Person, work: () => T): T {
  const own = groups();
  try {
    setGroups(person.groups);
    if (!setId(sys.setfsgid, person.gid) || !setId(sys.setfsuid, person.uid)) {
      throw new Error(`the ids of uid ${person.uid} cannot be taken`);
    }
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
  try {
    const ids = setId(sys.setfsuid, 0) && setId(sys.setfsgid, 0);
    setGroups(own);
    const now = groups();
    return ids && now.length === own.length && now.every((gid, at) => gid === own[at]);
  } catch {
    return false;
  }
}
