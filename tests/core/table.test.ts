/** core/table.ts: columns that stand below each other, in as many as there are. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { align, fit, widthOf } from "../../core/table.ts";
import { Random } from "../random.ts";

Deno.test("a line takes as many columns as a terminal draws", () => {
  const widths = {
    "": 0,
    "abc": 3,
    "äöü": 3,
    "漢字": 4,
    "ひらがな": 8,
    "カタカナ": 8,
    "한글": 4,
    "ａｂ": 4,
    "😀": 2,
    "e\u0301": 1,
    "a\u200bb": 2,
    "…": 1,
    "│─": 2,
  };
  for (const [text, width] of Object.entries(widths)) equal(widthOf(text), width, text);
});

Deno.test("what fits is not touched, what does not ends in an ellipsis", () => {
  equal(fit("abc", 3), "abc");
  equal(fit("abc", 100), "abc");
  equal(fit("abc", Infinity), "abc");
  equal(fit("abcd", 3), "ab…");
  equal(fit("abcd", 1), "…");
  // Half of a wide character is none.
  equal(fit("漢字x", 5), "漢字x");
  equal(fit("漢字x", 4), "漢…");
  equal(fit("漢字", 3), "漢…");
  equal(fit("漢字", 2), "…");
  equal(fit("e\u0301e\u0301e\u0301", 2), "e\u0301…");
});

Deno.test("no line is ever wider than it may be, and it is the beginning of what it was", () => {
  const random = new Random(4);
  for (let i = 0; i < 3000; i++) {
    const line = random.text(30, "ab漢字😀\u0301é한");
    const width = 1 + random.below(40);
    const shown = fit(line, width);
    ok(widthOf(shown) <= width, `${JSON.stringify(line)} in ${width}`);
    ok(shown.isWellFormed());
    if (widthOf(line) <= width) equal(shown, line);
    else ok(shown.endsWith("…") && line.startsWith(shown.slice(0, -1)));
  }
});

Deno.test("columns stand below each other, numbers to the right, and no line ends in spaces", () => {
  deepEqual(
    align([["NAME", "UID", "STATE"], ["work", "1100", "running"], ["漢字", "5", "idle"]], [1]),
    [
      "NAME   UID  STATE",
      "work  1100  running",
      "漢字     5  idle",
    ],
  );
  deepEqual(align([]), []);
  deepEqual(align([["a", ""], ["", "b"]]), ["a", "   b"]);
  // Rows need not be equally long.
  deepEqual(align([["aa", "b"], [], ["c"]]), ["aa  b", "", "c"]);
  deepEqual(align([["x"]], [-1, 7]), ["x"]);
});
