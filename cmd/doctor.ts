/**
 * `appjail doctor`: whether all is here that appjail needs, and what to do where it is not.
 *
 * Run by anybody, with no rights but theirs; as root it can tell more. It changes nothing.
 *
 * @module
 */
import { isTerminal } from "../ipc/fd.ts";
import { busPolicy } from "../core/bus-policy.ts";
import { policyChecks, userOfPolicy } from "../core/check-bus.ts";
import { cgroupChecks } from "../core/check-cgroups.ts";
import { fileSystemChecks } from "../core/check-file-systems.ts";
import { folderChecks } from "../core/check-folders.ts";
import { homeChecks } from "../core/check-homes.ts";
import { jailChecks } from "../core/check-jail.ts";
import { kernelChecks } from "../core/check-kernel.ts";
import { profileChecks } from "../core/check-profiles.ts";
import { programChecks } from "../core/check-programs.ts";
import { sessionChecks } from "../core/check-session.ts";
import { uidChecks } from "../core/check-uids.ts";
import { type Check, diagnose, type Diagnosis, type Result } from "../core/diagnosis.ts";
import { AppjailError, exitFailure } from "../core/errors.ts";
import { hostText } from "../core/host.ts";
import { effectiveUid } from "../core/kernel.ts";
import { printable } from "../core/log.ts";
import { sessionOf } from "../core/session.ts";
import { quoted } from "../core/shell-word.ts";
import { version } from "../core/version.ts";
import { socketPath, type World, writeOut } from "./client.ts";
import type { DaemonFlags } from "./daemon.ts";
import { busChecks } from "./doctor-bus.ts";
import { daemonChecks } from "./doctor-daemon.ts";
import { readSettings } from "./doctor-settings.ts";

/** The daemon's, so that its things are looked for where it has them; and the doctor's own. */
export interface DoctorFlags
  extends Omit<DaemonFlags, "linger" | "network" | "logFormat" | "debug"> {
  readonly json?: boolean | undefined;
  readonly busPolicy?: boolean | undefined;
  readonly socket?: string | undefined;
}

export async function doctor(flags: DoctorFlags, world: World): Promise<number> {
  const { json: asJson = false, busPolicy: policyWanted = false, socket, ...places } = flags;
  const { options, hasUser, checks, rangeFile } = await readSettings(places, world);
  if (policyWanted) {
    if (options === undefined || !hasUser) {
      const why = "whom the dispatcher runs as is not known; see: appjail doctor";
      throw new AppjailError("usage", `Cannot tell the policy: ${why}`);
    }
    writeOut(busPolicy(userOfPolicy(options.dispatcher_uid)), Deno.stdout);
    return 0;
  }
  const uid = effectiveUid();
  const words = Object.entries(places).flatMap(([name, value]) =>
    value === undefined ? [] : [` ${flagName(name)} ${quoted(value)}`]
  ).join("");
  const listening = socket ?? world.env["APPJAIL_SOCKET"] ??
    (options === undefined ? undefined : `${options.runtime_dir}/appjail.sock`);
  const person = personOf(uid, world.env);
  const all: readonly Check[] = [
    ...programChecks,
    ...kernelChecks,
    ...jailChecks,
    ...checks,
    ...options === undefined ? [] : [
      ...folderChecks(options),
      ...homeChecks(options),
      ...uidChecks(options, rangeFile),
      ...fileSystemChecks(options, person),
      ...cgroupChecks(options),
      ...profileChecks(options),
      ...policyChecks(options, `appjail doctor${words} --bus-policy`),
    ],
    ...daemonChecks(socketPath(listening, world.env), `appjail daemon${words}`),
    ...options === undefined ? [] : busChecks(options),
    ...sessionChecks(sessionOf(world.env), person),
  ];
  const looker = { uid, osRelease: hostText("/etc/os-release") };
  const found: Diagnosis[] = [];
  for await (const one of diagnose(all, looker)) found.push(one);
  writeOut(
    asJson ? jsonOf(found) : textOf(found, isTerminal(1) && !world.env["NO_COLOR"]),
    Deno.stdout,
  );
  return found.some(({ result }) => result === "failure") ? exitFailure : 0;
}

/** Whose home and session it is about: of whoever has become root, their own. sudo(8), pkexec(1). */
function personOf(uid: number, env: World["env"]): number {
  const said = uid === 0 ? env["SUDO_UID"] ?? env["PKEXEC_UID"] : undefined;
  return said !== undefined && /^[0-9]{1,10}$/.test(said) ? Number(said) : uid;
}

function flagName(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function countOf(found: readonly Diagnosis[], wanted: Result): number {
  return found.filter(({ result }) => result === wanted).length;
}

function jsonOf(found: readonly Diagnosis[]): string {
  const all = {
    version,
    failures: countOf(found, "failure"),
    warnings: countOf(found, "warning"),
    checks: found.map(({ name, result, found, mend }) => ({
      name,
      result,
      found: printable(found),
      mend,
    })),
  };
  return `${JSON.stringify(all, null, 2)}\n`;
}

/** How a result is shown, and in which colour: green, yellow, red. ctlseqs(ms), SGR. */
const marks: Readonly<Record<Result, readonly [word: string, colour: number | undefined]>> = {
  ok: ["ok", 32],
  warning: ["warning", 33],
  failure: ["failure", 31],
  unknown: ["?", undefined],
};

/** A line for each, and below it how to mend it. */
export function textOf(found: readonly Diagnosis[], colours: boolean): string {
  const width = Math.max(...found.map(({ name }) => name.length));
  const lines = found.flatMap(({ name, result, found, mend }) => {
    const [word, colour] = marks[result];
    const padded = word.padEnd("failure".length);
    const mark = colours && colour !== undefined ? `\x1b[${colour}m${padded}\x1b[m` : padded;
    return [
      `${mark}  ${name.padEnd(width)}  ${printable(found)}`,
      ...mend === null ? [] : [`${" ".repeat("failure".length + 2)}try: ${printable(mend)}`],
    ];
  });
  const failures = countOf(found, "failure");
  const warnings = countOf(found, "warning");
  const many = (count: number, thing: string): string =>
    `${count} ${thing}${count === 1 ? "" : "s"}`;
  const sum = failures + warnings === 0
    ? "All is well."
    : `${many(failures, "failure")}, ${many(warnings, "warning")}`;
  return [...lines, "", sum, ""].join("\n");
}
