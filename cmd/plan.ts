/**
 * `appjail plan`: what a profile's jail would be, without starting it. The daemon says what it would
 * tell its helper; from there on it is worked out here, by the same function.
 *
 * @module
 */
import { homeOf } from "../core/environment.ts";
import { AppjailError } from "../core/errors.ts";
import { hostLayout } from "../core/host.ts";
import { printable } from "../core/log.ts";
import { planJail } from "../core/plan.ts";
import { linesOf, mountsOf, type PlannedMount } from "../core/plan-text.ts";
import type { DispatcherToClient } from "../core/protocol.ts";
import { sessionOf } from "../core/session.ts";
import { align } from "../core/table.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";

export interface PlanFlags {
  readonly json?: boolean | undefined;
  readonly socket?: string | undefined;
}

type Planned = Extract<DispatcherToClient, { readonly type: "planned" }>;

export async function plan(flags: PlanFlags, world: World, name: string): Promise<number> {
  const profile = parseProfile(name);
  const request = { type: "plan", profile, session: sessionOf(world.env) } as const;
  let planned: Planned | undefined;
  for await (const message of ask(socketPath(flags.socket, world.env), request)) {
    if (message.type === "planned") planned = message;
  }
  if (planned === undefined) throw new AppjailError("protocol", "The daemon planned nothing");
  const { spec, uid, shown, home, running } = planned;
  const words = planJail({
    profile,
    uid: shown,
    spec,
    lent: spec.lend.flatMap(({ name, at }) => at === null ? [] : [{ name, at }]),
    host: hostLayout(),
    program: "appjail itself",
    home,
    files: "its own",
    infoFd: 0,
    seccompFd: spec.seccomp === "none" ? undefined : 0,
    proxy: spec.buses.session === "filtered" || spec.buses.system === "filtered"
      ? {
        session: spec.buses.session === "filtered" ? "your session bus, filtered" : undefined,
        system: spec.buses.system === "filtered" ? "the system bus, filtered" : undefined,
      }
      : undefined,
    // A cookie is made when it is started.
    seen: [],
  });
  const lends = [
    ...spec.shared
      ? [{
        path: `~/Shared/${profile}`,
        at: `${homeOf(profile)}/shared`,
        write: true,
        optional: true,
        unless: null,
      }]
      : [],
    ...spec.lend.map(({ name, path, at, write, skip_missing, unless }) => ({
      path,
      at: at ?? `${homeOf(profile)}/lent/${name}`,
      write,
      optional: skip_missing,
      unless: spec.lend.find((one) => one.name === unless)?.path ?? null,
    })),
  ];
  // What is lent is told of by itself.
  const mounts = mountsOf(words).filter(({ from }) => from?.startsWith("its own/lend/") !== true);
  if (flags.json) {
    const all = { profile, uid, running, spec, mounts, lends };
    const text = JSON.stringify(all, null, 2).split("\n").map(printable).join("\n");
    writeOut(`${text}\n`, Deno.stdout);
    return 0;
  }
  const lines = [
    `${profile}, uid ${uid ?? "not given yet"}: nothing was started`,
    "",
    ...align(linesOf(spec).map((row) => row.map((cell) => printable(cell)))),
    "",
    "lent by you",
    ...lends.length === 0 ? ["  nothing"] : align(
      lends.map(({ path, at, write, optional, unless }) => [
        `  ${printable(at)}`,
        write ? "writable" : "read-only",
        printable(path) + (optional ? ", if it is there" : "") +
        (unless === null ? "" : ` and ${printable(unless)} is not`),
      ]),
    ),
    "",
    "files",
    ...align(
      mounts.filter(isTold).map((one) => [
        `  ${printable(one.at)}`,
        one.kind,
        one.from === null ? "" : printable(one.from) + (one.optional ? ", if it is there" : ""),
      ]),
    ),
    ...running ? ["", `A jail of it runs, which may be as the profile was when it began.`] : [],
  ];
  writeOut(`${lines.join("\n")}\n`, Deno.stdout);
  return 0;
}

/** Empty folders on the way to something are no news. */
function isTold({ kind }: PlannedMount): boolean {
  return kind !== "folder";
}
