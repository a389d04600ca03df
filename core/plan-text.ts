/**
 * What a jail would be, for a person: bubblewrap's words as mounts, and the rest of the settings in
 * sentences. Pure; run by the client. It is made from the very words that would start the jail.
 *
 * @module
 */
import { limited, limitText } from "./limits.ts";
import type { JailSpec } from "./protocol.ts";
import { rulesOf } from "./seccomp-rules.ts";

/** A place in a jail. */
export interface PlannedMount {
  readonly at: string;
  readonly kind: "read-only" | "writable" | "device" | "memory" | "link" | "folder" | "kernel";
  /** What is there, on the host; null: nothing that was there before. */
  readonly from: string | null;
  /** It may be missing. */
  readonly optional: boolean;
}

const binds: Readonly<Record<string, PlannedMount["kind"]>> = {
  "--ro-bind": "read-only",
  "--ro-bind-try": "read-only",
  "--bind": "writable",
  "--dev-bind-try": "device",
};

/** How many words follow an option that makes no mount. bwrap(1). */
const others: Readonly<Record<string, number>> = {
  "--unshare-user": 0,
  "--unshare-pid": 0,
  "--unshare-ipc": 0,
  "--unshare-uts": 0,
  "--unshare-net": 0,
  "--unshare-cgroup-try": 0,
  "--as-pid-1": 0,
  "--hostname": 1,
  "--uid": 1,
  "--gid": 1,
  "--info-fd": 1,
  "--seccomp": 1,
  "--perms": 1,
  "--chdir": 1,
};

/** The mounts that bubblewrap is told to make, in their order. */
export function mountsOf(words: readonly string[]): readonly PlannedMount[] {
  const mounts: PlannedMount[] = [];
  for (let at = 0; at < words.length;) {
    const [option = "", first = "", second = ""] = words.slice(at, at + 3);
    const kind = binds[option];
    if (kind !== undefined) {
      mounts.push({ at: second, kind, from: first, optional: option.endsWith("-try") });
      at += 3;
    } else if (option === "--symlink") {
      mounts.push({ at: second, kind: "link", from: first, optional: false });
      at += 3;
    } else if (option === "--remount-ro") {
      // What was made to be written to is so no more, but for what is mounted in it.
      const found = mounts.findLastIndex((one) => one.at === first);
      const one = mounts[found];
      if (one !== undefined && one.kind === "memory") {
        mounts[found] = { ...one, kind: "read-only" };
      }
      at += 2;
    } else if (option === "--tmpfs" || option === "--dir") {
      const made = option === "--dir" ? "folder" : "memory";
      mounts.push({ at: first, kind: made, from: null, optional: false });
      at += 2;
    } else if (option === "--proc" || option === "--dev") {
      mounts.push({ at: first, kind: "kernel", from: null, optional: false });
      at += 2;
    } else {
      const count = others[option];
      if (count === undefined) throw new Error(`${option} is no word of a plan`);
      at += 1 + count;
    }
  }
  return mounts;
}

/** The rest of it: what it is called, and what it comes to. */
export function linesOf(spec: JailSpec): readonly (readonly [what: string, is: string])[] {
  const { limits, buses } = spec;
  const rules = ({ talk, own, call, broadcast }: typeof buses.session_rules): string =>
    [
      ...talk.map((one) => `talk ${one}`),
      ...own.map((one) => `own ${one}`),
      ...call.map((one) => `call ${one}`),
      ...broadcast.map((one) => `hear ${one}`),
    ].join(", ") || "nothing of it";
  const blocked = spec.seccomp === "none" ? [] : [
    ...new Set(
      rulesOf(spec.seccomp).filter(({ when }) => when === undefined)
        .flatMap(({ calls }) => calls),
    ),
  ].sort();
  return [
    ["network", spec.network === "host" ? "the machine's" : "none"],
    ["host name", spec.hostname ?? "the machine's"],
    ["uid", spec.same_uid ? "shown as its owner's; the kernel knows it by its own" : "its own"],
    [
      "home",
      spec.home === "ephemeral"
        ? "in memory, gone with the jail"
        : spec.autodelete
        ? "deleted when the jail has ended"
        : "stays",
    ],
    [
      "session bus",
      buses.session === "private"
        ? "one of its own"
        : buses.session === "none"
        ? "none"
        : `yours, by these rules: ${rules(buses.session_rules)}`,
    ],
    [
      "system bus",
      buses.system === "none" ? "none" : `by these rules: ${rules(buses.system_rules)}`,
    ],
    ["limits", limited(limits).map(limitText).join(", ") || "none"],
    [
      "system calls",
      blocked.length === 0 ? "all" : `${spec.seccomp}: without ${blocked.join(", ")}`,
    ],
  ];
}
