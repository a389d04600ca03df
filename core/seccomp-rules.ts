/**
 * Which system calls each set of a profile's `seccomp` forbids: lists, and nothing that loads or
 * calls anything. core/seccomp.ts makes a filter of them; docs/system-calls.md tells what they are for.
 *
 * @module
 */
import type { SeccompSet } from "./protocol.ts";

export type Filter = Exclude<SeccompSet, "none">;

/** seccomp.h, errno.h; the same on every architecture that is supported. */
const SCMP_CMP_NE = 1;
const SCMP_CMP_MASKED_EQ = 7;
const EPERM = 1;
const ENOSYS = 38;

/** Administration of the machine, which takes capabilities that nobody in a jail has. */
const administration: readonly string[] = [
  "acct",
  "clock_settime",
  "create_module",
  "delete_module",
  "finit_module",
  "init_module",
  "ioperm",
  "iopl",
  "kexec_file_load",
  "kexec_load",
  "nfsservctl",
  "open_by_handle_at",
  "quotactl",
  "quotactl_fd",
  "reboot",
  "settimeofday",
  "stime",
  "swapoff",
  "swapon",
  "syslog",
  "uselib",
  "vhangup",
  "vm86",
  "vm86old",
];

/** Parts of the kernel by which it was taken over again and again, and keys that all of a uid share. */
const exposed: readonly string[] = [
  "add_key",
  "bpf",
  "fanotify_init",
  "keyctl",
  "lookup_dcookie",
  "perf_event_open",
  "request_key",
  "userfaultfd",
];

/** Said not to be there: who finds them missing does without. */
const unknown: readonly string[] = [
  "io_uring_enter",
  "io_uring_register",
  "io_uring_setup",
];

/** To make mounts, the newer calls said not to be there. A browser's own sandbox needs none of them. */
const mounts: readonly string[] = ["mount", "pivot_root", "umount", "umount2"];
const newMounts: readonly string[] = [
  "fsconfig",
  "fsmount",
  "fsopen",
  "fspick",
  "mount_setattr",
  "move_mount",
  "open_tree",
];

/** What a browser's sandbox, a debugger and wine need, and little else. */
const uncommon: readonly string[] = [
  "chroot",
  "kcmp",
  "mbind",
  "migrate_pages",
  "move_pages",
  "process_vm_readv",
  "process_vm_writev",
  "ptrace",
  "set_mempolicy",
  "setns",
  "unshare",
];

/** Every flag of clone(2) that makes a namespace. linux/sched.h. */
const CLONE_NEW = [
  0x00020000, // mount
  0x02000000, // cgroup
  0x04000000, // uts
  0x08000000, // ipc
  0x10000000, // user
  0x20000000, // pid
  0x40000000, // net
];

/** asm-generic/ioctls.h: to type at a terminal in its user's place. CVE-2017-5226. */
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

/** A comparison of one argument of a call. */
export interface Comparison {
  readonly argument: number;
  readonly operator: number;
  readonly first: number;
  readonly second?: number;
}

export interface Rule {
  readonly calls: readonly string[];
  readonly error: number;
  readonly when?: readonly Comparison[];
}

/** What each set forbids. */
export function rulesOf(set: Filter): readonly Rule[] {
  // The kernel looks at 32 bits of an ioctl's number, a filter at 64: CVE-2019-10063.
  const ioctl = (number: number): Rule => ({
    calls: ["ioctl"],
    error: EPERM,
    when: [{ argument: 1, operator: SCMP_CMP_MASKED_EQ, first: 0xffffffff, second: number }],
  });
  const always: readonly Rule[] = [
    { calls: [...administration, ...exposed], error: EPERM },
    { calls: unknown, error: ENOSYS },
    ioctl(TIOCSTI),
    ioctl(TIOCLINUX),
  ];
  const noMounts: readonly Rule[] = [
    { calls: mounts, error: EPERM },
    { calls: newMounts, error: ENOSYS },
  ];
  switch (set) {
    case "nested":
      return always;
    case "default":
      return [...always, ...noMounts];
    case "strict":
      return [
        ...always,
        ...noMounts,
        { calls: uncommon, error: EPERM },
        // Another one makes addresses easier to guess. personality(2).
        {
          calls: ["personality"],
          error: EPERM,
          when: [{ argument: 0, operator: SCMP_CMP_NE, first: 0 }],
        },
        // Its flags lie in memory, where no filter can look: everybody falls back to clone.
        { calls: ["clone3"], error: ENOSYS },
        ...CLONE_NEW.map((flag): Rule => ({
          calls: ["clone"],
          error: EPERM,
          when: [{ argument: 0, operator: SCMP_CMP_MASKED_EQ, first: flag, second: flag }],
        })),
      ];
    default:
      return set satisfies never;
  }
}
