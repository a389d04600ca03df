/**
 * The socket to which clients connect: made by the helper, or by a service manager that has handed it
 * over, and keeps it, with what connects meanwhile, from one daemon to the next. sd_listen_fds(3).
 *
 * @module
 */
import { Fd, setNonblocking } from "../ipc/fd.ts";
import { listen, listensAt } from "../ipc/socket.ts";
import { AppjailError } from "./errors.ts";
import { changeModeAt, removeFile, statusAt } from "./kernel.ts";
import { handedListener } from "./service.ts";

const name = "appjail.sock";

/** @param handed whether it is there already, as descriptor 3 */
export function openListener(runtime: Fd, runtimePath: string, handed: boolean): Fd {
  const path = `${runtimePath}/${name}`;
  if (!handed) {
    removeListener(runtime);
    const listener = listen(path);
    changeModeAt(runtime, name, 0o666);
    return listener;
  }
  prove(runtime, path);
  const listener = new Fd(handedListener);
  setNonblocking(listener.number);
  return listener;
}

/** Takes away one that was not handed over. */
export function removeListener(runtime: Fd): void {
  removeFile(runtime, name);
}

/** Makes sure that what was handed over is where clients connect. Who may, its unit has said. */
function prove(runtime: Fd, path: string): void {
  const wrong = (why: string, advice: string): AppjailError =>
    new AppjailError(
      "usage",
      `Cannot start the daemon: the socket that it was handed ${why}; ${advice}`,
    );
  const there = listensAt(handedListener);
  if (there !== path) {
    throw wrong(
      there === undefined ? "does not listen for streams at a path" : `is that of ${there}`,
      `its unit has to say: ListenStream=${path}`,
    );
  }
  // Where a daemon without one has served meanwhile, it is gone, and nobody reaches it any more.
  if (statusAt(runtime, name)?.kind !== "socket") {
    throw wrong(`is not at ${path} any more`, "try: systemctl restart appjail.socket");
  }
}
