/** core/plan.ts and core/host.ts: what a jail sees (attack 20), read from bubblewrap's words. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { hostLayout, hostText } from "../../core/host.ts";
import type { AbsolutePath, AppUid, LendName, ProfileName } from "../../core/names.ts";
import {
  complaintFor,
  groupFor,
  type HostLayout,
  type JailPlan,
  type LentAt,
  passwdFor,
  placeProblem,
  planJail,
  programInJail,
  secrets,
  sharedData,
  systemRoots,
} from "../../core/plan.ts";
import { type JailSpec, plainSpec } from "../../core/protocol.ts";
import { Random } from "../random.ts";

const [profile, uid] = ["work" as ProfileName, 1100 as AppUid];

/** Debian since bookworm: /bin and its like are links into /usr. */
const merged: HostLayout = {
  roots: { "/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64" },
  secretFiles: ["/etc/shadow", "/etc/sudoers"],
  secretFolders: ["/etc/ssh"],
  machineId: true,
  linked: ["/run/systemd/resolve/stub-resolv.conf"],
};
/** Debian before: folders of their own. */
const unmerged: HostLayout = {
  roots: { "/bin": null, "/sbin": null, "/lib": null, "/lib64": null },
  secretFiles: [],
  secretFolders: [],
  machineId: false,
  linked: [],
};

function plan(
  host: HostLayout,
  network: "host" | "none" = "host",
  more: Partial<JailSpec> = {},
): JailPlan {
  return {
    profile,
    uid,
    spec: { ...plainSpec, network, ...more },
    lent: [],
    host,
    program: "/run/appjail/program",
    home: "/data/1100",
    files: "/run/appjail/jails/1100",
    infoFd: 5,
    seccompFd: undefined,
    proxy: undefined,
    seen: [],
  };
}

/** How many words follow each option that a plan may have: a closed set. bwrap(1). */
const arity: Readonly<Record<string, number>> = {
  "--unshare-user": 0,
  "--unshare-pid": 0,
  "--unshare-ipc": 0,
  "--unshare-uts": 0,
  "--unshare-net": 0,
  "--unshare-cgroup-try": 0,
  "--hostname": 1,
  "--uid": 1,
  "--gid": 1,
  "--dev-bind-try": 2,
  "--seccomp": 1,
  "--as-pid-1": 0,
  "--info-fd": 1,
  "--ro-bind": 2,
  "--ro-bind-try": 2,
  "--bind": 2,
  "--symlink": 2,
  "--perms": 1,
  "--tmpfs": 1,
  "--dir": 1,
  "--proc": 1,
  "--dev": 1,
  "--remount-ro": 1,
  "--chdir": 1,
};

/** The options with their words, each as one text. */
function operations(words: readonly string[]): readonly string[] {
  const found: string[] = [];
  for (let at = 0; at < words.length;) {
    const option = words[at] ?? "";
    const count = arity[option];
    ok(count !== undefined, `${option} is no option of a plan`);
    const end = at + 1 + count;
    ok(end <= words.length, `${option} lacks a word`);
    found.push(words.slice(at, end).join(" "));
    at = end;
  }
  return found;
}

const operationsOf = (host: HostLayout, network: "host" | "none" = "host"): readonly string[] =>
  operations(planJail(plan(host, network)));

