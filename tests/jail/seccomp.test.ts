/**
 * Which system calls the kernel refuses to a program in a jail, first or joined, whatever it does: each
 * is really made.
 */
import assert from "node:assert/strict";
import { numberOf } from "../../ipc/libc.ts";
import { themeTest } from "./world.ts";

/** asm/unistd_64.h and asm-generic/unistd.h. */
const calls = {
  add_key: numberOf(248, 217),
  bpf: numberOf(321, 280),
  fsopen: 430,
  getpid: numberOf(39, 172),
  io_uring_setup: 425,
  keyctl: numberOf(250, 219),
  mount: numberOf(165, 40),
  open_tree: 428,
  perf_event_open: numberOf(298, 241),
  request_key: numberOf(249, 218),
  userfaultfd: numberOf(323, 282),
} as const;

/** Makes calls without arguments and prints the errno of each; perl is in every Debian. */
const script = `
for (@ARGV) { $! = 0; syscall($_, 0, 0, 0, 0, 0); printf "%d ", $!; }
`;

const EPERM = 1;
const ENOSYS = 38;
const expected: Readonly<Record<keyof typeof calls, number>> = {
  add_key: EPERM,
  bpf: EPERM,
  fsopen: ENOSYS,
  getpid: 0,
  io_uring_setup: ENOSYS,
  keyctl: EPERM,
  mount: EPERM,
  open_tree: ENOSYS,
  perf_event_open: EPERM,
  request_key: EPERM,
  userfaultfd: EPERM,
};

themeTest("a jail refuses system calls that no desktop program needs", {}, async (t, world) => {
  const numbers = Object.values(calls).map(String);
  for (const which of ["the first program", "a joined program"]) {
    await t.step(which, async () => {
      const { code, stdout, stderr } = await world.client([
        ...["run", "-p", "work", "--", "perl", "-e", script, ...numbers],
      ]);
      assert.equal(code, 0, stderr);
      const said = stdout.trim().split(" ").map(Number);
      const errors = Object.fromEntries(Object.keys(calls).map((name, at) => [name, said[at]]));
      assert.deepEqual(errors, expected);
    });
  }
  await t.step("without a jail they have other answers, or come through", async () => {
    const { stdout } = await new Deno.Command("perl", { args: ["-e", script, ...numbers] })
      .output();
    const said = new TextDecoder().decode(stdout).trim().split(" ").map(Number);
    const same = Object.keys(calls).filter((name, at) =>
      said[at] === expected[name as keyof typeof calls]
    );
    assert.deepEqual(same, ["getpid"]);
  });
  await t.step("typing at a terminal, with high bits set too", async () => {
    const TIOCSTI = 0x5412;
    const numbersOf = [TIOCSTI, TIOCSTI + 2 ** 32, 0x541c].map(String);
    const type = `
      use POSIX; my $c = "x";
      for (@ARGV) { $! = 0; syscall(${numberOf(16, 29)}, 0, $_ + 0, $c); printf "%d ", $!; }
    `;
    const { stdout } = await world.client([
      ...["run", "-t", "-p", "work", "--", "perl", "-e", type, ...numbersOf],
    ]);
    assert.equal(stdout.trim(), `${EPERM} ${EPERM} ${EPERM}`);
  });
  await t.step("a browser's own sandbox can be made", async () => {
    // What chromium and firefox do: new namespaces, and a root that has nothing.
    const { code, stdout, stderr } = await world.client([
      ...["run", "-p", "work", "--", "unshare", "--user", "--map-root-user", "--pid", "--net"],
      ...["--fork", "/usr/sbin/chroot", "/", "true"],
    ]);
    assert.deepEqual([code, stdout, stderr], [0, "", ""]);
  });
});
