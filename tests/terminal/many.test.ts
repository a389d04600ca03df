/** Many programs at a time, each with streams of its own. */
import assert from "node:assert/strict";
import { answerWith, connectTo, type DispatcherChannel } from "../../cmd/client.ts";
import type { TerminalSpec } from "../../core/protocol.ts";
import { noSession } from "../../core/session.ts";
import { type Fd, open, pipe, readSome, setNonblocking } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { isHungUp, openPseudoTerminal, rawSettings, settingsOf } from "../../ipc/tty.ts";
import { execute, until, type World } from "../jail/world.ts";
import { terminalTest } from "./driver.ts";

const programs = 200;
const size = 1024 * 1024;

/** How many descriptors a process has. */
function descriptorsOf(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

/** Reads to the end: how many bytes came, and whether they are all that one line over and over. */
async function readPattern(from: Fd, line: string): Promise<{ size: number; right: boolean }> {
  const pattern = new TextEncoder().encode(line);
  const buffer = new Uint8Array(64 * 1024);
  let [count, right] = [0, true];
  for (;;) {
    let read: number | undefined;
    try {
      read = readSome(from.number, buffer);
    } catch (error) {
      if (!isHungUp(error)) throw error;
      read = 0;
    }
    if (read === undefined) {
      await poller.readable(from.number);
      continue;
    }
    if (read === 0) return { size: count, right };
    for (let at = 0; at < read; at++) {
      if (buffer[at] !== pattern[(count + at) % pattern.length]) right = false;
    }
    count += read;
  }
}

/** Starts a program as a client does, in this process: two hundred clients are no matter here. */
async function started(
  world: World,
  script: string,
  terminal: TerminalSpec | null,
): Promise<{ channel: DispatcherChannel; output: Fd }> {
  const channel = await connectTo(world.socket);
  const { read, write } = pipe();
  setNonblocking(read.number);
  const streams = [open("/dev/null", 0), write, open("/dev/null", 1)];
  if (terminal !== null) { for (const fd of streams) fd.close(); }
  channel.send({
    type: "run",
    profile: "work",
    argv: ["sh", "-c", script],
    cwd: null,
    cwd_required: false,
    terminal,
    env: {},
    inherited: {},
    session: noSession,
    lend: [],
    stdio: "passed",
  }, terminal === null ? streams : []);
  const incoming = await answerWith(channel);
  assert.equal(incoming?.message.type, "started");
  const [master] = incoming?.descriptors ?? [];
  if (master === undefined) return { channel, output: read };
  read.close();
  setNonblocking(master.number);
  return { channel, output: master };
}

terminalTest("two hundred programs at once, each byte of each", async (t, world) => {
  await world.shell("work", "mkfifo ~/gate");
  const gate = `${world.data}/${(await world.status())[0].uid}/gate`;
  const resident = await world.client(["run", "-d", "-p", "work", "sleep", "3600"]);
  assert.equal(resident.code, 0);
  const [{ jailer_pid: jailer }] = await world.status();
  const dispatcher = await world.dispatcherPid();
  const before = [descriptorsOf(dispatcher), descriptorsOf(jailer)];
  const own = descriptorsOf(Deno.pid);

  /** Runs so many at once, and looks at what each has written. */
  const all = async (count: number, terminal: TerminalSpec | null): Promise<void> => {
    const line = (number: number) => `program ${number}\n`;
    // Each waits until the gate is open: so all of them run at a time.
    const script = (number: number) =>
      `read x < ~/gate; yes 'program ${number}' | head -c ${size}; exit ${number % 100}`;
    const numbers = Array.from({ length: count }, (_, number) => number);
    const running = await Promise.all(
      numbers.map((number) => started(world, script(number), terminal)),
    );
    const [jail] = await world.status();
    assert.equal(jail.programs.length, count + 1);
    const reading = running.map(({ output }, number) => readPattern(output, line(number)));
    const { code } = await execute(["sh", "-c", ': > "$0"', gate]);
    assert.equal(code, 0);
    const found = await Promise.all(reading);
    assert.deepEqual(found, numbers.map(() => ({ size, right: true })));
    for (const [number, { channel, output }] of running.entries()) {
      const incoming = await answerWith(channel);
      assert.deepEqual(
        incoming?.message.type === "exited" && incoming.message.status,
        { by: "exit", code: number % 100 },
      );
      channel.close();
      output.close();
    }
    await until(
      "the dispatcher and the jailer have what they had",
      () => descriptorsOf(dispatcher) === before[0] && descriptorsOf(jailer) === before[1],
    )
      .catch(() => assert.deepEqual([descriptorsOf(dispatcher), descriptorsOf(jailer)], before));
    assert.equal(descriptorsOf(Deno.pid), own);
  };

  await t.step("through pipes", () => all(programs, null));
  await t.step("through terminals", async () => {
    using resources = new DisposableStack();
    const { master, slave } = openPseudoTerminal();
    resources.use(slave);
    const settings = settingsOf(resources.use(master).number);
    assert(settings !== undefined);
    const { cc, ...raw } = rawSettings(settings);
    resources.dispose();
    await all(programs / 4, {
      streams: [0, 1, 2],
      size: { rows: 24, columns: 80, width: 0, height: 0 },
      settings: { ...raw, cc: [...cc] },
    });
  });
});
