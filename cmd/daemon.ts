/**
 * `appjail daemon`: what root types. It settles the options, and then becomes the helper: the same
 * process, executed anew, with a clean environment and no descriptor but the standard ones, and the
 * listening socket where a service manager has handed it over.
 *
 * @module
 */
import * as v from "valibot";
import { closeAllOnExec, isOpen, open, readAll, setCloseOnExec } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { openRootFolder } from "../core/home.ts";
import {
  effectiveUid,
  execute,
  makeFolder,
  openFile,
  readLink,
  readText,
  type Status,
  statusBehind,
  statusOf,
} from "../core/kernel.ts";
import {
  bundlePrefix,
  permissions,
  roleEnvironment,
  runWords,
  stagedScript,
} from "../core/launch.ts";
import { logFormats, type LogStyle } from "../core/log.ts";
import { absolutePath, parse } from "../core/names.ts";
import { handedListener, serviceOf } from "../core/service.ts";
import { type HelperOptions, helperOptions } from "../core/protocol.ts";
import { form } from "../core/version.ts";

/** What may be said on the command line, each as text. */
export interface DaemonFlags {
  readonly bus?: string | undefined;
  readonly dataRoot?: string | undefined;
  readonly stateDir?: string | undefined;
  readonly runtimeDir?: string | undefined;
  readonly uidRange?: string | undefined;
  readonly user?: string | undefined;
  readonly linger?: string | undefined;
  readonly network?: string | undefined;
  readonly profilesDir?: string | undefined;
  readonly adminProfiles?: string | undefined;
  readonly config?: string | undefined;
  readonly logFormat?: LogStyle["format"] | undefined;
  readonly debug?: boolean | undefined;
}

export const defaultConfig = "/etc/appjail/appjail.toml";

/** The configuration file: the same words as the flags', with TOML's underscores. */
export const configuration = v.strictObject({
  bus: v.optional(v.string()),
  data_root: v.optional(v.string()),
  state_dir: v.optional(v.string()),
  runtime_dir: v.optional(v.string()),
  uid_range: v.optional(v.string()),
  user: v.optional(v.union([v.string(), v.pipe(v.number(), v.integer())])),
  linger: v.optional(v.number()),
  network: v.optional(v.picklist(["host", "none"])),
  profiles_dir: v.optional(v.string()),
  admin_profiles: v.optional(v.string()),
  log_format: v.optional(v.picklist(logFormats)),
  max_profiles: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(1),
      v.description("The most profiles that one person can have, by default 200"),
    ),
  ),
});
type Configuration = v.InferOutput<typeof configuration>;

/** The part of the world that the daemon looks at. */
export interface DaemonWorld {
  readonly env: Readonly<Record<string, string>>;
  /** The program's first file, as a path. */
  readonly script: string;
}

/** Becomes the helper. Returns only by throwing. */
export async function daemon(flags: DaemonFlags, world: DaemonWorld): Promise<never> {
  if (effectiveUid() !== 0) {
    throw new AppjailError(
      "usage",
      "Cannot start the daemon: it gives each application a user of its own, and that takes root; " +
        "try: sudo appjail daemon",
    );
  }
  const options = settle(
    flags,
    await configurationOf(flags.config),
    world.env,
    shippedProfiles(world.script),
  );
  // A program that is started with a closed standard stream would get a socket of ours in its place.
  for (const fd of [0, 1, 2]) if (!isOpen(fd)) open("/dev/null", 2).release();
  const script = form === "source" ? await bundleSource(options.runtime_dir, world) : world.script;
  const words = form === "compiled" ? [] : [...runWords, ...permissions.helper, script];
  // The folder in which it was started is not held for as long as it runs.
  Deno.chdir("/");
  closeAllOnExec();
  if (options.listener) setCloseOnExec(handedListener, false);
  return execute(
    "/proc/self/exe",
    ["appjail-helper", ...words, "helper", JSON.stringify(options)],
    roleEnvironment,
  );
}

/**
 * Where the profiles are that come with the program: beside it, as it was built or checked out, or
 * where it was installed below the same prefix.
 */
