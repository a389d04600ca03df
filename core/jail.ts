/**
 * One jail as the dispatcher keeps it: its life, the conversation with its jailer, and everybody
 * who waits for something in it. All requests for a jail go through its one object, so that N first
 * requests make one jail.
 *
 * @module
 */
import type { Channel } from "../ipc/channel.ts";
import type { Fd } from "../ipc/fd.ts";
import { abridgeAll } from "./abridge.ts";
import { after, pause, within } from "./deadline.ts";
import { homeOf } from "./environment.ts";
import { AppjailError, asAppjailError, wordsOf } from "./errors.ts";
import type { Ended, HelperLink } from "./helper-link.ts";
import { noLimits } from "./limits.ts";
import { type Life, type LifeAction, type LifeEvent, next } from "./life.ts";
import type { Log } from "./log.ts";
import type {
  AbsolutePath,
  Environment,
  LendName,
  OwnerUid,
  ProfileName,
  ProgramName,
  SignalName,
} from "./names.ts";
import type { Settings } from "./profile.ts";
import {
  type Allocation,
  type DispatcherToJailer,
  type Event,
  type ExitStatus,
  type HomeState,
  type JailerToDispatcher,
  type JailReport,
  type JailSpec,
  type Lendable,
  type Lent,
  type LiveJail,
  type OutputLine,
  type ProgramReport,
  protocolVersion,
  type VolumeKind,
} from "./protocol.ts";
import { OutputRing } from "./ring.ts";
import {
  desktopEnvironment,
  noSession,
  type Session,
  windowsBy,
  type WindowWay,
} from "./session.ts";
import { shownUid, specOf } from "./spec.ts";

/**
 * How long a jailer may take to answer: to be up, to start a program, to report. It takes
 * milliseconds, but for a machine that starts fifty jails at once; a caller on D-Bus gives up after
 * 25 seconds.
 */
const upDeadline = 20_000;
const execDeadline = 20_000;
const reportDeadline = 2_000;
/** How long after a jailer has hung up the conversation is opened again, if the jail still lives. */
const returnDelay = 1_000;
/** How long a jailer that was told to leave may take. */
const leaveDeadline = 3_000;
/** And how long the helper may take to end one by force, and to lock a home that does not answer. */
const endDeadline = 40_000;
/**
 * How long an idle jail whose home is encrypted stays at most: encfs takes two seconds more to leave,
 * and nobody is to find the home open five seconds after the last program.
 */
const encryptedLinger = 2_000;
/** How often a passphrase may be wrong before the request has failed. */
const tries = 3;
/** How many ends of programs are remembered for a client that comes back. */
const exitsMost = 1024;
const ringSize = 256 * 1024;
/** How long a file stays that a program was lent which has ended, while others run. */
const handedOver = 60_000;
/** The longest wait at a time, in milliseconds: the clock may be set meanwhile. */
const longestWait = 60_000;

export type JailerChannel = Channel<JailerToDispatcher, DispatcherToJailer>;

/** Each of a union without some of its fields. */
type Less<E, K extends PropertyKey> = E extends unknown ? Omit<E, K> : never;

/** What has happened; who keeps it says when, and in which order. */
export type Happening = Less<Event, "sequence" | "at">;

/** What has happened to one jail. */
type OwnHappening = Less<Happening, "owner" | "profile" | "uid">;

/** Who watches jails. */
export interface Witness {
  /** Something has happened that its owner may want to know. */
  readonly tell: (happening: Happening) => void;
  /** Its state is another, or what runs in it. */
  readonly changed: (jail: Jail) => void;
  /** A passphrase was wrong. */
  readonly wrong: (allocation: Allocation) => void;
  /** A program runs. @param took how long that took, in milliseconds; undefined: it cannot be told */
  readonly ran: (allocation: Allocation, joined: boolean, took: number | undefined) => void;
}

/** What a jail needs of the dispatcher around it. */
export interface JailWorld {
  readonly helper: HelperLink;
  readonly connect: (allocation: Allocation) => JailerChannel;
  readonly profiles: Profiles;
  /** What the daemon lets jails have; see core/spec.ts. */
  readonly network: JailSpec["network"];
  /** How long it stays when it is idle, in milliseconds. */
  readonly linger: number;
  readonly version: string;
  readonly log: Log;
  readonly witness: Witness;
}

/** What profiles say; core/profile-store.ts has them. */
export interface Profiles {
  /** @throws {AppjailError} when something is wrong with it */
  readonly settings: (owner: OwnerUid, profile: ProfileName) => Settings;
  /** Whether anybody has written it. */
  readonly has: (owner: OwnerUid, profile: ProfileName) => boolean;
  /** Those that a command finds. */
  readonly finders: (owner: OwnerUid, command: string) => readonly ProfileName[];
}

type Exec = Extract<DispatcherToJailer, { readonly type: "exec" }>;

/** Asks whoever wants something for the passphrase of a home. The pipe in which it comes is given away. */
export type Ask = (wanted: {
  readonly profile: ProfileName;
  readonly kind: VolumeKind;
  /** How many were wrong already. */
  readonly tries: number;
}) => Promise<Fd>;

