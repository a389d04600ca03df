/**
 * The helper's encrypted homes: which there are, which are unlocked, and the watchdogs that hold
 * those. What a watchdog that was killed has left is cleared away here.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { Channel } from "../ipc/channel.ts";
import { type Fd, open } from "../ipc/fd.ts";
import { connect, listen } from "../ipc/socket.ts";
import { pause, within } from "../core/deadline.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { openRootFolder, prepareHome } from "../core/home.ts";
import {
  changeModeAt,
  exists,
  namesIn,
  openFile,
  openFolder,
  removeFile,
  removeFolder,
  signalPidfd,
  spawn,
} from "../core/kernel.ts";
import { roleCommand, roleEnvironment } from "../core/launch.ts";
import type { Log } from "../core/log.ts";
import { type AppUid, appUid, parse } from "../core/names.ts";
import { openProcess } from "../core/process.ts";
import { programFolder } from "../core/program.ts";
import {
  fromWatchdog,
  type HelperToWatchdog,
  type HomeState,
  protocolVersion,
  type VolumeKind,
  type WatchdogToHelper,
  type WatchdogWords,
} from "../core/protocol.ts";
import {
  makeVaultFolder,
  readVaultRecord,
  removeVaultFolder,
  vaultParts,
} from "../core/vault-folder.ts";
import { form, version } from "../core/version.ts";
import { keepConfig, mountAt, volumeIn, volumeProgram } from "../core/volume.ts";
import { abortConnection, lockVolume } from "../core/volume-lock.ts";

/** How long a watchdog may take: to say hello, to unlock, to lock. Each ends by itself before. */
const helloDeadline = 20_000;
const unlockDeadline = 120_000;
const lockDeadline = 15_000;

type WatchdogChannel = Channel<WatchdogToHelper, HelperToWatchdog>;

/** A home that is unlocked, about to be, or about to be locked. */
interface Vault {
  readonly uid: AppUid;
  readonly kind: VolumeKind;
  readonly channel: WatchdogChannel;
  readonly unlocked: PromiseWithResolvers<void>;
  /** Settles when nothing of it is left, with what had to be done for that; or why something is. */
  readonly locked: PromiseWithResolvers<string | null>;
  open: boolean;
  /** It was open at some time. */
  opened: boolean;
  until: number | null;
  /** It is open for a conversion, and nobody else's. */
  readonly lent: boolean;
}

/** A volume that is open for a conversion. */
export interface Lent {
  /** Where its plaintext is. */
  readonly path: string;
  /** Settles when it is not there any more. */
  readonly lost: Promise<unknown>;
}

/** What the homes need of the helper around them. */
export interface VaultsOptions {
  readonly runtimePath: string;
  readonly dataPath: string;
  readonly dataRoot: Fd;
  readonly state: Fd;
  readonly log: Log;
  /** The home of a jail that may be running has broken. */
  readonly broken: (uid: AppUid, why: string) => void;
  /** A home was unlocked, or locked; the note says what is not as it should be. */
  readonly turned: (uid: AppUid, unlocked: boolean, note: string | null) => void;
}

/** Every encrypted home. */
export class Vaults {
  readonly #options: VaultsOptions;
  readonly #path: string;
  readonly #folder: Fd;
  readonly #vaults = new Map<AppUid, Vault>();
  /** Those for which a watchdog is about to be started. */
  readonly #opening = new Set<AppUid>();

  constructor(options: VaultsOptions) {
    this.#options = options;
    this.#path = `${options.runtimePath}/vault`;
    this.#folder = openRootFolder(this.#path, 0o711);
  }

  /** How many homes are unlocked. */
  get size(): number {
    return this.#vaults.size;
  }

  /** Whether a home is unlocked, or is being. */
  has(uid: AppUid): boolean {
    return this.#vaults.has(uid) || this.#opening.has(uid);
  }

  /** Removes what holds nothing. */
  close(runtime: Fd): void {
    this.#folder.close();
    try {
      removeFolder(runtime, "vault");
    } catch (error) {
      if (!isErrno(error, "ENOTEMPTY")) throw error;
    }
  }

