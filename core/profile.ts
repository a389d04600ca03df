/**
 * What a profile may say: one declaration, of which its type, its check and the JSON Schema are made;
 * what holds where it says nothing; and the settings that come out.
 *
 * Run by the dispatcher and by the slow verbs of the client, never by root: a profile is a stranger's
 * text. docs/profile.md explains each key.
 *
 * @module
 */
import { parse, type ProfileName, profileName } from "./names.ts";
import {
  about,
  flag,
  type Form,
  list,
  names,
  number,
  type Of,
  size,
  table,
  text,
  word,
  words,
} from "./profile-form.ts";
import { type Path, readToml } from "./profile-toml.ts";

// --- The forms of values -----------------------------------------------------------------------

/** Nothing may be lent to, or put in the place of, what the jail itself is made of. */
const untouchable = ["/proc", "/sys", "/dev", "/run/appjail", "/run/user", "/home"] as const;

function refusedPlace(path: string): string | undefined {
  const found = untouchable.find((one) =>
    `${path}/`.startsWith(`${one}/`) || one.startsWith(`${path}/`)
  );
  return found && `nothing can be put at ${path}: ${found} is the jail's own`;
}

function refusedSteps(path: string): string | undefined {
  return path.split("/").some((step) => step === "." || step === "..")
    ? `"." and ".." cannot be in ${JSON.stringify(path)}`
    : undefined;
}

const below = String.raw`(?:/[^/]+)+`;

const xdgNames = [
  "xdg-desktop",
  "xdg-documents",
  "xdg-download",
  "xdg-music",
  "xdg-pictures",
  "xdg-public-share",
  "xdg-templates",
  "xdg-videos",
] as const;

/** Something of the person's. */
const source = text(
  new RegExp(`^(?:${below}|~(?:${below})?|(?:${xdgNames.join("|")})(?:${below})?)$`),
  'a path: "/…", "~/…", or a name such as "xdg-download"',
  { refused: refusedSteps },
);

/** A place in the jail. */
const place = text(new RegExp(`^~?${below}$`), 'a place in the jail: "/…" or "~/…"', {
  most: 1024,
  refused: (path) => refusedSteps(path) ?? refusedPlace(path),
});

const device = text(/^\/dev(?:\/[\w.+:-]+)+$/, 'a device: "/dev/…"', {
  most: 256,
  refused: refusedSteps,
});

const argument = text(/^[\s\S]*$/, "a word of a command", { most: 4096 });
const variable = text(/^[\s\S]*$/, "a text, in quotes", { most: 4096 });

/** How commands find the profile. */
const executable = text(new RegExp(`^(?:${below}|(?!-)[^/]+)$`), "the name or path of a command", {
  most: 255,
  refused: refusedSteps,
});

const fileName = text(/^[^/]+$/, "a name", { most: 100, refused: refusedSteps });

const profile: Form<ProfileName> = {
  schema: { type: "string", pattern: "^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}$" },
  read: (value, path, tell) => {
    const parsed = parse(profileName, value);
    if ("value" in parsed) return parsed.value;
    tell(path, parsed.wrong);
    return undefined;
  },
};

const element = "[A-Za-z_-][A-Za-z0-9_-]*";
const busName = String.raw`${element}(?:\.${element})+(?:\.\*)?`;
const member = String.raw`[A-Za-z_][A-Za-z0-9_]*`;
const method = String.raw`(?:\*|${member}(?:\.${member})+(?:\.\*)?)`;
const objectPath = String.raw`(?:/|(?:/[A-Za-z0-9_]+)+(?:/\*)?|/\*)`;

/** A proxy speaks as the person, who may start and stop all of their jails. */
function refusedService(value: string): string | undefined {
  return /^org\.appjail\b/.test(value)
    ? `${value} is appjail's own: no program in a jail may ask it for anything`
    : undefined;
}

/** The rules of xdg-dbus-proxy(1). */
const busNames = list(
  text(
    new RegExp(`^${busName}$`),
    "the name of a service, such as org.example.App or org.example.*",
    { most: 255, refused: refusedService },
  ),
  100,
);
const busRules = list(
  text(
    new RegExp(`^${busName}=(?:${method}(?:@${objectPath})?|@${objectPath})$`),
    "a rule: NAME=METHOD@PATH, such as org.example.App=org.example.App.Open@/org/example/*",
    { most: 1000, refused: refusedService },
  ),
  100,
);

