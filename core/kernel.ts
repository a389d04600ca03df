/**
 * The system calls of which a jail is made: the second of two such tables (the other, for
 * descriptors, is ipc/libc.ts), and posix_spawn(3). Loaded by the helper, the jailer, the daemon, and
 * both ends of a copy; a client that runs a program has no use for it.
 *
 * Every call is synchronous, and every path is taken relative to a descriptor or is one that only
 * root can change: what is checked is what is used.
 *
 * @module
 */
import { errnoName, isErrno, SystemError } from "../ipc/errno.ts";
import { duplicate, Fd, namesIn as descriptorNames, readAll } from "../ipc/fd.ts";
import { textOf } from "../ipc/octets.ts";
import { arena, check, errno, numberOf, path, sys as descriptors, syscall } from "../ipc/libc.ts";

/** asm/unistd_64.h and asm-generic/unistd.h. */
const sys = {
  execve: numberOf(59, 221),
  fadvise64: numberOf(221, 223),
  faccessat2: 439,
  fchmod: numberOf(91, 52),
  fchmodat: numberOf(268, 53),
  fchown: numberOf(93, 55),
  fchownat: numberOf(260, 54),
  fstatfs: numberOf(138, 44),
  flock: numberOf(73, 32),
  fsync: numberOf(74, 82),
  ftruncate: numberOf(77, 46),
  geteuid: numberOf(107, 175),
  getgroups: numberOf(115, 158),
  getpid: numberOf(39, 172),
  getuid: numberOf(102, 174),
  keyctl: numberOf(250, 219),
  kill: numberOf(62, 129),
  lgetxattr: numberOf(192, 9),
  llistxattr: numberOf(195, 12),
  mkdirat: numberOf(258, 34),
  mknodat: numberOf(259, 33),
  mount: numberOf(165, 40),
  openat: descriptors.openat,
  openat2: 437,
  pidfd_open: 434,
  pidfd_send_signal: 424,
  prctl: numberOf(157, 167),
  pread64: numberOf(17, 67),
  prlimit64: numberOf(302, 261),
  pwrite64: numberOf(18, 68),
  readlinkat: numberOf(267, 78),
  renameat2: numberOf(316, 276),
  setresgid: numberOf(119, 149),
  setresuid: numberOf(117, 147),
  statx: numberOf(332, 291),
  symlinkat: numberOf(266, 36),
  syncfs: numberOf(306, 267),
  umount2: numberOf(166, 39),
  unlinkat: numberOf(263, 35),
  utimensat: numberOf(280, 88),
  wait4: numberOf(61, 260),
} as const;

const arm = Deno.build.arch === "aarch64";

// asm/fcntl.h: arm64 keeps the values that arm had, x86-64 those of asm-generic.
const O_DIRECTORY = arm ? 0o40000 : 0o200000;
const O_NOFOLLOW = arm ? 0o100000 : 0o400000;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_REMOVEDIR = 0x200;
const AT_EMPTY_PATH = 0x1000;

/** Where a path starts: the root (or the working directory), or an open folder. */
export type At = Fd | "root";

function at(folder: At): number {
  return folder === "root" ? AT_FDCWD : folder.number;
}

// --- Files -----------------------------------------------------------------------------------

/** Opens a folder itself, never through a symbolic link in its last part. */
export function openFolder(folder: At, name: string): Fd {
  return new Fd(
    check(
      syscall(sys.openat, at(folder), path(name), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0),
      "open",
      name,
    ),
  );
}

/** Opens the folder at the end of a path, links followed: for a path that the caller's person wrote. */
export function openFolderBehind(name: string): Fd {
  const flags = O_DIRECTORY | O_CLOEXEC;
  return new Fd(check(syscall(sys.openat, AT_FDCWD, path(name), flags, 0), "open", name));
}

/** How far symbolic links on the way to a folder are followed. openat2(2). */
export type Reach =
  /** Nothing outside of where the path starts is reached, by no link and by no "..". */
  | "beneath"
  /** No link is followed at all. */
  | "no links"
  /** Not out of where the path starts, by no link, and into nothing that is mounted there. */
  | "no mounts";

