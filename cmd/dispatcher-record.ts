/**
 * What the dispatcher puts on record: a line in the log for each decision, the events that a person
 * may read of their own jails, and the figures.
 *
 * The log is read by others than whoever asked. So it says who has done what with which profile, and
 * of a command its first word; neither a file's name nor the rest of a command line stands there.
 *
 * @module
 */
import { Chronicle, type Follower } from "../core/chronicle.ts";
import { AppjailError, asAppjailError } from "../core/errors.ts";
import { stopText, unlentText } from "../core/event-text.ts";
import { exitText } from "../core/exit.ts";
import type { Happening, Jail, Witness } from "../core/jail.ts";
import type { Jails } from "../core/jails.ts";
import type { Log, LogFields } from "../core/log.ts";
import type { OwnerUid, ProfileName } from "../core/names.ts";
import type { Allocation, OwnerFigures } from "../core/protocol.ts";
import { Stats } from "../core/stats.ts";
import { Throttle } from "../core/throttle.ts";

/** Who asks: by the uid that the kernel or the bus tells. The rest is for the log alone. */
export interface Asker {
  readonly uid: OwnerUid;
  /** On the socket. Another process may have it by now. */
  readonly pid?: number;
  /** On the bus. */
  readonly busName?: string;
}

/** What a request is about, as far as it has been understood. */
export interface About {
  readonly request: string;
  readonly profile: ProfileName | null;
}

/** How many refusals of one uid are put on record, in so many milliseconds: anybody can ask for nonsense. */
const refusalsMost = 20;
const refusalsTime = 10_000;

/** How much of a command's first word stands in the log. */
const commandMost = 200;

/** The dispatcher's record. */
export class Records implements Witness {
  readonly chronicle: Chronicle;
  readonly stats: Stats;
  readonly #log: Log;
  readonly #jails: () => Pick<Jails, "owners" | "find" | "allocationOf">;
  readonly #refusals = new Throttle<number>(refusalsMost, refusalsTime);
  readonly #watchers = new Set<(jail: Jail) => void>();

  /** @param jails those that are on record, which are not there yet when this is made */
  constructor(log: Log, jails: () => Pick<Jails, "owners" | "find" | "allocationOf">) {
    this.#log = log;
    this.#jails = jails;
    const known = (): ReadonlySet<OwnerUid> => jails().owners();
    this.chronicle = new Chronicle(known);
    this.stats = new Stats(known);
  }

  // --- What jails tell -----------------------------------------------------------------------

