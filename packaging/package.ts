/**
 * `deno task package`: makes a Debian package of the program, with dpkg-deb and no more.
 *
 * The same commit becomes the same bytes, whoever builds it, where and when: times are that of the
 * commit, owners root, modes given, and names in order. https://reproducible-builds.org/docs/
 *
 * @module
 */
import manifest from "../deno.json" with { type: "json" };
import { build } from "./build.ts";
import { pages } from "./pages.ts";
import { sourceDate } from "./source-date.ts";
import { compressed, debianFile, type Entry, makeFolders, place, treeOf } from "./tree.ts";

/** How the package's content is compressed: as dpkg-deb(1) has it. */
const compressions = ["xz", "gzip", "none"] as const;
type Compression = typeof compressions[number];

export interface PackageOptions {
  /** The folder for the package. */
  readonly out: string;
  readonly version: string;
  readonly compression: Compression;
  /** A base binary for one executable, instead of Deno's download. */
  readonly base: string | undefined;
  readonly say: (line: string) => void;
}

/** Whom to write to: Debian's own variables say it, dpkg-buildpackage(1). */
function maintainer(): string {
  const name = Deno.env.get("DEBFULLNAME") || "the appjail authors";
  return `${name} <${Deno.env.get("DEBEMAIL") || "appjail@packages.debian.org"}>`;
}

/** Debian's name of the architecture that this runs on. */
function architecture(): string {
  const names: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };
  const name = names[Deno.build.arch];
  if (name === undefined) throw new Error(`Cannot make a package for ${Deno.build.arch}`);
  return name;
}

/** The newest version of the C library whose symbols a program asks for. */
export function libcOf(program: Uint8Array): string {
  const text = new TextDecoder("latin1").decode(program);
  const minors = [...text.matchAll(/GLIBC_2\.([0-9]+)/g)].map(([, minor]) => Number(minor));
  if (minors.length === 0) throw new Error("Cannot tell which C library the program needs");
  return `2.${minors.reduce((most, minor) => Math.max(most, minor))}`;
}

/** The package's description of itself. deb-control(5). */
function control(
  { version, libc, size }: {
    readonly version: string;
    readonly libc: string;
    readonly size: number;
  },
): string {
  const depends = [
    "bubblewrap",
    "debconf (>= 0.5) | debconf-2.0",
    `libc6 (>= ${libc})`,
    "libgcc-s1 (>= 3.0)",
    "libseccomp2",
    "systemd | systemd-standalone-sysusers | systemd-sysusers",
  ];
  const recommends = [
    "default-dbus-system-bus | dbus-system-bus",
    // gocryptfs does not ask for it, and mounts nothing without.
    "fuse3 | fuse",
    "gocryptfs | encfs",
    "rsync",
    "xauth",
    "xdg-dbus-proxy",
  ];
  return `Package: appjail
Version: ${version}
Architecture: ${architecture()}
Maintainer: ${maintainer()}
Installed-Size: ${size}
Depends: ${depends.join(", ")}
Recommends: ${recommends.join(", ")}
Suggests: encfs, pinentry-curses | pinentry-tty, pkexec
Section: admin
Priority: optional
Description: runs each application as a user of its own, in a jail of its own
 Each profile has a user id, a home that only this id can read, and a jail with
 a /tmp, processes and a session bus of its own. Whatever is started by the same
 profile joins its jail. Homes can be encrypted; they are locked when the jail
 ends. What a program needs of a person's, such as a folder, the display or
 sound, is lent to it, without a copy and without a change to anything on disk.
 .
 It is called from a shell, from menus, and over D-Bus.
`;
}

