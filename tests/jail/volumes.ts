/**
 * Encrypted homes for tests: volumes as people have made them, with the plain programs, and what of
 * them is there on the machine.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { allPids } from "../../core/process.ts";
import { configName, mountAt } from "../../core/volume.ts";
import type { VolumeKind } from "../../core/protocol.ts";
import { type ClientOptions, execute, firstUid, type Outcome, until, type World } from "./world.ts";

/** Nobody would choose it, so that it can be looked for in everything. */
export const passphrase = "correct-Horse7battery";

/** How a volume is made: encfs's own words for its settings, and the least work for a key. */
const making: Readonly<Record<VolumeKind, readonly string[]>> = {
  encfs: ["encfs", "--stdinpass", "--standard"],
  // The work for a key is for those who guess, 65536 of scrypt's N by default.
  gocryptfs: ["gocryptfs", "-init", "-q", "-scryptn", "10"],
};

/** Runs a script that has to succeed, with words as "$1", "$2", … */
export async function shell(script: string, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await execute(["sh", "-euc", script, "sh", ...words]);
  assert.equal(code, 0, `${script}: ${stderr}`);
  return stdout.replace(/\n$/, "");
}

/** Waits until nothing is mounted at a path, and whoever served it has ended. */
async function closed(folder: string, volume: string): Promise<void> {
  await until("it is unmounted", async () => {
    const { code } = await execute(["umount", folder]);
    return code === 0 || mountAt(folder) === undefined;
  });
  await until("its program has ended", () => programsOf(volume).length === 0);
}

/** The processes that serve the volume in a folder. */
export function programsOf(volume: string): readonly number[] {
  return allPids().filter((pid) => {
    const words = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return /\/?(encfs|gocryptfs)$/.test(words[0] ?? "") && words.includes(volume);
  });
}

/** Opens a volume as its person would without appjail, for as long as it takes. */
export async function openPlainly<T>(
  kind: VolumeKind,
  volume: string,
  mount: string,
  use: () => Promise<T>,
): Promise<T> {
  await Deno.mkdir(mount, { recursive: true });
  const words = kind === "encfs"
    ? ["encfs", "--stdinpass", volume, mount]
    : ["gocryptfs", "-q", volume, mount];
  const { code, stdout, stderr } = await execute(words, { stdin: `${passphrase}\n` });
  assert.equal(code, 0, `${words.join(" ")}: ${stdout}${stderr}`);
  try {
    return await use();
  } finally {
    await closed(mount, volume);
    await Deno.remove(mount);
  }
}

/**
 * Makes a profile whose home is a volume: made elsewhere by the plain program, filled by a script
 * that runs in it, and moved into place.
 */
export async function encryptedProfile(
  world: World,
  profile: string,
  kind: VolumeKind,
  fill = "echo kept > note",
  more: readonly string[] = [],
  owner: ClientOptions = {},
): Promise<{ readonly uid: number; readonly home: string }> {
  const known = await world.client(["run", "-p", profile, "--", "id", "-u"], owner);
  assert.equal(known.code, 0, known.stderr);
  const uid = Number(known.stdout);
  assert(uid >= firstUid);
  await world.client(["stop", "--force", profile], owner);
  const home = `${world.data}/${uid}`;
  const [made, mount] = [`${world.folder}/made-${uid}`, `${world.folder}/mount-${uid}`];
  await Deno.mkdir(made);
  await Deno.mkdir(mount);
  const words = [...making[kind], ...more, made, ...kind === "encfs" ? [mount] : []];
  const { code, stdout, stderr } = await execute(words, { stdin: `${passphrase}\n` });
  assert.equal(code, 0, `${words.join(" ")}: ${stdout}${stderr}`);
  if (kind === "encfs") await closed(mount, made);
  await openPlainly(kind, made, mount, () => shell(`cd "$1"; ${fill}`, mount));
  await shell(
    'chown -R "$1:$1" "$2"; chown root:root "$2/$3"; chmod 600 "$2/$3"; rmdir "$4/lent" "$4"; mv -T "$2" "$4"',
    ...[`${uid}`, made, configName[kind], home],
  );
  return { uid, home };
}

/** A client that gets the passphrase through a descriptor. */
export function withPassphrase(
  world: World,
  args: readonly string[],
  secret: string = passphrase,
  options: ClientOptions = {},
): Promise<Outcome> {
  const [verb = "", ...rest] = args;
  return world.client([verb, "--passphrase-fd", "0", ...rest], {
    ...options,
    stdin: `${secret}\n`,
  });
}

/** What there is of unlocked homes: mounts, processes and folders. Nothing, when all are locked. */
export function remains(world: World): readonly string[] {
  const mounts = (readText("/proc/self/mountinfo", 16 * 1024 * 1024) ?? "").split("\n")
    .filter((line) => line.includes(`${world.runtime}/vault/`));
  const processes = allPids().flatMap((pid) => {
    const words = readText(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ") ?? "";
    return /(^|\/)(encfs|gocryptfs|appjail-watchdog) /.test(words) && words.includes(world.folder)
      ? [words]
      : [];
  });
  let folders: readonly string[] = [];
  try {
    folders = [...Deno.readDirSync(`${world.runtime}/vault`)].map(({ name }) => name);
  } catch {
    // The daemon has left, and the folder with it.
  }
  return [...mounts, ...processes, ...folders];
}

/** Waits until all homes are locked. */
export async function allLocked(world: World, seconds = 20): Promise<void> {
  try {
    await until("every home is locked", () => remains(world).length === 0, seconds);
  } catch (error) {
    throw new Error(`${error}: ${remains(world).join("\n")}\n${world.log.slice(-2000)}`);
  }
}
