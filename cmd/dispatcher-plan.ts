/**
 * What the dispatcher answers who wants to know what a jail would be: the words that it would tell the
 * helper, and nothing is told.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import type { Jails } from "../core/jails.ts";
import { type AppUid, type OwnerUid } from "../core/names.ts";
import type { ProfileStore } from "../core/profile-store.ts";
import type { ClientToDispatcher, DispatcherToClient, JailSpec } from "../core/protocol.ts";
import { shownUid, specOf } from "../core/spec.ts";

type Request = Extract<ClientToDispatcher, { readonly type: "plan" }>;
type Planned = Extract<DispatcherToClient, { readonly type: "planned" }>;

/** What a plan is made from. */
export interface Planner {
  readonly store: ProfileStore;
  readonly jails: Jails;
  readonly network: JailSpec["network"];
  /** For a profile that has no uid yet. */
  readonly firstUid: AppUid;
}

/** The answer. @throws {AppjailError} for a profile that nobody has written, or that is wrong */
export function planned(
  { profile, session }: Request,
  owner: OwnerUid,
  { store, jails, network, firstUid }: Planner,
): Planned {
  const jail = jails.find(owner, profile);
  if (jail === undefined && !store.has(owner, profile)) {
    throw new AppjailError(
      "unknown-profile",
      `There is no profile "${profile}"; it would be as the default jail: docs/the-default-jail.md`,
    );
  }
  const settings = store.settings(owner, profile);
  const allocation = jail?.allocation ?? { uid: firstUid, owner, profile };
  const uid = jail?.allocation.uid ?? null;
  return {
    type: "planned",
    uid,
    shown: shownUid(allocation, settings),
    home: uid === null ? "its home" : `the home of uid ${uid}`,
    running: jail !== undefined && jail.life !== "absent",
    spec: specOf(settings, { allocation, session, network }),
  };
}