  /** What a home is. One that is not there yet is plain. */
  stateOf(uid: AppUid): HomeState {
    const vault = this.#homes(uid);
    const base = { unlocked: vault?.open ?? false, until: vault?.until ?? null };
    try {
      using home = openFolder(this.#options.dataRoot, String(uid));
      return { ...base, kind: vault?.kind ?? this.#kindOf(home, uid) ?? null, problem: null };
    } catch (error) {
      if (isErrno(error, "ENOENT")) return { ...base, kind: null, problem: null };
      return { ...base, kind: vault?.kind ?? null, problem: wordsOf(error).slice(0, 4096) };
    }
  }

  /** A home that is unlocked for its jail. */
  #homes(uid: AppUid): Vault | undefined {
    const vault = this.#vaults.get(uid);
    return vault?.lent === true ? undefined : vault;
  }

  #kindOf(home: Fd, uid: AppUid): VolumeKind | undefined {
    return volumeIn(home, this.#volumePath(uid), this.#options.state, uid);
  }

  #volumePath(uid: AppUid): string {
    return `${this.#options.dataPath}/${uid}`;
  }

  /**
   * Where the plaintext of a home is, for a jail that is about to be started; with a descriptor that
   * the jail's lock is to be watched by. A plain home has its own path and needs no watching.
   */
  homeFor(uid: AppUid, profile: string): string {
    {
      using home = this.#openHome(uid);
      if (this.#kindOf(home, uid) === undefined && !this.has(uid)) return this.#volumePath(uid);
    }
    const vault = this.#homes(uid);
    const target = this.#target(uid);
    if (vault?.open !== true || mountAt(target) === undefined) {
      throw new AppjailError(
        "passphrase-required",
        `The home of "${profile}" is locked; unlock it: appjail unlock ${profile}`,
      );
    }
    return target;
  }

  /** The home, which was prepared just now; what stands there may be another thing by now. */
  #openHome(uid: AppUid): Fd {
    try {
      return openFolder(this.#options.dataRoot, String(uid));
    } catch (error) {
      const words = `Cannot use the home of uid ${uid}: ${wordsOf(error)}`;
      throw new AppjailError("home-refused", words, { cause: error });
    }
  }

  /** Holds the home open for as long as somebody has this lock. Before the jail is started. */
  guard(uid: AppUid, jailFolder: Fd): void {
    this.#vaults.get(uid)?.channel.send({ type: "guard" }, [openFile(jailFolder, "lock")]);
  }

  #target(uid: AppUid): string {
    return `${this.#path}/${uid}/${vaultParts.home}`;
  }

