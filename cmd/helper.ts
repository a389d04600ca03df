/**
 * The helper: root's part of the daemon. It does a few small things when the dispatcher asks, and
 * checks every one of them again, because the dispatcher speaks to strangers and may be corrupted.
 *
 * What it may not do: speak D-Bus, reach the network, read a profile, look at anything below a home,
 * signal a pid that it has not verified. What it trusts: its one argument, which root's own command
 * line made, and folders that only root can write.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { Strangers } from "../ipc/aside.ts";
import { Channel, type Incoming } from "../ipc/channel.ts";
import { type Fd, open, pipe, readSome, writeAll } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { listen, pair } from "../ipc/socket.ts";
import { accountOf, nameOf } from "../core/accounts.ts";
import { type Cgroup, Cgroups } from "../core/cgroup.ts";
import { pause, within } from "../core/deadline.ts";
import { groupsFor } from "../core/devices.ts";
import { dropTo, setpriv } from "../core/drop.ts";
import { AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import { openRootFolder, prepareHome } from "../core/home.ts";
import { hostLayout, hostText } from "../core/host.ts";
import {
  addJailFile,
  isLocked,
  type JailRecord,
  lockJail,
  makeJailFolder,
  readRecord,
  removeJailFolder,
  writeRecord,
} from "../core/jail-folder.ts";
import {
  changeMode,
  changeOwner,
  changeOwnerAt,
  effectiveUid,
  exists,
  leaveSessionKeyring,
  makeFolder,
  namesIn,
  openFolder,
  openLock,
  openPidfd,
  reap,
  removeFile,
  removeFolder,
  setUmask,
  signalPidfd,
  signalProcess,
  spawn,
  tryLock,
} from "../core/kernel.ts";
import { Lending, ownerOf, readAsOwner, type StandIn } from "../core/lending.ts";
import { bundlePrefix, roleCommand, roleEnvironment } from "../core/launch.ts";
import { heldBy, noLimits } from "../core/limits.ts";
import { openListener, removeListener } from "../core/listener.ts";
import { type Log, logOf, printable } from "../core/log.ts";
import { type AbsolutePath, type AppUid, appUid, parse, type ProfileName } from "../core/names.ts";
import {
  complaintFor,
  groupFor,
  type LentAt,
  passwdFor,
  planJail,
  programInJail,
} from "../core/plan.ts";
import { allPids, identify, openProcess, pidsOf, realUid } from "../core/process.ts";
import { discardScripts, programFolder, stageProgram, unstageProgram } from "../core/program.ts";
import {
  type Allocation,
  type DispatcherOptions,
  type DispatcherToHelper,
  type HelperOptions,
  helperOptions,
  type HelperToDispatcher,
  type JailerOptions,
  type JailSpec,
  type LiveJail,
  protocolVersion,
  toHelper,
} from "../core/protocol.ts";
import { bubblewrap, prlimit } from "../core/programs.ts";
import { Registry } from "../core/registry.ts";
import { begin } from "../core/role.ts";
import { filterFor } from "../core/seccomp.ts";
import { tellManager } from "../core/service.ts";
import { pulseCookieIn } from "../core/session.ts";
import { form, version } from "../core/version.ts";
import { authorityIn, x11Folder } from "../core/x11.ts";
import { Buses } from "./helper-buses.ts";
import { Conversions, type Order } from "./helper-conversions.ts";
import { Throwaways } from "./helper-throwaway.ts";
import { Vaults } from "./helper-vaults.ts";
import { JailContext } from "./helper-wayland.ts";
import { makeCookie } from "./helper-x11.ts";

const shell = "/bin/sh";

/** How long a jail may take to come up as far as its pid, and to be gone after it was killed. */
const startDeadline = 10_000;
const endDeadline = 10_000;
/** How long it may take before its home is cut off: what waits for that cannot be killed. */
const hangPatience = 2_000;

/**
 * The command in its group, or else with so many processes and threads at the most. prlimit(1). What
 * memory each may have is for the jailer to see to where there is no group: it needs more of it itself
 * than one would give a small program.
 */
function started(
  argv: readonly string[],
  { limits: { processes } }: JailSpec,
  group: Cgroup | undefined,
): { readonly path: string; readonly argv: readonly string[] } {
  const free = processes === null || group?.holds.has("processes") === true;
  const all = [
    ...group?.words ?? [],
    ...free ? [] : [prlimit, `--nproc=${processes}`, "--"],
    ...argv,
  ];
  return { path: all[0] ?? "", argv: all };
}

/** A jail that lives, and the descriptor that means its pid 1. */
interface Jail {
  readonly record: JailRecord;
  readonly pidfd: Fd;
  readonly gone: Promise<void>;
}

/**
 * Runs the helper until it is told to end. The exit status is returned.
 *
 * @param text its options, as JSON
 * @param scripts the folder of the program's own files
 */
export async function helper(text: string, scripts: string): Promise<number> {
  const options = begin(
    "helper",
    helperOptions(),
    text,
    ({ listener }) => listener ? ["socket"] : [],
  );
  if (effectiveUid() !== 0) {
    throw new AppjailError("usage", "The helper has to be root: it gives each jail a uid");
  }
  leaveSessionKeyring();
  setUmask(0o022);
  const log = logOf("helper", options.log);
  // From here on something may be made that has to be taken away again.
  const { promise: asked, resolve: leave } = Promise.withResolvers<void>();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, leave);
  }
  await using daemon = ((): Helper => {
    try {
      return new Helper(options, scripts, log);
    } finally {
      discardBundles(options.runtime_dir);
    }
  })();
  // Whatever could still be asked of the runtime is given up; the symbols that are loaded stay.
  for (const name of ["ffi", "env", "read", "write", "net", "run", "sys"] as const) {
    Deno.permissions.revokeSync({ name });
  }
  return await daemon.run(asked);
}

