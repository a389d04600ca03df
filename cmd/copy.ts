/**
 * `appjail put` and `appjail get`: files into a profile's home, and out of it.
 *
 * The near end of a copy is here and runs as whoever calls it; the far end is the copier, which runs
 * in the jail as a program like any other. What comes from there is the word of an application that
 * may be hostile: it is checked by core/copy-stream.ts and made into files by core/copy-receive.ts.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { Fd, pipe, readSome, setNonblocking } from "../ipc/fd.ts";
import { FrameError } from "../ipc/frame.ts";
import { receiveAll, refuseToOverwrite, Staging } from "../core/copy-receive.ts";
import { sendAll, type Source, splitPath } from "../core/copy-send.ts";
import { CopyReader, CopyWriter, Piece, records, type Skipped } from "../core/copy-stream.ts";
import { within } from "../core/deadline.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { shellStatus } from "../core/exit.ts";
import { openFolderBehind, raiseDescriptorLimit, setUmask, statusAt } from "../core/kernel.ts";
import { printable } from "../core/log.ts";
import { type ProfileName, signalNumbers } from "../core/names.ts";
import { type ExitStatus, protocolVersion } from "../core/protocol.ts";
import { endBySignal, listen } from "../core/signals.ts";
import { socketPath, type World } from "./client.ts";
import { type Carrier, nearCarrier } from "./copy-near.ts";
import { parseProfile } from "./profiles.ts";
import { ProgressBar } from "./progress.ts";

export interface CopyFlags {
  readonly socket?: string | undefined;
  readonly force?: boolean | undefined;
}

/** What ends a copy, and takes back what it has begun. signal(7). */
const ending = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
/** How long a copier has for taking away what it has begun. */
const farewell = 10_000;
/** So many things that are left out are told one by one. */
const notesMost = 50;

const reasons: Readonly<Record<Skipped["why"], string>> = {
  socket: "sockets are not copied",
  device: "devices and FIFOs are not copied",
  unfinished: "it is a copy that was interrupted",
  gone: "it went away meanwhile",
};

// --- The words -------------------------------------------------------------------------------

/** `PROFILE:PATH`, where PATH may be empty; `undefined` when it is something else. */
function inProfile(word: string): readonly [profile: string, path: string] | undefined {
  const colon = word.indexOf(":");
  // A slash before it, as in ./a:b, says that it is a file's name.
  if (colon <= 0 || word.lastIndexOf("/", colon) >= 0) return undefined;
  return [word.slice(0, colon), word.slice(colon + 1)];
}

function usage(why: string, verb: string): AppjailError {
  return new AppjailError("usage", `Cannot ${verb}: ${why}; see: appjail help ${verb}`);
}

/** The name that a copy of this path has, which the last word of the path has to say. */
function nameOf(path: string, verb: string): string {
  const { name } = splitPath(path);
  if (name !== "" && name !== "." && name !== "..") return name;
  throw usage(`${JSON.stringify(printable(path))} does not say a name for the copy`, verb);
}

function refuseTwins(names: readonly string[], verb: string): void {
  const twin = names.find((name, index) => names.indexOf(name, index + 1) >= 0);
  if (twin === undefined) return;
  throw usage(`two of the copies would be called ${JSON.stringify(printable(twin))}`, verb);
}

// --- put -------------------------------------------------------------------------------------

