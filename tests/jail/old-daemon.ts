/**
 * A daemon of long ago, as far as a client notices: it listens where it is told, and says hello in a
 * version that nobody speaks any more. `deno run -A old-daemon.ts SOCKET`
 *
 * @module
 */
import { encodeFrame } from "../../ipc/frame.ts";
import { writeAll } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { accept, listen } from "../../ipc/socket.ts";

const [path = ""] = Deno.args;
using listener = listen(path);
Deno.chmodSync(path, 0o666);
console.log("ready");
for (;;) {
  await poller.readable(listener.number);
  const caller = accept(listener.number);
  if (caller === undefined) continue;
  const hello = { type: "hello", role: "dispatcher", protocol: 1, version: "0.0.1" };
  writeAll(caller.number, encodeFrame(hello));
  // It stays connected for as long as the caller does.
  void poller.readable(caller.number);
}
