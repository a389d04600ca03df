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

/**
 * Closes what was not handed over, and parses the options.
 *
 * @param handed what descriptors 3, 4, … have to be
 */
export function begin<const S extends v.GenericSchema>(
  role: ReexecutedRole,
  schema: S,
  text: string,
  handed: readonly ("socket" | "file" | "folder")[],
): v.InferOutput<S> {
  const numbers = handed.map((_, index) => index + 3);
  closeInherited(numbers);
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
  for (const [index, kind] of handed.entries()) {
    const number = index + 3;
    if (descriptorKind(number) !== kind) throw wrong(`its descriptor ${number} is no ${kind}`);
  }
  return parsed.value;
}
