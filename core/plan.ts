/**
 * A jail as bubblewrap's words: pure, so that what a jail sees can be read and tested without
 * making one. bwrap(1).
 *
 * bubblewrap runs as the app's own uid, without privileges: a mistake here can never show an
 * application what its uid may not read.
 *
 * @module
 */
import { systemBus } from "./bus-rules.ts";
import { homeOf } from "./environment.ts";
import { AppjailError } from "./errors.ts";
import type { AbsolutePath, LendName, ProfileName } from "./names.ts";
import type { JailSpec } from "./protocol.ts";
import { quoted } from "./shell-word.ts";
import { authorityIn } from "./x11.ts";

/** What the plan has to know of the host. */
export interface HostLayout {
  /** /bin, /sbin, /lib…: a link's target where it is one (merged /usr), null where it is a folder. */
  readonly roots: Readonly<Record<string, string | null>>;
  /** The files and folders of {@linkcode secrets} that there are. */
  readonly secretFiles: readonly string[];
  readonly secretFolders: readonly string[];
  /** Files outside of /etc to which links in /etc lead, such as a resolv.conf in /run. */
  readonly linked: readonly string[];
  /** Whether /etc/machine-id is a file. */
  readonly machineId: boolean;
}

/** The folders that make a Debian system, as far as they may be links into /usr. */
export const systemRoots: readonly string[] = [
  "/bin",
  "/sbin",
  "/lib",
  "/lib32",
  "/lib64",
  "/libx32",
];

/**
 * What a machine keeps for itself in /etc. The app's uid can read next to none of it; it is covered
 * all the same, lest a wrong mode on the host show it.
 */
export const secrets: readonly string[] = [
  "/etc/shadow",
  "/etc/shadow-",
  "/etc/gshadow",
  "/etc/gshadow-",
  "/etc/passwd-",
  "/etc/group-",
  "/etc/subuid",
  "/etc/subgid",
  "/etc/sudoers",
  "/etc/sudoers.d",
  "/etc/security/opasswd",
  "/etc/ssl/private",
  "/etc/ssh",
  "/etc/krb5.keytab",
  "/etc/letsencrypt",
  "/etc/wireguard",
  "/etc/openvpn",
  "/etc/ipsec.secrets",
  "/etc/ipsec.d",
  "/etc/swanctl",
  "/etc/ppp",
  "/etc/NetworkManager",
  "/etc/netplan",
  "/etc/wpa_supplicant",
  "/etc/iwd",
  "/etc/docker",
  "/etc/kubernetes",
  "/etc/appjail",
];

/** What of a program lies in /var although it is the same for every user: fonts, words, formats. */
export const sharedData: readonly string[] = [
  "/var/cache/dictionaries-common",
  "/var/cache/fontconfig",
  "/var/lib/aspell",
  "/var/lib/ghostscript",
  "/var/lib/ispell",
  "/var/lib/sgml-base",
  "/var/lib/texmf",
  "/var/lib/xkb",
  "/var/lib/xml-core",
];

/**
 * What the kernel tells of devices. A jail that has some sees it: the drivers of graphics cards find
 * theirs here, and so does WebKit's own jail, which does not start without.
 */
const hardware: readonly string[] = [
  "/sys/block",
  "/sys/bus",
  "/sys/class",
  "/sys/dev",
  "/sys/devices",
];

/** Where in the jail the program of the jailer lies. */
export const programInJail = "/run/appjail";

/** Something that is lent, and a second place for it. */
export interface LentAt {
  readonly name: LendName;
  readonly at: AbsolutePath;
}

/** Where in a jail something that is lent may be: below these, not in their place. */
const placesForLent: readonly string[] = ["/home", "/media", "/mnt", "/srv", "/tmp"];

/**
 * Why something cannot be lent at a place in a jail, in words that go on after the place.
 * `undefined`: it can. What a jail is made of is never covered, and no name is looked up twice.
 */
export function placeProblem(
  at: AbsolutePath,
  profile: ProfileName,
  uid: number,
): string | undefined {
  const parts = at.split("/").slice(1);
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    return "is not written in the shortest way";
  }
  const below = (folder: string): boolean => at.startsWith(`${folder}/`);
  const home = homeOf(profile);
  const taken = [home, `${home}/lent`, `/run/user/${uid}/bus`, authorityIn(uid)];
  if (taken.includes(at) || below(`${home}/lent`) || below(`/run/user/${uid}/bus`)) {
    return "is something of the jail's own";
  }
  if ([...placesForLent, `/run/user/${uid}`].some(below)) return undefined;
  return `is in none of ${placesForLent.join(", ")} and /run/user/${uid}`;
}

