/**
 * The doctor's check of the profiles that are for everybody: those that come with the program, and the
 * administrator's. People's own are the dispatcher's to read.
 *
 * @module
 */
import * as v from "valibot";
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
import { isErrno } from "../ipc/errno.ts";
import { openFolder } from "./kernel.ts";
import { ownerUid } from "./names.ts";
import { problemText } from "./profile.ts";
import { ProfileStore } from "./profile-store.ts";
import type { HelperOptions } from "./protocol.ts";
import { quoted } from "./shell-word.ts";

export function profileChecks(options: HelperOptions): readonly Check[] {
  return [{ name: "profiles", look: (looker) => profiles(looker, options) }];
}

function profiles(
  looker: Looker,
  { shipped_profiles: path, admin_profiles: admin }: HelperOptions,
): Finding {
  using shipped = path === null ? undefined : openFolder("root", path);
  // Nobody has a folder of their own there.
  using own = openFolder("root", "/");
  const nobody = v.parse(ownerUid, 65_534);
  try {
    openFolder("root", admin).close();
  } catch (error) {
    if (isErrno(error, "EACCES")) return unknown(`${admin} may not be read`);
    if (!isErrno(error, "ENOENT")) throw error;
  }
  const store = new ProfileStore({
    own,
    admin,
    shipped: path === null || shipped === undefined ? undefined : { folder: shipped, path },
  });
  const all = store.list(nobody);
  const problems = all.flatMap(({ name }) => store.resolve(nobody, name).problems);
  const [first, ...more] = problems;
  if (first !== undefined) {
    const files = [...new Set(problems.map(({ file }) => file))];
    const mend = files.map((file) => `mv ${quoted(file)} ${quoted(`${file}.broken`)}`).join(" && ");
    return failure(
      `cannot be used: ${problemText(first)}${more.length > 0 ? ` (and ${more.length} more)` : ""}`,
      asRoot(looker, mend),
    );
  }
  if (path === null) {
    return warning("no profile comes with this program: give the daemon --profiles-dir", null);
  }
  return ok(`${all.length} profiles can be used`);
}
