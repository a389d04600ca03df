/** A jailed player is heard by its owner's PipeWire, by its own protocol and by PulseAudio's. */
import assert from "node:assert/strict";
import { type Desk, deskTest, withProfiles } from "./desk.ts";
import { firstUid, lastUid, type Outcome, uA, until, type World } from "../jail/world.ts";

const profiles = withProfiles({
  player: 'audio = "pipewire"',
  alike: 'audio = "pipewire"\nsame_uid = true\nnetwork = "none"',
  either: 'audio = "auto"',
  pulse: 'audio = "pulse"',
  mute: 'audio = "none"',
});

const programs = ["pipewire", "wireplumber", "pw-play", "pw-record", "pw-dump", "pw-cli"];
const withPulse = [...programs, "pipewire-pulse", "pactl", "paplay"];

/** A WAVE file: a tone in two channels, so many seconds of it. */
function tone(seconds: number): Uint8Array<ArrayBuffer> {
  const rate = 48_000;
  const size = seconds * rate * 4;
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at: number, word: string): void =>
    void [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 2, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 4, true);
  view.setUint16(32, 4, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  for (let frame = 0; frame < seconds * rate; frame++) {
    const value = Math.round(8_000 * Math.sin(frame / rate * 440 * 2 * Math.PI));
    view.setInt16(44 + frame * 4, value, true);
    view.setInt16(46 + frame * 4, value, true);
  }
  return new Uint8Array(view.buffer);
}

/** A thing in PipeWire's list, as pw-dump(1) prints it. */
interface Listed {
  readonly id: number;
  readonly type: string;
  readonly info?: {
    readonly state?: string;
    readonly props?: Readonly<Record<string, unknown>>;
  };
}

/** The streams that play: their names, and whom the kernel told PipeWire they are. */
async function streams(desk: Desk): Promise<readonly { name: unknown; uid: unknown }[]> {
  const all: readonly Listed[] = JSON.parse(await desk.done("pw-dump"));
  return all.flatMap(({ type, info }) => {
    const { props = {}, state } = info ?? {};
    const plays = type === "PipeWire:Interface:Node" && state === "running" &&
      props["media.class"] === "Stream/Output/Audio";
    if (!plays) return [];
    const client = all.find(({ id }) => id === props["client.id"]);
    return [{ name: props["node.name"], uid: client?.info?.props?.["pipewire.sec.uid"] }];
  });
}

/** Whether anything but silence is in a recording. */
async function isHeard(path: string): Promise<boolean> {
  const bytes = await Deno.readFile(path).catch(() => new Uint8Array());
  return bytes.subarray(44).some((byte) => byte !== 0);
}

/** Runs something of uA's in a jail, from the folder in which the tone is. */
function runner(world: World, desk: Desk): (...words: readonly string[]) => Promise<Outcome> {
  return (...words) =>
    world.client(["run", "-p", ...words], { uid: uA, env: desk.env, cwd: desk.folder });
}

/**
 * Plays in a jail, until it is heard; and it is over with the jail.
 *
 * @param own whether the player itself is connected to PipeWire, and not a server in between
 */
async function plays(
  world: World,
  desk: Desk,
  profile: string,
  words: readonly string[],
  own = true,
): Promise<void> {
  const run = runner(world, desk);
  assert.deepEqual(await streams(desk), []);
  const { code, stderr } = await run(profile, "--detach", "--", ...words);
  assert.equal(code, 0, stderr);
  const found = await until(
    "it plays",
    async () => (await streams(desk)).find(({ name }) => name === `from-${profile}`),
  ).catch(async (error) => {
    const { stderr } = await run(profile, "timeout", "2", ...words);
    throw new Error(stderr, { cause: error });
  });
  // The kernel's word, whatever uid the program sees.
  const uid = Number(found.uid);
  assert(own ? uid >= firstUid && uid <= lastUid : uid === uA, String(found.uid));
  const heard = `${desk.folder}/${profile}.wav`;
  const recorder = desk.start(`record-${profile}`, [
    ...["pw-record", "--target", "nowhere", "-P", "{ stream.capture.sink = true }", heard],
  ]);
  await until("the tone comes out of the sink", () => isHeard(heard));
  recorder.kill("SIGTERM");
  await world.client(["stop", profile], { uid: uA });
  await until("it is gone with its jail", async () => (await streams(desk)).length === 0);
}

