/**
 * What is counted and timed of everybody's jails while a dispatcher runs.
 *
 * @module
 */
import type { ErrorCode } from "./errors.ts";
import type { OwnerUid, ProfileName } from "./names.ts";
import { PerOwner } from "./per-owner.ts";
import type { Allocation, Figures, OwnerFigures } from "./protocol.ts";

/** How many times are kept of each kind: the median and the 95th percentile are of the last ones. */
const timesMost = 256;
/** Of how many profiles of one owner. */
const profilesMost = 512;

/** Times, of which the last are kept. */
export class Times {
  readonly #last: number[] = [];
  #next = 0;
  #min = Infinity;
  #max = -Infinity;

  add(milliseconds: number): void {
    this.#last[this.#next] = milliseconds;
    this.#next = (this.#next + 1) % timesMost;
    this.#min = Math.min(this.#min, milliseconds);
    this.#max = Math.max(this.#max, milliseconds);
  }

  /** The shortest and longest of all, and what half and 95 of 100 did not exceed; null: there is none. */
  get spread(): Figures["start_ms"] {
    if (this.#last.length === 0) return null;
    const sorted = this.#last.toSorted((a, b) => a - b);
    // The nearest rank: always a time that there was.
    const rank = (share: number): number =>
      rounded(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0);
    return {
      min: rounded(this.#min),
      median: rank(0.5),
      p95: rank(0.95),
      max: rounded(this.#max),
    };
  }
}

/** To the hundredth of a millisecond. */
function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 100) / 100;
}

/** What is counted of one profile, or of one owner. */
class Tally {
  starts = 0;
  joins = 0;
  programs = 0;
  wrong = 0;
  readonly failures = new Map<ErrorCode, number>();
  readonly start = new Times();
  readonly join = new Times();

  get figures(): Figures {
    return {
      starts: this.starts,
      joins: this.joins,
      programs: this.programs,
      wrong_passphrases: this.wrong,
      failures: [...this.failures].map(([code, times]) => ({ code, times })),
      start_ms: this.start.spread,
      join_ms: this.join.spread,
    };
  }
}

interface OwnersTallies {
  readonly all: Tally;
  readonly profiles: Map<ProfileName, Tally>;
}

/** The figures of all owners. */
export class Stats {
  readonly #since: number;
  readonly #owners: PerOwner<OwnersTallies>;

  /** @param known whoever has a profile: their figures stay */
  constructor(known: () => ReadonlySet<OwnerUid>, since: number = Date.now()) {
    this.#since = since;
    this.#owners = new PerOwner(() => ({ all: new Tally(), profiles: new Map() }), known);
  }

  /** A program runs. @param took in milliseconds; undefined: that says nothing */
  ran({ owner, profile }: Allocation, joined: boolean, took: number | undefined): void {
    for (const tally of this.#tallies(owner, profile)) {
      tally.programs++;
      if (joined) tally.joins++;
      else tally.starts++;
      if (took !== undefined) tally[joined ? "join" : "start"].add(took);
    }
  }

  wrong({ owner, profile }: Allocation): void {
    for (const tally of this.#tallies(owner, profile)) tally.wrong++;
  }

  /** @param profile null: it is about none that there is */
  failed(owner: OwnerUid, profile: ProfileName | null, code: ErrorCode): void {
    for (const { failures } of this.#tallies(owner, profile)) {
      failures.set(code, (failures.get(code) ?? 0) + 1);
    }
  }

  /** What has been counted of an owner. */
  of(owner: OwnerUid): OwnerFigures {
    const { all, profiles } = this.#owners.of(owner);
    return {
      owner,
      since: this.#since,
      ...all.figures,
      profiles: [...profiles].map(([profile, { figures }]) => ({ profile, ...figures })),
    };
  }

  /** The same of everybody. */
  everybody(): readonly OwnerFigures[] {
    return [...this.#owners.all()].map(([owner]) => this.of(owner));
  }

  #tallies(owner: OwnerUid, profile: ProfileName | null): readonly Tally[] {
    const { all, profiles } = this.#owners.of(owner);
    if (profile === null) return [all];
    const own = profiles.get(profile) ?? new Tally();
    if (profiles.size < profilesMost) profiles.set(profile, own);
    return [all, own];
  }
}