Deno.test("the whole of a jail, on a system with merged /usr", () => {
  deepEqual(operationsOf(merged), [
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--as-pid-1",
    "--info-fd 5",
    "--perms 0755",
    "--dir /home",
    "--bind /data/1100 /home/work",
    "--bind /run/appjail/jails/1100/lend /home/work/lent",
    "--ro-bind /usr /usr",
    "--symlink usr/bin /bin",
    "--symlink usr/sbin /sbin",
    "--symlink usr/lib /lib",
    "--symlink usr/lib64 /lib64",
    "--ro-bind-try /opt /opt",
    "--ro-bind /etc /etc",
    "--ro-bind /run/appjail/jails/1100/none /etc/shadow",
    "--ro-bind /run/appjail/jails/1100/none /etc/sudoers",
    "--perms 0000",
    "--tmpfs /etc/ssh",
    "--remount-ro /etc/ssh",
    "--ro-bind /run/appjail/jails/1100/passwd /etc/passwd",
    "--ro-bind /run/appjail/jails/1100/group /etc/group",
    "--ro-bind /run/appjail/jails/1100/machine-id /etc/machine-id",
    "--proc /proc",
    "--dev /dev",
    "--perms 1777",
    "--tmpfs /dev/shm",
    "--remount-ro /dev",
    "--perms 1777",
    "--tmpfs /tmp",
    ...["/var", "/var/cache", "/var/lib", "/var/lib/dbus"].flatMap((folder) => [
      "--perms 0755",
      `--dir ${folder}`,
    ]),
    "--perms 1777",
    "--tmpfs /var/tmp",
    ...sharedData.map((folder) => `--ro-bind-try ${folder} ${folder}`),
    "--ro-bind /run/appjail/jails/1100/machine-id /var/lib/dbus/machine-id",
    "--symlink /run /var/run",
    "--perms 0755",
    "--dir /run",
    "--perms 0755",
    "--dir /run/user",
    "--perms 0700",
    "--tmpfs /run/user/1100",
    "--ro-bind-try /run/systemd/resolve/stub-resolv.conf /run/systemd/resolve/stub-resolv.conf",
    "--ro-bind /run/appjail/program /run/appjail",
    "--remount-ro /",
    "--chdir /home/work",
  ]);
});

Deno.test("on a system without merged /usr the folders themselves are seen", () => {
  const all = operationsOf(unmerged);
  for (const root of Object.keys(unmerged.roots)) {
    ok(all.includes(`--ro-bind ${root} ${root}`));
    ok(!all.some((one) => one.startsWith("--symlink") && one.endsWith(` ${root}`)));
  }
});

Deno.test("a jail without network has none, and differs in nothing else", () => {
  const [shared, none] = [operationsOf(merged), operationsOf(merged, "none")];
  ok(!shared.includes("--unshare-net"));
  deepEqual(none.filter((one) => one !== "--unshare-net"), shared);
  equal(none.length, shared.length + 1);
});

for (const [name, host] of Object.entries({ merged, unmerged, "this one": hostLayout() })) {
  for (const network of ["host", "none"] as const) {
    Deno.test(`a jail on a host that is ${name}, network ${network}: nothing of the host but its system`, () => {
      const all = operationsOf(host, network);
      const position = (wanted: string): number => {
        const at = all.indexOf(wanted);
        ok(at >= 0, `${wanted} is missing`);
        return at;
      };
      // The one thing that can be written to outlives the jail: the home. The folder in it is root's.
      deepEqual(all.filter((one) => one.startsWith("--bind ")), [
        "--bind /data/1100 /home/work",
        "--bind /run/appjail/jails/1100/lend /home/work/lent",
      ]);
      const own = ["/run/appjail/program", "/run/appjail/jails/1100/"];
      for (const one of all.filter((one) => /^--ro-bind/.test(one))) {
        const source = one.split(" ")[1] ?? "";
        ok(
          /^\/(?:usr|opt|etc|bin|sbin|lib\w*)$/.test(source) || sharedData.includes(source) ||
            own.some((path) => source.startsWith(path)) || host.linked.includes(source),
          `${source} of the host is seen`,
        );
      }
      for (const linked of host.linked) ok(linked.startsWith("/run/"));
      // Namespaces of its own come first; the root is closed when all is in its place.
      for (const kind of ["user", "pid", "ipc", "uts"]) position(`--unshare-${kind}`);
      deepEqual(all.slice(-2), ["--remount-ro /", "--chdir /home/work"]);
      // What covers comes after what it covers.
      const etc = position("--ro-bind /etc /etc");
      for (const file of host.secretFiles) {
        ok(position(`--ro-bind /run/appjail/jails/1100/none ${file}`) > etc);
      }
      for (const folder of host.secretFolders) {
        const at = position(`--tmpfs ${folder}`);
        ok(at > etc);
        equal(all[at - 1], "--perms 0000");
        equal(all[at + 1], `--remount-ro ${folder}`);
      }
      for (const file of ["passwd", "group", ...host.machineId ? ["machine-id"] : []]) {
        ok(position(`--ro-bind /run/appjail/jails/1100/${file} /etc/${file}`) > etc);
      }
      equal(all[position("--tmpfs /run/user/1100") - 1], "--perms 0700");
      for (const folder of ["/tmp", "/var/tmp"]) {
        equal(all[position(`--tmpfs ${folder}`) - 1], "--perms 1777");
      }
      ok(position("--dir /run") < position(`--ro-bind /run/appjail/program ${programInJail}`));
      ok(position("--dir /run/user") < position("--tmpfs /run/user/1100"));
      ok(position("--dir /home") < position("--bind /data/1100 /home/work"));
      // Each permission belongs to what is made right after it.
      all.forEach((one, at) => {
        if (one.startsWith("--perms")) ok(/^--(?:tmpfs|dir) /.test(all[at + 1] ?? ""), one);
      });
    });
  }
}

