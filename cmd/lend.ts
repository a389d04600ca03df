/**
 * `appjail lend` and `appjail unlend`: what of the caller's a running jail may have.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import { absolutePath, lendName, parsed } from "../core/names.ts";
import type { ClientToDispatcher } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { clock } from "./status.ts";
import { parseDuration } from "./unlock.ts";

export interface LendFlags {
  readonly socket?: string | undefined;
  readonly rw?: boolean | undefined;
  readonly as?: string | undefined;
  readonly for?: string | undefined;
}

export interface UnlendFlags {
  readonly socket?: string | undefined;
}

export async function lend(
  flags: LendFlags,
  world: World,
  of: string,
  given: string,
): Promise<number> {
  const profile = parseProfile(of);
  const path = parsed(
    absolutePath,
    given.startsWith("/") ? given : `${Deno.cwd()}/${given}`,
    unusable(given),
  );
  const name = parsed(lendName, flags.as ?? lastOf(path), unusable(flags.as ?? given));
  const keep = flags.for === undefined ? null : parseDuration(flags.for);
  const write = flags.rw === true;
  await tell(flags, world, { type: "lend", profile, name, path, write, keep });
  const until = keep === null
    ? `until ${profile} ends, or appjail unlend ${profile} ${quoted(name)}`
    : `until ${clock(new Date(Date.now() + keep))}`;
  writeOut(
    `lent ${quoted(`~/lent/${name}`)} to ${profile}, ${write ? "to be changed" : "to read"}; ` +
      `${until}\n`,
    Deno.stdout,
  );
  return 0;
}

export async function unlend(
  flags: UnlendFlags,
  world: World,
  of: string,
  given: string,
): Promise<number> {
  const profile = parseProfile(of);
  // As it is shown, or as it is called in the jail.
  const name = parsed(lendName, given.replace(/^(?:~\/)?lent\//, ""), unusable(given));
  await tell(flags, world, { type: "unlend", profile, name });
  writeOut(`taken back ${quoted(`~/lent/${name}`)} from ${profile}\n`, Deno.stdout);
  return 0;
}

/** Asks for something to be done; there is no other answer than that it was. */
async function tell(
  { socket }: UnlendFlags,
  world: World,
  request: ClientToDispatcher,
): Promise<void> {
  for await (const message of ask(socketPath(socket, world.env), request)) {
    throw new AppjailError("protocol", `The daemon answered "${message.type}" to ${request.type}`);
  }
}

/** The last part of a path; of one that ends in a folder itself, what that is called. */
export function lastOf(path: string): string {
  const last = path.split("/").filter((part) => part !== "").at(-1) ?? "";
  if (last !== "" && last !== "." && last !== "..") return last;
  try {
    return Deno.realPathSync(path).split("/").at(-1) ?? "";
  } catch {
    return last;
  }
}

function unusable(given: string): (wrong: string) => AppjailError {
  return (wrong) =>
    new AppjailError(
      "usage",
      `Cannot use ${JSON.stringify(given.slice(0, 200))}: ${wrong}; see: appjail help lend`,
    );
}
