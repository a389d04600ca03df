/** `deno task install` and `uninstall`: what is put below a prefix, and that nothing else is touched. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import {
  install,
  nextSteps,
  parseArguments,
  putEntries,
  uninstall,
} from "../../packaging/install.ts";
import type { Entry } from "../../packaging/tree.ts";
import { execute } from "../jail/world.ts";
import { Scratch } from "../scratch.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/../..`);

/** Every file and folder below a folder, with modes, and the targets of links. */
function listing(folder: string, below = ""): readonly string[] {
  return [...Deno.readDirSync(`${folder}${below}`)].flatMap(({ name, isDirectory, isSymlink }) => {
    const path = `${below}/${name}`;
    const mode = ((Deno.lstatSync(`${folder}${path}`).mode ?? 0) & 0o7777).toString(8);
    if (isSymlink) return [`${path} -> ${Deno.readLinkSync(`${folder}${path}`)}`];
    return isDirectory ? [`${path}/ ${mode}`, ...listing(folder, path)] : [`${path} ${mode}`];
  }).sort();
}

const text = (path: string, content: string, mode = 0o644): Entry => ({
  kind: "text",
  path,
  text: content,
  mode,
});

const first = [
  text("bin/appjail", "one", 0o755),
  { kind: "link", path: "lib/appjail/appjail-jailer", to: "../../bin/appjail" },
  text("lib/appjail/aaa/appjail.js", "1"),
  text("share/x", "x"),
] as const satisfies readonly Entry[];
const second = [
  text("bin/appjail", "two", 0o755),
  first[1],
  text("lib/appjail/bbb/appjail.js", "2"),
  text("share/x", "x"),
];

