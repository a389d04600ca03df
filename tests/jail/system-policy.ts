/**
 * Who may do what on a real system bus: what every Debian has, and what docs/dbus.md shows for appjail.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";

const page = new URL("../../docs/dbus.md", import.meta.url).pathname;

/** The policies of a system bus, for a dispatcher that is nobody; `undefined` where there is no such bus. */
export function systemPolicy(): string | undefined {
  const usual = readText("/usr/share/dbus-1/system.conf");
  if (usual === undefined) return undefined;
  const [, ours = ""] = /<busconfig>([\s\S]*?)<\/busconfig>/.exec(readText(page) ?? "") ?? [];
  assert.ok(ours.includes("<deny "), `${page} shows no policy`);
  // The configuration has more than policies, which would stand beside that of the test's bus.
  return [...usual.matchAll(/<policy [\s\S]*?<\/policy>/g)].map(([policy]) => policy).join("\n") +
    ours.replaceAll('"appjail"', '"nobody"');
}
