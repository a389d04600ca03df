/**
 * `deno task build`: makes the program that people run, `appjail` and its link `appjail-jailer`.
 *
 * It is one executable where Deno's base binary can be had, and else a launcher over a bundle and a
 * copy of the Deno that runs this. Everything is made beside its place and moved there by a rename,
 * so that whoever runs the old one keeps it.
 *
 * @module
 */
import manifest from "../deno.json" with { type: "json" };
import { allPermissions, engineWords, stagedScript } from "../core/launch.ts";
import { bundle } from "./bundle.ts";
import { launcher } from "./launcher.ts";

/** One executable, or a launcher over a bundle. */
export type Form = "compiled" | "bundled";

/** The names of what is built, told from the folder it is built into. */
export const executable = "appjail";
export const jailerLink = "appjail-jailer";
export const partsFolder = "appjail.d";
export const profilesFolder = "profiles";

/** How long Deno may try to fetch its base binary: it has no time limit of its own. */
const compileDeadlineMs = 20_000;

/** A running daemon starts its roles from the files it was started from: keep some old ones. */
const bundlesKept = 3;

export interface BuildOptions {
  /** The program's first file. */
  readonly entry: string;
  /** The folder for what is built; it is made if it does not exist. */
  readonly out: string;
  /** Which form to make; without it the executable is tried first. */
  readonly form?: Form | undefined;
  /** A base binary for the executable, instead of Deno's download. */
  readonly base?: string | undefined;
  /** Told in a line what is being done, and why one form was made and not the other. */
  readonly say: (line: string) => void;
}

/**
 * The words after `deno` that make one executable. The code cache is off because a compiled program
 * keeps it in the shared temporary folder and loads it whoever wrote it, as root too.
 */
export function compileWords(entry: string, output: string): readonly string[] {
  return [
    "compile",
    "--quiet",
    "--no-check",
    "--no-code-cache",
    "--no-prompt",
    "--exclude-unused-npm",
    ...engineWords,
    ...allPermissions,
    // By default it may load code from half a dozen hosts.
    "--deny-import",
    `--output=${output}`,
    entry,
  ];
}

/** Why `deno compile` failed, in a line: the download that went wrong, or else the last cause. */
export function reasonOf(said: string): string {
  const lines = said.split("\n").map((line) => line.replace(/^\s*(?:error:|\d+:)\s*/, "").trim());
  const end = lines.findIndex((line) => line.startsWith("Stack backtrace"));
  const causes = (end < 0 ? lines : lines.slice(0, end)).filter((line) => line !== "");
  return causes.find((line) => line.includes("for url (")) ?? causes.at(-1) ??
    "deno compile gave no reason";
}

/** Tries to make the one executable; says why not, or nothing when it is made. */
async function compile(
  { entry, base }: BuildOptions,
  output: string,
): Promise<string | undefined> {
  if (base !== undefined) {
    try {
      if (!Deno.statSync(base).isFile) return `DENORT_BIN names ${base}, which is not a file`;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return `DENORT_BIN names ${base}, which cannot be read: ${why}`;
    }
  }
  const deadline = AbortSignal.timeout(compileDeadlineMs);
  // Deno looks for deno.json from the working folder on, whatever the entry is.
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...compileWords(entry, output)],
    cwd: entry.replace(/\/[^/]*$/, "/"),
    env: { NO_COLOR: "1", ...(base === undefined ? {} : { DENORT_BIN: base }) },
    stdin: "null",
    stdout: "null",
    signal: deadline,
  }).output();
  if (deadline.aborted) {
    return `Deno's base binary did not arrive within ${compileDeadlineMs / 1000} seconds`;
  }
  if (!success) return reasonOf(new TextDecoder().decode(stderr));
  // `deno compile` takes any file for a base binary; a plain Deno answers, but as itself.
  const answer = await versionOf(output);
  return answer.startsWith("appjail ") ? undefined : `with this base binary it says: ${answer}`;
}

