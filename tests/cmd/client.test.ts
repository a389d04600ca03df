/**
 * The client against a dispatcher that is played here: what it asks, what it hands over, how it
 * ends, and what it makes of a dispatcher that leaves, or that is not one.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { Channel, type Incoming } from "../../ipc/channel.ts";
import { readAll } from "../../ipc/fd.ts";
import { poller } from "../../ipc/poller.ts";
import { accept, listen, send } from "../../ipc/socket.ts";
import { ask, defaultSocket, socketPath, writeOut } from "../../cmd/client.ts";
import { AppjailError } from "../../core/errors.ts";
import {
  type ClientToDispatcher,
  type DispatcherToClient,
  fromClient,
  protocolVersion,
} from "../../core/protocol.ts";
import { Scratch } from "../scratch.ts";
import { environment, type Outcome, wordsOf } from "./appjail.ts";
import { noSession } from "../../core/session.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

type DispatcherChannel = Channel<ClientToDispatcher, DispatcherToClient>;
type Run = Extract<ClientToDispatcher, { readonly type: "run" }>;

const hello = {
  type: "hello",
  role: "dispatcher",
  protocol: protocolVersion,
  version: "0",
} as const;
const branded = <T>(value: unknown): T => value as T;
const started = branded<DispatcherToClient>({
  type: "started",
  program: "work.1",
  profile: "work",
  uid: 1100,
  jail: "life 1",
  cwd: "/home/work",
  windows: null,
  master: false,
});
const exited = (status: unknown): DispatcherToClient =>
  branded({ type: "exited", program: "work.1", status });

/** A socket where a dispatcher should be. */
class Door implements Disposable {
  readonly #scratch = new Scratch();
  readonly path = `${this.#scratch.path}/socket`;
  #listener = listen(this.path);

  /** The next client, whose hello was heard and answered, with its request. */
  async next(): Promise<readonly [DispatcherChannel, Incoming<ClientToDispatcher>]> {
    const channel = await this.connection();
    const first = await channel.receive();
    equal(first?.message.type, "hello");
    channel.send(hello);
    const request = await channel.receive();
    ok(request !== undefined, "the client left");
    return [channel, request];
  }

