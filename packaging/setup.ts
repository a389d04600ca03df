/**
 * `deno task setup`: says what this machine lacks for building and trying the program, and gets it:
 * Debian packages through apt-get when run by root, npm packages through Deno.
 *
 * Demo, test and bench run it first, so it is quick, and silent, when nothing is missing.
 *
 * @module
 */

import { type Need, needsFor, type Purpose, purposes } from "./needs.ts";

/** Which of these programs are nowhere to be found. */
export function missingOf(
  needs: readonly Need[],
  searchPath: string,
  isProgram: (path: string) => boolean,
  isFile: (path: string) => boolean = isProgram,
): readonly Need[] {
  // A user's PATH lacks the sbin folders, and these programs may be in one; others are for services.
  const folders = new Set(
    `${searchPath}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec:/usr/games`
      .split(":").filter((folder) => folder.startsWith("/")),
  );
  return needs.filter(({ program, file }) =>
    file !== undefined
      ? !isFile(file)
      : ![...folders].some((folder) => isProgram(`${folder}/${program}`))
  );
}

function isProgram(path: string): boolean {
  return isFile(path) && ((Deno.statSync(path).mode ?? 0) & 0o111) !== 0;
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The programs that are missing on this machine. */
function missing(purpose: Purpose | undefined): readonly Need[] {
  // What runs in a jail is not looked for where the caller's own programs are.
  const path = purpose === "programs" || purpose === "shipped" ? "" : Deno.env.get("PATH") ?? "";
  return missingOf(needsFor(purpose), path, isProgram, isFile);
}

/** Runs a command whose output people see as it comes; tells whether it succeeded. */
async function succeeds(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd?: string,
): Promise<boolean> {
  const command = new Deno.Command(program, {
    args: [...args],
    env,
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
    ...(cwd === undefined ? {} : { cwd }),
  });
  return (await command.spawn().status).success;
}

/** Runs apt-get, which asks nothing; tells whether it succeeded. */
async function apt(...words: readonly string[]): Promise<boolean> {
  return await succeeds(
    "apt-get",
    ["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0", ...words],
    { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C.UTF-8" },
  );
}

async function installed(packages: readonly string[]): Promise<boolean> {
  return await apt("install", "-y", "--no-install-recommends", ...packages);
}

/** Installs Debian packages. The lists of a fresh machine are empty, those of an old one stale. */
async function install(packages: readonly string[]): Promise<void> {
  const known = await new Deno.Command("apt-cache", { args: ["show", "--", ...packages] }).output();
  if (known.success && await installed(packages)) return;
  console.log("setup: fetching the package lists (apt-get update) ...");
  // One repository that does not answer is no reason to give up: the rest may have what is needed.
  await apt("update");
  if (await installed(packages)) return;
  throw new Error(
    `Cannot install ${packages.join(" ")}: apt-get failed, as it says above; ` +
      `try: apt-get update && apt-get install ${packages.join(" ")}`,
  );
}

/** Sees to the programs that come from Debian. */
async function setUpPrograms(purpose: Purpose | undefined): Promise<void> {
  const lacking = missing(purpose);
  if (lacking.length === 0) return;
  const programs = [...new Set(lacking.map(({ program }) => program))].join(", ");
  const packages = [...new Set(lacking.map((need) => need.package))];
  if (missingOf([{ program: "apt-get", package: "apt" }], "", isProgram).length > 0) {
    throw new Error(
      `Cannot go on without ${programs}: there is no apt-get here to install them with; ` +
        `install what your system calls ${packages.join(", ")}`,
    );
  }
  if (Deno.uid() !== 0) {
    throw new Error(
      `Cannot go on without ${programs}; run as root: apt-get install ${packages.join(" ")}`,
    );
  }
  console.log(`setup: ${programs} missing; installing with apt-get: ${packages.join(" ")} ...`);
  try {
    await install(packages);
  } catch (error) {
    if (purpose === undefined || !["desktop", "programs", "shipped"].includes(purpose)) throw error;
    // They are many, and each test names what it lacks: what can be had is worth having.
    for (const one of packages) await installed([one]);
  }
  const still = missing(purpose).map(({ program }) => program);
  if (still.length > 0) {
    throw new Error(`Cannot find ${still.join(", ")} although apt-get installed the packages`);
  }
}

/** Every TypeScript file of the repository that may import a package. */
function* sources(folder: string): Generator<string> {
  for (const { name, isFile, isDirectory } of Deno.readDirSync(folder)) {
    if (name.startsWith(".") || name === "dist" || name === "node_modules") continue;
    if (isDirectory) yield* sources(`${folder}/${name}`);
    else if (isFile && name.endsWith(".ts")) yield `${folder}/${name}`;
  }
}

/** Sees to the packages that come from npm, and to the bundler, which Deno fetches from there too. */
async function setUpPackages(root: string): Promise<void> {
  const deno = Deno.execPath();
  if (!await succeeds(deno, ["cache", "--quiet", "--frozen", ...sources(root)], {}, root)) {
    throw new Error(
      "Cannot get the npm packages, as Deno says above; if it is the lock file, run: deno install",
    );
  }
  const { stdout } = await new Deno.Command(deno, {
    args: ["info", "--json", "--no-config"],
    stderr: "null",
  }).output();
  const info: unknown = JSON.parse(new TextDecoder().decode(stdout));
  if (
    typeof info === "object" && info !== null && "denoDir" in info &&
    typeof info.denoDir === "string" && hasBundler(info.denoDir)
  ) return;
  console.log("setup: fetching the bundler (esbuild, from npm) ...");
  const scratch = Deno.makeTempDirSync({ prefix: "appjail-setup-" });
  try {
    Deno.writeTextFileSync(`${scratch}/empty.ts`, "export {};\n");
    const words = ["bundle", "--quiet", `--output=${scratch}/empty.js`, `${scratch}/empty.ts`];
    if (!await succeeds(deno, words, {}, scratch)) {
      throw new Error("Cannot get the bundler from npm, as Deno says above");
    }
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}

/** Whether Deno has unpacked an esbuild: it keeps it apart from the other packages. */
function hasBundler(denoDir: string): boolean {
  try {
    return [...Deno.readDirSync(`${denoDir}/dl`)].some(({ name }) => name.startsWith("esbuild-"));
  } catch {
    return false;
  }
}

/** Gets what is missing for `purpose`, or for building and running alone. */
export async function setUp(purpose: Purpose | undefined): Promise<void> {
  await setUpPrograms(purpose);
  await setUpPackages(Deno.realPathSync(`${import.meta.dirname}/..`));
}

/** What the command line asks for, or what is wrong with it. */
export function parseArguments(args: readonly string[]): { purpose: Purpose | undefined } | string {
  if (args.length === 0) return { purpose: undefined };
  const purpose = purposes.find((name) => name === args[1]);
  if (args[0] === "--for" && args.length === 2 && purpose !== undefined) return { purpose };
  return `${args.join(" ")} is not understood`;
}

if (import.meta.main) {
  const asked = parseArguments(Deno.args);
  if (typeof asked === "string") {
    console.error(`setup: ${asked}. Usage: deno task setup [--for ${purposes.join("|")}]`);
    Deno.exit(100);
  }
  try {
    await setUp(asked.purpose);
    if (asked.purpose === undefined) console.log("setup: nothing is missing");
  } catch (error) {
    console.error(`setup: ${error instanceof Error ? error.message : String(error)}`);
    Deno.exit(111);
  }
}