Deno.test("no word of a plan is a profile's own but its home, however it is called", () => {
  for (const name of ["_", "0", "a.b+c-d", "usr", "x".repeat(64)] as ProfileName[]) {
    const all = operations(planJail({ ...plan(merged), profile: name }));
    deepEqual(
      all.filter((one) => one.split(/[ /]/).includes(name) && !operationsOf(merged).includes(one)),
      [
        `--bind /data/1100 /home/${name}`,
        `--bind /run/appjail/jails/1100/lend /home/${name}/lent`,
        `--chdir /home/${name}`,
      ],
    );
    equal(all.length, operationsOf(merged).length);
  }
});

Deno.test("what is lent is in its second place, too: before what the app could mistake, or after", () => {
  const lent = (name: string, at: string): LentAt => ({
    name: name as LendName,
    at: at as AbsolutePath,
  });
  const all = operations(planJail({
    ...plan(merged),
    lent: [lent("music", "/home/work/Music"), lent("wayland-0", "/run/user/1100/wayland-0")],
  }));
  const position = (wanted: string): number => {
    const at = all.indexOf(wanted);
    ok(at >= 0, `${wanted} is missing`);
    return at;
  };
  const files = "/run/appjail/jails/1100/lend";
  const home = position("--bind /data/1100 /home/work");
  // A link in the home leads nowhere yet.
  equal(position(`--bind ${files}/music /home/work/Music`), home + 2);
  ok(position(`--bind ${files}/music /home/work/Music`) < position("--ro-bind /usr /usr"));
  const socket = position(`--bind ${files}/wayland-0 /run/user/1100/wayland-0`);
  ok(socket > position("--tmpfs /run/user/1100") && socket < position("--remount-ro /"));
});

Deno.test("what is lent covers nothing that a jail is made of", () => {
  const problem = (at: string): string | undefined =>
    placeProblem(at as AbsolutePath, profile, uid);
  for (
    const at of [
      ...["/home/work/Music", "/home/work/.config/app", "/home/work/lent2", "/home/alice/Music"],
      ...["/mnt/x", "/media/usb", "/srv/www", "/tmp/.X11-unix/X0", "/run/user/1100/wayland-0"],
    ]
  ) equal(problem(at), undefined, at);
  for (
    const at of [
      ...["/", "/home", "/home/work", "/home/work/lent", "/home/work/lent/x", "/mnt", "/tmp"],
      ...["/usr/x", "/etc/passwd", "/bin/sh", "/lib", "/opt/x", "/proc/1", "/sys", "/dev/x"],
      ...["/var/tmp/x", "/run/appjail", "/run/appjail/x", "/run/user/1100", "/run/user/1101/x"],
      ...["/run/user/1100/bus", "/run/user/1100/bus/x", "/home/work/../x", "/home/work/./x"],
      ...["/home//work/x", "/home/work/x/", "//home/work/x", "/homework/x", "/tmp2/x", "/data/x"],
    ]
  ) ok(problem(at) !== undefined, at);
});

