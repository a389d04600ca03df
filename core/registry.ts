/**
 * Which uid belongs to which owner's profile, kept in `uids.json` until nothing of it is left.
 *
 * Run by the helper. The file is root's alone and replaced as a whole; what cannot be read is
 * refused and left as it is, because a registry that begins anew would give one profile's files to
 * another.
 *
 * @module
 */
import * as v from "valibot";
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { isKnownGid, isKnownUid } from "./accounts.ts";
import { remainsOf } from "./home-removal.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  changeMode,
  createFile,
  openFile,
  readText,
  removeFile,
  rename,
  statusOf,
  synchronize,
} from "./kernel.ts";
import { type AppUid, appUid, type OwnerUid, type ProfileName } from "./names.ts";
import { pidsOf } from "./process.ts";
import { type Allocation, allocation } from "./protocol.ts";

export const registryName = "uids.json";
const scratchName = ".uids.json.new";

const registryFile = v.strictObject({ version: v.literal(1), uids: v.array(allocation) });

/** Where uids come from. */
export interface RegistryOptions {
  /** The open state folder. */
  readonly folder: Fd;
  /** Its path, for a person. */
  readonly path: string;
  /** The open data root: a home there means that its uid was once given. */
  readonly dataRoot: Fd;
  readonly first: AppUid;
  readonly last: AppUid;
  /** The most profiles that one owner may have, lest one person take every uid. */
  readonly most: number;
}

/** The uids that were given. */
export class Registry {
  readonly #options: RegistryOptions;
  #entries: readonly Allocation[];

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#entries = readRegistry(options.folder, options.path);
  }

  get entries(): readonly Allocation[] {
    return this.#entries;
  }

  of(uid: AppUid): Allocation | undefined {
    return this.#entries.find((entry) => entry.uid === uid);
  }

  find(owner: OwnerUid, profile: ProfileName): Allocation | undefined {
    return this.#entries.find((entry) => entry.owner === owner && entry.profile === profile);
  }

  /** The uid of an owner's profile, given now when it has none yet. Durable when it returns. */
  allocate(owner: OwnerUid, profile: ProfileName): AppUid {
    const known = this.find(owner, profile);
    if (known !== undefined) return known.uid;
    const { first, last, most } = this.#options;
    const taken = new Set<number>(this.#entries.map((entry) => entry.uid));
    if ((owner >= first && owner <= last) || taken.has(owner)) {
      throw new AppjailError(
        "denied",
        `Cannot make profile "${profile}": uid ${owner} belongs to a jail, not to a person`,
      );
    }
    if (this.#entries.filter((entry) => entry.owner === owner).length >= most) {
      throw new AppjailError(
        "limit",
        `Cannot make profile "${profile}": uid ${owner} has ${most} already, the most there may be`,
      );
    }
    for (let number: number = first; number <= last; number++) {
      if (taken.has(number) || this.#foreign(number)) continue;
      const uid = v.parse(appUid, number);
      const entries = [...this.#entries, { uid, owner, profile }];
      store(this.#options, entries);
      this.#entries = entries;
      return uid;
    }
    throw new AppjailError(
      "no-uid-left",
      `Cannot make profile "${profile}": no uid from ${first} to ${last} is free; ` +
        "give the daemon a larger --uid-range",
    );
  }

  /** Takes a uid back, of which nothing is left anywhere. Durable when it returns. */
  free(uid: AppUid): void {
    const entries = this.#entries.filter((entry) => entry.uid !== uid);
    store(this.#options, entries);
    this.#entries = entries;
  }

  /** Whether anything on the machine but us has to do with a uid. */
  #foreign(uid: number): boolean {
    return isKnownUid(uid) || isKnownGid(uid) ||
      isDelegated(uid, readText("/etc/subuid")) || isDelegated(uid, readText("/etc/subgid")) ||
      remainsOf(this.#options.dataRoot, uid).length > 0 ||
      pidsOf(uid).length > 0;
  }
}

/** Whether subuid(5) lets a person become this uid. */
export function isDelegated(uid: number, subuids = ""): boolean {
  return subuids.split("\n").some((line) => {
    const [, first, count] = line.split(":").map(Number);
    return first !== undefined && count !== undefined && uid >= first && uid < first + count;
  });
}

/**
 * The uids that were given.
 *
 * @param folder the open state folder
 * @param folderPath where it is, for a person
 */
export function readRegistry(folder: Fd, folderPath: string): readonly Allocation[] {
  const path = `${folderPath}/${registryName}`;
  const unreadable = (why: string): AppjailError =>
    new AppjailError(
      "internal",
      `Cannot read the registry of uids, ${path}: ${why}; restore it from a backup, or from the ` +
        "owners of the homes; nothing was changed",
    );
  let text: string;
  try {
    using file = openFile(folder, registryName);
    const status = statusOf(file);
    if (status.kind !== "file" || status.uid !== 0 || (status.mode & 0o022) !== 0) {
      throw new Error("it is not a file that only root can write");
    }
    text = new TextDecoder("utf-8", { fatal: true }).decode(readAll(file.number, 16 * 1024 * 1024));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw unreadable(wordsOf(error));
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unreadable("it is not JSON");
  }
  const result = v.safeParse(registryFile, value, { abortEarly: true });
  if (!result.success) throw unreadable(result.issues[0].message);
  const { uids } = result.output;
  if (new Set(uids.map((entry) => entry.uid)).size !== uids.length) {
    throw unreadable("a uid stands in it twice");
  }
  if (new Set(uids.map((entry) => `${entry.owner} ${entry.profile}`)).size !== uids.length) {
    throw unreadable("an owner's profile stands in it twice");
  }
  return uids;
}

function store({ folder, path }: RegistryOptions, uids: readonly Allocation[]): void {
  try {
    removeFile(folder, scratchName); // of a helper that was killed
    using file = createFile(folder, scratchName, 0o600);
    changeMode(file, 0o600);
    writeAll(
      file.number,
      new TextEncoder().encode(JSON.stringify({ version: 1, uids }, null, 1) + "\n"),
    );
    synchronize(file);
    rename(folder, scratchName, registryName);
    synchronize(folder);
  } catch (error) {
    try {
      removeFile(folder, scratchName);
    } catch {
      // It is not the trouble that is told of.
    }
    throw new AppjailError(
      "internal",
      `Cannot write the registry of uids, ${path}/${registryName}: ${wordsOf(error)}`,
      { cause: error },
    );
  }
}
