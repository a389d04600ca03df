/**
 * The files of profiles: those that come with the program, the administrator's, and each person's own.
 *
 * Run by the dispatcher. A person's own are in a folder of the dispatcher's, which no jailed program
 * and no other user can reach, and are written by it alone; what else might stand there, a link, a
 * FIFO, a huge file, is refused and not read. The other two folders are root's.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  createFile,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  removeFile,
  removeFolder,
  rename,
  type Status,
  statusOf,
  synchronize,
} from "./kernel.ts";
import { type OwnerUid, parse, type ProfileName, profileName } from "./names.ts";
import { problemText, readProfile } from "./profile.ts";
import { type Layer, type Lookup, resolve, type Resolved, type Written } from "./profile-layers.ts";
import { largestText } from "./profile-toml.ts";

/** How many profiles of their own one person may have. */
const mostOwn = 300;
/** How many files that were read are remembered. */
const mostKept = 5_000;

const suffix = ".toml";
const scratch = ".new";

/** Where profiles are. */
export interface StoreFolders {
  /** The folder of the dispatcher's own in which each person has one. */
  readonly own: Fd;
  /** Those that come with the program, and where they are; undefined: there are none. */
  readonly shipped: { readonly folder: Fd; readonly path: string } | undefined;
  /** The administrator's, which may come and go. */
  readonly admin: string;
}

/** A profile that somebody has written. */
export interface Listed {
  readonly name: ProfileName;
  /** The last of them holds over the others. */
  readonly files: readonly Written[];
}

/** All profiles that are written. */
export class ProfileStore {
  readonly #folders: StoreFolders;
  /** What was read, with what the file was then. */
  readonly #read = new Map<string, { readonly stamp: string; readonly written: Written }>();

  constructor(folders: StoreFolders) {
    this.#folders = folders;
  }

