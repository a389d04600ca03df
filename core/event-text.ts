/**
 * What has happened, in words: the same in the log and for whoever asks.
 *
 * @module
 */
import type { Event } from "./protocol.ts";

/** One kind of event. */
type Of<E extends Event["event"]> = Extract<Event, { readonly event: E }>;

/** Why a jail has ended. */
export function stopText({ reason, why }: Pick<Of<"jail-stopped">, "reason" | "why">): string {
  switch (reason) {
    case "idle":
      return "nothing ran in it any more";
    case "asked":
      return "it was stopped";
    case "failed":
      return why ?? "it could not go on";
    case "lost":
      return "it ended by itself";
    default:
      return reason satisfies never;
  }
}

/** Why something is not lent any more. */
export function unlentText({ reason }: Pick<Of<"unlent">, "reason">): string {
  switch (reason) {
    case "asked":
      return "taken back";
    case "expired":
      return "its time is over";
    case "done":
      return "its program has ended";
    default:
      return reason satisfies never;
  }
}
