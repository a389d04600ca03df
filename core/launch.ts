/**
 * How this program starts itself again: by which file, with which words and permissions, in each of
 * its forms. The build and the helper both take it from here.
 *
 * @module
 */

/** The processes that are this program. A client may be any user's; the others are the daemon's. */
export type Role =
  | "client"
  | "daemon"
  | "helper"
  | "dispatcher"
  | "jailer"
  | "copier"
  | "watchdog"
  | "converter";

/** The roles that argv[0] can name, as `appjail-jailer` does. */
export const reexecuted = [
  "helper",
  "dispatcher",
  "jailer",
  "copier",
  "watchdog",
  "converter",
] as const;
export type ReexecutedRole = (typeof reexecuted)[number];

/**
 * One thread for V8: its helpers for compiling and collecting only contend with a program that has
 * ten milliseconds of work. Measured for a join on two cores: 18.8 ms instead of 20.4, and steadier.
 */
export const engineWords: readonly string[] = ["--v8-flags=--single-threaded"];

/**
 * `deno run` for a file that needs nothing but itself: no configuration, lock file, registry or
 * cache is looked for, and no question is ever asked. The code cache is off because it is a file
 * that somebody else might have written.
 */
export const runWords: readonly string[] = [
  "run",
  "--quiet",
  "--no-prompt",
  "--no-config",
  "--no-lock",
  "--no-remote",
  "--no-npm",
  "--cached-only",
  "--no-code-cache",
  ...engineWords,
];

/**
 * What each role begins with. It gives up what it does not need any more, FFI first of all: symbols
 * that are loaded stay callable. A role's own code is read from a file (read); the bus client of the
 * dispatcher opens a socket (read, write, net).
 */
export const permissions: Readonly<Record<Role, readonly string[]>> = {
  client: ["--allow-ffi", "--allow-env", "--allow-read"],
  daemon: ["--allow-ffi", "--allow-env", "--allow-read"],
  helper: ["--allow-ffi", "--allow-env", "--allow-read"],
  dispatcher: [
    "--allow-ffi",
    "--allow-env",
    "--allow-read",
    "--allow-write",
    "--allow-net",
  ],
  jailer: ["--allow-ffi", "--allow-env", "--allow-read"],
  copier: ["--allow-ffi", "--allow-env", "--allow-read"],
  converter: ["--allow-ffi", "--allow-env", "--allow-read"],
  watchdog: ["--allow-ffi", "--allow-env", "--allow-read"],
};

/** The same for the one executable that is every role. */
export const allPermissions: readonly string[] = [
  ...new Set(Object.values(permissions).flat()),
].sort();

/** What Deno is told through the environment, however it is started. */
export const denoEnvironment: Readonly<Record<string, string>> = {
  // A name that cannot be made: Deno writes a cache wherever it may, and this one may be anybody's.
  DENO_DIR: "/dev/null/none",
  // It would complain of that on every terminal. It takes a log level for each of its parts.
  DENO_LOG: "error,deno::cache=off",
  DENO_NO_UPDATE_CHECK: "1",
  // Deno reads .npmrc there, and stops at one that is broken or not readable.
  HOME: "/nonexistent",
  // A heap for each thread costs 2 ms at every start, and threads that only wait share one as well.
  MALLOC_ARENA_MAX: "1",
};

/** The environment of a role that is started by us: nothing of anybody else's. */
export const roleEnvironment: Readonly<Record<string, string>> = {
  PATH: "/usr/bin:/bin",
  LANG: "C.UTF-8",
  // Whatever the runtime itself complains of ends in a log.
  NO_COLOR: "1",
  ...denoEnvironment,
};

/** What the bundler leaves out: optional parts of dbus-next that are never reached. */
export const bundleExternals: readonly string[] = ["x11", "debug", "usocket"];

/** The first of the program's files, in the folder where the daemon keeps them for its roles. */
export const stagedScript = "appjail.js";

/** A command of our own: the file, and the words from argv[0] on. */
export interface Command {
  readonly path: string;
  readonly argv: readonly string[];
}

/**
 * The command of a role whose program lies in `folder`: there, `appjail-<role>` is a link to the
 * executable, and beside it lies the script unless the executable holds it.
 */
export function roleCommand(
  folder: string,
  compiled: boolean,
  role: ReexecutedRole,
  options: unknown,
): Command {
  const path = `${folder}/appjail-${role}`;
  const words = compiled ? [] : [...runWords, ...permissions[role], `${folder}/${stagedScript}`];
  return { path, argv: [path, ...words, role, JSON.stringify(options)] };
}

/**
 * The command of the copier, to be run in a jail as a program like any other. Whoever asks for it does
 * not know in which form the daemon's program is: it is looked where it is run.
 *
 * @param folder where the program lies in a jail
 */
export function copierCommand(folder: string): readonly string[] {
  const [bundled, compiled] = [false, true].map((form) => {
    const { argv } = roleCommand(folder, form, "copier", {});
    const variables = Object.entries(roleEnvironment).map(([name, value]) => `${name}=${value}`);
    return `exec env -i ${[...variables, ...argv].join(" ")}`;
  });
  return ["sh", "-c", `[ -e ${folder}/${stagedScript} ] && ${bundled}; ${compiled}`];
}

/** How the folders are called, below the runtime folder, into which a checkout bundles itself. */
export const bundlePrefix = ".bundle-";
