/**
 * The dispatcher's door on D-Bus: the same requests as on the socket, without descriptors. The
 * caller is the uid that the bus reports.
 *
 * @module
 */
import { BusError, resolveBusAddress, serveBus, variant } from "../ipc/bus.ts";
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
  type OwnerUid,
  ownerUid,
  parse,
  type ProfileName,
  profileName,
} from "../core/names.ts";
import type { Lendable } from "../core/protocol.ts";
import * as v from "valibot";
import { version } from "../core/version.ts";

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
] as const;

/** Serves on the bus for ever: whenever the bus is gone, it is looked for again. */
export async function keepOnBus(
  bus: string,
  jails: Jails,
  isApp: (uid: number) => boolean,
  log: Log,
): Promise<never> {
  const address = resolveBusAddress(bus, {});
  for (let delay = 250, told = "";; delay = Math.min(delay * 2, 15_000)) {
    try {
      const service = await serveBus({
        address,
        name: busName,
        path,
        interface: interfaceName,
        methods,
        properties: [{ name: "Version", type: "s", read: () => version }],
        log: (line) => log.info(line),
        handle: async ({ method, uid, args }) => {
          try {
            return await handle(jails, isApp, log, method, uid, args);
          } catch (thrown) {
            const error = asAppjailError(thrown);
            if (error.code === "internal") throw thrown;
            throw new BusError(error.busName, error.message);
          }
        },
      });
      log.info(`on the bus as ${busName}`);
      delay = 250;
      told = "";
      log.info(`off the bus: ${await service.closed}`);
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

async function handle(
  jails: Jails,
  isApp: (uid: number) => boolean,
  log: Log,
  method: string,
  uid: number,
  args: readonly unknown[],
): Promise<readonly unknown[]> {
  const owner = read(ownerUid, uid, "caller");
  if (isApp(owner)) throw new AppjailError("denied", "A program in a jail cannot ask for jails");
  switch (method) {
    case "Run":
      return await run(jails, log, owner, args);
    case "Stop": {
      const jail = jails.known(owner, read(profileName, args[0], "profile"));
      const { problem } = await jail.stop(args[1] === true, stopTimeout);
      if (problem !== null) throw new AppjailError("no-answer", problem);
      return [];
    }
    case "Lend": {
      const { profile, wanted } = lending(args);
      await jails.known(owner, profile).lend(wanted);
      log.info(`uid ${owner} lends ${JSON.stringify(wanted.path)} to ${profile} over D-Bus`);
      return [wanted.name];
    }
    case "Unlend": {
      const jail = jails.known(owner, read(profileName, args[0], "profile"));
      await jail.unlend(read(lendName, args[1], "name"));
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
  log: Log,
  owner: OwnerUid,
  args: readonly unknown[],
): Promise<readonly unknown[]> {
  const profile = read(profileName, args[0], "profile");
  // Without words it is the profile's own command.
  const given = args[1];
  const argv = Array.isArray(given) && given.length === 0 ? null : read(commandLine, given, "argv");
  const options = knownOptions(args[2], Object.keys(runOptions));
  const cwd = read(runOptions.cwd, options["cwd"], "option cwd");
  const env = read(runOptions.env, options["env"], "option env");
  const started = await jails.run(owner, profile, {
    argv,
    cwd: cwd ?? null,
    cwd_required: true,
    terminal: null,
    env: env ?? {},
    stdio: "log",
    descriptors: [],
  });
  const { uid } = started.within.allocation;
  log.info(
    `uid ${owner} runs ${started.program} as ${uid} over D-Bus: ${argv?.[0] ?? "its command"}`,
  );
  return [uid, started.program];
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
