/**
 * All jails, and the one set of functions in which both doors of the dispatcher end: who asks, for
 * which profile, start or join.
 *
 * @module
 */
import { findCommand, isVisibleInJail } from "./command.ts";
import { searchPath } from "./environment.ts";
import { AppjailError } from "./errors.ts";
import {
  type Ask,
  Jail,
  type JailWorld,
  type Program,
  type Started,
  type Stopped,
} from "./jail.ts";
import type { Ended, Lends, Locking, Turned, Welcome } from "./helper-link.ts";
import {
  type AppUid,
  type OwnerUid,
  parse,
  type ProfileName,
  profileName,
  type ProgramName,
} from "./names.ts";
import type { Allocation, JailReport } from "./protocol.ts";

/** A jail that was stopped, and how that went. */
export interface StoppedJail extends Stopped {
  readonly allocation: Allocation;
}

/** A program that was started, and the jail in which it runs. */
export interface StartedIn extends Started {
  readonly within: Jail;
}

/** What somebody wants to run. */
export interface Wanted extends Omit<Program, "argv"> {
  /** null: what the profile says. */
  readonly argv: Program["argv"] | null;
}

function nameFrom(text: string, advice: string): ProfileName {
  const parsed = parse(profileName, text);
  if ("value" in parsed) return parsed.value;
  throw new AppjailError(
    "invalid-argument",
    `Cannot use ${JSON.stringify(text.slice(0, 80))} as a profile: ${parsed.wrong}${advice}`,
  );
}

/** Every jail of every owner. */
export class Jails {
  readonly #world: JailWorld;
  readonly #jails = new Map<AppUid, Jail>();
  readonly #making = new Map<string, Promise<Jail>>();

  constructor(world: JailWorld, welcome: Welcome) {
    this.#world = world;
    for (const allocation of welcome.allocations) this.#add(allocation);
    for (const live of welcome.jails) this.#jails.get(live.uid)?.adopt(live);
  }

