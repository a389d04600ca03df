/**
 * `appjail -H HOST …`: the same command on another machine, through ssh(1).
 *
 * The client there does the work, with the streams and the terminal that ssh brings it. This process
 * becomes ssh: nothing of ours stays here, and no protocol of ours is on the network.
 *
 * @module
 */
import { isTerminal } from "../ipc/fd.ts";
import { bytesOf } from "../ipc/octets.ts";
import { AppjailError } from "../core/errors.ts";
import { longestLine, remoteLine } from "../core/far.ts";
import { execute } from "../core/kernel.ts";
import { restoreSignals } from "../core/signals.ts";
import { findAsker, ownEnvironment, type Variables } from "./asker.ts";
import type { World } from "./client.ts";
import { type Far, usage } from "./far-words.ts";

/** Becomes ssh. Returns only by throwing. */
export function goFar({ host, words }: Far, { env }: World): never {
  // Streams that go elsewhere stay apart: a terminal there would make them one.
  const terminal = [0, 1, 2].every(isTerminal);
  const { path, argv } = sshCommand(host, words, { env, terminal });
  restoreSignals();
  execute(path, argv, ownEnvironment(env));
}

/** The command that runs an appjail with these words on a machine. */
export function sshCommand(
  host: string,
  words: readonly string[],
  { env, terminal }: { readonly env: Variables; readonly terminal: boolean },
): { readonly path: string; readonly argv: readonly string[] } {
  const line = remoteLine(["appjail", ...words]);
  if (bytesOf(line).length > longestLine) {
    throw usage(`Cannot ask ${host}: the command is longer than 128 KiB`);
  }
  const args = [...terminal ? ["-t"] : [], "--", host, line];
  const chosen = env["APPJAIL_SSH"];
  if (chosen !== undefined && chosen.trim() !== "") {
    // As a shell takes it: it may have options.
    return { path: "/bin/sh", argv: ["sh", "-c", `exec ${chosen} "$@"`, "ssh", ...args] };
  }
  const path = findAsker("ssh", env);
  if (path !== undefined) return { path, argv: ["ssh", ...args] };
  throw new AppjailError(
    "start-failed",
    `Cannot reach ${host}: ssh is not installed; try: apt install openssh-client`,
  );
}
