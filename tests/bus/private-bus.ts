/**
 * Private buses for tests: a real dbus-daemon with raw and real clients, and a bus that a test plays
 * and that says what no honest bus would. Every daemon has its own configuration and socket in a
 * temporary folder, and is ended by its process handle.
 *
 * @module
 */
import { equal, match } from "node:assert/strict";
import { type Frame, Framer } from "../../ipc/bus-message.ts";
import {
  type BusCall,
  BusError,
  type BusService,
  type BusServiceOptions,
  serveBus,
  variant,
} from "../../ipc/bus.ts";

export const NAME = "org.example.Test";
export const PATH = "/org/example/Test";
export const INTERFACE = "org.example.Test1";
export const BUS = "org.freedesktop.DBus";
export const ERR = `${BUS}.Error`;

/* ---- waiting ---- */

export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/* ---- a private bus ---- */

export interface Place extends AsyncDisposable {
  readonly folder: string;
}

export async function temporaryFolder(): Promise<Place> {
  const folder = await Deno.makeTempDir({ prefix: "bus-test-" });
  await Deno.chmod(folder, 0o755);
  return { folder, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

export interface Daemon extends AsyncDisposable {
  readonly folder: string;
  readonly socket: string;
  readonly address: string;
  kill(): Promise<void>;
}

export async function startDaemon(
  ownable = `<allow own="*"/>`,
  limits = "",
): Promise<Daemon> {
  const place = await temporaryFolder();
  const { folder } = place;
  const socket = `${folder}/bus`;
  const address = `unix:path=${socket}`;
  await Deno.writeTextFile(
    `${folder}/bus.conf`,
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>${address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/>
<allow send_requested_reply="false" send_type="method_return"/>
<allow receive_requested_reply="false" receive_type="method_return"/>
<allow eavesdrop="true"/>${ownable}</policy>
<limit name="max_replies_per_connection">50000</limit>${limits}</busconfig>`,
  );
  const child = new Deno.Command("dbus-daemon", {
    args: [`--config-file=${folder}/bus.conf`, "--nofork", "--nopidfile", "--print-address"],
    ...{ stdin: "null", stdout: "piped", stderr: "null" },
  }).spawn();
  // It prints its address when it listens.
  const reader = child.stdout.getReader();
  await reader.read();
  await reader.cancel();
  let alive = true;
  const kill = async () => {
    if (alive) child.kill("SIGKILL");
    alive = false;
    await child.status;
  };
  return {
    ...{ folder, socket, address, kill },
    [Symbol.asyncDispose]: async () => {
      await kill();
      await place[Symbol.asyncDispose]();
    },
  };
}

/* ---- the service under test ---- */

export interface TestService extends AsyncDisposable {
  readonly service: BusService;
  readonly calls: BusCall[];
  readonly lines: string[];
  /** Lets `Wait` calls end. */
  readonly release: () => void;
}

export async function start(
  address: string,
  changes: Partial<BusServiceOptions> = {},
): Promise<TestService> {
  const calls: BusCall[] = [];
  const lines: string[] = [];
  const gate = Promise.withResolvers<void>();
  const service = await serveBus({
    address,
    name: NAME,
    path: PATH,
    interface: INTERFACE,
    methods: [
      {
        name: "Echo",
        in: [{ name: "text", type: "s" }, { name: "options", type: "a{sv}" }],
        out: [{ name: "answer", type: "a{sv}" }],
      },
      { name: "Uid", in: [], out: [{ name: "uid", type: "u" }] },
      { name: "Any", in: [{ name: "value", type: "v" }], out: [] },
      { name: "Rows", in: [{ name: "rows", type: "a(sx)" }, { name: "raw", type: "ay" }], out: [] },
      { name: "Wait", in: [], out: [] },
      { name: "Throw", in: [], out: [] },
      { name: "Refuse", in: [{ name: "text", type: "s" }], out: [] },
      { name: "BadPath", in: [], out: [{ name: "path", type: "o" }] },
      { name: "BadCount", in: [], out: [{ name: "text", type: "s" }] },
      { name: "Huge", in: [], out: [{ name: "text", type: "s" }] },
    ],
    properties: [
      { name: "Version", type: "s", read: () => "1.2" },
      { name: "Caller", type: "u", read: (uid) => uid },
    ],
    handle: async (call) => {
      calls.push(call);
      switch (call.method) {
        case "Echo":
          return [{
            text: variant("s", call.args[0]),
            list: variant("av", [variant("x", -5n), variant("(sb)", ["a", true])]),
            map: variant("a{s(uo)}", { key: [7, "/a"] }),
          }];
        case "Uid":
          return [call.uid];
        case "Wait":
          await gate.promise;
          return [];
        case "Throw":
          throw new Error("secret detail");
        case "Refuse":
          throw new BusError("org.example.Error.Refused", `no: \0${call.args[0]}`);
        case "BadPath":
          return ["no path"];
        case "BadCount":
          return [];
        case "Huge":
          return ["x".repeat(2 * 1024 * 1024)];
        default:
          return [];
      }
    },
    log: (line) => lines.push(line),
    ...changes,
  });
  return {
    ...{ service, calls, lines, release: gate.resolve },
    [Symbol.asyncDispose]: async () => {
      gate.resolve();
      await service.close();
      await service.closed;
    },
  };
}

export async function run(
  command: string,
  ...args: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" })
    .output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

export function busctl(bus: Daemon, ...args: string[]): ReturnType<typeof run> {
  return run("busctl", `--address=${bus.address}`, ...args);
}

export function gdbus(
  bus: Daemon,
  member: string,
  ...args: string[]
): ReturnType<typeof run> {
  return run(
    "gdbus",
    ...["call", "--address", bus.address, "--timeout", "20"],
    ...["-d", NAME, "-o", PATH, "-m", member.includes(".") ? member : `${INTERFACE}.${member}`],
    ...args,
  );
}

/* ---- bytes, made by hand ---- */

export class Writer {
  readonly bytes: number[] = [];
  readonly little: boolean;

  constructor(little = true) {
    this.little = little;
  }

  align(boundary: number): this {
    while (this.bytes.length % boundary !== 0) this.bytes.push(0);
    return this;
  }
  byte(...values: number[]): this {
    this.bytes.push(...values);
    return this;
  }
  u32(value: number): this {
    this.align(4);
    const bytes = [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
    return this.byte(...(this.little ? bytes : bytes.reverse()));
  }
  string(text: string): this {
    const bytes = new TextEncoder().encode(text);
    this.u32(bytes.length);
    for (const byte of bytes) this.bytes.push(byte);
    return this.byte(0);
  }
  signature(text: string): this {
    return this.byte(text.length, ...new TextEncoder().encode(text), 0);
  }
}

export interface Fields {
  type?: number;
  flags?: number;
  serial?: number;
  path?: string;
  interface?: string;
  member?: string;
  error?: string;
  reply?: number;
  destination?: string;
  sender?: string;
  signature?: string;
  fds?: number;
  body?: Writer;
  little?: boolean;
  /** Further header fields, as code, type and writer. */
  extra?: readonly (readonly [number, string, (writer: Writer) => void])[];
}

export function encode(fields: Fields): Uint8Array<ArrayBuffer> {
  const little = fields.little ?? true;
  const body = fields.body?.bytes ?? [];
  const list = new Writer(little);
  const put = (code: number, type: string, write: (writer: Writer) => void) => {
    list.align(8).byte(code).signature(type);
    write(list);
  };
  const text = (code: number, type: string, value: string | undefined) => {
    if (value === undefined) return;
    put(code, type, (writer) => type === "g" ? writer.signature(value) : writer.string(value));
  };
  text(1, "o", fields.path);
  text(2, "s", fields.interface);
  text(3, "s", fields.member);
  text(4, "s", fields.error);
  if (fields.reply !== undefined) put(5, "u", (writer) => writer.u32(fields.reply ?? 0));
  text(6, "s", fields.destination);
  text(7, "s", fields.sender);
  text(8, "g", fields.signature);
  if (fields.fds !== undefined) put(9, "u", (writer) => writer.u32(fields.fds ?? 0));
  for (const [code, type, write] of fields.extra ?? []) put(code, type, write);
  const head = new Writer(little)
    .byte(little ? 0x6c : 0x42, fields.type ?? 1, fields.flags ?? 0, 1)
    .u32(body.length).u32(fields.serial ?? 1).u32(list.bytes.length);
  const start = head.bytes.length + Math.ceil(list.bytes.length / 8) * 8;
  const message = new Uint8Array(start + body.length);
  message.set(head.bytes);
  message.set(list.bytes, head.bytes.length);
  message.set(body, start);
  return message;
}

export type Received = Extract<Frame, { kind: "message" }>;

/** The first argument of a message, when it is a string. */
export function textOf({ bytes, header }: Received): string {
  const length = new DataView(bytes.buffer).getUint32(header.bodyStart, true);
  return new TextDecoder().decode(bytes.subarray(header.bodyStart + 4).subarray(0, length));
}

export function numberOf({ bytes, header }: Received): number {
  return new DataView(bytes.buffer).getUint32(header.bodyStart, true);
}

/** Whole messages over a socket, either end of it. */
export class Wire implements Disposable {
  readonly #socket: Deno.UnixConn;
  readonly #framer = new Framer(16 * 1024 * 1024);
  readonly #ready: Received[] = [];
  readonly #chunk = new Uint8Array(65536);
  #open = true;

  constructor(socket: Deno.UnixConn) {
    this.#socket = socket;
  }

  async send(...messages: Uint8Array[]): Promise<void> {
    for (const message of messages) {
      let rest = message;
      while (rest.length > 0) rest = rest.subarray(await this.#socket.write(rest));
    }
  }

  /** The next message, or null at the end. */
  async next(): Promise<Received | null> {
    while (true) {
      const ready = this.#ready.shift();
      if (ready !== undefined) return ready;
      const count = await this.#socket.read(this.#chunk);
      if (count === null) return null;
      for (const frame of this.#framer.push(this.#chunk.subarray(0, count))) {
        if (frame.kind !== "message") throw new Error(`the service sent a ${frame.kind} message`);
        this.#ready.push(frame);
      }
    }
  }

  async take(): Promise<Received> {
    const message = await this.next();
    if (message === null) throw new Error("the connection ended");
    return message;
  }

  /** The answer to a serial; whatever else comes before it is passed over. */
  async answer(serial: number): Promise<Received> {
    while (true) {
      const message = await this.take();
      if (message.header.replySerial === serial) return message;
    }
  }

  /** Resolves when the first bytes of the next message are here. */
  async begun(): Promise<void> {
    const count = await this.#socket.read(this.#chunk);
    for (const frame of this.#framer.push(this.#chunk.subarray(0, count ?? 0))) {
      throw new Error(`a whole ${frame.kind} came at once`);
    }
  }

  async line(): Promise<string> {
    let line = "";
    const byte = new Uint8Array(1);
    while (!line.endsWith("\r\n")) {
      if (await this.#socket.read(byte) === null) throw new Error("the connection ended");
      line += String.fromCharCode(byte[0] ?? 0);
    }
    return line.slice(0, -2);
  }

  [Symbol.dispose](): void {
    if (this.#open) this.#socket.close();
    this.#open = false;
  }
}

const ascii = (text: string) => new TextEncoder().encode(text);

/** A client that sends what it likes to a real bus. */
export async function rawClient(bus: Daemon): Promise<Wire> {
  const wire = new Wire(await Deno.connect({ transport: "unix", path: bus.socket }));
  const uid = [...String(Deno.uid())].map((digit) => `3${digit}`).join("");
  await wire.send(ascii(`\0AUTH EXTERNAL ${uid}\r\n`));
  match(await wire.line(), /^OK /);
  await wire.send(ascii("BEGIN\r\n"));
  await wire.send(encode({
    ...{ serial: 1, destination: BUS, path: "/org/freedesktop/DBus", interface: BUS },
    member: "Hello",
  }));
  await wire.answer(1);
  return wire;
}

export const call = (serial: number, member: string, more: Fields = {}): Uint8Array<ArrayBuffer> =>
  encode({ serial, destination: NAME, path: PATH, interface: INTERFACE, member, ...more });

/* ---- a bus that is not honest ---- */

export interface FakeBus extends AsyncDisposable {
  readonly address: string;
  /** Accepts the service and answers AUTH. */
  accept(): Promise<Wire>;
}

export async function fakeBus(): Promise<FakeBus> {
  const place = await temporaryFolder();
  const path = `${place.folder}/bus`;
  const listener = Deno.listen({ transport: "unix", path });
  const wires: Wire[] = [];
  return {
    address: `unix:path=${path}`,
    async accept() {
      const wire = new Wire(await listener.accept());
      wires.push(wire);
      match(await wire.line(), /^\0AUTH EXTERNAL$/);
      await wire.send(ascii("DATA\r\n"));
      equal(await wire.line(), "DATA");
      await wire.send(ascii("OK 0123456789abcdef\r\n"));
      equal(await wire.line(), "BEGIN");
      return wire;
    },
    async [Symbol.asyncDispose]() {
      for (const wire of wires) wire[Symbol.dispose]();
      listener.close();
      await place[Symbol.asyncDispose]();
    },
  };
}

export function fromBus(
  reply: number,
  signature: string,
  body: Writer,
  more: Fields = {},
): Uint8Array<ArrayBuffer> {
  return encode({ type: 2, serial: 1, reply, sender: BUS, signature, body, ...more });
}

export interface Fake extends AsyncDisposable {
  readonly wire: Wire;
  readonly test: TestService;
  /** A call of this sender's, as the bus would forward it. */
  readonly from: (sender: string, serial: number, member: string, more?: Fields) => Uint8Array;
  /** Answers the question for a uid that must come next. */
  readonly tellUid: (uid: number) => Promise<string>;
}

/** The service, on a bus that this test plays. */
export async function startFake(changes: Partial<BusServiceOptions> = {}): Promise<Fake> {
  const bus = await fakeBus();
  const starting = start(bus.address, changes);
  const wire = await bus.accept();
  const hello = await wire.take();
  equal(hello.header.member, "Hello");
  await wire.send(fromBus(hello.header.serial, "s", new Writer().string(":1.1")));
  const request = await wire.take();
  equal(request.header.member, "RequestName");
  // DO_NOT_QUEUE and nothing else: nobody may replace us, and we replace nobody.
  equal(new DataView(request.bytes.buffer).getUint32(request.bytes.length - 4, true), 4);
  await wire.send(fromBus(request.header.serial, "u", new Writer().u32(1)));
  const test = await starting;
  return {
    ...{ wire, test },
    from: (sender, serial, member, more = {}) => call(serial, member, { sender, ...more }),
    async tellUid(uid) {
      const question = await wire.take();
      equal(question.header.member, "GetConnectionUnixUser");
      equal(question.header.destination, BUS);
      await wire.send(fromBus(question.header.serial, "u", new Writer().u32(uid)));
      return textOf(question);
    },
    async [Symbol.asyncDispose]() {
      await test[Symbol.asyncDispose]();
      await bus[Symbol.asyncDispose]();
    },
  };
}