  /** Unlocks a home. The pipe with the passphrase becomes encfs's standard input, and is closed here. */
  async unlock(uid: AppUid, pipe: Fd): Promise<void> {
    using passphrase = pipe;
    if (this.#homes(uid)?.open === true) return;
    const { dataRoot, state } = this.#options;
    prepareHome(dataRoot, uid);
    using home = openFolder(dataRoot, String(uid));
    const kind = this.#kindOf(home, uid);
    if (kind === undefined) {
      throw new AppjailError(
        "vault-failed",
        "The home is not encrypted: there is nothing to unlock",
      );
    }
    await this.#open(uid, { kind, volume: this.#volumePath(uid), lent: false }, passphrase);
    keepConfig(home, state, uid, kind);
  }

  /**
   * Opens a volume for a conversion: a home, or one that is to become one.
   *
   * @param guard a lock, for as long as which somebody has it the volume stays open
   */
  async lend(
    uid: AppUid,
    kind: VolumeKind,
    volume: string,
    pipe: Fd,
    guard: () => Fd,
  ): Promise<Lent> {
    using passphrase = pipe;
    const vault = await this.#open(uid, { kind, volume, lent: true }, passphrase);
    vault.channel.send({ type: "guard" }, [guard()]);
    return { path: this.#target(uid), lost: vault.locked.promise };
  }

  async #open(
    uid: AppUid,
    { kind, volume, lent }: Pick<Vault, "kind" | "lent"> & { readonly volume: string },
    passphrase: Fd,
  ): Promise<Vault> {
    if (this.has(uid)) {
      throw new AppjailError("vault-failed", "The home is being unlocked or locked; try again");
    }
    const { runtimePath, log } = this.#options;
    if (!exists(volumeProgram[kind])) {
      throw new AppjailError(
        "vault-failed",
        `Cannot unlock: ${volumeProgram[kind]} is not installed; try: apt install ${kind}`,
      );
    }
    // Whatever an earlier one has left there.
    this.#opening.add(uid);
    try {
      await this.#clear(uid);
    } finally {
      this.#opening.delete(uid);
    }
    using folder = makeVaultFolder(this.#folder, uid);
    const options: WatchdogWords = {
      uid,
      kind,
      volume,
      vaults: this.#path,
      log: log.style,
    };
    const socket = `${this.#path}/${uid}/${vaultParts.socket}`;
    let channel: WatchdogChannel;
    {
      using listener = listen(socket);
      changeModeAt(folder, vaultParts.socket, 0o600);
      channel = new Channel(connect(socket), fromWatchdog);
      const command = roleCommand(
        programFolder(runtimePath),
        form === "compiled",
        "watchdog",
        options,
      );
      using nothing = open("/dev/null", 2);
      spawn({
        path: command.path,
        argv: command.argv,
        env: roleEnvironment,
        descriptors: [passphrase.number, nothing.number, 2, listener.number, folder.number],
        cwd: "/",
        session: true,
      });
      passphrase.close();
    }
    const vault = this.#add({ uid, kind, until: null, lent }, channel);
    try {
      await within(
        vault.unlocked.promise,
        unlockDeadline,
        () => new AppjailError("vault-failed", "Cannot unlock: its watchdog does not answer"),
      );
    } catch (error) {
      // It clears away what it has begun before it is tried again.
      await this.#gone(vault);
      throw error;
    }
    return vault;
  }

  /** How long a home stays unlocked without a jail: until a time, 0 for ever. */
  keep(uid: AppUid, until: number): void {
    const vault = this.#homes(uid);
    if (vault?.open !== true) {
      throw new AppjailError("passphrase-required", "The home is locked");
    }
    vault.until = until;
    vault.channel.send({ type: "keep", until });
  }

  /** Lets whoever waits for a home that does not answer have an error. */
  cutOff(uid: AppUid): void {
    const device = mountAt(this.#target(uid))?.device;
    if (device === undefined) return;
    this.#options.log.info(`home ${uid} does not answer, and is cut off`);
    try {
      abortConnection(device);
    } catch (error) {
      this.#options.log.info(wordsOf(error));
    }
  }

  /** Locks a home in which nothing runs. @returns what went wrong; null when all is as it should */
  async lock(uid: AppUid): Promise<string | null> {
    const vault = this.#vaults.get(uid);
    if (vault === undefined) return null;
    vault.channel.send({ type: "lock" });
    return await this.#gone(vault);
  }

  /** A jail has ended: waits until its home is locked, unless it is to stay unlocked. */
  async jailGone(uid: AppUid): Promise<string | null> {
    const vault = this.#vaults.get(uid);
    if (vault === undefined || vault.until === 0 || (vault.until ?? 0) > Date.now()) return null;
    return await this.#gone(vault);
  }

  /** Waits until a home is locked; a watchdog that does not come to that is ended. */
  async #gone(vault: Vault): Promise<string | null> {
    const late = (): Error => new Error("late");
    try {
      return await within(vault.locked.promise, lockDeadline, late);
    } catch {
      this.#options.log.info(`the watchdog of home ${vault.uid} does not answer and is ended`);
      this.#kill(vault.uid);
      return await within(
        vault.locked.promise,
        lockDeadline,
        () => new Error("its watchdog cannot be ended"),
      ).catch(wordsOf);
    }
  }

  /** Kills the watchdog that the record names, if it is that one still. */
  #kill(uid: AppUid): void {
    try {
      using folder = openFolder(this.#folder, String(uid));
      const record = readVaultRecord(folder, uid);
      using pidfd = record && openProcess(record.watchdog, 0, false);
      if (pidfd !== undefined) signalPidfd(pidfd, 9);
    } catch (error) {
      this.#options.log.info(`home ${uid}: ${wordsOf(error)}`);
    }
  }

  #add(
    known: Pick<Vault, "uid" | "kind" | "until" | "lent">,
    channel: WatchdogChannel,
  ): Vault {
    const vault: Vault = {
      ...known,
      channel,
      unlocked: Promise.withResolvers(),
      locked: Promise.withResolvers(),
      open: false,
      opened: false,
    };
    vault.unlocked.promise.catch(() => {});
    vault.locked.promise.catch(() => {});
    this.#vaults.set(known.uid, vault);
    channel.send({ type: "hello", role: "helper", protocol: protocolVersion, version });
    void this.#follow(vault);
    return vault;
  }

  async #follow(vault: Vault): Promise<void> {
    const { uid, channel, unlocked } = vault;
    const { log, broken, turned } = this.#options;
    let outcome: string | null | undefined;
    try {
      while (outcome === undefined) {
        const incoming = await channel.receive();
        if (incoming === undefined) break;
        const { message } = incoming;
        switch (message.type) {
          case "hello":
            break;
          case "unlocked":
            vault.open = true;
            vault.opened = true;
            if (!vault.lent) turned(uid, true, null);
            unlocked.resolve();
            break;
          case "failed":
            unlocked.reject(new AppjailError(message.code, message.message));
            outcome = null;
            break;
          case "broken":
            vault.open = false;
            broken(uid, message.why);
            break;
          case "locked":
            outcome = message.problem;
            break;
          default:
            message satisfies never;
        }
      }
    } catch (error) {
      log.info(`the watchdog of home ${uid} broke the rules: ${wordsOf(error)}`);
      this.#kill(uid);
    }
    channel.close();
    if (outcome === undefined) {
      log.info(`the watchdog of home ${uid} is gone`);
      unlocked.reject(new AppjailError("vault-failed", "Cannot unlock: its watchdog has ended"));
      if (vault.open) broken(uid, "its home has lost its watchdog, and is locked");
    }
    vault.open = false;
    try {
      await this.#clear(uid);
      this.#vaults.delete(uid);
      if (vault.opened && !vault.lent) {
        turned(uid, false, outcome === undefined ? "its watchdog was lost" : outcome);
      }
      vault.locked.resolve(outcome ?? null);
    } catch (error) {
      log.info(`home ${uid}: ${wordsOf(error)}`);
      this.#vaults.delete(uid);
      vault.locked.reject(error);
    }
  }

