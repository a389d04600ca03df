/** core/exit.ts against the macros of wait(2), and against a shell. */
import { deepEqual, equal } from "node:assert/strict";
import { exitStatusOf, exitText, shellStatus } from "../../core/exit.ts";

Deno.test("every raw status means what the macros of sys/wait.h say", () => {
  for (let raw = 0; raw <= 0xffff; raw++) {
    // bits/waitstatus.h
    const signal = raw & 0x7f;
    const exited = signal === 0;
    const signaled = ((signal + 1) << 24 >> 24) >> 1 > 0;
    const status = exitStatusOf(raw);
    if (exited) deepEqual(status, { by: "exit", code: raw >> 8 });
    else if (signaled) deepEqual(status, { by: "signal", signal, core: (raw & 0x80) > 0 });
    else equal(status, undefined, "a process that has only stopped has not ended");
  }
});

Deno.test("a status is told as a shell tells it", async () => {
  const { stdout } = await new Deno.Command("bash", {
    args: [
      "-c",
      `for what in "exit 0" "exit 1" "exit 255" "kill -9 \\$\\$" "kill -15 \\$\\$"
       do bash -c "$what" 2>/dev/null; echo $?; done 2>/dev/null`,
    ],
    stderr: "null",
  }).output();
  deepEqual(
    new TextDecoder().decode(stdout).trim().split("\n").map(Number),
    [0x0000, 0x0100, 0xff00, 0x0009, 0x000f].map((raw) => {
      const status = exitStatusOf(raw);
      return status === undefined ? NaN : shellStatus(status);
    }),
  );
});

Deno.test("an end is told in words: the status, or the signal by its name", () => {
  equal(exitText({ by: "exit", code: 3 }), "exit 3");
  equal(exitText({ by: "signal", signal: 9, core: false }), "SIGKILL");
  equal(exitText({ by: "signal", signal: 64, core: true }), "signal 64");
});
