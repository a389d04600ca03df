/**
 * `appjail events`: what has happened to the caller's jails lately, and what happens now.
 *
 * @module
 */
import { pause } from "../core/deadline.ts";
import { AppjailError } from "../core/errors.ts";
import { stopText, unlentText } from "../core/event-text.ts";
import { exitText } from "../core/exit.ts";
import { jsonText, printable } from "../core/log.ts";
import type { Event } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";
import { fit } from "../core/table.ts";
import { type Answer, ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { clock, dayOf, widthOfOutput } from "./status.ts";
import { parseDuration } from "./unlock.ts";

export interface EventsFlags {
  readonly socket?: string | undefined;
  readonly json?: boolean | undefined;
  readonly all?: boolean | undefined;
  /** Go on as more happens. */
  readonly follow?: boolean | undefined;
  /** None that are older. */
  readonly since?: string | undefined;
}

type Happened = Extract<Answer, { readonly type: "happened" }>;

/** How long a daemon that was lost may take to be there again, and how often it is looked for. */
const returnDeadline = 10_000;
const returnPause = 200;

export async function events(
  flags: EventsFlags,
  world: World,
  profile?: string,
): Promise<number> {
  const { json = false, all = false, follow = false } = flags;
  const path = socketPath(flags.socket, world.env);
  const printer = new Printer(json, all);
  const wanted = profile === undefined ? null : parseProfile(profile);
  let since = flags.since === undefined
    ? 0
    : Math.max(0, Date.now() - parseDuration(flags.since, "--since"));
  let lost: number | undefined;
  for (;;) {
    try {
      const request = {
        type: "events",
        // Everybody's of one name are chosen here: a name is one person's to the daemon.
        profile: all ? null : wanted,
        everyone: all,
        follow,
        since,
      } as const;
      for await (const message of ask(path, request)) {
        if (message.type !== "happened") continue;
        since = message.events.at(-1)?.at ?? since;
        const chosen = message.events.filter((one) => wanted === null || one.profile === wanted);
        if (!printer.print({ ...message, events: chosen })) return 0;
      }
      return 0;
    } catch (error) {
      if (!follow || !(error instanceof AppjailError)) throw error;
      // Nobody is there at first: that is for whoever asks to know. Later, the next may be on its way.
      if (error.code === "lost") {
        lost = performance.now() + returnDeadline;
        since++;
        printer.gap(null);
      } else if (error.code !== "no-daemon" || lost === undefined) throw error;
      if (performance.now() > lost) {
        throw new AppjailError(
          "lost",
          "The daemon went away and did not come back; what happens now is not known",
        );
      }
      await pause(returnPause);
    }
  }
}

/** Where lines go, one for each event. */
class Printer {
  readonly #json: boolean;
  readonly #owners: boolean;
  /** As wide as the longest name so far: who follows does not know what comes. */
  #names = 8;

  constructor(json: boolean, owners: boolean) {
    this.#json = json;
    this.#owners = owners;
  }

  /** @returns false when nobody reads any more */
  print({ events, missed }: Pick<Happened, "events" | "missed">): boolean {
    if (missed > 0) this.gap(missed);
    const lines = events.map((event) => {
      if (this.#json) return `${jsonText(event)}\n`;
      this.#names = Math.max(this.#names, event.profile?.length ?? 0);
      const line = eventLine(event, {
        owners: this.#owners,
        names: this.#names,
        now: Date.now(),
      });
      return `${fit(line, widthOfOutput())}\n`;
    });
    return writeOut(lines.join(""), Deno.stdout);
  }

  /** Events that are not there. @param missed how many; null: nobody knows */
  gap(missed: number | null): void {
    const text = missed === null
      ? "(the daemon was lost; what happened until it was there again is not known)"
      : `(${missed} event${
        missed === 1 ? " was" : "s were"
      } missed: too many for so slow a reader)`;
    writeOut(this.#json ? `${jsonText({ event: "gap", missed })}\n` : `${text}\n`, Deno.stdout);
  }
}

/** An event as a line of a table. */
export function eventLine(
  event: Event,
  { owners, names, now }: {
    readonly owners: boolean;
    /** How wide the column of the profiles is. */
    readonly names: number;
    readonly now: number;
  },
): string {
  const { at, owner, profile, uid } = event;
  return [
    moment(at, now),
    ...(owners ? [`${owner}`.padEnd(6)] : []),
    (profile ?? "-").padEnd(names),
    `${uid ?? "-"}`.padEnd(6),
    event.event.padEnd(15),
    // A program names its first word itself, and a file's name is anybody's.
    printable(detail(event)),
  ].join("  ").trimEnd();
}

/** What is not in a column of its own. */
function detail(event: Event): string {
  switch (event.event) {
    case "jail-started":
    case "home-unlocked":
      return "";
    case "home-locked":
      return event.note ?? "";
    case "jail-stopped":
      return stopText(event);
    case "program-started":
      return `${event.program}: ${quoted(event.command)}`;
    case "program-exited":
      return `${event.program}: ${exitText(event.status)}`;
    case "lent": {
      const until = event.until === null ? "" : `, until ${moment(event.until, event.at)}`;
      const how = event.write ? "to be changed" : "to read";
      return `${quoted(`~/lent/${event.name}`)}: ${quoted(event.path)}, ${how}${until}`;
    }
    case "unlent":
      return `${quoted(`~/lent/${event.name}`)}: ${unlentText(event)}`;
    case "refused":
      return `${event.request || "to speak"}: ${event.message}`;
    default:
      return event satisfies never;
  }
}

/** Today's time, or the day and the time. */
function moment(at: number, now: number): string {
  const [then, today] = [new Date(at), new Date(now)];
  return then.toDateString() === today.toDateString()
    ? clock(then)
    : `${dayOf(then)} ${clock(then)}`;
}
