/**
 * The machine that the documentation tells of: alice, a person, is at home in /home/alice, and a daemon
 * serves her, with the profiles that come with the program. All of it lies in a scratch folder and is
 * seen from a mount namespace of its own.
 *
 * @module
 */
import assert from "node:assert/strict";
import { asUser, execute, firstUid, type Outcome, ownEtc, World } from "./jail/world.ts";

/** A person's, below the uids of every run's profiles. */
const alice = 1050;

/** Who says every passphrase, in the world's own /etc. */
const askpass = "etc/askpass";

const shipped = Deno.realPathSync(`${import.meta.dirname}/../profiles`);

export class DocsWorld implements AsyncDisposable {
  readonly #world: World;

  private constructor(world: World) {
    this.#world = world;
  }

  static async start(): Promise<DocsWorld> {
    const world = await World.start({
      bus: true,
      profiles: shipped,
      // Whoever joins in the next line finds the jail, however busy the machine is.
      linger: 20,
      before: async (folder) => {
        await ownEtc.before(folder);
        const line = `alice:x:${alice}:${alice}:Alice:/home/alice:/bin/bash\n`;
        await Deno.writeTextFile(`${folder}/etc/passwd`, line, { append: true });
        await Deno.writeTextFile(`${folder}/etc/group`, `alice:x:${alice}:\n`, { append: true });
        await Deno.writeTextFile(`${folder}/${askpass}`, "#!/bin/sh\necho open sesame\n");
        await Deno.chmod(`${folder}/${askpass}`, 0o755);
        await Deno.mkdir(`${folder}/home`, { mode: 0o755 });
        await Deno.mkdir(`${folder}/home/alice`, { mode: 0o700 });
        await Deno.chown(`${folder}/home/alice`, alice, alice);
      },
      wrap: (words, folder) => [
        ...["unshare", "--mount", "sh", "-c"],
        'mount --bind "$0/etc" /etc && mount --bind "$0/home" /home && exec "$@"',
        folder,
        ...words,
      ],
    });
    return new DocsWorld(world);
  }

  /** Runs a script of alice's, or of root's, in her home; its two streams are one. */
  async perform(script: string, asRoot = false): Promise<Outcome> {
    return await execute(this.words(["sh", "-c", `exec 2>&1\n${this.here(script)}`], asRoot), {
      env: this.environment,
    });
  }

  /** Her home, as it is seen from here. */
  get home(): string {
    return `${this.#world.folder}/home/alice`;
  }

  /** The words that start something there. */
  words(words: readonly string[], asRoot = false): readonly string[] {
    const person = asUser(asRoot ? 0 : alice, ["sh", "-c", 'cd && exec "$@"', "sh", ...words]);
    return ["nsenter", "--mount", `--target=${this.#world.helperPid}`, "--", ...person];
  }

  get environment(): Readonly<Record<string, string>> {
    const program = Deno.env.get("APPJAIL_EXE");
    assert(program !== undefined, "APPJAIL_EXE has to name what is tested, as deno task test does");
    return {
      PATH: `${program.replace(/\/[^/]*$/, "")}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`,
      HOME: "/home/alice",
      USER: "alice",
      LANG: "C.UTF-8",
      // Whatever is to be edited stays as it is.
      EDITOR: "true",
      APPJAIL_ASKPASS: `/${askpass}`,
      APPJAIL_SOCKET: this.#world.socket,
      DBUS_SYSTEM_BUS_ADDRESS: this.#world.busAddress,
    };
  }

  /** The usual folders, and those of this world. */
  get #folders(): readonly (readonly [usual: string, ours: string])[] {
    const { data, state, runtime } = this.#world;
    return [["/data", data], ["/var/lib/appjail", state], ["/run/appjail", runtime]];
  }

  /** What a page says with this world's folders and uids in the place of the usual ones. */
  here(text: string): string {
    let translated = text;
    for (const [usual, ours] of this.#folders) {
      translated = translated.replaceAll(new RegExp(`(?<![\\w.])${usual}(?![\\w-])`, "g"), ours);
    }
    // An object on the bus has it in its name: _1100.
    const uid = /(?<![0-9A-Za-z])11(\d\d)(?![0-9A-Za-z_])/g;
    return translated.replaceAll(uid, (_, last) => String(firstUid + Number(last)));
  }

  /** What is said here as a page has it: the way back. */
  usual(text: string): string {
    let translated = text;
    for (const [usual, ours] of this.#folders) translated = translated.replaceAll(ours, usual);
    return translated.replaceAll(/(?<![0-9A-Za-z])(\d{4,})(?![0-9A-Za-z])/g, (number) => {
      const at = Number(number) - firstUid;
      return at >= 0 && at < 100 ? String(1100 + at) : number;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#world[Symbol.asyncDispose]();
  }
}
