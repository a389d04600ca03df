/**
 * `appjail desktop`: entries in the person's own applications folder, by which menus and file
 * managers start a program in its jail. Run as that person; the daemon tells which programs a
 * profile has, and nothing else of it is asked.
 *
 * An entry of one's own has the same name as the one that it is made from, so that it stands in its
 * place (Desktop Entry Specification, desktop file ID; XDG Base Directory Specification). What stood
 * there before is kept, and comes back.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { open, writeAll } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { AppjailError, exitFailure } from "../core/errors.ts";
import {
  createFile,
  exists,
  isExecutable,
  makeFolder,
  openFolderBehind,
  openPidfd,
  removeFile,
  removeFolder,
  rename,
  spawn,
} from "../core/kernel.ts";
import { marks, programOf, starts, through, valueOf } from "../core/desktop-entry.ts";
import { printable } from "../core/log.ts";
import { align } from "../core/table.ts";
import { ask, note, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";

export interface DesktopFlags {
  readonly all?: boolean | undefined;
  readonly force?: boolean | undefined;
  readonly json?: boolean | undefined;
  readonly socket?: string | undefined;
}

/** What is done, with the flags that it takes. */
const subverbs: Readonly<Record<string, readonly (keyof DesktopFlags)[]>> = {
  install: ["all"],
  uninstall: ["all", "force"],
  update: ["all"],
  list: ["json"],
};

/** Serves `appjail desktop …`. */
export async function desktop(
  flags: DesktopFlags,
  world: World,
  ...words: readonly string[]
): Promise<number> {
  const [name = "", ...profiles] = words;
  const known = Object.keys(subverbs);
  const taken = known.includes(name) ? subverbs[name] : undefined;
  if (taken === undefined) {
    throw usage(`Cannot use desktop ${JSON.stringify(name)}: it is one of ${known.join(", ")}`);
  }
  for (const flag of ["all", "force", "json"] as const) {
    if (flags[flag] === true && !taken.includes(flag)) {
      throw usage(`Cannot use --${flag}: desktop ${name} has no such option`);
    }
  }
  const { all = false, force = false, json = false } = flags;
  const wanted = profiles.map(parseProfile);
  const ofSome = name === "install" || name === "uninstall";
  if (ofSome ? all === wanted.length > 0 : wanted.length > 0) {
    throw usage(
      ofSome
        ? `Cannot use desktop ${name}: name profiles, or --all`
        : `desktop ${name} takes no name`,
    );
  }
  if (name === "list") return await listEntries(json, world);
  if (name === "uninstall") return await uninstallEntries(all ? null : wanted, force, world);
  if (name === "update") {
    const code = await updateEntries(commandOf(world), world);
    if (!all) return code;
  }
  const found = await profilesOf(socketPath(flags.socket, world.env));
  const chosen = found.filter(({ profile }) => all || wanted.some((one) => one === profile));
  for (const one of wanted) {
    if (!chosen.some(({ profile }) => profile === one)) {
      throw new AppjailError(
        "unknown-profile",
        `There is no profile "${one}" with executables; to see them: appjail profile list`,
      );
    }
  }
  return await installEntries(chosen, all, commandOf(world), world, name === "update");
}

function usage(words: string): AppjailError {
  return new AppjailError("usage", `${words}; see: appjail help desktop`);
}

/** Every profile that says which programs it is for. */
async function profilesOf(path: string): Promise<readonly Known[]> {
  const found: Known[] = [];
  for await (const message of ask(path, { type: "written" })) {
    if (message.type !== "written") continue;
    for (const { profile, executables, problems } of message.profiles) {
      if (executables.length === 0 || problems > 0) continue;
      found.push({
        profile,
        executables: executables.map((one) => one.slice(one.lastIndexOf("/") + 1)),
      });
    }
  }
  return found;
}

/** How an entry calls this program: by its name where that is found, so that it may be moved. */
function commandOf({ env }: World): string {
  const folders = (env["PATH"] ?? "").split(":").filter((folder) => folder.startsWith("/"));
  const path = folders.map((folder) => `${folder}/appjail`).find((one) => isExecutable(one));
  return path ?? "appjail";
}

