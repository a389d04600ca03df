/**
 * `appjail encrypt`, `appjail decrypt`: a profile's home becomes a volume, or plain again.
 * `appjail passwd`: it gets another passphrase.
 *
 * @module
 */
import { isTerminal } from "../ipc/fd.ts";
import { AppjailError } from "../core/errors.ts";
import type { ClientToDispatcher, DispatcherToClient } from "../core/protocol.ts";
import { bytesIn } from "../core/size-text.ts";
import { answer, ask, connectTo, note, socketPath, type World, writeOut } from "./client.ts";
import { parseProfile } from "./profiles.ts";
import { ProgressBar } from "./progress.ts";
import { parseDescriptor } from "./run.ts";

export interface DecryptFlags {
  readonly socket?: string | undefined;
  readonly passphraseFd?: string | undefined;
  /** Keep the old home under another name. */
  readonly keep?: boolean | undefined;
  /** Remove it without asking. */
  readonly yes?: boolean | undefined;
  /** Do not go on with one that was interrupted. */
  readonly anew?: boolean | undefined;
}

export interface EncryptFlags extends Omit<DecryptFlags, "keep"> {
  readonly with?: "gocryptfs" | "encfs" | undefined;
  readonly keepPlain?: boolean | undefined;
  /** Make the profile, where there is none. */
  readonly new?: boolean | undefined;
}

export interface PasswdFlags {
  readonly socket?: string | undefined;
  readonly passphraseFd?: string | undefined;
}

type Progress = Extract<DispatcherToClient, { readonly type: "progress" }>;

export function encrypt(flags: EncryptFlags, world: World, name: string): Promise<number> {
  const { keepPlain, anew = false, new: make = false } = flags;
  const profile = parseProfile(name);
  const kind = flags.with ?? null;
  return convert(
    { type: "encrypt", profile, kind, make, anew },
    { ...flags, keep: keepPlain },
    world,
  );
}

export interface DecryptWords extends Omit<DecryptFlags, "keep"> {
  readonly keepVolume?: boolean | undefined;
}

export function decrypt(flags: DecryptWords, world: World, name: string): Promise<number> {
  const { keepVolume, anew = false } = flags;
  const profile = parseProfile(name);
  return convert({ type: "decrypt", profile, anew }, { ...flags, keep: keepVolume }, world);
}

/** What the old home is called, and what has been done. */
const words = {
  encrypt: { old: "plain copy", flag: "--keep-plain", done: "encrypted" },
  decrypt: { old: "encrypted copy", flag: "--keep-volume", done: "decrypted" },
} as const;

async function convert(
  request: Extract<ClientToDispatcher, { readonly type: "encrypt" | "decrypt" }>,
  flags: DecryptFlags,
  world: World,
): Promise<number> {
  const { type: verb, profile } = request;
  const { old, flag, done } = words[verb];
  const { keep = false, yes = false } = flags;
  if (keep && yes) {
    throw new AppjailError("usage", `Cannot ${verb}: give --yes or ${flag}, not both`);
  }
  using channel = await connectTo(socketPath(flags.socket, world.env), asking(flags, world));
  channel.send(request);
  using bar = new ConversionBar();
  for (;;) {
    const message = await answer(channel);
    if (message === undefined) throw lost(verb);
    switch (message.type) {
      case "progress":
        bar.show(message);
        continue;
      case "done":
        return 0;
      case "converted": {
        bar.clear();
        const { copied } = message;
        for (const text of copied?.notes ?? []) note(text);
        writeOut(
          copied === null
            ? `${profile} was ${done} before; its ${old} is still there\n`
            : `${done} ${profile}; ${copied.files} files, ${bytesIn(copied.bytes)}, verified\n`,
          Deno.stdout,
        );
        const isEmpty = copied?.files === 0;
        const remove = keep
          ? false
          : yes || isEmpty || await isConfirmed(`Remove the ${old}? [y/N] `);
        if (!keep && !remove) {
          writeOut(
            `the ${old} is still there; to remove it, or to keep it: appjail ${verb} ${profile}\n`,
            Deno.stdout,
          );
          return 0;
        }
        channel.send({ type: "confirm", keep });
        continue;
      }
      default:
        throw new AppjailError("protocol", `The daemon answered "${message.type}"`);
    }
  }
}

function lost(verb: string): AppjailError {
  return new AppjailError(
    "lost",
    `The daemon went away; the home is whole; to go on: appjail ${verb} …`,
  );
}

function asking({ passphraseFd }: PasswdFlags, { env }: World) {
  return { env, fd: passphraseFd === undefined ? undefined : parseDescriptor(passphraseFd) };
}

/** Asks a person; without one, the answer is no. */
export async function isConfirmed(question: string): Promise<boolean> {
  if (!isTerminal(0) || !isTerminal(2)) return false;
  writeOut(question, Deno.stderr);
  const buffer = new Uint8Array(256);
  const count = await Deno.stdin.read(buffer);
  const said = new TextDecoder().decode(buffer.subarray(0, count ?? 0)).trim().toLowerCase();
  return said === "y" || said === "yes";
}

/** How far it is, in each phase. */
export class ConversionBar implements Disposable {
  #bar: ProgressBar | undefined;
  #phase: Progress["phase"] | undefined;

  show({ phase, files, bytes, bytes_total }: Progress): void {
    if (phase !== this.#phase) {
      this.clear();
      this.#phase = phase;
      this.#bar = new ProgressBar();
    }
    const bar = this.#bar;
    if (bar === undefined) return;
    bar.label = bytes_total > 0 ? phase : `${phase}, ${files} files`;
    bar.total = bytes_total > 0 ? bytes_total : undefined;
    bar.copied = () => bytes;
  }

  clear(): void {
    this.#bar?.[Symbol.dispose]();
    this.#bar = undefined;
    this.#phase = undefined;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

export async function passwd(flags: PasswdFlags, world: World, name: string): Promise<number> {
  const profile = parseProfile(name);
  const path = socketPath(flags.socket, world.env);
  for await (const message of ask(path, { type: "passwd", profile }, asking(flags, world))) {
    throw new AppjailError("protocol", `The daemon answered "${message.type}" to a passwd`);
  }
  writeOut(`the passphrase of ${profile} is changed\n`, Deno.stdout);
  return 0;
}
