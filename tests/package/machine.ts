/**
 * A whole Debian 12 with systemd as its first process, fresh from the packages of the mirror that this
 * machine uses, in namespaces of its own. It lies in memory; nothing of it stays.
 *
 * @module
 */
import assert from "node:assert/strict";
import { execute, type Outcome, until } from "../jail/world.ts";

const release = "bookworm";
/** Where it lies, in a mount namespace in which nobody else is. */
const folder = "/mnt";
const systemFolders = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Where its packages come from: as this machine's own, if that is of the release. */
function sources(): string {
  const usual = "/etc/apt/sources.list.d/debian.sources";
  try {
    if (Deno.readTextFileSync(usual).includes(release)) return usual;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return "http://deb.debian.org/debian";
}

/** The children of a process. */
function childrenOf(pid: number): readonly number[] {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ")
      .filter((word) => word !== "").map(Number);
  } catch {
    return [];
  }
}

function descendantsOf(pid: number): readonly number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);
}

export class Machine implements AsyncDisposable {
  /** Ends, and everything in the machine with it, when its input does. */
  readonly #holder: Deno.ChildProcess;
  #inner = 0;
  #nspawn: Deno.ChildProcess | undefined;
  #leader = 0;

  private constructor() {
    const script = `mount -t proc proc /proc
mount -t tmpfs tmpfs ${folder}
# Where systemd-nspawn keeps what it knows of its machines.
mount -t tmpfs tmpfs /run
exec cat`;
    this.#holder = new Deno.Command("unshare", {
      args: ["--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-ec", script],
      stdin: "piped",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
  }

  /** A new one, which does not run yet. */
  static async make(): Promise<Machine> {
    const machine = new Machine();
    try {
      machine.#inner = await until("the namespaces are there", () => {
        const [child] = childrenOf(machine.#holder.pid);
        return child !== undefined &&
          Deno.readTextFileSync(`/proc/${child}/comm`).trim() === "cat" && child;
      });
      await machine.#beside([
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--include=dbus,systemd",
        release,
        `${folder}/root`,
        sources(),
      ]);
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Words of a command in the namespaces around the machine. */
  #around(words: readonly string[]): readonly string[] {
    return ["nsenter", "-t", `${this.#inner}`, "-m", "-p", "--", ...words];
  }

  async #beside(words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await execute(this.#around(words));
    assert.equal(code, 0, `${words.join(" ")}: ${stdout}\n${stderr}`);
    return stdout;
  }

  /** Puts a file of this machine into it. */
  async put(path: string, to: string): Promise<void> {
    await this.#beside(["cp", "--", path, `${folder}/root${to}`]);
  }

  #nspawnWords(...more: readonly string[]): readonly string[] {
    return this.#around([
      "systemd-nspawn",
      "--quiet",
      `--directory=${folder}/root`,
      "--machine=appjail-test",
      // There need be no systemd here.
      "--register=no",
      "--keep-unit",
      "--console=pipe",
      "--resolv-conf=copy-host",
      "--bind=/dev/fuse",
      ...more,
    ]);
  }

  /** Runs a script in it as it lies there, without a systemd. */
  async unbooted(script: string): Promise<Outcome> {
    return await execute(this.#nspawnWords("--as-pid2", "sh", "-ec", script), {
      env: { DEBIAN_FRONTEND: "noninteractive" },
    });
  }

  /** Starts it, and waits until it is up. */
  async boot(): Promise<void> {
    const [command = "", ...args] = this.#nspawnWords("--boot");
    const nspawn = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    this.#nspawn = nspawn;
    this.#leader = await until(
      "systemd is the machine's first process",
      () =>
        descendantsOf(nspawn.pid).find((pid) => {
          try {
            // Its pid in each namespace, from the outermost on. proc_pid_status(5).
            const [, pids = ""] =
              /^NSpid:\s(.*)$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`)) ??
                [];
            return Deno.readTextFileSync(`/proc/${pid}/comm`).trim() === "systemd" &&
              pids.endsWith("\t1");
          } catch {
            return false;
          }
        }),
      60,
    );
    await until("the machine is up", async () => {
      const { stdout } = await this.try("systemctl is-system-running");
      return /^(?:running|degraded)/.test(stdout);
    }, 120);
  }

  /** Shuts it down in order, as its owner would. */
  async shutDown(): Promise<void> {
    assert(this.#nspawn !== undefined);
    await this.try("systemctl poweroff");
    const { success } = await this.#nspawn.status;
    this.#nspawn = undefined;
    assert(success, "the machine did not end in order");
  }

  /** Runs a script in it, as root or as somebody else; it has to succeed. */
  async run(script: string, user = "root"): Promise<string> {
    const { code, stdout, stderr } = await this.try(script, user);
    assert.equal(code, 0, `${script}: ${stdout}\n${stderr}`);
    return stdout.trimEnd();
  }

  /** The same, however it ends. */
  async try(script: string, user = "root"): Promise<Outcome> {
    const command = ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--init-groups", "--"];
    return await execute([
      ...["nsenter", "-t", `${this.#leader}`, "--all", "--", "env", "-i"],
      ...[`PATH=${systemFolders}`, "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"],
      `HOME=${user === "root" ? "/root" : `/home/${user}`}`,
      ...user === "root" ? [] : command,
      ...["sh", "-ec", `cd; ${script}`],
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The end of its first process is that of all in these namespaces, mounts included.
    await this.#holder.stdin.close().catch(() => {});
    await this.#holder.status;
    await this.#nspawn?.status;
  }
}
