/**
 * The converter: root's hands for one long piece of work on a home at rest. It makes a volume, copies
 * a home and verifies the copy, changes a passphrase, or removes what is not wanted any more; then it
 * ends. Which home is which, and when they change places, its parent decides: core/conversion.ts.
 *
 * What it may not do: read a passphrase (it is on its standard input for encfs and gocryptfs alone),
 * follow a link, leave the folders that it was given. No program runs in the home meanwhile.
 *
 * @module
 */
import { Channel } from "../ipc/channel.ts";
import { isErrno } from "../ipc/errno.ts";
import { Fd, open, pipe, readSome, setNonblocking, writeSome } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { compareTrees, type Difference } from "../core/compare.ts";
import { within } from "../core/deadline.ts";
import { setpriv } from "../core/drop.ts";
import { AppjailError, asAppjailError, exitFailure } from "../core/errors.ts";
import {
  effectiveUid,
  exists,
  freeSpace,
  leaveSessionKeyring,
  makeFolder,
  namesIn,
  openFolder,
  openFolderBy,
  openPidfd,
  raiseDescriptorLimit,
  reap,
  rename,
  setUmask,
  signalPidfd,
  spawn,
  statusAt,
  statusOf,
  unmount,
} from "../core/kernel.ts";
import { roleEnvironment } from "../core/launch.ts";
import { printable } from "../core/log.ts";
import { Pace } from "../core/pace.ts";
import {
  converterOptions,
  type ConverterToHelper,
  type ConverterWork,
  type HelperToConverter,
  toConverter,
} from "../core/protocol.ts";
import { measureTree, removeTree } from "../core/removal.ts";
import { begin } from "../core/role.ts";
import {
  bounded,
  copyCommand,
  excluding,
  progressIn,
  rsync,
  rsyncFailure,
  rsyncHint,
} from "../core/rsync.ts";
import { type Survey, survey } from "../core/survey.ts";
import { mountAt, mountType, volumeProgram } from "../core/volume.ts";
import {
  ConfigScratch,
  hasWholeConfig,
  makeCommand,
  makeFailure,
  ownConfig,
  passphraseCommand,
} from "../core/volume-make.ts";

/** How often it tells how far it is, in milliseconds. */
const interval = 250;

/** How long encfs has for leaving after it was unmounted, and programs that were killed. */
const leaveDeadline = 20_000;

/** How often a copy is made right until it has to be the same. */
const rounds = 3;

type Of<W extends ConverterWork["what"]> = Extract<ConverterWork, { readonly what: W }>;
type Progress = Extract<ConverterToHelper, { readonly type: "progress" }>;
type Done = Omit<Extract<ConverterToHelper, { readonly type: "done" }>, "type">;

/** Runs the converter. The exit status is returned. */
export async function converter(text: string): Promise<number> {
  const { work } = begin("converter", converterOptions(), text, ["socket", "file"]);
  if (effectiveUid() !== 0) {
    throw new AppjailError("usage", "The converter has to be root: it copies what others own");
  }
  leaveSessionKeyring();
  setUmask(0o077);
  // Each folder on the way down is open, in both trees.
  raiseDescriptorLimit();
  using channel = new Channel<HelperToConverter, ConverterToHelper>(new Fd(3), toConverter);
  using lock = new Fd(4);
  const stop = new AbortController();
  const leave = (): void => stop.abort();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, leave);
  }
  for (const name of ["ffi", "env", "read", "write", "net", "run", "sys"] as const) {
    Deno.permissions.revokeSync({ name });
  }
  // Whatever else it is: nobody waits for this any more.
  void channel.receive().then(leave, leave);
  try {
    const done = await new Converter(channel, lock, stop.signal).perform(work);
    channel.send({ type: "done", ...done });
    await channel.drain();
    return 0;
  } catch (error) {
    const { code, message } = asAppjailError(error);
    if (!stop.signal.aborted) {
      channel.send({ type: "failed", code, message: message.slice(0, 8000) });
    }
    await channel.drain();
    return exitFailure;
  }
}

/** How a program ended and what it said. */
interface Ended {
  /** wait(2)'s raw status. */
  readonly status: number;
  readonly said: string;
}

class Converter {
  readonly #channel: Channel<HelperToConverter, ConverterToHelper>;
  readonly #lock: Fd;
  readonly #signal: AbortSignal;
  #told = -Infinity;

