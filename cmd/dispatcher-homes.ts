/**
 * What the dispatcher does for a person who wants a home to be encrypted, to be plain again, or to
 * have another passphrase: what there is to be done, who is asked for what, and what they are told.
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { AppjailError } from "../core/errors.ts";
import type { Copied, HelperLink, Patience } from "../core/helper-link.ts";
import type { Jail } from "../core/jail.ts";
import type { ProfileName } from "../core/names.ts";
import type { ClientToDispatcher, DispatcherToClient, VolumeKind } from "../core/protocol.ts";

type Request<T extends ClientToDispatcher["type"]> = Extract<
  ClientToDispatcher,
  { readonly type: T }
>;
export type Wanted = Omit<Extract<DispatcherToClient, { readonly type: "passphrase" }>, "type">;

type Measured = Extract<DispatcherToClient, { readonly type: "measured" }>;

/** How often a passphrase may be wrong before the request has failed. */
const tries = 3;

/** Whoever wants it. */
export interface Person extends Patience {
  /** The pipes are given away. */
  readonly ask: (wanted: Wanted) => Promise<readonly Fd[]>;
  /** The passphrase of a profile's home was wrong. */
  readonly wrong: (profile: ProfileName) => void;
  /** What a home takes on the disk that is to be removed. */
  readonly measured: (home: Omit<Measured, "type">) => void;
  /** The new home is in its place. @param copied null: since an earlier time */
  readonly converted: (copied: Copied | null) => void;
  /** What is to become of the old home; `undefined`: they have left without a word. */
  readonly decision: () => Promise<Request<"confirm"> | undefined>;
  readonly note: (text: string) => void;
}

/** Serves `encrypt` and `decrypt`. */
export async function convertHome(
  link: HelperLink,
  jail: Jail,
  request: Request<"encrypt" | "decrypt">,
  person: Person,
): Promise<void> {
  const { type: what, profile } = request;
  const { uid } = jail.allocation;
  refuseRunning(jail, what);
  const failed = (why: string): AppjailError =>
    new AppjailError("vault-failed", `Cannot ${what} the home of "${profile}": ${why}`);
  let left = await told(failed, link.conversion(uid));
  if (left?.phase === "discarding" || left?.phase === "removing") {
    // That was decided before.
    const done = left.phase === "removing" && left.what === what;
    await link.settle(uid, false, person);
    if (done) return person.note("what was left of the old home is removed");
    left = null;
  }
  if (left?.phase === "switched") {
    if (left.what !== what) {
      throw failed(
        `the old home of the ${left.what} is still there; decide on it first: appjail ${left.what} ${profile}`,
      );
    }
    person.converted(null);
    return await decide(link, jail, person);
  }
  const home = await jail.home();
  if ((home.kind === null) !== (what === "encrypt")) {
    throw failed(
      home.kind === null ? "it is not encrypted" : `it is encrypted already (${home.kind})`,
    );
  }
  if (home.unlocked) throw failed(`it is unlocked; lock it first: appjail lock ${profile}`);
  const kind: VolumeKind = home.kind ?? (request.type === "encrypt" ? request.kind : null) ??
    (left !== null && !request.anew ? left.kind : "gocryptfs");
  if (left !== null && (request.anew || left.kind !== kind || left.what !== what)) {
    await link.settle(uid, false, person);
    left = null;
  }
  const isNew = what === "encrypt" && left?.made !== true;
  if (left !== null && !isNew) person.note("going on with what was interrupted");
  const copied = await withPassphrase(
    { profile, kind, purpose: isNew ? "new" : "unlock" },
    person,
    failed,
    (pipes) => link.convert(uid, { what, kind }, pipes, person),
  );
  person.converted(copied);
  await decide(link, jail, person);
}

/** The old home is removed or kept as the person says, or stays where it is. */
async function decide(link: HelperLink, jail: Jail, person: Person): Promise<void> {
  const decision = await person.decision();
  if (decision === undefined) return;
  const kept = await link.settle(jail.allocation.uid, decision.keep, person);
  person.note(kept === null ? "the old home is removed" : `the old home is kept: ${kept}`);
}

/**
 * Removes a home for good, when the person still wants that once they know what there is.
 *
 * @returns whether its uid was taken back; undefined: nothing was removed
 */
export async function removeHome(
  link: HelperLink,
  jail: Jail,
  person: Person,
): Promise<boolean | undefined> {
  const { uid, profile } = jail.allocation;
  refuseRunning(jail, "remove");
  const failed = (why: string): AppjailError =>
    new AppjailError("vault-failed", `Cannot remove the home of "${profile}": ${why}`);
  const { unlocked } = await told(failed, jail.home());
  if (unlocked) throw failed(`it is unlocked; lock it first: appjail lock ${profile}`);
  const { files, bytes } = await told(failed, link.measure(uid, person));
  person.measured({ uid, files, bytes });
  const decision = await person.decision();
  if (decision === undefined || decision.keep) return undefined;
  const remains = await told(failed, link.remove(uid, person));
  if (remains.length === 0) return true;
  person.note(`uid ${uid} stays ${profile}'s, because there is still: ${remains.join(", ")}`);
  return false;
}

/** Serves `passwd`. */
export async function changePassphrase(
  link: HelperLink,
  jail: Jail,
  person: Person,
): Promise<void> {
  const { uid, profile } = jail.allocation;
  refuseRunning(jail, "change the passphrase of");
  const failed = (why: string): AppjailError =>
    new AppjailError(
      "vault-failed",
      `Cannot change the passphrase of the home of "${profile}": ${why}`,
    );
  // What has to be finished first is finished.
  await told(failed, link.conversion(uid));
  const { kind, unlocked } = await jail.home();
  if (kind === null) throw failed("it is not encrypted");
  if (unlocked) throw failed(`it is unlocked; lock it first: appjail lock ${profile}`);
  await withPassphrase({ profile, kind, purpose: "change" }, person, failed, async ([pipe]) => {
    if (pipe !== undefined) await link.passwd(uid, pipe, person);
  });
}

function refuseRunning(jail: Jail, what: string): void {
  const { profile } = jail.allocation;
  if (jail.life === "absent") return;
  throw new AppjailError(
    "vault-failed",
    `Cannot ${what} the home of "${profile}": its jail is there; stop it first: appjail stop ${profile}`,
  );
}

/** Asks until the passphrase is right, a few times. */
async function withPassphrase<T>(
  wanted: Omit<Wanted, "tries">,
  person: Person,
  failed: (why: string) => AppjailError,
  use: (pipes: readonly Fd[]) => Promise<T>,
): Promise<T> {
  for (let wrong = 0; wrong < tries; wrong++) {
    const pipes = await person.ask({ ...wanted, tries: wrong });
    try {
      return await told(failed, use(pipes));
    } catch (error) {
      if (!(error instanceof AppjailError) || error.code !== "wrong-passphrase") throw error;
      person.wrong(wanted.profile);
    }
  }
  const { message } = failed(`the passphrase was wrong ${tries} times`);
  throw new AppjailError("wrong-passphrase", message);
}

/** What the helper refuses, with words about what it was for. */
async function told<T>(failed: (why: string) => AppjailError, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof AppjailError)) throw error;
    throw new AppjailError(error.code, failed(error.message).message, { cause: error });
  }
}
