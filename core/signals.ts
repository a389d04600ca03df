/**
 * A client's own signals: which of them it was started with ignored, stopping as a shell's job does,
 * and ending as its program ended. Kept apart from core/kernel.ts, which a client does not load.
 *
 * @module
 */
import { Fd, readSome } from "../ipc/fd.ts";
import { arena, numberOf, O_CLOEXEC, O_NONBLOCK, syscall } from "../ipc/libc.ts";
import { poller } from "../ipc/poller.ts";
import { isIgnored } from "../ipc/signals.ts";
import { pause } from "./deadline.ts";
import { type SignalName, signalNumbers } from "./names.ts";

/** asm/unistd_64.h and asm-generic/unistd.h. */
const sys = {
  getpid: numberOf(39, 172),
  kill: numberOf(62, 129),
  prlimit64: numberOf(302, 261),
  rt_sigaction: numberOf(13, 134),
  rt_sigprocmask: numberOf(14, 135),
  signalfd4: numberOf(289, 74),
} as const;

/** struct sigaction of the kernel on 64 bits: handler, flags, restorer, mask. arm64 has no restorer. */
const actionSize = 32;
const maskSize = 8;

/** The kernel's action for a signal, as bytes to be set again. sigaction(2). */
function actionOf(signal: number): Uint8Array<ArrayBuffer> {
  arena.reset();
  const at = arena.take(actionSize);
  syscall(sys.rt_sigaction, signal, 0, arena.addressOf(at), maskSize);
  return arena.at(at, actionSize).slice();
}

function setAction(signal: number, action: Uint8Array): void {
  arena.reset();
  const at = arena.take(actionSize);
  arena.bytes.set(action, at);
  syscall(sys.rt_sigaction, signal, arena.addressOf(at), 0, maskSize);
}

/** What the kernel does by itself, SIG_DFL: an empty struct sigaction. */
const byDefault = new Uint8Array(actionSize);

/**
 * Calls back for a signal, unless whoever started this process wants it ignored, as nohup(1) does.
 * The returned function ends that.
 */
export function listen(signal: SignalName & Deno.Signal, callback: () => void): () => void {
  if (isIgnored(signalNumbers[signal])) return () => {};
  Deno.addSignalListener(signal, callback);
  return () => Deno.removeSignalListener(signal, callback);
}

const stopping = new Set<() => void>();
let stopped: Promise<boolean> | undefined;

/**
 * Has something done before this process stops as a job, whoever in it makes it stop. The returned
 * function ends that.
 */
export function beforeStop(callback: () => void): () => void {
  stopping.add(callback);
  return () => void stopping.delete(callback);
}

/**
 * Calls back for SIGUSR1, which the runtime must never see (see ipc/signals.ts): the launcher has it
 * blocked in all threads, where it waits until it is read. signalfd(2). Where it is not blocked, as
 * in a checkout, it is ignored.
 */
export async function listenBlocked(callback: () => void): Promise<void> {
  const signal = signalNumbers.SIGUSR1;
  const bit = 1n << BigInt(signal - 1);
  arena.reset();
  const mask = arena.take(maskSize);
  const place = arena.addressOf(mask);
  if (syscall(sys.rt_sigprocmask, 0, 0, place, maskSize) !== 0) return;
  if ((arena.view.getBigUint64(mask, true) & bit) === 0n) return;
  arena.view.setBigUint64(mask, bit, true);
  const number = syscall(sys.signalfd4, -1, place, maskSize, O_CLOEXEC | O_NONBLOCK);
  if (number < 0) return;
  using fd = new Fd(number);
  // struct signalfd_siginfo: of which nothing is of interest.
  const siginfo = new Uint8Array(128);
  for (;;) {
    await poller.readable(fd.number);
    if (readSome(fd.number, siginfo) === siginfo.length) callback();
  }
}

/** How long a stop takes at most to take effect; where it is ignored, we go on. */
const stopPatience = 200;

/**
 * Stops, as ^Z does it: the whole process group, or this process alone; until somebody continues it.
 * Where two parts of this process want it for one signal, it stops once.
 *
 * @returns false when the kernel has ignored it, as in an orphaned process group; setpgid(2)
 */
export function stopAsJob(group: boolean): Promise<boolean> {
  return stopped ??= stop(group).finally(() => stopped = undefined);
}

async function stop(group: boolean): Promise<boolean> {
  const { SIGTSTP } = signalNumbers;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const unlisten = listen("SIGCONT", () => resolve(true));
  for (const callback of stopping) callback();
  const caught = actionOf(SIGTSTP);
  setAction(SIGTSTP, byDefault);
  syscall(sys.kill, group ? 0 : syscall(sys.getpid), SIGTSTP);
  // Here nothing runs until we are continued.
  const continued = await Promise.race([promise, pause(stopPatience).then(() => false)]);
  unlisten();
  setAction(SIGTSTP, caught);
  return continued;
}

/**
 * Has the signals that this process ignores for its own sake do what they do by default, for the
 * program that it becomes: what is ignored stays so through execve(2).
 */
export function restoreSignals(): void {
  for (const name of ["SIGPIPE", "SIGUSR1"] as const) setAction(signalNumbers[name], byDefault);
}

/**
 * Ends by the signal that ended the program, so that the caller's shell sees what it would have seen
 * of the program itself. No core is written of this process. Returns when the signal does not end it.
 */
export function endBySignal(signal: number): void {
  const RLIMIT_CORE = 4, SIG_UNBLOCK = 1;
  arena.reset();
  const none = arena.addressOf(arena.take(16));
  syscall(sys.prlimit64, 0, RLIMIT_CORE, none, 0);
  setAction(signal, byDefault);
  arena.reset();
  const mask = arena.take(maskSize);
  arena.view.setBigUint64(mask, 1n << BigInt(signal - 1), true);
  syscall(sys.rt_sigprocmask, SIG_UNBLOCK, arena.addressOf(mask), 0, maskSize);
  syscall(sys.kill, syscall(sys.getpid), signal);
}