async function writeTone(desk: Desk): Promise<void> {
  const path = `${desk.folder}/tone.wav`;
  await Deno.writeFile(path, tone(60), { mode: 0o600 });
  await Deno.chown(path, uA, 60);
}

deskTest("PipeWire's own socket", programs, profiles, async (t, world, desk) => {
  await desk.pipeWire();
  await writeTone(desk);
  const run = runner(world, desk);

  for (const profile of ["player", "alike", "either"]) {
    await t.step(`a stream is in the list, and is heard: ${profile}`, async () => {
      const play = ["pw-play", `--properties={ node.name = from-${profile} }`, "tone.wav"];
      await plays(world, desk, profile, play);
    });
  }

  await t.step("without sound there is no way, by no name", async () => {
    const look = ["timeout", "5", "pw-cli", "ls", "Node"];
    // What has found a sink plays until it is ended: that is 124. timeout(1).
    const play = ["timeout", "2", "pw-play", "tone.wav"];
    assert.match((await run("player", ...look)).stdout, /node\.name = "nowhere"/);
    assert.equal((await run("player", ...play)).code, 124, "what else is tried says nothing");
    const guesses = [
      "PIPEWIRE_REMOTE=pipewire-0",
      `PIPEWIRE_REMOTE=${desk.folder}/pipewire-0`,
      `PIPEWIRE_RUNTIME_DIR=${desk.folder}`,
      `XDG_RUNTIME_DIR=${desk.folder}`,
      `PIPEWIRE_REMOTE=/proc/1/root${desk.folder}/pipewire-0`,
    ];
    for (const guess of guesses) {
      assert.doesNotMatch((await run("mute", "env", guess, ...look)).stdout, /node\.name/, guess);
      const { code } = await run("mute", "env", guess, ...play);
      assert(code !== 0 && code !== 124, `${guess}: ${code}`);
    }
    assert.deepEqual(await streams(desk), []);
  });
});

deskTest("PipeWire for who speaks to PulseAudio", withPulse, profiles, async (t, world, desk) => {
  await desk.pipeWire();
  await desk.pipeWirePulse();
  await writeTone(desk);
  const run = runner(world, desk);

  for (const profile of ["pulse", "either"]) {
    await t.step(`a stream is in the list, and is heard: ${profile}`, async () => {
      const play = ["paplay", `--property=node.name=from-${profile}`, "tone.wav"];
      await plays(world, desk, profile, play, false);
    });
  }

  await t.step("by itself a jail has the one that has no cameras, and not both", async () => {
    const { stdout } = await run("either", "sh", "-c", "cd $XDG_RUNTIME_DIR; ls . pulse");
    assert.doesNotMatch(stdout, /pipewire-0/);
    assert.match(stdout, /native/);
    assert.equal((await run("either", "pw-cli", "ls", "Node")).stdout, "");
  });

  await t.step("without sound there is no way, by no name", async () => {
    assert.equal((await run("pulse", "pactl", "info")).code, 0);
    const guesses = [
      "",
      "PULSE_SERVER=unix:$XDG_RUNTIME_DIR/pulse/native",
      `PULSE_SERVER=unix:${desk.folder}/pulse/native`,
    ];
    for (const guess of guesses) {
      const { code } = await run("mute", "sh", "-c", `${guess} timeout 5 pactl info`);
      assert(code !== 0 && code !== 124, guess);
    }
  });
});
