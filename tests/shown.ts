/**
 * What a page or a picture shows, beside what was really printed: any number stands for any other, and
 * … for any text.
 *
 * @module
 */

/** Whether what was printed is what is shown. */
export function matches(shown: string, printed: string): boolean {
  const plain = (text: string): string =>
    text.replace(/\d+(?:\.\d+)?/g, "0").replace(/[ \t]+/g, " ").replace(/ $/gm, "").trimEnd();
  const pattern = plain(shown).split("…").map((part) => RegExp.escape(part)).join("[\\s\\S]*?");
  return new RegExp(`^${pattern}$`).test(plain(printed));
}
