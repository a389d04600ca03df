/**
 * The doctor's checks of what root alone can see: the registry of uids, and the homes.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  type Looker,
  needsRoot,
  ok,
  warning,
} from "./diagnosis.ts";
import { wordsOf } from "./errors.ts";
import { openFolder, statusAt } from "./kernel.ts";
import type { Allocation, HelperOptions } from "./protocol.ts";
import { readRegistry, registryName } from "./registry.ts";
import { quoted } from "./shell-word.ts";

export function homeChecks(options: HelperOptions): readonly Check[] {
  return [
    {
      name: "registry",
      after: ["state-dir"],
      look: (looker) => looker.uid === 0 ? registry(options) : needsRoot,
    },
    {
      name: "homes",
      after: ["registry", "data-root"],
      look: (looker) => looker.uid === 0 ? homes(looker, options) : needsRoot,
    },
  ];
}

/** The uids that were given; none where there is no registry. For root. */
export function allocations({ state_dir }: HelperOptions): readonly Allocation[] {
  using folder = openIfThere(state_dir);
  return folder === undefined ? [] : readRegistry(folder, state_dir);
}

function openIfThere(path: string): Fd | undefined {
  try {
    return openFolder("root", path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

function registry(options: HelperOptions): Finding {
  const path = `${options.state_dir}/${registryName}`;
  const status = statusAt("root", path);
  if (status === undefined) return ok("no profile has a uid yet");
  if (status.uid !== 0) {
    return failure(`${path} is uid ${status.uid}'s`, `chown root:root ${quoted(path)}`);
  }
  if ((status.mode & 0o022) !== 0) {
    return failure(`${path} can be written by others`, `chmod 600 ${quoted(path)}`);
  }
  try {
    return ok(`${countOf(allocations(options).length, "profile")} in ${path}`);
  } catch (error) {
    return failure(wordsOf(error), null);
  }
}

function homes(looker: Looker, options: HelperOptions): Finding {
  const { data_root } = options;
  using folder = openIfThere(data_root);
  if (folder === undefined) return ok("there is none yet");
  const wrong: { readonly result: "warning" | "failure"; found: string; mend: string | null }[] =
    [];
  let count = 0;
  for (const { uid, profile } of allocations(options)) {
    const status = statusAt(folder, String(uid));
    if (status === undefined) continue;
    count++;
    const path = `${data_root}/${uid}`;
    const home = `the home of ${profile}, ${path},`;
    if (status.kind !== "folder") {
      wrong.push({ result: "failure", found: `${home} is no folder`, mend: null });
    } else if (status.uid !== uid || status.gid !== uid) {
      wrong.push({
        result: "failure",
        found: `${home} is ${status.uid}:${status.gid}'s`,
        mend: `chown ${uid}:${uid} ${quoted(path)}`,
      });
    } else if (status.mode !== 0o700) {
      wrong.push({
        result: "warning",
        found: `${home} is open to others until its jail starts`,
        mend: `chmod 700 ${quoted(path)}`,
      });
    }
  }
  const [first, ...more] = wrong.toSorted((a, b) => a.result < b.result ? -1 : 1);
  if (first === undefined) return ok(`${countOf(count, "home")} in ${data_root}`);
  const found = first.found + (more.length > 0 ? ` and ${more.length} more` : "");
  const mends = wrong.flatMap(({ mend }) => mend === null ? [] : [mend]).slice(0, 20);
  const mend = mends.length === 0 ? null : asRoot(looker, mends.join(" && "));
  return first.result === "failure" ? failure(found, mend) : warning(found, mend);
}

function countOf(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}
