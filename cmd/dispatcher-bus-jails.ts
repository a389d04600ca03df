/**
 * Jails as objects on the bus, one for each that there is, and the signals about them: each is for
 * its owner alone.
 *
 * @module
 */
import type { BusObjects, BusService } from "../ipc/bus.ts";
import { after } from "../core/deadline.ts";
import { shellStatus } from "../core/exit.ts";
import type { Jail } from "../core/jail.ts";
import type { Jails } from "../core/jails.ts";
import type { AppUid } from "../core/names.ts";
import type { Event } from "../core/protocol.ts";
import type { Records } from "./dispatcher-record.ts";

const text = (name: string) => ({ name, type: "s" });
const number = (name: string) => ({ name, type: "u" });
/** Whose jail it is about; each signal has these first. */
const about = [text("profile"), number("uid")];

/** The signals of the main interface. */
export const signals = [
  { name: "JailStarted", args: about },
  { name: "JailStopped", args: [...about, text("reason"), text("why")] },
  { name: "ProgramStarted", args: [...about, text("program"), text("command")] },
  {
    name: "ProgramExited",
    args: [...about, text("program"), number("status"), number("signal")],
  },
  { name: "HomeUnlocked", args: about },
  { name: "HomeLocked", args: about },
  { name: "Missed", args: [number("count")] },
] as const;

/** The signal by which a subscriber learns that it was not told everything. */
export const missed = "Missed";

const properties = [
  { name: "Profile", type: "s", emits: "const" },
  { name: "Uid", type: "u", emits: "const" },
  { name: "State", type: "s", emits: "true" },
  { name: "JailerPid", type: "u", emits: "true" },
  { name: "Started", type: "t", emits: "true" },
  { name: "Encrypted", type: "b", emits: "true" },
  { name: "Programs", type: "as", emits: "true" },
] as const;

type Values = Readonly<Record<(typeof properties)[number]["name"], unknown>>;

/** What the object of a jail says; `undefined` when there is no jail. */
function valuesOf(jail: Jail): Values | undefined {
  const { life, allocation: { profile, uid }, now } = jail;
  if (life === "absent") return undefined;
  return {
    Profile: profile,
    Uid: uid,
    State: life,
    JailerPid: now.pid ?? 0,
    Started: BigInt(now.started),
    Encrypted: now.encrypted,
    Programs: now.programs,
  };
}

/** An object's name, such as `_1100`: an element of a path may not begin with a digit everywhere. */
function nameOf(uid: number): string {
  return `_${uid}`;
}

/** Jails as objects: a person's own, and for root, who is asked by name, everybody's. */
export function objectsOf(jails: Jails): BusObjects {
  return {
    folder: "jail",
    interface: "org.appjail.AppJail1.Jail",
    properties,
    names: (uid) =>
      jails.all().filter(({ life, allocation }) => life !== "absent" && allocation.owner === uid)
        .map(({ allocation }) => nameOf(allocation.uid)),
    values: (uid, name) => {
      const jail = jails.all().find(({ allocation }) => nameOf(allocation.uid) === name);
      if (jail === undefined || (uid !== 0 && jail.allocation.owner !== uid)) return undefined;
      return valuesOf(jail);
    },
  };
}

/** Tells subscribers what happens, until the returned function is called. */
export function tellSubscribers(service: BusService, jails: Jails, records: Records): () => void {
  /** What was said of each jail last. */
  const said = new Map<AppUid, Values>();
  for (const jail of jails.all()) {
    const values = valuesOf(jail);
    if (values !== undefined) said.set(jail.allocation.uid, values);
  }
  const changed = new Set<Jail>();
  /** A jail that starts has several states in one breath: the last of them is told. */
  const compare = (jail: Jail): void => {
    changed.delete(jail);
    const { uid, owner } = jail.allocation;
    const [was, is] = [said.get(uid), valuesOf(jail)];
    if (is === undefined) {
      said.delete(uid);
      if (was !== undefined) service.removed(owner, nameOf(uid));
      return;
    }
    said.set(uid, is);
    if (was === undefined) return service.added(owner, nameOf(uid));
    const names = properties.map(({ name }) => name)
      .filter((name) => String(was[name]) !== String(is[name]));
    if (names.length > 0) service.changed(owner, nameOf(uid), names);
  };
  const unwatch = records.watch((jail) => {
    if (changed.has(jail)) return;
    changed.add(jail);
    // Whoever waits for it comes first.
    after(0, () => compare(jail));
  });
  const unlisten = records.chronicle.listen((event) => signal(service, event));
  return () => {
    unwatch();
    unlisten();
  };
}

/** Tells an owner's subscribers of an event, where there is a signal for it. */
function signal({ emit }: BusService, event: Event): void {
  const { owner, profile, uid } = event;
  const jail = [profile ?? "", uid ?? 0];
  switch (event.event) {
    case "jail-started":
      return emit(owner, "JailStarted", jail);
    case "jail-stopped":
      return emit(owner, "JailStopped", [...jail, event.reason, wellFormed(event.why ?? "")]);
    case "program-started":
      return emit(owner, "ProgramStarted", [
        ...jail,
        event.program,
        wellFormed(event.command),
      ]);
    case "program-exited": {
      const { program, status } = event;
      const by = status.by === "signal" ? status.signal : 0;
      return emit(owner, "ProgramExited", [...jail, program, shellStatus(status), by]);
    }
    case "home-unlocked":
      return emit(owner, "HomeUnlocked", jail);
    case "home-locked":
      return emit(owner, "HomeLocked", jail);
    case "lent":
    case "unlent":
    case "refused":
      return;
    default:
      event satisfies never;
  }
}

/** A string of D-Bus is UTF-8 without NUL. */
function wellFormed(words: string): string {
  return words.replaceAll("\0", "\ufffd").toWellFormed();
}
