/** Where control groups may be made, and what is written to them. The kernel's part: tests/jail/limits.test.ts. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { placesIn, scopeWords, writings } from "../../core/cgroup.ts";
import { heldBy, limited, limitText, noLimits } from "../../core/limits.ts";
import { Random } from "../random.ts";

const unified = "25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
const hybrid = [
  "25 1 0:22 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755",
  "26 25 0:23 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw",
  "27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct",
  "28 25 0:25 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory",
  "29 25 0:26 /docker/1 /sys/fs/cgroup/pids rw shared:8 - cgroup cgroup rw,pids",
].join("\n");

Deno.test("one hierarchy has all controllers that it offers", () => {
  const places = placesIn(unified, "0::/\n", () => ["cpuset", "cpu", "io", "memory", "pids"]);
  const place = { version: 2, folder: "/sys/fs/cgroup" } as const;
  deepEqual([...places], [["memory", place], ["processes", place], ["cpu", place]]);
  deepEqual([...placesIn(unified, "0::/\n", () => ["cpu"]).keys()], ["cpu"]);
});

Deno.test("in what is somebody's part of the hierarchy nothing is made", () => {
  const session = "0::/user.slice/user-0.slice/session-1.scope\n";
  equal(placesIn(unified, session, () => ["cpu", "memory", "pids"]).size, 0);
  const own = "4:memory:/jobs/7\n3:cpu,cpuacct:/\n2:pids:/\n0::/\n";
  const places = placesIn(hybrid, own, () => ["hugetlb"]);
  // Memory is in a group of somebody's, and of pids only a part is mounted.
  deepEqual([...places], [["cpu", { version: 1, folder: "/sys/fs/cgroup/cpu,cpuacct" }]]);
});

Deno.test("whatever the kernel's files say, no place is made up", () => {
  const random = new Random(7);
  const words = [" ", "\n", " - ", "cgroup", "cgroup2", "/", ":", ",", "0::/", "rw,cpu", "\\040"];
  for (let turn = 0; turn < 2000; turn++) {
    const text = () =>
      Array.from({ length: random.below(30) }, () => words[random.below(words.length)]).join("");
    for (const [, { folder }] of placesIn(text(), text(), () => ["cpu"])) {
      ok(!/[\s\\]/.test(folder), folder);
    }
  }
});

Deno.test("a limit is written in the words of each version of control groups", () => {
  deepEqual(writings(2, "memory", 2 ** 29), [["memory.max", "536870912"]]);
  deepEqual(writings(1, "memory", 2 ** 29), [["memory.limit_in_bytes", "536870912"]]);
  deepEqual(writings(2, "cpu", 12.5), [["cpu.max", "12500 100000"]]);
  deepEqual(writings(1, "cpu", 250), [["cpu.cfs_period_us", "100000"], [
    "cpu.cfs_quota_us",
    "250000",
  ]]);
  for (const version of [1, 2] as const) {
    deepEqual(writings(version, "processes", 40), [["pids.max", "40"]]);
  }
});

Deno.test("systemd is asked for a scope around the very command", () => {
  const words = scopeWords("appjail-1100-5-1", { memory: 2 ** 29, processes: null, cpu: 50 });
  deepEqual(words.slice(1), [
    "--quiet",
    "--scope",
    "--collect",
    "--unit=appjail-1100-5-1",
    "--property=MemoryMax=536870912",
    "--property=CPUQuota=50%",
    "--",
  ]);
});

Deno.test("a limit that no group holds is held by what there is, or by nothing", () => {
  const limits = { memory: 2 ** 29, processes: 60, cpu: 50 };
  deepEqual(heldBy(limits, new Set()), {
    memory: { most: 2 ** 29, by: "rlimit" },
    processes: { most: 60, by: "rlimit" },
    cpu: { most: 50, by: "nothing" },
  });
  deepEqual(heldBy({ ...limits, memory: null }, new Set(["cpu", "memory"])), {
    memory: null,
    processes: { most: 60, by: "rlimit" },
    cpu: { most: 50, by: "cgroup" },
  });
  deepEqual(heldBy({ memory: null, processes: null, cpu: null }, new Set(["cpu"])), noLimits);
  deepEqual(limited(limits).map(limitText), [
    "512 MiB of memory",
    "60 processes and threads",
    "50 % of a processor",
  ]);
});
