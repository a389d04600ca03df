/**
 * The command by which this machine's distribution installs what appjail needs. os-release(5).
 *
 * @module
 */

/** The programs that install packages. */
const managers = ["apt", "dnf", "pacman"] as const;
type Manager = typeof managers[number];

/** How they are told to install something. */
const commands: Readonly<Record<Manager, string>> = {
  apt: "apt install",
  dnf: "dnf install",
  pacman: "pacman -S",
};

/** Who uses which: by the distribution, or by the one that it is made of. */
const distributions: Readonly<Record<string, Manager>> = {
  arch: "pacman",
  centos: "dnf",
  debian: "apt",
  fedora: "dnf",
  rhel: "dnf",
  ubuntu: "apt",
};

function everywhere(name: string): Readonly<Record<Manager, string>> {
  return { apt: name, dnf: name, pacman: name };
}

/** What is needed, and how each distribution calls the package that has it. */
const packages = {
  bubblewrap: everywhere("bubblewrap"),
  dbus: everywhere("dbus"),
  "dbus-daemon": { apt: "dbus-daemon", dnf: "dbus-daemon", pacman: "dbus" },
  encfs: { apt: "encfs", dnf: "fuse-encfs", pacman: "encfs" },
  fuse: everywhere("fuse3"),
  gocryptfs: everywhere("gocryptfs"),
  kernel: {
    apt: `linux-image-${Deno.build.arch === "aarch64" ? "arm64" : "amd64"}`,
    dnf: "kernel",
    pacman: "linux",
  },
  libc: { apt: "libc-bin", dnf: "glibc-common", pacman: "glibc" },
  libseccomp: { apt: "libseccomp2", dnf: "libseccomp", pacman: "libseccomp" },
  perl: { apt: "perl-base", dnf: "perl-interpreter", pacman: "perl" },
  procps: { apt: "procps", dnf: "procps-ng", pacman: "procps-ng" },
  rsync: everywhere("rsync"),
  "util-linux": everywhere("util-linux"),
  xauth: { apt: "xauth", dnf: "xauth", pacman: "xorg-xauth" },
  "xdg-dbus-proxy": everywhere("xdg-dbus-proxy"),
} as const satisfies Readonly<Record<string, Readonly<Record<Manager, string>>>>;
export type Package = keyof typeof packages;

/** Which of them a distribution has, by the text of its os-release; `undefined`: none that is known. */
function managerOf(osRelease: string): Manager | undefined {
  const value = (name: string): string =>
    new RegExp(`^${name}=["']?([^"'\n]*)`, "m").exec(osRelease)?.[1] ?? "";
  const names = [value("ID"), ...value("ID_LIKE").split(" ")];
  return names.map((name) => Object.hasOwn(distributions, name) ? distributions[name] : undefined)
    .find((manager) => manager !== undefined);
}

/** The command, for root; `undefined` where the distribution is not known. */
export function installing(wanted: Package, osRelease: string): string | undefined {
  const manager = managerOf(osRelease);
  return manager && `${commands[manager]} ${packages[wanted][manager]}`;
}
