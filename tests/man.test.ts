/** The man pages: that they say all, and that whatever reads man pages can read them. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { verbs } from "../cmd/app.ts";
import { configuration } from "../cmd/daemon.ts";
import { exitMeanings } from "../core/errors.ts";
import { lockable } from "../core/profile.ts";
import { manPages } from "../packaging/man.ts";
import { Scratch } from "./scratch.ts";

const pages = await manPages();
const text = new TextDecoder();

/** All pages as files; their names, and the folder. */
function written(scratch: Scratch): readonly string[] {
  return [...pages].map(([name, roff]) => scratch.file(name, roff));
}

/** What a page is for a reader, with no line cut and nothing emphasised; man(1) must not complain. */
async function readable(scratch: Scratch, name: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("man", {
    args: ["-l", "--warnings", "-P", "cat", `${scratch.path}/${name}`],
    env: { MANWIDTH: "2000", LANG: "C.UTF-8", LC_ALL: "C.UTF-8", MANROFFOPT: "-c", TERM: "dumb" },
  }).output();
  ok(success, text.decode(stderr));
  equal(text.decode(stderr), "", name);
  // deno-lint-ignore no-control-regex -- bold, as a printer had it
  return text.decode(stdout).replaceAll(/.\x08/g, "").replaceAll(/[ \t]+/g, " ");
}

/** What a command complains of. */
async function complaints(command: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(command, {
    args: [...args],
    env: { LC_ALL: "C.UTF-8" },
  }).output();
  return text.decode(stdout) + text.decode(stderr);
}

Deno.test("every command has a page with all of its help", async () => {
  using scratch = new Scratch();
  written(scratch);
  for (const verb of verbs()) {
    if (verb.name === "help") continue;
    const shown = await readable(
      scratch,
      `appjail-${verb.name}.${verb.name === "daemon" ? 8 : 1}`,
    );
    const wanted = [
      ...verb.usages.map((usage) => `appjail ${usage.replaceAll(/<([A-Z]+)>/g, "$1")}`),
      ...verb.description.split(/\n+/).map((line) => line.trim()),
      ...verb.options.flatMap(({ long, short, brief, value = "" }) => [
        `${long} ${value}`.trim(),
        ...short === undefined ? [] : [`-${short} ${value}`.trim()],
        brief,
      ]),
      ...verb.arguments.map(({ brief }) => brief),
    ];
    const plain = (words: string): string =>
      words.replaceAll(/\s+/g, " ").replaceAll("...", " ...").replaceAll(/ +/g, " ").toLowerCase();
    // The exit status has a section of its own.
    for (const words of wanted.filter((words) => !/^(?:\d+ {2}|The exit status )/.test(words))) {
      ok(plain(shown).includes(plain(words)), `${verb.name} says nothing of: ${words}\n${shown}`);
    }
  }
});

Deno.test("every command is on the page that everybody reads first", async () => {
  using scratch = new Scratch();
  written(scratch);
  const shown = await readable(scratch, "appjail.1");
  for (const { name, brief } of verbs()) {
    if (name === "help") continue;
    ok(new RegExp(`^ appjail-${name}\\([18]\\)\\n ${brief}\\.$`, "m").test(shown), name);
  }
  for (const [status, meaning] of Object.entries(exitMeanings)) {
    ok(new RegExp(`^ ${status} ${meaning}\\.$`, "mi").test(shown), `${status}\n${shown}`);
  }
  for (const words of ["APPJAIL_SOCKET", "/etc/appjail/appjail.toml", "~/Shared/PROFILE"]) {
    ok(shown.includes(words), words);
  }
});

Deno.test("every key of a profile, and every setting, is on the page of its file", async () => {
  using scratch = new Scratch();
  written(scratch);
  const profile = await readable(scratch, "appjail-profile.5");
  // Tables are there by the keys in them.
  for (const key of lockable.filter((key) => key !== "dbus" && key !== "limits")) {
    ok(profile.includes(`\n ${key} = `), key);
  }
  const settings = await readable(scratch, "appjail.toml.5");
  for (const key of Object.keys(configuration.entries)) {
    ok(new RegExp(`^ ${key} = .+\\n .+`, "m").test(settings), key);
  }
});

Deno.test("groff and mandoc have nothing to complain of", async () => {
  using scratch = new Scratch();
  for (const file of written(scratch)) {
    equal(await complaints("groff", ["-ww", "-k", "-man", "-Tutf8", "-z", file]), "", file);
    equal(await complaints("mandoc", ["-T", "lint", "-W", "warning", file]), "", file);
  }
});

Deno.test("whatis finds each page by its name and purpose", async () => {
  using scratch = new Scratch();
  for (const file of written(scratch)) {
    const name = file.replace(/.*\//, "").replace(/\.\d$/, "");
    ok((await complaints("lexgrog", [file])).startsWith(`${file}: "${name} - `), file);
  }
});

Deno.test("a page that another one names is there", () => {
  const named = [...pages.values()].flatMap((roff) =>
    [...roff.matchAll(/\\fB(appjail[^\\]*(?:\\-[^\\]*)*)\\fR\((\d)\)/g)].map(([, name, number]) =>
      `${name?.replaceAll("\\-", "-")}.${number}`
    )
  );
  ok(named.length > pages.size);
  deepEqual([...new Set(named)].filter((name) => !pages.has(name)), []);
});

Deno.test("the same source makes the same pages, of the day that it is of", async () => {
  deepEqual(await manPages(), pages);
  const before = Deno.env.get("SOURCE_DATE_EPOCH");
  using _back = {
    [Symbol.dispose]: () =>
      before === undefined
        ? Deno.env.delete("SOURCE_DATE_EPOCH")
        : Deno.env.set("SOURCE_DATE_EPOCH", before),
  };
  Deno.env.set("SOURCE_DATE_EPOCH", "86400");
  ok((await manPages()).get("appjail.1")?.startsWith('.TH "APPJAIL" "1" "1970-01-02"'));
});
