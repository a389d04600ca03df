/**
 * Programs that the documentation shows in other languages than a shell's, each as a file of its own in
 * alice's home.
 *
 * @module
 */
import assert from "node:assert/strict";
import manifest from "../deno.json" with { type: "json" };
import type { DocsWorld } from "./docs-world.ts";
import { execute } from "./jail/world.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** The version that the pages name, which is the one that we use ourselves. */
export const dbusNext: string = manifest.imports["dbus-next"].split("@")[1] ?? "";

/** What a program needs beside it, and how it is run: by whom, in which words. */
interface Language {
  readonly ending: string;
  readonly prepare?: (folder: string) => Promise<void>;
  readonly runs: readonly {
    readonly asRoot: boolean;
    readonly words: (file: string) => readonly string[];
  }[];
}

const languages: Readonly<Record<string, Language>> = {
  "python run": {
    ending: "py",
    // Debian's own, which Debian's packages are for.
    runs: [{ asRoot: false, words: (file) => ["/usr/bin/python3", file] }],
  },
  "js run": {
    ending: "mjs",
    prepare: async (folder) => {
      // From what is there already: the lock file names the very packages.
      const dependencies = { "dbus-next": dbusNext };
      await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify({ dependencies }));
      await Deno.copyFile(`${root}/deno.lock`, `${folder}/deno.lock`);
      const words = [Deno.execPath(), "install", "--quiet", "--node-modules-dir=auto"];
      const { code, stderr } = await execute([...words, "--cached-only"], { cwd: folder });
      assert.equal(code, 0, stderr);
      await Deno.remove(`${folder}/deno.lock`);
    },
    runs: [
      { asRoot: false, words: (file) => ["node", file] },
      // Not everybody can reach the Deno that runs this.
      { asRoot: true, words: (file) => [Deno.execPath(), "run", "-A", "--no-lock", file] },
    ],
  },
};

/**
 * Runs a program that is shown, in each way that there is for it; it has to succeed.
 *
 * @param info the words behind the fence
 * @returns what was printed each time
 */
export async function printedBy(
  world: DocsWorld,
  info: string,
  lines: readonly string[],
): Promise<readonly string[]> {
  const language = languages[info];
  assert(language !== undefined, info);
  const folder = `${world.home}/examples`;
  await Deno.mkdir(folder, { recursive: true });
  await language.prepare?.(folder);
  const name = `example.${language.ending}`;
  await Deno.writeTextFile(`${folder}/${name}`, world.here(lines.join("\n")));
  const printed: string[] = [];
  for (const { asRoot, words } of language.runs) {
    const command = words(`/home/alice/examples/${name}`);
    const { code, stdout, stderr } = await execute(
      world.words(["timeout", "60", ...command], asRoot),
      { env: { ...world.environment, NO_COLOR: "1" } },
    );
    assert.deepEqual([code, stderr], [0, ""], `${command.join(" ")}: ${stdout}`);
    printed.push(stdout);
  }
  return printed;
}
