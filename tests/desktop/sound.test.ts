/** A jailed player is heard by its owner's sound server, and one without sound is not. */
import assert from "node:assert/strict";
import { type Desk, deskTest, withProfiles } from "./desk.ts";
import { uA, until } from "../jail/world.ts";

const profiles = withProfiles({
  player: 'audio = "pulse"',
  either: 'audio = "auto"',
  alike: 'audio = "pulse"\nsame_uid = true\nnetwork = "none"',
  mute: 'audio = "none"',
});

/** What plays, as the server has it: by the name of the program. */
async function streams(desk: Desk): Promise<readonly string[]> {
  const list = await desk.done("pactl", "list", "sink-inputs");
  return [...list.matchAll(/application\.name = "(.*)"/g)].map(([, name = ""]) => name);
}

deskTest("sound", ["pulseaudio", "pactl", "pacat"], profiles, async (t, world, desk) => {
  await desk.soundServer();
  const run = (profile: string, ...argv: readonly string[]) =>
    world.client(["run", "-p", profile, ...argv], { uid: uA, env: desk.env });

  for (const profile of ["player", "either", "alike"]) {
    await t.step(`a stream is in the server's list: ${profile}`, async () => {
      assert.deepEqual(await streams(desk), []);
      const play = ["sh", "-c", `exec pacat --client-name=from-${profile} --raw /dev/zero`];
      const { code, stderr } = await run(profile, "--detach", "--", ...play);
      assert.equal(code, 0, stderr);
      await until(
        "it plays",
        async () => (await streams(desk)).includes(`from-${profile}`),
      ).catch(async (error) => {
        throw new Error((await run(profile, "pactl", "info")).stderr, { cause: error });
      });
      await world.client(["stop", profile], { uid: uA });
      await until("it is gone with its jail", async () => (await streams(desk)).length === 0);
    });
  }

  await t.step("the cookie is its owner's, to read", async () => {
    assert.equal((await run("player", "sh", "-c", 'test -r "$PULSE_COOKIE"')).code, 0);
    assert.notEqual((await run("player", "sh", "-c", 'echo x >>"$PULSE_COOKIE"')).code, 0);
  });

  await t.step("without sound there is no way, by no name", async () => {
    assert.equal((await run("player", "pactl", "info")).code, 0);
    const guesses = [
      "",
      "PULSE_SERVER=unix:$XDG_RUNTIME_DIR/pulse/native",
      `PULSE_SERVER=unix:${desk.folder}/pulse/native`,
      `PULSE_RUNTIME_PATH=${desk.folder}/pulse`,
    ];
    for (const guess of guesses) {
      const { code } = await run("mute", "sh", "-c", `${guess} timeout 5 pactl info`);
      assert(code !== 0 && code !== 124, guess);
    }
  });
});
