/**
 * Another machine, as far as ssh can tell: a real sshd with a configuration, keys and a network of its
 * own, in front of a world's daemon. The machine's own sshd, if it has one, is not touched.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { unpackedRoot } from "../../packaging/unpacked.ts";
import { pathOfProgram, Place } from "../jail/place.ts";
import {
  type ClientOptions,
  execute,
  type Outcome,
  program,
  uA,
  until,
  World,
} from "../jail/world.ts";
import { Terminal, type TerminalOptions } from "./driver.ts";

const sshd = "/usr/sbin/sshd";

export class FarMachine implements AsyncDisposable {
  readonly world: World;
  readonly #place: Place;
  readonly #server: Deno.ChildProcess;
  readonly #config: string;
  #log = "";
  readonly #drained: Promise<void>;

  private constructor(world: World, place: Place, server: Deno.ChildProcess, config: string) {
    this.world = world;
    this.#place = place;
    this.#server = server;
    this.#config = config;
    this.#drained = (async () => {
      for await (const text of server.stderr.pipeThrough(new TextDecoderStream())) {
        this.#log += text;
      }
    })();
  }

  /** uA is at home there, and may come in by a key. */
  static async start(world: World): Promise<FarMachine> {
    const folder = `${world.folder}/ssh`;
    await Deno.mkdir(folder);
    for (const name of ["home", "bin"]) await Deno.mkdir(`${folder}/${name}`);
    await Deno.symlink("/bin/sh", `${folder}/bin/sh`);
    const place = await Place.start(`${world.folder}/far`, { network: true });
    const user = (await place.must(`id -un ${uA}`)).trim();
    if (readText(sshd) === undefined) {
      // Its files, over those of this machine, for whoever is in here.
      const files = unpackedRoot("openssh-server");
      await place.must(`mount -t overlay overlay -o lowerdir=${files}/usr:/usr /usr`);
    }
    await place.must(
      `mkdir -p /run/sshd && cd ${folder} &&
       { id sshd >/dev/null 2>&1 || useradd --system --home-dir /run/sshd sshd; } &&
       usermod --shell /bin/sh --home ${folder}/home ${user} &&
       for key in host mine other; do ssh-keygen -q -t ed25519 -N '' -C '' -f $key; done &&
       cp mine.pub authorized && chown -R ${uA}:${uA} home mine other && chmod 755 . &&
       echo "[127.0.0.1]:2222 $(cat host.pub)" > known`,
    );
    const { PATH: paths = "" } = pathOfProgram();
    await Deno.writeTextFile(
      `${folder}/sshd_config`,
      [
        "ListenAddress 127.0.0.1:2222",
        "ListenAddress 127.0.0.1:2224",
        `HostKey ${folder}/host`,
        `AuthorizedKeysFile ${folder}/authorized`,
        "StrictModes no",
        "PidFile none",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        // What it would say to people.
        "PrintMotd no",
        "PrintLastLog no",
        // A machine's own settings, to which the daemon's socket belongs here.
        `SetEnv PATH=${paths} APPJAIL_SOCKET=${world.socket}`,
        // One on which nobody has installed it.
        "Match LocalPort 2224",
        `  SetEnv PATH=${folder}/bin`,
        "",
      ].join("\n"),
    );
    const host = (name: string, ...more: readonly string[]): string =>
      [`Host ${name}`, ...more, ""].join("\n");
    await Deno.writeTextFile(
      `${folder}/config`,
      [
        host("refused", `IdentityFile ${folder}/other`),
        host("stranger", "UserKnownHostsFile /dev/null"),
        host("shut", "Port 2223"),
        host("nowhere", "HostName nowhere.invalid"),
        host("without", "Port 2224", "HostKeyAlias [127.0.0.1]:2222"),
        host("* !refused", `IdentityFile ${folder}/mine`),
        host(
          "*",
          "HostName 127.0.0.1",
          "Port 2222",
          `User ${user}`,
          "IdentitiesOnly yes",
          "IdentityAgent none",
          `UserKnownHostsFile ${folder}/known`,
          "GlobalKnownHostsFile /dev/null",
          "StrictHostKeyChecking yes",
          "BatchMode yes",
        ),
      ].join("\n"),
    );
    const [command = "", ...args] = place.words([sshd, "-D", "-e", "-f", `${folder}/sshd_config`]);
    const server = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      // A ^C is for whoever watches.
      detached: true,
    }).spawn();
    const machine = new FarMachine(world, place, server, `${folder}/config`);
    await until("it listens", () => machine.#log.includes("Server listening on"));
    return machine;
  }

  /** What its sshd has logged. */
  get log(): string {
    return this.#log;
  }

  #environment(env: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
    // Of this machine's own daemon there is no word.
    return { ...pathOfProgram(), APPJAIL_SSH: `ssh -F ${this.#config}`, ...env };
  }

  /** The words of a client. @param before what stands before it */
  words(
    args: readonly string[],
    host = "far",
    before: readonly string[] = [],
  ): readonly string[] {
    return this.#place.words([...before, ...program(), "-H", host, ...args], uA);
  }

  /** Asks from the near machine, as uA; to its end. */
  async client(
    args: readonly string[],
    { env, host, cwd = "/", ...rest }: Omit<ClientOptions, "uid"> & { readonly host?: string } = {},
  ): Promise<Outcome> {
    const words = this.words(args, host, ["env", `--chdir=${cwd}`]);
    return await execute(words, { ...rest, env: this.#environment(env) });
  }

  /** `appjail run -p PROFILE -- ARGV…`, which has to succeed; its output without the last newline. */
  async run(profile: string, argv: readonly string[], stdin?: string): Promise<string> {
    const { code, stdout, stderr } = await this.client(
      ["run", "-p", profile, "--", ...argv],
      stdin === undefined ? {} : { stdin },
    );
    assert.equal(code, 0, `${argv.join(" ")}: ${stderr}\n${this.#log.slice(-2000)}`);
    return stdout.replace(/\n$/, "");
  }

  /** Has another shell be the login shell there. */
  async useShell(path: string): Promise<void> {
    await this.#place.must(`usermod --shell ${path} "$(id -un ${uA})"`);
  }

  atTerminal(args: readonly string[], options: TerminalOptions = {}): Terminal {
    return Terminal.start(this.words(args), {
      cwd: this.world.folder,
      ...options,
      env: this.#environment(options.env),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.kill("SIGTERM");
    await this.#server.status;
    await this.#drained;
    await this.#place[Symbol.asyncDispose]();
  }
}
