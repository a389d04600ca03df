/**
 * `-H HOST` among the words of a command: which machine is meant, and what goes there.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import { isHost } from "../core/far.ts";

/** Another machine, and what is to be done there. */
export interface Far {
  /** As ssh takes it: `[USER@]HOST`. */
  readonly host: string;
  /** The words behind the machine's, those before it (`--socket`) in front. */
  readonly words: readonly string[];
}

/** Finds `-H HOST` among the options that stand before the verb. */
export function farIn(args: readonly string[]): Far | undefined {
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? "";
    const joined = /^(?:--host=|-H(?=.))([\s\S]*)$/.exec(word)?.[1];
    if (joined !== undefined) return far(joined, args.toSpliced(at, 1));
    if (word === "-H" || word === "--host") return far(args[at + 1], args.toSpliced(at, 2));
    if (word === "--socket") at++;
    else if (!word.startsWith("--socket=")) return undefined;
  }
  return undefined;
}

function far(host: string | undefined, words: readonly string[]): Far {
  if (host === undefined) throw usage("Cannot use --host: its value is missing");
  if (!isHost(host)) {
    throw usage(
      `Cannot use --host ${JSON.stringify(host)}: it has to be [USER@]HOST, as ssh takes it`,
    );
  }
  const verb = verbOf(words);
  if (verb === undefined) throw usage(`Cannot do anything on ${host}: a command is needed`);
  const refusal = refusalOf(verb, host);
  if (refusal === undefined) return { host, words };
  throw new AppjailError("usage", `Cannot do "${verb}" on ${host}: ${refusal}`);
}

/** What is done on one's own machine or not at all, and what to do instead. */
function refusalOf(verb: string, host: string): string | undefined {
  switch (verb) {
    case "daemon":
      return `the daemon would end with the connection; try: ssh ${host} sudo systemctl start appjail`;
    case "completions":
      return "completions are for the shell of this machine; try: appjail completions SHELL";
    case "desktop":
      return `its menu entries are that machine's own; try: ssh ${host} appjail desktop list`;
    default:
      return undefined;
  }
}

export function usage(words: string): AppjailError {
  return new AppjailError("usage", `${words}; see: appjail help`);
}

/** The verb among the words for another machine. */
function verbOf(words: readonly string[]): string | undefined {
  const [first, ...rest] = words;
  if (first === "--socket") return rest[1];
  return first?.startsWith("--socket=") === true ? rest[0] : first;
}

/** Whether one end of it has to be here: a copy's, whose files are this machine's. */
export function isNear({ words }: Far): boolean {
  const verb = verbOf(words);
  return verb === "put" || verb === "get";
}
