/**
 * Lending: the one way by which anything of its owner's gets into a jail.
 *
 *     RUNTIME/jails/<uid>/lend/        a mount of its own, root's, shared: the jail sees a copy of it
 *     RUNTIME/jails/<uid>/lend/NAME    what is lent, as a mount: id-mapped, nosuid, nodev
 *     RUNTIME/jails/<uid>/lends        the table of it, for the next daemon
 *
 * Run by the helper. It believes the dispatcher nothing: the owner is the one that the registry has
 * for the uid, and the path is opened with the owner's ids (core/on-behalf.ts), step by step
 * (core/lend-path.ts). Nothing is changed on the owner's disk: to the jail the owner's files are its
 * own, and what it makes there is the owner's.
 *
 * @module
 */
import { isErrno, SystemError } from "../ipc/errno.ts";
import { type Fd, readAll } from "../ipc/fd.ts";
import { accountOf, groupsOf } from "./accounts.ts";
import { homeOf } from "./environment.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import { hostText } from "./host.ts";
import { makeIdMap } from "./id-map.ts";
import { readLends, writeLends } from "./jail-folder.ts";
import {
  makeFolder,
  namesIn,
  openFileBehind,
  openFolder,
  removeFile,
  removeFolder,
  touch,
  unmount,
  unmountUnused,
} from "./kernel.ts";
import { mountTypes, NotLendable, reach, type Reached } from "./lend-path.ts";
import type { Log } from "./log.ts";
import {
  attachMount,
  cloneMount,
  mountOf,
  mountShared,
  openPlace,
  placeOf,
  restrictMount,
} from "./mounts.ts";
import {
  type AbsolutePath,
  absolutePath,
  type AppUid,
  type LendName,
  lendName,
  type LendSource,
  parse,
  parsed,
  type ProfileName,
} from "./names.ts";
import { onBehalfOf, type Person } from "./on-behalf.ts";
import { type LentAt, placeProblem } from "./plan.ts";
import { pathOf } from "./user-dirs.ts";
import { type Allocation, type JailSpec, lendsMost, type Lent } from "./protocol.ts";

/** How many bytes the table of one jail may have: it has to fit into a message, with others. */
const tableMost = 96 * 1024;
/** The first uid of people; below are the system's accounts. useradd(8), login.defs(5). */
const firstPerson = 1000;
const nobody = 65534;

/** What lending needs of the helper around it. */
export interface LendingWorld {
  /** As mount(2) is told it: only root can change what is on the way. */
  readonly runtimePath: string;
  /** `RUNTIME/jails`. */
  readonly jails: Fd;
  /** Folders of appjail's own, which are not lent. */
  readonly own: readonly Fd[];
  readonly log: Log;
}

/** Somebody who lends, and where their files are. */
interface Owner extends Person {
  readonly home: string | undefined;
}

/** What one jail was lent in its life. */
interface Table {
  readonly allocation: Allocation;
  readonly entries: Map<LendName, Lent>;
  ids: Promise<Fd> | undefined;
}

type SpecLend = JailSpec["lend"][number];

/** Something that is wanted to be lent. */
type Wanted = Omit<Lent, "until" | "context"> & Partial<Pick<Lent, "until">>;

/** Something to be lent by its name in place of what is at its path. */
export interface StandIn {
  readonly name: LendName;
  /** Makes it, or says nothing: then it is what is at the path. */
  readonly make: () => Promise<Fd | undefined>;
}

/** What all jails were lent. */
export class Lending {
  readonly #world: LendingWorld;
  readonly #tables = new Map<AppUid, Table>();

  constructor(world: LendingWorld) {
    this.#world = world;
  }

