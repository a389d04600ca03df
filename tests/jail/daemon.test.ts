/**
 * The daemon as root starts, stops and mistreats it: what it refuses in one line, what it leaves
 * when it goes, and that the jails do not notice.
 */
import assert from "node:assert/strict";
import { identify } from "../../core/process.ts";
import {
  appProcesses,
  asUser,
  execute,
  firstUid,
  jailTest,
  type Outcome,
  uA,
  until,
  World,
} from "./world.ts";

/** Starts a daemon that is to end by itself, and with one line. */
async function refusal(
  words: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const outcome = await execute(["timeout", "20", ...words], { env });
  assert.match(outcome.stderr, /^appjail(-helper)?: [^\n]+\n$/, words.join(" "));
  assert.doesNotMatch(outcome.stderr, /\.ts:|\.js:|Uncaught| {4}at /);
  assert.equal(outcome.stdout, "");
  return outcome;
}

/** The daemon's words with other values for some flags; `undefined` leaves a flag out. */
function instead(
  world: World,
  flags: Readonly<Record<string, string | undefined>>,
): readonly string[] {
  const words = [...world.daemonWords()];
  for (const [flag, value] of Object.entries(flags)) {
    const at = words.indexOf(flag);
    if (at >= 0) words.splice(at, 2);
    if (value !== undefined) words.push(flag, value);
  }
  return words;
}

const names = (folder: string): readonly string[] =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** A world whose daemon was stopped, so that another can be started by hand. */
async function stoppedWorld(): Promise<World> {
  const world = await World.start();
  assert.equal(await world.stopDaemon(), 0);
  return world;
}

jailTest("who is not root, and what makes no sense, is told so in a line", async () => {
  await using world = await stoppedWorld();
  const user = await refusal(asUser(uA, world.daemonWords()));
  assert.equal(user.code, 100);
  assert.match(user.stderr, /that takes root; try: sudo appjail daemon/);
  for (
    const [flag, value, says] of [
      [
        "--user",
        "no-such-user",
        /--user no-such-user: there is no such user; try: useradd --system/,
      ],
      ["--user", "root", /must not be root/],
      ["--user", `${firstUid}`, /lies in the --uid-range/],
      ["--user", "4294967295", /is no uid/],
      ["--data-root", "data", /--data-root data: it has to be an absolute path/],
      ["--state-dir", "", /it has to be an absolute path/],
      ["--runtime-dir", `${world.folder}/../run`, /it has to be an absolute path, without \.\./],
      ["--runtime-dir", `/tmp/${"x".repeat(90)}`, /too long/],
      ["--uid-range", "10-20", /--uid-range: it has to lie above 999/],
      ["--uid-range", "x", /--uid-range: it has to be FIRST-LAST/],
      ["--network", "all", /Cannot start the daemon/],
      ["--bus", "session", /DBUS_SESSION_BUS_ADDRESS is not set/],
    ] as const
  ) {
    const { code, stderr } = await refusal(instead(world, { [flag]: value }));
    assert.equal(code, 100, `${flag} ${value}`);
    assert.match(stderr, says);
  }
  const twice = await refusal([...world.daemonWords(), "--user", "man"]);
  assert.equal(twice.code, 100);
  assert.match(twice.stderr, /Cannot use "--user": it was given before/);
  assert.deepEqual(names(world.folder), ["admin", "data", "profiles", "state"]);
});

// More of them, without a daemon, in tests/cmd/daemon.test.ts.
jailTest("a configuration is root's and understood, or the daemon does not start", async () => {
  await using world = await stoppedWorld();
  const path = `${world.folder}/appjail.toml`;
  const words = instead(world, { "--config": path });
  const write = (text: string): void => Deno.writeTextFileSync(path, text, { mode: 0o644 });
  const wrong: readonly (readonly [what: string, make: () => void, says: RegExp])[] = [
    ["none", () => {}, /ENOENT/],
    ["an unknown word", () => write('colour = "red"\n'), /colour/],
    ["no TOML at all", () => write("\0\x1b[2J\n\n"), /./],
    ["far too much", () => write("#".repeat(2 * 1024 * 1024)), /EFBIG/],
    ["a link", () => {
      write("");
      Deno.renameSync(path, `${world.folder}/there`);
      Deno.symlinkSync("there", path);
    }, /ELOOP/],
    ["a folder", () => Deno.mkdirSync(path), /it is not a file/],
    [
      "a FIFO",
      () => void new Deno.Command("mkfifo", { args: [path] }).outputSync(),
      /it is not a file/,
    ],
  ];
  for (const [what, make, says] of wrong) {
    make();
    const { code, stderr } = await refusal(words);
    assert.equal(code, 100, what);
    assert(stderr.startsWith(`appjail: Cannot use the configuration ${path}: `), stderr);
    assert.match(stderr, says, what);
    await Deno.remove(path).catch(() => {});
  }
});

