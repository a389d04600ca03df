/**
 * Finds what a test run left on the machine: processes, mounts, files and users.
 *
 * @module
 */
import { groupsLeft } from "./cgroups.ts";

/** sys/prctl.h; the number is the same on every architecture. */
const PR_SET_CHILD_SUBREAPER = 36;

/** How long a process that is on its way out may take. */
const graceMs = 5_000;

/** sys/wait.h; the number is the same on every architecture. */
const WNOHANG = 1;

export interface Libc extends Disposable {
  /** Makes this process the new parent of every descendant that loses its own (prctl(2)). */
  becomeSubreaper(): void;
  /**
   * Waits for the children that have ended, as an init does (waitpid(2)), but for `own`, which
   * somebody else waits for. A test may look for what a uid has left, zombies too.
   */
  reap(own: ReadonlySet<number>): void;
}

export function dlopenLibc(): Libc {
  const libc = Deno.dlopen("libc.so.6", {
    prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
    waitpid: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  });
  return {
    becomeSubreaper() {
      if (libc.symbols.prctl(PR_SET_CHILD_SUBREAPER, 1n, 0n, 0n, 0n) !== 0) {
        throw new Error("Cannot watch for processes that the tests leave: prctl failed");
      }
    },
    reap(own) {
      for (const { pid, parent, ended } of processes()) {
        if (ended && parent === Deno.pid && !own.has(pid)) libc.symbols.waitpid(pid, null, WNOHANG);
      }
    },
    [Symbol.dispose]: () => libc.close(),
  };
}

interface Status {
  readonly pid: number;
  readonly parent: number;
  readonly ended: boolean;
  readonly name: string;
}

/** Every process of the machine, as proc_pid_stat(5) tells of it. */
function processes(): readonly Status[] {
  return [...Deno.readDirSync("/proc")].flatMap(({ name: pid }) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
      // The command's name, in parentheses, may hold anything; fields go on after it.
      const end = stat.lastIndexOf(")");
      const [state, parent] = stat.slice(end + 2).split(" ");
      return [{
        pid: Number(pid),
        parent: Number(parent),
        ended: state === "Z" || state === "X",
        name: stat.slice(stat.indexOf("(") + 1, end),
      }];
    } catch {
      return []; // It ended meanwhile.
    }
  });
}

export interface Process {
  readonly pid: number;
  readonly command: string;
}

/** The live descendants of this process, those that ended but were not waited for excepted. */
export function remaining(): readonly Process[] {
  const alive = processes().filter(({ ended }) => !ended);
  const parents = new Map(alive.map(({ pid, parent }) => [pid, parent]));
  const isOurs = (pid: number): boolean => {
    for (let at = parents.get(pid); at !== undefined && at > 1; at = parents.get(at)) {
      if (at === Deno.pid) return true;
    }
    return false;
  };
  return alive.filter(({ pid }) => isOurs(pid)).map(({ pid, name }) => {
    let words = "";
    try {
      words = Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
    } catch {
      // It ended meanwhile.
    }
    return { pid, command: words || name };
  });
}

/** What a run could change on the machine; each line is a thing that can be named to a person. */
export interface MachineState {
  readonly mounts: ReadonlySet<string>;
  readonly files: ReadonlySet<string>;
  readonly users: ReadonlySet<string>;
}

/** The folders that a run of the program with its default settings writes to. */
const watched: readonly string[] = ["/run", "/var/lib", "/data", "/tmp", "/var/tmp", "/dev/shm"];

/** Where something is mounted, as mountinfo (proc_pid_mountinfo(5)) names it. */
function mountPoints(): readonly string[] {
  return Deno.readTextFileSync("/proc/self/mountinfo").trim().split("\n")
    .map((line) =>
      (line.split(" ")[4] ?? "").replace(
        /\\([0-7]{3})/g,
        (_all, octal: string) => String.fromCharCode(parseInt(octal, 8)),
      )
    );
}

/**
 * Removes a folder of a run, once what is mounted in it is unmounted. To remove files through a
 * mount that a broken test left would be to remove somebody else's: then it stays.
 */
export function removeUnlessMounted(folder: string): void {
  const inside = () => mountPoints().filter((path) => path.startsWith(`${folder}/`));
  for (const path of inside().reverse()) {
    new Deno.Command("umount", { args: ["--", path], stderr: "inherit" }).outputSync();
  }
  const [mounted] = inside();
  if (mounted !== undefined) throw new Error(`${mounted} is still mounted; try: umount ${mounted}`);
  Deno.removeSync(folder, { recursive: true });
}

export function machineState(): MachineState {
  const files: string[] = [];
  for (const folder of watched) {
    try {
      for (const { name } of Deno.readDirSync(folder)) {
        // Other programs use these folders, and other runs of the tests: look for our names alone.
        const ours = folder === "/data" || (/appjail/i.test(name) && !/^appjail-test-/.test(name));
        if (!ours) continue;
        files.push(`${folder}/${name}`);
        if (folder === "/data" || folder === "/tmp") continue;
        for (const inner of Deno.readDirSync(`${folder}/${name}`)) {
          files.push(`${folder}/${name}/${inner.name}`);
        }
      }
    } catch {
      // The folder does not exist, is not one, or is not ours to read: then a run made nothing there.
    }
  }
  return {
    mounts: new Set(mountPoints()),
    files: new Set(files),
    users: new Set(
      ["/etc/passwd", "/etc/group"].flatMap((path) =>
        Deno.readTextFileSync(path).trim().split("\n").map((line) => `${line} (${path})`)
      ),
    ),
  };
}

/** The files below a folder, down to `depth` levels. */
function filesIn(folder: string, depth: number): readonly string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory && depth > 1 ? filesIn(`${folder}/${name}`, depth - 1) : `${folder}/${name}`
  );
}

/**
 * What has come since `before`, or lies in the folders of `temporary`, in words; processes get some
 * time to go.
 */
export async function leftoversOf(
  before: MachineState,
  temporary: string,
): Promise<readonly string[]> {
  const deadline = Date.now() + graceMs;
  while (remaining().length > 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const after = machineState();
  const added = (was: ReadonlySet<string>, is: ReadonlySet<string>) => [...is.difference(was)];
  // Another run's.
  const foreign = (path: string) =>
    path.startsWith("/tmp/appjail-test-") && !path.startsWith(`${temporary}/`);
  return [
    ...remaining().map(({ pid, command }) => `process ${pid}: ${command.slice(0, 200)}`),
    ...added(before.mounts, after.mounts).filter((path) => !foreign(path))
      .map((path) => `the mount ${path}`),
    ...added(before.files, after.files).map((path) => `the file ${path}`),
    ...added(before.users, after.users).map((line) => `the entry ${line}`),
    ...groupsLeft().filter((path) => path.includes(temporary.replaceAll("/", "-")))
      .map((path) => `the control group ${path}`),
    ...filesIn(temporary, 2).map((path) => `the temporary file ${path}`),
  ];
}