  constructor(
    channel: Channel<HelperToConverter, ConverterToHelper>,
    lock: Fd,
    signal: AbortSignal,
  ) {
    this.#channel = channel;
    this.#lock = lock;
    this.#signal = signal;
  }

  perform(work: ConverterWork): Promise<Done> {
    switch (work.what) {
      case "make":
        return this.#make(work);
      case "copy":
        return this.#copy(work);
      case "passphrase":
        return this.#changePassphrase(work);
      case "measure":
        return this.#measure(work);
      case "remove":
        return this.#remove(work);
      default:
        return work satisfies never;
    }
  }

  /** Tells how far it is, if that is not too soon after the last time. */
  #tell(progress: () => Omit<Progress, "type">): void {
    const now = performance.now();
    if (now - this.#told < interval) return;
    this.#told = now;
    this.#channel.send({ type: "progress", ...progress() });
  }

  // --- A volume --------------------------------------------------------------------------------

  async #make({ kind, volume, scratch }: Of<"make">): Promise<Done> {
    using folder = openFolder("root", volume);
    if (hasWholeConfig(folder, kind)) {
      ownConfig(folder, kind);
      return { files: 0, bytes: 0, notes: [] };
    }
    // Of one that was interrupted; nothing was copied to it yet.
    for (const name of namesIn(folder)) {
      await removeTree(folder, name, new Pace(this.#signal));
    }
    need(volumeProgram[kind], `try: apt install ${kind}`);
    const command = makeCommand(kind, volume, scratch);
    const what = `Cannot make a ${kind} volume`;
    if (kind === "encfs") {
      unmount(scratch);
      using mounts = open("/proc/self/mountinfo", 0);
      const started = this.#start(bounded(command), 0);
      const ended = started.ended.then(() => "ended" as const);
      try {
        while (mountAt(scratch)?.type !== mountType.encfs) {
          // The kernel says POLLPRI of it whenever something is mounted. proc_pid_mounts(5).
          const POLLPRI = 2;
          const next = await Promise.race([poller.wait(mounts.number, POLLPRI), ended]);
          if (next !== "ended") continue;
          const { status, said } = await started.ended;
          throw makeFailure(what, kind, status >> 8, said);
        }
      } finally {
        unmount(scratch);
        await within(started.ended, leaveDeadline, () => new Error("encfs does not leave"))
          .catch((error: unknown) => {
            started.kill();
            throw error;
          });
      }
    } else {
      const { status, said } = await this.#start(bounded(command), 0).ended;
      if (status !== 0) throw makeFailure(what, kind, status >> 8, said);
    }
    this.#signal.throwIfAborted();
    ownConfig(folder, kind);
    return { files: 0, bytes: 0, notes: [] };
  }

  async #changePassphrase({ kind, volume, parent, scratch }: Of<"passphrase">): Promise<Done> {
    need(volumeProgram[kind], `try: apt install ${kind}`);
    using folder = openFolder("root", volume);
    using above = openRootOnly(parent);
    using config = new ConfigScratch(folder, kind, above, scratch);
    const command = passphraseCommand(kind, `${parent}/${scratch}`);
    const { status, said } = await this.#start(bounded(command), 0).ended;
    this.#signal.throwIfAborted();
    if (status !== 0) {
      throw makeFailure("Cannot change the passphrase", kind, status >> 8, said);
    }
    config.commit();
    return { files: 0, bytes: 0, notes: [] };
  }

  // --- A copy ----------------------------------------------------------------------------------

