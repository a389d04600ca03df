/**
 * Command lines and folders as far as a report has room for them. Whoever starts programs chooses
 * both, and a frame holds only so much: all programs of a jail have to fit into one.
 *
 * @module
 */
import * as v from "valibot";
import { type AbsolutePath, absolutePath, type CommandLine } from "./names.ts";
import type { ProgramReport } from "./protocol.ts";

/**
 * What one command line, or one folder, is shown by at most, and all of a jail together; in UTF-16
 * units, of which each may take six bytes.
 */
const each = 4 * 1024;
const together = 64 * 1024;
const foldersTogether = 16 * 1024;

/** The first words of a command line; what is left out shows as an ellipsis. */
export function abridge(argv: CommandLine, room = each): CommandLine {
  const words: string[] = [];
  for (const word of argv) {
    // One for what stands between words, so that thousands of empty ones cost something, too.
    room -= word.length + 1;
    if (room < 0) return [...words, `${word.slice(0, Math.max(0, room + word.length))}…`];
    words.push(word);
  }
  return argv;
}

/** The first part of a path, which is none that could be opened: an ellipsis ends it. */
function abridgePath(path: AbsolutePath, room: number): AbsolutePath {
  return path.length <= room ? path : v.parse(absolutePath, `${path.slice(0, room - 3)}…`);
}

/** The same for all programs of a jail. */
export function abridgeAll(programs: readonly ProgramReport[]): readonly ProgramReport[] {
  const share = (of: number): number =>
    Math.min(each, Math.floor(of / Math.max(1, programs.length)));
  const [words, folder] = [share(together), share(foldersTogether)];
  return programs.map((report) => ({
    ...report,
    argv: abridge(report.argv, words),
    cwd: abridgePath(report.cwd, folder),
  }));
}