  /**
   * Makes the folder of a jail that is about to start, and lends what it is to have from the start.
   *
   * @returns what bubblewrap has to mount in further places
   * @throws {AppjailError} when a part of it cannot be lent; the caller then clears all of it
   */
  async begin(
    allocation: Allocation,
    { lend, shared, same_uid }: JailSpec,
    standIn?: StandIn,
  ): Promise<readonly LentAt[]> {
    const { uid, owner, profile } = allocation;
    this.clear(uid);
    using folder = openFolder(this.#world.jails, String(uid));
    makeFolder(folder, "lend", 0o755);
    mountShared(this.#folderOf(uid), lendsMost);
    const table: Table = { allocation, entries: new Map(), ids: undefined };
    this.#tables.set(uid, table);
    for (const { skip_missing, unless, context: _, ...wanted } of [...lend].sort(byPlace)) {
      if (unless !== null && table.entries.has(unless)) continue;
      const wrong = wanted.at === null
        ? undefined
        : placeProblem(wanted.at, profile, same_uid ? owner : uid);
      if (wrong !== undefined) throw refused(wanted, profile, `at ${wanted.at} ${wrong}`);
      try {
        const path = sourceOf(owner, wanted.path);
        const make = standIn?.name === wanted.name ? standIn.make : undefined;
        await this.#lend(table, { ...wanted, path }, make);
      } catch (thrown) {
        const error = thrown instanceof NotLendable ? refused(wanted, profile, thrown) : thrown;
        const missing = error instanceof AppjailError && error.cause instanceof NotLendable &&
          error.cause.missing;
        if (!missing || !skip_missing) throw error;
      }
    }
    if (shared) await this.#lendShared(table);
    return [...table.entries.values()].flatMap(({ name, at }) => at === null ? [] : [{ name, at }]);
  }

  /** Takes a jail over that an earlier daemon has left: what is not in its table is taken away. */
  adopt(allocation: Allocation): void {
    const { uid } = allocation;
    using folder = openFolder(this.#world.jails, String(uid));
    const entries = new Map<LendName, Lent>();
    try {
      using lend = openFolder(folder, "lend");
      const told = new Map(readLends(folder).map((one) => [one.name, one]));
      for (const name of namesIn(lend)) {
        const parsed = parse(lendName, name);
        const entry = "value" in parsed ? told.get(parsed.value) : undefined;
        // One that was being lent, or taken back, when that daemon was killed.
        if (entry === undefined || !isMount(lend, name)) this.#takeAway(uid, lend, name);
        else entries.set(entry.name, entry);
      }
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
    this.#tables.set(uid, { allocation, entries, ids: undefined });
  }

  /** All that a jail has been lent. */
  of(uid: AppUid): readonly Lent[] {
    return [...this.#tables.get(uid)?.entries.values() ?? []];
  }

  /** Lends something to a jail that runs. */
  async lend(uid: AppUid, wanted: Omit<Wanted, "at">): Promise<void> {
    await this.#lend(this.#tableOf(uid), { ...wanted, at: null });
  }

  /** Takes something back from a jail that runs: it is gone from its folder at once. */
  unlend(uid: AppUid, name: LendName): void {
    const table = this.#tableOf(uid);
    const { profile } = table.allocation;
    const entry = table.entries.get(name);
    const cannot = `Cannot take ${JSON.stringify(name)} back from "${profile}"`;
    if (entry === undefined) {
      throw new AppjailError(
        "lend-refused",
        `${cannot}: nothing of that name is lent; see: appjail status ${profile}`,
      );
    }
    if (entry.at !== null) {
      throw new AppjailError(
        "lend-refused",
        `${cannot}: it is there for as long as the jail is; try: appjail stop ${profile}`,
      );
    }
    using folder = openFolder(this.#world.jails, String(uid));
    using lend = openFolder(folder, "lend");
    this.#takeAway(uid, lend, name);
    table.entries.delete(name);
    writeLends(folder, [...table.entries.values()]);
  }

  /**
   * Takes everything back from a jail of which nothing runs any more, and the folder with it; whatever
   * is there, and also where this daemon knows nothing of it.
   */
  clear(uid: AppUid): void {
    const table = this.#tables.get(uid);
    this.#tables.delete(uid);
    void table?.ids?.then((ids) => ids.close(), () => {});
    try {
      using folder = openFolder(this.#world.jails, String(uid));
      for (let more = true; more;) {
        {
          using lend = openFolder(folder, "lend");
          for (const name of namesIn(lend)) this.#takeAway(uid, lend, name);
        }
        more = leave(this.#folderOf(uid));
      }
      removeFile(folder, "lends");
      removeFolder(folder, "lend");
    } catch (error) {
      // Where a file stands in their place there is no mount, and the folder's remover sees to it.
      if (!isErrno(error, "ENOENT", "ENOTDIR", "ELOOP")) throw error;
    }
  }

  #tableOf(uid: AppUid): Table {
    const table = this.#tables.get(uid);
    if (table !== undefined) return table;
    throw new AppjailError(
      "lend-refused",
      `Cannot lend anything to uid ${uid}: no jail of it runs`,
    );
  }

  #folderOf(uid: AppUid): string {
    return `${this.#world.runtimePath}/jails/${uid}/lend`;
  }

  async #lend(table: Table, wanted: Wanted, make?: StandIn["make"]): Promise<void> {
    const { uid, owner, profile } = table.allocation;
    const refuse = (why: unknown): AppjailError => refused(wanted, profile, why);
    // Whoever takes the dispatcher over can have anything lent that an owner may open.
    if (owner === 0) throw refuse("root's profiles are lent nothing");
    const person = ownerOf(owner);
    try {
      table.ids ??= makeIdMap({ uid: owner, gid: person.gid, app: uid });
      // It goes on meanwhile, and is asked for in any case.
      table.ids.catch(() => {});
      const instead = await make?.();
      const ids = await table.ids;
      // The jail may have ended meanwhile, and another have begun.
      if (this.#tables.get(uid) !== table) throw new NotLendable("the jail has ended");
      this.#check(table, wanted);
      this.#attach(table, wanted, person, ids, instead);
    } catch (error) {
      if (error instanceof AppjailError) throw error;
      if (this.#tables.get(uid) === table && table.ids !== undefined) {
        // One that could not be made is tried again for the next.
        await table.ids.catch(() => table.ids = undefined);
      }
      throw refuse(error);
    }
  }

  #check({ entries }: Table, { name, at }: Wanted): void {
    if (entries.has(name)) throw new NotLendable(`something is lent as ${JSON.stringify(name)}`);
    if (entries.size >= lendsMost) throw new NotLendable(`${lendsMost} are lent already`);
    if (at === null) return;
    for (const one of entries.values()) {
      if (one.at !== null && (within(at, one.at) || within(one.at, at))) {
        throw new NotLendable(`at ${at} there would be something below something that is lent`);
      }
    }
  }

  #attach(table: Table, wanted: Wanted, person: Person, ids: Fd, instead: Fd | undefined): void {
    const { uid } = table.allocation;
    const types = mountTypes(hostText("/proc/self/mountinfo"));
    using reached = onBehalfOf(person, () => reach(wanted.path, person.uid, types));
    this.#refuseOwn(reached);
    using mount = cloneMount(instead ?? reached.target);
    // What is not mapped the kernel lets nobody write to, whatever its mode; to connect is to write.
    // An X server of root's listens at a socket of root's, for everybody who has a cookie.
    const { mode, uid: theirs } = instead === undefined ? reached.place : placeOf(instead);
    const forAll = reached.kind === "socket" && theirs !== person.uid && (mode & 0o002) !== 0;
    const type = instead === undefined ? reached.type : types.get(mountOf(instead)) ?? "";
    restrict(mount, wanted.write, forAll ? undefined : ids, type);
    using folder = openFolder(this.#world.jails, String(uid));
    using lend = openLend(folder);
    const { name, path, write, at, until = null } = wanted;
    const lent: Lent = { name, path, write, at, until, context: instead !== undefined };
    const entries = [...table.entries.values(), lent];
    if (new TextEncoder().encode(JSON.stringify(entries)).length > tableMost) {
      throw new NotLendable("the paths of all that is lent are too long together");
    }
    // A name in memory, for the mount to be put on.
    if (reached.kind === "folder") makeFolder(lend, name, 0o755);
    else touch(lend, name);
    try {
      attachMount(mount, lend, name);
      writeLends(folder, entries);
    } catch (error) {
      this.#takeAway(uid, lend, name);
      throw error;
    }
    table.entries.set(name, lent);
  }

  /** Neither appjail's own folders, nor what they lie in, nor anything in them. */
  #refuseOwn({ folder, place, kind }: Reached): void {
    const above = ancestorsOf(folder);
    for (const own of this.#world.own) {
      const inside = above.includes(placeOf(own).inode);
      const around = kind === "folder" && ancestorsOf(own).includes(place.inode);
      if (inside || around) throw new NotLendable("a folder of appjail's own is there");
    }
  }

  /** Takes one name out of the folder of a jail: from its path at once, whoever uses it. */
  #takeAway(uid: AppUid, lend: Fd, name: string): void {
    const path = `${this.#folderOf(uid)}/${name}`;
    while (unmount(path));
    try {
      removeFile(lend, name);
    } catch (error) {
      if (!isErrno(error, "EISDIR")) throw error;
      removeFolder(lend, name);
    }
  }

  /** The default: `~/Shared/PROFILE` of a person's, made when it is first used. */
  async #lendShared(table: Table): Promise<void> {
    const { owner, profile } = table.allocation;
    const person = ownerOf(owner);
    if (owner < firstPerson || owner === nobody || !person.home?.startsWith("/")) return;
    try {
      const path = onBehalfOf(person, () => sharedFolder(person, `${person.home}`, profile));
      await this.#lend(table, {
        name: parsed(lendName, "shared", notLendable),
        path: parsed(absolutePath, path, notLendable),
        write: true,
        at: parsed(absolutePath, `${homeOf(profile)}/shared`, notLendable),
      });
    } catch (error) {
      // What nobody has asked for must not keep a jail from starting.
      this.#world.log.info(`jail ${profile} has no ~/shared: ${wordsOf(error)}`);
    }
  }
}

