/**
 * Homes that are deleted when their jail has ended. What was promised when a jail was started is
 * written down, so that it is kept by whichever daemon is there when the jail is gone, after a crash of
 * the machine too; and no home is ever deleted that no jail was started with on these terms.
 *
 *     STATE/throwaway-<uid>    its home is to be deleted
 *
 * Part of the helper.
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { wordsOf } from "../core/errors.ts";
import { createFile, namesIn, removeFile, statusAt, synchronize } from "../core/kernel.ts";
import type { Log } from "../core/log.ts";
import { type AppUid, appUid, parse } from "../core/names.ts";
import type { Conversions } from "./helper-conversions.ts";

/** The promises of one daemon. */
export class Throwaways {
  readonly #state: Fd;
  readonly #conversions: Conversions;
  readonly #log: Log;

  constructor(state: Fd, conversions: Conversions, log: Log) {
    this.#state = state;
    this.#conversions = conversions;
    this.#log = log;
  }

  /**
   * Before a jail starts that is to be the end of its home.
   *
   * @returns whether that was not promised before
   */
  promise(uid: AppUid): boolean {
    try {
      createFile(this.#state, promiseOf(uid), 0o600).close();
    } catch (error) {
      if (isErrno(error, "EEXIST")) return false;
      throw error;
    }
    // A machine that loses its power soon has no jail, and had one.
    synchronize(this.#state);
    return true;
  }

  /** It is somebody else who deletes the home, or nobody has used it. */
  forget(uid: AppUid): void {
    removeFile(this.#state, promiseOf(uid));
  }

  /**
   * Deletes a home that is to be deleted, once nothing runs in it.
   *
   * @returns what is in the way
   */
  async keep(uid: AppUid): Promise<string | null> {
    if (statusAt(this.#state, promiseOf(uid)) === undefined) return null;
    try {
      await this.#conversions.discard({ id: 0, uid, unasked: true });
      this.forget(uid);
      this.#log.info(`home ${uid} is deleted with its jail`);
      return null;
    } catch (error) {
      return `the home is to be deleted and is not: ${wordsOf(error)}`;
    }
  }

  /** What an earlier daemon has promised, for jails that are gone. */
  async adopt(lives: (uid: AppUid) => boolean): Promise<void> {
    for (const name of namesIn(this.#state)) {
      const uid = parse(appUid, Number(/^throwaway-(\d+)$/.exec(name)?.[1]));
      if ("wrong" in uid || lives(uid.value)) continue;
      const problem = await this.keep(uid.value);
      if (problem !== null) this.#log.info(`uid ${uid.value}: ${problem}`);
    }
  }
}

function promiseOf(uid: AppUid): string {
  return `throwaway-${uid}`;
}