Deno.test("the whole program runs from a prefix, and goes again to the last file", async () => {
  using scratch = new Scratch();
  const umask = Deno.umask(0o077);
  const prefix = `${scratch.path}/opt/appjail`;
  const said: string[] = [];
  try {
    await install({ prefix, staging: "", base: undefined, say: (line) => said.push(line) });
  } finally {
    Deno.umask(umask);
  }
  assert(said.includes(`Installed into ${prefix}.`));
  assert(
    said.some((line) => line.includes(`systemd-sysusers ${prefix}/lib/sysusers.d/appjail.conf`)),
  );
  const { code, stdout, stderr } = await execute([`${prefix}/bin/appjail`, "--version"]);
  assertEquals([code, stderr], [0, ""]);
  assertMatch(stdout, /^appjail .* \((?:bundled|compiled);/);
  // By a link from elsewhere, and as another role.
  Deno.symlinkSync(`${prefix}/bin/appjail`, `${scratch.path}/link`);
  assertEquals((await execute([`${scratch.path}/link`, "--version"])).stdout, stdout);
  const jailer = await execute([`${prefix}/lib/appjail/appjail-jailer`, "x"]);
  assertMatch(jailer.stderr, /^appjail-jailer: The jailer is a part of the daemon/);
  // Everybody may use it, whatever the umask of who has installed it.
  for (const line of listing(prefix)) assertMatch(line, / -> |\/ 755$| 755$| 644$/);
  const unit = Deno.readTextFileSync(`${prefix}/lib/systemd/system/appjail.service`);
  assert(unit.includes(`\nExecStart=${prefix}/bin/appjail daemon\n`));
  assertEquals(unit.includes("/usr/bin/appjail"), false);
  assertEquals(
    [...Deno.readDirSync(`${prefix}/share/appjail/profiles`)].map(({ name }) => name).sort(),
    [...Deno.readDirSync(`${root}/profiles`)].map(({ name }) => name).sort(),
  );

  assertEquals(uninstall({ prefix, staging: "" }), []);
  assertEquals(listing(scratch.path), ["/link -> " + `${prefix}/bin/appjail`, "/opt/ 755"]);
  assertThrows(
    () => uninstall({ prefix, staging: "" }),
    Error,
    "nothing was installed there by deno task install",
  );
});

Deno.test("an installation is replaced by the next, and what that has not goes", () => {
  using scratch = new Scratch();
  putEntries(first, scratch.path);
  putEntries(second, scratch.path);
  assertEquals(Deno.readTextFileSync(`${scratch.path}/bin/appjail`), "two");
  assertEquals(listing(scratch.path).filter((line) => line.includes("lib/appjail/")), [
    "/lib/appjail/ 755",
    "/lib/appjail/appjail-jailer -> ../../bin/appjail",
    "/lib/appjail/bbb/ 755",
    "/lib/appjail/bbb/appjail.js 644",
    "/lib/appjail/manifest 644",
  ]);
  assertEquals(uninstall({ prefix: scratch.path, staging: "" }), []);
  assertEquals(listing(scratch.path), []);
});

Deno.test("what is not from here is not replaced, and nothing is installed beside it", () => {
  using scratch = new Scratch();
  Deno.mkdirSync(`${scratch.path}/bin`);
  Deno.mkdirSync(`${scratch.path}/share`);
  Deno.writeTextFileSync(`${scratch.path}/bin/appjail`, "one");
  Deno.symlinkSync("/etc/passwd", `${scratch.path}/share/x`);
  const before = listing(scratch.path);
  assertThrows(
    () => putEntries(first, scratch.path),
    Error,
    `not from here, or changed since: ${scratch.path}/bin/appjail, ${scratch.path}/share/x; move`,
  );
  assertEquals(listing(scratch.path), before);
});

Deno.test("what somebody has changed since is neither replaced nor removed, and what they added stays", () => {
  using scratch = new Scratch();
  putEntries(first, scratch.path);
  Deno.writeTextFileSync(`${scratch.path}/share/x`, "mine");
  Deno.writeTextFileSync(`${scratch.path}/share/y`, "mine");
  const before = listing(scratch.path);
  assertThrows(() => putEntries(second, scratch.path), Error, "changed since");
  assertEquals(listing(scratch.path), before);
  assertEquals(Deno.readTextFileSync(`${scratch.path}/bin/appjail`), "one");
  assertEquals(uninstall({ prefix: scratch.path, staging: "" }), [`${scratch.path}/share/x`]);
  assertEquals(listing(scratch.path), ["/share/ 755", "/share/x 644", "/share/y 644"]);
});

Deno.test("a folder that was there before stays, though it is empty", () => {
  using scratch = new Scratch();
  Deno.mkdirSync(`${scratch.path}/lib`);
  putEntries(first, scratch.path);
  uninstall({ prefix: scratch.path, staging: "" });
  assertEquals(listing(scratch.path), ["/lib/ 755"]);
});

Deno.test("a manifest that leads elsewhere is not followed", () => {
  for (const line of ["../x\tfile 0", "/etc/x\tfile 0", "a/../../x\tlink y", "\tfile 0"]) {
    using scratch = new Scratch();
    Deno.mkdirSync(`${scratch.path}/lib/appjail`, { recursive: true });
    Deno.writeTextFileSync(`${scratch.path}/lib/appjail/manifest`, `${line}\n`);
    assertThrows(() => uninstall({ prefix: scratch.path, staging: "" }), Error, "it is damaged at");
  }
});

Deno.test("what stands before the prefix is for now: no file tells of it", () => {
  using scratch = new Scratch();
  const staged = { prefix: "/usr", staging: scratch.path };
  putEntries(first, `${staged.staging}${staged.prefix}`);
  assertEquals(uninstall(staged), []);
  assertEquals(listing(scratch.path), []);
});

Deno.test("the command line is read strictly", () => {
  const place = { prefix: "/usr/local", staging: "" };
  assertEquals(parseArguments(["install"], ""), { verb: "install", ...place });
  assertEquals(parseArguments(["uninstall", "--prefix", "/opt/x/"], "/tmp/y/"), {
    verb: "uninstall",
    prefix: "/opt/x",
    staging: "/tmp/y",
  });
  for (const prefix of ["", "opt", "/", "/a b", "/a/../b", '/a"', "/$(id)", "/a%b"]) {
    assertMatch(String(parseArguments(["install", "--prefix", prefix], "")), /absolute path/);
  }
  assertMatch(String(parseArguments(["install", "--prefix"], "")), /absolute path/);
  for (
    const words of [[], ["remove"], ["install", "--to", "/x"], ["install", "--prefix", "/x", "y"]]
  ) {
    assertMatch(String(parseArguments(words, "")), /is not understood/);
  }
  assertMatch(String(parseArguments(["install"], "here")), /DESTDIR here is no absolute path/);
});

Deno.test("root is told what is left to do, which is less where the system looks by itself", () => {
  assertEquals(nextSteps("/usr").some((step) => step.startsWith("ln -s")), false);
  assert(nextSteps("/usr/local").includes("systemctl daemon-reload"));
  assert(nextSteps("/opt/x").some((step) => step.startsWith("systemctl link /opt/x/lib/systemd")));
});