const lend = table({
  path: about("What of yours: a path, ~/…, or an XDG name such as xdg-download", source),
  mode: about("ro: to be read; rw: to be written, too", word("ro", "rw")),
  at: about("Where it is in the jail; else ~/lent/NAME", place),
  name: about("What it is called; else as the path's last part", fileName),
  missing: about("What to do when there is none", word("error", "skip")),
}, ["path"]);

// --- The keys ----------------------------------------------------------------------------------

const settingKeys = {
  description: about("What it is, in a line", text(/\S/, "a line of text", { most: 200 })),
  extends: about("The profile that this one begins with", profile),
  preset: about(
    "secure: everything denied that can be; other keys of the same file still hold",
    word("default", "secure"),
  ),
  command: about("What appjail run -p NAME runs, when no command is given", words(argument, 256)),
  executables: about("Commands that find this profile without -p", list(executable, 50)),
  env: about(
    "Variables of its programs; --env holds over them",
    names(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, "name of a variable", variable, 200),
  ),
  home: about("Whether its home stays when the jail is gone", word("persistent", "ephemeral")),
  autodelete: about("Delete the home when the last program has ended", flag),
  network: about("The machine's network, or none but a loopback", word("host", "none")),
  display: about("How it shows windows", word("auto", "wayland", "wayland-context", "x11", "none")),
  audio: about("How it plays and records sound", word("auto", "pipewire", "pulse", "none")),
  gpu: about("Whether it may use the graphics card", flag),
  devices: about("Device files that it may use", list(device, 50)),
  dbus: table({
    session: about(
      "private: a bus of its own; filtered: yours, by these rules",
      word("private", "filtered", "none"),
    ),
    talk: about("Services of the session bus that it may call", busNames),
    own: about("Names that it may have on the session bus", busNames),
    call: about("Single methods of the session bus that it may call", busRules),
    broadcast: about("Signals of the session bus that it may hear", busRules),
    system: about("filtered: the system bus, by these rules", word("none", "filtered")),
    system_talk: about("Services of the system bus that it may call", busNames),
    system_own: about("Names that it may have on the system bus", busNames),
    system_call: about("Single methods of the system bus that it may call", busRules),
    system_broadcast: about("Signals of the system bus that it may hear", busRules),
  }),
  lend: about("Files and folders of yours that it may use", list(lend, 100)),
  shared: about("Lend ~/Shared/NAME as ~/shared", flag),
  auto_lend: about("Lend the files of yours that stand on the command line", flag),
  tmpfs: about("Folders of its own in memory, empty at each start", list(place, 50)),
  hostname: about(
    "What the machine is called in the jail; else as it is",
    text(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/, "the name of a machine", { most: 63 }),
  ),
  same_uid: about("Show the program your own uid", flag),
  limits: table({
    memory: about("The most memory, in bytes or such as 2G", size),
    processes: about("The most processes and threads", number(32, 4_194_304, "processes")),
    cpu: about(
      "The most of the processor, in percent of one core",
      number(1, 1_000_000, "percent"),
    ),
  }),
  seccomp: about(
    "Which system calls are blocked",
    word("default", "nested", "strict", "none"),
  ),
  linger: about(
    "Seconds that the jail stays when nothing runs in it",
    number(0, 86_400, "seconds", false),
  ),
} as const;

/** The keys that are tables, and hold over each other name by name. */
const tables: Readonly<Record<string, readonly string[]>> = {
  dbus: [
    "session",
    "talk",
    "own",
    "call",
    "broadcast",
    "system",
    "system_talk",
    "system_own",
    "system_call",
    "system_broadcast",
  ],
  limits: ["memory", "processes", "cpu"],
};

/** Every key by its full name, such as `dbus.session`: what layers hold over each other by. */
export const leafNames: readonly string[] = Object.keys(settingKeys).flatMap((key) =>
  tables[key]?.map((name) => `${key}.${name}`) ?? [key]
);

/** What an administrator can lock. */
export const lockable: readonly string[] = [
  ...Object.keys(settingKeys).filter((key) => key !== "description"),
  ...leafNames.filter((name) => name.includes(".")),
];

/** Every key that a profile may have. The order is that of `profile show`. */
export const keys = {
  ...settingKeys,
  locked: about(
    "Keys that people cannot change; only in the administrator's files",
    list(word(...lockable), lockable.length),
  ),
} as const;

export const profileForm = table(keys);

