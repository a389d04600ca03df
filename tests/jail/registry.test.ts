/**
 * Which uid a profile has: one for each owner's profile, for ever; never one that somebody else has
 * or had; and no daemon that would guess when the registry cannot be read.
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { openFolder } from "../../core/kernel.ts";
import { appUid } from "../../core/names.ts";
import { Registry } from "../../core/registry.ts";
import { answerOf, askAs } from "./stand-in.ts";
import {
  appProcesses,
  execute,
  firstUid,
  jailTest,
  lastUid,
  type Outcome,
  ownEtc,
  uA,
  uB,
  until,
  World,
} from "./world.ts";

const line = (uid: number, owner: number, profile: string) => ({ uid, owner, profile });

function registry(uids: readonly unknown[], version: unknown = 1): string {
  return JSON.stringify({ version, uids });
}

/** The registry as it is, and the way it lies there. */
function registryOf(world: World): unknown {
  const path = `${world.state}/uids.json`;
  const { ino, uid, gid, mode, size, isSymlink } = Deno.lstatSync(path);
  const text = isSymlink ? Deno.readLinkSync(path) : size > 0 ? Deno.readFileSync(path) : "";
  return { text, ino, uid, gid, mode, size };
}

/** Starts a daemon that is to end by itself, and with one line. */
async function refusal(words: readonly string[]): Promise<Outcome> {
  const outcome = await execute(["timeout", "20", ...words]);
  assert.match(outcome.stderr, /^appjail(-helper)?: [^\n]+\n$/);
  assert.equal(outcome.stdout, "");
  return outcome;
}

jailTest("each owner's profile has a uid of its own, and keeps it for ever", async () => {
  await using world = await World.start();
  const id = (profile: string, uid: number) => world.shell(profile, "id -u", { uid });
  assert.equal(await id("firefox", uA), String(firstUid));
  assert.equal(await id("firefox", uB), String(firstUid + 1));
  assert.equal(await id("mail", uA), String(firstUid + 2));
  assert.equal(await id("firefox", 0), String(firstUid + 3));
  await world.stopDaemon();
  await world.startDaemon();
  assert.equal(await id("mail", uB), String(firstUid + 4));
  assert.equal(await id("firefox", uB), String(firstUid + 1));
  assert.equal(await id("firefox", uA), String(firstUid));
  const { uid, gid, mode } = Deno.lstatSync(`${world.data}/${firstUid}`);
  assert.deepEqual([uid, gid, (mode ?? 0) & 0o7777], [firstUid, firstUid, 0o700]);

  // A home that somebody has removed frees no uid.
  assert.equal((await world.client(["stop", "--all"], { uid: uA })).code, 0);
  await Deno.remove(`${world.data}/${firstUid}`, { recursive: true });
  assert.equal(await id("new", uA), String(firstUid + 5));
  assert.equal(await id("firefox", uA), String(firstUid));
  const kept = JSON.parse(Deno.readTextFileSync(`${world.state}/uids.json`));
  assert.deepEqual(kept, {
    version: 1,
    uids: [
      line(firstUid, uA, "firefox"),
      line(firstUid + 1, uB, "firefox"),
      line(firstUid + 2, uA, "mail"),
      line(firstUid + 3, 0, "firefox"),
      line(firstUid + 4, uB, "mail"),
      line(firstUid + 5, uA, "new"),
    ],
  });
});

jailTest("a uid that anybody has, or has left a home under, is not given", async () => {
  const [user, group, delegated, running, left, given] = [0, 1, 2, 4, 5, 6].map((n) =>
    firstUid + n
  );
  await using world = await World.start({
    wrap: ownEtc.wrap,
    before: async (folder) => {
      await ownEtc.before(folder);
      const add = (file: string, text: string): void =>
        Deno.writeTextFileSync(`${folder}/etc/${file}`, text + "\n", { append: true });
      add("passwd", `bob:x:${user}:100::/:/bin/sh`);
      add("group", `friends:x:${group}:`);
      add("subuid", `bob:${delegated}:2`);
      Deno.mkdirSync(`${folder}/state`, { mode: 0o700 });
      Deno.writeTextFileSync(`${folder}/state/uids.json`, registry([line(given ?? 0, uB, "x")]));
      Deno.mkdirSync(`${folder}/data`);
      Deno.mkdirSync(`${folder}/data/${left}`);
      Deno.writeTextFileSync(`${folder}/data/${left}/secret`, "not yours");
      Deno.chownSync(`${folder}/data/${left}`, left ?? 0, left ?? 0);
    },
  });
  const other = new Deno.Command("setpriv", {
    args: [`--reuid=${running}`, `--regid=${uA}`, "--clear-groups", "sleep", "1000"],
  }).spawn();
  try {
    await until("somebody runs as that uid", () => appProcesses(running).length > 0);
    assert.equal(
      await world.shell("mine", "id -u; ls -A -I lent", { uid: uA }),
      String(firstUid + 7),
    );
    assert.equal(Deno.readTextFileSync(`${world.data}/${left}/secret`), "not yours");
  } finally {
    other.kill("SIGKILL");
    await other.status;
  }
});

