/**
 * The doctor's check of control groups: which limits they can hold. Root has a group made with all of
 * them, and takes it away.
 *
 * @module
 */
import { Cgroups } from "./cgroup.ts";
import {
  asRoot,
  type Check,
  type Finding,
  type Looker,
  needsRoot,
  ok,
  warning,
} from "./diagnosis.ts";
import { limitNames } from "./limits.ts";
import { gathered } from "./log.ts";
import type { HelperOptions } from "./protocol.ts";
import { quoted } from "./shell-word.ts";

export function cgroupChecks(options: HelperOptions): readonly Check[] {
  return [{ name: "control-groups", look: (looker) => cgroups(looker, options) }];
}

function cgroups(looker: Looker, { runtime_dir, last_uid }: HelperOptions): Finding {
  if (looker.uid !== 0) return needsRoot;
  const complaints: string[] = [];
  const log = gathered(complaints);
  // Another's name: nothing of the daemon's own groups is touched.
  const groups = new Cgroups(`${runtime_dir}-doctor`, log);
  let holds: ReadonlySet<string> = new Set();
  try {
    const limits = { memory: 2 ** 30, processes: 1000, cpu: 100 };
    holds = groups.make(last_uid, limits)?.holds ?? holds;
  } finally {
    groups.remove(last_uid);
    groups.close();
  }
  const missing = limitNames.filter((name) => !holds.has(name));
  if (missing.length === 0) return ok(`they hold limits of ${limitNames.join(", ")}`);
  const folder = /\("([^"]+)\/appjail[^"]*"\): EROFS/.exec(complaints.join("\n"))?.[1];
  const why = folder !== undefined ? `${folder} is read-only` : complaints[0] ??
    "this process is in a part of them that is somebody else's, or there are none";
  return warning(
    `they hold no limit of ${missing.join(", ")} (${why}): a resource limit has to do, or nothing`,
    folder === undefined ? null : asRoot(looker, `mount -o remount,rw ${quoted(folder)}`),
  );
}
