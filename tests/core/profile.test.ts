/** core/profile.ts and what it reads with: what a profile may say, and what is said of one that may not. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type AppUid, type OwnerUid, parse, type ProfileName } from "../../core/names.ts";
import {
  apply,
  defaults,
  keys,
  leafNames,
  lockable,
  overlay,
  problemText,
  type Profile,
  readProfile,
  secure,
  select,
  settle,
} from "../../core/profile.ts";
import { schemaName, schemaText } from "../../core/profile-schema.ts";
import { largestText } from "../../core/profile-toml.ts";
import { widerIn } from "../../core/profile-width.ts";
import { jailSpec, plainSpec } from "../../core/protocol.ts";
import { specOf } from "../../core/spec.ts";
import { noSession } from "../../core/session.ts";

const root = new URL("../../", import.meta.url).pathname;

/** What a text says, which has to be right. */
function said(text: string): Profile {
  const { profile, problems } = readProfile(text, "p.toml");
  deepEqual(problems, [], text);
  return profile;
}

/** What is told of a text. */
function told(text: string): readonly string[] {
  return readProfile(text, "p.toml").problems.map(problemText);
}

/** A text in which every key stands. */
const everything = `#:schema profile.schema.json
description = "Reads mail"
extends = "mail"
preset = "secure"
command = ["mail", "--new window"]
executables = ["mail", "/opt/mail/mail"]
env = { MOZ_ENABLE_WAYLAND = "1", EMPTY = "" }
home = "ephemeral"
autodelete = true
network = "none"
display = "wayland"
audio = "pipewire"
gpu = true
devices = ["/dev/video0", "/dev/bus/usb/001/002"]
shared = false
auto_lend = false
tmpfs = ["~/.cache", "/opt/cache"]
hostname = "mail"
same_uid = true
seccomp = "none"
linger = 0.5

[dbus]
session = "filtered"
talk = ["org.freedesktop.Notifications", "org.example.*"]
own = ["org.example.Mail"]
call = ["org.freedesktop.portal.*=*", "org.example.A=org.example.A.Open@/org/example/*", "a.b=@/"]
broadcast = ["org.freedesktop.portal.*=@/org/freedesktop/portal/*"]
system = "filtered"
system_talk = ["org.freedesktop.UPower"]
system_own = ["org.example.System"]
system_call = ["org.freedesktop.login1=org.freedesktop.login1.Manager.Inhibit"]
system_broadcast = ["org.freedesktop.UPower=*"]

[limits]
memory = "2G"
processes = 500
cpu = 150

[[lend]]
path = "xdg-download"
mode = "rw"
at = "~/Downloads"
name = "in"
missing = "skip"

[[lend]]
path = "~/notes"
`;

const context = {
  allocation: { uid: 1100 as AppUid, owner: 1000 as OwnerUid, profile: "x" as ProfileName },
  session: noSession,
  network: "host",
} as const;

Deno.test("every key is understood", () => {
  const profile = said(everything);
  deepEqual(
    new Set(Object.keys(profile)),
    new Set(Object.keys(keys).filter((key) => key !== "locked")),
  );
  deepEqual(profile.command, ["mail", "--new window"]);
  deepEqual(profile.limits, { memory: 2 * 2 ** 30, processes: 500, cpu: 150 });
  deepEqual(profile.lend?.[1], { path: "~/notes" });
  const settings = settle(profile);
  deepEqual(settings.lend, [
    { path: "xdg-download", mode: "rw", at: "~/Downloads", name: "in", missing: "skip" },
    { path: "~/notes", mode: "ro", at: null, name: "notes", missing: "error" },
  ]);
  deepEqual(settings.dbus.system_talk, ["org.freedesktop.UPower"]);
  deepEqual(Object.keys(settings).sort(), Object.keys(defaults).sort());
  deepEqual(settle(said("")), defaults);
  deepEqual(said('command = "mail"').command, ["mail"]);
  deepEqual(said("limits.memory = 67108864").limits, { memory: 67108864 });
  deepEqual(said('locked = ["network", "dbus", "dbus.talk"]').locked?.length, 3);
});

