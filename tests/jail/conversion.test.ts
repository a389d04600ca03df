/**
 * A conversion that is cut off after any of its steps: the home is whole, it is known what is under
 * way, and it goes on from there.
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { type Fd } from "../../ipc/fd.ts";
import {
  begin,
  type Conversion,
  conversionOf,
  type ConversionWhat,
  finish,
  keepOld,
  keptName,
  lockConversion,
  type Places,
  removed,
  settle,
  startRemoval,
  type Steps,
  switchOver,
  workName,
  workNames,
} from "../../core/conversion.ts";
import { openFolder } from "../../core/kernel.ts";
import { type AppUid, appUid } from "../../core/names.ts";
import { configName, keepConfig, volumeIn } from "../../core/volume.ts";
import type { VolumeKind } from "../../core/protocol.ts";
import { leakingNothing, Scratch } from "../scratch.ts";
import { execute, firstUid, jailTest } from "./world.ts";

const uid: AppUid = v.parse(appUid, firstUid);

const configs: Readonly<Record<VolumeKind, string>> = {
  encfs: "<boost_serialization <cipherAlg <encodedKeyData></encodedKeyData></boost_serialization>",
  gocryptfs: '{"EncryptedKey":"x","ScryptObject":{},"Version":2}',
};

/** A data root with one home, and a state folder. */
class Disk implements Disposable {
  readonly #scratch = new Scratch();
  readonly #stack = new DisposableStack();
  readonly places: Places;
  readonly what: ConversionWhat;
  readonly kind: VolumeKind;

  constructor(what: ConversionWhat, kind: VolumeKind) {
    this.what = what;
    this.kind = kind;
    this.#scratch.folder("data");
    this.#scratch.folder("state");
    Deno.mkdirSync(`${this.data}/${uid}`, { mode: 0o700 });
    Deno.chownSync(`${this.data}/${uid}`, uid, uid);
    this.fill(`${this.data}/${uid}`, what === "encrypt" ? "plain" : "volume");
    const open = (name: string): Fd =>
      this.#stack.use(openFolder("root", `${this.#scratch.path}/${name}`));
    this.places = { dataRoot: open("data"), state: open("state") };
    if (what === "encrypt") return;
    // It was unlocked before.
    using home = openFolder(this.places.dataRoot, String(uid));
    keepConfig(home, this.places.state, uid, kind);
  }

  get data(): string {
    return `${this.#scratch.path}/data`;
  }

  get state(): string {
    return `${this.#scratch.path}/state`;
  }

  /** Makes a folder what a home is when it is whole. */
  fill(folder: string, as: "plain" | "volume"): void {
    if (as === "volume") {
      const config = `${folder}/${configName[this.kind]}`;
      Deno.writeTextFileSync(config, configs[this.kind], { mode: 0o600 });
    }
    Deno.mkdirSync(`${folder}/inside`, { recursive: true });
    for (const name of ["a", "inside/b"]) Deno.writeTextFileSync(`${folder}/${name}`, as);
  }

  /** Begins to. */
  fillHalf(folder: string, as: "plain" | "volume"): void {
    Deno.writeTextFileSync(`${folder}/a`, as);
  }

  /** What a folder is: all of one, or "half", or "none". */
  contents(folder: string): string {
    const read = (name: string): string | undefined => {
      try {
        return Deno.readTextFileSync(`${folder}/${name}`);
      } catch {
        return undefined;
      }
    };
    const parts = [read("a"), read("inside/b")];
    const hasConfig = read(configName[this.kind]) === configs[this.kind];
    if (parts.every((part) => part === "plain") && !hasConfig) return "plain";
    if (parts.every((part) => part === "volume") && hasConfig) return "volume";
    return parts.every((part) => part === undefined) && !hasConfig ? "none" : "half";
  }

  get home(): string {
    return this.contents(`${this.data}/${uid}`);
  }

  get other(): string {
    return this.contents(`${this.data}/${workName(uid)}/${uid}`);
  }

  /** What a start would take the home for. */
  kindOfHome(): string {
    using home = openFolder(this.places.dataRoot, String(uid));
    return volumeIn(home, "home", this.places.state, uid) === undefined ? "plain" : "volume";
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
    this.#scratch[Symbol.dispose]();
  }
}

/** Does so many steps more and no further, as if everything had been killed then. */
class Killer {
  #left: number;

  constructor(steps: number) {
    this.#left = steps;
  }

  get killed(): boolean {
    return this.#left < 0;
  }

  /** A step of somebody else's. */
  pass(): boolean {
    return --this.#left >= 0;
  }

  /** `undefined` when it was killed on the way. */
  run<T>(steps: Steps<T | undefined>): T | undefined {
    for (;;) {
      const next = steps.next();
      if (next.done === true) return next.value;
      if (this.pass()) continue;
      steps.return(undefined);
      return undefined;
    }
  }
}

