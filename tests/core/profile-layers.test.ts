/**
 * core/profile-layers.ts: which file holds over which, what begins with what, what an administrator has
 * locked; and that whatever is done to a text, nothing becomes wider than somebody has written.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { parse as parseToml } from "@std/toml/parse";
import { type AppUid, type OwnerUid, parse, type ProfileName } from "../../core/names.ts";
import { defaults, problemText, readProfile, type Settings } from "../../core/profile.ts";
import { type Layer, type Lookup, resolve, type Resolved } from "../../core/profile-layers.ts";
import { jailSpec } from "../../core/protocol.ts";
import { specOf } from "../../core/spec.ts";
import { widerIn } from "../../core/profile-width.ts";
import { Random } from "../random.ts";
import { branded } from "./played.ts";
import { noSession } from "../../core/session.ts";

/** Texts by their place, such as `admin/mail`. */
type Texts = Readonly<Record<string, string>>;

function lookup(texts: Texts): Lookup {
  return {
    find: (layer: Layer, name: ProfileName) => {
      const file = `${layer}/${name}`;
      const text = Object.hasOwn(texts, file) ? texts[file] : undefined;
      return text === undefined ? undefined : { layer, file, text, ...readProfile(text, file) };
    },
    names: () => [...new Set(Object.keys(texts).map((file) => file.replace(/^[^/]*\//, "")))],
  };
}

function resolved(name: string, texts: Texts): Resolved {
  return resolve(branded(name), lookup(texts));
}

/** What comes of a profile with which nothing is wrong. */
function settings(name: string, texts: Texts): Settings {
  const { settings, problems } = resolved(name, texts);
  deepEqual(problems.map(problemText), []);
  return settings;
}

function told(name: string, texts: Texts): readonly string[] {
  return resolved(name, texts).problems.map(problemText);
}

const context = {
  allocation: { uid: 1100 as AppUid, owner: 1000 as OwnerUid, profile: "x" as ProfileName },
  session: noSession,
  network: "host",
} as const;

Deno.test("what nobody has written is as it is built in", () => {
  deepEqual(settings("mail", {}), defaults);
  deepEqual(resolved("mail", {}).files, []);
});

Deno.test("a person's own holds over the administrator's, and that over what is shipped", () => {
  const texts = {
    "shipped/mail": 'network = "none"\ndisplay = "auto"\ngpu = true\nenv = { A = "s", B = "s" }',
    "admin/mail": 'display = "wayland"\ngpu = false\nenv.B = "a"\ndevices = ["/dev/a", "/dev/b"]',
    "own/mail": 'gpu = true\nenv.C = "o"\ndevices = ["/dev/c"]',
    "own/other": "gpu = true",
  };
  const { settings: found, sources, files } = resolved("mail", texts);
  deepEqual(found, {
    ...defaults,
    network: "none",
    display: "wayland",
    gpu: true,
    env: { A: "s", B: "a", C: "o" },
    devices: ["/dev/c"],
  });
  deepEqual(Object.fromEntries(sources), {
    network: "shipped/mail",
    display: "admin/mail",
    gpu: "own/mail",
    env: "own/mail",
    devices: "own/mail",
  });
  deepEqual(files.map(({ file }) => file), ["shipped/mail", "admin/mail", "own/mail"]);
});

Deno.test("what a profile extends lies below it, and default below all", () => {
  const texts = {
    "shipped/default": 'hostname = "jail"\nlinger = 1',
    "admin/default": "linger = 2",
    "shipped/web": 'executables = ["web"]\ndescription = "a"\nlinger = 3\ngpu = true\nenv.A = "w"',
    "own/web": 'env.B = "own"',
    "own/work": 'extends = "web"\ngpu = false\ncommand = "web"',
  };
  deepEqual(settings("work", texts), {
    ...defaults,
    hostname: "jail",
    linger: 3,
    gpu: false,
    command: ["web"],
    env: { A: "w", B: "own" },
  }, "what a profile is called and found by is its own alone");
  deepEqual(settings("none", texts), { ...defaults, hostname: "jail", linger: 2 });
  deepEqual(settings("default", texts), { ...defaults, hostname: "jail", linger: 2 });
  deepEqual(settings("web", texts).executables, ["web"]);
});

Deno.test("profiles that begin with themselves, with nothing, or with too many are refused", () => {
  deepEqual(told("a", { "own/a": 'gpu = true\nextends = "a"' }), [
    "own/a:2: extends: it begins with itself: a, a",
  ]);
  match(
    told("a", { "own/a": 'extends = "b"', "own/b": 'extends = "a"' }).join(),
    /^own\/b:1: extends: it begins with itself: a, b, a$/,
  );
  match(
    told("x", { "admin/default": 'extends = "x"', "own/x": "" }).join(),
    /begins with itself: x, default, x/,
  );
  deepEqual(told("a", { "own/a": 'extends = "mial"', "shipped/mail": "" }), [
    'own/a:1: extends: there is no profile "mial"; did you mean "mail"?',
  ]);
  const chain = (length: number): Texts =>
    Object.fromEntries(
      Array.from({ length }, (_, at) => [
        `own/p${at}`,
        at + 1 < length ? `extends = "p${at + 1}"` : "gpu = true",
      ]),
    );
  equal(settings("p0", chain(8)).gpu, true);
  match(told("p0", chain(9)).join(), /^own\/p7:1: extends: more than 8 profiles/);
  // What is wrong below is wrong above.
  match(told("a", { "own/a": 'extends = "b"', "own/b": "gpu = 5" }).join(), /^own\/b:1: gpu/);
});

Deno.test("what an administrator has locked is refused in a person's own, by name", () => {
  const texts = {
    "admin/mail": 'network = "none"\nlocked = ["network", "dbus"]',
    "own/mail": 'gpu = true\nnetwork = "host"\ndbus.session = "filtered"\n[limits]\ncpu = 5',
  };
  deepEqual(told("mail", texts), [
    "own/mail:2: network: it is locked by admin/mail",
    "own/mail:3: dbus.session: it is locked by admin/mail",
  ]);
  // For everybody and everything.
  deepEqual(
    told("any", { "admin/default": 'locked = ["gpu"]', "own/any": "gpu = false" }),
    ["own/any:1: gpu: it is locked by admin/default"],
  );
  deepEqual(
    told("any", {
      "admin/default": 'locked = ["extends"]',
      "own/any": 'extends = "web"',
      "shipped/web": "",
    }),
    ["own/any:1: extends: it is locked by admin/default"],
  );
  for (const layer of ["shipped", "own"]) {
    match(told("a", { [`${layer}/a`]: 'locked = ["gpu"]' }).join(), /only an administrator/);
  }
});

Deno.test("a lock is not to be got round, by a preset, by a base, or by another's file", () => {
  const locked = { "admin/mail": 'network = "none"\nlocked = ["network", "gpu"]' };
  const steam = { "shipped/steam": 'gpu = true\nnetwork = "host"\naudio = "auto"' };
  const found = settings("mail", { ...locked, "own/mail": 'preset = "default"\naudio = "auto"' });
  deepEqual([found.network, found.gpu, found.audio], ["none", false, "auto"]);
  const based = settings("mail", { ...locked, ...steam, "own/mail": 'extends = "steam"' });
  deepEqual([based.network, based.gpu, based.audio], ["none", false, "auto"]);
  // From the other side: an own profile that begins with the locked one.
  const mine = settings("mine", { ...locked, "own/mine": 'extends = "mail"\npreset = "default"' });
  deepEqual([mine.network, mine.gpu], ["none", false]);
  match(
    told("mine", { ...locked, "own/mine": 'extends = "mail"', "own/mail": "gpu = true" }).join(),
    /own\/mail:1: gpu: it is locked by admin\/mail/,
  );
  // What locks all does not open what the administrator has closed for one.
  const closed = {
    "admin/default": 'locked = ["network"]',
    "admin/mail": 'network = "none"',
  };
  equal(settings("mail", closed).network, "none");
  equal(settings("mine", { ...closed, "own/mine": 'extends = "mail"' }).network, "none");
  equal(settings("free", closed).network, "host");
});

// --- Whatever is done to it ----------------------------------------------------------------------

/** Where texts begin that are then mutated. */
const seeds: readonly string[] = [
  "",
  'network = "none"\ndisplay = "none"\n',
  'preset = "secure"\n',
  'preset = "secure"\nnetwork = "host"\ngpu = false\n',
  'display = "wayland"\naudio = "pulse"\ngpu = true\nseccomp = "none"\nsame_uid = true\n',
  'devices = ["/dev/video0"]\ntmpfs = ["~/.cache", "/opt/x"]\nhostname = "jail"\n',
  '[dbus]\nsession = "filtered"\ntalk = ["org.a.B", "org.a.*"]\nown = ["org.a.C"]\n' +
  'call = ["org.a.B=*@/x"]\nbroadcast = ["org.a.B=*"]\nsystem = "filtered"\n' +
  'system_talk = ["org.b.C"]\nsystem_call = ["org.b.C=org.b.C.D"]\n',
  '[limits]\nmemory = "2G"\nprocesses = 100\ncpu = 50\n',
  'shared = false\nauto_lend = false\n[[lend]]\npath = "~/x"\n[[lend]]\npath = "xdg-download"\n' +
  'mode = "rw"\nat = "~/Downloads"\nmissing = "skip"\n',
  'description = "x"\ncommand = ["a", "b"]\nexecutables = ["a"]\nenv = { A = "1" }\nlinger = 5\n' +
  'home = "ephemeral"\nautodelete = true\nextends = "base"\n',
];

const pieces = [
  ...["true", "false", '"host"', '"none"', '"auto"', '"filtered"', "0", "-1", "1e9", "nan", "[]"],
  ...["network = ", "gpu = ", "[dbus]", "[limits]", "[[lend]]", "locked = ", "preset = ", "\n"],
  ...['"', "'", '"""', "#", "{", "}", "[", "]", ",", ".", "=", "\\", "\0", "\ud800", "漢", "\r\n"],
  ...["__proto__", "extends = ", '"base"', '"default"', '"secure"', '"/dev/x"', '"org.a.B"', "\t"],
];

/** A text with some things done to it. */
function mutated(random: Random, text: string): string {
  for (let changes = random.below(4); changes >= 0; changes--) {
    const lines = text.split("\n");
    const at = random.below(text.length + 1);
    switch (random.below(7)) {
      case 0:
        text = text.slice(0, at) + random.of(pieces) + text.slice(at);
        break;
      case 1:
        text = text.slice(0, at) + text.slice(at + 1 + random.below(6));
        break;
      case 2:
        lines.splice(random.below(lines.length), 1);
        text = lines.join("\n");
        break;
      case 3:
        lines.splice(random.below(lines.length), 0, random.of(lines));
        text = lines.join("\n");
        break;
      case 4:
        lines.splice(random.below(lines.length), 0, random.of(random.of(seeds).split("\n")));
        text = lines.join("\n");
        break;
      case 5:
        text = text.replace(/(?:"[^"]*"|true|false|\d+)/, () => random.of(pieces));
        break;
      default:
        text = text.slice(0, at) + random.text(4) + text.slice(at);
    }
  }
  return text;
}

/**
 * The most that some texts can mean, told from their bare letters, by other means than the reader's: a
 * word that stands nowhere in them can give nothing.
 */
function most(texts: readonly string[]): Settings {
  const all = texts.join("\n");
  const has = (word: string): boolean => all.includes(word);
  const word = <W extends string>(words: readonly W[], fallback: W): W =>
    words.find((one) => has(`"${one}"`) || has(`'${one}'`)) ?? fallback;
  const strings = [...all.matchAll(/"((?:[^"\n\\]|\\.)*)"|'([^'\n]*)'/g)]
    .map(([, basic, literal]) => basic?.replace(/\\(["\\])/g, "$1") ?? literal ?? "");
  const rules = strings.filter((one) => one.includes("."));
  const names = strings.filter((one) => !one.includes("/") && one !== "");
  const filtered = has("filtered");
  return {
    ...defaults,
    display: word(["auto", "wayland", "x11", "wayland-context"], "none"),
    audio: word(["auto", "pipewire", "pulse"], "none"),
    gpu: /gpu\s*"?\s*=\s*true/.test(all),
    devices: strings.filter((one) => one.startsWith("/dev/")),
    dbus: {
      session: filtered ? "filtered" : "private",
      talk: rules,
      own: rules,
      call: rules,
      broadcast: rules,
      system: filtered ? "filtered" : "none",
      system_talk: rules,
      system_own: rules,
      system_call: rules,
      system_broadcast: rules,
    },
    lend: strings.filter((one) => /^(?:\/|~|xdg-)/.test(one)).flatMap((path) =>
      [null, ...strings].flatMap((at) =>
        [
          path.slice(path.lastIndexOf("/") + 1).replace(/^xdg-/, "").replace(/^~$/, "home"),
          ...names,
        ]
          .map((name) => ({
            path,
            mode: has("rw") ? "rw" as const : "ro" as const,
            at,
            name,
            missing: "skip" as const,
          }))
      )
    ),
    same_uid: /same_uid\s*"?\s*=\s*true/.test(all),
    seccomp: word(["nested"], /seccomp\s*"?\s*=\s*["']+none/.test(all) ? "none" : "default"),
  };
}

/** The keys whose values are settings as they stand there. */
const plainKeys = [
  ...["network", "display", "audio", "gpu", "devices", "tmpfs", "hostname", "same_uid"] as const,
  ...["shared", "auto_lend", "seccomp", "home", "autodelete", "linger", "env"] as const,
] as const;

/** What of a ceiling is no grant of its own but a thing that a text may take back. */
const alone = (keys: readonly string[]): readonly string[] =>
  keys.filter((key) => !["display", "audio"].includes(key));

Deno.test("10,000 mutated profiles: an error or settings, and nothing wider than was written", () => {
  const seed = Number(Deno.env.get("APPJAIL_FUZZ_SEED") || Date.now() % 2 ** 32);
  const random = new Random(seed);
  let [used, refused, wide] = [0, 0, 0];
  for (let turn = 0; turn < 10_000; turn++) {
    const own = mutated(random, random.of(seeds));
    const base = random.below(3) === 0 ? mutated(random, random.of(seeds)) : random.of(seeds);
    const why = `APPJAIL_FUZZ_SEED=${seed}, turn ${turn}: ${JSON.stringify([own, base])}`;
    try {
      const { settings: found, problems } = resolved("p", { "own/p": own, "shipped/base": base });
      if (problems.length > 0) {
        refused++;
        for (const one of problems) ok(one.line >= 1 && one.message.length < 1000);
        continue;
      }
      used++;
      const texts = own.includes("base") ? [own, base] : [own];
      const spec = specOf(found, context);
      ok("value" in parse(jailSpec(), spec), "the helper does not understand it");
      const ceiling = most(texts);
      // A word gives at most what the widest that stands there does.
      deepEqual(alone(widerIn(ceiling, found)), []);
      for (const key of ["display", "audio"] as const) {
        ok(found[key] === "none" || texts.join("").includes(found[key]));
      }
      if (widerIn(defaults, found).length > 0) wide++;
      // And what the library alone makes of a person's own text is what holds: nothing is above it.
      const raw: Readonly<Record<string, unknown>> = { ...Object(parseToml(own)) };
      for (const key of plainKeys) {
        if (Object.hasOwn(raw, key)) deepEqual(found[key], raw[key]);
      }
      const [dbus, limits] = ["dbus", "limits"].map((key) => ({ ...Object(raw[key]) }));
      for (const key of ["processes", "cpu"] as const) {
        if (limits[key] !== undefined) equal(found.limits[key], limits[key]);
      }
      for (const key of ["session", "system"] as const) {
        if (dbus[key] !== undefined) equal(found.dbus[key], dbus[key]);
      }
      // The same text, locked above: not one of these is any wider than the administrator has it.
      const admin =
        'preset = "secure"\nlocked = ["network", "display", "audio", "gpu", "devices", ' +
        '"dbus", "lend", "shared", "auto_lend", "hostname", "same_uid", "seccomp", "limits", "tmpfs"]';
      const shut = settings("p", { "admin/p": admin });
      const tried = resolved("p", { "own/p": own, "shipped/base": base, "admin/p": admin });
      if (tried.problems.length === 0) deepEqual(widerIn(shut, tried.settings), []);
    } catch (error) {
      throw new Error(why, { cause: error });
    }
  }
  // It is about something: many of them are used, and many of those say something wide.
  ok(
    used > 1_500 && refused > 1_500 && wide > 300,
    `${used} used, ${refused} refused, ${wide} wide`,
  );
});

Deno.test("what is written once and in so many words is what holds", () => {
  const random = new Random(7);
  const values = {
    network: ['"none"', '"host"'],
    display: ['"none"', '"wayland"', '"wayland-context"', '"x11"', '"auto"'],
    audio: ['"none"', '"pulse"', '"auto"'],
    gpu: ["true", "false"],
    shared: ["true", "false"],
    auto_lend: ["true", "false"],
    same_uid: ["true", "false"],
    seccomp: ['"strict"', '"default"', '"none"'],
    hostname: ['"a"', '"b"'],
    devices: ['["/dev/a"]', "[]"],
    tmpfs: ['["/a"]', "[]"],
    home: ['"persistent"', '"ephemeral"'],
    linger: ["0", "5"],
  } as const;
  for (let turn = 0; turn < 500; turn++) {
    const layers = (["shipped", "admin", "own"] as const).map((layer) => {
      const said = Object.entries(values).filter(() => random.below(2) === 0)
        .map(([key, words]) => [key, random.of<string>(words)] as const);
      return { layer, said };
    });
    const texts = Object.fromEntries(
      layers.map(({ layer, said }) => [
        `${layer}/p`,
        said.map(([key, word]) => `${key} = ${word}\n`).join(""),
      ]),
    );
    const expected = Object.fromEntries(
      layers.flatMap(({ said }) => said.map(([key, word]) => [key, JSON.parse(word)])),
    );
    deepEqual(settings("p", texts), { ...defaults, ...expected });
  }
});
