/**
 * What the doctor is made of: checks, each of one thing and under a name that stays, and what they
 * find. What a check finds wrong comes with the command that mends it, where there is one.
 *
 * @module
 */
import { wordsOf } from "./errors.ts";
import { installing, type Package } from "./packages.ts";
import { quoted } from "./shell-word.ts";

/** unknown: it could not be told, which is no fault. */
export type Result = "ok" | "warning" | "failure" | "unknown";

/** What a check has found. */
export interface Finding {
  readonly result: Result;
  /** In words. */
  readonly found: string;
  /** The command that mends it, as it can be pasted; null: there is nothing to mend, or no one command. */
  readonly mend: string | null;
}

/** Who looks, and from where. */
export interface Looker {
  readonly uid: number;
  /** Of the distribution. */
  readonly osRelease: string;
}

export interface Check {
  readonly name: string;
  /** Those that have to be well before this one can tell anything. */
  readonly after?: readonly string[];
  readonly look: (looker: Looker) => Finding | Promise<Finding>;
}

/** What a check of this name has found. */
export interface Diagnosis extends Finding {
  readonly name: string;
}

export function ok(found: string): Finding {
  return { result: "ok", found, mend: null };
}

export function warning(found: string, mend: string | null): Finding {
  return { result: "warning", found, mend };
}

export function failure(found: string, mend: string | null): Finding {
  return { result: "failure", found, mend };
}

export function unknown(found: string): Finding {
  return { result: "unknown", found, mend: null };
}

export const needsRoot: Finding = unknown("it takes root to tell: sudo appjail doctor");

/** A command for root, as this person types it. */
export function asRoot({ uid }: Looker, command: string): string {
  if (uid === 0) return command;
  return /[|&;<>$`]/.test(command) ? `sudo sh -c ${quoted(command)}` : `sudo ${command}`;
}

/** The command that installs a package; null where the distribution is not known. */
export function install(looker: Looker, wanted: Package): string | null {
  const command = installing(wanted, looker.osRelease);
  return command === undefined ? null : asRoot(looker, command);
}

/** Looks at everything, in order. What goes wrong in a check itself is its finding. */
export async function* diagnose(
  checks: readonly Check[],
  looker: Looker,
): AsyncGenerator<Diagnosis> {
  const ill = new Set<string>();
  for (const { name, after = [], look } of checks) {
    const first = after.find((one) => ill.has(one));
    const finding = first === undefined ? await lookWith(look, looker) : unknown(
      `it cannot be told before ${first} is well`,
    );
    if (finding.result === "failure" || first !== undefined) ill.add(name);
    yield { name, ...finding };
  }
}

async function lookWith(look: Check["look"], looker: Looker): Promise<Finding> {
  try {
    return await look(looker);
  } catch (error) {
    return failure(`it cannot be looked at: ${wordsOf(error)}`, null);
  }
}
