/**
 * `deno task test`: sets up, builds the program once, runs every test, and then looks whether the
 * run left anything behind on the machine. Its last line counts: `12 passed, 0 failed`.
 *
 * `unit` before the rest runs only what needs neither root nor a build. Files or folders may be
 * named; without any, all are run.
 *
 * @module
 */
import {
  dlopenLibc,
  leftoversOf,
  machineState,
  remaining,
  removeUnlessMounted,
} from "./leftovers.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** Longer than any run should take; a run that hangs ends with an answer, too. */
const deadlineMs = 60 * 60_000;

/** How many files are tested at a time: one more than can compute, because most of them wait. */
const lanes = Math.min(3, navigator.hardwareConcurrency + 1);

/** The files that take longest, which come first, so that no lane goes on when the others are done. */
export const longest: readonly string[] = [
  "tests/package/machine.test.ts",
  "tests/jail/vault-failures.test.ts",
  "tests/jail/doctor.test.ts",
  "tests/jail/convert.test.ts",
  "tests/docs.test.ts",
  "tests/jail/copy.test.ts",
  "tests/jail/crash.test.ts",
  "tests/jail/jailer.test.ts",
  "tests/jail/vault.test.ts",
  "tests/jail/security-context.test.ts",
  "tests/jail/stopped.test.ts",
  "tests/jail/killed.test.ts",
  "tests/terminal/signals.test.ts",
  "tests/jail/verbs.test.ts",
  "tests/jail/daemon.test.ts",
  "tests/terminal/interactive.test.ts",
  "tests/jail/inside.test.ts",
  "tests/build.test.ts",
];

/** How many of those that took longest are named in the end. */
const namedSlow = 5;

/**
 * How many files that failed are run once more, alone: what passes then is named, because a test that
 * minds the load is to be mended, but does not fail the run. When more fail, something is broken.
 */
const triedAgain = 4;

/** How many lines of what a failed test said are shown again in the end. */
const saidLines = 40;

/** How long what was killed may take to be gone. */
const endDeadlineMs = 20_000;

/** What needs neither root, nor a bus, nor a built program. */
const unitTests = ["tests/ipc", "tests/core", "tests/cmd", "tests/architecture.test.ts"];

/** A test that failed, and what it said. */
export interface Failure {
  readonly test: string;
  readonly said: string;
}

/** What came of some tests. */
export interface Outcome {
  readonly passed: number;
  readonly failed: readonly Failure[];
  readonly skipped: readonly string[];
}

const none: Outcome = { passed: 0, failed: [], skipped: [] };

function failure(test: string, said = ""): Outcome {
  return { ...none, failed: [{ test, said }] };
}

function both(one: Outcome, other: Outcome): Outcome {
  return {
    passed: one.passed + other.passed,
    failed: [...one.failed, ...other.failed],
    skipped: [...one.skipped, ...other.skipped],
  };
}

/**
 * Reads the tests of a JUnit report as Deno writes it. A step stands there too, as `test > step`; a
 * step that fails makes its test fail, so steps are not counted: what they said stands with the test.
 */
export function readReport(xml: string): Outcome {
  // Deno escapes every "<" in what a test says, so these are always tags of the report itself. A step
  // may stand in another suite than its test: a suite is where the call was written.
  const cases = [...xml.matchAll(testCase)].map(([, name = "", body = ""]) => ({ name, body }));
  const names = new Set(cases.map(({ name }) => name));
  const steps = cases.filter(({ name }) => isStep(name, names));
  let outcome = none;
  for (const { name, body } of cases) {
    if (isStep(name, names)) continue;
    const test = unescaped(name);
    if (body.includes("<skipped")) outcome = both(outcome, { ...none, skipped: [test] });
    else if (failed.test(body)) {
      const said = [
        { name, body },
        ...steps.filter((step) => step.name.startsWith(`${name} &gt; `)),
      ]
        .filter((one) => failed.test(one.body))
        .map((one) => `${one.name === name ? "" : `${one.name}: `}${saidIn(one.body)}`);
      outcome = both(outcome, failure(test, unescaped(said.join("\n"))));
    } else outcome = both(outcome, { ...none, passed: 1 });
  }
  return outcome;
}