/** A checkout bundles itself for each start, see cmd/daemon.ts: once staged, or refused, that can go. */
function discardBundles(runtimePath: string): void {
  using runtime = openRootFolder(runtimePath, 0o755);
  for (const name of namesIn(runtime)) {
    if (!name.startsWith(bundlePrefix)) continue;
    const pid = name.slice(bundlePrefix.length);
    // Another's, who is just starting, stays.
    if (pid === String(Deno.pid) || !exists(`/proc/${pid}`)) discardScripts(runtime, name);
  }
}

class Helper implements AsyncDisposable {
  readonly #options: HelperOptions;
  readonly #log: Log;
  readonly #runtime: Fd;
  readonly #jails: Fd;
  readonly #control: Fd;
  readonly #dataRoot: Fd;
  readonly #state: Fd;
  /** Each person's own profiles: the dispatcher's folder, at which this process does not look. */
  readonly #profiles: Fd;
  readonly #shipped: Fd | undefined;
  readonly #locks: readonly Fd[];
  readonly #registry: Registry;
  readonly #listener: Fd;
  readonly #live = new Map<AppUid, Jail>();
  readonly #vaults: Vaults;
  readonly #conversions: Conversions;
  readonly #throwaways: Throwaways;
  readonly #buses: Buses;
  readonly #lending: Lending;
  readonly #cgroups: Cgroups;
  /** Why a jail is ended that nobody asked to end. */
  readonly #why = new Map<AppUid, string>();
  /** Settles when the start has come to its end, well or not. */
  readonly #starting = new Map<AppUid, Promise<void>>();
  #channel: Channel<DispatcherToHelper, HelperToDispatcher> | undefined;
  #dispatcher: number | undefined;
  #dispatcherGone: (() => void) | undefined;
  #leaving = false;

