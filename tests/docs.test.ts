/**
 * The documentation: its links lead somewhere, what it shows happens, and what it lists is all that
 * there is.
 *
 * A block that begins with ```console run is a session. `$ ` begins a command of a person's, `# ` one
 * of root's, and the lines after it are what it has to print. A block that begins with ```sh run is a
 * script that has to succeed. One that begins with ```python run or ```js run is a program, and the
 * block ```text prints after it what it has to print. Any number that is shown stands for any other, and … for any text. The
 * folders and uids of a daemon with its default settings stand for those of the world under test. The
 * person is alice, at home in /home/alice; see tests/docs-world.ts.
 *
 * A remark before a block, `<!-- before: SCRIPT -->`, is done before it; a passphrase that is asked for
 * is always the same one. A block of commands that is not run has a remark that says why:
 * `<!-- not run: why -->`.
 * A block of TOML is a profile, or the daemon's settings where its first line says so.
 */
import assert from "node:assert/strict";
import { busPolicy } from "../core/bus-policy.ts";
import * as v from "valibot";
import { parse as parseToml } from "@std/toml/parse";
import { verbs } from "../cmd/app.ts";
import { configuration } from "../cmd/daemon.ts";
import { exitMeanings } from "../core/errors.ts";
import { readProfile } from "../core/profile.ts";
import { pageText, type Part, partsOf } from "../packaging/page.ts";
import { DocsWorld } from "./docs-world.ts";
import { dbusNext, printedBy } from "./docs-languages.ts";
import { systemPolicy } from "./jail/system-policy.ts";
import { matches } from "./shown.ts";
import { asUser, execute, isRoot, jailTest, type Outcome, uA, until, World } from "./jail/world.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

const pages: readonly string[] = [
  "README.md",
  ...[...Deno.readDirSync(`${root}/docs`)].map(({ name }) => `docs/${name}`)
    .filter((path) => path.endsWith(".md")).sort(),
];

type Block = Extract<Part, { readonly kind: "block" }>;

function blocksOf(text: string): readonly Block[] {
  return partsOf(text).filter((part) => part.kind === "block");
}

/** What is not in a block. */
function proseOf(text: string): readonly string[] {
  return partsOf(text).flatMap((part) => {
    switch (part.kind) {
      case "heading":
      case "paragraph":
        return [part.text];
      case "list":
        return part.items;
      case "table":
        return part.rows.flat();
      case "block":
        return [];
      default:
        return part satisfies never;
    }
  });
}

// --- Links -----------------------------------------------------------------------------------

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const part of partsOf(text)) {
    if (part.kind !== "heading") continue;
    const { text: heading } = part;
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, "").replaceAll(" ", "-");
    let anchor = plain;
    for (let more = 1; anchors.has(anchor); more++) anchor = `${plain}-${more}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** What a page refers to: links and pictures, but not what lies elsewhere on the network. */
function linksOf(text: string): readonly string[] {
  const prose = proseOf(text).join("\n").replace(/`[^`\n]*`/g, "");
  return [...prose.matchAll(/\]\(([^)\s]+)\)|\bsrc="([^"]+)"/g)]
    .map(([, link, source]) => link ?? source ?? "")
    .filter((link) => !/^[a-z]+:/.test(link));
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

Deno.test("every link leads to a file that is there, and to a heading in it", () => {
  const broken = pages.flatMap((page) =>
    linksOf(pageText(page)).filter((link) => {
      const [path = "", anchor] = link.split("#");
      const folder = page.replace(/[^/]*$/, "");
      const target = path === "" ? page : `${folder}${path}`;
      if (!isThere(`${root}/${target}`)) return true;
      return anchor !== undefined && !anchorsOf(pageText(target)).has(anchor);
    }).map((link) => `${page}: ${link}`)
  );
  assert.deepEqual(broken, []);
});

Deno.test("the index leads to every page", () => {
  const index = new Set(linksOf(pageText("docs/README.md")).map((link) => `docs/${link}`));
  assert.deepEqual(pages.filter((page) => page !== "docs/README.md" && !index.has(page)), [
    "README.md",
  ]);
});

