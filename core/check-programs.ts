/**
 * The doctor's checks of what appjail runs and loads: each where the daemon will look for it.
 *
 * @module
 */
import {
  type Check,
  failure,
  type Finding,
  install,
  type Looker,
  ok,
  warning,
} from "./diagnosis.ts";
import { setpriv } from "./drop.ts";
import { isExecutable, statusBehind } from "./kernel.ts";
import { perl } from "./monitor.ts";
import type { Package } from "./packages.ts";
import { busDaemon, busProxy, prlimit, unshare, xauth } from "./programs.ts";
import { rsync } from "./rsync.ts";
import { filterFor } from "./seccomp.ts";
import { tryOut } from "./trial.ts";
import { volumeProgram } from "./volume.ts";

/** A program that is needed for something, but not for everything. */
interface Optional {
  readonly name: Package;
  /** One of them has to be there. */
  readonly paths: readonly string[];
  /** What there is not without it. */
  readonly without: string;
}

const optional: readonly Optional[] = [
  {
    name: "perl",
    paths: [perl],
    without: "no program gets a terminal",
  },
  {
    name: "dbus-daemon",
    paths: [busDaemon],
    without: "no jail has a session bus of its own",
  },
  {
    name: "gocryptfs",
    paths: [volumeProgram.gocryptfs],
    without: "no home of gocryptfs can be opened",
  },
  { name: "encfs", paths: [volumeProgram.encfs], without: "no home of encfs can be opened" },
  {
    name: "fuse",
    paths: ["/usr/bin/fusermount3", "/usr/bin/fusermount"],
    without: "encfs and gocryptfs may not unmount what they mount",
  },
  { name: "rsync", paths: [rsync], without: "no home can be encrypted, or decrypted" },
  {
    name: "xdg-dbus-proxy",
    paths: [busProxy],
    without: "no jail has a part in its owner's buses",
  },
  { name: "xauth", paths: [xauth], without: "no jail gets a cookie for X11" },
];

export const programChecks: readonly Check[] = [
  { name: "util-linux", look: utilLinux },
  { name: "libc", look: libc },
  { name: "libseccomp", look: libseccomp },
  ...optional.map(({ name, paths, without }): Check => ({
    name: name === "fuse" ? "fusermount" : name,
    look: (looker) => {
      const there = paths.find(isProgram);
      if (there !== undefined) return ok(there);
      return warning(`${paths.join(" or ")} is missing: ${without}`, install(looker, name));
    },
  })),
];

/** Whether it is a program that can be run, by whoever looks. */
export function isProgram(path: string): boolean {
  return statusBehind(path)?.kind === "file" && isExecutable(path);
}

function utilLinux(looker: Looker): Finding {
  const missing = [setpriv, prlimit, unshare].filter((path) => !isProgram(path));
  if (missing.length === 0) return ok("setpriv, prlimit and unshare are there");
  return failure(
    `${missing.join(" and ")} is missing: no jail can be started`,
    install(looker, "util-linux"),
  );
}

/** posix_spawn_file_actions_addclosefrom_np(3) came with this one. */
const libcLeast = 34;

async function libc(looker: Looker): Promise<Finding> {
  const { status, said } = await tryOut(["/usr/bin/getconf", "GNU_LIBC_VERSION"]);
  if (status === 127) {
    return warning("getconf is missing: the version cannot be told", install(looker, "libc"));
  }
  return libcFinding(said);
}

/** By what getconf(1) says. */
export function libcFinding(said: string): Finding {
  const [, version, minor] = /^glibc (2\.(\d+))/.exec(said) ?? [];
  if (version === undefined) return failure("it is not glibc, of which 2.34 is the least", null);
  if (Number(minor) >= libcLeast) return ok(`glibc ${version}`);
  return failure(
    `glibc ${version}: 2.${libcLeast} is the least; it comes with a younger release of the system`,
    null,
  );
}

function libseccomp(looker: Looker): Finding {
  try {
    const instructions = filterFor("default").length / 8;
    return ok(`it makes a filter of ${instructions} instructions`);
  } catch (error) {
    return failure(
      `no filter can be made, and no jail started that has one: ${
        error instanceof Error ? error.message : error
      }`,
      install(looker, "libseccomp"),
    );
  }
}
