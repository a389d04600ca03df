/**
 * Which files an installation has, and where: the same for a Debian package and for any prefix.
 *
 *     bin/appjail                 the program, or what starts it
 *     lib/appjail/                its parts; appjail-jailer
 *     lib/systemd, sysusers.d, tmpfiles.d    for systemd
 *     share/appjail/              profiles, their schema, a profile for AppArmor
 *     share/dbus-1, polkit-1      who may call it, and start it
 *     share/…                     man pages, completions, licences
 *
 * @module
 */
import { stagedScript } from "../core/launch.ts";
import { executable, type Form, jailerLink, partsFolder, profilesFolder } from "./build.ts";
import { launcher } from "./launcher.ts";

/** A file of an installation; its path is told from the prefix. */
export type Entry =
  & { readonly path: string }
  & (
    | { readonly kind: "text"; readonly text: string; readonly mode: number }
    | { readonly kind: "bytes"; readonly bytes: Uint8Array<ArrayBuffer>; readonly mode: number }
    | { readonly kind: "copy"; readonly from: string; readonly mode: number }
    | { readonly kind: "link"; readonly to: string }
  );

/** Whose habits are followed where they differ. */
export type Habit = "debian" | "local";

export interface TreeOptions {
  /** Where the files come to lie for those who use them. */
  readonly prefix: string;
  readonly habit: Habit;
  /** The folder of a build, in which there is one and no other. */
  readonly built: string;
  readonly form: Form;
  /** Each man page by its name, as `appjail.1`. */
  readonly pages: ReadonlyMap<string, string>;
}

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** What lies in packaging/system, and where it goes. */
const systemFiles: Readonly<Record<string, string>> = {
  "appjail.service": "lib/systemd/system/appjail.service",
  "appjail.socket": "lib/systemd/system/appjail.socket",
  "sysusers.conf": "lib/sysusers.d/appjail.conf",
  "tmpfiles.conf": "lib/tmpfiles.d/appjail.conf",
  "org.appjail.AppJail.conf": "share/dbus-1/system.d/org.appjail.AppJail.conf",
  "org.appjail.AppJail.service": "share/dbus-1/system-services/org.appjail.AppJail.service",
  "org.appjail.AppJail.policy": "share/polkit-1/actions/org.appjail.AppJail.policy",
  "apparmor": "share/appjail/apparmor",
};

const completions: Readonly<Record<"bash" | "zsh" | "fish", Readonly<Record<Habit, string>>>> = {
  bash: {
    debian: "share/bash-completion/completions/appjail",
    local: "share/bash-completion/completions/appjail",
  },
  zsh: {
    debian: "share/zsh/vendor-completions/_appjail",
    local: "share/zsh/site-functions/_appjail",
  },
  fish: {
    debian: "share/fish/vendor_completions.d/appjail.fish",
    local: "share/fish/vendor_completions.d/appjail.fish",
  },
};

