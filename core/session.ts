/**
 * The desktop of a profile's owner, as far as a jail has a part in it: which of its sockets are lent,
 * at which places, and which variables tell programs of them. Pure; run by the dispatcher.
 *
 * What the caller's environment says is a hint and no more: a socket is opened by the helper with the
 * owner's ids, so whoever lies here reaches nothing that is not theirs.
 *
 * @module
 */

import { authorityIn, x11Folder } from "./x11.ts";

/** What of a client's environment tells of its desktop. */
export const sessionNames = [
  "DBUS_SESSION_BUS_ADDRESS",
  "DISPLAY",
  "PIPEWIRE_REMOTE",
  "PULSE_SERVER",
  "WAYLAND_DISPLAY",
  "XAUTHORITY",
  "XDG_RUNTIME_DIR",
] as const;

/** Picks it from a whole environment. */
export function sessionOf(env: Readonly<Record<string, string>>): Session {
  const said = sessionNames.flatMap((name) => {
    const value = env[name];
    // One that is longer is no path of a socket.
    return value === undefined || value.length > 4096 ? [] : [[name, value]];
  });
  return { ...noSession, ...Object.fromEntries(said) };
}

/** null: it says nothing of that. */
export type Session = Readonly<Record<(typeof sessionNames)[number], string | null>>;

/** Of a caller of whom nothing is known. */
export const noSession: Session = {
  DBUS_SESSION_BUS_ADDRESS: null,
  DISPLAY: null,
  PIPEWIRE_REMOTE: null,
  PULSE_SERVER: null,
  WAYLAND_DISPLAY: null,
  XAUTHORITY: null,
  XDG_RUNTIME_DIR: null,
};

/** What a profile says of it. */
export interface DesktopWish {
  readonly display: "wayland-context" | "wayland" | "x11" | "none" | "auto";
  readonly audio: "pipewire" | "pulse" | "none" | "auto";
}

/** Whose desktop it is, and as which uid the jail's programs see themselves. */
export interface DesktopPeople {
  readonly owner: number;
  readonly uid: number;
}

/** The name by which a compositor's socket is lent. */
const waylandName = ".wayland";

/** Something to be lent, as a jail's spec has it. */
export interface DesktopLend {
  /** Hidden in `~/lent`, where nobody looks for a socket. */
  readonly name: string;
  readonly path: string;
  readonly write: boolean;
  readonly at: string;
  readonly skip_missing: boolean;
  /** Whether the compositor there is asked for a security context; see core/wayland.ts. */
  readonly context: "none" | "wanted" | "required";
  /** Not where the one of this name was lent; null: in any case. */
  readonly unless: string | null;
}

/** The number of a display that is on this machine: `:0`, `:1.0`, `unix:2`. X(7), DISPLAY NAMES. */
export function displayNumber(display: string | null): number | undefined {
  const number = /^(?:unix)?:([0-9]{1,5})(?:\.[0-9]+)?$/.exec(display ?? "")?.[1];
  return number === undefined ? undefined : Number(number);
}

/** Whether it is a path that needs nothing to be resolved. */
function isPlain(path: string): boolean {
  return path.startsWith("/") && !path.includes("\0") &&
    path.split("/").slice(1).every((part) => part !== "" && part !== "." && part !== "..");
}

/** The folder of the owner's sockets. */
function runtimeOf(session: Session, owner: number): string {
  const said = (session.XDG_RUNTIME_DIR ?? "").replace(/\/+$/, "");
  return isPlain(said) ? said : `/run/user/${owner}`;
}

/** A socket by its name in a folder, or by its own path. */
function socketAt(said: string | null, folder: string, usual: string): string {
  if (said === null || said === "") return `${folder}/${usual}`;
  const path = said.startsWith("/") ? said : `${folder}/${said}`;
  return isPlain(path) ? path : `${folder}/${usual}`;
}

/** The X server that a jail is let in to; null: none. */
export function desktopX11({ display }: Pick<DesktopWish, "display">, session: Session): {
  readonly number: number;
  readonly authority: string | null;
  readonly required: boolean;
} | null {
  const number = displayNumber(session.DISPLAY);
  const byItself = display === "auto" && number !== undefined && !session.WAYLAND_DISPLAY;
  if (display !== "x11" && !byItself) return null;
  const said = session.XAUTHORITY ?? "";
  return {
    number: number ?? 0,
    authority: isPlain(said) ? said : null,
    required: display === "x11",
  };
}