/** The path that a profile means, as the person has it. */
function sourceOf(owner: number, source: LendSource): AbsolutePath {
  if (source.startsWith("/")) return parsed(absolutePath, source, notLendable);
  const person = ownerOf(owner);
  const { home } = person;
  if (home?.startsWith("/") !== true) {
    throw new NotLendable("its owner has no home that passwd(5) knows of", true);
  }
  const path = pathOf(source, home, source.startsWith("xdg-") ? userDirsOf(person, home) : "");
  if (path === undefined) throw new NotLendable("there is no folder of that name");
  return parsed(absolutePath, path, notLendable);
}

/** What the person's desktop says of its folders: next to nothing is believed of it. */
function userDirsOf(person: Person, home: string): string {
  const bytes = readAs(person, `${home}/.config/user-dirs.dirs`, 64 * 1024);
  // There is none, or one that cannot be read: then folders are where they usually are.
  return bytes === undefined ? "" : new TextDecoder().decode(bytes);
}

/** Goes to the end of a path as an owner would. @throws {NotLendable} where they cannot */
export function reachAs(person: Person, path: AbsolutePath): Reached & Disposable {
  const types = mountTypes(hostText("/proc/self/mountinfo"));
  return onBehalfOf(person, () => reach(path, person.uid, types));
}

