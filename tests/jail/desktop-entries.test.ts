/**
 * Desktop entries through the client, in folders of a person's: made, followed, and taken back, so that
 * not a byte is different afterwards.
 */
import assert from "node:assert/strict";
import { shell } from "./volumes.ts";
import { jailTest, uA, World } from "./world.ts";

const entry = (exec: string, more = ""): string =>
  `[Desktop Entry]\nType=Application\nName=X\nIcon=x\nMimeType=text/x;\nExec=${exec}\n${more}`;

jailTest(
  "entries are made for a profile's programs, follow their packages, and go again",
  async (t) => {
    await using world = await World.start();
    const home = `${world.folder}/alice`;
    const system = `${world.folder}/system`;
    await shell(
      'mkdir -p "$1/.local/share/applications" "$2/applications/kde"; chown -R "$3" "$1"',
      ...[home, system, `${uA}`],
    );
    const as = { uid: uA, env: { HOME: home, XDG_DATA_DIRS: system, PATH: "/usr/bin:/bin" } };
    const desktop = async (...words: string[]) => {
      const { code, stdout, stderr } = await world.client(["desktop", ...words], as);
      return { code, said: stdout + stderr };
    };
    const own = `${home}/.local/share/applications`;
    const write = (path: string, text: string) =>
      Deno.writeTextFile(`${system}/applications/${path}`, text);
    const listing = () =>
      shell('cd "$1"; find . -type f | sort | xargs -r -d "\\n" sha256sum', home);

    await write(
      "x.desktop",
      entry("/usr/bin/xprog --new %u", "[Desktop Action n]\nExec=xprog -n\n"),
    );
    await write("kde/y.desktop", entry("env A=1 xprog %f"));
    await write("other.desktop", entry("other"));
    await Deno.writeTextFile(`${own}/x.desktop`, entry("xprog --mine %u"));
    await Deno.writeTextFile(`${own}/note.txt`, "mine");
    await shell('chown -R "$2" "$1"', home, `${uA}`);
    const profile = `${world.folder}/p.toml`;
    await Deno.writeTextFile(profile, 'executables = ["xprog", "/opt/x/xprog2"]\n');
    const kept = await world.client(["profile", "edit", "xjail", profile], as);
    assert.equal(kept.code, 0, kept.stderr);
    const before = await listing();

    await t.step("each of its entries is one, the person's own before the system's", async () => {
      const { code, said } = await desktop("install", "xjail");
      assert.equal(code, 0, said);
      assert.equal(said, "kde/y.desktop: xprog in xjail\nx.desktop: xprog in xjail\n");
      const mine = await Deno.readTextFile(`${own}/x.desktop`);
      assert.match(mine, /^Exec=appjail run -p xjail -- xprog --mine %u$/m);
      assert.match(mine, /^Icon=x$/m);
      assert.match(mine, /^MimeType=text\/x;$/m);
      const nested = await Deno.readTextFile(`${own}/kde/y.desktop`);
      assert.match(nested, /^Exec=appjail run -p xjail -- env A=1 xprog %f$/m);
      await assert.rejects(Deno.lstat(`${own}/other.desktop`));
    });
    const follower = `${home}/.config/autostart/appjail-desktop-update.desktop`;
    await t.step("to install them again changes nothing", async () => {
      const made = await listing();
      assert.equal((await desktop("install", "xjail")).code, 0);
      assert.equal(await listing(), made);
    });
    await t.step("each session begins with an update", async () => {
      assert.match(await Deno.readTextFile(follower), /^Exec=appjail desktop update$/m);
      assert.equal((await desktop("install", "--all")).code, 0);
      assert.match(await Deno.readTextFile(follower), /^Exec=appjail desktop update --all$/m);
    });
    await t.step("they follow the package", async () => {
      await write("kde/y.desktop", entry("xprog --newer %f"));
      const { said } = await desktop("list");
      assert.match(said, /kde\/y\.desktop +xjail +\S+ +its source has changed/);
      assert.match(said, /^x\.desktop .* current$/m);
      assert.equal((await desktop("update")).said, "kde/y.desktop: made again\n");
      assert.match(await Deno.readTextFile(`${own}/kde/y.desktop`), /-- xprog --newer %f$/m);
      const listed = JSON.parse((await desktop("list", "--json")).said);
      assert.deepEqual(listed.map(({ state }: { state: string }) => state), ["current", "current"]);
    });
    await t.step("what was installed since has one, too, where all have", async () => {
      await write("new.desktop", entry("xprog2"));
      assert.equal((await desktop("update")).said, "");
      assert.equal((await desktop("update", "--all")).said, "new.desktop: xprog2 in xjail\n");
      assert.equal((await desktop("update", "--all")).said, "");
      await Deno.remove(`${system}/applications/new.desktop`);
      assert.match((await desktop("update", "--all")).said, /^new\.desktop: removed/);
    });
    await t.step("one that was changed by hand stays, unless it is insisted", async () => {
      const path = `${own}/kde/y.desktop`;
      const made = await Deno.readTextFile(path);
      await Deno.writeTextFile(path, made.replace("Name=X", "Name=Mine"));
      const { code, said } = await desktop("uninstall", "xjail");
      assert.equal(code, 111);
      assert.match(said, /kde\/y\.desktop was changed since it was made and stays; .*--force/);
      assert((await Deno.lstat(follower)).isFile, "it was removed before the last of them");
      assert.equal((await desktop("uninstall", "--all", "--force")).code, 0);
    });
    await t.step("then all is as it was, to the byte", async () => {
      assert.equal(await listing(), before);
      const empty = await shell('cd "$1"; find . -type d | sort', home);
      assert.equal(empty, ".\n./.local\n./.local/share\n./.local/share/applications");
    });
    await t.step("an entry goes with its package", async () => {
      await desktop("install", "xjail");
      await Deno.remove(`${system}/applications/kde/y.desktop`);
      assert.match((await desktop("update")).said, /^kde\/y\.desktop: removed, as /);
      await desktop("uninstall", "--all");
      assert.equal(await listing(), before);
    });
    await t.step("what makes no sense is said so", async () => {
      for (
        const words of [[], ["x"], ["install"], ["install", "--all", "y"], ["list", "--force"]]
      ) {
        assert.equal((await desktop(...words)).code, 100, words.join(" "));
      }
      const { code, said } = await desktop("install", "noone");
      assert.equal(code, 111);
      assert.match(said, /There is no profile "noone" with executables/);
    });
  },
);
