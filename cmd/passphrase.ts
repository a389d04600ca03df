/**
 * Asking for the passphrase of an encrypted home: from whom, in which order, and which are refused.
 * Loaded by a client when one is needed, and only then.
 *
 * The passphrase is bytes in one place (see ipc/secret.ts) until it is in the pipe that encfs or
 * gocryptfs reads. It is part of no string and of no error.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { type Fd, isInherited, pipe } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { Secret } from "../ipc/secret.ts";
import { AppjailError } from "../core/errors.ts";
import { effectiveUid, forbidCore, forbidInspection, statusBehind } from "../core/kernel.ts";
import { findAsker, LinePrinter } from "./asker.ts";
import { Unusable, type Way } from "./asking.ts";
import { Pinentry } from "./pinentry.ts";
import { TerminalPrompt } from "./prompt.ts";

/** Which passphrase is wanted. */
export interface Asking {
  readonly profile: string;
  readonly kind: "encfs" | "gocryptfs";
  /** How many were wrong already. */
  readonly tries: number;
  readonly purpose: "unlock" | "new" | "current";
}

export interface AskOptions {
  /** Where to read it from, and from nowhere else: `--passphrase-fd`. */
  readonly fd: number | undefined;
  /** The person's environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** gocryptfs takes 2048 bytes, its newline among them. */
export const longest = 2047;

/** encfs takes so many, and passes over the rest without a word. */
export const longestOfEncfs = 511;

/** How often a person may give one that is refused. */
const rounds = 3;

const newline = 10;

/**
 * The passphrase as bytes, without its newline. The caller overwrites them, as
 * {@linkcode passphrasePipe} does.
 */
export async function askPassphrase(
  asking: Asking,
  options: AskOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  forbidInspection();
  forbidCore();
  if (options.fd !== undefined) return await fromDescriptor(asking, options.fd);
  let unusable = "";
  for (const open of ways(options.env)) {
    const opened = open();
    if (opened === undefined) continue;
    await using way = opened;
    try {
      return await askInRounds(asking, way);
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      unusable += `, and ${error.message}`;
    }
  }
  throw new AppjailError(
    "passphrase-required",
    `Cannot ask for the passphrase of ${asking.profile} (${asking.kind}): there is no terminal to ask at` +
      `${unusable}; at one, try: appjail unlock ${asking.profile}; or set APPJAIL_ASKPASS to a ` +
      "program that asks, or use --passphrase-fd",
  );
}

/** The ways to ask a person, in their order; each may turn out not to be open. */
function ways(env: AskOptions["env"]): readonly (() => Way | undefined)[] {
  const { APPJAIL_ASKPASS: chosen, DISPLAY: display, WAYLAND_DISPLAY: wayland } = env;
  return [
    () => TerminalPrompt.open(),
    () => chosen ? LinePrinter.chosen(chosen, env) : undefined,
    () => {
      const path = display || wayland ? findAsker("pinentry", env) : undefined;
      return path === undefined ? undefined : new Pinentry(path, env);
    },
    () => {
      // Where systemd runs, sd_booted(3), and for root alone: others cannot write where its agents look.
      const path = statusBehind("/run/systemd/system")?.kind === "folder" && effectiveUid() === 0
        ? findAsker("systemd-ask-password", env)
        : undefined;
      return path === undefined ? undefined : LinePrinter.systemd(path, env);
    },
  ];
}

const prompts: Readonly<Record<Asking["purpose"], string>> = {
  unlock: "Passphrase of",
  new: "New passphrase of",
  current: "Current passphrase of",
};

/** Asks a person until what they give can be one, a few times. */
async function askInRounds(asking: Asking, way: Way): Promise<Uint8Array<ArrayBuffer>> {
  const { profile, kind, purpose, tries } = asking;
  const prompt = `${prompts[purpose]} ${profile} (${kind})`;
  const again = purpose === "new" ? "The same once more" : undefined;
  let notice = tries > 0 ? "Wrong passphrase, try again" : undefined;
  for (let round = 1;; round++) {
    const { secret, repeated } = await way.ask({ prompt, notice, repeat: again });
    let taken = false;
    try {
      let wrong = wrongWith(secret.bytes, asking);
      if (wrong === undefined && again !== undefined && !repeated) {
        const question = { prompt: again, notice: undefined, repeat: undefined };
        using second = (await way.ask(question)).secret;
        if (!areSame(secret.bytes, second.bytes)) wrong = "The two differ";
      }
      if (wrong === undefined) {
        taken = true;
        return secret.bytes;
      }
      if (round === rounds) throw refused(wrong, asking);
      notice = `${wrong}; try again`;
    } finally {
      if (!taken) secret[Symbol.dispose]();
    }
  }
}

/** Why these bytes cannot be a passphrase; `undefined` when they can. */
function wrongWith(bytes: Uint8Array, { kind, purpose }: Asking): string | undefined {
  if (bytes.length === 0) {
    return purpose === "new" ? "An empty passphrase protects nothing" : "The passphrase is empty";
  }
  if (bytes.length > longest) return `The passphrase is longer than ${longest} bytes`;
  if (bytes.includes(0)) return "The passphrase has a NUL byte in it";
  if (bytes.includes(newline)) return "The passphrase is more than one line";
  if (kind === "encfs" && purpose === "new" && bytes.length > longestOfEncfs) {
    return `encfs takes only ${longestOfEncfs} bytes of a passphrase, and this one is longer`;
  }
  return undefined;
}

function refused(wrong: string, { profile }: Asking): AppjailError {
  return new AppjailError("invalid-argument", `Cannot use what was given for ${profile}: ${wrong}`);
}

function areSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/** The next line of a descriptor. */
async function fromDescriptor(asking: Asking, fd: number): Promise<Uint8Array<ArrayBuffer>> {
  const { profile, kind, tries } = asking;
  if (tries > 0) {
    throw new AppjailError(
      "wrong-passphrase",
      `The passphrase of ${profile} (${kind}) that descriptor ${fd} gave is wrong`,
    );
  }
  const unreadable = (why: string, cause?: unknown): AppjailError =>
    new AppjailError(
      "invalid-argument",
      `Cannot read the passphrase of ${profile} from descriptor ${fd}: ${why}`,
      { cause },
    );
  if (!isInherited(fd)) throw unreadable("it is not open");
  const secret = new Secret();
  let taken = false;
  try {
    // A byte at a time: what comes after the line is somebody else's, or the next passphrase.
    while (secret.size <= longest) {
      await poller.readable(fd);
      const count = secret.read(fd, 1);
      if (count === 0) break;
      if (count === undefined || secret.bytes.at(-1) !== newline) continue;
      secret.cut(secret.size - 1);
      break;
    }
    const wrong = wrongWith(secret.bytes, asking);
    if (wrong !== undefined) throw refused(wrong, asking);
    taken = true;
    return secret.bytes;
  } catch (error) {
    if (!isErrno(error, "EBADF", "EIO", "EISDIR", "EINVAL")) throw error;
    throw unreadable(error.message, error);
  } finally {
    if (!taken) secret[Symbol.dispose]();
  }
}

/**
 * Asks, and puts what is given into pipes, one for each program that reads it. encfs reads all that
 * is in one, so that nothing would be left for the next.
 *
 * @param purpose new: two pipes with one. change: one pipe with the current and the new one
 */
export async function askForPipes(
  { purpose, ...asking }: Omit<Asking, "purpose"> & {
    readonly purpose: "unlock" | "new" | "change";
  },
  options: AskOptions,
): Promise<readonly Fd[]> {
  switch (purpose) {
    case "unlock":
      return [passphrasePipe(await askPassphrase({ ...asking, purpose }, options))];
    case "new": {
      const passphrase = await askPassphrase({ ...asking, purpose }, options);
      using copy = new Secret();
      copy.append(passphrase);
      const first = passphrasePipe(passphrase);
      try {
        return [first, passphrasePipe(copy.bytes)];
      } catch (error) {
        first.close();
        throw error;
      }
    }
    case "change": {
      const current = await askPassphrase({ ...asking, purpose: "current" }, options);
      try {
        const fresh = await askPassphrase({ ...asking, tries: 0, purpose: "new" }, options);
        return [passphrasePipe(current, fresh)];
      } finally {
        current.fill(0);
      }
    }
    default:
      return purpose satisfies never;
  }
}

/** A pipe that holds the passphrases, a line each; overwrites them; returns the read end. */
export function passphrasePipe(...passphrases: readonly Uint8Array<ArrayBuffer>[]): Fd {
  // Every pipe has room for a page, and two of the longest are one.
  using lines = new Secret(2 * (longest + 1));
  const { read, write } = pipe();
  using end = write;
  try {
    for (const passphrase of passphrases) {
      lines.append(passphrase);
      lines.push(newline);
    }
    lines.write(end.number);
    return read;
  } catch (error) {
    read.close();
    throw error;
  } finally {
    for (const passphrase of passphrases) passphrase.fill(0);
  }
}
