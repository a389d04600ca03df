/**
 * How rsync(1) is told to copy a home, and what it says meanwhile.
 *
 * It runs as root over what an application has made, so it gets no more of root than it needs: to read
 * everything, and to give what it makes its owner. It ends with whoever started it.
 *
 * @module
 */
import { bytesOf } from "../ipc/octets.ts";
import { setpriv } from "./drop.ts";
import { printable } from "./log.ts";
import type { HomeKind } from "./protocol.ts";

export const rsync = "/usr/bin/rsync";

/** What is needed to run {@linkcode copyCommand}, and how to get it. */
export const rsyncHint = "try: apt install rsync";

/** To read and write whatever there is, and to give it owner, mode, time, and to make devices. */
const capabilities = ["chown", "dac_override", "dac_read_search", "fowner", "fsetid", "mknod"];

/** setpriv(1): ends with its parent, and has of root's privileges these at the most. */
export function bounded(words: readonly string[], keep: readonly string[] = []): readonly string[] {
  return [
    setpriv,
    "--pdeathsig=KILL",
    ...(keep.length === 0 ? [] : [
      "--no-new-privs",
      `--bounding-set=${["-all", ...keep.map((one) => `+${one}`)].join(",")}`,
      "--inh-caps=-all",
    ]),
    "--",
    ...words,
  ];
}

/**
 * The words that make `to` what `from` is; only what differs in size or time is copied, so that a
 * run that was interrupted goes on. core/compare.ts finds what that leaves out.
 *
 * @param part "dense": without the files that {@linkcode excluding} names on its standard input;
 * "sparse": all, and holes stay holes. For that rsync writes a KiB at a time, which is slow where
 * each write is encrypted, so there is as little as possible left to do for it.
 * @param target what `to` lies in: encfs keeps no nanoseconds, and by them nothing would be the same
 */
export function copyCommand(
  part: "dense" | "sparse",
  from: string,
  to: string,
  target: HomeKind,
): readonly string[] {
  const words = [
    rsync,
    "--archive",
    "--hard-links",
    "--acls",
    "--xattrs",
    // See isCarried() in core/survey.ts.
    "--filter=-x security.*",
    "--filter=-x trusted.*",
    ...(part === "sparse" ? ["--sparse"] : ["--from0", "--exclude-from=-"]),
    "--numeric-ids",
    "--whole-file",
    "--delete-before",
    "--no-inc-recursive",
    `--modify-window=${target === "encfs" ? 0 : -1}`,
    "--info=progress2",
    "--no-human-readable",
    "--outbuf=N",
    "--",
    `${from}/`,
    `${to}/`,
  ];
  return bounded(words, capabilities);
}

/**
 * Names files for `--from0 --exclude-from`: these and no others. rsync(1), PATTERN MATCHING RULES.
 *
 * @param paths from the top, without a slash before
 */
export function excluding(paths: readonly string[]): Uint8Array {
  // Only in a pattern that has one of these is a backslash more than itself.
  const pattern = (path: string): string =>
    /[*?[]/.test(path) ? path.replace(/[*?[\\]/g, "\\$&") : path;
  return bytesOf(paths.map((path) => `/${pattern(path)}\0`).join(""));
}

/** How far it is. */
export interface RsyncProgress {
  /** What was copied in this run. */
  readonly bytes: number;
  /** Names that were looked at; it tells them at the end of each file alone. */
  readonly names: number | undefined;
}

/** The last of the reports in a piece of its output; they end with a carriage return. */
export function progressIn(text: string): RsyncProgress | undefined {
  const report = /(\d+) +\d+% +\S+ +\d+:\d\d:\d\d (?: |\(xfr#\d+, to-chk=(\d+)\/(\d+)\))/g;
  const reports = [...text.matchAll(report)];
  const [, bytes] = reports.at(-1) ?? [];
  if (bytes === undefined) return undefined;
  const [, , left, all] = reports.findLast(([, , left]) => left !== undefined) ?? [];
  const names = left === undefined ? undefined : Number(all) - Number(left);
  return { bytes: Number(bytes), names };
}

/** Why it failed, for a person. rsync(1), EXIT VALUES. */
export function rsyncFailure(status: number, said: string): string {
  const signal = status & 0x7f;
  const lines = said.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const first = lines.find((line) => !line.startsWith("rsync error:")) ?? lines[0] ?? "";
  const words = printable(first.slice(0, 1000)).replace(/^rsync: /, "");
  if (/xattr|acl/i.test(first)) return `rsync cannot copy an attribute: ${words}`;
  if (/No space left on device|Disk quota exceeded/.test(said)) {
    return `there is no room for it: ${words}`;
  }
  if (signal !== 0) return `rsync was killed by signal ${signal}`;
  const code = status >> 8;
  if (first === "") return `rsync ended with ${code} and said nothing`;
  return `rsync ended with ${code}: ${words}`;
}
