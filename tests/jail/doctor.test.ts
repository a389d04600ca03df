/**
 * The doctor: each thing that it looks for is broken, in a place of its own; it has to find that and
 * nothing else, and the very command that it advises has to mend it.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { controllerMounts } from "../cgroups.ts";
import type { Diagnosis } from "../../core/diagnosis.ts";
import { connect, listen, peerOf } from "../../ipc/socket.ts";
import { pathOfProgram, Place, type PlaceOptions } from "./place.ts";
import { execute, firstUid, jailTest, lastUid, uA, uB, until, World } from "./world.ts";

/** The flags of a world's daemon that the doctor takes, too. */
function flagsOf(world: World): ReadonlyMap<string, string> {
  const words = world.daemonWords();
  const flags = words.slice(words.indexOf("daemon") + 1);
  const all = new Map<string, string>();
  for (let at = 0; at < flags.length; at += 2) all.set(flags[at] ?? "", flags[at + 1] ?? "");
  all.delete("--linger");
  return all;
}

/** How the doctor is called. */
interface Call {
  /** Instead of the world's; undefined leaves one out. */
  readonly flags?: Readonly<Record<string, string | undefined>>;
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** What a shell does before. */
  readonly before?: string;
}

/** What it says, by the names of its checks. */
type Report = ReadonlyMap<string, Diagnosis>;

async function callDoctor(
  place: Place,
  world: World,
  { flags = {}, uid, env, before = "true" }: Call,
): Promise<Report> {
  const all = new Map<string, string | undefined>([...flagsOf(world), ...Object.entries(flags)]);
  const words = [...all].flatMap(([flag, value]) =>
    value === undefined ? [] : `${flag} '${value}'`
  );
  const { code, stdout, stderr } = await place.shell(
    `${before}; exec appjail doctor --json ${words.join(" ")}`,
    { uid, env },
  );
  assert.equal(stderr, "");
  const { checks, failures, warnings } = JSON.parse(stdout);
  const report: Report = new Map(checks.map((one: Diagnosis) => [one.name, one]));
  const count = (result: string) => [...report.values()].filter((one) => one.result === result);
  assert.deepEqual([failures, warnings], [count("failure").length, count("warning").length]);
  assert.equal(code, failures === 0 ? 0 : 111);
  return report;
}

function results(report: Report): Readonly<Record<string, string>> {
  return Object.fromEntries([...report].map(([name, { result, found }]) => [
    name,
    // What is only not well here is compared by its words: it must not have become another trouble.
    result === "ok" || result === "unknown" ? result : `${result}: ${found}`,
  ]));
}

/** What is worse than it was; what cannot be told because of that is not. */
function worse(before: Report, after: Report): readonly string[] {
  const [was, is] = [results(before), results(after)];
  return [...after].filter(([name, { result }]) =>
    result !== "ok" && result !== "unknown" && was[name] !== is[name]
  ).map(([name]) => name);
}

/** What `apt install` would do: the package is one that there is, and has the file. */
async function wouldInstall(mend: string, path: string): Promise<void> {
  const wanted = /^apt install ([a-z0-9.+-]+)$/.exec(mend)?.[1];
  assert(wanted !== undefined, mend);
  const shown = await execute(["apt-cache", "show", "--no-all-versions", wanted]);
  assert.equal(shown.code, 0, shown.stderr);
  const { stdout } = await execute(["dpkg", "-L", wanted]);
  // Before /usr was merged, some lay elsewhere.
  assert(stdout.split("\n").some((one) => one !== "" && path.endsWith(one)), `${wanted}: ${path}`);
}

interface Trouble extends Call, PlaceOptions {
  /** What breaks, in words. */
  readonly what: string;
  /** The one check that finds it. */
  readonly check: string;
  readonly found: RegExp;
  /** What is there before anything is broken. */
  readonly prepare?: (place: Place, world: World) => Promise<void>;
  readonly breaks: (place: Place, world: World) => Promise<void>;
  /** Instead of the advice alone: whatever comes about when it is followed. */
  readonly follow?: (mend: string, place: Place, world: World) => Promise<void>;
}

const configuration = "/etc/appjail/appjail.toml";

/** The range of uids stands in a file, where advice can change it. */
const rangeInFile = {
  flags: { "--uid-range": undefined, "--config": configuration },
  prepare: async (place: Place): Promise<void> => {
    await place.must(
      `mkdir -p /etc/appjail && echo 'uid_range = "${firstUid}-${lastUid}"' > ${configuration}`,
    );
  },
} as const;

