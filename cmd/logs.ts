/**
 * `appjail logs`: what programs wrote that nobody gave a standard output.
 *
 * @module
 */
import { printable } from "../core/log.ts";
import { ask, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { clock } from "./status.ts";

export interface LogsFlags {
  readonly socket?: string | undefined;
  readonly follow?: boolean | undefined;
}

export async function logs(flags: LogsFlags, world: World, profile: string): Promise<number> {
  const request = {
    type: "logs",
    profile: parseProfile(profile),
    follow: flags.follow === true,
  } as const;
  for await (const message of ask(socketPath(flags.socket, world.env), request)) {
    if (message.type !== "output") continue;
    const text = message.lines.map((line) => {
      const stream = line.stream === "stdout" ? "out" : "err";
      return `${clock(new Date(line.at))} ${line.program} ${stream}| ${printable(line.text)}\n`;
    }).join("");
    if (!writeOut(text, Deno.stdout)) break;
  }
  return 0;
}
