/**
 * The folders that a person's desktop has for downloads, pictures and so on, by the names that
 * profiles use: `xdg-download`, `xdg-pictures/Screenshots`. xdg-user-dirs, user-dirs.dirs(5).
 *
 * @module
 */

/** Each by its name in a profile: its variable, and where it is when nothing is said. */
const folders: Readonly<Record<string, readonly [variable: string, usual: string]>> = {
  "xdg-desktop": ["XDG_DESKTOP_DIR", "Desktop"],
  "xdg-documents": ["XDG_DOCUMENTS_DIR", "Documents"],
  "xdg-download": ["XDG_DOWNLOAD_DIR", "Downloads"],
  "xdg-music": ["XDG_MUSIC_DIR", "Music"],
  "xdg-pictures": ["XDG_PICTURES_DIR", "Pictures"],
  "xdg-public-share": ["XDG_PUBLICSHARE_DIR", "Public"],
  "xdg-templates": ["XDG_TEMPLATES_DIR", "Templates"],
  "xdg-videos": ["XDG_VIDEOS_DIR", "Videos"],
};

/** What `~/.config/user-dirs.dirs` says of a variable: a path, `$HOME` put in. */
function said(text: string, variable: string, home: string): string | undefined {
  for (const line of text.split("\n")) {
    const match = /^\s*(XDG_[A-Z]+_DIR)\s*=\s*"(\$HOME)?((?:\/(?:[^"\\]|\\.)*)?)"\s*$/.exec(line);
    if (match === null || match[1] !== variable) continue;
    const [, , ofHome, rest = ""] = match;
    const path = rest.replace(/\\(.)/g, "$1");
    if (ofHome === undefined) return path === "" ? undefined : path;
    return path === "" || path === "/" ? home : `${home}${path}`;
  }
  return undefined;
}

/**
 * The path that a profile means.
 *
 * @param source absolute, or `~`, `~/…`, `xdg-download`, `xdg-download/…`
 * @param home of the person
 * @param userDirs the text of their user-dirs.dirs, where there is one
 * @returns `undefined` when it is none of these
 */
export function pathOf(source: string, home: string, userDirs: string): string | undefined {
  const [first = "", ...rest] = source.split("/");
  if (first === "") return source;
  const below = rest.map((part) => `/${part}`).join("");
  if (first === "~") return `${home}${below}`;
  const known = Object.hasOwn(folders, first) ? folders[first] : undefined;
  if (known === undefined) return undefined;
  const [variable, usual] = known;
  return `${said(userDirs, variable, home) ?? `${home}/${usual}`}${below}`;
}
