/**
 * Control groups: what holds the limits of a jail for all of it together. cgroups(7).
 *
 * Whose the hierarchy is decides how one is got. Where systemd runs, it is systemd's, and a scope of
 * its own is asked for (systemd-run(1)): that stays when the daemon is started again, and goes with the
 * jail. Where nobody keeps it, a folder is made in it: `appjail-<daemon>/<uid>/`. Elsewhere, as in
 * a session of somebody who started the daemon by hand, or in a container that may not write there,
 * there is none, and resource limits have to do: core/limits.ts says which hold.
 *
 * Run by the helper. Nothing in a jail can write, or even see, these folders.
 *
 * @module
 */
import { isErrno, SystemError } from "../ipc/errno.ts";
import { open, writeAll } from "../ipc/fd.ts";
import { exists, makeFolder, readText, removeFolder } from "./kernel.ts";
import { limited, type LimitName, limitNames } from "./limits.ts";
import type { Log } from "./log.ts";
import type { AppUid } from "./names.ts";
import type { JailLimits } from "./protocol.ts";

const systemdRun = "/usr/bin/systemd-run";
/** It is there when systemd is what started the machine. sd_booted(3). */
const systemdRuns = "/run/systemd/system";

/** What the kernel calls the controllers of our limits. */
const controllers: Readonly<Record<LimitName, string>> = {
  memory: "memory",
  processes: "pids",
  cpu: "cpu",
};

/** A part of the hierarchy in which this process may make groups. */
export interface Place {
  readonly version: 1 | 2;
  readonly folder: string;
}

/** The group of a jail that is about to start. */
export interface Cgroup {
  /** The limits that it holds. */
  readonly holds: ReadonlySet<LimitName>;
  /** What the jail's command begins with. */
  readonly words: readonly string[];
  /**
   * Takes a process in, which must have started no other yet.
   *
   * @throws {SystemError} when it cannot
   */
  readonly enter: (pid: number) => void;
}

/** How long a processor is shared out for at a time, in microseconds: the kernel's own default. */
const period = 100_000;

/** The files that hold a limit, and what is written to each. */
export function writings(
  version: Place["version"],
  name: LimitName,
  most: number,
): readonly (readonly [file: string, text: string])[] {
  const quota = `${Math.round(most * period / 100)}`;
  switch (name) {
    case "memory":
      return [[version === 2 ? "memory.max" : "memory.limit_in_bytes", `${most}`]];
    case "processes":
      return [["pids.max", `${most}`]];
    case "cpu":
      return version === 2
        ? [["cpu.max", `${quota} ${period}`]]
        : [["cpu.cfs_period_us", `${period}`], ["cpu.cfs_quota_us", quota]];
    default:
      return name satisfies never;
  }
}

/** The words by which systemd makes a scope around a command that is then what it was. */
export function scopeWords(unit: string, limits: JailLimits): readonly string[] {
  const properties: Readonly<Record<LimitName, (most: number) => string>> = {
    memory: (most) => `MemoryMax=${most}`,
    processes: (most) => `TasksMax=${most}`,
    cpu: (most) => `CPUQuota=${most}%`,
  };
  return [
    systemdRun,
    "--quiet",
    "--scope",
    "--collect",
    `--unit=${unit}`,
    ...limited(limits).map(([name, most]) => `--property=${properties[name](most)}`),
    "--",
  ];
}

/**
 * Where groups can be made by whoever is in the groups of `own`, for each controller: only where that is
 * the root, for everything else is somebody's.
 *
 * @param mounts the text of /proc/self/mountinfo, proc_pid_mountinfo(5)
 * @param own the text of /proc/self/cgroup, cgroups(7)
 * @param offered the controllers that the second version has at a mount point
 */
