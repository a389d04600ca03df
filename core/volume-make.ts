/**
 * Making a volume, and giving it another passphrase: the words by which encfs(1), encfsctl(1) and
 * gocryptfs(1) are told to, and what they mean by how they end. They read passphrases, a line each,
 * from their own standard input, which nobody else reads.
 *
 * @module
 */
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { AppjailError } from "./errors.ts";
import {
  changeMode,
  changeOwner,
  createFile,
  exchange,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  removeFile,
  removeFolder,
  synchronize,
} from "./kernel.ts";
import { printable } from "./log.ts";
import { configName, damageOf, mountCommand, volumeProgram } from "./volume.ts";
import type { VolumeKind } from "./protocol.ts";

/** Larger than any configuration there is. */
const configMost = 64 * 1024;

/**
 * Makes a volume in an empty folder. encfs has no command for that: it makes one when it is to mount
 * what is none, and so it mounts it too, at `scratch`, until it is unmounted.
 */
export function makeCommand(kind: VolumeKind, volume: string, scratch: string): readonly string[] {
  switch (kind) {
    case "encfs": {
      // Without --standard the passphrase would be taken for the answer to a question.
      const [program = "", ...words] = mountCommand(kind, volume, scratch);
      return [program, "--standard", ...words];
    }
    case "gocryptfs":
      // -q also keeps back the master key, which would be shown.
      return [volumeProgram.gocryptfs, "-init", "-q", "--", volume];
    default:
      return kind satisfies never;
  }
}

/** Reads the old and the new passphrase, and changes the configuration in a folder. */
export function passphraseCommand(kind: VolumeKind, folder: string): readonly string[] {
  switch (kind) {
    case "encfs":
      return ["/usr/bin/encfsctl", "autopasswd", folder];
    case "gocryptfs":
      return [volumeProgram.gocryptfs, "-passwd", "-q", "--", folder];
    default:
      return kind satisfies never;
  }
}

/** What it means that one of these commands has failed. */
export function makeFailure(
  what: string,
  kind: VolumeKind,
  code: number,
  said: string,
): AppjailError {
  const wrong = kind === "gocryptfs" ? code === 12 : /invalid password/i.test(said);
  if (wrong) return new AppjailError("wrong-passphrase", "The passphrase is wrong");
  if (/empty Password|zero-length password|error reading password/i.test(said)) {
    return new AppjailError("cancelled", "No passphrase was given; nothing was changed");
  }
  if (/maximum password length/i.test(said)) {
    return new AppjailError("vault-failed", `${what}: the passphrase is too long for ${kind}`);
  }
  const last = said.trim().split("\n").at(-1) ?? "";
  const words = printable(last.slice(0, 1000));
  return new AppjailError(
    "vault-failed",
    `${what}: ${kind} ended with ${code}${words === "" ? "" : `: ${words}`}`,
  );
}

/** Whether a whole configuration stands in a folder. */
export function hasWholeConfig(folder: Fd, kind: VolumeKind): boolean {
  try {
    using config = openFile(folder, configName[kind]);
    const text = new TextDecoder().decode(readAll(config.number, configMost));
    return damageOf(kind, text) === undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ELOOP", "EFBIG")) return false;
    throw error;
  }
}

/** The configuration of a new volume is root's alone, and on the disk. */
export function ownConfig(folder: Fd, kind: VolumeKind): void {
  if (!hasWholeConfig(folder, kind)) {
    throw new AppjailError("vault-failed", `${kind} has made no whole ${configName[kind]}`);
  }
  using config = openFile(folder, configName[kind]);
  changeOwner(config, 0, 0);
  changeMode(config, 0o600);
  synchronize(config);
  synchronize(folder);
}

/**
 * Where a configuration is changed: a folder of root's own with a copy of it. The one in the volume
 * stays as it is until the copy is whole and on the disk, and then they change places at once; so
 * whoever is killed in between leaves one or the other, and never none.
 */
export class ConfigScratch implements Disposable {
  readonly #volume: Fd;
  readonly #kind: VolumeKind;
  readonly #parent: Fd;
  readonly #name: string;
  readonly #folder: Fd;

  /** @param parent a folder that only root can write, on the volume's file system */
  constructor(volume: Fd, kind: VolumeKind, parent: Fd, name: string) {
    this.#volume = volume;
    this.#kind = kind;
    this.#parent = parent;
    this.#name = name;
    makeFolder(parent, name, 0o700);
    this.#folder = openFolder(parent, name);
    try {
      changeOwner(this.#folder, 0, 0);
      changeMode(this.#folder, 0o700);
      this.#empty();
      using config = openFile(volume, configName[kind]);
      using copy = createFile(this.#folder, configName[kind], 0o600);
      writeAll(copy.number, readAll(config.number, configMost));
    } catch (error) {
      this.#folder.close();
      throw error;
    }
  }

  /** Puts the changed configuration in the place of the one before. */
  commit(): void {
    const name = configName[this.#kind];
    ownConfig(this.#folder, this.#kind);
    if (!exchange(name, this.#folder, this.#volume)) {
      throw new AppjailError(
        "vault-failed",
        "The file system cannot let two files change places; nothing was changed",
      );
    }
    synchronize(this.#volume);
  }

  #empty(): void {
    for (const name of namesIn(this.#folder)) removeFile(this.#folder, name);
  }

  [Symbol.dispose](): void {
    try {
      this.#empty();
      removeFolder(this.#parent, this.#name);
    } catch {
      // Only root can reach it, and the next change empties it.
    } finally {
      this.#folder.close();
    }
  }
}
