/**
 * A home with everything in it that a copy could get wrong, and a listing of a tree that owes nothing
 * to the program under test: find(1), sha256sum(1), and calls of its own for attributes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { textOf } from "../../ipc/octets.ts";
import { listen } from "../../ipc/socket.ts";
import { firstUid } from "./world.ts";

const libc = Deno.dlopen("libc.so.6", {
  lsetxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
});

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

export function setAttribute(path: string, name: string, value: Uint8Array<ArrayBuffer>): void {
  const size = BigInt(value.length);
  const result = libc.symbols.lsetxattr(cString(path), cString(name), value, size, 0);
  assert.equal(result, 0, `setxattr ${path} ${name}`);
}

/** Of a path that is UTF-8. Those of the system's own namespaces are left out. */
function attributesOf(path: string): string {
  const list = new Uint8Array(65536);
  const size = Number(libc.symbols.llistxattr(cString(path), list, 65536n));
  const names = textOf(list.subarray(0, Math.max(0, size))).split("\0").slice(0, -1);
  return names.filter((name) => !/^(?:security|trusted)\./.test(name)).sort().map((name) => {
    const value = new Uint8Array(65536);
    const length = Number(libc.symbols.lgetxattr(cString(path), cString(name), value, 65536n));
    return `${name}=${length < 0 ? "?" : value.subarray(0, length).toHex()}`;
  }).join(" ");
}

async function output(words: readonly string[], cwd: string): Promise<Uint8Array> {
  const [command = "", ...args] = words;
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd,
    env: { LC_ALL: "C" },
  }).output();
  assert.equal(code, 0, `${words.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return stdout;
}

/** acl(5) as the kernel has it: version 2, then tag, permissions, id. */
function acl(...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]) {
  const view = new DataView(new ArrayBuffer(4 + entries.length * 8));
  view.setUint32(0, 2, true);
  entries.forEach(([tag, permissions, id = 0xffffffff], index) => {
    view.setUint16(4 + index * 8, tag, true);
    view.setUint16(6 + index * 8, permissions, true);
    view.setUint32(8 + index * 8, id, true);
  });
  return new Uint8Array(view.buffer);
}

const script = `
umask 022
printf hello > a
: > empty
printf z > mode000; chmod 0 mode000
printf s > suid; chmod 6755 suid
printf o > other; chown 7:8 other; chmod 640 other
printf 1 > "$(printf 'bad\\377\\376name')"
printf 2 > "$(printf 'new\\nline')"
printf 3 > ' -rf *'
printf 4 > "$(printf "%0$1d" 0 | tr 0 n)"
printf 5 > .encfs6.txt
mkdir d empty-folder shut sticky; printf 6 > shut/in; chmod 0 shut; chmod 3777 sticky
deep=.; for i in $(seq 40); do deep=$deep/level$i; done; mkdir -p $deep; printf 7 > $deep/bottom
printf hard > hard1; ln hard1 d/hard2; ln hard1 hard3
ln -s a link; ln link link-again; ln -s /nowhere/at/all dangling
ln -s "$(printf '%02900d' 0)" long-link
ln -s "$(printf 'bad\\377')" bad-link
mkfifo fifo; mknod null c 1 3; mknod loop b 7 99
truncate -s 20M sparse; printf middle | dd of=sparse bs=1 seek=12428801 conv=notrunc status=none
truncate -s 5M hole; truncate -s 1M 'ho*le\\[x]' 'b\\s'
head -c 5000001 /dev/urandom > big
for size in 1 1023 1024 1025 4095 4096 4097 131072; do head -c $size /dev/urandom > size$size; done
printf x > attributes; printf x > acl; printf x > capable
chown -h $2:$2 a link hard1 attributes d empty-folder
`;

/** Seconds and nanoseconds of their own for each name, before 1970 and after 2106 too. */
const times = `
i=0
find . -depth -print0 | while IFS= read -r -d '' name; do
  touch -h -d "@$((1400000000 + i * 1000)).$(printf %03d $i)456789" -- "$name"; i=$((i + 1))
done
touch -d '1933-04-05 06:07:08.123456789' a; touch -d '2191-10-27 12:26:40.111111111' other
`;

/**
 * Makes it in an empty folder.
 *
 * @param longest how many bytes its longest name has
 */
export async function makeOddTree(path: string, longest: number): Promise<void> {
  await output(["bash", "-ec", script, "-", String(longest), String(firstUid)], path);
  listen(`${path}/socket`).close();
  const bytes = (...values: readonly number[]) => new Uint8Array(values);
  setAttribute(`${path}/attributes`, "user.some", bytes(0, 255, 10));
  setAttribute(`${path}/attributes`, "user.empty", bytes());
  setAttribute(`${path}/empty-folder`, "user.folder", bytes(1));
  setAttribute(path, "user.top", bytes(2));
  const rights = acl([1, 6], [2, 4, 1000], [4, 4], [16, 4], [32, 0]);
  setAttribute(`${path}/acl`, "system.posix_acl_access", rights);
  const folderRights = acl([1, 7], [2, 5, 1000], [4, 5], [16, 5], [32, 0]);
  setAttribute(`${path}/d`, "system.posix_acl_default", folderRights);
  // They stay behind, and are counted.
  const capability = bytes(1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  setAttribute(`${path}/capable`, "security.capability", capability);
  setAttribute(`${path}/attributes`, "trusted.some", bytes(3));
  await output(["bash", "-ec", times], path);
}

/** A tree as lines, one for each name. What lies apart is kept as it is told. */
export async function listing(path: string, grain = 1): Promise<readonly string[]> {
  const format = "%P\\t%y\\t%m\\t%U:%G\\t%i\\t%T@\\t%s\\t%l\\0";
  const found = textOf(await output(["find", ".", "-printf", format], path)).split("\0");
  const sums = new Map(
    textOf(
      await output(
        ["sh", "-c", "find . -type f -print0 | xargs -0 -r sha256sum -z --"],
        path,
      ),
    ).split("\0").filter(Boolean).map((line) => [line.slice(68), line.slice(0, 64)]),
  );
  const entries = found.slice(0, -1).map((line) => line.split("\t"));
  const together = new Map<string, string[]>();
  for (const [name = "", , , , inode = ""] of entries) {
    together.set(inode, [...together.get(inode) ?? [], name].sort());
  }
  return entries.map(([name = "", type = "", mode, owner, inode = "", time = "", size, link]) => {
    const [seconds = "", fraction = ""] = time.split(".");
    const nanoseconds = Math.floor(Number(fraction.slice(0, 9)) / grain) * grain;
    const clear = name.isWellFormed();
    return JSON.stringify([
      name,
      type,
      mode,
      owner,
      type === "d" ? [] : together.get(inode),
      `${seconds}.${nanoseconds}`,
      type === "d" ? "" : size,
      link,
      sums.get(name) ?? "",
      clear ? attributesOf(`${path}/${name}`) : "",
      "bc".includes(type) ? Deno.lstatSync(`${path}/${name}`).rdev : "",
    ]);
  }).sort();
}

/** The same of a large tree, in one word: what tar(1) makes of it. */
export async function summary(path: string): Promise<string> {
  const tar = "tar --create --sort=name --format=posix --numeric-owner --xattrs --acls " +
    "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/%f . | sha256sum";
  return textOf(await output(["sh", "-c", tar], path));
}
