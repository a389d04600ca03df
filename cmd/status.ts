/**
 * `appjail status`: which jails there are, and what runs in them.
 *
 * @module
 */
import { pause } from "../core/deadline.ts";
import { heldTexts } from "../core/limits.ts";
import { jsonText, printable } from "../core/log.ts";
import type { HomeState, JailReport } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";
import { listen } from "../core/signals.ts";
import { align, fit } from "../core/table.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";

export interface StatusFlags {
  readonly socket?: string | undefined;
  readonly json?: boolean | undefined;
  readonly all?: boolean | undefined;
  /** Show it again and again. */
  readonly watch?: boolean | undefined;
}

/** How often it is looked at again, in milliseconds. */
const watchInterval = 2_000;

export async function status(
  flags: StatusFlags,
  world: World,
  profile?: string,
): Promise<number> {
  const { all = false, watch = false } = flags;
  const wanted = profile === undefined ? null : parseProfile(profile);
  const look = (): Promise<readonly JailReport[]> => reported(flags, world, wanted);
  if (watch) return await follow(look, flags, wanted);
  const shown = await look();
  const text = flags.json
    ? `${jsonText(shown, 2)}\n`
    : shown.length === 0
    ? `${nothing(wanted, all)}\n`
    : statusText(shown, { owners: all, width: widthOfOutput(), now: Date.now() });
  writeOut(text, Deno.stdout);
  return 0;
}

/** A terminal that does not know its size says 0; where there is none, nothing is cut. */
export function widthOfOutput(): number {
  return Deno.stdout.isTerminal() ? Deno.consoleSize().columns || Infinity : Infinity;
}

/** What the daemon says at this moment. */
async function reported(
  flags: StatusFlags,
  world: World,
  wanted: string | null,
): Promise<readonly JailReport[]> {
  const { all = false } = flags;
  const jails: JailReport[] = [];
  const request = {
    type: "status",
    // Everybody's of one name are chosen here: a name is one person's to the daemon.
    profile: all || wanted === null ? null : parseProfile(wanted),
    everyone: all,
  } as const;
  for await (const message of ask(socketPath(flags.socket, world.env), request)) {
    if (message.type === "reported") jails.push(...message.jails);
  }
  return jails.filter((jail) => wanted === null || jail.profile === wanted);
}

/** How busy each jail has kept the processors since it was looked at before, in percent of one. */
export function busyness(
  before: readonly JailReport[],
  now: readonly JailReport[],
  elapsed: number,
): ReadonlyMap<number, number> {
  const was = new Map(before.map((jail) => [jail.uid, jail]));
  return new Map(now.flatMap((jail) => {
    const earlier = was.get(jail.uid);
    // Another life of it has begun to count anew.
    if (earlier === undefined || earlier.jailer_pid !== jail.jailer_pid || elapsed <= 0) return [];
    return [[jail.uid, Math.max(0, (jail.cpu_ms - earlier.cpu_ms) * 100 / elapsed)]];
  }));
}

/**
 * Shows it again and again, until whoever looks has had enough: on a terminal in its place, elsewhere
 * one below the other, as JSON each in a line.
 */
async function follow(
  look: () => Promise<readonly JailReport[]>,
  { all = false, json: asJson = false }: StatusFlags,
  wanted: string | null,
): Promise<number> {
  const terminal = Deno.stdout.isTerminal() && !asJson;
  const stopped = Promise.withResolvers<"stopped">();
  const unlisten = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((signal) =>
    listen(signal, () => stopped.resolve("stopped"))
  );
  let before: readonly JailReport[] = [];
  let at = performance.now();
  if (terminal) writeOut(screen.enter, Deno.stdout);
  try {
    for (;;) {
      const now = await look();
      const busy = busyness(before, now, performance.now() - at);
      [before, at] = [now, performance.now()];
      if (asJson) writeOut(`${jsonText(now)}\n`, Deno.stdout);
      else {
        const text = now.length === 0
          ? `${nothing(wanted, all)}\n`
          : statusText(now, { owners: all, width: widthOfOutput(), now: Date.now(), busy });
        writeOut(terminal ? inPlace(text) : `${text}\n`, Deno.stdout);
      }
      const next = await Promise.race([
        stopped.promise,
        pause(watchInterval).then(() => "again" as const),
      ]);
      if (next === "stopped") return 0;
    }
  } finally {
    if (terminal) writeOut(screen.leave, Deno.stdout);
    for (const one of unlisten) one();
  }
}

/** The other screen of a terminal, without a cursor; and back. ctlseqs(ms), DECSET 1049 and 25. */
const screen = { enter: "\x1b[?1049h\x1b[?25l", leave: "\x1b[?25h\x1b[?1049l" } as const;

