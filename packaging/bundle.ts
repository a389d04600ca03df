/**
 * Turns the program into files that need nothing but a Deno, and a few lines that start them.
 *
 * Deno parses every module with a parser of its own before V8 sees it, whatever that module imports
 * by a literal name included, and without a cache it does so at every start: 5 ms for a client, 14
 * for the bus library. So the module that Deno is given is ten lines long. It reads its role's part,
 * a file beside it, and evaluates that: V8 compiles just what is called.
 *
 * @module
 */
import { bundleExternals, reexecuted } from "../core/launch.ts";

/** The parts of a bundle, and of the files that each begins with, which it holds. */
const parts: Readonly<Record<string, readonly string[]>> = {
  run: ["./cmd/run.ts"],
  // The two lead to each other; this part can do whatever a client can.
  client: ["./cmd/app.ts", "./cmd/run.ts"],
  ...Object.fromEntries(reexecuted.map((role) => [role, [`./cmd/${role}.ts`]])),
};

/**
 * The words after `deno` that write one role's part of `entry` to `output`, as CommonJS.
 *
 * It is not minified: the minifier of esbuild 0.25 puts what a `using` declares in the place of its
 * one use, and then nothing is ever disposed of. That cost a descriptor at each look into a folder;
 * the longer text costs less than can be measured.
 */
export function bundleWords(entry: string, output: string, part: string): readonly string[] {
  const others = new Set(Object.values(parts).flat()).difference(new Set(parts[part]));
  return [
    "bundle",
    "--quiet",
    "--format=cjs",
    "--platform=deno",
    ...[...bundleExternals, ...others].map((name) => `--external=${name}`),
    `--output=${output}`,
    entry,
  ];
}

/** The file of a part, beside the module that is started. */
function fileOf(part: string): string {
  return `${part}.bundle`;
}

/**
 * The module that Deno is given. It needs permission to read the parts.
 *
 * @param lengths of each part, in characters: one that was cut short might do half of its work
 */
export function loader(lengths: Readonly<Record<string, number>>): string {
  return `// Starts appjail. Written by packaging/bundle.ts.
const [first] = Deno.args;
// What run says to --help is in the client's part. A program's own --help comes there too: no harm.
const quick = first === "run" && !Deno.args.includes("--help") && !Deno.args.includes("-h");
const role = ${JSON.stringify(reexecuted)}.find((one) => first === one) ??
  (quick ? "run" : "client");
// In one go, and by a name that takes no URL: what the runtime has to compile first costs more than
// to read.
const text = Deno.readTextFileSync(\`\${import.meta.dirname}/\${role}.bundle\`);
if (text.length !== ${JSON.stringify(lengths)}[role]) {
  throw new Error("Cannot start appjail: its bundle is cut short");
}
// Node's own require is loaded when it is first called, which costs 15 ms: by the bus library alone.
const require = (id) =>
  process.getBuiltinModule("node:module").createRequire(import.meta.url)(id);
const module = { exports: {} };
new Function("module", "exports", "require", text)(module, module.exports, require);
`;
}

/**
 * A part without the imports of what it leaves out. The bundler writes some of them as absolute
 * paths: one that is reached would run a file of the folder in which the bundle was made, which may
 * be anybody's by now.
 */
export function closed(text: string): string {
  return text.replaceAll(
    /\bimport\("([^"]*\.ts)"\)/g,
    (_all, path: string) =>
      `Promise.reject(Error("${path.replace(/.*\//, "")} is in another part of the bundle"))`,
  );
}

/**
 * A part without the folder in which this machine keeps packages, as a path from the one that it was
 * built in: the same source has to become the same bytes wherever it is built.
 */
export function placeless(text: string): string {
  return text.replaceAll(/(?<=^\/\/ |")(?:\.\.\/|\/)[^"\n]*\/npm\/[^/"\n]+\//gm, "npm:");
}

/** Bundles `entry` into `folder`: `script` is the module to start, the rest lies beside it. */
export async function bundle(entry: string, folder: string, script: string): Promise<void> {
  const texts = await Promise.all(
    Object.keys(parts).map(async (part) => {
      const output = `${folder}/.${part}.js`;
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [...bundleWords(entry, output, part)],
        cwd: entry.replace(/\/[^/]*$/, "/"),
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output();
      if (!success) {
        const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
        throw new Error(
          `Cannot bundle ${entry}: deno bundle failed; try: deno task setup\n${said.trim()}`,
        );
      }
      const text = Deno.readTextFileSync(output);
      Deno.removeSync(output);
      return [part, placeless(closed(text))] as const;
    }),
  );
  for (const [part, text] of texts) Deno.writeTextFileSync(`${folder}/${fileOf(part)}`, text);
  const lengths = Object.fromEntries(texts.map(([part, text]) => [part, text.length]));
  Deno.writeTextFileSync(`${folder}/${script}`, loader(lengths));
}
