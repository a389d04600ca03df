/**
 * The documentation: its links lead somewhere, and what it shows happens.
 *
 * A block that begins with ```console run is a session. `$ ` begins a command of a person's, `# ` one
 * of root's, and the lines after it are what it has to print. A block that begins with ```sh run is a
 * script that has to succeed. Any number that is shown stands for any other, and … for any text. The
 * folders and uids of a daemon with its default settings stand for those of the world under test.
 */
import assert from "node:assert/strict";
import { busPolicy } from "../core/bus-policy.ts";
import {
  asUser,
  execute,
  firstUid,
  isRoot,
  jailTest,
  type Outcome,
  uA,
  until,
  World,
} from "./jail/world.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

const pages: readonly string[] = [
  "README.md",
  ...[...Deno.readDirSync(`${root}/docs`)].map(({ name }) => `docs/${name}`)
    .filter((path) => path.endsWith(".md")).sort(),
];

function textOf(page: string): string {
  return Deno.readTextFileSync(`${root}/${page}`);
}

/** A fenced block: the words after its first fence, and its lines. */
interface Block {
  readonly kind: string;
  readonly lines: readonly string[];
}

function blocksOf(text: string): readonly Block[] {
  return [...text.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)].map(([, kind = "", body = ""]) => ({
    kind,
    lines: body.replace(/\n$/, "").split("\n"),
  }));
}

function withoutBlocks(text: string): string {
  return text.replace(/^```[^\n]*\n[\s\S]*?^```$/gm, "");
}

// --- Links -----------------------------------------------------------------------------------

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, heading = ""] of withoutBlocks(text).matchAll(/^#+ (.+)$/gm)) {
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
  const prose = withoutBlocks(text).replace(/`[^`\n]*`/g, "");
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
    linksOf(textOf(page)).filter((link) => {
      const [path = "", anchor] = link.split("#");
      const folder = page.replace(/[^/]*$/, "");
      const target = path === "" ? page : `${folder}${path}`;
      if (!isThere(`${root}/${target}`)) return true;
      return anchor !== undefined && !anchorsOf(textOf(target)).has(anchor);
    }).map((link) => `${page}: ${link}`)
  );
  assert.deepEqual(broken, []);
});

Deno.test("the index leads to every page", () => {
  const index = new Set(linksOf(textOf("docs/README.md")).map((link) => `docs/${link}`));
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

function stepsOf({ lines }: Block): readonly Step[] {
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

/** Whether what was printed is what is shown. */
function matches(shown: string, printed: string): boolean {
  const plain = (text: string): string =>
    text.replace(/\d+(?:\.\d+)?/g, "0").replace(/[ \t]+/g, " ").replace(/ $/gm, "").trimEnd();
  const pattern = plain(shown).split("…").map((part) => RegExp.escape(part)).join("[\\s\\S]*?");
  return new RegExp(`^${pattern}$`).test(plain(printed));
}

Deno.test("any number stands for any number, and … for any text", () => {
  assert(matches("uid=1100(work)\nPID  1.5 MiB\n", "uid=7000(work)\nPID   120.0 MiB\n"));
  assert(matches("a … z\n…\nend\n", "a to z\n1\n2\nend"));
  assert(!matches("work  1\n", "play  1\n"));
  assert(!matches("a\n", "a\nb\n"));
});

/** The folders and uids that the pages name, and those of the world. */
function translation({ data, state, runtime }: World): (text: string) => string {
  const folders = [["/data", data], ["/var/lib/appjail", state], [
    "/run/appjail",
    runtime,
  ]] as const;
  return (text) => {
    let translated = text;
    for (const [usual, ours] of folders) {
      translated = translated.replaceAll(
        new RegExp(`(?<![\\w.])${usual}(?![\\w-])`, "g"),
        ours,
      );
    }
    return translated.replaceAll(/\b11(\d\d)\b/g, (_, last) => String(firstUid + Number(last)));
  };
}

for (const page of pages) {
  const blocks = blocksOf(textOf(page)).filter(({ kind }) => /^\w+ run$/.test(kind));
  if (blocks.length === 0) continue;
  jailTest(`${page} shows what happens`, async () => {
    await using world = await World.start({ bus: true });
    const here = translation(world);
    const program = Deno.env.get("APPJAIL_EXE");
    assert(program !== undefined, "APPJAIL_EXE has to name what is tested, as deno task test does");
    const env = {
      PATH: `${program.replace(/\/[^/]*$/, "")}:/usr/local/bin:/usr/bin:/bin`,
      APPJAIL_SOCKET: world.socket,
      DBUS_SYSTEM_BUS_ADDRESS: world.busAddress,
    };
    const perform = async (asRoot: boolean, script: string): Promise<Outcome> =>
      await execute(asUser(asRoot ? 0 : uA, ["sh", "-c", `exec 2>&1\n${here(script)}`]), {
        env,
        cwd: "/",
      });
    for (const block of blocks) {
      if (block.kind === "sh run") {
        const { code, stdout } = await perform(false, `set -e\n${block.lines.join("\n")}`);
        assert.deepEqual(code, 0, `${block.lines.join("\n")}\n${stdout}`);
        continue;
      }
      assert.deepEqual(block.kind, "console run");
      for (const { asRoot, command, prints } of stepsOf(block)) {
        let printed = "";
        const holds = async (): Promise<boolean> => {
          printed = (await perform(asRoot, command)).stdout;
          return matches(here(prints), printed);
        };
        // What is only looked at may take a moment to come true.
        const looks = /^appjail (?:logs|status)\b/.test(command);
        const held = looks ? await until(command, holds).catch(() => false) : await holds();
        assert(held, `${command}\nshould print\n${prints}\nand printed\n${printed}`);
      }
    }
  });
}

// --- Files that are shown --------------------------------------------------------------------

/** What stands in a bus's configuration, without what a whole one has beside it. */
function policies(text: string): string {
  return [...text.matchAll(/<policy [\s\S]*?<\/policy>/g)].map(([policy]) => policy).join("\n");
}

Deno.test("the policy that is shown is the one that the doctor prints", () => {
  const shown = blocksOf(textOf("docs/dbus.md")).find(({ kind }) => kind === "xml");
  assert.equal(shown?.lines.join("\n"), busPolicy("appjail").trimEnd());
});

const usualPolicy = "/usr/share/dbus-1/system.conf";

Deno.test({
  name: "with the policy that is shown, a system bus lets people call, and nobody else be appjail",
  ignore: !isRoot || !isThere(usualPolicy),
  fn: async () => {
    const shown = blocksOf(textOf("docs/dbus.md")).find(({ kind }) => kind === "xml");
    const [, ours = ""] = /<busconfig>([\s\S]*)<\/busconfig>/.exec(shown?.lines.join("\n") ?? "") ??
      [];
    assert.ok(ours.includes("<deny "));
    const usual = policies(Deno.readTextFileSync(usualPolicy));
    // Without it the bus does not let the dispatcher have its name, and the world would not begin.
    await using world = await World.start({
      bus: true,
      policy: usual + ours.replaceAll('"appjail"', '"nobody"'),
    });
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