/** Opens a folder by a path that somebody else may have a hand in. */
export function openFolderBy(folder: At, name: string, reach: Reach): Fd {
  const RESOLVE_NO_XDEV = 1, RESOLVE_NO_MAGICLINKS = 2;
  const RESOLVE_NO_SYMLINKS = 4, RESOLVE_BENEATH = 8;
  const resolve = {
    "beneath": RESOLVE_BENEATH,
    "no links": RESOLVE_NO_SYMLINKS,
    "no mounts": RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
  }[reach];
  const size = 24; // struct open_how
  for (let tries = 0;; tries++) {
    const place = path(name);
    const how = arena.take(size);
    arena.view.setBigUint64(how, BigInt(O_DIRECTORY | O_CLOEXEC), true);
    arena.view.setBigUint64(how + 16, BigInt(resolve | RESOLVE_NO_MAGICLINKS), true);
    const fd = syscall(sys.openat2, at(folder), place, arena.addressOf(how), size);
    if (fd >= 0) return new Fd(fd);
    const code = errno();
    // EAGAIN: something on the way was renamed meanwhile.
    if (errnoName(code) !== "EAGAIN" || tries > 100) throw new SystemError("open", code, name);
  }
}

/** Opens a file for reading. A FIFO does not block, a symbolic link in the last part is refused. */
export function openFile(folder: At, name: string): Fd {
  return new Fd(
    check(
      syscall(sys.openat, at(folder), path(name), O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0),
      "open",
      name,
    ),
  );
}

/** The same, links followed: for a path that the caller's person wrote. */
export function openFileBehind(name: string): Fd {
  const flags = O_NONBLOCK | O_CLOEXEC;
  return new Fd(check(syscall(sys.openat, AT_FDCWD, path(name), flags, 0), "open", name));
}

/** Makes a new file, or fails with EEXIST. */
export function createFile(folder: At, name: string, mode: number): Fd {
  const flags = 1 | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC; // O_WRONLY
  return new Fd(check(syscall(sys.openat, at(folder), path(name), flags, mode), "create", name));
}

/**
 * Makes a pipe that has a name, in place of any old one: whoever may open the name can read on when
 * the one who has read from it is gone. fifo(7).
 */
export function namedPipe(folder: At, name: string): { readonly read: Fd; readonly write: Fd } {
  const S_IFIFO = 0o010000;
  removeFile(folder, name);
  check(syscall(sys.mknodat, at(folder), path(name), S_IFIFO | 0o600, 0), "mkfifo", name);
  const read = openFile(folder, name);
  try {
    const flags = 1 | O_NOFOLLOW | O_CLOEXEC; // O_WRONLY
    const write = syscall(sys.openat, at(folder), path(name), flags, 0);
    return { read, write: new Fd(check(write, "open", name)) };
  } catch (error) {
    read.close();
    throw error;
  }
}

/** Opens a file for a lock: it is made when it is absent, and nothing is ever written to it. */
export function openLock(folder: At, name: string): Fd {
  const flags = 2 | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC; // O_RDWR
  return new Fd(check(syscall(sys.openat, at(folder), path(name), flags, 0o600), "open", name));
}

/** Takes the lock of this open file description, or says that another has it. flock(2). */
export function tryLock(fd: Fd): boolean {
  const LOCK_EX = 2, LOCK_NB = 4;
  if (syscall(sys.flock, fd.number, LOCK_EX | LOCK_NB) === 0) return true;
  const code = errno();
  if (errnoName(code) === "EAGAIN") return false;
  throw new SystemError("flock", code);
}

/** What a file is, of statx(2). */
export interface Status {
  readonly kind: "file" | "folder" | "link" | "socket" | "other";
  /** The same as the kernel says it, S_IFMT: it tells a FIFO from a device. inode(7). */
  readonly type: number;
  /** Which device it means, if it is one. */
  readonly device: number;
  /** Not even root can change or remove it, until chattr(1) takes that off: `i`, or `a`. */
  readonly immutable: boolean;
  /** Permission bits, 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
  /** The bytes on the disk: less than the size where the file has holes. */
  readonly stored: number;
  /** What tells it from every other file, as far as numbers can. */
  readonly inode: string;
  /** When it was last written to: seconds since the epoch, and nanoseconds. */
  readonly modified: Time;
  /** When it was last read, as far as the file system keeps that. */
  readonly accessed: Time;
}

/** A time of the file system's. */
export type Time = readonly [seconds: number, nanoseconds: number];

const kinds: Readonly<Record<number, Status["kind"]>> = {
  0o100000: "file",
  0o040000: "folder",
  0o120000: "link",
  0o140000: "socket",
};

