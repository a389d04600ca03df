/**
 * The helper's part of X11: it has a cookie made for a jail, by the owner, whose display it is.
 *
 * xauth(1) runs as the owner and nothing more. It needs a file to write to: it has one in memory, in
 * a mount namespace of its own, which goes with it. What it prints is the word of an owner and of an
 * X server: it is taken for nothing but a cookie.
 *
 * @module
 */
import { open, pipe } from "../ipc/fd.ts";
import { exists, spawn } from "../core/kernel.ts";
import { roleEnvironment } from "../core/launch.ts";
import { type Log, printable } from "../core/log.ts";
import { textThrough } from "../core/pipe-text.ts";
import { bubblewrap, xauth } from "../core/programs.ts";
import { authorityFile, cookieIn, cookieScript, type JailX11 } from "../core/x11.ts";

/** How long it may take, in seconds; a server may not answer at all. */
const patience = 5;
/** How much of what it prints is read. */
const most = 64 * 1024;

/** For whom a cookie is made. */
export interface CookieOrder {
  readonly profile: string;
  readonly x11: JailX11;
  /** The owner's home, where that is known. */
  readonly home: string | undefined;
  /** The words by which a process becomes the owner and nothing more. */
  readonly drop: readonly string[];
  /** A folder in which the owner has nothing to look for: it is covered for xauth. */
  readonly scratch: string;
}

/**
 * A file of cookies for a jail, as its contents; `undefined` when there is no cookie, and the profile
 * can do without.
 *
 * @param failed makes the error of a start, for when it cannot
 */
export async function makeCookie(
  { profile, x11, home, drop, scratch }: CookieOrder,
  failed: (why: string) => Error,
  log: Log,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const display = `:${x11.number}`;
  const without = (why: string): undefined => {
    if (x11.required) throw failed(why);
    log.info(`jail ${profile} has no cookie for X11: ${why}`);
  };
  if (!exists(xauth)) return without("xauth is not installed; try: apt install xauth");
  const out = pipe({ nonblocking: true });
  const err = pipe({ nonblocking: true });
  using outRead = out.read;
  using errRead = err.read;
  {
    using outWrite = out.write;
    using errWrite = err.write;
    using nothing = open("/dev/null", 0);
    const argv = [
      ...drop,
      // It ends all of it: it leads a process group. timeout(1).
      ...["/usr/bin/timeout", "--signal=KILL", String(patience)],
      ...[bubblewrap, "--dev-bind", "/", "/", "--perms", "0700", "--tmpfs", scratch, "--"],
      ...["/bin/sh", "-c", cookieScript, "sh", `${scratch}/made`, display],
    ];
    spawn({
      path: argv[0] ?? "",
      argv,
      env: {
        ...roleEnvironment,
        DISPLAY: display,
        ...home === undefined ? {} : { HOME: home },
        ...x11.authority === null ? {} : { XAUTHORITY: x11.authority },
      },
      descriptors: [nothing.number, outWrite.number, errWrite.number],
      cwd: "/",
      session: true,
    });
  }
  const [printed, complaint] = await Promise.all([
    textThrough(outRead, most),
    textThrough(errRead, most),
  ]);
  const cookie = cookieIn(printed);
  if (cookie === undefined) {
    const file = x11.authority ?? "~/.Xauthority";
    const said = printable(complaint.trim().split("\n")[0] ?? "");
    return without(
      `there is no cookie for display ${display} in ${file}` + (said === "" ? "" : ` (${said})`) +
        "; try: xauth list",
    );
  }
  if (!cookie.own) {
    log.info(
      `jail ${profile} has its owner's own cookie for X11: the server makes none (${
        printable(complaint.trim().split("\n")[0] ?? "")
      })`,
    );
  }
  return authorityFile(x11.number, cookie);
}