/** A folder in the place of what the kernel can be told, as far as anybody asks for it. */
async function playKernel(place: Place): Promise<void> {
  const names = "osrelease cap_last_cap overflowuid overflowgid pid_max ngroups_max";
  await place.must(
    `mkdir -p ${place.scratch}/kernel/seccomp && cd /proc/sys/kernel &&
     for name in ${names} seccomp/actions_avail; do
       cat $name > ${place.scratch}/kernel/$name || exit
     done &&
     mount --bind ${place.scratch}/kernel /proc/sys/kernel`,
  );
}

/** Devices that can be removed. */
async function ownDevices(place: Place): Promise<void> {
  const nodes = [
    ...["null 1 3", "zero 1 5", "full 1 7", "random 1 8", "urandom 1 9", "tty 5 0"],
    ...["ptmx 5 2", "fuse 10 229"],
  ];
  await place.must(
    `mkdir -p ${place.scratch}/dev/pts ${place.scratch}/dev/shm && cd ${place.scratch}/dev &&
     ${nodes.map((node) => `mknod -m 666 ${node.replace(" ", " c ")}`).join(" && ")} &&
     mount --bind ${place.scratch}/dev /dev`,
  );
}

/** Where a limit is held by a group of the root's, in which this process is already. */
function cgroupMounts(): readonly string[] {
  // There it is for systemd to do.
  if (existsSync("/run/systemd/system")) return [];
  const own = Deno.readTextFileSync("/proc/self/cgroup").split("\n").map((line) => line.split(":"));
  return controllerMounts().filter(({ controllers }) =>
    own.some(([, names = "", path]) =>
      path === "/" && (names === "" || controllers.some((one) => names.split(",").includes(one)))
    )
  ).map(({ folder }) => folder);
}

function missing(check: string, path: string, found: RegExp): Trouble {
  const [folder = "", name = ""] = /^(.*)\/(.*)$/.exec(path)?.slice(1) ?? [];
  return {
    what: `${name} is missing`,
    check,
    found,
    breaks: (place) => place.takeAway(folder, name),
    follow: async (mend, place) => {
      await wouldInstall(mend, path);
      await place.bringBack(folder);
    },
  };
}

