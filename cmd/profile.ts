/**
 * `appjail profile …`: the caller's profiles, as they are written and as they come out.
 *
 * @module
 */
import { AppjailError, exitUsage, wordsOf } from "../core/errors.ts";
import { readAll } from "../ipc/fd.ts";
import { openFileBehind, statusOf } from "../core/kernel.ts";
import { printable } from "../core/log.ts";
import { parse, type ProfileName, profileName } from "../core/names.ts";
import { readProfile } from "../core/profile.ts";
import { nearest } from "../core/profile-form.ts";
import { largestText } from "../core/profile-toml.ts";
import type { ClientToDispatcher, DispatcherToClient } from "../core/protocol.ts";
import { bytesIn } from "../core/size-text.ts";
import { align } from "../core/table.ts";
import { type Answer, answer, ask, connectTo, socketPath, type World, writeOut } from "./client.ts";
import { ConversionBar, isConfirmed } from "./encrypt.ts";
import { editText } from "./profile-edit.ts";
import { parseProfile } from "./profiles.ts";

export interface ProfileFlags {
  readonly json?: boolean | undefined;
  readonly resolved?: boolean | undefined;
  readonly names?: boolean | undefined;
  readonly from?: string | undefined;
  readonly home?: boolean | undefined;
  readonly yes?: boolean | undefined;
  readonly socket?: string | undefined;
}

type Of<T extends DispatcherToClient["type"]> = Extract<DispatcherToClient, { readonly type: T }>;
type Problems = Of<"checked">["problems"];

/** What is done, with the words behind it. */
interface Subverb {
  readonly words: string;
  readonly flags: readonly (keyof ProfileFlags)[];
  /** How many words there may be. */
  readonly least: number;
  readonly most: number;
  readonly perform: (session: Session, words: readonly string[]) => Promise<number>;
}

const subverbs: Readonly<Record<string, Subverb>> = {
  list: { words: "", flags: ["json", "names"], least: 0, most: 0, perform: list },
  show: { words: "NAME", flags: ["json", "resolved"], least: 1, most: 1, perform: show },
  new: { words: "NAME", flags: ["from"], least: 1, most: 1, perform: create },
  edit: { words: "NAME [FILE]", flags: [], least: 1, most: 2, perform: edit },
  check: { words: "FILE...", flags: [], least: 1, most: 1000, perform: check },
  diff: { words: "NAME", flags: ["json"], least: 1, most: 1, perform: diff },
  delete: { words: "NAME", flags: ["home", "yes"], least: 1, most: 1, perform: remove },
};

/** A daemon to ask, and what was asked for. */
interface Session {
  readonly flags: ProfileFlags;
  readonly world: World;
  readonly path: string;
}

export async function profile(
  flags: ProfileFlags,
  world: World,
  ...words: readonly string[]
): Promise<number> {
  const [name = "", ...rest] = words;
  const known = Object.keys(subverbs);
  const subverb = known.includes(name) ? subverbs[name] : undefined;
  if (subverb === undefined) {
    throw usage(
      name === ""
        ? `Cannot use profile: it needs one of ${known.join(", ")}`
        : `Cannot use ${JSON.stringify(name)}: profile has no such command${nearest(name, known)}`,
    );
  }
  if (rest.length < subverb.least || rest.length > subverb.most) {
    throw usage(`Cannot use profile ${name} so: it is appjail profile ${name} ${subverb.words}`);
  }
  for (const [flag, value] of Object.entries(flags)) {
    if (value === undefined || value === false || flag === "socket") continue;
    if (!subverb.flags.some((one) => one === flag)) {
      throw usage(`Cannot use --${flag}: profile ${name} has no such option`);
    }
  }
  const session = { flags, world, path: socketPath(flags.socket, world.env) };
  return await subverb.perform(session, rest);
}

function usage(words: string): AppjailError {
  return new AppjailError("usage", `${words}; see: appjail help profile`);
}

/** Asks, and returns the answers of one type. */
async function answers<const T extends Answer["type"]>(
  { path }: Session,
  request: ClientToDispatcher,
  type: T,
): Promise<readonly Of<T>[]> {
  const found: Of<T>[] = [];
  const isWanted = (message: Answer): message is Answer & Of<T> => message.type === type;
  for await (const message of ask(path, request)) {
    if (isWanted(message)) found.push(message);
  }
  return found;
}

/** Text for a person, in which nothing steers their terminal. */
function print(lines: readonly string[]): void {
  writeOut(lines.map((line) => `${printable(line)}\n`).join(""), Deno.stdout);
}

function complainOf(problems: Problems): void {
  const text = problems.map(({ file, line, message }) =>
    `${printable(`${file}:${line}: ${message}`)}\n`
  );
  writeOut(text.join(""), Deno.stderr);
}

// --- Looking -----------------------------------------------------------------------------------

