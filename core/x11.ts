/**
 * X11 for a jail: a cookie of its own, by which an X server lets its programs in. Pure.
 *
 * The server does not part the programs that it has let in: each sees the windows and the keys of
 * all. A cookie of the jail's own changes nothing in that; it is there so that the owner's stays
 * with the owner.
 *
 * @module
 */
import * as v from "valibot";
import { absolutePath } from "./names.ts";

/** X11 sockets are here, on the host and in a jail. X(7). */
export const x11Folder = "/tmp/.X11-unix";

/** What the helper has to know of the display that a jail is let in to. */
export const jailX11 = v.strictObject({
  number: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(99_999)),
  /** The owner's own file of cookies; null: the usual one, in their home. Xsecurity(7). */
  authority: v.nullable(absolutePath),
  /** Whether the jail does not start without. */
  required: v.boolean(),
});
export type JailX11 = v.InferOutput<typeof jailX11>;

/** Where a jail, whose programs see themselves as `uid`, has its cookie. */
export function authorityIn(uid: number): string {
  return `/run/user/${uid}/xauthority`;
}

/** What xauth(1) is asked, by the owner: `sh -c SCRIPT sh FILE DISPLAY`. */
export const cookieScript: string = [
  // The server makes one, where it has the extension for that.
  'xauth -q -f "$1" generate "$2" . trusted timeout 0 >&2',
  'xauth -q -f "$1" nlist "$2"',
  "echo owner",
  'exec xauth -q nlist "$2"',
].join("\n");

/** A cookie. */
export interface Cookie {
  /** Whether the server has made it for the jail; it is the owner's own otherwise. */
  readonly own: boolean;
  /** In hexadecimal. */
  readonly secret: string;
}

/** Finds it in what the script has printed; `undefined`: there is none. */
export function cookieIn(printed: string): Cookie | undefined {
  const [made = "", owners = ""] = `\n${printed}`.split("\nowner\n");
  for (const [list, own] of [[made, true], [owners, false]] as const) {
    for (const line of list.split("\n")) {
      const [, , , , , , name, , secret] = line.trim().split(" ");
      if (name === hexOf(scheme) && /^(?:[0-9a-f]{2}){1,256}$/.test(secret ?? "")) {
        return { own, secret: secret ?? "" };
      }
    }
  }
  return undefined;
}

const scheme = "MIT-MAGIC-COOKIE-1";
/** Of any host: a jail may have a name of its own. X11/Xauth.h. */
const FamilyWild = 65535;

/** A file of cookies with this one, for one display of whatever host. Xau(3), THE FILE FORMAT. */
export function authorityFile(number: number, { secret }: Cookie): Uint8Array<ArrayBuffer> {
  const text = (words: string): Uint8Array => new TextEncoder().encode(words);
  const bytes = secret.match(/../g)?.map((pair) => parseInt(pair, 16)) ?? [];
  const parts = [text(""), text(String(number)), text(scheme), Uint8Array.from(bytes)];
  const short = (value: number): readonly number[] => [value >> 8, value & 0xff];
  return Uint8Array.from([
    ...short(FamilyWild),
    ...parts.flatMap((part) => [...short(part.length), ...part]),
  ]);
}

function hexOf(words: string): string {
  return [...new TextEncoder().encode(words)].map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}
