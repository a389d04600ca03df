/** core/desktop-entry.ts: entries as packages ship them, and what becomes of each line. */
import { deepEqual, equal } from "node:assert/strict";
import {
  programOf,
  quoted,
  starts,
  through,
  valueOf,
  wordsOfExec,
} from "../../core/desktop-entry.ts";

const entry = String.raw`# shipped
[Desktop Entry]
Version=1.0
Name=Fire Fox
Name[de]=Feuerfuchs
Exec=env MOZ_X=1 /usr/lib/firefox/firefox --class "My \\$App" %u
Terminal=false
Type=Application
Icon=firefox
DBusActivatable=true
MimeType=text/html;x-scheme-handler/https;
Actions=new-window;

[Desktop Action new-window]
Name=New
Exec=firefox --new-window %u

[X-Other]
Exec=untouched
`;

const how = {
  profile: "firefox",
  command: ["/usr/bin/appjail", "run", "-p", "firefox", "--"],
  source: "/usr/share/applications/firefox.desktop",
  digest: "12ab",
};

Deno.test("an entry keeps all but what starts the program", () => {
  const made = through(entry, how);
  const changed = made.split("\n").filter((line) => !entry.split("\n").includes(line));
  deepEqual(changed, [
    "X-AppJail-Profile=firefox",
    "X-AppJail-Source=/usr/share/applications/firefox.desktop",
    "X-AppJail-Digest=12ab",
    "Exec=/usr/bin/appjail run -p firefox -- " +
    String.raw`env MOZ_X=1 /usr/lib/firefox/firefox --class "My \\$App" %u`,
    "DBusActivatable=false",
    "Exec=/usr/bin/appjail run -p firefox -- firefox --new-window %u",
  ]);
  equal(made.split("\n").length, entry.split("\n").length + 3);
  deepEqual(wordsOfExec(valueOf(made, "Exec") ?? ""), [
    ...how.command,
    ...["env", "MOZ_X=1", "/usr/lib/firefox/firefox", "--class", "My $App", "%u"],
  ]);
});

Deno.test("what was made once is not marked twice", () => {
  const made = through(entry, how);
  const again = through(made, { ...how, digest: "34cd" });
  deepEqual(again.split("\n").filter((line) => line.startsWith("X-AppJail-")), [
    "X-AppJail-Profile=firefox",
    "X-AppJail-Source=/usr/share/applications/firefox.desktop",
    "X-AppJail-Digest=34cd",
  ]);
});

Deno.test("the program of an entry is told, whatever stands before it", () => {
  equal(programOf("firefox-esr %u"), "firefox-esr");
  equal(programOf("/usr/bin/vlc --started-from-file %U"), "vlc");
  equal(programOf("env A=b C= /opt/x/spotify %u"), "spotify");
  equal(programOf('"/opt/My App/app" %f'), "app");
  equal(programOf('"/opt/unfinished'), undefined);
  equal(programOf(""), undefined);
});

Deno.test("an entry is a program's when it is an application's, not hidden, and starts it", () => {
  equal(starts(entry, ["firefox"]), true);
  equal(starts(entry, ["env"]), false);
  equal(starts(entry.replace("Type=Application", "Type=Link"), ["firefox"]), false);
  equal(starts(entry.replace("Terminal=false", "Hidden=true"), ["firefox"]), false);
  equal(starts("no entry at all", ["firefox"]), false);
});

Deno.test("any word comes back from an Exec value as it was", () => {
  for (
    const word of [
      "plain",
      "with space",
      "",
      'a"b',
      "a\\b",
      "a$b`c",
      "new\nline\ttab",
      "~x",
      "a;b&c",
    ]
  ) {
    deepEqual(wordsOfExec(`x ${quoted(word)} y`), ["x", word, "y"], JSON.stringify(word));
  }
  // A percent sign would begin a field code.
  equal(quoted("100%"), "100%%");
});
