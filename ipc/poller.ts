/**
 * One waiting poll(2) for everything a process waits for, time included.
 *
 * At most 32 non-blocking foreign calls wait at a time in Deno and the next one waits behind them
 * for ever, so there is never one waiting call for each descriptor. The single poll covers all of
 * them, plus an eventfd by which a new wait interrupts it.
 *
 * The runtime's own setTimeout and clearTimeout are not used: the first call of either loads a part of
 * Node, which takes as long as all else that a client does until its program runs.
 *
 * @module
 */
import { SystemError } from "./errno.ts";
import {
  arena,
  check,
  EINTR,
  errno,
  O_CLOEXEC,
  O_NONBLOCK,
  poll,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  sys,
  syscall,
} from "./libc.ts";

interface Wait {
  readonly fd: number;
  readonly events: number;
  readonly resolve: (revents: number) => void;
}

interface Alarm {
  /** By performance.now(). */
  readonly at: number;
  readonly ring: () => void;
}

/** poll(2) takes no more milliseconds at a time. */
const longest = 0x7fffffff;

/**
 * How many turns of the microtask queue are waited for before the next poll. What an event leads to
 * passes through a few promises until it waits again; a wait that comes when the poll waits already
 * costs a second one.
 */
const settling = 8;

/** How long a wait may be that keeps everything else from happening, in nanoseconds. */
const moment = 1_000_000;

/** Waits for descriptors, and for a time. A process has one, {@linkcode poller}. */
export class Poller {
  readonly #wake = check(syscall(sys.eventfd2, 0, O_CLOEXEC | O_NONBLOCK), "eventfd");
  readonly #waits = new Set<Wait>();
  readonly #alarms = new Set<Alarm>();
  #running = false;
  /** Until when the call that waits now waits; `undefined` while there is none. */
  #until: number | undefined;
  #woken = false;

  /**
   * Resolves with poll(2)'s `revents` once `fd` is ready for one of `events`, or with `POLLNVAL`
   * when {@linkcode forget} is called for it.
   */
  wait(fd: number, events: number): Promise<number> {
    return new Promise((resolve) => {
      this.#waits.add({ fd, events, resolve });
      this.#kick();
    });
  }

  readable(fd: number): Promise<number> {
    return this.wait(fd, POLLIN);
  }

  writable(fd: number): Promise<number> {
    return this.wait(fd, POLLOUT);
  }

  /**
   * Calls back after so many milliseconds, and at 0 when what is ready now has had its turn. The
   * returned function cancels that.
   */
  after(milliseconds: number, ring: () => void): () => void {
    const alarm = { at: performance.now() + milliseconds, ring };
    this.#alarms.add(alarm);
    if (this.#until === undefined || alarm.at < this.#until) this.#kick();
    return () => {
      // A call that waits for nothing any more would keep the process.
      if (this.#alarms.delete(alarm) && this.#idle) this.#kick();
    };
  }

  get #idle(): boolean {
    return this.#waits.size === 0 && this.#alarms.size === 0;
  }

  /** Ends every wait for `fd`. To be called before it is closed: its number may be given again. */
  forget(fd: number): void {
    for (const wait of this.#waits) {
      if (wait.fd !== fd) continue;
      this.#waits.delete(wait);
      wait.resolve(POLLNVAL);
      this.#kick();
    }
  }

  #kick(): void {
    if (!this.#running) {
      this.#running = true;
      void this.#run();
    } else if (this.#until !== undefined && !this.#woken) {
      this.#woken = true;
      this.#signal();
    }
  }

  #signal(): void {
    arena.reset();
    const amount = arena.take(8);
    arena.view.setBigUint64(amount, 1n, true);
    syscall(sys.write, this.#wake, arena.addressOf(amount), 8);
  }

  #drain(): void {
    arena.reset();
    syscall(sys.read, this.#wake, arena.addressOf(arena.take(8)), 8);
  }

  /**
   * Waits for `fd` here and now, for a moment, unless something else that is awaited is ready. Where
   * bytes flow, the next ones are there before a call that may wait has even begun; but nothing else
   * happens in this process meanwhile, so somebody who does this again and again has to wait properly
   * in between.
   *
   * @returns whether it is ready; if not, it has to be waited for
   */
  briefly(fd: number, events: number): boolean {
    arena.reset();
    const others = [...this.#waits];
    const [set, timeout] = [arena.take((others.length + 1) * 8), arena.take(16)];
    const { view } = arena;
    view.setInt32(set, fd, true);
    view.setInt16(set + 4, events, true);
    others.forEach((wait, index) => {
      view.setInt32(set + (index + 1) * 8, wait.fd, true);
      view.setInt16(set + (index + 1) * 8 + 4, wait.events, true);
    });
    view.setUint32(timeout + 8, moment, true);
    const [at, time] = [arena.addressOf(set), arena.addressOf(timeout)];
    const ready = syscall(sys.ppoll, at, others.length + 1, time, 0);
    return ready === 1 && view.getInt16(set + 6, true) !== 0;
  }

  /**
   * errno of a call that may wait is lost: the same once more, without waiting, tells it. A signal
   * is no matter; whatever else it is would go on for ever, and the process has to end.
   */
  #retry(set: Uint8Array): void {
    arena.reset();
    const [copy, now] = [arena.take(set.length), arena.take(16)];
    arena.bytes.set(set, copy);
    const [at, timeout] = [arena.addressOf(copy), arena.addressOf(now)];
    if (syscall(sys.ppoll, at, set.length / 8, timeout, 0) >= 0) return;
    const code = errno();
    if (code !== EINTR) throw new SystemError("poll", code);
  }

  /** Calls back whose time has come, the earliest first. */
  #ring(): void {
    if (this.#alarms.size === 0) return;
    const now = performance.now();
    const due = [...this.#alarms].filter(({ at }) => at <= now).sort((a, b) => a.at - b.at);
    // One may cancel another.
    for (const alarm of due) if (this.#alarms.delete(alarm)) alarm.ring();
  }

  async #run(): Promise<void> {
    for (;;) {
      // Waits that are made together are polled together; and what was just resolved runs before the
      // next poll, and so is part of it.
      for (let turn = 0; turn < settling; turn++) await undefined;
      if (this.#idle) break;
      const waits = [...this.#waits];
      const set = new DataView(new ArrayBuffer((waits.length + 1) * 8));
      set.setInt32(0, this.#wake, true);
      set.setInt16(4, POLLIN, true);
      waits.forEach((wait, index) => {
        set.setInt32((index + 1) * 8, wait.fd, true);
        set.setInt16((index + 1) * 8 + 4, wait.events, true);
      });
      let until = Infinity;
      for (const { at } of this.#alarms) until = Math.min(until, at);
      // Rounded up: nothing is called back before its time.
      const rest = Math.max(0, Math.ceil(until - performance.now()));
      this.#until = until;
      // `set` is referenced below, so the buffer outlives the call that writes to it.
      const ready = await poll(
        new Uint8Array(set.buffer),
        BigInt(waits.length + 1),
        until === Infinity ? -1 : Math.min(rest, longest),
      );
      this.#until = undefined;
      if (ready < 0) this.#retry(new Uint8Array(set.buffer));
      if (set.getInt16(6, true) !== 0) this.#drain();
      this.#woken = false;
      waits.forEach((wait, index) => {
        const revents = set.getInt16((index + 1) * 8 + 6, true);
        if (revents !== 0 && this.#waits.delete(wait)) wait.resolve(revents);
      });
      this.#ring();
    }
    this.#running = false;
  }
}

/** The process's poller. */
export const poller: Poller = new Poller();
