/** ipc/errno.ts, and whether errno is the one of the call that failed. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { errnoName, isErrno, SystemError } from "../../ipc/errno.ts";
import { open, readSome } from "../../ipc/fd.ts";
import { connect } from "../../ipc/socket.ts";

Deno.test("every errno that is known has the name that the C library gives it", () => {
  using stack = new DisposableStack();
  const libc = stack.adopt(
    Deno.dlopen("libc.so.6", { strerrorname_np: { parameters: ["i32"], result: "pointer" } }),
    (library) => library.close(),
  );
  let known = 0;
  for (let errno = 1; errno < 200; errno++) {
    const name = errnoName(errno);
    if (name === `errno ${errno}`) continue;
    known++;
    const pointer = libc.symbols.strerrorname_np(errno);
    ok(pointer !== null, `${errno} is not ${name}`);
    equal(name, Deno.UnsafePointerView.getCString(pointer));
  }
  ok(known > 30);
});

Deno.test("an errno that nobody knows keeps its number", () => {
  equal(errnoName(4095), "errno 4095");
  equal(new SystemError("call", 4095).message, "call: errno 4095");
});

Deno.test("a failed call names itself, what it was about, and why", () => {
  const error = new SystemError("open", 2, "/no\nwhere");
  equal(error.message, 'open("/no\\nwhere"): ENOENT, no such file or directory');
  deepEqual([error.call, error.errno, error.code], ["open", 2, "ENOENT"]);
});

Deno.test("an error is told by its errno's name, and no other error is", () => {
  const error = new SystemError("open", 2);
  equal(isErrno(error, "EPERM", "ENOENT"), true);
  equal(isErrno(error, "EPERM"), false);
  equal(isErrno(error), false);
  equal(isErrno({ code: "ENOENT" }, "ENOENT"), false);
  equal(isErrno(new Deno.errors.NotFound("ENOENT"), "ENOENT"), false);
});

Deno.test("errno is that of the call just made, also when memory is collected in between", () => {
  const garbage: unknown[] = [];
  for (let i = 0; i < 1500; i++) {
    garbage[i % 100] = new Array(200).fill({ i });
    throws(() => open("/nonexistent", 0), { code: "ENOENT" });
    throws(() => open("/proc/self/status/x", 0), { code: "ENOTDIR" });
    throws(() => readSome(-1, new Uint8Array(1)), { code: "EBADF" });
    throws(() => open("/proc/self", 1), { code: "EISDIR" });
    throws(() => connect("/proc/self/status"), { code: "ECONNREFUSED" });
  }
});
