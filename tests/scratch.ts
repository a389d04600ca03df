/**
 * What tests hold for a while: a folder of their own, and the descriptors that are open.
 *
 * @module
 */
import { deepEqual } from "node:assert/strict";

/** A temporary folder, removed with all that is in it. */
export class Scratch implements Disposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "scratch-" });

  /** Writes a file, and returns its path. */
  file(name: string, text = "", mode = 0o644): string {
    const path = `${this.path}/${name}`;
    Deno.writeTextFileSync(path, text);
    Deno.chmodSync(path, mode);
    return path;
  }

  folder(name: string): string {
    const path = `${this.path}/${name}`;
    Deno.mkdirSync(path);
    return path;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** Every open descriptor of this process, and what it is. */
export function openDescriptors(): ReadonlyMap<number, string> {
  const open = new Map<number, string>();
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      open.set(Number(name), Deno.readLinkSync(`/proc/self/fd/${name}`));
    } catch {
      // That of the listing itself.
    }
  }
  return open;
}

/** Whether a descriptor of this process is closed when it becomes another program. */
export function isCloseOnExec(fd: number): boolean {
  const flags = /^flags:\t(\d+)$/m.exec(Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`))?.[1];
  return (Number.parseInt(flags ?? "0", 8) & 0o2000000) !== 0;
}

/** Does something after which the same descriptors are open as before. */
export async function leakingNothing(body: () => void | Promise<void>): Promise<void> {
  const before = openDescriptors();
  await body();
  const after = openDescriptors();
  const only = (these: typeof before, others: typeof before): readonly string[] =>
    [...these].filter(([fd, what]) => others.get(fd) !== what).map((one) => one.join(" is "));
  deepEqual({ opened: only(after, before), closed: only(before, after) }, {
    opened: [],
    closed: [],
  });
}
