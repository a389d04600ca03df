/**
 * The helper's proxies: one xdg-dbus-proxy for each jail that has a part in its owner's buses. It runs
 * as the owner, whose buses they are, and lets through what the jail's profile says.
 *
 *     RUNTIME/buses/<uid>/session, system    where it listens; bound into the jail
 *     RUNTIME/jails/<uid>/bus-log            a pipe, in which it tells what it has refused
 *
 * It ends with its jail: the jailer, which is the jail's pid 1, holds the other end of a pipe of its,
 * and the kernel closes that, whatever has become of the helper. All that it says is the word of an
 * application: it is read slowly, and told as that. While no helper reads, it goes on, and what it
 * says is lost: GLib ignores SIGPIPE.
 *
 * @module
 */
import * as v from "valibot";
import { type Fd, open, pipe, readSome, setNonblocking } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { isErrno } from "../ipc/errno.ts";
import {
  type JailBuses,
  type OfferedBus,
  proxyWords,
  Refusals,
  systemBus,
} from "../core/bus-rules.ts";
import { pause, within } from "../core/deadline.ts";
import { AppjailError } from "../core/errors.ts";
import { openRootFolder } from "../core/home.ts";
import {
  changeMode,
  changeModeAt,
  changeOwner,
  changeOwnerAt,
  exists,
  makeFolder,
  namedPipe,
  namesIn,
  openFile,
  openFolder,
  removeFile,
  removeFolder,
  spawn,
  statusAt,
  unmount,
} from "../core/kernel.ts";
import { socketProblem } from "../core/lending.ts";
import { roleEnvironment } from "../core/launch.ts";
import { type Log, printable } from "../core/log.ts";
import { type AbsolutePath, absolutePath, type AppUid } from "../core/names.ts";
import { busProxy } from "../core/programs.ts";
import type { Allocation } from "../core/protocol.ts";

/** In the folder of its jail, which is root's: the one where it listens is the owner's at first. */
const logName = "bus-log";
/** How long it may take until it listens. */
const readyDeadline = 5_000;
/** At most so many bytes of its log are read in so many milliseconds: a flood holds up who sends it. */
const [logBytes, logPause] = [64 * 1024, 50];

function parsedPath(path: string): AbsolutePath {
  return v.parse(absolutePath, path);
}

/** What a jail is given of a proxy. */
export interface StartedProxy {
  /** To be held open for as long as the jail lives. */
  readonly hold: Fd;
  /** The sockets, on the host. */
  readonly session: string | undefined;
  readonly system: string | undefined;
}

/** Everything that the helper does with buses that are not its own. */
export class Buses {
  readonly #path: string;
  readonly #folder: Fd;
  readonly #log: Log;

  constructor(runtimePath: string, log: Log) {
    this.#path = `${runtimePath}/buses`;
    // Owners and apps pass through, and see nothing.
    this.#folder = openRootFolder(this.#path, 0o711);
    this.#log = log;
  }

