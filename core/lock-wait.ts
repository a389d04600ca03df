/**
 * The wait for a lock that somebody else has: the kernel gives it up with the last descriptor of
 * whoever took it, whatever became of them. flock(2).
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { pause } from "./deadline.ts";
import { tryLock } from "./kernel.ts";

const { symbols } = Deno.dlopen("libc.so.6", {
  // May wait: the runtime has a thread for it, and no more than 32 (see ipc/poller.ts).
  flock: { parameters: ["i32", "i32"], result: "i32", nonblocking: true },
});

/** Resolves when nobody has the lock any more; then closes the descriptor, and so gives it up again. */
export async function untilUnlocked(lock: Fd): Promise<void> {
  const LOCK_EX = 2;
  using held = lock;
  while (await symbols.flock(held.number, LOCK_EX) !== 0) {
    // A signal has come in between: errno is lost, see ipc/libc.ts.
    if (tryLock(held)) return;
    await pause(20);
  }
}
