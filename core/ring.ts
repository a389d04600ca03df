/**
 * The last lines that programs wrote, bounded in bytes: older ones make room for newer ones.
 *
 * @module
 */
import type { ProgramName } from "./names.ts";
import type { OutputLine } from "./protocol.ts";

/** The longest line that is kept as one; a longer one is cut into several. In UTF-16 units. */
export const longestLine = 8192;

/** What a kept line costs beside its text, roughly. */
const overhead = 100;

/** The most that is given at a time: six bytes a unit, if all is escaped, and still one frame. */
const batch = 128 * 1024;

/** A bounded list of lines, each with its place in the whole sequence. */
export class OutputRing {
  readonly #limit: number;
  /** What is dropped stays at its beginning until it is the half of it: a flood has no time to copy. */
  #lines: (OutputLine | undefined)[] = [];
  #first = 0;
  #size = 0;
  #next = 0;

  /** @param limit in bytes, roughly */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The sequence number that the next line will have. */
  get next(): number {
    return this.#next;
  }

  /** Adds a line that was written just now. */
  append(program: ProgramName, stream: OutputLine["stream"], text: string, at: number): OutputLine {
    const line = { sequence: this.#next, program, stream, text, at };
    this.add(line);
    return line;
  }

  /** Adds a line that has its sequence number already; one that is not newer is passed over. */
  add(line: OutputLine): boolean {
    if (line.sequence < this.#next) return false;
    this.#next = line.sequence + 1;
    this.#lines.push(line);
    this.#size += line.text.length + overhead;
    while (this.#size > this.#limit && this.#first < this.#lines.length - 1) {
      this.#size -= (this.#lines[this.#first]?.text.length ?? 0) + overhead;
      this.#lines[this.#first] = undefined;
      this.#first++;
    }
    if (this.#first > this.#lines.length / 2) {
      this.#lines.splice(0, this.#first);
      this.#first = 0;
    }
    return true;
  }

  /**
   * The lines from a sequence number on, as many as are still there and fit one message, `most` at
   * most.
   */
  from(sequence: number, most = Infinity): readonly OutputLine[] {
    const lines: OutputLine[] = [];
    let size = 0;
    for (let at = this.#place(sequence); at < this.#lines.length && lines.length < most; at++) {
      const line = this.#lines[at];
      if (line === undefined) break;
      size += line.text.length + overhead;
      if (size > batch && lines.length > 0) break;
      lines.push(line);
    }
    return lines;
  }

  /** Where the first line is that has this sequence number or a later one. */
  #place(sequence: number): number {
    let [low, high] = [this.#first, this.#lines.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#lines[middle]?.sequence ?? 0) < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Cuts a stream of bytes into lines. */
export class LineCutter {
  readonly #decoder = new TextDecoder();
  #rest = "";

  /** The lines that these bytes complete. */
  push(bytes: Uint8Array): readonly string[] {
    return this.#cut(this.#rest + this.#decoder.decode(bytes, { stream: true }));
  }

  /** What is left when the stream has ended. */
  end(): readonly string[] {
    const lines = [...this.#cut(this.#rest + this.#decoder.decode())];
    if (this.#rest !== "") lines.push(this.#rest);
    this.#rest = "";
    return lines;
  }

  #cut(text: string): readonly string[] {
    const parts = text.split("\n").map(pieces);
    const open = parts.pop() ?? [];
    this.#rest = open.at(-1) ?? "";
    return [...parts.flat(), ...open.slice(0, -1)];
  }
}

/** The line itself, or its parts where it is too long; none ends within a character. */
function pieces(line: string): readonly string[] {
  if (line.length <= longestLine) return [line];
  const all: string[] = [];
  for (let at = 0, end: number; at < line.length; at = end) {
    end = at + longestLine;
    // In code units: half of a pair is no text. A pair that ends here is whole.
    if ((line.codePointAt(end - 1) ?? 0) > 0xffff) end--;
    all.push(line.slice(at, end));
  }
  return all;
}
