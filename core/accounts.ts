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

/** What passwd(5) says of somebody. */
export interface Account {
  readonly name: string;
  readonly gid: number;
  readonly home: string;
}

/** The line of a uid in the text of passwd(5); the first one, as for everybody who asks. */
export function accountOf(passwd: string, uid: number): Account | undefined {
  for (const line of passwd.split("\n")) {
    const [name = "", , id, gid = "", , home = "", ...more] = line.split(":");
    if (id !== String(uid) || name === "" || more.length !== 1 || !isId(gid)) continue;
    return { name, gid: Number(gid), home };
  }
  return undefined;
}

/** The groups that somebody is in by the text of group(5), beside their own. */
export function groupsOf(group: string, name: string): readonly number[] {
  const found = group.split("\n").map((line) => line.split(":")).filter(([, , id = "", members]) =>
    isId(id) && members?.split(",").includes(name)
  );
  return [...new Set(found.map(([, , id]) => Number(id)))];
}

/** A number of passwd(5) or group(5) that means somebody. */
function isId(text: string): boolean {
  return /^[0-9]{1,10}$/.test(text) && Number(text) < 0xffffffff;
}
