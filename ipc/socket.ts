/**
 * Unix stream sockets, the descriptors that travel beside the bytes, and who is at the other end.
 * unix(7), sendmsg(2), recvmsg(2).
 *
 * @module
 */
import { SystemError } from "./errno.ts";
import { Fd } from "./fd.ts";
import {
  AF_UNIX,
  arena,
  check,
  EAGAIN,
  EINTR,
  errno,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLERR,
  POLLHUP,
  SCM_RIGHTS,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_PEERCRED,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  sys,
  syscall,
} from "./libc.ts";
import { Arena } from "./memory.ts";
import { textOf } from "./octets.ts";

/** The most descriptors that one message of ours carries; the kernel's own limit is 253. */
export const maxDescriptors = 8;

const headerSize = 56; // struct msghdr
const controlSize = 16 + maxDescriptors * 4; // struct cmsghdr and its descriptors
const receiveSize = 64 * 1024;
const sendSize = 64 * 1024;

const receiving = new Arena(headerSize + 16 + controlSize + receiveSize + 64);
const sending = new Arena(headerSize + 16 + controlSize + sendSize + 64);

/**
 * A sockaddr_un in the emptied arena: where it lies, and how long it is.
 *
 * @param abstract whether a name that begins with @ stands for one that begins with a NUL. unix(7)
 */
function address(path: string, abstract = false): readonly [address: number, size: number] {
  const name = new TextEncoder().encode(path);
  // sun_path holds 108 bytes with its NUL. A longer one would be cut to another path.
  if (name.length === 0 || name.length > 107 || name.includes(0)) {
    throw new SystemError("socket path", 36, path);
  }
  const isAbstract = abstract && path.startsWith("@");
  if (isAbstract) name[0] = 0;
  arena.reset();
  const offset = arena.take(2 + name.length + 1);
  arena.view.setUint16(offset, AF_UNIX, true);
  arena.bytes.set(name, offset + 2);
  // Every byte of an abstract name counts, so there is none more at its end.
  return [arena.addressOf(offset), 2 + name.length + (isAbstract ? 0 : 1)];
}

function unixSocket(type: number): Fd {
  return new Fd(check(syscall(sys.socket, AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK), "socket"));
}

/** A listening socket at `path`, made with mode 0600 whatever the umask. */
export function listen(path: string, backlog = 1024): Fd {
  const socket = bind(path);
  try {
    startListening(socket, backlog);
  } catch (error) {
    socket.close();
    throw error;
  }
  return socket;
}

/** A socket at `path` that nobody can connect to yet, made with mode 0600 whatever the umask. */
export function bind(path: string): Fd {
  const name = address(path);
  const socket = unixSocket(SOCK_STREAM);
  const before = syscall(sys.umask, 0o177);
  try {
    check(syscall(sys.bind, socket.number, ...name), "bind", path);
  } catch (error) {
    socket.close();
    throw error;
  } finally {
    syscall(sys.umask, before);
  }
  return socket;
}

/** From now on it can be connected to; whoever does finds there who calls this. */
export function startListening(socket: Fd, backlog: number): void {
  check(syscall(sys.listen, socket.number, backlog), "listen");
}

/** Connects at once or throws: a unix socket never has to wait but for a full backlog (EAGAIN). */
export function connect(path: string): Fd {
  const name = address(path);
  const socket = unixSocket(SOCK_STREAM);
  try {
    check(syscall(sys.connect, socket.number, ...name), "connect", path);
  } catch (error) {
    socket.close();
    throw error;
  }
  return socket;
}

/**
 * Sends one datagram to the socket of that name, and waits for nothing.
 *
 * @param name a path, or an abstract name with @ for its NUL
 * @throws {SystemError} when nobody is there, or has room for it
 */
export function sendTo(name: string, bytes: Uint8Array): void {
  using socket = unixSocket(SOCK_DGRAM);
  check(syscall(sys.connect, socket.number, ...address(name, true)), "connect", name);
  if (send(socket.number, bytes) === undefined) throw new SystemError("send", EAGAIN, name);
}