  /** Every jail that there could be: one for each profile that has a uid. */
  all(): readonly Jail[] {
    return [...this.#jails.values()];
  }

  /** Whoever has a profile. */
  owners(): ReadonlySet<OwnerUid> {
    return new Set([...this.#jails.values()].map(({ allocation }) => allocation.owner));
  }

  /** The profile that a uid was given to. */
  allocationOf(uid: number): Allocation | undefined {
    return [...this.#jails.values()].find(({ allocation }) => allocation.uid === uid)?.allocation;
  }

  /** Whether a uid is a profile's: it keeps it for ever, whatever the range is now. */
  has(uid: number): boolean {
    return this.allocationOf(uid) !== undefined;
  }

  /** The helper says that a jail has ended. */
  ended(end: Ended): void {
    void this.#jails.get(end.uid)?.ended(end);
  }

  /** The helper says that nothing of a jail runs any more. */
  locking({ uid, why }: Locking): void {
    void this.#jails.get(uid)?.locking(why);
  }

  /** The helper says that a home was unlocked, or locked. */
  turned({ uid, unlocked, note }: Turned): void {
    void this.#jails.get(uid)?.turned(unlocked, note);
  }

  /** The helper says what a jail has been lent. */
  lends({ uid, lends }: Lends): void {
    this.#jails.get(uid)?.hasLends(lends);
  }

  /**
   * Runs a program in a profile's jail.
   *
   * @param requested the profile's name; null for the one that is called as the command is
   * @param ask for the passphrase of a home that is locked
   */
  async run(
    owner: OwnerUid,
    requested: string | null,
    program: Wanted,
    ask?: Ask,
  ): Promise<StartedIn> {
    try {
      const argv = program.argv ?? this.#commandOf(owner, requested);
      const within = await this.#jailFor(owner, requested, { ...program, argv });
      return { ...await within.run({ ...program, argv }, ask), within };
    } catch (error) {
      for (const fd of program.descriptors) fd.close();
      throw error;
    }
  }

  /** What a profile runs when no command is given. */
  #commandOf(owner: OwnerUid, requested: string | null): Program["argv"] {
    const name = nameFrom(requested ?? "", "");
    const { command } = this.#world.profiles.settings(owner, name);
    if (command !== null) return command;
    throw new AppjailError(
      "invalid-argument",
      `Cannot run: a command is needed, because profile "${name}" names none; ` +
        `try: appjail run -p ${name} COMMAND`,
    );
  }

  /** The profile that a request to run something is about, as far as that can be told. */
  meant(
    owner: OwnerUid,
    requested: string | null,
    command: string | undefined,
  ): ProfileName | null {
    try {
      return requested === null ? this.#nameFor(owner, command ?? "") : nameFrom(requested, "");
    } catch {
      return null;
    }
  }

  /** The profile that a command finds where none is named: one of its name, or one that names it. */
  #nameFor(owner: OwnerUid, command: string): ProfileName {
    const { profiles } = this.#world;
    const last = command.slice(command.lastIndexOf("/") + 1);
    const parsed = parse(profileName, last);
    if ("value" in parsed) {
      const name = parsed.value;
      if (this.#find(owner, name) !== undefined || profiles.has(owner, name)) return name;
    }
    const [first, ...more] = profiles.finders(owner, command);
    if (first === undefined) return nameFrom(last, "; name one with -p");
    if (more.length === 0) return first;
    throw new AppjailError(
      "invalid-argument",
      `Cannot tell which profile ${JSON.stringify(command)} is for: ${
        [first, ...more].join(" and ")
      } name it; choose one: appjail run -p ${first} …`,
    );
  }

  async #jailFor(owner: OwnerUid, requested: string | null, program: Program): Promise<Jail> {
    const [command = ""] = program.argv;
    const name = requested === null ? this.#nameFor(owner, command) : nameFrom(requested, "");
    const known = this.#find(owner, name);
    if (known !== undefined) return known;
    // One that cannot be used must not cost a uid.
    const settings = this.#world.profiles.settings(owner, name);
    // A typing error must not cost a uid: a profile that nobody named is made for a command that
    // there is.
    if (requested === null) {
      const path = program.env["PATH"] ?? settings.env["PATH"] ?? searchPath;
      const where = "in a jail";
      if (command.includes("/") && !isVisibleInJail(command)) {
        throw new AppjailError(
          "command-not-found",
          `Cannot run ${JSON.stringify(command)}: it cannot be seen ${where}, where there are ` +
            "/usr, /bin, /sbin, /lib and /opt; with -p, a profile's own files are there too",
        );
      }
      findCommand(command, path, "/nonexistent", where);
    }
    return await this.#make(owner, name);
  }

  /** A new profile's jail; those who ask at the same time get the same one. */
  #make(owner: OwnerUid, profile: ProfileName): Promise<Jail> {
    const key = `${owner} ${profile}`;
    let making = this.#making.get(key);
    if (making === undefined) {
      making = this.#world.helper.allocate(owner, profile)
        .then((uid) => this.#jails.get(uid) ?? this.#add({ uid, owner, profile }))
        .finally(() => this.#making.delete(key));
      this.#making.set(key, making);
    }
    return making;
  }

  /** A program whose client has come back, or that somebody waits for. */
  async again(owner: OwnerUid, program: ProgramName, jail: string | null): Promise<StartedIn> {
    const within = this.jailOf(owner, program);
    return { ...await within.again(program, jail), within };
  }

  /** The jail that an owner's program is, or was, in. */
  jailOf(owner: OwnerUid, program: ProgramName): Jail {
    return this.#known(owner, program.slice(0, program.lastIndexOf(".")));
  }

  /** What runs: an owner's, of one profile or of all; everybody's when root asks for it. */
  async status(
    owner: OwnerUid,
    profile: ProfileName | null,
    everyone: boolean,
  ): Promise<readonly JailReport[]> {
    if (everyone && owner !== 0) {
      throw new AppjailError("denied", "Cannot show the jails of others: only root may see them");
    }
    const chosen = profile !== null
      ? [this.#known(owner, profile)]
      : [...this.#jails.values()].filter((jail) => everyone || jail.allocation.owner === owner);
    const homes = await this.#world.helper.homes(chosen.map(({ allocation }) => allocation.uid));
    const reports = await Promise.all(
      chosen.flatMap((jail, index) => {
        const home = homes[index];
        return home === undefined ? [] : [jail.report(home)];
      }),
    );
    return reports.filter((report) => report !== undefined);
  }

  /** Which jails a stop is about: the named ones, all of an owner's, or everybody's for root. */
  chosen(owner: OwnerUid, profiles: readonly ProfileName[]): readonly Jail[] {
    if (profiles.length > 0) return profiles.map((profile) => this.#known(owner, profile));
    return this.#of(owner).filter((jail) => jail.life !== "absent");
  }

  /** The same for a lock: those with homes that are unlocked are among them. */
  async chosenToLock(
    owner: OwnerUid,
    profiles: readonly ProfileName[],
  ): Promise<readonly Jail[]> {
    if (profiles.length > 0) return this.chosen(owner, profiles);
    const all = this.#of(owner);
    const homes = await this.#world.helper.homes(all.map(({ allocation }) => allocation.uid));
    return all.filter((jail, index) => jail.life !== "absent" || homes[index]?.unlocked === true);
  }

  #of(owner: OwnerUid): readonly Jail[] {
    return [...this.#jails.values()].filter((jail) =>
      owner === 0 || jail.allocation.owner === owner
    );
  }

  /** Unlocks a home, and keeps it unlocked for so many milliseconds; null: until it is locked. */
  async unlock(
    owner: OwnerUid,
    profile: ProfileName,
    keep: number | null,
    ask: Ask,
  ): Promise<void> {
    const jail = this.#known(owner, profile);
    const home = await jail.home();
    if (home.kind === null) {
      throw new AppjailError(
        "vault-failed",
        `The home of "${profile}" is not encrypted; to have it so: appjail encrypt ${profile}`,
      );
    }
    const { helper } = this.#world;
    const { uid } = jail.allocation;
    if (!home.unlocked) {
      await jail.unlock(ask, new AppjailError("passphrase-required", "It is locked"));
    }
    await helper.keep(uid, keep === null ? 0 : Date.now() + keep);
  }

  /** Locks a home whose jail has ended. @returns what went wrong */
  async lock(jail: Jail): Promise<string | null> {
    return await this.#world.helper.lock(jail.allocation.uid);
  }

  /** An owner's profiles, for completions. */
  profiles(
    owner: OwnerUid,
  ): readonly { readonly profile: ProfileName; readonly uid: AppUid; readonly running: boolean }[] {
    return [...this.#jails.values()]
      .filter((jail) => jail.allocation.owner === owner)
      .map(({ allocation: { profile, uid }, life }) => ({
        profile,
        uid,
        running: life !== "absent",
      }));
  }

  /** The jail of a profile, if an owner has one of that name. */
  find(owner: OwnerUid, profile: ProfileName): Jail | undefined {
    return this.#find(owner, profile);
  }

  /** The uid of a profile was taken back. */
  forget(uid: AppUid): void {
    this.#jails.delete(uid);
  }

  /** The jail of a profile that an owner has, or an error in words. */
  known(owner: OwnerUid, profile: ProfileName): Jail {
    return this.#known(owner, profile);
  }

  /** The same; with `make`, the profile is made where there is none. */
  async toEncrypt(owner: OwnerUid, profile: ProfileName, make: boolean): Promise<Jail> {
    const found = this.#find(owner, profile);
    if (found !== undefined) return found;
    if (make) return await this.#make(owner, profile);
    throw new AppjailError(
      "unknown-profile",
      `You have no profile "${profile}"; to make one: appjail encrypt --new ${profile}`,
    );
  }

  #known(owner: OwnerUid, profile: string): Jail {
    const jail = this.#find(owner, profile);
    if (jail === undefined) {
      throw new AppjailError("unknown-profile", `You have no profile "${profile}"`);
    }
    return jail;
  }

  #find(owner: OwnerUid, profile: string): Jail | undefined {
    return [...this.#jails.values()].find(({ allocation }) =>
      allocation.owner === owner && allocation.profile === profile
    );
  }

  #add(allocation: Allocation): Jail {
    const jail = new Jail(allocation, this.#world);
    this.#jails.set(allocation.uid, jail);
    return jail;
  }
}
