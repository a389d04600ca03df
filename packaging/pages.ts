/**
 * The man pages, for whoever installs them.
 *
 * @module
 */

/** Each page by its name, as `appjail.1`; none where nothing makes them. */
export async function pages(): Promise<ReadonlyMap<string, string>> {
  const maker = new URL("./man.ts", import.meta.url);
  try {
    Deno.statSync(maker);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Map();
    throw error;
  }
  const { manPages }: { readonly manPages: () => Promise<ReadonlyMap<string, string>> } =
    await import(maker.href);
  return await manPages();
}
