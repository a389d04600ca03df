/** core/user-dirs.ts: which path a profile means. */
import { equal } from "node:assert/strict";
import { pathOf } from "../../core/user-dirs.ts";

const home = "/home/alice";
const german = `# made by xdg-user-dirs-update
XDG_DOWNLOAD_DIR="$HOME/Herunter\\"geladen"
XDG_MUSIC_DIR="/srv/music"
XDG_DESKTOP_DIR="$HOME/"
XDG_VIDEOS_DIR=$HOME/unquoted
`;

Deno.test("a path is itself, and a tilde is the home", () => {
  equal(pathOf("/srv/a", home, ""), "/srv/a");
  equal(pathOf("~", home, ""), home);
  equal(pathOf("~/a/b", home, ""), "/home/alice/a/b");
});

Deno.test("a folder of the desktop is where the person has it", () => {
  equal(pathOf("xdg-download", home, ""), "/home/alice/Downloads");
  equal(pathOf("xdg-download", home, german), '/home/alice/Herunter"geladen');
  equal(pathOf("xdg-music/new", home, german), "/srv/music/new");
  equal(pathOf("xdg-desktop", home, german), home);
  // What is not written as it has to be says nothing.
  equal(pathOf("xdg-videos", home, german), "/home/alice/Videos");
});

Deno.test("there are no other names", () => {
  for (const name of ["xdg-x", "relative/path", "toString", "~alice"]) {
    equal(pathOf(name, home, german), undefined);
  }
});
