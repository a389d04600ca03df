/**
 * The man pages: made from what the help is made of, from what checks profiles and settings, and from
 * pages of the documentation. Nothing is written here that is written there.
 *
 * @module
 */
import type * as v from "valibot";
import manifest from "../deno.json" with { type: "json" };
import { verbs } from "../cmd/app.ts";
import { configuration } from "../cmd/daemon.ts";
import {
  flagName,
  helpOption,
  type OptionWords,
  topOptions,
  type VerbWords,
} from "../cmd/verb-words.ts";
import { exitMeanings } from "../core/errors.ts";
import { defaults, keys } from "../core/profile.ts";
import type { Schema } from "../core/profile-form.ts";
import { below, pageText, type Part, partsOf, rowsOf } from "./page.ts";
import { bold, inline, italic, item, page, paragraph, plain, roffOf, section } from "./roff.ts";
import { sourceDate } from "./source-date.ts";

/** The pages of files. */
const profilePage = { name: "appjail-profile", number: 5 };
const settingsPage = { name: "appjail.toml", number: 5 };

/** Verbs of which whoever reads about one wants to know the others. */
const kin: readonly (readonly string[])[] = [
  ["run", "shell", "attach", "wait", "kill", "ps", "logs"],
  ["run", "status", "stop", "ps"],
  ["status", "events", "stats", "logs"],
  ["daemon", "doctor"],
  ["unlock", "lock", "encrypt", "decrypt", "passwd"],
  ["lend", "unlend", "put", "get"],
  ["profile", "profiles", "plan", "desktop"],
];

/** Where examples of a verb stand: a page of docs/, and the heading below which its first block is one. */
const examples: Readonly<Record<string, readonly [page: string, heading?: string]>> = {
  attach: ["terminal", "Running by itself"],
  desktop: ["desktop-entries"],
  get: ["files-in-and-out"],
  encrypt: ["encrypt-a-home"],
  lend: ["lending"],
  profile: ["profile"],
  put: ["files-in-and-out"],
  run: ["terminal"],
  unlock: ["passphrase", "In scripts"],
};

/** The page of a verb. */
function pageOf(verb: string): { readonly name: string; readonly number: number } {
  return { name: `appjail-${verb}`, number: verb === "daemon" ? 8 : 1 };
}

function reference({ name, number }: ReturnType<typeof pageOf>): string {
  return `${bold(name)}(${number})`;
}

function parts(name: string): readonly Part[] {
  return partsOf(pageText(`docs/${name}.md`));
}

/** What stands on a page before its first heading but the title. */
function opening(all: readonly Part[]): readonly Part[] {
  const rest = all.slice(1);
  const end = rest.findIndex(({ kind }) => kind === "heading");
  return end < 0 ? rest : rest.slice(0, end);
}

// --- Sections that several pages have --------------------------------------------------------

/** What a table says, as a sentence. */
function sentence(roff: string): string {
  if (roff === "") return "";
  return `${roff.startsWith("appjail") ? "a" : roff[0]?.toUpperCase() ?? ""}${roff.slice(1)}.`;
}

function optionItem(option: OptionWords): string {
  const { long, short, brief, value, standard } = option;
  const behind = value === undefined
    ? ""
    : option.choices.length > 0
    ? ` ${option.choices.map(bold).join("|")}`
    : ` ${italic(value)}`;
  const names = [...short === undefined ? [] : [`-${short}`], long];
  return item(
    names.map((name) => `${bold(name)}${behind}`).join(", "),
    plain(standard === undefined ? `${brief}.` : `${brief}, by default ${standard}.`),
  );
}

/** @param starts whether the verb starts a program; @param runs whether it ends as one does */
function exitStatus(starts: boolean, runs = starts): readonly string[] {
  const own = Object.entries(exitMeanings)
    .filter(([status]) => starts || Number(status) < 126)
    .map(([status, meaning]) => item(bold(status), sentence(plain(meaning))));
  return [
    section("Exit status"),
    ...runs
      ? [
        paragraph("The program\\(aqs own; else"),
        item(`\\fB128\\fR + ${italic("n")}`, `Signal ${italic("n")} ended the program.`),
      ]
      : [item(bold("0"), "It was done.")],
    ...own,
  ];
}

