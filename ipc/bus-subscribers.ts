/**
 * Who wants to be told of something: connections on the bus, each of one person, each for as long as
 * it is there. The bus says when one has gone, if it is asked to.
 *
 * A rule at the bus stands for each subscriber, and is taken back with it: dbus-next would keep its
 * rules for ever. Their number is bounded, for one person and in all, well below what a bus grants one
 * connection (512, dbus-daemon(1), max_match_rules_per_connection).
 */

/** Subscribers of one person, and all together. */
export const SUBSCRIBERS_PER_UID = 16;
export const SUBSCRIBERS = 256;

/** A connection that is told. */
export interface Subscriber {
  readonly sender: string;
  readonly uid: number;
  /** How many signals it was not told, because the bus took nothing. */
  missed: number;
}

/** What is asked of the bus. */
export interface SubscriberBus {
  /** Asks the bus itself. */
  readonly ask: (member: string, argument: string) => Promise<readonly unknown[]>;
  /** The error when there are too many. */
  readonly refuse: (text: string) => Error;
}

export class Subscribers {
  readonly #bus: SubscriberBus;
  readonly #all = new Map<string, { readonly it: Subscriber; readonly ready: Promise<void> }>();

  constructor(bus: SubscriberBus) {
    this.#bus = bus;
  }

  /** Adds a connection; one that is there already stays as it is. */
  async add(sender: string, uid: number): Promise<void> {
    const known = this.#all.get(sender);
    if (known !== undefined) return await known.ready;
    if (this.#all.size >= SUBSCRIBERS) {
      throw this.#bus.refuse(`There are ${SUBSCRIBERS} subscriptions, and no more are taken`);
    }
    if ([...this.#all.values()].filter(({ it }) => it.uid === uid).length >= SUBSCRIBERS_PER_UID) {
      throw this.#bus.refuse(
        `You have ${SUBSCRIBERS_PER_UID} subscriptions, the most there may be`,
      );
    }
    const ready = this.#watch(sender);
    this.#all.set(sender, { it: { sender, uid, missed: 0 }, ready });
    await ready;
  }

  async #watch(sender: string): Promise<void> {
    try {
      await this.#bus.ask("AddMatch", leaving(sender));
      // It may have left before the rule was there.
      const [there] = await this.#bus.ask("NameHasOwner", sender);
      if (there !== true) await this.remove(sender);
    } catch (error) {
      this.#all.delete(sender);
      throw error;
    }
  }

  /** Lets one go, if it is there. */
  async remove(sender: string): Promise<void> {
    if (!this.#all.delete(sender)) return;
    await this.#bus.ask("RemoveMatch", leaving(sender));
  }

  /** Those of one person. */
  of(uid: number): readonly Subscriber[] {
    return [...this.#all.values()].filter(({ it }) => it.uid === uid).map(({ it }) => it);
  }

  /** Those who were not told something. */
  get behind(): readonly Subscriber[] {
    return [...this.#all.values()].filter(({ it }) => it.missed > 0).map(({ it }) => it);
  }

  get size(): number {
    return this.#all.size;
  }
}

/** The rule by which the bus says that a connection has gone. */
function leaving(sender: string): string {
  return "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus'," +
    `member='NameOwnerChanged',path='/org/freedesktop/DBus',arg0='${sender}',arg2=''`;
}
