/**
 * The dispatcher's side of its conversation with the helper: requests with their answers.
 *
 * @module
 */
import type { Channel } from "../ipc/channel.ts";
import type { Fd } from "../ipc/fd.ts";
import { after, within } from "./deadline.ts";
import { AppjailError } from "./errors.ts";
import type { AppUid, LendName, OwnerUid, ProfileName } from "./names.ts";
import {
  type Allocation,
  type DispatcherToHelper,
  type HelperToDispatcher,
  type HomeState,
  type JailSpec,
  type Lendable,
  type LiveJail,
  protocolVersion,
  type Unfinished,
} from "./protocol.ts";

/** The helper answers at once, but for a start or an end, which have a deadline of their own. */
const answerDeadline = 30_000;
/** A key may take long to be derived, and a volume to be let go of. */
const vaultDeadline = 150_000;

/** What the helper tells of a jail that has ended. */
export type Ended = Extract<HelperToDispatcher, { readonly type: "ended" }>;

/** What the helper tells of a jail of which nothing runs any more, before its home is locked. */
export type Locking = Extract<HelperToDispatcher, { readonly type: "locking" }>;

/** What the helper tells of a home that was unlocked, or locked. */
export type Turned = Extract<HelperToDispatcher, { readonly type: "home" }>;

/** What a jail has been lent, where somebody else has seen to it. */
export type Lends = Extract<HelperToDispatcher, { readonly type: "lends" }>;

/** Whoever is told what the helper says unasked. */
export interface Told {
  ended(end: Ended): void;
  locking(end: Locking): void;
  lends(lends: Lends): void;
  turned(home: Turned): void;
}

type Answer = Exclude<
  HelperToDispatcher,
  { readonly type: "hello" | "welcome" | "ended" | "locking" | "home" }
>;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  readonly starting: () => void;
  readonly progress: (progress: Progress) => void;
}

/** How far the helper is with a home. */
export type Progress = Omit<
  Extract<HelperToDispatcher, { readonly type: "progress" }>,
  "type" | "id"
>;
/** What has become of a copy. */
export type Copied = Omit<
  Extract<HelperToDispatcher, { readonly type: "converted" }>,
  "type" | "id"
>;

/** Somebody who waits for what takes long. */
export interface Patience {
  readonly progress: (progress: Progress) => void;
  /** They do not wait any more. */
  readonly signal: AbortSignal;
}

/** What the helper said first. */
export interface Welcome {
  readonly allocations: readonly Allocation[];
  readonly jails: readonly LiveJail[];
}

/** The helper, as somebody to ask. */
export class HelperLink {
  readonly #channel: Channel<HelperToDispatcher, DispatcherToHelper>;
  readonly #waiting = new Map<number, Waiting>();
  #id = 0;

  constructor(channel: Channel<HelperToDispatcher, DispatcherToHelper>, version: string) {
    this.#channel = channel;
    channel.send({ type: "hello", role: "dispatcher", protocol: protocolVersion, version });
  }

  /** What was allocated and what lives, which the helper tells unasked. */
  async welcome(): Promise<Welcome> {
    for (;;) {
      const incoming = await within(
        this.#channel.receive(),
        answerDeadline,
        () => new AppjailError("no-answer", "The helper does not answer"),
      );
      if (incoming === undefined) throw new AppjailError("lost", "The helper is gone");
      const { message } = incoming;
      if (message.type === "welcome") return message;
      if (message.type !== "hello" || message.protocol !== protocolVersion) {
        throw new AppjailError("protocol", `The helper begins with "${message.type}"`);
      }
    }
  }

  /** Says that clients are heard. */
  ready(): void {
    this.#channel.send({ type: "ready" });
  }