const troubles: readonly Trouble[] = [
  // --- The daemon's folders ----------------------------------------------------------------------
  {
    what: "the data root is somebody else's",
    check: "data-root",
    found: /is uid 5's/,
    breaks: (_, { data }) => Deno.chown(data, uA, uA),
  },
  {
    what: "anybody may write to the data root",
    check: "data-root",
    found: /can be written by others/,
    breaks: (_, { data }) => Deno.chmod(data, 0o777),
  },
  {
    what: "no application may pass the data root",
    check: "data-root",
    found: /lets nobody pass/,
    breaks: (_, { data }) => Deno.chmod(data, 0o700),
  },
  {
    what: "a group may write to the state folder",
    check: "state-dir",
    found: /can be written by others/,
    breaks: (_, { state }) => Deno.chmod(state, 0o770),
  },
  {
    what: "others may look into the state folder",
    check: "state-dir",
    found: /others can look into/,
    breaks: (_, { state }) => Deno.chmod(state, 0o755),
  },
  {
    what: "a step on the way to the state folder is somebody else's",
    check: "state-dir",
    found: /on the way to .*, is uid 6's/,
    flags: { "--state-dir": "/etc/way/state" },
    prepare: async (place) =>
      void await place.must("mkdir -p /etc/way/state && chmod 700 /etc/way/state"),
    breaks: async (place) => void await place.must(`chown ${uB} /etc/way`),
  },
  {
    what: "nobody but root reaches the daemon's folder",
    check: "runtime-dir",
    found: /lets nobody pass/,
    breaks: (_, { runtime }) => Deno.chmod(runtime, 0o700),
  },
  {
    what: "a person may not connect to the daemon's socket",
    check: "daemon",
    found: /you may not connect/,
    uid: uA,
    breaks: (_, { socket }) => Deno.chmod(socket, 0o600),
    follow: async (mend, place) => void await place.must(mend.replace(/^sudo /, "")),
  },
  {
    what: "the registry is not root's",
    check: "registry",
    found: /is uid 5's/,
    breaks: (_, { state }) => Deno.chown(`${state}/uids.json`, uA, 0),
  },
  {
    what: "a home is somebody else's",
    check: "homes",
    found: /the home of work, .* is 6:6's/,
    breaks: (_, { data }) => Deno.chown(`${data}/${firstUid}`, uB, uB),
  },
  {
    what: "a home is open to others",
    check: "homes",
    found: /open to others/,
    breaks: (_, { data }) => Deno.chmod(`${data}/${firstUid}`, 0o755),
  },
  {
    what: "there is no room for homes",
    check: "disk-space",
    found: /are free for/,
    prepare: async (place, { data }) =>
      void await place.must(`mount -t tmpfs -o mode=711,size=900M tmpfs ${data}`),
    breaks: async (place, { data }) => void await place.must(`fallocate -l 895M ${data}/large`),
  },

  // --- Uids --------------------------------------------------------------------------------------
  {
    what: "a person's uid lies among those for profiles",
    check: "uid-range",
    found: new RegExp(`${firstUid + 40} is the user late`),
    ...rangeInFile,
    breaks: async (place) =>
      void await place.must(`useradd --uid ${firstUid + 40} --gid ${uA} --no-create-home late`),
  },
  {
    what: "a person may become uids that are for profiles",
    check: "uid-range",
    found: /\/etc\/subuid lets games become/,
    ...rangeInFile,
    breaks: async (place) =>
      void await place.must(`echo games:${firstUid + 50}:65536 >> /etc/subuid`),
  },
  {
    what: "the uid of a profile has become somebody's",
    check: "uid-range",
    found: /which is work's, has become that of the user late/,
    breaks: async (place) =>
      void await place.must(`useradd --uid ${firstUid} --gid ${uA} --no-create-home late`),
  },
  {
    what: "the dispatcher's user is not there",
    check: "dispatcher-user",
    found: /there is no such user/,
    flags: { "--user": "dispatcher" },
    prepare: async (place) => void await place.must("useradd --system dispatcher"),
    breaks: async (place) => void await place.must("userdel dispatcher"),
  },
  {
    what: "others may write the configuration",
    check: "configuration",
    found: /writable by nobody else/,
    ...rangeInFile,
    breaks: async (place) => void await place.must("chmod 666 /etc/appjail/appjail.toml"),
  },
  {
    what: "the configuration is not root's",
    check: "configuration",
    found: /has to be root's/,
    ...rangeInFile,
    breaks: async (place) => void await place.must(`chown ${uA} /etc/appjail/appjail.toml`),
  },
  {
    what: "a profile of the administrator's makes no sense",
    check: "profiles",
    found: /bad\.toml:1: /,
    breaks: (_, { folder }) => Deno.writeTextFile(`${folder}/admin/bad.toml`, "colour = 1\n"),
    follow: async (mend, place, { folder }) => {
      await place.must(mend);
      await Deno.remove(`${folder}/admin/bad.toml.broken`);
    },
  },

  // --- The kernel --------------------------------------------------------------------------------
  {
    what: "there may be no user namespace",
    check: "max-user-namespaces",
    found: /user\.max_user_namespaces is 0/,
    users: true,
    breaks: async (place) => void await place.must("sysctl -q -w user.max_user_namespaces=0"),
  },
  {
    what: "only root may make user namespaces",
    check: "unprivileged-userns-clone",
    found: /kernel\.unprivileged_userns_clone is 0/,
    prepare: async (place) => {
      await playKernel(place);
      await place.must("echo 1 > /proc/sys/kernel/unprivileged_userns_clone");
    },
    breaks: async (place) =>
      void await place.must("echo 0 > /proc/sys/kernel/unprivileged_userns_clone"),
  },
  {
    what: "the kernel is old",
    check: "kernel",
    found: /Linux 5\.4\.0-test: 5\.8 is the least/,
    prepare: playKernel,
    breaks: async (place) => void await place.must("echo 5.4.0-test > /proc/sys/kernel/osrelease"),
    follow: async (mend, place) => {
      const wanted = /^apt install (linux-image-\S+)$/.exec(mend)?.[1] ?? mend;
      const { code, stdout } = await execute(["apt-cache", "show", "--no-all-versions", wanted]);
      assert.equal(code, 0, mend);
      // It brings one that will do.
      const [, version = ""] = /^Version: (\S+)/m.exec(stdout) ?? [];
      await place.must(`echo ${version}-amd64 > /proc/sys/kernel/osrelease`);
    },
  },
  {
    what: "the device of FUSE is missing",
    check: "fuse",
    found: /there is no \/dev\/fuse/,
    prepare: ownDevices,
    breaks: async (place) => void await place.must("rm /dev/fuse"),
  },
  {
    what: "something else stands in the place of FUSE's device",
    check: "fuse",
    found: /is not FUSE's device/,
    prepare: ownDevices,
    breaks: async (place) => void await place.must("rm /dev/fuse && touch /dev/fuse"),
  },
  ...cgroupMounts().slice(0, 1).map((mount): Trouble => ({
    what: "the control groups are read-only",
    check: "control-groups",
    found: /is read-only/,
    breaks: async (place) => void await place.must(`mount -o remount,ro,bind ${mount}`),
  })),

  // --- Programs ----------------------------------------------------------------------------------
  missing("bubblewrap", "/usr/bin/bwrap", /no jail can be started/),
  missing("util-linux", "/usr/bin/prlimit", /no jail can be started/),
  missing("encfs", "/usr/bin/encfs", /no home of encfs can be opened/),
  missing("gocryptfs", "/usr/bin/gocryptfs", /no home of gocryptfs can be opened/),
  missing("rsync", "/usr/bin/rsync", /no home can be encrypted/),
  missing("xdg-dbus-proxy", "/usr/bin/xdg-dbus-proxy", /no jail has a part/),
  missing("xauth", "/usr/bin/xauth", /no jail gets a cookie/),
  missing("dbus-daemon", "/usr/bin/dbus-daemon", /no jail has a session bus/),
  {
    what: "bubblewrap is old",
    check: "bubblewrap",
    found: /bubblewrap 0\.4\.1: 0\.5 is the least/,
    breaks: async (place) => {
      await place.takeAway("/usr/bin", "bwrap");
      await place.must(
        "printf '#!/bin/sh\\necho bubblewrap 0.4.1\\n' > /usr/bin/bwrap; chmod 755 /usr/bin/bwrap",
      );
    },
    follow: async (mend, place) => {
      await wouldInstall(mend, "/usr/bin/bwrap");
      await place.bringBack("/usr/bin");
    },
  },
];