/**
 * What is lent for a profile's wishes. What it names has to be there; with `auto` it is there or not,
 * and what lets in more comes in only where the other is missing: X11, which does not isolate its
 * programs, without Wayland; PipeWire, which has cameras too, without PulseAudio's socket.
 */
export function desktopLends(
  wish: DesktopWish,
  session: Session,
  { owner, uid }: DesktopPeople,
): readonly DesktopLend[] {
  const folder = runtimeOf(session, owner);
  const inside = `/run/user/${uid}`;
  const lends: DesktopLend[] = [];
  const lend = (
    name: string,
    path: string,
    at: string,
    skip_missing: boolean,
    {
      unless = null,
      context = "none",
    }: Partial<Pick<DesktopLend, "unless" | "context">> = {},
  ): void => void lends.push({ name, path, write: true, at, skip_missing, unless, context });

  const { display, audio } = wish;
  const x11 = desktopX11(wish, session);
  if (x11 !== null) {
    const socket = `${x11Folder}/X${x11.number}`;
    lend(".x11", socket, socket, !x11.required);
  } else if (display !== "none") {
    const socket = socketAt(session.WAYLAND_DISPLAY, folder, "wayland-0");
    const context = display === "wayland-context" ? "required" : "wanted";
    lend(waylandName, socket, `${inside}/wayland-0`, display === "auto", { context });
  }

  if (audio === "pulse" || audio === "auto") {
    const said = /^unix:(\/.*)$/.exec(session.PULSE_SERVER ?? "")?.[1] ?? null;
    const socket = socketAt(said, folder, "pulse/native");
    lend(".pulse", socket, `${inside}/pulse/native`, audio === "auto");
  }
  if (audio === "pipewire" || audio === "auto") {
    const socket = socketAt(session.PIPEWIRE_REMOTE, folder, "pipewire-0");
    const at = `${inside}/pipewire-0`;
    // PipeWire's own socket is the way to cameras, too; it serves PulseAudio's at the other one.
    lend(".pipewire", socket, at, audio === "auto", { unless: audio === "auto" ? ".pulse" : null });
  }
  return lends;
}

/** The owner's cookie for PulseAudio, if a jail is to have it: a copy, because libpulse opens it to write. */
export function pulseCookie(
  { audio }: Pick<DesktopWish, "audio">,
  home: string | undefined,
): string | null {
  const wanted = audio === "pulse" || audio === "auto";
  return wanted && home !== undefined && isPlain(home) ? `${home}/.config/pulse/cookie` : null;
}

/** Where a jail has it. */
export function pulseCookieIn(uid: number): string {
  return `/run/user/${uid}/pulse/cookie`;
}

/** Ways to show windows, the one that isolates least first. */
export const windowWays = ["x11", "wayland", "context"] as const;
export type WindowWay = (typeof windowWays)[number];

/** By what a jail can show windows, with what it has been lent. */
export function windowsBy(
  lends: readonly {
    readonly name: string;
    readonly at: string | null;
    readonly context: boolean;
  }[],
): WindowWay | null {
  if (lends.some(({ at }) => at?.startsWith(`${x11Folder}/`))) return "x11";
  const wayland = lends.find(({ name, at }) => name === waylandName && at !== null);
  return wayland === undefined ? null : wayland.context ? "context" : "wayland";
}

/** The variables by which programs find what a jail has been lent. @param lends where in the jail */
export function desktopEnvironment(
  lends: readonly { readonly at: string | null }[],
  uid: number,
): Readonly<Record<string, string>> {
  const inside = `/run/user/${uid}`;
  const env: Record<string, string> = {};
  for (const { at } of lends) {
    if (at === `${inside}/wayland-0`) {
      env["WAYLAND_DISPLAY"] = "wayland-0";
      env["XDG_SESSION_TYPE"] = "wayland";
      // Both ask for it before they look.
      env["MOZ_ENABLE_WAYLAND"] = "1";
      env["ELECTRON_OZONE_PLATFORM_HINT"] = "auto";
    } else if (at?.startsWith(`${x11Folder}/X`) === true) {
      env["DISPLAY"] = `:${at.slice(x11Folder.length + 2)}`;
      env["XAUTHORITY"] = authorityIn(uid);
      env["XDG_SESSION_TYPE"] = "x11";
    } else if (at === `${inside}/pulse/native`) {
      env["PULSE_SERVER"] = `unix:${at}`;
      env["PULSE_COOKIE"] = pulseCookieIn(uid);
    }
  }
  return env;
}
