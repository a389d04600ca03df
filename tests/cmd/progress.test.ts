/** cmd/progress.ts: what a person is told of a copy. */
import { equal, ok } from "node:assert/strict";
import { progressLine, timeIn } from "../../cmd/progress.ts";
import { bytesIn } from "../../core/size-text.ts";

Deno.test("a number of bytes has a unit and two digits at least", () => {
  const shown = [0, 999, 1000, 1500, 9949, 9950, 999_499, 999_500, 5e9, 2 ** 63].map(bytesIn);
  equal(
    shown.join(", "),
    "0 B, 999 B, 1.0 kB, 1.5 kB, 9.9 kB, 10 kB, 999 kB, 1.0 MB, 5.0 GB, 9223 PB",
  );
});

Deno.test("a time is as on a clock", () => {
  equal(
    [0, 0.2, 59, 60, 3599, 3600, 36_125].map(timeIn).join(", "),
    "0:00, 0:01, 0:59, 1:00, 59:59, 1:00:00, 10:02:05",
  );
});

Deno.test("bytes, rate and time left are told, with a bar where there is room for one", () => {
  const now = { copied: 1e9, total: 4e9, elapsed: 2000 };
  equal(
    progressLine(now, 80),
    "[########" + " ".repeat(22) + "]  25 %  1.0 GB of 4.0 GB  500 MB/s  0:06 left".slice(0),
  );
  equal(progressLine(now, 50), "25 %  1.0 GB of 4.0 GB  500 MB/s  0:06 left".padStart(44));
  equal(progressLine({ ...now, total: undefined }, 80), "1.0 GB  500 MB/s");
  equal(progressLine({ ...now, copied: 0 }, 30), "  0 %  0 B of 4.0 GB");
  // The source has grown.
  equal(progressLine({ ...now, total: 5e8 }, 80), "1.0 GB  500 MB/s");
  for (let width = 0; width < 100; width++) ok(progressLine(now, width).length <= width);
  equal(progressLine({ copied: 0, total: 5, elapsed: 0 }, 40).includes("left"), false);
});
