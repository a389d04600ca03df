/**
 * `appjail run`: a program in a profile's jail, with the caller's own standard streams.
 *
 * This is the path where each millisecond counts, so it parses its own few options and loads nothing
 * that it can do without.
 *
 * @module
 */
import {
  duplicate,
  type Fd,
  isInherited,
  isOpen,
  isReadable,
  isTerminal,
  open,
  readAll,
} from "../ipc/fd.ts";
import { FrameError } from "../ipc/frame.ts";
import { after, pause, within } from "../core/deadline.ts";
import { inheritedOf } from "../core/environment.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { shellStatus } from "../core/exit.ts";
import { printable } from "../core/log.ts";
import {
  absolutePath,
  commandLine,
  environment,
  parsed,
  type ProgramName,
  type SignalName,
  signalNumbers,
} from "../core/names.ts";
import type { ClientToDispatcher, OutputLine } from "../core/protocol.ts";
import { sessionOf, type WindowWay } from "../core/session.ts";
import { endBySignal, listen, listenBlocked, stopAsJob } from "../core/signals.ts";
import {
  type Answer,
  answer,
  answerWith,
  complain,
  connectTo,
  type DispatcherChannel,
  socketPath,
  type World,
  writeOut,
} from "./client.ts";
import type { Front, Wish } from "./terminal.ts";

/** What was asked for. */
export interface RunRequest {
  readonly socket: string | undefined;
  readonly profile: string | null;
  readonly detach: boolean;
  readonly cwd: string | null;
  readonly env: Readonly<Record<string, string>>;
  readonly tty: Wish;
  readonly verbose: boolean;
  /** Lend the files that words of the command name. */
  readonly autoLend: boolean;
  /** Where to read the passphrase of its home from; undefined: the person is asked. */
  readonly passphraseFd?: number | undefined;
  /** Empty: the profile's own command. */
  readonly argv: readonly string[];
  readonly help: boolean;
}

/** What is passed on to the program when the client gets it, signal(7); and SIGUSR1, in its own way. */
const forwarded = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGUSR2",
  "SIGCONT",
] as const;
/** And what is, besides, where no terminal is concerned: else it is for cmd/terminal.ts to do. */
const forwardedPlainly = ["SIGTSTP", "SIGWINCH"] as const;
/** Of these, what means that it should end. */
const ending: ReadonlySet<SignalName> = new Set(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]);

/** How long a client that is to end waits for a program that may run already, in milliseconds. */
const startPatience = 1_000;

/** How many words of a command are taken for files. */
const filesMost = 32;

/** A word of a command, and what it may name. */
export interface Named {
  readonly word: number;
  readonly path: string;
}

/** How long a client looks for the dispatcher that takes the place of one that was lost. */
const returnDeadline = 10_000;

/** The options of `run`: long name, short name, and whether a value follows. */
const options = [
  ["--profile", "-p", true],
  ["--detach", "-d", false],
  ["--cwd", "-C", true],
  ["--env", "-e", true],
  ["--env-file", "", true],
  ["--tty", "-t", false],
  ["--no-tty", "-T", false],
  ["--verbose", "-v", false],
  ["--no-auto-lend", "", false],
  ["--passphrase-fd", "", true],
  ["--socket", "", true],
  ["--help", "-h", false],
] as const;

function usage(words: string): AppjailError {
  return new AppjailError("usage", `${words}; see: appjail help run`);
}

/**
 * Parses what stands behind `run`. Options end at the first word that is none, or at `--`: from
 * there on everything is the program's, untouched.
 */
