/**
 * Which of two settings lets a program do more: what a change gives it is said to whoever makes it, and
 * tests prove that nothing becomes wider than somebody has written.
 *
 * @module
 */
import type { Settings } from "./profile.ts";

/** How much each word gives, the least first; words of the same number give different things. */
const ranks = {
  network: { none: 0, host: 1 },
  display: { none: 0, "wayland-context": 1, wayland: 2, x11: 2, auto: 3 },
  audio: { none: 0, pipewire: 1, pulse: 1, auto: 2 },
  seccomp: { strict: 0, default: 1, nested: 2, none: 3 },
  session: { none: 0, private: 1, filtered: 2 },
  system: { none: 0, filtered: 1 },
} as const;

/** Whether one word gives what another does not. */
function rises<W extends string>(rank: Readonly<Record<W, number>>, from: W, to: W): boolean {
  return from !== to && rank[to] >= rank[from];
}

/** Whether one list has something that another has not. */
function adds<T>(from: readonly T[], to: readonly T[]): boolean {
  const known = new Set(from.map((one) => JSON.stringify(one)));
  return to.some((one) => !known.has(JSON.stringify(one)));
}

/** Whether a limit is higher; null is none at all. */
function loosens(from: number | null, to: number | null): boolean {
  return (to ?? Infinity) > (from ?? Infinity);
}

const rules = ["talk", "own", "call", "broadcast"] as const;
const systemRules = ["system_talk", "system_own", "system_call", "system_broadcast"] as const;

/** Whether a lent thing is within what another list lends: the same place, to be written only if it was. */
function isLent(lend: Settings["lend"][number], among: Settings["lend"]): boolean {
  return among.some((one) =>
    one.path === lend.path && one.at === lend.at && one.name === lend.name &&
    (one.mode === "rw" || lend.mode === "ro")
  );
}

/**
 * The keys by which one set of settings gives a program more than another, by their full names. What
 * gives nothing (a description, a variable, the home, how long it lingers) is never among them.
 */
export function widerIn(from: Settings, to: Settings): readonly string[] {
  const { dbus: was, limits: had } = from;
  const { dbus: is, limits: has } = to;
  const wider: Readonly<Record<string, boolean>> = {
    network: rises(ranks.network, from.network, to.network),
    display: rises(ranks.display, from.display, to.display),
    audio: rises(ranks.audio, from.audio, to.audio),
    gpu: to.gpu && !from.gpu,
    devices: adds(from.devices, to.devices),
    "dbus.session": rises(ranks.session, was.session, is.session),
    ...Object.fromEntries(rules.map((key) => [`dbus.${key}`, adds(was[key], is[key])])),
    "dbus.system": rises(ranks.system, was.system, is.system),
    ...Object.fromEntries(systemRules.map((key) => [`dbus.${key}`, adds(was[key], is[key])])),
    lend: to.lend.some((lend) => !isLent(lend, from.lend)),
    shared: to.shared && !from.shared,
    auto_lend: to.auto_lend && !from.auto_lend,
    // A folder in memory hides what was there: without it, that is seen.
    tmpfs: adds(to.tmpfs, from.tmpfs),
    hostname: to.hostname === null && from.hostname !== null,
    same_uid: to.same_uid && !from.same_uid,
    "limits.memory": loosens(had.memory, has.memory),
    "limits.processes": loosens(had.processes, has.processes),
    "limits.cpu": loosens(had.cpu, has.cpu),
    seccomp: rises(ranks.seccomp, from.seccomp, to.seccomp),
  };
  return Object.entries(wider).filter(([, is]) => is).map(([key]) => key);
}