/** A profile as it is written: every key may be absent. */
export type Profile = Of<typeof profileForm>;
export type LentEntry = Of<typeof lend>;

/** The keys that a profile says something about, by their full names. */
export function leavesOf(profile: Profile): readonly string[] {
  return Object.entries(profile).flatMap(([key, value]) =>
    tables[key] === undefined ? [key] : Object.keys(value ?? {}).map((name) => `${key}.${name}`)
  );
}

/** A profile without what is not wanted of it. */
export function select(profile: Profile, wanted: (leaf: string) => boolean): Profile {
  const part = Object.fromEntries(
    Object.entries(profile).flatMap(([key, value]): [string, unknown][] => {
      if (tables[key] === undefined) return wanted(key) ? [[key, value]] : [];
      const inner = Object.entries(value ?? {}).filter(([name]) => wanted(`${key}.${name}`));
      return inner.length === 0 ? [] : [[key, Object.fromEntries(inner)]];
    }),
  );
  // Read anew, its type is proved and not claimed. What was read once cannot be refused.
  return profileForm.read(part, [], () => {}) ?? {};
}

// --- What holds where nothing is said ----------------------------------------------------------

/** Something of the person's that is lent, with nothing left open. */
export interface Lend {
  readonly path: string;
  readonly mode: "ro" | "rw";
  /** null: ~/lent/NAME. */
  readonly at: string | null;
  readonly name: string;
  readonly missing: "error" | "skip";
}

type Known<K extends keyof Profile> = NonNullable<Profile[K]>;

/** What a jail is to be: every key has a value. */
export interface Settings {
  readonly description: string;
  /** null: there has to be one on the command line. */
  readonly command: readonly string[] | null;
  readonly executables: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly home: Known<"home">;
  readonly autodelete: boolean;
  readonly network: Known<"network">;
  readonly display: Known<"display">;
  readonly audio: Known<"audio">;
  readonly gpu: boolean;
  readonly devices: readonly string[];
  readonly dbus: {
    readonly session: "private" | "filtered" | "none";
    /** Empty unless the session bus is filtered. */
    readonly talk: readonly string[];
    readonly own: readonly string[];
    readonly call: readonly string[];
    readonly broadcast: readonly string[];
    readonly system: "none" | "filtered";
    /** Empty unless the system bus is filtered. */
    readonly system_talk: readonly string[];
    readonly system_own: readonly string[];
    readonly system_call: readonly string[];
    readonly system_broadcast: readonly string[];
  };
  readonly lend: readonly Lend[];
  readonly shared: boolean;
  readonly auto_lend: boolean;
  readonly tmpfs: readonly string[];
  /** null: the machine's own. */
  readonly hostname: string | null;
  readonly same_uid: boolean;
  readonly limits: {
    /** In bytes. null: none; so for the others. */
    readonly memory: number | null;
    readonly processes: number | null;
    /** In percent of one core. */
    readonly cpu: number | null;
  };
  readonly seccomp: Known<"seccomp">;
  /** In seconds. null: as the daemon has it. */
  readonly linger: number | null;
}

/** Rules of both buses that give nothing. */
const noRules = {
  talk: [],
  own: [],
  call: [],
  broadcast: [],
  system_talk: [],
  system_own: [],
  system_call: [],
  system_broadcast: [],
};

/** The jail of a profile that says nothing: docs/the-default-jail.md. */
export const defaults: Settings = {
  description: "",
  command: null,
  executables: [],
  env: {},
  home: "persistent",
  autodelete: false,
  network: "host",
  // X11 isolates nobody, so a window is what a profile asks for, not what everything has.
  display: "none",
  audio: "none",
  gpu: false,
  devices: [],
  dbus: { ...noRules, session: "private", system: "none" },
  lend: [],
  shared: true,
  auto_lend: true,
  tmpfs: [],
  hostname: null,
  same_uid: false,
  limits: { memory: null, processes: null, cpu: null },
  seccomp: "default",
  linger: null,
};

/** `preset = "secure"`. Its keys are those that any preset is about. */
export const secure: Profile = {
  network: "none",
  display: "none",
  audio: "none",
  gpu: false,
  devices: [],
  dbus: { ...noRules, session: "none", system: "none" },
  lend: [],
  shared: false,
  auto_lend: false,
  // That of the machine tells where one is.
  hostname: "jail",
  same_uid: false,
  seccomp: "strict",
};

const presetLeaves: ReadonlySet<string> = new Set(leavesOf(secure));

