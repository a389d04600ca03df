/** What `appjail events` shows: a line for each, which steers no terminal. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { eventLine } from "../../cmd/events.ts";
import type { Event } from "../../core/protocol.ts";
import { branded } from "../core/played.ts";

/** Half past ten, where the tests run. */
const now = new Date(2026, 0, 15, 10, 30, 0).getTime();
const minute = 60_000;

const about = { sequence: 7, at: now - minute, owner: 1000, profile: "work", uid: 1100 };

function line(event: unknown, owners = false): string {
  return eventLine(branded<Event>({ ...about, ...Object(event) }), { owners, names: 8, now });
}

Deno.test("each event has its line: when, which profile and uid, what, and what of it", () => {
  const begin = "10:29:00  work      1100    ";
  const shown: readonly (readonly [unknown, string])[] = [
    [{ event: "jail-started" }, "jail-started"],
    [{ event: "program-started", program: "work.1", command: "sh" }, "program-started  work.1: sh"],
    [
      { event: "program-exited", program: "work.1", status: { by: "exit", code: 2 } },
      "program-exited   work.1: exit 2",
    ],
    [
      {
        event: "program-exited",
        program: "work.1",
        status: { by: "signal", signal: 11, core: true },
      },
      "program-exited   work.1: SIGSEGV",
    ],
    [{ event: "jail-stopped", reason: "idle", why: null }, "nothing ran in it any more"],
    [{ event: "jail-stopped", reason: "asked", why: null }, "it was stopped"],
    [{ event: "jail-stopped", reason: "lost", why: null }, "it ended by itself"],
    [{ event: "jail-stopped", reason: "failed", why: "its home is gone" }, "its home is gone"],
    [{ event: "home-unlocked" }, "home-unlocked"],
    [{ event: "home-locked", note: null }, "home-locked"],
    [{ event: "home-locked", note: "by force" }, "home-locked      by force"],
    [
      { event: "lent", name: "a b.pdf", path: "/home/a b.pdf", write: false, until: null },
      "lent             '~/lent/a b.pdf': '/home/a b.pdf', to read",
    ],
    [
      { event: "lent", name: "x", path: "/x", write: true, until: now },
      "lent             '~/lent/x': /x, to be changed, until 10:30:00",
    ],
    [{ event: "unlent", name: "x", reason: "asked" }, "unlent           '~/lent/x': taken back"],
    [{ event: "unlent", name: "x", reason: "expired" }, "its time is over"],
    [{ event: "unlent", name: "x", reason: "done" }, "its program has ended"],
    [
      { event: "refused", request: "run", code: "denied", message: "Cannot" },
      "refused          run: Cannot",
    ],
  ];
  for (const [event, end] of shown) {
    const text = line(event);
    ok(text.startsWith(begin), text);
    ok(text.endsWith(end), text);
  }
});

Deno.test("what is about no profile, or one that has never run, says so", () => {
  const refused = { event: "refused", request: "run", code: "denied", message: "Cannot" };
  equal(
    line({ ...refused, profile: null, uid: null }),
    "10:29:00  -         -       refused          run: Cannot",
  );
});

Deno.test("root sees whose each event is, and anybody which day it was", () => {
  equal(line({ event: "jail-started" }, true), "10:29:00  1000    work      1100    jail-started");
  equal(
    line({ event: "jail-started", at: now - 24 * 60 * minute }),
    "2026-01-14 10:30:00  work      1100    jail-started",
  );
});

Deno.test("nobody who has a part in an event can steer the terminal, nor make a line of their own", () => {
  const evil = "\x1b[2J\n\u202e";
  const lines = [
    line({ event: "program-started", program: "work.1", command: evil }),
    line({ event: "lent", name: "x", path: `/${evil}`, write: false, until: null }),
    line({ event: "refused", request: "run", code: "denied", message: evil }),
    line({ event: "jail-stopped", reason: "failed", why: evil }),
    line({ event: "home-locked", note: evil }),
  ];
  for (const one of lines) {
    ok(!/[\p{Cc}\p{Bidi_Control}]/u.test(one), JSON.stringify(one));
    deepEqual(one.includes("\\x1b[2J\\x0a\\u202e"), true, one);
  }
});
