/**
 * TOML as a profile has it: read by the library, and once more here, for the line of each key.
 *
 * The library is lenient where a profile must not be: of two keys of one name it takes the last, or
 * joins their lists, and it loses a key called `__proto__`. So a text is looked through first, and what
 * is found there twice, nested without end, or not understood, is refused before the library sees it.
 *
 * Run by the dispatcher and by the slow verbs of the client. The text is a stranger's.
 *
 * @module
 */
import { parse as parseToml } from "@std/toml/parse";

/** A line and what is wrong with it. */
export interface Fault {
  /** Counted from 1. */
  readonly line: number;
  readonly message: string;
}

/** Where a value stands: the names of tables and keys, and the numbers of list elements, from 0. */
export type Path = readonly (string | number)[];

/** The largest text, in bytes: a profile is a page, and the daemon keeps what it has read. */
export const largestText = 65_536;

/** A profile has some forty keys; each costs the library as much as all those before it. */
const mostKeys = 1_000;
const deepest = 8;

/** A text that was understood. */
export interface Toml {
  readonly value: unknown;
  /** The line of a value, or of the nearest thing around it that has a name. */
  readonly lineOf: (path: Path) => number;
}

/** Reads a text, or says what is wrong with it: at the first place at which it is not understood. */
export function readToml(text: string): Toml | { readonly fault: Fault } {
  const scan = new Scan(text);
  const fault = scan.run();
  if (fault !== undefined) return { fault };
  try {
    const value: unknown = parseToml(text);
    return { value, lineOf: (path) => scan.lineOf(path) };
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    // The first line alone: the rest of it quotes the text.
    const [first = ""] = said.split("\n");
    const at = /^Parse error on line (\d+), column \d+: /.exec(first);
    const message = first.slice(at?.[0].length ?? 0, 300);
    return { fault: { line: Number(at?.[1] ?? 1), message } };
  }
}

/** What cannot be gone on with. */
class Unreadable extends Error {}