Deno.test("what bubblewrap cannot mount in a home is told by what is in the way", () => {
  const lent = [
    { name: "shared" as LendName, at: "/home/work/shared" as AbsolutePath },
    { name: "x" as LendName, at: "/mnt/x" as AbsolutePath },
  ];
  const of = (complaint: string): string =>
    complaintFor(complaint, { profile, home: "/data/1100", lent });
  equal(
    of("bwrap: Can't mkdir /home/work/lent: Not a directory"),
    "what its home has at ~/lent is in the way of what is lent there (Not a directory); " +
      "try, as root: mv -nT /data/1100/lent /data/1100/lent.old",
  );
  equal(
    of(
      "bwrap: Can't bind mount /oldroot/run/x on /newroot/home/work/shared: " +
        "Unable to mount source on destination: No such file or directory",
    ),
    "what its home has at ~/shared is in the way of what is lent there (No such file or " +
      "directory); try, as root: mv -nT /data/1100/shared /data/1100/shared.old, " +
      "or: appjail profile edit work, with shared = false",
  );
  for (
    const other of [
      "bwrap: Can't mkdir /mnt/x: Not a directory",
      "bwrap: No permissions to create a new namespace",
      "",
    ]
  ) equal(of(other), other);
});

Deno.test("this host is seen as it is", () => {
  const { roots, secretFiles, secretFolders, linked } = hostLayout();
  for (const root of systemRoots) {
    let expected: string | null | undefined;
    try {
      expected = Deno.lstatSync(root).isSymlink ? Deno.readLinkSync(root) : null;
    } catch {
      expected = undefined;
    }
    equal(roots[root], expected, root);
  }
  // machine-id is covered in any case: with one of the jail's own.
  for (const path of secrets.filter((path) => path !== "/etc/machine-id")) {
    let kind: readonly string[] | undefined;
    try {
      const info = Deno.lstatSync(path);
      kind = info.isFile ? secretFiles : info.isDirectory ? secretFolders : undefined;
    } catch {
      kind = undefined;
    }
    for (const list of [secretFiles, secretFolders]) {
      equal(list.includes(path), list === kind, path);
    }
  }
  ok(secretFiles.includes("/etc/shadow"), "every Debian has one");
  for (const path of linked) ok(path.startsWith("/run/") && !path.includes(".."));
  ok(hostText("/etc/passwd").includes("root:"));
  equal(hostText("/etc/no such file"), "");
});

// --- passwd and group ----------------------------------------------------------------------------

const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
systemd-resolve:x:996:996:x:/:/usr/sbin/nologin
alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash
bob:x:60000:60000::/home/bob:/bin/bash
other:x:1101:1101:another profile:/home/other:/bin/sh
`;
const group = `root:x:0:
sudo:x:27:alice,bob
audio:x:29:alice
nogroup:x:65534:
alice:x:1000:
work:x:500:alice
`;
const own = "work:x:1100:1100:work in its jail:/home/work:/bin/sh\n";

Deno.test("a jail knows the system's accounts and itself, and no other person", () => {
  equal(
    passwdFor(passwd, profile, uid),
    `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