export async function put(
  { socket, force = false }: CopyFlags,
  world: World,
  ...words: readonly string[]
): Promise<number> {
  const last = words.at(-1) ?? "";
  const target = inProfile(last) ?? [last, ""];
  const files = words.slice(0, -1);
  if (files.length === 0) throw usage("name a file, and then PROFILE or PROFILE:DIR", "put");
  const profile = parseProfile(target[0]);
  const names = files.map((file) => nameOf(file, "put"));
  refuseTwins(names, "put");
  raiseLimit();
  using keeps = new DisposableStack();
  // What is named is opened before anything is done.
  const sources = files.map((shown): Source => {
    const { folder: path, name } = splitPath(shown);
    const folder = keeps.use(openAt(path, shown));
    if (statusAt(folder, name) !== undefined) return { folder, name, shown };
    throw new AppjailError("copy-failed", `Cannot copy ${printable(shown)}: it is not there`);
  });
  return await copy(
    profile,
    await carrierFor(socket, world),
    async ({ reader, writer, bar }) => {
      await writer.record({
        type: "receive",
        version: protocolVersion,
        folder: target[1].replace(/(?<=.)\/+$/, "") || ".",
        force,
      });
      await tellPaths(writer, names);
      await expect(reader, "ready");
      bar.copied = () => writer.copied;
      const notes = new Notes(bar);
      try {
        await sendAll(writer, sources, {
          measure: bar.seen,
          measured: (bytes) => bar.total = bytes,
          skipped: (skipped) => notes.take(skipped),
        });
      } catch (error) {
        if (!isErrno(error, "EPIPE")) throw error;
        // It listens no more, and has said why.
        await expect(reader, "arrived");
        throw error;
      }
      await expect(reader, "arrived");
      notes.end();
    },
  );
}

// --- get -------------------------------------------------------------------------------------

export async function get(
  { socket, force = false }: CopyFlags,
  world: World,
  ...words: readonly string[]
): Promise<number> {
  const sources = words.map(inProfile);
  const named = sources.at(-1) === undefined ? words.at(-1) : undefined;
  const wanted = named === undefined ? sources : sources.slice(0, -1);
  const [first] = wanted;
  if (first === undefined) throw usage("name a file, as PROFILE:FILE", "get");
  const paths = wanted.map((source, index) => {
    const word = words[index] ?? "";
    if (source?.[0] === first[0]) return source[1];
    throw usage(`${JSON.stringify(printable(word))} is not of the form ${first[0]}:FILE`, "get");
  });
  const profile = parseProfile(first[0]);
  const names = paths.map((path) => nameOf(path, "get"));
  refuseTwins(names, "get");
  raiseLimit();
  const target = named ?? ".";
  const where = named === undefined ? "" : `${named.replace(/\/+$/, "")}/`;
  using folder = openAt(target, target);
  if (!force) refuseToOverwrite(folder, names, where);
  const carrier = await carrierFor(socket, world);
  await carrier.mustExist(profile);
  const mask = setUmask(0o077);
  return await copy(profile, carrier, async ({ reader, writer, bar }) => {
    using staging = Staging.make(folder);
    await writer.record({ type: "send", version: protocolVersion, measure: bar.seen });
    await tellPaths(writer, paths);
    let copied = 0;
    bar.copied = () => copied;
    const notes = new Notes(bar);
    await receiveAll(reader, staging, {
      names,
      mask,
      measured: (bytes) => bar.total = bytes,
      copied: (bytes) => copied += bytes,
      skipped: (skipped) => notes.take(skipped),
    });
    staging.commit(names, force, where);
    notes.end();
  });
}

// --- Both ------------------------------------------------------------------------------------

/** Who brings the other end to run, on this machine or where it was asked for. */
async function carrierFor(socket: string | undefined, world: World): Promise<Carrier> {
  if (world.host === undefined) return nearCarrier(socketPath(socket, world.env), world);
  return (await import("./copy-far.ts")).farCarrier(world.host, socket, world);
}

/** Each folder on the way down is open. */
function raiseLimit(): void {
  raiseDescriptorLimit();
}

/** A folder as the person names it, by whatever links they have in it. */
function openAt(path: string, shown: string): Fd {
  try {
    return openFolderBehind(path);
  } catch (error) {
    const why = isErrno(error, "ENOENT")
      ? "there is no such folder"
      : isErrno(error, "ENOTDIR")
      ? "that is no folder"
      : printable(wordsOf(error));
    throw new AppjailError("copy-failed", `Cannot copy: ${printable(shown)}: ${why}`, {
      cause: error,
    });
  }
}

