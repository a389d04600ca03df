/**
 * Which variables come into a jail: an allow-list, because nobody can list all that is secret.
 *
 * @module
 */
import * as v from "valibot";
import { type AbsolutePath, absolutePath, type Environment, type ProfileName } from "./names.ts";

/** environ(7), locale(7), terminfo(5), https://no-color.org: how a program talks to a person. */
const inherited: ReadonlySet<string> = new Set([
  "LANG",
  "LANGUAGE",
  "TERM",
  "COLORTERM",
  "TZ",
  "NO_COLOR",
  "FORCE_COLOR",
  "CLICOLOR",
  "CLICOLOR_FORCE",
  "LS_COLORS",
  "EDITOR",
  "VISUAL",
  "PAGER",
  "LESS",
]);

/** Whether a variable of the caller's own environment comes along unasked. */
export function isInherited(name: string): boolean {
  return inherited.has(name) || /^LC_[A-Z]+$/.test(name);
}

/** Of a caller's environment, what may come along. */
export function inheritedOf(environment: Readonly<Record<string, string>>): Environment {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => isInherited(name)),
  );
}

/** Where a command is looked up in a jail, as Debian's login(1) has it for a user. */
export const searchPath: string = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";

/** Where a profile's home is in its jail. */
export function homeOf(profile: ProfileName): AbsolutePath {
  return v.parse(absolutePath, `/home/${profile}`);
}

/** What every program in a jail starts with; what is asked for by name comes over it. */
export function baseEnvironment(
  profile: ProfileName,
  uid: number,
  sessionBus = true,
): Environment {
  return {
    HOME: homeOf(profile),
    USER: profile,
    LOGNAME: profile,
    SHELL: "/bin/sh",
    PATH: searchPath,
    XDG_RUNTIME_DIR: `/run/user/${uid}`,
    ...sessionBus ? { DBUS_SESSION_BUS_ADDRESS: `unix:path=/run/user/${uid}/bus` } : {},
    LANG: "C.UTF-8",
    APPJAIL_PROFILE: profile,
  };
}
