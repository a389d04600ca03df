/**
 * How the copier comes to run: through the daemon of this machine. cmd/copy-far.ts is the other way.
 *
 * @module
 */
import type { Fd } from "../ipc/fd.ts";
import { AppjailError } from "../core/errors.ts";
import { copierCommand } from "../core/launch.ts";
import type { ProfileName } from "../core/names.ts";
import { programInJail } from "../core/plan.ts";
import type { ExitStatus } from "../core/protocol.ts";
import { noSession } from "../core/session.ts";
import { answer, ask, connectTo, type DispatcherChannel, type World } from "./client.ts";

/** A copier that runs, or is to. */
export interface Carried extends AsyncDisposable {
  /**
   * How it ended; `undefined` when that is not known any more.
   *
   * @throws {AppjailError} when it was not started
   */
  readonly ended: Promise<ExitStatus | undefined>;
}

/** Who brings the copier to run in a profile's jail, with the other ends of our pipes. */
export interface Carrier {
  /** A profile is not made for the sake of taking something out of it. */
  readonly mustExist: (profile: ProfileName) => Promise<void>;
  /** @param ends its standard streams, which are closed here */
  readonly start: (profile: ProfileName, ends: readonly Fd[]) => Promise<Carried>;
  /** What its end means where it is not the copier's own. @param words the last that were heard */
  readonly explain: (status: ExitStatus | undefined, words: string) => AppjailError | undefined;
}

/** @param path the dispatcher's socket */
export function nearCarrier(path: string, { env }: World): Carrier {
  return {
    mustExist: async (profile) => {
      for await (const message of ask(path, { type: "profiles" })) {
        if (message.type !== "listed") continue;
        if (message.profiles.some((one) => one.profile === profile)) return;
      }
      throw unknownProfile(profile);
    },
    start: async (profile, ends) => {
      const channel = await connectTo(path, { env, fd: undefined });
      channel.send(
        {
          type: "run",
          profile,
          argv: [...copierCommand(programInJail)],
          cwd: null,
          cwd_required: true,
          env: {},
          inherited: {},
          session: noSession,
          lend: [],
          terminal: null,
          stdio: "passed",
        },
        ends,
      );
      return {
        ended: untilEnded(channel),
        [Symbol.asyncDispose]: () => Promise.resolve(channel.close()),
      };
    },
    explain: () => undefined,
  };
}

export function unknownProfile(profile: ProfileName): AppjailError {
  return new AppjailError("unknown-profile", `You have no profile "${profile}"`);
}

/** How the copier ended; `undefined` when the daemon went away. Throws when it was not started. */
async function untilEnded(channel: DispatcherChannel): Promise<ExitStatus | undefined> {
  for (;;) {
    const message = await answer(channel);
    if (message === undefined) return undefined;
    if (message.type === "exited") return message.status;
  }
}
