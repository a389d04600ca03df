/**
 * Text in columns, for a terminal that has only so many.
 *
 * @module
 */

/** What a terminal draws over the character before it, or not at all. */
const narrow = /[\p{Mn}\p{Me}\p{Cf}]/u;
/** What a terminal draws two columns wide: UAX 11, as near as the classes of the language come. */
const wide =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60]/u;

function columnsOf(character: string): number {
  return narrow.test(character) ? 0 : wide.test(character) ? 2 : 1;
}

/** How many columns a line takes. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += columnsOf(character);
  return width;
}

/** The line, cut to `width` columns; the cut shows as an ellipsis. */
export function fit(line: string, width: number): string {
  if (widthOf(line) <= width) return line;
  let [kept, used] = ["", 0];
  for (const character of line) {
    used += columnsOf(character);
    if (used > width - 1) break;
    kept += character;
  }
  return kept + "…";
}

/** The rows as lines, column below column. The columns named in `right` are numbers. */
export function align(
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, at) => widths[at] = Math.max(widths[at] ?? 0, widthOf(cell)));
  }
  return rows.map((row) =>
    row.map((cell, at) => {
      const space = " ".repeat((widths[at] ?? 0) - widthOf(cell));
      return right.includes(at) ? space + cell : cell + space;
    }).join("  ").trimEnd()
  );
}
