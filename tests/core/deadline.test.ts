/** core/deadline.ts: an end to every wait, and no timer or rejection that outlives it. */
import { equal, rejects } from "node:assert/strict";
import { pause, within } from "../../core/deadline.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

class Late extends Error {}
const late = (): Error => new Late("too late");
const hour = 3_600_000;

Deno.test("what settles in time is told as it is, and leaves no timer behind", async () => {
  equal(await within(Promise.resolve(5), hour, late), 5);
  equal(await within(pause(1).then(() => "x"), hour, late), "x");
  await rejects(within(Promise.reject(new TypeError("of its own")), hour, late), TypeError);
  await rejects(
    within(pause(1).then(() => Promise.reject(new TypeError("x"))), hour, late),
    TypeError,
  );
});

Deno.test("what never settles ends with the error that was to be told", async () => {
  await rejects(within(new Promise(() => {}), 1, late), Late);
  await rejects(within(new Promise(() => {}), 0, late), Late);
});

Deno.test("the error is made only when it is needed", async () => {
  let made = 0;
  await within(Promise.resolve(), hour, () => {
    made++;
    return late();
  });
  equal(made, 0);
});

Deno.test("a failure that comes after the deadline harms nobody", async () => {
  // Without an owner it would end the process, and this test.
  const { promise, reject } = Promise.withResolvers<never>();
  await rejects(within(promise, 1, late), Late);
  reject(new TypeError("much later"));
  await pause(1);
});
