/**
 * Asking by a pinentry, the window that GnuPG has for this: commands and answers in lines, of which
 * those that begin with `D ` are data. The Assuan protocol, and pinentry's manual, "Protocol".
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { writeAll } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { Secret } from "../ipc/secret.ts";
import { type Answer, cancelled, type Question, Unusable, type Way } from "./asking.ts";
import { Asker, type Variables } from "./asker.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const [newline, space, percent, letterD] = [0x0a, 0x20, 0x25, 0x44];

/** Of gpg-error(1): the lower 16 bits are the error, those above say who found it. */
const GPG_ERR_CANCELED = 99, GPG_ERR_FULLY_CANCELED = 198;

/** Words as an argument of a command: what would end the line, or be taken for an escape, is one. */
export function escaped(words: string): string {
  return words.replace(
    // deno-lint-ignore no-control-regex -- control characters are what it is about
    /[%\x00-\x1f\x7f]/g,
    (one) => `%${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}

/** The digit that a byte stands for, NaN when it is none. */
function digit(byte: number | undefined): number {
  return byte === undefined ? NaN : Number.parseInt(String.fromCharCode(byte), 16);
}

/** Appends data, byte by byte, as they were before they were escaped. False when there is no room. */
export function appendUnescaped(data: Uint8Array, to: Secret): boolean {
  for (let at = 0; at < data.length; at++) {
    if (to.left === 0) return false;
    const byte = data[at] ?? 0;
    const code = byte === percent ? digit(data[at + 1]) * 16 + digit(data[at + 2]) : NaN;
    if (Number.isNaN(code)) to.push(byte);
    else {
      to.push(code);
      at += 2;
    }
  }
  return true;
}

/** How a command ended. */
interface Reply {
  /** 0 when it has succeeded. */
  readonly error: number;
  /** The second time was asked for, and answered with the same. */
  readonly repeated: boolean;
}

export class Pinentry implements Way {
  readonly #path: string;
  readonly #env: Variables;

  constructor(path: string, env: Variables) {
    this.#path = path;
    this.#env = env;
  }

  async ask({ prompt, notice, repeat }: Question): Promise<Answer> {
    await using asker = Asker.start(this.#path, [], this.#env);
    using lines = new Lines(asker);
    await lines.reply();
    await lines.command(`SETTITLE ${escaped("appjail")}`);
    await lines.command(`SETDESC ${escaped(prompt)}`);
    await lines.command("SETPROMPT Passphrase:");
    if (notice !== undefined) await lines.command(`SETERROR ${escaped(notice)}`);
    // What does not know of repeating says so, and is asked a second time.
    if (repeat !== undefined) {
      await lines.command(`SETREPEAT ${escaped(repeat)}`);
      await lines.command("SETREPEATERROR The two differ");
    }
    const secret = new Secret();
    try {
      const { error, repeated } = await lines.command("GETPIN", secret);
      if (error === 0) return { secret, repeated };
      if ([GPG_ERR_CANCELED, GPG_ERR_FULLY_CANCELED].includes(error & 0xffff)) throw cancelled();
      throw new Unusable(`${this.#path} cannot ask (its error ${error})`);
    } catch (error) {
      secret[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** The lines of the conversation. */
class Lines implements Disposable {
  readonly #asker: Asker;
  /** What was read and is not yet a line, or not yet looked at. */
  readonly #read = new Secret();

  constructor(asker: Asker) {
    this.#asker = asker;
  }

  async command(line: string, data?: Secret): Promise<Reply> {
    try {
      writeAll(this.#asker.input.number, encoder.encode(`${line}\n`));
    } catch (error) {
      if (isErrno(error, "EPIPE")) throw new Unusable("the pinentry has ended");
      throw error;
    }
    return await this.reply(data);
  }

  /** Reads until a command has succeeded or failed. */
  async reply(data?: Secret): Promise<Reply> {
    let repeated = false;
    for (;;) {
      const end = await this.#lineEnd();
      const line = this.#read.bytes.subarray(0, end);
      try {
        if (line[0] === letterD && line[1] === space) {
          // Longer than any that is taken: it goes on until the end of the reply, for nothing.
          if (data !== undefined) appendUnescaped(line.subarray(2), data);
          continue;
        }
        const [word, argument = ""] = decoder.decode(line).split(" ");
        if (word === "OK") return { error: 0, repeated };
        if (word === "ERR") return { error: Number.parseInt(argument, 10) || -1, repeated };
        if (word === "S" && argument === "PIN_REPEATED") repeated = true;
        // Whatever it wants to know, it is not to wait for it.
        if (word === "INQUIRE") writeAll(this.#asker.input.number, encoder.encode("CAN\n"));
      } finally {
        this.#read.shift(end + 1);
      }
    }
  }

  /** Where the line that is read first ends. */
  async #lineEnd(): Promise<number> {
    for (;;) {
      const end = this.#read.bytes.indexOf(newline);
      if (end >= 0) return end;
      // The protocol has no line of more than 1000 bytes.
      if (this.#read.left === 0) throw new Unusable("the pinentry says too much");
      const count = this.#read.read(this.#asker.output.number);
      if (count === 0) throw new Unusable("the pinentry has ended");
      if (count === undefined) await poller.readable(this.#asker.output.number);
    }
  }

  [Symbol.dispose](): void {
    this.#read[Symbol.dispose]();
  }
}
