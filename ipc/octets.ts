/**
 * Bytes that are text by convention only, as text: the names of files and the arguments of programs
 * are whatever the kernel passes on, and need not be UTF-8. A byte that is part of no character
 * becomes a lone surrogate, U+DC80 to U+DCFF, which is never part of one either: nothing is lost on
 * the way there and back, and JSON carries it. (Python's os.fsdecode does the same, PEP 383.)
 *
 * No such character stands for a byte below 0x80: a slash, a dot or a NUL cannot be hidden in one.
 *
 * @module
 */

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** How long the character is that begins with this byte, if it is one. RFC 3629. */
function lengthAfter(first: number): number {
  return first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/** Bytes as text. */
export function textOf(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    return [...pieces(bytes)].join("");
  }
}

function* pieces(bytes: Uint8Array): Generator<string> {
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at] ?? 0;
    const length = lengthAfter(first);
    let piece: string | undefined;
    if (length > 0) {
      try {
        piece = decoder.decode(bytes.subarray(at, at + length));
      } catch {
        // No character, whatever its first byte promised.
      }
    }
    yield piece ?? String.fromCharCode(0xdc00 + first);
    at += piece === undefined ? 1 : length;
  }
}

/** Text as the bytes that it stands for. Any other lone surrogate becomes U+FFFD. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  if (text.isWellFormed()) return encoder.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) bytes.push(code - 0xdc00);
    else bytes.push(...encoder.encode(character));
  }
  return new Uint8Array(bytes);
}
