/** core/throttle.ts: the beginning of a flood, and a number. */
import { deepEqual, equal } from "node:assert/strict";
import { Throttle } from "../../core/throttle.ts";

Deno.test("so many of each key pass in a time, and the next one tells of the rest", () => {
  let now = 0;
  const throttle = new Throttle<string>(2, 1000, () => now);
  const admit = (key: string, times: number): readonly (number | undefined)[] =>
    Array.from({ length: times }, () => throttle.admit(key));
  deepEqual(admit("a", 4), [0, 0, undefined, undefined]);
  deepEqual(admit("b", 1), [0]);
  now = 1000;
  deepEqual(admit("a", 1), [undefined]);
  now = 1001;
  deepEqual(admit("a", 3), [3, 0, undefined]);
  now = 5000;
  deepEqual(admit("a", 1), [1]);
});

Deno.test("the keys are bounded: the one that is longest ago is forgotten", () => {
  const throttle = new Throttle<number>(1, 1000, () => 0);
  equal(throttle.admit(-1), 0);
  for (let key = 0; key < 1024; key++) equal(throttle.admit(key), 0);
  equal(throttle.admit(1023), undefined);
  equal(throttle.admit(-1), 0);
});
