/**
 * A profile's home: one folder in the data root, which only its uid can read.
 *
 * Run by the helper. A home appears under its name only when it is complete, and nothing that is
 * already there ever changes its owner: whatever stands under the name, a symbolic link (CVE-2018-
 * 6954), another's folder, a tree with hard links, can at most be refused.
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  changeMode,
  changeOwner,
  makeFolder,
  openFolder,
  readLink,
  removeFolder,
  renameNew,
  type Status,
  statusAt,
  statusOf,
} from "./kernel.ts";
import type { AppUid } from "./names.ts";

/**
 * Opens a folder that has to be root's own, and that nobody else can write, or put another in the
 * place of; makes it if absent.
 */
export function openRootFolder(path: string, mode: number): Fd {
  try {
    const steps = stepsTo(path);
    steps.forEach((step, index) => {
      const last = index === steps.length - 1;
      if (makeFolder("root", step, last ? mode : 0o755)) {
        // The umask may have taken what others need to pass.
        using made = openFolder("root", step);
        changeMode(made, last ? mode : 0o755);
      }
      if (!last) checkStep(step);
    });
    const folder = openFolder("root", path);
    try {
      const status = statusOf(folder);
      if (status.uid !== 0 || (status.mode & 0o022) !== 0) {
        throw new Error("it has to be root's, and writable by nobody else");
      }
      // Where it really is: what the links on the way led through.
      const real = readLink("root", `/proc/self/fd/${folder.number}`);
      for (const step of stepsTo(real ?? path).slice(0, -1)) checkStep(step);
      return folder;
    } catch (error) {
      folder.close();
      throw error;
    }
  } catch (error) {
    throw new AppjailError("home-refused", `Cannot use the folder ${path}: ${wordsOf(error)}`, {
      cause: error,
    });
  }
}

/** `/a`, `/a/b`, `/a/b/c` for the last of them. */
export function stepsTo(path: string): readonly string[] {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.map((_, index) => "/" + parts.slice(0, index + 1).join("/"));
}

/**
 * What lets somebody who is not root change a step on the way to something of root's; `undefined`:
 * nothing does. Whoever can write a folder can rename what is in it, whoever's that is, unless the
 * folder is sticky. Paths below are given to mount(2) and to exec, so a stranger's word must not
 * lead there.
 */
export function weaknessOf(step: Status): "owner" | "mode" | undefined {
  // Who owns the root can do anything already: in a user namespace that is not 0.
  if (step.uid !== 0 && step.uid !== statusAt("root", "/")?.uid) return "owner";
  const shut = step.kind === "link" || (step.mode & 0o022) === 0 || (step.mode & 0o1000) !== 0;
  return shut ? undefined : "mode";
}

function checkStep(step: string): void {
  const status = statusAt("root", step);
  if (status !== undefined && weaknessOf(status) === undefined) return;
  throw new Error(`${step}, on the way to it, can be changed by somebody who is not root`);
}

/** Makes the home of a uid, or checks the one that is there. */
export function prepareHome(dataRoot: Fd, uid: AppUid): void {
  const name = String(uid);
  const scratch = `.${uid}.new`;
  try {
    for (let tries = 0;; tries++) {
      try {
        using home = openFolder(dataRoot, name);
        const status = statusOf(home);
        if (status.uid !== uid || status.gid !== uid) {
          throw new Error(
            `it belongs to ${status.uid}:${status.gid}; if it is this profile's, chown it to ` +
              `${uid}:${uid}`,
          );
        }
        if (status.mode !== 0o700) changeMode(home, 0o700);
        return;
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "ENOENT") || tries > 3) {
          throw error;
        }
      }
      // Left by a helper that was killed here; what is not empty was never ours and stays.
      removeFolder(dataRoot, scratch);
      if (!makeFolder(dataRoot, scratch, 0o700)) continue;
      using made = openFolder(dataRoot, scratch);
      changeOwner(made, uid, uid);
      changeMode(made, 0o700);
      renameNew(dataRoot, scratch, name);
    }
  } catch (error) {
    throw new AppjailError("home-refused", `Cannot use the home of uid ${uid}: ${wordsOf(error)}`, {
      cause: error,
    });
  }
}
