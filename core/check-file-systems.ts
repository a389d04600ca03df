/**
 * The doctor's checks of the file systems that matter: whether what is on them can be lent, which is
 * tried as the helper would do it, and whether there is room for the homes.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import * as v from "valibot";
import { accountOf } from "./accounts.ts";
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  type Looker,
  needsRoot,
  ok,
  unknown,
  warning,
} from "./diagnosis.ts";
import { stepsTo } from "./home.ts";
import { hostText } from "./host.ts";
import { makeIdMap } from "./id-map.ts";
import { freeSpace, statusBehind } from "./kernel.ts";
import { cloneMount, mountOf, openPlace, restrictMount } from "./mounts.ts";
import { appUid } from "./names.ts";
import type { HelperOptions } from "./protocol.ts";
import { quoted } from "./shell-word.ts";
import { bytesIn } from "./size-text.ts";

/** @param person the uid of whoever called the doctor, before sudo(8) */
export function fileSystemChecks(options: HelperOptions, person: number): readonly Check[] {
  const home = accountOf(hostText("/etc/passwd"), person)?.home;
  return [
    {
      name: "id-mapped-data",
      after: ["user-namespaces", "data-root"],
      look: (looker) => idMapped(looker, options.data_root, options),
    },
    {
      name: "id-mapped-home",
      after: ["user-namespaces"],
      look: (looker) =>
        home === undefined ? unknown(`uid ${person} has no home`) : idMapped(looker, home, options),
    },
    { name: "disk-space", after: ["data-root"], look: (looker) => space(looker, options) },
  ];
}

/** The deepest folder of a path that is there. */
function deepest(path: string): string {
  return ["/", ...stepsTo(path)].findLast((step) => statusBehind(step)?.kind === "folder") ?? "/";
}

interface MountPoint {
  readonly path: string;
  readonly type: string;
}

/** The mount that a path lies in. proc_pid_mountinfo(5). */
function mountPointOf(path: string): MountPoint | undefined {
  using place = openPlace(undefined, path);
  const number = mountOf(place);
  for (const line of hostText("/proc/self/mountinfo").split("\n")) {
    const [, id, at, type] = /^(\d+) \S+ \S+ \S+ (\S+) .* - (\S+) /.exec(line) ?? [];
    if (Number(id) === number && at !== undefined && type !== undefined) return { path: at, type };
  }
  return undefined;
}

async function idMapped(
  looker: Looker,
  path: string,
  { last_uid }: HelperOptions,
): Promise<Finding> {
  if (looker.uid !== 0) return needsRoot;
  const folder = deepest(path);
  const type = mountPointOf(folder)?.type ?? "it";
  using place = openPlace(undefined, folder);
  using ids = await makeIdMap({ uid: 0, gid: 0, app: v.parse(appUid, last_uid) });
  try {
    using mount = cloneMount(place);
    restrictMount(mount, false, ids);
    return ok(`${folder} is on ${type}, of which files can be lent`);
  } catch (error) {
    if (!isErrno(error, "EINVAL", "EPERM", "ENOSYS")) throw error;
    return warning(`${folder} is on ${type}, of which nothing can be lent: ${error.code}`, null);
  }
}

/** Below this a browser soon finds no room for its cache; below the second next to nothing can be kept. */
const [little, none] = [500e6, 20e6];

function space(looker: Looker, { data_root }: HelperOptions): Finding {
  const folder = deepest(data_root);
  using place = openPlace(undefined, folder);
  const free = freeSpace(place);
  const found = `${bytesIn(free)} are free for ${data_root}`;
  if (free >= little) return ok(found);
  const mount = mountPointOf(folder);
  // Elsewhere it is for a person to say what can go.
  const mend = mount?.type === "tmpfs"
    ? asRoot(looker, `mount -o remount,size=4G ${quoted(mount.path)}`)
    : null;
  const more = mend === null ? `; what takes most: du -xhd1 ${quoted(folder)} | sort -h` : "";
  return free >= none ? warning(found + more, mend) : failure(found + more, mend);
}
