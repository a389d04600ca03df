/**
 * Commands that have to come back, whatever is done to those whom they ask.
 *
 * @module
 */
import { within } from "../../core/deadline.ts";
import { sorted } from "./probe.ts";
import { execute, type Outcome, type World } from "./world.ts";

/** A command that has to come back: longer than any deadline of appjail's, it is given up. */
export function bounded(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Outcome> {
  const hangs = (): Error => new Error(`${words.join(" ")} did not come back`);
  return within(execute(words, { env }), 90_000, hangs);
}

/** A client that has to come back. */
export function client(world: World, args: readonly string[]): Promise<Outcome> {
  return bounded(world.clientWords(args), { APPJAIL_SOCKET: world.socket });
}

/** How many processes a uid has, zombies left out. */
export async function processesOf(uid: number): Promise<number> {
  const { stdout } = await execute(["ps", "-U", String(uid), "-o", "stat="]);
  return sorted(stdout).filter((state) => !state.startsWith("Z")).length;
}