/** What one jail is made of. */
export interface JailPlan {
  readonly profile: ProfileName;
  /** As which programs see themselves: the app's own, or its owner's. */
  readonly uid: number;
  readonly spec: JailSpec;
  /** What it is lent that is to be in other places than `~/lent`, too. */
  readonly lent: readonly LentAt[];
  readonly host: HostLayout;
  /** The folder with the program, the home, and the jail's own files, on the host. */
  readonly program: string;
  readonly home: string;
  readonly files: string;
  /** The descriptor to which bubblewrap tells the pid. */
  readonly infoFd: number;
  /** The descriptor with the filter for system calls, where there is one. */
  readonly seccompFd: number | undefined;
  /** The proxy of its owner's buses, where it has a part in them. */
  readonly proxy: {
    readonly session: string | undefined;
    readonly system: string | undefined;
  } | undefined;
  /** Which more of its files it is to see, and where. */
  readonly seen: readonly { readonly name: string; readonly at: string }[];
}

/** Where a jail has what is not to be covered by anything else. */
const own: readonly string[] = ["/proc", "/dev", "/run/appjail", "/run/user", "/home"];

/** The words for `bwrap --args`; the command comes after them. */
export function planJail(plan: JailPlan): readonly string[] {
  const { host, uid, spec } = plan;
  const home = homeOf(plan.profile);
  const words: string[] = [];
  const add = (...more: readonly string[]): void => void words.push(...more);

  add("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts");
  add("--unshare-cgroup-try");
  if (spec.network === "none") add("--unshare-net");
  if (spec.hostname !== null) add("--hostname", spec.hostname);
  // What the kernel lets it do, it does as the app's uid: this is another name for that.
  if (spec.same_uid) add("--uid", String(uid), "--gid", String(uid));
  // The jailer is pid 1: what is orphaned comes to it, its end is the end of all, and no program
  // inside can stop it, nor kill it but by a signal that it wants. pid_namespaces(7).
  add("--as-pid-1", "--info-fd", String(plan.infoFd));

  const inHome = (path: string): boolean => path.startsWith(`${home}/`);
  const tmpfs = (chosen: (path: string) => boolean): void => {
    for (const wanted of spec.tmpfs) {
      const path = wanted.startsWith("~/") ? `${home}${wanted.slice(1)}` : wanted;
      const covers = (one: string): boolean =>
        `${path}/`.startsWith(`${one}/`) || one.startsWith(`${path}/`);
      if ((!inHome(path) && own.some(covers)) || covers(`${home}/lent`)) {
        throw new AppjailError("invalid-argument", `${wanted} is a place of the jail's own`);
      }
      if (chosen(path)) add("--perms", "0700", "--tmpfs", path);
    }
  };
  const lent = (chosen: (at: string) => boolean): void => {
    for (const { name, at } of plan.lent) {
      if (chosen(at)) add("--bind", `${plan.files}/lend/${name}`, at);
    }
  };
  // First, what the app has had a hand in: a link that it has laid in its home leads to nothing yet,
  // and what comes later is on top.
  add("--perms", "0755", "--dir", "/home");
  if (spec.home === "persistent") add("--bind", plan.home, home);
  else add("--perms", "0700", "--tmpfs", home);
  // Root's, so nothing can be made in it; what is mounted in it later comes along.
  add("--bind", `${plan.files}/lend`, `${home}/lent`);
  tmpfs(inHome);
  lent(inHome);
  add("--ro-bind", "/usr", "/usr");
  for (const [root, target] of Object.entries(host.roots)) {
    if (target === null) add("--ro-bind", root, root);
    else add("--symlink", target, root);
  }
  add("--ro-bind-try", "/opt", "/opt");
  add("--ro-bind", "/etc", "/etc");
  for (const file of host.secretFiles) add("--ro-bind", `${plan.files}/none`, file);
  // A tmpfs of bubblewrap's belongs to the app, which could give itself the mode: hence read-only.
  for (const folder of host.secretFolders) {
    add("--perms", "0000", "--tmpfs", folder, "--remount-ro", folder);
  }
  for (const name of ["passwd", "group"]) {
    add("--ro-bind", `${plan.files}/${name}`, `/etc/${name}`);
  }
  // What is not on the host has no place in a read-only /etc; where it is a link, it leads to D-Bus's.
  if (host.machineId) add("--ro-bind", `${plan.files}/machine-id`, "/etc/machine-id");

  add("--proc", "/proc", "--dev", "/dev");
  add("--perms", "1777", "--tmpfs", "/dev/shm");
  for (const device of spec.devices) add("--dev-bind-try", device, device);
  add("--remount-ro", "/dev");
  if (spec.devices.length > 0) {
    for (const folder of hardware) add("--ro-bind-try", folder, folder);
  }
  add("--perms", "1777", "--tmpfs", "/tmp");
  for (const folder of ["/var", "/var/cache", "/var/lib", "/var/lib/dbus"]) {
    add("--perms", "0755", "--dir", folder);
  }
  add("--perms", "1777", "--tmpfs", "/var/tmp");
  for (const folder of sharedData) add("--ro-bind-try", folder, folder);
  add("--ro-bind", `${plan.files}/machine-id`, "/var/lib/dbus/machine-id");
  add("--symlink", "/run", "/var/run");
  add("--perms", "0755", "--dir", "/run");
  add("--perms", "0755", "--dir", "/run/user");
  add("--perms", "0700", "--tmpfs", `/run/user/${uid}`);
  for (const file of host.linked) add("--ro-bind-try", file, file);
  add("--ro-bind", plan.program, programInJail);
  tmpfs((path) => !inHome(path));
  lent((at) => !inHome(at));
  if (plan.proxy !== undefined) {
    const { session, system } = plan.proxy;
    if (session !== undefined) add("--bind", session, `/run/user/${uid}/bus`);
    if (system !== undefined) add("--bind", system, systemBus);
  }
  for (const { name, at } of plan.seen) add("--ro-bind", `${plan.files}/${name}`, at);
  // What is not one of the mounts above belongs to nobody in the jail.
  add("--remount-ro", "/");
  add("--chdir", home);
  if (plan.seccompFd !== undefined) add("--seccomp", String(plan.seccompFd));
  return words;
}