/** Where a descriptor listens for streams; `undefined` when it does not, or has no path. unix(7). */
export function listensAt(fd: number): string | undefined {
  const is = (name: number, wanted: number): boolean => {
    arena.reset();
    const [value, size] = [arena.take(4), arena.take(4)];
    arena.view.setUint32(size, 4, true);
    const [place, length] = [arena.addressOf(value), arena.addressOf(size)];
    const result = syscall(sys.getsockopt, fd, SOL_SOCKET, name, place, length);
    return result === 0 && arena.view.getInt32(value, true) === wanted;
  };
  if (!is(SO_DOMAIN, AF_UNIX) || !is(SO_TYPE, SOCK_STREAM) || !is(SO_ACCEPTCONN, 1)) {
    return undefined;
  }
  arena.reset();
  const room = 2 + 108; // struct sockaddr_un
  const [name, size] = [arena.take(room), arena.take(4)];
  arena.view.setUint32(size, room, true);
  check(syscall(sys.getsockname, fd, arena.addressOf(name), arena.addressOf(size)), "getsockname");
  // The kernel says how long a path is with its NUL, which one of 108 bytes has outside of the room.
  const path = arena.at(name + 2, Math.min(arena.view.getUint32(size, true), room) - 2);
  const end = path.indexOf(0);
  return end === 0 || path.length === 0
    ? undefined
    : textOf(end < 0 ? path : path.subarray(0, end));
}

