/** The profiles that come with the program: each is right, and what it says is what is meant. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { ProfileName } from "../../core/names.ts";
import { problemText, readProfile } from "../../core/profile.ts";
import { type Layer, type Lookup, resolve, type Resolved } from "../../core/profile-layers.ts";
import { needsFor, type Purpose } from "../../packaging/needs.ts";
import { buildsOffline } from "../desktop/projects.ts";
import { programs as windowed } from "../desktop/shipped.ts";
import { branded } from "./played.ts";

const folder = new URL("../../profiles/", import.meta.url).pathname;
const texts = new Map(
  [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".toml"))
    .map(({ name }) => [name.replace(/\.toml$/, ""), Deno.readTextFileSync(folder + name)]),
);
const names = [...texts.keys()].sort();

const lookup: Lookup = {
  find: (layer: Layer, name: ProfileName) => {
    const text = layer === "shipped" ? texts.get(name) : undefined;
    const file = `${name}.toml`;
    return text === undefined ? undefined : { layer, file, text, ...readProfile(text, file) };
  },
  names: () => names,
};

function resolved(name: string): Resolved {
  return resolve(branded(name), lookup);
}

/** No programs, but what others begin with. */
const bases = ["graphical", "notifying"];
const programs = names.filter((name) => !bases.includes(name));

Deno.test("there are more than thirty, and nothing is wrong with any of them", () => {
  ok(programs.length > 30);
  for (const name of names) deepEqual(resolved(name).problems.map(problemText), []);
});

Deno.test("each tells an editor its schema, and a person what it is", () => {
  for (const name of names) {
    match(texts.get(name) ?? "", /^#:schema profile\.schema\.json\n/, name);
    ok(resolved(name).settings.description !== "", name);
  }
});

Deno.test("each program has a command that finds it, and no other's finds it", () => {
  const found = new Map<string, string>();
  for (const name of programs) {
    const { command, executables } = resolved(name).settings;
    ok(command !== null && executables.includes(command[0] ?? ""), name);
    for (const executable of executables) {
      equal(found.get(executable) ?? name, name, `${executable} finds two profiles`);
      found.set(executable, name);
      // A profile is found by its own name first.
      ok(executable === name || !names.includes(executable), `${executable} is another profile`);
    }
  }
  for (const name of bases) deepEqual(resolved(name).settings.executables, []);
});

/** Their programs are not in Debian's main archive; so nobody can start them in a test. */
const elsewhere: readonly string[] = [
  ...[
    "discord",
    "element",
    "google-chrome",
    "signal",
    "slack",
    "spotify",
    "steam",
    "vscode",
    "zoom",
  ],
];

Deno.test("each program that Debian has is started by a test, and can be installed for it", () => {
  const started = new Map<string, string>([
    ...Object.values(windowed).flat().map(({ profile, command }) => [profile, command] as const),
    ...buildsOffline.map(({ profile, build: [command = ""] }) => [profile, command] as const),
    // tests/desktop/firefox.test.ts
    ["firefox", "firefox-esr"],
  ]);
  deepEqual([...started.keys(), ...elsewhere].sort(), programs);
  const commandsFor = (purpose: Purpose): ReadonlySet<string> =>
    new Set(needsFor(purpose).map(({ program }) => program));
  const [usual, all] = [commandsFor("programs"), commandsFor("shipped")];
  const page = Deno.readTextFileSync(new URL("../../docs/shipped-profiles.md", import.meta.url));
  for (const name of programs) {
    const command = started.get(name);
    if (command !== undefined) {
      ok(resolved(name).settings.executables.includes(command), `${command} does not find ${name}`);
      ok(all.has(command), `setup gets no ${command}`);
    }
    const tried = command === undefined ? "no" : usual.has(command) ? "always" : "when it is there";
    match(page, new RegExp(`^\\| \`${name}\` +\\|.*\\| ${tried} +\\|$`, "m"), name);
  }
  ok([...started.values()].filter((command) => usual.has(command)).length >= 25);
});

Deno.test("none is given what would be the end of its jail", () => {
  // Services that start programs for whoever asks, or show what all windows show.
  const dangerous =
    /^(?:org\.freedesktop\.(?:systemd1|Flatpak|secrets|DBus)|org\.gnome\.Shell|org\.kde\.(?:klauncher|kwalletd)|org\.appjail|org\.freedesktop\.portal\.\*)/;
  for (const name of names) {
    const { dbus, lend, seccomp, devices, same_uid } = resolved(name).settings;
    // Whoever has a name may serve more under it than one thinks: method by method.
    deepEqual([...dbus.talk, ...dbus.call.filter((rule) => /=\*/.test(rule))], [], name);
    for (const rule of [...dbus.talk, ...dbus.call, ...dbus.system_talk, ...dbus.system_call]) {
      equal(dangerous.exec(rule), null, `${name}: ${rule}`);
    }
    equal(dbus.system, "none", name);
    equal(seccomp === "none", false, name);
    for (const device of devices) match(device, /^\/dev\/video\d+$/, name);
    // Nothing of the person's but the folders that are for it; never the home, nor what is hidden in it.
    for (const { path, at, missing } of lend) {
      match(path, /^xdg-(?:download|documents|music|pictures|videos)$/, name);
      ok(at?.startsWith("~/"), name);
      equal(missing, "skip", name);
    }
    // Who is on the person's own bus has to show their uid there.
    equal(same_uid, dbus.session === "filtered", name);
  }
});

Deno.test("what builds strangers' code sees no window, bus or folder of yours", () => {
  for (const name of ["python", "node", "cargo", "go", "make"]) {
    const { display, audio, gpu, dbus, lend, limits } = resolved(name).settings;
    deepEqual([display, audio, gpu, dbus.session, lend], ["none", "none", false, "none", []]);
    ok(limits.memory !== null && limits.processes !== null);
  }
});
