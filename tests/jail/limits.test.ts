/**
 * What a profile limits is limited: by a control group for the jail altogether, where the daemon may make
 * one, else by resource limits; and `status` tells which. The group goes with its jail.
 */
import assert from "node:assert/strict";
import { controllerMounts, groupsLeft } from "../cgroups.ts";
import { jailTest, uA, until, World } from "./world.ts";

const as = { uid: uA };

async function limit(world: World, name: string, limits: string): Promise<void> {
  const file = `${world.folder}/${name}.toml`;
  await Deno.writeTextFile(file, `shared = false\nlinger = 600\n[limits]\n${limits}\n`);
  const { code, stderr } = await world.client(["profile", "edit", name, file], as);
  assert.equal(code, 0, stderr);
}

/** What status says of the limits of the one jail, and the words for people. */
async function limitsIn(world: World): Promise<readonly [unknown, string]> {
  const [jail] = await world.status(uA);
  const { stdout } = await world.client(["status"], as);
  return [jail?.limits, stdout];
}

const forks = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done 2>&1; true";
/** Takes so many megabytes, and tells when it has them. */
const takes = (megabytes: number) =>
  `perl -e '$x = "a" x ${megabytes}_000_000; $| = 1; print length $x; sleep 1000 if $ARGV[0]'`;

/** A daemon that is in no group of anybody's: in the root of each hierarchy that it could use. */
const atRoot = {
  wrap: (words: readonly string[]) => [
    "sh",
    "-c",
    `for folder in ${controllerMounts().map(({ folder }) => folder).join(" ")}; do
       echo $$ > "$folder/cgroup.procs" || exit 1
     done
     exec "$@"`,
    "sh",
    ...words,
  ],
};

jailTest("control groups hold the limits of a jail for all that runs in it", async (t) => {
  await using world = await World.start({ linger: 600, ...atRoot });
  const controllers = new Set(controllerMounts().flatMap((mount) => mount.controllers));
  const by = (controller: string, otherwise: string): string =>
    controllers.has(controller) ? "cgroup" : otherwise;

  await t.step("status tells what holds them", async () => {
    await limit(world, "small", `processes = 60\nmemory = "256M"\ncpu = 150`);
    await world.shell("small", "true", as);
    const [limits, text] = await limitsIn(world);
    assert.deepEqual(limits, {
      memory: { most: 2 ** 28, by: by("memory", "rlimit") },
      processes: { most: 60, by: by("pids", "rlimit") },
      cpu: { most: 150, by: by("cpu", "nothing") },
    });
    assert.match(text, /^ {2}at most 256 MiB of memory.*, 60 processes and threads, 150 % of/m);
  });

  const folder = (controller: string): string => {
    const mount = controllerMounts().find((one) => one.controllers.includes(controller));
    assert(mount !== undefined);
    const [jail] = groupsLeft(world.runtime).filter((path) =>
      path.startsWith(mount.folder) && /\/\d+$/.test(path)
    );
    assert(jail !== undefined, `no group of ours in ${mount.folder}`);
    return jail;
  };

  await t.step("whatever joins is in it, and no more processes than it may have", async () => {
    if (!controllers.has("pids")) return;
    const { stdout, stderr } = await world.client(["run", "-p", "small", "sh", "-c", forks], as);
    assert.match(stdout + stderr, /[Cc]annot fork|Resource temporarily unavailable/);
    assert.equal(Number(Deno.readTextFileSync(`${folder("pids")}/pids.max`)), 60);
    const events = Deno.readTextFileSync(`${folder("pids")}/pids.events`);
    assert.match(events, /^max [1-9]/m, "it was not the group that refused");
  });

  await t.step("what takes more memory is ended, and its jail is not", async () => {
    if (!controllers.has("memory")) return;
    const begun = (await world.status(uA))[0]?.started;
    const { code, stdout } = await world.client(["run", "-p", "small", "sh", "-c", takes(900)], as);
    assert.deepEqual([code, stdout], [137, ""]);
    assert.equal((await world.status(uA))[0]?.started, begun);
  });

  await t.step("and one of two that together take more", async () => {
    if (!controllers.has("memory")) return;
    const words = ["run", "-p", "small", "--detach", "--", "sh", "-c", `${takes(150)} stay`];
    const runs = async (): Promise<number> => (await world.status(uA))[0]?.programs.length;
    assert.equal((await world.client(words, as)).code, 0);
    assert.equal(await runs(), 1);
    const { code } = await world.client(["run", "-p", "small", "sh", "-c", takes(150)], as);
    // Whichever it is, the kernel chooses it.
    if (code !== 137) await until("the other one is ended", async () => await runs() === 0);
    await world.client(["stop", "--force", "small"], as);
  });

  await t.step("no more of a processor than it may have", async () => {
    if (!controllers.has("cpu")) return;
    await limit(world, "slow", "cpu = 10");
    await world.shell("slow", "timeout 1 sh -c 'while :; do :; done'; true", as);
    const stat = Deno.readTextFileSync(`${folder("cpu")}/cpu.stat`);
    assert.match(stat, /^nr_throttled [1-9]/m);
  });

  await t.step("a daemon that is killed leaves it to the next", async () => {
    const before = (await limitsIn(world))[0];
    Deno.kill(world.helperPid, "SIGKILL");
    await world.daemonEnded();
    await world.startDaemon();
    assert.deepEqual((await limitsIn(world))[0], before);
    assert.notDeepEqual(groupsLeft(world.runtime), []);
  });

  await t.step("it goes with its jail, and the last with the daemon", async () => {
    await world.client(["stop", "--force", "--all"], as);
    assert.deepEqual(groupsLeft(world.runtime).filter((path) => /\/\d+$/.test(path)), []);
    await world.stopDaemon();
    assert.deepEqual(groupsLeft(world.runtime), []);
    await world.startDaemon();
  });
}, { ignore: controllerMounts().length === 0 });

