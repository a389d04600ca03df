/**
 * A program with a terminal, and the process between it and the jailer that makes job control work.
 *
 * The kernel throws away a ^Z for a process group whose members have no parent in their own session
 * (an orphaned one, setpgid(2)), and the jailer is in no session of any program. So a small process
 * leads the terminal's session, is the program's parent, and tells the jailer when the program stops
 * or ends: what sudo calls a monitor. It is a few lines of perl, which every Debian has; another Deno
 * would cost 10 MB and 12 ms for each program.
 *
 * Run by the jailer, with the application's own uid: the monitor is trusted no more than the program.
 *
 * @module
 */
import { type Fd, open, pipe, setNonblocking } from "../ipc/fd.ts";
import { applySettings, openPseudoTerminal, setSize } from "../ipc/tty.ts";
import { AppjailError } from "./errors.ts";
import { exists, spawn } from "./kernel.ts";
import type { TerminalSpec } from "./protocol.ts";

export const perl = "/usr/bin/perl";

/**
 * Before each of the program's variables while they are the monitor's: so that perl neither obeys
 * PERL5OPT nor complains of a locale that is not there.
 */
const prefix = "_";

/**
 * What the monitor runs. Descriptor 3 is for its reports, 4 is the terminal. Its own standard
 * streams are closed, so that whoever reads the program's pipes sees their end when the program
 * does. That the terminal is gone the kernel tells the leader of the session alone, so it is passed
 * on; the group in front is told when the leader ends. The numbers are TIOCSCTTY, TIOCSPGRP
 * (asm-generic/ioctls.h), WUNTRACED (wait(2)) and EINTR.
 */
const script = `
open(my $say, ">&=", 3); open(my $terminal, "+<&=", 4);
ioctl($terminal, 0x540e, 0);
$SIG{$_} = "IGNORE" for qw(HUP INT QUIT TERM TSTP TTIN TTOU PIPE);
pipe(my $failed, my $fail);
my $path = shift;
%ENV = map { substr($_, 1) => $ENV{$_} } keys %ENV;
$0 = "appjail-monitor";
my $pid = fork;
if (!defined $pid) { syswrite($say, "failed " . ($! + 0) . "\\n"); exit 1 }
if (!$pid) {
  setpgrp(0, 0);
  ioctl($terminal, 0x5410, pack("i", $$));
  $SIG{$_} = "DEFAULT" for qw(HUP INT QUIT TERM TSTP TTIN TTOU PIPE);
  { no warnings; exec { $path } @ARGV; }
  syswrite($fail, $! + 0);
  exit 1;
}
close($_) for $fail, *STDIN, *STDOUT, *STDERR;
if (sysread($failed, my $why, 9)) { syswrite($say, "failed $why\\n"); exit 1 }
syswrite($say, "started $pid\\n");
$SIG{HUP} = sub { for my $signal (qw(HUP CONT)) { kill($signal, -$pid) || kill($signal, $pid) } };
while (1) {
  my $ended = waitpid($pid, 2);
  next if $ended != $pid && $! == 4;
  last if $ended != $pid;
  my $status = \${^CHILD_ERROR_NATIVE};
  if (($status & 0xff) == 0x7f) { syswrite($say, "suspended\\n"); next }
  syswrite($say, "ended $status\\n");
  exit 0;
}
`;

/** What to run on a terminal. */
export interface Monitored {
  readonly path: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly terminal: TerminalSpec;
  /** The descriptors of the streams that are not the terminal, in the order of the streams. */
  readonly passed: readonly number[];
  /** See {@linkcode spawn}. */
  readonly softDescriptors: bigint;
}

/** A monitor that was started. */
export interface Monitor {
  readonly pid: number;
  /** The terminal's other end, non-blocking. */
  readonly master: Fd;
  /** Where its {@linkcode reportsOf} come from. */
  readonly reports: Fd;
}

/** Makes a terminal and starts a program's monitor on it. What became of it is reported. */
export function startMonitored(options: Monitored): Monitor {
  if (!exists(perl)) {
    throw new AppjailError(
      "start-failed",
      `Cannot run ${JSON.stringify(options.argv[0])} on a terminal: ${perl} is not installed; ` +
        "try: apt install perl-base, or run it with --no-tty",
    );
  }
  const { master, slave } = openPseudoTerminal();
  try {
    using terminal = slave;
    const { streams, size, settings } = options.terminal;
    if (settings !== null) applySettings(terminal.number, settings);
    setSize(terminal.number, size);
    setNonblocking(master.number);
    const reports = pipe();
    using say = reports.write;
    try {
      const passed = [...options.passed];
      const standard = ([0, 1, 2] as const).map((stream) =>
        streams.includes(stream) ? terminal.number : passed.shift()
      );
      using nothing = open("/dev/null", 2);
      const pid = spawn({
        path: perl,
        argv: ["appjail-monitor", "-e", script, options.path, ...options.argv],
        env: Object.fromEntries(
          Object.entries(options.env).map(([name, value]) => [prefix + name, value]),
        ),
        descriptors: [
          ...standard.map((fd) => fd ?? nothing.number),
          say.number,
          terminal.number,
        ],
        cwd: options.cwd,
        session: true,
        softDescriptors: options.softDescriptors,
      });
      setNonblocking(reports.read.number);
      return { pid, master, reports: reports.read };
    } catch (error) {
      reports.read.close();
      throw error;
    }
  } catch (error) {
    master.close();
    throw error;
  }
}

/** What a monitor reports of its program. */
export type MonitorReport =
  | { readonly what: "started"; readonly pid: number }
  | { readonly what: "failed"; readonly errno: number }
  | { readonly what: "suspended" }
  /** With wait(2)'s raw status. */
  | { readonly what: "ended"; readonly status: number };

/** A line of a monitor's; `undefined` when it makes no sense. */
export function parseReport(line: string): MonitorReport | undefined {
  const [what, number] = line.split(" ");
  if (what === "suspended" && number === undefined) return { what };
  const value = /^[0-9]{1,10}$/.test(number ?? "") ? Number(number) : undefined;
  if (value === undefined || value > 0x7fffffff) return undefined;
  if (what === "started" && value > 1) return { what, pid: value };
  if (what === "failed") return { what, errno: value };
  if (what === "ended") return { what, status: value };
  return undefined;
}
