/**
 * A bar chart as SVG: start times of appjail and its peers, for the documentation.
 *
 * @module
 */

/** One bar. */
export interface Bar {
  readonly label: string;
  /** In milliseconds. */
  readonly value: number;
  readonly ours: boolean;
}

/** Bars that belong together. */
export interface Group {
  readonly title: string;
  readonly bars: readonly Bar[];
}

const width = 720, left = 190, right = 70, row = 26, gap = 34, top = 44;

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The chart. Colours that are seen on white and on black. */
export function plot(title: string, groups: readonly Group[], note: string): string {
  const most = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const scale = (width - left - right) / most;
  const lines: string[] = [];
  let y = top;
  for (const group of groups) {
    lines.push(`<text x="8" y="${y + 14}" font-weight="bold">${escaped(group.title)}</text>`);
    y += row;
    for (const { label, value, ours } of group.bars) {
      const length = Math.max(1, value * scale);
      lines.push(
        `<text x="${left - 8}" y="${y + 15}" text-anchor="end">${escaped(label)}</text>`,
        `<rect x="${left}" y="${y + 3}" width="${length.toFixed(1)}" height="${row - 8}" rx="2" ` +
          `fill="${ours ? "#2f7ed8" : "#9aa4ad"}"/>`,
        `<text x="${(left + length + 6).toFixed(1)}" y="${y + 15}">${value.toFixed(1)} ms</text>`,
      );
      y += row;
    }
    y += gap - row;
  }
  const height = y + 28;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" ` +
    `height="${height}" font-family="sans-serif" font-size="13" fill="#57606a" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<text x="8" y="22" font-size="16">${escaped(title)}</text>`,
    ...lines,
    `<text x="8" y="${height - 10}" font-size="11">${escaped(note)}</text>`,
    "</svg>",
    "",
  ].join("\n");
}
