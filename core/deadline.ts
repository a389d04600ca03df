/**
 * An end to every wait.
 *
 * @module
 */
import { poller } from "../ipc/poller.ts";

/** Settles as `promise` does, or rejects with `error()` after so many milliseconds. */
export async function within<T>(
  promise: Promise<T>,
  milliseconds: number,
  error: () => Error,
): Promise<T> {
  let cancel = (): void => {};
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        cancel = after(milliseconds, () => reject(error()));
      }),
    ]);
  } finally {
    cancel();
  }
}

/** Resolves after so many milliseconds; at 0, when what is ready now has had its turn. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => void after(milliseconds, resolve));
}

/** Calls back after so many milliseconds. The returned function cancels that. */
export function after(milliseconds: number, callback: () => void): () => void {
  return poller.after(milliseconds, callback);
}
