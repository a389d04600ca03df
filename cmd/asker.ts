/**
 * Programs that ask a person for a passphrase in our stead, where there is no terminal: each in a
 * session of its own, with the person's environment, and gone when this process is.
 *
 * @module
 */
import { type Fd, isOpen, open, pipe, setNonblocking } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { Secret } from "../ipc/secret.ts";
import { findCommand } from "../core/command.ts";
import { within } from "../core/deadline.ts";
import { setpriv } from "../core/drop.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { openPidfd, signalProcess, spawn, statusOfChild } from "../core/kernel.ts";
import { denoEnvironment } from "../core/launch.ts";
import { signalNumbers } from "../core/names.ts";
import { type Answer, cancelled, type Question, Unusable, type Way, whenEnded } from "./asking.ts";

export type Variables = Readonly<Record<string, string>>;

/** How long a program has to leave before it is killed. */
const patience = 1_000;

const newline = 10;

/** The person's own environment: what was changed for the sake of Deno is as it was. */
export function ownEnvironment(env: Variables): Variables {
  const { APPJAIL_HOME: home, ...rest } = env;
  const own = Object.entries(rest).filter(([name, value]) =>
    (denoEnvironment as Variables)[name] !== value
  );
  return Object.fromEntries(home ? [...own, ["HOME", home]] : own);
}

/** The file of a program that may be asked, if there is one. */
export function findAsker(name: string, env: Variables): string | undefined {
  try {
    return commandPath(name, env);
  } catch {
    return undefined;
  }
}

function commandPath(name: string, env: Variables): string {
  const folders = [env["PATH"], "/usr/local/bin:/usr/bin:/bin"].filter(Boolean).join(":");
  return findCommand(name, folders, Deno.cwd(), "here");
}

/** A program that asks. */
export class Asker implements AsyncDisposable {
  readonly #pid: number;
  readonly #keeps = new DisposableStack();
  /** What it reads and what it writes. */
  readonly input: Fd;
  readonly output: Fd;
  /** Settles when it has ended, with wait(2)'s status. */
  readonly ended: Promise<number>;
  #gone = false;

  private constructor(pid: number, input: Fd, output: Fd) {
    this.#pid = pid;
    this.input = this.#keeps.use(input);
    this.output = this.#keeps.use(output);
    setNonblocking(output.number);
    this.ended = this.#wait();
    this.#keeps.defer(whenEnded(() => {
      this.#signal("SIGTERM");
      return true;
    }));
  }

  static start(path: string, args: readonly string[], env: Variables): Asker {
    const toIt = pipe(), fromIt = pipe();
    using _read = toIt.read;
    using _write = fromIt.write;
    using nothing = open("/dev/null", 2);
    try {
      const pid = spawn({
        // So that it goes with us even when we are killed: it may have a window open.
        path: setpriv,
        argv: [setpriv, "--pdeathsig", "TERM", "--", path, ...args],
        env: ownEnvironment(env),
        descriptors: [
          toIt.read.number,
          fromIt.write.number,
          isOpen(2) ? 2 : nothing.number,
        ],
        session: true,
      });
      return new Asker(pid, toIt.write, fromIt.read);
    } catch (error) {
      toIt.write.close();
      fromIt.read.close();
      throw error;
    }
  }

  async #wait(): Promise<number> {
    using pidfd = openPidfd(this.#pid);
    for (;;) {
      if (pidfd !== undefined) await poller.readable(pidfd.number);
      const status = statusOfChild(this.#pid);
      if (status === undefined) continue;
      this.#gone = true;
      return status;
    }
  }

  /** To all that it has started, too. Its pid is its own for as long as it was not waited for. */
  #signal(name: "SIGTERM" | "SIGKILL"): void {
    if (!this.#gone) signalProcess(-this.#pid, signalNumbers[name]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal("SIGTERM");
    await within(this.ended, patience, () => new Error()).catch(() => this.#signal("SIGKILL"));
    await this.ended;
    this.#keeps.dispose();
  }
}

/** A program that prints the answer as a line: its words are for the prompt alone. */
export class LinePrinter implements Way {
  readonly #path: string;
  readonly #args: readonly string[];
  readonly #env: Variables;
  readonly #refusal: (why: string) => Error;

  /** @param refusal what it means when the program fails */
  private constructor(
    path: string,
    args: readonly string[],
    env: Variables,
    refusal: (why: string) => Error,
  ) {
    this.#path = path;
    this.#args = args;
    this.#env = env;
    this.#refusal = refusal;
  }

  /** The program that the person has chosen, called as ssh(1) calls its own. */
  static chosen(command: string, env: Variables): LinePrinter {
    try {
      return new LinePrinter(commandPath(command, env), [], env, () => cancelled());
    } catch (error) {
      throw new AppjailError(
        "passphrase-required",
        `Cannot ask for the passphrase with $APPJAIL_ASKPASS: ${wordsOf(error)}`,
        { cause: error },
      );
    }
  }

  /** systemd-ask-password(1), which asks by whatever agent there is: at the console, while booting. */
  static systemd(path: string, env: Variables): LinePrinter {
    return new LinePrinter(path, ["--no-tty"], env, (why) => new Unusable(why));
  }

  async ask({ prompt, notice }: Question): Promise<Answer> {
    const words = notice === undefined ? `${prompt}: ` : `${notice}. ${prompt}: `;
    await using asker = Asker.start(this.#path, [...this.#args, words], this.#env);
    asker.input.close();
    const secret = new Secret();
    try {
      const whole = await readLine(asker, secret);
      // One that goes on and on is ended.
      if (!whole) return { secret, repeated: false };
      const status = await asker.ended;
      if (status === 0) return { secret, repeated: false };
      throw this.#refusal(`${this.#path} gave none`);
    } catch (error) {
      secret[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * Reads the first line of what a program prints, and what it prints after that, for nothing, until it
 * ends: what it has left running may hold the pipe open.
 *
 * @returns false when there is no room for the line
 */
async function readLine({ output, ended }: Asker, line: Secret): Promise<boolean> {
  using rest = new Secret();
  let [complete, running] = [false, true];
  void ended.then(() => running = false);
  for (;;) {
    // Whether it runs comes first: what it wrote before its end is there afterwards.
    const last = !running;
    if (!complete && line.left === 0) return false;
    const count = (complete ? rest : line).read(output.number);
    if (count === 0 || (count === undefined && last)) return true;
    if (count === undefined) {
      await Promise.race([poller.readable(output.number), ended]);
      continue;
    }
    rest.cut();
    const end = complete ? -1 : line.bytes.indexOf(newline);
    if (end < 0) continue;
    line.cut(end);
    complete = true;
  }
}
