/**
 * The doctor's checks of the session that it is called from: whether what its variables name is there,
 * and answers.
 *
 * @module
 */
import { SystemError } from "../ipc/errno.ts";
import { connect } from "../ipc/socket.ts";
import { type Check, type Finding, ok, warning } from "./diagnosis.ts";
import { namesIn, openFolderBehind } from "./kernel.ts";
import { desktopLends, type DesktopWish, displayNumber, type Session } from "./session.ts";

export function sessionChecks(session: Session, uid: number): readonly Check[] {
  return [
    { name: "compositor", look: () => compositor(session, uid) },
    { name: "sound", look: () => sound(session, uid) },
  ];
}

/** The socket that a jail of this person would be lent for one of its wishes. */
function socketOf(session: Session, uid: number, wish: Partial<DesktopWish>): string {
  const lends = desktopLends({ display: "none", audio: "none", ...wish }, session, {
    owner: uid,
    uid,
  });
  return lends[0]?.path ?? "";
}

/** Why nobody can be reached at a socket; `undefined`: somebody can. */
function deafness(path: string): string | undefined {
  try {
    connect(path).close();
    return undefined;
  } catch (error) {
    if (error instanceof SystemError) return error.message;
    throw error;
  }
}

function compositor(session: Session, uid: number): Finding {
  const { WAYLAND_DISPLAY: wayland, DISPLAY: x11 } = session;
  if (wayland) {
    const path = socketOf(session, uid, { display: "wayland" });
    const trouble = deafness(path);
    if (trouble === undefined) return ok(`a compositor listens at ${path}`);
    const other = waylandIn(path.replace(/\/[^/]*$/, ""));
    return warning(
      `WAYLAND_DISPLAY is ${wayland}, and no compositor listens there: ${trouble}`,
      other === undefined ? "unset WAYLAND_DISPLAY" : `export WAYLAND_DISPLAY=${other}`,
    );
  }
  if (!x11) return ok("this session has no windows: neither WAYLAND_DISPLAY nor DISPLAY is set");
  if (displayNumber(x11) === undefined) {
    return warning(`DISPLAY is ${x11}, which is not on this machine: no jail reaches it`, null);
  }
  const path = socketOf(session, uid, { display: "x11" });
  const trouble = deafness(path);
  if (trouble === undefined) return ok(`an X server listens at ${path}, which isolates nothing`);
  return warning(`DISPLAY is ${x11}, and no X server listens there: ${trouble}`, "unset DISPLAY");
}

/** A compositor's socket in a folder, by its name. */
function waylandIn(folder: string): string | undefined {
  try {
    using place = openFolderBehind(folder);
    return namesIn(place).filter((name) => /^wayland-\d+$/.test(name)).sort()
      .find((name) => deafness(`${folder}/${name}`) === undefined);
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}

/** Who may play what a jail has to say, and which variable names another socket of theirs. */
const servers = [
  ["PipeWire", "pipewire", "PIPEWIRE_REMOTE"],
  ["PulseAudio", "pulse", "PULSE_SERVER"],
] as const;

function sound(session: Session, uid: number): Finding {
  const found: string[] = [];
  for (const [server, audio, variable] of servers) {
    const path = socketOf(session, uid, { audio });
    const trouble = deafness(path);
    if (trouble === undefined) found.push(`${server} listens at ${path}`);
    else if (session[variable]) {
      return warning(
        `${variable} is ${session[variable]}, and nobody listens there: ${trouble}`,
        `unset ${variable}`,
      );
    }
  }
  if (found.length > 0) return ok(found.join(", "));
  if (!session.WAYLAND_DISPLAY && !session.DISPLAY) {
    return ok("this session has no sound, nor windows");
  }
  return warning(
    "neither PipeWire nor PulseAudio listens in this session: a jail has no sound",
    "systemctl --user start pipewire.socket pipewire-pulse.socket",
  );
}
