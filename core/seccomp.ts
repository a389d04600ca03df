/**
 * The system calls that a jail is not to make, as a filter for bubblewrap's `--seccomp`: attack
 * surface of the kernel that no desktop program needs. It is made with libseccomp, which knows the
 * numbers and traps of each architecture. seccomp(2), seccomp_rule_add(3), bwrap(1).
 *
 * Run by the helper, as root; nothing of it depends on what somebody else says but the set's name.
 * What a filter forbids fails with an error, so that a program that asks whether there is such a call
 * goes another way; calls of an architecture that is not listed end the program.
 *
 * @module
 */
import { pipe, readAll } from "../ipc/fd.ts";
import { errnoName, SystemError } from "../ipc/errno.ts";
import { bytesOf } from "../ipc/octets.ts";
import { AppjailError } from "./errors.ts";
import { type Comparison, type Filter, type Rule, rulesOf } from "./seccomp-rules.ts";

/** seccomp.h and errno.h; the same on every architecture that is supported. */
const SCMP_ACT_ALLOW = 0x7fff0000;
const SCMP_ACT_ERRNO = 0x00050000;
const SCMP_ARCH_X86 = 0x40000003;
const NR_SCMP_ERROR = -1;

const declarations = {
  seccomp_init: { parameters: ["u32"], result: "pointer" },
  seccomp_release: { parameters: ["pointer"], result: "void" },
  seccomp_arch_add: { parameters: ["pointer", "u32"], result: "i32" },
  seccomp_syscall_resolve_name: { parameters: ["buffer"], result: "i32" },
  seccomp_rule_add_array: {
    parameters: ["pointer", "u32", "i32", "u32", "buffer"],
    result: "i32",
  },
  seccomp_export_bpf: { parameters: ["pointer", "i32"], result: "i32" },
} as const;

/** Loaded with the module: later on the helper has given up the permission to load anything. */
const library = ((): Deno.DynamicLibrary<typeof declarations> | undefined => {
  try {
    return Deno.dlopen("libseccomp.so.2", declarations);
  } catch {
    return undefined;
  }
})();

const made = new Map<Filter, Uint8Array<ArrayBuffer>>();

/**
 * The filter of a set, as the kernel takes it: an array of `struct sock_filter`.
 *
 * @throws {AppjailError} `start-failed` where libseccomp is not installed
 */
export function filterFor(set: Filter): Uint8Array<ArrayBuffer> {
  const known = made.get(set);
  if (known !== undefined) return known;
  if (library === undefined) {
    throw new AppjailError(
      "start-failed",
      "libseccomp is not installed; try: apt install libseccomp2",
    );
  }
  const filter = make(library.symbols, rulesOf(set));
  made.set(set, filter);
  return filter;
}

function make(
  c: Deno.DynamicLibrary<typeof declarations>["symbols"],
  rules: readonly Rule[],
): Uint8Array<ArrayBuffer> {
  /** They answer with an errno, negative. */
  const check = (result: number, call: string, subject?: string): void => {
    if (result < 0) throw new SystemError(call, -result, subject);
  };
  const context = c.seccomp_init(SCMP_ACT_ALLOW);
  if (context === null) throw new Error("seccomp_init failed");
  try {
    if (Deno.build.arch === "x86_64") {
      const result = c.seccomp_arch_add(context, SCMP_ARCH_X86);
      if (errnoName(-result) !== "EEXIST") check(result, "seccomp_arch_add");
    }
    for (const { calls, error, when = [] } of rules) {
      const words = comparisons(when);
      for (const name of calls) {
        const number = c.seccomp_syscall_resolve_name(bytesOf(`${name}\0`));
        // Younger than the library: then its number is not known.
        if (number === NR_SCMP_ERROR) continue;
        const action = SCMP_ACT_ERRNO | error;
        check(
          c.seccomp_rule_add_array(context, action, number, when.length, words),
          "seccomp_rule_add",
          name,
        );
      }
    }
    const { read, write } = pipe();
    using end = read;
    {
      // A filter has at most 4096 instructions of 8 bytes (BPF_MAXINSNS): a pipe holds it.
      using into = write;
      check(c.seccomp_export_bpf(context, into.number), "seccomp_export_bpf");
    }
    return readAll(end.number, 64 * 1024);
  } finally {
    c.seccomp_release(context);
  }
}

/** An array of `struct scmp_arg_cmp`. seccomp_rule_add(3). */
function comparisons(when: readonly Comparison[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(Math.max(1, when.length) * 24));
  for (const [index, { argument, operator, first, second = 0 }] of when.entries()) {
    view.setUint32(index * 24, argument, true);
    view.setUint32(index * 24 + 4, operator, true);
    view.setBigUint64(index * 24 + 8, BigInt(first), true);
    view.setBigUint64(index * 24 + 16, BigInt(second), true);
  }
  return new Uint8Array(view.buffer);
}