jailTest("a flag beats the configuration, which beats what is built in", async () => {
  const config = Deno.makeTempFileSync({ suffix: ".toml" });
  Deno.writeTextFileSync(
    config,
    'uid_range = "2000-2001"\nuser = "root"\nlinger = 86400\nnetwork = "none"\nbus = "system"\n',
  );
  try {
    await using world = await World.start({ flags: ["--config", config] });
    const interfaces = "ls /proc/self/fd > /dev/null; grep -c : /proc/net/dev";
    assert.equal(await world.shell("mine", `id -u; ${interfaces}`), `${firstUid}\n1`);
  } finally {
    Deno.removeSync(config);
  }
});

jailTest("a folder of the daemon's is root's, and so is the way to it", async () => {
  await using world = await stoppedWorld();
  const place = `${world.folder}/place`;
  const folder = (path: string, uid: number, mode: number): void => {
    Deno.mkdirSync(path);
    Deno.chownSync(path, uid, uid);
    Deno.chmodSync(path, mode);
  };
  const bad: readonly (readonly [what: string, make: () => void, below?: string])[] = [
    ["somebody else's", () => folder(place, uA, 0o755)],
    ["writable by all", () => folder(place, 0, 0o777)],
    ["writable by all, and sticky", () => folder(place, 0, 0o1777)],
    ["writable by a group", () => folder(place, 0, 0o775)],
    ["a link", () => Deno.symlinkSync("/var", place)],
    ["a link to nothing", () => Deno.symlinkSync("nothing", place)],
    ["a file", () => Deno.writeTextFileSync(place, "")],
    ["below somebody else's", () => folder(place, uA, 0o755), "/below"],
    ["below one that all can write", () => folder(place, 0, 0o777), "/below"],
    ["below somebody else's link", () => {
      folder(`${world.folder}/there`, 0, 0o755);
      Deno.symlinkSync("there", place);
      new Deno.Command("chown", { args: ["-h", `${uA}`, place] }).outputSync();
    }, "/below"],
    ["behind a link into somebody else's", () => {
      folder(`${world.folder}/there`, uA, 0o755);
      folder(`${world.folder}/there/deep`, 0, 0o755);
      Deno.symlinkSync("there/deep", place);
    }, "/below"],
  ];
  const flags = ["--runtime-dir", "--state-dir", "--data-root"];
  for (const [index, [what, make, below = ""]] of bad.entries()) {
    // All three are opened alike: one of them hears each case, and each hears some.
    for (const flag of index === 0 ? flags : flags.slice(index % 3, index % 3 + 1)) {
      make();
      const before = Deno.lstatSync(place);
      const { code, stderr } = await refusal(instead(world, { [flag]: place + below }));
      assert.equal(code, 111, `${flag}: ${what}`);
      assert(
        stderr.includes(`Cannot use the folder ${place}${below}: `),
        `${flag}, ${what}: ${stderr}`,
      );
      const after = Deno.lstatSync(place);
      assert.deepEqual([after.uid, after.gid, after.mode], [before.uid, before.gid, before.mode]);
      if (before.isDirectory && below === "") assert.deepEqual(names(place), []);
      Deno.removeSync(place, { recursive: true });
      await Deno.remove(`${world.folder}/there`, { recursive: true }).catch(() => {});
    }
  }
  // One that is root's, wherever links of root's lead, is used and has its socket.
  folder(`${world.folder}/there`, 0, 0o755);
  Deno.symlinkSync("there", place);
  await using other = await World.start({
    wrap: (words) =>
      words.map((word, at) => words[at - 1] === "--data-root" ? `${place}/data` : word),
  });
  assert.equal(await other.shell("mine", "id -u"), String(firstUid));
  assert.deepEqual(names(`${world.folder}/there/data`), [".lock", String(firstUid)]);
});

/** A program that counts, so that a pause or an end would show. */
const counting = "echo $$ > ~/pid; n=0; while :; do n=$((n+1)); echo $n > ~/.n; mv ~/.n ~/n; done";