function statx(fd: number, name: string, flags: number): Status | undefined {
  const STATX_BASIC_STATS = 0x7ff;
  const STATX_ATTR_KEPT = 0x10 | 0x20; // …_IMMUTABLE, …_APPEND
  const at = path(name);
  const status = arena.take(256);
  if (syscall(sys.statx, fd, at, flags, STATX_BASIC_STATS, arena.addressOf(status)) < 0) {
    const code = errno();
    if (errnoName(code) === "ENOENT") return undefined;
    throw new SystemError("stat", code, name);
  }
  const { view } = arena;
  const mode = view.getUint16(status + 28, true);
  return {
    kind: kinds[mode & 0o170000] ?? "other",
    type: mode & 0o170000,
    device: view.getUint32(status + 128, true) * 2 ** 32 + view.getUint32(status + 132, true),
    immutable: (view.getUint32(status + 8, true) & STATX_ATTR_KEPT) !== 0,
    mode: mode & 0o7777,
    uid: view.getUint32(status + 20, true),
    gid: view.getUint32(status + 24, true),
    links: view.getUint32(status + 16, true),
    size: Number(view.getBigUint64(status + 40, true)),
    stored: Number(view.getBigUint64(status + 48, true)) * 512,
    inode: [
      view.getUint32(status + 136, true),
      view.getUint32(status + 140, true),
      view.getBigUint64(status + 32, true),
    ].join(":"),
    modified: [Number(view.getBigInt64(status + 112, true)), view.getUint32(status + 120, true)],
    accessed: [Number(view.getBigInt64(status + 64, true)), view.getUint32(status + 72, true)],
  };
}

/** Of the name itself, not of what a symbolic link points to. `undefined` when there is none. */
export function statusAt(folder: At, name: string): Status | undefined {
  return statx(at(folder), name, AT_SYMLINK_NOFOLLOW);
}

/** The same as {@linkcode statusAt}, and never as it was: FUSE remembers for a second. statx(2). */
export function freshStatusAt(folder: At, name: string): Status | undefined {
  const AT_STATX_FORCE_SYNC = 0x2000;
  return statx(at(folder), name, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC);
}

/** Of what is at the end of a path, symbolic links followed. `undefined` when that is nothing. */
export function statusBehind(name: string): Status | undefined {
  try {
    return statx(AT_FDCWD, name, 0);
  } catch (error) {
    if (isErrno(error, "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG")) return undefined;
    throw error;
  }
}

/** Of what an open descriptor refers to. */
export function statusOf(fd: Fd): Status {
  const status = statx(fd.number, "", AT_EMPTY_PATH);
  if (status === undefined) throw new SystemError("stat", 2);
  return status;
}

/** What a descriptor refers to; `undefined` when it is closed. */
export function descriptorKind(fd: number): Status["kind"] | undefined {
  try {
    return statx(fd, "", AT_EMPTY_PATH)?.kind;
  } catch (error) {
    if (isErrno(error, "EBADF")) return undefined;
    throw error;
  }
}

/** Makes a folder; false when something of that name stands there already. */
export function makeFolder(folder: At, name: string, mode: number): boolean {
  if (syscall(sys.mkdirat, at(folder), path(name), mode) === 0) return true;
  const code = errno();
  if (errnoName(code) === "EEXIST") return false;
  throw new SystemError("mkdir", code, name);
}

/** Changes the owner of what is open: never by a name, never of anything below. */
export function changeOwner(fd: Fd, uid: number, gid: number): void {
  check(syscall(sys.fchown, fd.number, uid, gid), "fchown");
}

/** Changes the owner of a name in a folder that only root can write; never through a link. */
export function changeOwnerAt(folder: Fd, name: string, uid: number, gid: number): void {
  check(
    syscall(sys.fchownat, folder.number, path(name), uid, gid, AT_SYMLINK_NOFOLLOW),
    "fchownat",
    name,
  );
}

export function changeMode(fd: Fd, mode: number): void {
  check(syscall(sys.fchmod, fd.number, mode), "fchmod");
}

/** Changes the mode of a name in a folder that only root can write. */
export function changeModeAt(folder: Fd, name: string, mode: number): void {
  check(syscall(sys.fchmodat, folder.number, path(name), mode, 0), "fchmodat", name);
}

export function synchronize(fd: Fd): void {
  check(syscall(sys.fsync, fd.number), "fsync");
}

/** Has all that was written to a file system on the disk. syncfs(2). */
export function synchronizeAll(fd: Fd): void {
  check(syscall(sys.syncfs, fd.number), "syncfs");
}

/** How many bytes can still be written to the file system, by those that have no reserve. */
export function freeSpace(fd: Fd): number {
  arena.reset();
  const status = arena.take(120); // struct statfs
  check(syscall(sys.fstatfs, fd.number, arena.addressOf(status)), "statfs");
  return arena.view.getUint32(status + 8, true) *
    Number(arena.view.getBigUint64(status + 32, true));
}