type Wish = "remove" | "keep" | "discard";

/**
 * All that a conversion is, from whatever there is; it stops when it is killed.
 *
 * @returns whether it came to its end
 */
function convert(disk: Disk, wish: Wish, killer: Killer): boolean {
  const { what, kind, places } = disk;
  const target = what === "encrypt" ? "volume" : "plain";
  killer.run(settle(places, uid));
  if (killer.killed) return false;
  let phase = conversionOf(places, uid)?.phase;
  if (phase === undefined || phase === "copying") {
    if (killer.run(begin(places, uid, { what, kind }, 1)) === undefined) return false;
    const fresh = `${disk.data}/${workName(uid)}/${uid}`;
    disk.fillHalf(fresh, target);
    if (!killer.pass()) return false;
    if (wish !== "discard") {
      disk.fill(fresh, target);
      if (!killer.pass()) return false;
      if (killer.run(switchOver(places, uid)) === undefined) return false;
      phase = "switched";
    }
  }
  if (wish === "keep") {
    if (phase !== "switched") return true;
    return killer.run(keepOld(places, uid)) !== undefined;
  }
  if (killer.run(startRemoval(places, uid)) === undefined) return false;
  for (const name of ["a", ""]) {
    const gone = `${disk.data}/${workName(uid)}/${uid}/${name}`;
    if (workNames(places.dataRoot, uid).length > 0) {
      try {
        Deno.removeSync(gone, { recursive: true });
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    if (!killer.pass()) return false;
  }
  killer.run(removed(places, uid));
  return !killer.killed;
}

const cases: readonly (readonly [ConversionWhat, VolumeKind, Wish])[] = [
  ["encrypt", "gocryptfs", "remove"],
  ["encrypt", "encfs", "keep"],
  ["encrypt", "gocryptfs", "discard"],
  ["decrypt", "encfs", "remove"],
  ["decrypt", "gocryptfs", "keep"],
  ["decrypt", "encfs", "discard"],
];

for (const [what, kind, wish] of cases) {
  jailTest(`${what} (${kind}, ${wish}) may be cut off after any step`, async () => {
    const before = what === "encrypt" ? "plain" : "volume";
    const after = wish === "discard" ? before : what === "encrypt" ? "volume" : "plain";
    let points = 0;
    await leakingNothing(() => {
      for (let steps = 0;; steps++) {
        using disk = new Disk(what, kind);
        const ended = convert(disk, wish, new Killer(steps));
        // Whenever it was: the home is all of one or all of the other, and never what is half.
        assert.match(disk.home, /^(?:plain|volume)$/, `after ${steps} steps`);
        // Whoever comes next settles it first; then it is what it looks like.
        const known = finish(settle(disk.places, uid));
        assert.equal(disk.kindOfHome(), disk.home, `after ${steps} steps`);
        assert.notEqual(known?.phase, "verified");
        // What was there before is whole until it is to be removed.
        const there = [disk.home, disk.other, kept(disk)];
        if (known?.phase !== "removing" && disk.home !== before && known !== undefined) {
          assert(there.includes(before), `after ${steps} steps: ${there}`);
        }
        if (known?.phase === "copying" || known?.phase === "discarding") {
          assert.equal(disk.home, before);
        }
        if (ended) {
          points = steps;
          break;
        }
        // And it goes on from there to its end.
        if (known !== undefined || disk.home !== after || wish === "discard") {
          assert(convert(disk, wish, new Killer(Infinity)), `after ${steps} steps`);
        }
        checkEnd(disk, after, wish);
      }
    });
    assert(points > 5, `only ${points} steps`);
  });
}

function kept(disk: Disk): string {
  return disk.contents(`${disk.data}/${keptName(uid, disk.what)}/${uid}`);
}

function checkEnd(disk: Disk, after: string, wish: Wish): void {
  assert.equal(disk.home, after);
  assert.equal(disk.kindOfHome(), after);
  assert.equal(conversionOf(disk.places, uid), undefined);
  const names = [...Deno.readDirSync(disk.data)].map(({ name }) => name).sort();
  const old = keptName(uid, disk.what);
  assert.deepEqual(names, wish === "keep" ? [String(uid), old] : [String(uid)]);
  if (wish === "keep") {
    assert.equal(kept(disk), disk.what === "encrypt" ? "plain" : "volume");
    assert.equal((Deno.statSync(`${disk.data}/${old}`).mode ?? 0) & 0o777, 0o700);
    assert.equal(Deno.statSync(`${disk.data}/${old}`).uid, 0);
  }
  const state = [...Deno.readDirSync(`${disk.state}/volumes`)].map(({ name }) => name);
  // No journal, and a copy of the configuration for a volume alone.
  assert.deepEqual(state.length, after === "volume" ? 1 : 0, state.join());
  const home = Deno.statSync(`${disk.data}/${uid}`);
  assert.deepEqual([home.uid, home.gid, (home.mode ?? 0) & 0o777], [uid, uid, 0o700]);
}

jailTest(
  "a copy that is not whole never takes the home's place, and one that is goes forward",
  () => {
    using disk = new Disk("encrypt", "gocryptfs");
    finish(begin(disk.places, uid, { what: "encrypt", kind: "gocryptfs" }, 1));
    disk.fillHalf(`${disk.data}/${workName(uid)}/${uid}`, "volume");
    for (let i = 0; i < 3; i++) assert.equal(finish(settle(disk.places, uid))?.phase, "copying");
    assert.equal(disk.home, "plain");
    assert.throws(
      () => finish(begin(disk.places, uid, { what: "encrypt", kind: "encfs" }, 1)),
      /another conversion is not finished \(encrypt, gocryptfs\)/,
    );
    assert.throws(() => finish(keepOld(disk.places, uid)), /there is no old home/);
    assert.equal(disk.other, "half");
    return Promise.resolve();
  },
);

jailTest(
  "the old home is in nobody's reach but root's from the moment that it is the old one",
  async () => {
    using disk = new Disk("encrypt", "gocryptfs");
    finish(begin(disk.places, uid, { what: "encrypt", kind: "gocryptfs" }, 1));
    disk.fill(`${disk.data}/${workName(uid)}/${uid}`, "volume");
    for (const path of [disk.data, disk.data.replace(/\/data$/, "")]) Deno.chmodSync(path, 0o711);
    const look = async (): Promise<number> =>
      (await execute([
        ...["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"],
        ...["cat", `${disk.data}/${workName(uid)}/${uid}/a`],
      ])).code;
    const steps = switchOver(disk.places, uid);
    for (let next = steps.next(); next.done !== true; next = steps.next()) {
      assert.notEqual(await look(), 0, next.value);
    }
    finish(keepOld(disk.places, uid));
    assert.notEqual(await look(), 0);
  },
);

jailTest("what is not what it was is not touched, and told", () => {
  const convert = (disk: Disk): Conversion =>
    finish(begin(disk.places, uid, { what: disk.what, kind: disk.kind }, 1));
  {
    // Somebody restored the home from a backup between the last check and the change.
    using disk = new Disk("encrypt", "encfs");
    convert(disk);
    disk.fill(`${disk.data}/${workName(uid)}/${uid}`, "volume");
    new Killer(2).run(switchOver(disk.places, uid));
    assert.equal(conversionOf(disk.places, uid)?.phase, "verified");
    Deno.renameSync(`${disk.data}/${uid}`, `${disk.data}/moved`);
    Deno.mkdirSync(`${disk.data}/${uid}`);
    assert.throws(() => finish(settle(disk.places, uid)), /is what it was$/);
    assert.equal(disk.contents(`${disk.data}/moved`), "plain");
    assert.equal(disk.other, "volume");
  }
  {
    using disk = new Disk("encrypt", "encfs");
    Deno.mkdirSync(`${disk.data}/${workName(uid)}`);
    assert.throws(() => convert(disk), /nothing is known of it/);
  }
  {
    using disk = new Disk("encrypt", "encfs");
    convert(disk);
    const journal = `${disk.state}/volumes/${uid}.conversion`;
    for (const text of ["", "{}", "null", Deno.readTextFileSync(journal).replace("copy", "x")]) {
      Deno.writeTextFileSync(journal, text);
      assert.throws(() => finish(settle(disk.places, uid)), /not to be understood/);
    }
  }
  {
    using disk = new Disk("encrypt", "encfs");
    convert(disk);
    Deno.chmodSync(`${disk.data}/${workName(uid)}`, 0o755);
    assert.throws(() => finish(switchOver(disk.places, uid)), /not root's alone/);
  }
  return Promise.resolve();
});

jailTest("a home on which something is mounted is refused before anything is made", async () => {
  using disk = new Disk("encrypt", "gocryptfs");
  const inside = `${disk.data}/${uid}/inside`;
  for (const target of [inside, `${disk.data}/${uid}`]) {
    assert.equal((await execute(["mount", "--bind", target, target])).code, 0);
    try {
      assert.throws(
        () => finish(begin(disk.places, uid, { what: "encrypt", kind: "gocryptfs" }, 1)),
        new RegExp(`${target} is a mount`),
      );
    } finally {
      assert.equal((await execute(["umount", target])).code, 0);
    }
  }
  assert.equal(conversionOf(disk.places, uid), undefined);
});

jailTest("only one works on a conversion, for as long as anything of it is open", () => {
  using disk = new Disk("encrypt", "gocryptfs");
  {
    using lock = lockConversion(disk.places, uid);
    assert(lock !== undefined);
    assert.equal(lockConversion(disk.places, uid), undefined);
  }
  using _again = lockConversion(disk.places, uid);
  assert(_again !== undefined);
  return Promise.resolve();
});