jailTest(
  "each of many troubles is found, alone, and ends with what the doctor advises",
  async (t) => {
    await using world = await World.start();
    assert.equal(await world.run("work", ["true"], { uid: uA }), "");
    let usual: Report | undefined;
    for (const trouble of troubles) {
      await t.step(trouble.what, async () => {
        const { check, found, prepare, breaks, follow } = trouble;
        await using place = await Place.start(`${world.folder}/place`, trouble);
        await prepare?.(place, world);
        const isUsual = prepare === undefined && trouble.uid === undefined;
        const before = isUsual && usual !== undefined
          ? usual
          : await callDoctor(place, world, trouble);
        if (isUsual) usual = before;
        await breaks(place, world);
        const broken = await callDoctor(place, world, trouble);
        assert.deepEqual(
          worse(before, broken),
          [check],
          JSON.stringify([...broken.values()], null, 1),
        );
        const { found: words, mend } = broken.get(check) ?? {};
        assert.match(words ?? "", found);
        assert(mend !== null && mend !== undefined, `no advice: ${words}`);
        if (follow === undefined) await place.must(mend);
        else await follow(mend, place, world);
        assert.deepEqual(results(await callDoctor(place, world, trouble)), results(before));
      });
    }
  },
);

// --- The daemon ----------------------------------------------------------------------------------

