/**
 * What the host looks like, as far as a jail's plan depends on it. Run by the helper, at each start:
 * a few dozen system calls, and never out of date.
 *
 * @module
 */
import { readLink, readText, statusAt } from "./kernel.ts";
import { type HostLayout, secrets, systemRoots } from "./plan.ts";

/** Looks at the host. */
export function hostLayout(): HostLayout {
  const roots: Record<string, string | null> = {};
  for (const root of systemRoots) {
    const status = statusAt("root", root);
    if (status?.kind === "link") roots[root] = readLink("root", root) ?? "";
    else if (status?.kind === "folder") roots[root] = null;
  }
  const present = secrets.map((path) => ({ path, kind: statusAt("root", path)?.kind }));
  const target = readLink("root", "/etc/resolv.conf");
  const resolved = target === undefined ? undefined : new URL(target, "file:///etc/").pathname;
  return {
    roots,
    secretFiles: present.filter(({ kind }) => kind === "file").map(({ path }) => path),
    secretFolders: present.filter(({ kind }) => kind === "folder").map(({ path }) => path),
    linked: resolved !== undefined && resolved.startsWith("/run/") ? [resolved] : [],
    machineId: statusAt("root", "/etc/machine-id")?.kind === "file",
  };
}

/** A file of /etc, empty when it cannot be read. */
export function hostText(path: string): string {
  return readText(path, 16 * 1024 * 1024) ?? "";
}
