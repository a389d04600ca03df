/**
 * The doctor's checks of the kernel: what it can, and what it was told not to let people do. What
 * can be tried is tried.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { open } from "../ipc/fd.ts";
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  install,
  type Looker,
  ok,
  unknown,
  warning,
} from "./diagnosis.ts";
import { dropTo } from "./drop.ts";
import { openPidfd, ownPid, readText, signalPidfd, statusBehind } from "./kernel.ts";
import { unshare } from "./programs.ts";
import { troubleOf, tryOut } from "./trial.ts";

/** Somebody without any rights, as whom root tries what an application has to be able to do. */
const nobody = 65534;

/** What stands before a command that is to be tried without privileges. */
export function unprivileged({ uid }: Looker): readonly string[] {
  return uid === 0 ? dropTo(nobody, nobody) : [];
}

export const kernelChecks: readonly Check[] = [
  {
    name: "kernel",
    look: (looker) => kernelFinding(looker, (readText("/proc/sys/kernel/osrelease") ?? "").trim()),
  },
  {
    name: "max-user-namespaces",
    look: (looker) =>
      sysctlFinding(looker, "user.max_user_namespaces", (value) => value > 0, 15_000),
  },
  {
    // Debian's own; elsewhere there is none.
    name: "unprivileged-userns-clone",
    look: (looker) =>
      sysctlFinding(looker, "kernel.unprivileged_userns_clone", (value) => value !== 0, 1),
  },
  {
    name: "user-namespaces",
    after: ["util-linux", "max-user-namespaces", "unprivileged-userns-clone"],
    look: userNamespaces,
  },
  { name: "pidfd", look: pidfd },
  { name: "seccomp", look: seccomp },
  { name: "fuse", look: fuse },
  { name: "proc", look: () => procFinding(readText("/proc/self/mounts") ?? "") },
];

/** By the text of /proc/sys/kernel/osrelease. */
export function kernelFinding(looker: Looker, release: string): Finding {
  const [, major, minor] = (/^(\d+)\.(\d+)/.exec(release) ?? []).map(Number);
  if (major === undefined || minor === undefined) {
    return unknown(`its version is none that is known: ${release}`);
  }
  const isBefore = (wanted: number): boolean => major < 5 || (major === 5 && minor < wanted);
  if (isBefore(8)) {
    return failure(`Linux ${release}: 5.8 is the least`, install(looker, "kernel"));
  }
  if (isBefore(12)) {
    return warning(
      `Linux ${release}: before 5.12 nothing can be lent to a jail`,
      install(looker, "kernel"),
    );
  }
  return ok(`Linux ${release}`);
}

/** A switch that may keep people from what they need; the command sets it, and keeps it set. */
function sysctlFinding(
  looker: Looker,
  name: string,
  isWell: (value: number) => boolean,
  wanted: number,
): Finding {
  const text = readText(`/proc/sys/${name.replace(".", "/")}`)?.trim();
  if (text === undefined) return ok(`this kernel has no ${name}`);
  if (isWell(Number(text))) return ok(`${name} is ${text}`);
  return failure(
    `${name} is ${text}: nobody but root can make a user namespace`,
    settingSysctl(looker, name, wanted),
  );
}

/** The command that sets a switch now and at every start of the machine. sysctl.d(5). */
export function settingSysctl(looker: Looker, name: string, value: number): string {
  const file = "/etc/sysctl.d/60-appjail.conf";
  return asRoot(looker, `echo ${name}=${value} >> ${file} && sysctl -q -p ${file}`);
}

async function userNamespaces(looker: Looker): Promise<Finding> {
  const trial = await tryOut([...unprivileged(looker), unshare, "--user", "--", "/bin/true"]);
  const who = looker.uid === 0 ? nobody : looker.uid;
  if (trial.status === 0) return ok(`uid ${who} can make one`);
  return failure(`uid ${who} cannot make one: ${troubleOf(trial)}`, null);
}

function pidfd(): Finding {
  try {
    using own = openPidfd(ownPid());
    if (own !== undefined && signalPidfd(own, 0)) return ok("processes are held by them");
    return failure("this process cannot hold itself by one", null);
  } catch (error) {
    if (isErrno(error, "ENOSYS")) {
      return failure("this kernel has none, or a filter forbids it", null);
    }
    throw error;
  }
}

function seccomp(looker: Looker): Finding {
  const actions = readText("/proc/sys/kernel/seccomp/actions_avail");
  if (actions?.split(/\s+/).includes("errno")) return ok("system calls can be filtered");
  return failure(
    "this kernel cannot filter system calls: no jail starts unless its profile says so",
    install(looker, "kernel"),
  );
}

/** linux/major.h and linux/miscdevice.h: MISC_MAJOR and FUSE_MINOR. */
const fuseDevice = 10 * 2 ** 32 + 229;

function fuse(looker: Looker): Finding {
  const path = "/dev/fuse";
  const without = "no encrypted home can be opened";
  const isKnown = /\tfuse$/m.test(readText("/proc/filesystems") ?? "");
  const status = statusBehind(path);
  const making = `mknod -m 666 ${path} c 10 229`;
  if (status === undefined) {
    const mend = asRoot(looker, isKnown ? making : "modprobe fuse");
    return warning(`there is no ${path}: ${without}`, mend);
  }
  if (status.device !== fuseDevice) {
    return warning(
      `${path} is not FUSE's device: ${without}`,
      asRoot(looker, `rm ${path} && ${making}`),
    );
  }
  try {
    open(path, 2).close();
    return ok(`${path} can be opened`);
  } catch (error) {
    if (isErrno(error, "ENODEV", "ENXIO")) {
      return warning(`this kernel has no FUSE: ${without}`, asRoot(looker, "modprobe fuse"));
    }
    // It is root who opens encrypted homes.
    if (isErrno(error, "EACCES") && looker.uid !== 0) return ok(`${path} is root's`);
    throw error;
  }
}

/** By the text of /proc/self/mounts. proc(5), MOUNT OPTIONS. */
export function procFinding(mounts: string): Finding {
  // The last one is on top.
  const options = mounts.split("\n").map((line) => line.split(" "))
    .findLast(([, place, kind]) => place === "/proc" && kind === "proc")?.[3]?.split(",");
  if (options === undefined) return unknown("nothing of that kind is mounted at /proc");
  if (options.includes("subset=pid")) {
    return failure("/proc is mounted with subset=pid: what the kernel can, cannot be asked", null);
  }
  const hidden = options.find((one) => /^hidepid=(?!0$|off$)/.test(one));
  return ok(
    hidden === undefined
      ? "everybody's processes can be seen"
      : `mounted with ${hidden}, which is no obstacle: none but root's part looks at others' processes`,
  );
}