  async #copy({ from, to, target, stored }: Of<"copy">): Promise<Done> {
    need(rsync, rsyncHint);
    need(setpriv, "try: apt install util-linux");
    using source = openFolder("root", from);
    using copy = openFolder("root", to);
    const pace = new Pace(this.#signal);
    const [prefix = ""] = [from, to, stored].sort((one, other) => other.length - one.length);
    const all = await survey(source, {
      target,
      prefix,
      pace,
      counted: (files, bytes) =>
        this.#tell(() => ({ phase: "counting", files, bytes, files_total: 0, bytes_total: 0 })),
    });
    const totals = { files_total: all.names, bytes_total: all.bytes };
    const room = freeSpace(copy);
    if (namesIn(copy).length === 0 && all.stored > room) {
      throw new AppjailError(
        "vault-failed",
        `Cannot copy the home: it takes ${megabytes(all.stored)}, and there is room for ` +
          `${megabytes(room)}; nothing was changed`,
      );
    }
    await mendUnreadable(copy, pace);
    for (let round = 1;; round++) {
      const said = new CopyProgress(all);
      await this.#runRsync(copyCommand("dense", from, to, target), said, excluding(all.sparse));
      if (all.sparse.length > 0) {
        said.next();
        await this.#runRsync(copyCommand("sparse", from, to, target), said);
      }
      const result = await compareTrees(source, copy, {
        target,
        mend: true,
        pace,
        compared: (files, bytes) =>
          this.#tell(() => ({ phase: "verifying", files, bytes, ...totals })),
      });
      if (result.differences.length === 0 && result.names === all.names) {
        const notes = notesOn(all, result.thick, target);
        return { files: all.names, bytes: all.bytes, notes };
      }
      if (round < rounds) continue;
      throw new AppjailError(
        "vault-failed",
        `Cannot copy the home: the copy does not become the same (${shown(result.differences)}); ` +
          "the home is as it was",
      );
    }
  }