/** Renames over whatever is there. */
export function rename(folder: Fd, from: string, to: string): void {
  check(move(folder, from, to, 0), "rename", to);
}

/** Renames unless something of the new name is there; false then. renameat2(2). */
export function renameNew(folder: Fd, from: string, to: string): boolean {
  const RENAME_NOREPLACE = 1;
  if (move(folder, from, to, RENAME_NOREPLACE) === 0) return true;
  const code = errno();
  if (errnoName(code) === "EEXIST") return false;
  throw new SystemError("rename", code, to);
}

function move(folder: Fd, from: string, to: string, flags: number): number {
  const [source, target] = two(from, to);
  return syscall(sys.renameat2, folder.number, source, folder.number, target, flags);
}

/**
 * Moves a name from one folder to another; false when something of that name is there. Some file
 * systems (FUSE, NFS) do not know the flag: there it is looked first.
 */
export function moveNew(name: string, from: Fd, to: Fd): boolean {
  const RENAME_NOREPLACE = 1;
  const at = path(name);
  if (syscall(sys.renameat2, from.number, at, to.number, at, RENAME_NOREPLACE) === 0) return true;
  const code = errno();
  if (errnoName(code) === "EEXIST") return false;
  if (errnoName(code) !== "EINVAL") throw new SystemError("rename", code, name);
  if (statusAt(to, name) !== undefined) return false;
  const again = path(name);
  check(syscall(sys.renameat2, from.number, again, to.number, again, 0), "rename", name);
  return true;
}

/** Lets two names, one in each folder, change places; false where the file system cannot. */
export function exchange(name: string, one: Fd, other: Fd): boolean {
  const RENAME_EXCHANGE = 2;
  const at = path(name);
  if (syscall(sys.renameat2, one.number, at, other.number, at, RENAME_EXCHANGE) === 0) return true;
  const code = errno();
  if (errnoName(code) === "EINVAL") return false;
  throw new SystemError("rename", code, name);
}

/** The addresses of two strings, placed in the emptied arena. */
function two(first: string, second: string): readonly [number, number] {
  arena.reset();
  return [arena.addressOf(arena.text(first)), arena.addressOf(arena.text(second))];
}

/** Removes a file; false when there was none. */
export function removeFile(folder: At, name: string): boolean {
  return remove(folder, name, 0);
}

/** Removes an empty folder; false when there was none. */
export function removeFolder(folder: At, name: string): boolean {
  return remove(folder, name, AT_REMOVEDIR);
}

function remove(folder: At, name: string, flags: number): boolean {
  if (syscall(sys.unlinkat, at(folder), path(name), flags) === 0) return true;
  const code = errno();
  if (errnoName(code) === "ENOENT") return false;
  throw new SystemError("remove", code, name);
}

/** Makes a symbolic link. */
export function symbolicLink(target: string, folder: Fd, name: string): void {
  const [to, at] = two(target, name);
  check(syscall(sys.symlinkat, to, folder.number, at), "symlink", name);
}

/** What a symbolic link points to; `undefined` when the name is none. */
export function readLink(folder: At, name: string): string | undefined {
  const most = 4096;
  const link = path(name);
  const target = arena.take(most);
  const size = syscall(sys.readlinkat, at(folder), link, arena.addressOf(target), most);
  return size < 0 ? undefined : textOf(arena.at(target, size));
}

/** Whether this process may, with its effective ids, execute the file. faccessat(2). */
export function isExecutable(name: string): boolean {
  const X_OK = 1, AT_EACCESS = 0x200;
  return syscall(sys.faccessat2, AT_FDCWD, path(name), X_OK, AT_EACCESS) === 0;
}

/** Whether anything is at the end of the path, links followed. */
export function exists(name: string): boolean {
  return syscall(sys.faccessat2, AT_FDCWD, path(name), 0, 0) === 0;
}

/** The names in an open folder, without `.` and `..`: all of them, however often it is asked. */
export function namesIn(folder: Fd): readonly string[] {
  const SEEK_SET = 0;
  c.lseek(folder.number, 0n, SEEK_SET);
  return descriptorNames(folder.number);
}

/** The text of a small file, or `undefined` when it is gone or cannot be read. For /proc. */
export function readText(name: string, limit = 1024 * 1024): string | undefined {
  const fd = syscall(sys.openat, AT_FDCWD, path(name), O_CLOEXEC | O_NONBLOCK, 0);
  if (fd < 0) return undefined;
  using file = new Fd(fd);
  try {
    return new TextDecoder().decode(readAll(file.number, limit));
  } catch (error) {
    // A process that ends while it is read: ESRCH.
    if (isErrno(error, "ESRCH", "EACCES", "EPERM", "EISDIR", "EINVAL")) return undefined;
    throw error;
  }
}

