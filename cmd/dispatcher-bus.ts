/**
 * The dispatcher's door on D-Bus: the same requests as on the socket, without descriptors, and for
 * those who subscribe, signals about their own jails. The caller is the uid that the bus reports.
 *
 * @module
 */
import { type BusCall, BusError, resolveBusAddress, serveBus, variant } from "../ipc/bus.ts";
import { busName } from "../core/bus-policy.ts";
import { pause } from "../core/deadline.ts";
import { AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import type { Jails } from "../core/jails.ts";
import type { Log } from "../core/log.ts";
import {
  absolutePath,
  commandLine,
  environment,
  lendName,
  ownerUid,
  parse,
  type ProfileName,
  profileName,
} from "../core/names.ts";
import type { Lendable } from "../core/protocol.ts";
import * as v from "valibot";
import { version } from "../core/version.ts";
import { missed, objectsOf, signals, tellSubscribers } from "./dispatcher-bus-jails.ts";
import type { About, Asker, Records } from "./dispatcher-record.ts";

const path = "/org/appjail/AppJail";
const interfaceName = "org.appjail.AppJail1";

/** How long a patient stop waits for programs to end by themselves. */
const stopTimeout = 10_000;

/** The options of Run. */
const runOptions = { cwd: v.optional(absolutePath), env: v.optional(environment) } as const;

/** The options of Lend. */
const lendOptions = {
  name: v.optional(lendName),
  write: v.optional(v.boolean()),
  seconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(366 * 86_400))),
} as const;

const methods = [
  {
    name: "Run",
    in: [
      { name: "profile", type: "s" },
      { name: "argv", type: "as" },
      { name: "options", type: "a{sv}" },
    ],
    out: [{ name: "uid", type: "u" }, { name: "program", type: "s" }],
  },
  {
    name: "Stop",
    in: [{ name: "profile", type: "s" }, { name: "force", type: "b" }],
    out: [],
  },
  {
    name: "Lend",
    in: [
      { name: "profile", type: "s" },
      { name: "path", type: "s" },
      { name: "options", type: "a{sv}" },
    ],
    out: [{ name: "name", type: "s" }],
  },
  {
    name: "Unlend",
    in: [{ name: "profile", type: "s" }, { name: "name", type: "s" }],
    out: [],
  },
  { name: "List", in: [], out: [{ name: "jails", type: "aa{sv}" }] },
  { name: "Subscribe", in: [], out: [] },
  { name: "Unsubscribe", in: [], out: [] },
] as const;

/** What is behind the door. */
export interface BusHouse {
  readonly jails: Jails;
  readonly isApp: (uid: number) => boolean;
  readonly log: Log;
  readonly records: Records;
}

/** Serves on the bus for ever: whenever the bus is gone, it is looked for again. */
export async function keepOnBus(bus: string, house: BusHouse): Promise<never> {
  const { jails, log, records } = house;
  const address = resolveBusAddress(bus, {});
  for (let delay = 250, told = "";; delay = Math.min(delay * 2, 15_000)) {
    try {
      const service = await serveBus({
        address,
        name: busName,
        path,
        interface: interfaceName,
        methods,
        signals,
        missed,
        properties: [{ name: "Version", type: "s", read: () => version }],
        objects: objectsOf(jails),
        log: (line) => log.info(line),
        handle: (call) => answer(house, call),
      });
      const silence = tellSubscribers(service, jails, records);
      log.info(`on the bus as ${busName}`);
      delay = 250;
      told = "";
      const why = await service.closed;
      silence();
      log.info(`off the bus: ${why}`);
    } catch (error) {
      const words = wordsOf(error);
      // The same trouble is told once, however often it is tried: with another unique name each time.
      const trouble = words.replaceAll(/:\d+\.\d+/g, "");
      if (trouble !== told) log.info(`not on the bus, will go on trying: ${words}`);
      told = trouble;
    }
    await pause(delay);
  }
}

/** Does what is called; what goes wrong is told in the bus's words. */
async function answer(house: BusHouse, call: BusCall): Promise<readonly unknown[]> {
  const { uid, sender, method, args } = call;
  // Those about a profile have it first.
  const profile = parse(profileName, args[0]);
  const about = {
    request: method.toLowerCase(),
    profile: "value" in profile ? profile.value : null,
  };
  try {
    const asker = { uid: read(ownerUid, uid, "caller"), busName: sender };
    try {
      return await handle(house, asker, about, call);
    } catch (thrown) {
      house.records.refused(asker, about, thrown);
      throw thrown;
    }
  } catch (thrown) {
    const error = asAppjailError(thrown);
    // What the bus is to be told in its own words, and what is a defect.
    if (error.code === "internal") throw thrown;
    throw new BusError(error.busName, error.message);
  }
}

