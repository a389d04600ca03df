/**
 * The client's side of a program's terminal: the person's own terminal in raw mode, the bytes between
 * it and the pseudo-terminal in the jail, its size, ^Z, and the way back from all that.
 *
 * The person's terminal itself is never handed to a program: what a program can do to a terminal
 * (TIOCSTI, TIOCLINUX, CVE-2017-5226) it can do to its own.
 *
 * @module
 */
import { duplicate, type Fd, isTerminal, pipe, setNonblocking, writeSome } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { POLLIN, POLLOUT } from "../ipc/libc.ts";
import { poller } from "../ipc/poller.ts";
import { Pump } from "../ipc/pump.ts";
import {
  applySettings,
  isInForeground,
  rawSettings,
  reopenTerminal,
  setSize,
  settingsOf,
  sizeOf,
  type TerminalSettings,
  VEOF,
  withoutEcho,
  withoutProcessing,
} from "../ipc/tty.ts";
import { pause } from "../core/deadline.ts";
import { signalNumbers } from "../core/names.ts";
import type { TerminalSpec } from "../core/protocol.ts";
import { listen, stopAsJob } from "../core/signals.ts";

/** Whether a program is to have a terminal: as the caller's streams are, always, or never. */
export type Wish = "as-is" | "always" | "never";

/** A standard stream, by its number. */
type Stream = 0 | 1 | 2;
const streams: readonly Stream[] = [0, 1, 2];

/** How often a client in the background looks whether it has been brought to the front. */
const foregroundTurn = 100;

/** After so many buffers in a row it is the keyboard's turn. */
const mostInRow = 16;

/** What a terminal, or a shell, tells its jobs. */
type JobSignal = "SIGCONT" | "SIGTSTP" | "SIGWINCH";

/** Which streams of the program are to be its terminal. */
export function terminalStreams(wish: Wish): readonly Stream[] {
  if (wish === "never") return [];
  return streams.filter((stream) => wish === "always" || isTerminal(stream));
}

/** What is between the caller's streams and the program's. */
export class Front implements Disposable {
  /** The person's terminal; `undefined` when none of the streams is one. */
  readonly #own: Stream | undefined;
  /** What it was set to before. */
  readonly #before: TerminalSettings | undefined;
  readonly #terminal: readonly Stream[];
  /** Keys go to the program as they are typed; else a line at a time, and ^C is a signal. */
  readonly #raw: boolean;
  readonly #keeps = new DisposableStack();
  #inRaw = false;
  #master: Fd | undefined;
  readonly #unread = Promise.withResolvers<number>();
  #ended = false;
  #send: (signal: JobSignal) => void = () => {};
  readonly #outputs: Promise<void>[] = [];
  readonly #passed: Fd[] = [];

