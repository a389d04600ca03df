/** core/errors.ts: the one table of failures. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  AppjailError,
  asAppjailError,
  type ErrorCode,
  errorCodes,
  exitFailure,
  exitUsage,
  wordsOf,
} from "../../core/errors.ts";
import { SystemError } from "../../ipc/errno.ts";

Deno.test("every failure has an exit status of ours and a name on the bus", () => {
  ok(errorCodes.length > 10);
  for (const code of errorCodes) {
    const error = new AppjailError(code, "words");
    ok([100, 111, 126, 127].includes(error.exitStatus), code);
    match(error.busName, /^org\.appjail\.Error\.[A-Z][A-Za-z]+$/);
  }
});

Deno.test("the statuses are those that are promised", () => {
  const status = (code: typeof errorCodes[number]): number => new AppjailError(code, "").exitStatus;
  deepEqual([exitUsage, exitFailure], [100, 111]);
  deepEqual(errorCodes.filter((code) => status(code) === 100), [
    "usage",
    "invalid-argument",
    "profile-refused",
  ]);
  deepEqual(errorCodes.filter((code) => status(code) === 126), ["command-not-executable"]);
  deepEqual(errorCodes.filter((code) => status(code) === 127), ["command-not-found"]);
});

Deno.test("what is ours stays as it is, all else is a defect with its words and without its stack", () => {
  const ours = new AppjailError("denied", "no");
  equal(asAppjailError(ours), ours);
  const error = new SystemError("open", 2, "/x");
  const other = asAppjailError(error);
  deepEqual([other.code, other.message], ["internal", error.message]);
  equal(other.cause, error);
  ok(!other.message.includes("    at "));
  for (const thrown of ["text", undefined, null, 5, { a: 1 }]) {
    equal(asAppjailError(thrown).code, "internal");
    equal(wordsOf(thrown), String(thrown));
  }
});

Deno.test("a log has no words of whoever asked, and all of what is only about the machine", () => {
  const words = "Cannot use /home/alice/letter.pdf";
  for (
    const code of [
      ...["usage", "invalid-argument", "profile-refused", "lend-refused"],
      ...["copy-failed", "protocol"],
    ] as ErrorCode[]
  ) equal(new AppjailError(code, words).forLog, code);
  for (const code of ["start-failed", "no-uid-left", "vault-failed", "lost"] as ErrorCode[]) {
    equal(new AppjailError(code, "it did not start").forLog, "it did not start");
  }
});
