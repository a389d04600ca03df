/**
 * The layers of the program, proved from Deno's own module graph: main, cmd, core, ipc, one way; and
 * which roles may load which packages.
 */
import { assert, assertEquals } from "@std/assert";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** The part of `deno info --json` that is used. */
interface Graph {
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly specifier: string;
      readonly isDynamic?: boolean;
      readonly code?: { readonly specifier?: string };
      readonly type?: { readonly specifier?: string };
    }[];
  }[];
  readonly redirects?: Readonly<Record<string, string>>;
}

interface Import {
  readonly from: string;
  readonly to: string;
  readonly dynamic: boolean;
  /** Erased when the program runs. */
  readonly typeOnly: boolean;
}

/** A module as a path from the root, or as its specifier where it is not a file of ours. */
function nameOf(specifier: string): string {
  const prefix = `file://${root}/`;
  return specifier.startsWith(prefix) ? specifier.slice(prefix.length) : specifier;
}

async function importsFrom(entry: string): Promise<readonly Import[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", entry],
    cwd: root,
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  const graph: Graph = JSON.parse(new TextDecoder().decode(stdout));
  return graph.modules.flatMap(({ specifier, dependencies = [] }) =>
    dependencies.map((one) => ({
      from: nameOf(specifier),
      to: nameOf(one.code?.specifier ?? one.type?.specifier ?? one.specifier),
      dynamic: one.isDynamic === true,
      typeOnly: one.code === undefined,
    }))
  );
}

const all = await importsFrom("main.ts");
const ours = (name: string): boolean => /^(?:main\.ts|(?:cmd|core|ipc)\/)/.test(name);
const layers = ["main.ts", "cmd", "core", "ipc"] as const;
const layerOf = (name: string): number =>
  layers.findIndex((layer) => name === layer || name.startsWith(`${layer}/`));

/** Everything that is loaded when `entry` is, without what it loads later and if at all. */
function loadedBy(entry: string): ReadonlySet<string> {
  const seen = new Set<string>();
  const queue = [entry];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    for (const one of all) {
      if (one.from === name && !one.dynamic && !one.typeOnly) queue.push(one.to);
    }
  }
  return seen;
}

/** The packages in a set of modules, each by its name. */
function packages(names: ReadonlySet<string>): readonly string[] {
  return [
    ...new Set(
      [...names].map((name) => /^npm:\/?((?:@[^/]+\/)?[^@/]+)/.exec(name)?.[1])
        .filter((name) => name !== undefined),
    ),
  ].sort();
}

Deno.test("every module lies in a layer, and imports run one way", () => {
  for (const { from, to } of all.filter((one) => ours(one.from))) {
    if (to.startsWith("npm:") || to === "deno.json") continue;
    assert(ours(to), `${from} imports ${to}, which lies in no layer`);
    assert(layerOf(from) <= layerOf(to), `${from} imports ${to}, against the layers`);
  }
});

Deno.test("no module imports itself by way of others", () => {
  const state = new Map<string, "open" | "done">();
  const visit = (name: string, path: readonly string[]): void => {
    if (state.get(name) === "done") return;
    assert(state.get(name) !== "open", `a circle: ${[...path, name].join(" > ")}`);
    state.set(name, "open");
    for (const one of all) {
      if (one.from === name && ours(one.to) && !one.typeOnly && !one.dynamic) {
        visit(one.to, [...path, name]);
      }
    }
    state.set(name, "done");
  };
  for (const name of new Set(all.map((one) => one.from).filter(ours))) visit(name, []);
});

Deno.test("helper, jailer, both ends of a copy and who asks for a passphrase load no package but valibot", () => {
  for (
    const role of [
      "cmd/helper.ts",
      "cmd/watchdog.ts",
      "cmd/jailer.ts",
      "cmd/copier.ts",
      "cmd/converter.ts",
      "cmd/copy.ts",
      "cmd/passphrase.ts",
    ]
  ) {
    const loaded = loadedBy(role);
    assert(loaded.size > 10, `${role} is not in the graph`);
    assertEquals(packages(loaded), ["valibot"], role);
  }
});

