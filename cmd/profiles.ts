/**
 * `appjail profiles`: the caller's profiles, for people and for the shells' completions.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import { parse, type ProfileName, profileName } from "../core/names.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";

export interface ProfilesFlags {
  readonly socket?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function profiles(flags: ProfilesFlags, world: World): Promise<number> {
  for await (const message of ask(socketPath(flags.socket, world.env), { type: "profiles" })) {
    if (message.type !== "listed") continue;
    const text = flags.json
      ? `${JSON.stringify(message.profiles, null, 2)}\n`
      : message.profiles.map(({ profile }) => `${profile}\n`).join("");
    writeOut(text, Deno.stdout);
  }
  return 0;
}

/** A profile's name as a person types it. */
export function parseProfile(text: string): ProfileName {
  const parsed = parse(profileName, text);
  if ("value" in parsed) return parsed.value;
  throw new AppjailError("usage", `Cannot use ${JSON.stringify(text)}: ${parsed.wrong}`);
}
