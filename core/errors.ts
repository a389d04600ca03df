/**
 * Every way in which appjail refuses or fails, in one table: what a client exits with, what a D-Bus
 * caller gets, and whether its words may stand in a log. Nothing else maps errors.
 *
 * @module
 */

/** The exit statuses of appjail's own: 100 "you used me wrongly", 111 "the system failed me". */
export const exitUsage = 100;
export const exitFailure = 111;

interface Kind {
  readonly exit: number;
  readonly bus: string;
  /** Its words may hold those of whoever asked: a file's name, a part of a command line or profile. */
  readonly quotes?: true;
}

const table = {
  "usage": { exit: exitUsage, bus: "InvalidArguments", quotes: true },
  "invalid-argument": { exit: exitUsage, bus: "InvalidArguments", quotes: true },
  "command-not-found": { exit: 127, bus: "CommandNotFound" },
  "command-not-executable": { exit: 126, bus: "CommandNotExecutable" },
  "no-daemon": { exit: exitFailure, bus: "Failed" },
  "denied": { exit: exitFailure, bus: "AccessDenied" },
  "unknown-profile": { exit: exitFailure, bus: "UnknownProfile" },
  /** A profile's text, or what it comes to, is not such as can be used. */
  "profile-refused": { exit: exitUsage, bus: "ProfileRefused", quotes: true },
  "unknown-program": { exit: exitFailure, bus: "UnknownProgram" },
  "no-uid-left": { exit: exitFailure, bus: "LimitsExceeded" },
  "limit": { exit: exitFailure, bus: "LimitsExceeded" },
  "home-refused": { exit: exitFailure, bus: "HomeRefused" },
  /** An encrypted home that is locked, and nobody there who could be asked. */
  "passphrase-required": { exit: exitFailure, bus: "PassphraseRequired" },
  "wrong-passphrase": { exit: exitFailure, bus: "WrongPassphrase" },
  /** The person does not want to any more. */
  "cancelled": { exit: exitFailure, bus: "Failed" },
  /** A volume that cannot be unlocked, or does not lock. */
  "vault-failed": { exit: exitFailure, bus: "VaultFailed" },
  /** Something that cannot be lent, or taken back. */
  "lend-refused": { exit: exitFailure, bus: "LendRefused", quotes: true },
  "start-failed": { exit: exitFailure, bus: "StartFailed" },
  "no-answer": { exit: exitFailure, bus: "NoAnswer" },
  "copy-failed": { exit: exitFailure, bus: "Failed", quotes: true },
  "lost": { exit: exitFailure, bus: "Failed" },
  "protocol": { exit: exitFailure, bus: "Failed", quotes: true },
  "leaving": { exit: exitFailure, bus: "Failed" },
  "internal": { exit: exitFailure, bus: "Failed" },
} as const satisfies Readonly<Record<string, Kind>>;

/** What the statuses of appjail's own mean, in words that go on after "when". */
export const exitMeanings = {
  [exitUsage]: "you used appjail wrongly",
  [exitFailure]: "appjail failed, or refused",
  126: "the command is there and cannot be executed",
  127: "the command is not found in the jail",
} as const satisfies Readonly<Record<(typeof table)[keyof typeof table]["exit"], string>>;

/** The name of a failure, as it travels in messages. */
export type ErrorCode = keyof typeof table;

export const errorCodes: readonly [ErrorCode, ...ErrorCode[]] = Object.keys(table) as [
  ErrorCode,
  ...ErrorCode[],
];

/** A failure with words for a person: what failed, on what, why, and what to do. */
export class AppjailError extends Error {
  override readonly name = "AppjailError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get exitStatus(): number {
    return table[this.code].exit;
  }

  /** What others than whoever asked may read: the code alone, where the words may be the asker's. */
  get forLog(): string {
    const { quotes }: Kind = table[this.code];
    return quotes === true ? this.code : this.message;
  }

  /** Such as `org.appjail.Error.AccessDenied`. */
  get busName(): string {
    return `org.appjail.Error.${table[this.code].bus}`;
  }
}

/** The words of anything that was thrown, without its stack. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Anything that was thrown as one of ours. What is not ours is a defect and is called internal. */
export function asAppjailError(error: unknown): AppjailError {
  if (error instanceof AppjailError) return error;
  return new AppjailError("internal", wordsOf(error), { cause: error });
}
