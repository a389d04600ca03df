/**
 * The jailer: the dispatcher's hand inside a jail. It is pid 1 there, starts programs, reaps what
 * they leave, and reports. It has the application's own uid, no capability and no way out.
 *
 * What it trusts: whoever connects to its socket, because only root and the dispatcher can reach the
 * socket's folder, and no program in the jail can see it. What it may not do: end by itself while a
 * request may be on its way; only the dispatcher's `leave` ends it.
 *
 * @module
 */
import { Channel, drop } from "../ipc/channel.ts";
import { isErrno, SystemError } from "../ipc/errno.ts";
import { duplicate, Fd, open, pipe, readSome, setNonblocking } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { ignore, leaveFaultsToKernel } from "../ipc/signals.ts";
import { isHungUp } from "../ipc/tty.ts";
import { accept, listen } from "../ipc/socket.ts";
import { abridge, abridgeAll } from "../core/abridge.ts";
import { findCommand } from "../core/command.ts";
import { after, pause, within } from "../core/deadline.ts";
import { baseEnvironment, homeOf } from "../core/environment.ts";
import { AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import { exitStatusOf } from "../core/exit.ts";
import {
  exists,
  forbidInspection,
  leaveSessionKeyring,
  ownPid,
  provePowerless,
  reap,
  removeFile,
  setUmask,
  signalProcess,
  spawn,
  statusBehind,
} from "../core/kernel.ts";
import { type Log, logOf, plainStyle } from "../core/log.ts";
import { type Monitor, type MonitorReport, parseReport, startMonitored } from "../core/monitor.ts";
import {
  type AbsolutePath,
  parse,
  type ProgramName,
  programName,
  type SignalName,
  signalNumbers,
} from "../core/names.ts";
import { allPids, cpuOf, memoryOf, parentOf } from "../core/process.ts";
import { busDaemon, prlimit } from "../core/programs.ts";
import {
  type DispatcherToJailer,
  type ExitStatus,
  type JailerOptions,
  jailerOptions,
  type JailerToDispatcher,
  type OutputLine,
  type ProgramReport,
  protocolVersion,
  toJailer,
} from "../core/protocol.ts";
import { LineCutter, OutputRing } from "../core/ring.ts";
import { begin } from "../core/role.ts";
import { version } from "../core/version.ts";

/** A program that runs, and its terminal. */
interface Running {
  readonly report: ProgramReport;
  /** Held so that somebody can attach; whoever has the terminal reads from it. */
  readonly master: Fd | undefined;
  /** Nobody has the terminal: what comes from it goes to the log. */
  unattended: boolean;
}

/** How a request to start a program is answered: once, and before anything else is told of it. */
interface StartAnswer {
  readonly started: (running: Running) => void;
  readonly refused: (error: unknown) => void;
}

type Exec = Extract<DispatcherToJailer, { readonly type: "exec" }>;

/** The soft limit of descriptors that a program starts with: the kernel's default, whatever ours. */
const softDescriptors = 1024n;
/** How many bytes of output are kept for a dispatcher that is being restarted. */
const ringSize = 64 * 1024;
/** How many ends of programs are kept that no dispatcher has heard of. */
const unheardMost = 1024;
const programsMost = 2048;
/** How long somebody who connects may take to say who it is. */
const helloDeadline = 10_000;

/** Runs the jailer. It ends by leaving the process, and all of the jail with it. */
export async function jailer(text: string): Promise<number> {
  const options = begin(
    "jailer",
    jailerOptions(),
    text,
    // Pipes are held and no more; see cmd/helper-buses.ts and cmd/helper-wayland.ts.
    ({ pipes }) => ["socket", "file", ...Array<"other">(pipes).fill("other")],
  );
  forbidInspection();
  provePowerless(options.groups);
  // What programs would otherwise have from the shell in which the daemon was started.
  leaveSessionKeyring();
  setUmask(0o022);
  // Programs have no say in how long a jail lives, but by ending; and the runtime would end with these.
  ignore("SIGHUP");
  ignore("SIGINT");
  leaveFaultsToKernel();
  const inside = new Jailer(options, new Fd(3), logOf("jailer", plainStyle));
  for (const name of ["ffi", "env", "read", "write", "net", "run", "sys"] as const) {
    Deno.permissions.revokeSync({ name });
  }
  return await inside.run();
}

class Jailer {
  readonly #options: JailerOptions;
  readonly #listener: Fd;
  readonly #log: Log;
  readonly #programs = new Map<number, Running>();
  readonly #unheard = new Map<ProgramName, ExitStatus>();
  readonly #ring = new OutputRing(ringSize);
  readonly #left = Promise.withResolvers<number>();
  #sent = 0;
  #pumping = false;
  #ending = false;
  #count = 0;
  #bus: number | undefined;
  #busGone: (() => void) | undefined;
  #channel: Channel<DispatcherToJailer, JailerToDispatcher> | undefined;

  constructor(options: JailerOptions, listener: Fd, log: Log) {
    this.#options = options;
    this.#listener = listener;
    this.#log = log;
  }

  run(): Promise<number> {
    // The bus's address is there before the first program can be.
    if (this.#options.session_bus === "private") void this.#offerBus();
    Deno.addSignalListener("SIGCHLD", () => this.#reap());
    // The machine goes down: programs have the time that it gives them, and the jail ends with them.
    Deno.addSignalListener("SIGTERM", () => {
      this.#ending = true;
      this.#terminate();
      this.#tellIdle();
    });
    void this.#accept();
    return this.#left.promise;
  }

  get #home(): AbsolutePath {
    return homeOf(this.#options.profile);
  }

  // --- The dispatcher ------------------------------------------------------------------------

  async #accept(): Promise<void> {
    for (;;) {
      let socket: Fd | undefined;
      try {
        socket = accept(this.#listener.number);
      } catch (error) {
        // Out of descriptors: some program has to end first.
        this.#log.info(`cannot accept a dispatcher: ${wordsOf(error)}`);
        await pause(100);
        continue;
      }
      if (socket === undefined) {
        await poller.readable(this.#listener.number);
        continue;
      }
      void this.#converse(new Channel(socket, toJailer));
    }
  }

  async #converse(channel: Channel<DispatcherToJailer, JailerToDispatcher>): Promise<void> {
    try {
      channel.send({ type: "hello", role: "jailer", protocol: protocolVersion, version });
      const first = await within(
        channel.receive(),
        helloDeadline,
        () => new Error("it does not say hello"),
      );
      if (first === undefined) return;
      if (first.message.type !== "hello" || first.message.protocol !== protocolVersion) {
        drop(first);
        throw new Error("it speaks another protocol");
      }
      // A dispatcher takes the place of one that was: there is never more than one.
      this.#channel?.close();
      this.#channel = channel;
      this.#sent = 0;
      channel.send({
        type: "present",
        programs: this.#shown(),
        exits: [...this.#unheard].map(([program, status]) => ({ program, status })),
      });
      this.#pump();
      // What was asked before the jail was up comes first: looking around takes a millisecond.
      after(0, () => this.#tellIdle());
      for (;;) {
        const next = await channel.receive();
        if (next === undefined) return;
        this.#handle(channel, next.message, next.descriptors);
      }
    } catch (error) {
      this.#log.info(`dropped a dispatcher: ${wordsOf(error)}`);
    } finally {
      channel.close();
      if (this.#channel === channel) this.#channel = undefined;
    }
  }

  #handle(
    channel: Channel<DispatcherToJailer, JailerToDispatcher>,
    message: DispatcherToJailer,
    descriptors: readonly Fd[],
  ): void {
    switch (message.type) {
      case "hello":
        throw new Error("a second hello");
      case "exec":
        void this.#exec(channel, message, descriptors);
        return;
      case "signal":
        this.#signal(message.program, message.signal);
        return;
      case "attach":
        this.#attach(channel, message.id, message.program);
        return;
      case "hangup":
        this.#hangUp(message.program);
        return;
      case "heard":
        this.#unheard.delete(message.program);
        return;
      case "report":
        channel.send({ type: "reported", id: message.id, ...this.#report() });
        return;
      case "terminate":
        this.#terminate();
        return;
      case "leave":
        if (this.#programs.size === 0) this.#left.resolve(0);
        return;
      default:
        message satisfies never;
    }
  }

  #terminate(): void {
    // From pid 1, -1 is everything in the jail but itself. kill(2). One that is stopped hears of it
    // only when it goes on.
    signalProcess(-1, signalNumbers.SIGTERM);
    signalProcess(-1, signalNumbers.SIGCONT);
  }

  // --- Programs ------------------------------------------------------------------------------

  #exec(
    channel: Channel<DispatcherToJailer, JailerToDispatcher>,
    message: Exec,
    descriptors: readonly Fd[],
  ): void {
    const { id, stdio } = message;
    const answer: StartAnswer = {
      started: (running) => {
        const { report: program, master } = running;
        this.#programs.set(program.pid, running);
        const given = master !== undefined && stdio === "passed" ? [duplicate(master.number)] : [];
        channel.send({ type: "started", id, program, master: given.length > 0 }, given);
        if (master !== undefined && stdio === "log") this.#attend(running);
      },
      refused: (thrown) => {
        const error = asAppjailError(thrown);
        const words = error.message.slice(0, 8192);
        channel.send({ type: "refused", id, code: error.code, message: words });
        this.#tellIdle();
      },
    };
    try {
      this.#start(message, descriptors, answer);
    } catch (error) {
      answer.refused(error);
    } finally {
      for (const fd of descriptors) fd.close();
    }
  }

  #start(message: Exec, descriptors: readonly Fd[], answer: StartAnswer): void {
    const where = `in jail "${this.#options.profile}"`;
    const { argv, terminal, stdio } = message;
    const [command = ""] = argv;
    // A jailer that was stopped in the meantime: the caller was told that nothing was started.
    if (Date.now() > message.before) {
      throw new AppjailError("no-answer", `Cannot run ${JSON.stringify(command)}: it is too late`);
    }
    if (this.#ending) {
      throw new AppjailError("leaving", `Cannot run ${JSON.stringify(command)} ${where}: it ends`);
    }
    if (this.#programs.size >= programsMost) {
      throw new AppjailError("limit", `${programsMost} programs run ${where}: no more are started`);
    }
    const { profile, uid, session_bus } = this.#options;
    const env = { ...baseEnvironment(profile, uid, session_bus !== "none"), ...message.env };
    const cwd = this.#folder(message, where);
    const found = findCommand(command, env["PATH"] ?? "", cwd, where);
    const [path, words] = limited(found, argv, this.#options.memory);
    const program: ProgramName = this.#name();
    try {
      const started = Date.now();
      const passed = descriptors.map((fd) => fd.number);
      if (terminal !== null) {
        const monitor = startMonitored({
          ...{ path, argv: words, env, cwd, terminal, passed },
          softDescriptors,
        });
        const describe = (pid: number): ProgramReport => ({
          program,
          argv: abridge(argv),
          pid,
          started,
          cwd,
          terminal: true,
        });
        void this.#follow(monitor, describe, answer);
        return;
      }
      using files = stdio === "log" ? this.#logTo(program) : undefined;
      const pid = start(path, words, env, files?.streams ?? passed, cwd);
      files?.follow();
      const report = { program, argv: abridge(argv), pid, started, cwd, terminal: false };
      answer.started({ report, master: undefined, unattended: false });
    } catch (error) {
      throw this.#cannotRun(command, error);
    }
  }

  /** Where the program starts: the folder that was asked for, or the home instead of it. */
  #folder({ argv, cwd, cwd_required }: Exec, where: string): AbsolutePath {
    // With a slash and a dot behind it, only a folder that may be entered is there.
    if (cwd !== null && exists(`${cwd}/.`)) return cwd;
    const home = this.#home;
    if ((cwd === null || !cwd_required) && exists(`${home}/.`)) return home;
    throw new AppjailError(
      "invalid-argument",
      `Cannot run ${JSON.stringify(argv[0])}: the folder ${cwd ?? home} is not there ${where}`,
    );
  }

  #cannotRun(command: string, error: unknown): AppjailError {
    if (error instanceof AppjailError) return error;
    return new AppjailError(
      isErrno(error, "EACCES", "EPERM", "ENOEXEC", "E2BIG", "ENOENT", "ETXTBSY", "ELOOP")
        ? "command-not-executable"
        : "start-failed",
      `Cannot run ${JSON.stringify(command)} in jail "${this.#options.profile}": ${wordsOf(error)}`,
      { cause: error },
    );
  }

  // --- Programs with a terminal --------------------------------------------------------------

  /** Listens to a monitor: whether its program runs, and what becomes of it. */
  async #follow(
    { master, reports }: Monitor,
    describe: (pid: number) => ProgramReport,
    answer: StartAnswer,
  ): Promise<void> {
    using end = reports;
    const [command = ""] = describe(1).argv;
    let running: Running | undefined;
    let why: Error = new Error("its monitor was ended");
    for await (const line of linesFrom(end)) {
      const report = parseReport(line);
      if (report?.what === "started") {
        running = { report: describe(report.pid), master, unattended: false };
        answer.started(running);
      } else if (report?.what === "failed") {
        why = new SystemError("exec", report.errno);
      } else if (report !== undefined && running !== undefined) this.#hear(running, report);
    }
    // A monitor that was killed has left its program to us: then it is #reap that tells of its end.
    if (running !== undefined) return;
    master.close();
    answer.refused(this.#cannotRun(command, why));
  }

  #hear({ report: { pid, program } }: Running, report: MonitorReport): void {
    switch (report.what) {
      case "suspended":
        this.#channel?.send({ type: "suspended", program });
        return;
      case "ended": {
        const status = exitStatusOf(report.status);
        if (status !== undefined) this.#ended(pid, status);
        return;
      }
      case "started":
      case "failed":
        return;
      default:
        report satisfies never;
    }
  }

  #attach(
    channel: Channel<DispatcherToJailer, JailerToDispatcher>,
    id: number,
    program: ProgramName,
  ): void {
    const running = this.#running(program);
    if (running?.master === undefined || running.master.closed) {
      const message = `${program} has no terminal that could be attached to`;
      channel.send({ type: "refused", id, code: "unknown-program", message });
      return;
    }
    running.unattended = false;
    poller.forget(running.master.number);
    channel.send({ type: "attached", id, master: true }, [duplicate(running.master.number)]);
  }

  /** Reads a terminal that nobody looks at, so that its program does not stand still. */
  #attend(running: Running): void {
    const { master, report } = running;
    if (master === undefined) return;
    running.unattended = true;
    void this.#read(report.program, "stdout", master, () => running.unattended);
  }

  /** Whoever had the terminal is gone: the program is told as by a modem that hangs up. */
  #hangUp(program: ProgramName): void {
    const running = this.#running(program);
    if (running === undefined) return;
    // The kernel sends HUP and CONT to the leader of the session, which is the program's monitor.
    if (running.master !== undefined) running.master.close();
    else this.#signal(program, "SIGHUP");
  }

  #signal(program: ProgramName, name: SignalName): void {
    const running = this.#running(program);
    if (running === undefined) return;
    const { pid, terminal } = running.report;
    // Without a terminal its process group is an orphaned one, which ignores ^Z. setpgid(2).
    const stop = !terminal && name === "SIGTSTP";
    const signal = signalNumbers[stop ? "SIGSTOP" : name];
    // A program leads a process group of its own, and has not been reaped yet: the number is its own.
    if (!signalProcess(-pid, signal)) signalProcess(pid, signal);
  }

  #running(program: ProgramName): Running | undefined {
    return [...this.#programs.values()].find(({ report }) => report.program === program);
  }

  #name(): ProgramName {
    this.#count++;
    const parsed = parse(programName, `${this.#options.profile}.${this.#count}`);
    if ("wrong" in parsed) throw new Error(parsed.wrong);
    return parsed.value;
  }

  #reap(): void {
    for (;;) {
      const child = reap();
      if (typeof child === "string") break;
      const status = exitStatusOf(child.status);
      if (status === undefined) continue;
      if (child.pid === this.#bus) {
        this.#bus = undefined;
        this.#busGone?.();
        continue;
      }
      this.#ended(child.pid, status);
    }
    this.#tellIdle();
  }

  #ended(pid: number, status: ExitStatus): void {
    const running = this.#programs.get(pid);
    if (running === undefined) return;
    this.#programs.delete(pid);
    const { program } = running.report;
    this.#unheard.set(program, status);
    for (const oldest of this.#unheard.keys()) {
      if (this.#unheard.size <= unheardMost) break;
      this.#unheard.delete(oldest);
    }
    this.#channel?.send({ type: "exited", program, status });
    // Read to its end first, where we read it.
    if (running.master !== undefined && !running.unattended) running.master.close();
  }

  /** Says so when nothing runs any more, what programs left behind included. */
  #tellIdle(): void {
    if (this.#programs.size > 0 || this.#channel === undefined && !this.#ending) return;
    if (this.#hasOthers()) return;
    if (this.#ending) this.#left.resolve(0);
    else this.#channel?.send({ type: "idle" });
  }

  /** Whether there are processes that are neither this one nor the bus and what the bus started. */
  #hasOthers(): boolean {
    const own = ownPid();
    try {
      return allPids().some((pid) => {
        for (let at: number | undefined = pid; at !== undefined && at !== 0; at = parentOf(at)) {
          if (at === this.#bus || pid === own) return false;
          if (at === own) return true;
        }
        return false;
      });
    } catch (error) {
      // What cannot be seen may be there: out of descriptors, as a rule.
      this.#log.info(`cannot look around: ${wordsOf(error)}`);
      return true;
    }
  }

  /** What runs, in as many words as a message has room for. */
  #shown(): ProgramReport[] {
    return [...abridgeAll([...this.#programs.values()].map(({ report }) => report))];
  }

  #report(): Pick<
    Extract<JailerToDispatcher, { readonly type: "reported" }>,
    "programs" | "processes" | "memory_bytes" | "cpu_ms"
  > {
    const pids = allPids();
    return {
      programs: this.#shown(),
      processes: pids.length - 1,
      memory_bytes: pids.reduce((sum, pid) => sum + memoryOf(pid), 0),
      cpu_ms: pids.reduce((sum, pid) => sum + cpuOf(pid), 0),
    };
  }

  // --- Output that goes to the log -----------------------------------------------------------

  #logTo(program: ProgramName): Disposable & {
    readonly streams: readonly number[];
    readonly follow: () => void;
  } {
    const nothing = open("/dev/null", 0);
    const [out, err] = [pipe(), pipe()];
    let followed = false;
    return {
      streams: [nothing.number, out.write.number, err.write.number],
      follow: () => {
        followed = true;
        void this.#read(program, "stdout", out.read);
        void this.#read(program, "stderr", err.read);
      },
      [Symbol.dispose]: () => {
        for (const fd of [nothing, out.write, err.write]) fd.close();
        if (!followed) { for (const fd of [out.read, err.read]) fd.close(); }
      },
    };
  }

  async #read(
    program: ProgramName,
    stream: OutputLine["stream"],
    from: Fd,
    wanted: () => boolean = () => true,
  ): Promise<void> {
    setNonblocking(from.number);
    const cutter = new LineCutter();
    const buffer = new Uint8Array(16 * 1024);
    while (!from.closed && wanted()) {
      let count: number | undefined;
      try {
        count = readSome(from.number, buffer);
      } catch (error) {
        if (!isHungUp(error)) this.#log.info(`${program}: ${wordsOf(error)}`);
        count = 0;
      }
      if (count === undefined) {
        await poller.readable(from.number);
        continue;
      }
      const lines = count === 0 ? cutter.end() : cutter.push(buffer.subarray(0, count));
      // A terminal ends its lines with CR LF.
      for (const line of lines) {
        this.#ring.append(program, stream, line.replace(/\r$/, ""), Date.now());
      }
      if (lines.length > 0) this.#pump();
      if (count === 0) {
        from.close();
        return;
      }
      // A program that writes without pause must not keep everybody else waiting.
      await poller.readable(from.number);
    }
  }

  /**
   * Sends what the dispatcher has not had yet, a little at a time: the ring is the queue, so a
   * dispatcher that is slow loses the oldest lines and costs no memory.
   */
  #pump(): void {
    const channel = this.#channel;
    if (this.#pumping || channel === undefined) return;
    for (;;) {
      const lines = this.#ring.from(this.#sent, 64);
      const last = lines.at(-1);
      if (last === undefined) return;
      this.#sent = last.sequence + 1;
      channel.send({ type: "output", lines: [...lines] });
      if (channel.backlog > 0) break;
    }
    this.#pumping = true;
    void channel.drain().then(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  // --- The private session bus ---------------------------------------------------------------

  /**
   * Listens at the address of the jail's session bus, and starts the bus when somebody calls:
   * programs that need none cost none, and none ever finds it missing. The bus takes the listening
   * socket over as from systemd, sd_listen_fds(3).
   */
  async #offerBus(): Promise<void> {
    const path = `/run/user/${this.#options.uid}/bus`;
    if (!exists(busDaemon)) return;
    using socket = listen(path);
    for (let quickDeaths = 0; quickDeaths < 3;) {
      await poller.readable(socket.number);
      const began = performance.now();
      const gone = new Promise<void>((resolve) => this.#busGone = resolve);
      using nothing = open("/dev/null", 2);
      this.#bus = spawn({
        path: "/bin/sh",
        // LISTEN_PID has to be the pid of the one that listens: only it knows.
        argv: [
          "sh",
          "-c",
          'LISTEN_PID=$$ exec "$0" --session --address=systemd: --nofork --nopidfile',
          busDaemon,
        ],
        env: { ...baseEnvironment(this.#options.profile, this.#options.uid), LISTEN_FDS: "1" },
        descriptors: [nothing.number, nothing.number, nothing.number, socket.number],
        cwd: this.#home,
        session: true,
      });
      await gone;
      quickDeaths = performance.now() - began < 1000 ? quickDeaths + 1 : 0;
      if (quickDeaths > 0) await pause(100);
    }
    this.#log.info("dbus-daemon does not stay up: this jail has no session bus");
    removeFile("root", path);
  }
}

/** The lines that come through a pipe, until its writers are gone. */
async function* linesFrom(end: Fd): AsyncGenerator<string> {
  const cutter = new LineCutter();
  const buffer = new Uint8Array(512);
  for (;;) {
    const count = readSome(end.number, buffer);
    if (count === undefined) {
      await poller.readable(end.number);
      continue;
    }
    yield* count === 0 ? cutter.end() : cutter.push(buffer.subarray(0, count));
    if (count === 0) return;
  }
}

/**
 * The file to execute and its words, with so much memory for each of its processes: what they have
 * mapped to write to, since address space alone costs nothing and browsers take a lot. prlimit(1),
 * RLIMIT_DATA. A hard limit, which nothing in a jail can raise.
 */
function limited(
  path: string,
  argv: readonly string[],
  memory: number | null,
): readonly [path: string, argv: readonly string[]] {
  if (memory === null) return [path, argv];
  return [prlimit, [prlimit, `--data=${memory}`, "--", path, ...argv.slice(1)]];
}

/** Starts a program; a script without a first line that names its interpreter is the shell's. */
function start(
  path: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  descriptors: readonly number[],
  cwd: string,
): number {
  const rest = { env, descriptors, cwd, session: true, softDescriptors };
  try {
    return spawn({ path, argv, ...rest });
  } catch (error) {
    // execvp(3) and every shell do the same.
    if (!isErrno(error, "ENOEXEC") || statusBehind("/bin/sh") === undefined) throw error;
    return spawn({ path: "/bin/sh", argv: ["sh", path, ...argv.slice(1)], ...rest });
  }
}
