/**
 * What it costs that a home is encrypted: to start a jail in it, beside one with a plain home; and to
 * write and read in it, beside the same mount outside of any jail.
 *
 * @module
 */
import { encryptedProfile, withPassphrase } from "../jail/volumes.ts";
import { execute, type World } from "../jail/world.ts";
import { inTurns, type Pair } from "./streams.ts";

const profile = "vault";

async function milliseconds(
  work: () => Promise<{ readonly code: number; readonly stderr: string }>,
) {
  const began = performance.now();
  const { code, stderr } = await work();
  if (code !== 0) throw new Error(stderr);
  return performance.now() - began;
}

/** Makes the profile; its key costs next to nothing to derive, as that is gocryptfs's own matter. */
export async function makeVault(world: World): Promise<void> {
  await encryptedProfile(world, profile, "gocryptfs");
}

/** The first program of a jail, with a locked home and with a plain one. */
export function encryptedStart(world: World): Promise<Pair> {
  const words = (name: string) => ["run", "-p", name, "--", "true"];
  return inTurns(
    15,
    async () => {
      await world.client(["lock", "--force", profile]);
      return await milliseconds(() => withPassphrase(world, words(profile)));
    },
    async () => {
      await world.client(["stop", "--force", "cold"]);
      return await milliseconds(() => world.client(words("cold")));
    },
  );
}

/** As much as is written, flushed, and read again, in a jail and on the bare mount. */
export async function encryptedBytes(world: World, bytes: number): Promise<Pair> {
  const { code, stderr } = await withPassphrase(world, ["unlock", profile]);
  if (code !== 0) throw new Error(stderr);
  const [jail] = (await world.status()).filter((one) => one.profile === profile);
  const uid = Number(jail.uid);
  const mount = `${world.runtime}/vault/${uid}/home`;
  const work =
    "for i in 1 2 3; do head -c $1 /dev/zero > big; sync big; cat big > /dev/null; rm big; done";
  const script = ["sh", "-euc", work, "sh", `${bytes}`];
  const keep = await world.client(["run", "-d", "-p", profile, "sleep", "3600"]);
  if (keep.code !== 0) throw new Error(keep.stderr);
  const pair = await inTurns(
    5,
    () => milliseconds(() => world.client(["run", "-p", profile, "--", ...script])),
    () =>
      milliseconds(() =>
        execute([
          ...["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"],
          ...["sh", "-euc", `cd ${mount}; ${work}`, "sh", `${bytes}`],
        ])
      ),
  );
  await world.client(["lock", "--force", profile]);
  return pair;
}