  async connection(): Promise<DispatcherChannel> {
    for (;;) {
      const socket = accept(this.#listener.number);
      if (socket !== undefined) return new Channel(socket, fromClient);
      await poller.readable(this.#listener.number);
    }
  }

  /** The dispatcher is gone; `open` puts another in its place. */
  close(): void {
    this.#listener.close();
    Deno.removeSync(this.path);
  }

  open(): void {
    this.#listener = listen(this.path);
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    this.#scratch[Symbol.dispose]();
  }
}

/** A client as a process of its own, and how it ended. */
function client(door: Door, args: readonly string[], through = ""): Promise<Outcome> {
  const [command = "", ...words] = wordsOf(args);
  return new Deno.Command("bash", {
    args: ["-c", `"$@" ${through}`, "bash", command, ...words],
    ...environment({
      APPJAIL_SOCKET: door.path,
      SECRET_TOKEN: "x",
      LANG: "C",
      TERM: "vt100",
      LC_ALL: "C",
    }),
    stdin: "null",
  }).output().then(({ code, stdout, stderr }) => {
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  });
}

// --- Finding the daemon --------------------------------------------------------------------------

Deno.test("the socket is the flag's, else the environment's, else the usual one", () => {
  equal(socketPath("/flag", { APPJAIL_SOCKET: "/env" }), "/flag");
  equal(socketPath(undefined, { APPJAIL_SOCKET: "/env" }), "/env");
  equal(socketPath(undefined, {}), defaultSocket);
});

/** That asking for the profiles fails, and how. */
async function fails(path: string, code: string, words: RegExp): Promise<void> {
  await rejects(Array.fromAsync(ask(path, { type: "profiles" })), (error) => {
    ok(error instanceof AppjailError, `${error}`);
    equal(error.code, code);
    match(error.message, words);
    return true;
  });
}

Deno.test("without a daemon one is told how to start it", async () => {
  using scratch = new Scratch();
  const start =
    /^No daemon answers at .*; start it: systemctl start appjail, or sudo appjail daemon$/;
  await fails(`${scratch.path}/none`, "no-daemon", start);
  await fails(scratch.file("file"), "no-daemon", start);
  await fails("x".repeat(200), "no-daemon", /^Cannot reach the daemon at .*ENAMETOOLONG/);
  await fails("", "no-daemon", /^Cannot reach the daemon at /);
});

// --- What a dispatcher may say -------------------------------------------------------------------

/** One question to a dispatcher that does what it is told to. */
async function asked(
  play: (channel: DispatcherChannel) => void,
  request: ClientToDispatcher = { type: "profiles" },
): Promise<readonly DispatcherToClient["type"][]> {
  using door = new Door();
  const answers = Array.fromAsync(ask(door.path, request));
  answers.catch(() => {});
  const channel = await door.connection();
  for (let i = 0; i < 2; i++) await channel.receive();
  play(channel);
  return (await answers.finally(() => channel.close())).map(({ type }) => type);
}

Deno.test("answers come until there are no more", async () => {
  const listed: DispatcherToClient = { type: "listed", profiles: [] };
  deepEqual(await asked((channel) => [hello, listed].forEach((one) => channel.send(one))), [
    "listed",
  ]);
  const stopped = branded<DispatcherToClient>({
    type: "stopped",
    profile: "work",
    owner: 0,
    ran: true,
    killed: 0,
    problem: null,
  });
  deepEqual(
    await asked((channel) => {
      for (const one of [hello, stopped, stopped, { type: "done" } as const]) channel.send(one);
    }, { type: "stop", profiles: [], force: false, timeout: 0, lock: false }),
    ["stopped", "stopped"],
  );
});

for (
  const [what, play, code, words] of [
    [
      "a failure is thrown as it is",
      (channel) => {
        channel.send(hello);
        channel.send({ type: "failed", code: "denied", message: "not for you" });
      },
      "denied",
      /^not for you$/,
    ],
    [
      "a dispatcher of another version is told, with both",
      (channel) => channel.send({ ...hello, protocol: 99, version: "9.9" }),
      "protocol",
      /The daemon \(9\.9\) speaks protocol 99, this program .* restart the daemon after an upgrade/,
    ],
    [
      "a dispatcher that leaves without an answer is told",
      (channel) => channel.close(),
      "lost",
      /went away before it had answered/,
    ],
  ] satisfies [string, (channel: DispatcherChannel) => void, string, RegExp][]
) {
  Deno.test(what, async () => {
    await rejects(asked(play), (error) => {
      ok(error instanceof AppjailError, `${error}`);
      equal(error.code, code);
      match(error.message, words);
      return true;
    });
  });
}

Deno.test("whoever answers but is no dispatcher is not believed", async () => {
  for (const answer of ["HTTP/1.1 400 Bad Request\r\n\r\n", "\x02\0\0\0{}", "\0\0\0\0"]) {
    await rejects(
      asked((channel) => void send(channel.fd, new TextEncoder().encode(answer))),
      (error: Error) => ["FrameError", "TypeError"].includes(error.name),
    );
  }
});

Deno.test("all of a text is written, however little is taken at a time; or nobody reads", () => {
  let taken = "";
  const slow = {
    writeSync: (bytes: Uint8Array): number => {
      taken += new TextDecoder().decode(bytes.subarray(0, 1));
      return 1;
    },
  };
  equal(writeOut("line\n", slow), true);
  equal(taken, "line\n");
  equal(
    writeOut("x", {
      writeSync: () => {
        throw new Deno.errors.BrokenPipe();
      },
    }),
    false,
  );
});

// --- The client as a process ---------------------------------------------------------------------

Deno.test("run asks for what was typed, and hands over its own three streams", async () => {
  using door = new Door();
  const words = ["run", "-p", "work", "--cwd", "/tmp", "-e", "A=b", "--", "x", "-p", "", "ä"];
  const ended = client(door, words, "<<<input | cat");
  const [channel, { message, descriptors }] = await door.next();
  deepEqual(message, {
    type: "run",
    profile: "work",
    argv: ["x", "-p", "", "ä"],
    cwd: "/tmp",
    env: { A: "b" },
    // And no token, path or home.
    inherited: { LANG: "C", TERM: "vt100", LC_ALL: "C" },
    session: noSession,
    lend: [],
    cwd_required: true,
    terminal: null,
    stdio: "passed",
  });
  const [stdin, stdout, stderr] = descriptors;
  ok(stdin !== undefined && stdout !== undefined && stderr !== undefined);
  equal(new TextDecoder().decode(readAll(stdin.number, 100)), "input\n");
  Deno.writeTextFileSync(`/proc/self/fd/${stdout.number}`, "to stdout\n");
  Deno.writeTextFileSync(`/proc/self/fd/${stderr.number}`, "to stderr\n");
  for (const fd of descriptors) fd.close();
  channel.send(started);
  channel.send(exited({ by: "exit", code: 0 }));
  deepEqual(await ended, { code: 0, stdout: "to stdout\n", stderr: "to stderr\n" });
  channel.close();
});

Deno.test("a stream that the caller has closed is nothing, and none of ours", async () => {
  using door = new Door();
  const ended = client(door, ["run", "x"], "<&- >&- 2>&-");
  const [channel, { descriptors }] = await door.next();
  for (const fd of descriptors) {
    equal(Deno.readLinkSync(`/proc/self/fd/${fd.number}`), "/dev/null");
    fd.close();
  }
  equal(descriptors.length, 3);
  channel.send(started);
  channel.send(exited({ by: "exit", code: 3 }));
  equal((await ended).code, 3);
  channel.close();
});

Deno.test("the exit status is the program's, as a shell would tell it, or appjail's own", async () => {
  using door = new Door();
  const answers: readonly (readonly [readonly DispatcherToClient[], number, RegExp])[] = [
    [[started, exited({ by: "exit", code: 42 })], 42, /^$/],
    [[started, exited({ by: "signal", signal: 9, core: false })], 137, /^$/],
    [[{ type: "failed", code: "command-not-found", message: "no x" }], 127, /^appjail: no x\n$/],
    [[], 111, /^appjail: The daemon went away before it had said whether "x" was started/],
    // What a jail says is no more than text: nothing of it steers a terminal, or makes a line.
    [
      [{ type: "failed", code: "start-failed", message: "a\x1b[2J\nb\u202ec" }],
      111,
      /^appjail: a\\x1b\[2J\\x0ab\\u202ec\n$/,
    ],
  ];
  for (const [messages, code, words] of answers) {
    const ended = client(door, ["run", "x"]);
    const [channel, { descriptors }] = await door.next();
    for (const fd of descriptors) fd.close();
    for (const message of messages) channel.send(message);
    channel.close();
    const outcome = await ended;
    equal(outcome.code, code, outcome.stderr);
    match(outcome.stderr, words);
    equal(outcome.stdout, "");
  }
});

Deno.test("a detached program's handle is printed, and nothing is handed over", async () => {
  using door = new Door();
  const ended = client(door, ["run", "--detach", "x"]);
  const [channel, { message, descriptors }] = await door.next();
  equal((message as Run).stdio, "log");
  deepEqual(descriptors, []);
  channel.send(started);
  deepEqual(await ended, { code: 0, stdout: "work.1\n", stderr: "" });
  channel.close();
});

Deno.test("a client whose dispatcher is lost asks the next one, for the same life of the jail", async () => {
  using door = new Door();
  const ended = client(door, ["run", "x"]);
  const [channel, { descriptors }] = await door.next();
  for (const fd of descriptors) fd.close();
  channel.send(started);
  await channel.drain();
  door.close();
  channel.close();
  door.open();
  const [next, { message }] = await door.next();
  deepEqual(message, { type: "wait", program: "work.1", jail: "life 1" });
  next.send(started);
  next.send(exited({ by: "exit", code: 5 }));
  equal((await ended).code, 5);
  next.close();
});

Deno.test("a signal to the client is one for the program", async () => {
  using door = new Door();
  const [command = "", ...words] = wordsOf(["run", "x"]);
  const child = new Deno.Command(command, {
    args: words,
    ...environment({ APPJAIL_SOCKET: door.path }),
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const [channel, { descriptors }] = await door.next();
  for (const fd of descriptors) fd.close();
  channel.send(started);
  // Until it listens, a signal would end it.
  const caught = (): bigint =>
    BigInt(
      `0x${/^SigCgt:\t(\w+)$/m.exec(Deno.readTextFileSync(`/proc/${child.pid}/status`))?.[1]}`,
    );
  const all = [1, 12, 15].reduce((mask, signal) => mask | 1n << BigInt(signal - 1), 0n);
  while ((caught() & all) !== all) await new Promise((resolve) => setTimeout(resolve, 1));
  for (const signal of ["SIGTERM", "SIGHUP", "SIGUSR2"] as const) {
    child.kill(signal);
    deepEqual((await channel.receive())?.message, { type: "signal", signal });
  }
  channel.send(exited({ by: "signal", signal: 15, core: false }));
  equal((await child.status).code, 143);
  channel.close();
});