/** A profile, and the programs that it is for. */
export interface Known {
  readonly profile: string;
  readonly executables: readonly string[];
}

/** A place for entries, and how they are called from there. */
interface Found {
  /** From the applications folder: `kde/okular.desktop`. */
  readonly name: string;
  readonly path: string;
  readonly text: string;
}

const most = 1024 * 1024;

/** In the person's configuration: what is run when their session begins. */
const autostart = "autostart/appjail-desktop-update.desktop";

/** The folders of an entry's person and of the system, most important first. */
export class EntryFolders {
  readonly data: string;
  readonly config: string;
  readonly #system: readonly string[];

  constructor(env: World["env"]) {
    // The launcher keeps it there: Deno has to see another.
    const home = env["APPJAIL_HOME"] ?? env["HOME"];
    const own = env["XDG_DATA_HOME"] || (home === undefined ? undefined : `${home}/.local/share`);
    if (own?.startsWith("/") !== true) {
      throw new AppjailError("usage", "Cannot find your applications: HOME is not set");
    }
    this.data = own;
    const config = env["XDG_CONFIG_HOME"];
    // Whoever has told where their data is, and not where they live, has no session that begins.
    this.config = config?.startsWith("/") === true ? config : `${home ?? own}/.config`;
    this.#system = (env["XDG_DATA_DIRS"] || "/usr/local/share:/usr/share").split(":")
      .filter((folder) => folder.startsWith("/")).map((folder) => `${folder}/applications`);
  }

  /** The applications folder of the person. */
  get own(): string {
    return `${this.data}/applications`;
  }

  /** Where what stood in an entry's place is kept. */
  get kept(): string {
    return `${this.data}/appjail/desktop`;
  }

