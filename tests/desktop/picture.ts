/**
 * What is on a screen, as pixels: from a PNG file, as weston's screenshooter writes it, or from an
 * XWD file, as Xvfb keeps it. Only what those two write is read; anything else is an error. And back
 * into a PNG file, for people.
 *
 * @module
 */
import assert from "node:assert/strict";

/** Colours are 0xRRGGBB. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Row by row, from the top left. */
  readonly pixels: Uint32Array;
}

/** Reads 8 bits a channel, with or without alpha, not interlaced. PNG Specification, third edition. */
export async function readPng(bytes: Uint8Array<ArrayBuffer>): Promise<Picture> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  assert.equal(view.getUint32(0), 0x89504e47, "it is no PNG");
  let header: DataView | undefined;
  const data: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 8; at < bytes.length;) {
    const length = view.getUint32(at);
    const type = new TextDecoder().decode(bytes.subarray(at + 4, at + 8));
    const chunk = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") header = new DataView(chunk.buffer, chunk.byteOffset, length);
    if (type === "IDAT") data.push(chunk);
    at += 12 + length;
  }
  assert(header !== undefined);
  const [width, height] = [header.getUint32(0), header.getUint32(4)];
  const channels = new Map([[2, 3], [6, 4]]).get(header.getUint8(9));
  assert(channels !== undefined && header.getUint8(8) === 8 && header.getUint8(12) === 0);
  const inflated = new Blob(data).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(inflated).arrayBuffer());
  const stride = width * channels;
  assert.equal(raw.length, (stride + 1) * height);
  const pixels = new Uint32Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const begin = y * (stride + 1);
    const row = raw.slice(begin + 1, begin + 1 + stride);
    unfilter(raw[begin] ?? 0, row, above, channels);
    for (let x = 0; x < width; x++) {
      const [red = 0, green = 0, blue = 0] = row.subarray(x * channels);
      pixels[y * width + x] = red << 16 | green << 8 | blue;
    }
    above = row;
  }
  return { width, height, pixels };
}

/** Writes 8 bits a channel, without alpha and filters. */
export async function writePng(
  { width, height, pixels }: Picture,
): Promise<Uint8Array<ArrayBuffer>> {
  const stride = width * 3 + 1;
  const raw = new Uint8Array(stride * height);
  for (const [at, colour] of pixels.entries()) {
    const begin = Math.floor(at / width) * stride + 1 + (at % width) * 3;
    raw.set([colour >> 16, colour >> 8 & 0xff, colour & 0xff], begin);
  }
  const deflated = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  // 8 bits, of red, green and blue.
  header.setUint16(8, 0x0802);
  return await concatenated([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", new Uint8Array(await new Response(deflated).arrayBuffer())),
    chunk("IEND", new Uint8Array()),
  ]);
}

async function concatenated(
  parts: readonly Uint8Array<ArrayBuffer>[],
): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await new Blob([...parts]).arrayBuffer());
}

/** PNG Specification, section 5.3. */
function chunk(type: string, data: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, checksum(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** CRC-32, as the PNG Specification has it in annex D. */
function checksum(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** Undoes what a row was filtered with, in place. PNG Specification, section 9. */
function unfilter(type: number, row: Uint8Array, above: Uint8Array, channels: number): void {
  for (let at = 0; at < row.length; at++) {
    const left = at < channels ? 0 : row[at - channels] ?? 0;
    const up = above[at] ?? 0;
    const corner = at < channels ? 0 : above[at - channels] ?? 0;
    const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][type];
    assert(guess !== undefined, `there is no filter ${type}`);
    row[at] = (row[at] ?? 0) + guess;
  }
}

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner;
  const [a, b, c] = [left, up, corner].map((one) => Math.abs(guess - one));
  if (a === undefined || b === undefined || c === undefined) return 0;
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** Reads 32 bits a pixel. X11/XWDFile.h. */
export function readXwd(bytes: Uint8Array<ArrayBuffer>): Picture {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (index: number): number => view.getUint32(index * 4);
  assert.equal(word(1), 7, "it is no XWD file of version 7");
  const [headerSize, width, height] = [word(0), word(4), word(5)];
  const [byteOrder, bits, stride, colours] = [word(7), word(11), word(12), word(19)];
  assert.equal(bits, 32);
  const begin = headerSize + colours * 12;
  const pixels = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      pixels[y * width + x] = view.getUint32(begin + y * stride + x * 4, byteOrder === 0) &
        0xffffff;
    }
  }
  return { width, height, pixels };
}

/** How often each colour is there. */
export function coloursOf({ pixels }: Picture): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  for (const colour of pixels) found.set(colour, (found.get(colour) ?? 0) + 1);
  return found;
}

/** How many pixels have about this colour: what a program draws may have gone through a profile. */
export function countAlmost({ pixels }: Picture, colour: number): number {
  const channels = [16, 8, 0];
  return pixels.filter((pixel) =>
    channels.every((shift) => Math.abs((pixel >> shift & 0xff) - (colour >> shift & 0xff)) < 32)
  ).length;
}

/** What differs between two pictures of one size: how many pixels, and the box around them. */
export function difference(
  one: Picture,
  other: Picture,
): { readonly pixels: number; readonly width: number; readonly height: number } {
  assert.deepEqual([one.width, one.height], [other.width, other.height]);
  const changed = [...one.pixels.keys()].filter((at) => one.pixels[at] !== other.pixels[at]);
  if (changed.length === 0) return { pixels: 0, width: 0, height: 0 };
  const columns = changed.map((at) => at % one.width);
  const rows = changed.map((at) => Math.floor(at / one.width));
  const span = (places: readonly number[]): number => {
    const [least, most] = places.reduce(
      ([low, high], place) => [Math.min(low, place), Math.max(high, place)],
      [Infinity, -Infinity],
    );
    return most - least + 1;
  };
  return { pixels: changed.length, width: span(columns), height: span(rows) };
}
