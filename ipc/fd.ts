/**
 * A descriptor that somebody owns, and reading and writing it.
 *
 * @module
 */
import { isErrno, SystemError } from "./errno.ts";
import {
  arena,
  check,
  EAGAIN,
  EINTR,
  errno,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  FD_CLOEXEC,
  numberOf,
  O_CLOEXEC,
  O_NONBLOCK,
  path as place,
  sys,
  syscall,
} from "./libc.ts";
import { textOf } from "./octets.ts";
import { poller } from "./poller.ts";

/** An open descriptor. Whoever holds the object closes it, best with `using`. */
export class Fd implements Disposable {
  #number: number;

  constructor(number: number) {
    this.#number = number;
  }

  /** The descriptor's number. Throws once it is closed, so that no stranger's is ever used. */
  get number(): number {
    if (this.#number < 0) throw new SystemError("descriptor", 9);
    return this.#number;
  }

  get closed(): boolean {
    return this.#number < 0;
  }

  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    poller.forget(number);
    syscall(sys.close, number);
  }

  /** Gives the number away without closing it. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    return number;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens what exists, close-on-exec. `flags`: 0 to read, 1 to write, 2 for both. open(2). */
export function open(path: string, flags: 0 | 1 | 2): Fd {
  const AT_FDCWD = -100;
  return new Fd(
    check(syscall(sys.openat, AT_FDCWD, place(path), flags | O_CLOEXEC), "open", path),
  );
}

/** Whether this process could open what is at the end of a path, to read it. faccessat(2). */
export function isReadable(path: string): boolean {
  const AT_FDCWD = -100, R_OK = 4;
  return syscall(numberOf(269, 48), AT_FDCWD, place(path), R_OK) === 0;
}

/** A pipe, both ends close-on-exec. pipe2(2). */
export function pipe(options: { readonly nonblocking?: boolean } = {}): {
  readonly read: Fd;
  readonly write: Fd;
} {
  arena.reset();
  const pair = arena.take(8);
  const flags = O_CLOEXEC | (options.nonblocking === true ? O_NONBLOCK : 0);
  check(syscall(sys.pipe2, arena.addressOf(pair), flags), "pipe2");
  return {
    read: new Fd(arena.view.getInt32(pair, true)),
    write: new Fd(arena.view.getInt32(pair + 4, true)),
  };
}

/** A second descriptor of the same open file description, `lowest` or above, close-on-exec. */
export function duplicate(fd: number, lowest = 3): Fd {
  const F_DUPFD_CLOEXEC = 1030;
  return new Fd(check(syscall(sys.fcntl, fd, F_DUPFD_CLOEXEC, lowest), "fcntl"));
}

/** The most bytes that are read or written by one call. */
const chunk = 64 * 1024;

/**
 * One read(2). Returns the number of bytes, 0 at the end, or `undefined` when nothing is there yet
 * (on a non-blocking descriptor).
 */
export function readSome(fd: number, buffer: Uint8Array): number | undefined {
  for (;;) {
    arena.reset();
    const size = Math.min(buffer.length, chunk);
    const data = arena.take(size);
    const count = syscall(sys.read, fd, arena.addressOf(data), size);
    if (count >= 0) {
      buffer.set(arena.at(data, count));
      return count;
    }
    const code = errno();
    if (code === EAGAIN) return undefined;
    if (code !== EINTR) throw new SystemError("read", code);
  }
}

/** One write(2). Returns the number of bytes, or `undefined` when there is no room yet. */
export function writeSome(fd: number, bytes: Uint8Array): number | undefined {
  for (;;) {
    arena.reset();
    const size = Math.min(bytes.length, chunk);
    const data = arena.take(size);
    arena.bytes.set(bytes.subarray(0, size), data);
    const count = syscall(sys.write, fd, arena.addressOf(data), size);
    if (count >= 0) return count;
    const code = errno();
    if (code === EAGAIN) return undefined;
    if (code !== EINTR) throw new SystemError("write", code);
  }
}

/** Writes everything to a blocking descriptor, or throws. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  for (let rest = bytes; rest.length > 0;) rest = rest.subarray(writeSome(fd, rest) ?? 0);
}

/**
 * Reads to the end, or to `limit` bytes, where it throws. Blocks on a blocking descriptor: for
 * files.
 */
export function readAll(fd: number, limit: number): Uint8Array<ArrayBuffer> {
  let buffer = new Uint8Array(Math.min(limit + 1, 4096));
  let size = 0;
  for (;;) {
    if (size === buffer.length) {
      if (size > limit) throw new SystemError("read", 27);
      const larger = new Uint8Array(Math.min(limit + 1, size * 4));
      larger.set(buffer);
      buffer = larger;
    }
    const count = readSome(fd, buffer.subarray(size));
    if (count === undefined || count === 0) break;
    size += count;
  }
  if (size > limit) throw new SystemError("read", 27);
  return buffer.subarray(0, size);
}

/** Sets or clears close-on-exec. */
export function setCloseOnExec(fd: number, on: boolean): void {
  check(syscall(sys.fcntl, fd, F_SETFD, on ? FD_CLOEXEC : 0), "fcntl");
}

/** Makes the open file description non-blocking. Do this to none that a caller shares. */
export function setNonblocking(fd: number): void {
  const flags = check(syscall(sys.fcntl, fd, F_GETFL), "fcntl");
  check(syscall(sys.fcntl, fd, F_SETFL, flags | O_NONBLOCK), "fcntl");
}

/** Whether the number names an open descriptor. */
export function isOpen(fd: number): boolean {
  return syscall(sys.fcntl, fd, F_GETFD) >= 0;
}

/**
 * Whether the number names a descriptor that this process began with. What the runtime itself opens is
 * close-on-exec, which nothing that came through an exec can be.
 */
export function isInherited(fd: number): boolean {
  const flags = syscall(sys.fcntl, fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) === 0;
}

export function isTerminal(fd: number): boolean {
  const TCGETS = 0x5401; // asm-generic/ioctls.h
  arena.reset();
  return syscall(sys.ioctl, fd, TCGETS, arena.addressOf(arena.take(64))) === 0;
}

/** The names in an open folder, without `.` and `..`. getdents64(2). */
export function namesIn(folder: number): readonly string[] {
  const names: string[] = [];
  for (;;) {
    arena.reset();
    const buffer = arena.take(chunk);
    const size = check(
      syscall(sys.getdents64, folder, arena.addressOf(buffer), chunk),
      "getdents64",
    );
    if (size === 0) return names;
    for (let offset = buffer; offset < buffer + size;) {
      const length = arena.view.getUint16(offset + 16, true);
      const end = arena.bytes.indexOf(0, offset + 19);
      const name = textOf(arena.bytes.subarray(offset + 19, end));
      if (name !== "." && name !== "..") names.push(name);
      offset += length;
    }
  }
}

/**
 * Closes every descriptor from 3 on that was inherited and is not in `keep`; those in `keep`
 * become close-on-exec. What the runtime itself opened is close-on-exec, and nothing that came
 * through an exec can be: that tells them apart. To be called first thing in every role.
 *
 * @returns how many were closed
 */
export function closeInherited(keep: readonly number[]): number {
  using folder = open("/proc/self/fd", 0);
  let closed = 0;
  for (const fd of namesIn(folder.number).map(Number)) {
    if (fd < 3) continue;
    const flags = syscall(sys.fcntl, fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) !== 0) continue;
    if (keep.includes(fd)) setCloseOnExec(fd, true);
    else {
      syscall(sys.close, fd);
      closed++;
    }
  }
  return closed;
}

/** Marks everything from 3 on close-on-exec: nothing of ours outlives the next exec. */
export function closeAllOnExec(): void {
  const CLOSE_RANGE_CLOEXEC = 4; // linux/close_range.h
  check(syscall(sys.close_range, 3, 0xffffffff, CLOSE_RANGE_CLOEXEC), "close_range");
}

/** Whether an error means only that the other end is gone. */
export function isGone(error: unknown): boolean {
  return isErrno(error, "EPIPE", "ECONNRESET", "ENOTCONN");
}