async function handle(
  { jails, isApp, records }: BusHouse,
  asker: Asker,
  about: About,
  { method, args, subscribe, unsubscribe }: BusCall,
): Promise<readonly unknown[]> {
  const { uid: owner } = asker;
  if (isApp(owner)) throw new AppjailError("denied", "A program in a jail cannot ask for jails");
  switch (method) {
    case "Subscribe":
      try {
        await subscribe();
      } catch (error) {
        throw error instanceof BusError ? new AppjailError("limit", error.message) : error;
      }
      return [];
    case "Unsubscribe":
      await unsubscribe();
      return [];
    case "Run":
      return await run(jails, records, asker, args);
    case "Stop": {
      const jail = jails.known(owner, read(profileName, args[0], "profile"));
      records.stops(asker, jail.allocation, { force: args[1] === true, lock: false });
      const { problem } = await jail.stop(args[1] === true, stopTimeout);
      if (problem !== null) throw new AppjailError("no-answer", problem);
      return [];
    }
    case "Lend": {
      const { profile, wanted } = lending(args);
      await jails.known(owner, profile).lend(wanted);
      records.lends(asker, about, wanted);
      return [wanted.name];
    }
    case "Unlend": {
      const jail = jails.known(owner, read(profileName, args[0], "profile"));
      await jail.unlend(read(lendName, args[1], "name"));
      records.takesBack(asker, about);
      return [];
    }
    case "List": {
      const reports = await jails.status(owner, null, false);
      return [
        reports.filter(({ state }) => state !== "locked" && state !== "unlocked").map((report) => ({
          profile: variant("s", report.profile),
          uid: variant("u", report.uid),
          state: variant("s", report.state),
          jailer_pid: variant("u", report.jailer_pid ?? 0),
          started: variant("t", BigInt(report.started)),
          programs: variant(
            "aa{sv}",
            report.programs.map((program) => ({
              program: variant("s", program.program),
              argv: variant("as", program.argv),
              pid: variant("u", program.pid),
              started: variant("t", BigInt(program.started)),
            })),
          ),
          encrypted: variant("b", report.home.kind !== null),
        })),
      ];
    }
    default:
      throw new AppjailError("internal", `There is no method ${method}`);
  }
}

async function run(
  jails: Jails,
  records: Records,
  asker: Asker,
  args: readonly unknown[],
): Promise<readonly unknown[]> {
  const profile = read(profileName, args[0], "profile");
  // Without words it is the profile's own command.
  const given = args[1];
  const argv = Array.isArray(given) && given.length === 0 ? null : read(commandLine, given, "argv");
  const options = knownOptions(args[2], Object.keys(runOptions));
  const cwd = read(runOptions.cwd, options["cwd"], "option cwd");
  const env = read(runOptions.env, options["env"], "option env");
  const started = await jails.run(asker.uid, profile, {
    argv,
    cwd: cwd ?? null,
    cwd_required: true,
    terminal: null,
    env: env ?? {},
    stdio: "log",
    descriptors: [],
  });
  const { within: { allocation }, program, joined } = started;
  records.runs(asker, allocation, { program, joined, command: argv?.[0] });
  return [allocation.uid, program];
}

/** What is to be lent, from the arguments of Lend. */
function lending(args: readonly unknown[]): {
  readonly profile: ProfileName;
  readonly wanted: Lendable;
} {
  const profile = read(profileName, args[0], "profile");
  const path = read(absolutePath, args[1], "path");
  const options = knownOptions(args[2], Object.keys(lendOptions));
  const last = path.split("/").filter((part) => part !== "").at(-1);
  const name = read(lendOptions.name, options["name"], "option name") ??
    read(lendName, last ?? "", "end of the path");
  const seconds = read(lendOptions.seconds, options["seconds"], "option seconds");
  const write = read(lendOptions.write, options["write"], "option write") ?? false;
  const until = seconds === undefined ? null : Date.now() + seconds * 1000;
  return { profile, wanted: { name, path, write, until } };
}

/** The options of a call, of which there must be no others than these. */
function knownOptions(
  given: unknown,
  known: readonly string[],
): Readonly<Record<string, unknown>> {
  const options: Readonly<Record<string, unknown>> = { ...Object(given) };
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new AppjailError(
      "invalid-argument",
      `There is no option ${JSON.stringify(name.slice(0, 80))}: the options are ${
        known.join(" and ")
      }`,
    );
  }
  return options;
}

/** An argument as what it has to be. */
function read<const S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  what: string,
): v.InferOutput<S> {
  const parsed = parse(schema, value);
  if ("wrong" in parsed) {
    throw new AppjailError("invalid-argument", `The ${what} cannot be used: ${parsed.wrong}`);
  }
  return parsed.value;
}