/** The rows of a table in folders.md as FILES has them: with owner and mode where it tells. */
function filesOf(
  heading: string,
  chosen: (path: string) => boolean = () => true,
): readonly string[] {
  return rowsOf(below(parts("folders"), heading)).filter(([path = ""]) => chosen(path))
    .map((cells) => item(inline(cells[0] ?? ""), sentence(inline(cells.at(-1) ?? ""))));
}

function environment(chosen: (name: string) => boolean = () => true): readonly string[] {
  return rowsOf(below(parts("environment"), "What appjail itself reads"))
    .filter(([name = ""]) => chosen(name))
    .map(([name = "", is = ""]) => item(inline(name), sentence(inline(is))));
}

function seeAlso(references: readonly string[]): readonly string[] {
  return [section("See also"), paragraph([...new Set(references)].join(",\n"))];
}

/** The first commands of a page, or of a part of it. */
function example([name, heading]: readonly [string, string?]): readonly string[] {
  const all = heading === undefined ? parts(name) : below(parts(name), heading);
  const block = all.find((part) => part.kind === "block" && /^(?:sh|console)\b/.test(part.info));
  if (block === undefined) throw new Error(`docs/${name}.md has no block for an example`);
  return [section("Examples"), roffOf(block)];
}

// --- The pages -------------------------------------------------------------------------------

function overview(all: readonly VerbWords[]): readonly string[] {
  const readme = opening(partsOf(pageText("README.md"))).find(({ kind }) => kind === "paragraph");
  if (readme === undefined) throw new Error("README.md says nothing before its first heading");
  return [
    section("Name"),
    `appjail \\- each application as its own user, in its own jail`,
    section("Synopsis"),
    `${bold("appjail")} [${bold("-H")} ${italic("HOST")}] [${bold("--socket")} ${italic("PATH")}] ${
      italic("COMMAND")
    } ...`,
    section("Description"),
    roffOf(readme),
    section("Commands"),
    ...all.filter(({ name }) => name !== "help").map(({ name, brief }) =>
      item(reference(pageOf(name)), `${plain(brief)}.`)
    ),
    section("Options"),
    ...topOptions.map(optionItem),
    section("Environment"),
    ...environment(),
    section("Files"),
    ...filesOf("What you make yourself", (path) => path.includes("/etc/appjail")),
    ...filesOf("In people's own homes"),
    ...exitStatus(true),
    ...example(["first-jail"]),
    ...seeAlso([
      reference(profilePage),
      reference(settingsPage),
      reference(pageOf("daemon")),
      "\\fBbwrap\\fR(1)",
    ]),
  ];
}

/** How a verb is called, in the type of what is typed and of what stands for something. */
function synopsis(usage: string): string {
  const words = usage.replaceAll(/<([A-Z]+)>/g, "$1");
  const roff = words.split(/(--?[a-z-]+|[A-Z][A-Z=]*\b|[\][|. ]+)/).map((word) =>
    /^[A-Z]/.test(word) ? italic(word) : /^[\][|. ]*$/.test(word) ? plain(word) : bold(word)
  ).join("");
  // It hangs, where it is longer than a line.
  return `.HP\n${bold("appjail")} ${roff}`;
}

function verbPage(verb: VerbWords): readonly string[] {
  const { name, brief, description, usages, options } = verb;
  const { name: pageName } = pageOf(name);
  const starts = name === "run" || name === "shell";
  // Those that tell of the exit status, or of signals, have a section of their own.
  const paragraphs = description.split("\n\n");
  const about = (what: RegExp): number => paragraphs.findIndex((one) => what.test(one));
  const exit = about(/^The exit status /);
  const signals = about(/^SIG[A-Z]+/);
  const said = paragraphs.filter((_, at) =>
    at !== signals && (exit < 0 || at < exit) && description !== brief
  );
  return [
    section("Name"),
    `${plain(pageName)} \\- ${plain(brief[0]?.toLowerCase() ?? "")}${plain(brief.slice(1))}`,
    section("Synopsis"),
    ...usages.map(synopsis),
    section("Description"),
    ...said.length === 0 ? [`${plain(brief)}.`] : said.map((one) => paragraph(plain(one))),
    ...verb.arguments.map((argument) =>
      item(`${italic(argument.name)}${argument.many ? " ..." : ""}`, `${plain(argument.brief)}.`)
    ),
    section("Options"),
    ...[...options, helpOption].map(optionItem),
    ...signals < 0 ? [] : [section("Signals"), paragraph(plain(paragraphs[signals] ?? ""))],
    ...name === "daemon"
      ? [
        section("Files"),
        ...filesOf("What you make yourself", (path) => path.startsWith("`/")),
        ...filesOf("What stays"),
        item(bold("/run/appjail"), "Sockets, locks, and what belongs to jails that run."),
      ]
      : [],
    ...exitStatus(starts, starts || name === "attach" || name === "wait"),
    ...examples[name] === undefined ? [] : example(examples[name]),
    ...seeAlso([
      "\\fBappjail\\fR(1)",
      ...name === "profile" ? [] : kin.filter((group) => group.includes(name))
        .flat().filter((other) => other !== name).map((other) => reference(pageOf(other))),
      ...["profile", "run", "plan"].includes(name) ? [reference(profilePage)] : [],
      ...name === "daemon" ? [reference(settingsPage)] : [],
    ]),
  ];
}

