/**
 * A role's log: one line to standard error for each thing worth knowing, never more than one.
 *
 * @module
 */

/** Where a role tells what it does. */
export interface Log {
  info(line: string): void;
  debug(line: string): void;
}

const encoder = new TextEncoder();

/**
 * Whatever could make a line two, steer a terminal, or turn the order of what is read around
 * (CVE-2021-42574), is shown as an escape.
 */
export function printable(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex -- control characters are what it is about
    /[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\p{Bidi_Control}\p{Surrogate}]/gu,
    (character) => {
      const number = character.charCodeAt(0);
      // A byte that is part of no character; see ipc/octets.ts.
      const code = (number >= 0xdc80 && number <= 0xdcff ? number - 0xdc00 : number).toString(16);
      return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
    },
  );
}

/** The log of a role; a reader that is gone is no reason to stop. */
export function logOf(role: string, debug: boolean): Log {
  const write = (line: string): void => {
    try {
      Deno.stderr.writeSync(encoder.encode(`${role}: ${printable(line)}\n`));
    } catch {
      // Nobody reads any more.
    }
  };
  return { info: write, debug: debug ? write : () => {} };
}
