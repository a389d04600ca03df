/**
 * How far a copy is, on a terminal: one line that is written anew, and taken away at the end.
 *
 * @module
 */
import { isTerminal } from "../ipc/fd.ts";
import { isInForeground, sizeOf } from "../ipc/tty.ts";
import { after } from "../core/deadline.ts";
import { bytesIn } from "../core/size-text.ts";
import { writeOut } from "./client.ts";

/** Nothing is shown of what takes no longer. */
const patience = 1000;
const interval = 200;

/** What is known at some time. */
export interface Progress {
  readonly copied: number;
  /** About how many bytes there are; `undefined` when that is not known. */
  readonly total: number | undefined;
  /** Milliseconds since it began. */
  readonly elapsed: number;
}

/** A time, as 0:07 or 1:02:03. */
export function timeIn(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  const minutes = whole < 3600 ? String(Math.floor(whole / 60)) : two((whole / 60) % 60);
  const clock = `${minutes}:${two(whole % 60)}`;
  return whole < 3600 ? clock : `${Math.floor(whole / 3600)}:${clock}`;
}

/** The line, no longer than the terminal is wide. */
export function progressLine({ copied, total, elapsed }: Progress, width: number): string {
  const rate = elapsed > 0 ? copied / (elapsed / 1000) : 0;
  // Before the first byte there is none to be told.
  const speed = copied > 0 ? `  ${bytesIn(rate)}/s` : "";
  const room = Math.max(0, width - 1);
  if (total === undefined || total === 0 || copied > total) {
    return `${bytesIn(copied)}${speed}`.slice(0, room);
  }
  const part = copied / total;
  const left = rate > 0 ? `  ${timeIn((total - copied) / rate)} left` : "";
  const percent = `${Math.floor(part * 100)} %`.padStart(5);
  const words = `${percent}  ${bytesIn(copied)} of ${bytesIn(total)}${speed}${left}`;
  const bar = Math.min(30, room - words.length - 3);
  if (bar < 8) return words.slice(0, room);
  const full = Math.round(part * bar);
  return `[${"#".repeat(full)}${" ".repeat(bar - full)}] ${words}`;
}

/** Shows it while it is held, where standard error is a terminal. */
export class ProgressBar implements Disposable {
  /** Whether anybody sees it. */
  readonly seen: boolean = isTerminal(2);
  total: number | undefined;
  /** What stands before it: what is being done. */
  label = "";
  copied: () => number = () => 0;
  readonly #began = performance.now();
  #cancel = (): void => {};
  #shown = false;

  constructor() {
    if (this.seen) this.#tick();
  }

  #tick(): void {
    this.#cancel = after(interval, () => {
      this.#show();
      this.#tick();
    });
  }

  #show(): void {
    const elapsed = performance.now() - this.#began;
    // From the background it would be in the way of whatever is in front.
    if (elapsed < patience || !isInForeground(2)) return;
    const { columns } = sizeOf(2);
    const now = { copied: this.copied(), total: this.total, elapsed };
    const label = (this.label === "" ? "" : `${this.label}  `).slice(0, (columns || 80) - 1);
    const line = progressLine(now, (columns || 80) - label.length);
    writeOut(`\r${label}${line}\x1b[K`, Deno.stderr);
    this.#shown = true;
  }

  /** Writes a line above it. */
  say(line: string): void {
    this.#clear();
    writeOut(`${line}\n`, Deno.stderr);
  }

  #clear(): void {
    if (this.#shown) writeOut("\r\x1b[K", Deno.stderr);
    this.#shown = false;
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.#clear();
  }
}
