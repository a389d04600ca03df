/**
 * How much a jail may use, and what makes it keep to that. A control group holds a limit for all of
 * the jail together; a resource limit for each program by itself, or for what the jail's uid has; for
 * processor time there is no such one.
 *
 * @module
 */
import type { HeldLimits, JailLimits } from "./protocol.ts";

export const limitNames = ["memory", "processes", "cpu"] as const;
export type LimitName = typeof limitNames[number];

/** Those limits that there are. */
export function limited(limits: JailLimits): readonly (readonly [LimitName, number])[] {
  return limitNames.flatMap((name) => {
    const most = limits[name];
    return most === null ? [] : [[name, most] as const];
  });
}

/** What holds each limit, when a control group holds these. getrlimit(2). */
export function heldBy(limits: JailLimits, group: ReadonlySet<LimitName>): HeldLimits {
  const held = (name: LimitName): HeldLimits[LimitName] => {
    const most = limits[name];
    if (most === null) return null;
    return { most, by: group.has(name) ? "cgroup" : name === "cpu" ? "nothing" : "rlimit" };
  };
  return { memory: held("memory"), processes: held("processes"), cpu: held("cpu") };
}

/** Without any. */
export const noLimits: HeldLimits = { memory: null, processes: null, cpu: null };

/** A limit in words. */
export function limitText([name, most]: readonly [LimitName, number]): string {
  switch (name) {
    case "memory":
      return `${Math.round(most / 2 ** 20)} MiB of memory`;
    case "processes":
      return `${most} processes and threads`;
    case "cpu":
      return `${most} % of a processor`;
    default:
      return name satisfies never;
  }
}

/** The limits in words, each with what holds it where that makes a difference. */
export function heldTexts(limits: HeldLimits): readonly string[] {
  return limitNames.flatMap((name) => {
    const held = limits[name];
    if (held === null) return [];
    const text = limitText([name, held.most]);
    if (held.by === "nothing") return [`${text} (nothing holds it: no control group)`];
    return [name === "memory" && held.by === "rlimit" ? `${text} for each program` : text];
  });
}