/**
 * What bubblewrap complains of when something in a home stands where a mount is to be, in words for a
 * person; as it is when it complains of anything else.
 *
 * @param home the home, on the host
 */
export function complaintFor(
  complaint: string,
  { profile, home, lent }: Pick<JailPlan, "profile" | "home" | "lent">,
): string {
  const inside = homeOf(profile);
  const places = [`${inside}/lent`, ...lent.map(({ at }) => at)]
    .filter((at) => at.startsWith(`${inside}/`));
  const place = places.find((at) => complaint.includes(`${at}: `));
  if (place === undefined) return complaint;
  const name = place.slice(inside.length);
  const there = `${home}${name}`;
  const shared = lent.some((one) => one.at === place && one.name === "shared");
  // -T: the app may have laid a link at the second place, too. mv(1).
  return `what its home has at ~${name} is in the way of what is lent there ` +
    `(${complaint.split(": ").at(-1)}); try, as root: mv -nT ${quoted(there)} ${
      quoted(`${there}.old`)
    }` +
    (shared ? `, or: appjail profile edit ${profile}, with shared = false` : "");
}

/** passwd(5) for a jail: the system's accounts, and its own; nobody else who uses the machine. */
export function passwdFor(host: string, profile: ProfileName, uid: number): string {
  return systemAccounts(host, profile, 7).join("") +
    `${profile}:x:${uid}:${uid}:${profile} in its jail:/home/${profile}:/bin/sh\n`;
}

/** group(5) for a jail. */
export function groupFor(host: string, profile: ProfileName, gid: number): string {
  return systemAccounts(host, profile, 4).join("") + `${profile}:x:${gid}:\n`;
}

/** The lines whose id is a system account's; those of group(5) have four fields, the last empty. */
function systemAccounts(text: string, except: string, count: 4 | 7): readonly string[] {
  return text.split("\n").flatMap((line) => {
    const fields = line.split(":");
    const [name = "", , id = ""] = fields;
    // Comments, and what NIS would add. nsswitch.conf(5).
    if (fields.length !== count || /^(?:$|[#+-])/.test(name) || name === except) return [];
    if (!/^[0-9]+$/.test(id) || (Number(id) >= 1000 && Number(id) !== 65534)) return [];
    // The members of a group are names of people.
    return [(count === 4 ? [...fields.slice(0, 3), ""] : fields).join(":") + "\n"];
  });
}
