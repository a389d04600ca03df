/** A window of a jailed program on its owner's X server, by a cookie of the jail's own. */
import assert from "node:assert/strict";
import { deskTest, withProfiles } from "./desk.ts";
import { coloursOf } from "./picture.ts";
import { execute, firstUid, uA, until } from "../jail/world.ts";

const profiles = withProfiles({
  window: 'display = "x11"',
  blind: 'display = "none"',
  offline: 'display = "none"\nnetwork = "none"',
  either: 'display = "auto"',
  alike: 'display = "x11"\nsame_uid = true\nnetwork = "none"\nhostname = "elsewhere"',
});
const programs = ["Xvfb", "xauth", "xlogo", "strace"];
const [red, green] = [0xff0000, 0x00ff00];

deskTest("X11", programs, profiles, async (t, world, desk) => {
  await desk.xServer();
  const colour = async (wanted: number) => coloursOf(await desk.xScreen()).get(wanted) ?? 0;
  const logo = ["xlogo", "-geometry", "100x100+10+10", "-bg", "#ff0000", "-fg", "#00ff00"];
  const run = (profile: string, ...argv: readonly string[]) =>
    world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });

  for (const profile of ["window", "either", "alike"]) {
    await t.step(`a program draws its window: ${profile}`, async () => {
      assert.equal(await colour(red), 0);
      const { code, stderr } = await run(profile, "--detach", "--", ...logo);
      assert.equal(code, 0, stderr);
      await until(
        "the window is on the screen",
        async () => await colour(red) > 5_000 && await colour(green) > 1_000,
      );
      await world.client(["stop", profile], { uid: uA });
      await until("the window is gone with its jail", async () => await colour(red) === 0);
    });
  }

  await t.step("its cookie is not its owner's, and only its own programs can read it", async () => {
    const { stdout: own } = await run("window", "xauth", "-n", "list");
    const owners = await desk.done("xauth", "-n", "list");
    const secret = /[0-9a-f]{32}/;
    assert.match(own, secret);
    assert.match(owners, secret);
    assert.notEqual(secret.exec(own)?.[0], secret.exec(owners)?.[0]);
    const { code } = await run("window", "sh", "-c", "echo x >>$XAUTHORITY");
    assert.notEqual(code, 0);
    assert.equal((await run("window", "--detach", "--", "sleep", "1000")).code, 0);
    const kept = `${world.runtime}/jails/${firstUid}/xauthority`;
    assert.equal((await Deno.stat(kept)).isFile, true);
    assert.notEqual((await desk.run("cat", kept)).code, 0);
    await world.client(["stop", "window"], { uid: uA });
  });

  await t.step("-v says that X11 parts nobody from others", async () => {
    const { code, stderr } = await run("window", "-v", "true");
    assert.equal(code, 0);
    assert.match(stderr, /is on X11, which keeps no program from the windows and keys of others/);
    assert.doesNotMatch((await run("blind", "-v", "true")).stderr, /X11/);
  });

  // What has found a display draws until it is ended: that is 124. timeout(1).
  const tried = async (profile: string, env = ""): Promise<number> =>
    (await run(profile, "sh", "-c", `${env} timeout 2 xlogo`)).code;
  const { DISPLAY = "" } = desk.env;

  await t.step("without a display there is no way, by no name", async () => {
    assert.equal(await tried("window"), 124, "what else is tried says nothing");
    for (const profile of ["blind", "offline"]) {
      const guess = `XAUTHORITY=${desk.folder}/authority`;
      for (const env of ["", `DISPLAY=${DISPLAY}`, `DISPLAY=${DISPLAY} ${guess}`]) {
        const code = await tried(profile, env);
        assert(code !== 0 && code !== 124, `${profile}: ${env}: ${code}`);
      }
    }
  });

  await t.step(
    "the abstract socket is reached by the network, and refuses; or is not",
    async () => {
      const script = `DISPLAY=${DISPLAY} strace -f -e trace=connect xlogo`;
      const { stderr: open } = await run("blind", "sh", "-c", script);
      assert.match(
        open,
        /connect\(\d+, \{sa_family=AF_UNIX, sun_path=@"\/tmp\/.X11-unix\/X\d+"\}, \d+\) = 0/,
      );
      assert.match(open, /Authorization required/);
      const { stderr: closed } = await run("offline", "sh", "-c", script);
      assert.match(closed, /sun_path=@"\/tmp\/.X11-unix\/X\d+"\}, \d+\) = -1 ECONNREFUSED/);
    },
  );

  await t.step("without a cookie, or a server, it is told what there is not", async () => {
    await Deno.writeTextFile(`${desk.folder}/none`, "");
    await world.client(["stop", "--all"], { uid: uA });
    const env = { ...desk.env, XAUTHORITY: `${desk.folder}/none` };
    const wanted = await world.client(["run", "-p", "window", "true"], { uid: uA, env });
    assert.equal(wanted.code, 111, wanted.stderr);
    assert.match(
      wanted.stderr,
      /there is no cookie for display :\d+ in .*\/none .*try: xauth list/,
    );
    const either = await world.client(["run", "-p", "either", "true"], { uid: uA, env });
    assert.equal(either.code, 0, either.stderr);
    assert.match(world.log, /jail either has no cookie for X11: there is no cookie/);
    const far = await world.client(["run", "-p", "window", "true"], {
      uid: uA,
      env: { ...desk.env, DISPLAY: ":4999" },
    });
    assert.equal(far.code, 111);
    assert.match(far.stderr, /X4999/);
  });
});

deskTest("an X server that makes no cookies", programs, profiles, async (_t, world, desk) => {
  await desk.xServer({ words: ["-extension", "SECURITY"] });
  // Of root's, as under most display managers: the socket is not the owner's.
  const { DISPLAY = "" } = desk.env;
  const socket = `/tmp/.X11-unix/X${DISPLAY.slice(1)}`;
  assert.equal((await execute(["chown", "0:0", socket])).code, 0);
  await Deno.chmod(socket, 0o777);
  const { code, stderr } = await world.client(["run", "-p", "window", "timeout", "2", "xlogo"], {
    uid: uA,
    env: desk.env,
  });
  assert.equal(code, 124, stderr);
  assert.match(world.log, /jail window has its owner's own cookie for X11: the server makes none/);
});