/** A program to be started, with its descriptors if the caller gave any. */
export interface Program extends Omit<Exec, "type" | "id" | "before" | "argv"> {
  readonly argv: readonly string[];
  /** What was asked for by name: it holds over what the profile says. */
  readonly env: Environment;
  /** What the caller's own environment has of the allow-list: the profile's holds over it. */
  readonly inherited?: Environment;
  readonly descriptors: readonly Fd[];
  /** What the caller's environment says of their desktop, where it is known. */
  readonly session?: Session;
  /** Files that it names, to be lent while it runs. */
  readonly lend?: readonly LentWord[];
}

/** A word of a command that names a file of its owner's. */
export interface LentWord {
  readonly word: number;
  readonly name: LendName;
  readonly path: AbsolutePath;
}

/** A program that was started, and its end. */
export interface Started {
  readonly program: ProgramName;
  /** Names this life of the jail. */
  readonly jail: string;
  readonly cwd: ProgramReport["cwd"];
  /** The jail was there, or about to be. */
  readonly joined: boolean;
  /** The other end of its terminal, which the caller now owns. */
  readonly master: Fd | undefined;
  readonly exited: Promise<ExitStatus>;
}

/** Whoever has a program in front of them. */
export interface Companion {
  /** The program has stopped. */
  readonly suspended: () => void;
  /** Another has taken its terminal over. */
  readonly detached: () => void;
  /** The jail ends, for this reason. */
  readonly ending: (why: string) => void;
}

/** How a stop went. */
export interface Stopped {
  readonly killed: number;
  readonly problem: string | null;
  /** What else is worth to be known. */
  readonly note: string | null;
}

interface Awaited<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** A way into a jail. */
interface Entered {
  readonly channel: JailerChannel;
  /** It was there, or about to be, for somebody else. */
  readonly joined: boolean;
  /** It was about to be. */
  readonly together: boolean;
}

/** What the jailer answered to a request for a program. */
interface Answered {
  readonly report: ProgramReport | undefined;
  readonly master: Fd | undefined;
}

type Reported = Extract<JailerToDispatcher, { readonly type: "reported" }>;

/** One jail. */
export class Jail {
  readonly allocation: Allocation;
  readonly output = new OutputRing(ringSize);
  readonly #world: JailWorld;
  readonly #listeners = new Set<(line: OutputLine) => void>();
  readonly #programs = new Map<ProgramName, ProgramReport>();
  readonly #exits = new Map<ProgramName, ExitStatus>();
  readonly #waiters = new Map<ProgramName, Set<(status: ExitStatus) => void>>();
  readonly #execs = new Map<number, Awaited<Answered>>();
  readonly #companions = new Map<ProgramName, Companion>();
  readonly #reports = new Map<number, Awaited<Reported>>();
  /** Those with which this life of it was started; unknown for one of an earlier dispatcher. */
  #settings: Settings | undefined;
  /** Of whoever has started it. */
  #session: Session = noSession;
  #life: Life = "absent";
  #live: LiveJail | undefined;
  #since = 0;
  #channel: JailerChannel | undefined;
  #conversation: Promise<void> = Promise.resolve();
  #connected = Promise.withResolvers<JailerChannel>();
  #up = Promise.withResolvers<void>();
  /** The helper has said that it runs: earlier it cannot be lent anything. */
  #launched = Promise.withResolvers<void>();
  #gone = Promise.withResolvers<Pick<Stopped, "problem" | "note">>();
  #failure: AppjailError | undefined;
  #stopping: Promise<Stopped> | undefined;
  /** Ends the time for which an idle jail stays. */
  #stay = (): void => {};
  #idle = Promise.withResolvers<void>();
  /** The jailer has said that nothing runs, and was asked for nothing since. */
  #quiet = false;
  /** The jailer has hung up, and has not been heard again since. */
  #returning = false;
  /** Somebody is being asked for the passphrase; tells whether the home was unlocked. */
  #unlocking: Promise<boolean> | undefined;
  #id = 0;
  /** What it has been lent, and what ends the wait until that is taken back. */
  readonly #lends = new Map<LendName, { readonly lent: Lent; readonly cancel: () => void }>();
  /** Names by which something is about to be lent. */
  readonly #promised = new Set<LendName>();
  /** It was seen to be up, and not to end. */
  #seenUp = false;
  /** An earlier dispatcher has started it. */
  #adopted = false;
  /** Why it ends, as far as that is known. */
  #ending: Extract<Event, { readonly event: "jail-stopped" }>["reason"] = "lost";
  /** Requests between their arrival and their answer: while there are any, the jail stays. */
  #asking = 0;
  #seen = 0;

  constructor(allocation: Allocation, world: JailWorld) {
    this.allocation = allocation;
    this.#world = world;
  }

  get life(): Life {
    return this.#life;
  }

  /** What is known of it without asking it. */
  get now(): {
    readonly pid: number | undefined;
    readonly started: number;
    readonly encrypted: boolean;
    readonly programs: readonly ProgramName[];
  } {
    return {
      pid: this.#live?.pid,
      started: this.#live?.started ?? this.#since,
      encrypted: this.#live?.encrypted ?? false,
      programs: [...this.#programs.keys()],
    };
  }

  get #linger(): number {
    const own = this.#inForce()?.linger ?? null;
    const linger = own === null ? this.#world.linger : Math.round(own * 1000);
    return this.#live?.encrypted === true ? Math.min(linger, encryptedLinger) : linger;
  }

