/**
 * Terminals and pseudo-terminals: their settings, size and foreground group. tty_ioctl(4), pty(7),
 * termios(3).
 *
 * @module
 */
import { isErrno } from "./errno.ts";
import { Fd } from "./fd.ts";
import { arena, check, numberOf, O_CLOEXEC, path as place, sys, syscall } from "./libc.ts";

// asm-generic/ioctls.h, equal on x86-64 and arm64.
const TCGETS = 0x5401;
const TCSETS = 0x5402;
const TCFLSH = 0x540b;
const TIOCGPGRP = 0x540f;
const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const TIOCSPTLCK = 0x40045431;
const TIOCGPTPEER = 0x5441;

const O_RDWR = 2;
const O_NOCTTY = 0o400;

/** How many control characters the kernel's struct termios has, asm-generic/termbits.h. */
export const controlCharacters = 19;
/** c_cc's places that are used here. */
export const VINTR = 0, VQUIT = 1, VEOF = 4, VTIME = 5, VMIN = 6, VSUSP = 10;

/** The kernel's struct termios. */
export interface TerminalSettings {
  readonly iflag: number;
  readonly oflag: number;
  readonly cflag: number;
  readonly lflag: number;
  readonly cc: readonly number[];
}

/** struct winsize: in characters, and in pixels where the terminal knows. */
export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
  readonly width: number;
  readonly height: number;
}

/** Both ends of a pseudo-terminal. */
export interface PseudoTerminal {
  readonly master: Fd;
  readonly slave: Fd;
}

/** Makes a pseudo-terminal on the devpts that this process sees. */
export function openPseudoTerminal(): PseudoTerminal {
  const AT_FDCWD = -100;
  const flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
  const master = new Fd(
    check(syscall(sys.openat, AT_FDCWD, place("/dev/ptmx"), flags), "open", "/dev/ptmx"),
  );
  try {
    arena.reset();
    const unlocked = arena.addressOf(arena.take(4));
    check(syscall(sys.ioctl, master.number, TIOCSPTLCK, unlocked), "TIOCSPTLCK");
    // By the master, never by a path: whatever is mounted at /dev/pts, it is this one's other end.
    const slave = syscall(sys.ioctl, master.number, TIOCGPTPEER, flags);
    return { master, slave: new Fd(check(slave, "TIOCGPTPEER")) };
  } catch (error) {
    master.close();
    throw error;
  }
}

/** The terminal's settings; `undefined` when the descriptor is no terminal. */
export function settingsOf(fd: number): TerminalSettings | undefined {
  arena.reset();
  const at = arena.take(64);
  if (syscall(sys.ioctl, fd, TCGETS, arena.addressOf(at)) !== 0) return undefined;
  const { view } = arena;
  return {
    iflag: view.getUint32(at, true),
    oflag: view.getUint32(at + 4, true),
    cflag: view.getUint32(at + 8, true),
    lflag: view.getUint32(at + 12, true),
    // After the flags comes c_line, a byte, and then c_cc.
    cc: [...arena.at(at + 17, controlCharacters)],
  };
}

/** Sets the terminal's settings at once; what waits to be written or read is not waited for. */
export function applySettings(fd: number, settings: TerminalSettings): void {
  arena.reset();
  const at = arena.take(64);
  const { view } = arena;
  view.setUint32(at, settings.iflag, true);
  view.setUint32(at + 4, settings.oflag, true);
  view.setUint32(at + 8, settings.cflag, true);
  view.setUint32(at + 12, settings.lflag, true);
  arena.bytes.set(settings.cc.slice(0, controlCharacters), at + 17);
  check(syscall(sys.ioctl, fd, TCSETS, arena.addressOf(at)), "TCSETS");
}

// asm-generic/termbits.h
const IGNBRK = 0o1, BRKINT = 0o2, PARMRK = 0o10, ISTRIP = 0o40, INLCR = 0o100, IGNCR = 0o200;
const ICRNL = 0o400, IUCLC = 0o1000, IXON = 0o2000;
const OPOST = 0o1;
const CSIZE = 0o60, CS8 = 0o60, PARENB = 0o400;
const ISIG = 0o1, ICANON = 0o2, ECHO = 0o10, ECHONL = 0o100, NOFLSH = 0o200, IEXTEN = 0o100000;

