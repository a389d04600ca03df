/**
 * `appjail stats`: what has been counted and timed since the daemon was started.
 *
 * @module
 */
import { jsonText } from "../core/log.ts";
import type { Figures, OwnerFigures } from "../core/protocol.ts";
import { align } from "../core/table.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { clock, dayOf, duration } from "./status.ts";

export interface StatsFlags {
  readonly socket?: string | undefined;
  readonly json?: boolean | undefined;
  readonly all?: boolean | undefined;
}

export async function stats(flags: StatsFlags, world: World): Promise<number> {
  const { json = false, all = false } = flags;
  const counted: OwnerFigures[] = [];
  const request = { type: "stats", everyone: all } as const;
  for await (const message of ask(socketPath(flags.socket, world.env), request)) {
    if (message.type === "counted") counted.push(message.figures);
  }
  writeOut(
    json
      ? `${jsonText(counted.map(named), 2)}\n`
      : counted.length === 0
      ? "Nothing has been counted yet.\n"
      : counted.map((one) => statsText(one, { owner: all, now: Date.now() })).join("\n"),
    Deno.stdout,
  );
  return 0;
}

/** With the failures by their names, as a script wants them. */
function named({ profiles, ...all }: OwnerFigures): unknown {
  const one = <F extends Figures>(figures: F) => ({
    ...figures,
    failures: Object.fromEntries(figures.failures.map(({ code, times }) => [code, times])),
  });
  return { ...one(all), profiles: profiles.map(one) };
}

/** The figures of one owner. */
export function statsText(
  figures: OwnerFigures,
  { owner, now }: { readonly owner: boolean; readonly now: number },
): string {
  const { since, profiles, failures } = figures;
  const rows = [
    ...profiles.map((profile) => row(profile.profile, profile)),
    // Of one profile alone there is no more to be said.
    ...profiles.length === 1 && same(profiles[0], figures) ? [] : [row("(all)", figures)],
  ];
  const head = [
    "PROFILE",
    "STARTS",
    "JOINS",
    "PROGRAMS",
    "FAILED",
    "START",
    "(MIN",
    "P95",
    "MAX)",
    "JOIN",
    "(MIN",
    "P95",
    "MAX)",
  ];
  const began = new Date(since);
  const lines = [
    `${owner ? `uid ${figures.owner}, ` : ""}since ${dayOf(began)} ${clock(began)}, ` +
    `${duration(now - since)} ago; times in ms, START and JOIN are medians`,
    ...align([head, ...rows], head.map((_, at) => at).slice(1)),
    ...failures.length === 0 ? [] : [
      `failed: ${failures.map(({ code, times }) => `${code} ${times}`).join(", ")}`,
    ],
    ...figures.wrong_passphrases === 0 ? [] : [`wrong passphrases: ${figures.wrong_passphrases}`],
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function row(name: string, figures: Figures): readonly string[] {
  const times = (spread: Figures["start_ms"]): readonly string[] =>
    spread === null
      ? ["-", "-", "-", "-"]
      : [spread.median, spread.min, spread.p95, spread.max].map((one) => one.toFixed(1));
  return [
    name,
    `${figures.starts}`,
    `${figures.joins}`,
    `${figures.programs}`,
    `${failuresOf(figures)}`,
    ...times(figures.start_ms),
    ...times(figures.join_ms),
  ];
}

function failuresOf({ failures }: Figures): number {
  return failures.reduce((sum, { times }) => sum + times, 0);
}

/** Whether a profile's figures are all that there are: what failed may be about none. */
function same(one: Figures | undefined, all: Figures): boolean {
  return one !== undefined && failuresOf(one) === failuresOf(all);
}