Deno.test("what is wrong is told with its line and the nearest name, all of a file at once", () => {
  deepEqual(
    told(`# a profile
netwrok = "host"
network = "hots"
env.A = "x"
env.B = 5

[dbus]
session = "filterd"
talk = [
  "org.freedesktop.Notifications",
  "org",
]

[[lend]]
path = "~/x"
mode = "rx"

[[lend]]
mode = "ro"
`),
    [
      'p.toml:2: netwrok: there is no such key; did you mean "network"?',
      'p.toml:3: network: "hots" is none of "host", "none"; did you mean "host"?',
      "p.toml:5: env.B: 5 is not a text, in quotes",
      'p.toml:8: dbus.session: "filterd" is none of "private", "filtered", "none"; ' +
      'did you mean "filtered"?',
      'p.toml:11: dbus.talk[2]: "org" is not the name of a service, such as org.example.App or ' +
      "org.example.*",
      'p.toml:16: lend[1].mode: "rx" is none of "ro", "rw"; did you mean "ro"?',
      'p.toml:18: lend[2]: "path" is missing',
    ],
  );
  deepEqual(told('gpu = true\nlimits = { memory = "2G",\n processes = 4 }'), [
    "p.toml:2: a table in { } ends in its line; for a longer one, write [limits]",
  ]);
});

