/**
 * The doctor's checks of bubblewrap: whether it is there, and whether it really makes a jail for
 * somebody who has no privileges, of the same kinds of namespaces and mounts as ours are of.
 *
 * @module
 */
import { pipe, writeAll } from "../ipc/fd.ts";
import { isProgram } from "./check-programs.ts";
import { settingSysctl, unprivileged } from "./check-kernel.ts";
import { type Check, failure, type Finding, install, type Looker, ok } from "./diagnosis.ts";
import { hostLayout } from "./host.ts";
import { readText } from "./kernel.ts";
import { bubblewrap } from "./programs.ts";
import { filterFor } from "./seccomp.ts";
import { type Trial, troubleOf, tryOut } from "./trial.ts";

export const jailChecks: readonly Check[] = [
  { name: "bubblewrap", after: ["util-linux"], look: present },
  {
    name: "apparmor",
    after: ["bubblewrap", "user-namespaces", "libseccomp", "seccomp"],
    look: apparmor,
  },
  { name: "jail", after: ["apparmor"], look: jail },
];

async function present(looker: Looker): Promise<Finding> {
  const mend = install(looker, "bubblewrap");
  if (!isProgram(bubblewrap)) {
    return failure(`${bubblewrap} is missing: no jail can be started`, mend);
  }
  const trial = await tryOut([bubblewrap, "--version"]);
  const [, version, minor] = /^bubblewrap (\d+\.(\d+)\S*)/.exec(trial.said) ?? [];
  if (version === undefined) {
    return failure(`${bubblewrap} does not tell its version: ${troubleOf(trial)}`, mend);
  }
  if (version.startsWith("0.") && Number(minor) < 5) {
    return failure(`bubblewrap ${version}: 0.5 is the least`, mend);
  }
  return ok(`bubblewrap ${version}`);
}

/** Has somebody without privileges run a program in a jail. */
async function make(looker: Looker): Promise<Trial> {
  const roots = Object.entries(hostLayout().roots).flatMap(([root, target]) =>
    target === null ? ["--ro-bind", root, root] : ["--symlink", target, root]
  );
  const filter = pipe();
  using read = filter.read;
  {
    using write = filter.write;
    writeAll(write.number, filterFor("default"));
  }
  return await tryOut([
    ...unprivileged(looker),
    bubblewrap,
    ...["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"],
    ...["--ro-bind", "/usr", "/usr", ...roots, "--proc", "/proc", "--dev", "/dev"],
    ...["--tmpfs", "/tmp", "--remount-ro", "/", "--as-pid-1", "--seccomp", "3"],
    ...["--", "/bin/true"],
  ], [read.number]);
}

/**
 * Ubuntu lets a program make user namespaces that it can do anything with only where a profile of
 * AppArmor's says so. Whether one does for bubblewrap shows when it is tried.
 */
async function apparmor(looker: Looker): Promise<Finding> {
  const name = "kernel.apparmor_restrict_unprivileged_userns";
  const value = readText(`/proc/sys/${name.replace(".", "/")}`)?.trim();
  if (value === undefined || value === "0") return ok("it does not restrict user namespaces");
  const trial = await make(looker);
  if (trial.status === 0) return ok("it restricts user namespaces, and lets bubblewrap make them");
  return failure(
    `it lets nobody use a user namespace, nor bubblewrap: ${troubleOf(trial)}`,
    settingSysctl(looker, name, 0),
  );
}

async function jail(looker: Looker): Promise<Finding> {
  const trial = await make(looker);
  if (trial.status === 0) return ok("bubblewrap makes one, without privileges");
  return failure(`bubblewrap cannot make one: ${troubleOf(trial)}`, null);
}