jailTest("jails stay when the daemon leaves or is killed, and the next one has them", async () => {
  await using world = await World.start();
  const options = { uid: uA };
  const run = ["run", "--detach", "-p", "mine", "--", "sh", "-c", counting];
  const detached = await world.client(run, options);
  assert.equal(detached.stdout, "mine.1\n", detached.stderr);
  const count = (): number => {
    try {
      return Number(Deno.readTextFileSync(`${world.data}/${firstUid}/n`));
    } catch {
      return 0;
    }
  };
  await until("the program counts", () => count() > 0);
  await world.shell("mine", "echo here > /tmp/note", options);
  // In front of somebody, with an exit status that is still to come.
  const front = world.spawn(
    ["run", "-p", "mine", "--", "sh", "-c", "read line; exit $line"],
    options,
  );
  await until("two programs run", async () => (await world.status(uA))[0]?.programs.length === 2);
  const [before] = await world.status(uA);
  const jailer = identify(before.jailer_pid);
  const known = ({ jailer_pid, uid, profile, started, programs }: Record<string, unknown>) => ({
    jailer_pid,
    uid,
    profile,
    started,
    programs,
  });

  const ways: readonly (readonly [what: string, leave: () => Promise<void>])[] = [
    ["the dispatcher is killed", async () => {
      const pid = await world.dispatcherPid();
      const said = world.log.length;
      Deno.kill(pid, "SIGKILL");
      await until("another is ready", () => /dispatcher: ready/.test(world.log.slice(said)));
      assert.notEqual(await world.dispatcherPid(), pid);
    }],
    ["the helper is killed", async () => {
      Deno.kill(world.helperPid, "SIGKILL");
      await world.daemonEnded();
      await world.startDaemon();
    }],
    ["both are killed", async () => {
      Deno.kill(await world.dispatcherPid(), "SIGKILL");
      Deno.kill(world.helperPid, "SIGKILL");
      await world.daemonEnded();
      await world.startDaemon();
    }],
    ["the daemon is told to leave", async () => {
      assert.equal(await world.stopDaemon(), 0);
      assert.match(world.log, /helper: leaving; 1 jail stays/);
      // Neither its socket nor its mount is left, and what runs runs on, with what it is lent.
      assert.deepEqual(names(world.runtime), ["ctl", "jails", "lock", "program"]);
      const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n")
        .filter((line) => line.includes(world.folder));
      assert.deepEqual(mounts.map((line) => line.split(" ")[1]), [
        `${world.runtime}/jails/${before.uid}/lend`,
      ]);
      const alone = count();
      await until("the program counts without a daemon", () => count() > alone);
      await world.startDaemon();
    }],
  ];
  for (const [what, leave] of ways) {
    const at = count();
    await leave();
    await until(`the program counts after ${what}`, () => count() > at);
    assert.deepEqual(identify(before.jailer_pid), jailer, what);
    const [now, ...more] = await world.status(uA);
    assert.deepEqual(known(now), known(before), what);
    assert.deepEqual(more, []);
    assert.equal(await world.shell("mine", "id -u; cat /tmp/note", options), `${firstUid}\nhere`);
  }

  const writer = front.stdin.getWriter();
  await writer.write(new TextEncoder().encode("7\n"));
  await writer.close();
  const { code, stderr } = await front.output();
  assert.equal(code, 7, new TextDecoder().decode(stderr));
  const stopped = await world.client(["stop", "mine"], options);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.deepEqual(appProcesses(), []);
  assert.equal(await world.stopDaemon(), 0);
  assert.deepEqual(names(world.folder), ["admin", "data", "profiles", "state"]);
});

jailTest("each signal that means to leave is obeyed, also before the daemon is ready", async () => {
  await using world = await World.start();
  for (const signal of ["SIGINT", "SIGHUP", "SIGTERM"] as const) {
    Deno.kill(world.helperPid, signal);
    assert.equal(await world.daemonEnded(), 0, signal);
    assert.deepEqual(names(world.folder), ["admin", "data", "profiles", "state"]);
    await world.startDaemon();
  }
  await world.stopDaemon();
  // However early it comes, the next daemon starts.
  const [command = "", ...args] = world.daemonWords();
  for (const seen of ["run", "run/lock", "run/program", "run/appjail.sock"]) {
    const early = new Deno.Command(command, { args, stderr: "null" }).spawn();
    await until(
      `${seen} is there`,
      () => Deno.lstat(`${world.folder}/${seen}`).then(() => true, () => false),
    );
    early.kill("SIGTERM");
    await early.status;
  }
  await world.startDaemon();
  assert.equal(await world.shell("mine", "id -u"), String(firstUid));
});

jailTest("without a bus the socket is served, and the trouble told once", async () => {
  // The address is the bus's that there will be.
  const address = (folder: string) => `unix:path=${folder}/late`;
  await using world = await World.start({
    wrap: (words, folder) =>
      words.map((word, at) => words[at - 1] === "--bus" ? address(folder) : word),
  });
  const told = () => world.log.match(/not on the bus/g)?.length ?? 0;
  await until("the trouble is told", () => told() === 1);
  assert.equal(await world.shell("mine", "id -u"), String(firstUid));
  const config = `${world.folder}/bus.conf`;
  Deno.writeTextFileSync(
    config,
    `<busconfig><type>system</type><listen>${address(world.folder)}</listen>
<auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*"/><allow receive_type="method_return"/></policy></busconfig>`,
  );
  const bus = new Deno.Command("dbus-daemon", {
    args: ["--nofork", "--nopidfile", `--config-file=${config}`],
    stderr: "null",
  }).spawn();
  try {
    await until(
      "the bus listens",
      () => Deno.lstat(`${world.folder}/late`).then(() => true, () => false),
    );
    Deno.chmodSync(`${world.folder}/late`, 0o777);
    await until("it is on the bus", () => world.log.includes("on the bus as org.appjail"), 40);
    assert.equal(told(), 1);
  } finally {
    bus.kill("SIGKILL");
    await bus.status;
  }
  await until("it is told that the bus has gone", () => world.log.includes("off the bus"));
  assert.equal(await world.shell("mine", "id -u"), String(firstUid));
});
