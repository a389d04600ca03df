import { deepEqual, equal, match } from "node:assert/strict";
import { excluding, progressIn, rsyncFailure } from "../../core/rsync.ts";

Deno.test("how far rsync is, is the last that it said, however it comes", () => {
  const report = (bytes: number, left: number): string =>
    `\r${bytes.toString().padStart(15)}  26%  638.30MB/s    0:00:00 (xfr#2, to-chk=${left}/32)`;
  equal(progressIn(""), undefined);
  const within = "\r              5   0%    0.00kB/s    0:00:00  ";
  equal(progressIn(within.slice(0, -2)), undefined);
  deepEqual(progressIn(within), { bytes: 5, names: undefined });
  // In the middle of a file it does not tell how many there were.
  deepEqual(progressIn(report(3, 30) + within), { bytes: 5, names: 2 });
  equal(progressIn(report(5, 30))?.names, 2);
  const last = progressIn(report(5, 30) + report(31457285, 29) + report(99, 28).slice(0, 40));
  equal(last?.bytes, 31457285);
  equal(last?.names, 3);
});

Deno.test("only a pattern with a wildcard has its backslashes doubled", () => {
  const text = (...paths: string[]) => new TextDecoder().decode(excluding(paths));
  equal(text(), "");
  equal(text("a", "b/c d", "+ e"), "/a\0/b/c d\0/+ e\0");
  equal(text("a\\b"), "/a\\b\0");
  equal(text("a*\\b?[c]"), "/a\\*\\\\b\\?\\[c]\0");
  deepEqual(excluding(["\udcff"]), new Uint8Array([0x2f, 0xff, 0]));
});

Deno.test("why rsync failed is told by what it said first, and by how it ended", () => {
  const full = 'rsync: [receiver] write failed on "/m/large": No space left on device (28)\n' +
    "rsync error: error in file IO (code 11) at receiver.c(381) [receiver=3.2.7]\n";
  match(
    rsyncFailure(11 << 8, full),
    /^there is no room for it: \[receiver\] write failed on "\/m\/large"/,
  );
  // An attribute that is too long for its place is no full disk, although it is called one.
  const attribute = 'rsync: [receiver] rsync_xal_set: lsetxattr("/m/a","user.x") failed: ' +
    "No space left on device (28)\n";
  match(rsyncFailure(23 << 8, attribute), /^rsync cannot copy an attribute: .*"user.x"/);
  equal(rsyncFailure(9, ""), "rsync was killed by signal 9");
  equal(rsyncFailure(3 << 8, ""), "rsync ended with 3 and said nothing");
  match(
    rsyncFailure(23 << 8, "rsync: a\x1b[2Jb\nrsync error: c"),
    /^rsync ended with 23: a\\x1b\[2Jb$/,
  );
});
