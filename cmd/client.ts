/**
 * The client's end of the socket: finding the daemon, asking, and telling a person what went wrong.
 *
 * @module
 */
import { Channel, type Incoming } from "../ipc/channel.ts";
import { isErrno } from "../ipc/errno.ts";
import { type Fd, isTerminal } from "../ipc/fd.ts";
import { connect } from "../ipc/socket.ts";
import { pause, within } from "../core/deadline.ts";
import { AppjailError, asAppjailError } from "../core/errors.ts";
import { printable } from "../core/log.ts";
import {
  type ClientToDispatcher,
  type DispatcherToClient,
  protocolVersion,
  toClient,
} from "../core/protocol.ts";
import { version } from "../core/version.ts";

/** What a client knows of the world outside; main.ts alone reads it. */
export interface World {
  readonly env: Readonly<Record<string, string>>;
  /** The program's first file, as a path. */
  readonly script: string;
  /** The machine whose daemon is meant, as ssh takes it; `undefined`: this one. See cmd/far.ts. */
  readonly host?: string;
}

export type DispatcherChannel = Channel<DispatcherToClient, ClientToDispatcher>;

/** Where the daemon listens unless somebody says otherwise. */
export const defaultSocket = "/run/appjail/appjail.sock";

/** The socket's path: what was asked for, else `$APPJAIL_SOCKET`, else the usual place. */
export function socketPath(flag: string | undefined, env: World["env"]): string {
  return flag ?? (env["APPJAIL_SOCKET"] || defaultSocket);
}

/** How long a client waits for a place in the queue of a daemon that is being flooded. */
const queueDeadline = 5_000;

/** How a client asks its person for a passphrase, should one be needed. */
export interface Asking {
  readonly env: World["env"];
  /** Where to read it from, instead of asking. */
  readonly fd: number | undefined;
}

const askings = new WeakMap<DispatcherChannel, Asking>();

/**
 * Connects, and says hello without waiting for the answer.
 *
 * @param asking for a request that may need the passphrase of a home
 */
export async function connectTo(path: string, asking?: Asking): Promise<DispatcherChannel> {
  let channel: DispatcherChannel;
  try {
    channel = new Channel(await enqueue(path), toClient);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ECONNREFUSED")) {
      throw new AppjailError(
        "no-daemon",
        `No daemon answers at ${path}; start it: systemctl start appjail, or sudo appjail daemon`,
        { cause: error },
      );
    }
    throw new AppjailError(
      "no-daemon",
      `Cannot reach the daemon at ${path}: ${error instanceof Error ? error.message : error}`,
      { cause: error },
    );
  }
  channel.send({ type: "hello", role: "client", protocol: protocolVersion, version });
  if (asking !== undefined) askings.set(channel, asking);
  return channel;
}

type Passphrase = Extract<DispatcherToClient, { readonly type: "passphrase" }>;

/** Asks the person, and sends what they say as a pipe that only encfs or gocryptfs reads. */
async function sendPassphrase(
  channel: DispatcherChannel,
  { type: _, ...wanted }: Passphrase,
): Promise<void> {
  const asking = askings.get(channel);
  if (asking === undefined) {
    throw new AppjailError("protocol", "The daemon asks for a passphrase where none is needed");
  }
  const { askForPipes } = await import("./passphrase.ts");
  const pipes = await askForPipes(wanted, asking);
  channel.send({ type: "passphrase", pipes: pipes.length === 2 ? 2 : 1 }, pipes);
}

/** What is an answer of the dispatcher's. */
export type Answer = Exclude<
  DispatcherToClient,
  { readonly type: "hello" | "failed" | "passphrase" | "note" }
>;
async function enqueue(path: string): Promise<Fd> {
  const limit = performance.now() + queueDeadline;
  for (;;) {
    try {
      return connect(path);
    } catch (error) {
      // Too many wait there already. connect(2) has no other way to wait for that.
      if (!isErrno(error, "EAGAIN") || performance.now() > limit) throw error;
      await pause(10);
    }
  }
}
/** How long a daemon may take to say hello: one whose dispatcher is being started again, say. */
const helloDeadline = 20_000;
const greeted = new WeakSet<DispatcherChannel>();

/**
 * The next message that is an answer: a hello is checked and passed over, a failure is thrown.
 * `undefined` when the dispatcher is gone.
 */
export async function answer(channel: DispatcherChannel): Promise<Answer | undefined> {
  return (await answerWith(channel))?.message;
}

/** The same, with the descriptors that came along. */
export async function answerWith(
  channel: DispatcherChannel,
): Promise<Incoming<Answer> | undefined> {
  for (;;) {
    const receiving = channel.receive();
    // What is asked for takes as long as it takes; a daemon that says nothing at all has a fault.
    const incoming = await (greeted.has(channel)
      ? receiving
      : within(receiving, helloDeadline, () =>
        new AppjailError(
          "no-answer",
          "The daemon does not answer; its log may tell why; try: systemctl restart appjail",
        )));
    if (incoming === undefined) {
      return undefined;
    }
    const { message, descriptors } = incoming;
    switch (message.type) {
      case "hello":
        greeted.add(channel);
        if (message.protocol !== protocolVersion) {
          throw new AppjailError(
            "protocol",
            `The daemon (${message.version}) speaks protocol ${message.protocol}, this program ` +
              `(${version}) ${protocolVersion}; restart the daemon after an upgrade`,
          );
        }
        break;
      case "failed":
        throw new AppjailError(message.code, message.message);
      case "passphrase":
        await sendPassphrase(channel, message);
        break;
      case "note":
        note(message.text);
        break;
      default:
        return { message, descriptors };
    }
  }
}

/** One request, and the answers to it until `done`, or until there is no more. */
export async function* ask(
  path: string,
  request: ClientToDispatcher,
  asking?: Asking,
): AsyncGenerator<Exclude<Answer, { readonly type: "done" }>> {
  using channel = await connectTo(path, asking);
  channel.send(request);
  for (;;) {
    const message = await answer(channel);
    if (message === undefined) {
      throw new AppjailError("lost", "The daemon went away before it had answered; try again");
    }
    if (message.type === "done") return;
    yield message;
    if (message.type === "listed" || message.type === "exited") return;
  }
}

const encoder = new TextEncoder();

/** Writes all of it; false when nobody reads any more. */
export function writeOut(text: string, to: { writeSync(bytes: Uint8Array): number }): boolean {
  try {
    for (let rest = encoder.encode(text); rest.length > 0;) {
      rest = rest.subarray(to.writeSync(rest));
    }
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false;
    throw error;
  }
}

/** Tells a person something beside what they asked for. The terminal may be in raw mode. */
export function note(text: string): void {
  const [begin, end] = isTerminal(2) ? ["\r", "\r\n"] : ["", "\n"];
  writeOut(`${begin}appjail: ${printable(text)}${end}`, Deno.stderr);
}

/** Tells a person what went wrong, in one line, and returns the exit status for it. */
export function complain(thrown: unknown, { env }: World): number {
  const error = asAppjailError(thrown);
  // What a jail, or a stranger's word, has a part in must not steer the terminal.
  writeOut(`appjail: ${printable(error.message)}\n`, Deno.stderr);
  if (env["APPJAIL_DEBUG"] !== undefined) console.error(thrown);
  return error.exitStatus;
}