jailTest("a registry that cannot be read is refused, named, and left as it is", async () => {
  await using world = await World.start();
  await world.run("mine", ["true"], { uid: uA });
  await world.client(["stop", "--all"]);
  await world.stopDaemon();
  const path = `${world.state}/uids.json`;
  const good = Deno.readTextFileSync(path);
  const one = line(firstUid, uA, "a");
  const file = (text: string | Uint8Array) => () => {
    if (typeof text === "string") Deno.writeTextFileSync(path, text, { mode: 0o600 });
    else Deno.writeFileSync(path, text, { mode: 0o600 });
  };
  const damages: readonly (readonly [what: string, damage: () => void, why: RegExp])[] = [
    ["empty", file(""), /it is not JSON/],
    ["cut short", file(good.slice(0, -9)), /it is not JSON/],
    ["garbage", file("\0\0\0\0"), /it is not JSON/],
    ["not UTF-8", file(new Uint8Array([0x7b, 0xff, 0x7d])), /./],
    ["of another version", file(registry([], 2)), /./],
    [
      "with a uid twice",
      file(registry([one, line(firstUid, uB, "b")])),
      /a uid stands in it twice/,
    ],
    [
      "with a profile twice",
      file(registry([one, line(firstUid + 1, uA, "a")])),
      /profile stands in it twice/,
    ],
    ["with root's uid", file(registry([line(0, uA, "a")])), /no uid below 1000/],
    ["with a uid beyond", file(registry([line(2 ** 32 + firstUid, uA, "a")])), /./],
    ["with another name", file(registry([line(firstUid, uA, "../a")])), /a profile is named/],
    ["with more in a line", file(registry([{ ...one, gid: 0 }])), /./],
    ["too large", file(good.padEnd(17 * 1024 * 1024)), /EFBIG/],
    ["somebody else's", () => Deno.chownSync(path, uA, uA), /only root can write/],
    ["writable by all", () => Deno.chmodSync(path, 0o666), /only root can write/],
    ["a link", () => {
      Deno.renameSync(path, `${world.state}/there`);
      Deno.symlinkSync("there", path);
    }, /ELOOP/],
    ["a folder", () => {
      Deno.removeSync(path);
      Deno.mkdirSync(path);
    }, /only root can write/],
    ["a FIFO", () => {
      Deno.removeSync(path);
      new Deno.Command("mkfifo", { args: ["-m", "600", path] }).outputSync();
    }, /only root can write/],
  ];
  using folder = openFolder("root", world.state);
  using dataRoot = openFolder("root", world.data);
  const load = (): unknown =>
    new Registry({
      folder,
      path: world.state,
      dataRoot,
      first: v.parse(appUid, firstUid),
      last: v.parse(appUid, lastUid),
      most: 200,
    });
  for (const [index, [what, damage, why]] of damages.entries()) {
    damage();
    const before = what === "a folder" ? undefined : registryOf(world);
    const told = (words: string): void => {
      assert(words.includes(`Cannot read the registry of uids, ${path}: `), `${what}: ${words}`);
      assert.match(words, why, what);
      assert.match(words, /nothing was changed\n?$/);
    };
    assert.throws(load, (error: Error) => (told(error.message), true), what);
    // A daemon takes its time to say the same: it is asked a few times.
    if (index % 6 === 0) {
      const { code, stderr } = await refusal(world.daemonWords());
      assert.equal(code, 111, what);
      told(stderr);
    }
    if (before !== undefined) assert.deepEqual(registryOf(world), before, what);
    await Deno.remove(path);
    Deno.writeTextFileSync(path, good, { mode: 0o600 });
  }
  await world.startDaemon();
  assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
});

