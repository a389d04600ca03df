/** `deno task package`: the same bytes wherever it is made, nothing for lintian, and what is in it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import manifest from "../../deno.json" with { type: "json" };
import { libcOf, parseArguments } from "../../packaging/package.ts";
import { execute } from "../jail/world.ts";
import { Scratch } from "../scratch.ts";
import { copySource, packageOf, root } from "./source.ts";

async function digestOf(path: string): Promise<string> {
  const { stdout } = await execute(["sha256sum", "--", path]);
  return stdout.slice(0, 64);
}

async function outputOf(...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await execute(words);
  assertEquals(code, 0, `${words.join(" ")}: ${stderr}`);
  return stdout;
}

Deno.test("a package", async (t) => {
  using scratch = new Scratch();
  const path = await packageOf(root, `${scratch.path}/one`, []);

  await t.step(
    "is the same bytes, whoever makes it of the same source, where and how",
    async () => {
      const source = `${scratch.path}/else where/ü/source`;
      await copySource(source);
      // As somebody else would have them.
      await execute(["chmod", "-R", "g+w", source]);
      await execute(["find", source, "-exec", "touch", "-d", "2001-02-03", "{}", "+"]);
      const other = await packageOf(source, `${scratch.path}/two`, [], {
        umask: "077",
        env: { TZ: "Asia/Kathmandu", LANG: "tr_TR.UTF-8", LC_ALL: "C", USER: "x", NO_COLOR: "1" },
      });
      assertEquals(other.replace(/.*\//, ""), path.replace(/.*\//, ""));
      assertEquals(await digestOf(other), await digestOf(path));
    },
  );

  await t.step("has no fault that lintian knows, but those that are explained", async () => {
    const { code, stdout, stderr } = await execute([
      ...["lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning", path],
    ]);
    assertEquals({ code, stdout, stderr }, { code: 0, stdout: "", stderr: "" });
    // A reason stands before each.
    const overrides = Deno.readTextFileSync(`${root}/packaging/debian/lintian-overrides`);
    assertMatch(overrides, /^(?:(?:# .*\n)+(?:appjail: .*\n)+)+$/);
  });

  await t.step("is root's, and changed by nobody else", async () => {
    const lines = (await outputOf("dpkg-deb", "--contents", path)).trim().split("\n");
    assert(lines.length > 60);
    for (const line of lines) {
      assertMatch(line, /^(?:drwxr-xr-x|-rw-r--r--|-rwxr-xr-x|lrwxrwxrwx) root\/root /);
    }
    const runnable = lines.filter((line) => line.startsWith("-rwx")).map((line) =>
      line.split("./")[1]
    );
    for (const one of runnable) {
      assertMatch(one ?? "", /^usr\/(?:bin\/appjail|lib\/appjail\/[^/]+)$/);
    }
    // All of the time of the commit.
    const times = new Set(lines.map((line) => /\d{4}-\d\d-\d\d \d\d:\d\d/.exec(line)?.[0]));
    assertEquals(times.size, 1);
  });

  await t.step("tells what it needs, and names itself by its version", async () => {
    const field = async (name: string): Promise<string> =>
      (await outputOf("dpkg-deb", "--field", path, name)).trim();
    assertEquals(await field("Version"), manifest.version);
    assertEquals(
      path.replace(/.*\//, ""),
      `appjail_${manifest.version}_${await field("Architecture")}.deb`,
    );
    assertMatch(await field("Depends"), /^bubblewrap, .*libc6 \(>= 2\.\d+\)/);
    const { code, stdout } = await execute([
      ...["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -t --wildcards "*/man/*"', path],
    ]);
    const pages = stdout.trim().split("\n").filter((name) => name.endsWith(".gz"));
    assertEquals([code, pages.length > 0], [0, true]);
  });

  await t.step("has scripts that a shell without more understands", async () => {
    const folder = `${scratch.path}/control`;
    await outputOf("dpkg-deb", "--control", path, folder);
    for (const script of ["postinst", "prerm", "postrm"]) {
      await outputOf("dash", "-n", `${folder}/${script}`);
    }
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), [
      "control",
      "md5sums",
      "postinst",
      "postrm",
      "prerm",
      "templates",
    ]);
  });

  await t.step(
    "names every package that its program is bundled with, and its licence",
    async () => {
      const folder = `${scratch.path}/content`;
      await outputOf("dpkg-deb", "--extract", path, folder);
      const bundles = await outputOf(
        ...["sh", "-c", 'cat "$0"/usr/lib/appjail/*/*.bundle', folder],
      );
      const names = new Set(
        [...bundles.matchAll(/^\/\/ npm:((?:@[^/]+\/)?[^/]+)\/\d/gm)].map(([, name]) => name ?? ""),
      );
      assert(names.has("valibot") && names.has("dbus-next"));
      const copyright = Deno.readTextFileSync(`${folder}/usr/share/doc/appjail/copyright`);
      const named = new Set(
        [...copyright.matchAll(/^Files: (.*)$/gm)].map(([, name]) => name ?? ""),
      );
      assertEquals([...names.difference(named)], []);
      assertEquals([...named.difference(names)].sort(), ["*", "usr/lib/appjail/deno-*"]);
    },
  );
});

Deno.test("the policy of the bus that is installed is the one that is explained", () => {
  const shown = /```xml\n(<!DOCTYPE busconfig[\s\S]*?)```/
    .exec(Deno.readTextFileSync(`${root}/docs/dbus.md`))?.[1];
  assertEquals(Deno.readTextFileSync(`${root}/packaging/system/org.appjail.AppJail.conf`), shown);
});

Deno.test("what the unit does not set, it says why", async () => {
  const unit = Deno.readTextFileSync(`${root}/packaging/system/appjail.service`);
  const { stdout } = await execute([
    ...["systemd-analyze", "security", "--offline=yes", "--no-pager", "--json=short"],
    `${root}/packaging/system/appjail.service`,
  ]);
  const findings: readonly { readonly name: string; readonly set: boolean | null }[] = JSON.parse(
    stdout,
  );
  const open = new Set(
    findings.filter(({ set }) => set === false).map(({ name }) => name.replace(/=.*/, "=")),
  );
  assert(open.size > 10);
  // The daemon sets its own.
  const plain = ["UMask="];
  const silent = [...open].filter((name) => !plain.includes(name) && !unit.includes(name));
  assertEquals(silent, []);
});

Deno.test("the C library that a program needs is the newest that it names", () => {
  const bytes = new TextEncoder().encode("GLIBC_2.9\0GLIBC_2.27\0GLIBC_2.3.4\0GLIBC_PRIVATE");
  assertEquals(libcOf(bytes), "2.27");
});

Deno.test("the command line for a package is read strictly", () => {
  assertEquals(parseArguments([]), { out: "dist", version: manifest.version, compression: "xz" });
  assertEquals(parseArguments(["--version", "1.2~rc1", "--compression", "none", "--out", "/x/"]), {
    out: "/x",
    version: "1.2~rc1",
    compression: "none",
  });
  for (
    const words of [["--version", "x"], ["--version", "1-1"], ["--compression", "zip"], ["x", "y"]]
  ) {
    assertMatch(String(parseArguments(words)), /is not understood/);
  }
  assertEquals(parseArguments(["--out"]), "--out needs a value");
});