  constructor(options: HelperOptions, scripts: string, log: Log) {
    this.#options = options;
    this.#log = log;
    const { runtime_dir, state_dir, data_root } = options;
    this.#runtime = openRootFolder(runtime_dir, 0o755);
    const serving = alone(this.#runtime, "lock", `serves ${runtime_dir}`, "--runtime-dir");
    this.#state = openRootFolder(state_dir, 0o700);
    this.#dataRoot = openRootFolder(data_root, 0o711);
    this.#locks = [
      serving,
      // Each daemon writes the registry from what it remembers.
      alone(this.#state, "lock", `gives uids from ${state_dir}`, "--state-dir"),
      // With two registries, a uid's home could be made for one profile and found by another.
      alone(this.#dataRoot, ".lock", `keeps homes in ${data_root}`, "--data-root"),
    ];
    this.#listener = openListener(this.#runtime, runtime_dir, options.listener);
    this.#profiles = openProfiles(this.#state, options);
    const { shipped_profiles: shipped } = options;
    this.#shipped = shipped === null ? undefined : openFolder("root", shipped);
    this.#jails = openRootFolder(`${runtime_dir}/jails`, 0o711);
    this.#control = openRootFolder(`${runtime_dir}/ctl`, 0o711);
    this.#registry = new Registry({
      folder: this.#state,
      path: state_dir,
      dataRoot: this.#dataRoot,
      first: options.first_uid,
      last: options.last_uid,
      most: options.most_profiles,
    });
    this.#vaults = new Vaults({
      runtimePath: runtime_dir,
      dataPath: data_root,
      dataRoot: this.#dataRoot,
      state: this.#state,
      log,
      broken: (uid, why) => {
        if (!this.#live.has(uid) && !this.#starting.has(uid)) return;
        this.#why.set(uid, why);
        this.#end(uid, null).catch((error) => this.#log.info(wordsOf(error)));
      },
      turned: (uid, unlocked, note) =>
        this.#channel?.send({
          type: "home",
          uid,
          unlocked,
          note: note?.slice(0, 4096) ?? null,
        }),
    });
    this.#buses = new Buses(runtime_dir, log);
    this.#conversions = new Conversions({
      runtimePath: runtime_dir,
      dataPath: data_root,
      dataRoot: this.#dataRoot,
      state: this.#state,
      vaults: this.#vaults,
      log,
      runs: (uid) => this.#live.has(uid) || this.#starting.has(uid),
    });
    this.#throwaways = new Throwaways(this.#state, this.#conversions, log);
    this.#lending = new Lending({
      runtimePath: runtime_dir,
      jails: this.#jails,
      own: [this.#runtime, this.#state, this.#dataRoot],
      log,
    });
    this.#cgroups = new Cgroups(runtime_dir, log);
    const compiled = form === "compiled";
    stageProgram(this.#runtime, runtime_dir, compiled ? undefined : scripts);
  }

  async run(asked: Promise<void>): Promise<number> {
    Deno.addSignalListener("SIGCHLD", () => this.#reap());
    await this.#adopt();
    void this.#supervise();
    await asked;
    this.#leaving = true;
    const stays = `${this.#live.size} jail${this.#live.size === 1 ? " stays" : "s stay"}`;
    this.#log.info(
      this.#live.size === 0
        ? "leaving"
        : `leaving; ${stays} (appjail stop --all ends them, with a daemon)`,
    );
    this.#tellManager({ STOPPING: "1", STATUS: `Leaving; ${stays}` });
    return 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leaving = true;
    this.#channel?.close();
    const pid = this.#dispatcher;
    if (pid !== undefined) {
      const gone = new Promise<void>((resolve) => this.#dispatcherGone = resolve);
      // It leaves by itself when the channel ends. It is our own child and was not waited for yet,
      // so the pid cannot be another's.
      await within(gone, 3000, () => new Error("silent")).catch(async () => {
        using pidfd = openPidfd(pid);
        if (pidfd !== undefined) signalPidfd(pidfd, 9);
        await Promise.race([gone, pause(2000)]);
      });
    }
    this.#listener.close();
    // What was handed over is the service manager's, who may have another daemon serve it.
    if (!this.#options.listener) removeListener(this.#runtime);
    await this.#conversions.close(this.#runtime);
    this.#buses.close(this.#runtime);
    // A watchdog needs the program's files no more than a jail: but what is left there is found again.
    const jailsStay = this.#live.size > 0 || this.#starting.size > 0 || this.#vaults.size > 0;
    unstageProgram(this.#runtime, this.#options.runtime_dir, () => jailsStay);
    this.#vaults.close(this.#runtime);
    this.#cgroups.close();
    if (!jailsStay) {
      try {
        removeFolder(this.#runtime, "ctl");
        removeFolder(this.#runtime, "jails");
        removeFile(this.#runtime, "lock");
        // With somebody else's file in it, or as a mount of its own, it stays.
        removeFolder("root", this.#options.runtime_dir);
      } catch (error) {
        if (!isErrno(error, "ENOTEMPTY", "EBUSY")) throw error;
      }
    }
    for (const lock of this.#locks) lock.close();
  }

  #tellManager(words: Readonly<Record<string, string>>): void {
    tellManager(this.#options.notify, words, this.#log);
  }

  // --- The dispatcher ------------------------------------------------------------------------

  /** Keeps a dispatcher running: a dead one is started again, with the same listening socket. */
  async #supervise(): Promise<void> {
    let quickDeaths = 0;
    while (!this.#leaving) {
      const began = performance.now();
      try {
        await this.#serve();
      } catch (error) {
        this.#log.warn(`the dispatcher broke the rules: ${wordsOf(error)}`);
      }
      if (this.#leaving) return;
      quickDeaths = performance.now() - began < 5000 ? quickDeaths + 1 : 0;
      this.#log.warn("the dispatcher is gone; starting another");
      if (quickDeaths > 3) await pause(Math.min(5000, 250 * 2 ** (quickDeaths - 3)));
    }
  }

  async #serve(): Promise<void> {
    const { runtime_dir, dispatcher_uid, dispatcher_gid } = this.#options;
    const [ours, theirs] = pair();
    const channel = new Channel<DispatcherToHelper, HelperToDispatcher>(
      ours,
      toHelper,
      undefined,
      new Strangers(),
    );
    const gone = new Promise<void>((resolve) => this.#dispatcherGone = resolve);
    const words: DispatcherOptions = {
      bus: this.#options.bus,
      runtime_dir: this.#options.runtime_dir,
      first_uid: this.#options.first_uid,
      last_uid: this.#options.last_uid,
      linger: this.#options.linger,
      network: this.#options.network,
      shipped_profiles: this.#options.shipped_profiles,
      admin_profiles: this.#options.admin_profiles,
      log: this.#options.log,
    };
    const command = roleCommand(
      programFolder(runtime_dir),
      form === "compiled",
      "dispatcher",
      words,
    );
    {
      using nothing = open("/dev/null", 2);
      using end = theirs;
      this.#dispatcher = spawn({
        path: setpriv,
        argv: [...dropTo(dispatcher_uid, dispatcher_gid), ...command.argv],
        env: roleEnvironment,
        descriptors: [
          nothing.number,
          2,
          2,
          end.number,
          this.#listener.number,
          this.#profiles.number,
          ...this.#shipped === undefined ? [] : [this.#shipped.number],
        ],
        cwd: "/",
        session: true,
      });
    }
    try {
      channel.send({ type: "hello", role: "helper", protocol: protocolVersion, version });
      // What the dispatcher before had asked for is found by this one, alive or not at all.
      if (this.#starting.size > 0) await Promise.allSettled(this.#starting.values());
      this.#channel = channel;
      channel.send({
        type: "welcome",
        allocations: [...this.#registry.entries],
        jails: [...this.#live.values()].map(({ record }) => this.#liveOf(record)),
      });
      for (const uid of this.#live.keys()) this.#tellLends(channel, uid);
      const first = await within(
        channel.receive(),
        startDeadline,
        () => new Error("it did not say hello"),
      );
      if (first !== undefined && first.message.type !== "hello") {
        throw new Error("it said no hello");
      }
      for (let next = first; next !== undefined; next = await channel.receive()) {
        this.#handle(channel, next);
      }
    } finally {
      channel.close();
      // Those who wait for one have lost their dispatcher.
      void this.#conversions.abandon();
      const pid = this.#dispatcher;
      if (pid !== undefined) {
        using pidfd = openPidfd(pid);
        await within(gone, 2000, () => new Error("it does not end")).catch(() => {
          if (pidfd !== undefined) signalPidfd(pidfd, 9);
          return gone;
        });
      }
    }
  }

  #reap(): void {
    for (;;) {
      const child = reap();
      if (typeof child === "string") return;
      if (child.pid !== this.#dispatcher) continue;
      this.#dispatcher = undefined;
      this.#dispatcherGone?.();
    }
  }

  #handle(
    channel: Channel<DispatcherToHelper, HelperToDispatcher>,
    { message, descriptors }: Incoming<DispatcherToHelper>,
  ): void {
    const [passed] = descriptors;
    switch (message.type) {
      case "hello":
        if (message.protocol !== protocolVersion) {
          throw new AppjailError("protocol", `the dispatcher speaks protocol ${message.protocol}`);
        }
        return;
      case "ready":
        return this.#tellManager({ READY: "1", STATUS: `Serving ${this.#options.runtime_dir}` });
      case "allocate":
        return this.#answer(channel, message.id, () => {
          const uid = this.#registry.allocate(message.owner, message.profile);
          channel.send({ type: "allocated", id: message.id, uid });
        });
      case "homes":
        return this.#answer(channel, message.id, () => {
          const homes = message.uids.map((uid) => {
            this.#allocated(uid);
            return { uid, home: this.#vaults.stateOf(uid) };
          });
          channel.send({ type: "homes", id: message.id, homes });
        });
      case "unlock":
        return this.#answer(channel, message.id, async () => {
          using pipe = passed;
          const { uid } = this.#allocated(message.uid);
          if (pipe === undefined) throw new AppjailError("protocol", "no pipe came along");
          this.#conversions.settle(uid);
          await this.#vaults.unlock(uid, pipe);
          channel.send({ type: "unlocked", id: message.id });
        });
      case "keep":
        return this.#answer(channel, message.id, () => {
          this.#vaults.keep(this.#allocated(message.uid).uid, message.until);
          channel.send({ type: "kept", id: message.id });
        });
      case "lock":
        return this.#answer(channel, message.id, async () => {
          const { uid, profile } = this.#allocated(message.uid);
          if (this.#live.has(uid) || this.#starting.has(uid)) {
            throw new AppjailError("vault-failed", `Cannot lock the home of "${profile}": it runs`);
          }
          this.#conversions.refuse(uid);
          const problem = await this.#vaults.lock(uid) ?? await this.#discard(uid);
          channel.send({ type: "locked", id: message.id, problem });
        });
      case "conversion":
        return this.#answer(channel, message.id, () => {
          const left = this.#conversions.left(this.#allocated(message.uid).uid);
          channel.send({ type: "conversion", id: message.id, left });
        });
      case "convert":
        return this.#answer(channel, message.id, async () => {
          const { id, what, kind } = message;
          const order = this.#order(channel, message, descriptors);
          const copied = await this.#conversions.convert(order, what, kind, descriptors);
          channel.send({ type: "converted", id, ...copied });
        });
      case "settle":
        return this.#answer(channel, message.id, async () => {
          const order = this.#order(channel, message);
          const kept = await this.#conversions.decide(order, message.keep);
          channel.send({ type: "settled", id: message.id, kept });
        });
      case "passwd":
        return this.#answer(channel, message.id, async () => {
          const order = this.#order(channel, message, descriptors);
          if (passed === undefined) throw new AppjailError("protocol", "no pipe came along");
          await this.#conversions.changePassphrase(order, passed);
          channel.send({ type: "changed", id: message.id });
        });
      case "measure":
        return this.#answer(channel, message.id, async () => {
          const { id } = message;
          const { files, bytes } = await this.#conversions.measure(this.#order(channel, message));
          channel.send({ type: "measured", id, files, bytes });
        });
      case "remove":
        return this.#answer(channel, message.id, async () => {
          const { id, uid } = message;
          const remains = await this.#conversions.remove(this.#order(channel, message));
          // Nothing was awaited since it was looked: nothing can have come about.
          if (remains.length === 0) this.#registry.free(uid);
          this.#throwaways.forget(uid);
          this.#log.info(`home ${uid} is removed${remains.length > 0 ? `, but ${remains}` : ""}`);
          channel.send({ type: "removed", id, remains: [...remains] });
        });
      case "cancel":
        return this.#conversions.cancel(message.uid, message.id);
      case "lend":
        return this.#answer(channel, message.id, async () => {
          const { type: _, id, uid, ...wanted } = message;
          this.#running(uid);
          await this.#lending.lend(uid, wanted);
          channel.send({ type: "lent", id });
        });
      case "unlend":
        return this.#answer(channel, message.id, () => {
          this.#running(message.uid);
          this.#lending.unlend(message.uid, message.name);
          channel.send({ type: "unlent", id: message.id });
        });
      case "start":
        return this.#answer(
          channel,
          message.id,
          () => this.#start(channel, message.id, message.uid, message.spec),
        );
      case "end":
        return this.#answer(channel, message.id, () => this.#end(message.uid, message.jail));
      default:
        return message satisfies never;
    }
  }

  /** A piece of work on a home, for a uid that was given. The descriptors are closed otherwise. */
  #order(
    channel: Channel<DispatcherToHelper, HelperToDispatcher>,
    { id, uid }: Order,
    descriptors: readonly Fd[] = [],
  ): Order {
    try {
      this.#allocated(uid);
      return { id, uid, tell: (words) => channel.send({ type: "progress", id, ...words }) };
    } catch (error) {
      for (const fd of descriptors) fd.close();
      throw error;
    }
  }

  /** Does what was asked; whatever goes wrong is the answer. */
  #answer(
    channel: Channel<DispatcherToHelper, HelperToDispatcher>,
    id: number,
    work: () => void | Promise<void>,
  ): void {
    const refuse = (thrown: unknown): void => {
      const error = asAppjailError(thrown);
      this.#log.info(`refused: ${error.forLog}`, { code: error.code });
      this.#log.debug(error.message);
      channel.send({
        type: "refused",
        id,
        code: error.code,
        message: error.message.slice(0, 4096),
      });
    };
    try {
      const pending = work();
      if (pending instanceof Promise) pending.catch(refuse);
    } catch (error) {
      refuse(error);
    }
  }

  /** The owner and profile of a uid. Nothing is done for a uid that was never given. */
  #allocated(uid: AppUid): ReturnType<Registry["of"]> & object {
    const entry = this.#registry.of(uid);
    if (entry === undefined) {
      throw new AppjailError("denied", `uid ${uid} was given to no profile`);
    }
    return entry;
  }

  /** Makes sure that a jail of a uid that was given runs. */
  #running(uid: AppUid): void {
    const { profile } = this.#allocated(uid);
    if (this.#live.has(uid)) return;
    throw new AppjailError("lend-refused", `Cannot lend anything to "${profile}": it does not run`);
  }

  #tellLends(channel: Channel<DispatcherToHelper, HelperToDispatcher>, uid: AppUid): void {
    const lends = this.#lending.of(uid);
    if (lends.length > 0) channel.send({ type: "lends", uid, lends: [...lends] });
  }

  #liveOf(record: JailRecord): LiveJail {
    return {
      uid: record.uid,
      pid: record.pid,
      started: record.started,
      jail: `${record.pid}-${record.start_time}`,
      encrypted: this.#vaults.has(record.uid),
      limits: record.limits ?? noLimits,
    };
  }

  // --- Jails ---------------------------------------------------------------------------------

  async #start(
    channel: Channel<DispatcherToHelper, HelperToDispatcher>,
    id: number,
    uid: AppUid,
    spec: JailSpec,
  ): Promise<void> {
    const entry = this.#allocated(uid);
    const failed = (why: string): AppjailError =>
      new AppjailError("start-failed", `Cannot start jail "${entry.profile}": ${why}`);
    if (this.#live.has(uid) || this.#starting.has(uid)) throw failed("it runs already");
    for (const [path, name] of [[setpriv, "util-linux"], [bubblewrap, "bubblewrap"]] as const) {
      if (!exists(path)) throw failed(`${path} is not installed; try: apt install ${name}`);
    }
    try {
      this.#conversions.settle(uid);
    } catch (error) {
      const { code, message } = asAppjailError(error);
      throw new AppjailError(code, `Cannot start jail "${entry.profile}": ${message}`);
    }
    const starting = this.#launch(channel, id, entry, spec, failed);
    this.#starting.set(uid, starting);
    try {
      await starting;
    } finally {
      this.#starting.delete(uid);
    }
  }

  async #launch(
    channel: Channel<DispatcherToHelper, HelperToDispatcher>,
    id: number,
    allocation: Allocation,
    spec: JailSpec,
    failed: (why: string) => AppjailError,
  ): Promise<void> {
    const { uid, owner, profile } = allocation;
    const [passwd, groupFile] = [hostText("/etc/passwd"), hostText("/etc/group")];
    // The registry asked when it gave the uid; useradd(8) knows nothing of the registry.
    const since = nameOf(passwd, uid) ?? nameOf(groupFile, uid);
    if (since !== undefined) {
      throw failed(`its uid ${uid} has become "${since}" on this machine; give that another`);
    }
    // One in memory takes the place of the one on the disk, which may be locked, or not be there.
    const kept = spec.home === "persistent";
    const problem = await this.#discard(uid);
    if (kept && problem !== null) throw failed(problem);
    if (kept) prepareHome(this.#dataRoot, uid);
    const home = kept ? this.#vaults.homeFor(uid, profile) : "";
    const shown = spec.same_uid ? owner : uid;
    const runtimeJails = `${this.#options.runtime_dir}/jails`;
    let promised = false;
    try {
      using folder = makeJailFolder(this.#jails, uid, {
        passwd: passwdFor(passwd, profile, shown),
        group: groupFor(groupFile, profile, shown),
        // machine-id(5) asks that the real one is not shown around. Its like, one for each uid.
        "machine-id": await machineId(uid),
        none: "",
      });
      using lock = lockJail(folder);
      if (lock === undefined) throw failed("an earlier one has not ended yet");
      if (spec.autodelete && kept) {
        promised = this.#throwaways.promise(uid);
      }
      using context = new JailContext(allocation, spec, folder, this.#log);
      const lent = await this.#lendFirst(allocation, spec, context.standIn, failed);
      if (kept) this.#vaults.guard(uid, folder);
      const socket = `${uid}.sock`;
      removeFile(this.#control, socket);
      using listener = listen(`${this.#options.runtime_dir}/ctl/${socket}`);
      changeOwnerAt(this.#control, socket, this.#options.dispatcher_uid, 0);
      const account = accountOf(passwd, owner);
      const toOwner = dropTo(owner, account?.gid ?? owner);
      const { x11 } = spec;
      const cookie = x11 === null || !lent.some(({ at }) => at === `${x11Folder}/X${x11.number}`)
        ? undefined
        : await makeCookie(
          { profile, x11, home: account?.home, drop: toOwner, scratch: runtimeJails },
          failed,
          this.#log,
        );
      const seen: { readonly name: string; readonly at: string }[] = [];
      const show = (name: string, bytes: Uint8Array<ArrayBuffer> | undefined, at: string): void => {
        if (bytes === undefined) return;
        addJailFile(folder, uid, name, bytes);
        seen.push({ name, at });
      };
      show("xauthority", cookie, authorityIn(shown));
      const heard = lent.some(({ name }) => name === ".pulse");
      const pulse = heard ? pulseCookieOf(owner, spec.pulse_cookie) : undefined;
      show("pulse-cookie", pulse, pulseCookieIn(shown));
      const proxy = await this.#buses.start(allocation, spec.buses, toOwner, folder);
      using _hold = proxy?.hold;
      // They end with the jail, which alone has them from then on.
      const held = [proxy?.hold, context.hold].filter((one) => one !== undefined);
      const group = this.#cgroups.make(uid, spec.limits);
      const info = pipe({ nonblocking: true });
      using infoRead = info.read;
      const words = pipe();
      const filter = spec.seccomp === "none" ? undefined : pipe();
      const errors = pipe();
      const said = this.#tell(
        profile,
        errors.read,
        (words) => complaintFor(words, { profile, home, lent }),
      );
      const runtime = this.#options.runtime_dir;
      {
        using infoWrite = info.write;
        using wordsRead = words.read;
        using wordsWrite = words.write;
        using filterRead = filter?.read;
        if (filter !== undefined && spec.seccomp !== "none") {
          using filterWrite = filter.write;
          writeAll(filterWrite.number, filterFor(spec.seccomp));
        }
        using errorsWrite = errors.write;
        using nothing = open("/dev/null", 0);
        // Most jails have none, and need no account looked up for it.
        const groups = spec.devices.length === 0 ? [] : groupsFor(spec.devices, ownerOf(owner));
        // What bubblewrap takes for itself comes after what it passes on to the jailer.
        const first = 5 + held.length;
        const jailer: JailerOptions = {
          profile,
          uid: shown,
          session_bus: spec.buses.session,
          groups: groups.length,
          memory: group?.holds.has("memory") === true ? null : spec.limits.memory,
          pipes: held.length,
        };
        writeAll(
          wordsWrite.number,
          new TextEncoder().encode(
            planJail({
              profile,
              uid: shown,
              spec,
              lent,
              host: hostLayout(),
              program: programFolder(runtime),
              home,
              files: `${runtime}/jails/${uid}`,
              infoFd: first + 1,
              seccompFd: filterRead === undefined ? undefined : first + 2,
              proxy,
              seen,
            }).map((word) => word + "\0").join(""),
          ),
        );
        const command = roleCommand(programInJail, form === "compiled", "jailer", jailer);
        const bubbler = spawn({
          ...started(
            [
              ...dropTo(uid, uid, groups),
              bubblewrap,
              "--args",
              String(first),
              "--",
              ...command.argv,
            ],
            spec,
            group,
          ),
          env: roleEnvironment,
          descriptors: [
            nothing.number,
            errorsWrite.number,
            errorsWrite.number,
            listener.number,
            lock.number,
            ...held.map(({ number }) => number),
            wordsRead.number,
            infoWrite.number,
            ...filterRead === undefined ? [] : [filterRead.number],
          ],
          cwd: "/",
          session: true,
        });
        // It starts nothing before it has read its words to their end.
        joinGroup(group, bubbler);
      }
      // Before: the first program is already told of what it was lent, and comes as soon as it can.
      this.#tellLends(channel, uid);
      channel.send({ type: "starting", id });
      // Ours are closed now: from here on the lock and the socket live and die with the jail.
      listener.close();
      lock.close();
      const text = await within(
        readToEnd(infoRead),
        startDeadline,
        () => failed("bubblewrap does not come up"),
      );
      const pid = /"child-pid": (\d+)/.exec(text)?.[1];
      const identity = pid === undefined ? undefined : identify(Number(pid));
      const record: JailRecord | undefined = identity && {
        version: 1,
        uid,
        owner,
        profile,
        pid: identity.pid,
        start_time: identity.startTime,
        pid_namespace: identity.pidNamespace,
        started: Date.now(),
        limits: heldBy(spec.limits, group?.holds ?? new Set()),
      };
      const pidfd = record && verified(record);
      if (record === undefined || pidfd === undefined) {
        const why = await Promise.race([said.first, pause(1000)]);
        throw failed(why ?? "bubblewrap ended before the program began");
      }
      try {
        writeRecord(folder, record);
      } catch (error) {
        pidfd.close();
        throw error;
      }
      this.#watch(record, pidfd, said.first);
      channel.send({ type: "started", id, live: this.#liveOf(record) });
    } catch (error) {
      await this.#sweep(uid).catch((more) => this.#log.info(wordsOf(more)));
      // Nothing has used the home.
      if (promised) this.#throwaways.forget(uid);
      throw error;
    }
  }

  async #lendFirst(
    allocation: Allocation,
    spec: JailSpec,
    standIn: StandIn | undefined,
    failed: (why: string) => AppjailError,
  ): Promise<readonly LentAt[]> {
    try {
      return await this.#lending.begin(allocation, spec, standIn);
    } catch (error) {
      throw failed(wordsOf(error));
    }
  }

  /** Passes on what a jail's own parts complain of; `first` is the first of it, in `words`. */
  #tell(
    profile: string,
    errors: Fd,
    words: (complaint: string) => string,
  ): { readonly first: Promise<string | undefined> } {
    const { promise: first, resolve } = Promise.withResolvers<string | undefined>();
    void (async () => {
      using end = errors;
      const decoder = new TextDecoder();
      const buffer = new Uint8Array(4096);
      let rest = "";
      for (;;) {
        await poller.readable(end.number);
        const count = readSome(end.number, buffer);
        if (count === undefined) continue;
        if (count === 0) break;
        const lines = (rest + decoder.decode(buffer.subarray(0, count), { stream: true }))
          .split("\n");
        rest = (lines.pop() ?? "").slice(-4096);
        for (const line of lines) {
          resolve(words(printable(line)));
          this.#log.info(`jail ${profile}: ${line}`, { profile });
        }
      }
      resolve(rest === "" ? undefined : words(printable(rest)));
    })();
    return { first };
  }

  /**
   * Takes a jail into care: from here on its end is seen.
   *
   * @param complaint the first words of its own parts, where they can be heard
   */
  #watch(
    record: JailRecord,
    pidfd: Fd,
    complaint: Promise<string | undefined> = Promise.resolve(undefined),
  ): void {
    // A pidfd is readable when its process has ended. pidfd_open(2).
    const gone = poller.readable(pidfd.number).then(() => pidfd.close());
    this.#live.set(record.uid, { record, pidfd, gone });
    void gone.then(() => this.#gone(record, complaint));
  }

  async #gone(record: JailRecord, complaint: Promise<string | undefined>): Promise<void> {
    let problem: string | null = null;
    try {
      await this.#sweep(record.uid);
    } catch (error) {
      problem = wordsOf(error);
      this.#log.info(`jail ${record.profile}: ${problem}`);
    }
    const why = this.#why.get(record.uid) ?? null;
    this.#why.delete(record.uid);
    let note: string | null = null;
    if (this.#vaults.has(record.uid)) {
      this.#channel?.send({ type: "locking", uid: record.uid, why });
      try {
        note = await this.#vaults.jailGone(record.uid);
      } catch (error) {
        problem ??= wordsOf(error);
      }
    }
    this.#live.delete(record.uid);
    // As long as this is under way nobody is told that it has ended, and nobody starts it again.
    problem ??= await this.#discard(record.uid);
    const said = await within(complaint, 1000, () => new Error("it is not at its end"))
      .catch(() => undefined) ?? null;
    this.#channel?.send({ type: "ended", uid: record.uid, problem, said, why, note });
  }

  /**
   * Deletes the home of a jail that is gone, if that was promised. One that somebody keeps unlocked they
   * have not done with: it is deleted when they lock it.
   *
   * @returns what is in the way
   */
  async #discard(uid: AppUid): Promise<string | null> {
    return this.#vaults.has(uid) ? null : await this.#throwaways.keep(uid);
  }

  /** @param life the one that is meant; null: the one that there is, or that is being started */
  async #end(uid: AppUid, life: string | null): Promise<void> {
    const { profile } = this.#allocated(uid);
    await this.#starting.get(uid)?.catch(() => {});
    const jail = this.#live.get(uid);
    // It has ended by itself, and that was told.
    if (jail === undefined || (life !== null && life !== this.#liveOf(jail.record).jail)) return;
    // Killing pid 1 of a pid namespace kills all that is in it. pid_namespaces(7).
    if (!jail.pidfd.closed) signalPidfd(jail.pidfd, 9);
    // Who waits for a home that does not answer cannot be killed before it is cut off.
    const dead = Promise.race([jail.gone.then(() => true), pause(hangPatience).then(() => false)]);
    void dead.then((ended) => ended || this.#vaults.cutOff(uid));
    await within(
      jail.gone,
      endDeadline,
      () => new AppjailError("no-answer", `Jail "${profile}" was killed and does not end`),
    );
  }

  /** Ends and removes whatever is left of a jail whose pid 1 is gone or was never verified. */
  async #sweep(uid: AppUid): Promise<void> {
    const limit = performance.now() + endDeadline;
    // What the dead bubblewrap leaves behind takes a moment; what still runs after it is killed by
    // the uid itself, which is this jail's alone. What is yet to become the uid has the lock.
    const lives = (): boolean => pidsOf(uid).length > 0 || isLocked(this.#jails, uid);
    for (let turn = 0; lives(); turn++) {
      if (turn > 3) this.#killAll(uid);
      if (performance.now() > limit) {
        throw new AppjailError("no-answer", `Processes of uid ${uid} do not end: ${pidsOf(uid)}`);
      }
      await pause(Math.min(50, 2 ** turn));
    }
    removeFile(this.#control, `${uid}.sock`);
    this.#lending.clear(uid);
    removeJailFolder(this.#jails, uid);
    this.#buses.clear(uid);
    this.#cgroups.remove(uid);
  }

  /** Kills every process of a uid in one stroke, as that uid. kill(2): pid -1. */
  #killAll(uid: AppUid): void {
    const person = nameOf(hostText("/etc/passwd"), uid);
    if (person !== undefined) {
      throw new AppjailError(
        "denied",
        `uid ${uid} has become "${person}" on this machine: what runs as it is left alone`,
      );
    }
    using nothing = open("/dev/null", 2);
    spawn({
      path: setpriv,
      argv: [...dropTo(uid, uid), shell, "-c", "kill -KILL -1"],
      env: roleEnvironment,
      descriptors: [nothing.number, nothing.number, nothing.number],
      cwd: "/",
      session: true,
    });
  }

  /** Finds the jails that an earlier daemon left: live ones are taken over, dead ones swept. */
  async #adopt(): Promise<void> {
    // First: a jail whose home is gone has to end with it.
    await this.#vaults.adopt();
    this.#conversions.adopt([...this.#registry.entries].map(({ uid }) => uid));
    const dead = new Map<AppUid, ProfileName>();
    for (const name of namesIn(this.#jails)) {
      const uid = parse(appUid, Number(name));
      const entry = "value" in uid ? this.#registry.of(uid.value) : undefined;
      if ("wrong" in uid || entry === undefined) {
        this.#log.info(`jails/${name} belongs to no profile and is left alone`);
        continue;
      }
      try {
        const record = this.#recordOf(uid.value);
        const whole = typeof record !== "string" && record.owner === entry.owner &&
          record.profile === entry.profile;
        const pidfd = whole ? verified(record) : undefined;
        if (whole && pidfd !== undefined) {
          this.#lending.adopt(entry);
          using folder = openFolder(this.#jails, name);
          this.#buses.adopt(entry.profile, folder);
          this.#watch(record, pidfd);
          this.#log.info(
            `jail ${entry.profile} of uid ${entry.owner} still runs, pid ${record.pid}`,
          );
          continue;
        }
        this.#log.info(
          `jail ${entry.profile} of uid ${entry.owner} is swept` +
            (typeof record === "string" ? `: ${record}` : ""),
        );
        dead.set(uid.value, entry.profile);
      } catch (error) {
        this.#log.info(`jail ${entry.profile} cannot be looked at: ${wordsOf(error)}`);
      }
    }
    // What runs under a profile's uid and in no jail of ours: its runtime folder was lost, or another
    // was given. The next jail would share a home with it.
    const running = new Set(allPids().map(realUid));
    for (const { uid, owner, profile } of this.#registry.entries) {
      if (!running.has(uid) || this.#live.has(uid) || dead.has(uid)) continue;
      this.#log.info(
        `what runs as uid ${uid}, "${profile}" of uid ${owner}, is in no jail and ends`,
      );
      dead.set(uid, profile);
    }
    // Each is a wait for the most part.
    await Promise.all([...dead].map(async ([uid, profile]) => {
      try {
        await this.#sweep(uid);
      } catch (error) {
        this.#log.info(`jail ${profile} cannot be swept: ${wordsOf(error)}`);
      }
    }));
    // In the background: a home may have a million files.
    void this.#throwaways.adopt((uid) => this.#live.has(uid));
    // Sockets of jails that never came as far as a folder.
    for (const name of namesIn(this.#control)) {
      const live = [...this.#live.keys()].some((uid) => name === `${uid}.sock`);
      if (!live) removeFile(this.#control, name);
    }
  }

  #recordOf(uid: AppUid): JailRecord | string {
    let folder: Fd;
    try {
      folder = openFolder(this.#jails, String(uid));
    } catch {
      return "it has no folder";
    }
    using open = folder;
    using lock = lockJail(open);
    return lock === undefined ? readRecord(open, uid) : "nothing of it runs";
  }
}

/** Takes the one lock of a folder that at most one daemon may use. */
function alone(folder: Fd, name: string, what: string, flag: string): Fd {
  const lock = openLock(folder, name);
  if (tryLock(lock)) return lock;
  throw new AppjailError(
    "usage",
    `Another daemon ${what} already; stop it first, or give this one another ${flag}`,
  );
}

/**
 * The folder of people's own profiles, in root's state folder, for the dispatcher: it is handed over
 * open, for nobody else can reach it.
 */
function openProfiles(
  state: Fd,
  { dispatcher_uid, dispatcher_gid }: Pick<HelperOptions, "dispatcher_uid" | "dispatcher_gid">,
): Fd {
  makeFolder(state, "profiles", 0o700);
  const folder = openFolder(state, "profiles");
  changeOwner(folder, dispatcher_uid, dispatcher_gid);
  changeMode(folder, 0o700);
  return folder;
}

/** Moves a child of ours into its group; one that cannot be moved ends. */
function joinGroup(group: Cgroup | undefined, child: number): void {
  try {
    group?.enter(child);
  } catch (error) {
    // It was not waited for yet: the pid cannot be another's.
    signalProcess(child, 9);
    throw error;
  }
}

/** The pid 1 of a jail, or `undefined` when the record is not, or no longer, about one. */
function verified({ uid, pid, start_time, pid_namespace }: JailRecord): Fd | undefined {
  return openProcess({ pid, startTime: start_time, pidNamespace: pid_namespace }, uid);
}

/** 32 hexadecimal digits that differ for each uid and do not tell the host's. machine-id(5). */
async function machineId(uid: AppUid): Promise<string> {
  const secret = new TextEncoder().encode(`appjail ${uid} ${hostText("/etc/machine-id")}`);
  const digest = await crypto.subtle.digest("SHA-256", secret);
  return new Uint8Array(digest).toHex().slice(0, 32) + "\n";
}

/** The cookie of an owner who has one: 256 bytes, that libpulse's PA_NATIVE_COOKIE_LENGTH says. */
function pulseCookieOf(
  owner: number,
  path: AbsolutePath | null,
): Uint8Array<ArrayBuffer> | undefined {
  const length = 256;
  const bytes = path === null ? undefined : readAsOwner(owner, path, length + 1);
  return bytes?.length === length ? bytes : undefined;
}

/** Everything that comes through a pipe until its writers are gone, or a whole JSON object. */
async function readToEnd(end: Fd): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(4096);
  for (let text = "";;) {
    const count = readSome(end.number, buffer);
    if (count === undefined) {
      await poller.readable(end.number);
      continue;
    }
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
    if (count === 0 || text.trimEnd().endsWith("}")) return text;
  }
}
