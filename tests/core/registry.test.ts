/** core/registry.ts, the part that needs no root: whether subuid(5) gives a uid to a person. */
import { equal } from "node:assert/strict";
import { isDelegated } from "../../core/registry.ts";

const subuids = `alice:100000:65536
bob:1500:100
1000:2000:1
`;

Deno.test("a uid that a person may become is delegated, from the first to the last", () => {
  const expected: Readonly<Record<number, boolean>> = {
    99_999: false,
    100_000: true,
    165_535: true,
    165_536: false,
    1499: false,
    1500: true,
    1599: true,
    1600: false,
    2000: true,
    2001: false,
    1100: false,
  };
  for (const [uid, is] of Object.entries(expected)) {
    equal(isDelegated(Number(uid), subuids), is, uid);
  }
});

Deno.test("no file, and lines that make no sense, delegate nothing", () => {
  for (
    const text of [undefined, "", "\n\n", "alice", "alice:", "alice:1100", "alice:1100:", "::", ":"]
  ) {
    equal(isDelegated(1100, text), false, text);
  }
  for (const text of ["alice:x:65536", "alice:1100:x", "alice:1100:0", "alice:1100:-1", "a b c"]) {
    equal(isDelegated(1100, text), false, text);
  }
});

Deno.test("one bad line does not hide the others", () => {
  equal(isDelegated(1100, "nonsense\n\nalice:x:y\nbob:1100:1"), true);
  equal(isDelegated(1100, "bob:1000:1000\nnonsense:::\n"), true);
});

Deno.test("a range may reach to the end of all uids", () => {
  equal(isDelegated(4_294_967_294, "alice:100000:4294867296"), true);
  equal(isDelegated(1100, "root:0:4294967295"), true);
});
