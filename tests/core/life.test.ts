/** core/life.ts: every state, every event. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { type Life, type LifeAction, type LifeEvent, next } from "../../core/life.ts";

const lives = ["absent", "starting", "running", "idle", "leaving"] as const;
const events = ["ask", "adopt", "up", "idle", "lingered", "stop", "gone"] as const;

/** What becomes of each state, and what is to be done; a dash where nothing changes or is to do. */
const table: Readonly<Record<Life, Readonly<Record<LifeEvent, string>>>> = {
  absent: {
    ask: "starting start",
    adopt: "starting connect",
    up: "-",
    idle: "-",
    lingered: "-",
    stop: "-",
    gone: "-",
  },
  starting: {
    ask: "-",
    adopt: "-",
    up: "running nothing",
    idle: "-",
    lingered: "-",
    stop: "leaving nothing",
    gone: "absent nothing",
  },
  running: {
    ask: "-",
    adopt: "-",
    up: "-",
    idle: "idle linger",
    lingered: "-",
    stop: "leaving nothing",
    gone: "absent nothing",
  },
  idle: {
    ask: "running stay",
    adopt: "-",
    up: "-",
    idle: "-",
    lingered: "leaving leave",
    stop: "leaving stay",
    gone: "absent stay",
  },
  leaving: {
    ask: "leaving wait",
    adopt: "-",
    up: "-",
    idle: "-",
    lingered: "-",
    stop: "-",
    gone: "absent nothing",
  },
};

for (const life of lives) {
  Deno.test(`${life}: every event leads where it should`, () => {
    for (const event of events) {
      const row = table[life][event];
      const expected = row === "-" ? [life, "nothing"] : row.split(" ");
      deepEqual(next(life, event), expected, `${life}, ${event}`);
    }
  });
}

/** Every way of so many events from a jail that is absent. */
function* histories(length: number): Generator<readonly LifeEvent[]> {
  if (length === 0) return yield [];
  for (const history of histories(length - 1)) {
    for (const event of events) yield [...history, event];
  }
}

Deno.test("whatever happens, in whatever order, a jail is started once, and its timer never runs twice", () => {
  for (const history of histories(5)) {
    let life: Life = "absent";
    let [alive, timer] = [false, false];
    for (const event of history) {
      // What cannot be: these come of a jail that there is, and of a timer that runs.
      if (event === "lingered" && !timer) continue;
      if (["up", "idle", "gone"].includes(event) && !alive) continue;
      if (event === "adopt" && alive) continue;
      const [then, action]: readonly [Life, LifeAction] = next(life, event);
      ok(lives.includes(then));
      if (action === "start" || action === "connect") {
        equal(alive, false, `${history}: started twice`);
        alive = true;
      }
      if (event === "gone") alive = false;
      if (action === "linger") {
        equal(timer, false, `${history}: two timers`);
        timer = true;
      }
      if (action === "stay" || event === "lingered") timer = false;
      equal(then === "idle", timer, `${history}: a timer runs when, and only when, it is idle`);
      equal(then !== "absent", alive, `${history}: ${then}`);
      // Whoever asks gets a jail that stays, or is told to wait for the next one.
      if (event === "ask") ok(then === "starting" || then === "running" || action === "wait");
      life = then;
    }
  }
});
