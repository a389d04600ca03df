/**
 * A person at a terminal, played by a test: a pseudo-terminal with a program as the leader of its
 * session, what is typed, and what is seen. In the manner of expect(1). For full-screen programs
 * there is a tmux, whose screens can be compared.
 *
 * Nothing here waits for a time: every wait is for something to be seen, and ends in words.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Fd, readSome, setNonblocking, writeSome } from "../../ipc/fd.ts";
import { arena, numberOf, syscall } from "../../ipc/libc.ts";
import { poller } from "../../ipc/poller.ts";
import {
  isHungUp,
  openPseudoTerminal,
  setSize,
  settingsOf,
  type TerminalSettings,
} from "../../ipc/tty.ts";
import { spawn } from "../../core/kernel.ts";
import { asUser, execute, isRoot, until, World, type WorldOptions } from "../jail/world.ts";

/** Keys, as a terminal sends them. */
export const key = {
  interrupt: "\x03",
  endOfFile: "\x04",
  suspend: "\x1a",
  quit: "\x1c",
  escape: "\x1b",
  enter: "\r",
} as const;

/** How a program ended: as wait(2) tells it. */
export interface Ended {
  readonly code: number | undefined;
  readonly signal: number | undefined;
  readonly core: boolean;
}

export interface TerminalOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly rows?: number;
  readonly columns?: number;
}

/** A program of ours, which nobody else waits for. wait4(2). */
export class Child {
  readonly pid: number;
  #status: number | undefined;

  constructor(pid: number) {
    this.pid = pid;
  }

  /** wait(2)'s status of the last change; a stop is one. `undefined` while there was none. */
  look(): number | undefined {
    const WNOHANG = 1, WUNTRACED = 2;
    if (this.#status !== undefined && (this.#status & 0xff) !== 0x7f) return this.#status;
    arena.reset();
    const status = arena.take(8);
    const wait4 = numberOf(61, 260);
    const pid = syscall(wait4, this.pid, arena.addressOf(status), WNOHANG | WUNTRACED);
    if (pid === this.pid) this.#status = arena.view.getInt32(status, true);
    return this.#status;
  }

  get running(): boolean {
    const status = this.look();
    return status === undefined || (status & 0xff) === 0x7f;
  }

  signal(name: Deno.Signal): void {
    if (this.running) Deno.kill(this.pid, name);
  }

  async ended(what = `process ${this.pid} ends`): Promise<Ended> {
    const status = await until(what, () => this.running ? undefined : [this.look() ?? 0]);
    return endedOf(status[0] ?? 0);
  }
}

function endedOf(status: number): Ended {
  const signal = status & 0x7f;
  return {
    code: signal === 0 ? (status >> 8) & 0xff : undefined,
    signal: signal === 0 ? undefined : signal,
    core: (status & 0x80) !== 0,
  };
}

/** A terminal in front of a person, and the program that was started on it. */
export class Terminal implements AsyncDisposable {
  readonly child: Child;
  readonly #master: Fd;
  readonly #decoder = new TextDecoder();
  readonly #chunks: Uint8Array[] = [];
  #text = "";
  /** How much of the text has been expected already. */
  #at = 0;
  #closed = false;

  private constructor(master: Fd, child: Child) {
    this.#master = master;
    this.child = child;
    void this.#read();
  }

  /** Starts words on a new terminal, which is the controlling one of their session. */
  static start(words: readonly string[], options: TerminalOptions = {}): Terminal {
    const { rows = 24, columns = 80, uid, env = {}, cwd = "/" } = options;
    const { master, slave } = openPseudoTerminal();
    using terminal = slave;
    setSize(master.number, { rows, columns, width: 0, height: 0 });
    setNonblocking(master.number);
    const pid = spawn({
      path: "/usr/bin/setsid",
      argv: ["setsid", "--ctty", "--", ...asUser(uid, words)],
      env: { ...Deno.env.toObject(), TERM: "xterm-256color", ...env },
      descriptors: [terminal.number, terminal.number, terminal.number],
      cwd,
    });
    return new Terminal(master, new Child(pid));
  }

  /** Everything that was shown, as text. */
  get text(): string {
    return this.#text;
  }

