/**
 * A helper and jailers that are played: what a dispatcher's jails need, without root or a jail.
 *
 * @module
 */
import { Channel } from "../../ipc/channel.ts";
import { pair } from "../../ipc/socket.ts";
import { HelperLink } from "../../core/helper-link.ts";
import type { Happening, JailerChannel, Profiles, Witness } from "../../core/jail.ts";
import { Jails } from "../../core/jails.ts";
import { noLimits } from "../../core/limits.ts";
import { type Log, plainStyle } from "../../core/log.ts";
import type { OwnerUid, ProgramName } from "../../core/names.ts";
import { defaults } from "../../core/profile.ts";
import {
  type Allocation,
  type DispatcherToHelper,
  type DispatcherToJailer,
  fromHelper,
  fromJailer,
  type HelperToDispatcher,
  type JailerToDispatcher,
  type LiveJail,
  type ProgramReport,
  protocolVersion,
  toHelper,
  toJailer,
} from "../../core/protocol.ts";

/** A plain value as a message: its names and numbers are not parsed in a play. */
export const branded = <T>(value: unknown): T => value as T;

export const owner: OwnerUid = branded(1000);

/** What profiles say when nobody has written any. */
export const unwritten: Profiles = {
  settings: () => defaults,
  has: () => false,
  finders: () => [],
};

/** Nobody watches. */
export const unwatched: Witness = {
  tell: () => {},
  changed: () => {},
  wrong: () => {},
  ran: () => {},
};

/** How the helper and the jailers behave. Every part may be changed while it plays. */
export interface Script {
  /** Before each answer of anybody. */
  pause: () => Promise<void>;
  /** Why a jail does not start, if it does not. */
  refusal: string | undefined;
  /** What a jailer says first. */
  hello: JailerToDispatcher;
  /** Whether a jailer answers at all. */
  silent: boolean;
  /** Whether a jail ends when the helper kills it. */
  ends: boolean;
  /** What becomes of a program that was asked for: it runs, or is refused with these words. */
  exec: (request: Extract<DispatcherToJailer, { readonly type: "exec" }>) => string | undefined;
}

type HelperSide = Channel<DispatcherToHelper, HelperToDispatcher>;
type JailerSide = Channel<DispatcherToJailer, JailerToDispatcher>;

/** One life of a jail. */
class PlayedJail {
  readonly uid: number;
  readonly #profile: string;
  readonly programs = new Map<ProgramName, ProgramReport>();
  readonly #theatre: Theatre;
  channel: JailerSide | undefined;
  gone = false;
  /** The helper has not told of it yet: it has no pid. */
  starting = true;
  #count = 0;

  constructor(uid: number, profile: string, theatre: Theatre) {
    this.uid = uid;
    this.#profile = profile;
    this.#theatre = theatre;
  }

  /** The dispatcher's end of a conversation with the jailer. */
  connect(): JailerChannel {
    const [ours, theirs] = pair();
    this.channel = new Channel(theirs, toJailer);
    void this.#converse(this.channel);
    const dispatchers: JailerChannel = new Channel(ours, fromJailer);
    this.#theatre.conversations.push(dispatchers);
    return dispatchers;
  }

