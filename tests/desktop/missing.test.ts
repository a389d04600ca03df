/** What a machine lacks on which the programs for a desktop are not all installed. */
import assert from "node:assert/strict";
import { deskTest, without, withProfiles } from "./desk.ts";
import { type Outcome, uA } from "../jail/world.ts";

const xauth = withProfiles({
  window: 'display = "x11"',
  either: 'display = "auto"',
}, without("xauth"));

deskTest("without xauth", ["Xvfb", "xauth", "xlogo"], xauth, async (t, world, desk) => {
  await desk.xServer();
  const run = (profile: string, ...argv: readonly string[]): Promise<Outcome> =>
    world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });

  await t.step("a profile that wants X11 does not start, and it is said what to do", async () => {
    const { code, stderr } = await run("window", "true");
    assert.equal(code, 111);
    assert.equal(
      stderr,
      'appjail: Cannot start jail "window": xauth is not installed; try: apt install xauth\n',
    );
    assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);
  });

  await t.step(
    "one that takes what there is starts without a cookie, and the log says so",
    async () => {
      assert.equal((await run("either", "true")).code, 0);
      assert.match(
        world.log,
        /jail either has no cookie for X11: xauth is not installed; try: apt install xauth\n/,
      );
      const { code, stderr } = await run("either", "timeout", "2", "xlogo");
      assert(code !== 0 && code !== 124, stderr);
      // So the daemon sees a machine that has none.
      assert.notEqual((await run("either", "sh", "-c", "command -v xauth")).code, 0);
    },
  );
});

const proxy = withProfiles({
  session: 'dbus = { session = "filtered" }',
  system: 'dbus = { system = "filtered" }',
  firefox: 'executables = ["other"]',
  apart: "",
}, without("xdg-dbus-proxy"));
const programs = ["xdg-dbus-proxy", "dbus-daemon"];

deskTest("without xdg-dbus-proxy", programs, proxy, async (t, world, desk) => {
  await desk.sessionBus();
  const run = (profile: string, ...argv: readonly string[]): Promise<Outcome> =>
    world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });

  for (const profile of ["session", "system", "firefox"]) {
    await t.step(`a part in a bus is not to be had, and it is said why: ${profile}`, async () => {
      const { code, stderr } = await run(profile, "true");
      assert.equal(code, 111);
      assert.equal(
        stderr,
        `appjail: Cannot start jail "${profile}": xdg-dbus-proxy is not installed; ` +
          "try: apt install xdg-dbus-proxy\n",
      );
      for (const folder of ["jails", "buses"]) {
        assert.deepEqual([...Deno.readDirSync(`${world.runtime}/${folder}`)], []);
      }
    });
  }

  await t.step("a jail that needs none starts", async () => {
    assert.equal((await run("apart", "true")).code, 0);
  });
});