/** Makes an empty file where something will be mounted, or leaves the one that is there. */
export function touch(folder: Fd, name: string): void {
  const flags = 1 | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
  new Fd(check(syscall(sys.openat, folder.number, path(name), flags, 0o644), "create", name))
    .close();
}

// --- What is in files ------------------------------------------------------------------------

/**
 * Reads from a place in a file to memory whose address is known. pread(2).
 *
 * @returns how many bytes; 0 at its end
 */
export function readAt(fd: Fd, address: number, size: number, offset: number): number {
  for (;;) {
    const count = syscall(sys.pread64, fd.number, address, size, offset);
    if (count >= 0) return count;
    const code = errno();
    if (errnoName(code) !== "EINTR") throw new SystemError("read", code);
  }
}

/** What is read next is read anew, not from what the kernel remembers of it. posix_fadvise(3). */
export function forgetContent(fd: Fd): void {
  const POSIX_FADV_DONTNEED = 4;
  check(syscall(sys.fadvise64, fd.number, 0, 0, POSIX_FADV_DONTNEED), "fadvise");
}

/** Writes all of it to a place in a file, from memory whose address is known. pwrite(2). */
export function writeAt(fd: Fd, address: number, size: number, offset: number): void {
  for (let done = 0; done < size;) {
    const count = syscall(sys.pwrite64, fd.number, address + done, size - done, offset + done);
    if (count >= 0) {
      done += count;
      continue;
    }
    const code = errno();
    if (errnoName(code) !== "EINTR") throw new SystemError("write", code);
  }
}

/** Cuts a file, or makes it longer by a hole. */
export function setSize(fd: Fd, size: number): void {
  check(syscall(sys.ftruncate, fd.number, size), "truncate");
}

/**
 * The next piece of a file that holds data, from an offset on: where it begins and where it ends.
 * `undefined` when there is none. A file system that does not tell holes has one piece. lseek(2).
 */
export function nextData(
  fd: Fd,
  from: number,
  size: number,
): readonly [start: number, end: number] | undefined {
  const SEEK_DATA = 3, SEEK_HOLE = 4;
  const start = Number(c.lseek(fd.number, BigInt(from), SEEK_DATA));
  if (start < 0) {
    // Past the last data (ENXIO), or it cannot be told (EINVAL): then a hole cannot be found either.
    return Number(c.lseek(fd.number, BigInt(from), SEEK_HOLE)) < 0 && from < size
      ? [from, size]
      : undefined;
  }
  const end = Number(c.lseek(fd.number, BigInt(start), SEEK_HOLE));
  return [start, end < 0 ? size : end];
}

/** Sets when a file was last written to. utimensat(2). */
export function setModified(fd: Fd, modified: Time): void {
  const UTIME_OMIT = 0x3ffffffe;
  arena.reset();
  const times = placeTimes([0, UTIME_OMIT], modified);
  check(syscall(sys.utimensat, fd.number, 0, times, 0), "utimensat");
}

/**
 * Sets both times of a name in a folder, and of a link itself. FUSE file systems of the older library
 * (encfs) know fractions of a second only when they are told both.
 */
export function setTimesAt(folder: Fd, name: string, accessed: Time, modified: Time): void {
  const at = path(name);
  const times = placeTimes(accessed, modified);
  check(syscall(sys.utimensat, folder.number, at, times, AT_SYMLINK_NOFOLLOW), "utimensat", name);
}

/** Places `struct timespec[2]` in the arena; returns its address. */
function placeTimes(accessed: Time, modified: Time): number {
  const times = arena.take(32);
  [...accessed, ...modified].forEach((part, index) =>
    arena.view.setBigInt64(times + index * 8, BigInt(part), true)
  );
  return arena.addressOf(times);
}

// --- Extended attributes ---------------------------------------------------------------------

/** XATTR_SIZE_MAX and XATTR_LIST_MAX, linux/limits.h. */
const attributeMost = 64 * 1024;

/** By its folder's descriptor: there are no such calls that take one. No link is followed. */
function attributePath(folder: Fd, name: string): string {
  return `/proc/self/fd/${folder.number}/${name}`;
}

/** The names of a file's extended attributes, a link's own. xattr(7). */
export function attributesAt(folder: Fd, name: string): readonly string[] {
  const at = path(attributePath(folder, name));
  const list = arena.take(attributeMost);
  const size = syscall(sys.llistxattr, at, arena.addressOf(list), attributeMost);
  if (size >= 0) return textOf(arena.at(list, size)).split("\0").slice(0, -1);
  const code = errno();
  // A file system that has none.
  if (errnoName(code) === "EOPNOTSUPP") return [];
  throw new SystemError("listxattr", code, name);
}

