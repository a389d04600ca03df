/**
 * The helper's conversions: a plain home becomes a volume or the other way round, and a volume gets
 * another passphrase. What takes long is done by converters (cmd/converter.ts), one at a time for a
 * home; here is decided which home is which. While one is under way nothing else is done with the
 * home: no program runs in it, and none is started.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { Channel } from "../ipc/channel.ts";
import { type Fd, open } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { pair } from "../ipc/socket.ts";
import {
  begin,
  conversionOf,
  type ConversionWhat,
  finish,
  keepOld,
  lockConversion,
  type Places,
  removed,
  settle,
  startRemoval,
  switchOver,
  workName,
} from "../core/conversion.ts";
import { pause, within } from "../core/deadline.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { openRootFolder, prepareHome } from "../core/home.ts";
import {
  moveAway,
  movedIsGone,
  refuseForeign,
  remainsOf,
  removalName,
} from "../core/home-removal.ts";
import {
  makeFolder,
  namesIn,
  openFolder,
  openLock,
  openPidfd,
  removeFolder,
  signalPidfd,
  spawn,
  statusAt,
  unmount,
} from "../core/kernel.ts";
import { roleCommand, roleEnvironment } from "../core/launch.ts";
import type { Log } from "../core/log.ts";
import type { AppUid } from "../core/names.ts";
import { pidsOf } from "../core/process.ts";
import { programFolder } from "../core/program.ts";
import {
  type ConverterToHelper,
  type ConverterWords,
  fromConverter,
  type HelperToConverter,
  type Unfinished,
  type VolumeKind,
} from "../core/protocol.ts";
import { form } from "../core/version.ts";
import { keepConfig, volumeIn } from "../core/volume.ts";
import { hasWholeConfig } from "../core/volume-make.ts";
import type { Lent, Vaults } from "./helper-vaults.ts";

/** How long those of an earlier conversion have to be gone, and a converter whose work is not wanted. */
const leaveDeadline = 25_000;

export type Progress = Omit<
  Extract<ConverterToHelper, { readonly type: "progress" }>,
  "type"
>;
export type Copied = Omit<Extract<ConverterToHelper, { readonly type: "done" }>, "type">;

/** What the conversions need of the helper around them. */
export interface ConversionsOptions extends Places {
  readonly runtimePath: string;
  readonly dataPath: string;
  readonly vaults: Vaults;
  readonly log: Log;
  /** Whether a jail lives, or is being started. */
  readonly runs: (uid: AppUid) => boolean;
}

/** One piece of work on a home. */
interface Job {
  readonly id: number;
  readonly uid: AppUid;
  readonly stop: AbortController;
  readonly ended: PromiseWithResolvers<void>;
  readonly unasked: boolean;
  readonly tell: (progress: Progress) => void;
}

/** What a piece of work is asked for by, and whom it tells. */
export interface Order {
  readonly id: number;
  readonly uid: AppUid;
  readonly tell?: (progress: Progress) => void;
  /** The helper wants it of itself: it goes on when there is no dispatcher. */
  readonly unasked?: boolean;
}

/** Everything that is done with homes at rest. */
export class Conversions {
  readonly #options: ConversionsOptions;
  readonly #path: string;
  readonly #folder: Fd;
  readonly #jobs = new Map<AppUid, Job>();