Deno.test("run loads no package but valibot", () => {
  assertEquals(packages(new Set([...loadedBy("cmd/run.ts"), ...loadedBy("main.ts")])), ["valibot"]);
});

Deno.test("no part of Node is reached from main, run, a copy, a passphrase, helper or jailer", () => {
  const more = ["cmd/copy.ts", "cmd/copier.ts", "cmd/passphrase.ts"];
  for (const entry of ["main.ts", "cmd/run.ts", "cmd/helper.ts", "cmd/jailer.ts", ...more]) {
    assertEquals([...loadedBy(entry)].filter((name) => name.startsWith("node:")), [], entry);
  }
});

Deno.test("dbus-next stands behind one file, for the dispatcher's bus door and the doctor", () => {
  const users = (wanted: (name: string) => boolean): readonly string[] =>
    [
      ...new Set(all.filter((one) => ours(one.from) && wanted(one.to)).map((one) => one.from)),
    ].sort();
  const direct = users((name) => name.startsWith("npm:") && name.includes("dbus-next"));
  assertEquals(direct, ["ipc/bus.ts"]);
  const behind = (name: string): boolean => name.startsWith("ipc/bus");
  assertEquals(users(behind).filter((name) => !behind(name)), [
    "cmd/dispatcher-bus-jails.ts",
    "cmd/dispatcher-bus.ts",
    "cmd/doctor-bus.ts",
  ]);
  assertEquals(users((name) => name === "cmd/doctor-bus.ts"), ["cmd/doctor.ts"]);
  assertEquals(users((name) => name === "cmd/dispatcher-bus-jails.ts"), ["cmd/dispatcher-bus.ts"]);
  assertEquals(users((name) => name === "cmd/dispatcher-bus.ts"), ["cmd/dispatcher.ts"]);
  const door = all.find((one) => one.to === "cmd/dispatcher-bus.ts");
  assertEquals(door?.dynamic, true);
});

Deno.test("the doctor, who asks a bus one question, does so without dbus-next", () => {
  assertEquals(packages(loadedBy("cmd/doctor.ts")), ["deno-std", "valibot"]);
});

Deno.test("only main reads the arguments and the environment, and exits", async () => {
  const files = new Set(
    all.flatMap((one) => [one.from, one.to]).filter((name) => /^(?:cmd|core|ipc)\//.test(name)),
  );
  assert(files.size > 30);
  for (const file of files) {
    const text = await Deno.readTextFile(`${root}/${file}`);
    assertEquals(/\bDeno\.(?:args|env|exit)\b/.exec(text)?.[0], undefined, file);
  }
});

Deno.test("what has to be quick uses no timer of the runtime, which loads a part of Node", async () => {
  const quick = ["run", "terminal", "copy", "copier", "helper", "dispatcher", "jailer"];
  const files = new Set(
    ["main.ts", ...quick.map((name) => `cmd/${name}.ts`)].flatMap((entry) => [...loadedBy(entry)]),
  );
  assert(files.size > 40);
  const timer = /\b(?:set|clear)(?:Timeout|Interval|Immediate)\b\(|\bAbortSignal\.timeout\b/;
  for (const file of [...files].filter(ours)) {
    const text = await Deno.readTextFile(`${root}/${file}`);
    assertEquals(timer.exec(text)?.[0], undefined, file);
  }
});

Deno.test("C symbols are looked up in the tables alone", async () => {
  const files = [...new Set(all.flatMap((one) => [one.from, one.to]))].filter(ours);
  const tables: string[] = [];
  for (const file of files) {
    const text = await Deno.readTextFile(`${root}/${file}`);
    if (text.includes("Deno.dlopen")) tables.push(file);
  }
  assertEquals(tables.sort(), [
    "core/accounts.ts",
    "core/kernel.ts",
    "core/lock-wait.ts",
    "core/seccomp.ts",
    "ipc/aside.ts",
    "ipc/libc.ts",
  ]);
});
