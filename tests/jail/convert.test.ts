/**
 * The converter on real volumes, with everything in a home that a copy could get wrong: what it has
 * copied is looked at by others than itself.
 */
import assert from "node:assert/strict";
import { Channel } from "../../ipc/channel.ts";
import { Fd, open, pipe, writeAll } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { pair } from "../../ipc/socket.ts";
import { openLock, openPidfd, spawn, tryLock } from "../../core/kernel.ts";
import { roleEnvironment } from "../../core/launch.ts";
import { plainStyle } from "../../core/log.ts";
import { allPids } from "../../core/process.ts";
import {
  type ConverterToHelper,
  type ConverterWork,
  fromConverter,
  type HelperToConverter,
  type VolumeKind,
  volumeKinds,
} from "../../core/protocol.ts";
import { configName, mountAt, mountCommand } from "../../core/volume.ts";
import { Random } from "../random.ts";
import { removeUnlessMounted } from "../leftovers.ts";
import { listing, makeOddTree, summary } from "./odd-tree.ts";
import { execute, firstUid, jailTest, program, publicFolder, until } from "./world.ts";

type Answer = Exclude<ConverterToHelper, { readonly type: "progress" }>;
// deno-lint-ignore no-explicit-any -- what options there are is the converter's to check
type Options = Readonly<Record<string, any>> | ConverterWork;

/** A folder on a disk of its own, with homes, volumes, and what is mounted. */
class Bench implements AsyncDisposable {
  readonly folder: string = Deno.makeTempDirSync({ dir: publicFolder, prefix: "appjail-test-" });
  readonly #mounted = new Map<string, Deno.ChildProcess>();

  constructor() {
    for (const name of ["plain", "volume", "mount", "back", "root"]) {
      Deno.mkdirSync(this.path(name), { mode: 0o700 });
    }
    for (const name of ["plain", "volume", "back"]) {
      Deno.chownSync(this.path(name), firstUid, firstUid);
    }
  }

  path(name: string): string {
    return `${this.folder}/${name}`;
  }

  /** Starts a converter. */
  start(options: Options, passphrases?: string): Converting {
    return new Converting(this.path("lock"), options, passphrases);
  }

  /** Has a converter do something, to its end. */
  async perform(options: Options, passphrases?: string): Promise<Answer> {
    await using converting = this.start(options, passphrases);
    return await converting.answer;
  }

  async make(kind: VolumeKind, passphrase = "secret"): Promise<void> {
    const answer = await this.perform(
      { what: "make", kind, volume: this.path("volume"), scratch: this.path("mount") },
      `${passphrase}\n`,
    );
    assert.deepEqual(answer, { type: "done", files: 0, bytes: 0, notes: [] });
  }

  /** Mounts the volume; `undefined` when it cannot be. */
  async mount(kind: VolumeKind, passphrase = "secret"): Promise<Deno.ChildProcess | undefined> {
    const target = this.path("mount");
    const [command = "", ...args] = mountCommand(kind, this.path("volume"), target);
    const child = new Deno.Command(command, {
      args,
      stdin: "piped",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`${passphrase}\n`));
    await writer.close();
    let ended = false;
    void child.status.then(() => ended = true);
    await until("it is mounted", () => ended || mountAt(target) !== undefined);
    if (ended) return undefined;
    this.#mounted.set(target, child);
    return child;
  }

  async unmount(): Promise<void> {
    const target = this.path("mount");
    await execute(["umount", target]);
    await this.#mounted.get(target)?.status;
    this.#mounted.delete(target);
  }

  copy(target: VolumeKind | "plain"): Options {
    const [from, to] = target === "plain" ? ["mount", "back"] : ["plain", "mount"];
    return {
      what: "copy",
      from: this.path(from ?? ""),
      to: this.path(to ?? ""),
      target,
      stored: this.path(target === "plain" ? "back" : "volume"),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#mounted.values()) {
      await execute(["umount", "-l", this.path("mount")]);
      await child.status;
    }
    // What is left by a test that failed may be deeper than Deno could remove.
    await execute([
      "rm",
      "-rf",
      "--one-file-system",
      ...["root", "plain"].map((one) => this.path(one)),
    ]);
    removeUnlessMounted(this.folder);
  }
}

/** A converter at work. */
class Converting implements AsyncDisposable {
  readonly pid: number;
  readonly answer: Promise<Answer>;
  readonly progress: (ConverterToHelper & { readonly type: "progress" })[] = [];
  readonly #lock: string;
  readonly #channel: Channel<ConverterToHelper, HelperToConverter>;
  readonly #pidfd: Fd | undefined;

