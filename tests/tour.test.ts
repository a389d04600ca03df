/** The tour that is drawn is one that could be recorded now. */
import assert from "node:assert/strict";
import { jailTest } from "./jail/world.ts";
import { matches } from "./shown.ts";
import { drawing, drawnLines, type Line } from "./tour-drawing.ts";
import { recordTour, tourPath } from "./tour.ts";

Deno.test("what is drawn of a session can be read again", () => {
  const lines: readonly Line[] = [
    { shown: "alice$ ", typed: "echo '<&>'" },
    { shown: "<&>", typed: "" },
    { shown: "  a  b", typed: "" },
  ];
  assert.deepEqual(drawnLines(drawing(lines)), lines);
});

jailTest("the tour in the README is as it would be today", async () => {
  const text = (lines: readonly Line[]): string =>
    lines.map(({ shown, typed }) => `${shown}${typed}\n`).join("");
  const shown = text(drawnLines(await Deno.readTextFile(tourPath)));
  const recorded = text(await recordTour());
  assert(
    matches(shown, recorded),
    `${shown}\nis shown, and now it is\n${recorded}\nto draw it anew: deno task tour`,
  );
});
