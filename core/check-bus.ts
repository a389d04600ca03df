/**
 * The doctor's check of the system bus's policy: whether some file of it lets the dispatcher have its
 * name.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { accountOf } from "./accounts.ts";
import { mayOwn, policyFolders, policyPath } from "./bus-policy.ts";
import { type Check, failure, type Finding, type Looker, ok } from "./diagnosis.ts";
import { hostText } from "./host.ts";
import { namesIn, openFolderBehind } from "./kernel.ts";
import type { HelperOptions } from "./protocol.ts";

/** @param printing the command that prints the policy, as this person types it */
export function policyChecks(options: HelperOptions, printing: string): readonly Check[] {
  return [{
    name: "bus-policy",
    after: ["dispatcher-user"],
    look: (looker) => policy(looker, options, printing),
  }];
}

/** How the dispatcher's user is called in a policy. */
export function userOfPolicy(uid: number): string {
  return accountOf(hostText("/etc/passwd"), uid)?.name ?? String(uid);
}

function policy(
  looker: Looker,
  { bus, dispatcher_uid: uid }: HelperOptions,
  printing: string,
): Finding {
  if (bus === null) return ok("the daemon is on no bus");
  if (bus !== "system") return ok("the daemon is on a bus of its own, which has its own policy");
  const user = userOfPolicy(uid);
  const files = policyFolders.flatMap(policiesIn);
  const file = files.find(({ users }) => users.some((one) => one === user || one === String(uid)));
  if (file !== undefined) return ok(`${file.path} lets ${user} have the name`);
  const [other] = files.filter(({ users }) => users.length > 0);
  return failure(
    other === undefined
      ? "the system bus has no policy for appjail: nobody can call it there"
      : `${other.path} lets ${other.users.join(", ")} have the name, and the dispatcher is ${user}`,
    looker.uid === 0
      ? `${printing} > ${policyPath}`
      : `${printing} | sudo tee ${policyPath} >/dev/null`,
  );
}

function policiesIn(
  folder: string,
): readonly { readonly path: string; readonly users: readonly string[] }[] {
  try {
    using open = openFolderBehind(folder);
    return namesIn(open).filter((name) => name.endsWith(".conf")).sort()
      .map((name) => `${folder}/${name}`)
      .map((path) => ({ path, users: mayOwn(hostText(path)) }));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}
