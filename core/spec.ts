/**
 * What the helper is told to make a jail of: a profile's settings, and of the desktop that they mean,
 * in the closed set of words that it knows. Run by the dispatcher.
 *
 * @module
 */
import * as v from "valibot";
import { accountOf } from "./accounts.ts";
import { homeOf } from "./environment.ts";
import { hostText } from "./host.ts";
import { absolutePath, lendName, lendSource, parse } from "./names.ts";
import type { Settings } from "./profile.ts";
import type { Allocation, JailSpec } from "./protocol.ts";
import {
  type DesktopLend,
  desktopLends,
  desktopX11,
  pulseCookie,
  type Session,
} from "./session.ts";
import { jailX11 } from "./x11.ts";

/** Graphics cards, by their drivers. What of it is not there is left out. */
const graphics: readonly string[] = [
  "/dev/dri",
  "/dev/nvidia0",
  "/dev/nvidiactl",
  "/dev/nvidia-modeset",
  "/dev/nvidia-uvm",
  "/dev/kfd",
];

/** For whom, and from where, a jail is started. */
export interface SpecContext {
  readonly allocation: Allocation;
  /** What the caller's environment says of their desktop. */
  readonly session: Session;
  /** What the daemon lets jails have: `none` is for all of them, whatever a profile says. */
  readonly network: JailSpec["network"];
}

/** As which uid programs see themselves. */
export function shownUid({ owner, uid }: Allocation, settings: Settings): number {
  return hasOwnersUid(settings) && owner !== 0 ? owner : uid;
}

/** A bus believes nobody who has another uid than it: D-Bus Specification, EXTERNAL. */
function hasOwnersUid({ same_uid, dbus }: Settings): boolean {
  return same_uid || dbus.session === "filtered" || dbus.system === "filtered";
}

/** The words for the helper. */
export function specOf(settings: Settings, context: SpecContext): JailSpec {
  const { allocation, session, network } = context;
  const { dbus } = settings;
  return {
    network: network === "none" ? "none" : settings.network,
    hostname: settings.hostname,
    // Nobody is to look like root, whatever that may do.
    same_uid: hasOwnersUid(settings) && allocation.owner !== 0,
    home: settings.home,
    autodelete: settings.autodelete,
    tmpfs: [...settings.tmpfs],
    devices: [...settings.devices, ...settings.gpu ? graphics : []],
    seccomp: settings.seccomp,
    limits: settings.limits,
    buses: {
      session: dbus.session,
      session_socket: busSocket(session.DBUS_SESSION_BUS_ADDRESS),
      session_rules: {
        talk: [...dbus.talk],
        own: [...dbus.own],
        call: [...dbus.call],
        broadcast: [...dbus.broadcast],
      },
      system: dbus.system,
      system_rules: {
        talk: [...dbus.system_talk],
        own: [...dbus.system_own],
        call: [...dbus.system_call],
        broadcast: [...dbus.system_broadcast],
      },
    },
    x11: x11Of(settings, allocation, session),
    pulse_cookie: pulseCookieOf(settings, allocation),
    shared: settings.shared,
    lend: [...lendsOf(settings, allocation, session)],
  };
}

function x11Of(settings: Settings, { owner }: Allocation, session: Session): JailSpec["x11"] {
  const x11 = owner === 0 ? null : desktopX11(settings, session);
  return x11 === null ? null : v.parse(jailX11, x11);
}

function pulseCookieOf(settings: Settings, { owner }: Allocation): JailSpec["pulse_cookie"] {
  const home = accountOf(hostText("/etc/passwd"), owner)?.home;
  const path = owner === 0 ? null : pulseCookie(settings, home);
  return path === null ? null : v.parse(absolutePath, path);
}

type SpecLend = JailSpec["lend"][number];
/** One that is not checked yet. */
type WantedLend = Omit<DesktopLend, "at"> & { readonly at: string | null };

function lendsOf(
  settings: Settings,
  allocation: Allocation,
  session: Session,
): readonly SpecLend[] {
  const { owner, profile } = allocation;
  const uid = shownUid(allocation, settings);
  const inside = (at: string): string =>
    at.startsWith("~/") ? `${homeOf(profile)}${at.slice(1)}` : at;
  return [
    ...settings.lend.map(({ path, mode, at, name, missing }): WantedLend => ({
      name,
      path,
      write: mode === "rw",
      at: at === null ? null : inside(at),
      skip_missing: missing === "skip",
      context: "none" as const,
      unless: null,
    })),
    // Nobody is lent anything of root's.
    ...owner === 0 ? [] : desktopLends(settings, session, { owner, uid }),
  ].map((one): SpecLend => ({
    ...one,
    name: v.parse(lendName, one.name),
    path: v.parse(lendSource, one.path),
    at: one.at === null ? null : v.parse(absolutePath, one.at),
    unless: one.unless === null ? null : v.parse(lendName, one.unless),
  }));
}

/** The socket of a bus that listens at one by its path. D-Bus Specification, Server Addresses. */
function busSocket(address: string | null): JailSpec["buses"]["session_socket"] {
  const path = /^unix:path=(\/[^,;%]*)(?:,guid=[0-9a-f]+)?$/.exec(address ?? "")?.[1];
  const result = parse(absolutePath, path);
  return "value" in result ? result.value : null;
}