Deno.test("a heading's anchor is what GitHub makes of it", () => {
  const text = "# A `b`, c-d_e: f\n## Two\n```sh\n# no heading\n```\n## Two\n### [x](y) z?\n";
  assert.deepEqual([...anchorsOf(text)], ["a-b-c-d_e-f", "two", "two-1", "x-z"]);
});

// --- Sessions --------------------------------------------------------------------------------

/** A command of a session, and what it has to print. */
interface Step {
  readonly asRoot: boolean;
  readonly command: string;
  readonly prints: string;
}

function stepsOf(lines: readonly string[]): readonly Step[] {
  const steps: { asRoot: boolean; command: string; prints: string }[] = [];
  let open = false;
  for (const line of lines) {
    const step = steps.at(-1);
    const begun = /^([$#]) (.*)$/.exec(line);
    if (open && step !== undefined) step.command += `\n${line}`;
    else if (begun !== null) {
      steps.push({ asRoot: begun[1] === "#", command: begun[2] ?? "", prints: "" });
    } else if (step !== undefined) step.prints += `${line}\n`;
    else throw new Error(`A session begins with a command, not with ${JSON.stringify(line)}`);
    open = line.endsWith("\\") && (open || begun !== null);
  }
  return steps;
}

Deno.test("any number stands for any number, and … for any text", () => {
  assert(matches("uid=1100(work)\nPID  1.5 MiB\n", "uid=7000(work)\nPID   120.0 MiB\n"));
  assert(matches("a … z\n…\nend\n", "a to z\n1\n2\nend"));
  assert(!matches("work  1\n", "play  1\n"));
  assert(!matches("a\n", "a\nb\n"));
});

for (const page of pages) {
  const all = blocksOf(pageText(page));
  const blocks = all.filter(({ info }) => /^\w+ run$/.test(info));
  if (blocks.length === 0) continue;
  jailTest(`${page} shows what happens`, async () => {
    await using world = await DocsWorld.start();
    for (const block of blocks) {
      const { info, lines, remark = "" } = block;
      const first = /^before: (.*)$/.exec(remark)?.[1];
      if (first !== undefined) {
        const { code, stdout } = await world.perform(first);
        assert.equal(code, 0, `${first}\n${stdout}`);
      }
      if (info === "sh run") {
        const { code, stdout } = await world.perform(`set -e\n${lines.join("\n")}`);
        assert.equal(code, 0, `${lines.join("\n")}\n${stdout}`);
        continue;
      }
      if (info !== "console run") {
        const prints = all[all.indexOf(block) + 1];
        assert.equal(prints?.info, "text prints", `${page}: what a program prints follows it`);
        for (const printed of await printedBy(world, info, lines)) {
          assert(matches(world.here(prints.lines.join("\n")), printed), `it printed\n${printed}`);
        }
        continue;
      }
      for (const { asRoot, command, prints } of stepsOf(lines)) {
        let printed = "";
        const holds = async (): Promise<boolean> => {
          printed = (await world.perform(command, asRoot)).stdout;
          return matches(world.here(prints), printed);
        };
        // What is only looked at may take a moment to come true.
        const looks = /^appjail (?:logs|status|events|stats)\b/.test(command);
        const held = looks ? await until(command, holds).catch(() => false) : await holds();
        assert(held, `${command}\nshould print\n${prints}\nand printed\n${printed}`);
      }
    }
  });
}

Deno.test("the page for JavaScript names the dbus-next that is tried", () => {
  const text = pageText("docs/call-from-javascript.md");
  assert.ok(text.includes(`npm install dbus-next@${dbusNext}\n`));
});

Deno.test("a block of commands is run, or it is said why not", () => {
  const commands = /^(?:sh|bash|console|shell|python|py|js|javascript|ts)\b/;
  const silent = pages.flatMap((page) =>
    blocksOf(pageText(page)).filter(({ info, remark }) =>
      commands.test(info) && !/ run$/.test(info) && !/^not run: \S/.test(remark ?? "")
    ).map(({ lines }) => `${page}: ${lines[0]}`)
  );
  assert.deepEqual(silent, []);
});

// --- Files that are shown --------------------------------------------------------------------

for (const page of pages) {
  const blocks = blocksOf(pageText(page)).filter(({ info }) => info === "toml");
  if (blocks.length === 0) continue;
  Deno.test(`${page} shows files that can be used`, () => {
    for (const { lines } of blocks) {
      const text = lines.join("\n");
      if (lines[0]?.startsWith("# /etc/appjail/appjail.toml") === true) {
        v.parse(configuration, { ...parseToml(text) });
      } else assert.deepEqual(readProfile(text, page).problems, [], text);
    }
  });
}

Deno.test("the policy that is shown is the one that the doctor prints", () => {
  const shown = pageText("docs/dbus.md").match(/^```xml\n([\s\S]*?)^```$/m)?.[1];
  assert.equal(shown, busPolicy("appjail"));
});

Deno.test({
  name: "with the policy that is shown, a system bus lets people call, and nobody else be appjail",
  ignore: !isRoot || systemPolicy() === undefined,
  fn: async () => {
    // Without it the bus does not let the dispatcher have its name, and the world would not begin.
    await using world = await World.start({ bus: true, policy: systemPolicy() ?? "" });
    const call = async (...words: readonly string[]): Promise<Outcome> =>
      await execute(asUser(uA, ["gdbus", "call", "--address", world.busAddress, ...words]));
    const to = ["--dest", "org.appjail.AppJail", "--object-path", "/org/appjail/AppJail"];
    const list = await call(...to, "--method", "org.appjail.AppJail1.List");
    assert.deepEqual(list, { code: 0, stdout: "(@aa{sv} [],)\n", stderr: "" });
    const introspect = await call(
      ...to,
      "--method",
      "org.freedesktop.DBus.Introspectable.Introspect",
    );
    assert.deepEqual(introspect.code, 0, introspect.stderr);
    const other = await call(...to, "--method", "org.example.Other.Do");
    assert(other.stderr.includes("AccessDenied"), other.stderr);
    const own = await call(
      ...["--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus"],
      ...["--method", "org.freedesktop.DBus.RequestName", "org.appjail.AppJail", "0"],
    );
    assert(own.stderr.includes("AccessDenied"), own.stderr);
  },
});

// --- What is listed --------------------------------------------------------------------------

Deno.test("every status that appjail ends with is explained", () => {
  const text = pageText("docs/exit-status.md");
  for (const [status, meaning] of Object.entries(exitMeanings)) {
    assert(new RegExp(`^\\| ${status} +\\| ${meaning}`, "m").test(text), `${status}: ${meaning}`);
  }
});

Deno.test("every setting of the daemon is explained", () => {
  const text = pageText("docs/configuration.md");
  const flags = verbs().find(({ name }) => name === "daemon")?.options ?? [];
  for (const { long } of flags) assert(text.includes(`| \`${long}`), long);
  for (const key of Object.keys(configuration.entries)) assert(text.includes(`\`${key}\``), key);
});

Deno.test("every command is shown somewhere", () => {
  const all = pages.map(pageText).join("\n");
  for (const { name } of verbs()) assert(new RegExp(`appjail ${name}\\b`).test(all), name);
});

Deno.test("every request to root's part is argued", () => {
  const { index: from = 0 } = /^ {2}#handle\(/m.exec(pageText("cmd/helper.ts")) ?? {};
  const handled = pageText("cmd/helper.ts").slice(from).split("default:")[0] ?? "";
  const requests = [...handled.matchAll(/case "(\w+)":/g)].map(([, name = ""]) => name);
  assert(requests.length > 10);
  const review = pageText("docs/security-review.md");
  for (const name of requests.filter((name) => name !== "hello")) {
    assert(new RegExp(`^\\|[^|]*\\b${name}\\b`, "m").test(review), name);
  }
});
