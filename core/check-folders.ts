/**
 * The doctor's checks of the daemon's folders: whose they are, who can change them or the way to
 * them, and whether those can pass who have to.
 *
 * @module
 */
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  type Looker,
  ok,
  unknown,
  warning,
} from "./diagnosis.ts";
import { stepsTo, weaknessOf } from "./home.ts";
import { readLink, type Status, statusAt } from "./kernel.ts";
import { openPlace } from "./mounts.ts";
import type { HelperOptions } from "./protocol.ts";
import { quoted } from "./shell-word.ts";

/** A folder of the daemon's. */
interface Wanted {
  readonly path: string;
  /** Every uid has to be able to pass; otherwise none but root's is to look into it. */
  readonly passable: boolean;
}

export function folderChecks(options: HelperOptions): readonly Check[] {
  const { data_root, state_dir, runtime_dir } = options;
  return [
    { name: "data-root", look: (looker) => look(looker, { path: data_root, passable: true }) },
    { name: "state-dir", look: (looker) => look(looker, { path: state_dir, passable: false }) },
    { name: "runtime-dir", look: (looker) => look(looker, { path: runtime_dir, passable: true }) },
  ];
}

function look(looker: Looker, { path, passable }: Wanted): Finding {
  const change = (command: string, step: string): string =>
    asRoot(looker, `${command} ${quoted(step)}`);
  const named = (step: string): string => step === path ? step : `${step}, on the way to ${path},`;
  for (const step of wayTo(path)) {
    const status = statusAt("root", step);
    if (status === undefined) return ok(`${path} is not there yet: the daemon makes it`);
    const last = step === path;
    switch (last ? strictWeakness(status) : weaknessOf(status)) {
      case "kind":
        return failure(
          `${path} is no folder`,
          asRoot(looker, `mv ${quoted(path)} ${quoted(`${path}.old`)}`),
        );
      case "owner":
        return failure(`${named(step)} is uid ${status.uid}'s`, change("chown root:root", step));
      case "mode":
        return failure(
          `${named(step)} can be written by others`,
          change(last && !passable ? "chmod 700" : "chmod go-w", step),
        );
      case undefined:
    }
    if (passable && status.kind === "folder" && (status.mode & 0o001) === 0) {
      return failure(
        `${named(step)} lets nobody pass but root: no application reaches what is its own`,
        change("chmod a+x", step),
      );
    }
  }
  const status = statusAt("root", path);
  if (status === undefined) return unknown(`${path} has just gone`);
  if (!passable && (status.mode & 0o077) !== 0) {
    return warning(`others can look into ${path}`, change("chmod 700", path));
  }
  return ok(`${path} is root's, mode ${status.mode.toString(8).padStart(4, "0")}`);
}

/** The same as for a step on the way; of the folder itself, more is asked. */
function strictWeakness({ kind, uid, mode }: Status): "kind" | "owner" | "mode" | undefined {
  if (kind !== "folder") return "kind";
  if (uid !== 0) return "owner";
  return (mode & 0o022) === 0 ? undefined : "mode";
}

/** Every step as it is written, and those to where the links among them lead. */
function wayTo(path: string): readonly string[] {
  const steps = stepsTo(path);
  let real = path;
  if (statusAt("root", path)?.kind === "folder") {
    using place = openPlace(undefined, path);
    real = readLink("root", `/proc/self/fd/${place.number}`) ?? path;
  }
  const behind = stepsTo(real).slice(0, -1);
  return [...new Set([...steps.slice(0, -1), ...behind, path])];
}
