/**
 * Many runs in a row on one daemon: nothing grows. `APPJAIL_SOAK=2000` says how many; without it
 * there are as many as a test run has time for.
 */
import assert from "node:assert/strict";
import { holdings } from "./peer.ts";
import { jailTest, uA, until, World } from "./world.ts";

const runs = Number(Deno.env.get("APPJAIL_SOAK") ?? 100);
/** What a daemon has learned by then, it keeps: code that was compiled, a heap that was grown. */
const settled = Math.min(100, Math.floor(runs * 0.6));
/** How much memory may then be won in all, in kB; garbage is collected when there is enough of it. */
const growth = 8 * 1024;

jailTest(`${runs} runs in a row leave nothing behind`, async () => {
  await using world = await World.start({ bus: true });
  const stay = world.spawn(["run", "-p", "work", "sh", "-c", "exec > /dev/null 2>&1; read x"], {
    uid: uA,
  });
  const { jailer_pid } = await until("it runs", async () => {
    const [jail] = await world.status(uA);
    return jail?.programs.length === 1 && jail;
  });
  const parts = {
    dispatcher: await world.dispatcherPid(),
    helper: world.helperPid,
    jailer: jailer_pid,
  };
  /** When nothing is under way: a jail that has just ended is gone, its descriptors are closed. */
  const measure = async (): Promise<Readonly<Record<string, ReturnType<typeof holdings>>>> => {
    await until(
      "only the one jail is there",
      async () =>
        (await world.client(["status", "--all", "--json"])).stdout.split('"profile"').length === 2,
    );
    return Object.fromEntries(
      Object.entries(parts).map(([part, pid]) => [part, holdings(pid)]),
    );
  };
  const mounts = async (): Promise<number> =>
    (await Deno.readTextFile("/proc/self/mountinfo")).split(world.folder).length;

  let before: Awaited<ReturnType<typeof measure>> | undefined;
  const mounted = await mounts();
  const start = performance.now();
  for (let run = 1; run <= runs; run++) {
    const code = run % 256;
    const [words, expected] = run % 10 === 9
      ? [["-p", "work", "nonexistent"], 127]
      : run % 25 === 24
      ? [["-p", "other", "true"], 0]
      : [["-p", "work", "sh", "-c", `echo ${run}; exit ${code}`], code];
    const { code: got, stdout, stderr } = await world.client(["run", ...words], { uid: uA });
    assert.equal(got, expected, `run ${run}: ${stderr}`);
    if (words.length > 3) assert.equal(stdout, `${run}\n`);
    if (run === settled) before = await measure();
    if (Deno.env.has("APPJAIL_SOAK") && run % 100 === 0) {
      console.log(run, JSON.stringify(await measure()), performance.now() - start);
    }
  }
  assert(before !== undefined);
  const after = await measure();
  for (const part of Object.keys(parts)) {
    const [was, is] = [before[part], after[part]];
    assert(was !== undefined && is !== undefined);
    assert(is.descriptors <= was.descriptors, `${part}: ${JSON.stringify([was, is])}`);
    assert(is.threads <= was.threads, `${part}: ${JSON.stringify([was, is])}`);
    assert(is.memory <= was.memory + growth, `${part}: ${JSON.stringify([was, is])}`);
  }
  assert.equal(await mounts(), mounted);
  await stay.stdin.close();
  assert.equal((await stay.output()).code, 1);
});
