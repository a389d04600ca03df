/**
 * `appjail attach`, `wait`, `kill` and `ps`: programs that run already, each by its handle, such as
 * `firefox.1`.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import { shellStatus } from "../core/exit.ts";
import { printable } from "../core/log.ts";
import { parse, type ProgramName, programName, type SignalName } from "../core/names.ts";
import type { ProgramReport } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";
import { align, fit } from "../core/table.ts";
import { answerWith, ask, connectTo, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { Signals, stayWith, unexpected } from "./run.ts";
import { duration } from "./status.ts";
import { Front } from "./terminal.ts";

export interface ProgramsFlags {
  readonly socket?: string | undefined;
}

export interface KillFlags extends ProgramsFlags {
  readonly signal: SignalName;
}

export interface PsFlags extends ProgramsFlags {
  readonly json?: boolean | undefined;
}

/** A program's handle as a person types it. */
function parseProgram(text: string): ProgramName {
  const parsed = parse(programName, text);
  if ("value" in parsed) return parsed.value;
  throw new AppjailError(
    "usage",
    `Cannot use ${JSON.stringify(text)}: a program is called as "run --detach" and status say, ` +
      "such as firefox.1",
  );
}

/** Shows a program: takes its terminal over, or prints what it has written and writes from now on. */
export async function attach(flags: ProgramsFlags, world: World, name: string): Promise<number> {
  const program = parseProgram(name);
  const path = socketPath(flags.socket, world.env);
  using resources = new DisposableStack();
  const channel = resources.use(await connectTo(path));
  channel.send({ type: "attach", program });
  const incoming = await answerWith(channel);
  if (incoming === undefined) {
    throw new AppjailError("lost", "The daemon went away before it had answered; try again");
  }
  const { message, descriptors: [master] } = incoming;
  if (message.type !== "attached") throw unexpected(message.type);
  const { jail } = message;
  // ^C ends a look at a program, not the program.
  if (master === undefined) {
    const [front, signals] = [undefined, undefined];
    return await stayWith({ path, channel, resources, program, jail, front, master, signals });
  }
  using front = new Front("always", () => {
    throw new Error("no stream is handed over");
  });
  const signals = new Signals(channel);
  front.redraw(master);
  return await stayWith({ path, channel, resources, program, jail, front, master, signals });
}

/** Waits until a program has ended, and returns its status. */
export async function wait(flags: ProgramsFlags, world: World, name: string): Promise<number> {
  const program = parseProgram(name);
  for await (
    const message of ask(socketPath(flags.socket, world.env), { type: "wait", program, jail: null })
  ) {
    if (message.type === "exited") return shellStatus(message.status);
    if (message.type !== "started") throw unexpected(message.type);
  }
  throw new AppjailError("lost", `The daemon went away before ${program} had ended`);
}

/** Sends a signal to programs. */
export async function kill(
  flags: KillFlags,
  world: World,
  ...names: readonly string[]
): Promise<number> {
  if (names.length === 0) {
    throw new AppjailError("usage", "Cannot kill: name a program; see: appjail help kill");
  }
  const programs = names.map(parseProgram);
  const path = socketPath(flags.socket, world.env);
  for (const program of programs) {
    const request = { type: "kill", program, signal: flags.signal } as const;
    for await (const message of ask(path, request)) throw unexpected(message.type);
  }
  return 0;
}

/** Lists the programs of a profile. */
export async function ps(flags: PsFlags, world: World, profile: string): Promise<number> {
  const request = { type: "status", profile: parseProfile(profile), everyone: false } as const;
  const programs: ProgramReport[] = [];
  for await (const message of ask(socketPath(flags.socket, world.env), request)) {
    if (message.type === "reported") {
      programs.push(...message.jails.flatMap((jail) => jail.programs));
    }
  }
  if (flags.json) {
    writeOut(`${JSON.stringify(programs, null, 2)}\n`, Deno.stdout);
    return 0;
  }
  const now = Date.now();
  const lines = align(
    [
      ["PROGRAM", "PID", "TERMINAL", "TIME", "FOLDER", "COMMAND"],
      ...programs.map(({ program, pid, terminal, started, cwd, argv }) => [
        program,
        `${pid}`,
        terminal ? "yes" : "no",
        duration(now - started),
        printable(cwd),
        argv.map((word) => printable(quoted(word))).join(" "),
      ]),
    ],
    [1],
  );
  const width = Deno.stdout.isTerminal() ? Deno.consoleSize().columns || Infinity : Infinity;
  writeOut(lines.map((line) => `${fit(line, width)}\n`).join(""), Deno.stdout);
  return 0;
}