export function parseRun(words: readonly string[], own: World["env"]): RunRequest {
  let socket: string | undefined;
  let profile: string | null = null;
  let cwd: string | null = null;
  let detach = false;
  let help = false;
  let tty: Wish = "as-is";
  let verbose = false;
  let autoLend = true;
  let passphraseFd: number | undefined;
  const env: Record<string, string> = {};
  let at = 0;
  for (; at < words.length; at++) {
    const word = words[at] ?? "";
    if (word === "--") {
      at++;
      break;
    }
    if (!word.startsWith("-") || word === "-") break;
    const equals = word.startsWith("--") ? word.indexOf("=") : -1;
    // -pNAME is -p NAME, as getopt(3) has it.
    const joined = !word.startsWith("--") && word.length > 2;
    const name = equals > 0 ? word.slice(0, equals) : joined ? word.slice(0, 2) : word;
    const option = options.find(([long, short]) => name === long || name === short);
    if (option === undefined) throw usage(`Cannot use ${name}: run has no such option`);
    const [long, , takesValue] = option;
    let value = equals > 0 ? word.slice(equals + 1) : joined ? word.slice(2) : undefined;
    if (!takesValue && value !== undefined) {
      throw usage(`Cannot use ${word}: ${long} takes no value`);
    }
    if (takesValue && value === undefined) {
      value = words[++at];
      if (value === undefined) throw usage(`Cannot use ${name}: its value is missing`);
    }
    switch (long) {
      case "--profile":
        profile = value ?? "";
        break;
      case "--detach":
        detach = true;
        break;
      case "--cwd":
        cwd = value ?? "";
        break;
      case "--env":
        Object.assign(env, variable(value ?? "", own));
        break;
      case "--env-file":
        for (const line of linesOf(value ?? "")) Object.assign(env, variable(line, own));
        break;
      case "--tty":
        tty = "always";
        break;
      case "--no-tty":
        tty = "never";
        break;
      case "--verbose":
        verbose = true;
        break;
      case "--no-auto-lend":
        autoLend = false;
        break;
      case "--passphrase-fd":
        passphraseFd = parseDescriptor(value ?? "");
        break;
      case "--socket":
        socket = value;
        break;
      case "--help":
        help = true;
        break;
      default:
        long satisfies never;
    }
  }
  const argv = words.slice(at);
  if (argv.length === 0 && profile === null && !help) {
    throw usage("Cannot run: a command is needed");
  }
  return { socket, profile, detach, cwd, env, tty, verbose, autoLend, passphraseFd, argv, help };
}

/** The number of a descriptor that whoever started this program has opened for it. */
export function parseDescriptor(text: string): number {
  const number = /^[0-9]{1,7}$/.test(text) ? Number(text) : undefined;
  if (number !== undefined && isInherited(number)) return number;
  throw usage(`Cannot use --passphrase-fd ${JSON.stringify(text)}: it is no open descriptor`);
}

/** `K=V`, or `K` alone: what the caller's own environment has. */
function variable(text: string, own: World["env"]): Readonly<Record<string, string>> {
  const equals = text.indexOf("=");
  const name = equals < 0 ? text : text.slice(0, equals);
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    throw usage(`Cannot use --env ${JSON.stringify(text)}: it has to be NAME=VALUE or NAME`);
  }
  if (equals >= 0) return { [name]: text.slice(equals + 1) };
  return Object.hasOwn(own, name) ? { [name]: own[name] ?? "" } : {};
}

/** The lines of an --env-file: one variable each; empty ones and those that begin with # say nothing. */
function linesOf(file: string): readonly string[] {
  const limit = 1024 * 1024;
  try {
    using from = open(file, 0);
    return new TextDecoder("utf-8", { fatal: true }).decode(readAll(from.number, limit))
      .split("\n").map((line) => line.replace(/\r$/, ""))
      .filter((line) => line.trim() !== "" && !line.startsWith("#"));
  } catch (error) {
    throw usage(`Cannot use --env-file ${file}: ${wordsOf(error)}`);
  }
}

/** Runs the program and returns its exit status, or appjail's own. */
export async function run(words: readonly string[], world: World): Promise<number> {
  try {
    const request = parseRun(words, world.env);
    if (request.help) {
      const { runClient } = await import("./app.ts");
      return await runClient(["help", "run"], world);
    }
    return await start(request, world);
  } catch (error) {
    return complain(error, world);
  }
}

/** What can be seen in a jail, or is the jail's own, by how its path begins: not asked for. */
const seenInJail = /^\/(?:usr|opt|etc|bin|sbin|lib[^/]*|proc|sys|dev)(?:\/|$)/;

/**
 * The words of a command that may name a file of the person's: what there is beneath them is only
 * looked at where there is something. With a folder of its own, the program's words are meant from there.
 */
function filesIn({ argv, cwd }: RunRequest): readonly Named[] {
  const found: Named[] = [];
  for (let word = 1; word < argv.length && found.length < filesMost; word++) {
    const path = argv[word] ?? "";
    if (path === "" || path.startsWith("-") || path.length > 4095 || path.includes("\0")) continue;
    if (cwd !== null && !path.startsWith("/")) continue;
    if (!seenInJail.test(path) && isReadable(path)) found.push({ word, path });
  }
  return found;
}