  /** Passes answers to those who wait for them, until the helper is gone. */
  async follow(
    told: Told,
  ): Promise<void> {
    for (;;) {
      const incoming = await this.#channel.receive();
      if (incoming === undefined) return;
      const { message } = incoming;
      switch (message.type) {
        case "hello":
        case "welcome":
          throw new AppjailError("protocol", `The helper said "${message.type}" twice`);
        case "ended":
          told.ended(message);
          break;
        case "locking":
          told.locking(message);
          break;
        case "lends":
          told.lends(message);
          break;
        case "home":
          told.turned(message);
          break;
        case "progress": {
          const { type: _, id, ...progress } = message;
          this.#waiting.get(id)?.progress(progress);
          break;
        }
        case "starting":
          this.#waiting.get(message.id)?.starting();
          break;
        case "refused":
          this.#take(message.id)?.reject(new AppjailError(message.code, message.message));
          break;
        case "allocated":
        case "homes":
        case "unlocked":
        case "kept":
        case "locked":
        case "conversion":
        case "converted":
        case "settled":
        case "changed":
        case "measured":
        case "removed":
        case "lent":
        case "unlent":
        case "started":
          this.#take(message.id)?.resolve(message);
          break;
        default:
          message satisfies never;
      }
    }
  }

  async allocate(owner: OwnerUid, profile: ProfileName): Promise<AppUid> {
    const answer = await this.#ask((id) => ({ type: "allocate", id, owner, profile }));
    if (answer.type !== "allocated") throw mismatch(answer);
    return answer.uid;
  }

  /** What homes are: in the order of the uids. */
  async homes(uids: readonly AppUid[]): Promise<readonly HomeState[]> {
    const answer = await this.#ask((id) => ({ type: "homes", id, uids: [...uids] }));
    if (answer.type !== "homes") throw mismatch(answer);
    return uids.map((uid) => {
      const found = answer.homes.find((one) => one.uid === uid);
      if (found === undefined) throw mismatch(answer);
      return found.home;
    });
  }

