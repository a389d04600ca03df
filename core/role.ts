/**
 * How a re-executed role begins: with the descriptors that it was handed and no other, and with the
 * options of its one argument. A person who calls a role by hand has neither, and is told so.
 *
 * @module
 */
import type * as v from "valibot";
import { closeInherited } from "../ipc/fd.ts";
import { AppjailError } from "./errors.ts";
import { descriptorKind } from "./kernel.ts";
import type { ReexecutedRole } from "./launch.ts";
import { parse } from "./names.ts";

/** What a descriptor is that a role is handed. */
type Handed = "socket" | "file" | "folder" | "other";

/**
 * Parses the options, and closes what was not handed over.
 *
 * @param handed what descriptors 3, 4, … have to be; it may depend on the options
 */
export function begin<const S extends v.GenericSchema>(
  role: ReexecutedRole,
  schema: S,
  text: string,
  handed: readonly Handed[] | ((options: v.InferOutput<S>) => readonly Handed[]),
): v.InferOutput<S> {
  const wrong = (why: string): AppjailError =>
    new AppjailError(
      "usage",
      `The ${role} is a part of the daemon and cannot be called by hand (${why}); ` +
        "try: appjail daemon",
    );
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw wrong("it has no options");
  }
  const parsed = parse(schema, value);
  if ("wrong" in parsed) throw wrong(parsed.wrong);
  const wanted = typeof handed === "function" ? handed(parsed.value) : handed;
  closeInherited(wanted.map((_, index) => index + 3));
  for (const [index, kind] of wanted.entries()) {
    const number = index + 3;
    if (descriptorKind(number) !== kind) throw wrong(`its descriptor ${number} is no ${kind}`);
  }
  return parsed.value;
}
