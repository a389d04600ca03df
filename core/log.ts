/**
 * A role's log: one line to standard error for each thing worth knowing, never more than one.
 *
 * @module
 */

/** How lines look. json: an object in each, for programs that read them. */
export const logFormats = ["text", "json"] as const;

/** How a role's lines look, and which there are. */
export interface LogStyle {
  readonly format: (typeof logFormats)[number];
  /** They go to systemd's journal, which takes how weighty one is from its beginning. sd-daemon(3). */
  readonly journal: boolean;
  readonly debug: boolean;
}

/** For a role that nobody has told otherwise. */
export const plainStyle: LogStyle = { format: "text", journal: false, debug: false };

/** What a line is about, for programs: a person finds it in the words. */
export type LogFields =
  & Readonly<Record<string, string | number | boolean | null | undefined>>
  & { readonly [name in "time" | "level" | "role" | "message"]?: never };

/** Where a role tells what it does. */
export interface Log {
  readonly style: LogStyle;
  /** Something that is not as it should be. */
  warn(line: string, fields?: LogFields): void;
  info(line: string, fields?: LogFields): void;
  debug(line: string, fields?: LogFields): void;
}

/** How weighty a line is, as syslog(3) counts it. */
const priorities = { error: 3, warning: 4, info: 6, debug: 7 } as const;
export type LogLevel = keyof typeof priorities;

const encoder = new TextEncoder();

/**
 * Whatever could make a line two, steer a terminal, or turn the order of what is read around
 * (CVE-2021-42574), is shown as an escape.
 */
export function printable(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex -- control characters are what it is about
    /[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\p{Bidi_Control}\p{Surrogate}]/gu,
    (character) => {
      const number = character.charCodeAt(0);
      // A byte that is part of no character; see ipc/octets.ts.
      const code = (number >= 0xdc80 && number <= 0xdcff ? number - 0xdc00 : number).toString(16);
      return code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
    },
  );
}

/** JSON that can be shown: by itself it leaves as they are what a terminal obeys. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(
    /[\x7f-\x9f\u2028\u2029\p{Bidi_Control}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A line of a log. */
export function logLine(
  role: string,
  { format, journal }: LogStyle,
  level: LogLevel,
  message: string,
  fields: LogFields = {},
  now: Date = new Date(),
): string {
  const text = format === "json"
    ? jsonText({ time: now.toISOString(), level, role, message, ...fields })
    : `appjail-${role}: ${printable(message)}`;
  return `${journal ? `<${priorities[level]}>` : ""}${text}\n`;
}

/** Writes a line to standard error; a reader that is gone is no reason to stop. */
export function writeLog(
  role: string,
  style: LogStyle,
  level: LogLevel,
  message: string,
  fields?: LogFields,
): void {
  try {
    Deno.stderr.writeSync(encoder.encode(logLine(role, style, level, message, fields)));
  } catch {
    // Nobody reads any more.
  }
}

/** The log of a role. */
export function logOf(role: string, style: LogStyle): Log {
  const write = (level: LogLevel) => (message: string, fields?: LogFields): void =>
    writeLog(role, style, level, message, fields);
  return {
    style,
    warn: write("warning"),
    info: write("info"),
    debug: style.debug ? write("debug") : () => {},
  };
}

/** A log whose lines are kept, but those for debugging. */
export function gathered(lines: string[]): Log {
  const keep = (line: string): void => void lines.push(line);
  return { style: plainStyle, warn: keep, info: keep, debug: () => {} };
}

/** The style that the options of a role ask for, where it is not sure that they are options at all. */
export function styleIn(options: string): LogStyle {
  try {
    const { log } = JSON.parse(options);
    const { format, journal, debug } = log;
    if (format !== "text" && format !== "json") return plainStyle;
    return { format, journal: journal === true, debug: debug === true };
  } catch {
    return plainStyle;
  }
}
