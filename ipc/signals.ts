/**
 * Signals that this program does not want, whatever the runtime makes of them.
 *
 * @module
 */
import { arena, check, numberOf, syscall } from "./libc.ts";

const rt_sigaction = numberOf(13, 134);

/** signal.h; the numbers are equal on x86-64 and arm64. */
const numbers = { SIGHUP: 1, SIGINT: 2, SIGUSR1: 10 } as const;
const [SIGBUS, SIGSEGV] = [7, 11];
const [SIG_DFL, SIG_IGN] = [0n, 1n];

/**
 * The signals that were ignored when this process began, as nohup(1) has it. They are asked for when
 * this module is loaded, which is first of all: the runtime puts handlers of its own in their place
 * as soon as it is asked for any.
 */
const ignoredAtStart: ReadonlySet<number> = new Set(
  [1, 2, 3, 12, 15, 18, 20, 28].filter((signal) => {
    arena.reset();
    const action = arena.take(32);
    syscall(rt_sigaction, signal, 0, arena.addressOf(action), 8);
    return arena.view.getBigUint64(action, true) === SIG_IGN;
  }),
);

/** Whether whoever started this process wants the signal ignored, as nohup(1) does. */
export function isIgnored(signal: number): boolean {
  return ignoredAtStart.has(signal);
}

/** sigaction(2), without flags and mask. */
function handle(signal: number, handler: bigint): void {
  arena.reset();
  const action = arena.take(32);
  arena.view.setBigUint64(action, handler, true);
  check(syscall(rt_sigaction, signal, arena.addressOf(action), 0, 8), "sigaction");
}

/** Ignores a signal for good. What is started gets the default back: see spawn. */
export function ignore(signal: keyof typeof numbers): void {
  const nothing = (): void => {};
  // The runtime installs a handler for a signal once, whoever in it asks, and whenever: so it is
  // made to do that first.
  Deno.addSignalListener(signal, nothing);
  handle(numbers[signal], SIG_IGN);
  Deno.removeSignalListener(signal, nothing);
  // With its first listener it takes HUP, INT and TERM over, ignored or not, to end in order by them.
  for (const other of ignoredAtStart) handle(other, SIG_IGN);
}

/**
 * Keeps the debugger out. Half a second after its start, Deno begins to take SIGUSR1 as a wish for
 * one: it then listens on 127.0.0.1:9229, without any permission or password, and whoever can reach
 * that port runs what they like in this process. A jailer could be told so by any program of its
 * uid, and reached by every user of the machine.
 */
export function forbidDebugger(): void {
  ignore("SIGUSR1");
}

/**
 * For pid 1 of a namespace: faults that are only told by kill(2) are passed over by the kernel, and
 * real ones end it. The runtime's handlers, which would explain a stack overflow, share a small stack
 * of their own, and a few signals at a time run it over.
 */
export function leaveFaultsToKernel(): void {
  for (const signal of [SIGBUS, SIGSEGV]) handle(signal, SIG_DFL);
}
