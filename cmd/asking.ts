/**
 * What every way to ask a person for a passphrase has in common: the question, the answer, and an end
 * in order when this process is ended meanwhile.
 *
 * @module
 */
import type { Secret } from "../ipc/secret.ts";
import { AppjailError } from "../core/errors.ts";
import { signalNumbers } from "../core/names.ts";
import { endBySignal, listen } from "../core/signals.ts";

/** What a person is asked. */
export interface Question {
  /** Such as `Passphrase of work (encfs)`. */
  readonly prompt: string;
  /** What was wrong with the answer before. */
  readonly notice: string | undefined;
  /** The answer is to be given twice: the prompt for the second time. */
  readonly repeat: string | undefined;
}

export interface Answer {
  /** Whoever gets it disposes of it. */
  readonly secret: Secret;
  /** The person gave it twice already. */
  readonly repeated: boolean;
}

/** A way to ask. It is held for as long as somebody is asked, several times perhaps. */
export interface Way extends AsyncDisposable {
  /**
   * @throws {AppjailError} cancelled, when the person does not want to
   * @throws {Unusable} when nobody could be asked in this way
   */
  ask(question: Question): Promise<Answer>;
}

/** Nobody can be asked in this way. */
export class Unusable extends Error {}

/** The person does not want to. */
export function cancelled(): AppjailError {
  return new AppjailError("cancelled", "Cancelled: no passphrase was given");
}

/** By which signals this process is ended. */
const ending = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/**
 * Has this process clean up when a signal ends it. The returned function ends that.
 *
 * @param cleanUp what is done first; it returns false when the signal is not to end it
 */
export function whenEnded(cleanUp: (signal: typeof ending[number]) => boolean): () => void {
  const ends = ending.map((signal) =>
    listen(signal, () => {
      if (cleanUp(signal)) endBySignal(signalNumbers[signal]);
    })
  );
  return () => ends.forEach((end) => end());
}