/** Every file of an installation, in the order of their paths. */
export async function treeOf(options: TreeOptions): Promise<readonly Entry[]> {
  const { prefix, habit, built, pages } = options;
  const entries: Entry[] = [
    ...program(options),
    {
      kind: "copy",
      path: "share/doc/appjail/copyright",
      from: debianFile("copyright"),
      mode: 0o644,
    },
  ];
  for (const [name, path] of Object.entries(systemFiles)) {
    const text = Deno.readTextFileSync(`${root}/packaging/system/${name}`)
      .replaceAll("/usr/bin/appjail", `${prefix}/bin/appjail`);
    entries.push({ kind: "text", path, text, mode: 0o644 });
  }
  for (const { name } of Deno.readDirSync(`${built}/${profilesFolder}`)) {
    const from = `${built}/${profilesFolder}/${name}`;
    entries.push({ kind: "copy", path: `share/appjail/profiles/${name}`, from, mode: 0o644 });
  }
  for (const [shell, places] of Object.entries(completions)) {
    const text = await outputOf([`${built}/${executable}`, "completions", shell]);
    entries.push({ kind: "text", path: places[habit], text, mode: 0o644 });
  }
  for (const [name, text] of pages) {
    const bytes = await compressed(text);
    const path = `share/man/man${name.slice(name.lastIndexOf(".") + 1)}/${name}.gz`;
    entries.push({ kind: "bytes", path, bytes, mode: 0o644 });
  }
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

export function debianFile(name: string): string {
  return `${root}/packaging/debian/${name}`;
}

/** The program, so that no call of it has to follow a link by a program of its own. */
function program({ built, form }: TreeOptions): readonly Entry[] {
  if (form === "compiled") {
    const from = `${built}/${executable}`;
    return [
      { kind: "copy", path: "lib/appjail/appjail", from, mode: 0o755 },
      { kind: "link", path: `lib/appjail/${jailerLink}`, to: "appjail" },
      { kind: "link", path: "bin/appjail", to: "../lib/appjail/appjail" },
    ];
  }
  const parts = `${built}/${partsFolder}`;
  const names = [...Deno.readDirSync(parts)];
  const [bundle, ...moreBundles] = names.filter(({ isDirectory }) => isDirectory);
  const [deno, ...moreDenos] = names.filter(({ isFile }) => isFile);
  if (bundle === undefined || deno === undefined || moreBundles.length + moreDenos.length > 0) {
    throw new Error(`Cannot install what is in ${parts}: it has to be one fresh build`);
  }
  const text = launcher({
    deno: `../lib/appjail/${deno.name}`,
    script: `../lib/appjail/${bundle.name}/${stagedScript}`,
    again: "install it again",
  });
  return [
    { kind: "text", path: "bin/appjail", text, mode: 0o755 },
    { kind: "link", path: `lib/appjail/${jailerLink}`, to: "../../bin/appjail" },
    {
      kind: "copy",
      path: `lib/appjail/${deno.name}`,
      from: `${parts}/${deno.name}`,
      mode: 0o755,
    },
    ...[...Deno.readDirSync(`${parts}/${bundle.name}`)].map(({ name }) => ({
      kind: "copy" as const,
      path: `lib/appjail/${bundle.name}/${name}`,
      from: `${parts}/${bundle.name}/${name}`,
      mode: 0o644,
    })),
  ];
}

/** What a program prints. */
export async function outputOf(
  words: readonly [string, ...string[]],
  input: Uint8Array<ArrayBuffer> = new Uint8Array(),
): Promise<string> {
  return new TextDecoder().decode(await bytesFrom(words, input));
}

async function bytesFrom(
  [command, ...args]: readonly [string, ...string[]],
  input: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const child = new Deno.Command(command, {
    args,
    env: { LC_ALL: "C.UTF-8" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  // What does not read its input may be gone before.
  const written = writer.write(input).then(() => writer.close()).catch(() => {});
  const { success, stdout, stderr } = await child.output();
  await written;
  if (success) return stdout;
  const said = new TextDecoder().decode(stderr).trim();
  throw new Error(
    `Cannot make the files of an installation: ${command} ${args.join(" ")}: ${said}`,
  );
}

/** As small as gzip(1) can make it, and without a name or a time in it. */
export function compressed(text: string): Promise<Uint8Array<ArrayBuffer>> {
  return bytesFrom(["gzip", "-9n"], new TextEncoder().encode(text));
}

/** Makes the files below a folder, and the folders in between; nothing may be there already. */
export function place(entries: readonly Entry[], folder: string): void {
  for (const entry of entries) {
    const path = `${folder}/${entry.path}`;
    makeFolders(path.slice(0, path.lastIndexOf("/")));
    switch (entry.kind) {
      case "text":
        Deno.writeTextFileSync(path, entry.text, { createNew: true });
        break;
      case "bytes":
        Deno.writeFileSync(path, entry.bytes, { createNew: true });
        break;
      case "copy":
        Deno.copyFileSync(entry.from, path);
        break;
      case "link":
        Deno.symlinkSync(entry.to, path);
        break;
      default:
        entry satisfies never;
    }
    if (entry.kind !== "link") Deno.chmodSync(path, entry.mode);
  }
}

/** Makes a folder and those above it, which everybody can pass, whatever the umask. */
export function makeFolders(path: string): readonly string[] {
  if (path === "") return [];
  try {
    Deno.statSync(path);
    return [];
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const above = makeFolders(path.slice(0, path.lastIndexOf("/")));
  Deno.mkdirSync(path);
  Deno.chmodSync(path, 0o755);
  return [...above, path];
}
