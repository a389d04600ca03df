/**
 * A place in which a test can break the machine, and mend it: a mount namespace of its own, with its
 * own /etc, /run and /var/log, and if wanted a user namespace. Nothing of the machine outside changes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { asUser, execute, type Outcome, program, until } from "./world.ts";

export interface PlaceOptions {
  /** Root is root of a user namespace of its own, in which everybody is who they are outside. */
  readonly users?: boolean;
}

/** How a command runs in a place. */
export interface Manner {
  readonly uid?: number | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export class Place implements AsyncDisposable {
  readonly #holder: Deno.ChildProcess;
  readonly #words: readonly string[];
  /** A folder in memory that is this place's alone. */
  readonly scratch: string;

  private constructor(holder: Deno.ChildProcess, users: boolean, scratch: string) {
    this.#holder = holder;
    this.scratch = scratch;
    this.#words = [
      ...["nsenter", "--target", String(holder.pid), "--mount"],
      ...(users ? ["--user"] : []),
      "--",
    ];
  }

  /** @param folder an empty one, where the place's own files are mounted */
  static async start(folder: string, { users = false }: PlaceOptions = {}): Promise<Place> {
    await Deno.mkdir(folder);
    const unshare = ["--mount", "--propagation", "private", ...(users ? ["--user"] : [])];
    // It holds the namespaces until its standard input ends, as it does when the test is killed.
    const holder = new Deno.Command("unshare", {
      args: [...unshare, "--", "sh", "-c", "echo ready >&2; exec cat"],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const place = new Place(holder, users, folder);
    const reader = holder.stderr.getReader();
    const first = new TextDecoder().decode((await reader.read()).value);
    reader.releaseLock();
    await holder.stderr.cancel();
    assert.equal(first, "ready\n");
    if (users) {
      for (const map of ["uid_map", "gid_map"]) {
        await Deno.writeTextFile(`/proc/${holder.pid}/${map}`, "0 0 4294967295\n");
      }
    }
    // A copy of what an administrator may change.
    await place.must(
      `mount -t tmpfs -o mode=755 tmpfs ${folder} &&
       mkdir ${folder}/etc ${folder}/run ${folder}/log && cp -a /etc/. ${folder}/etc &&
       mount --bind ${folder}/etc /etc && mount --bind ${folder}/run /run &&
       mount --bind ${folder}/log /var/log`,
    );
    return place;
  }

  get pid(): number {
    return this.#holder.pid;
  }

  /** The words that do something in here. */
  words(command: readonly string[], uid?: number): readonly string[] {
    return [...this.#words, ...asUser(uid, command)];
  }

  /** Has a shell do something, as a person would who has pasted it. */
  async shell(script: string, { uid, env = {} }: Manner = {}): Promise<Outcome> {
    return await execute(this.words(["sh", "-c", script], uid), {
      env: { ...pathOfProgram(), ...env },
    });
  }

  /** The same, which has to succeed. */
  async must(script: string, manner: Manner = {}): Promise<string> {
    const { code, stdout, stderr } = await this.shell(script, manner);
    assert.equal(code, 0, `${script}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Takes files away, as if what brings them were not installed. They come back by `bringBack`. */
  async takeAway(folder: string, ...names: readonly string[]): Promise<void> {
    const layer = `${this.scratch}/layer`;
    await this.must(
      `mkdir -p ${layer}/upper ${layer}/work && mount -t overlay overlay -o ` +
        `lowerdir=${folder},upperdir=${layer}/upper,workdir=${layer}/work ${folder} && ` +
        `cd ${folder} && rm ${names.join(" ")}`,
    );
  }

  async bringBack(folder: string): Promise<void> {
    await this.must(`umount -l ${folder} && rm -r ${this.scratch}/layer`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holder.stdin.close();
    await this.#holder.status;
    // What was started in here and is to go on would keep it.
    await until(`the place of ${this.#holder.pid} is gone`, () => {
      try {
        Deno.removeSync(this.scratch, { recursive: true });
        return true;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return true;
        throw error;
      }
    });
  }
}

/** The program that is tested is what is called appjail. */
export function pathOfProgram(): Readonly<Record<string, string>> {
  const [executable = ""] = program();
  return { PATH: `${executable.replace(/\/[^/]*$/, "")}:/usr/sbin:/usr/bin:/sbin:/bin` };
}
