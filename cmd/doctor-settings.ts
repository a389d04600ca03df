/**
 * What the daemon would be told, as far as the doctor needs it, and what is wrong with that.
 *
 * @module
 */
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  type Looker,
  ok,
  unknown,
} from "../core/diagnosis.ts";
import { type AppjailError, asAppjailError, wordsOf } from "../core/errors.ts";
import { hostText } from "../core/host.ts";
import { statusAt } from "../core/kernel.ts";
import type { HelperOptions } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";
import type { RangeFile } from "../core/check-uids.ts";
import type { World } from "./client.ts";
import {
  configurationOf,
  type DaemonFlags,
  defaultConfig,
  settle,
  shippedProfiles,
} from "./daemon.ts";

/** What the daemon's words and file come to. */
export interface Settings {
  /** `undefined`: nothing that the daemon would start with. */
  readonly options: HelperOptions | undefined;
  /** Whether the dispatcher's user is there; the options have another one otherwise. */
  readonly hasUser: boolean;
  readonly checks: readonly Check[];
  readonly rangeFile: RangeFile | null;
}

/** In the place of a dispatcher's user that is not there, so that the rest can be looked at. */
const standIn = "65534";

/** Reads them, as the daemon would. */
export async function readSettings(flags: DaemonFlags, world: World): Promise<Settings> {
  const path = flags.config ?? defaultConfig;
  const checksFor = (configuration: Check["look"], user: Check["look"]): readonly Check[] => [
    { name: "configuration", look: configuration },
    { name: "dispatcher-user", after: ["configuration"], look: user },
  ];
  const nothing = { options: undefined, hasUser: false };
  const rangeFile = flags.uidRange !== undefined
    ? null
    : { path, says: /^\s*uid_range\s*=/m.test(hostText(path)) };
  const settled = (
    config: Awaited<ReturnType<typeof configurationOf>>,
    user: string | undefined,
  ): HelperOptions | AppjailError => {
    try {
      return settle({ ...flags, user }, config, world.env, shippedProfiles(world.script));
    } catch (error) {
      return asAppjailError(error);
    }
  };
  let config: Awaited<ReturnType<typeof configurationOf>>;
  try {
    config = await configurationOf(flags.config);
  } catch (error) {
    const look = (looker: Looker): Finding => refused(looker, path, wordsOf(error));
    return { ...nothing, checks: checksFor(look, () => unknown("")), rangeFile };
  }
  const well = statusAt("root", path) === undefined ? `there is no ${path}, nor need one be` : path;
  const whole = settled(config, flags.user);
  if (!(whole instanceof Error)) {
    const user = ok(`uid ${whole.dispatcher_uid}`);
    return {
      options: whole,
      hasUser: true,
      checks: checksFor(() => ok(well), () => user),
      rangeFile,
    };
  }
  const without = settled(config, standIn);
  if (without instanceof Error) {
    const look = (): Finding => failure(whole.message, null);
    return { ...nothing, checks: checksFor(look, () => unknown("")), rangeFile };
  }
  // It is about the user alone; for one that is not there, the daemon says how to make them.
  const [words = "", mend] = whole.message.split("; try: ");
  const look = (looker: Looker): Finding =>
    failure(words, mend === undefined ? null : asRoot(looker, mend));
  return { options: without, hasUser: false, checks: checksFor(() => ok(well), look), rangeFile };
}

/** Whatever the file says, it is read only when it is root's alone. */
function refused(looker: Looker, path: string, words: string): Finding {
  const status = statusAt("root", path);
  if (status !== undefined && status.uid !== 0) {
    return failure(words, asRoot(looker, `chown root:root ${quoted(path)}`));
  }
  if (status !== undefined && (status.mode & 0o022) !== 0) {
    return failure(words, asRoot(looker, `chmod go-w ${quoted(path)}`));
  }
  return failure(words, null);
}
