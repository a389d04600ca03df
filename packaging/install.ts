/**
 * `deno task install` and `deno task uninstall`: the program below a prefix, for whoever has no package
 * of it. What was put there is written down beside it, and nothing else is ever replaced or removed.
 *
 * `$DESTDIR` stands before the prefix, for those who make a package of their own.
 *
 * @module
 */
import { build } from "./build.ts";
import { pages } from "./pages.ts";
import { type Entry, makeFolders, place, treeOf } from "./tree.ts";

/** Where it is written down, below the prefix. */
const manifestPath = "lib/appjail/manifest";

export interface Place {
  /** Where the program comes to lie for those who use it: `/usr/local`. */
  readonly prefix: string;
  /** What stands before that for now. */
  readonly staging: string;
}

export interface InstallOptions extends Place {
  readonly base: string | undefined;
  readonly say: (line: string) => void;
}

/** What is known of what was installed: a digest or a target for each path, and folders that were made. */
interface Manifest {
  readonly files: ReadonlyMap<string, string>;
  readonly folders: readonly string[];
}

/** What a path is: a digest of its bytes, the target of a link, or what else there is. */
function identityOf(path: string): string | undefined {
  let info: Deno.FileInfo;
  try {
    info = Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  if (info.isSymlink) return `link ${Deno.readLinkSync(path)}`;
  if (!info.isFile) return "something else";
  const { stdout, success } = new Deno.Command("sha256sum", { args: ["--", path] }).outputSync();
  if (!success) throw new Error(`Cannot read ${path}`);
  return `file ${new TextDecoder().decode(stdout).replace(/^\\/, "").slice(0, 64)}`;
}

function readManifest(folder: string): Manifest | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(`${folder}/${manifestPath}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const files = new Map<string, string>();
  const folders: string[] = [];
  for (const line of text.trimEnd().split("\n")) {
    const [path = "", identity = ""] = line.split("\t");
    if (path === "" || path.startsWith("/") || path.split("/").includes("..")) {
      throw new Error(`Cannot use ${folder}/${manifestPath}: it is damaged at ${line}`);
    }
    if (identity === "folder") folders.push(path);
    else files.set(path, identity);
  }
  return { files, folders };
}

function writeManifest(folder: string, { files, folders }: Manifest): void {
  const lines = [
    ...[...files].map(([path, identity]) => `${path}\t${identity}`),
    ...folders.map((path) => `${path}\tfolder`),
  ].sort();
  const path = `${folder}/${manifestPath}`;
  Deno.writeTextFileSync(`${path}.new`, lines.join("\n") + "\n");
  Deno.chmodSync(`${path}.new`, 0o644);
  Deno.renameSync(`${path}.new`, path);
}

/** Files that are in the way: there, and not as they were installed. */
function foreign(
  folder: string,
  paths: Iterable<string>,
  manifest: Manifest | undefined,
): string[] {
  return [...paths].filter((path) => {
    const there = identityOf(`${folder}/${path}`);
    return there !== undefined && there !== manifest?.files.get(path);
  });
}

/** Installs what the entries say, over what was installed before. Nothing changes when it refuses. */
export function putEntries(entries: readonly Entry[], folder: string): void {
  const before = readManifest(folder);
  const inTheWay = foreign(folder, entries.map(({ path }) => path), before);
  if (inTheWay.length > 0) {
    const names = inTheWay.map((path) => `${folder}/${path}`).join(", ");
    throw new Error(
      `Cannot install into ${folder}: not from here, or changed since: ${names}; ` +
        "move that away, or name another --prefix",
    );
  }
  // Made beside their places and moved there: whoever runs the old ones keeps them.
  const made = makeFolders(folder);
  const scratch = Deno.makeTempDirSync({ dir: folder, prefix: ".appjail-install-" });
  try {
    place(entries, scratch);
    const folders = new Set([...before?.folders ?? [], ...made.includes(folder) ? ["."] : []]);
    const files = new Map<string, string>();
    // What starts the program is replaced when all is there that it starts.
    const inOrder = entries.toSorted((a, b) => Number(isStart(a)) - Number(isStart(b)));
    for (const { path } of inOrder) {
      const target = `${folder}/${path}`;
      for (const one of makeFolders(target.slice(0, target.lastIndexOf("/")))) {
        folders.add(one.slice(folder.length + 1));
      }
      files.set(path, identityOf(`${scratch}/${path}`) ?? "");
      Deno.renameSync(`${scratch}/${path}`, target);
    }
    const old = [...before?.files ?? []].filter(([path]) => !files.has(path));
    writeManifest(folder, { files, folders: [...folders] });
    removeOurs(folder, { files: new Map(old), folders: [...folders] });
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}

function isStart({ path }: Entry): boolean {
  return path.startsWith("bin/");
}

/** Removes what is as it was installed, and the folders that are empty then; returns what is not. */
function removeOurs(folder: string, manifest: Manifest): readonly string[] {
  const changed = foreign(folder, manifest.files.keys(), manifest);
  for (const path of manifest.files.keys()) {
    if (changed.includes(path)) continue;
    try {
      Deno.removeSync(`${folder}/${path}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  // The deepest first; the prefix itself, which is ".", last.
  for (const path of manifest.folders.toSorted().toReversed()) {
    const place = path === "." ? folder : `${folder}/${path}`;
    try {
      if ([...Deno.readDirSync(place)].length === 0) Deno.removeSync(place);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return changed;
}

/** What root still has to do, where the system does not look below this prefix by itself. */
export function nextSteps(prefix: string): readonly string[] {
  const units = `${prefix}/lib/systemd/system/appjail`;
  const usual = prefix === "/usr" || prefix === "/usr/local";
  const link = (path: string, to: string) => `ln -s ${prefix}/${path} ${to}`;
  return [
    `systemd-sysusers ${prefix}/lib/sysusers.d/appjail.conf`,
    ...prefix === "/usr"
      ? []
      : [link("share/dbus-1/system.d/org.appjail.AppJail.conf", "/etc/dbus-1/system.d/")],
    usual ? "systemctl daemon-reload" : `systemctl link ${units}.service ${units}.socket`,
    "systemctl enable --now appjail.socket",
  ];
}

export async function install(options: InstallOptions): Promise<void> {
  const { prefix, staging, base, say } = options;
  const folder = `${staging}${prefix}`;
  const scratch = Deno.makeTempDirSync({ prefix: "appjail-install-" });
  try {
    const entry = `${Deno.realPathSync(`${import.meta.dirname}/..`)}/main.ts`;
    const made = await build({ entry, out: scratch, base, say });
    const tree = { prefix, habit: "local", built: scratch, form: made } as const;
    putEntries(await treeOf({ ...tree, pages: await pages() }), folder);
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
  say(`Installed into ${folder}.`);
  if (staging !== "") return;
  say("What root does next, where systemd runs:");
  for (const step of nextSteps(prefix)) say(`  ${step}`);
}

/** Takes it back. What was changed since is left, and named. */
export function uninstall({ prefix, staging }: Place): readonly string[] {
  const folder = `${staging}${prefix}`;
  const manifest = readManifest(folder);
  if (manifest === undefined) {
    throw new Error(
      `Cannot uninstall from ${folder}: nothing was installed there by deno task install`,
    );
  }
  Deno.removeSync(`${folder}/${manifestPath}`);
  return removeOurs(folder, manifest).map((path) => `${folder}/${path}`);
}

const usage = "Usage: deno task install|uninstall [--prefix DIR], and DESTDIR before it";

/** What the command line and the environment ask for, or what is wrong with it. */
export function parseArguments(
  args: readonly string[],
  staging: string,
): (Place & { readonly verb: "install" | "uninstall" }) | string {
  const [verb, option, value, ...more] = args;
  if (verb !== "install" && verb !== "uninstall") return `${verb} is not understood`;
  if ((option !== undefined && option !== "--prefix") || more.length > 0) {
    return `${args.slice(1).join(" ")} is not understood`;
  }
  const prefix = option === undefined ? "/usr/local" : value?.replace(/\/+$/, "") ?? "";
  // It is written into units and into a script.
  if (!/^(?:\/[\w.+-]+)+$/.test(prefix) || prefix.split("/").includes("..")) {
    return `--prefix ${value ?? ""}: it has to be an absolute path, of letters, digits and ._+-`;
  }
  if (staging !== "" && !staging.startsWith("/")) return `DESTDIR ${staging} is no absolute path`;
  return { verb, prefix, staging: staging.replace(/\/+$/, "") };
}

if (import.meta.main) {
  const asked = parseArguments(Deno.args, Deno.env.get("DESTDIR") ?? "");
  if (typeof asked === "string") {
    console.error(`install: ${asked}. ${usage}`);
    Deno.exit(100);
  }
  try {
    if (asked.verb === "install") {
      const base = Deno.env.get("DENORT_BIN") || undefined;
      await install({ ...asked, base, say: (line) => console.log(line) });
    } else {
      const left = uninstall(asked);
      for (const path of left) console.error(`uninstall: ${path} was changed since, and is left`);
      if (left.length > 0) Deno.exit(1);
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(111);
  }
}