  tell(happening: Happening): void {
    this.chronicle.tell(happening);
    const { owner: uid, profile, uid: app_uid } = happening;
    const fields = { event: happening.event, uid, profile, app_uid };
    const jail = `jail ${profile} of uid ${uid}`;
    switch (happening.event) {
      case "jail-started":
        return this.#log.info(`${jail} has started as ${app_uid}`, fields);
      case "jail-stopped": {
        const { reason, why } = happening;
        return this.#log.info(`${jail} has ended: ${stopText(happening)}`, {
          ...fields,
          reason,
          why,
        });
      }
      case "program-exited": {
        const { program, status } = happening;
        const text = exitText(status);
        return this.#log.info(`${program} of uid ${uid} has ended: ${text}`, {
          ...fields,
          program,
          status: text,
        });
      }
      case "home-unlocked":
        return this.#log.info(`the home of ${profile} of uid ${uid} is unlocked`, fields);
      case "home-locked":
        return this.#log.info(`the home of ${profile} of uid ${uid} is locked`, fields);
      case "unlent":
        // Who has asked for it stands there with the request.
        if (happening.reason === "asked") return;
        return this.#log.info(
          `${jail} is lent something no longer: ${unlentText(happening)}`,
          { ...fields, reason: happening.reason },
        );
      case "program-started":
      case "lent":
      case "refused":
        // With the request.
        return;
      default:
        happening satisfies never;
    }
  }

  changed(jail: Jail): void {
    for (const watcher of this.#watchers) watcher(jail);
  }

  wrong(allocation: Allocation): void {
    this.stats.wrong(allocation);
    const { owner: uid, profile, uid: app_uid } = allocation;
    this.#log.warn(`a passphrase for the home of ${profile} of uid ${uid} was wrong`, {
      event: "wrong-passphrase",
      uid,
      profile,
      app_uid,
    });
  }

  ran(allocation: Allocation, joined: boolean, took: number | undefined): void {
    this.stats.ran(allocation, joined, took);
  }

  /** Calls back whenever a jail is in another state; the returned function ends that. */
  watch(watcher: (jail: Jail) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  // --- What may be read of it ----------------------------------------------------------------

  /** @throws {AppjailError} when somebody asks for what is not theirs */
  follow(uid: OwnerUid, everyone: boolean): Follower {
    return this.chronicle.follow(ownOrAll(uid, everyone, "events"));
  }

  /** @throws {AppjailError} when somebody asks for what is not theirs */
  figures(uid: OwnerUid, everyone: boolean): readonly OwnerFigures[] {
    const owner = ownOrAll(uid, everyone, "figures");
    return owner === null ? this.stats.everybody() : [this.stats.of(owner)];
  }

  // --- What is asked for ---------------------------------------------------------------------

  /** Somebody's request was granted. @param words what they do, such as `stops work` */
  granted(asker: Asker, { request, profile }: About, words: string, more: LogFields = {}): void {
    this.#log.info(`${nameOf(asker)} ${words}`, {
      decision: request,
      ...fieldsOf(asker),
      profile,
      ...more,
    });
  }

  /** The same for a program that runs. */
  runs(
    asker: Asker,
    { owner: _, profile, uid: app_uid }: Allocation,
    { program, joined, command, lent = 0 }: {
      readonly program: string;
      readonly joined: boolean;
      /** Its first word; undefined: the profile's own. */
      readonly command: string | undefined;
      /** How many files. */
      readonly lent?: number;
    },
  ): void {
    const place = joined ? "" : " in a new jail";
    const words = command?.slice(0, commandMost) ?? "its command";
    this.granted(
      asker,
      { request: "run", profile },
      `runs ${program} as ${app_uid}${place}: ${words}`,
      { app_uid, program, joined, command: words, lent },
    );
  }

  /** The same for a jail that is stopped. */
  stops(
    asker: Asker,
    { owner, profile, uid: app_uid }: Allocation,
    { force, lock }: { readonly force: boolean; readonly lock: boolean },
  ): void {
    const words = `${lock ? "locks" : force ? "kills" : "stops"} ${profile}`;
    const whose = owner === asker.uid ? "" : ` of uid ${owner}`;
    const more = { app_uid, owner, force, lock };
    this.granted(asker, { request: "stop", profile }, `${words}${whose}`, more);
  }

  /** The same for what a jail is lent. */
  lends(asker: Asker, about: About, { write }: { readonly write: boolean }): void {
    const words = `lends something to ${about.profile}, ${write ? "to be changed" : "to read"}`;
    this.granted(asker, about, words, { write });
  }

  takesBack(asker: Asker, about: About): void {
    this.granted(asker, about, `takes back what it has lent to ${about.profile}`);
  }

  /** Somebody's request has failed. */
  refused(asker: Asker, { request, profile }: About, thrown: unknown): void {
    const { code, message, forLog } = asAppjailError(thrown);
    // Whose program it is that asks from its jail is who is to know.
    const inside = this.#jails().allocationOf(asker.uid);
    const owner = inside?.owner ?? asker.uid;
    const known = profile === null ? undefined : this.#jails().find(owner, profile)?.allocation;
    const about = inside ?? known;
    this.stats.failed(owner, about?.profile ?? null, code);
    const words = `${nameOf(asker)} is refused ${request || "to speak"}`;
    this.#log.debug(`${words}: ${message}`);
    // Whoever goes away, or does not want to any more, was refused nothing.
    if (code === "cancelled") return;
    const held = this.#refusals.admit(asker.uid);
    if (held === undefined) return;
    const fields = { decision: "refused", ...fieldsOf(asker), request, profile, code };
    if (held > 0) {
      this.#log.info(`${nameOf(asker)} was refused ${held} more`, { ...fields, times: held });
    }
    const of = profile === null ? "" : ` of ${profile}`;
    this.#log[code === "internal" ? "warn" : "info"](`${words}${of}: ${forLog}`, fields);
    this.chronicle.tell({
      event: "refused",
      owner,
      profile: inside?.profile ?? profile,
      uid: about?.uid ?? null,
      request,
      code,
      message,
    });
  }
}

/** Whose they are to be; null: everybody's, which is for root alone. */
function ownOrAll(uid: OwnerUid, everyone: boolean, what: string): OwnerUid | null {
  if (!everyone) return uid;
  if (uid === 0) return null;
  throw new AppjailError("denied", `Cannot show the ${what} of others: only root may see them`);
}

/** Somebody, for people. */
function nameOf({ uid, pid, busName }: Asker): string {
  const more = pid !== undefined ? ` (pid ${pid})` : busName !== undefined ? ` (${busName})` : "";
  return `uid ${uid}${more}`;
}

function fieldsOf({ uid, pid, busName }: Asker): LogFields {
  return { uid, pid, bus_name: busName };
}
