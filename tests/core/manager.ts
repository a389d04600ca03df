/**
 * A service manager, as far as a daemon can tell: a socket for what it says, sd_notify(3).
 *
 * @module
 */
import { Fd, readSome } from "../../ipc/fd.ts";
import {
  AF_UNIX,
  arena,
  check,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sys,
  syscall,
} from "../../ipc/libc.ts";

export class Manager implements Disposable {
  readonly #socket: Fd;

  /** @param name a path, or an abstract name that begins with @ */
  constructor(name: string) {
    const type = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    this.#socket = new Fd(check(syscall(sys.socket, AF_UNIX, type), "socket"));
    const bytes = new TextEncoder().encode(name.replace(/^@/, "\0"));
    arena.reset();
    const place = arena.take(2 + bytes.length);
    arena.view.setUint16(place, AF_UNIX, true);
    arena.bytes.set(bytes, place + 2);
    const size = 2 + bytes.length;
    check(syscall(sys.bind, this.#socket.number, arena.addressOf(place), size), "bind", name);
  }

  /** What it was told since it was last asked: a list of lines for each time. */
  told(): readonly (readonly string[])[] {
    const all: string[][] = [];
    const buffer = new Uint8Array(4096);
    for (;;) {
      const count = readSome(this.#socket.number, buffer);
      if (count === undefined) return all;
      all.push(new TextDecoder().decode(buffer.subarray(0, count)).split("\n"));
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