  async #converse(channel: JailerSide): Promise<void> {
    const { script, told } = this.#theatre;
    await script.pause();
    if (!script.silent) {
      channel.send(script.hello);
      channel.send({ type: "present", programs: [...this.programs.values()], exits: [] });
    }
    for (;;) {
      const incoming = await channel.receive().catch(() => undefined);
      if (incoming === undefined) return;
      const { message, descriptors } = incoming;
      told.push(message);
      if (!script.silent) await script.pause();
      for (const fd of descriptors) fd.close();
      if (script.silent) continue;
      switch (message.type) {
        case "exec": {
          const refusal = script.exec(message);
          if (refusal !== undefined) {
            channel.send({
              type: "refused",
              id: message.id,
              code: "command-not-executable",
              message: refusal,
            });
            this.tellIdle();
            break;
          }
          const program: ProgramReport = branded({
            program: `${this.#profile}.${++this.#count}`,
            argv: message.argv,
            pid: this.#count + 1,
            cwd: "/",
            terminal: false,
            started: 1,
          });
          this.programs.set(program.program, program);
          channel.send({ type: "started", id: message.id, program, master: false });
          break;
        }
        case "report":
          channel.send({
            type: "reported",
            id: message.id,
            programs: [...this.programs.values()],
            processes: this.programs.size,
            memory_bytes: 4096,
            cpu_ms: 10,
          });
          break;
        case "terminate":
          for (const program of [...this.programs.keys()]) this.exit(program, 143);
          this.tellIdle();
          break;
        case "leave":
          if (this.programs.size === 0) this.#theatre.end(this, null);
          break;
        case "hello":
        case "signal":
        case "heard":
        case "attach":
        case "hangup":
          break;
        default:
          message satisfies never;
      }
    }
  }

  /** A program ends. */
  exit(program: ProgramName, code = 0): void {
    if (!this.programs.delete(program)) return;
    this.channel?.send({ type: "exited", program, status: { by: "exit", code } });
    this.tellIdle();
  }

  tellIdle(): void {
    if (this.programs.size === 0) this.channel?.send({ type: "idle" });
  }
}

/** The dispatcher's jails, among people who do what the script says. */
export class Theatre implements AsyncDisposable {
  readonly script: Script = {
    pause: () => Promise.resolve(),
    refusal: undefined,
    hello: { type: "hello", role: "jailer", protocol: protocolVersion, version: "0" },
    silent: false,
    ends: true,
    exec: () => undefined,
  };
  /** What the helper was asked, and what the jailers were told. */
  readonly asked: DispatcherToHelper[] = [];
  /** What profiles say. Every part may be changed while it plays. */
  readonly profiles: { -readonly [K in keyof Profiles]: Profiles[K] } = { ...unwritten };
  readonly told: DispatcherToJailer[] = [];
  readonly logged: string[] = [];
  /** What whoever watches was told. */
  readonly happened: Happening[] = [];
  readonly witness: Witness = {
    ...unwatched,
    tell: (happening) => void this.happened.push(happening),
  };
  /** The dispatcher's ends of its conversations with jailers. */
  readonly conversations: JailerChannel[] = [];
  readonly #helper: HelperSide;
  readonly #channel: Channel<HelperToDispatcher, DispatcherToHelper>;
  readonly #allocations: Allocation[];
  readonly #alive = new Map<number, PlayedJail>();
  readonly #starting = new Map<number, Promise<void>>();
  readonly #following: Promise<void>;
  readonly jails: Jails;
  #lives = 0;

  private constructor(
    linger: number,
    allocations: readonly Allocation[],
    live: readonly LiveJail[],
  ) {
    const [ours, theirs] = pair();
    this.#helper = new Channel(theirs, toHelper);
    this.#channel = new Channel(ours, fromHelper);
    const link = new HelperLink(this.#channel, "0");
    const log: Log = {
      style: plainStyle,
      warn: (line) => void this.logged.push(line),
      info: (line) => void this.logged.push(line),
      debug: (line) => void this.logged.push(line),
    };
    this.#allocations = [...allocations];
    for (const { uid } of live) {
      const jail = this.#jail(uid);
      jail.starting = false;
      this.#alive.set(uid, jail);
    }
    this.jails = new Jails(
      {
        helper: link,
        connect: ({ uid }) => {
          const jail = this.#alive.get(uid);
          if (jail === undefined) throw new Error("nobody listens");
          return jail.connect();
        },
        profiles: this.profiles,
        network: "host",
        linger,
        version: "0",
        log,
        witness: this.witness,
      },
      { allocations, jails: live },
    );
    void this.#serve();
    this.#following = link.follow(this.jails);
  }

  /** @param linger how long an idle jail stays, in milliseconds */
  static open(
    linger = 3_600_000,
    allocations: readonly Allocation[] = [],
    live: readonly LiveJail[] = [],
  ): Theatre {
    return new Theatre(linger, allocations, live);
  }

  /** The jail that lives under a uid. */
  alive(uid = 1100): PlayedJail | undefined {
    return this.#alive.get(uid);
  }

  #jail(uid: number): PlayedJail {
    const profile = this.#allocations.find((one) => one.uid === uid)?.profile ?? "nobody";
    return new PlayedJail(uid, profile, this);
  }

