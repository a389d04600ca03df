/**
 * Words as a shell takes them.
 *
 * @module
 */

/** A word of a command line: quoted, unless nothing in it means anything to a shell. */
export function quoted(word: string): string {
  if (/^[\p{L}\p{M}\p{N}@%_+=:,./-]+$/u.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}