async function list(session: Session): Promise<number> {
  const { flags } = session;
  const all = (await answers(session, { type: "written" }, "written"))
    .flatMap(({ profiles }) => profiles);
  if (flags.json) {
    print(JSON.stringify(all, null, 2).split("\n"));
    return 0;
  }
  if (flags.names) {
    print(all.map(({ profile }) => profile));
    return 0;
  }
  if (all.length === 0) {
    print(["There is no profile yet; to write one: appjail profile new NAME"]);
    return 0;
  }
  print(align(
    [
      ["PROFILE", "FROM", "UID", "DESCRIPTION"],
      ...all.map(({ profile, from, uid, running, changed, description, problems }) => [
        profile,
        from.join("+") || "-",
        uid === null ? "-" : `${uid}`,
        [
          ...problems > 0 ? ["(cannot be used)"] : [],
          ...changed ? ["(changed)"] : running ? ["(running)"] : [],
          printable(description),
        ].join(" ").trim(),
      ]),
    ],
    [2],
  ));
  return 0;
}

async function show(session: Session, [name = ""]: readonly string[]): Promise<number> {
  const { flags, path } = session;
  const files: Of<"layer">[] = [];
  let resolved: Of<"resolved"> | undefined;
  for await (const message of ask(path, { type: "show", profile: parseProfile(name) })) {
    if (message.type === "layer") files.push(message);
    if (message.type === "resolved") resolved = message;
  }
  if (resolved === undefined) throw new AppjailError("protocol", "The daemon told no profile");
  const { values, problems, uid, running, changed } = resolved;
  if (flags.json) {
    const settings = nested(values.map(({ key, value }) => [key, JSON.parse(value)]));
    const sources = Object.fromEntries(values.map(({ key, from }) => [key, from]));
    const texts = files.map(({ layer, file, text }) => ({ layer, file, text }));
    const all = { profile: name, uid, running, changed, problems, files: texts, settings, sources };
    print(JSON.stringify(all, null, 2).split("\n"));
  } else if (flags.resolved) {
    print(align(values.map(({ key, value, from }) => [
      `${key} = ${printable(tomlOf(JSON.parse(value)))}`,
      ...from === null ? [] : [`# ${from}`],
    ])));
  } else if (files.length === 0) {
    print([`# Nobody has written ${name}: it is as the default jail.`]);
  } else {
    for (const { file, text } of files) {
      print([`# --- ${file}`, ...text.replace(/\n$/, "").split("\n")]);
    }
  }
  if (changed) {
    writeOut(
      `appjail: ${name} runs as it was before; this holds when it is started next: ` +
        `appjail stop ${name}\n`,
      Deno.stderr,
    );
  }
  complainOf(problems);
  return problems.length === 0 ? 0 : exitUsage;
}

/** `{"a.b": 1}` as `{a: {b: 1}}`. */
function nested(
  values: readonly (readonly [string, unknown])[],
): Readonly<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (const [key, value] of values) {
    const [table = "", name] = key.split(".");
    all[table] = name === undefined ? value : { ...Object(all[table]), [name]: value };
  }
  return all;
}

/** A value as TOML has it; what is not there at all is a comment. */
function tomlOf(value: unknown): string {
  if (value === null || value === undefined) return "# none";
  if (Array.isArray(value)) return `[${value.map(tomlOf).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, one]) => one !== null);
  return entries.length === 0
    ? "{}"
    : `{ ${entries.map(([name, one]) => `${name} = ${tomlOf(one)}`).join(", ")} }`;
}

async function diff(session: Session, [name = ""]: readonly string[]): Promise<number> {
  const [compared] = await answers(
    session,
    { type: "diff", profile: parseProfile(name) },
    "compared",
  );
  const changes = compared?.changes ?? [];
  if (session.flags.json) {
    const all = changes.map(({ below, own, ...rest }) => ({
      ...rest,
      below: JSON.parse(below),
      own: JSON.parse(own),
    }));
    print(JSON.stringify(all, null, 2).split("\n"));
    return 0;
  }
  print(changes.flatMap(({ key, below, own, from, wider }) => [
    `- ${key} = ${tomlOf(JSON.parse(below))}  # ${from ?? "built in"}`,
    `+ ${key} = ${tomlOf(JSON.parse(own))}${wider ? "  # gives more" : ""}`,
  ]));
  return 0;
}

// --- Checking ----------------------------------------------------------------------------------

async function check(session: Session, files: readonly string[]): Promise<number> {
  let wrong = 0;
  for (const file of files) {
    const text = textOf(file, "check");
    const problems = [...readProfile(text, file).problems];
    if (problems.length === 0) problems.push(...await layered(session, file, text));
    complainOf(problems);
    wrong += problems.length;
  }
  return wrong === 0 ? 0 : exitUsage;
}