async function tellPaths(writer: CopyWriter, paths: readonly string[]): Promise<void> {
  for (const path of paths) await writer.record({ type: "path", path });
  await writer.record({ type: "go" });
  await writer.flush();
}

/** Waits for a word of the copier's, or for why it has none. */
async function expect(reader: CopyReader, word: "ready" | "arrived"): Promise<void> {
  const item = await reader.next(records.answered);
  if (item === undefined) throw new FrameError("it has ended");
  if (item instanceof Piece || (item.type !== word && item.type !== "failed")) {
    throw new FrameError("it makes no sense");
  }
  if (item.type === "failed") throw new AppjailError("copy-failed", printable(item.message));
}

/** What is left out is told, as long as it is not too much. */
class Notes {
  readonly #bar: ProgressBar;
  #count = 0;

  constructor(bar: ProgressBar) {
    this.#bar = bar;
  }

  take({ path, why }: Skipped): void {
    if (++this.#count > notesMost) return;
    this.#bar.say(`appjail: left out ${printable(path)}: ${reasons[why]}`);
  }

  end(): void {
    const more = this.#count - notesMost;
    if (more > 0) this.#bar.say(`appjail: ${more} more were left out`);
  }
}

interface Conversation {
  readonly reader: CopyReader;
  readonly writer: CopyWriter;
  readonly bar: ProgressBar;
}

/** Starts the copier, and does the copying; returns the exit status. */
async function copy(
  profile: ProfileName,
  carrier: Carrier,
  work: (conversation: Conversation) => Promise<void>,
): Promise<number> {
  using bar = new ProgressBar();
  using keeps = new DisposableStack();
  const [input, output, errors] = [pipe(), pipe(), pipe()];
  for (const end of [input.write, output.read, errors.read]) keeps.use(end);
  setNonblocking(errors.read.number);
  await using carried = await carrier.start(profile, [input.read, output.write, errors.write]);
  const { ended } = carried;
  // A copy goes on without the daemon, and what the copier says counts more than how it ends.
  ended.catch(() => {});
  let by: number | undefined;
  const stop = (): void => {
    input.write.close();
    output.read.close();
  };
  for (const signal of ending) {
    listen(signal, () => {
      by ??= signalNumbers[signal];
      stop();
    });
  }
  try {
    const [reader, writer] = [new CopyReader(output.read), new CopyWriter(input.write)];
    await work({ reader, writer, bar });
    return 0;
  } catch (error) {
    stop();
    const status = await within(ended, farewell, () => new Error()).catch((reason) => {
      // Nothing was started at all.
      if (reason instanceof AppjailError && reason.code !== "lost") throw reason;
      return undefined;
    });
    bar[Symbol.dispose]();
    if (by !== undefined) {
      endBySignal(by);
      return 128 + by;
    }
    if (error instanceof AppjailError) throw error;
    const words = lastWords(errors.read);
    throw carrier.explain(status, words) ?? brokenOff(profile, error, status, words);
  }
}

function lastWords(errors: Fd): string {
  const buffer = new Uint8Array(4096);
  const count = readSome(errors.number, buffer) ?? 0;
  return new TextDecoder().decode(buffer.subarray(0, count)).trim().split("\n").at(-1) ?? "";
}

/** The copier has ended without saying why, or has said what makes no sense. */
function brokenOff(
  profile: ProfileName,
  error: unknown,
  status: ExitStatus | undefined,
  words: string,
): AppjailError {
  // What a check says of a lie may quote it.
  const told = printable(wordsOf(error));
  const why = status?.by === "exit" && status.code === 127
    ? `jail "${profile}" was started by another version of appjail; appjail stop ${profile} ends it`
    : !(error instanceof FrameError) && !isErrno(error, "EPIPE")
    ? told
    : status === undefined
    ? `its end in jail "${profile}" has gone (${told})`
    : `its end in jail "${profile}" has ended with status ${shellStatus(status)}` +
      (words === "" ? ` (${told})` : `: ${printable(words)}`);
  return new AppjailError("copy-failed", `The copy was broken off: ${why}`, { cause: error });
}
