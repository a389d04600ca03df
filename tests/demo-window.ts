/**
 * The part of the demo that has a window: a program in a jail draws on the screen of a compositor that
 * has none but in memory, and what is there is shown, as a file and in the terminal.
 *
 * Loaded when the first uid is settled, as everything of tests/jail is.
 *
 * @module
 */
import { Desk, hasProgram } from "./desktop/desk.ts";
import { difference, type Picture, writePng } from "./desktop/picture.ts";
import { until, type World } from "./jail/world.ts";

export const programs = ["weston", "weston-flower", "weston-screenshooter"] as const;

/** Whether there is what it takes. */
export function canShow(): boolean {
  return programs.every(hasProgram);
}

/** A desk with a screen, and what is on it before anything is. */
export class Screen implements AsyncDisposable {
  readonly #desk: Desk;
  readonly #empty: Picture;

  private constructor(desk: Desk, empty: Picture) {
    this.#desk = desk;
    this.#empty = empty;
  }

  static async of(world: World): Promise<Screen> {
    const desk = await Desk.of(world);
    try {
      await desk.compositor();
      return new Screen(desk, await desk.screenshot());
    } catch (error) {
      await desk[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What a shell has to be told of it. */
  get exports(): Readonly<Record<string, string>> {
    return this.#desk.env;
  }

  /** What it shows once a window is there; `undefined`: none came. */
  async drawn(): Promise<Picture | undefined> {
    let picture: Picture | undefined;
    await until("a window is on the screen", async () => {
      picture = await this.#desk.screenshot();
      const { pixels, width, height } = difference(this.#empty, picture);
      return pixels > 5_000 && width > 100 && height > 100;
    }).catch(() => picture = undefined);
    return picture;
  }

  /** Whether nothing is on it any more. */
  async isEmpty(): Promise<boolean> {
    return await until(
      "the window is gone",
      async () => difference(this.#empty, await this.#desk.screenshot()).pixels === 0,
    ).catch(() => false);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#desk[Symbol.asyncDispose]();
  }
}

export async function keepPicture(picture: Picture, path: string): Promise<void> {
  await Deno.mkdir(path.replace(/\/[^/]*$/, ""), { recursive: true });
  await Deno.writeFile(path, await writePng(picture));
}

/** The mean colour of a part of a picture, as red, green and blue. */
function meanOf(
  { width, pixels }: Picture,
  [left, top]: readonly [number, number],
  [right, bottom]: readonly [number, number],
): readonly [number, number, number] {
  const sum: [number, number, number] = [0, 0, 0];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const colour = pixels[y * width + x] ?? 0;
      sum[0] += colour >> 16;
      sum[1] += colour >> 8 & 0xff;
      sum[2] += colour & 0xff;
    }
  }
  const count = Math.max(1, (right - left) * (bottom - top));
  return [sum[0] / count, sum[1] / count, sum[2] / count].map(Math.round) as [
    number,
    number,
    number,
  ];
}

/**
 * A picture in so many columns of a terminal: two pixels in each place, one above the other, or where
 * there are no colours a sign that is the denser, the brighter they are.
 */
export function inText(picture: Picture, columns: number, colours: boolean): string {
  const { width, height } = picture;
  const step = width / columns;
  const rows = Math.floor(height / step / 2);
  const at = (place: number): number => Math.round(place * step);
  const lines: string[] = [];
  for (let row = 0; row < rows; row++) {
    let line = "";
    for (let column = 0; column < columns; column++) {
      const [left, right] = [at(column), at(column + 1)];
      const upper = meanOf(picture, [left, at(2 * row)], [right, at(2 * row + 1)]);
      const lower = meanOf(picture, [left, at(2 * row + 1)], [right, at(2 * row + 2)]);
      if (colours) {
        line += `\x1b[38;2;${upper.join(";")};48;2;${lower.join(";")}m▀`;
        continue;
      }
      const light = [...upper, ...lower].reduce((sum, one) => sum + one, 0) / (6 * 255);
      line += " .:-=+*#%@"[Math.min(9, Math.floor(light * 10))];
    }
    lines.push(colours ? `${line}\x1b[0m` : line);
  }
  return lines.join("\n");
}