  /** What a person's profile comes to. */
  resolve(owner: OwnerUid, name: ProfileName): Resolved {
    return resolve(name, this.#lookup(owner));
  }

  /** The same, of a text that would be the person's own. */
  tryOut(owner: OwnerUid, name: ProfileName, text: string): Resolved {
    const lookup = this.#lookup(owner);
    const file = ownName(name);
    const written: Written = { layer: "own", file, text, ...readProfile(text, file) };
    return resolve(name, {
      ...lookup,
      find: (layer, wanted) =>
        layer === "own" && wanted === name ? written : lookup.find(layer, wanted),
    });
  }

  /**
   * What a person's profile comes to, to be used.
   *
   * @throws {AppjailError} when something is wrong with it
   */
  settings(owner: OwnerUid, name: ProfileName): Resolved["settings"] {
    const { settings, problems } = this.resolve(owner, name);
    const [first, ...more] = problems;
    if (first === undefined) return settings;
    throw new AppjailError(
      "profile-refused",
      `Cannot use profile "${name}": ${problemText(first)}` +
        `${more.length > 0 ? ` (and ${more.length} more)` : ""}; try: appjail profile edit ${name}`,
    );
  }

  /** Whether anybody has written it for this person. */
  has(owner: OwnerUid, name: ProfileName): boolean {
    const { find } = this.#lookup(owner);
    return (["own", "admin", "shipped"] as const).some((layer) => find(layer, name) !== undefined);
  }

  /** All that are written for a person, by their names. */
  list(owner: OwnerUid): readonly Listed[] {
    const { find } = this.#lookup(owner);
    return this.#names(owner).map((name) => ({
      name,
      files: (["shipped", "admin", "own"] as const).map((layer) => find(layer, name))
        .filter((file) => file !== undefined),
    }));
  }

  /** The profiles that a command finds, by its name or its path. */
  finders(owner: OwnerUid, command: string): readonly ProfileName[] {
    const last = command.slice(command.lastIndexOf("/") + 1);
    return this.list(owner).filter(({ files }) => {
      // A file that is refused is looked at as far as it can be: what it is for, it may tell, and
      // then its own words say why it is not used.
      const said = files.findLast(({ profile }) => profile.executables !== undefined);
      return said?.profile.executables?.some((one) => one === last || one === command) === true;
    }).map(({ name }) => name);
  }

  /** A person's own text; `undefined` when there is none. */
  own(owner: OwnerUid, name: ProfileName): string | undefined {
    return this.#find(owner, "own", name)?.text;
  }

  /** Keeps a person's own text, which was checked. It is on the disk when this returns. */
  write(owner: OwnerUid, name: ProfileName, text: string): void {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > largestText) throw tooLarge(name);
    const { own } = this.#folders;
    makeFolder(own, String(owner), 0o700);
    using folder = openFolder(own, String(owner));
    const names = namesIn(folder).filter((one) => one.endsWith(suffix));
    if (!names.includes(name + suffix) && names.length >= mostOwn) {
      throw new AppjailError(
        "limit",
        `Cannot keep profile "${name}": you have ${names.length}, the most there may be`,
      );
    }
    try {
      removeFile(folder, scratch); // of a dispatcher that was killed
      {
        using file = createFile(folder, scratch, 0o600);
        writeAll(file.number, bytes);
        synchronize(file);
      }
      rename(folder, scratch, name + suffix);
      synchronize(folder);
      synchronize(own);
    } catch (error) {
      try {
        removeFile(folder, scratch);
      } catch {
        // It is not the trouble that is told of.
      }
      throw new AppjailError("internal", `Cannot keep profile "${name}": ${wordsOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Removes a person's own text. @returns whether there was one */
  remove(owner: OwnerUid, name: ProfileName): boolean {
    const { own } = this.#folders;
    try {
      using folder = openFolder(own, String(owner));
      const was = removeFile(folder, name + suffix);
      synchronize(folder);
      if (namesIn(folder).length === 0) removeFolder(own, String(owner));
      return was;
    } catch (error) {
      if (isErrno(error, "ENOENT")) return false;
      throw new AppjailError("internal", `Cannot remove profile "${name}": ${wordsOf(error)}`, {
        cause: error,
      });
    }
  }

  // --- Files -----------------------------------------------------------------------------------

  #lookup(owner: OwnerUid): Lookup {
    // What was looked for once is the same for as long as one request is served.
    const found = new Map<string, Written | undefined>();
    return {
      find: (layer, name) => {
        const key = `${layer} ${name}`;
        if (!found.has(key)) found.set(key, this.#find(owner, layer, name));
        return found.get(key);
      },
      names: () => this.#names(owner),
    };
  }

  #names(owner: OwnerUid): readonly ProfileName[] {
    const all = (["shipped", "admin", "own"] as const).flatMap((layer) => {
      using folder = this.#open(owner, layer);
      return folder === undefined ? [] : namesIn(folder.fd);
    });
    const names = new Set(all).values().filter((name) => name.endsWith(suffix))
      .map((name) => parse(profileName, name.slice(0, -suffix.length)))
      .flatMap((parsed) => "value" in parsed ? [parsed.value] : []);
    return [...names].sort();
  }

  /** The folder of a layer, if it is there. */
  #open(
    owner: OwnerUid,
    layer: Layer,
  ): (Disposable & { readonly fd: Fd; readonly path: string }) | undefined {
    const { own, shipped, admin } = this.#folders;
    if (layer === "shipped") {
      if (shipped === undefined) return undefined;
      return { fd: shipped.folder, path: shipped.path, [Symbol.dispose]: () => {} };
    }
    try {
      const fd = layer === "own" ? openFolder(own, String(owner)) : openFolder("root", admin);
      return { fd, path: layer === "own" ? "" : admin, [Symbol.dispose]: () => fd.close() };
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
      throw new AppjailError(
        "profile-refused",
        `Cannot read ${layer === "own" ? "your profiles" : `the profiles in ${admin}`}: ${
          wordsOf(error)
        }`,
        { cause: error },
      );
    }
  }

  #find(owner: OwnerUid, layer: Layer, name: ProfileName): Written | undefined {
    using place = this.#open(owner, layer);
    if (place === undefined) return undefined;
    const file = layer === "own" ? ownName(name) : `${place.path}/${name}${suffix}`;
    const key = `${layer === "own" ? owner : layer} ${name}`;
    try {
      using opened = openFile(place.fd, name + suffix);
      const status = statusOf(opened);
      const stamp = stampOf(status);
      const known = this.#read.get(key);
      if (known?.stamp === stamp) return known.written;
      const written = { layer, file, ...readWritten(opened, status, file) };
      this.#read.delete(key);
      this.#read.set(key, { stamp, written });
      for (const oldest of this.#read.keys()) {
        if (this.#read.size <= mostKept) break;
        this.#read.delete(oldest);
      }
      return written;
    } catch (error) {
      this.#read.delete(key);
      if (isErrno(error, "ENOENT")) return undefined;
      return { layer, file, ...refused(file, wordsOf(error)) };
    }
  }
}

/** How a person's own file is called, for them: its path is one that they cannot use. */
function ownName(name: ProfileName): string {
  return `own/${name}${suffix}`;
}

/** What changes when a file is changed. */
function stampOf({ inode, size, modified }: Status): string {
  return [inode, size, ...modified].join(" ");
}

function readWritten(
  file: Fd,
  { kind, size }: Status,
  name: string,
): Omit<Written, "layer" | "file"> {
  if (kind !== "file") return refused(name, "it is no file");
  if (size > largestText) return refused(name, `it is larger than ${largestText} bytes`);
  const bytes = readAll(file.number, largestText);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return refused(name, "it is not UTF-8");
  }
  return { text, ...readProfile(text, name) };
}

function refused(file: string, message: string): Omit<Written, "layer" | "file"> {
  return { text: "", profile: {}, problems: [{ file, line: 1, message }], lineOf: () => 1 };
}

function tooLarge(name: string): AppjailError {
  return new AppjailError(
    "profile-refused",
    `Cannot keep profile "${name}": it is larger than ${largestText} bytes`,
  );
}