jailTest("a registry that cannot be written gives no uid, and the old one stays", async () => {
  await using world = await World.start();
  await world.run("mine", ["true"], { uid: uA });
  const path = `${world.state}/uids.json`;
  const good = Deno.readTextFileSync(path);
  // What a helper that was killed before its rename has left.
  Deno.writeTextFileSync(`${world.state}/.uids.json.new`, registry([line(firstUid + 9, uB, "x")]));
  // A mount point cannot be renamed over: this stands for every error at that last step.
  assert.equal((await execute(["mount", "--bind", path, path])).code, 0);
  try {
    const { code, stderr } = await world.client(["run", "-p", "next", "true"], { uid: uA });
    assert.equal(code, 111);
    assert.match(stderr, /^appjail: Cannot write the registry of uids, [^\n]*EBUSY[^\n]*\n$/);
    assert(stderr.includes(path), stderr);
  } finally {
    await execute(["umount", path]);
  }
  assert.equal(Deno.readTextFileSync(path), good);
  assert.deepEqual([...Deno.readDirSync(world.state)].map(({ name }) => name).sort(), [
    "lock",
    "profiles",
    "uids.json",
  ]);
  assert.deepEqual([...Deno.readDirSync(world.data)].map(({ name }) => name).sort(), [
    ".lock",
    String(firstUid),
  ]);
  assert.equal(await world.shell("next", "id -u", { uid: uA }), String(firstUid + 1));
});

jailTest("there is one daemon for each runtime folder, registry and data root", async () => {
  await using world = await World.start();
  await world.run("mine", ["true"], { uid: uA });
  const words = world.daemonWords();
  const instead = (...flags: readonly string[]): readonly string[] =>
    words.map((word, index) => flags.includes(words[index - 1] ?? "") ? `${word}-other` : word);
  for (
    const [others, says] of [
      [["--data-root", "--state-dir"], `serves ${world.runtime} already`],
      [["--runtime-dir", "--data-root"], `gives uids from ${world.state} already`],
      [["--runtime-dir", "--state-dir"], `keeps homes in ${world.data} already`],
      [[], `serves ${world.runtime} already`],
    ] as const
  ) {
    const { code, stderr } = await refusal(instead(...others));
    assert.equal(code, 100);
    assert.match(stderr, /^appjail-helper: Another daemon [^\n]*; stop it first, or give this one/);
    assert(stderr.includes(says), stderr);
    assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
  }
  await world.stopDaemon();
  await world.startDaemon();
});

jailTest(
  "a profile keeps a uid that the range has left behind, and can ask for nothing",
  async () => {
    const old = lastUid + 5;
    await using world = await World.start({
      before: (folder) => {
        Deno.mkdirSync(`${folder}/state`, { mode: 0o700 });
        Deno.writeTextFileSync(`${folder}/state/uids.json`, registry([line(old, uA, "old")]));
      },
    });
    assert.equal(await world.shell("old", "id -u", { uid: uA }), String(old));
    for (const uid of [old, firstUid, lastUid]) {
      const answer = await answerOf(askAs(uid, world, { type: "profiles" }));
      assert(answer?.type === "failed" && answer.code === "denied", JSON.stringify(answer));
    }
  },
);

jailTest("nobody takes every uid, and when none is left it is said", async () => {
  const config = Deno.makeTempFileSync({ suffix: ".toml" });
  Deno.writeTextFileSync(config, "max_profiles = 2\n");
  try {
    await using world = await World.start({
      flags: ["--config", config],
      before: (folder) => {
        Deno.mkdirSync(`${folder}/state`, { mode: 0o700 });
        // All but one are given, two of them to uA.
        const uids = Array.from({ length: lastUid - firstUid }, (_, index) => firstUid + index)
          .map((uid) => line(uid, uid < firstUid + 2 ? uA : 7, `p${uid}`));
        Deno.writeTextFileSync(`${folder}/state/uids.json`, registry(uids));
      },
    });
    const full = await world.client(["run", "-p", "mine", "id", "-u"], { uid: uA });
    assert.equal(full.code, 111);
    assert.equal(
      full.stderr,
      `appjail: Cannot make profile "mine": uid ${uA} has 2 already, the most there may be\n`,
    );
    assert.equal(await world.shell("mine", "id -u", { uid: uB }), String(lastUid));
    const none = await world.client(["run", "-p", "other", "id", "-u"], { uid: uB });
    assert.equal(none.code, 111);
    assert.equal(
      none.stderr,
      `appjail: Cannot make profile "other": no uid from ${firstUid} to ${lastUid} is free; ` +
        "give the daemon a larger --uid-range\n",
    );
  } finally {
    Deno.removeSync(config);
  }
});
