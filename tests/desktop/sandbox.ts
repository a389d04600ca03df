/**
 * The sandbox that a browser has of its own: what shows pages is more confined than its main process.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { appProcesses, firstUid, until } from "../jail/world.ts";

/** How many filters for system calls a process is under. proc_pid_status(5). */
export function filtersOf(pid: number): number {
  const status = readText(`/proc/${pid}/status`) ?? "";
  return Number(/^Seccomp_filters:\s*(\d+)$/m.exec(status)?.[1] ?? 0);
}

/** The processes of the first profile whose command line is like this; what was forked has it too. */
function processesLike(command: RegExp): readonly number[] {
  return appProcesses(firstUid).filter((pid) =>
    command.test((readText(`/proc/${pid}/cmdline`) ?? "").replaceAll("\0", " "))
  );
}

function namespaceOf(pid: number, kind: string): string {
  return Deno.readLinkSync(`/proc/${pid}/ns/${kind}`);
}

/**
 * Looks at those that show pages: each has a filter more than the main process, and is in namespaces of
 * the sandbox's own: of users, so it was made without a program that has root's rights, and of the
 * network, in which there is none.
 */
export async function hasItsSandbox(main: RegExp, content: RegExp): Promise<void> {
  const [first, ...more] = processesLike(main);
  assert(first !== undefined && more.length === 0, `the main process is one: ${first}, ${more}`);
  // One that is there in advance is forked first, and goes into its sandbox then.
  await until("all that show pages are under a filter of their own", () => {
    const found = processesLike(content);
    return found.length > 0 && found.every((pid) => filtersOf(pid) > filtersOf(first));
  });
  for (const pid of processesLike(content)) {
    for (const kind of ["user", "pid", "net"]) {
      assert.notEqual(namespaceOf(pid, kind), namespaceOf(first, kind), kind);
    }
  }
}
