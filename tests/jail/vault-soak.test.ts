/**
 * Homes that are unlocked and locked again and again, and many of them at once: nothing grows, and
 * nothing is left.
 *
 * APPJAIL_TEST_CYCLES and APPJAIL_TEST_VAULTS say how often and how many; 200 and 20 take minutes.
 */
import assert from "node:assert/strict";
import { memoryOf } from "../../core/process.ts";
import { allLocked, encryptedProfile, remains, withPassphrase } from "./volumes.ts";
import { themeTest, until, type World } from "./world.ts";

const cycles = Number(Deno.env.get("APPJAIL_TEST_CYCLES") ?? 12);
const vaults = Number(Deno.env.get("APPJAIL_TEST_VAULTS") ?? 5);

interface Size {
  readonly descriptors: number;
  readonly threads: number;
  readonly memory: number;
}

function sizeOf(pid: number): Size {
  return {
    descriptors: [...Deno.readDirSync(`/proc/${pid}/fd`)].length,
    threads: [...Deno.readDirSync(`/proc/${pid}/task`)].length,
    memory: Math.round(memoryOf(pid) / 1024),
  };
}

async function sizes(world: World): Promise<Readonly<Record<string, Size>>> {
  return { helper: sizeOf(world.helperPid), dispatcher: sizeOf(await world.dispatcherPid()) };
}

/** How many mounts a world has: other tests have theirs at the same time. */
async function mounts(world: World): Promise<number> {
  const text = await Deno.readTextFile("/proc/self/mountinfo");
  return text.split("\n").filter((line) => line.includes(`${world.folder}/`)).length;
}

themeTest(`a home is unlocked and locked ${cycles} times`, { linger: 0 }, async (t, world) => {
  await encryptedProfile(world, "one", "gocryptfs");
  await encryptedProfile(world, "two", "encfs");
  const cycle = async (profile: string) => {
    const { code, stdout, stderr } = await withPassphrase(world, [
      ...["run", "-p", profile, "--", "sh", "-c", "cat note; echo more >> log; wc -l < log"],
    ]);
    assert.equal(code, 0, `${stderr}\n${world.log.slice(-1000)}`);
    await allLocked(world);
    return stdout;
  };
  // What is made once is made now.
  for (let turn = 0; turn < 4; turn++) await cycle(turn % 2 === 0 ? "one" : "two");
  const [before, mounted] = [await sizes(world), await mounts(world)];
  for (let turn = 0; turn < cycles; turn++) {
    const profile = turn % 2 === 0 ? "one" : "two";
    assert.equal(await cycle(profile), `kept\n${Math.floor(turn / 2) + 3}\n`);
  }
  await t.step("nothing has grown, and nothing is left", async () => {
    const after = await sizes(world);
    for (const [role, was] of Object.entries(before)) {
      const is = after[role];
      assert(is !== undefined);
      const words = `${role}: ${JSON.stringify([was, is])}`;
      assert(is.descriptors <= was.descriptors, words);
      // The runtime's own pool comes and goes.
      assert(is.threads <= was.threads + 2, words);
      // Garbage may wait to be collected: what leaks at each turn would be far more in 200.
      assert(is.memory < was.memory + 8 * 1024, words);
    }
    assert.equal(await mounts(world), mounted);
    assert.deepEqual(remains(world), []);
  });
});

themeTest(`${vaults} encrypted jails at once`, {}, async (t, world) => {
  const profiles = Array.from({ length: vaults }, (_, index) => `jail${index}`);
  for (const profile of profiles) {
    await encryptedProfile(world, profile, "gocryptfs", `echo ${profile} > note`);
  }
  await t.step("each has its own home", async () => {
    const outcomes = await Promise.all(
      profiles.map((profile) =>
        withPassphrase(world, ["run", "-p", profile, "--", "sh", "-c", "cat note; exec sleep 0.5"])
      ),
    );
    assert.deepEqual(
      outcomes.map(({ code, stdout, stderr }) => [code, stdout, stderr]),
      profiles.map((profile) => [0, `${profile}\n`, ""]),
    );
  });
  await t.step("and all are locked afterwards", async () => {
    await allLocked(world, 60);
    // The last of them may be about to be told of.
    await until("each is said to be locked", async () => {
      const states = (await world.status()).map(({ state }) => state);
      return states.length === profiles.length && states.every((state) => state === "locked");
    });
  });
});