/** The value of one of them; `undefined` when it is not there, or cannot be read. */
export function attributeAt(
  folder: Fd,
  name: string,
  attribute: string,
): Uint8Array<ArrayBuffer> | undefined {
  const at = path(attributePath(folder, name));
  const [which, value] = [arena.text(attribute), arena.take(attributeMost)];
  const place = arena.addressOf(value);
  const size = syscall(sys.lgetxattr, at, arena.addressOf(which), place, attributeMost);
  return size < 0 ? undefined : arena.at(value, size).slice();
}

// --- Mounts ----------------------------------------------------------------------------------

/**
 * Mounts a file or folder once more, read-only and nosuid. For the helper's own program alone:
 * `source` is /proc/self/exe and `target` lies in a folder that only root can write.
 */
export function bindReadOnly(source: string, target: string): void {
  const MS_RDONLY = 1, MS_NOSUID = 2, MS_NODEV = 4, MS_REMOUNT = 32, MS_BIND = 4096;
  const [from, to] = two(source, target);
  check(syscall(sys.mount, from, to, 0, MS_BIND), "mount", target);
  const flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;
  check(syscall(sys.mount, from, to, 0, flags), "remount", target);
}

/**
 * Unmounts what nobody uses any more. Where somebody does, or nothing is mounted, that is told.
 * umount(2).
 */
export function unmountUnused(target: string): "done" | "busy" | "nothing" {
  const UMOUNT_NOFOLLOW = 8;
  if (syscall(sys.umount2, path(target), UMOUNT_NOFOLLOW) === 0) return "done";
  const code = errno();
  switch (errnoName(code)) {
    case "EBUSY":
      return "busy";
    case "EINVAL":
    case "ENOENT":
      return "nothing";
    default:
      throw new SystemError("umount", code, target);
  }
}

/** Unmounts, at once for new users and for the old ones when they leave; false when nothing was. */
export function unmount(target: string): boolean {
  const MNT_DETACH = 2, UMOUNT_NOFOLLOW = 8;
  if (syscall(sys.umount2, path(target), MNT_DETACH | UMOUNT_NOFOLLOW) === 0) return true;
  const code = errno();
  // EINVAL: not a mount point.
  if (["EINVAL", "ENOENT"].includes(errnoName(code))) return false;
  throw new SystemError("umount", code, target);
}

// --- Processes -------------------------------------------------------------------------------

/** What to start, and what it is to have. */
export interface Spawn {
  /** An absolute path: nothing is ever looked up in this process's PATH. */
  readonly path: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The child's descriptors 0, 1, 2, …: exactly these, whatever else is open here. */
  readonly descriptors: readonly number[];
  readonly cwd?: string;
  /** A session of its own, setsid(2). */
  readonly session?: boolean;
  /** The most descriptors that it may have unless it asks for more: a soft limit, getrlimit(2). */
  readonly softDescriptors?: bigint;
}

const { symbols: c } = Deno.dlopen("libc.so.6", {
  // By its own name: it returns more than the 32 bits of syscall(2) in ipc/libc.ts.
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  posix_spawn: { parameters: ["i64", "i64", "i64", "i64", "i64", "i64"], result: "i32" },
  posix_spawn_file_actions_addchdir_np: { parameters: ["i64", "i64"], result: "i32" },
  posix_spawn_file_actions_addclosefrom_np: { parameters: ["i64", "i32"], result: "i32" },
  posix_spawn_file_actions_adddup2: { parameters: ["i64", "i32", "i32"], result: "i32" },
  posix_spawn_file_actions_destroy: { parameters: ["i64"], result: "i32" },
  posix_spawn_file_actions_init: { parameters: ["i64"], result: "i32" },
  posix_spawnattr_init: { parameters: ["i64"], result: "i32" },
  posix_spawnattr_setflags: { parameters: ["i64", "i16"], result: "i32" },
  posix_spawnattr_setsigdefault: { parameters: ["i64", "i64"], result: "i32" },
  posix_spawnattr_setsigmask: { parameters: ["i64", "i64"], result: "i32" },
});

/** An address of the arena, as the C functions take it. */
function address(offset: number): bigint {
  return BigInt(arena.addressOf(offset));
}

/**
 * Starts a program with default signal handling and an empty signal mask. posix_spawn(3).
 *
 * @returns its pid, which the caller has to wait for
 * @throws {SystemError} with execve(2)'s errno, or chdir(2)'s: `call` tells which is likelier
 */
