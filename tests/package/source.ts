/**
 * The source at another place, such as somebody else has, and packages that are made of it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { sourceDate } from "../../packaging/source-date.ts";
import { execute } from "../jail/world.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/../..`);

/** Copies what a build needs of the checkout into a new folder. */
export async function copySource(folder: string): Promise<void> {
  Deno.mkdirSync(folder, { recursive: true });
  const names = ["main.ts", "deno.json", "deno.lock", "LICENSE", "README.md"];
  const folders = ["cmd", "core", "ipc", "packaging", "profiles", "docs"];
  const { code, stderr } = await execute([
    ...["cp", "-r", "--", ...[...names, ...folders].map((name) => `${root}/${name}`), folder],
  ]);
  assert.equal(code, 0, stderr);
}

/** Makes a package of a source, as `deno task package` does, and returns its path. */
export async function packageOf(
  source: string,
  out: string,
  words: readonly string[],
  { env = {}, umask = "022" }: {
    readonly env?: Readonly<Record<string, string>>;
    readonly umask?: string;
  } = {},
): Promise<string> {
  const script = `umask ${umask}; cd "$1"; shift; exec "$@"`;
  const deno = [Deno.execPath(), "run", "-A", "packaging/package.ts", "--out", out, ...words];
  const { code, stdout, stderr } = await execute(["sh", "-ec", script, "sh", source, ...deno], {
    env: { SOURCE_DATE_EPOCH: `${sourceDate().getTime() / 1000}`, ...env },
  });
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  const path = /^Made (\/.*\.deb)\.$/m.exec(stdout)?.[1];
  assert(path !== undefined, stdout);
  return path;
}

export { root };
