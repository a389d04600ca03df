/**
 * What has happened lately, for each owner: bounded, and read by whoever follows it at their own
 * pace. Nobody who follows has a queue of their own: whoever is slow finds what is still there, and is
 * told how much is not.
 *
 * @module
 */
import type { Happening } from "./jail.ts";
import type { OwnerUid } from "./names.ts";
import { PerOwner } from "./per-owner.ts";
import type { Event } from "./protocol.ts";
import { Ring } from "./ring.ts";

/** How many events are kept for each owner, and how many bytes of them, roughly. */
export const eventsMost = 500;
const bytesMost = 128 * 1024;

/** How many are read at a time. */
const readMost = 64;

/** How much of a text is kept. A path is kept whole: it has a bound of its own. */
const textMost = 1000;
const commandMost = 256;

interface Kept {
  readonly sequence: number;
  /** Its place among those of all owners. */
  readonly order: number;
  /** How long it is as text. */
  readonly size: number;
  readonly event: Event;
}

type Kepts = Ring<Kept>;

/** What somebody reads who follows. */
export interface Read {
  readonly events: readonly Event[];
  /** How many came before these, and are not there any more. */
  readonly missed: number;
}

/** The events of all owners. */
export class Chronicle {
  readonly #rings: PerOwner<Kepts>;
  readonly #followers = new Set<Follower>();
  readonly #listeners = new Set<(event: Event) => void>();
  #order = 0;

  /** @param known whoever has a profile: their events stay */
  constructor(known: () => ReadonlySet<OwnerUid>) {
    this.#rings = new PerOwner<Kepts>(
      () => new Ring(bytesMost, eventsMost, ({ size }) => size),
      () => new Set([...known(), ...[...this.#followers].flatMap(({ owner }) => owner ?? [])]),
    );
  }

  /** Something has happened just now. */
  tell(happening: Happening, at: number = Date.now()): void {
    const ring = this.#rings.of(happening.owner);
    const event: Event = { ...bounded(happening), sequence: ring.next, at };
    const size = JSON.stringify(event).length;
    ring.add({ sequence: event.sequence, order: this.#order++, size, event });
    for (const listener of this.#listeners) listener(event);
    for (const follower of this.#followers) {
      if (follower.owner === null || follower.owner === event.owner) follower.wake();
    }
  }

  /** Calls back for each event, as it happens; the returned function ends that. */
  listen(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Begins to read, with the oldest that there is.
   *
   * @param owner whose; null: everybody's
   */
  follow(owner: OwnerUid | null): Follower {
    // Before: the one whose events they are is none who makes room.
    const follower: Follower = new Follower(
      owner,
      () =>
        owner === null ? [...this.#rings.all()].map(([, ring]) => ring) : [this.#rings.of(owner)],
      () => this.#followers.delete(follower),
    );
    this.#followers.add(follower);
    return follower;
  }
}

/** Somebody who reads what has happened, from event to event. */
export class Follower implements Disposable {
  readonly owner: OwnerUid | null;
  readonly #rings: () => readonly Kepts[];
  readonly #leave: () => void;
  readonly #places = new WeakMap<Kepts, number>();
  #more = Promise.withResolvers<void>();

  constructor(owner: OwnerUid | null, rings: () => readonly Kepts[], leave: () => void) {
    this.owner = owner;
    this.#rings = rings;
    this.#leave = leave;
    for (const ring of rings()) this.#places.set(ring, ring.first);
  }

  /** The next events; `undefined` when all have been read. */
  read(): Read | undefined {
    let missed = 0;
    const all: { readonly ring: Kepts; readonly kept: Kept }[] = [];
    // One of which there is more than was read now may go on with what is older than another's.
    let horizon = Infinity;
    for (const ring of this.#rings()) {
      const place = this.#places.get(ring) ?? 0;
      missed += Math.max(0, ring.first - place);
      const some = ring.from(place, readMost);
      this.#places.set(ring, Math.max(place, ring.first));
      const last = some.at(-1);
      if (last !== undefined && last.sequence + 1 < ring.next) {
        horizon = Math.min(horizon, last.order);
      }
      for (const kept of some) all.push({ ring, kept });
    }
    const now = all.filter(({ kept }) => kept.order <= horizon)
      .sort((a, b) => a.kept.order - b.kept.order).slice(0, readMost);
    for (const { ring, kept } of now) this.#places.set(ring, kept.sequence + 1);
    if (now.length === 0 && missed === 0) return undefined;
    return { events: now.map(({ kept }) => kept.event), missed };
  }

  /** Settles when there may be more to be read. */
  more(): Promise<void> {
    return this.#more.promise;
  }

  /** Whoever waits for more looks again. */
  wake(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers();
  }

  [Symbol.dispose](): void {
    this.#leave();
  }
}

/** The same, with texts that others have a part in cut. */
function bounded(happening: Happening): Happening {
  switch (happening.event) {
    case "program-started":
      return { ...happening, command: cut(happening.command, commandMost) };
    case "jail-stopped":
      return { ...happening, why: happening.why && cut(happening.why, textMost) };
    case "home-locked":
      return { ...happening, note: happening.note && cut(happening.note, textMost) };
    case "refused":
      return { ...happening, message: cut(happening.message, textMost) };
    case "jail-started":
    case "program-exited":
    case "home-unlocked":
    case "lent":
    case "unlent":
      return happening;
    default:
      return happening satisfies never;
  }
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}
