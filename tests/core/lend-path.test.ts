/** core/lend-path.ts and core/accounts.ts, as far as they need no root: the way to what is lent. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { accountOf, groupsOf } from "../../core/accounts.ts";
import { changeOwnerAt, effectiveUid, openFolder, statusBehind } from "../../core/kernel.ts";
import { mountTypes, NotLendable, reach } from "../../core/lend-path.ts";
import { leakingNothing, Scratch } from "../scratch.ts";

const uid = effectiveUid();
const types = mountTypes(Deno.readTextFileSync("/proc/self/mountinfo"));

/** Which file is at the end of the way. */
function reached(path: string): string {
  using end = reach(path, uid, types);
  return end.place.inode;
}

function refuses(path: string, words: RegExp, missing = false): void {
  throws(() => reach(path, uid, types), (error) => {
    ok(error instanceof NotLendable, `${path}: ${error}`);
    equal(error.missing, missing, path);
    return words.test(error.message);
  });
}

Deno.test("a way leads where the kernel's own leads, whatever links are on it", () =>
  leakingNothing(() => {
    using scratch = new Scratch();
    const root = Deno.realPathSync(scratch.path);
    scratch.folder("a");
    scratch.folder("a/b");
    scratch.file("a/b/file");
    for (
      const [name, target] of [
        ["near", "a"],
        ["far", `${root}/a/b`],
        ["up", "a/b/.."],
        ["twice", "near/b"],
        ["file", "far/file"],
        ["a/b/back", "../.."],
        ["chain", "a/b/back/a/b/back/twice/file"],
      ] as const
    ) Deno.symlinkSync(target, `${root}/${name}`);
    for (
      const path of [
        ...["", "/", "/.", "/a", "/a/", "/a/b/file", "/a//b/./file", "/a/b/../b/file", "/a/.."],
        ...["/near", "/near/b", "/near/", "/far/file", "/up", "/up/b", "/twice/file", "/file"],
        ...[
          "/a/b/back",
          "/a/b/back/near",
          "/chain",
          "/..".repeat(20),
          `${"/..".repeat(20)}/etc/passwd`,
        ],
      ]
    ) equal(reached(root + path), statusBehind(root + path)?.inode, path);
    equal(reached("/"), statusBehind("/")?.inode);
    using folder = reach(`${root}/far`, uid, types);
    equal(folder.kind, "folder");
    using file = reach(`${root}/file`, uid, types);
    deepEqual([file.kind, types.size > 0 && file.type !== ""], ["file", true]);
  }));

Deno.test("a way that leads nowhere says why, and leaves nothing open", () =>
  leakingNothing(() => {
    using scratch = new Scratch();
    const { path: root } = scratch;
    scratch.file("file");
    scratch.folder("folder");
    Deno.symlinkSync("loop", `${root}/loop`);
    Deno.symlinkSync("other", `${root}/one`);
    Deno.symlinkSync("one", `${root}/other`);
    Deno.symlinkSync("nothing", `${root}/dangling`);
    Deno.symlinkSync("/proc/self/root", `${root}/magic`);
    for (const path of ["/nothing", "/folder/nothing", "/nothing/x", "/dangling"]) {
      refuses(root + path, /^there is no such file or folder$/, true);
    }
    for (const path of ["/file/", "/file/x", "/file/.."]) {
      refuses(root + path, /^a part of it is no folder$/, true);
    }
    for (const path of ["/loop", "/one", "/other/x"]) {
      refuses(root + path, /too many symbolic links/);
    }
    refuses(`${root}/${"x".repeat(256)}`, /^a name in it is too long$/);
    for (const path of ["/proc", "/proc/self/root", "/proc/self/fd/0", `${root}/magic/`]) {
      refuses(path, /^it lies on a file system of type proc, of which nothing can be lent$/);
    }
    // Forty links of two thousand names each are more than a way may have.
    for (let link = 0; link < 30; link++) {
      const target = `${"./".repeat(1900)}long${link + 1}`;
      Deno.symlinkSync(target, `${root}/long${link}`);
    }
    refuses(`${root}/long0`, /^the way to it is too long$/);
  }));

Deno.test("a link that somebody else has laid in a folder for everybody is not followed", {
  ignore: Deno.uid() !== 0,
}, () => {
  using scratch = new Scratch();
  const { path: root } = scratch;
  scratch.file("file");
  Deno.symlinkSync("file", `${root}/theirs`);
  using folder = openFolder("root", root);
  changeOwnerAt(folder, "theirs", 5, 5);
  equal(reached(`${root}/theirs`), statusBehind(`${root}/file`)?.inode, "in a folder of one's own");
  Deno.chmodSync(root, 0o1777);
  Deno.chownSync(root, 6, 6);
  refuses(`${root}/theirs`, /^"theirs" on the way is somebody else's link$/);
  // The folder's own, and one's own, are.
  changeOwnerAt(folder, "theirs", 6, 6);
  equal(reached(`${root}/theirs`), statusBehind(`${root}/file`)?.inode);
});

Deno.test("mounts are known by their numbers, and what is no line of them is none", () => {
  const text = "36 35 98:0 /a /mnt\\040x rw,noatime shared:1 master:2 - ext4 /dev/root rw\n" +
    "37 36 0:5 / /proc rw - proc proc rw\n\nx\n38 36 0:5 / / rw -\n";
  deepEqual([...mountTypes(text)], [[36, "ext4"], [37, "proc"]]);
});

const passwd = `root:x:0:0:root:/root:/bin/bash
alice:x:1000:100:Alice:/home/alice:/bin/bash
twice:x:1000:5::/elsewhere:/bin/sh
:x:1001:1:::
short:x:1002:1
bob:x:1003:-1::/home/bob:/bin/sh
eve:x:1004:4294967295::/home/eve:/bin/sh
`;
const group = `root:x:0:
users:x:100:
audio:x:29:alice,bob
video:x:44:bob,alice
none:x:x:alice
huge:x:4294967295:alice
alices:x:45:alicex,xalice
audio2:x:29:alice
`;

Deno.test("somebody is who passwd and group say first, and nobody by a line that is none", () => {
  deepEqual(accountOf(passwd, 1000), { name: "alice", gid: 100, home: "/home/alice" });
  for (const uid of [1, 1001, 1002, 1003, 1004, -1, 1e10]) equal(accountOf(passwd, uid), undefined);
  deepEqual(groupsOf(group, "alice"), [29, 44]);
  deepEqual(groupsOf(group, "root"), []);
  deepEqual(groupsOf("", "alice"), []);
});
