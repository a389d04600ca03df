/**
 * Asking for a passphrase at the person's own terminal, which does not show it, and which is what it
 * was before whatever happens: an answer, ^C, ^Z, a signal that ends this process.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { type Fd, writeSome } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { Secret } from "../ipc/secret.ts";
import {
  applySettings,
  areEqual,
  controllingTerminal,
  discardInput,
  hiddenLine,
  isInForeground,
  settingsOf,
  type TerminalSettings,
} from "../ipc/tty.ts";
import { pause } from "../core/deadline.ts";
import { beforeStop, listen, stopAsJob } from "../core/signals.ts";
import { type Answer, cancelled, type Question, type Way, whenEnded } from "./asking.ts";

/** How often it is looked whether the person has brought us to the front again. */
const foregroundTurn = 100;

const newline = 10;
const encoder = new TextEncoder();

export class TerminalPrompt implements Way {
  readonly #terminal: Fd;
  readonly #keeps = new DisposableStack();
  /** What it was set to, while it does not show what is typed. */
  #before: TerminalSettings | undefined;
  /** The terminal was somebody else's meanwhile: the question is asked again. */
  #stale = true;
  #cancelled = false;

  private constructor(terminal: Fd) {
    this.#terminal = this.#keeps.use(terminal);
    this.#keeps.defer(whenEnded((signal) => {
      this.#show(true);
      this.#end();
      if (signal !== "SIGINT") return true;
      // ^C is for the question: what is told of it, and what becomes of the rest, others decide.
      this.#cancelled = true;
      poller.forget(terminal.number);
      return false;
    }));
    this.#keeps.defer(beforeStop(() => this.#show(true)));
    this.#keeps.defer(listen("SIGTSTP", () => {
      void stopAsJob(false).then((continued) => {
        // Nobody could continue us: nothing has stopped.
        if (!continued) this.#askAgain();
      });
    }));
    this.#keeps.defer(listen("SIGCONT", () => this.#askAgain()));
  }

  /** `undefined` when there is no terminal, or it is not ours to read from: we are in the background. */
  static open(): TerminalPrompt | undefined {
    const terminal = controllingTerminal();
    if (terminal === undefined) return undefined;
    if (isInForeground(terminal.number)) return new TerminalPrompt(terminal);
    terminal.close();
    return undefined;
  }

  async ask({ prompt, notice }: Question): Promise<Answer> {
    const fd = this.#terminal.number;
    const secret = new Secret();
    try {
      let words = notice === undefined ? `${prompt}: ` : `${notice}.\n${prompt}: `;
      let said = false;
      while (!this.#cancelled) {
        if (!isInForeground(fd)) {
          // Without a terminal there is no foreground either.
          if (settingsOf(fd) === undefined) break;
          this.#stale = true;
          await pause(foregroundTurn);
          continue;
        }
        if (this.#stale) {
          this.#hide();
          secret.cut();
          this.#stale = said = false;
        }
        if (!said) {
          await this.#write(words);
          words = `${prompt}: `;
          said = true;
          continue;
        }
        await poller.readable(fd);
        // Meanwhile somebody may have put us to the back: then what is typed is another's.
        if (this.#cancelled || this.#stale || !isInForeground(fd)) continue;
        const count = secret.read(fd);
        if (count === undefined) continue;
        // ^D in an empty line, or the terminal is gone.
        if (count === 0) break;
        // A line comes as one, for there is room for the longest; ^D ends one that is not empty, too.
        if (secret.bytes.at(-1) === newline) secret.cut(secret.size - 1);
        this.#end();
        return { secret, repeated: false };
      }
      if (!this.#cancelled) this.#end();
      throw cancelled();
    } catch (error) {
      secret[Symbol.dispose]();
      // The terminal is gone.
      throw isErrno(error, "EIO") ? cancelled() : error;
    }
  }

  /** The person's terminal is as it was. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#show(this.#cancelled);
    this.#keeps.dispose();
    return Promise.resolve();
  }

  #askAgain(): void {
    this.#stale = true;
    if (!this.#terminal.closed) poller.forget(this.#terminal.number);
  }

  #hide(): void {
    const fd = this.#terminal.number;
    const now = settingsOf(fd);
    if (now === undefined) throw cancelled();
    // As when SIGSTOP has stopped us, and nobody has set it back.
    const ours = this.#before !== undefined && areEqual(now, hiddenLine(this.#before));
    if (!ours) this.#before = now;
    // What was typed before could be seen: it was not meant for us.
    discardInput(fd);
    applySettings(fd, hiddenLine(this.#before ?? now));
  }

  /** @param discard what was typed so far must not become somebody else's input */
  #show(discard: boolean): void {
    const before = this.#before;
    // From the background this would stop us, and the terminal is another's.
    if (before === undefined || !isInForeground(this.#terminal.number)) return;
    this.#before = undefined;
    try {
      if (discard) discardInput(this.#terminal.number);
      applySettings(this.#terminal.number, before);
    } catch {
      // The terminal is gone.
    }
  }

  /** Begins a new line: the one that ended ours was not shown. */
  #end(): void {
    if (!isInForeground(this.#terminal.number)) return;
    try {
      writeSome(this.#terminal.number, encoder.encode("\n"));
    } catch {
      // The terminal is gone.
    }
  }

  async #write(text: string): Promise<void> {
    for (let rest = encoder.encode(text); rest.length > 0 && !this.#cancelled;) {
      const count = writeSome(this.#terminal.number, rest);
      if (count === undefined) await poller.writable(this.#terminal.number);
      else rest = rest.subarray(count);
    }
  }
}