  constructor(options: ConversionsOptions) {
    this.#options = options;
    this.#path = `${options.runtimePath}/convert`;
    this.#folder = openRootFolder(this.#path, 0o700);
    // Where encfs had mounted a new volume, when all were killed.
    for (const name of namesIn(this.#folder)) {
      try {
        unmount(`${this.#path}/${name}`);
        removeFolder(this.#folder, name);
      } catch (error) {
        options.log.info(`${this.#path}/${name} cannot be removed: ${wordsOf(error)}`);
      }
    }
  }

  /** Nothing else may be done with a home that is at work. */
  refuse(uid: AppUid): void {
    if (!this.#jobs.has(uid)) return;
    throw new AppjailError(
      "vault-failed",
      "Its home is being encrypted, decrypted, removed or given another passphrase; " +
        "wait until that has ended",
    );
  }

  /** A conversion whose copy is whole is brought to its end, before anything is done with the home. */
  settle(uid: AppUid): void {
    this.refuse(uid);
    finish(settle(this.#options, uid));
  }

  /** The same for all that an earlier daemon has left. */
  adopt(uids: readonly AppUid[]): void {
    for (const uid of uids) {
      try {
        this.settle(uid);
      } catch (error) {
        this.#options.log.info(wordsOf(error));
      }
    }
  }

  /** What is left of a conversion. */
  left(uid: AppUid): Unfinished | null {
    this.settle(uid);
    const known = conversionOf(this.#options, uid);
    if (known === undefined) return null;
    const { what, kind, phase } = known;
    if (phase === "verified") throw new Error("it was settled");
    return { what, kind, phase, made: what === "decrypt" || this.#isMade(uid, kind) };
  }

  #isMade(uid: AppUid, kind: VolumeKind): boolean {
    try {
      using work = openFolder(this.#options.dataRoot, workName(uid));
      using volume = openFolder(work, String(uid));
      return hasWholeConfig(volume, kind);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return false;
      throw error;
    }
  }

  /** Ends a piece of work that nobody waits for any more. */
  cancel(uid: AppUid, id: number): void {
    const job = this.#jobs.get(uid);
    if (job?.id === id) job.stop.abort();
  }

  /** Ends what was asked for by a dispatcher that is gone, and waits for that. */
  async abandon(): Promise<void> {
    await this.#cancel([...this.#jobs.values()].filter(({ unasked }) => !unasked));
  }

  async #cancel(jobs: readonly Job[]): Promise<void> {
    for (const { stop } of jobs) stop.abort();
    await within(
      Promise.all(jobs.map(({ ended }) => ended.promise)),
      leaveDeadline,
      () => new Error("a conversion does not end"),
    ).catch((error) => this.#options.log.info(wordsOf(error)));
  }

  async close(runtime: Fd): Promise<void> {
    await this.#cancel([...this.#jobs.values()]);
    this.#folder.close();
    try {
      removeFolder(runtime, "convert");
    } catch (error) {
      if (!isErrno(error, "ENOTEMPTY")) throw error;
    }
  }

  // --- The work --------------------------------------------------------------------------------

  /**
   * Copies a home into a new one of the other kind, and lets that take its place.
   *
   * @param pipes with a passphrase in each, which are closed here: for making the volume, and for
   * unlocking it
   */
  convert(
    order: Order,
    what: ConversionWhat,
    kind: VolumeKind,
    pipes: readonly Fd[],
  ): Promise<Copied> {
    return this.#alone(order, pipes, async (job, lock) => {
      const { uid } = order;
      const { dataRoot, state, dataPath, vaults } = this.#options;
      prepareHome(dataRoot, uid);
      const home = `${dataPath}/${uid}`;
      {
        using folder = openFolder(dataRoot, String(uid));
        const found = volumeIn(folder, home, state, uid);
        if (found !== (what === "encrypt" ? undefined : kind)) {
          throw new AppjailError("vault-failed", `The home is ${found ?? "not encrypted"}`);
        }
      }
      finish(begin(this.#options, uid, { what, kind }, Date.now()));
      const fresh = `${dataPath}/${workName(uid)}/${uid}`;
      const [first, second = first] = pipes;
      if (first === undefined || second === undefined) throw new Error("no pipe came along");
      if (first !== second) await this.#make(job, lock, kind, fresh, first);
      const volume = what === "encrypt" ? fresh : home;
      const lent = await vaults.lend(uid, kind, volume, second, () => this.#openLock(uid));
      let copied: Copied;
      try {
        copied = await this.#perform(job, lock, {
          what: "copy",
          ...what === "encrypt"
            ? { from: home, to: lent.path, target: kind }
            : { from: lent.path, to: fresh, target: "plain" as const },
          stored: fresh,
        }, { lent });
      } finally {
        const problem = await vaults.lock(uid);
        if (problem !== null) this.#options.log.info(`home ${uid}: ${problem}`);
      }
      // What was copied is written to the disk by somebody else: that may take long.
      await this.#synchronize(job, fresh);
      job.stop.signal.throwIfAborted();
      this.#refuseProcesses(uid);
      finish(switchOver(this.#options, uid));
      this.#options.log.info(`home ${uid}: ${what} has ended, the new one is in its place`);
      return copied;
    });
  }

  async #make(job: Job, lock: Fd, kind: VolumeKind, volume: string, pipe: Fd): Promise<void> {
    const name = String(job.uid);
    makeFolder(this.#folder, name, 0o700);
    try {
      const scratch = `${this.#path}/${name}`;
      await this.#perform(job, lock, { what: "make", kind, volume, scratch }, { input: pipe });
    } finally {
      unmount(`${this.#path}/${name}`);
      removeFolder(this.#folder, name);
    }
  }

  /**
   * What is left of a conversion goes: the old home, or a copy that is not whole.
   *
   * @param keep the old home stays, under another name
   * @returns that name
   */
  decide(order: Order, keep: boolean): Promise<string | null> {
    return this.#alone(order, [], async (job, lock) => {
      const { uid } = order;
      if (keep) {
        const name = finish(keepOld(this.#options, uid));
        return `${this.#options.dataPath}/${name}`;
      }
      finish(startRemoval(this.#options, uid));
      const folder = `${this.#options.dataPath}/${workName(uid)}`;
      let there = true;
      try {
        openFolder(this.#options.dataRoot, workName(uid)).close();
      } catch (error) {
        if (!isErrno(error, "ENOENT")) throw error;
        there = false;
      }
      if (there) await this.#perform(job, lock, { what: "remove", folder });
      job.stop.signal.throwIfAborted();
      finish(removed(this.#options, uid));
      return null;
    });
  }

  /** Gives a volume another passphrase. */
  changePassphrase(order: Order, pipe: Fd): Promise<void> {
    return this.#alone(order, [pipe], async (job, lock) => {
      const { uid } = order;
      const { dataRoot, dataPath, state } = this.#options;
      const volume = `${dataPath}/${uid}`;
      using home = openFolder(dataRoot, String(uid));
      const kind = volumeIn(home, volume, state, uid);
      if (kind === undefined) {
        throw new AppjailError("vault-failed", "The home is not encrypted");
      }
      await this.#perform(
        job,
        lock,
        { what: "passphrase", kind, volume, parent: dataPath, scratch: `.${uid}.passphrase` },
        { input: pipe },
      );
      keepConfig(home, state, uid, kind);
    });
  }

  /** What a home takes on the disk. */
  measure(order: Order): Promise<Copied> {
    return this.#alone(order, [], async (job, lock) => {
      const { dataRoot, dataPath } = this.#options;
      if (statusAt(dataRoot, String(order.uid)) === undefined) {
        return { files: 0, bytes: 0, notes: [] };
      }
      refuseForeign(dataRoot, order.uid);
      const folder = `${dataPath}/${order.uid}`;
      return await this.#perform(job, lock, { what: "measure", folder });
    });
  }

  /**
   * Removes a home. An interrupted removal is gone on with.
   *
   * @returns what there is of the uid all the same
   */
  async remove(order: Order): Promise<readonly string[]> {
    const { uid } = order;
    await this.discard(order);
    const runs = this.#options.runs(uid) || pidsOf(uid).length > 0;
    return [...remainsOf(this.#options.dataRoot, uid), ...runs ? ["programs that run"] : []];
  }

  /** Removes a home, whatever else there is of its uid. */
  async discard(order: Order): Promise<void> {
    const { uid } = order;
    await this.#alone(order, [], async (job, lock) => {
      const left = conversionOf(this.#options, uid);
      if (left !== undefined) {
        throw new AppjailError(
          "vault-failed",
          `It is not settled what becomes of the old home: appjail ${left.what}`,
        );
      }
      const folder = `${this.#options.dataPath}/${removalName(uid)}`;
      for (let moved = false; !moved;) {
        moved = moveAway(this.#options, uid);
        await this.#perform(job, lock, { what: "remove", folder });
      }
      job.stop.signal.throwIfAborted();
      movedIsGone(this.#options, uid);
    });
  }

  /** Does something while nothing else is done with the home. The pipes are closed in any case. */
  async #alone<T>(
    { id, uid, tell = () => {}, unasked = false }: Order,
    pipes: readonly Fd[],
    work: (job: Job, lock: Fd) => Promise<T>,
  ): Promise<T> {
    using held = new DisposableStack();
    for (const pipe of pipes) held.use(pipe);
    this.settle(uid);
    if (this.#options.runs(uid)) throw running();
    if (this.#options.vaults.has(uid)) {
      throw new AppjailError("vault-failed", "The home is unlocked; lock it first: appjail lock");
    }
    const ended = Promise.withResolvers<void>();
    const job: Job = { id, uid, stop: new AbortController(), ended, unasked, tell };
    this.#jobs.set(uid, job);
    try {
      this.#refuseProcesses(uid);
      using lock = await this.#lock(job);
      return await work(job, lock);
    } catch (error) {
      if (!job.stop.signal.aborted) throw error;
      throw new AppjailError("cancelled", "It was interrupted", { cause: error });
    } finally {
      this.#jobs.delete(uid);
      ended.resolve();
    }
  }

  #refuseProcesses(uid: AppUid): void {
    if (pidsOf(uid).length > 0) throw running();
  }

  /** The lock, once those who had a part in an earlier conversion are gone. */
  async #lock({ uid, stop }: Job): Promise<Fd> {
    const limit = performance.now() + leaveDeadline;
    for (;;) {
      stop.signal.throwIfAborted();
      const lock = lockConversion(this.#options, uid);
      if (lock !== undefined) return lock;
      if (performance.now() > limit) {
        throw new AppjailError(
          "vault-failed",
          "An earlier conversion of the home has not ended yet",
        );
      }
      await pause(20);
    }
  }

  /** The same file once more, for who waits until the lock is given up. */
  #openLock(uid: AppUid): Fd {
    using folder = openFolder(this.#options.state, "volumes");
    return openLock(folder, `${uid}.lock`);
  }

  /** Has a converter do something, to its end. */
  async #perform(
    job: Job,
    lock: Fd,
    work: ConverterWords["work"],
    { input, lent }: { readonly input?: Fd; readonly lent?: Lent } = {},
  ): Promise<Copied> {
    const { stop, tell, uid } = job;
    stop.signal.throwIfAborted();
    const command = roleCommand(
      programFolder(this.#options.runtimePath),
      form === "compiled",
      "converter",
      { log: this.#options.log.style, work },
    );
    const [ours, theirs] = pair();
    using channel = new Channel<ConverterToHelper, HelperToConverter>(ours, fromConverter);
    let pidfd: Fd | undefined;
    {
      using end = theirs;
      using nothing = open("/dev/null", 2);
      pidfd = openPidfd(spawn({
        path: command.path,
        argv: command.argv,
        env: roleEnvironment,
        descriptors: [(input ?? nothing).number, nothing.number, 2, end.number, lock.number],
        cwd: "/",
        session: true,
      }));
      input?.close();
    }
    // It ends when it is not listened to any more.
    const hangUp = (): void => channel.close();
    stop.signal.addEventListener("abort", hangUp);
    let lost = false;
    void lent?.lost.catch(() => {}).then(() => {
      lost = true;
      channel.close();
    });
    try {
      for (;;) {
        const incoming = await channel.receive();
        if (incoming === undefined) break;
        const { message } = incoming;
        switch (message.type) {
          case "progress": {
            const { type: _, ...progress } = message;
            tell(progress);
            break;
          }
          case "done": {
            const { type: _, ...done } = message;
            return done;
          }
          case "failed":
            throw new AppjailError(message.code, message.message);
          default:
            message satisfies never;
        }
      }
      if (lost) {
        throw new AppjailError("vault-failed", "The volume was locked before all was copied");
      }
      throw new AppjailError("vault-failed", "The converter has ended; try again");
    } finally {
      stop.signal.removeEventListener("abort", hangUp);
      channel.close();
      if (pidfd !== undefined) await this.#ended(uid, pidfd);
    }
  }

  /** Waits for the end of one of our own; what does not end is killed. */
  async #ended(uid: AppUid, pidfd: Fd): Promise<void> {
    const ended = poller.readable(pidfd.number).then(() => pidfd.close());
    await within(ended, leaveDeadline, () => new Error()).catch(() => {
      this.#options.log.info(`what works on home ${uid} does not end and is killed`);
      if (!pidfd.closed) signalPidfd(pidfd, 9);
      return ended;
    });
  }

  /** sync(1) of one file system. */
  async #synchronize({ uid, stop }: Job, folder: string): Promise<void> {
    stop.signal.throwIfAborted();
    using nothing = open("/dev/null", 2);
    const pidfd = openPidfd(spawn({
      path: "/usr/bin/sync",
      argv: ["sync", "--file-system", folder],
      env: roleEnvironment,
      descriptors: [nothing.number, nothing.number, nothing.number],
      cwd: "/",
      session: true,
    }));
    // A disk may be slow, and there is nothing to be gained by killing who waits for it.
    if (pidfd !== undefined) await poller.readable(pidfd.number).then(() => pidfd.close());
    this.#options.log.debug(`home ${uid} is on the disk`);
  }
}

function running(): AppjailError {
  return new AppjailError("vault-failed", "Programs run in it; stop it first: appjail stop");
}