export function spawn(options: Spawn): number {
  const POSIX_SPAWN_SETSIGDEF = 4, POSIX_SPAWN_SETSIGMASK = 8, POSIX_SPAWN_SETSID = 0x80;
  // Copies first: each is a call of its own, which uses the arena too. They are out of the way of the
  // targets: a source that is also some other's target would be overwritten.
  using sources = new DisposableStack();
  const copies = options.descriptors.map((number) =>
    sources.use(duplicate(number, options.descriptors.length + 3)).number
  );
  const limit = descriptorLimit();
  arena.reset();
  const attributes = address(arena.take(512));
  const actions = address(arena.take(256));
  const none = arena.take(128);
  const all = arena.take(128);
  arena.at(all, 128).fill(0xff);
  const pid = arena.take(8);
  const file = arena.text(options.path);
  const cwd = options.cwd === undefined ? undefined : arena.text(options.cwd);
  const argv = arena.texts(options.argv);
  const env = arena.texts(Object.entries(options.env).map(([name, value]) => `${name}=${value}`));
  const { softDescriptors: soft = limit.soft } = options;
  const lower = placeLimit({ soft: soft < limit.hard ? soft : limit.hard, hard: limit.hard });
  const own = placeLimit(limit);
  const setLimit = (place: number): void => {
    check(syscall(sys.prlimit64, 0, RLIMIT_NOFILE, arena.addressOf(place)), "prlimit");
  };
  const must = (result: number, call: string): void => {
    if (result !== 0) throw new SystemError(call, result, options.path);
  };
  must(c.posix_spawnattr_init(attributes), "posix_spawnattr_init");
  must(c.posix_spawn_file_actions_init(actions), "posix_spawn_file_actions_init");
  try {
    const session = options.session === true ? POSIX_SPAWN_SETSID : 0;
    c.posix_spawnattr_setflags(
      attributes,
      POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | session,
    );
    c.posix_spawnattr_setsigmask(attributes, address(none));
    c.posix_spawnattr_setsigdefault(attributes, address(all));
    copies.forEach((copy, target) =>
      must(c.posix_spawn_file_actions_adddup2(actions, copy, target), "posix_spawn")
    );
    must(c.posix_spawn_file_actions_addclosefrom_np(actions, copies.length), "posix_spawn");
    if (cwd !== undefined) {
      must(c.posix_spawn_file_actions_addchdir_np(actions, address(cwd)), "posix_spawn");
    }
    // A child has its parent's limit. It comes last: the sources may lie above.
    setLimit(lower);
    must(
      c.posix_spawn(address(pid), address(file), actions, attributes, address(argv), address(env)),
      "exec",
    );
    return arena.view.getInt32(pid, true);
  } finally {
    setLimit(own);
    c.posix_spawn_file_actions_destroy(actions);
  }
}

/** Becomes another program. Returns only by throwing. */
export function execute(
  file: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): never {
  arena.reset();
  const name = arena.addressOf(arena.text(file));
  const words = arena.texts(argv);
  const variables = arena.texts(Object.entries(env).map(([name, value]) => `${name}=${value}`));
  syscall(sys.execve, name, arena.addressOf(words), arena.addressOf(variables));
  throw new SystemError("exec", errno(), file);
}

/** A child that has ended: wait(2)'s raw status. */
export interface Reaped {
  readonly pid: number;
  readonly status: number;
}

/** Takes the next child that has ended, or says whether there are any left. */
export function reap(): Reaped | "none ended" | "no child" {
  const WNOHANG = 1;
  arena.reset();
  const status = arena.take(8);
  const pid = syscall(sys.wait4, -1, arena.addressOf(status), WNOHANG);
  if (pid > 0) return { pid, status: arena.view.getInt32(status, true) };
  return pid === 0 ? "none ended" : "no child";
}

/** wait(2)'s raw status of one child that has ended; `undefined` while it has not. */
export function statusOfChild(pid: number): number | undefined {
  const WNOHANG = 1;
  arena.reset();
  const status = arena.take(8);
  const ended = check(syscall(sys.wait4, pid, arena.addressOf(status), WNOHANG), "wait4");
  return ended === 0 ? undefined : arena.view.getInt32(status, true);
}

/** kill(2). For the pid of a child of the caller's own that was not waited for yet. */
export function signalProcess(pid: number, signal: number): boolean {
  return syscall(sys.kill, pid, signal) === 0;
}

