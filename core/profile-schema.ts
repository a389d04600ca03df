/**
 * The JSON Schema of a profile, for editors of TOML: made from the declaration that checks it.
 *
 * @module
 */
import { profileForm } from "./profile.ts";

/** Where it is found, beside the profiles that come with the program. */
export const schemaName = "profile.schema.json";

/** The schema's text. */
export function schemaText(): string {
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "A profile of appjail",
    ...profileForm.schema,
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
