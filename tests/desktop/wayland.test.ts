/** A window of a jailed program on its owner's Wayland compositor, and nobody else's. */
import assert from "node:assert/strict";
import { deskTest, withProfiles } from "./desk.ts";
import { difference } from "./picture.ts";
import { uA, uB, until } from "../jail/world.ts";

const profiles = withProfiles({
  window: 'display = "wayland"',
  blind: 'display = "none"',
  either: 'display = "auto"',
  demanding: 'display = "wayland-context"',
});

deskTest("Wayland", ["weston", "weston-simple-shm"], profiles, async (t, world, desk) => {
  await desk.compositor();
  const empty = await desk.screenshot();
  const drawn = async () => difference(empty, await desk.screenshot());

  for (const profile of ["window", "either"]) {
    await t.step(`a program draws its window: ${profile}`, async () => {
      const words = ["run", "-p", profile, "--detach", "--", "weston-simple-shm"];
      const { code, stderr } = await world.client(words, { uid: uA, env: desk.env });
      assert.equal(code, 0, stderr);
      // 250 × 250, each pixel of which it paints; the cursor is none of it.
      await until("the window is on the screen", async () => {
        const { pixels, width, height } = await drawn();
        return pixels > 50_000 && width >= 250 && height >= 250;
      });
      await world.client(["stop", profile], { uid: uA });
      await until("the window is gone with its jail", async () => (await drawn()).pixels === 0);
    });
  }

  await t.step("it sees its own socket, and nothing else of the desktop's folder", async () => {
    const script = "ls $XDG_RUNTIME_DIR; echo $WAYLAND_DISPLAY $DISPLAY; ls -d " + desk.folder;
    const options = { uid: uA, env: desk.env };
    const { stdout } = await world.client(["run", "-p", "window", "sh", "-c", script], options);
    assert.deepEqual(stdout.split("\n"), ["bus", "wayland-0", "wayland-0", ""]);
  });

  await t.step(
    "Debian's makes no security contexts: its socket is lent as it is, and so it is told",
    async () => {
      const as = { uid: uA, env: desk.env };
      const { stderr } = await world.client(["run", "-v", "-p", "window", "true"], as);
      assert.match(stderr, /has your compositor's own socket, without a security context/);
      const [{ lends }] = (await world.status(uA)).filter(({ profile }) => profile === "window");
      assert.deepEqual(lends.map(({ context }: { context: boolean }) => context), [false]);
      assert.match(world.log, /the compositor: it makes no security contexts/);
      const { stdout } = await world.client(["plan", "window"], as);
      assert.match(stdout, /^windows .*own socket: your compositor makes no security contexts$/m);
      const demanding = await world.client(["run", "-p", "demanding", "true"], as);
      assert.equal(demanding.code, 111, demanding.stderr);
      assert.match(demanding.stderr, /no security context of the compositor: it makes no/);
    },
  );

  // What has found a compositor draws until it is ended: that is 124. timeout(1).
  const tried = async (profile: string, uid: number, script: string): Promise<number> => {
    const words = ["run", "-p", profile, "sh", "-c", script];
    return (await world.client(words, { uid, env: desk.env })).code;
  };
  const draw = "timeout 2 weston-simple-shm";

  await t.step("without a display there is no way, by no name", async () => {
    assert.equal(await tried("window", uA, draw), 124, "what else is tried says nothing");
    const guesses = [
      "",
      "WAYLAND_DISPLAY=wayland-0",
      `WAYLAND_DISPLAY=${desk.folder}/wayland-7`,
      `XDG_RUNTIME_DIR=${desk.folder} WAYLAND_DISPLAY=wayland-7`,
      `WAYLAND_DISPLAY=/proc/1/root${desk.folder}/wayland-7`,
      `WAYLAND_DISPLAY=../../..${desk.folder}/wayland-7`,
    ];
    for (const guess of guesses) {
      const code = await tried("blind", uA, `${guess} ${draw}`);
      assert(code !== 0 && code !== 124, `${guess}: ${code}`);
    }
    assert.equal((await drawn()).pixels, 0);
  });

  await t.step("somebody else who says that it is theirs is refused", async () => {
    const words = ["run", "-p", "window", "true"];
    const { code, stderr } = await world.client(words, { uid: uB, env: desk.env });
    assert.equal(code, 111, stderr);
    assert.match(stderr, /Cannot lend .*wayland-7" to "window": you may not go there/);
  });

  await t.step("a compositor that is not there is an error, or is done without", async () => {
    // One that runs has what it has.
    assert.equal((await world.client(["stop", "--force", "--all"], { uid: uA })).code, 0);
    const env = { ...desk.env, WAYLAND_DISPLAY: "wayland-9" };
    const wanted = await world.client(["run", "-p", "window", "true"], { uid: uA, env });
    assert.notEqual(wanted.code, 0);
    assert.match(wanted.stderr, /wayland-9/);
    assert.equal((await world.client(["run", "-p", "either", "true"], { uid: uA, env })).code, 0);
  });
});
