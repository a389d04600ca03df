/**
 * Packages of which the tests use the files, and that are not to be installed for it: a server that
 * somebody's machine begins to offer because they have tried a program is a door that they have not
 * opened. So the packages are fetched, and unpacked in `.debian/`.
 *
 * @module
 */
import type { Need } from "./needs.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** Where the files of a package are: a folder such as `/`, with all that it needs beside what is installed. */
export function unpackedRoot(name: string): string {
  return `${root}/.debian/${name}`;
}

/** Runs a shell's script, whose output people see as it comes. */
async function must(script: string, ...args: readonly string[]): Promise<void> {
  const { success } = await new Deno.Command("sh", {
    args: ["-ec", script, "sh", ...args],
    env: { LC_ALL: "C.UTF-8" },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  if (!success) throw new Error("apt-get or dpkg-deb failed, as it says above");
}

/** Fetches a package with those that it needs and that are not installed, and unpacks them all. */
export async function unpack({ program, package: name }: Need): Promise<void> {
  const place = unpackedRoot(name);
  console.log(`setup: ${program} missing; unpacking with dpkg-deb: ${name} ...`);
  Deno.mkdirSync(`${root}/.debian`, { recursive: true });
  const scratch = Deno.makeTempDirSync({ dir: `${root}/.debian`, prefix: `.${name}-` });
  try {
    // apt's own user, to whom it gives up its rights, has to be able to write there.
    await must(
      `mkdir -p "$1/archives/partial" && chmod 755 "$1" && cd "$1"
      get() {
        apt-get -qq -o Dir::Cache::archives="$1/archives" -o Debug::NoLocking=1 \\
          install -y --download-only --no-install-recommends "$2"
      }
      get "$1" "$2" || { apt-get -qq update && get "$1" "$2"; }
      mkdir root && cd root
      # As on a system whose /usr is merged: what a package has in /lib is in /usr/lib.
      for name in bin lib lib64 sbin; do mkdir -p "usr/$name" && ln -s "usr/$name" .; done
      for deb in ../archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar --extract --keep-directory-symlink
      done`,
      scratch,
      name,
    );
    Deno.renameSync(`${scratch}/root`, place);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot get ${program}: ${why}; try: apt-get update`, { cause: error });
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}
