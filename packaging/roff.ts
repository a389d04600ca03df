/**
 * The language of man pages: man(7), groff_char(7).
 *
 * @module
 */
import type { Part } from "./page.ts";

/** Characters that roff would make something else of: a hyphen of a minus, a quote of an apostrophe. */
const named: Readonly<Record<string, string>> = {
  "\\": "\\e",
  "'": "\\(aq",
  "`": "\\(ga",
  "^": "\\(ha",
  "~": "\\(ti",
  "-": "\\-",
};

/** A text in which every character stands for itself. */
export function plain(text: string): string {
  const escaped = text.replaceAll(/[\\'`^~-]|[^\x20-\x7e\n]/gu, (character) =>
    named[character] ??
      `\\[u${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")}]`);
  // A line that begins so would be a request.
  return escaped.replaceAll(/^\./gm, "\\&.");
}

/** What a person types, or what is on the disk. */
export function bold(text: string): string {
  return text === "" ? "" : `\\fB${plain(text)}\\fR`;
}

/** What stands for something else. */
export function italic(text: string): string {
  return `\\fI${plain(text)}\\fR`;
}

/** Running text as Markdown has it. Of a link within the documentation its words are left. */
export function inline(markdown: string): string {
  const pattern =
    /`([^`]+)`|\[((?:[^\]`]|`[^`]*`)*)\]\(([^)]*)\)|\*\*([^*]+)\*\*|(?<!\w)_([^_]+)_(?!\w)/g;
  let [roff, at] = ["", 0];
  for (const match of markdown.matchAll(pattern)) {
    const [all, code, words, target = "", strong, stressed] = match;
    roff += prose(markdown.slice(at, match.index));
    at = match.index + all.length;
    if (code !== undefined) roff += bold(code);
    else if (words !== undefined) {
      roff += inline(words) + (/^https?:/.test(target) ? ` <${plain(target)}>` : "");
    } else if (strong !== undefined) roff += `\\fB${inline(strong)}\\fR`;
    else if (stressed !== undefined) roff += italic(stressed);
  }
  return roff + prose(markdown.slice(at));
}

/** In running text a hyphen is one. */
function prose(text: string): string {
  return plain(text.replaceAll("<br>", " ")).replaceAll("\\-", "-");
}

/** The heading of a section. */
export function section(name: string): string {
  return `.SH ${name.toUpperCase()}`;
}

/** A paragraph; one whose lines are set in is shown as it is. */
export function paragraph(roff: string): string {
  return /^ {2}/m.test(roff) ? verbatim(roff.split("\n"), (line) => line) : `.PP\n${roff}`;
}

/** An item of a list with a name. */
export function item(name: string, text: string): string {
  return `.TP\n${name}\n${text === "" ? "\\&" : text}`;
}

/** Lines as they are. */
export function verbatim(
  lines: readonly string[],
  roff: (line: string) => string = plain,
): string {
  const body = lines.map((line) => line.trim() === "" ? "\\&" : roff(line)).join("\n");
  return `.PP\n.nf\n.RS 4\n${body}\n.RE\n.fi`;
}

/** A part of a page of the documentation. */
export function roffOf(part: Part): string {
  switch (part.kind) {
    case "heading":
      return `.SS ${inline(part.text)}`;
    case "paragraph":
      return paragraph(inline(part.text));
    case "list":
      return part.items.map((one, at) =>
        `.IP ${part.ordered ? `${at + 1}. 3` : "\\(bu 2"}\n${inline(one)}`
      ).join("\n");
    case "table":
      return part.rows.slice(1).map(([first = "", ...rest]) =>
        item(inline(first), rest.filter((cell) => cell !== "").map(inline).join("; "))
      ).join("\n");
    case "block":
      return verbatim(part.lines);
    default:
      return part satisfies never;
  }
}

/** A whole page. */
export function page(
  { name, number, date, source, manual }: {
    readonly name: string;
    readonly number: number;
    /** As ISO 8601 has it. */
    readonly date: string;
    readonly source: string;
    readonly manual: string;
  },
  body: readonly string[],
): string {
  const title = [name.toUpperCase(), number, date, source, manual].map((one) => `"${one}"`);
  // What comes first below a heading is a paragraph already.
  const text = body.join("\n").replaceAll(/^(\.S[HS] .*)\n\.PP$/gm, "$1");
  // Names of commands and paths are not to be cut, nor lines to be stretched.
  return `.TH ${title.join(" ")}\n.nh\n.ad l\n${text}\n`;
}