/** One way through a text, which notes the line of each key. */
class Scan {
  readonly #text: string;
  readonly #lines = new Map<string, number>();
  /** Tables that have a header of their own: each has one. */
  readonly #headed = new Set<string>();
  /** What has a value, beside what is only a table around one. */
  readonly #values = new Set<string>();
  /** How many elements each array of tables has so far. */
  readonly #counts = new Map<string, number>();
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  run(): Fault | undefined {
    try {
      // deno-lint-ignore no-control-regex -- control characters are what it is about
      const control = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)/.exec(this.#text);
      if (control !== null) {
        this.#line = this.#text.slice(0, control.index).split("\n").length;
        throw new Unreadable("a control character stands there");
      }
      this.#document();
      return undefined;
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      return { line: this.#line, message: error.message };
    }
  }

  lineOf(path: Path): number {
    for (let length = path.length; length > 0; length--) {
      const line = this.#lines.get(nameOf(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return 1;
  }

  #document(): void {
    let table: Path = [];
    for (;;) {
      this.#skip(true);
      if (this.#at >= this.#text.length) return;
      if (this.#takes("[[")) table = this.#header("]]");
      else if (this.#takes("[")) table = this.#header("]");
      else this.#pair(table, 0);
      this.#endOfLine();
    }
  }

  #header(close: "]" | "]]"): Path {
    const line = this.#line;
    const named = this.#key();
    this.#skip(false);
    if (!this.#takes(close)) throw new Unreadable(`a "${close}" is missing`);
    // Names that go through an array of tables mean its last element.
    const path: (string | number)[] = [];
    for (const [index, part] of named.entries()) {
      path.push(part);
      const count = this.#counts.get(nameOf(path));
      if (count !== undefined && index < named.length - 1) path.push(count - 1);
    }
    const name = nameOf(path);
    if (close === "]") {
      if (this.#headed.has(name) || this.#lines.has(name)) {
        throw new Unreadable(`[${named.join(".")}] stands there twice`);
      }
      this.#headed.add(name);
      this.#note(path, line);
      return path;
    }
    const count = this.#counts.get(name) ?? 0;
    if (count === 0 && this.#lines.has(name)) {
      throw new Unreadable(`"${named.join(".")}" stands there twice`);
    }
    this.#counts.set(name, count + 1);
    this.#lines.set(name, line);
    const element = [...path, count];
    this.#note(element, line);
    return element;
  }

  #pair(table: Path, depth: number): void {
    const line = this.#line;
    const key = this.#key();
    this.#skip(false);
    if (!this.#takes("=")) throw new Unreadable(`a "=" is missing behind "${key.join(".")}"`);
    const path = [...table, ...key];
    // a.b = … makes a table a, which must not be a value or a table of its own already.
    for (let length = table.length + 1; length < path.length; length++) {
      const outer = path.slice(0, length);
      if (this.#headed.has(nameOf(outer)) || this.#values.has(nameOf(outer))) {
        throw new Unreadable(`"${outer.join(".")}" stands there twice`);
      }
      if (!this.#lines.has(nameOf(outer))) this.#note(outer, line);
    }
    if (this.#lines.has(nameOf(path))) {
      throw new Unreadable(`"${key.join(".")}" stands there twice`);
    }
    this.#values.add(nameOf(path));
    this.#note(path, line);
    this.#value(path, depth);
  }

  #note(path: Path, line: number): void {
    if (this.#lines.size >= mostKeys) throw new Unreadable(`it has more than ${mostKeys} keys`);
    this.#lines.set(nameOf(path), line);
  }

  #key(): readonly string[] {
    const parts: string[] = [];
    do {
      this.#skip(false);
      parts.push(this.#keyPart());
      this.#skip(false);
    } while (this.#takes("."));
    if (parts.length > deepest) throw new Unreadable("it is nested too deep");
    return parts;
  }

  #keyPart(): string {
    const quote = this.#text[this.#at];
    if (quote === '"' || quote === "'") {
      const from = this.#at + 1;
      this.#string();
      const part = this.#text.slice(from, this.#at - 1);
      if (part === "" || part.includes("\\")) throw new Unreadable("this is no name of a key");
      return this.#checked(part);
    }
    const bare = /[A-Za-z0-9_-]+/y;
    bare.lastIndex = this.#at;
    const [part] = bare.exec(this.#text) ?? [];
    if (part === undefined) {
      const found = this.#text[this.#at];
      throw new Unreadable(
        found === undefined || found === "\n"
          ? "a key is missing"
          : `${JSON.stringify(found)} is no beginning of a key`,
      );
    }
    this.#at += part.length;
    return this.#checked(part);
  }

  #checked(part: string): string {
    if (["__proto__", "prototype", "constructor"].includes(part)) {
      throw new Unreadable(`"${part}" is no name of a key`);
    }
    return part;
  }

  #value(path: Path, depth: number): void {
    if (depth > deepest) throw new Unreadable("it is nested too deep");
    this.#skip(false);
    if (this.#takes("[")) {
      for (let index = 0;; index++) {
        this.#skip(true);
        if (this.#takes("]")) return;
        this.#note([...path, index], this.#line);
        this.#value([...path, index], depth + 1);
        this.#skip(true);
        if (this.#takes("]")) return;
        if (!this.#takes(",")) throw new Unreadable('a "," or "]" is missing');
      }
    }
    if (this.#takes("{")) {
      this.#skip(false);
      if (this.#takes("}")) return;
      for (;;) {
        if (this.#text[this.#at] === "\n") {
          throw new Unreadable(
            `a table in { } ends in its line; for a longer one, write [${path.join(".")}]`,
          );
        }
        this.#pair(path, depth + 1);
        this.#skip(false);
        if (this.#takes("}")) return;
        if (!this.#takes(",")) throw new Unreadable('a "," or "}" is missing');
        this.#skip(false);
      }
    }
    const first = this.#text[this.#at];
    if (first === '"' || first === "'") return this.#string();
    const plain = /[A-Za-z0-9_+.:-]+/y;
    plain.lastIndex = this.#at;
    const [word] = plain.exec(this.#text) ?? [];
    if (word === undefined) throw new Unreadable("a value is missing");
    // As this library takes it; a bare word is what people forget to quote.
    if (!/^(?:true|false|[+-]?(?:inf|nan)|[+-]?[0-9].*)$/.test(word)) {
      throw new Unreadable(`${word} is no value; a word stands in quotes: "${word}"`);
    }
    this.#at += word.length;
  }

  #string(): void {
    const quote = this.#text[this.#at] ?? "";
    const long = this.#text.startsWith(quote.repeat(3), this.#at);
    const end = long ? quote.repeat(3) : quote;
    this.#at += end.length;
    for (;;) {
      const character = this.#text[this.#at];
      if (character === undefined || (!long && character === "\n")) {
        throw new Unreadable(`a ${end} is missing`);
      }
      if (character === "\n") this.#line++;
      if (character === "\\" && quote === '"') {
        const escaped = this.#text[this.#at + 1];
        // The library counts the digits of the long form wrongly.
        if (escaped === "U") throw new Unreadable("write the character itself, not \\U…");
        if (
          escaped === "u" && !/^[0-9A-Fa-f]{4}$/.test(this.#text.slice(this.#at + 2, this.#at + 6))
        ) {
          throw new Unreadable("four digits are missing behind \\u");
        }
        this.#at++;
        if (escaped === "\n") this.#line++;
        this.#at++;
        continue;
      }
      if (this.#text.startsWith(end, this.#at)) {
        this.#at += end.length;
        return;
      }
      this.#at++;
    }
  }

  #takes(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  /** Passes over spaces, and over comments and ends of lines where those may stand. */
  #skip(lines: boolean): void {
    for (;; this.#at++) {
      const character = this.#text[this.#at];
      if (character === " " || character === "\t" || character === "\r") continue;
      if (lines && character === "#") {
        const end = this.#text.indexOf("\n", this.#at);
        this.#at = (end < 0 ? this.#text.length : end) - 1;
        continue;
      }
      if (!lines || character !== "\n") return;
      this.#line++;
    }
  }

  #endOfLine(): void {
    this.#skip(false);
    const character = this.#text[this.#at];
    if (character === undefined || character === "\n" || character === "#") return;
    throw new Unreadable("something stands behind the value");
  }
}

function nameOf(path: Path): string {
  return path.map((part) => typeof part === "number" ? `[${part}]` : `.${part.length}:${part}`)
    .join("");
}
