/**
 * What a jail may do on its owner's buses, as words for xdg-dbus-proxy(1), which stands between them:
 * closed forms, because the helper starts it.
 *
 * @module
 */
import * as v from "valibot";
import { absolutePath } from "./names.ts";

const element = "[A-Za-z_-][A-Za-z0-9_-]*";
/** A well-known name, or all names below one. D-Bus Specification, Valid Names. */
const busName = String.raw`${element}(?:\.${element})+(?:\.\*)?`;
/** What of a service: methods or signals by interface, and the objects. */
const rule = String.raw`(?:\*|[A-Za-z_][A-Za-z0-9_.]*(?:\.\*)?)?(?:@/[A-Za-z0-9_/]*\*?)?`;

const name = v.pipe(
  v.string(),
  v.maxLength(255),
  v.regex(new RegExp(`^${busName}$`), "it is no name of a service"),
);
const ruleOf = v.pipe(
  v.string(),
  v.maxLength(1000),
  v.regex(new RegExp(`^${busName}=(?=.)${rule}$`), "it is no rule of a bus"),
);
const most = 200;

/** The rules of one bus. */
export const busRules = v.strictObject({
  talk: v.pipe(v.array(name), v.maxLength(most)),
  own: v.pipe(v.array(name), v.maxLength(most)),
  call: v.pipe(v.array(ruleOf), v.maxLength(most)),
  broadcast: v.pipe(v.array(ruleOf), v.maxLength(most)),
});
export type BusRules = v.InferOutput<typeof busRules>;

/** Which buses a jail has. */
export const jailBuses = v.strictObject({
  /** private: one of its own, which the jailer starts. */
  session: v.picklist(["private", "none", "filtered"]),
  /** The socket of the owner's session bus; null: the usual one, in their runtime folder. */
  session_socket: v.nullable(absolutePath),
  session_rules: busRules,
  system: v.picklist(["none", "filtered"]),
  system_rules: busRules,
});
export type JailBuses = v.InferOutput<typeof jailBuses>;

export const noRules: BusRules = { talk: [], own: [], call: [], broadcast: [] };

/** A bus of its own and no other. */
export const plainBuses: JailBuses = {
  session: "private",
  session_socket: null,
  session_rules: noRules,
  system: "none",
  system_rules: noRules,
};

/** Where the system bus listens, D-Bus Specification, and in a jail too. */
export const systemBus = "/run/dbus/system_bus_socket";

/** A bus, and the socket by which it is offered. */
export interface OfferedBus {
  /** The bus's own socket. */
  readonly socket: string;
  readonly offered: string;
  readonly rules: BusRules;
}

/**
 * The words for xdg-dbus-proxy.
 *
 * @param ready the number of a descriptor to which it writes when it listens, and whose other end
 * ends it when it is closed
 */
export function proxyWords(ready: number, buses: readonly OfferedBus[]): readonly string[] {
  return [
    `--fd=${ready}`,
    ...buses.flatMap(({ socket, offered, rules: { talk, own, call, broadcast } }) => [
      `unix:path=${escaped(socket)}`,
      offered,
      "--filter",
      // Whatever is refused is told; see refusalIn().
      "--log",
      ...talk.map((one) => `--talk=${one}`),
      ...own.map((one) => `--own=${one}`),
      ...call.map((one) => `--call=${one}`),
      ...broadcast.map((one) => `--broadcast=${one}`),
    ]),
  ];
}

/** A value in a bus's address. D-Bus Specification, Server Addresses. */
function escaped(path: string): string {
  return [...new TextEncoder().encode(path)].map((byte) => {
    const character = String.fromCharCode(byte);
    return /[-0-9A-Za-z_/.*]/.test(character)
      ? character
      : `%${byte.toString(16).padStart(2, "0")}`;
  }).join("");
}

/** How many different refusals of one jail are told: what repeats itself says nothing new. */
const toldMost = 200;

/** Finds in the proxy's log, which tells of every message, what it has refused. */
export class Refusals {
  readonly #told = new Set<string>();
  #rest = "";
  #call = "";
  #name = "";

  /** Takes the next piece of the log, and returns what is to be told. */
  push(text: string): readonly string[] {
    const lines = (this.#rest + text).split("\n");
    // A line is as long as the names in it; one that does not end is none of the proxy's.
    this.#rest = (lines.pop() ?? "").slice(-8192);
    const found: string[] = [];
    for (const line of lines) {
      const call = /^C\d+: -> (.*)$/.exec(line)?.[1];
      // Said of a name that somebody asks the bus for, or about.
      const name = /^Filtering message due to arg0 (.*), policy: /.exec(line)?.[1];
      if (call !== undefined) [this.#call, this.#name] = [call, ""];
      else if (name !== undefined) this.#name = name;
      else if (/^\*(?:DENIED|HIDDEN)\*/.test(line) && this.#call !== "") {
        const what = this.#name === "" ? this.#call : `${this.#call}, for ${this.#name}`;
        this.#call = "";
        if (this.#told.size >= toldMost || this.#told.has(what)) continue;
        this.#told.add(what);
        found.push(what);
      }
    }
    return found;
  }
}