/** A text over what was there, as many lines as there is room for. */
function inPlace(text: string): string {
  const rows = Deno.consoleSize().rows || 24;
  const lines = text.trimEnd().split("\n").slice(0, rows - 1);
  return `\x1b[H${lines.map((line) => `${line}\x1b[K\r\n`).join("")}\x1b[J`;
}

function nothing(profile: string | null, everyone: boolean): string {
  if (profile !== null) return `No jail called ${profile} is running.`;
  return everyone ? "No jail is running." : "No jail of yours is running.";
}

/** The table: a line for each jail, below it those of its programs, of its loans and of its limits. */
export function statusText(
  jails: readonly JailReport[],
  { owners, width, now, busy }: {
    readonly owners: boolean;
    readonly width: number;
    readonly now: number;
    /** How busy each uid has kept the processors, in percent; without, that is not shown. */
    readonly busy?: ReadonlyMap<number, number>;
  },
): string {
  // Most people have no encrypted home, and need not read that none is.
  const homes = jails.some(({ home }) => home.kind !== null || home.problem !== null);
  const head = [
    "PROFILE",
    ...(owners ? ["OWNER"] : []),
    "UID",
    ...(homes ? ["HOME"] : []),
    "STATE",
    "PID",
    "SINCE",
    "MEMORY",
    ...(busy === undefined ? [] : ["CPU"]),
  ];
  const heads = align(
    [
      [...head, "PROGRAMS"],
      ...jails.map((jail) => [
        jail.profile,
        ...(owners ? [`${jail.owner}`] : []),
        `${jail.uid}`,
        ...(homes ? [homeWord(jail.home)] : []),
        // What runs is as the profile was when it began.
        jail.changed ? `${jail.state}*` : jail.state,
        `${jail.jailer_pid ?? "-"}`,
        isJail(jail) ? since(jail.started, now) : "-",
        isJail(jail) ? memory(jail.memory_bytes) : "-",
        ...(busy === undefined ? [] : [percent(busy.get(jail.uid))]),
        `${jail.programs.length}`,
      ]),
    ],
    ["OWNER", "UID", "PID", "MEMORY", "CPU"].map((name) => head.indexOf(name)),
  );
  const programs = align(
    jails.flatMap((jail) =>
      jail.programs.map(({ program, pid, started, argv }) => [
        `  ${program}`,
        `pid ${pid}`,
        duration(now - started),
        // A program names its own arguments: they must not steer the terminal.
        argv.map((word) => printable(quoted(word))).join(" "),
      ])
    ),
    [2],
  );
  const lends = align(
    jails.flatMap((jail) =>
      jail.lends.map(({ name, path, write, until, at, context }) => [
        `  lent ${printable(quoted(at ?? `~/lent/${name}`))}`,
        write ? "rw" : "ro",
        context ? "in a security context" : until === null ? "" : `until ${since(until, now)}`,
        printable(quoted(path)),
      ])
    ),
    [],
  );
  const lines = [heads[0] ?? ""];
  let [next, nextLent] = [0, 0];
  jails.forEach((jail, at) => {
    lines.push(heads[at + 1] ?? "", ...programs.slice(next, next + jail.programs.length));
    lines.push(...lends.slice(nextLent, nextLent + jail.lends.length));
    const limits = heldTexts(jail.limits);
    if (limits.length > 0) lines.push(`  at most ${limits.join(", ")}`);
    next += jail.programs.length;
    nextLent += jail.lends.length;
  });
  if (jails.some((jail) => jail.changed)) {
    lines.push("* its profile was changed: that holds when it is started next");
  }
  return lines.map((line) => `${fit(line, width)}\n`).join("");
}

/** Whether it is a jail, or only a home without one. */
function isJail({ state }: JailReport): boolean {
  return state !== "locked" && state !== "unlocked";
}

function homeWord({ kind, problem }: HomeState): string {
  return problem === null ? kind ?? "plain" : "refused";
}

/** Today's time, or the day. */
function since(at: number, now: number): string {
  const [then, today] = [new Date(at), new Date(now)];
  return then.toDateString() === today.toDateString() ? clock(then).slice(0, 5) : dayOf(then);
}

/** `YYYY-MM-DD`, where the person is. */
export function dayOf(date: Date): string {
  const two = (number: number) => `${number}`.padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** `HH:MM:SS`, where the person is. */
export function clock(date: Date): string {
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((number) => `${number}`.padStart(2, "0")).join(":");
}

function percent(value: number | undefined): string {
  return value === undefined ? "-" : `${value < 9.95 ? value.toFixed(1) : Math.round(value)} %`;
}

function memory(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** The two largest units: enough to tell what is old. */
export function duration(milliseconds: number): string {
  // A clock that was set back makes no program younger than new.
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days}d${(hours ?? 0) % 24}h`;
  if (hours) return `${hours}h${(minutes ?? 0) % 60}m`;
  if (minutes) return `${minutes}m${seconds % 60}s`;
  return `${seconds}s`;
}
