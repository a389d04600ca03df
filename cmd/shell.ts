/**
 * `appjail shell`: a login shell in a profile's jail.
 *
 * @module
 */
import { isVisibleInJail } from "../core/command.ts";
import { complain, type World } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { start } from "./run.ts";
import { open } from "../ipc/fd.ts";

export interface ShellFlags {
  readonly socket?: string | undefined;
}

/** What a shell without a profile of its own is called. */
const defaultProfile = "shell";

/** The shells that are known to take -l, the person's own one first if it is among them. */
const known = ["bash", "zsh", "fish", "dash", "ksh", "mksh", "sh"];
const usual = ["/bin/bash", "/bin/sh"];

function isThere(path: string): boolean {
  try {
    open(path, 0).close();
    return true;
  } catch {
    return false;
  }
}

/** The shell to be run: the person's own one where it can be seen in a jail. */
function shellOf(preferred: string | undefined): string {
  const candidates = [preferred, ...usual].filter((path) => path !== undefined);
  return candidates.find((path) =>
    path.startsWith("/") && isVisibleInJail(path) && isThere(path) &&
    known.includes(path.slice(path.lastIndexOf("/") + 1))
  ) ?? "/bin/sh";
}

/** Runs a login shell whose prompt tells which jail it is in. */
export async function shell(
  flags: ShellFlags,
  world: World,
  name: string = defaultProfile,
): Promise<number> {
  try {
    const profile = parseProfile(name);
    return await start({
      socket: flags.socket,
      profile,
      detach: false,
      cwd: null,
      env: {
        // Debian's bash.bashrc shows it before its prompt; the others take PS1 as it is.
        debian_chroot: `jail ${profile}`,
        PS1: `(jail ${profile}) $ `,
      },
      tty: "as-is",
      verbose: false,
      autoLend: false,
      argv: [shellOf(world.env["SHELL"]), "-l"],
      help: false,
    }, world);
  } catch (error) {
    return complain(error, world);
  }
}
