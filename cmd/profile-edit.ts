/**
 * Editing a text in the person's own editor: on a copy that only they can read, which is there until
 * what they wrote is kept elsewhere.
 *
 * @module
 */
import { type Fd, isTerminal, readAll, writeAll } from "../ipc/fd.ts";
import { endOf } from "../core/child.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import {
  createFile,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  removeFile,
  removeFolder,
  spawn,
} from "../core/kernel.ts";
import { printable } from "../core/log.ts";
import { largestText } from "../core/profile-toml.ts";
import { listen } from "../core/signals.ts";
import { findAsker, ownEnvironment, type Variables } from "./asker.ts";
import { writeOut } from "./client.ts";

/** What is to be edited. */
export interface Editing {
  readonly name: string;
  readonly text: string;
  readonly env: Variables;
  /** Keeps what was written, or has said what is wrong with it. */
  readonly keep: (text: string) => Promise<boolean>;
}

/** Has a text edited, as often as it takes. */
export async function editText(editing: Editing): Promise<"kept" | "unchanged"> {
  const { name, text, env, keep } = editing;
  const command = editorOf(env);
  using copy = new Copy(env, `${name}.toml`, text);
  try {
    for (;;) {
      const well = await runEditor(command, copy.path, env);
      if (!well) throw new Error(`the editor (${command}) has failed`);
      const written = copy.read();
      if (written === text) {
        copy.discard();
        return "unchanged";
      }
      if (await keep(written)) {
        copy.discard();
        return "kept";
      }
      if (!await isConfirmed("Edit it again? [Y/n] ")) throw new Error("it was refused");
    }
  } catch (error) {
    const code = error instanceof AppjailError ? error.code : "profile-refused";
    throw new AppjailError(
      code,
      `Cannot keep profile "${name}": ${wordsOf(error)}; what you wrote is in ${copy.path}; ` +
        `to try again with it: appjail profile edit ${name} ${copy.path}`,
      { cause: error },
    );
  }
}

/** The person's editor, as a shell takes it: it may have options. */
function editorOf(env: Variables): string {
  const chosen = env["VISUAL"] || env["EDITOR"];
  if (chosen) return chosen;
  const found = ["sensible-editor", "nano", "vi"].find((name) =>
    findAsker(name, env) !== undefined
  );
  if (found !== undefined) return found;
  throw new AppjailError(
    "usage",
    "Cannot edit: there is no editor; name one in $EDITOR, or write a file and: " +
      "appjail profile edit NAME FILE",
  );
}

/** Runs the editor at the person's terminal, to its end. @returns whether it ended well */
async function runEditor(command: string, file: string, env: Variables): Promise<boolean> {
  // ^C and ^\ are the editor's while it has the terminal.
  const ends = (["SIGINT", "SIGQUIT"] as const).map((signal) => listen(signal, () => {}));
  try {
    const pid = spawn({
      path: "/bin/sh",
      argv: ["sh", "-c", `${command} "$@"`, "sh", file],
      env: ownEnvironment(env),
      descriptors: [0, 1, 2],
    });
    const status = await endOf(pid);
    return status.by === "exit" && status.code === 0;
  } finally {
    for (const end of ends) end();
  }
}

/** A file in a folder of its own, which stays unless it is discarded. */
class Copy implements Disposable {
  readonly path: string;
  readonly #folder: Fd;
  readonly #place: string;
  readonly #name: string;
  #discarded = false;

  constructor(env: Variables, name: string, text: string) {
    const base = env["XDG_RUNTIME_DIR"] || env["TMPDIR"] || "/tmp";
    const random = crypto.getRandomValues(new Uint8Array(8)).toHex();
    this.#place = `${base}/appjail-${random}`;
    this.#name = name;
    this.path = `${this.#place}/${name}`;
    // One that somebody has made before is not used.
    if (!makeFolder("root", this.#place, 0o700)) {
      throw new AppjailError("usage", `Cannot edit: ${this.#place} is there already`);
    }
    this.#folder = openFolder("root", this.#place);
    using file = createFile(this.#folder, name, 0o600);
    writeAll(file.number, new TextEncoder().encode(text));
  }

  /** What is there now: an editor may have put another file in its place. */
  read(): string {
    using file = openFile(this.#folder, this.#name);
    return new TextDecoder("utf-8", { fatal: true }).decode(readAll(file.number, largestText));
  }

  discard(): void {
    this.#discarded = true;
  }

  [Symbol.dispose](): void {
    if (this.#discarded) {
      // With what the editor has left beside it.
      for (const name of namesIn(this.#folder)) removeFile(this.#folder, name);
      removeFolder("root", this.#place);
    }
    this.#folder.close();
  }
}

/** Asks a person; without one, the answer is no. */
async function isConfirmed(question: string): Promise<boolean> {
  if (!isTerminal(0) || !isTerminal(2)) return false;
  writeOut(printable(question), Deno.stderr);
  const buffer = new Uint8Array(256);
  const count = await Deno.stdin.read(buffer);
  if (count === null) return false;
  const said = new TextDecoder().decode(buffer.subarray(0, count)).trim().toLowerCase();
  return said === "" || said === "y" || said === "yes";
}
