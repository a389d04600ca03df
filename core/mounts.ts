/**
 * The system calls that make mounts for lending: a copy of something of a person's, as a mount of
 * its own that is nowhere yet, changed while nobody can see it, and put in its place as a whole.
 *
 * Run by the helper. What is copied is what a descriptor refers to, never a path; paths are only
 * those of folders that root alone can change. open_tree(2), mount_setattr(2), move_mount(2).
 *
 * @module
 */
import { errnoName, SystemError } from "../ipc/errno.ts";
import { Fd } from "../ipc/fd.ts";
import { arena, check, errno, numberOf, syscall } from "../ipc/libc.ts";

/** asm/unistd_64.h and asm-generic/unistd.h. */
const sys = {
  mount: numberOf(165, 40),
  mount_setattr: 442,
  move_mount: 429,
  open_tree: 428,
} as const;

const AT_EMPTY_PATH = 0x1000;
const O_CLOEXEC = 0o2000000;

/** The addresses of some strings, placed in the emptied arena. */
function texts(...all: readonly string[]): readonly number[] {
  arena.reset();
  return all.map((text) => arena.addressOf(arena.text(text)));
}

/**
 * A mount of what a descriptor refers to, attached nowhere; it is gone when its descriptor is. What
 * is mounted below is not part of it. open_tree(2), Linux 5.2.
 */
export function cloneMount(of: Fd): Fd {
  const OPEN_TREE_CLONE = 1;
  const [empty = 0] = texts("");
  const flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH;
  return new Fd(check(syscall(sys.open_tree, of.number, empty, flags), "open_tree"));
}

/**
 * Makes a mount that is attached nowhere what a jail may have: ids as the user namespace maps them,
 * if there is one,
 * no set-user-id bits, no devices, nothing written when it is read-only, and nothing that is mounted
 * on the original later. mount_setattr(2), Linux 5.12.
 *
 * @throws {SystemError} EINVAL: the file system cannot be id-mapped; EPERM: it is already
 */
export function restrictMount(mount: Fd, write: boolean, ids: Fd | undefined): void {
  const MOUNT_ATTR_RDONLY = 1, MOUNT_ATTR_NOSUID = 2, MOUNT_ATTR_NODEV = 4;
  const MOUNT_ATTR_IDMAP = 0x100000;
  const MS_PRIVATE = 1 << 18;
  const size = 32; // struct mount_attr
  const [empty = 0] = texts("");
  const place = arena.take(size);
  const set = (ids === undefined ? 0 : MOUNT_ATTR_IDMAP) | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
    (write ? 0 : MOUNT_ATTR_RDONLY);
  arena.view.setBigUint64(place, BigInt(set), true);
  // Its copy would be a peer of the original: what is mounted there would come along, unmapped.
  arena.view.setBigUint64(place + 16, BigInt(MS_PRIVATE), true);
  arena.view.setBigUint64(place + 24, BigInt(ids?.number ?? 0), true);
  const address = arena.addressOf(place);
  check(
    syscall(sys.mount_setattr, mount.number, empty, AT_EMPTY_PATH, address, size),
    "mount_setattr",
  );
}

/** Attaches a mount to a name in a folder that only root can write. move_mount(2), Linux 5.2. */
export function attachMount(mount: Fd, folder: Fd, name: string): void {
  const MOVE_MOUNT_F_EMPTY_PATH = 4;
  const [empty = 0, target = 0] = texts("", name);
  check(
    syscall(
      sys.move_mount,
      mount.number,
      empty,
      folder.number,
      target,
      MOVE_MOUNT_F_EMPTY_PATH,
    ),
    "move_mount",
    name,
  );
}

/**
 * Mounts a small file system in memory, in a folder that only root can write, and shares it: what is
 * mounted in it later appears in every copy, and goes from there. mount_namespaces(7).
 *
 * @param names how many files and folders it can hold
 */
export function mountShared(target: string, names: number): void {
  const MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_SHARED = 1 << 20;
  const [none = 0, type = 0, place = 0, options = 0] = texts(
    "appjail",
    "tmpfs",
    target,
    `mode=0755,uid=0,gid=0,size=64k,nr_inodes=${names + 2}`,
  );
  const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  check(syscall(sys.mount, none, place, type, flags, options), "mount", target);
  const [again = 0] = texts(target);
  check(syscall(sys.mount, 0, again, 0, MS_SHARED), "mount", target);
}

/** Opens something for a path to go on from, or to be mounted; a link itself. open(2), O_PATH. */
export function openPlace(folder: Fd | undefined, name: string): Fd {
  const arm = Deno.build.arch === "aarch64";
  const O_PATH = 0o10000000, O_NOFOLLOW = arm ? 0o100000 : 0o400000;
  const AT_FDCWD = -100;
  const openat = numberOf(257, 56);
  const [place = 0] = texts(name);
  const at = folder?.number ?? AT_FDCWD;
  return new Fd(
    check(syscall(openat, at, place, O_PATH | O_NOFOLLOW | O_CLOEXEC), "open", name),
  );
}

/** What is known of an open place. */
export interface Place {
  /** S_IFMT of its mode, and the permission bits. inode(7). */
  readonly mode: number;
  readonly uid: number;
  /** What tells it from every other file. */
  readonly inode: string;
}

/** Places struct statx in the arena, filled. */
function statx(fd: Fd, mask: number): number {
  const AT_STATX_DONT_SYNC = 0x4000;
  const [empty = 0] = texts("");
  const status = arena.take(256);
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  const address = arena.addressOf(status);
  check(syscall(numberOf(332, 291), fd.number, empty, flags, mask, address), "stat");
  return status;
}

/**
 * Which mount a place lies in, as /proc/self/mountinfo counts them. Nobody is asked for it: FUSE and
 * the network, which need not answer, are not waited for. statx(2), Linux 5.8.
 */
export function mountOf(place: Fd): number {
  return Number(arena.view.getBigUint64(statx(place, 0) + 144, true));
}

/** What a place is. */
export function placeOf(fd: Fd): Place {
  const STATX_BASIC_STATS = 0x7ff;
  const status = statx(fd, STATX_BASIC_STATS);
  const { view } = arena;
  return {
    mode: view.getUint16(status + 28, true),
    uid: view.getUint32(status + 20, true),
    inode: [
      view.getUint32(status + 136, true),
      view.getUint32(status + 140, true),
      view.getBigUint64(status + 32, true),
    ].join(":"),
  };
}

/** What a symbolic link says that is open as a place. readlinkat(2). */
export function linkText(link: Fd): string {
  const readlinkat = numberOf(267, 78);
  const most = 4096;
  const [empty = 0] = texts("");
  const target = arena.take(most);
  const size = check(
    syscall(readlinkat, link.number, empty, arena.addressOf(target), most),
    "readlink",
  );
  return new TextDecoder("utf-8", { fatal: true }).decode(arena.at(target, size));
}

/**
 * Whether this thread, with the ids that it has for files, may use an open place. faccessat(2).
 *
 * @param rights the sum of 4 to read, 2 to write, 1 to execute, or to enter
 */
export function mayUse(place: Fd, rights: number): boolean {
  const faccessat2 = 439, AT_EACCESS = 0x200;
  const [empty = 0] = texts("");
  const flags = AT_EACCESS | AT_EMPTY_PATH;
  if (syscall(faccessat2, place.number, empty, rights, flags) === 0) return true;
  const code = errno();
  if (["EACCES", "EPERM", "EROFS"].includes(errnoName(code))) return false;
  throw new SystemError("access", code);
}
