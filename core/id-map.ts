/**
 * A user namespace that says which uid stands for which: what a person's files are to a jail.
 *
 * Run by the helper. A namespace can only be made by a process that enters it, and a live Deno cannot:
 * so unshare(1) is started, as nothing but root without a word of anybody's, and is let go as soon as
 * the namespace is held by a descriptor. user_namespaces(7).
 *
 * @module
 */
import { Fd, open, pipe, readSome, writeAll } from "../ipc/fd.ts";
import { poller } from "../ipc/poller.ts";
import { within } from "./deadline.ts";
import { spawn } from "./kernel.ts";
import { roleEnvironment } from "./launch.ts";
import type { AppUid } from "./names.ts";
import { unshare } from "./programs.ts";

const cat = "/bin/cat";
/** It takes two milliseconds. */
const deadline = 10_000;

/** Who is who: the owner of files on the host, and the app that has them in its jail. */
export interface IdMap {
  readonly uid: number;
  readonly gid: number;
  readonly app: AppUid;
}

/**
 * Makes the namespace. One id is mapped, and one group: whoever else owns something is nobody there.
 *
 * @returns what mount_setattr(2) takes; to be kept for as long as it is needed
 */
export async function makeIdMap({ uid, gid, app }: IdMap): Promise<Fd> {
  const asked = pipe();
  const told = pipe({ nonblocking: true });
  using hold = asked.write;
  using echo = told.read;
  let pid: number;
  {
    using standardInput = asked.read;
    using standardOutput = told.write;
    using nothing = open("/dev/null", 2);
    pid = spawn({
      path: unshare,
      argv: [unshare, "--user", "--", cat],
      env: roleEnvironment,
      descriptors: [standardInput.number, standardOutput.number, nothing.number],
      cwd: "/",
      session: true,
    });
  }
  // What comes back has gone through cat: the namespace is there, and it stays until `hold` is closed.
  writeAll(hold.number, new Uint8Array([10]));
  const failed = (why: string): Error => new Error(`no user namespace can be made: ${why}`);
  await within(poller.readable(echo.number), deadline, () => failed("unshare does not answer"));
  if (readSome(echo.number, new Uint8Array(1)) !== 1) throw failed("unshare has failed");
  // It is our own child, lives, and was not waited for: the pid is its own.
  for (const [file, id] of [["uid_map", uid], ["gid_map", gid]] as const) {
    using map = open(`/proc/${pid}/${file}`, 1);
    writeAll(map.number, new TextEncoder().encode(`${id} ${app} 1\n`));
  }
  return open(`/proc/${pid}/ns/user`, 0);
}