/** The first line of what a program says to --version, or why it says nothing. */
async function versionOf(program: string): Promise<string> {
  try {
    const { code, stdout, stderr } = await new Deno.Command(program, {
      args: ["--version"],
      stdin: "null",
      signal: AbortSignal.timeout(compileDeadlineMs),
    }).output();
    const said = new TextDecoder().decode(code === 0 ? stdout : stderr).trim().split("\n")[0] ?? "";
    return code === 0 ? said : `${said} (exit status ${code})`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** A name for these files that is theirs alone: the beginning of a digest over names and bytes. */
async function digest(folder: string): Promise<string> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  const parts = names.flatMap((name) => {
    const bytes = Deno.readFileSync(`${folder}/${name}`);
    return [new TextEncoder().encode(`${name}\0${bytes.length}\0`), bytes];
  });
  const whole = new Uint8Array(await new Blob(parts).arrayBuffer());
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole)).toHex().slice(0, 12);
}

/** Whether a file exists, seen without following a link. */
function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Puts the Deno that runs this at `path`: a hard link where that changes nothing (same file system,
 * ours, and already such as everybody may run and nobody else may write), a copy otherwise.
 */
function placeDeno(path: string, scratch: string): void {
  const source = Deno.execPath();
  const { size, mode, uid } = Deno.statSync(source);
  if (exists(path)) {
    const there = Deno.lstatSync(path);
    if (there.isFile && there.size === size && (there.mode ?? 0) % 0o1000 === 0o755) return;
  }
  const made = `${scratch}/deno`;
  let linked = false;
  if (uid === Deno.uid() && (mode ?? 0) % 0o10000 === 0o755) {
    try {
      Deno.linkSync(source, made);
      linked = true;
    } catch {
      // Another file system, or one without hard links: a copy does the same.
    }
  }
  if (!linked) {
    Deno.copyFileSync(source, made);
    Deno.chmodSync(made, 0o755);
  }
  Deno.renameSync(made, path);
}

/** Removes the oldest bundles of earlier builds, and what a build that was killed left behind. */
function prune(parts: string, current: readonly string[]): void {
  const bundles = [...Deno.readDirSync(parts)]
    .filter(({ name, isDirectory }) => isDirectory && /^[0-9a-f]{12}$/.test(name))
    .map(({ name }) => ({ name, made: Deno.statSync(`${parts}/${name}`).mtime?.getTime() ?? 0 }))
    .sort((a, b) => b.made - a.made)
    .map(({ name }) => name)
    .filter((name) => !current.includes(name));
  for (const name of bundles.slice(bundlesKept - current.length)) {
    Deno.removeSync(`${parts}/${name}`, { recursive: true });
  }
}

/** Makes the files that the launcher starts, in their places, and the launcher as `made`. */
async function assemble(
  entry: string,
  out: string,
  scratch: string,
  made: string,
): Promise<void> {
  const fresh = `${scratch}/bundle`;
  Deno.mkdirSync(fresh);
  await bundle(entry, fresh, stagedScript);
  for (const { name } of Deno.readDirSync(fresh)) Deno.chmodSync(`${fresh}/${name}`, 0o644);
  Deno.chmodSync(fresh, 0o755);

  const parts = `${out}/${partsFolder}`;
  Deno.mkdirSync(parts, { recursive: true });
  Deno.chmodSync(parts, 0o755);
  const deno = `${partsFolder}/deno-${Deno.version.deno}`;
  placeDeno(`${out}/${deno}`, scratch);

  const name = await digest(fresh);
  const place = `${parts}/${name}`;
  if (exists(place) && await digest(place) === name) {
    Deno.utimeSync(place, new Date(), new Date());
  } else {
    if (exists(place)) Deno.renameSync(place, `${scratch}/damaged`);
    Deno.renameSync(fresh, place);
  }

  const text = launcher({
    deno,
    script: `${partsFolder}/${name}/${stagedScript}`,
    again: "build them again: deno task build",
  });
  Deno.writeTextFileSync(made, text);
  prune(parts, [name]);
}

/**
 * Puts the profiles that come with the program beside it: a folder of that name, which a daemon that
 * runs keeps open.
 */
