/** core/monitor.ts: what a program's monitor reports, which is trusted no more than the program. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { parseReport } from "../../core/monitor.ts";
import { Random } from "../random.ts";

Deno.test("a line of a monitor is one of four reports, or nothing", () => {
  deepEqual(parseReport("started 5"), { what: "started", pid: 5 });
  deepEqual(parseReport("failed 2"), { what: "failed", errno: 2 });
  deepEqual(parseReport("suspended"), { what: "suspended" });
  deepEqual(parseReport("ended 256"), { what: "ended", status: 256 });
  for (
    const line of [
      "",
      " ",
      "started",
      "started 0",
      "started 1",
      "started -5",
      "started 5x",
      "started 4294967301",
      "started 99999999999",
      "started  5",
      "Started 5",
      "suspended 1",
      "ended",
      "ended x",
      "ended -1",
      "ended 1.5",
      "ended 0x10",
      "constructor 5",
      "__proto__ 5",
    ]
  ) equal(parseReport(line), undefined, line);
});

Deno.test("whatever a monitor says, no pid but a program's can come of it", () => {
  const random = new Random(18);
  for (let i = 0; i < 5000; i++) {
    const report = parseReport(
      random.of(["started", "ended", "failed", "suspended", ""]) + random.text(6, " -019.xe\t"),
    );
    if (report?.what === "started") ok(Number.isInteger(report.pid) && report.pid > 1);
  }
});