/** What a schema lets be written, in a few words. */
function valuesOf(schema: Schema): string {
  const { type, enum: words, items, anyOf, minimum, maximum, propertyNames } = schema as {
    readonly type?: string;
    readonly enum?: readonly string[];
    readonly items?: Schema;
    readonly anyOf?: readonly Schema[];
    readonly minimum?: number;
    readonly maximum?: number;
    readonly propertyNames?: Schema;
  };
  if (words !== undefined && words.length <= 10) {
    return words.map((word) => bold(`"${word}"`)).join(", ");
  }
  if (words !== undefined) return "names of keys";
  if (anyOf !== undefined) return anyOf.map(valuesOf).join(", or ");
  switch (type) {
    case "boolean":
      return `${bold("true")}, ${bold("false")}`;
    case "integer":
    case "number":
      return minimum === undefined || maximum === undefined
        ? "a number"
        : `a number, ${minimum} to ${maximum}`;
    case "string":
      return "a text";
    case "array":
      return items?.["type"] === "object" ? "a list of tables" : "a list of texts";
    default:
      return propertyNames === undefined ? "a table" : "a table of texts";
  }
}

/** What holds when a profile says nothing about a key, if that is anything. */
function standardOf(value: unknown): string {
  const nothing = value === null || value === "" || typeof value === "object";
  return nothing ? "" : ` If it says nothing: ${bold(JSON.stringify(value))}.`;
}

function keyItem(name: string, schema: Schema, standard?: unknown): string {
  const { description = "" } = schema as { readonly description?: string };
  const otherwise = standard === undefined ? "" : standardOf(standard);
  return item(`${bold(name)} = ${valuesOf(schema)}`, `${plain(String(description))}.${otherwise}`);
}

function propertiesOf(schema: Schema): readonly (readonly [string, Schema])[] {
  const { properties } = schema as { readonly properties?: Readonly<Record<string, Schema>> };
  return Object.entries(properties ?? {});
}

/** Every key, those of the tables too, with what holds where it is absent. */
function keyItems(): readonly string[] {
  const standard: Readonly<Record<string, unknown>> = { ...defaults };
  return Object.entries(keys).flatMap(([name, { schema }]) => {
    const inner = propertiesOf(schema);
    const known = standard[name];
    if (inner.length > 0) {
      const of: Readonly<Record<string, unknown>> = { ...Object(known) };
      return inner.map(([key, one]) => keyItem(`${name}.${key}`, one, of[key]));
    }
    const { items } = schema as { readonly items?: Schema };
    const entries = propertiesOf(items ?? {});
    const whole = keyItem(name, schema, known);
    if (entries.length === 0) return [whole];
    const lines = entries.map(([key, one]) => keyItem(key, one));
    return [whole, `.RS\n${lines.join("\n")}\n.RE`];
  });
}

