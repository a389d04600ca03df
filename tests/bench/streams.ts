/**
 * How fast bytes pass between a person, or a pipe, and a program in a jail: beside the same without
 * one. In turns, so that a machine that grows busier does so for both.
 *
 * @module
 */
import { type Fd, open, readSome, writeSome } from "../../ipc/fd.ts";
import { openPseudoTerminal } from "../../ipc/tty.ts";
import { spawn } from "../../core/kernel.ts";
import { Child } from "../terminal/driver.ts";
import { until, type World } from "../jail/world.ts";

/** One measurement, of a program in a jail and of its peer. */
export interface Pair {
  readonly ours: number;
  readonly theirs: number;
}

/** The median, in whatever the values are in. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low = NaN, high = NaN] = [sorted[middle - 1], sorted[middle]];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

/** Measures both by turns. */
export async function inTurns(
  turns: number,
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
): Promise<Pair> {
  const [a, b]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < turns; turn++) {
    b.push(await theirs());
    a.push(await ours());
  }
  return { ours: median(a), theirs: median(b) };
}

function environment(world: World): Record<string, string> {
  return { ...Deno.env.toObject(), APPJAIL_SOCKET: world.socket, TERM: "xterm-256color" };
}

/** Milliseconds until so many bytes have gone through a `cat` between two pipes. */
export function throughPipes(world: World, exe: string, bytes: number): Promise<Pair> {
  const time = async (cat: string): Promise<number> => {
    const began = performance.now();
    const { success } = await new Deno.Command("sh", {
      args: ["-c", `head -c ${bytes} /dev/zero | ${cat} | cat > /dev/null`],
      env: environment(world),
      stdin: "null",
    }).output();
    if (!success) throw new Error(`Cannot time ${cat}`);
    return performance.now() - began;
  };
  return inTurns(5, () => time(`${exe} run -p joined cat`), () => time("cat"));
}

/** Starts words on a terminal of 80 by 24, as its session's leader. */
function onTerminal(world: World, words: readonly string[]): { master: Fd; child: Child } {
  const { master, slave } = openPseudoTerminal();
  using terminal = slave;
  const pid = spawn({
    path: "/usr/bin/setsid",
    argv: ["setsid", "--ctty", "--", ...words],
    env: environment(world),
    descriptors: [terminal.number, terminal.number, terminal.number],
    cwd: "/",
  });
  return { master, child: new Child(pid) };
}

/**
 * Milliseconds until a text has been shown by a terminal that does nothing but read; beside
 * script(1), which stands between a program and a terminal in the same way.
 */
export async function throughTerminals(world: World, exe: string, bytes: number): Promise<Pair> {
  await world.shell("joined", `yes "$(seq -s ' ' 20)" | head -c ${bytes} > ~/text`);
  const { uid } = (await world.status()).find(({ profile }) => profile === "joined");
  const text = `${world.data}/${uid}/text`;
  const time = async (words: readonly string[]): Promise<number> => {
    const began = performance.now();
    const { master, child } = onTerminal(world, words);
    using nothing = open("/dev/null", 2);
    const { number } = nothing;
    // What reads is no program of ours: it is as fast as a terminal can be.
    const reader = spawn({
      path: "/bin/cat",
      argv: ["cat"],
      env: {},
      descriptors: [master.number, number, number],
    });
    master.close();
    const { code } = await until(
      "the text is shown",
      () => child.running ? undefined : child.ended(),
      600,
    );
    if (code !== 0) throw new Error(`Cannot time ${words.join(" ")}`);
    const took = performance.now() - began;
    await new Child(reader).ended();
    return took;
  };
  return await inTurns(
    5,
    () => time([exe, "run", "-p", "joined", "--cwd", "/home/joined", "cat", "text"]),
    () => time(["script", "-qec", `cat ${text}`, "/dev/null"]),
  );
}

/** Milliseconds until a key is shown. */
export async function keystrokes(world: World, exe: string): Promise<Pair> {
  const each = 200;
  const time = async (words: readonly string[]): Promise<number> => {
    const { master, child } = onTerminal(world, words);
    using end = master;
    const buffer = new Uint8Array(4096);
    // It blocks: whoever waits in the kernel loses no time of its own when the key is shown.
    const shown = (): string =>
      new TextDecoder().decode(buffer.subarray(0, readSome(end.number, buffer)));
    let said = "";
    while (!said.includes("ready")) said += shown();
    const times: number[] = [];
    for (let turn = 0; turn < each; turn++) {
      const key = String.fromCharCode(97 + turn % 26);
      const began = performance.now();
      writeSome(end.number, new TextEncoder().encode(key));
      for (let seen = ""; !seen.includes(key);) seen += shown();
      times.push(performance.now() - began);
    }
    writeSome(end.number, new Uint8Array([21, 4]));
    await child.ended();
    return median(times);
  };
  const cat = ["sh", "-c", "echo ready; exec cat"];
  return await inTurns(
    5,
    () => time([exe, "run", "-p", "joined", ...cat]),
    () => time(cat),
  );
}
