/**
 * The program itself, put where every role can reach it: a checkout may lie under a folder that only
 * root can pass, and a package may be upgraded while jails run.
 *
 * Run by the helper. The executable is mounted once more, read-only, from /proc/self/exe: no byte of
 * it is copied, it is the very file that runs now, and nothing in a jail can write to it
 * (CVE-2019-5736). The script's files, where there are any, are copied.
 *
 * @module
 */
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import {
  bindReadOnly,
  changeMode,
  createFile,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  readLink,
  removeFile,
  removeFolder,
  symbolicLink,
  touch,
  unmount,
} from "./kernel.ts";
import { reexecuted, type ReexecutedRole } from "./launch.ts";

const folderName = "program";
const executableName = "executable";

/** Where {@linkcode stageProgram} puts it, below the runtime folder. */
export function programFolder(runtimePath: string): string {
  return `${runtimePath}/${folderName}`;
}

/** The files of a program that are no executable, by their names. */
function scriptsIn(folder: string | undefined): ReadonlyMap<string, Uint8Array> {
  const scripts = new Map<string, Uint8Array>();
  if (folder === undefined) return scripts;
  using source = openFolder("root", folder);
  for (const name of namesIn(source)) {
    if (/\.(js|bundle)$/.test(name)) scripts.set(name, bytesOf(source, name));
  }
  return scripts;
}

function bytesOf(folder: Fd, name: string): Uint8Array {
  using file = openFile(folder, name);
  return readAll(file.number, 64 * 1024 * 1024);
}

/**
 * Puts the running program below the runtime folder. Where an earlier daemon has put the same one,
 * its files stay: jails that still run see them, and start the copier from there.
 *
 * @param scripts the folder of the bundled script; undefined when the executable holds it
 */
export function stageProgram(runtime: Fd, runtimePath: string, scripts: string | undefined): void {
  const files = scriptsIn(scripts);
  unstageProgram(runtime, runtimePath, (folder) => holds(folder, files));
  const target = `${programFolder(runtimePath)}/${executableName}`;
  if (!makeFolder(runtime, folderName, 0o755)) return bindReadOnly("/proc/self/exe", target);
  using folder = openFolder(runtime, folderName);
  changeMode(folder, 0o755);
  touch(folder, executableName);
  bindReadOnly("/proc/self/exe", target);
  for (const role of reexecuted) symbolicLink(executableName, folder, linkOf(role));
  for (const [name, bytes] of files) {
    using to = createFile(folder, name, 0o644);
    changeMode(to, 0o644);
    writeAll(to.number, bytes);
  }
}

function linkOf(role: ReexecutedRole): string {
  return `appjail-${role}`;
}

/** Whether a program that was put there is the same, to the last byte. */
function holds(folder: Fd, files: ReadonlyMap<string, Uint8Array>): boolean {
  const links = reexecuted.map(linkOf);
  const names = [executableName, ...links, ...files.keys()].sort();
  if (namesIn(folder).toSorted().join("\n") !== names.join("\n")) return false;
  if (links.some((name) => readLink(folder, name) !== executableName)) return false;
  return [...files].every(([name, bytes]) => {
    const there = bytesOf(folder, name);
    return there.length === bytes.length && there.every((byte, at) => byte === bytes[at]);
  });
}

/** Removes a folder of scripts that was made for one start of the daemon. */
export function discardScripts(runtime: Fd, name: string): void {
  using folder = openFolder(runtime, name);
  for (const file of namesIn(folder)) removeFile(folder, file);
  removeFolder(runtime, name);
}

/**
 * Takes it away again, but for the files where they are to be kept: those that jails still see. What
 * is mounted here goes in any case; jails keep what they have mounted.
 *
 * @returns false when there was nothing
 */
export function unstageProgram(
  runtime: Fd,
  runtimePath: string,
  keep: (folder: Fd) => boolean = () => false,
): boolean {
  const executable = `${programFolder(runtimePath)}/${executableName}`;
  // More than one mount is there when a helper was killed in between.
  while (unmount(executable));
  try {
    using folder = openFolder(runtime, folderName);
    if (keep(folder)) return true;
    for (const name of namesIn(folder)) removeFile(folder, name);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
  return removeFolder(runtime, folderName);
}
