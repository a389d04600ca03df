/**
 * `appjail plan`: what a profile's jail would be, without starting it. The daemon says what it would
 * tell its helper; from there on it is worked out here, by the same function. The compositor is asked
 * for what it can do, by its own person.
 *
 * @module
 */
import { SystemError } from "../ipc/errno.ts";
import { connect } from "../ipc/socket.ts";
import { Compositor, compositorPatience } from "../core/compositor.ts";
import { homeOf } from "../core/environment.ts";
import { AppjailError } from "../core/errors.ts";
import { hostLayout } from "../core/host.ts";
import { printable } from "../core/log.ts";
import { planJail } from "../core/plan.ts";
import { linesOf, mountsOf, type PlannedMount } from "../core/plan-text.ts";
import type { DispatcherToClient, JailSpec } from "../core/protocol.ts";
import { sessionOf } from "../core/session.ts";
import { align } from "../core/table.ts";
import { WaylandFault } from "../core/wayland.ts";
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
  const windows = await windowsOf(spec);
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
    const { context } = windows;
    const all = { profile, uid, running, spec, mounts, lends, security_context: context };
    const text = JSON.stringify(all, null, 2).split("\n").map(printable).join("\n");
    writeOut(`${text}\n`, Deno.stdout);
    return 0;
  }
  const lines = [
    `${profile}, uid ${uid ?? "not given yet"}: nothing was started`,
    "",
    ...align(
      [...linesOf(spec), ["windows", windows.words] as const]
        .map((row) => row.map((cell) => printable(cell))),
    ),
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

/** By what it would show windows. */
interface Windows {
  readonly words: string;
  /** Whether it would have a security context; null: that cannot be told, or it needs none. */
  readonly context: boolean | null;
}

async function windowsOf({ lend, x11 }: JailSpec): Promise<Windows> {
  const wayland = lend.find(({ context }) => context !== "none");
  if (wayland === undefined) {
    const words = x11 === null ? "none" : `on X server :${x11.number}, among all its programs`;
    return { words, context: null };
  }
  const without = (why: string): string =>
    wayland.context === "required"
      ? `it would not start: ${why}`
      : `by your compositor's own socket: ${why}`;
  try {
    using socket = connect(wayland.path);
    const context = await new Compositor(socket, compositorPatience).makesContexts();
    const words = context
      ? "by a security context of your compositor"
      : without("your compositor makes no security contexts");
    return { words, context };
  } catch (error) {
    if (error instanceof WaylandFault) {
      return { words: without(`your compositor: ${error.message}`), context: null };
    }
    if (!(error instanceof SystemError)) throw error;
    const none = wayland.skip_missing ? "none" : "it would not start";
    return { words: `${none}: there is no compositor (${error.message})`, context: null };
  }
}

/** Empty folders on the way to something are no news. */
function isTold({ kind }: PlannedMount): boolean {
  return kind !== "folder";
}