  async #serve(): Promise<void> {
    for (;;) {
      const incoming = await this.#helper.receive();
      if (incoming === undefined) return;
      const { message } = incoming;
      this.asked.push(message);
      // Requests of different jails are served at a time.
      void this.#answer(message);
    }
  }

  async #answer(message: DispatcherToHelper): Promise<void> {
    const { script } = this;
    switch (message.type) {
      case "hello":
      case "ready":
      case "unlock":
      case "keep":
      case "lock":
      case "conversion":
      case "convert":
      case "settle":
      case "passwd":
      case "measure":
      case "remove":
      case "cancel":
      case "lend":
      case "unlend":
        break;
      case "homes": {
        const home = { kind: null, unlocked: false, until: null, problem: null };
        const homes = message.uids.map((uid) => ({ uid, home }));
        this.#helper.send({ type: "homes", id: message.id, homes });
        break;
      }
      case "allocate": {
        const { id, owner, profile } = message;
        let known = this.#allocations.find((one) => one.owner === owner && one.profile === profile);
        if (known === undefined) {
          known = { uid: branded(1100 + this.#allocations.length), owner, profile };
          this.#allocations.push(known);
        }
        await script.pause();
        this.#helper.send({ type: "allocated", id, uid: known.uid });
        break;
      }
      case "start": {
        const starting = this.#start(message.id, message.uid);
        this.#starting.set(message.uid, starting);
        await starting;
        break;
      }
      case "end": {
        // The jail that there is, or that is on its way; a later one is not meant.
        await this.#starting.get(message.uid);
        const jail = this.#alive.get(message.uid);
        await script.pause();
        if (jail !== undefined && script.ends) this.end(jail, null);
        break;
      }
      default:
        message satisfies never;
    }
  }

  async #start(id: number, uid: number): Promise<void> {
    const { script } = this;
    const refuse = (message: string): void =>
      void this.#helper.send({ type: "refused", id, code: "start-failed", message });
    if (this.#alive.has(uid)) return refuse("it lives already");
    await script.pause();
    if (script.refusal !== undefined) return refuse(script.refusal);
    const jail = this.#jail(uid);
    this.#alive.set(uid, jail);
    const life = ++this.#lives;
    this.#helper.send({ type: "starting", id });
    await script.pause();
    jail.starting = false;
    if (jail.gone) return refuse("bubblewrap ended before the program began");
    this.#helper.send(branded({
      type: "started",
      id,
      live: {
        uid,
        pid: 100 + life,
        started: 1,
        jail: `life ${life}`,
        encrypted: false,
        limits: noLimits,
      },
    }));
  }

  /** A jail is gone, and all of its programs with it. */
  end(jail: PlayedJail, problem: string | null): void {
    if (jail.gone) return;
    jail.gone = true;
    this.#alive.delete(jail.uid);
    jail.channel?.close();
    if (!jail.starting) {
      this.#helper.send(
        branded({ type: "ended", uid: jail.uid, problem, said: null, why: null, note: null }),
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.script.silent = false;
    for (const jail of [...this.#alive.values()]) this.end(jail, null);
    await this.#helper.drain();
    this.#helper.close();
    await this.#following;
    while (this.conversations.some((one) => !one.closed)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
