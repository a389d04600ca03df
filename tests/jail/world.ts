/**
 * A whole appjail in a scratch folder: a private bus, the daemon, clients of several users, and a
 * way out that leaves nothing. For the tests that need root.
 *
 * @module
 */
import assert from "node:assert/strict";
import { isErrno } from "../../ipc/errno.ts";
import { within } from "../../core/deadline.ts";
import { readText } from "../../core/kernel.ts";
import { allPids, parentOf } from "../../core/process.ts";
import type { ClientToDispatcher, DispatcherToClient } from "../../core/protocol.ts";
import { askAs } from "./stand-in.ts";

/** Two people, neither of whom is root. They have passwd entries, which a bus asks for. */
export const uA = 5; // games
export const uB = 6; // man

/** The first uid that profiles get. Runs that share a machine each need a range of their own. */
export const firstUid: number = Number(Deno.env.get("APPJAIL_TEST_FIRST_UID") ?? 1100);
export const lastUid = firstUid + 99;

/**
 * Where the tests put what other users have to reach: not in TMPDIR, because everybody has to be able
 * to pass, and a socket's path has to be short.
 */
export const publicFolder: string = Deno.env.get("APPJAIL_TEST_FOLDER") ?? "/tmp";

export const isRoot: boolean = Deno.uid() === 0;

/** How a program ended and what it wrote. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ClientOptions {
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly cwd?: string;
}

export interface WorldOptions {
  readonly bus?: boolean;
  /** Who may do what on the bus, in dbus-daemon(1)'s words. */
  readonly policy?: string;
  readonly flags?: readonly string[];
  /**
   * Where the profiles are that come with the program; by default `profiles` in the scratch folder,
   * which is empty. The administrator's are in `admin` there.
   */
  readonly profiles?: string;
  /** How long an idle jail stays, in seconds. */
  readonly linger?: number;
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Words that stand before the daemon's, such as a shell that opens descriptors for it; they have
   * to end in its exec. `$SCRATCH` is the scratch folder.
   */
  readonly launcher?: readonly string[];
  /** How the scratch folder's name begins. */
  readonly prefix?: string;
  /** Called with the scratch folder before the daemon starts. */
  readonly before?: (folder: string) => void | Promise<void>;
  /** Puts the words of the daemon, and of its bus, into others, which have to end in an exec of them. */
  readonly wrap?: (words: readonly string[], folder: string) => readonly string[];
}

/**
 * Lets the daemon, and what it starts, see a copy of /etc that a test can change, `etc` in the
 * scratch folder; the machine's own stays as it is.
 */
export const ownEtc: Required<Pick<WorldOptions, "before" | "wrap">> = {
  before: async (folder) => {
    const { code, stderr } = await execute(["cp", "-a", "/etc", `${folder}/etc`]);
    assert.equal(code, 0, stderr);
  },
  wrap: (words, folder) => {
    const script = 'mount --bind "$0" /etc && exec "$@"';
    return ["unshare", "--mount", "sh", "-c", script, `${folder}/etc`, ...words];
  },
};

/** The words that start the program: what is tested, or the checkout. */
export function program(): readonly string[] {
  const given = Deno.env.get("APPJAIL_EXE");
  if (given !== undefined) return [given];
  return [Deno.execPath(), "run", "-q", "-A", new URL("../../main.ts", import.meta.url).pathname];
}

/** Waits until something holds, and says what it waited for when it never does. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  seconds = 20,
): Promise<T> {
  const limit = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > limit) throw new Error(`waited ${seconds} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The words that start a program as another user. */
export function asUser(uid: number | undefined, words: readonly string[]): readonly string[] {
  if (uid === undefined || uid === 0) return words;
  return ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--", ...words];
}

