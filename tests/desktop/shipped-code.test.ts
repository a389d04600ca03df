/**
 * The shipped profiles for strangers' code: each builds a project in the folder that its owner shares
 * with it, without a network, and finds nothing else of theirs.
 */
import assert from "node:assert/strict";
import { hasProgram, shippedProfiles } from "./desk.ts";
import { buildsOffline, type Project, says } from "./projects.ts";
import { person, personsGroup, withPerson } from "../jail/person.ts";
import { isRoot, type Outcome, World } from "../jail/world.ts";

/** Writes the files of a project of the person's, and what is nobody's business beside it. */
async function write(world: World, { profile, files }: Project): Promise<string> {
  const home = `${world.folder}/pat`;
  const shared = `${home}/Shared/${profile}`;
  await Deno.mkdir(`${shared}/project/src`, { recursive: true });
  const all = Object.entries(files).map(([name, text]) => [`${shared}/project/${name}`, text]);
  for (const [path = "", text = ""] of [...all, [`${home}/diary`, "nobody's business"]]) {
    await Deno.writeTextFile(path, text);
  }
  const owned = ["Shared", `Shared/${profile}`, `Shared/${profile}/project`];
  for (const folder of [...owned, `Shared/${profile}/project/src`]) {
    await Deno.chown(`${home}/${folder}`, person, personsGroup);
  }
  for (const [path = ""] of all) await Deno.chown(path, person, personsGroup);
  await Deno.chown(`${home}/diary`, person, personsGroup);
  return `${shared}/project`;
}

for (const project of buildsOffline) {
  const { profile, build, made } = project;
  const lacking = project.programs.filter((program) => !hasProgram(program));
  const name = `${profile}: ${build[0]} builds what is shared with it, and sees nothing else`;
  Deno.test({
    name: lacking.length === 0 ? name : `${name} (there is no ${lacking.join(", no ")})`,
    ignore: !isRoot || lacking.length > 0,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      await using world = await World.start({ ...withPerson, profiles: shippedProfiles });
      const folder = await write(world, project);
      const cwd = `/home/${profile}/shared/project`;
      const run = (...words: readonly string[]): Promise<Outcome> =>
        world.client(["run", ...words], { uid: person, cwd: "/" });

      // The command finds the profile.
      const built = await run("--cwd", cwd, ...build);
      assert.equal(built.code, 0, built.stderr + built.stdout);
      const { uid, gid, isFile } = await Deno.lstat(`${folder}/${made}`);
      assert.deepEqual([uid, gid, isFile], [person, personsGroup, true]);
      const ran = await run("-p", profile, "--cwd", cwd, ...project.run);
      assert.deepEqual([ran.code, ran.stdout], [0, `${says}\n`], ran.stderr);

      const script = `cat ${world.folder}/pat/diary; ls -A ~/.. ~/shared; ls $XDG_RUNTIME_DIR`;
      const looked = await run("-p", profile, "sh", "-c", script);
      assert.equal(
        looked.stdout,
        `/home/${profile}/..:\n${profile}\n\n/home/${profile}/shared:\nproject\n`,
      );
      assert.match(looked.stderr, /diary: No such file or directory/);
    },
  });
}
