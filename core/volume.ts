/**
 * Encrypted homes as they lie on the disk: which kind of volume a home is, whether it is whole, and
 * the words by which it is mounted. encfs(1), gocryptfs(1).
 *
 * A home is a volume when the configuration of one stands in it. That file is root's: the app could
 * put one of its own into a plain home, or take the place of a real one, and then somebody's
 * passphrase would be asked for by what the app has made (attack on the config, not on the cipher).
 *
 * @module
 */
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  changeMode,
  createFile,
  makeFolder,
  openFile,
  openFolder,
  readText,
  removeFile,
  rename,
  statusAt,
  statusOf,
  synchronize,
} from "./kernel.ts";
import type { AppUid } from "./names.ts";
import { type VolumeKind, volumeKinds } from "./protocol.ts";

/** The configuration of each kind; it holds the key, which the passphrase opens. */
export const configName: Readonly<Record<VolumeKind, string>> = {
  encfs: ".encfs6.xml",
  gocryptfs: "gocryptfs.conf",
};

/** The program of each kind. */
export const volumeProgram: Readonly<Record<VolumeKind, string>> = {
  encfs: "/usr/bin/encfs",
  gocryptfs: "/usr/bin/gocryptfs",
};

/** What mountinfo calls a mounted one. */
export const mountType: Readonly<Record<VolumeKind, string>> = {
  encfs: "fuse.encfs",
  gocryptfs: "fuse.gocryptfs",
};

/** Larger than any configuration there is. */
const configMost = 64 * 1024;

/** What encfs before 1.3 called its configuration: such a volume is converted by encfs itself. */
const oldConfigs: readonly string[] = [".encfs", ".encfs2", ".encfs3", ".encfs4", ".encfs5"];

/** Where the copies of configurations are, in the state folder. */
const copiesName = "volumes";

/**
 * Which kind of volume a home is; `undefined` for a plain one.
 *
 * @param home the open home, which has been checked to be the profile's
 * @param path where it is, for a person
 * @throws {AppjailError} `home-refused` for one that is damaged, unknown, or not to be trusted
 */
export function volumeIn(home: Fd, path: string, state: Fd, uid: AppUid): VolumeKind | undefined {
  const has = (name: string): boolean => statusAt(home, name) !== undefined;
  const found = volumeKinds.filter((kind) => has(configName[kind]));
  const refused = (why: string): AppjailError =>
    new AppjailError("home-refused", `Cannot use the encrypted home ${path}: ${why}`);
  const [kind] = found;
  if (found.length > 1) {
    throw refused(`both ${configName.encfs} and ${configName.gocryptfs} stand in it; remove one`);
  }
  if (kind === undefined) {
    for (const kind of volumeKinds) {
      const copy = copyName(uid, kind);
      if (!hasCopy(state, copy)) continue;
      throw refused(
        `its ${configName[kind]} is gone, without which nothing in it can be read; a copy is in ` +
          `the state folder: ${copiesName}/${copy}`,
      );
    }
    if (has("gocryptfs.diriv")) {
      throw refused(`its ${configName.gocryptfs} is gone, without which nothing in it can be read`);
    }
    const old = oldConfigs.find((name) => isFile(home, name));
    if (old !== undefined) {
      throw refused(`${old} is of an old encfs; open and close it once with a newer encfs`);
    }
    return undefined;
  }
  const name = configName[kind];
  try {
    using file = openFile(home, name);
    const status = statusOf(file);
    if (status.kind !== "file" || status.links !== 1) throw new Error("it is no plain file");
    if (status.uid !== 0 || (status.mode & 0o022) !== 0) {
      throw new Error(
        "it has to be a file that only root can write, so that the app cannot have made it; if " +
          `the volume is yours: chown -R ${uid}:${uid} ${path}; chown root:root ${path}/${name}; ` +
          `chmod 600 ${path}/${name}`,
      );
    }
    if (status.size > configMost) throw new Error("it is too long to be one");
    const text = new TextDecoder("utf-8", { fatal: true }).decode(readAll(file.number, configMost));
    const wrong = damageOf(kind, text);
    if (wrong !== undefined) throw new Error(`it is damaged: ${wrong}`);
  } catch (error) {
    const words = isErrno(error, "ELOOP") ? "it is a link" : wordsOf(error);
    throw refused(`${name}: ${words}`);
  }
  return kind;
}

function isFile(folder: Fd, name: string): boolean {
  try {
    using file = openFile(folder, name);
    return statusOf(file).kind === "file";
  } catch {
    return false;
  }
}

