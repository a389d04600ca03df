/** core/seccomp.ts: what each set forbids; whether the kernel does is tests/jail/seccomp.test.ts. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { filterFor } from "../../core/seccomp.ts";
import { rulesOf } from "../../core/seccomp-rules.ts";

const sets = ["nested", "default", "strict"] as const;

const callsOf = (set: (typeof sets)[number]): ReadonlySet<string> =>
  new Set(rulesOf(set).flatMap(({ calls, when }) => when === undefined ? calls : []));

Deno.test("each set forbids what the one before it does, and more", () => {
  const [nested, usual, strict] = sets.map(callsOf);
  ok(nested !== undefined && usual !== undefined && strict !== undefined);
  ok(nested.isSubsetOf(usual) && usual.isSubsetOf(strict));
  deepEqual([...usual.difference(nested)].sort(), [
    ...["fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount"],
    ...["open_tree", "pivot_root", "umount", "umount2"],
  ]);
  for (const call of ["keyctl", "bpf", "kexec_load", "userfaultfd", "perf_event_open"]) {
    ok(nested.has(call), call);
  }
  for (const call of ["ptrace", "unshare", "setns", "clone3"]) ok(strict.has(call), call);
  // What every program does is in none.
  for (const call of ["read", "openat", "clone", "execve", "ioctl", "futex"]) {
    ok(!strict.has(call), call);
  }
});

Deno.test("a filter is made once, of whole instructions, and no more than the kernel takes", () => {
  const sizes = sets.map((set) => {
    const filter = filterFor(set);
    equal(filterFor(set), filter);
    equal(filter.length % 8, 0);
    ok(filter.length / 8 <= 4096);
    return filter.length;
  });
  deepEqual(sizes, sizes.toSorted((a, b) => a - b));
  ok((sizes[0] ?? 0) > 100);
});