/** What came of each version. The one that is packed is the only one that is known. deb-changelog(5). */
function changelog(version: string): string {
  const date = sourceDate().toUTCString().replace("GMT", "+0000");
  return `appjail (${version}) unstable; urgency=medium

  * Built from the source of this date.

 -- ${maintainer()}  ${date}
`;
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, {
    args: [...args],
    env: { LC_ALL: "C.UTF-8", SOURCE_DATE_EPOCH: `${sourceDate().getTime() / 1000}` },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (success) return;
  throw new Error(
    `Cannot make the package: ${command}: ${new TextDecoder().decode(stderr).trim()}`,
  );
}

/** The checksums of every file, as dpkg keeps them. */
async function checksums(entries: readonly Entry[], root: string): Promise<string> {
  const paths = entries.filter(({ kind }) => kind !== "link").map(({ path }) => `usr/${path}`);
  const { success, stdout } = await new Deno.Command("md5sum", {
    args: ["--", ...paths],
    cwd: root,
  }).output();
  if (!success) throw new Error("Cannot make the package: md5sum failed");
  return new TextDecoder().decode(stdout);
}

/** Makes the package, and returns its path. */
export async function makePackage(options: PackageOptions): Promise<string> {
  const { out, version, compression, base, say } = options;
  makeFolders(absolute(out));
  const scratch = Deno.makeTempDirSync({ dir: absolute(out), prefix: ".package-" });
  try {
    const entry = `${Deno.realPathSync(`${import.meta.dirname}/..`)}/main.ts`;
    const built = `${scratch}/built`;
    const form = await build({ entry, out: built, base, say });
    const entries: readonly Entry[] = [
      ...await treeOf({ prefix: "/usr", habit: "debian", built, form, pages: await pages() }),
      {
        kind: "bytes",
        path: "share/doc/appjail/changelog.gz",
        bytes: await compressed(changelog(version)),
        mode: 0o644,
      },
      {
        kind: "copy",
        path: "share/lintian/overrides/appjail",
        from: debianFile("lintian-overrides"),
        mode: 0o644,
      },
    ];
    const root = `${scratch}/root`;
    makeFolders(`${root}/DEBIAN`);
    place(entries, `${root}/usr`);
    const bytes = entries.filter(({ kind }) => kind !== "link")
      .reduce((sum, { path }) => sum + Deno.statSync(`${root}/usr/${path}`).size, 0);
    const main = entries.find(({ path }) => /^lib\/appjail\/(?:appjail|deno-.*)$/.test(path));
    const libc = libcOf(Deno.readFileSync(`${root}/usr/${main?.path}`));
    const write = (name: string, text: string, mode = 0o644): void => {
      Deno.writeTextFileSync(`${root}/DEBIAN/${name}`, text);
      Deno.chmodSync(`${root}/DEBIAN/${name}`, mode);
    };
    write("control", control({ version, libc, size: Math.ceil(bytes / 1024) }));
    write("md5sums", await checksums(entries, root));
    write("templates", Deno.readTextFileSync(debianFile("templates")));
    for (const script of ["postinst", "prerm", "postrm"]) {
      write(script, Deno.readTextFileSync(debianFile(script)), 0o755);
    }
    say("Packing ...");
    const name = `appjail_${version}_${architecture()}.deb`;
    await run("dpkg-deb", [
      "--build",
      "--root-owner-group",
      // One thread: with more, the content is cut into pieces of another size.
      "--threads-max=1",
      `-Z${compression}`,
      "-z1",
      root,
      `${scratch}/${name}`,
    ]);
    const path = `${absolute(out)}/${name}`;
    Deno.renameSync(`${scratch}/${name}`, path);
    Deno.chmodSync(path, 0o644);
    say(`Made ${path}.`);
    return path;
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}

const usage =
  "Usage: deno task package [--out DIR] [--version VERSION] [--compression xz|gzip|none]";

/** What the command line asks for, or what is wrong with it. */
export function parseArguments(
  args: readonly string[],
): Pick<PackageOptions, "out" | "version" | "compression"> | string {
  let out = "dist";
  let version: string = manifest.version;
  let compression: Compression = "xz";
  for (let index = 0; index < args.length; index += 2) {
    const [option, value] = [args[index], args[index + 1]];
    if (value === undefined || value === "") return `${option} needs a value`;
    const known = compressions.find((name) => name === value);
    if (option === "--out") out = value.replace(/(.)\/+$/, "$1");
    // deb-version(7): a native package, whose maker is who packs it.
    else if (option === "--version" && /^[0-9][0-9A-Za-z.+~]*$/.test(value)) version = value;
    else if (option === "--compression" && known !== undefined) compression = known;
    else return `${option} ${value} is not understood`;
  }
  return { out, version, compression };
}

if (import.meta.main) {
  const asked = parseArguments(Deno.args);
  if (typeof asked === "string") {
    console.error(`package: ${asked}. ${usage}`);
    Deno.exit(100);
  }
  try {
    await makePackage({
      ...asked,
      base: Deno.env.get("DENORT_BIN") || undefined,
      say: (line) => console.log(line),
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(111);
  }
}