  /**
   * Starts the proxy of a jail, if it is to have one.
   *
   * @param drop the words by which a process becomes the owner and nothing more
   * @param jail the folder of the jail
   */
  async start(
    { uid, owner, profile }: Allocation,
    buses: JailBuses,
    drop: readonly string[],
    jail: Fd,
  ): Promise<StartedProxy | undefined> {
    const session = buses.session === "filtered";
    const system = buses.system === "filtered";
    if (!session && !system) return undefined;
    const failed = (why: string): AppjailError =>
      new AppjailError("start-failed", `Cannot start jail "${profile}": ${why}`);
    // It would run as root, and listen to an application.
    if (owner === 0) throw failed("root's profiles have no part in root's buses");
    if (!exists(busProxy)) {
      throw failed("xdg-dbus-proxy is not installed; try: apt install xdg-dbus-proxy");
    }
    const sessionSocket = buses.session_socket ?? parsedPath(`/run/user/${owner}/bus`);
    // The proxy looks for it only when somebody calls, and could tell nobody then.
    for (const [wanted, socket] of [[session, sessionSocket], [system, systemBus]] as const) {
      const problem = wanted ? socketProblem(owner, parsedPath(socket)) : undefined;
      if (problem !== undefined) throw failed(`there is no bus at ${socket}: ${problem}`);
    }
    this.clear(uid);
    makeFolder(this.#folder, String(uid), 0o700);
    using folder = openFolder(this.#folder, String(uid));
    changeOwner(folder, owner, uid);
    const path = `${this.#path}/${uid}`;
    const offered: readonly OfferedBus[] = [
      ...!session ? [] : [{
        socket: sessionSocket,
        offered: `${path}/session`,
        rules: buses.session_rules,
      }],
      ...!system ? [] : [{
        socket: systemBus,
        offered: `${path}/system`,
        rules: buses.system_rules,
      }],
    ];
    const ready = pipe();
    const out = namedPipe(jail, logName);
    const err = pipe();
    {
      using readyWrite = ready.write;
      using outWrite = out.write;
      using errWrite = err.write;
      using nothing = open("/dev/null", 0);
      spawn({
        path: drop[0] ?? "",
        argv: [...drop, busProxy, ...proxyWords(3, offered)],
        env: roleEnvironment,
        descriptors: [nothing.number, outWrite.number, errWrite.number, readyWrite.number],
        cwd: "/",
        session: true,
      });
    }
    void this.#listen(profile, out.read);
    const complaint = this.#complaint(err.read);
    try {
      setNonblocking(ready.read.number);
      await within(
        poller.readable(ready.read.number),
        readyDeadline,
        () => failed("xdg-dbus-proxy does not come up"),
      );
      // A byte when it listens; nothing when it has ended.
      if (readSome(ready.read.number, new Uint8Array(1)) !== 1) {
        throw failed(`xdg-dbus-proxy has ended: ${await complaint}`);
      }
      // From here on the owner cannot put anything else there, nor a link to it.
      changeOwner(folder, 0, uid);
      changeMode(folder, 0o710);
      for (const name of namesIn(folder)) {
        const found = statusAt(folder, name);
        if (found?.kind !== "socket" || found.uid !== owner || found.links !== 1) {
          throw failed(`${path}/${name} is not what xdg-dbus-proxy has made`);
        }
        changeOwnerAt(folder, name, uid, uid);
        changeModeAt(folder, name, 0o600);
      }
    } catch (error) {
      ready.read.close();
      throw error;
    }
    return {
      hold: ready.read,
      session: session ? `${path}/session` : undefined,
      system: system ? `${path}/system` : undefined,
    };
  }

  /** Goes on telling what the proxy of a jail refuses that an earlier daemon has left. */
  adopt(profile: string, jail: Fd): void {
    try {
      void this.#listen(profile, openFile(jail, logName));
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }

  /** Tells what it refuses. */
  async #listen(profile: string, end: Fd): Promise<void> {
    using fd = end;
    setNonblocking(fd.number);
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(logBytes);
    const refusals = new Refusals();
    for (;;) {
      await poller.readable(fd.number);
      const count = readSome(fd.number, buffer);
      if (count === 0) return;
      if (count === undefined) continue;
      for (
        const one of refusals.push(decoder.decode(buffer.subarray(0, count), { stream: true }))
      ) {
        this.#log.info(`jail ${profile}: the bus refused it: ${printable(one)}`);
      }
      await pause(logPause);
    }
  }

  /** The first that it complains of; the rest is read and forgotten. */
  async #complaint(end: Fd): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    void (async () => {
      using fd = end;
      setNonblocking(fd.number);
      const buffer = new Uint8Array(4096);
      for (;;) {
        await poller.readable(fd.number);
        const count = readSome(fd.number, buffer);
        if (count === 0) return resolve("it said nothing");
        if (count !== undefined) {
          resolve(printable(new TextDecoder().decode(buffer.subarray(0, count)).trim()));
        }
        await pause(logPause);
      }
    })();
    return await promise;
  }

  /** Takes away where the proxy of a jail that is gone has listened. */
  clear(uid: AppUid): void {
    // Its owner, whose folder it was for a moment, may have mounted something there: FUSE, say, whose
    // server need not answer.
    while (unmount(`${this.#path}/${uid}`));
    try {
      using folder = openFolder(this.#folder, String(uid));
      for (const name of namesIn(folder)) removeFile(folder, name);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
    removeFolder(this.#folder, String(uid));
  }

  /** @param runtime the folder in which it all is */
  close(runtime: Fd): void {
    this.#folder.close();
    try {
      removeFolder(runtime, "buses");
    } catch (error) {
      // Jails stay, and theirs with them.
      if (!isErrno(error, "ENOTEMPTY")) throw error;
    }
  }
}