systemd-resolve:x:996:996:x:/:/usr/sbin/nologin
${own}`,
  );
  equal(
    groupFor(group, profile, uid),
    "root:x:0:\nsudo:x:27:\naudio:x:29:\nnogroup:x:65534:\nwork:x:1100:\n",
  );
});

Deno.test("an account of the host that is called as the profile gives way to it", () => {
  const host = "work:x:5:5:::\nwork2:x:6:6:::\n";
  equal(passwdFor(host, profile, uid), `work2:x:6:6:::\n${own}`);
  equal(passwdFor("", profile, uid), own);
});

Deno.test("a file of the host that makes no sense adds no person, and no line that is none", () => {
  const hostile = [
    "",
    ":",
    "::::::",
    "+::::::",
    "+@people",
    "# root:x:0:0",
    "alice",
    "alice:x",
    "alice:x:",
    "alice:x:-1:0::/:/bin/sh",
    "alice:x:1e1:0::/:/bin/sh",
    "alice:x: 5:0::/:/bin/sh",
    "alice:x:0x5:0::/:/bin/sh",
    "alice:x:1000:0::/:/bin/sh",
    "alice:x:65535:0::/:/bin/sh",
    "alice:x:4294967296:0::/:/bin/sh",
    "alice:x:4294968296:0::/:/bin/sh",
    "work:x:1100:1100::/:/bin/sh",
    "\0:x:1000:",
  ].join("\n");
  equal(passwdFor(hostile, profile, uid), own);
  equal(groupFor(hostile, profile, uid), "work:x:1100:\n");
});

Deno.test("members of groups are people: none is told, whatever the line looks like", () => {
  const host = "sudo:x:27:alice\nadm:x:4:alice:bob\nextra:x:5:alice:bob:carol,alice\nshort:x:6\n";
  equal(groupFor(host, profile, uid), "sudo:x:27:\nwork:x:1100:\n");
});

Deno.test("whatever the host's file holds, the last line alone is of a uid of people", () => {
  const random = new Random(10);
  let seen = 0;
  for (let i = 0; i < 1000; i++) {
    const line = (): string =>
      Array.from(
        { length: random.of([4, 4, 7, 7, random.below(9)]) },
        () => random.of(["x", "", "0", "5", "999", "1000", "1100", "65534", "work", "alice", " 7"]),
      ).join(random.of([":", ":", ":", ":", "::", " "]));
    const host = Array.from({ length: random.below(6) }, line).join("\n");
    for (const text of [passwdFor(host, profile, uid), groupFor(host, profile, uid)]) {
      const lines = text.split("\n");
      equal(lines.pop(), "");
      ok(lines.pop()?.startsWith("work:x:1100:"));
      seen += lines.length;
      for (const rest of lines) {
        const [name, , id] = rest.split(":");
        ok(
          name !== "work" && /^\d+$/.test(id ?? "") && (Number(id) < 1000 || id === "65534"),
          rest,
        );
      }
    }
  }
});

Deno.test("what a profile wishes is a few more words, each at its place", () => {
  const plain = operationsOf(merged);
  const added = (more: Partial<JailSpec>): readonly string[] =>
    operations(planJail(plan(merged, "host", more))).filter((one) => !plain.includes(one));
  deepEqual(added({}), []);
  deepEqual(added({ hostname: "elsewhere" }), ["--hostname elsewhere"]);
  deepEqual(added({ same_uid: true }), ["--uid 1100", "--gid 1100"]);
  deepEqual(added({ home: "ephemeral" }), ["--tmpfs /home/work"]);
  deepEqual(added({ tmpfs: ["~/.cache/x", "/usr/share/games"] }), [
    "--tmpfs /home/work/.cache/x",
    "--tmpfs /usr/share/games",
  ]);
  // A driver finds its device by what the kernel tells, which is read and no more.
  deepEqual(added({ devices: ["/dev/snd"] }), [
    "--dev-bind-try /dev/snd /dev/snd",
    ...["block", "bus", "class", "dev", "devices"].map((name) =>
      `--ro-bind-try /sys/${name} /sys/${name}`
    ),
  ]);
  deepEqual(
    operations(planJail({ ...plan(merged), seccompFd: 7 })).filter((one) => !plain.includes(one)),
    ["--seccomp 7"],
  );
  const proxy = { session: "/run/x/session", system: "/run/x/system" };
  deepEqual(
    operations(planJail({ ...plan(merged), proxy })).filter((one) => !plain.includes(one)),
    [
      "--bind /run/x/session /run/user/1100/bus",
      "--bind /run/x/system /run/dbus/system_bus_socket",
    ],
  );
  // A tmpfs in the home covers a part of it, and never comes before it.
  const words = operations(planJail(plan(merged, "host", { tmpfs: ["~/a"] })));
  ok(words.indexOf("--tmpfs /home/work/a") > words.indexOf("--bind /data/1100 /home/work"));
  ok(words.indexOf("--tmpfs /home/work/a") < words.indexOf("--remount-ro /"));
});

Deno.test("a tmpfs covers nothing of what the jail itself needs", () => {
  for (
    const path of [
      ...["/proc", "/proc/sys", "/dev", "/dev/shm", "/run", "/run/appjail", "/run/appjail/x"],
      ...["/run/user/1100", "/home", "/home/work", "/home/other"],
    ]
  ) {
    throws(() => planJail(plan(merged, "host", { tmpfs: [path] })), /is a place of the jail's own/);
  }
});