/** One profile over another: key by key, variable by variable. */
export function overlay(below: Profile, above: Profile): Profile {
  return {
    ...below,
    ...above,
    ...below.env || above.env ? { env: { ...below.env, ...above.env } } : {},
    ...below.dbus || above.dbus ? { dbus: { ...below.dbus, ...above.dbus } } : {},
    ...below.limits || above.limits ? { limits: { ...below.limits, ...above.limits } } : {},
  };
}

/** A file over what is below it: its preset first, then what it says itself. */
export function apply(below: Profile, file: Profile): Profile {
  const { preset } = file;
  if (preset === undefined) return overlay(below, file);
  const rest = select(below, (leaf) => !presetLeaves.has(leaf));
  return overlay(preset === "secure" ? overlay(rest, secure) : rest, file);
}

/** What a lent thing is called, unless it was given a name. */
export function lentName(path: string): string {
  const last = path.slice(path.lastIndexOf("/") + 1);
  return last === "~" ? "home" : last.replace(/^xdg-/, "");
}

/** What comes of a profile, with what holds where it says nothing. */
export function settle(profile: Profile): Settings {
  const { preset: _, extends: _base, locked: _locked, ...said } = profile;
  const dbus = { ...defaults.dbus, ...said.dbus };
  const { session, system } = dbus;
  return {
    ...defaults,
    ...said,
    env: said.env ?? {},
    // Rules are about a bus that is filtered; without one they must not seem to give anything.
    dbus: {
      ...defaults.dbus,
      ...session === "filtered" ? dbus : {},
      session,
      system,
      ...system === "filtered"
        ? {
          system_talk: dbus.system_talk,
          system_own: dbus.system_own,
          system_call: dbus.system_call,
          system_broadcast: dbus.system_broadcast,
        }
        : {
          system_talk: [],
          system_own: [],
          system_call: [],
          system_broadcast: [],
        },
    },
    lend: (said.lend ?? []).flatMap(({ path, mode = "ro", at = null, name, missing = "error" }) =>
      path === undefined ? [] : [{ path, mode, at, name: name ?? lentName(path), missing }]
    ),
    limits: { ...defaults.limits, ...said.limits },
  };
}

// --- Reading a text ------------------------------------------------------------------------------

/** Something that is wrong with a file. */
export interface Problem {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  readonly message: string;
}

/** `FILE:LINE: what is wrong`, as compilers have it. */
export function problemText({ file, line, message }: Problem): string {
  return `${file}:${line}: ${message}`;
}

/** A text that was read. With problems, what is left of it must not be used but to be looked at. */
export interface Reading {
  readonly profile: Profile;
  readonly problems: readonly Problem[];
  /** The line of a key, given by its full name. */
  readonly lineOf: (leaf: string) => number;
}

/** So many problems are told of one text. */
const mostProblems = 50;

/**
 * Reads a profile, and tells everything that is wrong with it.
 *
 * @param file how it is called, for a person
 */
export function readProfile(content: string, file: string): Reading {
  const toml = readToml(content);
  if ("fault" in toml) {
    return { profile: {}, problems: [{ file, ...toml.fault }], lineOf: () => 1 };
  }
  const problems: Problem[] = [];
  const tell = (path: Path, why: string): void => {
    if (problems.length >= mostProblems) return;
    const where = path.map((part, index) =>
      typeof part === "number"
        ? `[${part + 1}]`
        : index > 0
        ? `.${part.slice(0, 64)}`
        : part.slice(0, 64)
    ).join("");
    const message = where === "" ? why : `${where}: ${why}`;
    problems.push({ file, line: toml.lineOf(path), message: message.slice(0, 500) });
  };
  const profile = profileForm.read(toml.value, [], tell) ?? {};
  tellOfLends(profile.lend ?? [], tell);
  return {
    profile,
    problems: problems.toSorted((one, other) => one.line - other.line),
    lineOf: (leaf) => toml.lineOf(leaf.split(".")),
  };
}

/** Two things cannot be at one place. */
function tellOfLends(
  lends: readonly LentEntry[],
  tell: (path: Path, why: string) => void,
): void {
  const seen = new Set<string>();
  for (const [index, { path = "", at, name = lentName(path) }] of lends.entries()) {
    for (const what of [`the name ${JSON.stringify(name)}`, ...at === undefined ? [] : [at]]) {
      if (seen.has(what)) tell(["lend", index], `${what} is another one's already`);
      seen.add(what);
    }
  }
}
