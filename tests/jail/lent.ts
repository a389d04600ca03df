/**
 * What the tests of lending have in common: files of somebody's, and the verbs.
 *
 * @module
 */
import assert from "node:assert/strict";
import { uA, uB, type World } from "./world.ts";

/** The groups that they have in passwd(5), by which their files are mapped. */
export const groups: Readonly<Record<number, number>> = { [uA]: 60, [uB]: 12 };

/** A folder of somebody's, below the scratch folder. */
export async function folderOf(
  world: World,
  name: string,
  uid = uA,
  mode = 0o755,
): Promise<string> {
  const path = name.startsWith("/") ? name : `${world.folder}/${name}`;
  await Deno.mkdir(path);
  await Deno.chmod(path, mode);
  await Deno.chown(path, uid, groups[uid] ?? uid);
  return path;
}

/** A file of somebody's. */
export async function fileOf(
  path: string,
  text: string,
  uid = uA,
  mode = 0o600,
  gid = groups[uid] ?? uid,
): Promise<void> {
  await Deno.writeTextFile(path, text);
  await Deno.chown(path, uid, gid);
  await Deno.chmod(path, mode);
}

/** A jail that stays. */
export async function keep(world: World, profile: string, uid = uA): Promise<void> {
  const words = ["run", "-p", profile, "--detach", "--", "sleep", "1000"];
  const { code, stderr } = await world.client(words, { uid });
  assert.equal(code, 0, stderr);
}

/** What a script of uA's prints in a jail. */
export async function inside(world: World, profile: string, script: string): Promise<string> {
  return await world.shell(profile, script, { uid: uA });
}

/** Lends something of uA's, which has to succeed. */
export async function lend(world: World, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await world.client(["lend", ...words], { uid: uA });
  assert.equal(code, 0, stderr);
  return stdout;
}

/** Takes it back, which has to succeed. */
export async function unlend(world: World, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await world.client(["unlend", ...words], { uid: uA });
  assert.equal(code, 0, stderr);
  return stdout;
}

/** Lends, which has to be refused; what was said. */
export async function refused(
  world: World,
  words: readonly string[],
  uid = uA,
): Promise<string> {
  const { code, stderr } = await world.client(["lend", ...words], { uid });
  assert.equal(code, 111, `${words}: ${stderr}`);
  return stderr;
}

/** Where something is mounted below a folder, as a process sees it. */
export function mountsBelow(folder: string, pid: number | "self" = "self"): readonly string[] {
  return Deno.readTextFileSync(`/proc/${pid}/mounts`).split("\n")
    .map((line) => line.split(" ")[1] ?? "").filter((path) => path.startsWith(`${folder}/`));
}
