/**
 * The other end of a socket, played by somebody who keeps no rule.
 *
 * @module
 */
import type { Fd } from "../../ipc/fd.ts";
import { check, numberOf, SCM_RIGHTS, SOL_SOCKET, sys, syscall } from "../../ipc/libc.ts";
import { Arena } from "../../ipc/memory.ts";

const arena = new Arena(64 * 1024);

/** sendmsg(2) with as many descriptors as the kernel lets it have, which is 253. */
export function sendAll(socket: Fd, bytes: Uint8Array, descriptors: readonly number[]): void {
  arena.reset();
  const data = arena.take(bytes.length);
  arena.bytes.set(bytes, data);
  const [vector, header] = [arena.take(16), arena.take(56)];
  const length = 16 + descriptors.length * 4;
  const control = arena.take(length);
  arena.pointer(vector, data);
  arena.view.setBigUint64(vector + 8, BigInt(bytes.length), true);
  arena.view.setBigUint64(control, BigInt(length), true);
  arena.view.setInt32(control + 8, SOL_SOCKET, true);
  arena.view.setInt32(control + 12, SCM_RIGHTS, true);
  descriptors.forEach((fd, at) => arena.view.setInt32(control + 16 + at * 4, fd, true));
  arena.pointer(header + 16, vector);
  arena.view.setBigUint64(header + 24, 1n, true);
  arena.pointer(header + 32, control);
  arena.view.setBigUint64(header + 40, BigInt(length), true);
  check(syscall(sys.sendmsg, socket.number, arena.addressOf(header)), "sendmsg");
}

/** Makes the room for what was sent and not yet received as small as the kernel lets it be. */
export function narrow(socket: Fd): void {
  const SO_SNDBUF = 7;
  arena.reset();
  const size = arena.take(4);
  check(
    syscall(
      numberOf(54, 208), // setsockopt
      socket.number,
      SOL_SOCKET,
      SO_SNDBUF,
      arena.addressOf(size),
      4,
    ),
    "setsockopt",
  );
}
