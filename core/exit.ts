/**
 * How a program ended, as wait(2) tells it and as a shell says it.
 *
 * @module
 */
import { signalNumbers } from "./names.ts";
import type { ExitStatus } from "./protocol.ts";

/** Of waitpid(2)'s raw status, by the macros of wait(2); `undefined` when it has only stopped. */
export function exitStatusOf(raw: number): ExitStatus | undefined {
  const signal = raw & 0x7f;
  if (signal === 0) return { by: "exit", code: (raw >> 8) & 0xff };
  if (signal === 0x7f) return undefined;
  return { by: "signal", signal, core: (raw & 0x80) !== 0 };
}

/** What a shell would have in `$?`: 128 and the signal's number when one ended it. */
export function shellStatus(status: ExitStatus): number {
  return status.by === "exit" ? status.code : 128 + status.signal;
}

/** The same for people: `exit 0`, or the signal's name. */
export function exitText(status: ExitStatus): string {
  if (status.by === "exit") return `exit ${status.code}`;
  const name = Object.entries(signalNumbers).find(([, number]) => number === status.signal)?.[0];
  return name ?? `signal ${status.signal}`;
}
