/**
 * `appjail stop`: ends every program of a jail, and the jail. `appjail lock`: its home is locked then,
 * whatever it was to be.
 *
 * @module
 */
import { AppjailError, exitFailure } from "../core/errors.ts";
import { printable } from "../core/log.ts";
import type { ClientToDispatcher } from "../core/protocol.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";

export interface StopFlags {
  readonly socket?: string | undefined;
  readonly all?: boolean | undefined;
  readonly force?: boolean | undefined;
  /** Seconds between TERM and KILL. */
  readonly timeout: number;
}

export function stop(
  flags: StopFlags,
  world: World,
  ...profiles: readonly string[]
): Promise<number> {
  return end("stop", flags, world, profiles);
}

/** `appjail lock`: the same, and the homes are locked, too, that were to stay unlocked. */
export function lock(
  flags: StopFlags,
  world: World,
  ...profiles: readonly string[]
): Promise<number> {
  return end("lock", flags, world, profiles);
}

const told = {
  stop: { done: "stopped", none: "No jail of yours is running." },
  lock: { done: "locked", none: "No home of yours is unlocked, and no jail is running." },
} as const;

async function end(
  verb: keyof typeof told,
  flags: StopFlags,
  world: World,
  profiles: readonly string[],
): Promise<number> {
  const { all = false, force = false } = flags;
  if (all === profiles.length > 0) {
    const why = all ? "give names or --all, not both" : "give the profiles' names, or --all";
    throw new AppjailError("usage", `Cannot ${verb}: ${why}; see: appjail help ${verb}`);
  }
  const request: Extract<ClientToDispatcher, { readonly type: "stop" }> = {
    type: "stop",
    profiles: [...new Set(profiles.map(parseProfile))],
    force,
    timeout: Math.round(flags.timeout * 1000),
    lock: verb === "lock",
  };
  let [any, failed] = [false, false];
  for await (const message of ask(socketPath(flags.socket, world.env), request)) {
    if (message.type !== "stopped") continue;
    any = true;
    const { profile, ran, killed, problem } = message;
    if (problem !== null) {
      failed = true;
      writeOut(`${profile}: ${printable(problem)}\n`, Deno.stderr);
      continue;
    }
    if (verb === "stop" && !ran) {
      writeOut(`${profile} was not running\n`, Deno.stdout);
      continue;
    }
    const programs = killed === 1 ? "1 program" : `${killed} programs`;
    const cost = killed === 0 ? "" : `; ${programs} had to be killed`;
    // Whether anybody reads it or not, the rest is waited for: the exit status tells of them all.
    writeOut(`${told[verb].done} ${profile}${cost}\n`, Deno.stdout);
  }
  if (!any) writeOut(`${told[verb].none}\n`, Deno.stdout);
  return failed ? exitFailure : 0;
}
