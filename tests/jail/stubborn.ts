/**
 * Somebody who hands over streams that cannot be closed: `stubborn.ts SOCKET FILE SERVER COUNT`. FILE
 * lies on a file system of FUSE whose server is stopped once it is open. A process of its own, because
 * whoever has such a file open waits for the server at its next exec and at its end.
 *
 * @module
 */
import { open } from "../../ipc/fd.ts";
import { encodeFrame } from "../../ipc/frame.ts";
import { send } from "../../ipc/socket.ts";
import { clientHello, Peer, runMessage } from "./peer.ts";

const [socket = "", path = "", server = "", count = ""] = Deno.args;
const file = open(path, 0);
const streams = [file.number, file.number, file.number];
Deno.kill(Number(server), "SIGSTOP");
const peers = Array.from({ length: Number(count) }, () => new Peer(socket));
for (const peer of peers) {
  send(peer.socket.number, encodeFrame(clientHello));
  send(peer.socket.number, encodeFrame(runMessage("stuck", ["true"])), streams);
}
console.log("sent");
// Until its standard input is closed.
await Deno.stdin.read(new Uint8Array(1));
