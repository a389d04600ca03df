/**
 * The doctor's check of the uids that are for profiles: nobody else on the machine may have one, and
 * nobody may become one. passwd(5), group(5), subuid(5), subgid(5).
 *
 * @module
 */
import { nameOf } from "./accounts.ts";
import { allocations } from "./check-homes.ts";
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  type Looker,
  ok,
  warning,
} from "./diagnosis.ts";
import { hostText } from "./host.ts";
import type { Allocation, HelperOptions } from "./protocol.ts";
import { quoted } from "./shell-word.ts";

/** Some ids, one after the other. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/** Whose they are. */
interface Taken extends Range {
  readonly who: string;
}

/** The files that say who has an id. */
interface Accounts {
  readonly passwd: string;
  readonly group: string;
  readonly subuid: string;
  readonly subgid: string;
}

/** Where another range can be written; null: it was given on the command line, where nothing can. */
export interface RangeFile {
  readonly path: string;
  /** Whether it names one already. */
  readonly says: boolean;
}

export function uidChecks(options: HelperOptions, file: RangeFile | null): readonly Check[] {
  return [{
    name: "uid-range",
    // Who has a uid already is in it.
    after: ["registry"],
    look: (looker) => {
      const accounts = {
        passwd: hostText("/etc/passwd"),
        group: hostText("/etc/group"),
        subuid: hostText("/etc/subuid"),
        subgid: hostText("/etc/subgid"),
      };
      const given = looker.uid === 0 ? allocations(options) : [];
      return rangeFinding(looker, options, { accounts, given, file });
    },
  }];
}

/** By what the files say, and who was given a uid. */
export function rangeFinding(
  looker: Looker,
  { first_uid: first, last_uid: last }: Pick<HelperOptions, "first_uid" | "last_uid">,
  { accounts, given, file }: {
    readonly accounts: Accounts;
    readonly given: readonly Allocation[];
    readonly file: RangeFile | null;
  },
): Finding {
  const all = takenBy(accounts);
  for (const { uid, profile } of given) {
    for (const [what, text] of [["user", accounts.passwd], ["group", accounts.group]] as const) {
      const name = nameOf(text, uid);
      if (name === undefined) continue;
      const free = firstFree(all, { first, last });
      const [command, option] = what === "user" ? ["usermod", "--uid"] : ["groupmod", "--gid"];
      return failure(
        `${uid}, which is ${profile}'s, has become that of the ${what} ${name}`,
        asRoot(looker, `${command} ${option} ${free} ${quoted(name)}`),
      );
    }
  }
  const within = all.filter((one) => one.first <= last && one.last >= first);
  const [one, ...more] = within;
  if (one === undefined) return ok(`${first}-${last} are nobody else's`);
  const found = `${first}-${last} are for profiles, and ${one.who}` +
    (more.length > 0 ? `, and ${more.length} more` : "");
  if (looker.uid !== 0) return warning(`${found}: sudo appjail doctor tells a better one`, null);
  const better = betterRange({ first, last }, all, given.map(({ uid }) => uid));
  if (better === undefined || file === null) {
    const instead = better === undefined
      ? "give the daemon another --uid-range"
      : `give the daemon --uid-range ${better.first}-${better.last}`;
    return warning(`${found}: ${instead}`, null);
  }
  return warning(
    `${found}: with another range, start the daemon again`,
    asRoot(looker, writingRange(file, better)),
  );
}

/** The command that has the daemon's configuration say another range. */
function writingRange({ path, says }: RangeFile, { first, last }: Range): string {
  const line = `uid_range = "${first}-${last}"`;
  if (says) return `sed -i 's/^[[:space:]]*uid_range.*/${line}/' ${quoted(path)}`;
  const folder = path.replace(/\/[^/]*$/, "") || "/";
  return `mkdir -p ${quoted(folder)} && echo '${line}' >> ${quoted(path)}`;
}

function takenBy({ passwd, group, subuid, subgid }: Accounts): readonly Taken[] {
  const ids = (text: string, what: string): readonly Taken[] =>
    text.split("\n").map((line) => line.split(":")).flatMap(([name, , id = ""]) =>
      /^[0-9]{1,10}$/.test(id)
        ? [{ who: `${id} is the ${what} ${name}`, first: Number(id), last: Number(id) }]
        : []
    );
  const delegated = (text: string, path: string): readonly Taken[] =>
    text.split("\n").map((line) => line.split(":")).flatMap(([name, start = "", count = ""]) => {
      if (!/^[0-9]{1,10}$/.test(start) || !/^[1-9][0-9]{0,9}$/.test(count)) return [];
      const [first, last] = [Number(start), Number(start) + Number(count) - 1];
      return [{ who: `${path} lets ${name} become ${first}-${last}`, first, last }];
    });
  return [
    ...ids(passwd, "user"),
    ...ids(group, "group"),
    ...delegated(subuid, "/etc/subuid"),
    ...delegated(subgid, "/etc/subgid"),
  ];
}

/** How many uids a new range has, as the built-in one. */
const usual = 900;
/** The first of the built-in range, and what is above all uids that people get. */
const lowest = 1100;
const highest = 4_000_000;

/** The longest part of the range that is nobody's, with all that were given in it; else another one. */
function betterRange(
  range: Range,
  taken: readonly Range[],
  given: readonly number[],
): Range | undefined {
  const gaps = gapsIn(range, taken).filter(({ first, last }) =>
    given.every((uid) => uid >= first && uid <= last)
  );
  const longest = gaps.toSorted((a, b) => (b.last - b.first) - (a.last - a.first))[0];
  const lengthOf = ({ first, last }: Range): number => last - first + 1;
  // A part of it will do; what is left of one that is nearly full will not.
  if (longest !== undefined && (given.length > 0 || lengthOf(longest) >= lengthOf(range) / 2)) {
    return longest;
  }
  if (given.length > 0) return undefined;
  const nobody = { first: 65_534, last: 65_535 };
  const free = gapsIn({ first: lowest, last: highest }, [...taken, nobody])
    .find((gap) => lengthOf(gap) >= usual);
  return free && { first: free.first, last: free.first + usual - 1 };
}

/** What is left of a range. */
function gapsIn({ first, last }: Range, taken: readonly Range[]): readonly Range[] {
  const gaps: Range[] = [];
  let from = first;
  for (const one of taken.toSorted((a, b) => a.first - b.first)) {
    if (one.first > last) break;
    if (one.first > from) gaps.push({ first: from, last: one.first - 1 });
    from = Math.max(from, one.last + 1);
  }
  if (from <= last) gaps.push({ first: from, last });
  return gaps;
}

/** An id for a person, as useradd(8) would choose it, but none that is for profiles. */
function firstFree(taken: readonly Range[], range: Range): number {
  for (let id = 1000;; id++) {
    if (![...taken, range].some(({ first, last }) => id >= first && id <= last)) return id;
  }
}