function placeProfiles(source: string, out: string, scratch: string): void {
  const made = `${scratch}/${profilesFolder}`;
  Deno.mkdirSync(made);
  for (const { name, isFile } of Deno.readDirSync(source)) {
    if (!isFile) continue;
    Deno.copyFileSync(`${source}/${name}`, `${made}/${name}`);
    Deno.chmodSync(`${made}/${name}`, 0o644);
  }
  Deno.chmodSync(made, 0o755);
  const place = `${out}/${profilesFolder}`;
  if (exists(place)) Deno.renameSync(place, `${scratch}/old-profiles`);
  Deno.renameSync(made, place);
}

/** Builds the program, and tells which form it has. */
export async function build(options: BuildOptions): Promise<Form> {
  const { say } = options;
  if (!exists(options.out)) {
    Deno.mkdirSync(options.out, { recursive: true });
    Deno.chmodSync(options.out, 0o755);
  }
  const out = Deno.realPathSync(options.out);
  const scratch = Deno.makeTempDirSync({ dir: out, prefix: ".build-" });
  // The launcher finds its parts from where it lies, so it is tried under another name beside them.
  const made = `${scratch}.made`;
  try {
    let form: Form = options.form ?? "compiled";
    if (form === "compiled") {
      say("Building one executable ...");
      const why = await compile(options, `${scratch}/${executable}`);
      if (why === undefined) Deno.renameSync(`${scratch}/${executable}`, made);
      if (why !== undefined) {
        // Who names a base binary, or asks for this form alone, wants no other one.
        if (options.form === "compiled" || options.base !== undefined) {
          throw new Error(`Cannot build one executable: ${why}`);
        }
        say(`No executable of one file: ${why}.`);
        say(`To have one, name a denort ${Deno.version.deno} in DENORT_BIN.`);
        form = "bundled";
      }
    }
    if (form === "bundled") {
      say("Building a launcher over a bundle ...");
      await assemble(options.entry, out, scratch, made);
    }
    Deno.chmodSync(made, 0o755);
    const answer = await versionOf(made);
    if (!answer.startsWith("appjail ")) {
      throw new Error(`Cannot build appjail: what was made does not start: ${answer}`);
    }
    const profiles = options.entry.replace(/[^/]*$/, profilesFolder);
    if (exists(profiles)) placeProfiles(profiles, out, scratch);
    Deno.renameSync(made, `${out}/${executable}`);
    Deno.symlinkSync(executable, `${scratch}/${jailerLink}`);
    Deno.renameSync(`${scratch}/${jailerLink}`, `${out}/${jailerLink}`);
    say(
      form === "compiled"
        ? `Made ${options.out}/${executable} ${manifest.version}: one executable, ` +
          `with Deno ${Deno.version.deno} in it.`
        : `Made ${options.out}/${executable} ${manifest.version}: a launcher; the program and ` +
          `its Deno ${Deno.version.deno} are in ${options.out}/${partsFolder}.`,
    );
    return form;
  } finally {
    Deno.removeSync(scratch, { recursive: true });
    if (exists(made)) Deno.removeSync(made);
  }
}

const usage = "Usage: deno task build [--out DIR] [--form compiled|bundled]";

/** What the command line asks for, or what is wrong with it. */
export function parseArguments(
  args: readonly string[],
): { readonly out: string; readonly form: Form | undefined } | string {
  let out = "dist";
  let form: Form | undefined;
  for (let index = 0; index < args.length; index += 2) {
    const [option, value] = [args[index], args[index + 1]];
    if (value === undefined || value === "") return `${option} needs a value`;
    if (option === "--out") out = value.replace(/(.)\/+$/, "$1");
    else if (option === "--form" && (value === "compiled" || value === "bundled")) form = value;
    else return `${option} ${value} is not understood`;
  }
  return { out, form };
}

if (import.meta.main) {
  const asked = parseArguments(Deno.args);
  if (typeof asked === "string") {
    console.error(`build: ${asked}. ${usage}`);
    Deno.exit(100);
  }
  try {
    await build({
      ...asked,
      entry: Deno.realPathSync(`${import.meta.dirname}/..`) + "/main.ts",
      base: Deno.env.get("DENORT_BIN") || undefined,
      say: (line) => console.log(line),
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    Deno.exit(111);
  }
}