  /** Unlocks a home with the passphrase that is in a pipe, which is given away. */
  async unlock(uid: AppUid, pipe: Fd): Promise<void> {
    const answer = await this.#ask((id) => ({ type: "unlock", id, uid }), undefined, {
      descriptors: [pipe],
      deadline: vaultDeadline,
    });
    if (answer.type !== "unlocked") throw mismatch(answer);
  }

  /** Lets a home stay unlocked without a jail: until a time, in milliseconds, or 0 for ever. */
  async keep(uid: AppUid, until: number): Promise<void> {
    const answer = await this.#ask((id) => ({ type: "keep", id, uid, until }));
    if (answer.type !== "kept") throw mismatch(answer);
  }

  /** Locks a home in which nothing runs. @returns what went wrong */
  async lock(uid: AppUid): Promise<string | null> {
    const answer = await this.#ask((id) => ({ type: "lock", id, uid }), undefined, {
      deadline: vaultDeadline,
    });
    if (answer.type !== "locked") throw mismatch(answer);
    return answer.problem;
  }

  /** What is left of a conversion of a home. */
  async conversion(uid: AppUid): Promise<Unfinished | null> {
    const answer = await this.#ask((id) => ({ type: "conversion", id, uid }));
    if (answer.type !== "conversion") throw mismatch(answer);
    return answer.left;
  }

  /** Converts a home, with the passphrase in one pipe or two, which are given away. */
  async convert(
    uid: AppUid,
    { what, kind }: Pick<Unfinished, "what" | "kind">,
    pipes: readonly Fd[],
    patience: Patience,
  ): Promise<Copied> {
    const two = pipes.length > 1 ? 2 : 1;
    const answer = await this.#askPatiently(
      uid,
      (id) => ({ type: "convert", id, uid, what, kind, pipes: two }),
      pipes,
      patience,
    );
    if (answer.type !== "converted") throw mismatch(answer);
    const { type: _, id: _id, ...copied } = answer;
    return copied;
  }

  /** Removes what is left of a conversion. @returns where the old home is, if it is kept */
  async settle(uid: AppUid, keep: boolean, patience: Patience): Promise<string | null> {
    const answer = await this.#askPatiently(
      uid,
      (id) => ({ type: "settle", id, uid, keep }),
      [],
      patience,
    );
    if (answer.type !== "settled") throw mismatch(answer);
    return answer.kept;
  }

  /** Gives a home another passphrase: the two are lines in the pipe, which is given away. */
  async passwd(uid: AppUid, pipe: Fd, patience: Patience): Promise<void> {
    const answer = await this.#askPatiently(
      uid,
      (id) => ({ type: "passwd", id, uid }),
      [pipe],
      patience,
    );
    if (answer.type !== "changed") throw mismatch(answer);
  }

  /** What a home takes on the disk. */
  async measure(
    uid: AppUid,
    patience: Patience,
  ): Promise<{ readonly files: number; readonly bytes: number }> {
    const answer = await this.#askPatiently(
      uid,
      (id) => ({ type: "measure", id, uid }),
      [],
      patience,
    );
    if (answer.type !== "measured") throw mismatch(answer);
    return answer;
  }

  /** Removes a home. @returns what is left, for which its uid is not taken back */
  async remove(uid: AppUid, patience: Patience): Promise<readonly string[]> {
    const answer = await this.#askPatiently(
      uid,
      (id) => ({ type: "remove", id, uid }),
      [],
      patience,
    );
    if (answer.type !== "removed") throw mismatch(answer);
    return answer.remains;
  }

  /** What takes as long as it takes; the answer comes soon once nobody waits for it any more. */
  async #askPatiently(
    uid: AppUid,
    request: (id: number) => DispatcherToHelper,
    descriptors: readonly Fd[],
    { progress, signal }: Patience,
  ): Promise<Answer> {
    const id = this.#id + 1;
    const cancel = (): void => void this.#channel.send({ type: "cancel", id, uid });
    const asking = this.#ask(request, undefined, { descriptors, progress, deadline: undefined });
    signal.addEventListener("abort", cancel);
    if (signal.aborted) cancel();
    try {
      return await asking;
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  /**
   * Starts a jail. The helper prepares its home as well: a request less on the way.
   *
   * @param starting called when the jailer's socket listens, well before the jailer does anything
   */
  async start(uid: AppUid, spec: JailSpec, starting: () => void): Promise<LiveJail> {
    const answer = await this.#ask((id) => ({ type: "start", id, uid, spec }), starting);
    if (answer.type !== "started") throw mismatch(answer);
    return answer.live;
  }

  /** Lends something of its owner's to a jail that runs. */
  async lend(uid: AppUid, wanted: Lendable): Promise<void> {
    const answer = await this.#ask((id) => ({ type: "lend", id, uid, ...wanted }));
    if (answer.type !== "lent") throw mismatch(answer);
  }

  /** Takes it back. */
  async unlend(uid: AppUid, name: LendName): Promise<void> {
    const answer = await this.#ask((id) => ({ type: "unlend", id, uid, name }));
    if (answer.type !== "unlent") throw mismatch(answer);
  }

  /**
   * Ends a jail by force. That it has ended is told as an event; only a failure is told here.
   *
   * @param jail which life of it; null for the one that is being started
   */
  end(uid: AppUid, jail: string | null, failed: (error: Error) => void): void {
    const id = ++this.#id;
    const drop = (): void => void this.#waiting.delete(id);
    const cancel = after(answerDeadline, drop);
    this.#waiting.set(id, {
      resolve: drop,
      starting: drop,
      progress: () => {},
      reject: (error) => {
        cancel();
        failed(error);
      },
    });
    this.#channel.send({ type: "end", id, uid, jail });
  }

  async #ask(
    request: (id: number) => DispatcherToHelper,
    starting: () => void = () => {},
    { descriptors = [], deadline, progress = () => {} }: {
      readonly descriptors?: readonly Fd[];
      /** undefined: none. */
      readonly deadline: number | undefined;
      readonly progress?: (progress: Progress) => void;
    } = { deadline: answerDeadline },
  ): Promise<Answer> {
    const id = ++this.#id;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#waiting.set(id, { resolve, reject, starting, progress });
    this.#channel.send(request(id), descriptors);
    try {
      if (deadline === undefined) return await promise;
      return await within(
        promise,
        deadline,
        () => new AppjailError("no-answer", "The helper does not answer"),
      );
    } finally {
      this.#waiting.delete(id);
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }
}

function mismatch(answer: Answer): AppjailError {
  return new AppjailError("protocol", `The helper answered "${answer.type}"`);
}
