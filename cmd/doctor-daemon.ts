/**
 * The doctor's checks of the daemon: whether it is there, of which version it is, and what it says of
 * the caller's own profiles.
 *
 * @module
 */
import { isErrno } from "../ipc/errno.ts";
import { connect, peerOf } from "../ipc/socket.ts";
import { within } from "../core/deadline.ts";
import {
  asRoot,
  type Check,
  failure,
  type Finding,
  type Looker,
  ok,
  warning,
} from "../core/diagnosis.ts";
import { AppjailError, wordsOf } from "../core/errors.ts";
import { exists, statusBehind } from "../core/kernel.ts";
import { type DispatcherToClient, protocolVersion } from "../core/protocol.ts";
import { quoted } from "../core/shell-word.ts";
import { version } from "../core/version.ts";
import { answer, connectTo, type DispatcherChannel } from "./client.ts";

/** How long it may take to say hello. */
const deadline = 5_000;

type Of<T extends DispatcherToClient["type"]> = Extract<DispatcherToClient, { readonly type: T }>;

/** What the daemon has said. */
interface Heard {
  readonly hello: Of<"hello">;
  /** None where it speaks otherwise than we do. */
  readonly profiles: Of<"written">["profiles"];
}

/**
 * @param path its socket
 * @param starting the command that starts it by hand, as root
 */
export function daemonChecks(path: string, starting: string): readonly Check[] {
  let heard: Heard | undefined;
  const must = (): Heard => {
    if (heard === undefined) throw new Error("nothing was heard of the daemon");
    return heard;
  };
  return [
    {
      name: "daemon",
      after: ["configuration", "runtime-dir"],
      look: async (looker) => {
        try {
          heard = await hear(path);
          return ok(`it answers at ${path}`);
        } catch (error) {
          return unheard(looker, path, starting, error);
        }
      },
    },
    { name: "version", after: ["daemon"], look: (looker) => age(looker, must(), path, starting) },
    { name: "own-profiles", after: ["version", "profiles"], look: () => ownProfiles(must()) },
  ];
}

async function hear(path: string): Promise<Heard> {
  using channel = await connectTo(path);
  const first = await within(
    channel.receive(),
    deadline,
    () => new AppjailError("no-answer", "it does not say a word"),
  );
  const hello = first?.message;
  if (hello?.type !== "hello") throw new AppjailError("no-answer", "it hangs up without a hello");
  const profiles = hello.protocol === protocolVersion ? await askForProfiles(channel) : [];
  return { hello, profiles };
}

async function askForProfiles(channel: DispatcherChannel): Promise<Heard["profiles"]> {
  channel.send({ type: "written" });
  const all: Of<"written">["profiles"][number][] = [];
  for (;;) {
    const message = await answer(channel);
    if (message === undefined) throw new AppjailError("lost", "it hangs up without an answer");
    if (message.type === "done") return all;
    if (message.type === "written") all.push(...message.profiles);
  }
}

function unheard(looker: Looker, path: string, starting: string, error: unknown): Finding {
  const cause = error instanceof AppjailError ? error.cause : undefined;
  if (isErrno(cause, "ENOENT", "ECONNREFUSED")) {
    const there = statusBehind(path) !== undefined;
    return failure(
      there ? `nobody listens at ${path}, although it is there` : `there is no ${path}`,
      asRoot(looker, isUnit() ? "systemctl start appjail" : starting),
    );
  }
  if (isErrno(cause, "EACCES")) {
    return failure(`you may not connect to ${path}`, asRoot(looker, `chmod 666 ${quoted(path)}`));
  }
  return failure(`${path}: ${wordsOf(error)}`, restarting(looker, path, starting));
}

function age(looker: Looker, { hello }: Heard, path: string, starting: string): Finding {
  const theirs = `the daemon is ${hello.version}, of protocol ${hello.protocol}`;
  const ours = `this program ${version}, of protocol ${protocolVersion}`;
  if (hello.protocol !== protocolVersion) {
    return failure(`${theirs}, and ${ours}`, restarting(looker, path, starting));
  }
  if (hello.version !== version) {
    return warning(`${theirs}, and ${ours}`, restarting(looker, path, starting));
  }
  return ok(`${version}, of protocol ${protocolVersion}, as this program`);
}

/** Whether systemd has a unit for it, and is there to start it. */
function isUnit(): boolean {
  return exists("/run/systemd/system") &&
    ["/etc", "/usr/local/lib", "/usr/lib", "/lib"].some((folder) =>
      exists(`${folder}/systemd/system/appjail.service`)
    );
}

/** The command that ends the daemon and starts it again; the jails go on meanwhile. */
function restarting(looker: Looker, path: string, starting: string): string {
  if (isUnit()) return asRoot(looker, "systemctl restart appjail");
  using socket = connect(path);
  const { pid } = peerOf(socket.number);
  return asRoot(looker, `kill ${pid}; tail --pid=${pid} -f /dev/null; ${starting}`);
}

function ownProfiles({ profiles }: Heard): Finding {
  const ill = profiles.filter(({ problems }) => problems > 0);
  const [first, ...more] = ill;
  if (first === undefined) return ok(`all of yours can be used: ${profiles.length}`);
  return warning(
    `${first.profile} cannot be used${more.length > 0 ? `, and ${more.length} more` : ""}`,
    `appjail profile edit ${first.profile}`,
  );
}
