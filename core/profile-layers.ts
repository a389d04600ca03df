/**
 * What a profile comes to: its files one over the other, what it begins with below them, and what an
 * administrator has locked above.
 *
 *     built in  <  "default"  <  what it extends  <  shipped  <  admin  <  own
 *
 * Nothing here touches a file: {@linkcode Lookup} brings them.
 *
 * @module
 */
import { parse, type ProfileName, profileName } from "./names.ts";
import {
  apply,
  leavesOf,
  overlay,
  type Problem,
  type Profile,
  type Reading,
  select,
  type Settings,
  settle,
} from "./profile.ts";
import { nearest } from "./profile-form.ts";

/** Where profiles come from; each holds over those before it. */
export const layers = ["shipped", "admin", "own"] as const;
export type Layer = typeof layers[number];

/** A file that was read. */
export interface Written extends Reading {
  readonly layer: Layer;
  /** How it is called, for a person. */
  readonly file: string;
  readonly text: string;
}

/** The files of a profile, and the names of all that there are. */
export interface Lookup {
  readonly find: (layer: Layer, name: ProfileName) => Written | undefined;
  readonly names: () => readonly string[];
}

/** What a profile comes to. */
export interface Resolved {
  /** Not to be used when there are problems. */
  readonly settings: Settings;
  /** Which file says so, by the full name of the key; of what no file says there is none. */
  readonly sources: ReadonlyMap<string, string>;
  readonly problems: readonly Problem[];
  /** Its own files, not those of what it extends; none for a profile that nobody has written. */
  readonly files: readonly Written[];
}

/** How many profiles may begin with each other. */
const deepest = 8;

/** The profile that all others begin with, unless they say otherwise. */
const base = parse(profileName, "default");

/** What a profile says about itself alone, and does not hand on. */
const personal: ReadonlySet<string> = new Set(["description", "executables", "extends", "locked"]);

/** One profile of a chain, from the one that is asked for to the one that all begins with. */
interface Link {
  readonly name: ProfileName;
  readonly files: readonly Written[];
}

/** What a profile comes to. */
export function resolve(name: ProfileName, lookup: Lookup): Resolved {
  const { chain, problems } = chainOf(name, lookup, layers);
  const files = chain.flatMap((link) => link.files);
  const locks = files.flatMap(locksIn);
  const { profile, sources } = locked(merge(chain), locks, chain, lookup);
  return {
    settings: settle(profile),
    sources,
    problems: [
      ...problems,
      ...files.flatMap((file) => file.problems),
      ...files.flatMap(misplacedLocks),
      ...files.flatMap((file) => trespasses(file, locks)),
    ],
    files: chain[0]?.files ?? [],
  };
}

/** The files of a profile and of all that it begins with, in the order of the asking. */
function chainOf(
  name: ProfileName,
  { find, names }: Lookup,
  from: readonly Layer[],
): { readonly chain: readonly Link[]; readonly problems: readonly Problem[] } {
  const chain: Link[] = [];
  const filesOf = (of: ProfileName): readonly Written[] =>
    from.map((layer) => find(layer, of)).filter((file) => file !== undefined);
  for (let next = name;;) {
    const files = filesOf(next);
    chain.push({ name: next, files });
    const saying = files.findLast((file) => file.profile.extends !== undefined);
    const wanted = saying?.profile.extends;
    if (saying === undefined || wanted === undefined) {
      if ("wrong" in base || chain.some((link) => link.name === base.value)) {
        return { chain, problems: [] };
      }
      next = base.value;
      continue;
    }
    const path = [...chain.map((link) => link.name), wanted].join(", ");
    const why = chain.some((link) => link.name === wanted)
      ? `it begins with itself: ${path}`
      : chain.length >= deepest
      ? `more than ${deepest} profiles begin with each other: ${path}`
      : filesOf(wanted).length === 0
      ? `there is no profile ${JSON.stringify(wanted)}${nearest(wanted, names())}`
      : undefined;
    if (why !== undefined) {
      const problem = {
        file: saying.file,
        line: saying.lineOf("extends"),
        message: `extends: ${why}`,
      };
      return { chain, problems: [problem] };
    }
    next = wanted;
  }
}

/** Profiles that are one now, and which file has said what. */
interface Merged {
  readonly profile: Profile;
  readonly sources: ReadonlyMap<string, string>;
}

/** All of a chain, the last of it below. */
function merge(chain: readonly Link[]): Merged {
  let profile: Profile = {};
  const sources = new Map<string, string>();
  for (const [index, { files }] of [...chain.entries()].toReversed()) {
    for (const { profile: said, file } of files) {
      const own = index === 0 ? said : select(said, (leaf) => !personal.has(leaf));
      const before = leavesOf(profile);
      profile = apply(profile, own);
      const after = new Set(leavesOf(profile));
      for (const leaf of before) if (!after.has(leaf)) sources.delete(leaf);
      // What its preset has set is said by the file, too.
      const preset = own.preset === undefined ? [] : leavesOf(apply({}, own));
      for (const leaf of [...preset, ...leavesOf(own)]) sources.set(leaf, file);
    }
  }
  return { profile, sources };
}

// --- Locks -----------------------------------------------------------------------------------

/** A key that an administrator has locked. */
interface Lock {
  readonly key: string;
  /** Which file says so. */
  readonly by: string;
}

function locksIn({ layer, profile, file }: Written): readonly Lock[] {
  if (layer !== "admin") return [];
  return (profile.locked ?? []).map((key) => ({ key, by: file }));
}

/** Whether a lock is about a key: that of a table is about all that is in it. */
function covers({ key }: Lock, leaf: string): boolean {
  return leaf === key || leaf.startsWith(`${key}.`);
}

/**
 * Has the keys that are locked as they are without anybody's own files: those might lead to another
 * value without naming the key, by a preset or by what they extend.
 */
function locked(
  merged: Merged,
  locks: readonly Lock[],
  chain: readonly Link[],
  lookup: Lookup,
): Merged {
  const first = chain.find(({ files }) => files.some(({ layer }) => layer !== "own"));
  if (locks.length === 0 || first === undefined) return merged;
  const fixed = (leaf: string): boolean => locks.some((lock) => covers(lock, leaf));
  const shared = merge(chainOf(first.name, lookup, ["shipped", "admin"]).chain);
  return {
    profile: overlay(
      select(merged.profile, (leaf) => !fixed(leaf)),
      select(shared.profile, fixed),
    ),
    sources: new Map([
      ...[...merged.sources].filter(([leaf]) => !fixed(leaf)),
      ...[...shared.sources].filter(([leaf]) => fixed(leaf)),
    ]),
  };
}

function misplacedLocks({ layer, profile, file, lineOf }: Written): readonly Problem[] {
  if (layer === "admin" || profile.locked === undefined) return [];
  const message = "locked: only an administrator can lock keys, in a file of their own";
  return [{ file, line: lineOf("locked"), message }];
}

/** Where a person's own file says something about a key that is locked. */
function trespasses(
  { layer, profile, file, lineOf }: Written,
  locks: readonly Lock[],
): readonly Problem[] {
  if (layer !== "own") return [];
  return leavesOf(profile).flatMap((leaf) => {
    const lock = locks.find((one) => covers(one, leaf));
    if (lock === undefined) return [];
    return [{ file, line: lineOf(leaf), message: `${leaf}: it is locked by ${lock.by}` }];
  });
}