/** Why an owner cannot connect to a socket, in words; `undefined`: they can. */
export function socketProblem(owner: number, path: AbsolutePath): string | undefined {
  try {
    using reached = reachAs(ownerOf(owner), path);
    return reached.kind === "socket" ? undefined : "it is no socket";
  } catch (error) {
    if (error instanceof NotLendable) return wordsOf(error);
    throw error;
  }
}

/**
 * The beginning of a file, as somebody may read it; `undefined` where they may not, or it is none. The
 * way is that of what is lent: a file of FUSE, whose server need not answer, would hold up everybody.
 */
function readAs(person: Person, path: string, most: number): Uint8Array<ArrayBuffer> | undefined {
  const types = mountTypes(hostText("/proc/self/mountinfo"));
  try {
    return onBehalfOf(person, () => {
      using reached = reach(path, person.uid, types);
      if (reached.kind !== "file") return undefined;
      using file = openFileBehind(`/proc/self/fd/${reached.target.number}`);
      return readAll(file.number, most);
    });
  } catch {
    return undefined;
  }
}

/** The beginning of a file of an owner's, with the rights that they have. */
export function readAsOwner(
  owner: number,
  path: AbsolutePath,
  most: number,
): Uint8Array<ArrayBuffer> | undefined {
  return readAs(ownerOf(owner), path, most);
}