/** Follows advice that starts a daemon, which stays in front; ends it when all is well again. */
async function followedByDaemon(
  mend: string,
  place: Place,
  world: World,
  before: Report,
  call: Call = {},
): Promise<void> {
  const [command = "", ...args] = place.words(["sh", "-c", mend]);
  const child = new Deno.Command(command, {
    args,
    env: { ...pathOfProgram() },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await using daemon = new AsyncDisposableStack();
  daemon.defer(async () => {
    endListener(world.socket);
    await child.status;
  });
  await until("the daemon is well", async () => {
    const now = await callDoctor(place, world, call);
    return JSON.stringify(results(now)) === JSON.stringify(results(before));
  });
}

/** Ends whoever listens there, in order. */
function endListener(path: string): void {
  using socket = connect(path);
  Deno.kill(peerOf(socket.number).pid, "SIGTERM");
}

/** The advice for what is worse than before, which has to be one check alone. */
function adviceFor(check: string, found: RegExp, before: Report, now: Report): string {
  assert.deepEqual(worse(before, now), [check], JSON.stringify([...now.values()], null, 1));
  const { found: words, mend } = now.get(check) ?? {};
  assert.match(words ?? "", found);
  assert(mend !== null && mend !== undefined, `no advice: ${words}`);
  return mend;
}

jailTest("a daemon that is not there is started as the doctor says", async () => {
  await using world = await World.start();
  await using place = await Place.start(`${world.folder}/place`);
  const before = await callDoctor(place, world, {});
  assert.equal(await world.stopDaemon(), 0);
  const now = await callDoctor(place, world, {});
  const mend = adviceFor("daemon", /there is no .*appjail\.sock/, before, now);
  await followedByDaemon(mend, place, world, before);
});

jailTest("a socket that a killed daemon has left is told from a living one", async () => {
  await using world = await World.start();
  await using place = await Place.start(`${world.folder}/place`);
  const before = await callDoctor(place, world, {});
  const dispatcher = await world.dispatcherPid();
  Deno.kill(world.helperPid, "SIGKILL");
  await world.daemonEnded();
  await until("its dispatcher leaves", () => !existsSync(`/proc/${dispatcher}`));
  const now = await callDoctor(place, world, {});
  const mend = adviceFor("daemon", /nobody listens at .*, although it is there/, before, now);
  await followedByDaemon(mend, place, world, before);
  // What the killed one had mounted is for its like to take away.
  await world.startDaemon();
});

jailTest(
  "a daemon of another version is ended, and this one's started, as the doctor says",
  async () => {
    await using world = await World.start();
    await using place = await Place.start(`${world.folder}/place`);
    const before = await callDoctor(place, world, {});
    assert.equal(await world.stopDaemon(), 0);
    await Deno.mkdir(world.runtime, { mode: 0o755 });
    const script = new URL("old-daemon.ts", import.meta.url).pathname;
    const old = new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "-A", "--no-check", script, world.socket],
      stdout: "piped",
    }).spawn();
    const ready = await old.stdout.pipeThrough(new TextDecoderStream()).getReader().read();
    assert.equal(ready.value, "ready\n");
    const now = await callDoctor(place, world, {});
    const mend = adviceFor("version", /the daemon is 0\.0\.1, of protocol 1, and/, before, now);
    assert.match(mend, new RegExp(`^kill ${old.pid}; `));
    await followedByDaemon(mend, place, world, before);
    assert.equal((await old.status).signal, "SIGTERM");
  },
);

/** The usual configuration of a system bus; where there is none, Debian's bus is not installed. */
const usualBus = "/usr/share/dbus-1/system.conf";

jailTest("a system bus's policy, the bus itself and the daemon's name on it", async () => {
  await using world = await World.start();
  assert.equal(await world.stopDaemon(), 0);
  await using place = await Place.start(`${world.folder}/place`);
  const call = { flags: { "--bus": "system" } };
  const file = "/etc/dbus-1/system.d/org.appjail.AppJail.conf";
  await place.must(`appjail doctor --bus-policy --user nobody > ${file}`);
  const startBus = (): Promise<string> =>
    place.must("mkdir -p /run/dbus; dbus-daemon --system --fork");
  const endBus = (): Promise<string> =>
    place.must(
      'pid=$(cat /run/dbus/pid); kill "$pid"; tail --pid="$pid" -f /dev/null; rm /run/dbus/pid',
    );
  await startBus();
  await using ending = new AsyncDisposableStack();
  ending.defer(async () => void await endBus());
  const words = [...world.daemonWords()];
  words[words.indexOf("--bus") + 1] = "system";
  const [command = "", ...args] = place.words(words);
  const daemon = new Deno.Command(command, { args, stdin: "null", stderr: "null" }).spawn();
  ending.defer(async () => {
    daemon.kill("SIGTERM");
    await daemon.status;
  });
  const isWell = async (): Promise<Report | undefined> => {
    const now = await callDoctor(place, world, call);
    return now.get("bus-name")?.result === "ok" ? now : undefined;
  };
  const before = await until("the daemon is on the bus", isWell);

  await place.must(`rm ${file}`);
  const policy = adviceFor(
    "bus-policy",
    /the system bus has no policy/,
    before,
    await callDoctor(place, world, call),
  );
  await place.must(policy);
  assert.deepEqual(results(await callDoctor(place, world, call)), results(before));

  // The bus has gone.
  await endBus();
  const bus = adviceFor(
    "bus-name",
    /Cannot reach the bus/,
    before,
    await callDoctor(place, world, call),
  );
  await place.must(bus);
  assert.deepEqual(results(await until("the daemon is back", isWell)), results(before));

  // The bus was started before there was a policy, and has not noticed that there is one now.
  await endBus();
  await place.must(`mkdir ${place.scratch}/policies && mv ${file} ${place.scratch}/policies`);
  await startBus();
  await place.must(`mount --bind ${place.scratch}/policies /etc/dbus-1/system.d`);
  const name = adviceFor(
    "bus-name",
    /nobody has the name/,
    before,
    await callDoctor(place, world, call),
  );
  await place.must(name);
  assert.deepEqual(results(await until("the daemon has its name", isWell)), results(before));
}, { ignore: !existsSync(usualBus) });

