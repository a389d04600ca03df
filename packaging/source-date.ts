/**
 * When the source was last changed, for what is made of it: the same source has to become the same
 * bytes. https://reproducible-builds.org/specs/source-date-epoch/
 *
 * @module
 */

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** `$SOURCE_DATE_EPOCH`, else the time of the commit, else of deno.json. */
export function sourceDate(): Date {
  const given = Deno.env.get("SOURCE_DATE_EPOCH");
  if (given !== undefined && /^\d{1,12}$/.test(given)) return new Date(Number(given) * 1000);
  return commitDate() ?? Deno.statSync(`${root}/deno.json`).mtime ?? new Date(0);
}

function commitDate(): Date | undefined {
  try {
    const { success, stdout } = new Deno.Command("git", {
      args: ["-C", root, "log", "-1", "--format=%ct"],
      stderr: "null",
    }).outputSync();
    const seconds = Number(new TextDecoder().decode(stdout).trim());
    return success && seconds > 0 ? new Date(seconds * 1000) : undefined;
  } catch (error) {
    // There need be no git where there is an archive of the source.
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
