/**
 * Whether a uid or gid belongs to somebody: asked of all the sources that nsswitch.conf(5) names,
 * not of /etc/passwd alone. Run by the helper; apart from core/kernel.ts so that no jailer loads it.
 *
 * @module
 */

const { symbols: c } = Deno.dlopen("libc.so.6", {
  getgrgid: { parameters: ["u32"], result: "pointer" },
  getpwuid: { parameters: ["u32"], result: "pointer" },
});

/** getpwuid(3). */
export function isKnownUid(uid: number): boolean {
  return c.getpwuid(uid) !== null;
}

/** getgrgid(3). */
export function isKnownGid(gid: number): boolean {
  return c.getgrgid(gid) !== null;
}

/** Who has an id in the text of passwd(5) or group(5). */
export function nameOf(text: string, id: number): string | undefined {
  return text.split("\n").map((line) => line.split(":")).find(([, , one]) => one === String(id))
    ?.[0];
}
