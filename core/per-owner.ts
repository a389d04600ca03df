/**
 * What is kept for each person, whoever they are. Everybody on the machine may ask, and a person can
 * have many uids: those without a profile make room for each other.
 *
 * @module
 */
import type { OwnerUid } from "./names.ts";

/** How many are kept who have no profile. */
const strangersMost = 64;

/** One thing for each owner. */
export class PerOwner<T> {
  readonly #make: () => T;
  readonly #stays: () => ReadonlySet<OwnerUid>;
  readonly #all = new Map<OwnerUid, T>();

  /** @param stays those whose things are kept in any case */
  constructor(make: () => T, stays: () => ReadonlySet<OwnerUid>) {
    this.#make = make;
    this.#stays = stays;
  }

  /** What there is of an owner. */
  get(owner: OwnerUid): T | undefined {
    return this.#all.get(owner);
  }

  /** The same, made where there is none. */
  of(owner: OwnerUid): T {
    const found = this.#all.get(owner);
    if (found !== undefined) return found;
    const made = this.#make();
    this.#all.set(owner, made);
    if (this.#all.size > strangersMost) this.#makeRoom();
    return made;
  }

  all(): IterableIterator<readonly [OwnerUid, T]> {
    return this.#all.entries();
  }

  /** The oldest of too many strangers goes. */
  #makeRoom(): void {
    const stays = this.#stays();
    const strangers = [...this.#all.keys()].filter((owner) => !stays.has(owner));
    for (const owner of strangers.slice(0, -strangersMost)) this.#all.delete(owner);
  }
}