  get #title(): string {
    return `jail "${this.allocation.profile}"`;
  }

  /** The settings of the jail that there is, as far as they can be told. */
  #inForce(): Settings | undefined {
    if (this.#settings !== undefined) return this.#settings;
    const { owner, profile } = this.allocation;
    try {
      return this.#world.profiles.settings(owner, profile);
    } catch {
      // It runs all the same; whoever starts it next is told.
      return undefined;
    }
  }

  /** The variables that tell programs of what the jail has of its owner's desktop. */
  #desktop(settings: Settings | undefined): Readonly<Record<string, string>> {
    if (settings === undefined) return {};
    const lends = [...this.#lends.values()].map(({ lent }) => lent);
    return desktopEnvironment(lends, shownUid(this.allocation, settings));
  }

  /** By what its programs can show windows. */
  get windows(): WindowWay | null {
    return windowsBy([...this.#lends.values()].map(({ lent }) => lent));
  }

  /** Whether the profile says something else by now than when the jail was started. */
  get changed(): boolean {
    if (this.#life === "absent" || this.#settings === undefined) return false;
    const { owner, profile } = this.allocation;
    try {
      return jailOf(this.#world.profiles.settings(owner, profile)) !== jailOf(this.#settings);
    } catch {
      return true;
    }
  }

  // --- Requests ------------------------------------------------------------------------------

  /**
   * Starts a program, and the jail before it where there is none.
   *
   * @param ask for the passphrase of a home that is locked; without it, that is the failure
   */
  async run(program: Program, ask?: Ask): Promise<Started> {
    this.#asking++;
    const names: LendName[] = [];
    // Whoever starts the jail has it on their desktop.
    if (this.#life === "absent") this.#session = program.session ?? noSession;
    try {
      const { channel, joined, together, since } = await this.#enterUnlocked(ask);
      const { descriptors, lend = [], inherited, session: _, ...asked } = program;
      const settings = this.#inForce();
      const env = { ...inherited, ...this.#desktop(settings), ...settings?.env, ...asked.env };
      const wanted = { ...asked, env };
      const { argv: [command = ""] } = wanted;
      const argv = [...wanted.argv];
      for (const one of settings?.auto_lend === false ? [] : lend) {
        const name = await this.#lendWord(one, names);
        argv[one.word] = `${homeOf(this.allocation.profile)}/lent/${name}`;
      }
      this.#quiet = false;
      const before = Date.now() + execDeadline;
      const { report, master } = await this.#request(
        `run ${JSON.stringify(command)}`,
        (id) => channel.send({ type: "exec", id, ...wanted, argv, before }, descriptors),
      );
      if (report === undefined) throw new AppjailError("protocol", "The jailer started nothing");
      const took = together ? undefined : performance.now() - since;
      this.#world.witness.ran(this.allocation, joined, took);
      const exited = this.end(report.program);
      if (names.length > 0) void exited.then(() => this.#takeBack(names));
      return {
        program: report.program,
        jail: this.#live?.jail ?? "",
        cwd: report.cwd,
        joined,
        master,
        exited,
      };
    } catch (error) {
      this.#takeBackNow(names);
      throw error;
    } finally {
      this.#asking--;
      for (const fd of program.descriptors) fd.close();
      this.#settle();
    }
  }

  /** Asks the jailer for something about a program, and waits for the answer. */
  async #request(what: string, send: (id: number) => void): Promise<Answered> {
    const id = ++this.#id;
    const { promise, resolve, reject } = Promise.withResolvers<Answered>();
    this.#execs.set(id, { resolve, reject });
    send(id);
    try {
      return await within(
        promise,
        execDeadline,
        () =>
          new AppjailError(
            "no-answer",
            `Cannot ${what}: ${this.#title} does not answer; ` +
              `appjail stop --force ${this.allocation.profile} ends it`,
          ),
      );
    } finally {
      this.#execs.delete(id);
    }
  }

  /** What is known of a program that runs. */
  running(program: ProgramName): ProgramReport {
    const report = this.#programs.get(program);
    if (report !== undefined) return report;
    throw new AppjailError("unknown-program", `There is no program ${program} in ${this.#title}`);
  }

  /** The names of this life of the jail. */
  get jailName(): string {
    return this.#live?.jail ?? "";
  }

  /** Takes a program's terminal over. Whoever had it is told. */
  async attach(program: ProgramName): Promise<Fd> {
    const channel = await this.#connected.promise;
    const { master } = await this.#request(
      `attach to ${program}`,
      (id) => channel.send({ type: "attach", id, program }),
    );
    if (master === undefined) throw new AppjailError("protocol", "The jailer gave no terminal");
    this.#companions.get(program)?.detached();
    this.#companions.delete(program);
    return master;
  }

  /** Is with a program from now on; the returned function ends that, and tells whether it still was. */
  accompany(program: ProgramName, companion: Companion): () => boolean {
    this.#companions.set(program, companion);
    return () => {
      if (this.#companions.get(program) !== companion) return false;
      return this.#companions.delete(program);
    };
  }

  /** Whoever had the program in front of them is gone. */
  hangUp(program: ProgramName): void {
    if (this.#programs.has(program)) this.#channel?.send({ type: "hangup", program });
  }

  /** The end of a program that runs, or that ended not long ago. */
  end(program: ProgramName): Promise<ExitStatus> {
    const status = this.#exits.get(program);
    if (status !== undefined) return Promise.resolve(status);
    if (!this.#programs.has(program)) {
      throw new AppjailError("unknown-program", `There is no program ${program} in ${this.#title}`);
    }
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(program) ?? new Set();
      waiters.add(resolve);
      this.#waiters.set(program, waiters);
    });
  }

  /** A program whose client has come back, or that somebody waits for: in this very life, or any. */
  async again(program: ProgramName, jail: string | null): Promise<Started> {
    if (this.#life === "starting") await this.#up.promise.catch(() => {});
    if (jail !== null && this.#live?.jail !== jail) {
      throw new AppjailError("unknown-program", `The jail in which ${program} ran has ended`);
    }
    return {
      program,
      jail: this.jailName,
      cwd: this.#programs.get(program)?.cwd ?? homeOf(this.allocation.profile),
      joined: true,
      master: undefined,
      exited: this.end(program),
    };
  }

  /** Resolves when the jailer has taken it: more than it can take must not be sent. */
  async signal(program: ProgramName, signal: SignalName): Promise<void> {
    this.#channel?.send({ type: "signal", program, signal });
    await this.#channel?.drain();
  }

  /** What `appjail status` shows; `undefined` when there is no jail, and its home is plain. */
  async report(home: HomeState): Promise<JailReport | undefined> {
    // One that an earlier daemon has left is about to say what runs in it.
    if (this.#life === "starting" && this.#live !== undefined) {
      await within(this.#up.promise, reportDeadline, () => new Error("silent")).catch(() => {});
    }
    const life = this.#life;
    if (life === "absent") {
      if (home.kind === null && home.problem === null) return undefined;
      return {
        profile: this.allocation.profile,
        owner: this.allocation.owner,
        uid: this.allocation.uid,
        state: home.unlocked ? "unlocked" : "locked",
        jailer_pid: null,
        started: 0,
        programs: [],
        processes: 0,
        memory_bytes: 0,
        cpu_ms: 0,
        home,
        lends: [],
        limits: noLimits,
        changed: false,
      };
    }
    const reported = life === "starting" ? undefined : await this.#ask().catch(() => undefined);
    return {
      profile: this.allocation.profile,
      owner: this.allocation.owner,
      uid: this.allocation.uid,
      state: reported === undefined && (life === "running" || life === "idle") ? "silent" : life,
      jailer_pid: this.#live?.pid ?? null,
      started: this.#live?.started ?? this.#since,
      programs: reported?.programs ?? [...abridgeAll([...this.#programs.values()])],
      processes: reported?.processes ?? this.#programs.size,
      memory_bytes: reported?.memory_bytes ?? 0,
      cpu_ms: reported?.cpu_ms ?? 0,
      home,
      lends: [...this.#lends.values()].map(({ lent }) => lent),
      limits: this.#live?.limits ?? noLimits,
      changed: this.changed,
    };
  }

  /** Ends the jail: TERM to all, KILL to what is left after so many milliseconds. */
  stop(force: boolean, timeout: number): Promise<Stopped> {
    if (this.#life === "absent") return Promise.resolve({ killed: 0, problem: null, note: null });
    if (this.#ending === "lost") this.#ending = "asked";
    // A stop by force comes through, even where a patient one is under way.
    if (force && this.#stopping !== undefined) this.#kill();
    this.#stopping ??= this.#stop(force, timeout).finally(() => this.#stopping = undefined);
    return this.#stopping;
  }

  /** Calls back for every further line of output; the returned function ends that. */
  listen(callback: (line: OutputLine) => void): () => void {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  // --- What it is lent ---------------------------------------------------------------------------

  /**
   * Lends it something, now that it runs.
   *
   * @throws {AppjailError} when it does not run, or when that cannot be lent
   */
  async lend(wanted: Lendable): Promise<void> {
    this.#mustRun(`lend ${JSON.stringify(wanted.path)} to`);
    this.#asking++;
    try {
      // An idle jail stays until this is answered.
      await this.#enter();
      await this.#launched.promise;
      const life = this.#live;
      await this.#world.helper.lend(this.allocation.uid, wanted);
      if (this.#live === life) this.#keepLent({ ...wanted, at: null, context: false });
      this.#tell({ event: "lent", ...wanted });
    } finally {
      this.#asking--;
      this.#settle();
    }
  }

  /** Takes something back. */
  async unlend(
    name: LendName,
    reason: Extract<Event, { readonly event: "unlent" }>["reason"] = "asked",
  ): Promise<void> {
    this.#mustRun(`take ${JSON.stringify(name)} back from`);
    await this.#world.helper.unlend(this.allocation.uid, name);
    this.#dropLent(name);
    this.#tell({ event: "unlent", name, reason });
  }

  /** The helper says what it has been lent before this dispatcher was there, or by its start. */
  hasLends(lends: readonly Lent[]): void {
    for (const lent of lends) this.#keepLent(lent);
  }

  /**
   * Lends a file for a program, under a name that nothing has yet.
   *
   * @param names gets the name as soon as something may be lent by it
   */
  async #lendWord({ path, name }: LentWord, names: LendName[]): Promise<LendName> {
    let free = name;
    for (let more = 2; this.#lends.has(free) || this.#promised.has(free); more++) {
      free = numbered(name, more);
    }
    this.#promised.add(free);
    try {
      await this.#launched.promise;
      const life = this.#live;
      const wanted = { name: free, path, write: false, until: null };
      await this.#world.helper.lend(this.allocation.uid, wanted);
      names.push(free);
      if (this.#live === life) this.#keepLent({ ...wanted, at: null, context: false });
      this.#tell({ event: "lent", ...wanted });
      return free;
    } catch (error) {
      const { code, message } = asAppjailError(error);
      throw new AppjailError(code, `${message}; to run it without: --no-auto-lend`);
    } finally {
      this.#promised.delete(free);
    }
  }

  /**
   * Takes back what a program was lent that has ended. One that has handed the file over to another,
   * as browsers do, ends before that has opened it.
   */
  #takeBack(names: readonly LendName[]): void {
    const life = this.#live;
    if (this.#programs.size === 0) this.#takeBackNow(names);
    else after(handedOver, () => this.#live === life && this.#takeBackNow(names));
  }

  #takeBackNow(names: readonly LendName[]): void {
    for (const name of names) {
      if (this.#lends.has(name)) {
        void this.unlend(name, "done").catch((error) => this.#world.log.debug(wordsOf(error)));
      }
    }
  }

  #mustRun(what: string): void {
    if (this.#life !== "absent" && this.#life !== "leaving") return;
    const { profile } = this.allocation;
    throw new AppjailError(
      "lend-refused",
      `Cannot ${what} "${profile}": no program of it runs; start one first, such as: ` +
        `appjail shell ${profile}`,
    );
  }

  #keepLent(lent: Lent): void {
    this.#lends.get(lent.name)?.cancel();
    const { until } = lent;
    let cancel = (): void => {};
    const wait = (end: number): void => {
      const left = end - Date.now();
      // It may have been taken back meanwhile, or the jail have ended.
      if (left <= 0) {
        void this.unlend(lent.name, "expired").catch((error) =>
          this.#world.log.warn(
            `${this.#title}: what it was lent is not taken back: ${asAppjailError(error).forLog}`,
          )
        );
      } else cancel = after(Math.min(left, longestWait), () => wait(end));
    };
    this.#lends.set(lent.name, { lent, cancel: () => cancel() });
    if (until !== null) wait(until);
  }

  #dropLent(name: LendName): void {
    this.#lends.get(name)?.cancel();
    this.#lends.delete(name);
  }

  // --- Events of the helper ------------------------------------------------------------------

  /** A jail of an earlier daemon that still lives. */
  adopt(live: LiveJail): void {
    this.#settings = undefined;
    this.#live = live;
    this.#launched.resolve();
    this.#feed("adopt");
  }

  /** The helper says that the jail has ended. */
  async ended(
    { problem, said, why, note }: Pick<Ended, "problem" | "said" | "why" | "note">,
  ): Promise<void> {
    await this.#heardOut();
    const failure = this.#failure ??
      // bubblewrap tells the pid before it has mounted everything.
      (this.#life === "starting"
        ? new AppjailError("start-failed", `Cannot start ${this.#title}: ${said ?? "it ended"}`)
        : new AppjailError(
          "lost",
          `The ${this.#title} has ended${why ?? problem ? `: ${why ?? problem}` : ""}`,
        ));
    this.#tellWhy(why);
    for (const waiting of [...this.#execs.values(), ...this.#reports.values()]) {
      waiting.reject(failure);
    }
    this.#execs.clear();
    this.#reports.clear();
    this.#connected.reject(failure);
    this.#connected.promise.catch(() => {});
    this.#up.reject(failure);
    this.#up.promise.catch(() => {});
    this.#launched.reject(failure);
    this.#launched.promise.catch(() => {});
    this.#launched = Promise.withResolvers();
    this.#allKilled();
    this.#tellStopped(why, problem);
    this.#failure = undefined;
    for (const name of [...this.#lends.keys()]) this.#dropLent(name);
    this.#channel?.close();
    this.#channel = undefined;
    this.#returning = false;
    const gone = this.#gone;
    this.#gone = Promise.withResolvers();
    this.#connected = Promise.withResolvers();
    this.#up = Promise.withResolvers();
    this.#idle = Promise.withResolvers();
    this.#quiet = false;
    this.#feed("gone");
    gone.resolve({ problem, note });
  }

  /** What the jailer said last is heard first. */
  async #heardOut(): Promise<void> {
    await within(this.#conversation, 1000, () => new Error()).catch(() => this.#channel?.close());
  }

  #tellWhy(why: string | null): void {
    if (why === null || this.#companions.size === 0) return;
    this.#world.log.info(`${this.#title} was ended: ${why}`);
    for (const companion of this.#companions.values()) companion.ending(why);
  }

  /** With pid 1 the kernel has killed all that was left. pid_namespaces(7). */
  #allKilled(): void {
    for (const program of [...this.#programs.keys()]) {
      this.#exited(program, { by: "signal", signal: 9, core: false });
    }
  }

  /** The helper says that nothing of it runs any more: clients need not wait for its home. */
  async locking(why: string | null): Promise<void> {
    const life = this.#live;
    this.#feed("stop");
    await this.#heardOut();
    if (this.#live !== life || this.#life !== "leaving") return;
    this.#tellWhy(why);
    this.#allKilled();
    this.#tellStopped(why, null);
  }

  /** Its home was unlocked, or locked. */
  async turned(unlocked: boolean, note: string | null): Promise<void> {
    if (unlocked) return this.#tell({ event: "home-unlocked" });
    // What ran in it is over first.
    if (this.#life === "leaving") await this.#heardOut();
    this.#tell({ event: "home-locked", note });
  }

  // --- Whoever watches -----------------------------------------------------------------------

  #tell(happening: OwnHappening): void {
    const { owner, profile, uid } = this.allocation;
    this.#world.witness.tell({ ...happening, owner, profile, uid });
  }

  #changed(): void {
    this.#world.witness.changed(this);
  }

  /** It is up, which is told once; of one that an earlier dispatcher has started, it was told then. */
  #tellStarted(): void {
    if (this.#seenUp) return;
    this.#seenUp = true;
    if (!this.#adopted) this.#tell({ event: "jail-started" });
  }

  /**
   * It is over, which is told once.
   *
   * @param why nobody asked for it, and it could not go on
   * @param problem something of it is left
   */
  #tellStopped(why: string | null, problem: string | null): void {
    if (!this.#seenUp) return;
    this.#seenUp = false;
    const failure = why ?? this.#failure?.message ?? null;
    const reason = failure === null ? this.#ending : "failed";
    this.#tell({ event: "jail-stopped", reason, why: failure ?? problem });
  }

  // --- Life ----------------------------------------------------------------------------------

  #feed(event: LifeEvent): LifeAction {
    const [life, action] = next(this.#life, event);
    const changed = life !== this.#life;
    if (changed) this.#world.log.debug(`${this.#title}: ${this.#life} to ${life}`);
    this.#life = life;
    switch (action) {
      case "start":
        this.#since = Date.now();
        this.#live = undefined;
        this.#adopted = false;
        this.#ending = "lost";
        this.#exits.clear();
        void this.#start();
        break;
      case "connect":
        this.#since = Date.now();
        this.#adopted = true;
        this.#ending = "lost";
        this.#open();
        break;
      case "linger":
        this.#stay = after(this.#linger, () => this.#feed("lingered"));
        break;
      case "stay":
        this.#stay();
        break;
      case "leave":
        this.#ending = "idle";
        void this.#leave();
        break;
      case "wait":
      case "nothing":
        break;
      default:
        action satisfies never;
    }
    if (changed) this.#changed();
    return action;
  }

  /** A channel to the jailer of a jail that will not leave before the caller has sent something. */
  async #enter(): Promise<Entered> {
    for (;;) {
      const starting = this.#life === "starting";
      const action = this.#feed("ask");
      if (action !== "wait") {
        return {
          channel: await this.#connected.promise,
          joined: action !== "start",
          together: starting,
        };
      }
      await within(
        this.#gone.promise,
        endDeadline,
        () =>
          new AppjailError(
            "no-answer",
            `The ${this.#title} is ending and has not ended yet; try again when it has`,
          ),
      );
    }
  }

  /** The same, once the home is unlocked; and since when nobody was waited for but appjail. */
  async #enterUnlocked(ask: Ask | undefined): Promise<Entered & { readonly since: number }> {
    for (;;) {
      const since = performance.now();
      try {
        return { ...await this.#enter(), since };
      } catch (error) {
        if (!(error instanceof AppjailError) || error.code !== "passphrase-required") throw error;
        await this.unlock(ask, error);
      }
    }
  }

  /**
   * Unlocks the home. Of those who want that at the same time one is asked, and the others wait for
   * what comes of it: it may be locked still, because who was asked has gone away.
   *
   * @param locked what is thrown when there is nobody to ask
   */
  async unlock(ask: Ask | undefined, locked: AppjailError): Promise<void> {
    while (this.#unlocking !== undefined) {
      // Whoever cannot be asked need not wait for one who can.
      if (ask === undefined) throw locked;
      if (await this.#unlocking) return;
    }
    if (ask === undefined) throw locked;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#unlocking = promise;
    try {
      await this.#askAndUnlock(ask);
      resolve(true);
    } finally {
      this.#unlocking = undefined;
      resolve(false);
    }
  }

  async #askAndUnlock(ask: Ask): Promise<void> {
    const { helper } = this.#world;
    const { uid, profile } = this.allocation;
    const home = await this.home();
    if (home.kind === null || home.unlocked) return;
    for (let wrong = 0; wrong < tries; wrong++) {
      const pipe = await ask({ profile, kind: home.kind, tries: wrong });
      try {
        return await helper.unlock(uid, pipe);
      } catch (error) {
        if (!(error instanceof AppjailError)) throw error;
        const message = `The home of "${profile}": ${error.message}`;
        if (error.code !== "wrong-passphrase") throw new AppjailError(error.code, message);
        this.#world.witness.wrong(this.allocation);
      }
    }
    throw new AppjailError(
      "wrong-passphrase",
      `Cannot unlock the home of "${profile}": the passphrase was wrong ${tries} times`,
    );
  }

  /** What its home is on the disk. */
  async home(): Promise<HomeState> {
    const [home] = await this.#world.helper.homes([this.allocation.uid]);
    if (home === undefined) throw new AppjailError("protocol", "The helper named no home");
    if (home.problem !== null) throw new AppjailError("home-refused", home.problem);
    return home;
  }

  async #start(): Promise<void> {
    try {
      const { helper, profiles, network } = this.#world;
      const { allocation } = this;
      const { owner, profile, uid } = allocation;
      // Of this moment: who changes the profile while the jail runs changes the next one.
      const settings = profiles.settings(owner, profile);
      this.#settings = settings;
      this.#live = await helper.start(
        uid,
        specOf(settings, { allocation, session: this.#session, network }),
        () => this.#open(),
      );
      this.#launched.resolve();
      this.#changed();
    } catch (error) {
      this.#failure = asAppjailError(error);
      this.#channel?.close();
      await this.ended({ problem: null, said: null, why: null, note: null });
    }
  }

  /** Opens the conversation. Messages may be sent at once: they wait in the jailer's socket. */
  #open(): void {
    let channel: JailerChannel;
    try {
      channel = this.#world.connect(this.allocation);
    } catch (error) {
      this.#fail(`its jailer cannot be reached: ${wordsOf(error)}`);
      return;
    }
    this.#channel = channel;
    this.#seen = 0;
    const { version } = this.#world;
    channel.send({ type: "hello", role: "dispatcher", protocol: protocolVersion, version });
    this.#conversation = this.#converse(channel);
    this.#connected.resolve(channel);
  }

  /** Gives a jail up that does not keep the rules; it is ended by force. */
  #fail(why: string): void {
    this.#failure ??= new AppjailError("no-answer", `The ${this.#title} is ended: ${why}`);
    this.#world.log.info(this.#failure.message);
    this.#connected.reject(this.#failure);
    this.#connected.promise.catch(() => {});
    this.#feed("stop");
    this.#kill();
  }

  #kill(): void {
    this.#world.helper.end(
      this.allocation.uid,
      this.#live?.jail ?? null,
      (error) => this.#world.log.info(`${this.#title} cannot be ended: ${error.message}`),
    );
  }

  async #converse(channel: JailerChannel): Promise<void> {
    try {
      const first = await within(
        channel.receive(),
        upDeadline,
        () => new Error("its jailer does not come up"),
      );
      if (first === undefined) return void this.#returnTo(channel);
      if (first.message.type !== "hello" || first.message.protocol !== protocolVersion) {
        throw new Error("its jailer is of another version; appjail stop --force ends it");
      }
      for (;;) {
        const incoming = await channel.receive();
        if (incoming === undefined) return void this.#returnTo(channel);
        this.#hear(channel, incoming.message, incoming.descriptors);
      }
    } catch (error) {
      channel.close();
      this.#fail(wordsOf(error));
    }
  }

  /** The jailer has hung up: with its jail, as the helper will say, or another is talking to it. */
  async #returnTo(channel: JailerChannel): Promise<void> {
    if (this.#channel !== channel) return;
    // Who asks for something now waits for the next conversation, or for the end.
    this.#connected = Promise.withResolvers();
    await Promise.race([this.#gone.promise, pause(returnDelay)]);
    // One that is to leave may have done so; it is seen to by whoever told it.
    if (this.#channel !== channel || this.#life === "absent" || this.#life === "leaving") return;
    if (this.#returning) this.#fail("its jailer has hung up");
    else {
      this.#returning = true;
      this.#open();
    }
  }

  #hear(channel: JailerChannel, message: JailerToDispatcher, descriptors: readonly Fd[]): void {
    switch (message.type) {
      case "hello":
        throw new Error("its jailer said hello twice");
      case "present":
        for (const report of message.programs) this.#programs.set(report.program, report);
        for (const { program, status } of message.exits) this.#exited(program, status);
        this.#returning = false;
        this.#feed("up");
        this.#tellStarted();
        this.#changed();
        this.#up.resolve();
        return;
      case "started": {
        const { program, argv: [command = ""] } = message.program;
        this.#programs.set(program, message.program);
        this.#tell({ event: "program-started", program, command });
        this.#changed();
        // Whoever wanted it was told that it did not start: it must not run behind their back.
        if (!this.#answered(message.id, message.program, descriptors)) {
          channel.send({ type: "signal", program, signal: "SIGKILL" });
        }
        return;
      }
      case "attached":
        this.#answered(message.id, undefined, descriptors);
        return;
      case "suspended":
        this.#companions.get(message.program)?.suspended();
        return;
      case "refused":
        this.#take(message.id)?.reject(new AppjailError(message.code, message.message));
        return;
      case "exited":
        this.#exited(message.program, message.status);
        // Only when its client has been told: were this process killed in between, nobody would know.
        after(0, () => channel.send({ type: "heard", program: message.program }));
        return;
      case "idle":
        // What was said before the jailer knew of a request says nothing about it.
        if (this.#execs.size > 0) return;
        this.#quiet = true;
        this.#idle.resolve();
        this.#settle();
        return;
      case "reported":
        this.#reports.get(message.id)?.resolve(message);
        return;
      case "output":
        for (const line of message.lines) this.#write(line);
        return;
      default:
        message satisfies never;
    }
  }

  /**
   * Hands the answer to whoever waits for it; a terminal that nobody wants any more is closed.
   *
   * @returns whether anybody did
   */
  #answered(id: number, report: ProgramReport | undefined, descriptors: readonly Fd[]): boolean {
    const [master] = descriptors;
    const asked = this.#take(id);
    if (asked === undefined) master?.close();
    else asked.resolve({ report, master });
    return asked !== undefined;
  }

  /** Who waits for an answer; it comes once. */
  #take(id: number): Awaited<Answered> | undefined {
    const asked = this.#execs.get(id);
    this.#execs.delete(id);
    return asked;
  }

  /** Idle is a jail in which nothing runs and for which nobody has a request under way. */
  #settle(): void {
    if (this.#quiet && this.#asking === 0) this.#feed("idle");
  }

  #write(line: OutputLine): void {
    if (line.sequence < this.#seen) return;
    this.#seen = line.sequence + 1;
    // Numbered anew: a jail's numbers begin again with each of its lives.
    const kept = this.output.append(line.program, line.stream, line.text, line.at);
    const { profile, owner } = this.allocation;
    const { program, stream, text } = line;
    this.#world.log.info(`[${profile} ${program}] ${text}`, {
      output: stream,
      uid: owner,
      profile,
      program,
    });
    for (const listener of this.#listeners) listener(kept);
  }

  #exited(program: ProgramName, status: ExitStatus): void {
    const known = this.#programs.delete(program);
    this.#companions.delete(program);
    this.#remember(program, status);
    const waiters = this.#waiters.get(program);
    this.#waiters.delete(program);
    for (const resolve of waiters ?? []) resolve(status);
    // One that has ended while nobody listened has ended at a time that nobody knows.
    if (!known) return;
    this.#tell({ event: "program-exited", program, status });
    this.#changed();
  }

  #remember(program: ProgramName, status: ExitStatus): void {
    this.#exits.set(program, status);
    for (const oldest of this.#exits.keys()) {
      if (this.#exits.size <= exitsMost) break;
      this.#exits.delete(oldest);
    }
  }

  async #ask(): Promise<Reported> {
    const channel = this.#channel;
    if (channel === undefined) throw new Error("there is no jailer");
    const id = ++this.#id;
    const { promise, resolve, reject } = Promise.withResolvers<Reported>();
    this.#reports.set(id, { resolve, reject });
    channel.send({ type: "report", id });
    try {
      return await within(promise, reportDeadline, () => new Error("silent"));
    } finally {
      this.#reports.delete(id);
    }
  }

  /** The orderly end of an idle jail; one that does not leave is ended by force. */
  async #leave(): Promise<void> {
    const gone = this.#gone.promise;
    this.#channel?.send({ type: "leave" });
    const left = await Promise.race([
      gone.then(() => true),
      pause(leaveDeadline).then(() => false),
    ]);
    if (!left) this.#kill();
  }

  async #stop(force: boolean, timeout: number): Promise<Stopped> {
    const gone = this.#gone.promise;
    const limit = performance.now() + timeout;
    const rest = (): number => Math.max(0, limit - performance.now());
    const starting = this.#life === "starting";
    if (starting) {
      // What does not come up has ended by itself.
      await within(this.#up.promise, Math.max(rest(), 1000), () => new Error()).catch(() => {});
    }
    const idle = this.#life === "idle";
    const adopted = this.#feed("stop");
    if (this.#life === "absent") return { killed: 0, problem: null, note: null };
    void adopted;
    let killed = 0;
    if (!force && !idle && this.#channel !== undefined) {
      this.#idle = Promise.withResolvers();
      this.#channel.send({ type: "terminate" });
      await Promise.race([gone, this.#idle.promise, pause(rest())]);
    }
    if (!force && this.#programs.size === 0) {
      this.#channel?.send({ type: "leave" });
      await Promise.race([gone, pause(Math.min(leaveDeadline, Math.max(rest(), 250)))]);
    }
    if (this.#life === "leaving") {
      killed = this.#programs.size;
      this.#kill();
    }
    const outcome = await within(
      gone,
      endDeadline,
      () => new Error(`the ${this.#title} does not end`),
    ).catch((error) => ({ problem: wordsOf(error), note: null }));
    return { killed, ...outcome };
  }
}

/** `report.pdf` as `report-2.pdf`: what it is opened with goes by how it ends. */
function numbered(name: LendName, count: number): LendName {
  const [, begin = name, end = ""] = /^(.+?)((?:\.[^.]{1,10}){0,2})$/.exec(name) ?? [];
  // The mark may not make it too long.
  return `${begin.slice(0, 60)}-${count}${end}` as LendName;
}

/** What a jail is made by: without what says only how its profile is found, and what it runs. */
function jailOf(settings: Settings): string {
  const { description: _, command: _command, executables: _executables, ...rest } = settings;
  return JSON.stringify(rest);
}
