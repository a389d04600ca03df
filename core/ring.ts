/**
 * The last of what comes without end, bounded in bytes: what is older makes room for what is newer.
 *
 * @module
 */
import type { ProgramName } from "./names.ts";
import type { OutputLine } from "./protocol.ts";

/** The longest line that is kept as one; a longer one is cut into several. In UTF-16 units. */
export const longestLine = 8192;

/** What an item costs beside its texts, roughly. */
const overhead = 100;

/** The most that is given at a time: six bytes a unit, if all is escaped, and still one frame. */
const batch = 128 * 1024;

/** A bounded list, each of whose items has its place in the whole sequence. */
export class Ring<T extends { readonly sequence: number }> {
  readonly #limit: number;
  readonly #most: number;
  readonly #sizeOf: (item: T) => number;
  /** What is dropped stays at its beginning until it is the half of it: a flood has no time to copy. */
  #items: (T | undefined)[] = [];
  #first = 0;
  #size = 0;
  #next = 0;

  /**
   * @param limit in bytes, roughly
   * @param most how many items
   * @param sizeOf the length of an item's texts
   */
  constructor(limit: number, most: number, sizeOf: (item: T) => number) {
    this.#limit = limit;
    this.#most = most;
    this.#sizeOf = sizeOf;
  }

  /** The sequence number that the next item will have. */
  get next(): number {
    return this.#next;
  }

  /** That of the oldest item that is there, or else of the next one. */
  get first(): number {
    return this.#items[this.#first]?.sequence ?? this.#next;
  }

  /** Adds an item that has its sequence number; one that is not newer is passed over. */
  add(item: T): boolean {
    if (item.sequence < this.#next) return false;
    this.#next = item.sequence + 1;
    this.#items.push(item);
    this.#size += this.#sizeOf(item) + overhead;
    while (
      (this.#size > this.#limit || this.#items.length - this.#first > this.#most) &&
      this.#first < this.#items.length - 1
    ) {
      const oldest = this.#items[this.#first];
      if (oldest !== undefined) this.#size -= this.#sizeOf(oldest) + overhead;
      this.#items[this.#first] = undefined;
      this.#first++;
    }
    if (this.#first > this.#items.length / 2) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
    return true;
  }

  /**
   * The items from a sequence number on, as many as are still there and fit one message, `most` at
   * most.
   */
  from(sequence: number, most = Infinity): readonly T[] {
    const items: T[] = [];
    let size = 0;
    for (let at = this.#place(sequence); at < this.#items.length && items.length < most; at++) {
      const item = this.#items[at];
      if (item === undefined) break;
      size += this.#sizeOf(item) + overhead;
      if (size > batch && items.length > 0) break;
      items.push(item);
    }
    return items;
  }

  /** Where the first item is that has this sequence number or a later one. */
  #place(sequence: number): number {
    let [low, high] = [this.#first, this.#items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#items[middle]?.sequence ?? 0) < sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The last lines that programs wrote. */
export class OutputRing extends Ring<OutputLine> {
  /** @param limit in bytes, roughly */
  constructor(limit: number) {
    super(limit, Infinity, ({ text }) => text.length);
  }

  /** Adds a line that was written just now. */
  append(program: ProgramName, stream: OutputLine["stream"], text: string, at: number): OutputLine {
    const line = { sequence: this.next, program, stream, text, at };
    this.add(line);
    return line;
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
