/**
 * The dispatcher's door on D-Bus: the same requests as on the socket, without descriptors. The
 * caller is the uid that the bus reports.
 *
 * @module
 */
import { BusError, resolveBusAddress, serveBus, variant } from "../ipc/bus.ts";
import { pause } from "../core/deadline.ts";
import { AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import type { Jails } from "../core/jails.ts";
import type { Log } from "../core/log.ts";
import {
  absolutePath,
  commandLine,
  environment,
  type OwnerUid,
  ownerUid,
  parse,
  profileName,
} from "../core/names.ts";
import * as v from "valibot";
import { version } from "../core/version.ts";

const name = "org.appjail.AppJail";
const path = "/org/appjail/AppJail";
const interfaceName = "org.appjail.AppJail1";

/** How long a patient stop waits for programs to end by themselves. */
const stopTimeout = 10_000;

/** The options of Run. */
const runOptions = { cwd: v.optional(absolutePath), env: v.optional(environment) } as const;

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
        name,
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
      log.info(`on the bus as ${name}`);
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
  const options: Readonly<Record<string, unknown>> = { ...Object(args[2]) };
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(runOptions, name)) continue;
    throw new AppjailError(
      "invalid-argument",
      `There is no option ${JSON.stringify(name.slice(0, 80))}: the options are ${
        Object.keys(runOptions).join(" and ")
      }`,
    );
  }
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
