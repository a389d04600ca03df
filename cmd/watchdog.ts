/**
 * The watchdog: root's guard over one encrypted home while it is unlocked. It is the parent of encfs
 * or gocryptfs, and locks the home again when the jail for which it was unlocked has ended, whatever
 * has become of the helper meanwhile.
 *
 * Its standard input is the pipe with the passphrase, and becomes that of encfs unread. It learns of
 * a jail's end by the jail's lock, which the kernel gives up with the jail. What it may not do: look
 * at anything in the home, signal a process that is not its child. What it trusts: its one argument,
 * which the helper made, and folders that only root can write.
 *
 * @module
 */
import { Channel, type Incoming } from "../ipc/channel.ts";
import { Fd, open, pipe, readSome } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { accept, peerOf } from "../ipc/socket.ts";
import { after, pause, within } from "../core/deadline.ts";
import { setpriv } from "../core/drop.ts";
import { AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import {
  effectiveUid,
  forbidCore,
  forbidInspection,
  leaveSessionKeyring,
  openFolder,
  openPidfd,
  reap,
  setUmask,
  spawn,
  statusAt,
} from "../core/kernel.ts";
import { roleEnvironment } from "../core/launch.ts";
import { untilUnlocked } from "../core/lock-wait.ts";
import { type Log, logOf, printable } from "../core/log.ts";
import { identify } from "../core/process.ts";
import {
  type HelperToWatchdog,
  protocolVersion,
  toWatchdog,
  type WatchdogOptions,
  watchdogOptions,
  type WatchdogToHelper,
} from "../core/protocol.ts";
import { begin } from "../core/role.ts";
import { removeVaultFolder, vaultParts, writeVaultRecord } from "../core/vault-folder.ts";
import { version } from "../core/version.ts";
import { isWrongPassphrase, mountAt, mountCommand, mountType } from "../core/volume.ts";
import { lockVolume } from "../core/volume-lock.ts";

type HelperChannel = Channel<HelperToWatchdog, WatchdogToHelper>;

/** How long the key may take to be derived, and the volume to be mounted, in milliseconds. */
const openDeadline = 90_000;
/** How long a home stays unlocked until the jail for which it was is there. */
const lease = 30_000;
/** How long a jail whose home has broken may take to end. */
const brokenPatience = 30_000;
/** How much of what encfs says is kept. */
const saidMost = 8 * 1024;

/** How the program of the volume ended, as wait(2) tells it. */
interface End {
  readonly code: number | undefined;
  readonly words: string;
}

/** Runs the watchdog until the home is locked again. */
export async function watchdog(text: string): Promise<number> {
  const options = begin("watchdog", watchdogOptions(), text, ["socket", "folder"]);
  if (effectiveUid() !== 0) {
    throw new AppjailError("usage", "The watchdog has to be root: it unlocks a home for a uid");
  }
  forbidInspection();
  forbidCore();
  leaveSessionKeyring();
  setUmask(0o022);
  const log = logOf("watchdog", options.log);
  const dog = new Watchdog(options, new Fd(3), new Fd(4), log);
  for (const name of ["ffi", "env", "read", "write", "net", "run", "sys"] as const) {
    Deno.permissions.revokeSync({ name });
  }
  return await dog.run();
}

class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #listener: Fd;
  readonly #folder: Fd;
  readonly #target: string;
  readonly #log: Log;
  readonly #ended = Promise.withResolvers<End>();
  readonly #asked = Promise.withResolvers<void>();
  #said = "";
  #program: number | undefined;
  #channel: HelperChannel | undefined;
  /** What a helper that comes now is told first. */
  #news: WatchdogToHelper | undefined;
  #guarded = 0;
  /** Until when it stays unlocked without a jail; 0: for ever; null: no longer. */
  #until: number | null = null;
  #leased = 0;
  /** Ends the wait for the time when the home may be needed no more. */
  #stopWaiting = (): void => {};
  #locking = false;

  constructor(options: WatchdogOptions, listener: Fd, folder: Fd, log: Log) {
    this.#options = options;
    this.#listener = listener;
    this.#folder = folder;
    this.#target = `${options.vaults}/${options.uid}/${vaultParts.home}`;
    this.#log = log;
  }

  async run(): Promise<number> {
    Deno.addSignalListener("SIGCHLD", () => this.#reap());
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      Deno.addSignalListener(signal, () => this.#asked.resolve());
    }
    let pidfd: Fd | undefined;
    let failure: WatchdogToHelper | undefined;
    try {
      pidfd = this.#start();
      void this.#serve();
      const device = await this.#opened();
      this.#tell({ type: "unlocked", device });
      this.#log.info(`home ${this.#options.uid} is unlocked`);
      this.#leased = Date.now() + lease;
      this.#consider();
      await Promise.race([
        this.#asked.promise,
        this.#ended.promise.then((end) => this.#broken(end)),
      ]);
    } catch (thrown) {
      const { code, message } = asAppjailError(thrown);
      failure = { type: "failed", code, message: message.slice(0, 4096) };
    }
    this.#stopWaiting();
    this.#locking = true;
    let problem: string | null;
    try {
      problem = await lockVolume({ target: this.#target, program: pidfd });
      using vaults = openFolder("root", this.#options.vaults);
      removeVaultFolder(vaults, this.#options.uid);
    } catch (error) {
      problem = wordsOf(error);
    }
    this.#log.info(`home ${this.#options.uid} is locked${problem === null ? "" : `: ${problem}`}`);
    this.#tell(failure ?? { type: "locked", problem });
    await within(this.#channel?.drain() ?? Promise.resolve(), 1000, () => new Error())
      .catch(() => {});
    return 0;
  }

  /** Starts the volume's program, and lets go of the passphrase. */
  #start(): Fd {
    const { kind, volume, uid } = this.#options;
    const errors = pipe({ nonblocking: true });
    {
      using write = errors.write;
      this.#program = spawn({
        path: setpriv,
        // Were this process killed, the program is told to leave: and it unmounts when it does.
        argv: [setpriv, "--pdeathsig", "TERM", "--", ...mountCommand(kind, volume, this.#target)],
        env: roleEnvironment,
        descriptors: [0, write.number, write.number],
        cwd: "/",
        session: true,
      });
    }
    // Nobody else is to hold the pipe, and nothing else is to be descriptor 0.
    new Fd(0).close();
    open("/dev/null", 2);
    void this.#hear(errors.read);
    const pidfd = openPidfd(this.#program);
    const [program, self] = [identify(this.#program), identify("self")];
    if (pidfd === undefined || program === undefined || self === undefined) {
      throw new AppjailError("vault-failed", `Cannot start ${kind}: it has ended at once`);
    }
    writeVaultRecord(this.#folder, { version: 1, uid, kind, watchdog: self, program });
    return pidfd;
  }

  /** Keeps the first of what the program says. */
  async #hear(errors: Fd): Promise<void> {
    using end = errors;
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(4096);
    for (;;) {
      await poller.readable(end.number);
      const count = readSome(end.number, buffer);
      if (count === 0) return;
      if (count === undefined || this.#said.length > saidMost) continue;
      this.#said += decoder.decode(buffer.subarray(0, count), { stream: true });
    }
  }

  #reap(): void {
    for (;;) {
      const child = reap();
      if (typeof child === "string") return;
      if (child.pid !== this.#program) continue;
      const signal = child.status & 0x7f;
      this.#ended.resolve(
        signal === 0
          ? { code: child.status >> 8 & 0xff, words: `status ${child.status >> 8 & 0xff}` }
          : { code: undefined, words: `killed by signal ${signal}` },
      );
    }
  }

  /** Waits until the volume is mounted, and makes sure that it is what has been mounted. */
  async #opened(): Promise<string> {
    const { kind, volume, uid } = this.#options;
    const limit = performance.now() + openDeadline;
    let end: End | undefined;
    void this.#ended.promise.then((ended) => end = ended);
    for (;;) {
      const mount = mountAt(this.#target);
      if (mount !== undefined) {
        if (mount.type !== mountType[kind] || (kind === "gocryptfs" && mount.source !== volume)) {
          throw new AppjailError("vault-failed", `Something else was mounted at ${this.#target}`);
        }
        const status = statusAt("root", this.#target);
        if (status?.kind !== "folder" || status.uid !== uid) {
          throw new AppjailError(
            "vault-failed",
            `Cannot use the volume: its folder belongs to uid ${status?.uid}, not to ${uid}`,
          );
        }
        return mount.device;
      }
      if (end !== undefined) throw await this.#whyNot(end);
      if (performance.now() > limit) {
        throw new AppjailError("vault-failed", `Cannot unlock: ${kind} does not come up`);
      }
      await pause(5);
    }
  }

  async #whyNot({ code, words }: End): Promise<AppjailError> {
    const { kind } = this.#options;
    // What it said last may still be on its way.
    await pause(20);
    const said = this.#said;
    if (code !== undefined && isWrongPassphrase(kind, code, said)) {
      return new AppjailError("wrong-passphrase", "The passphrase is wrong");
    }
    const lines = said.split("\n").map((line) => printable(line.trim())).filter(Boolean);
    const hint = statusAt("root", "/dev/fuse") === undefined
      ? "; there is no /dev/fuse here: modprobe fuse"
      : "";
    return new AppjailError(
      "vault-failed",
      `Cannot unlock: ${kind} ended, ${words}: ${
        lines.slice(0, 4).join("; ") || "no words"
      }${hint}`,
    );
  }

  /** Its program has ended under whoever uses the home: they have to end, too. */
  async #broken({ words }: End): Promise<void> {
    if (this.#locking) return;
    const why = `its home cannot be read any more: ${this.#options.kind} has ended, ${words}`;
    this.#log.info(`home ${this.#options.uid}: ${why}`);
    this.#tell({ type: "broken", why });
    const limit = performance.now() + brokenPatience;
    while (this.#guarded > 0 && performance.now() < limit) await pause(20);
  }

  #tell(news: WatchdogToHelper): void {
    this.#news = news;
    this.#channel?.send(news);
  }

  // --- The helper ----------------------------------------------------------------------------

  async #serve(): Promise<never> {
    for (;;) {
      await poller.readable(this.#listener.number);
      const socket = accept(this.#listener.number);
      if (socket === undefined) continue;
      if (peerOf(socket.number).uid !== 0) {
        socket.close();
        continue;
      }
      // The newest helper is the one: there is one at a time.
      this.#channel?.close();
      const channel: HelperChannel = new Channel(socket, toWatchdog);
      this.#channel = channel;
      const { uid, kind, volume } = this.#options;
      channel.send({
        type: "hello",
        role: "watchdog",
        protocol: protocolVersion,
        version,
        uid,
        kind,
        volume,
        until: this.#until,
      });
      if (this.#news !== undefined) channel.send(this.#news);
      void this.#converse(channel).catch((error) => {
        this.#log.info(`dropped a helper: ${wordsOf(error)}`);
        channel.close();
      });
    }
  }

  async #converse(channel: HelperChannel): Promise<void> {
    for (;;) {
      const incoming = await channel.receive();
      if (incoming === undefined) return channel.close();
      this.#obey(incoming);
    }
  }

  #obey({ message, descriptors: [lock] }: Incoming<HelperToWatchdog>): void {
    switch (message.type) {
      case "hello":
        if (message.protocol === protocolVersion) return;
        throw new Error(`the helper speaks protocol ${message.protocol}`);
      case "guard":
        if (lock !== undefined) void this.#guard(lock);
        return;
      case "keep":
        this.#until = message.until === 0 || message.until > Date.now() ? message.until : null;
        // Whoever says how long has not unlocked it for a jail that is yet to come.
        this.#leased = 0;
        return this.#consider();
      case "lock":
        return this.#asked.resolve();
      default:
        return message satisfies never;
    }
  }

  /** Holds the home open for as long as a jail has its lock. */
  async #guard(lock: Fd): Promise<void> {
    this.#guarded++;
    try {
      await untilUnlocked(lock);
    } finally {
      this.#guarded--;
      this.#leased = 0;
      this.#consider();
    }
  }

  /** Locks when nothing needs the home any more, or looks again when that may be. */
  #consider(): void {
    this.#stopWaiting();
    if (this.#guarded > 0 || this.#until === 0) return;
    const until = Math.max(this.#until ?? 0, this.#leased);
    const rest = until - Date.now();
    if (rest <= 0) return this.#asked.resolve();
    // A timer takes 24 days at most.
    this.#stopWaiting = after(Math.min(rest, 2 ** 31 - 1), () => this.#consider());
  }
}
