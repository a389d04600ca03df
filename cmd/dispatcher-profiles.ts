/**
 * What the dispatcher does for a person about the profiles that they have written: who has which, what
 * one comes to, and keeping another text.
 *
 * A person sees and writes their own, and sees what everybody has; whose they are, the kernel says.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import type { Jails } from "../core/jails.ts";
import type { OwnerUid, ProfileName } from "../core/names.ts";
import { leafNames, type Settings, settle } from "../core/profile.ts";
import type { Resolved } from "../core/profile-layers.ts";
import type { ProfileStore } from "../core/profile-store.ts";
import { widerIn } from "../core/profile-width.ts";
import type { ClientToDispatcher, DispatcherToClient } from "../core/protocol.ts";

export type ProfileRequest = Extract<
  ClientToDispatcher,
  { readonly type: "written" | "show" | "check" | "write" | "diff" | "forget" }
>;
type Answer<T extends DispatcherToClient["type"]> = Extract<
  DispatcherToClient,
  { readonly type: T }
>;

/** What these requests are served with. */
export interface ProfileServer {
  readonly store: ProfileStore;
  readonly jails: Jails;
  /** Puts on record what was done for whoever asked. */
  readonly granted: (words: string) => void;
  readonly send: (answer: DispatcherToClient) => Promise<void>;
}

/** How many profiles go into a message: a large one is refused by the other end. */
const atOnce = 100;

/** Serves a request, but for the `done` at its end. */
export async function serveProfiles(
  request: ProfileRequest,
  owner: OwnerUid,
  server: ProfileServer,
): Promise<void> {
  const { store, granted, send } = server;
  switch (request.type) {
    case "written": {
      const all = written(owner, server);
      for (let at = 0; at < all.length; at += atOnce) {
        await send({ type: "written", profiles: all.slice(at, at + atOnce) });
      }
      return;
    }
    case "show":
      return await show(request.profile, owner, server);
    case "check": {
      const { problems } = store.tryOut(owner, request.profile, request.text);
      return await send({ type: "checked", problems: [...problems] });
    }
    case "write": {
      const { profile, text, before } = request;
      if ((store.own(owner, profile) ?? null) !== before) {
        throw new AppjailError(
          "profile-refused",
          `Cannot keep profile "${profile}": it was changed meanwhile`,
        );
      }
      const { problems } = store.tryOut(owner, profile, text);
      if (problems.length === 0) {
        store.write(owner, profile, text);
        granted(`has written profile ${profile}`);
      }
      return await send({ type: "checked", problems: [...problems] });
    }
    case "diff":
      return await send(compare(request.profile, owner, store));
    case "forget": {
      const { profile } = request;
      if (!store.remove(owner, profile)) throw unwritten(profile);
      granted(`has deleted profile ${profile}`);
      return;
    }
    default:
      request satisfies never;
  }
}

function unwritten(profile: ProfileName): AppjailError {
  return new AppjailError(
    "unknown-profile",
    `You have not written a profile "${profile}"; to see those that there are: appjail profile list`,
  );
}

/** Every profile that is written for a person, and those that only have a uid. */
function written(
  owner: OwnerUid,
  { store, jails }: ProfileServer,
): readonly Answer<"written">["profiles"][number][] {
  const texts = store.list(owner);
  const known = jails.profiles(owner);
  const names = new Set([...texts.map(({ name }) => name), ...known.map(({ profile }) => profile)]);
  return [...names].sort().map((profile) => {
    const jail = jails.find(owner, profile);
    const { settings, problems } = store.resolve(owner, profile);
    return {
      profile,
      from: texts.find(({ name }) => name === profile)?.files.map(({ layer }) => layer) ?? [],
      uid: jail?.allocation.uid ?? null,
      running: jail !== undefined && jail.life !== "absent",
      changed: jail?.changed ?? false,
      description: settings.description,
      executables: [...settings.executables],
      problems: problems.length,
    };
  });
}

async function show(
  profile: ProfileName,
  owner: OwnerUid,
  { store, jails, send }: ProfileServer,
): Promise<void> {
  const { settings, sources, problems, files } = store.resolve(owner, profile);
  const jail = jails.find(owner, profile);
  if (files.length === 0 && jail === undefined) {
    throw new AppjailError("unknown-profile", `There is no profile "${profile}"`);
  }
  for (const { layer, file, text } of files) await send({ type: "layer", layer, file, text });
  await send({
    type: "resolved",
    values: leafNames.filter(isSetting).map((key) => ({
      key,
      value: valueOf(settings, key),
      from: sources.get(key) ?? null,
    })),
    problems: [...problems],
    uid: jail?.allocation.uid ?? null,
    running: jail !== undefined && jail.life !== "absent",
    changed: jail?.changed ?? false,
  });
}

/** Whether a key is still one when all is resolved. */
function isSetting(key: string): boolean {
  return key !== "extends" && key !== "preset";
}

/** A value as JSON. */
function valueOf(settings: Settings, key: string): string {
  const [name = "", inner] = key.split(".");
  const value: unknown = Object.entries(settings).find(([one]) => one === name)?.[1];
  return JSON.stringify(inner === undefined ? value : { ...Object(value) }[inner]);
}

/** What a person's own text makes of a profile. */
function compare(
  profile: ProfileName,
  owner: OwnerUid,
  store: ProfileStore,
): Answer<"compared"> {
  if (store.own(owner, profile) === undefined) throw unwritten(profile);
  // A text that says nothing.
  const below: Resolved = store.tryOut(owner, profile, "");
  const own = store.resolve(owner, profile);
  const before = below.problems.length === 0 ? below.settings : settle({});
  const wider = new Set(widerIn(before, own.settings));
  const changes = leafNames.filter(isSetting).flatMap((key) => {
    const [was, is] = [valueOf(before, key), valueOf(own.settings, key)];
    if (was === is) return [];
    return [{
      key,
      below: was,
      own: is,
      from: below.sources.get(key) ?? null,
      wider: wider.has(key),
    }];
  });
  return { type: "compared", changes };
}
