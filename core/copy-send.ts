/**
 * The end of a copy that sends: what was named, and what is below it. A symbolic link is sent as one
 * and never followed, also when it takes the place of a file or a folder while that is read.
 *
 * Run by the client for `put`, and by the copier in the jail for `get`.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import type { Fd } from "../ipc/fd.ts";
import { type CopyWriter, type Skipped, Turns } from "./copy-stream.ts";
import { isStagingName } from "./copy-receive.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import {
  namesIn,
  nextData,
  openFile,
  openFolder,
  readLink,
  type Status,
  statusAt,
  statusOf,
  type Time,
} from "./kernel.ts";
import { printable } from "./log.ts";

/** What was named: a name in an open folder. */
export interface Source {
  readonly folder: Fd;
  readonly name: string;
  /** As the person wrote it. */
  readonly shown: string;
}

/** A path as the folder in which its last name stands, and that name. */
export function splitPath(path: string): { readonly folder: string; readonly name: string } {
  const plain = path.replace(/\/+$/, "");
  const slash = plain.lastIndexOf("/");
  return {
    folder: slash < 0 ? "." : slash === 0 ? "/" : plain.slice(0, slash),
    name: plain.slice(slash + 1),
  };
}

/** One that is smaller is not asked for its holes. */
const holesFrom = 256 * 1024;
/** As much is read of a file that says it is empty. */
const sizelessMost = 16 * 1024 * 1024;
/** As much of a path as is told. */
const shownMost = 4096;
/** A file that is replaced by something else again and again is given up. */
const triesMost = 10;

export interface SendOptions {
  /** Whether it is of interest how much it is. */
  readonly measure: boolean;
  readonly measured?: (bytes: number) => void;
  readonly skipped: (skipped: Skipped) => void | Promise<void>;
}

/** Sends everything, to the end of the stream. */
export async function sendAll(
  writer: CopyWriter,
  sources: readonly Source[],
  options: SendOptions,
): Promise<void> {
  if (options.measure) {
    let bytes = 0;
    const turns = new Turns();
    for (const { folder, name } of sources) bytes += await measured(folder, name, turns);
    options.measured?.(bytes);
    await writer.record({ type: "measured", bytes });
    await writer.flush();
  }
  const sender = new Sender(writer, options.skipped);
  for (const { folder, name, shown } of sources) {
    const there = statusAt(folder, name) !== undefined;
    if (!there || !await sender.entry(folder, name, shown)) {
      throw new AppjailError(
        "copy-failed",
        `Cannot copy ${printable(shown)}: it is ` +
          (there ? "no file, folder or symbolic link" : "not there"),
      );
    }
  }
  await writer.record({ type: "end" });
  await writer.flush();
}

class Sender {
  readonly #writer: CopyWriter;
  readonly #skipped: SendOptions["skipped"];

  constructor(writer: CopyWriter, skipped: SendOptions["skipped"]) {
    this.#writer = writer;
    this.#skipped = skipped;
  }

  /** Sends what has this name; false when that is nothing which can be sent. */
  async entry(folder: Fd, name: string, shown: string): Promise<boolean> {
    if (isStagingName(name)) return await this.#skip(shown, "unfinished");
    for (let tries = 0; tries < triesMost; tries++) {
      const status = statusAt(folder, name);
      if (status === undefined) break;
      try {
        if (await this.#as(status.kind, folder, name, shown)) return true;
        return await this.#skip(shown, status.kind === "socket" ? "socket" : "device");
      } catch (error) {
        if (!(error instanceof Changed)) {
          if (error instanceof AppjailError || isErrno(error, "EPIPE")) throw error;
          const why = `Cannot copy ${printable(shown)}: ${printable(wordsOf(error))}`;
          throw new AppjailError("copy-failed", why, { cause: error });
        }
        // It is looked at again.
      }
    }
    return await this.#skip(shown, "gone");
  }

  async #skip(path: string, why: Skipped["why"]): Promise<false> {
    const shown = path.length > shownMost ? `…${path.slice(-shownMost)}` : path;
    await this.#skipped({ type: "skipped", path: shown, why });
    return false;
  }

  async #as(kind: Status["kind"], folder: Fd, name: string, shown: string): Promise<boolean> {
    switch (kind) {
      case "link": {
        const target = readLink(folder, name);
        if (target === undefined) throw new Changed();
        await this.#writer.record({ type: "link", name, target });
        return true;
      }
      case "folder":
        await this.#folder(folder, name, shown);
        return true;
      case "file":
        await this.#file(folder, name);
        return true;
      case "socket":
      case "other":
        return false;
      default:
        return kind satisfies never;
    }
  }

  async #folder(folder: Fd, name: string, shown: string): Promise<void> {
    using inside = still(() => openFolder(folder, name));
    const { mode, modified } = statusOf(inside);
    const names = namesIn(inside);
    await this.#writer.record({
      type: "folder",
      name,
      mode: mode & 0o777,
      modified: sane(modified),
    });
    for (const each of names) await this.entry(inside, each, `${shown}/${each}`);
    await this.#writer.record({ type: "leave" });
  }

  async #file(folder: Fd, name: string): Promise<void> {
    using file = still(() => openFile(folder, name));
    const { kind, mode, modified, size, stored } = statusOf(file);
    if (kind !== "file") throw new Changed();
    await this.#writer.record({ type: "file", name, mode: mode & 0o777, modified: sane(modified) });
    // What is appended meanwhile is left out, lest it never ends. In /proc nothing has a size.
    let end = size === 0 ? await this.#writer.bytes(file, 0, sizelessMost) : 0;
    while (end < size) {
      const piece = stored < size && size >= holesFrom
        ? nextData(file, end, size)
        : [end, size] as const;
      if (piece === undefined) {
        // A hole up to its end, unless it was cut meanwhile.
        end = Math.max(end, Math.min(size, statusOf(file).size));
        break;
      }
      const [from, to] = [piece[0], Math.min(piece[1], size)];
      if (from >= size) {
        end = size;
        break;
      }
      end = await this.#writer.bytes(file, from, to);
      if (end < to) break;
    }
    await this.#writer.record({ type: "close", size: end });
  }
}

/** A time that the other end takes: some file systems have times of which no calendar knows. */
function sane([seconds, nanoseconds]: Time): [number, number] {
  return [Math.max(-(2 ** 40), Math.min(2 ** 40, seconds)), nanoseconds];
}

/** Something else has taken the place of what was seen there. */
class Changed extends Error {}

function still(open: () => Fd): Fd {
  try {
    return open();
  } catch (error) {
    if (isErrno(error, "ENOENT", "ELOOP", "ENOTDIR", "ENXIO")) throw new Changed();
    throw error;
  }
}

/** About how many bytes there are to be sent; what cannot be looked at counts nothing. */
async function measured(folder: Fd, name: string, turns: Turns): Promise<number> {
  try {
    const status = statusAt(folder, name);
    if (status?.kind === "file") return Math.min(status.size, status.stored);
    if (status?.kind !== "folder" || isStagingName(name)) return 0;
    using inside = openFolder(folder, name);
    let bytes = 0;
    for (const each of namesIn(inside)) bytes += await measured(inside, each, turns);
    await turns.pass();
    return bytes;
  } catch {
    return 0;
  }
}
