/** What a home has where something is to be lent: it is told of, or it works, and nothing is lost. */
import assert from "node:assert/strict";
import { mountsBelow } from "./lent.ts";
import { person, personsGroup, withPerson } from "./person.ts";
import { execute, firstUid, type Outcome, themeTest, type World } from "./world.ts";

const options = {
  ...withPerson,
  before: async (folder: string) => {
    await withPerson.before(folder);
    await Deno.mkdir(`${folder}/pat/Downloads`);
    await Deno.chown(`${folder}/pat/Downloads`, person, personsGroup);
    await Deno.writeTextFile(
      `${folder}/admin/work.toml`,
      '[[lend]]\npath = "xdg-download"\nat = "~/Downloads"\nmode = "rw"\n',
    );
  },
};

/** What may stand there, and why nothing can be lent at it. */
const obstacles: Readonly<Record<string, readonly [make: string, why: string]>> = {
  "a file": ["echo mine >$1", "Not a directory"],
  "a FIFO": ["mkfifo $1", "Not a directory"],
  "a link to a file": ["echo mine >other; ln -s other $1", "Not a directory"],
  "a link to nothing": ["ln -s nothing $1", "No such file or directory"],
  "a link to itself": ["ln -s $1 $1", "Too many levels of symbolic links"],
  "a link to a folder of the system's": ["ln -s /etc $1", "No such file or directory"],
  "a link out of the home": ["ln -s ../../usr $1", "No such file or directory"],
};

/** What a home has, outside of any jail: names, kinds, contents. */
async function contentsOf(home: string): Promise<string> {
  const { code, stdout, stderr } = await execute([
    ...["sh", "-c", 'cd "$1" && find . -printf "%p %y %l\\n" | sort; cat $(find . -type f)', "sh"],
    home,
  ]);
  assert.equal(code, 0, stderr);
  return stdout;
}

themeTest("what is in the way of what is lent", options, async (t, world: World) => {
  const home = `${world.data}/${firstUid}`;
  const run = (script: string): Promise<Outcome> =>
    world.client(["run", "-p", "work", "--", "sh", "-c", script], { uid: person });
  const stop = async (): Promise<void> => {
    assert.equal((await world.client(["stop", "--force", "work"], { uid: person })).code, 0);
  };
  /** As the app's own doing: only then are owners as they would be. */
  const make = async (script: string, name: string): Promise<void> => {
    const app = ["setpriv", `--reuid=${firstUid}`, `--regid=${firstUid}`, "--clear-groups", "--"];
    const words = ["env", "-C", home, "sh", "-c", script, "sh", name];
    const { code, stderr } = await execute([...app, ...words]);
    assert.equal(code, 0, stderr);
  };
  const empty = async (): Promise<void> => {
    for (const { name } of Deno.readDirSync(home)) {
      await Deno.remove(`${home}/${name}`, { recursive: true });
    }
  };
  /** It still has all of that, beside places that were made for what is lent. */
  const keeps = async (before: string): Promise<void> => {
    const now = (await contentsOf(home)).split("\n");
    assert.deepEqual(before.split("\n").filter((line) => !now.includes(line)), []);
  };
  assert.equal((await run("true")).code, 0);
  await stop();

  const few = ["a file", "a link to nothing"];
  for (
    const [place, tried] of [
      ["lent", Object.keys(obstacles)],
      ["shared", few],
      ["Downloads", few],
    ] as const
  ) {
    await t.step(`at ~/${place} it is named, stays as it is, and can be moved away`, async () => {
      for (const what of tried) {
        const [script, why] = obstacles[what] ?? ["", ""];
        await empty();
        await make(script, place);
        const before = await contentsOf(home);
        const { code, stdout, stderr } = await run("echo started");
        assert.deepEqual([code, stdout], [111, ""], `${what}: ${stderr}`);
        const advice = `mv -nT ${home}/${place} ${home}/${place}.old`;
        assert.equal(
          stderr,
          `appjail: Cannot start jail "work": what its home has at ~/${place} is in the way of ` +
            `what is lent there (${why}); try, as root: ${advice}` +
            (place === "shared" ? ", or: appjail profile edit work, with shared = false" : "") +
            "\n",
          what,
        );
        await keeps(before);
        assert.deepEqual(mountsBelow(`${world.runtime}/jails`, world.helperPid), [], what);
        assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], [], what);
        // As it says.
        assert.equal((await execute(advice.split(" "))).code, 0);
        assert.equal((await run("ls -d ~/lent ~/shared ~/Downloads")).code, 0, what);
        await stop();
        await Deno.lstat(`${home}/${place}.old`);
      }
    });
  }

  await t.step("a folder there is covered meanwhile, and one that a link leads to", async () => {
    for (const script of ["mkdir $1", "mkdir other; ln -s other $1"]) {
      await empty();
      await make(`${script}; echo mine >$1/kept`, "Downloads");
      const before = await contentsOf(home);
      const { code, stdout, stderr } = await run("ls ~/Downloads; cat ~/Downloads/kept");
      assert.notEqual(code, 0);
      assert.equal(stdout, "");
      assert.match(stderr, /kept/);
      await stop();
      await keeps(before);
    }
  });
});
