/**
 * errno by its name, and the one error type for a failed system call.
 *
 * @module
 */

/** errno(3); the numbers are those of asm-generic/errno*.h, equal on x86-64 and arm64. */
const names: Readonly<Record<number, readonly [name: string, words: string]>> = {
  1: ["EPERM", "operation not permitted"],
  2: ["ENOENT", "no such file or directory"],
  3: ["ESRCH", "no such process"],
  4: ["EINTR", "interrupted"],
  5: ["EIO", "input/output error"],
  6: ["ENXIO", "no such device or address"],
  7: ["E2BIG", "argument list too long"],
  8: ["ENOEXEC", "not an executable format"],
  9: ["EBADF", "bad file descriptor"],
  10: ["ECHILD", "no child process"],
  11: ["EAGAIN", "try again"],
  12: ["ENOMEM", "out of memory"],
  13: ["EACCES", "permission denied"],
  14: ["EFAULT", "bad address"],
  16: ["EBUSY", "device or resource busy"],
  17: ["EEXIST", "file exists"],
  18: ["EXDEV", "crosses a file system"],
  19: ["ENODEV", "no such device"],
  20: ["ENOTDIR", "not a directory"],
  21: ["EISDIR", "is a directory"],
  22: ["EINVAL", "invalid argument"],
  23: ["ENFILE", "too many open files in the system"],
  24: ["EMFILE", "too many open files"],
  25: ["ENOTTY", "not a terminal"],
  26: ["ETXTBSY", "text file busy"],
  27: ["EFBIG", "file too large"],
  28: ["ENOSPC", "no space left"],
  29: ["ESPIPE", "illegal seek"],
  30: ["EROFS", "read-only file system"],
  31: ["EMLINK", "too many links"],
  32: ["EPIPE", "broken pipe"],
  36: ["ENAMETOOLONG", "name too long"],
  38: ["ENOSYS", "not known to this kernel"],
  39: ["ENOTEMPTY", "directory not empty"],
  40: ["ELOOP", "a symbolic link stands where none may"],
  88: ["ENOTSOCK", "not a socket"],
  90: ["EMSGSIZE", "message too long"],
  95: ["EOPNOTSUPP", "not supported"],
  98: ["EADDRINUSE", "address in use"],
  104: ["ECONNRESET", "connection reset"],
  107: ["ENOTCONN", "not connected"],
  109: ["ETOOMANYREFS", "too many descriptors under way"],
  110: ["ETIMEDOUT", "timed out"],
  111: ["ECONNREFUSED", "connection refused"],
  122: ["EDQUOT", "disk quota exceeded"],
};

/** The errno's symbolic name, such as `ENOENT`. */
export function errnoName(errno: number): string {
  return names[errno]?.[0] ?? `errno ${errno}`;
}

/** A system call that failed: `open("/data/1100"): ENOENT, no such file or directory`. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  readonly call: string;
  readonly errno: number;

  constructor(call: string, errno: number, subject?: string) {
    const words = names[errno]?.[1];
    super(
      `${call}${subject === undefined ? "" : `(${JSON.stringify(subject)})`}: ${errnoName(errno)}${
        words === undefined ? "" : `, ${words}`
      }`,
    );
    this.call = call;
    this.errno = errno;
  }

  /** The errno's symbolic name. */
  get code(): string {
    return errnoName(this.errno);
  }
}

/** Whether `error` is a failed call with one of these errno names. */
export function isErrno(error: unknown, ...codes: readonly string[]): error is SystemError {
  return error instanceof SystemError && codes.includes(error.code);
}