Deno.test("what a profile must not say is refused", () => {
  for (
    const [text, words] of [
      // Keys and values.
      ['home = "none"', /none of "persistent", "ephemeral"/],
      ['gpu = "yes"', /neither true nor false/],
      ["gpu = 1", /neither/],
      ['command = ""', /empty/],
      ["command = []", /empty/],
      ['command = "mail --new"', /write a list/],
      ['executables = ["a/b"]', /name or path/],
      ['executables = ["-x"]', /name or path/],
      ['description = "a\\nb"', /control character/],
      ['description = "a\\u202eb\\u0000"', /control character/],
      ['env = { "A-B" = "x" }', /no name of a variable/],
      ['env.A = "\\u0000"', /control character/],
      ['devices = ["/etc/shadow"]', /no[t]? a device/],
      ['devices = ["/dev/../etc/shadow"]', /\.\./],
      ['devices = ["/dev/x", "/dev/x"]', /twice/],
      ['tmpfs = ["relative"]', /place in the jail/],
      ['tmpfs = ["/proc"]', /jail's own/],
      ['tmpfs = ["/dev/shm"]', /jail's own/],
      ['tmpfs = ["/run"]', /jail's own/],
      ['tmpfs = ["/home/mail/x"]', /jail's own/],
      ['devices = ["/dev/a b"]', /no[t]? a device/],
      ['tmpfs = ["~/../x"]', /\.\./],
      ['tmpfs = ["~"]', /place/],
      ['lend = [{ path = "relative" }]', /not a path/],
      ['lend = [{ path = "/a/../b" }]', /\.\./],
      ['lend = [{ path = "xdg-secrets" }]', /not a path/],
      ['lend = [{ path = "~/a", at = "/run/appjail/x" }]', /jail's own/],
      ['lend = [{ path = "~/a" }, { path = "/b/a" }]', /another one's already/],
      ['lend = [{ path = "~/a", at = "/x" }, { path = "~/b", at = "/x" }]', /another one's/],
      ['lend = [{ path = "~/a", name = ".." }]', /\.\./],
      ['lend = [{ path = "~/a", name = "x/y" }]', /not a name/],
      ['hostname = "a.b"', /name of a machine/],
      ["limits.memory = 5", /no size/],
      ["limits.memory = 1e300", /no size/],
      ["limits.memory = nan", /no size/],
      ["limits.memory = -5", /no size/],
      ["limits.processes = 1.5", /processes/],
      ["limits.cpu = inf", /percent/],
      ["linger = -1", /seconds/],
      ["linger = nan", /seconds/],
      ['linger = "5"', /seconds/],
      ["linger = 1979-05-27", /a date/],
      ['dbus.talk = ["org.*"]', /service/],
      ['dbus.talk = ["*"]', /service/],
      ['dbus.talk = [":1.5"]', /service/],
      ['dbus.talk = ["org.appjail.AppJail"]', /appjail's own/],
      ['dbus.system_talk = ["org.appjail.*"]', /appjail's own/],
      ['dbus.own = ["org.appjail.AppJail"]', /appjail's own/],
      ['dbus.system_call = ["org.appjail.AppJail=*"]', /appjail's own/],
      ['dbus.call = ["org.a.B"]', /a rule/],
      ['dbus.call = ["org.a.B="]', /a rule/],
      ['dbus.call = ["org.a.B=*@relative"]', /a rule/],
      ['dbus.call = ["org.a.B=* --own=org.x.Y"]', /a rule/],
      ['dbus = "private"', /not a table/],
      ['extends = "../x"', /named with/],
      ['locked = ["locked"]', /none of/],
      // What a lenient reader would let pass.
      ['network = "none"\nnetwork = "host"', /twice/],
      ['devices = ["/dev/a"]\ndevices = ["/dev/b"]', /twice/],
      ["limits = { cpu = 5, cpu = 6 }", /twice/],
      ["[limits]\ncpu = 5\n[limits]\ncpu = 6", /twice/],
      ['limits.cpu = 5\n[limits]\nmemory = "2G"', /twice/],
      ['[env]\nA = "x"\n["env"]\nB = "y"', /twice/],
      ['lend = []\n[[lend]]\npath = "~/x"', /twice/],
      ["__proto__.gpu = true", /no name of a key/],
      ["[__proto__]\ngpu = true", /no name of a key/],
      ['["__proto__"]\ngpu = true', /no name of a key/],
      ["env.constructor = 'x'", /no name of a key/],
      ["gpu = true shared = true", /behind the value/],
      ["gpu = yes", /stands in quotes/],
      ['hostname = "\\U00000041"', /character itself/],
      ['hostname = "\\ud800"', /./],
      // Texts that are none.
      ["gpu", /"=" is missing/],
      ["gpu =", /value is missing/],
      ['gpu = "', /is missing/],
      ["[dbus", /"]" is missing/],
      ["devices = [", /is missing/],
      ["a\0b = 1", /control character/],
      [`x = ${"[".repeat(5000)}${"]".repeat(5000)}`, /too deep/],
      [Array.from({ length: 2000 }, (_, at) => `a${at} = 1`).join("\n"), /more than 1000 keys/],
    ] as const
  ) {
    const problems = told(text);
    ok(problems.length > 0, `nothing was said of ${text.slice(0, 80)}`);
    match(problems[0] ?? "", words, text.slice(0, 80));
    for (const problem of problems) {
      match(problem, /^p\.toml:[1-9][0-9]*: /);
      ok(problem.length < 600, problem);
    }
  }
});

Deno.test("a text as large as there may be is judged, whatever it is full of", () => {
  const judged: boolean[] = [];
  for (
    const text of [
      `description = "${"x".repeat(largestText - 20)}"`,
      "#".repeat(largestText),
      "\n".repeat(largestText),
      "a.".repeat(largestText / 2),
      `devices = [${'"/dev/x",'.repeat(7000)}]`,
      `env = { ${Array.from({ length: 990 }, (_, at) => `A${at} = "x"`).join(", ")} }`,
      `${"k".repeat(largestText - 10)} = 1`,
    ]
  ) judged.push(told(text).length === 0);
  deepEqual(judged, [false, true, true, false, false, false, false]);
});

Deno.test("an editor's schema is made of the same declaration", async () => {
  const file = `${root}profiles/${schemaName}`;
  equal(await Deno.readTextFile(file), schemaText(), "try: deno run -A packaging/schema.ts");
});

Deno.test("a profile over another holds key by key, in tables name by name", () => {
  const below = said(`network = "none"
devices = ["/dev/a"]
env = { A = "1", B = "1" }
dbus = { session = "filtered", talk = ["a.b"] }
limits.cpu = 5`);
  const above = said(`devices = ["/dev/b"]
env.B = "2"
dbus.talk = []
limits.memory = "2G"`);
  deepEqual(
    overlay(below, above),
    said(`network = "none"
devices = ["/dev/b"]
env = { A = "1", B = "2" }
dbus = { session = "filtered", talk = [] }
limits = { cpu = 5, memory = "2G" }`),
  );
  deepEqual(
    select(below, (leaf) => leaf === "dbus.talk" || leaf === "env"),
    said('env = { A = "1", B = "1" }\ndbus.talk = ["a.b"]'),
  );
});

Deno.test("secure denies everything that can be denied, and what the same file says still holds", () => {
  const narrow = settle(apply({}, said('preset = "secure"')));
  // Whatever else: nothing that may be written gives less, but limits and folders in memory.
  const words = ["network", "display", "audio", "seccomp"] as const;
  for (const text of words.flatMap((key) => wordsOf(key).map((word) => `${key} = "${word}"`))) {
    const other = settle(said(text));
    deepEqual(widerIn(other, narrow), [], text);
  }
  deepEqual(widerIn(defaults, narrow), []);
  ok(widerIn(narrow, defaults).length > 4);
  const below = said('display = "x11"\nlend = [{ path = "~" }]\nlinger = 9\nenv.A = "x"');
  const file = said('preset = "secure"\nnetwork = "host"');
  const settings = settle(apply(below, file));
  deepEqual(settings, { ...narrow, network: "host", linger: 9, env: { A: "x" } });
  // default forgets what is below, too.
  deepEqual(settle(apply(below, said('preset = "default"\ngpu = true'))), {
    ...defaults,
    gpu: true,
    linger: 9,
    env: { A: "x" },
  });
  deepEqual(Object.keys(secure).filter((key) => !leafNames.some((one) => one.startsWith(key))), []);
});

/** The words that a key can have, by its own schema. */
function wordsOf(key: "network" | "display" | "audio" | "seccomp"): readonly string[] {
  const { enum: words } = keys[key].schema;
  ok(Array.isArray(words));
  return words.map(String);
}

Deno.test("whatever a profile may say, the helper understands", () => {
  const bounds = [
    "limits = { memory = 67108864, processes = 32, cpu = 1 }",
    'limits = { memory = "64T", processes = 4194304, cpu = 1000000 }',
    `hostname = "${"A".repeat(63)}"`,
    `devices = ["/dev/${"x".repeat(251)}", "/dev/bus/usb/001/a.b+c:d-e_f"]`,
    `tmpfs = ["~/${"x".repeat(1022)}", "/opt/a b/漢"]`,
    ...wordsOf("seccomp").map((word) => `seccomp = "${word}"`),
    everything,
  ];
  for (const text of bounds) {
    const spec = specOf(settle(said(text)), context);
    deepEqual(parse(jailSpec(), spec), { value: spec });
  }
});

Deno.test("rules for a bus that is not filtered give nothing", () => {
  const rules = 'talk = ["a.b"]\nown = ["a.b"]\nsystem_talk = ["a.b"]\nsystem_call = ["a.b=*"]';
  for (const session of ["private", "none"]) {
    const { dbus } = settle(said(`[dbus]\nsession = "${session}"\n${rules}`));
    deepEqual(dbus, { ...defaults.dbus, session });
  }
  const { dbus } = settle(said(`[dbus]\nsystem = "filtered"\n${rules}`));
  deepEqual(dbus, {
    ...defaults.dbus,
    system: "filtered",
    system_talk: ["a.b"],
    system_call: ["a.b=*"],
  });
});

Deno.test("the daemon's word on the network holds over any profile's", () => {
  const none = settle(said('network = "none"'));
  const offline = { ...context, network: "none" } as const;
  deepEqual(specOf(defaults, context), plainSpec);
  deepEqual(specOf(defaults, offline), { ...plainSpec, network: "none" });
  deepEqual(specOf(none, context), { ...plainSpec, network: "none" });
  deepEqual(specOf(none, offline), { ...plainSpec, network: "none" });
});

Deno.test("docs/profile.md explains every key", async () => {
  const page = await Deno.readTextFile(`${root}docs/profile.md`);
  const rows = [...page.matchAll(/^\| `([a-z_.]+)` +\|/gm)].map(([, key]) => key);
  const inLend = ["path", "mode", "at", "name", "missing"];
  deepEqual(
    rows.filter((key) => key !== undefined && !inLend.includes(key)).sort(),
    [...leafNames, "locked"].sort(),
  );
  deepEqual(inLend.filter((key) => !rows.includes(key)), []);
  ok(lockable.length > leafNames.length);
});