/** What the daemon says of a text that is right by itself, where one answers. */
async function layered(session: Session, file: string, text: string): Promise<Problems> {
  const base = file.slice(file.lastIndexOf("/") + 1);
  const name = parse(profileName, base.replace(/\.toml$/, ""));
  if ("wrong" in name) return [];
  const request = { type: "check", profile: name.value, text } as const;
  try {
    const [checked] = await answers(session, request, "checked");
    const own = `own/${name.value}.toml`;
    const lockedHere = "only an administrator";
    return (checked?.problems ?? [])
      // It may be meant for the administrator's folder.
      .filter(({ message }) => !message.includes(lockedHere))
      .map((problem) => problem.file === own ? { ...problem, file } : problem);
  } catch (error) {
    if (error instanceof AppjailError && error.code === "no-daemon") return [];
    throw error;
  }
}

/** The text of a file of the person's own. */
function textOf(file: string, what: string): string {
  const failed = (why: string): AppjailError =>
    new AppjailError("usage", `Cannot ${what} ${file}: ${why}`);
  try {
    using open = openFileBehind(file);
    const { kind, size } = statusOf(open);
    if (kind !== "file") throw failed("it is no file");
    if (size > largestText) throw failed(`it is larger than ${largestText} bytes`);
    return new TextDecoder("utf-8", { fatal: true }).decode(readAll(open.number, largestText));
  } catch (error) {
    throw error instanceof AppjailError ? error : failed(wordsOf(error));
  }
}

// --- Writing -----------------------------------------------------------------------------------

/** The person's own text; null when there is none. */
async function ownText(session: Session, profile: ProfileName): Promise<string | null> {
  try {
    const files = await answers(session, { type: "show", profile }, "layer");
    return files.find(({ layer }) => layer === "own")?.text ?? null;
  } catch (error) {
    if (error instanceof AppjailError && error.code === "unknown-profile") return null;
    throw error;
  }
}

/** @returns what is wrong with it; nothing: it is kept */
async function keep(
  session: Session,
  profile: ProfileName,
  text: string,
  before: string | null,
): Promise<Problems> {
  const request = { type: "write", profile, text, before } as const;
  const [checked] = await answers(session, request, "checked");
  if (checked === undefined) throw new AppjailError("protocol", "The daemon has checked nothing");
  return checked.problems;
}

async function create(session: Session, [word = ""]: readonly string[]): Promise<number> {
  const name = parseProfile(word);
  const { from } = session.flags;
  const before = await ownText(session, name);
  if (before !== null) {
    throw new AppjailError(
      "profile-refused",
      `Cannot make profile "${name}": you have written it already; try: appjail profile edit ${name}`,
    );
  }
  const base = from === undefined ? undefined : parseProfile(from);
  const text = base === undefined ? `# See docs/profile.md.\n` : `extends = "${base}"\n`;
  const problems = await keep(session, name, text, null);
  complainOf(problems);
  if (problems.length > 0) return exitUsage;
  print([`made ${name}; to change it: appjail profile edit ${name}`]);
  return 0;
}

async function edit(session: Session, [word = "", file]: readonly string[]): Promise<number> {
  const name = parseProfile(word);
  const before = await ownText(session, name);
  if (file !== undefined) {
    const problems = await keep(session, name, textOf(file, "use"), before);
    complainOf(problems.map((one) => one.file === `own/${name}.toml` ? { ...one, file } : one));
    if (problems.length > 0) return exitUsage;
    print([`kept ${name}`]);
    return 0;
  }
  const outcome = await editText({
    name,
    text: before ?? `# Your own text for ${name}: what it says holds over what is below it.\n`,
    env: session.world.env,
    keep: async (text) => {
      const problems = await keep(session, name, text, before);
      complainOf(problems);
      return problems.length === 0;
    },
  });
  print([outcome === "kept" ? `kept ${name}` : "nothing was changed"]);
  return 0;
}

async function remove(session: Session, [word = ""]: readonly string[]): Promise<number> {
  const profile = parseProfile(word);
  const { home = false, yes = false } = session.flags;
  if (yes && !home) throw usage("Cannot use --yes without --home: nothing is asked");
  using channel = await connectTo(session.path);
  channel.send({ type: "forget", profile, home });
  using bar = new ConversionBar();
  for (;;) {
    const message = await answer(channel);
    if (message === undefined) {
      throw new AppjailError(
        "lost",
        `The daemon went away; to go on: appjail profile delete ${word}`,
      );
    }
    switch (message.type) {
      case "progress":
        bar.show(message);
        continue;
      case "measured": {
        bar.clear();
        const { uid, files, bytes } = message;
        const what = `the home of ${profile} (uid ${uid}): ${files} files, ${bytesIn(bytes)}`;
        print([what]);
        if (!yes && !await isConfirmed("Delete it for good? [y/N] ")) {
          print(["nothing was deleted; without being asked: --yes"]);
          return 0;
        }
        channel.send({ type: "confirm", keep: false });
        continue;
      }
      case "done":
        print([
          home ? `deleted ${profile}` : `deleted your own text of ${profile}; its home stays`,
        ]);
        return 0;
      default:
        throw new AppjailError("protocol", `The daemon answered "${message.type}" to a forget`);
    }
  }
}
