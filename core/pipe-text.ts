/**
 * What a program prints, as it comes through a pipe.
 *
 * @module
 */
import { type Fd, readSome } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";

/**
 * Everything until the writers are gone. What goes beyond a length is read, and thrown away.
 *
 * @param end non-blocking
 * @param most about how many characters are kept
 */
export async function textThrough(end: Fd, most: number): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(4096);
  for (let text = "";;) {
    const count = readSome(end.number, buffer);
    if (count === undefined) await poller.readable(end.number);
    else if (count === 0) return text + decoder.decode();
    else if (text.length < most) {
      text += decoder.decode(buffer.subarray(0, count), { stream: true });
    }
  }
}
