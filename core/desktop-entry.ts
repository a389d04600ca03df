/**
 * Desktop entries as text: whether one starts a certain program, and the same entry with that program
 * in its jail. Pure; cmd/desktop.ts reads and writes the files.
 *
 * Desktop Entry Specification 1.5: groups, keys and values (section 3), the Exec key and its quoting
 * (section 7), additional actions (section 11).
 *
 * @module
 */

/** What stands in an entry that was made here, in its main group. */
export const marks = {
  profile: "X-AppJail-Profile",
  source: "X-AppJail-Source",
  digest: "X-AppJail-Digest",
  /** Of what makes the others follow their packages. */
  follows: "X-AppJail-Follows",
} as const;

const mainGroup = "Desktop Entry";

interface Line {
  /** The group that it stands in; `undefined` before the first one. */
  readonly group: string | undefined;
  /** Its key, where it is a pair. */
  readonly key: string | undefined;
  readonly value: string;
  readonly text: string;
}

function linesOf(text: string): readonly Line[] {
  let group: string | undefined;
  return text.split("\n").map((line) => {
    const header = /^\[([^[\]\p{Cc}]+)\]\s*$/u.exec(line);
    if (header !== null) group = header[1];
    // A comment begins with "#"; a key may have a locale, as in Name[de].
    const pair = header === null ? /^([A-Za-z0-9-]+(?:\[[^\]]*\])?)\s*=\s*(.*)$/.exec(line) : null;
    return { group, key: pair?.[1], value: pair?.[2] ?? "", text: line };
  });
}

/** A value of the main group. */
export function valueOf(text: string, key: string): string | undefined {
  return linesOf(text).find((line) => line.group === mainGroup && line.key === key)?.value;
}

/**
 * The words of an Exec value: quotes taken off, field codes such as %u left as they are. `undefined`
 * when its quoting is broken.
 */
export function wordsOfExec(value: string): readonly string[] | undefined {
  // First the escapes of any string value, then those of a quoted word.
  const plain = value.replace(
    /\\([sntr\\])/g,
    (_all, letter: string) => ({ s: " ", n: "\n", t: "\t", r: "\r" })[letter] ?? "\\",
  );
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < plain.length; at++) {
    const character = plain[at] ?? "";
    if (character === " " || character === "\t" || character === "\n") {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === '"') {
      word ??= "";
      for (at++; plain[at] !== '"'; at++) {
        if (at >= plain.length) return undefined;
        if (plain[at] === "\\" && /["`$\\]/.test(plain[at + 1] ?? "")) at++;
        word += plain[at];
      }
    } else word = (word ?? "") + character;
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** The name of the program that an Exec value starts, without its folder. */
export function programOf(exec: string): string | undefined {
  const words = [...wordsOfExec(exec) ?? []];
  // env(1) before it, with variables and no options, is what packages use to set some.
  if (/^(?:\/usr)?(?:\/bin\/)?env$/.test(words[0] ?? "")) {
    words.shift();
    while (/^[A-Za-z_]\w*=/.test(words[0] ?? "")) words.shift();
  }
  const [path] = words;
  return path === undefined ? undefined : path.slice(path.lastIndexOf("/") + 1);
}

/** Whether it is an application's entry, and the application one of these programs. */
export function starts(text: string, executables: readonly string[]): boolean {
  const [type, exec] = [valueOf(text, "Type"), valueOf(text, "Exec")];
  if (type !== "Application" || exec === undefined || valueOf(text, "Hidden") === "true") {
    return false;
  }
  const program = programOf(exec);
  return program !== undefined && executables.includes(program);
}

/** A word as an Exec value has it: quoted where it has to be, and then escaped as any value. */
export function quoted(word: string): string {
  const inQuotes = /[\s"'\\><~|&;$*?#()`]/.test(word) || word === ""
    ? `"${word.replace(/["`$\\]/g, "\\$&")}"`
    : word;
  return inQuotes.replace(/%/g, "%%").replace(/\\/g, "\\\\").replace(/\n/g, "\\n")
    .replace(/\t/g, "\\t").replace(/\r/g, "\\r");
}

export interface Through {
  readonly profile: string;
  /** What is put before each command. */
  readonly command: readonly string[];
  /** The entry that this is made from, and a digest of its text. */
  readonly source: string;
  readonly digest: string;
}

/**
 * The same entry, with every command of it, its actions' too, started through another one. All else
 * stays: names, icons, MIME types, field codes, translations, comments.
 *
 * The program is not to be started by way of D-Bus: the bus would start it outside of a jail, and in
 * one it has a bus of its own.
 */
export function through(text: string, { profile, command, source, digest }: Through): string {
  const prefix = command.map(quoted).join(" ");
  const added = [
    `${marks.profile}=${profile}`,
    `${marks.source}=${source}`,
    `${marks.digest}=${digest}`,
  ];
  return linesOf(text).flatMap(({ group, key, value, text: line }) => {
    const ofApplication = group === mainGroup || group?.startsWith("Desktop Action ") === true;
    if (key === "Exec" && ofApplication) return [`Exec=${prefix} ${value}`];
    if (key === "DBusActivatable" && group === mainGroup) return ["DBusActivatable=false"];
    if (group === mainGroup && Object.values<string>(marks).includes(key ?? "")) return [];
    return key === undefined && line.trim() === `[${mainGroup}]` ? [line, ...added] : [line];
  }).join("\n");
}
