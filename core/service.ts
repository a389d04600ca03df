/**
 * What a service manager, such as systemd, hands to the daemon that it starts, and what it is told in
 * return. sd_listen_fds(3), sd_notify(3): both are a few bytes, and need no library of its own.
 *
 * The environment says it, which the daemon does not keep: what is here is passed on as options.
 *
 * @module
 */
import { sendTo } from "../ipc/socket.ts";
import { AppjailError, wordsOf } from "./errors.ts";
import type { Log } from "./log.ts";

/** The descriptor that is handed over: SD_LISTEN_FDS_START. */
export const handedListener = 3;

/** What the daemon was handed. */
export interface Service {
  /** Where the manager listens for what becomes of it: a path, or an abstract name with @. */
  readonly notify: string | null;
  /** Whether the socket for clients is there already, as {@linkcode handedListener}. */
  readonly listener: boolean;
}

/**
 * What the environment says of it.
 *
 * @param pid this process's own: what is meant for another is none of its business
 */
export function serviceOf(env: Readonly<Record<string, string>>, pid: number): Service {
  const { NOTIFY_SOCKET: notify = "", LISTEN_PID: whom, LISTEN_FDS: count = "" } = env;
  if (whom === `${pid}` && count !== "1") {
    throw new AppjailError(
      "usage",
      `Cannot start the daemon: it was handed ${count} sockets (LISTEN_FDS), and takes one; ` +
        "give its socket unit a single ListenStream=",
    );
  }
  return {
    // Others, such as vsock, are for whole machines.
    notify: /^[/@]/.test(notify) && new TextEncoder().encode(notify).length <= 107 ? notify : null,
    listener: whom === `${pid}`,
  };
}

/** Tells the manager of the daemon's state; one that cannot be reached is no reason to stop. */
export function tellManager(
  notify: string | null,
  words: Readonly<Record<string, string>>,
  log: Log,
): void {
  if (notify === null) return;
  // A line each; nothing of it comes from outside but a path of root's.
  const lines = Object.entries(words).map(([name, value]) =>
    `${name}=${value.replace(/\n/g, " ")}`
  );
  try {
    sendTo(notify, new TextEncoder().encode(lines.join("\n")));
  } catch (error) {
    log.info(`the service manager cannot be told: ${wordsOf(error)}`);
  }
}
