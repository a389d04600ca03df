/**
 * The doctor's check of the daemon's name on its bus.
 *
 * @module
 */
import { resolveBusAddress } from "../ipc/bus-connection.ts";
import { uidOfName } from "../ipc/bus-question.ts";
import { busName } from "../core/bus-policy.ts";
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  install,
  type Looker,
  ok,
} from "../core/diagnosis.ts";
import { wordsOf } from "../core/errors.ts";
import { exists } from "../core/kernel.ts";
import { busDaemon } from "../core/programs.ts";
import type { HelperOptions } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";

/** How long a bus may take to answer, in milliseconds. */
const deadline = 5_000;

export function busChecks(options: HelperOptions): readonly Check[] {
  return [{
    name: "bus-name",
    after: ["bus-policy", "daemon"],
    look: (looker) => nameOnBus(looker, options),
  }];
}

async function nameOnBus(
  looker: Looker,
  { bus, dispatcher_uid: dispatcher }: HelperOptions,
): Promise<Finding> {
  if (bus === null) return ok("the daemon is on no bus");
  let uid: number | undefined;
  // As the dispatcher does, whatever the caller's own variables say.
  const address = resolveBusAddress(bus, {});
  try {
    uid = await uidOfName(address, busName, deadline);
  } catch (error) {
    return failure(wordsOf(error), bus === "system" ? starting(looker) : null);
  }
  if (uid === undefined) {
    return failure(`nobody has the name ${busName}`, asRoot(looker, reloading(bus, address)));
  }
  if (uid === dispatcher) return ok(`uid ${uid} is ${busName}`);
  return failure(`${busName} is uid ${uid}, and the dispatcher's is ${dispatcher}`, null);
}

/** The command that starts the system bus. */
function starting(looker: Looker): string | null {
  if (!exists(busDaemon)) return install(looker, "dbus");
  return asRoot(
    looker,
    exists("/run/systemd/system")
      ? "systemctl start dbus"
      : "mkdir -p /run/dbus && rm -f /run/dbus/pid && dbus-daemon --system --fork",
  );
}

/** Has the bus read its policies again: the daemon tries to get its name every few seconds. */
function reloading(bus: string, address: string): string {
  const which = bus === "system" ? "--system" : `--bus=${quoted(address)}`;
  return `dbus-send ${which} --print-reply --dest=org.freedesktop.DBus / ` +
    "org.freedesktop.DBus.ReloadConfig >/dev/null";
}
