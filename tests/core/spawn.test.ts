/** Starting a process with exactly the descriptors and limits that are meant for it. */
import assert from "node:assert/strict";
import { duplicate, type Fd, open, pipe, readAll } from "../../ipc/fd.ts";
import { reap, spawn } from "../../core/kernel.ts";

/** Runs a shell's words and returns what they print. */
function run(script: string, streams: (out: number) => readonly number[], soft?: bigint): string {
  const out = pipe();
  using read = out.read;
  {
    using write = out.write;
    spawn({
      path: "/bin/sh",
      argv: ["sh", "-c", script],
      env: { PATH: "/usr/bin:/bin" },
      descriptors: streams(write.number),
      cwd: "/",
      session: true,
      ...(soft === undefined ? {} : { softDescriptors: soft }),
    });
  }
  const text = new TextDecoder().decode(readAll(read.number, 65_536));
  while (typeof reap() === "string");
  return text;
}

Deno.test("a limit of descriptors is the child's, even when the parent has more open", () => {
  using nothing = open("/dev/null", 0);
  using many = new DisposableStack();
  let highest: Fd = nothing;
  while (highest.number < 300) highest = many.use(duplicate(nothing.number));
  const own = run("ulimit -Sn", (out) => [nothing.number, out, out]);
  const said = run("ulimit -Sn; ulimit -Hn", (out) => [highest.number, out, out], 256n);
  assert.equal(said.split("\n")[0], "256");
  // Neither its hard limit nor the parent's own has changed.
  assert.equal(said.split("\n")[1], run("ulimit -Hn", (out) => [nothing.number, out, out]).trim());
  assert.equal(run("ulimit -Sn", (out) => [nothing.number, out, out]), own);
});

Deno.test("a limit above the hard one is the hard one", () => {
  using nothing = open("/dev/null", 0);
  const [soft, hard] = run(
    "ulimit -Sn; ulimit -Hn",
    (out) => [nothing.number, out, out],
    2n ** 40n,
  ).split("\n");
  assert.equal(soft, hard);
});

Deno.test("a child has the descriptors that are named, whatever else is open", () => {
  using nothing = open("/dev/null", 0);
  using leaked = open("/etc/passwd", 0);
  // Swapped, doubled, and one that is another's target.
  const said = run("ls /proc/self/fd; readlink /proc/$$/fd/4 /proc/$$/fd/0", (out) => [
    leaked.number,
    out,
    out,
    nothing.number,
    nothing.number,
  ]);
  assert.equal(said, "0\n1\n2\n3\n4\n5\n/dev/null\n/etc/passwd\n");
});