  constructor(lockPath: string, options: Options, passphrases?: string) {
    this.#lock = lockPath;
    const [ours, theirs] = pair();
    using end = theirs;
    using lock = openLock("root", lockPath);
    assert(tryLock(lock), "somebody is still at work");
    using nothing = open("/dev/null", 2);
    using input = passphrases === undefined ? undefined : pipeWith(passphrases);
    const words = [...program(), "converter", JSON.stringify({ log: plainStyle, work: options })];
    // A checkout's modules are found through the environment.
    const env = Deno.env.has("APPJAIL_EXE") ? roleEnvironment : Deno.env.toObject();
    this.pid = spawn({
      path: words[0] ?? "",
      argv: words,
      env,
      descriptors: [(input ?? nothing).number, nothing.number, 2, end.number, lock.number],
      session: true,
    });
    this.#pidfd = openPidfd(this.pid);
    this.#channel = new Channel(ours, fromConverter);
    this.answer = this.#listen();
    this.answer.catch(() => {});
  }

  async #listen(): Promise<Answer> {
    for (;;) {
      const next = await this.#channel.receive();
      if (next === undefined) throw new Error("the converter left without a word");
      if (next.message.type !== "progress") return next.message;
      this.progress.push(next.message);
    }
  }

  kill(): void {
    try {
      Deno.kill(this.pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }

  hangUp(): void {
    this.#channel.close();
  }

  /** Waits until neither it nor anything that it has started is there. */
  async ended(): Promise<void> {
    if (this.#pidfd !== undefined && !this.#pidfd.closed) {
      await poller.readable(this.#pidfd.number);
      this.#pidfd.close();
    }
    await until("nobody holds the lock", () => {
      using lock = openLock("root", this.#lock);
      return tryLock(lock);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#channel.close();
    await this.ended();
  }
}

function pipeWith(text: string): Fd {
  const { read, write } = pipe();
  using end = write;
  writeAll(end.number, new TextEncoder().encode(text));
  return read;
}

function failureOf(answer: Answer): string {
  assert.equal(answer.type, "failed");
  return answer.type === "failed" ? `${answer.code}: ${answer.message}` : "";
}

/** The first lines that only one has. */
function assertSame(actual: readonly string[], expected: readonly string[]): void {
  const [ours, theirs] = [new Set(actual), new Set(expected)];
  assert.deepEqual(
    [...ours.difference(theirs)].slice(0, 5),
    [
      ...theirs.difference(ours),
    ].slice(0, 5),
  );
  assert.equal(actual.length, expected.length);
}

const grains: Readonly<Record<VolumeKind, number>> = { encfs: 1000, gocryptfs: 1 };
const longestNames: Readonly<Record<VolumeKind, number>> = { encfs: 167, gocryptfs: 255 };

for (const kind of volumeKinds) {
  jailTest(`everything that a home can hold goes into ${kind} and comes back`, async () => {
    await using bench = new Bench();
    await makeOddTree(bench.path("plain"), longestNames[kind]);
    const before = await listing(bench.path("plain"));
    await bench.make(kind);
    const config = Deno.lstatSync(`${bench.path("volume")}/${configName[kind]}`);
    assert.deepEqual([config.uid, (config.mode ?? 0) & 0o777], [0, 0o600]);
    assert.equal(mountAt(bench.path("mount")), undefined);
    await bench.mount(kind);
    const answer = await bench.perform(bench.copy(kind));
    assert.equal(answer.type, "done", JSON.stringify(answer));
    assert(answer.type === "done");
    assert.equal(answer.files, before.length - 1);
    assert(answer.bytes > 30_000_000);
    assert.match(answer.notes.join("\n"), /^2 files have attributes of the system's own/m);
    assert.equal(/microsecond/.test(answer.notes.join()), kind === "encfs");
    assert.equal(
      answer.notes.includes("encfs does not encrypt extended attributes, which 4 files have"),
      kind === "encfs",
    );
    const grain = grains[kind];
    assertSame(
      await listing(bench.path("mount"), grain),
      await listing(bench.path("plain"), grain),
    );
    // Holes take no room there either.
    for (const name of ["sparse", "hole", "ho*le\\[x]", "b\\s"]) {
      const { blocks } = Deno.statSync(`${bench.path("mount")}/${name}`);
      assert((blocks ?? Infinity) < 2048, `${name} takes ${blocks} blocks`);
    }
    // Once more, after it was locked: it is on the disk as it was seen.
    await bench.unmount();
    assert.equal(await bench.mount(kind, "another"), undefined);
    await bench.mount(kind);
    const back = await bench.perform(bench.copy("plain"));
    assert.equal(back.type, "done", JSON.stringify(back));
    assertSame(await listing(bench.path("back"), grain), await listing(bench.path("plain"), grain));
    // Nothing was done to the home itself.
    assertSame(await listing(bench.path("plain")), before);
    await bench.unmount();
    const removal = await bench.perform({ what: "remove", folder: bench.path("root") });
    assert.deepEqual(removal, { type: "done", files: 0, bytes: 0, notes: [] });
    Deno.renameSync(bench.path("plain"), `${bench.path("root")}/plain`);
    const removed = await bench.perform({ what: "remove", folder: bench.path("root") });
    assert.deepEqual(removed, { type: "done", files: before.length, bytes: 0, notes: [] });
    assert.deepEqual([...Deno.readDirSync(bench.path("root"))], []);
  });
}

// --- Cut off ---------------------------------------------------------------------------------

/** Fills a folder with so many small files, and a few large ones. */
function fillWith(folder: string, files: number, random: Random): void {
  for (let at = 0; at < files; at++) {
    const inside = `${folder}/${at % 7}/${Math.floor(at / 200)}`;
    if (at % 200 < 7) Deno.mkdirSync(inside, { recursive: true });
    const bytes = random.bytes(at % 500 === 0 ? 300_000 : random.below(60));
    Deno.writeFileSync(`${inside}/file ${at}`, bytes, { mode: random.of([0o600, 0o644, 0o755]) });
    if (at % 50 === 0) Deno.symlinkSync(`file ${at}`, `${inside}/link ${at}`);
    if (at % 70 === 0) Deno.linkSync(`${inside}/file ${at}`, `${folder}/again ${at}`);
  }
}

jailTest("a folder of which gocryptfs was killed while it made it is no obstacle", async () => {
  await using bench = new Bench();
  await Deno.mkdir(`${bench.path("plain")}/a/b/c`, { recursive: true });
  await Deno.writeTextFile(`${bench.path("plain")}/a/note`, "kept");
  await bench.make("gocryptfs");
  await bench.mount("gocryptfs");
  assert.equal((await bench.perform(bench.copy("gocryptfs"))).type, "done");
  await bench.unmount();
  // Each of its folders has a file of this name; the innermost has nothing else.
  const { stdout } = await execute([
    ...["find", bench.path("volume"), "-mindepth", "3", "-name", "gocryptfs.diriv"],
  ]);
  const [innermost = ""] = stdout.trim().split("\n").toSorted((a, b) => b.length - a.length);
  await Deno.remove(innermost);
  await bench.mount("gocryptfs");
  await assert.rejects(Array.fromAsync(Deno.readDir(`${bench.path("mount")}/a/b/c`)));
  const answer = await bench.perform(bench.copy("gocryptfs"));
  assert.equal(answer.type, "done", JSON.stringify(answer));
  assertSame(await listing(bench.path("mount")), await listing(bench.path("plain")));
});

/** Everything that has something open in a folder, but this process. */
function usersOf(folder: string): readonly number[] {
  return allPids().filter((pid) => {
    if (pid === Deno.pid) return false;
    try {
      const words = Deno.readTextFileSync(`/proc/${pid}/cmdline`).split("\0");
      return words[0]?.endsWith("rsync") === true &&
        words.some((word) => word.startsWith(`${folder}/`));
    } catch {
      return false;
    }
  });
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}

for (const kind of volumeKinds) {
  jailTest(
    `a copy to ${kind} that is killed at any moment goes on, and loses nothing`,
    async () => {
      // Fifty thousand take a quarter of an hour.
      const files = Number(Deno.env.get("APPJAIL_TEST_FILES") ?? 600);
      const seed = Number(Deno.env.get("APPJAIL_TEST_SEED") ?? 1);
      const random = new Random(seed);
      await using bench = new Bench();
      fillWith(bench.path("plain"), files, random);
      const before = await summary(bench.path("plain"));
      await bench.make(kind);
      let mounted = await bench.mount(kind);
      // How long it takes is known after the first time; each time something else is killed.
      let whole = 400 + files / 2;
      let cut = 0;
      for (let round = 0; round < 20; round++) {
        const began = performance.now();
        await using converting = bench.start(bench.copy(kind));
        const limit = random.below(whole);
        const answered = await Promise.race([
          converting.answer.then(() => true, () => true),
          new Promise<false>((resolve) => setTimeout(() => resolve(false), limit)),
        ]);
        if (answered) {
          // Too late: there is less left to do than there was.
          whole = Math.max(100, performance.now() - began);
          assert.equal((await converting.answer).type, "done");
        } else cut++;
        const rsyncs = usersOf(bench.folder);
        switch (round % 4) {
          case 0:
            converting.kill();
            break;
          case 1:
            killAll([converting.pid, ...rsyncs]);
            break;
          case 2:
            // Only what copies: the converter tells of it, or has nothing to tell.
            killAll(rsyncs);
            converting.kill();
            break;
          default:
            killAll([converting.pid, ...rsyncs, ...(mounted === undefined ? [] : [mounted.pid])]);
        }
        await converting.ended();
        assert.deepEqual(usersOf(bench.folder), []);
        if (round % 4 === 3) {
          await bench.unmount();
          mounted = await bench.mount(kind);
          assert(mounted !== undefined, "the volume is not whole");
        }
        // Somebody works in the home in between: what was copied is old.
        if (round % 5 === 4) {
          Deno.writeFileSync(`${bench.path("plain")}/0/0/file 0`, random.bytes(1000 + round));
          Deno.removeSync(`${bench.path("plain")}/0/0/file 7`, { recursive: true });
          Deno.mkdirSync(`${bench.path("plain")}/0/0/file 7`);
        }
      }
      assert(cut >= 10, `only ${cut} of 20 were cut off`);
      const after = await summary(bench.path("plain"));
      assert.notEqual(after, before);
      const lines = await listing(bench.path("plain"));
      const answer = await bench.perform(bench.copy(kind));
      assert.equal(answer.type, "done", JSON.stringify(answer));
      assert.equal(await summary(bench.path("plain")), after);
      await bench.unmount();
      await bench.mount(kind);
      const grain = grains[kind];
      assertSame(
        await listing(bench.path("mount"), grain),
        grain === 1 ? lines : await listing(bench.path("plain"), grain),
      );
    },
  );
}

jailTest("what rsync does not notice is noticed, and made right", async () => {
  await using bench = new Bench();
  const plain = bench.path("plain");
  const two = (name: string): string => `${plain}/${name}`;
  for (const name of ["one", "other", "damaged", "same"]) {
    Deno.writeTextFileSync(two(name), "x".repeat(9000));
    await execute(["touch", "-d", "@1400000000.123456789", two(name)]);
  }
  Deno.removeSync(two("other"));
  Deno.linkSync(two("one"), two("other"));
  await bench.make("gocryptfs");
  await bench.mount("gocryptfs");
  const copy = bench.copy("gocryptfs");
  assert.equal((await bench.perform(copy)).type, "done");
  // Two names of one file become two files, of the same size and time; and the other way round.
  Deno.removeSync(two("other"));
  await execute(["cp", "-p", two("one"), two("other")]);
  Deno.removeSync(two("same"));
  Deno.linkSync(two("damaged"), two("same"));
  // Changed, and as old as before; once to the nanosecond, and once but for that.
  Deno.writeTextFileSync(two("one"), "y".repeat(9000));
  await execute(["touch", "-d", "@1400000000.123456789", two("one")]);
  await execute(["touch", "-d", "@1400000000.123456788", two("other")]);
  assert.equal((await bench.perform(copy)).type, "done");
  assertSame(await listing(bench.path("mount")), await listing(plain));
  // The disk has kept something else than was written. The kernel still remembers what that was.
  const damaged = [...Deno.readDirSync(bench.path("volume"))].filter(({ name }) =>
    Deno.statSync(`${bench.path("volume")}/${name}`).size > 9000
  ).map(({ name }) => `${bench.path("volume")}/${name}`);
  assert.equal(damaged.length, 3 + 1 /* two names of one */);
  for (const path of damaged) {
    const { mtime, atime } = Deno.statSync(path);
    using file = Deno.openSync(path, { write: true });
    file.seekSync(5000, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(8));
    Deno.utimeSync(path, atime ?? 0, mtime ?? 0);
  }
  assert.equal((await bench.perform(copy)).type, "done");
  await bench.unmount();
  await bench.mount("gocryptfs");
  assertSame(await listing(bench.path("mount")), await listing(plain));
});

jailTest("who asked leaves: everything that was begun for him ends", async () => {
  await using bench = new Bench();
  await Deno.truncate(bench.path("plain/large"), 0).catch(() => {});
  Deno.writeFileSync(bench.path("plain/large"), new Uint8Array(100_000_000).fill(1));
  await bench.make("gocryptfs");
  await bench.mount("gocryptfs");
  await using converting = bench.start(bench.copy("gocryptfs"));
  await until("rsync is at work", () => usersOf(bench.folder).length >= 3);
  converting.hangUp();
  await converting.ended();
  assert.deepEqual(usersOf(bench.folder), []);
});

// --- What cannot be --------------------------------------------------------------------------

jailTest("what a volume cannot hold is named before anything is copied", async () => {
  await using bench = new Bench();
  const plain = bench.path("plain");
  await bench.make("encfs");
  await bench.mount("encfs");
  const refuses = async (kind: VolumeKind, why: RegExp): Promise<void> => {
    const answer = await bench.perform(bench.copy(kind));
    assert.match(failureOf(answer), why);
    assert.match(failureOf(answer), /; nothing was changed$/);
    assert.deepEqual([...Deno.readDirSync(bench.path("mount"))], []);
  };
  const long = "n".repeat(168);
  Deno.writeTextFileSync(`${plain}/${long}`, "");
  await refuses("encfs", /vault-failed: .*\/?n+: its name is too long .*gocryptfs can hold longer/);
  Deno.removeSync(`${plain}/${long}`);
  Deno.symlinkSync("x".repeat(3001), `${plain}/link`);
  for (const kind of volumeKinds) await refuses(kind, /link: what the link says is too long/);
  Deno.removeSync(`${plain}/link`);
  // So deep that the path fits in the plain home, but not where names are longer.
  const deep = Array.from({ length: 30 }, () => "d".repeat(110)).join("/");
  Deno.mkdirSync(`${plain}/${deep}`, { recursive: true });
  await refuses("encfs", /its path is too long/);
  Deno.removeSync(`${plain}/${"d".repeat(110)}`, { recursive: true });
  Deno.writeTextFileSync(`${plain}/fixed`, "");
  await execute(["chattr", "+i", `${plain}/fixed`]);
  try {
    await refuses("gocryptfs", /fixed: it is immutable/);
  } finally {
    await execute(["chattr", "-i", `${plain}/fixed`]);
  }
  Deno.mkdirSync(`${plain}/other`);
  await execute(["mount", "-t", "tmpfs", "none", `${plain}/other`]);
  try {
    await refuses("gocryptfs", /other: something is mounted there/);
  } finally {
    await execute(["umount", `${plain}/other`]);
  }
});

jailTest("a full disk is told, and everything is as it was", async () => {
  await using bench = new Bench();
  const plain = bench.path("plain");
  Deno.writeFileSync(`${plain}/large`, new Uint8Array(12_000_000).fill(1));
  const before = await listing(plain);
  await execute(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", bench.path("volume")]);
  try {
    await bench.make("gocryptfs");
    await bench.mount("gocryptfs");
    const copy = bench.copy("gocryptfs");
    assert.match(
      failureOf(await bench.perform(copy)),
      /it takes 1[23] MB, and there is room for [789] MB/,
    );
    // Where that was not to be known: something is there already.
    Deno.writeTextFileSync(`${bench.path("mount")}/earlier`, "");
    assert.match(failureOf(await bench.perform(copy)), /there is no room for it: .*large/);
    await bench.unmount();
  } finally {
    await execute(["umount", bench.path("volume")]);
  }
  assertSame(await listing(plain), before);
});

for (const kind of volumeKinds) {
  jailTest(`${kind} that dies while it is copied to is told`, async () => {
    await using bench = new Bench();
    Deno.writeFileSync(bench.path("plain/large"), new Uint8Array(100_000_000).fill(1));
    await bench.make(kind);
    const mounted = await bench.mount(kind);
    await using converting = bench.start(bench.copy(kind));
    await until("rsync is at work", () => usersOf(bench.folder).length >= 3);
    mounted?.kill("SIGKILL");
    assert.match(failureOf(await converting.answer), /rsync.*; the home is as it was$/);
  });
}

// --- Passphrases -----------------------------------------------------------------------------

for (const kind of volumeKinds) {
  jailTest(`${kind} is made by the first line alone, and gets another passphrase`, async () => {
    await using bench = new Bench();
    const volume = bench.path("volume");
    const make = { what: "make", kind, volume, scratch: bench.path("mount") };
    // No passphrase, and nobody who gives one.
    for (const nothing of ["", "\n"]) {
      assert.match(failureOf(await bench.perform(make, nothing)), /^cancelled: No passphrase/);
    }
    // One that was cut off in the middle is no obstacle.
    Deno.writeTextFileSync(`${volume}/${configName[kind]}`, "{");
    Deno.writeTextFileSync(`${volume}/gocryptfs.diriv`, "");
    await bench.make(kind, "päss word");
    const config = `${volume}/${configName[kind]}`;
    const first = Deno.readTextFileSync(config);
    // To make it once more changes nothing, and asks for nothing.
    assert.equal((await bench.perform(make)).type, "done");
    assert.equal(Deno.readTextFileSync(config), first);
    assert.equal(await bench.mount(kind, "pass word"), undefined);
    const change = {
      what: "passphrase",
      kind,
      volume,
      parent: bench.path("root"),
      scratch: ".config",
    };
    const refused: readonly (readonly [string, RegExp])[] = [
      ["wrong\nnew\n", /^wrong-passphrase: The passphrase is wrong$/],
      ["päss word\n\n", /^cancelled: /],
      ["päss word\n", /^cancelled: /],
      ["", /^(?:cancelled|wrong-passphrase): /],
    ];
    for (const [text, why] of refused) {
      assert.match(failureOf(await bench.perform(change, text)), why, text);
      assert.equal(Deno.readTextFileSync(config), first);
    }
    // Killed at whatever moment, there is a whole configuration that one of both opens.
    const random = new Random(5);
    for (let round = 0; round < 3; round++) {
      await using converting = bench.start(change, "päss word\npäss word\n");
      await new Promise((resolve) => setTimeout(resolve, random.below(400)));
      converting.kill();
      await converting.ended();
      assert(await bench.mount(kind, "päss word") !== undefined);
      await bench.unmount();
    }
    assert.equal((await bench.perform(change, "päss word\nnew\n")).type, "done");
    assert.deepEqual([...Deno.readDirSync(bench.path("root"))], []);
    const { uid, mode } = Deno.lstatSync(config);
    assert.deepEqual([uid, (mode ?? 0) & 0o777], [0, 0o600]);
    assert.equal(await bench.mount(kind, "päss word"), undefined);
    assert(await bench.mount(kind, "new") !== undefined);
  });
}

// --- Removing --------------------------------------------------------------------------------

jailTest("what an application has made is removed, and nothing else", async () => {
  await using bench = new Bench();
  const root = bench.path("root");
  const outside = bench.path("back");
  Deno.writeTextFileSync(`${outside}/precious`, "");
  Deno.mkdirSync(`${root}/tree`);
  // Far deeper than a path is long: each folder is made from within the last one.
  const script = 'chdir(shift); for (1 .. 3000) { mkdir("deeper-and-deeper"); ' +
    'chdir("deeper-and-deeper") or die } open(my $file, ">", "bottom") or die';
  assert.equal((await execute(["perl", "-e", script, `${root}/tree`])).code, 0);
  Deno.symlinkSync(outside, `${root}/tree/link`);
  Deno.symlinkSync("/", `${root}/slash`);
  Deno.mkdirSync(`${root}/tree/shut`, { mode: 0 });
  const remove = { what: "remove", folder: root };
  Deno.mkdirSync(`${root}/tree/mount`);
  await execute(["mount", "--bind", outside, `${root}/tree/mount`]);
  try {
    assert.match(failureOf(await bench.perform(remove)), /tree\/mount: something is mounted there/);
  } finally {
    await execute(["umount", `${root}/tree/mount`]);
  }
  Deno.writeTextFileSync(`${root}/fixed`, "");
  await execute(["chattr", "+i", `${root}/fixed`]);
  try {
    assert.match(failureOf(await bench.perform(remove)), /fixed: it may be immutable/);
  } finally {
    await execute(["chattr", "-i", `${root}/fixed`]);
  }
  const answer = await bench.perform(remove);
  assert.equal(answer.type, "done");
  assert.deepEqual([...Deno.readDirSync(root)], []);
  assert.deepEqual([...Deno.readDirSync(outside)].map(({ name }) => name), ["precious"]);
  // Where others than root could have a hand in it, nothing is removed.
  const theirs = await bench.perform({ what: "remove", folder: outside });
  assert.match(failureOf(theirs), /^denied: /);
});
