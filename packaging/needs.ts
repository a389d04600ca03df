/**
 * Which programs are needed for what, and which Debian packages have them.
 *
 * @module
 */

/** What somebody is about to do. */
export const purposes = [
  ...["demo", "test", "bench"] as const,
  // What the tests in tests/desktop take: without shipped programs, with the usual ones, with all.
  ...["desktop", "programs", "shipped"] as const,
] as const;
export type Purpose = typeof purposes[number];

/** A program that is called, or a file by which something else is known, and the Debian package. */
export interface Need {
  readonly program: string;
  readonly package: string;
  /** Where it is, if it is no program that could be found. */
  readonly file?: string;
}

/** For running jails at all. */
const always: readonly Need[] = [
  { program: "bwrap", package: "bubblewrap" },
  { program: "setpriv", package: "util-linux" },
  { program: "dbus-daemon", package: "dbus" },
];

/** For calling over D-Bus with clients that are not ours. */
const busClients: readonly Need[] = [
  { program: "gdbus", package: "libglib2.0-bin" },
  { program: "dbus-send", package: "dbus-bin" },
];

/** The same, with programs of one's own in other languages: docs/call-from-*.md. */
const busLibraries: readonly Need[] = [
  { program: "busctl", package: "systemd" },
  { program: "dbus-monitor", package: "dbus-bin" },
  { program: "node", package: "nodejs" },
  {
    program: "python3-gi",
    package: "python3-gi",
    file: "/usr/lib/python3/dist-packages/gi/__init__.py",
  },
];

/** What people run on a terminal. */
const terminalPrograms: readonly Need[] = [
  { program: "less", package: "less" },
  { program: "pinentry-tty", package: "pinentry-tty" },
  { program: "top", package: "procps" },
  { program: "tmux", package: "tmux" },
  { program: "vim.tiny", package: "vim-tiny" },
];

/** Encrypted homes, how they become so, and what people keep in them. */
const vaultPrograms: readonly Need[] = [
  { program: "encfs", package: "encfs" },
  { program: "gocryptfs", package: "gocryptfs" },
  { program: "rsync", package: "rsync" },
  { program: "sqlite3", package: "sqlite3" },
  { program: "strace", package: "strace" },
];

/** File systems from which something is lent. */
const fileSystems: readonly Need[] = [
  { program: "mkfs.ext4", package: "e2fsprogs" },
  { program: "mkfs.btrfs", package: "btrfs-progs" },
  { program: "mkfs.xfs", package: "xfsprogs" },
];

/** A package, what finds fault with it, and a whole Debian in which it is installed. */
const packagePrograms: readonly Need[] = [
  { program: "lintian", package: "lintian" },
  { program: "mmdebstrap", package: "mmdebstrap" },
  { program: "systemd-nspawn", package: "systemd-container" },
];

/** Shells that complete, and what reads man pages. */
const manualPrograms: readonly Need[] = [
  { program: "fish", package: "fish" },
  { program: "groff", package: "groff-base" },
  { program: "man", package: "man-db" },
  { program: "mandoc", package: "mandoc" },
  { program: "zsh", package: "zsh" },
];

/** Another machine, in a network of its own. Its server is {@linkcode unpackedFor}. */
const farPrograms: readonly Need[] = [
  { program: "ip", package: "iproute2" },
  { program: "ssh", package: "openssh-client" },
];

/** A desktop without a screen, and programs with a window, with sound and with a bus. */
const desktopPrograms: readonly Need[] = [
  { program: "weston", package: "weston" },
  { program: "Xvfb", package: "xvfb" },
  { program: "xauth", package: "xauth" },
  { program: "xlogo", package: "x11-apps" },
  { program: "xwininfo", package: "x11-utils" },
  { program: "pulseaudio", package: "pulseaudio" },
  { program: "pactl", package: "pulseaudio-utils" },
  { program: "pipewire", package: "pipewire" },
  { program: "pw-play", package: "pipewire-bin" },
  { program: "pipewire-pulse", package: "pipewire-pulse" },
  { program: "wireplumber", package: "wireplumber" },
  { program: "xdg-dbus-proxy", package: "xdg-dbus-proxy" },
  { program: "xdg-desktop-portal", package: "xdg-desktop-portal" },
  { program: "xdg-desktop-portal-gtk", package: "xdg-desktop-portal-gtk" },
  { program: "xdotool", package: "xdotool" },
  { program: "gjs", package: "gjs" },
  { program: "notify-send", package: "libnotify-bin" },
  { program: "firefox-esr", package: "firefox-esr" },
];

