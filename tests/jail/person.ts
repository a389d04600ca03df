/**
 * Somebody with a home, whom only the daemon knows: accounts of the system, which other tests have ask,
 * share no folder with their profiles.
 *
 * @module
 */
import { ownEtc } from "./world.ts";

export const person = 46_123;
export const personsGroup = 46_124;

/** Their home is `pat` in the scratch folder. */
export const withPerson: typeof ownEtc = {
  ...ownEtc,
  before: async (folder) => {
    await ownEtc.before(folder);
    await Deno.writeTextFile(
      `${folder}/etc/passwd`,
      `pat:x:${person}:${personsGroup}::${folder}/pat:/bin/sh\n`,
      { append: true },
    );
    await Deno.mkdir(`${folder}/pat`);
    await Deno.chown(`${folder}/pat`, person, personsGroup);
    await Deno.chmod(`${folder}/pat`, 0o700);
  },
};