const testCase = /<testcase name="([^"]*)"[^>]*>([\s\S]*?)<\/testcase>/g;
const failed = /<(?:failure|error)\b/;

function saidIn(body: string): string {
  return /<(?:failure|error)[^>]*>([\s\S]*?)<\/(?:failure|error)>/.exec(body)?.[1]?.trim() ?? "";
}

/** XML's five entities, and characters by number, which Deno writes for control characters. */
function unescaped(text: string): string {
  const named: Readonly<Record<string, string>> = {
    lt: "<",
    gt: ">",
    quot: '"',
    apos: "'",
    amp: "&",
  };
  return text.replace(
    /&(?:#(\d+)|#x([\da-f]+)|(lt|gt|quot|apos|amp));/gi,
    (_all, decimal?: string, hex?: string, name?: string) =>
      name !== undefined
        ? named[name.toLowerCase()] ?? ""
        : String.fromCodePoint(decimal === undefined ? parseInt(hex ?? "", 16) : Number(decimal)),
  );
}

function isStep(name: string, names: ReadonlySet<string>): boolean {
  const separator = " &gt; ";
  for (let at = name.indexOf(separator); at >= 0; at = name.indexOf(separator, at + 1)) {
    if (names.has(name.slice(0, at))) return true;
  }
  return false;
}

/** The test files in a folder, or the one file, that exist; as paths from the root. */
function testFiles(path: string): readonly string[] {
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(`${root}/${path}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  if (!info.isDirectory) return [path];
  return [...Deno.readDirSync(`${root}/${path}`)]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(({ name, isDirectory }) =>
      isDirectory || name.endsWith(".test.ts") ? testFiles(`${path}/${name}`) : []
    );
}

/** Waited for by whoever spawned them. */
const spawned = new Set<number>();

async function ended(child: Deno.ChildProcess): Promise<boolean> {
  spawned.add(child.pid);
  const { success } = await child.status;
  spawned.delete(child.pid);
  return success;
}

/** Runs a Deno command whose output people see as it comes; tells whether it succeeded. */
function deno(args: readonly string[], signal: AbortSignal): Promise<boolean> {
  return ended(
    new Deno.Command(Deno.execPath(), {
      args: [...args],
      cwd: root,
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
      signal,
    }).spawn(),
  );
}

/** Those that take longest first. */
export function inOrder(files: readonly string[]): readonly string[] {
  const first = longest.filter((file) => files.includes(file));
  return [...first, ...files.filter((file) => !first.includes(file))];
}

interface Lane {
  readonly firstUid: number;
  readonly env: Readonly<Record<string, string>>;
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/**
 * Runs the tests of one file, shows what they print when they are through, so that two files do not
 * speak at the same time, and tells what came of them.
 */
async function runFile(file: string, { firstUid, env, scratch, signal }: Lane): Promise<Outcome> {
  const folder = file.replace(/\W+/g, "-").replace(/^tests-|-test-ts$/g, "");
  const temporary = `${scratch}/tmp/${folder}`;
  Deno.mkdirSync(temporary, { recursive: true });
  // Programs of other users put files here, too: the mode of /tmp, whatever the umask.
  Deno.chmodSync(temporary, 0o1777);
  const report = `${scratch}/${folder}.xml`;
  // A job of a shell, in a process group of its own whose leader has a parent: where this was started
  // by somebody who has left, the group is orphaned, and nothing in it can be stopped. setpgid(2).
  const child = new Deno.Command("bash", {
    args: [
      ...["-c", 'set -m; "$@" 2>&1 & wait "$!"', "bash", Deno.execPath()],
      ...["test", "-A", "--no-prompt", "--no-check", `--junit-path=${report}`, file],
    ],
    cwd: root,
    env: { ...env, TMPDIR: temporary, APPJAIL_TEST_FIRST_UID: String(firstUid) },
    stdin: "null",
    stdout: "piped",
    // Where bash tells of its jobs.
    stderr: "null",
    signal,
  }).spawn();
  // What a test leaves running may hold the pipe open: the end of Deno is the end.
  const printed: Uint8Array[] = [];
  const reading = (async () => {
    for await (const bytes of child.stdout) printed.push(bytes);
  })();
  const success = await ended(child);
  await Promise.race([reading, new Promise((resolve) => setTimeout(resolve, 1_000))]);
  for (const bytes of printed) writeAll(bytes);

  let xml = "";
  try {
    xml = Deno.readTextFileSync(report);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const { passed, failed, skipped } = readReport(xml);
  const named = (test: string) => `${file}: ${test}`;
  const outcome = {
    passed,
    failed: failed.map(({ test, said }) => ({ test: named(test), said })),
    skipped: skipped.map(named),
  };
  // A module that throws while it is loaded is not in the report.
  return success || failed.length > 0 ? outcome : both(outcome, failure(file, "see above"));
}

function writeAll(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** Runs the tests and looks at what they leave: what came of both. */
async function run(
  unit: boolean,
  files: readonly string[],
  scratch: string,
  interrupted: AbortSignal,
): Promise<Outcome> {
  const late = AbortSignal.timeout(deadlineMs);
  const signal = AbortSignal.any([late, interrupted]);
  // What other users have to reach lies in a folder of this run's, so that it can be told from that
  // of another, and nothing of it stays, however the run ends.
  const open = `${scratch}/tmp/w`;
  for (const folder of [`${scratch}/tmp`, open]) {
    Deno.mkdirSync(folder);
    Deno.chmodSync(folder, 0o755);
  }
  const env: Record<string, string> = { APPJAIL_TEST_FOLDER: open };
  const scripts = `${root}/packaging`;

  if (!unit) {
    if (!await deno(["run", "-A", `${scripts}/setup.ts`, "--for", "test"], signal)) {
      return failure("the machine could not be set up");
    }
    // Without them a test is skipped, and says what it lacks: a browser is no reason to test nothing.
    if (files.some((file) => file.startsWith("tests/desktop/"))) {
      const shipped = files.some((file) => file.startsWith("tests/desktop/shipped-"));
      const purpose = shipped ? "programs" : "desktop";
      await deno(["run", "-A", `${scripts}/setup.ts`, "--for", purpose], signal);
    }
    const given = Deno.env.get("APPJAIL_EXE");
    if (given === undefined || given === "") {
      const out = `${scratch}/dist`;
      if (!await deno(["run", "-A", `${scripts}/build.ts`, "--out", out], signal)) {
        return failure("the program could not be built");
      }
      env["APPJAIL_EXE"] = `${out}/appjail`;
    } else console.log(`Testing ${given}, as APPJAIL_EXE says.`);
  }
  let outcome = none;
  if (!await deno(["check", "-q", ...files], signal)) {
    outcome = failure("the types of the tests", "see above");
  }

  const before = machineState();
  const waiting = [...inOrder(files)];
  const times: { readonly file: string; readonly seconds: number }[] = [];
  const outcomes = new Map<string, Outcome>();
  const test = async (file: string, firstUid: number): Promise<void> => {
    const began = performance.now();
    outcomes.set(file, await runFile(file, { firstUid, env, scratch, signal }));
    times.push({ file, seconds: (performance.now() - began) / 1000 });
  };
  const lane = async (firstUid: number): Promise<void> => {
    while (!signal.aborted) {
      const file = waiting.shift();
      if (file === undefined) return;
      await test(file, firstUid);
    }
  };
  // Each lane has a range of uids, 100 of them, to itself; other runs on this machine have others.
  const first = Number(Deno.env.get("APPJAIL_TEST_FIRST_UID") ?? 1100);
  await Promise.all(
    Array.from({ length: lanes }, (_, index) => lane(first + 100 * index)),
  );

  const unsteady: Failure[] = [];
  const bad = [...outcomes].filter(([, { failed }]) => failed.length > 0);
  if (!unit && bad.length <= triedAgain) {
    for (const [file, { failed }] of bad) {
      if (signal.aborted) break;
      console.log(`\n${file} failed beside others: once more, alone.`);
      await test(file, first);
      const still = new Set(outcomes.get(file)?.failed.map(({ test }) => test));
      unsteady.push(...failed.filter(({ test }) => !still.has(test)));
    }
  }
  if (interrupted.aborted) return outcome;

  const slow = times.toSorted((a, b) => b.seconds - a.seconds).slice(0, namedSlow);
  console.log(
    `\nLongest: ${slow.map(({ file, seconds }) => `${file} ${Math.round(seconds)} s`).join(", ")}`,
  );
  tell("Failed beside other files, and passed alone", unsteady);
  for (const one of outcomes.values()) outcome = both(outcome, one);
  if (late.aborted) {
    outcome = both(
      outcome,
      failure("the whole run", `It did not end within ${deadlineMs / 60_000} minutes`),
    );
  }
  for (const left of await leftoversOf(before, `${scratch}/tmp`)) {
    outcome = both(outcome, failure("nothing is left behind", `The tests left ${left}`));
  }
  return outcome;
}

/** Names tests with what they said, as far as it is worth reading twice. */
function tell(title: string, failures: readonly Failure[]): void {
  if (failures.length === 0) return;
  console.log(`\n${title}:`);
  for (const { test, said } of failures) {
    const lines = said.split("\n").filter((line) => line.trim() !== "");
    console.log(`  ${test}`);
    for (const line of lines.slice(0, saidLines)) console.log(`    ${line.slice(0, 300)}`);
    if (lines.length > saidLines) console.log(`    (${lines.length - saidLines} more lines above)`);
  }
}

/** Ends whatever was started from here, to the last process: one may start others meanwhile. */
async function endAll(): Promise<void> {
  const limit = Date.now() + endDeadlineMs;
  for (let left = remaining(); left.length > 0 && Date.now() < limit; left = remaining()) {
    for (const { pid } of left) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function main(args: readonly string[]): Promise<number> {
  const unit = args[0] === "unit";
  const named = unit ? args.slice(1) : args;
  const wanted = named.length > 0 ? named : unit ? unitTests : ["tests"];
  const files = wanted.flatMap((path) => testFiles(path.replace(/^\.\//, "").replace(/\/+$/, "")));
  if (files.length === 0) {
    console.error(`Cannot find a test in ${wanted.join(", ")}; name a file or folder from ${root}`);
    return 100;
  }

  using libc = dlopenLibc();
  // Whoever loses its parent becomes a child of this process, under whatever user it runs: so what
  // is still alive after the tests can be told without fail.
  libc.becomeSubreaper();
  const reaper = setInterval(() => libc.reap(spawned), 100);
  const interrupted = new AbortController();
  const scratch = Deno.makeTempDirSync({ prefix: "appjail-test-" });
  // Other users run what is built here.
  Deno.chmodSync(scratch, 0o755);
  const clean = async (): Promise<void> => {
    await endAll();
    try {
      removeUnlessMounted(scratch);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      console.error(`Cannot remove ${scratch}: ${why}`);
    }
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => interrupted.abort());
  }
  let outcome: Outcome;
  try {
    outcome = await run(unit, files, scratch, interrupted.signal);
  } finally {
    await clean();
    clearInterval(reaper);
  }
  if (interrupted.signal.aborted) {
    console.error("Interrupted: what had been started was ended.");
    return 130;
  }
  const { passed, failed, skipped } = outcome;
  tell(
    "Skipped, because this machine lacks what they need",
    skipped.map((test) => ({ test, said: "" })),
  );
  tell("Failed", failed);
  console.log(`\n${passed} passed, ${failed.length} failed`);
  return failed.length === 0 && passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
