/**
 * Writes the JSON Schema of profiles, which editors use, from their declaration in core/profile.ts.
 *
 * @module
 */
import { schemaName, schemaText } from "../core/profile-schema.ts";

Deno.writeTextFileSync(new URL(`../profiles/${schemaName}`, import.meta.url), schemaText());