export function shippedProfiles(script: string): string | null {
  const executable = readLink("root", "/proc/self/exe") ?? "/";
  // A bundle lies two folders below the launcher.
  const above = { compiled: [executable, 1], bundled: [script, 3], source: [script, 1] } as const;
  const [file, steps] = above[form];
  const beside = `${file.split("/").slice(0, -steps).join("/")}/profiles`;
  const prefix = /^(.*)\/lib\/appjail\//.exec(file)?.[1] ?? "/usr";
  return [beside, `${prefix}/share/appjail/profiles`]
    .find((path) => statusBehind(path)?.kind === "folder") ?? null;
}

/**
 * Flags over the configuration file over what is built in.
 *
 * @param shipped where the profiles are that come with the program
 */
export function settle(
  flags: DaemonFlags,
  config: Configuration,
  env: Readonly<Record<string, string>>,
  shipped: string | null = null,
): HelperOptions {
  const wrong = (what: string, why: string): AppjailError =>
    new AppjailError("usage", `Cannot start the daemon: ${what}: ${why}`);
  const folder = (flag: string, text: string): string => {
    const parsed = parse(absolutePath, text);
    if ("wrong" in parsed || text.split("/").includes("..")) {
      throw wrong(`${flag} ${text}`, "it has to be an absolute path, without ..");
    }
    return text === "/" ? text : text.replace(/\/+$/, "");
  };
  const profilesFolder = (text: string | undefined): string | null => {
    if (text === undefined) return shipped;
    const path = folder("--profiles-dir", text);
    if (statusBehind(path)?.kind === "folder") return path;
    throw wrong(`--profiles-dir ${text}`, "there is no such folder");
  };
  const range = /^(\d+)-(\d+)$/.exec(flags.uidRange ?? config.uid_range ?? "1100-1999");
  if (range === null) throw wrong("--uid-range", "it has to be FIRST-LAST, such as 1100-1999");
  const [first, last] = [Number(range[1]), Number(range[2])];
  if (first > last) throw wrong("--uid-range", `${first} is above ${last}`);
  if (first < 1000 || last > 0xfffffffe || (first <= 65535 && last >= 65534)) {
    throw wrong("--uid-range", "it has to lie above 999 and leave out 65534 and 65535");
  }
  const { uid, gid } = userOf(String(flags.user ?? config.user ?? "appjail"), wrong);
  if (uid >= first && uid <= last) {
    throw wrong("--user", `uid ${uid} lies in the --uid-range, which is for profiles`);
  }
  const linger = seconds(flags.linger) ?? config.linger ?? 5;
  if (!(linger >= 0 && linger <= 86_400)) throw wrong("--linger", "it is 0 to 86400 seconds");
  const bus = flags.bus ?? config.bus ?? "system";
  const session = env["DBUS_SESSION_BUS_ADDRESS"];
  if (bus === "session" && session === undefined) {
    throw wrong("--bus session", "DBUS_SESSION_BUS_ADDRESS is not set; give the bus's address");
  }
  const settled = parse(helperOptions(), {
    bus: bus === "none" ? null : bus === "session" ? session : bus,
    data_root: folder("--data-root", flags.dataRoot ?? config.data_root ?? "/data"),
    state_dir: folder("--state-dir", flags.stateDir ?? config.state_dir ?? "/var/lib/appjail"),
    runtime_dir: folder("--runtime-dir", flags.runtimeDir ?? config.runtime_dir ?? "/run/appjail"),
    first_uid: first,
    last_uid: last,
    most_profiles: config.max_profiles ?? 200,
    dispatcher_uid: uid,
    dispatcher_gid: gid,
    linger: Math.round(linger * 1000),
    network: flags.network ?? config.network ?? "host",
    shipped_profiles: profilesFolder(flags.profilesDir ?? config.profiles_dir),
    admin_profiles: folder(
      "--admin-profiles",
      flags.adminProfiles ?? config.admin_profiles ?? "/etc/appjail/profiles",
    ),
    ...serviceOf(env, Deno.pid),
    log: {
      format: flags.logFormat ?? config.log_format ?? "text",
      journal: isStream(env["JOURNAL_STREAM"], statusBehind("/proc/self/fd/2")),
      debug: flags.debug === true,
    },
  });
  if ("wrong" in settled) throw wrong("an option", settled.wrong);
  // Its longest socket's path, a watchdog's, has to fit sun_path, in bytes. unix(7).
  const longest = 107 - "/vault/4294967294/watchdog.sock".length;
  if (new TextEncoder().encode(settled.value.runtime_dir).length > longest) {
    throw wrong("--runtime-dir", "it is too long a path");
  }
  return settled.value;
}

