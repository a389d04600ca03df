/**
 * A page of the documentation, cut into the parts that it is made of: what the man pages take from it,
 * and what the tests try.
 *
 * @module
 */

/** A part of a page, its text as it is written. */
export type Part =
  | { readonly kind: "heading"; readonly level: number; readonly text: string }
  | { readonly kind: "paragraph"; readonly text: string }
  | { readonly kind: "list"; readonly ordered: boolean; readonly items: readonly string[] }
  | { readonly kind: "table"; readonly rows: readonly (readonly string[])[] }
  | {
    readonly kind: "block";
    /** The words behind its first fence. */
    readonly info: string;
    readonly lines: readonly string[];
    /** What a remark in front of it says: `<!-- … -->`. */
    readonly remark: string | undefined;
  };

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** The text of a page, by its path from the root of the repository. */
export function pageText(path: string): string {
  return Deno.readTextFileSync(`${root}/${path}`);
}

/** Cuts a page. It is Markdown as deno fmt leaves it. */
export function partsOf(text: string): readonly Part[] {
  const parts: Part[] = [];
  const lines = text.split("\n");
  let remark: string | undefined;
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? "";
    const fence = /^```(.*)$/.exec(line);
    if (fence !== null) {
      const end = lines.indexOf("```", at + 1);
      if (end < 0) throw new Error(`A block does not end: ${line}`);
      parts.push({
        kind: "block",
        info: fence[1] ?? "",
        lines: lines.slice(at + 1, end),
        remark,
      });
      remark = undefined;
      at = end + 1;
      continue;
    }
    if (line === "") {
      at++;
      continue;
    }
    let end = at + 1;
    const goesOn = (next = ""): boolean => !/^(?:$|```|#)/.test(next);
    while (!line.startsWith("#") && end < lines.length && goesOn(lines[end])) end++;
    const piece = lines.slice(at, end);
    at = end;
    remark = /^<!-- (.*) -->$/.exec(piece.join(" "))?.[1];
    if (remark === undefined) parts.push(partOf(piece));
  }
  return parts;
}

function partOf(lines: readonly string[]): Part {
  const [first = ""] = lines;
  const heading = /^(#+) (.*)$/.exec(first);
  if (heading !== null) {
    return { kind: "heading", level: heading[1]?.length ?? 1, text: heading[2] ?? "" };
  }
  if (first.startsWith("|")) {
    // The second line only draws a line.
    return { kind: "table", rows: lines.filter((_, at) => at !== 1).map(cellsOf) };
  }
  if (/^(?:-|\d+\.) /.test(first)) {
    const items: string[] = [];
    for (const line of lines) {
      const begun = /^(?:-|\d+\.) (.*)$/.exec(line)?.[1];
      if (begun !== undefined) items.push(begun);
      else items.push(`${items.pop() ?? ""} ${line.trim()}`);
    }
    return { kind: "list", ordered: /^\d/.test(first), items };
  }
  return { kind: "paragraph", text: lines.join("\n") };
}

function cellsOf(line: string): readonly string[] {
  return line.replace(/^\|/, "").replace(/\|\s*$/, "").split(/(?<!\\)\|/)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** What stands below a heading, up to the next one that is no part of it. */
export function below(parts: readonly Part[], heading: string): readonly Part[] {
  const at = parts.findIndex((part) => part.kind === "heading" && part.text === heading);
  const found = parts[at];
  if (found?.kind !== "heading") throw new Error(`There is no heading ${JSON.stringify(heading)}`);
  const rest = parts.slice(at + 1);
  const end = rest.findIndex((part) => part.kind === "heading" && part.level <= found.level);
  return end < 0 ? rest : rest.slice(0, end);
}

/** The rows of the first table among parts, without its head. */
export function rowsOf(parts: readonly Part[]): readonly (readonly string[])[] {
  for (const part of parts) if (part.kind === "table") return part.rows.slice(1);
  throw new Error("There is no table");
}