/** Makes the folder, as the person; returns where it is. */
function sharedFolder(person: Person, home: string, profile: ProfileName): string {
  const types = mountTypes(hostText("/proc/self/mountinfo"));
  let path = home.replace(/\/+$/, "");
  for (const name of ["Shared", profile]) {
    using at = reach(path, person.uid, types);
    // Somebody else's home is no place to make anything in.
    if (at.kind !== "folder" || at.place.uid !== person.uid) {
      throw new NotLendable(`${path} is no folder of yours`);
    }
    makeFolder(at.target, name, 0o700);
    path += `/${name}`;
  }
  return path;
}

/** Somebody as passwd(5) and group(5) have them; who is in neither has a group like their uid. */
export function ownerOf(uid: number): Owner {
  const account = accountOf(hostText("/etc/passwd"), uid);
  return {
    uid,
    gid: account?.gid ?? uid,
    groups: account === undefined ? [] : groupsOf(hostText("/etc/group"), account.name),
    home: account?.home,
  };
}

/**
 * Places that lie in others come after them, and the order is always the same; what is not wanted
 * with another comes last.
 */
function byPlace(one: SpecLend, other: SpecLend): number {
  const last = Number(one.unless !== null) - Number(other.unless !== null);
  return last || ((one.at ?? "") < (other.at ?? "") ? -1 : 1);
}

/** Whether one absolute path is another, or lies below it. */
function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function openLend(folder: Fd): Fd {
  try {
    return openFolder(folder, "lend");
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    throw new NotLendable("the jail was started by an earlier appjail; stop it first");
  }
}

/** A folder and all that it lies in, up to the root, by what tells them apart. */
function ancestorsOf(folder: Fd): readonly string[] {
  const found = [placeOf(folder).inode];
  using way = new DisposableStack();
  for (let at = folder;;) {
    at = way.use(openPlace(at, ".."));
    const { inode } = placeOf(at);
    if (inode === found.at(-1)) return found;
    found.push(inode);
  }
}

/** Whether something is mounted on a name. */
function isMount(folder: Fd, name: string): boolean {
  using place = openPlace(folder, name);
  return mountOf(place) !== mountOf(folder);
}

/** Unmounts one layer, at once or when those who are in it leave; false when there was none. */
function leave(path: string): boolean {
  switch (unmountUnused(path)) {
    case "done":
      return true;
    case "busy":
      return unmount(path);
    case "nothing":
      return false;
  }
}

function restrict(mount: Fd, write: boolean, ids: Fd | undefined, type: string): void {
  try {
    restrictMount(mount, write, ids);
  } catch (error) {
    if (isErrno(error, "EINVAL")) {
      throw new NotLendable(
        `it lies on a file system of type ${type}, which this kernel cannot id-map`,
      );
    }
    if (isErrno(error, "EPERM")) {
      throw new NotLendable(`it lies on a mount of type ${type} that is id-mapped already`);
    }
    if (isErrno(error, "ENOSYS")) {
      throw new NotLendable("this kernel cannot id-map a mount: it takes Linux 5.12 or later");
    }
    throw error;
  }
}

function refused(
  { path }: { readonly path: string },
  profile: ProfileName,
  why: unknown,
): AppjailError {
  const words = why instanceof SystemError
    ? why.message
    : typeof why === "string"
    ? why
    : wordsOf(why);
  return new AppjailError(
    "lend-refused",
    `Cannot lend ${JSON.stringify(path)} to "${profile}": ${words}`,
    { cause: why },
  );
}

function notLendable(wrong: string): NotLendable {
  return new NotLendable(wrong);
}
