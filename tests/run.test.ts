import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { readText } from "../core/kernel.ts";
import { allPids, parentOf } from "../core/process.ts";
import { missingOf } from "../packaging/setup.ts";
import { jailTest, until } from "./jail/world.ts";
import { remaining } from "./leftovers.ts";
import { inOrder, longest, readReport } from "./run.ts";

const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="7" failures="2" errors="0" time="0.067">
    <testsuite name="./tests/core/a.test.ts" tests="7" disabled="2" errors="0" failures="2">
        <testcase name="good" classname="x" time="0.003" line="1" col="6">
        </testcase>
        <testcase name="bad" classname="x" time="0.006" line="2" col="6">
            <failure message="1 test step failed">1 test step failed.</failure>
        </testcase>
        <testcase name="ignored" classname="x" time="0.000" line="3" col="6">
            <skipped/>
        </testcase>
        <testcase name="a &gt; b" classname="x" time="0.000" line="4" col="6">
        </testcase>
        <testcase name="says &lt;failure&gt;" classname="x" time="0.000" line="4" col="6">
        </testcase>
        <testcase name="bad &gt; step" classname="x" time="0.001" line="2" col="41">
            <failure message="Uncaught Error: x&lt;y">Error: &lt;skipped/&gt;</failure>
        </testcase>
    </testsuite>
</testsuites>`;

Deno.test("a report is counted by tests, and a test says what its steps said", () => {
  assertEquals(readReport(report), {
    passed: 3,
    failed: [{ test: "bad", said: "1 test step failed.\nbad > step: Error: <skipped/>" }],
    skipped: ["ignored"],
  });
});

Deno.test("no report counts nothing", () => {
  assertEquals(readReport(""), { passed: 0, failed: [], skipped: [] });
});

Deno.test("what takes longest comes first, and the rest as it was", () => {
  const [first = "", second = ""] = longest;
  assertEquals(inOrder(["a", second, "b", first]), [first, second, "a", "b"]);
  // A file that was renamed would be forgotten here.
  for (const file of longest) Deno.statSync(`${import.meta.dirname}/../${file}`);
});

Deno.test("a process that a test leaves is seen until it ends", async () => {
  const child = new Deno.Command("sleep", { args: ["60"] }).spawn();
  const isSeen = () => remaining().some(({ pid }) => pid === child.pid);
  try {
    assertEquals(isSeen(), true);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
  assertEquals(isSeen(), false);
});

/** The words of each process that descends from another. */
function descendantsOf(pid: number): readonly string[] {
  return allPids().filter((one) => {
    for (let at = parentOf(one); at !== undefined && at > 0; at = parentOf(at)) {
      if (at === pid) return true;
    }
    return false;
  }).map((one) => readText(`/proc/${one}/cmdline`) ?? "");
}

jailTest("a run that is interrupted leaves nothing behind", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${import.meta.dirname}/run.ts`, "tests/jail/first.test.ts"],
    env: { TMPDIR: "/tmp" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const folder = await until("a daemon and a jail are there", () => {
    const words = descendantsOf(child.pid);
    return words.some((one) => one.includes("appjail-jailer")) &&
      words.map((one) => /--junit-path=([^\0]*)\//.exec(one)?.[1]).find(Boolean);
  }, 60);
  child.kill("SIGINT");
  const { code, stderr } = await child.output();
  assertEquals(code, 130);
  assertMatch(new TextDecoder().decode(stderr), /(^|\n)Interrupted: .*\n$/);
  const traces = (text: string | undefined) =>
    (text ?? "").split("\n").filter((line) => line.includes(folder));
  assertEquals(traces(readText("/proc/self/mountinfo")), []);
  assertEquals(allPids().filter((pid) => traces(readText(`/proc/${pid}/cmdline`)).length > 0), []);
  assertThrows(() => Deno.lstatSync(folder), Deno.errors.NotFound);
});

Deno.test("setup finds a program in PATH or in an sbin folder, and misses another", () => {
  const needs = ["here", "there", "nowhere"].map((program) => ({ program, package: "p" }));
  const known = new Set(["/opt/bin/here", "/usr/sbin/there"]);
  const lacking = missingOf(needs, "relative:/opt/bin", (path) => known.has(path));
  assertEquals(lacking.map(({ program }) => program), ["nowhere"]);
  // What is no program is known by a file.
  const files = ["/usr/lib/a", "/usr/lib/b"].map((file) => ({ program: file, package: "p", file }));
  assertEquals(missingOf(files, "", () => false, (path) => path.endsWith("a")), files.slice(1));
});
