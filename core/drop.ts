/**
 * The words by which a process that root starts becomes somebody else, and nothing more. setpriv(1).
 *
 * @module
 */

export const setpriv = "/usr/bin/setpriv";

/** What stands before the command: a uid, in these groups, without privileges or a way back to them. */
export function dropTo(
  uid: number,
  gid: number,
  groups: readonly number[] = [],
): readonly string[] {
  return [
    setpriv,
    `--reuid=${uid}`,
    `--regid=${gid}`,
    groups.length === 0 ? "--clear-groups" : `--groups=${groups.join(",")}`,
    "--no-new-privs",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--",
  ];
}