/** Runs a command to its end. */
export async function execute(
  words: readonly string[],
  { env, stdin, cwd }: Omit<ClientOptions, "uid"> = {},
): Promise<Outcome> {
  const [command = "", ...args] = words;
  const child = new Deno.Command(command, {
    args,
    ...(cwd === undefined ? {} : { cwd }),
    env: { ...env },
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  if (stdin !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(stdin));
    await writer.close();
  }
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** Everybody may call everybody; the dispatcher may have its name. */
const openPolicy = `  <policy context="default">
    <allow user="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <policy user="nobody"><allow own="org.appjail.AppJail"/></policy>`;
/** The real, effective, saved and file system uid of a process; none when it is gone. */
export function uidsOf(pid: number | string): readonly number[] {
  let status = "";
  try {
    status = Deno.readTextFileSync(`/proc/${pid}/status`);
  } catch {
    // It has ended.
  }
  if (/^State:\t[ZX]/m.test(status)) return [];
  return (/^Uid:\t(.*)$/m.exec(status)?.[1] ?? "").split("\t").filter(Boolean).map(Number);
}

/** The processes that have a uid of the range for profiles, or the one that is given. */
export function appProcesses(uid?: number): readonly number[] {
  const wanted = (one: number) =>
    uid === undefined ? one >= firstUid && one <= lastUid : one === uid;
  return [...Deno.readDirSync("/proc")].filter(({ name }) => /^[0-9]+$/.test(name))
    .filter(({ name }) => uidsOf(name).some(wanted)).map(({ name }) => Number(name));
}

/** The daemon and all that belongs to it, in a folder of its own. */
export class World implements AsyncDisposable {
  readonly folder: string;
  readonly #options: WorldOptions;
  #bus: Deno.ChildProcess | undefined;
  #daemon: Deno.ChildProcess | undefined;
  #drained: Promise<void> = Promise.resolve();
  #log = "";

  private constructor(folder: string, options: WorldOptions) {
    this.folder = folder;
    this.#options = options;
  }

  /** A daemon that is ready. */
  static async start(options: WorldOptions = {}): Promise<World> {
    // In a folder of the run's own it need not be told from others; a socket's path has to be short.
    const { prefix = publicFolder === "/tmp" ? "appjail-test-" : "" } = options;
    const folder = await Deno.makeTempDir({ dir: publicFolder, prefix });
    await Deno.chmod(folder, 0o755);
    for (const name of ["profiles", "admin"]) await Deno.mkdir(`${folder}/${name}`);
    const world = new World(folder, options);
    try {
      await options.before?.(folder);
      if (options.bus === true) await world.#startBus();
      await world.startDaemon();
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  get socket(): string {
    return `${this.runtime}/appjail.sock`;
  }
  get runtime(): string {
    return `${this.folder}/run`;
  }
  get data(): string {
    return `${this.folder}/data`;
  }
  get state(): string {
    return `${this.folder}/state`;
  }
  get busAddress(): string {
    return `unix:path=${this.folder}/bus`;
  }
  /** What the daemon has logged so far. */
  get log(): string {
    return this.#log;
  }
  /** The helper: the daemon itself. */
  get helperPid(): number {
    assert(this.#daemon !== undefined, "no daemon was started");
    return this.#daemon.pid;
  }

  /** The words of the daemon, to start it by hand. */
  daemonWords(): readonly string[] {
    const { bus, flags = [], linger = 1, launcher = [] } = this.#options;
    const { profiles = `${this.folder}/profiles` } = this.#options;
    return [
      ...launcher,
      ...program(),
      "daemon",
      ...["--bus", bus === true ? this.busAddress : "none"],
      ...["--data-root", this.data, "--state-dir", this.state, "--runtime-dir", this.runtime],
      ...["--uid-range", `${firstUid}-${lastUid}`, "--user", "nobody", "--linger", `${linger}`],
      ...["--profiles-dir", profiles, "--admin-profiles", `${this.folder}/admin`],
      ...flags,
    ];
  }

  async startDaemon(): Promise<void> {
    const { wrap = (words) => words } = this.#options;
    const [command = "", ...args] = wrap(this.daemonWords(), this.folder);
    const child = new Deno.Command(command, {
      args,
      env: { SCRATCH: this.folder, ...this.#options.env },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      // A ^C is for whoever watches: the daemon is ended in order, by the disposer.
      detached: true,
    }).spawn();
    this.#daemon = child;
    // Its own words: something of an earlier one may still be on its way to the log.
    let said = "";
    let ended = false;
    this.#drained = (async () => {
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
        said += text;
        this.#log += text;
      }
      ended = true;
    })();
    await until("the daemon is ready", () => {
      if (ended) {
        this.#daemon = undefined;
        throw new Error(`the daemon ended:\n${said}`);
      }
      return /dispatcher(?:: |","message":")ready/.test(said) &&
        (this.#options.bus !== true || said.includes("on the bus as"));
    });
  }

  /** The pid of the helper's dispatcher. */
  async dispatcherPid(): Promise<number> {
    return await until("a dispatcher runs", () =>
      allPids().find((pid) => {
        const [name = ""] = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
        return name.endsWith("/appjail-dispatcher") && parentOf(pid) === this.helperPid;
      }));
  }

  /** Waits until the daemon's process has ended, and for its log. */
  async daemonEnded(): Promise<number> {
    assert(this.#daemon !== undefined);
    const { code } = await this.#daemon.status;
    this.#daemon = undefined;
    return code;
  }

  /** Ends the daemon in order, and returns its exit status. */
  async stopDaemon(): Promise<number> {
    assert(this.#daemon !== undefined);
    this.#daemon.kill("SIGTERM");
    return await this.daemonEnded();
  }

  /** The words of a client. */
  clientWords(args: readonly string[], uid?: number): readonly string[] {
    return asUser(uid, [...program(), ...args]);
  }

  /** Runs a client to its end. */
  async client(args: readonly string[], options: ClientOptions = {}): Promise<Outcome> {
    const { uid, env, ...rest } = options;
    return await execute(this.clientWords(args, uid), {
      ...rest,
      env: { APPJAIL_SOCKET: this.socket, ...env },
    });
  }

  /** Starts a client and leaves it running; its streams are pipes. */
  spawn(args: readonly string[], options: ClientOptions = {}): Deno.ChildProcess {
    const [command = "", ...words] = this.clientWords(args, options.uid);
    return new Deno.Command(command, {
      args: words,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { APPJAIL_SOCKET: this.socket, ...options.env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  /** `appjail run -p PROFILE -- ARGV…`, which has to succeed; its output without the last newline. */
  async run(
    profile: string,
    argv: readonly string[],
    options: ClientOptions = {},
  ): Promise<string> {
    const { code, stdout, stderr } = await this.client(
      ["run", "-p", profile, "--", ...argv],
      options,
    );
    assert.equal(code, 0, `${argv.join(" ")}: ${stderr}\n${this.#log.slice(-2000)}`);
    return stdout.replace(/\n$/, "");
  }

  /** A shell script in a profile's jail. */
  async shell(profile: string, script: string, options: ClientOptions = {}): Promise<string> {
    return await this.run(profile, ["sh", "-c", script], options);
  }

  /** Gives a profile a program that only stays, and returns what status then says of its jail. */
  // deno-lint-ignore no-explicit-any -- as below
  async keep(profile: string): Promise<any> {
    const words = ["run", "-p", profile, "--detach", "--", "sleep", "1000"];
    const { code, stderr } = await this.client(words);
    assert.equal(code, 0, stderr);
    return (await this.status()).find((jail) => jail.profile === profile);
  }

  /**
   * What `appjail status --json` says. It is asked for from here: tests ask again and again until
   * something has come about, and a client's start costs more than all else meanwhile.
   */
  // deno-lint-ignore no-explicit-any -- a test looks into it as it likes
  async status(uid = 0, all = false): Promise<any[]> {
    const answers = await this.#ask(uid, { type: "status", profile: null, everyone: all });
    return answers.flatMap((answer) => {
      assert(answer.type === "reported", JSON.stringify(answer));
      return answer.jails;
    });
  }

  /** All that the daemon answers to a request, up to its last word. */
  async #ask(uid: number, request: ClientToDispatcher): Promise<readonly DispatcherToClient[]> {
    using channel = await until("there is a place in the queue", () => {
      try {
        return askAs(uid, this, request);
      } catch (error) {
        if (isErrno(error, "EAGAIN")) return undefined;
        throw error;
      }
    });
    const answers: DispatcherToClient[] = [];
    for (;;) {
      const next = await within(channel.receive(), 30_000, () => new Error("no answer"));
      assert(next !== undefined, `the daemon went away before it had answered ${request.type}`);
      if (next.message.type === "done") return answers;
      if (next.message.type !== "hello") answers.push(next.message);
    }
  }

  async #startBus(): Promise<void> {
    const config = `${this.folder}/bus.conf`;
    await Deno.writeTextFile(
      config,
      `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>${this.busAddress}</listen>
  <auth>EXTERNAL</auth>
${this.#options.policy ?? openPolicy}
</busconfig>
`,
    );
    const { wrap = (words) => words } = this.#options;
    const words = ["dbus-daemon", "--nofork", "--nopidfile", `--config-file=${config}`];
    const [command = "", ...args] = wrap(words, this.folder);
    this.#bus = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "null",
      detached: true,
    }).spawn();
    await until("the bus listens", async () => {
      const status = await Deno.lstat(`${this.folder}/bus`).catch(() => undefined);
      return status !== undefined;
    });
    await Deno.chmod(`${this.folder}/bus`, 0o777);
  }

  /** Ends everything and removes it. Fails when something cannot be removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemon !== undefined) {
      const everything = { profiles: [], force: true, timeout: 0, lock: true };
      await this.#ask(0, { type: "stop", ...everything }).catch(() => {});
      await end(this.#daemon);
      await this.#drained;
    }
    if (this.#bus !== undefined) await end(this.#bus);
    // The range is this run's own: whatever has a uid of it is a jail's that was left.
    const left = appProcesses();
    for (const pid of left) await execute(["kill", "-KILL", String(pid)]);
    const mounts = (await Deno.readTextFile("/proc/mounts")).split("\n")
      .filter((line) => line.split(" ")[1]?.startsWith(`${this.folder}/`));
    for (const line of mounts) await execute(["umount", "-l", line.split(" ")[1] ?? ""]);
    await Deno.remove(this.folder, { recursive: true });
    assert.deepEqual(mounts, [], "mounts were left behind");
    assert.deepEqual(left, [], "processes were left behind");
  }
}

/** Ends a process in order, if it has not ended by itself. */
async function end(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGTERM");
  } catch {
    // It has.
  }
  await child.status;
}

/** A test that needs root: without, it is reported as ignored. */
export function jailTest(
  name: string,
  body: (t: Deno.TestContext) => Promise<void>,
  { ignore = false }: { readonly ignore?: boolean } = {},
): void {
  Deno.test({
    name,
    ignore: ignore || !isRoot,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: (t) => unsuppressed(body(t)),
  });
}

/** A test of steps that share one world. */
export function themeTest(
  name: string,
  options: WorldOptions,
  body: (t: Deno.TestContext, world: World) => Promise<void>,
): void {
  Deno.test({
    name,
    ignore: !isRoot,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: (t) =>
      unsuppressed((async () => {
        await using world = await World.start(options);
        await body(t, world);
      })()),
  });
}

/** A failure that made a second one, while it was cleaned up after, is the one to be told. */
async function unsuppressed(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof SuppressedError)) throw error;
    console.error(error.error);
    throw error.suppressed;
  }
}
