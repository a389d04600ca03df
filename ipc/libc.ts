/**
 * The system calls that work on descriptors: the first of two such tables (the other, with what a
 * jail is made of, is core/kernel.ts). Every role loads this one.
 *
 * They go through syscall(2) by number, because each symbol that Deno looks up costs 0.1 ms at every
 * start, and a table of forty would cost more than all else that a client does. Arguments are
 * numbers: integers, and the addresses of what was placed in an arena.
 *
 * All calls are synchronous, so that errno is still right when it is read; only `poll` may wait
 * (see poller.ts). Nothing here follows a pointer that JavaScript did not make.
 *
 * @module
 */
import { SystemError } from "./errno.ts";
import { Arena } from "./memory.ts";

const { symbols } = Deno.dlopen("libc.so.6", {
  __errno_location: { parameters: [], result: "pointer" },
  memcpy: { parameters: ["buffer", "pointer", "usize"], result: "void" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
  // Six arguments fit every call there is. A result of 32 bits is a plain number; no call that is
  // used here returns more.
  syscall: { parameters: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], result: "i32" },
});

/** poll(2), the one call that may wait. */
export const poll = symbols.poll;

// The declaration asks for bigint, the runtime takes numbers as well: they cost nothing to make.
const call = symbols.syscall as unknown as (
  ...words: readonly [number, number, number, number, number, number, number]
) => number;

/** A system call by its number: -1 when it fails, and then errno says why. */
export function syscall(number: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): number {
  return call(number, a, b, c, d, e, f);
}

/** Where arguments of one call are placed; reset before each. */
export const arena: Arena = new Arena(2 * 1024 * 1024 + 256 * 1024);

/** The address of a path, placed in the emptied arena. */
export function path(text: string): number {
  arena.reset();
  return arena.addressOf(arena.text(text));
}

/** asm/unistd_64.h and asm-generic/unistd.h: each call by its number on x86-64 and on arm64. */
export function numberOf(x86: number, arm: number): number {
  return Deno.build.arch === "aarch64" ? arm : x86;
}

export const sys = {
  accept4: numberOf(288, 242),
  bind: numberOf(49, 200),
  close: numberOf(3, 57),
  close_range: 436,
  connect: numberOf(42, 203),
  eventfd2: numberOf(290, 19),
  fcntl: numberOf(72, 25),
  getdents64: numberOf(217, 61),
  getsockname: numberOf(51, 204),
  getsockopt: numberOf(55, 209),
  ioctl: numberOf(16, 29),
  listen: numberOf(50, 201),
  openat: numberOf(257, 56),
  pipe2: numberOf(293, 59),
  ppoll: numberOf(271, 73),
  read: numberOf(0, 63),
  recvmsg: numberOf(47, 212),
  sendmsg: numberOf(46, 211),
  shutdown: numberOf(48, 210),
  socket: numberOf(41, 198),
  socketpair: numberOf(53, 199),
  umask: numberOf(95, 166),
  write: numberOf(1, 64),
} as const;

const errnoBytes = new Uint8Array(new ArrayBuffer(4));
const errnoValue = new Int32Array(errnoBytes.buffer);
/** The place of this thread's errno, which stays the same for as long as the thread lives. */
const errnoPlace = symbols.__errno_location();

/**
 * errno of the call made just before, on this thread. Copied by memcpy, which needs no permission.
 *
 * Nothing may happen between the call and this one, and garbage collection may happen wherever
 * something is allocated: seen in a jail, where it left ENOENT behind (there is no /sys to count the
 * processors in). So nothing here allocates, lengths are returned as plain numbers, and the function
 * is compiled before it is needed.
 */
export function errno(): number {
  symbols.memcpy(errnoBytes, errnoPlace, 4n);
  return errnoValue[0] ?? 0;
}
for (let i = 0; i < 3; i++) {
  if (syscall(sys.close, -1) >= 0 || errno() !== 9) throw new Error("no errno");
}

/** Returns the result of a call, or throws what errno says of it when it is negative. */
export function check(result: number, call: string, subject?: string): number {
  if (result < 0) throw new SystemError(call, errno(), subject);
  return result;
}

/** fcntl.h and sys/socket.h; these are equal on x86-64 and arm64. */
export const O_CLOEXEC = 0o2000000;
export const O_NONBLOCK = 0o4000;
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_SETPIPE_SZ = 1031;
export const FD_CLOEXEC = 1;
export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_CLOEXEC = O_CLOEXEC;
export const SOCK_NONBLOCK = O_NONBLOCK;
export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
export const SO_PEERCRED = 17;
export const SO_ACCEPTCONN = 30;
export const SO_DOMAIN = 39;
export const SCM_RIGHTS = 1;
export const MSG_DONTWAIT = 0x40;
export const MSG_CTRUNC = 0x8;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
export const POLLNVAL = 32;
export const EAGAIN = 11;
export const EINTR = 4;
