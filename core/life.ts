/**
 * The life of a jail, as the dispatcher knows it: pure, so that every turn of it can be tested.
 *
 *     absent ─ask─▶ starting ─up─▶ running ⇄ idle ─lingered─▶ leaving ─gone─▶ absent
 *                       └───────────stop────┴──────stop───────────▲
 *
 * @module
 */

/** Where a jail is in its life. */
export type Life = "absent" | "starting" | "running" | "idle" | "leaving";

/**
 * What happens to a jail.
 *
 * - `ask`: somebody wants a program to run in it
 * - `adopt`: the helper says that it lives already
 * - `up`: its jailer has answered
 * - `idle`: its jailer says that nothing runs, and nobody has asked for anything since
 * - `lingered`: it was idle for long enough
 * - `stop`: somebody wants it to end
 * - `gone`: the helper says that it has ended, or could not be started
 */
export type LifeEvent = "ask" | "adopt" | "up" | "idle" | "lingered" | "stop" | "gone";

/** What is to be done because of it. */
export type LifeAction = "nothing" | "start" | "connect" | "linger" | "stay" | "leave" | "wait";

/** The next state, and what has to be done. Whatever makes no sense in a state changes nothing. */
export function next(life: Life, event: LifeEvent): readonly [Life, LifeAction] {
  if (event === "gone") return ["absent", life === "idle" ? "stay" : "nothing"];
  switch (life) {
    case "absent":
      if (event === "ask") return ["starting", "start"];
      if (event === "adopt") return ["starting", "connect"];
      return ["absent", "nothing"];
    case "starting":
      if (event === "up") return ["running", "nothing"];
      if (event === "stop") return ["leaving", "nothing"];
      return ["starting", "nothing"];
    case "running":
      if (event === "idle") return ["idle", "linger"];
      if (event === "stop") return ["leaving", "nothing"];
      return ["running", "nothing"];
    case "idle":
      if (event === "ask") return ["running", "stay"];
      if (event === "lingered") return ["leaving", "leave"];
      if (event === "stop") return ["leaving", "stay"];
      return ["idle", "nothing"];
    case "leaving":
      // A request that comes now is for the next jail; this one cannot be kept.
      if (event === "ask") return ["leaving", "wait"];
      return ["leaving", "nothing"];
    default:
      return life satisfies never;
  }
}