function profileFile(): readonly string[] {
  const all = parts("profile");
  const first = opening(all);
  return [
    section("Name"),
    "appjail-profile \\- what an application may touch",
    section("Synopsis"),
    ...filesOf("What you make yourself", (path) => path.includes("profiles/NAME.toml")),
    section("Description"),
    ...first.filter(({ kind }) => kind === "paragraph").slice(0, 1).map(roffOf),
    ...first.filter((part) => part.kind === "block" && part.info === "toml").map(roffOf),
    ...["Which profile a command finds", "What holds over what"].flatMap((heading) => [
      section(heading),
      ...below(parts("which-profile"), heading).map(roffOf),
    ]),
    section("Keys"),
    ...keyItems(),
    ...seeAlso([
      "\\fBappjail\\fR(1)",
      reference(pageOf("profile")),
      reference(pageOf("plan")),
      "\\fBxdg-dbus-proxy\\fR(1)",
    ]),
  ];
}

/** The sort of value that a setting has. */
function settingValue(schema: v.GenericSchema): string {
  const { type, wrapped, options } = schema as v.GenericSchema & {
    readonly wrapped?: v.GenericSchema;
    readonly options?: readonly (v.GenericSchema | string)[];
  };
  if (wrapped !== undefined) return settingValue(wrapped);
  if (options !== undefined) {
    return [
      ...new Set(
        options.map((one) => typeof one === "string" ? bold(`"${one}"`) : settingValue(one)),
      ),
    ].join(", ");
  }
  return type === "number" ? "a number" : "a text";
}

function settingsFile(all: readonly VerbWords[]): readonly string[] {
  const flags = all.find(({ name }) => name === "daemon")?.options ?? [];
  const items = Object.entries(configuration.entries).map(([name, schema]) => {
    const camel = name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const flag = flags.find(({ long }) => long === flagName(camel));
    const brief = flag?.brief ?? descriptionOf(schema);
    const also = flag === undefined ? "" : ` The flag is ${bold(flag.long)}.`;
    return item(`${bold(name)} = ${settingValue(schema)}`, `${plain(brief)}.${also}`);
  });
  const written = below(parts("configuration"), "Flags and file");
  return [
    section("Name"),
    "appjail.toml \\- settings of the appjail daemon",
    section("Synopsis"),
    ...filesOf("What you make yourself", (path) => path.includes("appjail.toml")),
    section("Description"),
    ...written.filter(({ kind }) => kind === "paragraph").slice(0, 1).map(roffOf),
    section("Keys"),
    ...items,
    section("Examples"),
    ...written.filter((part) => part.kind === "block" && part.info === "toml").map(roffOf),
    ...seeAlso([reference(pageOf("daemon")), "\\fBappjail\\fR(1)", reference(profilePage)]),
  ];
}

/** What a schema says of itself. */
function descriptionOf(schema: v.GenericSchema): string {
  const { wrapped, pipe, description } = schema as v.GenericSchema & {
    readonly wrapped?: v.GenericSchema;
    readonly pipe?: readonly v.GenericSchema[];
    readonly description?: string;
  };
  return description ?? (wrapped === undefined ? undefined : descriptionOf(wrapped)) ??
    pipe?.map((one) => (one as { readonly description?: string }).description)
      .find((one) => one !== undefined) ??
    "";
}

/** All pages, by the names of their files. */
export function manPages(): Promise<ReadonlyMap<string, string>> {
  const all = verbs();
  const pages = new Map<string, string>();
  const date = sourceDate().toISOString().slice(0, 10);
  const add = (name: string, number: number, body: readonly string[]): void => {
    const manual = { 1: "User Commands", 5: "File Formats", 8: "System Administration" }[number];
    const source = `appjail ${manifest.version}`;
    const head = { name, number, date, source, manual: manual ?? "" };
    pages.set(`${name}.${number}`, page(head, body));
  };
  add("appjail", 1, overview(all));
  for (const verb of all) {
    if (verb.name === "help") continue;
    const { name, number } = pageOf(verb.name);
    add(name, number, verbPage(verb));
  }
  add(profilePage.name, profilePage.number, profileFile());
  add(settingsPage.name, settingsPage.number, settingsFile(all));
  return Promise.resolve(pages);
}

if (import.meta.main) {
  const folder = `${import.meta.dirname}/../dist/man`;
  await Deno.mkdir(folder, { recursive: true });
  const pages = await manPages();
  for (const [name, text] of pages) await Deno.writeTextFile(`${folder}/${name}`, text);
  console.log(`${pages.size} man pages are in dist/man; to read one: man -l dist/man/appjail.1`);
}