/**
 * Whether something is the stream that systemd has connected to the journal. The variable alone does
 * not say so: whoever was started by a service has it as well. systemd.exec(5), JOURNAL_STREAM.
 */
export function isStream(
  named: string | undefined,
  status: Pick<Status, "inode"> | undefined,
): boolean {
  const [, device, inode] = /^(\d+):(\d+)$/.exec(named ?? "") ?? [];
  const [major = 0n, minor = 0n, own] = status?.inode.split(":").map(BigInt) ?? [];
  if (device === undefined || inode === undefined || own === undefined) return false;
  // As gnu_dev_makedev(3) puts them together.
  const number = (major & 0xfffn) << 8n | (major & ~0xfffn) << 32n |
    (minor & 0xffn) | (minor & ~0xffn) << 12n;
  return BigInt(device) === number && BigInt(inode) === own;
}

/** A number as people write it; Number would take "", " 5" and 0x5, too. */
function seconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return /^[0-9]+(?:\.[0-9]+)?$/.test(text) ? Number(text) : NaN;
}

function userOf(
  text: string,
  wrong: (what: string, why: string) => AppjailError,
): { readonly uid: number; readonly gid: number } {
  const lines = (readText("/etc/passwd", 16 * 1024 * 1024) ?? "").split("\n").map((line) =>
    line.split(":")
  );
  const number = /^[0-9]{1,10}$/.test(text) ? Number(text) : undefined;
  const line = lines.find(([name, , uid]) => number === undefined ? name === text : uid === text);
  const uid = number ?? Number(line?.[2] ?? NaN);
  if (!Number.isInteger(uid)) {
    throw wrong(
      `--user ${text}`,
      `there is no such user; try: useradd --system --no-create-home --shell /usr/sbin/nologin ${
        /^[a-z][a-z0-9-]{0,30}$/.test(text) ? text : "appjail"
      }`,
    );
  }
  const gid = Number(line?.[3] ?? uid);
  if (uid === 0 || gid === 0) {
    throw wrong("--user", "the dispatcher speaks to strangers and must not be root, group or user");
  }
  if (uid > 0xfffffffe) throw wrong("--user", `${uid} is no uid`);
  return { uid, gid };
}

/** What the configuration file says. */
export async function configurationOf(flag: string | undefined): Promise<Configuration> {
  const path = flag ?? defaultConfig;
  const wrong = (why: string): AppjailError =>
    new AppjailError("usage", `Cannot use the configuration ${path}: ${why}`);
  let text: string;
  try {
    using file = openFile("root", path);
    const status = statusOf(file);
    if (status.kind !== "file") throw wrong("it is not a file");
    if (status.uid !== 0 || (status.mode & 0o022) !== 0) {
      throw wrong("it has to be root's, and writable by nobody else");
    }
    text = new TextDecoder().decode(readAll(file.number, 1024 * 1024));
  } catch (error) {
    if (flag === undefined && isErrno(error, "ENOENT")) return {};
    throw error instanceof AppjailError ? error : wrong(wordsOf(error));
  }
  let value: unknown;
  try {
    const { parse: parseToml } = await import("@std/toml/parse");
    value = parseToml(text);
  } catch (error) {
    throw wrong(wordsOf(error));
  }
  const result = v.safeParse(configuration, { ...Object(value) }, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw wrong(`${v.getDotPath(issue) ?? "it"}: ${issue.message}`);
}

/**
 * A checkout makes itself into a bundle for each start of the daemon: the roles run as users who
 * may not be able to reach the checkout, nor the caches that it runs from.
 */
async function bundleSource(runtime: string, { script }: DaemonWorld): Promise<string> {
  const folder = `${runtime}/${bundlePrefix}${Deno.pid}`;
  // Root runs what is put here.
  using place = openRootFolder(runtime, 0o755);
  makeFolder(place, `${bundlePrefix}${Deno.pid}`, 0o700);
  // The name is computed, so that no bundle takes the bundler in.
  const bundler: {
    readonly bundle: (entry: string, folder: string, script: string) => Promise<void>;
  } = await import(new URL("../packaging/bundle.ts", import.meta.url).href);
  await bundler.bundle(script, folder, stagedScript);
  return `${folder}/${stagedScript}`;
}
