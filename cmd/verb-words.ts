/**
 * The verbs as words: of what their help, the completions and the man pages are made, so that nothing
 * about an option is written twice.
 *
 * @module
 */
import { type Command, type CommandContext, text_en } from "@stricli/core";

/** An option of a verb. */
export interface OptionWords {
  readonly long: string;
  readonly short: string | undefined;
  readonly brief: string;
  /** What stands behind it, such as `PROFILE`; `undefined`: nothing. */
  readonly value: string | undefined;
  /** The values that there are, where they are few. */
  readonly choices: readonly string[];
  /** What holds without it, where its brief does not say so. */
  readonly standard: string | undefined;
}

/** A word that stands behind a verb and its options. */
export interface ArgumentWords {
  /** Such as `PROFILE`. */
  readonly name: string;
  readonly brief: string;
  readonly optional: boolean;
  /** There may be many of it; it is the last one then. */
  readonly many: boolean;
}

export interface VerbWords {
  readonly name: string;
  readonly brief: string;
  /** More than the brief, in paragraphs; the brief, where there is no more to be said. */
  readonly description: string;
  /** How it can be called, without `appjail`. */
  readonly usages: readonly string[];
  readonly options: readonly OptionWords[];
  readonly arguments: readonly ArgumentWords[];
}

/** The options that stand before the verb. */
export const topOptions: readonly OptionWords[] = [
  option("--host", "H", "Do it on that machine, through ssh; USER@HOST, too", "HOST"),
  option("--socket", undefined, "Where the daemon listens; else $APPJAIL_SOCKET", "PATH"),
  option("--version", "V", "Say which version this is"),
  option("--help", "h", "Say this, or after a command, explain that"),
];

/** The option that every verb has. */
export const helpOption: OptionWords = option("--help", "h", "Explain this command");

function option(
  long: string,
  short: string | undefined,
  brief: string,
  value?: string,
): OptionWords {
  return { long, short, brief, value, choices: [], standard: undefined };
}

/** A flag as stricli has it, the parts that are used. */
interface Flag {
  readonly kind: string;
  readonly brief: string;
  readonly placeholder?: string;
  readonly values?: readonly string[];
  readonly default?: unknown;
}

interface Positional {
  readonly brief: string;
  readonly placeholder?: string;
  readonly optional?: boolean;
}

/** How stricli is to lay out what it says. */
export const formatting = {
  useAliasInUsageLine: false,
  onlyRequiredInUsageLine: false,
  caseStyle: "convert-camel-to-kebab",
} as const;

/** The ways to write an option, as help and man pages show them: `--profile PROFILE`, `-p PROFILE`. */
export function spellings({ long, short, value }: OptionWords): readonly string[] {
  const behind = value === undefined ? "" : ` ${value}`;
  return short === undefined ? [`${long}${behind}`] : [`${long}${behind}`, `-${short}${behind}`];
}

/** An option's name as a person types it. */
export function flagName(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

export function wordsOfVerb<C extends CommandContext>(
  name: string,
  command: Command<C>,
): VerbWords {
  const { brief, fullDescription, parameters } = command;
  const aliases = Object.entries(parameters.aliases ?? {});
  return {
    name,
    brief,
    description: fullDescription ?? brief,
    usages: usagesOf(name, command),
    options: Object.entries<Flag>(parameters.flags ?? {}).map(([flag, words]) => {
      const { values: choices = [], placeholder = choices.join("|") } = words;
      return {
        long: flagName(flag),
        short: aliases.find(([, of]) => of === flag)?.[0],
        brief: words.brief,
        value: words.kind === "boolean" ? undefined : placeholder,
        choices,
        standard: words.default === undefined ? undefined : String(words.default),
      };
    }),
    arguments: argumentsOf(parameters.positional),
  };
}

function argumentsOf(
  positional:
    | { readonly kind: "array"; readonly parameter: Positional }
    | { readonly kind: "tuple"; readonly parameters: readonly Positional[] }
    | undefined,
): readonly ArgumentWords[] {
  const many = positional?.kind === "array";
  const all = many ? [positional.parameter] : positional?.parameters ?? [];
  return all.map(({ placeholder = "ARGUMENT", brief, optional = false }) => (
    { name: placeholder, brief, optional, many }
  ));
}

/** They are known to the help alone: it stands there between its first line and the next empty one. */
function usagesOf<C extends CommandContext>(name: string, command: Command<C>): readonly string[] {
  const args: Parameters<typeof command.formatHelp>[0] = {
    prefix: [name],
    config: formatting,
    text: text_en,
    additionalFlags: [],
    includeArgumentEscapeSequenceFlag: false,
    includeHidden: false,
    ansiColor: false,
  };
  const [, ...lines] = command.formatHelp(args).split("\n");
  return lines.slice(0, lines.indexOf("")).map((line) => line.trim());
}