/** What a configuration lacks; `undefined` when it is whole. */
export function damageOf(kind: VolumeKind, text: string): string | undefined {
  switch (kind) {
    case "encfs": {
      // Written by Boost, and never as anything else: encfs itself reads it by the same words.
      const parts = ["<boost_serialization", "<encodedKeyData>", "</encodedKeyData>", "<cipherAlg"];
      const missing = [...parts, "</boost_serialization>"].find((part) => !text.includes(part));
      return missing === undefined ? undefined : `there is no ${missing} in it`;
    }
    case "gocryptfs": {
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch {
        return "it is not JSON";
      }
      if (typeof value !== "object" || value === null) return "it is no JSON object";
      const missing = ["EncryptedKey", "ScryptObject", "Version"].find((name) =>
        !Object.hasOwn(value, name)
      );
      if (missing !== undefined) return `there is no ${missing} in it`;
      const { Version: version } = value as { readonly Version: unknown };
      return version === 2 ? undefined : `it is of version ${JSON.stringify(version)}, not 2`;
    }
    default:
      return kind satisfies never;
  }
}

// --- Copies of configurations ----------------------------------------------------------------

function copyName(uid: AppUid, kind: VolumeKind): string {
  return `${uid}${configName[kind].startsWith(".") ? "" : "."}${configName[kind]}`;
}

function hasCopy(state: Fd, name: string): boolean {
  try {
    using folder = openFolder(state, copiesName);
    return isFile(folder, name);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
}

/**
 * Keeps a copy of the configuration of a volume that could be opened: with plain names, an app can
 * remove a file that is called like it through its own home, and all would be lost.
 */
export function keepConfig(home: Fd, state: Fd, uid: AppUid, kind: VolumeKind): void {
  using config = openFile(home, configName[kind]);
  const bytes = readAll(config.number, configMost);
  makeFolder(state, copiesName, 0o700);
  using folder = openFolder(state, copiesName);
  const name = copyName(uid, kind);
  try {
    using copy = openFile(folder, name);
    const known = readAll(copy.number, configMost);
    if (known.length === bytes.length && known.every((byte, at) => byte === bytes[at])) return;
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
  removeFile(folder, `.${name}.new`);
  {
    using copy = createFile(folder, `.${name}.new`, 0o600);
    changeMode(copy, 0o600);
    writeAll(copy.number, bytes);
    synchronize(copy);
  }
  rename(folder, `.${name}.new`, name);
  synchronize(folder);
}

/** Forgets the copies: the home is plain from now on, or another volume. */
export function forgetConfig(state: Fd, uid: AppUid): void {
  try {
    using folder = openFolder(state, copiesName);
    for (const kind of volumeKinds) removeFile(folder, copyName(uid, kind));
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

// --- Mounting --------------------------------------------------------------------------------

/**
 * The words by which a volume is mounted, in the foreground, by root, for the one uid that can pass
 * to where it is mounted; the passphrase comes on the standard input.
 *
 * allow_other lets that uid use what root has mounted; default_permissions has the kernel check the
 * modes, as everywhere else. mount.fuse3(8).
 */
export function mountCommand(kind: VolumeKind, volume: string, target: string): readonly string[] {
  const program = volumeProgram[kind];
  switch (kind) {
    case "encfs":
      // --public is allow_other and default_permissions, and keeps the owners of new files.
      return [program, "-f", "--public", "--stdinpass", "-o", "nosuid,nodev", volume, target];
    case "gocryptfs":
      // allow_other brings default_permissions and keeps owners, when root mounts.
      return [program, "-fg", "-q", "-allow_other", "-nosuid", "-nodev", "--", volume, target];
    default:
      return kind satisfies never;
  }
}

/** How encfs and gocryptfs say that the passphrase was another. */
export function isWrongPassphrase(kind: VolumeKind, code: number, said: string): boolean {
  return kind === "gocryptfs" ? code === 12 : code === 1 && /password incorrect/i.test(said);
}

/** A mount, of proc_pid_mountinfo(5). */
export interface Mount {
  /** The device, `major:minor`; of FUSE, the minor is the connection's name. */
  readonly device: string;
  readonly type: string;
  readonly source: string;
}

/** What is mounted at a path, the topmost of it; `undefined` when nothing is. */
export function mountAt(
  target: string,
  text: string | undefined = readText("/proc/self/mountinfo", 16 * 1024 * 1024),
): Mount | undefined {
  let found: Mount | undefined;
  for (const line of (text ?? "").split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const [, , device = "", , point = ""] = before.split(" ");
    const [type = "", source = ""] = after.split(" ");
    if (unescaped(point) === target) found = { device, type, source: unescaped(source) };
  }
  return found;
}

/** Every place at which something is mounted. */
export function mountPoints(mountinfo = ""): readonly string[] {
  return mountinfo.split("\n").map((line) => unescaped(line.split(" ")[4] ?? ""));
}

/** Spaces and the like are octal there. */
function unescaped(text: string): string {
  return text.replaceAll(
    /\\([0-7]{3})/g,
    (_, octal: string) => String.fromCharCode(parseInt(octal, 8)),
  );
}
