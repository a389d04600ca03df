/**
 * A command for another machine, as a line for the login shell that its ssh server runs there. Pure.
 *
 * ssh(1) joins its words with blanks and has somebody's login shell make words of them again, which
 * may be any shell. What is not understood alike by all of them is therefore sent in letters and
 * digits, and becomes words in a sh.
 *
 * @module
 */
import { bytesOf } from "../ipc/octets.ts";

/** What no shell takes for anything but itself. */
const bare = /^[A-Za-z0-9_./:@,+-]+$/;
/**
 * What single quotes keep in every shell: fish knows a backslash in them, csh a "!" and the end of a
 * line. A byte that is no character is a lone surrogate, which would be lost on the way.
 */
const keptByQuotes = /^[^'\\!\p{Cc}\p{Cs}]*$/u;

/**
 * The line that runs a program with these words in whatever shell. A sh stays until it has ended: for a
 * program that a signal ends, ssh(1) knows no status but that of its own failures.
 */
export function remoteLine([program, ...words]: readonly [string, ...string[]]): string {
  if (words.every((word) => keptByQuotes.test(word))) {
    const all = words.map((word) => bare.test(word) ? word : `'${word}'`);
    return [`sh -c '${program} "$@"; exit $?'`, program, ...all].join(" ");
  }
  const all = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  // A final end of line, which a substitution drops, is never the last character: a quote is.
  const script = bytesOf([program, ...all].join(" ")).toBase64();
  return `sh -c 'eval "$(echo ${script} | base64 -d)"; exit $?'`;
}

/** The longest line that a shell can be given: execve(2), MAX_ARG_STRLEN. */
export const longestLine = 128 * 1024 - 1;

/**
 * Whether it can be a machine's name, `user@` before it or a whole `ssh://` address: as ssh(1) itself
 * has it since 9.6, lest a name become part of a command in somebody's configuration (CVE-2023-51385),
 * and never an option.
 */
export function isHost(text: string): boolean {
  return /^[^-\s'"`$\\;&<>|(){}\p{Cc}][^\s'"`$\\;&<>|(){}\p{Cc}]*$/u.test(text);
}