  async #runRsync(
    command: readonly string[],
    progress: CopyProgress,
    input: Uint8Array = new Uint8Array(0),
  ): Promise<void> {
    const { read, write } = pipe();
    using end = read;
    const { ended } = this.#start(command, end.number, (text) => {
      if (progress.hear(text)) this.#tell(() => progress.report);
    });
    end.close();
    const [{ status, said }] = await Promise.all([ended, feed(write, input)]);
    this.#signal.throwIfAborted();
    if (status === 0) return;
    throw new AppjailError(
      "vault-failed",
      `Cannot copy the home: ${rsyncFailure(status, said)}; the home is as it was`,
    );
  }

  async #remove({ folder: path }: Of<"remove">): Promise<Done> {
    using folder = openRootOnly(path);
    let files = 0;
    for (const name of namesIn(folder)) {
      await removeTree(folder, name, new Pace(this.#signal), () => {
        files++;
        this.#tell(() => ({ phase: "removing", files, bytes: 0, files_total: 0, bytes_total: 0 }));
      });
    }
    return { files, bytes: 0, notes: [] };
  }

  async #measure({ folder: path }: Of<"measure">): Promise<Done> {
    using folder = openFolder("root", path);
    const told = (files: number, bytes: number): void =>
      this.#tell(() => ({ phase: "counting", files, bytes, files_total: 0, bytes_total: 0 }));
    const sums = await measureTree(folder, new Pace(this.#signal), told);
    return { ...sums, notes: [] };
  }

  // --- Programs --------------------------------------------------------------------------------

  /**
   * Starts a program, which ends when this is told to stop. It and all that it starts hold the lock.
   *
   * @param input its standard input; without, there is none
   * @param heard what it writes to its standard output; without, that is part of what it has said
   */
  #start(
    argv: readonly string[],
    input: number | undefined,
    heard?: (text: string) => void,
  ): { readonly ended: Promise<Ended>; readonly kill: () => void } {
    using nothing = open("/dev/null", 2);
    const [out, err] = [pipe(), pipe()];
    using outEnd = out.write;
    using errEnd = err.write;
    const pid = spawn({
      path: argv[0] ?? "",
      argv,
      env: roleEnvironment,
      descriptors: [input ?? nothing.number, outEnd.number, errEnd.number, this.#lock.number],
      cwd: "/",
      session: true,
      softDescriptors: 1024n,
    });
    const pidfd = openPidfd(pid);
    const kill = (): void => {
      if (pidfd !== undefined && !pidfd.closed) signalPidfd(pidfd, 9);
    };
    this.#signal.addEventListener("abort", kill);
    if (this.#signal.aborted) kill();
    let said = "";
    const hear = (text: string): void => {
      said = (said + text).slice(0, 64 * 1024);
    };
    const ended = (async (): Promise<Ended> => {
      // Their ends are the ends of all that it has started: rsync is three processes.
      await Promise.all([listen(out.read, heard ?? hear), listen(err.read, hear)]);
      if (pidfd !== undefined) await poller.readable(pidfd.number);
      pidfd?.close();
      this.#signal.removeEventListener("abort", kill);
      for (let child = reap(); typeof child !== "string"; child = reap()) {
        if (child.pid === pid) return { status: child.status, said };
      }
      throw new Error("a program has ended unseen");
    })();
    return { ended, kill };
  }
}

/** Writes all to a pipe and closes it. Whoever reads it may leave before the end. */
async function feed(end: Fd, bytes: Uint8Array): Promise<void> {
  using fd = end;
  setNonblocking(fd.number);
  try {
    for (let rest = bytes; rest.length > 0;) {
      const count = writeSome(fd.number, rest);
      if (count === undefined) await poller.writable(fd.number);
      else rest = rest.subarray(count);
    }
  } catch (error) {
    if (!isErrno(error, "EPIPE")) throw error;
  }
}

/** How far the rsyncs of one round are, one after the other. */
class CopyProgress {
  readonly #all: Survey;
  #rest = "";
  #names = 0;
  #bytes = 0;
  #before = 0;

  constructor(all: Survey) {
    this.#all = all;
  }

  /** Hears the next piece of what one of them says; tells whether there is news in it. */
  hear(text: string): boolean {
    this.#rest = (this.#rest + text).slice(-500);
    const progress = progressIn(this.#rest);
    if (progress === undefined) return false;
    this.#names = Math.max(progress.names ?? 0, this.#names);
    this.#bytes = this.#before + progress.bytes;
    return true;
  }

  /** From here on it is another's. */
  next(): void {
    this.#before = this.#bytes;
    this.#rest = "";
  }

  get report(): Omit<Progress, "type"> {
    const { names, bytes } = this.#all;
    return {
      phase: "copying",
      files: Math.min(this.#names, names),
      files_total: names,
      bytes: this.#bytes,
      bytes_total: bytes,
    };
  }
}

/** Reads a pipe to its end. */
async function listen(end: Fd, heard: (text: string) => void): Promise<void> {
  using fd = end;
  setNonblocking(fd.number);
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    await poller.readable(fd.number);
    const count = readSome(fd.number, buffer);
    if (count === 0) return;
    if (count !== undefined) {
      heard(decoder.decode(buffer.subarray(0, count), { stream: true }));
    }
  }
}

/**
 * Puts an empty folder in the place of each of a copy's that cannot be read. gocryptfs that is killed
 * while it makes one may leave it without the file that every folder of its has; there is nothing in
 * it then, but rsync could go no further, in this run nor in any other. To be removed it would need
 * that file, too.
 */
async function mendUnreadable(folder: Fd, pace: Pace): Promise<void> {
  for (const name of namesIn(folder)) {
    await pace.step();
    if (statusAt(folder, name)?.kind !== "folder") continue;
    try {
      using inside = openFolderBy(folder, name, "no mounts");
      await mendUnreadable(inside, pace);
    } catch (error) {
      if (!isErrno(error, "EIO")) throw error;
      const fresh = ".appjail-mended";
      makeFolder(folder, fresh, 0o700);
      rename(folder, fresh, name);
    }
  }
}

/** A folder in which nobody but root can do anything. */
function openRootOnly(path: string): Fd {
  const folder = openFolder("root", path);
  const { uid, mode } = statusOf(folder);
  if (uid === 0 && (mode & 0o022) === 0) return folder;
  folder.close();
  throw new AppjailError("denied", `${path} can be written by others than root`);
}

function need(program: string, hint: string): void {
  if (exists(program)) return;
  throw new AppjailError("vault-failed", `${program} is not installed; ${hint}`);
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}

/** The first differences, for a person. */
function shown(differences: readonly Difference[]): string {
  const first = differences.slice(0, 3).map(({ path, what }) =>
    `${what}: ${path === "" ? "the home itself" : printable(path.slice(-300))}`
  );
  if (first.length === 0) return "it has not as many names";
  const more = differences.length - first.length;
  return first.join(", ") + (more > 0 ? `, and ${more} more` : "");
}

/** What the person should know before the copy takes the home's place. */
function notesOn(all: Survey, thick: number, target: Of<"copy">["target"]): string[] {
  const notes: string[] = [];
  if (target === "encfs") notes.push("encfs keeps times to the microsecond");
  if (target === "encfs" && all.withAttributes > 0) {
    notes.push(
      `encfs does not encrypt extended attributes, which ${all.withAttributes} files have`,
    );
  }
  if (all.withOthers > 0) {
    notes.push(
      `${all.withOthers} files have attributes of the system's own (capabilities, labels), which ` +
        "stay behind; in a jail they have no effect",
    );
  }
  if (thick > 0) notes.push(`${thick} files with holes take more room than before`);
  return notes;
}
