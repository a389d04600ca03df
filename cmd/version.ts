/**
 * `appjail --version`: what this is, in one line.
 *
 * @module
 */
import { protocolVersion } from "../core/protocol.ts";
import { form, version } from "../core/version.ts";

/** The build looks for its first word to learn whether what it made starts. */
export function versionLine(): string {
  const made = form === "source" ? "from source" : form;
  return `appjail ${version} (${made}; Deno ${Deno.version.deno}; protocol ${protocolVersion})\n`;
}