/** A descriptor that means this process and never another. `undefined` when there is none. */
export function openPidfd(pid: number): Fd | undefined {
  const fd = syscall(sys.pidfd_open, pid);
  if (fd >= 0) return new Fd(fd);
  const code = errno();
  if (["ESRCH", "EINVAL"].includes(errnoName(code))) return undefined;
  throw new SystemError("pidfd_open", code, String(pid));
}

/** Signals the very process a pidfd means; false when it has ended. */
export function signalPidfd(pidfd: Fd, signal: number): boolean {
  const result = syscall(sys.pidfd_send_signal, pidfd.number, signal);
  if (result >= 0) return true;
  const code = errno();
  if (errnoName(code) === "ESRCH") return false;
  throw new SystemError("pidfd_send_signal", code);
}

export function effectiveUid(): number {
  return syscall(sys.geteuid);
}

export function ownPid(): number {
  return syscall(sys.getpid);
}

/**
 * Makes sure that what was given up is gone, by trying to get it back. As OpenSSH's
 * permanently_set_uid(3) does; the calls are for this thread alone, and it ends when they succeed.
 *
 * @throws when this process is root, or could be again
 *
 * @param groups in how many supplementary groups it has to be; null: in whatever a jail has
 */
export function provePowerless(groups: number | null = 0): void {
  const PR_GET_NO_NEW_PRIVS = 39;
  const has = syscall(sys.getuid) === 0 || effectiveUid() === 0
    ? "it is root"
    : syscall(sys.setresuid, 0, 0, 0) === 0
    ? "it can become root"
    : syscall(sys.setresgid, 0, 0, 0) === 0
    ? "it can join root's group"
    : groups !== null && syscall(sys.getgroups) !== groups
    ? "it is in supplementary groups that are not its own"
    : syscall(sys.prctl, PR_GET_NO_NEW_PRIVS) !== 1
    ? "a set-user-id program could make it root"
    : undefined;
  if (has === undefined) return;
  throw new Error(`This part has to be without privileges, and does not go on: ${has}`);
}

/**
 * No other process of this uid may trace this one, read its memory or its descriptors, and no core
 * is written of it. PR_SET_DUMPABLE, prctl(2).
 */
export function forbidInspection(): void {
  const PR_SET_DUMPABLE = 4;
  check(syscall(sys.prctl, PR_SET_DUMPABLE, 0), "prctl");
}

/** No core is written of this process, nor of any that it starts. getrlimit(2). */
export function forbidCore(): void {
  const RLIMIT_CORE = 4;
  arena.reset();
  const none = placeLimit({ soft: 0n, hard: 0n });
  check(syscall(sys.prlimit64, 0, RLIMIT_CORE, arena.addressOf(none)), "prlimit");
}

/**
 * Gives up the session keyring that was inherited for an empty one, which is for this thread and all
 * that it starts. Who has a keyring may read the keys in it, whatever his uid: a daemon that somebody
 * starts by hand has theirs. keyrings(7), keyctl_join_session_keyring(3).
 */
export function leaveSessionKeyring(): void {
  const KEYCTL_JOIN_SESSION_KEYRING = 1;
  if (syscall(sys.keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) >= 0) return;
  const code = errno();
  // A kernel without keys, or a container in which nobody may use them.
  if (["ENOSYS", "EPERM"].includes(errnoName(code))) return;
  throw new SystemError("keyctl", code);
}

/** Which permissions new files do not get. umask(2). @returns those that they did not get before */
export function setUmask(mask: number): number {
  return syscall(descriptors.umask, mask);
}

/** A limit of getrlimit(2). */
interface Limit {
  readonly soft: bigint;
  readonly hard: bigint;
}

const RLIMIT_NOFILE = 7;

/** How many descriptors this process may have. */
function descriptorLimit(): Limit {
  arena.reset();
  const limit = arena.take(16);
  check(syscall(sys.prlimit64, 0, RLIMIT_NOFILE, 0, arena.addressOf(limit)), "prlimit");
  return {
    soft: arena.view.getBigUint64(limit, true),
    hard: arena.view.getBigUint64(limit + 8, true),
  };
}

/** As many descriptors as there may be, for a process that walks deep into folders. */
export function raiseDescriptorLimit(): void {
  const { hard } = descriptorLimit();
  arena.reset();
  const place = placeLimit({ soft: hard, hard });
  check(syscall(sys.prlimit64, 0, RLIMIT_NOFILE, arena.addressOf(place)), "prlimit");
}

/** Places a limit in the arena as `struct rlimit64`. */
function placeLimit({ soft, hard }: Limit): number {
  const place = arena.take(16);
  arena.view.setBigUint64(place, soft, true);
  arena.view.setBigUint64(place + 8, hard, true);
  return place;
}