/** The same terminal, passing every byte as it is, both ways. cfmakeraw(3). */
export function rawSettings(settings: TerminalSettings): TerminalSettings {
  const cc = [...settings.cc];
  cc[VMIN] = 1;
  cc[VTIME] = 0;
  return {
    iflag: (settings.iflag &
      ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON)) >>> 0,
    oflag: (settings.oflag & ~OPOST) >>> 0,
    cflag: ((settings.cflag & ~(CSIZE | PARENB)) | CS8) >>> 0,
    lflag: (settings.lflag & ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN)) >>> 0,
    cc,
  };
}

/** The same terminal without an echo: for one whose person sees the echo of another. */
export function withoutEcho(settings: TerminalSettings): TerminalSettings {
  return { ...settings, lflag: (settings.lflag & ~(ECHO | ECHONL)) >>> 0 };
}

/**
 * The same terminal, for a line that nobody is to see. The kernel lets it be edited with the keys that
 * the person is used to, and overwrites what it has handed out, which it does for lines without an
 * echo alone (zero_buffer in drivers/tty/n_tty.c). ^C and ^Z throw away what was typed before them.
 */
export function hiddenLine(settings: TerminalSettings): TerminalSettings {
  return {
    ...settings,
    iflag: ((settings.iflag & ~(PARMRK | ISTRIP | INLCR | IGNCR | IUCLC)) | ICRNL) >>> 0,
    lflag: ((settings.lflag & ~(ECHO | ECHONL | NOFLSH)) | ISIG | ICANON) >>> 0,
  };
}

/** Whether two terminals are set alike. */
export function areEqual(one: TerminalSettings, other: TerminalSettings): boolean {
  return (["iflag", "oflag", "cflag", "lflag"] as const).every((key) => one[key] === other[key]) &&
    one.cc.every((value, index) => value === other.cc[index]);
}

/** Throws away what was typed and not read. */
export function discardInput(fd: number): void {
  const TCIFLUSH = 0;
  check(syscall(sys.ioctl, fd, TCFLSH, TCIFLUSH), "TCFLSH");
}

/** The same terminal, showing what is written as it is: for one whose output another makes lines of. */
export function withoutProcessing(settings: TerminalSettings): TerminalSettings {
  return { ...settings, oflag: (settings.oflag & ~OPOST) >>> 0 };
}

/** The terminal's size; 0 where it does not know. */
export function sizeOf(fd: number): TerminalSize {
  arena.reset();
  const at = arena.take(8);
  check(syscall(sys.ioctl, fd, TIOCGWINSZ, arena.addressOf(at)), "TIOCGWINSZ");
  const [rows = 0, columns = 0, width = 0, height = 0] = [0, 2, 4, 6].map((offset) =>
    arena.view.getUint16(at + offset, true)
  );
  return { rows, columns, width, height };
}

/** Sets the size; the foreground processes get SIGWINCH when it changes. */
export function setSize(fd: number, { rows, columns, width, height }: TerminalSize): void {
  arena.reset();
  const at = arena.take(8);
  [rows, columns, width, height].forEach((value, index) =>
    arena.view.setUint16(at + index * 2, value, true)
  );
  check(syscall(sys.ioctl, fd, TIOCSWINSZ, arena.addressOf(at)), "TIOCSWINSZ");
}

/** Whether this process may read from the terminal: it is in its foreground group. tcgetpgrp(3). */
export function isInForeground(fd: number): boolean {
  const getpgid = numberOf(121, 155);
  arena.reset();
  const at = arena.take(4);
  if (syscall(sys.ioctl, fd, TIOCGPGRP, arena.addressOf(at)) !== 0) return false;
  return arena.view.getInt32(at, true) === syscall(getpgid, 0);
}

/**
 * The same terminal as an open file description of our own, non-blocking: the one that was inherited
 * is the caller's too. `undefined` where it cannot be opened again, such as another user's.
 */
export function reopenTerminal(fd: number): Fd | undefined {
  return openAnew(`/proc/self/fd/${fd}`);
}

/** The terminal of this process's session, non-blocking; `undefined` when there is none. tty(4). */
export function controllingTerminal(): Fd | undefined {
  return openAnew("/dev/tty");
}

function openAnew(path: string): Fd | undefined {
  const AT_FDCWD = -100, O_NONBLOCK = 0o4000;
  const flags = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
  const fd = syscall(sys.openat, AT_FDCWD, place(path), flags);
  return fd < 0 ? undefined : new Fd(fd);
}

/** Whether reading failed because every process has closed the other end. pty(7). */
export function isHungUp(error: unknown): boolean {
  return isErrno(error, "EIO");
}