/** Starts a program, and stays with it unless it is to run by itself. */
export async function start(request: RunRequest, world: World): Promise<number> {
  const path = socketPath(request.socket, world.env);
  const [command = ""] = request.argv;
  const cwd = request.cwd ?? ownFolder();
  const stdio = request.detach ? "log" : "passed";
  // Where no terminal is concerned, nothing of one is loaded.
  const plain = request.tty !== "always" && ![0, 1, 2].some(isTerminal);
  using front = plain ? undefined : new (await import("./terminal.ts")).Front(
    request.detach && request.tty !== "always" ? "never" : request.tty,
    request.detach ? () => open("/dev/null", 2) : standardStream,
    request.detach,
  );
  const files = request.autoLend ? filesIn(request) : [];
  const message: ClientToDispatcher = {
    type: "run",
    profile: request.profile,
    // Without one, the profile's own.
    argv: request.argv.length === 0
      ? null
      : parsed(commandLine, request.argv, unusable("the command")),
    cwd: cwd === null ? null : parsed(absolutePath, cwd, unusable("--cwd")),
    cwd_required: request.cwd !== null,
    env: parsed(environment, request.env, unusable("--env")),
    inherited: inheritedOf(world.env),
    session: sessionOf(world.env),
    lend: files.length === 0 ? [] : [...(await import("./auto-lend.ts")).lendable(files)],
    terminal: front?.spec ?? null,
    stdio,
  };
  using resources = new DisposableStack();
  const asking = { env: world.env, fd: request.passphraseFd };
  const channel = resources.use(await connectTo(path, asking));
  // Before it is asked for: a signal to a program that is quick to run finds its client prepared.
  const signals = request.detach ? undefined : new Signals(channel, plain);
  try {
    const own = front === undefined ? ([0, 1, 2] as const).map(standardStream) : front.take();
    channel.send(message, request.detach ? [] : own);
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    throw usage("Cannot use the command: with its variables it is longer than 1 MiB");
  }
  const incoming = await Promise.race([answerWith(channel), ...signals ? [signals.ending] : []]);
  if (typeof incoming === "string") return endAs(signalNumbers[incoming], front);
  if (incoming === undefined) {
    throw new AppjailError(
      "lost",
      `The daemon went away before it had said whether ${JSON.stringify(command)} was started; ` +
        "appjail status tells",
    );
  }
  const { message: started, descriptors: [master] } = incoming;
  if (started.type !== "started") throw unexpected(started.type);
  const { program, jail } = started;
  if (request.verbose && cwd !== null && started.cwd !== cwd) {
    writeOut(
      `appjail: ${printable(cwd)} is not in the jail; ${program} starts in ${started.cwd}\n`,
      Deno.stderr,
    );
  }
  if (request.verbose) writeOut(windowWords(program, started.windows), Deno.stderr);
  if (request.detach) {
    writeOut(`${program}\n`, Deno.stdout);
    return 0;
  }
  return await stayWith({ path, channel, resources, program, jail, front, master, signals });
}

/** What a person should know of how a program shows windows. */
function windowWords(program: ProgramName, windows: WindowWay | null): string {
  switch (windows) {
    case "x11":
      return `appjail: ${program} is on X11, which keeps no program from the windows and keys of ` +
        "others; where there is Wayland, take that\n";
    case "wayland":
      return `appjail: ${program} has your compositor's own socket, without a security context: ` +
        "what that offers to all programs (some: pictures of the screen) it offers to this one\n";
    case "context":
    case null:
      return "";
    default:
      return windows satisfies never;
  }
}

/** A program that runs for a client. */
interface Accompanied {
  /** The dispatcher's socket. */
  readonly path: string;
  readonly channel: DispatcherChannel;
  /** Where further channels are held. */
  readonly resources: DisposableStack;
  readonly program: ProgramName;
  /** This life of its jail. */
  readonly jail: string;
  readonly front: Front | undefined;
  readonly master: Fd | undefined;
  /** Those that are passed on; undefined: the program is only looked at. */
  readonly signals: Signals | undefined;
}

/** The client's own signals, on their way to the program. */
export class Signals {
  readonly #ending = Promise.withResolvers<SignalName>();
  #cancel: (() => void) | undefined;
  /** What could not be sent, and what was sent last and may not have been read. */
  readonly #kept: SignalName[] = [];
  readonly #sent: SignalName[] = [];
  #channel: DispatcherChannel;
  #running = false;

