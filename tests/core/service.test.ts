/** core/service.ts: what is understood of a service manager's words, and what it is told. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { AppjailError } from "../../core/errors.ts";
import { gathered, type Log } from "../../core/log.ts";
import { serviceOf, tellManager } from "../../core/service.ts";
import { leakingNothing, Scratch } from "../scratch.ts";
import { Manager } from "./manager.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const none = { notify: null, listener: false };

/** A log that keeps its lines. */
function keeping(): Log & { readonly lines: readonly string[] } {
  const lines: string[] = [];
  return { lines, ...gathered(lines) };
}

Deno.test("who is started by hand was handed nothing", () => {
  deepEqual(serviceOf({}, 7), none);
  deepEqual(serviceOf({ NOTIFY_SOCKET: "", LISTEN_PID: "", LISTEN_FDS: "" }, 7), none);
});

Deno.test("a socket is this process's own only where its pid is named", () => {
  deepEqual(serviceOf({ LISTEN_PID: "7", LISTEN_FDS: "1" }, 7), { ...none, listener: true });
  for (const LISTEN_PID of ["8", "07", "7 ", "-7", "0"]) {
    deepEqual(serviceOf({ LISTEN_PID, LISTEN_FDS: "1" }, 7), none, LISTEN_PID);
  }
  deepEqual(serviceOf({ LISTEN_FDS: "1" }, 7), none);
});

Deno.test("no socket, or more than one, is a mistake in a unit, and said to be one", () => {
  for (const LISTEN_FDS of ["", "0", "2", "x", "1 "]) {
    throws(() => serviceOf({ LISTEN_PID: "7", LISTEN_FDS }, 7), (error) => {
      ok(error instanceof AppjailError);
      equal(error.exitStatus, 100);
      match(error.message, /it was handed .* sockets .*, and takes one; give its socket unit/);
      return true;
    });
  }
});

Deno.test("a manager is told at a path or at an abstract name, and nowhere else", () => {
  for (const name of ["/run/systemd/notify", "@/org/freedesktop/systemd1/notify"]) {
    deepEqual(serviceOf({ NOTIFY_SOCKET: name }, 7), { ...none, notify: name });
  }
  for (const name of ["vsock:2:1234", "notify", `/${"x".repeat(107)}`, `@${"ä".repeat(54)}`]) {
    deepEqual(serviceOf({ NOTIFY_SOCKET: name }, 7), none, name);
  }
});

Deno.test("what a manager is told comes as a line for each word, in one message", async () => {
  using scratch = new Scratch();
  const log = keeping();
  for (const name of [`${scratch.path}/notify`, `@appjail-test-${crypto.randomUUID()}`]) {
    using manager = new Manager(name);
    await leakingNothing(() => {
      tellManager(name, { READY: "1", STATUS: "one\ntwo" }, log);
      tellManager(name, { STOPPING: "1" }, log);
    });
    deepEqual(manager.told(), [["READY=1", "STATUS=one two"], ["STOPPING=1"]]);
  }
  tellManager(null, { READY: "1" }, log);
  deepEqual(log.lines, []);
});

Deno.test("a manager that is gone is no reason to stop", async () => {
  using scratch = new Scratch();
  const log = keeping();
  await leakingNothing(() => tellManager(`${scratch.path}/notify`, { READY: "1" }, log));
  match(log.lines.join(), /^the service manager cannot be told: .*ENOENT/);
});
