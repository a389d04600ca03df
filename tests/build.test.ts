import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import manifest from "../deno.json" with { type: "json" };
import { build, compileWords, parseArguments, reasonOf } from "../packaging/build.ts";
import { allPermissions, denoEnvironment, reexecuted } from "../core/launch.ts";
import { bundleWords } from "../packaging/bundle.ts";
import { launcher, steeringVariables } from "../packaging/launcher.ts";

/** A program that tells how it was started, and has a part for one role alone, as appjail does. */
const program = `
async function main() {
  if (Deno.args[0] === "--version") console.log("appjail 0");
  else if (Deno.args[0] === "env") console.log(JSON.stringify(Deno.env.toObject()));
  else if (Deno.args[1] === "bus") console.log((await import("./cmd/dispatcher.ts")).name);
  else console.log(JSON.stringify({ args: Deno.args, cwd: Deno.cwd() }));
}
main();
`;
const dispatcher = `
import dbus from "dbus-next";
export const name = typeof dbus.sessionBus + " " + typeof dbus.Variant;
`;

/** Where the fixture's sources and what is built of it lie. */
interface Built extends Disposable {
  readonly folder: string;
  readonly entry: string;
  readonly out: string;
  readonly exe: string;
}

async function built(): Promise<Built> {
  const folder = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "build-" }));
  const entry = `${folder}/main.ts`;
  const out = `${folder}/dist`;
  Deno.writeTextFileSync(entry, program);
  Deno.mkdirSync(`${folder}/cmd`);
  Deno.writeTextFileSync(`${folder}/cmd/dispatcher.ts`, dispatcher);
  const { imports, nodeModulesDir } = manifest;
  Deno.writeTextFileSync(`${folder}/deno.json`, JSON.stringify({ imports, nodeModulesDir }));
  await build({ entry, out, form: "bundled", say: () => {} });
  return {
    folder,
    entry,
    out,
    exe: `${out}/appjail`,
    [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }),
  };
}