/** The next connection, or `undefined` when none waits. */
export function accept(listener: number): Fd | undefined {
  for (;;) {
    const fd = syscall(sys.accept4, listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return new Fd(fd);
    const code = errno();
    if (code === EAGAIN) return undefined;
    // ECONNABORTED: the caller left before its turn.
    if (code !== EINTR && code !== 103) throw new SystemError("accept4", code);
  }
}

/** Two connected sockets, non-blocking, close-on-exec. */
export function pair(): readonly [Fd, Fd] {
  arena.reset();
  const numbers = arena.take(8);
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  check(syscall(sys.socketpair, AF_UNIX, type, 0, arena.addressOf(numbers)), "socketpair");
  return [
    new Fd(arena.view.getInt32(numbers, true)),
    new Fd(arena.view.getInt32(numbers + 4, true)),
  ];
}

/** Who is at the other end, as the kernel knew it when the connection was made. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** SO_PEERCRED, unix(7). Trust the uid; a pid may be another's by now. */
export function peerOf(fd: number): Peer {
  arena.reset();
  const [peer, size] = [arena.take(12), arena.take(4)];
  arena.view.setUint32(size, 12, true);
  check(
    syscall(
      sys.getsockopt,
      fd,
      SOL_SOCKET,
      SO_PEERCRED,
      arena.addressOf(peer),
      arena.addressOf(size),
    ),
    "getsockopt",
  );
  return {
    pid: arena.view.getInt32(peer, true),
    uid: arena.view.getUint32(peer + 4, true),
    gid: arena.view.getUint32(peer + 8, true),
  };
}

/**
 * Sends up to 64 KiB of `bytes`, the descriptors with the first of them.
 *
 * @returns how many bytes were taken, or `undefined` when there is no room (then nothing was)
 */
export function send(
  fd: number,
  bytes: Uint8Array,
  descriptors: readonly number[] = [],
): number | undefined {
  if (descriptors.length > maxDescriptors) throw new SystemError("sendmsg", 22);
  const chunk = bytes.subarray(0, sendSize);
  sending.reset();
  const header = sending.take(headerSize);
  const vector = sending.take(16);
  const data = sending.take(chunk.length);
  sending.bytes.set(chunk, data);
  sending.pointer(vector, data);
  sending.view.setBigUint64(vector + 8, BigInt(chunk.length), true);
  sending.pointer(header + 16, vector);
  sending.view.setBigUint64(header + 24, 1n, true);
  if (descriptors.length > 0) {
    const length = 16 + descriptors.length * 4;
    const control = sending.take((length + 7) & ~7);
    sending.view.setBigUint64(control, BigInt(length), true);
    sending.view.setInt32(control + 8, SOL_SOCKET, true);
    sending.view.setInt32(control + 12, SCM_RIGHTS, true);
    descriptors.forEach((number, index) =>
      sending.view.setInt32(control + 16 + index * 4, number, true)
    );
    sending.pointer(header + 32, control);
    sending.view.setBigUint64(header + 40, BigInt((length + 7) & ~7), true);
  }
  for (;;) {
    const count = syscall(sys.sendmsg, fd, sending.addressOf(header), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) return count;
    const code = errno();
    // ETOOMANYREFS: too many descriptors wait in sockets of this user; they will be taken.
    if (code === EAGAIN || code === 109) return undefined;
    if (code !== EINTR) throw new SystemError("sendmsg", code);
  }
}

/** What one recvmsg(2) brought. The bytes are a view that the next call overwrites. */
export interface Received {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly descriptors: readonly Fd[];
  /** The peer sent more descriptors than any message of ours has. */
  readonly surplus: boolean;
}

/** Receives what is there: no bytes at the end, `undefined` when nothing has come yet. */
export function receive(fd: number): Received | undefined {
  receiving.reset();
  const header = receiving.take(headerSize);
  const vector = receiving.take(16);
  const control = receiving.take(controlSize);
  const data = headerSize + 16 + ((controlSize + 7) & ~7);
  receiving.pointer(vector, data);
  receiving.view.setBigUint64(vector + 8, BigInt(receiveSize), true);
  receiving.pointer(header + 16, vector);
  receiving.view.setBigUint64(header + 24, 1n, true);
  receiving.pointer(header + 32, control);
  receiving.view.setBigUint64(header + 40, BigInt(controlSize), true);
  let count: number;
  for (;;) {
    count = syscall(sys.recvmsg, fd, receiving.addressOf(header), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count >= 0) break;
    const code = errno();
    if (code === EAGAIN) return undefined;
    if (code !== EINTR) throw new SystemError("recvmsg", code);
  }
  const descriptors: Fd[] = [];
  const used = Number(receiving.view.getBigUint64(header + 40, true));
  for (let offset = 0; offset + 16 <= used;) {
    const length = Number(receiving.view.getBigUint64(control + offset, true));
    if (length < 16) break;
    if (
      receiving.view.getInt32(control + offset + 8, true) === SOL_SOCKET &&
      receiving.view.getInt32(control + offset + 12, true) === SCM_RIGHTS
    ) {
      for (let at = offset + 16; at + 4 <= Math.min(offset + length, used); at += 4) {
        descriptors.push(new Fd(receiving.view.getInt32(control + at, true)));
      }
    }
    offset += (length + 7) & ~7;
  }
  const flags = receiving.view.getInt32(header + 48, true);
  return {
    bytes: receiving.at(data, count),
    descriptors,
    surplus: (flags & MSG_CTRUNC) !== 0,
  };
}

/** Whether the peer has yet to read something of what was sent. SIOCOUTQ, unix(7). */
export function hasUnread(fd: number): boolean {
  const SIOCOUTQ = 0x5411; // linux/sockios.h
  arena.reset();
  const amount = arena.take(4);
  check(syscall(sys.ioctl, fd, SIOCOUTQ, arena.addressOf(amount)), "SIOCOUTQ");
  return arena.view.getInt32(amount, true) > 0;
}

/**
 * Whether the other end was closed, though something of it may still be there to be read. One that
 * will say nothing more but still listens has not left. unix(7), poll(2).
 */
export function hasLeft(fd: number): boolean {
  arena.reset();
  const [set, timeout] = [arena.take(8), arena.take(16)];
  arena.view.setInt32(set, fd, true);
  check(syscall(sys.ppoll, arena.addressOf(set), 1, arena.addressOf(timeout), 0), "poll");
  return (arena.view.getInt16(set + 6, true) & (POLLHUP | POLLERR)) !== 0;
}

/** Sends and receives nothing more; the other end sees the end. shutdown(2). */
export function shutdown(fd: number): void {
  const SHUT_RDWR = 2;
  syscall(sys.shutdown, fd, SHUT_RDWR);
}
