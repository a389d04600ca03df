/**
 * A terminal's session as a picture that moves: SVG with its lines as text, which appear one after the
 * other, and what was typed letter by letter. Who wants no motion, or has a viewer without, sees all of
 * it at once.
 *
 * @module
 */

/** A line of a terminal. */
export interface Line {
  /** What a program has shown, a prompt too. */
  readonly shown: string;
  /** What a person has typed behind it. */
  readonly typed: string;
}

const size = 13, letter = 7.8, row = 18, margin = 16, bar = 28;

/** In seconds. */
const perLetter = 0.04, beforeTyping = 0.9, beforeAnswer = 0.35, betweenLines = 0.06;

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function unescaped(text: string): string {
  return text.replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
}

/** The picture of a session. */
export function drawing(lines: readonly Line[]): string {
  const columns = Math.max(...lines.map(({ shown, typed }) => shown.length + typed.length), 80);
  const width = Math.ceil(columns * letter + 2 * margin);
  const height = bar + lines.length * row + margin;
  let now = 0;
  const texts = lines.map(({ shown, typed }, index) => {
    const y = bar + (index + 1) * row - 4;
    const text = (words: string, column: number, kind: string, style: string): string =>
      `<text x="${(margin + column * letter).toFixed(1)}" y="${y}" class="${kind}" ` +
      `style="${style}" textLength="${(words.length * letter).toFixed(1)}">${
        escaped(words)
      }</text>`;
    const at = (seconds: number): string => `animation-delay:${seconds.toFixed(2)}s`;
    const parts: string[] = [];
    if (typed !== "") now += index === 0 ? 0.4 : beforeTyping;
    if (shown !== "") parts.push(text(shown, 0, typed === "" ? "out" : "prompt", at(now)));
    if (typed !== "") {
      now += beforeAnswer;
      const takes = typed.length * perLetter;
      const steps = `animation-duration:${takes.toFixed(2)}s;` +
        `animation-timing-function:steps(${typed.length})`;
      parts.push(text(typed, shown.length, "typed", `${at(now)};${steps}`));
      now += takes + beforeAnswer;
    } else now += betweenLines;
    return parts.join("\n");
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>A tour of appjail at a terminal</title>
<style>
text { font: ${size}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; fill: #d8dee4; }
.prompt { fill: #7ee787; }
.typed { fill: #ffffff; }
@media (prefers-reduced-motion: no-preference) {
  .out, .prompt { animation: appear 0.01s both; }
  .typed { animation: type 1s both; }
}
@keyframes appear { from { opacity: 0; } }
@keyframes type { from { clip-path: inset(0 100% 0 0); } to { clip-path: inset(0 0 0 0); } }
</style>
<rect width="${width}" height="${height}" rx="8" fill="#161b22"/>
<circle cx="18" cy="14" r="5" fill="#ff5f57"/><circle cx="36" cy="14" r="5" fill="#febc2e"/><circle cx="54" cy="14" r="5" fill="#28c840"/>
${texts.join("\n")}
</svg>
`;
}

/** The lines of a session that was drawn. */
export function drawnLines(svg: string): readonly Line[] {
  const lines = new Map<string, Line>();
  for (
    const [, y = "", kind, words = ""] of svg.matchAll(
      /<text x="[^"]*" y="([^"]*)" class="([^"]*)"[^>]*>([^<]*)<\/text>/g,
    )
  ) {
    const { shown = "", typed = "" } = lines.get(y) ?? {};
    lines.set(
      y,
      kind === "typed" ? { shown, typed: unescaped(words) } : { shown: unescaped(words), typed },
    );
  }
  return [...lines.values()];
}