/** The script that the launcher starts. */
function scriptOf({ out, exe }: Built): string {
  const name = /"\$appjail_dir\/(appjail\.d\/[0-9a-f]{12}\/appjail\.js)"/.exec(
    Deno.readTextFileSync(exe),
  )?.[1];
  return `${out}/${name}`;
}

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Runs a program with a small environment of our own. */
async function run(
  words: readonly [string, ...string[]],
  { env = {}, cwd = "/" }: Setting = {},
): Promise<Result> {
  const [path, ...args] = words;
  const { code, stdout, stderr } = await new Deno.Command(path, {
    args,
    cwd,
    env: { PATH: "/usr/bin:/bin", ...env },
    clearEnv: true,
    signal: AbortSignal.timeout(20_000),
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** The words and working folder that the program saw. */
async function seen(
  words: readonly [string, ...string[]],
  setting: Setting = {},
): Promise<{ readonly args: readonly string[]; readonly cwd: string }> {
  const { code, stdout, stderr } = await run(words, setting);
  assertEquals({ code, stderr }, { code: 0, stderr: "" });
  return JSON.parse(stdout);
}

Deno.test("the launcher", async (t) => {
  using program = await built();
  const { folder, out, exe } = program;

  await t.step("hands every word over as it is", async () => {
    const words = ["", " ", "a b", "*", "$HOME", "`id`", "\n", "--", "-A", "--help", "ü", "'\"\\"];
    assertEquals((await seen([exe, ...words])).args, words);
    assertEquals((await seen([exe])).args, []);
  });

  await t.step("starts with any shell, and with an empty argv[0]", async () => {
    for (const shell of [["sh"], ["dash"], ["bash"], ["bash", "--posix"]] as const) {
      assertEquals((await seen([...shell, exe, "x"])).args, ["x"]);
      assertEquals((await seen([...shell, "appjail", "x"], { cwd: out })).args, ["x"]);
    }
    assertEquals((await seen(["bash", "-c", 'exec -a "" "$0" x', exe])).args, ["x"]);
  });

  await t.step("is reached through links to files and folders", async () => {
    Deno.mkdirSync(`${folder}/bin`);
    Deno.symlinkSync("../dist/appjail", `${folder}/bin/one`);
    Deno.symlinkSync("one", `${folder}/bin/two`);
    Deno.symlinkSync("dist", `${folder}/linked`);
    Deno.symlinkSync("../linked/appjail", `${folder}/bin/three`);
    for (const name of ["bin/one", "bin/two", "bin/three", "linked/appjail"]) {
      assertEquals((await seen([`${folder}/${name}`, "x"])).args, ["x"]);
      assertEquals((await seen([`./${name}`, "x"], { cwd: folder })).args, ["x"]);
    }
    const env = { PATH: `${folder}/bin` };
    assertEquals((await seen(["/usr/bin/env", "two", "x"], { env })).args, ["x"]);
  });

  await t.step("takes a role from the name that it is called by", async () => {
    assertEquals((await seen([`${out}/appjail-jailer`, "x"])).args, ["jailer", "x"]);
    Deno.symlinkSync(`${out}/appjail-jailer`, `${folder}/bin/appjail-dispatcher`);
    const elsewhere = await seen([`${folder}/bin/appjail-dispatcher`, "x"]);
    assertEquals(elsewhere.args, ["dispatcher", "x"]);
  });

  await t.step("lies in a folder with any name", async () => {
    for (const name of ["-x", "http:", "a b", "a#b?c%20d", "line\nbreak", "ü", "$(id)"]) {
      const place = `${folder}/names/${name}`;
      Deno.mkdirSync(place, { recursive: true });
      for (const part of ["appjail", "appjail.d"]) {
        Deno.renameSync(`${out}/${part}`, `${place}/${part}`);
      }
      try {
        const cwd = `${folder}/names`;
        assertEquals(await seen([`${place}/appjail`, "x"], { cwd }), { args: ["x"], cwd });
        const relative = ["sh", `${name}/appjail`, "x"] as const;
        if (!name.startsWith("-")) assertEquals((await seen(relative, { cwd })).args, ["x"]);
        assertEquals(
          (await run([`${place}/appjail`, "dispatcher", "bus"])).stdout,
          "function function\n",
        );
      } finally {
        for (const part of ["appjail", "appjail.d"]) {
          Deno.renameSync(`${place}/${part}`, `${out}/${part}`);
        }
      }
    }
  });

  await t.step("serves a caller whose folder was removed", async () => {
    const gone = `${folder}/gone`;
    Deno.mkdirSync(gone);
    const { code, stdout } = await run(["sh", "-c", 'rmdir "$PWD" && exec "$0" x', exe], {
      cwd: gone,
    });
    assertEquals({ code, stdout: JSON.parse(stdout) }, {
      code: 0,
      stdout: { args: ["x"], cwd: "/" },
    });
  });

  await t.step("obeys nothing hostile in the environment", async () => {
    const trap = `${folder}/trap.js`;
    const trapText = 'console.log("trapped"); Deno.exit(9);';
    Deno.writeTextFileSync(trap, trapText);
    const common = {
      IFS: "/.a",
      CDPATH: "/tmp:/",
      PATH: "/nonexistent",
      ENV: trap,
      BASH_ENV: trap,
    };
    const values = [trap, "1", "true", "0", "--help", `--require ${trap}`, "unix:/nonexistent"];
    const env: Record<string, string> = {};
    for (const value of values) {
      for (const name of [...steeringVariables, ...Object.keys(denoEnvironment)]) env[name] = value;
      assertEquals((await seen([exe, "x"], { env: { ...common, ...env } })).args, ["x"]);
    }
    // Those that name a file to write did not write it.
    assertEquals(Deno.readTextFileSync(trap), trapText);
  });

  await t.step("leaves the rest of the environment as it is", async () => {
    const env = { LANG: "de_DE.UTF-8", LC_ALL: "C", TERM: "dumb", NO_COLOR: "", X: "a\nb" };
    const { stdout } = await run([exe, "env"], { env });
    const there: Record<string, string> = JSON.parse(stdout);
    for (const [name, value] of Object.entries(env)) assertEquals(there[name], value);
    for (const name of steeringVariables) assertEquals(there[name], undefined);
  });

  await t.step("needs no home and no cache, and leaves nothing in them", async () => {
    const home = `${folder}/home`;
    Deno.mkdirSync(home);
    Deno.writeTextFileSync(`${home}/.npmrc`, "registry=@@@:::\nx");
    const env = { HOME: home, XDG_CACHE_HOME: home, DENO_DIR: `${home}/deno`, TMPDIR: home };
    assertEquals((await run([exe, "dispatcher", "bus"], { env })).stdout, "function function\n");
    assertEquals([...Deno.readDirSync(home)].map(({ name }) => name), [".npmrc"]);
    Deno.chmodSync(home, 0);
    assertEquals((await seen([exe, "x"], { env })).args, ["x"]);
    assertEquals((await seen([exe, "x"], { env: { HOME: "" } })).args, ["x"]);
    assertEquals(Deno.readTextFileSync(exe).includes("DENO_DIR=/dev/null/none"), true);
  });

  await t.step("says nothing of its own on a terminal", async () => {
    const { stdout } = await run(["script", "-qec", `${exe} x`, "/dev/null"]);
    assertEquals(stdout.trimEnd(), '{"args":["x"],"cwd":"/"}');
  });

  await t.step("is not led by files in the working folder or above itself", async () => {
    const cwd = `${folder}/cwd`;
    Deno.mkdirSync(`${cwd}/node_modules`, { recursive: true });
    for (const name of ["deno.json", "deno.lock", "package.json", ".npmrc", ".env"]) {
      Deno.writeTextFileSync(`${cwd}/${name}`, "{broken");
    }
    Deno.writeTextFileSync(`${out}/package.json`, '{"type":"commonjs"}');
    try {
      assertEquals(await seen([exe, "x"], { cwd }), { args: ["x"], cwd });
      assertEquals((await run([exe, "dispatcher", "bus"], { cwd })).stdout, "function function\n");
    } finally {
      Deno.removeSync(`${out}/package.json`);
    }
  });

  await t.step("says what is wrong when its parts are missing", async () => {
    Deno.copyFileSync(exe, `${folder}/bin/alone`);
    const { code, stdout, stderr } = await run([`${folder}/bin/alone`, "x"]);
    assertEquals({ code, stdout }, { code: 111, stdout: "" });
    assertMatch(stderr, /^Cannot start appjail: .*\/alone are missing .*deno task build\n$/);
  });
});

/** What a bundle is made of. */
const parts = ["client", "run", ...reexecuted].sort();

Deno.test("a build may be run by everybody, whatever the umask", async () => {
  const umask = Deno.umask(0o077);
  try {
    using program = await built();
    const modes = new Map<string, string>();
    const walk = (path: string, name: string): void => {
      const { isDirectory, isSymlink, mode } = Deno.lstatSync(path);
      if (!isSymlink) modes.set(name, ((mode ?? 0) % 0o10000).toString(8));
      if (!isDirectory) return;
      for (const inner of Deno.readDirSync(path)) {
        walk(`${path}/${inner.name}`, `${name}/${inner.name}`);
      }
    };
    walk(program.out, "dist");
    const scripts = [...modes.keys()].filter((name) => /\.(?:js|bundle)$/.test(name));
    assertEquals(scripts.length, 1 + parts.length);
    for (const [name, mode] of modes) {
      assertEquals(mode, scripts.includes(name) ? "644" : "755", name);
    }
    assertEquals(Deno.readLinkSync(`${program.out}/appjail-jailer`), "appjail");
  } finally {
    Deno.umask(umask);
  }
});

Deno.test("what one role needs is not in the part of another", async () => {
  using program = await built();
  const script = scriptOf(program);
  assert(Deno.statSync(script).size < 2_000);
  const folder = script.replace(/\/[^/]*$/, "");
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  assertEquals(files, ["appjail.js", ...parts.map((role) => `${role}.bundle`)]);
  for (const role of parts) {
    const part = Deno.readTextFileSync(`${folder}/${role}.bundle`);
    assertEquals(part.includes("sessionBus"), role === "dispatcher", role);
    // Deno would parse what it is given by name, needed or not.
    assertEquals(part.includes("node:module"), false, role);
    // Not from the folder that it was built in, nor from any other.
    assertEquals(/\bimport\("/.test(part), false, role);
  }
  // Without its last lines a part is well-formed, too, and does nothing.
  const words = await run([
    "sh",
    "-c",
    'sed -i "/^main()/,$ d" "$1" && exec "$0" copier',
    program.exe,
    `${folder}/copier.bundle`,
  ]);
  assertMatch(words.stderr, /its bundle is cut short/);
  assert(words.code !== 0);
});

Deno.test("each verb is whole in a bundle, however it is come by", async () => {
  const out = Deno.makeTempDirSync({ prefix: "build-" });
  try {
    const entry = Deno.realPathSync(`${import.meta.dirname}/../main.ts`);
    await build({ entry, out, form: "bundled", say: () => {} });
    const exe = `${out}/appjail`;
    for (const words of [["help", "run"], ["run", "--help"], ["run", "-p", "x", "-h"]]) {
      const { code, stdout, stderr } = await run([exe, ...words]);
      assertMatch(stdout, /^usage:\n {2}appjail run /, stderr);
      assertEquals(code, 0);
    }
    for (
      const words of [
        ["--socket", "/nowhere", "run", "id"],
        ["run", "--socket", "/nowhere", "id"],
        ["run", "--socket=/nowhere", "ls", "--help"],
        ["--socket=/nowhere", "status"],
      ]
    ) {
      const { code, stderr } = await run([exe, ...words]);
      assertMatch(stderr, /^appjail: No daemon answers at \/nowhere;/);
      assertEquals(code, 111);
    }
  } finally {
    Deno.removeSync(out, { recursive: true });
  }
});

Deno.test("a build replaces another under a program that runs, which keeps its parts", async () => {
  using program = await built();
  const { entry, out, exe, folder } = program;
  const old = Deno.readTextFileSync(exe);
  const oldName = /appjail\.d\/([0-9a-f]{12})\//.exec(old)?.[1];
  const deno = (await Deno.lstat(`${out}/appjail.d/deno-${Deno.version.deno}`)).ino;

  await build({ entry, out, form: "bundled", say: () => {} });
  assertEquals(Deno.readTextFileSync(exe), old);

  for (let turn = 1; turn <= 3; turn++) {
    Deno.writeTextFileSync(`${folder}/cmd/dispatcher.ts`, `export const name = "turn ${turn}";`);
    await build({ entry, out, form: "bundled", say: () => {} });
    assertEquals((await run([exe, "dispatcher", "bus"])).stdout, `turn ${turn}\n`);
    const kept = [...Deno.readDirSync(`${out}/appjail.d`)].filter((it) => it.isDirectory);
    assertEquals(kept.length, Math.min(turn + 1, 3));
    if (turn === 1) assert(kept.some(({ name }) => name === oldName));
  }
  assertEquals((await Deno.lstat(`${out}/appjail.d/deno-${Deno.version.deno}`)).ino, deno);
  assertEquals([...Deno.readDirSync(out)].map(({ name }) => name).sort(), [
    "appjail",
    "appjail-jailer",
    "appjail.d",
  ]);
});

Deno.test("a bundle that somebody damaged is made anew", async () => {
  using program = await built();
  const { entry, out, exe } = program;
  Deno.writeTextFileSync(scriptOf(program), "broken(");
  assert((await run([exe, "--version"])).code !== 0);
  await build({ entry, out, form: "bundled", say: () => {} });
  assertEquals((await run([exe, "--version"])).stdout, "appjail 0\n");
});

Deno.test("a build that fails leaves what was there", async () => {
  using program = await built();
  const { entry, out, exe } = program;
  Deno.writeTextFileSync(entry, "Deno.exit(3);");
  const failing = build({ entry, out, form: "bundled", say: () => {} });
  await assertRejects(() => failing, Error, "Cannot build appjail: what was made does not start");
  assertEquals((await run([exe, "--version"])).stdout, "appjail 0\n");
  Deno.writeTextFileSync(entry, "not a program");
  const broken = build({ entry, out, form: "bundled", say: () => {} });
  await assertRejects(() => broken, Error, "deno bundle failed");
  assertEquals([...Deno.readDirSync(out)].length, 3);
});

Deno.test("a base binary that is named and not there is an error, not another form", async () => {
  using program = await built();
  const { entry, out, folder } = program;
  const base = `${folder}/denort`;
  const absent = build({ entry, out, base, say: () => {} });
  await assertRejects(
    () => absent,
    Error,
    `Cannot build one executable: DENORT_BIN names ${base}, which cannot be read`,
  );
  Deno.mkdirSync(base);
  const wrong = build({ entry, out, base, say: () => {} });
  await assertRejects(() => wrong, Error, `${base}, which is not a file`);
});

Deno.test("the executable is compiled without a code cache, prompts or unused packages", () => {
  const words = compileWords("/src/main.ts", "/out/appjail");
  assertEquals(words[0], "compile");
  for (
    const word of ["--no-code-cache", "--no-prompt", "--exclude-unused-npm", "--deny-import"]
  ) {
    assert(words.includes(word), word);
  }
  assert(words.some((word) => word.startsWith("--allow-")));
  assertEquals(words.includes("--allow-all"), false);
  assertEquals(words.slice(-2), ["--output=/out/appjail", "/src/main.ts"]);
  const part = bundleWords("/src/main.ts", "/out/run.js", "run");
  assertEquals(part.slice(-2), ["--output=/out/run.js", "/src/main.ts"]);
  assert(part.includes("--external=./cmd/dispatcher.ts"));
  assertEquals(part.includes("--external=./cmd/run.ts"), false);
});

/** A file or folder in an executable, as Deno writes them there. */
interface Embedded {
  readonly Dir?: { readonly n: string; readonly e: readonly Embedded[] };
  readonly File?: { readonly n: string };
}

/** The JSON text that begins at a place in another text. */
function jsonAt(text: string, begin: string): string {
  const from = text.indexOf(begin);
  assert(from >= 0, begin);
  for (let at = from, depth = 0, quoted = false; at < text.length; at++) {
    const character = text[at] ?? "";
    if (quoted && character === "\\") at++;
    else if (character === '"') quoted = !quoted;
    else if (!quoted && "[{".includes(character)) depth++;
    else if (!quoted && "]}".includes(character) && --depth === 0) return text.slice(from, at + 1);
  }
  throw new Error(`${begin} has no end`);
}

function* pathsIn(all: readonly Embedded[], folder = ""): Generator<string> {
  for (const { Dir, File } of all) {
    if (File !== undefined) yield `${folder}${File.n}`;
    if (Dir !== undefined) yield* pathsIn(Dir.e, `${folder}${Dir.n}/`);
  }
}

// Deno takes any ELF file for its base binary: what it puts behind one can be looked at without.
Deno.test("one executable has the program's own modules in it, its permissions, and no more", async () => {
  const root = Deno.realPathSync(`${import.meta.dirname}/..`);
  const out = Deno.makeTempDirSync({ prefix: "build-" });
  try {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...compileWords(`${root}/main.ts`, `${out}/appjail`)],
      cwd: root,
      env: { DENORT_BIN: Deno.realPathSync("/bin/true") },
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    const text = new TextDecoder("latin1").decode(Deno.readFileSync(`${out}/appjail`));

    const metadata = JSON.parse(jsonAt(text, '{"argv":'));
    const { prompt, deny_import, ...permissions } = metadata.permissions;
    assertEquals([prompt, deny_import], [false, []]);
    const allowed = Object.keys(permissions)
      .filter((name) => name.startsWith("allow_") && permissions[name] !== null);
    assertEquals(
      allowed.filter((name) => name !== "allow_import").map((name) => `--${name.replace("_", "-")}`)
        .sort(),
      [...allPermissions],
    );
    assertEquals(metadata.code_cache_key, null);
    assertEquals(metadata.entrypoint_key, "main.ts");
    assertEquals(metadata.app_version, manifest.version);
    assert(metadata.v8_flags.includes("--single-threaded"));
    assertEquals(metadata.argv, []);
    assertEquals(metadata.env_vars_from_env_file, {});
    for (const wish of [metadata.preload_modules, metadata.require_modules]) assertEquals(wish, []);

    const paths = [...pathsIn(JSON.parse(jsonAt(text, '[{"Dir":')))];
    const own = paths.filter((path) => !path.startsWith(".deno_compile_node_modules/"));
    const info = JSON.parse(
      (await run([Deno.execPath(), "info", "--json", `${root}/main.ts`], {
        env: { HOME: Deno.env.get("HOME") ?? "/", DENO_DIR: Deno.env.get("DENO_DIR") ?? "" },
        cwd: root,
      })).stdout,
    );
    const modules = info.modules.map((one: { readonly specifier: string }) => one.specifier)
      .filter((name: string) => name.startsWith(`file://${root}/`))
      .map((name: string) => name.slice(`file://${root}/`.length));
    assertEquals(own.sort(), modules.sort());
    for (const role of reexecuted) assert(own.includes(`cmd/${role}.ts`), role);
    assertEquals(own.filter((path) => !/^(?:cmd|core|ipc)\//.test(path)), ["deno.json", "main.ts"]);
    // Nor where it was built.
    assertEquals(text.includes(root), false);
  } finally {
    Deno.removeSync(out, { recursive: true });
  }
});

Deno.test("a base binary that is another program is refused, and what was there stays", async () => {
  using program = await built();
  const { entry, out, exe } = program;
  const wrong = build({ entry, out, base: Deno.realPathSync("/bin/true"), say: () => {} });
  await assertRejects(() => wrong, Error, "with this base binary it says: true (GNU coreutils)");
  assertEquals((await run([exe, "--version"])).stdout, "appjail 0\n");
  assertEquals([...Deno.readDirSync(out)].length, 3);
});

Deno.test("a bundle is the same wherever it is built, and does not tell where", async () => {
  using one = await built();
  const deeper = Deno.makeTempDirSync({ prefix: "build-" });
  try {
    const folder = `${deeper}/a b/ü`;
    Deno.mkdirSync(`${folder}/cmd`, { recursive: true });
    for (const file of ["main.ts", "deno.json", "cmd/dispatcher.ts"]) {
      Deno.copyFileSync(`${one.folder}/${file}`, `${folder}/${file}`);
    }
    await build({
      entry: `${folder}/main.ts`,
      out: `${folder}/dist`,
      form: "bundled",
      say: () => {},
    });
    const script = scriptOf(one);
    const name = script.slice(one.out.length);
    const parts = script.replace(/[^/]*$/, "");
    for (const { name: part } of Deno.readDirSync(parts)) {
      const text = Deno.readTextFileSync(`${parts}${part}`);
      // The folder's name is a digest of what is in it.
      const other = `${folder}/dist${name.replace(/[^/]*$/, "")}${part}`;
      assertEquals(Deno.readTextFileSync(other), text, part);
      assertEquals(text.includes("registry.npmjs.org"), false, part);
      assertEquals(text.includes("/.cache/"), false, part);
    }
  } finally {
    Deno.removeSync(deeper, { recursive: true });
  }
});

Deno.test("what a bundle's code uses once is disposed of as well", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(
      `${folder}/one.ts`,
      `function open(): Disposable {
  return { [Symbol.dispose]: () => console.log("closed") };
}
function look(): string {
  using it = open();
  return it === undefined ? "none" : "seen";
}
console.log(look());
`,
    );
    const words = bundleWords(`${folder}/one.ts`, `${folder}/one.cjs`, "run");
    assertEquals((await run([Deno.execPath(), ...words])).code, 0);
    const { stdout } = await run([Deno.execPath(), "run", "-A", `${folder}/one.cjs`]);
    assertEquals(stdout, "closed\nseen\n");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("the reason of a failed compile is one line that names the cause", () => {
  const url = "error sending request for url (https://example.org/denort.zip): dns error";
  const said = `error: Writing to a file\n\nCaused by:\n    0: Setting up.\n    1: ${url}\n` +
    "    2: dns error\n\nStack backtrace:\n   0: <unknown>\n";
  assertEquals(reasonOf(said), url);
  assertEquals(reasonOf("error: no space\n"), "no space");
  assertEquals(reasonOf(""), "deno compile gave no reason");
});

Deno.test("a launcher is not written for a path that would need quotes", () => {
  assertThrows(
    () => launcher({ deno: 'a"b', script: "c", again: "d" }),
    Error,
    "Cannot write a launcher",
  );
});

Deno.test("the build's command line is read strictly", () => {
  assertEquals(parseArguments([]), { out: "dist", form: undefined });
  assertEquals(parseArguments(["--out", "x/", "--form", "bundled"]), { out: "x", form: "bundled" });
  assertEquals(parseArguments(["--form", "other"]), "--form other is not understood");
  assertEquals(parseArguments(["--out"]), "--out needs a value");
});