export function placesIn(
  mounts: string,
  own: string,
  offered: (mountPoint: string) => readonly string[],
): ReadonlyMap<LimitName, Place> {
  const groups = own.split("\n").map((line) => /^\d+:([^:]*):(.*)$/.exec(line));
  const atRoot = (controller: string): boolean =>
    groups.some((one) => one?.[1]?.split(",").includes(controller) === true && one[2] === "/");
  const places = new Map<LimitName, Place>();
  for (const line of mounts.split("\n")) {
    // 30 24 0:25 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
    const [fields = "", source = ""] = line.split(" - ");
    const [, , , root, folder] = fields.split(" ");
    const [kind, , options = ""] = source.split(" ");
    // A mount of a part of it, and one with a blank in its path, is nothing that any system makes.
    if (root !== "/" || folder === undefined || folder.includes("\\")) continue;
    if (kind !== "cgroup" && kind !== "cgroup2") continue;
    const version = kind === "cgroup2" ? 2 : 1;
    const has = version === 2 ? offered(folder) : options.split(",");
    for (const name of limitNames) {
      const controller = controllers[name];
      if (has.includes(controller) && atRoot(version === 2 ? "" : controller)) {
        places.set(name, { version, folder });
      }
    }
  }
  return places;
}

/** The groups of one daemon's jails. */
export class Cgroups {
  readonly #name: string;
  readonly #log: Log;
  readonly #systemd: boolean;
  readonly #places: ReadonlyMap<LimitName, Place>;
  #scopes = 0;

  /** @param runtimePath the daemon's folder, by which its groups are told from another's */
  constructor(runtimePath: string, log: Log) {
    this.#name = `appjail${runtimePath.replaceAll("/", "-")}`;
    this.#log = log;
    this.#systemd = exists(systemdRuns) && exists(systemdRun);
    this.#places = placesIn(
      readText("/proc/self/mountinfo") ?? "",
      readText("/proc/self/cgroup") ?? "",
      (folder) => (readText(`${folder}/cgroup.controllers`) ?? "").trim().split(" "),
    );
  }

  /** The group for a jail with these limits; `undefined` where there is nothing for it to hold. */
  make(uid: AppUid, limits: JailLimits): Cgroup | undefined {
    const wanted = limited(limits);
    if (wanted.length === 0) return undefined;
    if (this.#systemd) {
      const unit = `appjail-${uid}-${Deno.pid}-${++this.#scopes}`;
      return {
        holds: new Set(wanted.map(([name]) => name)),
        words: scopeWords(unit, limits),
        enter: () => {},
      };
    }
    const holds = new Set<LimitName>();
    const folders = new Set<string>();
    for (const [name, most] of wanted) {
      const place = this.#places.get(name);
      if (place === undefined) continue;
      try {
        const folder = this.#folderIn(place, uid, controllers[name]);
        for (const [file, text] of writings(place.version, name, most)) put(folder, file, text);
        holds.add(name);
        folders.add(folder);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        // Such as in a container: the hierarchy is there, and not to be written.
        this.#log.info(`no control group limits the ${name} of uid ${uid}: ${error.message}`);
      }
    }
    if (holds.size === 0) return undefined;
    return {
      holds,
      words: [],
      enter: (pid) => {
        for (const folder of folders) put(folder, "cgroup.procs", `${pid}`);
      },
    };
  }

  /** The folder of a jail's group, made where there is none. */
  #folderIn({ version, folder }: Place, uid: AppUid, controller: string): string {
    const ours = `${folder}/${this.#name}`;
    const group = `${ours}/${uid}`;
    makeFolder("root", ours, 0o755);
    if (version === 2) {
      for (const above of [folder, ours]) put(above, "cgroup.subtree_control", `+${controller}`);
    }
    makeFolder("root", group, 0o755);
    return group;
  }

  /** Removes the group of a jail of which nothing runs any more. A scope goes by itself. */
  remove(uid: AppUid): void {
    for (const ours of this.#folders()) removeGroup(`${ours}/${uid}`);
  }

  /** Removes what is left when no jail has one any more. */
  close(): void {
    for (const ours of this.#folders()) removeGroup(ours);
  }

  /** Our own, in each hierarchy. */
  #folders(): readonly string[] {
    const all = [...this.#places.values()].map(({ folder }) => `${folder}/${this.#name}`);
    return [...new Set(all)].filter(exists);
  }
}

function put(folder: string, file: string, text: string): void {
  using end = open(`${folder}/${file}`, 1);
  writeAll(end.number, new TextEncoder().encode(text));
}

/** One in which something is stays: the next end of a jail, or the next daemon, sees to it. */
function removeGroup(path: string): void {
  try {
    removeFolder("root", path);
  } catch (error) {
    if (!isErrno(error, "EBUSY", "ENOTEMPTY")) throw error;
  }
}
