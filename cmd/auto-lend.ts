/**
 * What `appjail run` lends by itself: the files of the caller's that the command names. Loaded when
 * there is one.
 *
 * @module
 */
import { effectiveUid, statusBehind } from "../core/kernel.ts";
import { type AbsolutePath, absolutePath, type LendName, lendName, parse } from "../core/names.ts";
import type { Named } from "./run.ts";

/** A word of a command, and the file that is lent for it. */
export interface Lendable {
  readonly word: number;
  readonly name: LendName;
  readonly path: AbsolutePath;
}

/** The words that are paths of regular files of the caller's; root's are lent to nobody. */
export function lendable(words: readonly Named[]): readonly Lendable[] {
  const uid = effectiveUid();
  if (uid === 0) return [];
  return words.flatMap(({ word, path: given }) => {
    const status = statusBehind(given);
    if (status?.kind !== "file" || status.uid !== uid) return [];
    const path = parse(absolutePath, given.startsWith("/") ? given : `${Deno.cwd()}/${given}`);
    const name = parse(lendName, given.slice(given.lastIndexOf("/") + 1));
    return "value" in path && "value" in name ? [{ word, name: name.value, path: path.value }] : [];
  });
}