  /** What was shown since it was last expected. */
  get unexpected(): string {
    return this.#text.slice(this.#at);
  }

  /** Everything that was shown, byte for byte. */
  get bytes(): Uint8Array {
    const all = new Uint8Array(this.#chunks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    while (!this.#closed) {
      let count: number | undefined;
      try {
        count = readSome(this.#master.number, buffer);
      } catch (error) {
        if (!isHungUp(error)) throw error;
        count = 0;
      }
      if (count === 0) return;
      if (count === undefined) {
        await poller.readable(this.#master.number);
        continue;
      }
      const chunk = buffer.slice(0, count);
      this.#chunks.push(chunk);
      this.#text += this.#decoder.decode(chunk, { stream: true });
      // A program that writes without pause must not keep the test from its own work.
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** Waits until this is shown, behind what was expected before; returns the match. */
  async expect(what: string | RegExp): Promise<RegExpExecArray> {
    const pattern = typeof what === "string"
      ? new RegExp(what.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
      : what;
    try {
      const found = await until(`the terminal shows ${JSON.stringify(String(what))}`, () => {
        const match = pattern.exec(this.#text.slice(this.#at));
        return match ?? undefined;
      });
      this.#at += found.index + found[0].length;
      return found;
    } catch (error) {
      const shown = JSON.stringify(this.unexpected.slice(-3000));
      throw new Error(`${error instanceof Error ? error.message : error}; it shows ${shown}`);
    }
  }

  /** Types. */
  async send(keys: string | Uint8Array): Promise<void> {
    let rest = typeof keys === "string" ? new TextEncoder().encode(keys) : keys;
    while (rest.length > 0) {
      const count = writeSome(this.#master.number, rest);
      if (count === undefined) await poller.writable(this.#master.number);
      else rest = rest.subarray(count);
    }
  }

  /** Types a line, and waits until this is shown. */
  async ask(line: string, answer: string | RegExp): Promise<RegExpExecArray> {
    await this.send(`${line}\r`);
    return await this.expect(answer);
  }

  /** The window is another size from now on. */
  resize(rows: number, columns: number): void {
    setSize(this.#master.number, { rows, columns, width: 0, height: 0 });
  }

  /** What the terminal is set to. Through the master, which tells of the other end. */
  get settings(): TerminalSettings {
    const settings = settingsOf(this.#master.number);
    assert(settings !== undefined);
    return settings;
  }

  /** Whether it passes every key as it is. */
  get isRaw(): boolean {
    const ICANON = 2;
    return (this.settings.lflag & ICANON) === 0;
  }

  /** The process group in front. */
  get foreground(): number {
    const TIOCGPGRP = 0x540f;
    arena.reset();
    const at = arena.take(4);
    syscall(numberOf(16, 29), this.#master.number, TIOCGPGRP, arena.addressOf(at));
    return arena.view.getInt32(at, true);
  }

  /** The window is closed. */
  close(): void {
    this.#closed = true;
    this.#master.close();
  }

  async ended(): Promise<Ended> {
    try {
      return await this.child.ended();
    } catch (error) {
      const shown = JSON.stringify(this.unexpected.slice(-3000));
      throw new Error(`${error instanceof Error ? error.message : error}; it shows ${shown}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Whatever still has the terminal gets HUP, and no answer from it any more.
    this.close();
    if (!this.child.running) return;
    try {
      await until("it ends with its terminal", () => !this.child.running, 2);
    } catch {
      this.child.signal("SIGKILL");
      await this.child.ended();
    }
  }
}

/**
 * A full-screen program in a tmux of its own: its screen is what a person would see, cell by cell.
 */
export class Screen implements AsyncDisposable {
  static #count = 0;
  readonly #socket: string;

  private constructor(folder: string) {
    this.#socket = `${folder}/tmux-${Deno.pid}-${Screen.#count++}`;
  }

  /** Starts a shell command on a screen of 80 by 24. */
  static async start(
    folder: string,
    command: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<Screen> {
    const screen = new Screen(folder);
    await screen.#tmux(["new-session", "-d", "-c", folder, "-x", "80", "-y", "24", command], env);
    return screen;
  }

  async #tmux(
    words: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const { code, stdout, stderr } = await execute(
      ["tmux", "-u", "-S", this.#socket, "-f", "/dev/null", ...words],
      { env: { TERM: "xterm-256color", LANG: "C.UTF-8", SHELL: "/bin/sh", ...env } },
    );
    assert.equal(code, 0, `tmux ${words.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Keys, by their names in tmux(1). */
  async press(...keys: readonly string[]): Promise<void> {
    await this.#tmux(["send-keys", ...keys]);
  }

  async type(text: string): Promise<void> {
    await this.#tmux(["send-keys", "-l", text]);
  }

  async resize(rows: number, columns: number): Promise<void> {
    await this.#tmux(["resize-window", "-x", `${columns}`, "-y", `${rows}`]);
  }

  /** What can be seen; with colours and attributes as the sequences that make them. */
  async look(colours = false): Promise<string> {
    return await this.#tmux(["capture-pane", "-p", ...colours ? ["-e"] : []]);
  }

  /** Whether the program has switched to the alternate screen. */
  async isAlternate(): Promise<boolean> {
    return (await this.#tmux(["display-message", "-p", "#{alternate_on}"])).trim() === "1";
  }

  /** Waits until this can be seen; returns the whole screen. */
  async expect(what: string | RegExp): Promise<string> {
    let last = "";
    try {
      return await until(`the screen shows ${JSON.stringify(String(what))}`, async () => {
        last = await this.look();
        return (typeof what === "string" ? last.includes(what) : what.test(last))
          ? last
          : undefined;
      });
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}; it shows:\n${last}`);
    }
  }

  /** Waits until the program has ended, and its screen with it. */
  async ended(): Promise<void> {
    await until("the screen's program ends", async () => {
      const { code } = await execute(["tmux", "-S", this.#socket, "has-session"]);
      return code !== 0;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await execute(["tmux", "-S", this.#socket, "kill-server"]);
    await Deno.remove(this.#socket).catch(() => {});
  }
}

/** The words of a client, as one word of a shell. */
export function quoted(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}

/** A test of steps that share one world. */
export function terminalTest(
  name: string,
  body: (t: Deno.TestContext, world: World) => Promise<void>,
  options: WorldOptions = {},
): void {
  Deno.test({
    name,
    ignore: !isRoot,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async (t) => {
      await using world = await World.start(options);
      await body(t, world);
    },
  });
}

/** A client on a terminal. */
export function atTerminal(
  world: World,
  args: readonly string[],
  options: TerminalOptions = {},
): Terminal {
  return Terminal.start(world.clientWords(args), {
    // A folder that no jail has: programs start in their homes.
    cwd: world.folder,
    ...options,
    env: { APPJAIL_SOCKET: world.socket, ...options.env },
  });
}

/**
 * A bash on a terminal, with nothing of anybody's in it; `$appjail` is the client. Its prompt is
 * `out$ `.
 */
export async function shellAt(world: World, options: TerminalOptions = {}): Promise<Terminal> {
  const terminal = Terminal.start(["bash", "--norc", "--noprofile", "--noediting", "-i"], {
    cwd: world.folder,
    ...options,
    env: {
      APPJAIL_SOCKET: world.socket,
      appjail: world.clientWords([]).join(" "),
      PS1: "out$ ",
      HISTFILE: "",
      ...options.env,
    },
  });
  await terminal.expect("out$ ");
  return terminal;
}

/** A step twice: in a jail that its program is the first of, and in one that it joins. */
export async function firstAndJoined(
  t: Deno.TestContext,
  world: World,
  name: string,
  body: (profile: string) => Promise<void>,
): Promise<void> {
  const first = `first-${counted++}`;
  await t.step(`${name}: the first program`, async () => {
    await body(first);
    await world.client(["stop", "--force", first]);
  });
  const resident = await world.client(["run", "-d", "-p", "joined", "sleep", "3600"]);
  assert.equal(resident.code, 0, resident.stderr);
  await t.step(`${name}: a joined program`, () => body("joined"));
}
let counted = 0;

/** A shell command that runs words once it has said that it does, in the group that is in front. */
export function announced(words: string): string {
  // What is typed is shown too; only what is said is without the quotes.
  return `sh -c 'echo rea""dy; exec ${words}'`;
}