// --- Who calls it --------------------------------------------------------------------------------

jailTest("the session's variables are looked after, too", async () => {
  await using world = await World.start();
  await using place = await Place.start(`${world.folder}/place`);
  const session = `${world.folder}/session`;
  await Deno.mkdir(`${session}/pulse`, { recursive: true });
  using _compositor = listen(`${session}/wayland-1`);
  using _sound = listen(`${session}/pulse/native`);
  const well = { XDG_RUNTIME_DIR: session, WAYLAND_DISPLAY: "wayland-1" };
  const before = await callDoctor(place, world, { env: well });
  for (
    const [check, env, found] of [
      ["compositor", { WAYLAND_DISPLAY: "wayland-0" }, /WAYLAND_DISPLAY is wayland-0/],
      ["sound", { PULSE_SERVER: "unix:/nowhere" }, /PULSE_SERVER is unix:\/nowhere/],
      ["sound", { PIPEWIRE_REMOTE: "nowhere" }, /PIPEWIRE_REMOTE is nowhere/],
    ] as const
  ) {
    const call = { env: { ...well, ...env } };
    const mend = adviceFor(check, found, before, await callDoctor(place, world, call));
    assert.deepEqual(
      results(await callDoctor(place, world, { ...call, before: mend })),
      results(before),
    );
  }
  const x11 = { DISPLAY: ":77", WAYLAND_DISPLAY: "" };
  const now = await callDoctor(place, world, { env: { ...well, ...x11 } });
  assert.equal(adviceFor("compositor", /no X server listens/, before, now), "unset DISPLAY");
});

jailTest("whoever is not root is told what takes root, and how to become it", async () => {
  await using world = await World.start();
  await using place = await Place.start(`${world.folder}/place`);
  const asRoot = await callDoctor(place, world, {});
  const report = await callDoctor(place, world, { uid: uA });
  assert.deepEqual([...report.keys()], [...asRoot.keys()]);
  assert.deepEqual(worse(asRoot, report), []);
  const untold = [...report.values()].filter(({ result }) => result === "unknown");
  assert.deepEqual(
    untold.map(({ name }) => name).sort(),
    ["control-groups", "homes", "id-mapped-data", "id-mapped-home", "registry"],
  );
  for (const { found } of untold) assert.equal(found, "it takes root to tell: sudo appjail doctor");
  await Deno.chmod(world.data, 0o777);
  const broken = await callDoctor(place, world, { uid: uA });
  const mend = adviceFor("data-root", /can be written by others/, report, broken);
  assert.equal(mend, `sudo chmod go-w ${world.data}`);
});

jailTest("for people there is a line for each check, and the advice below it", async () => {
  await using world = await World.start();
  await using place = await Place.start(`${world.folder}/place`);
  await Deno.chmod(world.data, 0o777);
  const flags = [...flagsOf(world)].flatMap(([flag, value]) => [flag, value]).join(" ");
  const { code, stdout, stderr } = await place.shell(`appjail doctor ${flags}`);
  assert.deepEqual([code, stderr], [111, ""]);
  assert.match(stdout, /^ok {7}bubblewrap +bubblewrap \d/m);
  const line = stdout.split("\n").findIndex((one) => /^failure {2}data-root /.test(one));
  assert.equal(stdout.split("\n")[line + 1], `         try: chmod go-w ${world.data}`);
  assert.match(stdout, /\n\n1 failure, \d+ warnings?\n$/);
  assert(!stdout.includes("\x1b"));
});