jailTest("where there is no control group, resource limits hold, and status tells", async (t) => {
  await using world = await World.start({
    linger: 600,
    wrap: (words) => [
      "unshare",
      "--mount",
      "sh",
      "-c",
      '! mountpoint -q /sys/fs/cgroup || umount -l -R /sys/fs/cgroup; exec "$@"',
      "sh",
      ...words,
    ],
  });
  await limit(world, "still", `processes = 60\nmemory = "512M"\ncpu = 20`);

  await t.step("for whatever runs in it", async () => {
    assert.equal(await world.shell("still", "ulimit -p; ulimit -d", as), `60\n${512 * 1024}`);
    const { stdout, stderr } = await world.client(["run", "-p", "still", "sh", "-c", forks], as);
    assert.match(stdout + stderr, /[Cc]annot fork|Resource temporarily unavailable/);
    const { stdout: said } = await world.client(
      ["run", "-p", "still", "sh", "-c", takes(900)],
      as,
    );
    assert.equal(said, "");
  });

  await t.step("and that nothing holds its processor", async () => {
    const [limits, text] = await limitsIn(world);
    assert.deepEqual(limits, {
      memory: { most: 2 ** 29, by: "rlimit" },
      processes: { most: 60, by: "rlimit" },
      cpu: { most: 20, by: "nothing" },
    });
    assert.match(text, /512 MiB of memory for each program, .*20 % of a processor \(nothing holds/);
  });
});

jailTest("a hierarchy that must not be written is done without, and the log says so", async () => {
  const readOnly = controllerMounts()
    .map(({ folder }) => `mount --bind ${folder} ${folder} && mount -o remount,bind,ro ${folder}`);
  await using world = await World.start({
    wrap: (words) =>
      atRoot.wrap([
        "unshare",
        "--mount",
        "sh",
        "-c",
        [...readOnly, 'exec "$@"'].join(" && "),
        "sh",
        ...words,
      ]),
  });
  await limit(world, "still", "processes = 60");
  await world.shell("still", "true", as);
  assert.deepEqual((await limitsIn(world))[0], {
    memory: null,
    processes: { most: 60, by: "rlimit" },
    cpu: null,
  });
  assert.match(world.log, /no control group limits the processes of uid \d+: .*EROFS/);
}, { ignore: controllerMounts().length === 0 });