  /** All entries that a menu would show, but those that were made here: then what is behind them. */
  async entries(): Promise<readonly Found[]> {
    const found = new Map<string, Found>();
    for (const folder of [this.kept, this.own, ...this.#system]) {
      for (const one of await entriesIn(folder)) {
        if (found.has(one.name) || isMade(one.text)) continue;
        found.set(one.name, one);
      }
    }
    return [...found.values()].sort((a, b) => a.name < b.name ? -1 : 1);
  }

  /** Those that were made here. */
  async made(): Promise<readonly Found[]> {
    return (await entriesIn(this.own)).filter(({ text }) => isMade(text));
  }
}

function isMade(text: string): boolean {
  return valueOf(text, marks.profile) !== undefined;
}

async function entriesIn(folder: string, below = ""): Promise<readonly Found[]> {
  const found: Found[] = [];
  let names: Deno.DirEntry[];
  try {
    names = await Array.fromAsync(Deno.readDir(`${folder}/${below}`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return [];
    }
    throw error;
  }
  for (const { name } of names.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const [path, inside] = [`${folder}/${below}${name}`, `${below}${name}`];
    try {
      // A link leads where it leads: a package may have one.
      const { isDirectory, isFile, size } = await Deno.stat(path);
      if (isDirectory && below.split("/").length < 4) {
        found.push(...await entriesIn(folder, `${inside}/`));
      } else if (isFile && name.endsWith(".desktop") && size <= most) {
        found.push({ name: inside, path, text: await Deno.readTextFile(path) });
      }
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      note(`${printable(path)} cannot be read: ${error instanceof Error ? error.message : error}`);
    }
  }
  return found;
}

async function digestOf(text: string): Promise<string> {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(bytes).toHex();
}

/** What an entry becomes in a profile's jail. */
async function madeFrom(source: Found, profile: string, command: string): Promise<string> {
  return through(source.text, {
    profile,
    command: [command, "run", "-p", profile, "--"],
    source: source.path,
    digest: await digestOf(source.text),
  });
}

/** Writes a file so that it is there as a whole or not at all. */
function write(path: string, text: string): void {
  const cut = path.lastIndexOf("/");
  const [parent, name] = [path.slice(0, cut), path.slice(cut + 1)];
  makeFolders(parent);
  using folder = openFolderBehind(parent);
  const scratch = `.${name}.${Deno.pid}`;
  {
    using file = createFile(folder, scratch, 0o644);
    writeAll(file.number, new TextEncoder().encode(text));
  }
  rename(folder, scratch, name);
}

function makeFolders(path: string): void {
  const parts = path.split("/");
  for (let count = 2; count <= parts.length; count++) {
    const folder = parts.slice(0, count).join("/");
    if (!exists(folder)) makeFolder("root", folder, 0o755);
  }
}

async function textAt(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * Makes the entries of one profile; says how many.
 *
 * @param onlyNew those that are made already are left as they are
 */
async function install(
  folders: EntryFolders,
  { profile, executables }: Known,
  command: string,
  onlyNew: boolean,
): Promise<number> {
  let count = 0;
  for (const source of await folders.entries()) {
    if (!starts(source.text, executables)) continue;
    const path = `${folders.own}/${source.name}`;
    const there = await textAt(path);
    if (onlyNew && there !== undefined && isMade(there)) continue;
    const kept = `${folders.kept}/${source.name}`;
    let from = source;
    if (there !== undefined && !isMade(there)) {
      // One of the person's own: it is the source, and is kept as one.
      write(kept, there);
      from = { ...source, path: kept, text: there };
    }
    write(path, await madeFrom(from, profile, command));
    writeOut(
      `${source.name}: ${programOf(valueOf(from.text, "Exec") ?? "")} in ${profile}\n`,
      Deno.stdout,
    );
    count++;
  }
  return count;
}

/** Takes one back: whatever stood in its place comes back. */
async function uninstall(folders: EntryFolders, made: Found, force: boolean): Promise<boolean> {
  const profile = valueOf(made.text, marks.profile) ?? "";
  const source = valueOf(made.text, marks.source) ?? "";
  const kept = `${folders.kept}/${made.name}`;
  const before = await textAt(kept);
  const text = before ?? await textAt(source);
  if (text !== undefined && !force && valueOf(made.text, marks.digest) === await digestOf(text)) {
    const command = /^\S+/.exec(valueOf(made.text, "Exec") ?? "")?.[0] ?? "";
    const fresh = await madeFrom({ name: made.name, path: source, text }, profile, command);
    if (fresh !== made.text) {
      note(`${made.name} was changed since it was made and stays; to remove it: --force`);
      return false;
    }
  }
  if (before === undefined) removeFile("root", made.path);
  else {
    write(made.path, before);
    removeFile("root", kept);
  }
  removeEmpty(folders.own, made.name);
  removeEmpty(folders.data, `appjail/desktop/${made.name}`);
  writeOut(`${made.name}: ${before === undefined ? "removed" : "as it was before"}\n`, Deno.stdout);
  return true;
}

/** Folders that were made for an entry, and have nothing in them any more. */
function removeEmpty(folder: string, name: string): void {
  const parts = name.split("/").slice(0, -1);
  for (; parts.length > 0; parts.pop()) {
    try {
      removeFolder("root", `${folder}/${parts.join("/")}`);
    } catch (error) {
      if (isErrno(error, "ENOTEMPTY")) return;
      throw error;
    }
  }
}

/**
 * Makes the entries follow their packages: whenever a session begins, `desktop update` is run, which is
 * silent and quick when nothing has changed. Desktop Application Autostart Specification.
 */
function follow(folders: EntryFolders, command: string, all: boolean): void {
  const words = `${command} desktop update${all ? " --all" : ""}`;
  write(
    `${folders.config}/${autostart}`,
    `[Desktop Entry]\nType=Application\nName=Update the entries of jails\nNoDisplay=true\n` +
      `Exec=${words}\n${marks.follows}=true\n`,
  );
}

/** Ends that, with the last of the entries. One that somebody has put there instead stays. */
async function unfollow(folders: EntryFolders): Promise<void> {
  if ((await folders.made()).length > 0) return;
  const text = await textAt(`${folders.config}/${autostart}`);
  if (text === undefined || valueOf(text, marks.follows) === undefined) return;
  removeFile("root", `${folders.config}/${autostart}`);
  const cut = folders.config.lastIndexOf("/");
  removeEmpty(folders.config.slice(0, cut), `${folders.config.slice(cut + 1)}/${autostart}`);
}

/**
 * Serves `appjail desktop install`.
 *
 * @param command how appjail is called
 * @param onlyNew what is there already was just looked at
 */
async function installEntries(
  known: readonly Known[],
  all: boolean,
  command: string,
  { env }: World,
  onlyNew: boolean,
): Promise<number> {
  const folders = new EntryFolders(env);
  let count = 0;
  for (const one of known) {
    const made = await install(folders, one, command, onlyNew);
    if (made === 0 && !all) {
      note(`there is no entry for ${one.profile} (${one.executables.join(", ")})`);
    }
    count += made;
  }
  if (count > 0) follow(folders, command, all);
  await refresh(folders);
  if (count === 0 && all && !onlyNew) note("there is no entry for any profile's program");
  return count > 0 || all ? 0 : exitFailure;
}

/** Serves `appjail desktop uninstall`. @param profiles which; null: all */
async function uninstallEntries(
  profiles: readonly string[] | null,
  force: boolean,
  { env }: World,
): Promise<number> {
  const folders = new EntryFolders(env);
  let failed = false;
  for (const made of await folders.made()) {
    const profile = valueOf(made.text, marks.profile) ?? "";
    if (profiles !== null && !profiles.includes(profile)) continue;
    failed = !await uninstall(folders, made, force) || failed;
  }
  await unfollow(folders);
  await refresh(folders);
  return failed ? exitFailure : 0;
}

/** Serves `appjail desktop update`: entries whose package has changed theirs follow it. */
async function updateEntries(command: string, { env }: World): Promise<number> {
  const folders = new EntryFolders(env);
  for (const made of await folders.made()) {
    const profile = valueOf(made.text, marks.profile) ?? "";
    const source = valueOf(made.text, marks.source) ?? "";
    const text = await textAt(source);
    if (text === undefined) {
      // The package is gone, and its entry with it.
      removeFile("root", made.path);
      writeOut(`${made.name}: removed, as ${printable(source)} is\n`, Deno.stdout);
      continue;
    }
    const fresh = await madeFrom({ name: made.name, path: source, text }, profile, command);
    if (fresh === made.text) continue;
    write(made.path, fresh);
    writeOut(`${made.name}: made again\n`, Deno.stdout);
  }
  await refresh(folders);
  return 0;
}

/** Serves `appjail desktop list`. */
async function listEntries(json: boolean, { env }: World): Promise<number> {
  const folders = new EntryFolders(env);
  const rows = await Promise.all((await folders.made()).map(async ({ name, text }) => {
    const source = valueOf(text, marks.source) ?? "";
    const now = await textAt(source);
    const state = now === undefined
      ? "its source is gone"
      : await digestOf(now) === valueOf(text, marks.digest)
      ? "current"
      : "its source has changed";
    return { entry: name, profile: valueOf(text, marks.profile) ?? "", source, state };
  }));
  if (json) writeOut(`${JSON.stringify(rows, null, 2)}\n`, Deno.stdout);
  else if (rows.length === 0) writeOut("no entry was made\n", Deno.stdout);
  else {
    const table = [["ENTRY", "PROFILE", "SOURCE", "STATE"], ...rows.map(Object.values<string>)];
    writeOut(`${align(table.map((row) => row.map(printable))).join("\n")}\n`, Deno.stdout);
  }
  return 0;
}

/** The index of MIME types, where there is one to be kept. update-desktop-database(1). */
async function refresh(folders: EntryFolders): Promise<void> {
  const program = "/usr/bin/update-desktop-database";
  if (!exists(`${folders.own}/mimeinfo.cache`) || !exists(program)) return;
  using nothing = open("/dev/null", 2);
  const { number } = nothing;
  using pidfd = openPidfd(spawn({
    path: program,
    argv: [program, "-q", folders.own],
    env: { PATH: "/usr/bin:/bin" },
    descriptors: [number, number, number],
    cwd: "/",
    session: false,
  }));
  if (pidfd !== undefined) await poller.readable(pidfd.number);
}