/**
 * Programs of shipped profiles: those that people have most, and that are installed soonest. What a
 * package only recommends, and the program needs to have a window, stands beside it.
 */
const usualPrograms: readonly Need[] = [
  { program: "audacity", package: "audacity" },
  { program: "cargo", package: "cargo" },
  { program: "chromium", package: "chromium" },
  { program: "claws-mail", package: "claws-mail" },
  { program: "eog", package: "eog" },
  { program: "epiphany-browser", package: "epiphany-browser" },
  { program: "evince", package: "evince" },
  { program: "filezilla", package: "filezilla" },
  { program: "gcc", package: "gcc" },
  { program: "gcc", package: "libc6-dev" },
  { program: "gedit", package: "gedit" },
  { program: "gimp", package: "gimp" },
  { program: "gnome-text-editor", package: "gnome-text-editor" },
  { program: "gwenview", package: "gwenview" },
  { program: "hexchat", package: "hexchat" },
  { program: "inkscape", package: "inkscape" },
  { program: "kate", package: "kate" },
  { program: "keepassxc", package: "keepassxc" },
  { program: "libreoffice", package: "libreoffice-gtk3" },
  { program: "libreoffice", package: "libreoffice-writer" },
  { program: "make", package: "make" },
  { program: "mpv", package: "mpv" },
  { program: "node", package: "nodejs" },
  { program: "okular", package: "okular" },
  { program: "okular", package: "qtwayland5" },
  { program: "pidgin", package: "pidgin" },
  { program: "python3", package: "python3" },
  { program: "qbittorrent", package: "qbittorrent" },
  { program: "rhythmbox", package: "rhythmbox" },
  { program: "thunderbird", package: "thunderbird" },
  { program: "transmission-gtk", package: "transmission-gtk" },
  { program: "vlc", package: "vlc" },
  { program: "zathura", package: "zathura" },
];

/** The others that Debian has: large, or rare. */
const otherPrograms: readonly Need[] = [
  { program: "blender", package: "blender" },
  { program: "darktable", package: "darktable" },
  { program: "dino-im", package: "dino-im" },
  { program: "geary", package: "geary" },
  { program: "go", package: "golang-go" },
  { program: "krita", package: "krita" },
  { program: "minetest", package: "minetest" },
  { program: "neochat", package: "neochat" },
  { program: "nheko", package: "nheko" },
  { program: "obs", package: "obs-studio" },
  { program: "obs", package: "qt6-wayland" },
  { program: "strawberry", package: "strawberry" },
  { program: "telegram-desktop", package: "qt6-wayland" },
  { program: "telegram-desktop", package: "telegram-desktop" },
];

const extra: Readonly<Record<Purpose, readonly Need[]>> = {
  demo: [...busClients, { program: "weston", package: "weston" }],
  test: [
    ...busClients,
    ...busLibraries,
    ...terminalPrograms,
    ...vaultPrograms,
    ...fileSystems,
    ...packagePrograms,
    ...manualPrograms,
    ...farPrograms,
  ],
  desktop: desktopPrograms,
  programs: [...desktopPrograms, ...usualPrograms],
  shipped: [...desktopPrograms, ...usualPrograms, ...otherPrograms],
  bench: [
    { program: "hyperfine", package: "hyperfine" },
    { program: "firejail", package: "firejail" },
    { program: "gocryptfs", package: "gocryptfs" },
  ],
};

/** What is needed for it; for building and running alone, if it is for nothing more. */
export function needsFor(purpose: Purpose | undefined): readonly Need[] {
  return purpose === undefined ? always : [...always, ...extra[purpose]];
}

/** Of which the files will do, see packaging/unpacked.ts. */
export function unpackedFor(purpose: Purpose | undefined): readonly Need[] {
  return purpose === "test" ? [{ program: "sshd", package: "openssh-server" }] : [];
}