  /** Ends and unmounts whatever is left of a home that was unlocked. */
  async #clear(uid: AppUid): Promise<void> {
    const target = this.#target(uid);
    let folder: Fd;
    try {
      folder = openFolder(this.#folder, String(uid));
    } catch (error) {
      if (isErrno(error, "ENOENT")) return;
      // Only root can have put it there, and only as a mistake.
      if (!isErrno(error, "ENOTDIR", "ELOOP")) throw error;
      removeFile(this.#folder, String(uid));
      return;
    }
    {
      using held = folder;
      const record = readVaultRecord(held, uid);
      using watchdog = record && openProcess(record.watchdog, 0, false);
      // One that has told its end is on its way; one that has not was killed, or has to be.
      for (let turn = 0; turn < 50 && watchdog && isThere(record); turn++) await pause(20);
      if (watchdog !== undefined) signalPidfd(watchdog, 9);
      using program = record && openProcess(record.program, 0, false);
      if (program !== undefined || mountAt(target) !== undefined) {
        await lockVolume({ target, program });
      }
    }
    try {
      removeVaultFolder(this.#folder, uid);
    } catch (error) {
      throw new AppjailError(
        "vault-failed",
        `Cannot use ${this.#path}/${uid}, where the home would be mounted: ${wordsOf(error)}; ` +
          "remove what is in the way",
      );
    }
  }

  /** Finds the homes that an earlier daemon left unlocked; what nobody watches is locked. */
  async adopt(): Promise<void> {
    await Promise.all(
      namesIn(this.#folder).map(async (name) => {
        const uid = parse(appUid, Number(name));
        if ("wrong" in uid) return;
        try {
          await this.#adoptOne(uid.value);
        } catch (error) {
          this.#options.log.info(`home ${name} cannot be looked at: ${wordsOf(error)}`);
        }
      }),
    );
  }

  async #adoptOne(uid: AppUid): Promise<void> {
    let channel: WatchdogChannel;
    try {
      channel = new Channel(
        connect(`${this.#path}/${uid}/${vaultParts.socket}`),
        fromWatchdog,
      );
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ECONNREFUSED", "ENOTDIR", "ENOTSOCK")) throw error;
      this.#options.log.info(`home ${uid} was left by its watchdog, and is locked`);
      return await this.#clear(uid);
    }
    const first = await within(channel.receive(), helloDeadline, () => new Error("no hello"))
      .catch(() => undefined);
    if (first?.message.type !== "hello" || first.message.uid !== uid) {
      channel.close();
      this.#kill(uid);
      return await this.#clear(uid);
    }
    const { kind, until, volume } = first.message;
    // One that is no home was open for a conversion, which has ended with the daemon before.
    const lent = volume !== this.#volumePath(uid);
    const vault = this.#add({ uid, kind, until, lent }, channel);
    // What it is comes next; one that is still at it is waited for by nobody.
    await Promise.race([
      vault.unlocked.promise.catch(() => {}),
      vault.locked.promise,
      pause(1_000),
    ]);
    if (lent) {
      const problem = await this.lock(uid);
      return this.#options.log.info(
        `the copy of home ${uid} is locked${problem === null ? "" : `: ${problem}`}`,
      );
    }
    this.#options.log.info(`home ${uid} is ${vault.open ? "unlocked" : "not unlocked"} still`);
  }
}

function isThere(record: { readonly watchdog: Parameters<typeof openProcess>[0] }): boolean {
  using pidfd = openProcess(record.watchdog, 0, false);
  return pidfd !== undefined;
}