  /**
   * @param wish whether the program is to have a terminal
   * @param open one of the caller's own streams, to be handed over as it is
   * @param alone the program runs by itself: nothing of the caller's goes to it
   */
  constructor(wish: Wish, open: (stream: Stream) => Fd, alone = false) {
    this.#terminal = terminalStreams(wish);
    this.#own = streams.find((stream) => isTerminal(stream));
    this.#before = this.#own === undefined ? undefined : settingsOf(this.#own);
    this.#raw = this.#terminal.includes(0) && this.#terminal.includes(1) && isTerminal(0) &&
      isTerminal(1);
    for (const stream of streams) {
      if (alone || this.#terminal.includes(stream)) continue;
      // A terminal that the program is not to see as one becomes a pipe.
      this.#passed.push(isTerminal(stream) ? this.#pipe(stream) : open(stream));
    }
  }

  /** What the program is to have; null when it has no terminal. */
  get spec(): TerminalSpec | null {
    if (this.#terminal.length === 0) return null;
    const before = this.#before;
    const size = this.#own === undefined
      ? { rows: 24, columns: 80, width: 0, height: 0 }
      : sizeOf(this.#own);
    const settings = before === undefined ? null : this.#inner(before);
    return {
      streams: [...this.#terminal],
      size,
      settings: settings === null ? null : { ...settings, cc: [...settings.cc] },
    };
  }

  /** What the program's terminal is set to, given the person's own. */
  #inner(before: TerminalSettings): TerminalSettings {
    if (this.#raw) return before;
    // The person's terminal goes on showing what is typed, and begins each line at the left: done
    // twice, it would be seen.
    const typed = isTerminal(0) ? withoutEcho(before) : before;
    return isTerminal(this.#shown) ? withoutProcessing(typed) : typed;
  }

  /** The caller's stream on which the program's terminal is shown. */
  get #shown(): Stream {
    return this.#terminal.find((stream) => stream > 0) ?? this.#own ?? 1;
  }

  /** Settles when nobody reads what the program writes, with the signal that tells of it. */
  get unread(): Promise<number> {
    return this.#unread.promise;
  }

  /** The streams that are handed over, to be given away. */
  take(): readonly Fd[] {
    return this.#passed.splice(0);
  }

  /**
   * The program runs.
   *
   * @param send sends it a signal
   */
  begin(master: Fd | undefined, send: (signal: JobSignal) => void): void {
    this.#send = send;
    this.#listen("SIGTSTP", () => {
      send("SIGTSTP");
      // One that has a terminal may have other plans. If it does stop, that is told: to stop before
      // would be to hear of it after the person has continued us, and to stop once more.
      if (master === undefined) void this.#stop(false);
    });
    this.#listen("SIGWINCH", () => {
      // The kernel tells of a change alone, but somebody may have sent it by kill(1).
      if (!this.#resize()) send("SIGWINCH");
    });
    if (master === undefined) return;
    this.#master = master;
    setNonblocking(master.number);
    if (this.#raw) this.#enterRaw();
    this.#resize();
    if (this.#terminal.includes(0)) void this.#input(master);
    this.#outputs.push(this.#output(master, this.#shown));
  }

  /** Makes a full-screen program draw itself again: the size changes, and changes back. */
  redraw(master: Fd): void {
    if (this.#own === undefined) return;
    const size = sizeOf(this.#own);
    setSize(master.number, { ...size, columns: Math.max(1, size.columns - 1) });
  }

  /** The program has stopped: so does this job, until it is continued. */
  suspended(): void {
    // Typed at the program's terminal, ^Z has reached nobody out here.
    void this.#stop(this.#raw);
  }

  /** The program has ended: what it wrote is passed on to the last byte, then all is as before. */
  async end(): Promise<void> {
    this.#ended = true;
    if (this.#master !== undefined && !this.#master.closed) poller.forget(this.#master.number);
    await Promise.all(this.#outputs);
    this.#leaveRaw();
  }

  /** Whatever happened, the person's terminal is as it was. */
  [Symbol.dispose](): void {
    this.#ended = true;
    this.#leaveRaw();
    this.#keeps.dispose();
    for (const fd of this.#passed) fd.close();
    this.#master?.close();
  }

  // --- Bytes ---------------------------------------------------------------------------------

  /** From the keyboard, or whatever standard input is, to the program. */
  async #input(master: Fd): Promise<void> {
    const terminal = isTerminal(0);
    const own = (terminal ? reopenTerminal(0) : undefined) ?? duplicate(0);
    this.#keeps.use(own);
    const pump = new Pump();
    let last: number | undefined;
    while (!this.#ended && !master.closed) {
      if (terminal && !isInForeground(0)) {
        await pause(foregroundTurn);
        continue;
      }
      if (this.#raw) this.#enterRaw();
      await poller.readable(own.number);
      // Meanwhile somebody may have put us to the back: then the bytes are another's.
      if (this.#ended || master.closed || (terminal && !isInForeground(0))) continue;
      const filled = pump.fill(own.number, true);
      if (filled === "none yet") continue;
      if (filled === "end") {
        // At the end of a line one ^D is an end of file; in the middle of one it takes another.
        const eof = this.#before?.cc[VEOF] ?? 4;
        const bytes = last === undefined || last === 10 ? [eof] : [eof, eof];
        await this.#type(master, new Uint8Array(bytes));
        if (!terminal) return;
        // A person may go on after ^D, unless the terminal is gone.
        if (settingsOf(own.number) === undefined) return;
        continue;
      }
      last = pump.last;
      try {
        while (!pump.flush(master.number)) {
          await poller.writable(master.number);
          if (this.#ended || master.closed) return;
        }
      } catch (error) {
        if (isErrno(error, "EIO")) return;
        throw error;
      }
    }
  }

  async #type(master: Fd, bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0 && !master.closed;) {
      const count = writeSome(master.number, rest);
      if (count === undefined) await poller.writable(master.number);
      else rest = rest.subarray(count);
    }
  }

  /** From the program to one of the caller's streams, until the program's end is closed. */
  async #output(from: Fd, stream: Stream): Promise<void> {
    const own = isTerminal(stream) ? reopenTerminal(stream) : undefined;
    if (own !== undefined) this.#keeps.use(own);
    const to = own?.number ?? stream;
    // Where it may block, no more is written than there is room for.
    const most = own === undefined ? 4096 : undefined;
    const pump = new Pump();
    try {
      for (let row = 1; !from.closed; row++) {
        const filled = pump.fill(from.number);
        if (filled === "end") return;
        if (filled === "none yet") {
          if (this.#ended) return;
          if (row % mostInRow !== 0 && poller.briefly(from.number, POLLIN)) continue;
          row = 0;
          await poller.readable(from.number);
          continue;
        }
        while (!pump.flush(to, most)) {
          if (row++ % mostInRow === 0 || !poller.briefly(to, POLLOUT)) await poller.writable(to);
        }
        // A program that writes without pause must not keep ^C waiting.
        if (row % mostInRow === 0) await poller.writable(to);
      }
    } catch (error) {
      if (!isErrno(error, "EPIPE", "EIO", "EBADF")) throw error;
      from.close();
      this.#unread.resolve(isErrno(error, "EPIPE") ? signalNumbers.SIGPIPE : signalNumbers.SIGHUP);
    }
  }

  /** A pipe in place of a stream that is a terminal: the end that the program gets. */
  #pipe(stream: Stream): Fd {
    const { read, write } = pipe();
    if (stream === 0) {
      setNonblocking(write.number);
      this.#keeps.use(write);
      void this.#feed(write);
      return read;
    }
    setNonblocking(read.number);
    this.#keeps.use(read);
    this.#outputs.push(this.#output(read, stream));
    return write;
  }

  /** What is typed, a line at a time, into a pipe. */
  async #feed(to: Fd): Promise<void> {
    const pump = new Pump();
    while (!this.#ended) {
      if (!isInForeground(0)) {
        await pause(foregroundTurn);
        continue;
      }
      await poller.readable(0);
      if (this.#ended || !isInForeground(0)) continue;
      if (pump.fill(0, true) === "end") break;
      try {
        while (!pump.flush(to.number)) await poller.writable(to.number);
      } catch (error) {
        if (isErrno(error, "EPIPE", "EBADF")) break;
        throw error;
      }
    }
    to.close();
  }

  // --- The person's terminal -----------------------------------------------------------------

  #enterRaw(): void {
    if (this.#own === undefined || this.#before === undefined || this.#inRaw || this.#ended) return;
    // From the background this would stop us. tcsetattr(3).
    if (!isInForeground(this.#own)) return;
    applySettings(this.#own, rawSettings(this.#before));
    this.#inRaw = true;
  }

  #leaveRaw(): void {
    if (this.#own === undefined || this.#before === undefined || !this.#inRaw) return;
    this.#inRaw = false;
    try {
      applySettings(this.#own, this.#before);
    } catch {
      // The terminal is gone.
    }
  }

  /** Has the program's terminal be of the size of the person's; false when it is already. */
  #resize(): boolean {
    if (this.#own === undefined || this.#master === undefined || this.#master.closed) return false;
    try {
      const size = sizeOf(this.#own);
      const old = sizeOf(this.#master.number);
      if (size.rows === old.rows && size.columns === old.columns) return false;
      setSize(this.#master.number, size);
      return true;
    } catch {
      // One of the two is gone.
      return false;
    }
  }

  async #stop(group: boolean): Promise<void> {
    this.#leaveRaw();
    const continued = await stopAsJob(group);
    if (this.#ended) return;
    if (this.#raw) this.#enterRaw();
    this.#resize();
    if (!continued) this.#send("SIGCONT");
  }

  #listen(signal: "SIGTSTP" | "SIGWINCH", callback: () => void): void {
    this.#keeps.defer(listen(signal, callback));
  }
}
