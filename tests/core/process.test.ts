/** core/process.ts: which process a pid means, whatever it calls itself (attack 15). */
import { deepEqual, equal, ok } from "node:assert/strict";
import {
  allPids,
  identify,
  memoryOf,
  openProcess,
  parentOf,
  parseStat,
  pidsOf,
  realUid,
} from "../../core/process.ts";
import { Random } from "../random.ts";
import { leakingNothing, Scratch } from "../scratch.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

/** A line of /proc/PID/stat with this name; the state is S, the parent 7, the start 12345. */
function stat(comm: string): string {
  const rest = Array.from({ length: 17 }, (_, at) => at + 4);
  return `42 (${comm}) S 7 ${rest.join(" ")} 12345 ${rest.join(" ")}\n`;
}

Deno.test("a name that looks like the rest of the line is only a name", () => {
  const parsed = { state: "S", parent: 7, startTime: 12345 };
  const names = [
    "cat",
    "",
    " ",
    ")",
    "(",
    "))((",
    ") R 1 (",
    ") Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1",
    "a\nb",
    ") R 1\n42 (x) R 1",
    "\0",
    "😀",
    "(sd-pam)",
  ];
  for (const name of names) deepEqual(parseStat(stat(name)), parsed, JSON.stringify(name));
  const random = new Random(8);
  for (let i = 0; i < 2000; i++) {
    deepEqual(parseStat(stat(random.text(15, ") (RZ1 \n42"))), parsed);
  }
});

Deno.test("what is no line of stat is none", () => {
  const whole = stat("x");
  for (
    const text of ["", "\n", "42", "42 (x)", "42 (x) ", "42 (x) S", "x) S y z", "42 (x) S 7 1 2 3"]
  ) {
    equal(parseStat(text), undefined, text);
  }
  equal(parseStat(whole.replace("12345", "x")), undefined);
  equal(parseStat(whole.replace("S 7", "S x")), undefined);
  equal(parseStat(whole.replace("12345", "1.5")), undefined);
});

Deno.test("this process is found, with its parent, its uid and its memory", () => {
  const self = identify("self");
  ok(self !== undefined);
  equal(self.pid, Deno.pid);
  deepEqual(identify(Deno.pid), self);
  equal(parentOf(Deno.pid), Deno.ppid);
  equal(realUid("self"), Deno.uid());
  ok(allPids().includes(Deno.pid));
  ok(pidsOf(Deno.uid() ?? -1).includes(Deno.pid));
  ok(memoryOf(Deno.pid) > 1_000_000);
});

Deno.test("a pid of nobody is nobody", () => {
  for (const pid of [0, -1, 2 ** 22 + 1, 2 ** 31 - 1, NaN, 1.5]) {
    equal(identify(pid), undefined);
    equal(realUid(pid), undefined);
    equal(parentOf(pid), undefined);
    equal(memoryOf(pid), 0);
  }
  deepEqual(pidsOf(4_294_967_294), []);
});

Deno.test("a process with a hostile name is told by what it is, and a zombie is no process", async () => {
  using scratch = new Scratch();
  // The kernel takes a process's name from its file's.
  const path = `${scratch.path}/) R 1 (`;
  Deno.copyFileSync("/bin/sleep", path);
  // Not a shell: it may wait for what has ended at any time.
  const parent = `$| = 1; my $child = fork // die;
    if ($child == 0) { close STDOUT; exec {$ARGV[0]} $ARGV[0], 60 or die }
    print "$child\\n"; <STDIN>; kill 9, $child; print "killed\\n"; <STDIN>`;
  const child = new Deno.Command("perl", {
    args: ["-e", parent, path],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const writer = child.stdin.getWriter();
  const pid = Number((await lines.read()).value);
  const isNamed = (): boolean => Deno.readTextFileSync(`/proc/${pid}/comm`) === ") R 1 (\n";
  while (!isNamed()) await new Promise((resolve) => setTimeout(resolve, 1));
  equal(parentOf(pid), child.pid);
  const found = identify(pid);
  equal(found?.pid, pid);
  equal(found?.pidNamespace, identify("self")?.pidNamespace);
  await writer.write(new TextEncoder().encode("\n"));
  await lines.read();
  // The shell has not waited for it.
  while (identify(pid) !== undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  ok(allPids().includes(pid));
  ok(!pidsOf(Deno.uid() ?? -1).includes(pid));
  await writer.close();
  await lines.cancel();
  await child.status;
});

Deno.test("no process of the host is ever opened: not this one, not init, not by any number", async () => {
  const self = identify("self");
  ok(self !== undefined);
  await leakingNothing(() => {
    const uid = Deno.uid() ?? -1;
    // Everything is right, but the namespace is the host's own.
    equal(openProcess(self, uid), undefined);
    for (const pid of [0, 1, -1, 2 ** 31, NaN, 1.5, -Deno.pid]) {
      equal(openProcess({ ...self, pid }, uid), undefined);
    }
    equal(openProcess({ ...self, startTime: self.startTime + 1 }, uid), undefined);
    equal(openProcess({ ...self, pidNamespace: self.pidNamespace + 1 }, uid), undefined);
  });
});

/** Whether this machine lets us make namespaces; where it does not, root's tests tell more. */
const namespaces = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
const canUnshare = await new Deno.Command("unshare", {
  args: [...namespaces, "true"],
  stdout: "null",
  stderr: "null",
}).output().then(({ success }) => success, () => false);

Deno.test(
  "a process in a namespace of its own is opened when all of it is as it was, and only then",
  {
    ignore: !canUnshare,
  },
  async () => {
    const child = new Deno.Command("unshare", {
      args: [...namespaces, "sh", "-c", "echo up; read _"],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const lines = child.stdout.getReader();
    await lines.read();
    const pid = allPids().find((one) => parentOf(one) === child.pid);
    const found = identify(pid ?? -1);
    ok(pid !== undefined && found !== undefined);
    const uid = Deno.uid() ?? -1;
    await leakingNothing(() => {
      using pidfd = openProcess(found, uid);
      ok(pidfd !== undefined);
      equal(openProcess({ ...found, startTime: found.startTime + 1 }, uid), undefined);
      equal(openProcess({ ...found, pidNamespace: found.pidNamespace + 1 }, uid), undefined);
      equal(openProcess({ ...found, pid: child.pid }, uid), undefined);
      equal(openProcess(found, uid + 1), undefined);
    });
    await child.stdin.close();
    await lines.cancel();
    await child.status;
    equal(openProcess(found, uid), undefined);
  },
);
