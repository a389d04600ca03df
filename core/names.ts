/**
 * The values that come from outside, each parsed once at the edge into a type of its own.
 *
 * @module
 */
import * as v from "valibot";

/** What a profile may be called: also its user name, the name of its home, a D-Bus string. */
export const profileName = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}$/,
    "a profile is named with letters, digits, _ . + or -, not first one of . + -, 64 at most",
  ),
  // These two own files and processes that are not a profile's.
  v.check((name) => name !== "root" && name !== "nobody", "this name is another user's"),
  v.brand("ProfileName"),
);
export type ProfileName = v.InferOutput<typeof profileName>;

/** A uid that a person or a system account may have: anything but -1 and its 16-bit twin. */
export const ownerUid = v.pipe(
  v.number(),
  v.integer(),
  v.minValue(0),
  v.maxValue(0xfffffffe),
  v.check((uid) => uid !== 0xffff, "65535 is no user"),
  v.brand("OwnerUid"),
);
export type OwnerUid = v.InferOutput<typeof ownerUid>;

/** A uid that appjail gives to profiles; whether it was given is asked of the registry. */
export const appUid = v.pipe(
  v.number(),
  v.integer(),
  v.minValue(1000, "no uid below 1000 is a profile's"),
  v.maxValue(0xfffffffe),
  // 65534 is nobody, 65535 the 16-bit -1.
  v.check((uid) => uid !== 65534 && uid !== 65535, "this uid is nobody's"),
  v.brand("AppUid"),
);
export type AppUid = v.InferOutput<typeof appUid>;

const noNul = v.check((text: string) => !text.includes("\0"), "a NUL byte cannot be in it");

/** An absolute path, as open(2) takes it. */
export const absolutePath = v.pipe(
  v.string(),
  v.startsWith("/", "it is not an absolute path"),
  v.maxBytes(4095),
  noNul,
  v.brand("AbsolutePath"),
);
export type AbsolutePath = v.InferOutput<typeof absolutePath>;

/** One word of a command line. execve(2) takes 128 KiB at most. */
export const argument = v.pipe(
  v.string(),
  v.maxBytes(131_071, "a word of it is longer than 128 KiB"),
  noNul,
);

/** A whole command line: the command, then its arguments. */
export const commandLine = v.pipe(
  v.array(argument),
  v.minLength(1, "a command is needed"),
  v.maxLength(16_384, "it has more than 16384 words"),
  v.check((argv) => argv[0] !== "", "the command is empty"),
  v.readonly(),
);
export type CommandLine = v.InferOutput<typeof commandLine>;

/** What a record would let pass without a word: an array that is empty, and three names. */
function isRecord(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !["__proto__", "prototype", "constructor"].some((name) => Object.hasOwn(value, name));
}

/** environ(7): names as POSIX has them, values without NUL. */
export const environment = v.pipe(
  v.custom<object>(isRecord, "no set of variables"),
  v.record(
    v.pipe(v.string(), v.regex(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, "no name of a variable")),
    argument,
  ),
  v.check((entries) => Object.keys(entries).length <= 4096, "too many variables"),
  v.readonly(),
);
export type Environment = v.InferOutput<typeof environment>;

/** Something of a person's, as a profile names it: a path, `~/…`, or `xdg-download/…`; core/user-dirs.ts. */
export const lendSource = v.pipe(
  v.string(),
  v.maxBytes(4095, "it is longer than 4095 bytes"),
  v.regex(
    /^(?:~|xdg-[a-z-]{1,20})?(?:\/[^/\0]+)*$/,
    'it is no path: "/…", "~/…", or a name such as "xdg-download"',
  ),
  v.minLength(1, "a path is needed"),
  v.brand("LendSource"),
);
export type LendSource = v.InferOutput<typeof lendSource>;

/** What something that is lent is called in a jail: one name in a folder, which can be shown. */
export const lendName = v.pipe(
  v.string(),
  v.minLength(1, "a name is needed"),
  v.maxBytes(200, "it is longer than 200 bytes"),
  v.check((name) => name !== "." && name !== "..", "it is the name of a folder itself"),
  v.regex(/^[^/\p{C}\p{Zl}\p{Zp}]+$/u, "there is a slash in it, or what cannot be shown"),
  v.brand("LendName"),
);
export type LendName = v.InferOutput<typeof lendName>;

/** The handle of a program in a jail: `firefox.1`, the profile and a count. */
export const programName = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}\.[1-9][0-9]{0,14}$/, "no name of a program"),
  v.brand("ProgramName"),
);
export type ProgramName = v.InferOutput<typeof programName>;

/** The profile in whose jail a program is, by its handle; null: such a profile cannot be. */
export function profileIn(program: ProgramName): ProfileName | null {
  const parsed = parse(profileName, program.slice(0, program.lastIndexOf(".")));
  return "value" in parsed ? parsed.value : null;
}

/** What is wrong with a value, in one line, or the value. */
export function parse<const S extends v.GenericSchema>(
  schema: S,
  value: unknown,
): { readonly value: v.InferOutput<S> } | { readonly wrong: string } {
  const result = v.safeParse(schema, value, { abortEarly: true, abortPipeEarly: true });
  return result.success ? { value: result.output } : { wrong: result.issues[0].message };
}

/** The same, for whom there is no going on without: what is wrong with it becomes an error. */
export function parsed<const S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  refuse: (wrong: string) => Error,
): v.InferOutput<S> {
  const result = parse(schema, value);
  if ("value" in result) return result.value;
  throw refuse(result.wrong);
}

/** signal(7), by the names that may be sent; numbers are equal on x86-64 and arm64. */
export const signalNumbers = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGWINCH: 28,
} as const;
export type SignalName = keyof typeof signalNumbers;
export const signalNames: readonly SignalName[] = Object.keys(signalNumbers) as SignalName[];

/** A signal as kill(1) takes it: a name, with SIG or without, or a number. */
export function parseSignal(text: string): SignalName {
  const name = text.toUpperCase();
  const found = signalNames.find((one) =>
    one === name || one === `SIG${name}` || `${signalNumbers[one]}` === text
  );
  if (found !== undefined) return found;
  const known = signalNames.map((one) => one.slice(3)).join(", ");
  throw new Error(`there is no such signal; it is one of ${known}`);
}
