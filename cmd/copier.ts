/**
 * The copier: the far end of `appjail put` and `appjail get`, a program in the jail like any other,
 * with the application's uid. Its standard input and output are pipes to the client.
 *
 * It trusts nobody in the jail to leave things where they are: links lead it nowhere out of the home.
 * And nobody trusts it: what it says to a client may be the word of another program.
 *
 * @module
 */
import * as v from "valibot";
import { duplicate, type Fd } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { CopyReader, CopyWriter, Piece, records } from "../core/copy-stream.ts";
import { receiveAll, refuseToOverwrite, Staging } from "../core/copy-receive.ts";
import { sendAll, type Source, splitPath } from "../core/copy-send.ts";
import { AppjailError, asAppjailError, exitFailure, wordsOf } from "../core/errors.ts";
import {
  openFolder,
  openFolderBy,
  provePowerless,
  raiseDescriptorLimit,
  setUmask,
} from "../core/kernel.ts";
import { printable } from "../core/log.ts";
import { protocolVersion } from "../core/protocol.ts";
import { begin } from "../core/role.ts";

/** Runs the copier, in the folder that is the profile's home. */
export async function copier(text: string): Promise<number> {
  begin("copier", v.strictObject({}), text, []);
  provePowerless(null);
  setUmask(0o077);
  // Each folder on the way down is open.
  raiseDescriptorLimit();
  using input = duplicate(0);
  using output = duplicate(1);
  const stop = (): void => [input, output].forEach((end) => end.close());
  // Whoever ends it, it takes away what it has begun.
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, stop);
  }
  const answers = new CopyWriter(output);
  try {
    using home = openFolder("root", ".");
    await serve(home, new CopyReader(input), answers);
    return 0;
  } catch (error) {
    const { message } = asAppjailError(error);
    try {
      await answers.record({ type: "failed", message: message.slice(0, 8000) });
      await answers.flush();
    } catch {
      // Nobody listens any more.
    }
    return exitFailure;
  }
}

async function serve(home: Fd, asked: CopyReader, answers: CopyWriter): Promise<void> {
  const request = await asked.next(records.asked);
  if (request === undefined || request instanceof Piece) throw new Error("nothing was asked for");
  if (request.type !== "send" && request.type !== "receive") throw new Error("no request");
  if (request.version !== protocolVersion) {
    throw new AppjailError(
      "protocol",
      "The jail was started by another version of appjail; appjail stop ends it",
    );
  }
  const paths: string[] = [];
  for (;;) {
    const next = await asked.next(records.asked);
    if (next === undefined || next instanceof Piece) throw new Error("the request is cut short");
    if (next.type === "go") break;
    if (next.type === "path") paths.push(next.path);
  }
  if (request.type === "send") {
    using keeps = new DisposableStack();
    const sources = paths.map((path): Source => {
      const { folder, name } = splitPath(path);
      return { folder: keeps.use(reach(home, folder, path)), name, shown: path };
    });
    await sendAll(answers, sources, {
      measure: request.measure,
      skipped: (skipped) => answers.record(skipped),
    });
    return;
  }
  using target = reach(home, request.folder, request.folder);
  const where = request.folder === "." ? "" : `${request.folder}/`;
  if (!request.force) refuseToOverwrite(target, paths, where);
  using staging = Staging.make(target);
  await answers.record({ type: "ready" });
  await answers.flush();
  await receiveAll(asked, staging, {
    names: paths,
    mask: 0,
    skipped: () => {},
    measured: () => {},
    copied: () => {},
  });
  staging.commit(paths, request.force, where);
  await answers.record({ type: "arrived" });
  await answers.flush();
}

/**
 * A folder by the path that the person gave. A relative one is meant from the home and leads to
 * nothing outside of it; an absolute one leads there without any link.
 */
function reach(home: Fd, path: string, shown: string): Fd {
  try {
    const own = Deno.cwd();
    if (path === own || path.startsWith(`${own}/`)) {
      return openFolderBy(home, `.${path.slice(own.length)}`, "beneath");
    }
    return path.startsWith("/")
      ? openFolderBy("root", path, "no links")
      : openFolderBy(home, path, "beneath");
  } catch (error) {
    const why = isErrno(error, "EXDEV")
      ? "a link on the way leads out of the home"
      : isErrno(error, "ENOENT")
      ? "there is no such folder in the jail"
      : wordsOf(error);
    const message = `Cannot reach ${printable(shown)}: ${printable(why)}`;
    throw new AppjailError("copy-failed", message, { cause: error });
  }
}
