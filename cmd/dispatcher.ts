/**
 * The dispatcher: decides who may ask, for which profile, and whether a jail is started or joined.
 * It speaks to everybody, on the socket and on D-Bus, and has no privilege: whatever it lets slip,
 * the helper checks again.
 *
 * What it may not do: change a uid, mount, signal a process, read a home. What it trusts: the uid
 * that the kernel (or the bus) tells of a caller, and nothing that the caller says.
 *
 * @module
 */
import { isPipe, Strangers } from "../ipc/aside.ts";
import { Channel, drop, type Incoming } from "../ipc/channel.ts";
import { Fd } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { Room } from "../ipc/room.ts";
import { accept, connect, hasLeft, peerOf } from "../ipc/socket.ts";
import { pause, within } from "../core/deadline.ts";
import { isInherited } from "../core/environment.ts";
import { AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import { HelperLink } from "../core/helper-link.ts";
import type { Ask, Jail } from "../core/jail.ts";
import { Jails, type StartedIn } from "../core/jails.ts";
import { provePowerless } from "../core/kernel.ts";
import { type Log, logOf } from "../core/log.ts";
import {
  type OwnerUid,
  ownerUid,
  parse,
  profileIn,
  type ProfileName,
  type ProgramName,
} from "../core/names.ts";
import { ProfileStore } from "../core/profile-store.ts";
import {
  type ClientToDispatcher,
  dispatcherOptions,
  type DispatcherToClient,
  type ExitStatus,
  fromClient,
  fromHelper,
  fromJailer,
  type OutputLine,
  protocolVersion,
} from "../core/protocol.ts";
import { begin } from "../core/role.ts";
import { version } from "../core/version.ts";
import {
  changePassphrase,
  convertHome,
  type Person,
  removeHome,
  type Wanted,
} from "./dispatcher-homes.ts";
import { planned, type Planner } from "./dispatcher-plan.ts";
import { type ProfileRequest, serveProfiles } from "./dispatcher-profiles.ts";
import { type About, type Asker, Records } from "./dispatcher-record.ts";

type ClientChannel = Channel<ClientToDispatcher, DispatcherToClient>;
type Request<T extends ClientToDispatcher["type"]> = Extract<
  ClientToDispatcher,
  { readonly type: T }
>;

/** How long a client may take until its request is complete. */
const requestDeadline = 10_000;
/** How many connections are taken at once before those who have one are served again. */
const acceptedAtOnce = 64;
/** How many connections one uid may have, and all together. */
const connectionsEach = 600;
const connectionsMost = 4000;
/** How many bytes of requests one uid may have us keep. */
const roomEach = 64 * 1024 * 1024;
/** How many files that one uid has handed over may be on their way to be closed. */
const unclosedEach = 64;

/** Somebody who is connected, however often. */
interface Caller {
  connections: number;
  readonly room: Room;
  readonly strangers: Strangers;
}

/** Runs the dispatcher until the helper is gone. */
export async function dispatcher(text: string): Promise<number> {
  const options = begin("dispatcher", dispatcherOptions(), text, ({ shipped_profiles }) => [
    "socket",
    "socket",
    "folder",
    ...shipped_profiles === null ? [] : ["folder" as const],
  ]);
  provePowerless();
  const log = logOf("dispatcher", options.log);
  // The bus's library opens a socket and looks at the machine; without a bus nothing is needed.
  const given = [
    "ffi",
    "run",
    ...options.bus === null ? ["env", "read", "write", "net", "sys"] : [],
  ];
  for (const name of given as Deno.PermissionName[]) Deno.permissions.revokeSync({ name });
  const link = new HelperLink(new Channel(new Fd(3), fromHelper), version);
  const welcome = await link.welcome();
  const { shipped_profiles: shipped } = options;
  const store = new ProfileStore({
    own: new Fd(5),
    shipped: shipped === null ? undefined : { folder: new Fd(6), path: shipped },
    admin: options.admin_profiles,
  });
  const records: Records = new Records(log, () => jails);
  const jails: Jails = new Jails({
    helper: link,
    connect: ({ uid }) =>
      new Channel(connect(`${options.runtime_dir}/ctl/${uid}.sock`), fromJailer),
    profiles: store,
    network: options.network,
    linger: options.linger,
    version,
    log,
    witness: records,
  }, welcome);
  const isApp = (uid: number): boolean =>
    (uid >= options.first_uid && uid <= options.last_uid) || jails.has(uid);
  const planning = { network: options.network, firstUid: options.first_uid };
  const door = new Door(new Fd(4), { link, jails, profiles: store, planning, isApp, log, records });
  void door.open();
  if (options.bus !== null) {
    const { bus } = options;
    void import("./dispatcher-bus.ts")
      .then(({ keepOnBus }) => keepOnBus(bus, { jails, isApp, log, records }))
      .catch((error) => log.warn(`no D-Bus: ${wordsOf(error)}`));
  }
  const found = welcome.jails.length;
  link.ready();
  log.info(`ready${found > 0 ? `, ${found} jail${found === 1 ? "" : "s"} found` : ""}`);
  await link.follow(jails);
  log.info("the helper is gone; leaving");
  return 0;
}

/** A program that a client stays with. */
interface Accompanied {
  readonly program: ProgramName;
  readonly jail: Jail;
  readonly exited: Promise<ExitStatus>;
  /** A client that goes away is a terminal that was closed, and its program is told so. */
  readonly holds: boolean;
  /** Called when it ends. */
  readonly unlisten?: () => void;
}

/** What is behind the door. */
interface House {
  readonly link: HelperLink;
  readonly jails: Jails;
  readonly profiles: ProfileStore;
  readonly planning: Pick<Planner, "network" | "firstUid">;
  readonly isApp: (uid: number) => boolean;
  readonly log: Log;
  readonly records: Records;
}

/** A client, and what is known of its request so far. */
interface Visitor {
  readonly channel: ClientChannel;
  readonly asker: Asker;
  about: About;
}

/** The socket's door: every connection is a client with one request. */
class Door {
  readonly #listener: Fd;
  readonly #link: HelperLink;
  readonly #jails: Jails;
  readonly #planning: House["planning"];
  readonly #profiles: ProfileStore;
  readonly #isApp: House["isApp"];
  readonly #log: Log;
  readonly #records: Records;
  readonly #callers = new Map<number, Caller>();
  #total = 0;

  constructor(
    listener: Fd,
    { link, jails, profiles, planning, isApp, log, records }: House,
  ) {
    this.#listener = listener;
    this.#link = link;
    this.#jails = jails;
    this.#profiles = profiles;
    this.#planning = planning;
    this.#isApp = isApp;
    this.#log = log;
    this.#records = records;
  }

  async open(): Promise<void> {
    for (let accepted = 0;;) {
      let socket: Fd | undefined;
      try {
        socket = accept(this.#listener.number);
      } catch (error) {
        // Out of descriptors: those who are here have to leave first.
        this.#log.warn(`cannot accept a client: ${wordsOf(error)}`);
        await pause(100);
        continue;
      }
      if (socket !== undefined) {
        void this.#receive(socket);
        // Somebody who connects without end must not be all that is done here.
        if (++accepted % acceptedAtOnce === 0) await pause(0);
      } else {
        await poller.readable(this.#listener.number);
        accepted = 0;
      }
    }
  }

  async #receive(socket: Fd): Promise<void> {
    using held = socket;
    const peer = peerOf(held.number);
    const parsed = parse(ownerUid, peer.uid);
    if ("wrong" in parsed) return;
    const uid = parsed.value;
    const caller = this.#callers.get(uid) ??
      { connections: 0, room: new Room(roomEach), strangers: new Strangers() };
    this.#callers.set(uid, caller);
    caller.connections++;
    this.#total++;
    using channel: ClientChannel = new Channel(
      held,
      fromClient,
      caller.room,
      caller.strangers,
    );
    const visitor: Visitor = {
      channel,
      asker: { uid, pid: peer.pid },
      about: { request: "", profile: null },
    };
    try {
      channel.send({ type: "hello", role: "dispatcher", protocol: protocolVersion, version });
      if (this.#isApp(uid)) {
        throw new AppjailError("denied", "A program in a jail cannot ask for jails");
      }
      if (caller.connections > connectionsEach || this.#total > connectionsMost) {
        throw new AppjailError("limit", "Too many requests at a time: wait until some have ended");
      }
      if (caller.strangers.pending > unclosedEach) {
        throw new AppjailError(
          "limit",
          "Files that you have handed over cannot be closed: their file system does not answer",
        );
      }
      await this.#converse(visitor);
    } catch (thrown) {
      const error = asAppjailError(thrown);
      // What was never understood was no request.
      if (visitor.about.request !== "" || thrown instanceof AppjailError) {
        this.#records.refused(visitor.asker, visitor.about, error);
      } else this.#log.debug(`uid ${uid}: ${error.message}`);
      channel.send({ type: "failed", code: error.code, message: error.message.slice(0, 8192) });
      await within(channel.drain(), 1000, () => new Error()).catch(() => {});
    } finally {
      this.#total--;
      caller.connections--;
      if (caller.connections === 0 && caller.strangers.pending === 0) this.#callers.delete(uid);
    }
  }

  async #converse(visitor: Visitor): Promise<void> {
    const { channel } = visitor;
    const hello = await this.#next(channel);
    if (hello === undefined) return;
    if (hello.message.type !== "hello" || hello.message.protocol !== protocolVersion) {
      drop(hello);
      throw new AppjailError(
        "protocol",
        `This daemon speaks protocol ${protocolVersion}: use the appjail of the same version`,
      );
    }
    const started = await this.#answer(visitor);
    // The request is forgotten by now: a command line is not kept for as long as the program runs.
    if (started !== undefined) await this.#accompany(channel, started);
    await channel.drain();
  }

  /** What a client has to say next, if it does so in time. */
  async #next(channel: ClientChannel): Promise<Incoming<ClientToDispatcher> | undefined> {
    const coming = channel.receive();
    const late = (): Error => new AppjailError("protocol", "The request did not come in time");
    try {
      return await within(coming, requestDeadline, late);
    } catch (error) {
      // It may still come, while the client is told, and descriptors with it.
      coming.then((incoming) => incoming && drop(incoming), () => {});
      throw error;
    }
  }

  /** Does what is asked for, and returns the program that its client is to stay with. */
  async #answer(visitor: Visitor): Promise<Accompanied | undefined> {
    const { channel, asker } = visitor;
    const { uid } = asker;
    const request = await this.#next(channel);
    if (request === undefined) return undefined;
    const { message, descriptors } = request;
    const about = { request: message.type, profile: this.#profileOf(uid, message) };
    visitor.about = about;
    const granted = (words: string): void => this.#records.granted(asker, about, words);
    // Whoever has gone was told that it failed, or did not want it any more.
    if (hasLeft(channel.fd)) {
      drop(request);
      return undefined;
    }
    switch (message.type) {
      case "run":
        return await this.#run(channel, asker, message, descriptors);
      case "attach":
        granted(`attaches to ${message.program}`);
        return await this.#attach(channel, uid, message.program);
      case "kill": {
        const jail = this.#jails.jailOf(uid, message.program);
        jail.running(message.program);
        await jail.signal(message.program, message.signal);
        granted(`sends ${message.signal} to ${message.program}`);
        channel.send({ type: "done" });
        break;
      }
      case "wait": {
        const started = await this.#jails.again(uid, message.program, message.jail);
        this.#tellStarted(channel, started);
        const { program, exited, within: jail } = started;
        // Only who had it before has it again; whoever else waits for it may leave unheard.
        return { program, exited, jail, holds: message.jail !== null };
      }
      case "status": {
        const jails = await this.#jails.status(uid, message.profile, message.everyone);
        // One by one: a jail's programs alone may fill a message.
        for (const jail of jails) {
          channel.send({ type: "reported", jails: [jail] });
          await channel.drain();
        }
        channel.send({ type: "done" });
        break;
      }
      case "stop":
        await this.#stop(channel, asker, message);
        break;
      case "unlock": {
        const { profile, keep } = message;
        await this.#jails.unlock(uid, profile, keep, (wanted) => this.#ask(channel, wanted));
        granted(`has unlocked the home of ${profile}`);
        channel.send({ type: "done" });
        break;
      }
      case "encrypt":
      case "decrypt": {
        const jail = message.type === "encrypt"
          ? await this.#jails.toEncrypt(uid, message.profile, message.make)
          : this.#jails.known(uid, message.profile);
        granted(`lets the home of ${message.profile} be converted: ${message.type}`);
        await this.#patiently(
          visitor,
          (person) => convertHome(this.#link, jail, message, person),
        );
        break;
      }
      case "passwd": {
        const jail = this.#jails.known(uid, message.profile);
        await this.#patiently(visitor, (person) => changePassphrase(this.#link, jail, person));
        granted(`has changed the passphrase of ${message.profile}`);
        break;
      }
      case "lend": {
        const { profile, name, path, write, keep } = message;
        const until = keep === null ? null : Date.now() + keep;
        await this.#jails.known(uid, profile).lend({ name, path, write, until });
        this.#records.lends(asker, about, message);
        channel.send({ type: "done" });
        break;
      }
      case "unlend":
        await this.#jails.known(uid, message.profile).unlend(message.name);
        this.#records.takesBack(asker, about);
        channel.send({ type: "done" });
        break;
      case "logs":
        await this.#logs(channel, uid, message);
        break;
      case "events":
        await this.#events(channel, uid, message);
        break;
      case "stats":
        for (const figures of this.#records.figures(uid, message.everyone)) {
          channel.send({ type: "counted", figures });
          await channel.drain();
        }
        channel.send({ type: "done" });
        break;
      case "profiles":
        channel.send({ type: "listed", profiles: [...this.#jails.profiles(uid)] });
        break;
      case "forget":
        if (message.home) {
          await this.#patiently(
            visitor,
            (person) => this.#forget(visitor, message.profile, person),
          );
          break;
        }
        await this.#serveProfiles(visitor, message);
        break;
      case "written":
      case "show":
      case "check":
      case "write":
      case "diff":
        await this.#serveProfiles(visitor, message);
        break;
      case "plan":
        channel.send(planned(message, uid, {
          ...this.#planning,
          store: this.#profiles,
          jails: this.#jails,
        }));
        channel.send({ type: "done" });
        break;
      case "hello":
      case "signal":
      case "passphrase":
      case "confirm":
        drop(request);
        throw new AppjailError("protocol", `"${message.type}" is no request`);
      default:
        message satisfies never;
    }
    return undefined;
  }

  /** Which profile a request is about. */
  #profileOf(uid: OwnerUid, message: ClientToDispatcher): ProfileName | null {
    switch (message.type) {
      case "run":
        return this.#jails.meant(uid, message.profile, message.argv?.[0]);
      case "attach":
      case "kill":
      case "wait":
        return profileIn(message.program);
      case "stop":
        return message.profiles.length === 1 ? message.profiles[0] ?? null : null;
      default:
        return "profile" in message ? message.profile : null;
    }
  }

  async #serveProfiles(
    { channel, asker, about }: Visitor,
    message: ProfileRequest,
  ): Promise<void> {
    await serveProfiles(message, asker.uid, {
      store: this.#profiles,
      jails: this.#jails,
      granted: (words) => this.#records.granted(asker, about, words),
      send: async (answer) => {
        channel.send(answer);
        await channel.drain();
      },
    });
    channel.send({ type: "done" });
  }

  /** All that there is of a profile goes: the home, the uid, and the person's own text last. */
  async #forget({ asker, about }: Visitor, profile: ProfileName, person: Person): Promise<void> {
    const { uid } = asker;
    const jail = this.#jails.known(uid, profile);
    const freed = await removeHome(this.#link, jail, person);
    if (freed === undefined) return;
    if (freed) this.#jails.forget(jail.allocation.uid);
    this.#profiles.remove(uid, profile);
    this.#records.granted(asker, about, `has deleted profile ${profile} with its home`);
  }

  async #run(
    channel: ClientChannel,
    asker: Asker,
    message: Request<"run">,
    descriptors: readonly Fd[],
  ): Promise<Accompanied | undefined> {
    const { argv, cwd, cwd_required, terminal, stdio } = message;
    if (terminal !== null && stdio === "log" && terminal.streams.length < 3) {
      throw new AppjailError("protocol", "a terminal of the log's is all of the standard streams");
    }
    if (message.lend.some(({ word }) => argv === null || word >= argv.length)) {
      throw new AppjailError("protocol", "a file is no word of the command");
    }
    const started = await this.#jails.run(
      asker.uid,
      message.profile,
      {
        argv,
        cwd,
        cwd_required,
        terminal,
        stdio,
        lend: message.lend,
        session: message.session,
        env: message.env,
        // The client has chosen by the same list; it is not believed.
        inherited: Object.fromEntries(
          Object.entries(message.inherited).filter(([name]) => isInherited(name)),
        ),
        descriptors,
      },
      (wanted) => this.#ask(channel, wanted),
    );
    const { program, exited, within: jail } = started;
    this.#records.runs(asker, jail.allocation, {
      program,
      joined: started.joined,
      command: argv?.[0],
      lent: message.lend.length,
    });
    this.#tellStarted(channel, started);
    return stdio === "passed" ? { program, exited, jail, holds: true } : undefined;
  }

  /** Asks a client for the passphrase of a home, for as long as the person takes. */
  async #ask(channel: ClientChannel, wanted: Parameters<Ask>[0]): Promise<Fd> {
    const [pipe] = await this.#askFor(channel, { ...wanted, purpose: "unlock" });
    if (pipe === undefined) throw new AppjailError("protocol", "no pipe came along");
    return pipe;
  }

  async #askFor(channel: ClientChannel, wanted: Wanted): Promise<readonly Fd[]> {
    channel.send({ type: "passphrase", ...wanted });
    for (;;) {
      const incoming = await channel.receive();
      // Its person may have sent a signal before there was a program to have it.
      if (incoming?.message.type !== "signal") return pipesIn(incoming, wanted);
    }
  }

  /** Does something that takes long for a client, and has it end when the client leaves. */
  async #patiently(
    { channel, asker }: Visitor,
    work: (person: Person) => Promise<void>,
  ): Promise<void> {
    const left = new AbortController();
    type Heard = Incoming<ClientToDispatcher> | undefined;
    let wanted: ((heard: Heard) => void) | undefined;
    const next = (): Promise<Heard> => new Promise((resolve) => wanted = resolve);
    const listening = (async () => {
      for (;;) {
        const incoming = await channel.receive();
        if (incoming === undefined) return;
        if (incoming.message.type === "signal") continue;
        if (wanted === undefined) {
          drop(incoming);
          throw new AppjailError("protocol", `"${incoming.message.type}" was not asked for`);
        }
        wanted(incoming);
        wanted = undefined;
      }
    })();
    void listening.catch((error) => this.#log.debug(`dropped a client: ${wordsOf(error)}`))
      .finally(() => {
        left.abort();
        wanted?.(undefined);
        wanted = () => {};
      });
    await work({
      signal: left.signal,
      progress: (progress) => {
        // Who does not read misses some of it.
        if (channel.backlog === 0) channel.send({ type: "progress", ...progress });
      },
      ask: async (wanted) => {
        if (left.signal.aborted) return pipesIn(undefined, wanted);
        const coming = next();
        channel.send({ type: "passphrase", ...wanted });
        return pipesIn(await coming, wanted);
      },
      wrong: (profile) => this.#records.wrong(this.#jails.known(asker.uid, profile).allocation),
      measured: (home) => void channel.send({ type: "measured", ...home }),
      converted: (copied) => void channel.send({ type: "converted", copied }),
      decision: async () => {
        const incoming = left.signal.aborted ? undefined : await next();
        if (incoming === undefined) return undefined;
        if (incoming.message.type === "confirm") return incoming.message;
        drop(incoming);
        throw new AppjailError("protocol", `"${incoming.message.type}" is no answer`);
      },
      note: (text) => void channel.send({ type: "note", text }),
    });
    channel.send({ type: "done" });
  }

  #tellStarted(
    channel: ClientChannel,
    { program, jail, cwd, master, within: { windows, allocation: { profile, uid } } }: StartedIn,
  ): void {
    channel.send({
      type: "started",
      program,
      profile,
      uid,
      jail,
      cwd,
      windows,
      master: master !== undefined,
    }, master === undefined ? [] : [master]);
  }

  /** Stays with a client while its program runs: passes its signals on, tells of stops and the end. */
  async #accompany(
    channel: ClientChannel,
    { program, exited, jail, holds, unlisten = () => {} }: Accompanied,
  ): Promise<void> {
    const { promise: taken, resolve: take } = Promise.withResolvers<undefined>();
    const leave = !holds ? () => false : jail.accompany(program, {
      suspended: () => channel.send({ type: "suspended", program }),
      detached: () => {
        channel.send({ type: "detached", program });
        take(undefined);
      },
      ending: (why) =>
        channel.send({
          type: "note",
          text: `jail ${jail.allocation.profile} was ended: ${why}`.slice(0, 8192),
        }),
    });
    const gone = this.#signals(channel, (signal) => jail.signal(program, signal));
    const status = await Promise.race([exited, gone, taken]);
    unlisten();
    // Neither the program of one that has ended, nor of another client by now.
    if (leave() && status === undefined) jail.hangUp(program);
    if (status !== undefined) channel.send({ type: "exited", program, status });
  }

  /** Shows a program to another client than the one that started it. */
  async #attach(channel: ClientChannel, uid: OwnerUid, program: ProgramName): Promise<Accompanied> {
    const jail = this.#jails.jailOf(uid, program);
    const { terminal } = jail.running(program);
    const exited = jail.end(program);
    const master = terminal ? await jail.attach(program) : undefined;
    channel.send({
      type: "attached",
      program,
      profile: jail.allocation.profile,
      jail: jail.jailName,
      master: terminal,
    }, master === undefined ? [] : [master]);
    if (terminal) return { program, exited, jail, holds: true };
    const unlisten = await this.#follow(
      channel,
      jail,
      (line) => line.program === program,
      () => channel.close(),
    );
    return { program, exited, jail, holds: false, unlisten };
  }

  /** Passes a client's signals on until it leaves. */
  async #signals(
    channel: ClientChannel,
    pass: (signal: Request<"signal">["signal"]) => void | Promise<void>,
  ): Promise<void> {
    try {
      for (;;) {
        const incoming = await channel.receive();
        if (incoming === undefined) return;
        if (incoming.message.type !== "signal") {
          drop(incoming);
          throw new Error("only signals follow a run");
        }
        await pass(incoming.message.signal);
      }
    } catch (error) {
      this.#log.debug(`dropped a client: ${wordsOf(error)}`);
    }
  }

  async #stop(channel: ClientChannel, asker: Asker, message: Request<"stop">): Promise<void> {
    const { profiles, force, timeout, lock } = message;
    const { uid } = asker;
    const chosen = lock
      ? await this.#jails.chosenToLock(uid, profiles)
      : this.#jails.chosen(uid, profiles);
    await Promise.all(chosen.map(async (jail) => {
      this.#records.stops(asker, jail.allocation, { force, lock });
      const ran = jail.life !== "absent";
      const stopped = await jail.stop(force, timeout);
      const { killed, problem } = stopped;
      const { profile, owner } = jail.allocation;
      const note = stopped.note ?? (lock ? await this.#jails.lock(jail) : null);
      if (note !== null) channel.send({ type: "note", text: `${profile}: ${note}` });
      channel.send({ type: "stopped", profile, owner, ran, killed, problem });
    }));
    channel.send({ type: "done" });
  }

  /** Tells what has happened, and goes on with what happens until the client leaves. */
  async #events(channel: ClientChannel, uid: OwnerUid, message: Request<"events">): Promise<void> {
    const { profile, everyone, follow, since } = message;
    using follower = this.#records.follow(uid, everyone);
    let stays = follow;
    if (follow) {
      void this.#signals(channel, () => {}).then(() => {
        stays = false;
        follower.wake();
      });
    }
    while (!channel.closed) {
      const read = follower.read();
      if (read === undefined) {
        if (!stays) break;
        await follower.more();
        continue;
      }
      const events = read.events.filter((event) =>
        event.at >= since && (profile === null || event.profile === profile)
      );
      if (events.length > 0 || read.missed > 0) {
        channel.send({ type: "happened", events, missed: read.missed });
      }
      // Who does not read is not read for: what is too old by then, they have missed.
      await channel.drain();
    }
    channel.send({ type: "done" });
  }

  async #logs(channel: ClientChannel, uid: OwnerUid, message: Request<"logs">): Promise<void> {
    const jail = this.#jails.known(uid, message.profile);
    const { promise: left, resolve: leave } = Promise.withResolvers<void>();
    const unlisten = await this.#follow(
      channel,
      jail,
      () => true,
      message.follow ? leave : undefined,
    );
    if (message.follow && !channel.closed) {
      void this.#signals(channel, () => {}).then(leave);
      await left;
    } else channel.send({ type: "done" });
    unlisten();
  }

  /**
   * Sends the lines that a jail has kept, and further ones until the returned function is called.
   *
   * @param slow called when the client does not read; without it, only the kept lines are sent
   */
  async #follow(
    channel: ClientChannel,
    jail: Jail,
    chosen: (line: OutputLine) => boolean,
    slow?: () => void,
  ): Promise<() => void> {
    let from = 0;
    for (;;) {
      const kept = jail.output.from(from, 64);
      const last = kept.at(-1);
      if (last === undefined || channel.closed) break;
      from = last.sequence + 1;
      const lines = kept.filter(chosen);
      if (lines.length > 0) channel.send({ type: "output", lines });
      await channel.drain();
    }
    if (slow === undefined) return () => {};
    return jail.listen((line) => {
      // A follower that does not read is let go: it must not cost memory.
      if (channel.backlog > 1024 * 1024) slow();
      else if (chosen(line)) channel.send({ type: "output", lines: [line] });
    });
  }
}

/** The pipes in which a client has put what it was asked for. */
function pipesIn(
  incoming: Incoming<ClientToDispatcher> | undefined,
  { purpose }: Wanted,
): readonly Fd[] {
  if (incoming === undefined) throw new AppjailError("cancelled", "The client has left");
  const { message, descriptors } = incoming;
  if (message.type === "passphrase" && message.pipes === (purpose === "new" ? 2 : 1)) {
    if (descriptors.every(isPipe)) return descriptors;
    drop(incoming);
    throw new AppjailError("protocol", "A passphrase comes through a pipe");
  }
  drop(incoming);
  throw new AppjailError("protocol", `"${message.type}" is no answer`);
}
