/**
 * `appjail unlock`: opens an encrypted home, and keeps it open without a program in it.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { parseDescriptor } from "./run.ts";
import { clock } from "./status.ts";

export interface UnlockFlags {
  readonly socket?: string | undefined;
  readonly for?: string | undefined;
  readonly passphraseFd?: string | undefined;
}

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };
const longest = 366 * 86_400;

/** Milliseconds, of words such as 90s, 30m, 8h, 1d. */
export function parseDuration(text: string, option = "--for"): number {
  const [, number = "", unit = ""] = /^([0-9]{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(number) * (units[unit] ?? NaN);
  if (seconds > 0 && seconds <= longest) return seconds * 1000;
  throw new AppjailError(
    "usage",
    `Cannot use ${option} ${
      JSON.stringify(text)
    }: it is a number and s, m, h or d, such as 30m; a year ` +
      "at most",
  );
}

export async function unlock(flags: UnlockFlags, world: World, name: string): Promise<number> {
  const profile = parseProfile(name);
  const keep = flags.for === undefined ? null : parseDuration(flags.for);
  const { passphraseFd } = flags;
  const fd = passphraseFd === undefined ? undefined : parseDescriptor(passphraseFd);
  const path = socketPath(flags.socket, world.env);
  for await (
    const message of ask(path, { type: "unlock", profile, keep }, { env: world.env, fd })
  ) {
    throw new AppjailError("protocol", `The daemon answered "${message.type}" to an unlock`);
  }
  const until = keep === null
    ? `lock it again: appjail lock ${profile}`
    : `until ${clock(new Date(Date.now() + keep))}, or appjail lock ${profile}`;
  writeOut(`unlocked ${profile}; ${until}\n`, Deno.stdout);
  return 0;
}
