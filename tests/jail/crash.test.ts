/**
 * Helper and dispatcher, killed with -9 at every step of a cold start. Nothing that is half made
 * stays, no process of root's, no mount; and the next start works without a hand.
 */
import assert from "node:assert/strict";
import type { Channel } from "../../ipc/channel.ts";
import type { DispatcherToClient } from "../../core/protocol.ts";
import { runMessage } from "./peer.ts";
import { answerOf, askAs } from "./stand-in.ts";
import { appProcesses, firstUid, jailTest, lastUid, uA, uidsOf, until, World } from "./world.ts";

function run(world: World, profile: string): Channel<DispatcherToClient, unknown> {
  return askAs(uA, world, runMessage(profile, ["true"], "log"));
}

function names(folder: string): readonly string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

/** The processes that have to do with a world and are no jail's. */
function daemonsOf(world: World): readonly string[] {
  return names("/proc").filter((pid) => /^[0-9]+$/.test(pid)).flatMap((pid) => {
    const [uid = firstUid] = uidsOf(pid);
    if (uid >= firstUid && uid <= lastUid) return [];
    try {
      const words = Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ");
      return words.includes(world.folder) ? [`${pid} ${words}`] : [];
    } catch {
      return []; // It has ended.
    }
  });
}

/** What has to hold after a crash and one more run, for each profile that was being started. */
async function whole(world: World, profiles: readonly string[]): Promise<void> {
  const ran: Record<string, number> = {};
  for (const profile of profiles) {
    const answer = await answerOf(run(world, profile));
    assert(answer?.type === "started", `${profile}: ${JSON.stringify(answer)}`);
    ran[profile] = answer.uid;
  }
  const { uids } = JSON.parse(Deno.readTextFileSync(`${world.state}/uids.json`));
  for (const profile of profiles) {
    const given = uids.filter((entry: { profile: string }) => entry.profile === profile);
    assert.deepEqual(given.map((entry: { uid: number }) => entry.uid), [ran[profile]], profile);
    const { uid, gid, mode } = Deno.lstatSync(`${world.data}/${ran[profile]}`);
    assert.deepEqual([uid, gid, (mode ?? 0) & 0o7777], [ran[profile], ran[profile], 0o700]);
  }
  await answerOf(
    askAs(uA, world, { type: "stop", profiles: [], force: true, timeout: 0, lock: false }),
  );
  await until("the jails have ended", () => names(`${world.runtime}/jails`).length === 0);
  assert.deepEqual(appProcesses(), []);
  const homes = uids.map((entry: { uid: number }) => String(entry.uid)).sort();
  assert.deepEqual(names(world.data), [".lock", ...homes]);
  assert.deepEqual(names(world.state), ["lock", "profiles", "uids.json"]);
  assert.deepEqual(names(`${world.runtime}/ctl`), []);
  const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n").filter((line) =>
    line.includes(world.folder)
  );
  assert.equal(mounts.length, 1, mounts.join("\n"));
}

/** Starts the daemon again where it has gone, and looks whether all is well. */
async function recover(world: World, helper: boolean, profiles: readonly string[]): Promise<void> {
  if (helper) {
    await world.daemonEnded();
    await until("no process of the daemon's is left", () => daemonsOf(world).length === 0);
    await world.startDaemon();
  }
  await whole(world, profiles);
}

jailTest(
  "a daemon that is killed at any step of a start leaves no half of it",
  async () => {
    await using world = await World.start();
    let uid = firstUid - 1;
    // In the order in which they come; each is looked for until it is there, and then it is too late.
    const steps: readonly (readonly [what: string, seen: () => boolean])[] = [
      ["the request is under way", () => true],
      ["the registry is being written", () => exists(`${world.state}/.uids.json.new`)],
      ["the uid is given", () => names(world.state).includes("uids.json") && given()],
      ["the home is being made", () => exists(`${world.data}/.${uid}.new`)],
      ["the home is there", () => exists(`${world.data}/${uid}`)],
      ["the jail's folder is there", () => exists(`${world.runtime}/jails/${uid}`)],
      ["what is lent has a place", () => exists(`${world.runtime}/jails/${uid}/lend`)],
      ["the lock is there", () => exists(`${world.runtime}/jails/${uid}/lock`)],
      ["the jailer's socket is there", () => exists(`${world.runtime}/ctl/${uid}.sock`)],
      ["something runs", () => appProcesses(uid).length > 0],
      ["the state is being written", () => exists(`${world.runtime}/jails/${uid}/.state.new`)],
      ["the state is there", () => exists(`${world.runtime}/jails/${uid}/state`)],
    ];
    const given = (): boolean =>
      Deno.readTextFileSync(`${world.state}/uids.json`).includes(`"uid": ${uid}`);
    const exists = (path: string): boolean => {
      try {
        Deno.lstatSync(path);
        return true;
      } catch {
        return false;
      }
    };
    for (const victims of [["helper"], ["dispatcher"], ["helper", "dispatcher"]] as const) {
      for (const [index, [what, seen]] of steps.entries()) {
        // Both at once differ little from the helper alone, which its dispatcher does not outlive.
        if (victims.length > 1 && index % 5 > 0) continue;
        uid++;
        const profile = `${victims.join("-")}-${index}`;
        const pid = await world.dispatcherPid();
        const channel = run(world, profile);
        // Nothing is awaited in here: the daemon is not to get ahead. A step of which the end came
        // first cannot be seen any more; the state is the last.
        const limit = Date.now() + 20_000;
        while (!seen() && !exists(`${world.runtime}/jails/${uid}/state`)) {
          assert(Date.now() < limit, what);
        }
        if (victims.includes("dispatcher" as never)) Deno.kill(pid, "SIGKILL");
        if (victims.includes("helper" as never)) Deno.kill(world.helperPid, "SIGKILL");
        await answerOf(channel);
        await recover(world, victims.includes("helper" as never), [profile]);
        // A helper whose dispatchers die all the time waits longer and longer.
        if (victims.length > 1 || victims[0] !== "dispatcher" || index % 4 < 3) continue;
        assert.equal(await world.stopDaemon(), 0);
        await world.startDaemon();
      }
    }
  },
);

jailTest(
  "a daemon that is killed at any time while jails start leaves no half of any",
  async () => {
    await using world = await World.start();
    let count = 0;
    // Six requests, two milliseconds apart, so that every other one of sixty is tried.
    for (let delay = 0; delay < 60; delay += 12) {
      for (const victims of [["helper"], ["dispatcher"]] as const) {
        const profiles = [0, 1, 2, 3, 4, 5].map(() => `p${count++}`);
        const pid = victims[0] === "helper" ? world.helperPid : await world.dispatcherPid();
        const channels: Channel<DispatcherToClient, unknown>[] = [];
        for (const profile of profiles) {
          channels.push(run(world, profile));
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        await new Promise((resolve) => setTimeout(resolve, delay));
        Deno.kill(pid, "SIGKILL");
        await Promise.all(channels.map(answerOf));
        await recover(world, victims[0] === "helper", profiles);
      }
    }
  },
);
