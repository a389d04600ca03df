/**
 * How the copier comes to run on another machine: as `appjail run` does there, through ssh(1), whose
 * standard streams the copy then goes through.
 *
 * @module
 */
import { type Fd, pipe } from "../ipc/fd.ts";
import { endOf } from "../core/child.ts";
import { within } from "../core/deadline.ts";
import { AppjailError } from "../core/errors.ts";
import { spawn } from "../core/kernel.ts";
import { copierCommand } from "../core/launch.ts";
import { printable } from "../core/log.ts";
import { textThrough } from "../core/pipe-text.ts";
import { programInJail } from "../core/plan.ts";
import type { ExitStatus } from "../core/protocol.ts";
import { ownEnvironment } from "./asker.ts";
import { type Carrier, unknownProfile } from "./copy-near.ts";
import { sshCommand } from "./far.ts";
import type { World } from "./client.ts";

/** What ssh ends with when it is ssh that fails. ssh(1), EXIT STATUS. */
const sshFailure = 255;
/** How long ssh has to end after what it ran has ended. */
const farewell = 10_000;
/** More profiles than there can be do not take as much. */
const listMost = 1024 * 1024;

/** @param socket where the daemon listens there, unless it is the usual place */
export function farCarrier(host: string, socket: string | undefined, { env }: World): Carrier {
  const start = (words: readonly string[], ends: readonly Fd[]): number => {
    const where = socket === undefined ? [] : ["--socket", socket];
    const command = sshCommand(host, [...where, ...words], { env, terminal: false });
    using keeps = new DisposableStack();
    for (const end of ends) keeps.use(end);
    return spawn({
      ...command,
      env: ownEnvironment(env),
      descriptors: ends.map((end) => end.number),
    });
  };
  const explain: Carrier["explain"] = (status, words) => {
    const said = /^appjail: (.*)$/s.exec(words)?.[1];
    if (said !== undefined) {
      return new AppjailError("copy-failed", `On ${host}: ${printable(said)}`);
    }
    if (status?.by !== "exit" || status.code !== sshFailure) return undefined;
    return new AppjailError("copy-failed", `Cannot reach ${host}: ${printable(words)}`);
  };
  return {
    mustExist: async (profile) => {
      const [input, output, errors] = [
        pipe(),
        pipe({ nonblocking: true }),
        pipe({ nonblocking: true }),
      ];
      input.write.close();
      using outputRead = output.read;
      using errorsRead = errors.read;
      const pid = start(["profiles"], [input.read, output.write, errors.write]);
      const [names, complaint, status] = await Promise.all([
        textThrough(outputRead, listMost),
        textThrough(errorsRead, listMost),
        endOf(pid),
      ]);
      if (status.by === "exit" && status.code === 0) {
        if (names.split("\n").includes(profile)) return;
        throw unknownProfile(profile);
      }
      const words = complaint.trim().split("\n").at(-1) ?? "";
      throw explain(status, words) ??
        new AppjailError("copy-failed", `On ${host}: ${printable(words)}`);
    },
    start: (profile, ends) => {
      const [, , script = ""] = copierCommand(programInJail);
      // Wherever ssh begins there, the copier begins in the home that it finds in the jail.
      const command = ["sh", "-c", `cd || exit; ${script}`];
      const pid = start(["run", "-p", profile, "--no-auto-lend", "--", ...command], ends);
      const ended: Promise<ExitStatus | undefined> = endOf(pid);
      return Promise.resolve({
        ended,
        [Symbol.asyncDispose]: async () => {
          await within(ended, farewell, () => new Error("it does not end")).catch(() => {});
        },
      });
    },
    explain,
  };
}