  /** @param plain no terminal is concerned */
  constructor(channel: DispatcherChannel, plain = false) {
    this.#channel = channel;
    void listenBlocked(() => this.send("SIGUSR1"));
    for (const signal of [...forwarded, ...plain ? forwardedPlainly : []]) {
      // Whoever has it ignored has the program spared too.
      listen(signal, () => {
        this.send(signal);
        // The job of a shell, stopped with all that belongs to it.
        if (signal === "SIGTSTP") {
          void stopAsJob(false).then((continued) => {
            if (!continued) this.send("SIGCONT");
          });
        }
        // Nobody is to wait long for a jail who does not want to any more; a program that is started
        // all the same is told that its client has left. It may run already, though, and the word of
        // it be on its way.
        if (this.#running || !ending.has(signal)) return;
        this.#cancel ??= after(startPatience, () => this.#ending.resolve(signal));
      });
    }
  }

  /** Settles when the client is to end before the program has been started. */
  get ending(): Promise<SignalName> {
    return this.#ending.promise;
  }

  /** The program runs: from now on they are its own. */
  begin(): void {
    this.#cancel?.();
    this.#running = true;
  }

  /** Goes on by another channel, with what the one that was lost has not heard. */
  join(channel: DispatcherChannel): void {
    const sent = this.#sent.splice(0);
    const again = [...this.#channel.unheard ? sent : [], ...this.#kept.splice(0)];
    this.#channel = channel;
    for (const signal of again) this.send(signal);
  }

  send(signal: SignalName): void {
    if (!this.#channel.unheard) this.#sent.length = 0;
    const list = this.#channel.send({ type: "signal", signal }) ? this.#sent : this.#kept;
    list.push(signal);
  }
}

/** Stays until the program has ended, and returns its status. */
export async function stayWith(accompanied: Accompanied): Promise<number> {
  const { program, front, master, signals } = accompanied;
  signals?.begin();
  front?.begin(master, (signal) => signals?.send(signal));
  const ended = await Promise.race([
    untilEnd(accompanied),
    ...front === undefined ? [] : [front.unread],
  ]);
  // As the program itself would, had it written where nobody reads.
  if (typeof ended === "number") return endAs(ended, front);
  await front?.end();
  if (ended.type === "detached") {
    writeOut(`appjail: ${program} is attached elsewhere now\n`, Deno.stderr);
    return 0;
  }
  if (ended.type !== "exited") throw unexpected(ended.type);
  const { status } = ended;
  if (status.by === "exit") return shellStatus(status);
  if (status.core) writeOut(`appjail: ${program} has dumped core\n`, Deno.stderr);
  return endAs(status.signal, front);
}

/** Ends by a signal; the status is for when that does not end it. */
function endAs(signal: number, front: Front | undefined): number {
  front?.[Symbol.dispose]();
  endBySignal(signal);
  return 128 + signal;
}

/** The message that ends it, from this dispatcher or the one that takes its place. */
async function untilEnd(
  { path, channel: first, resources, program, jail, front, signals }: Accompanied,
): Promise<Answer> {
  for (let channel = first;;) {
    const message = await answer(channel);
    if (message?.type === "suspended") front?.suspended();
    else if (message?.type === "output") show(message.lines);
    else if (message !== undefined) return message;
    else {
      channel.close();
      if (signals === undefined) throw lost(program);
      channel = resources.use(await rejoin(path, { type: "wait", program, jail }));
      signals.join(channel);
    }
  }
}

/** Lines of a program that has no terminal, as it wrote them. */
function show(lines: readonly OutputLine[]): void {
  for (const { stream, text } of lines) {
    writeOut(`${text}\n`, stream === "stdout" ? Deno.stdout : Deno.stderr);
  }
}

/** The folder that the person is in; null when it cannot be told. */
function ownFolder(): string | null {
  try {
    return Deno.cwd();
  } catch {
    return null;
  }
}

/**
 * The dispatcher is gone while the program runs: the helper starts another, which finds the jail
 * and the program, or what became of it.
 */
async function rejoin(
  path: string,
  request: Extract<ClientToDispatcher, { readonly type: "wait" }>,
): Promise<DispatcherChannel> {
  const limit = performance.now() + returnDeadline;
  for (let delay = 10; performance.now() < limit; delay = Math.min(delay * 2, 500)) {
    await pause(delay);
    try {
      using attempt = new DisposableStack();
      const channel = attempt.use(await connectTo(path));
      channel.send(request);
      const rest = limit - performance.now();
      const message = await within(answer(channel), rest, () => lost(request.program));
      if (message === undefined) continue;
      if (message.type !== "started") throw unexpected(message.type);
      attempt.move();
      return channel;
    } catch (error) {
      if (!(error instanceof AppjailError) || error.code !== "no-daemon") throw error;
    }
  }
  throw lost(request.program);
}

function lost(program: string): AppjailError {
  return new AppjailError(
    "lost",
    `The daemon went away and did not come back; ${program} may still run; when the daemon runs ` +
      "again, appjail status tells",
  );
}

/** An answer that no request of this kind has. */
export function unexpected(type: string): AppjailError {
  return new AppjailError("protocol", `The daemon answered "${type}", which makes no sense here`);
}

/** One of the caller's own streams, to be handed over; one that is closed is /dev/null. */
function standardStream(number: number): Fd {
  return isOpen(number) ? duplicate(number) : open("/dev/null", 2);
}

/** What is wrong with a value that the daemon would not accept, for whoever gave it. */
function unusable(what: string): (wrong: string) => AppjailError {
  return (wrong) => usage(`Cannot use ${what}: ${wrong}`);
}
