/**
 * A program of somebody's with objects on a bus, by gjs(1): a real peer, which tells who has called it
 * and sends the signals that a test wants.
 *
 * @module
 */
import assert from "node:assert/strict";
import { asUser, until } from "../jail/world.ts";

/** An object of a peer's. */
export interface PeerObject {
  readonly path: string;
  /** D-Bus Specification, Introspection Data Format: the interfaces, without the node. */
  readonly interfaces: string;
  /** What each method answers, as g_variant_print() writes a tuple; nothing, where it says nothing. */
  readonly answers?: Readonly<Record<string, string>>;
  readonly properties?: Readonly<Record<string, string>>;
}

/** A call that has come: `member` is `INTERFACE.METHOD`. */
export interface PeerCall {
  readonly uid: number;
  readonly sender: string;
  readonly path: string;
  readonly member: string;
  readonly args: string;
}

/** What a peer is made of. */
export interface PeerOptions {
  readonly address: string;
  readonly uid: number;
  /** The names that it has on the bus. */
  readonly names: readonly string[];
  readonly objects: readonly PeerObject[];
}

/** It ends when its standard input does. */
const program = `
const { Gio, GLib } = imports.gi;
const { address, names, objects } = JSON.parse(ARGV[0]);
const { AUTHENTICATION_CLIENT, MESSAGE_BUS_CONNECTION } = Gio.DBusConnectionFlags;
const flags = AUTHENTICATION_CLIENT | MESSAGE_BUS_CONNECTION;
const bus = Gio.DBusConnection.new_for_address_sync(address, flags, null, null);
const value = (text) => GLib.Variant.parse(null, text, null, null);
const say = (words) => print(JSON.stringify(words));
const ask = (method, args) => bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus",
  "org.freedesktop.DBus", method, args, null, 0, -1, null).deepUnpack()[0];
for (const { path, interfaces, answers = {}, properties = {} } of objects) {
  for (const info of Gio.DBusNodeInfo.new_for_xml("<node>" + interfaces + "</node>").interfaces) {
    bus.register_object(path, info, (_bus, sender, path, face, method, args, call) => {
      const uid = ask("GetConnectionUnixUser", new GLib.Variant("(s)", [sender]));
      say({ uid, sender, path, member: face + "." + method, args: args.print(true) });
      const answer = answers[method];
      call.return_value(answer === undefined ? null : value(answer));
    }, (_bus, _sender, _path, _face, name) => value(properties[name]), null);
  }
}
for (const name of names) {
  const got = ask("RequestName", new GLib.Variant("(su)", [name, 4]));
  if (got !== 1) throw new Error("the name " + name + " is somebody else's");
}
say({ ready: bus.get_unique_name() });
const loop = new GLib.MainLoop(null, false);
const input = new Gio.DataInputStream({ base_stream: new Gio.UnixInputStream({ fd: 0 }) });
const next = () => input.read_line_async(0, null, (_input, result) => {
  const [line] = input.read_line_finish_utf8(result);
  if (line === null) return loop.quit();
  const { destination, path, face, member, args } = JSON.parse(line);
  bus.emit_signal(destination, path, face, member, value(args));
  next();
});
next();
loop.run();
`;

/** A peer that runs. */
export class Peer implements AsyncDisposable {
  /** The calls that have come so far. */
  readonly calls: PeerCall[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #drained: Promise<void>;
  #name: string | undefined;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#drained = this.#read();
  }

  /** One that has its names. */
  static async start({ uid, ...options }: PeerOptions): Promise<Peer> {
    const words = asUser(uid, ["gjs", "-c", program, JSON.stringify(options)]);
    const [command = "", ...args] = words;
    const streams = { stdin: "piped", stdout: "piped", stderr: "inherit" } as const;
    // Its settings, and its cache, are nobody's.
    const env = { HOME: "/nonexistent", GSETTINGS_BACKEND: "memory", LANG: "C.UTF-8" };
    const peer = new Peer(new Deno.Command(command, { args, env, ...streams }).spawn());
    try {
      await until(`a peer has ${options.names.join(", ")}`, () => peer.#name);
    } catch (error) {
      await peer[Symbol.asyncDispose]();
      throw error;
    }
    return peer;
  }

  /** Its unique name. */
  get name(): string {
    assert(this.#name !== undefined);
    return this.#name;
  }

  /** Sends a signal: to everybody who listens, or to one alone. */
  async emit(
    path: string,
    member: string,
    args: string,
    destination: string | null = null,
  ): Promise<void> {
    const [, face, name] = /^(.*)\.([^.]+)$/.exec(member) ?? [];
    const line = JSON.stringify({ destination, path, face, member: name, args });
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const said: PeerCall | { readonly ready: string } = JSON.parse(line);
        if ("ready" in said) this.#name = said.ready;
        else this.calls.push(said);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#child.status;
    await this.#drained;
  }
}
