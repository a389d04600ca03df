/**
 * Finding the file of a command as a shell does, execvp(3), but telling "not found" (127) from "not
 * executable" (126), and looking where the program will look: in its own PATH, from its own folder.
 *
 * @module
 */
import { AppjailError } from "./errors.ts";
import { isExecutable, statusBehind } from "./kernel.ts";

/** What of the host can be seen in a jail, and therefore holds commands. */
const visible: readonly string[] = ["/usr/", "/bin/", "/sbin/", "/lib", "/opt/"];

/** Whether a path of the host is one in a jail, too. */
export function isVisibleInJail(path: string): boolean {
  return visible.some((prefix) => path.startsWith(prefix));
}

/**
 * The path to execute.
 *
 * @param command a name, or a path (with a slash), as the person wrote it
 * @param path the program's PATH, colon-separated
 * @param cwd the folder from which a relative path is meant
 * @param where completes "not found …", such as `in jail "firefox"`
 */
export function findCommand(command: string, path: string, cwd: string, where: string): string {
  const inCwd = (name: string): string => name.startsWith("/") ? name : `${cwd}/${name}`;
  const candidates = command.includes("/")
    ? [inCwd(command)]
    // An empty element is the working folder. execvp(3).
    : path.split(":").map((folder) => inCwd(folder === "" ? command : `${folder}/${command}`));
  let seen: string | undefined;
  for (const candidate of candidates) {
    const status = statusBehind(candidate);
    if (status === undefined) continue;
    if (status.kind === "file" && isExecutable(candidate)) return candidate;
    // A shell passes over folders of the name in PATH, but says so of one that is named.
    if (status.kind !== "folder" || command.includes("/")) seen ??= candidate;
  }
  if (seen !== undefined) {
    throw new AppjailError(
      "command-not-executable",
      `Cannot run ${JSON.stringify(command)}: ${seen} ${where} may not be executed`,
    );
  }
  throw new AppjailError(
    "command-not-found",
    `Cannot run ${JSON.stringify(command)}: it is not found ${where}`,
  );
}
