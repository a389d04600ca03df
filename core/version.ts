/**
 * What this program calls itself, and which of its three forms it has.
 *
 * @module
 */
import manifest from "../deno.json" with { type: "json" };

export const version: string = manifest.version;

/** compiled: one executable. bundled: one file beside a Deno of its own. source: the checkout. */
export type Form = "compiled" | "bundled" | "source";

/** A bundle is JavaScript; only a checkout has a main module in TypeScript. */
export const form: Form = Deno.build.standalone
  ? "compiled"
  : Deno.mainModule.endsWith(".ts")
  ? "source"
  : "bundled";
