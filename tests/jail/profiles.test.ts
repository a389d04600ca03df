/**
 * Profiles that people write, with a real daemon: whose they are, what holds over what, which one a
 * command finds, what comes of files that are none; and attacks 1 and 6 on each request.
 */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { answerOf, askAs } from "./stand-in.ts";
import {
  asUser,
  execute,
  jailTest,
  type Outcome,
  themeTest,
  uA,
  uB,
  until,
  World,
} from "./world.ts";

/** Folders of profiles in the scratch folder: those that come with the program, and the machine's. */
type Where = "profiles" | "admin";

async function put(world: World, where: Where, name: string, text: string): Promise<void> {
  // As a package does it: a new file in the place of the old one.
  const path = `${world.folder}/${where}/${name}.toml`;
  await Deno.writeTextFile(`${path}.new`, text);
  await Deno.rename(`${path}.new`, path);
}

/** Keeps a text as a person's own. */
async function write(world: World, uid: number, name: string, text: string): Promise<Outcome> {
  const file = `${world.folder}/${name}.${uid}.toml`;
  await Deno.writeTextFile(file, text);
  await Deno.chmod(file, 0o644);
  return await world.client(["profile", "edit", name, file], { uid });
}

async function kept(world: World, uid: number, name: string, text: string): Promise<void> {
  const { code, stderr } = await write(world, uid, name, text);
  assert.equal(code, 0, stderr);
}

/** Where a person's own text is. */
function ownFile(world: World, uid: number, name: string): string {
  return `${world.state}/profiles/${uid}/${name}.toml`;
}

themeTest("a person's own profiles are theirs alone", {}, async (t, world) => {
  await kept(
    world,
    uA,
    "mail",
    'description = "A\'s"\nenv.WHOSE = "A"\ncommand = ["printenv", "WHOSE"]',
  );
  await kept(world, uB, "mail", 'env.WHOSE = "B"');

  await t.step("each sees their own, and not that there are others", async () => {
    await kept(world, uB, "secret", "gpu = true");
    const list = await world.client(["profile", "list", "--names"], { uid: uA });
    assert.equal(list.stdout, "mail\n");
    const shown = await world.client(["profile", "show", "mail"], { uid: uB });
    assert.match(shown.stdout, /WHOSE = "B"/);
    assert.doesNotMatch(shown.stdout, /A's/);
  });

  await t.step("each runs with their own", async () => {
    for (const [uid, whose] of [[uA, "A"], [uB, "B"]] as const) {
      assert.equal(await world.run("mail", ["printenv", "WHOSE"], { uid }), whose);
    }
  });

  await t.step(
    "attack 1: every request about another's is refused, and changes nothing",
    async () => {
      const before = await Deno.readTextFile(ownFile(world, uB, "secret"));
      const message = 'There is no profile "secret"';
      const unwritten = 'You have not written a profile "secret"; to see those that there are: ' +
        "appjail profile list";
      const failed = { type: "failed", code: "unknown-profile" };
      const request = { profile: "secret" };
      for (
        const [type, words] of [["show", message], ["diff", unwritten], [
          "forget",
          unwritten,
        ]] as const
      ) {
        const more = type === "forget" ? { home: false } : {};
        const answer = await answerOf(askAs(uA, world, { type, ...request, ...more }));
        assert.deepEqual(answer, { ...failed, message: words });
      }
      await world.run("secret", ["sh", "-c", "echo kept > ~/note"], { uid: uB });
      await world.client(["stop", "secret"], { uid: uB });
      const all = { type: "forget", ...request, home: true };
      assert.deepEqual(await answerOf(askAs(uA, world, all)), {
        ...failed,
        message: 'You have no profile "secret"',
      });
      assert.equal(await world.run("secret", ["cat", "/home/secret/note"], { uid: uB }), "kept");
      const write = { type: "write", ...request, text: "gpu = false" };
      // A text of that name would be A's own; who takes B's for what is there is told so.
      const stale = await answerOf(askAs(uA, world, { ...write, before }));
      assert.equal(stale?.type, "failed");
      assert.deepEqual(await answerOf(askAs(uA, world, { ...write, before: null })), {
        type: "checked",
        problems: [],
      });
      await world.client(["profile", "delete", "secret"], { uid: uA });
      assert.equal(await Deno.readTextFile(ownFile(world, uB, "secret")), before);
      // Not even root reaches one by the name that somebody else gave it.
      assert.deepEqual(await answerOf(askAs(0, world, { type: "show", ...request })), {
        ...failed,
        message,
      });
      const written = await answerOf(askAs(0, world, { type: "written" }));
      assert.deepEqual(written, { type: "done" });
    },
  );

  await t.step("attack 6: what is no name is no file", async () => {
    const names = ["../mail", "a/b", "", "-rf", ".", "..", "x".repeat(300), "a\n", "a\0", "$(id)"];
    for (const profile of [...names, "root", 5, null, ["mail"], {}]) {
      for (const type of ["show", "check", "write", "diff", "forget"]) {
        const text = type === "check" || type === "write" ? { text: "gpu = true" } : {};
        const before = type === "write"
          ? { before: null }
          : type === "forget"
          ? { home: true }
          : {};
        const channel = askAs(uA, world, { type, profile, ...text, ...before });
        const answer = await answerOf(channel).catch(() => undefined);
        assert(answer === undefined || answer.type === "failed", JSON.stringify([type, profile]));
      }
    }
    const files = [...Deno.readDirSync(`${world.state}/profiles`)].map(({ name }) => name).sort();
    assert.deepEqual(files, [`${uA}`, `${uB}`].sort());
    assert.deepEqual([...Deno.readDirSync(`${world.state}/profiles/${uA}`)].length, 1);
  });

  await t.step("the files are the dispatcher's, where nobody else comes", async () => {
    const file = ownFile(world, uA, "mail");
    assert.equal(((await Deno.stat(file)).mode ?? 0) & 0o777, 0o600);
    assert.equal(((await Deno.stat(`${world.state}/profiles`)).mode ?? 0) & 0o777, 0o700);
    for (const uid of [uA, uB]) {
      const { code } = await execute(asUser(uid, ["cat", file]));
      assert.notEqual(code, 0);
    }
    await world.shell("mail", `! cat ${file} && ! ls ${world.state}`, { uid: uA });
  });
});

themeTest("a text that is wrong is not kept, and all of it is told", {}, async (t, world) => {
  await t.step("with file, line and the nearest name", async () => {
    const { code, stderr } = await write(world, uA, "web", 'netwrok = "none"\ngpu = 5\n');
    assert.equal(code, 100);
    assert.match(
      stderr,
      /web\.5\.toml:1: netwrok: there is no such key; did you mean "network"\?\n.*:2: gpu: 5 is neither/,
    );
    assert.throws(() => Deno.statSync(ownFile(world, uA, "web")), Deno.errors.NotFound);
  });

  await t.step("what was there stays", async () => {
    await kept(world, uA, "web", 'network = "none"\n');
    assert.equal((await write(world, uA, "web", "gpu = 5")).code, 100);
    assert.equal(await Deno.readTextFile(ownFile(world, uA, "web")), 'network = "none"\n');
  });

  await t.step("one that is too large is refused before it is sent, and when it is", async () => {
    const text = `# ${"x".repeat(70_000)}`;
    const { code, stderr } = await write(world, uA, "web", text);
    assert.equal(code, 100);
    assert.match(stderr, /larger than 65536 bytes/);
    const channel = askAs(uA, world, { type: "write", profile: "web", text, before: null });
    const answer = await answerOf(channel).catch(() => undefined);
    assert(answer === undefined || answer.type === "failed");
    // As many characters as there may be, and twice the bytes.
    const wide = { type: "write", profile: "wide", text: `#${"ä".repeat(60_000)}`, before: null };
    const refused = await answerOf(askAs(uA, world, wide));
    assert(refused?.type === "failed" && refused.code === "profile-refused");
  });

  await t.step("check needs no daemon for what a file says, and asks it for the rest", async () => {
    await put(world, "admin", "web", 'locked = ["gpu"]');
    const file = `${world.folder}/web.toml`;
    await Deno.writeTextFile(file, 'gpu = true\nextends = "nothing"');
    const env = { APPJAIL_SOCKET: "/nonexistent" };
    assert.deepEqual(await world.client(["profile", "check", file], { uid: uA, env }), {
      code: 0,
      stdout: "",
      stderr: "",
    });
    const { code, stderr } = await world.client(["profile", "check", file], { uid: uA });
    assert.equal(code, 100);
    assert.match(stderr, /web\.toml:2: extends: there is no profile "nothing"/);
    assert.match(stderr, /web\.toml:1: gpu: it is locked by .*admin\/web\.toml/);
    await Deno.writeTextFile(file, 'network = "non"');
    const offline = await world.client(["profile", "check", file], { uid: uA, env });
    assert.equal(offline.code, 100);
    assert.match(offline.stderr, /web\.toml:1: network: "non" is none of .*did you mean "none"/);
  });

  await t.step("a key that is locked is refused, by whom it is", async () => {
    const { code, stderr } = await write(world, uA, "web", "gpu = true");
    assert.equal(code, 100);
    assert.match(stderr, /gpu: it is locked by .*\/admin\/web\.toml/);
  });

  await t.step("one that is locked afterwards is not used any more", async () => {
    await kept(world, uA, "late", 'network = "host"');
    await put(world, "admin", "late", 'network = "none"\nlocked = ["network"]');
    const { code, stderr } = await world.client(["run", "-p", "late", "true"], { uid: uA });
    assert.equal(code, 100);
    assert.match(stderr, /Cannot use profile "late": own\/late\.toml:1: network: it is locked/);
    assert.equal((await world.client(["profiles"], { uid: uA })).stdout, "", "no uid was spent");
  });
});

themeTest("what stands in the place of a text and is none", {}, async (t, world) => {
  const { uid: dispatcher = 0 } = await Deno.stat(`${world.state}/profiles`);
  const own = dispatcher ?? 0;
  const place = async (name: string, make: (path: string) => Promise<void>): Promise<void> => {
    await Deno.mkdir(`${world.state}/profiles/${uA}`, { recursive: true });
    await Deno.chown(`${world.state}/profiles/${uA}`, own, own);
    await make(ownFile(world, uA, name));
  };
  const refused = async (name: string, words: RegExp): Promise<void> => {
    const { code, stderr } = await world.client(["run", "-p", name, "true"], { uid: uA });
    assert.equal(code, 100, stderr);
    assert.match(stderr, words);
    // It is told of, and it harms nobody.
    const list = await world.client(["profile", "list"], { uid: uA });
    assert.equal(list.code, 0, list.stderr);
    assert.equal(await world.run("calm", ["echo", "served"], { uid: uB }), "served");
  };

  await t.step("a link is not followed", async () => {
    await place("link", async (path) => {
      await Deno.writeTextFile(`${world.folder}/target`, 'network = "none"');
      await Deno.symlink(`${world.folder}/target`, path);
    });
    await refused("link", /own\/link\.toml:1: .*ELOOP/);
    // Writing puts a file in its place, and leaves what it led to alone.
    await kept(world, uA, "link", "gpu = true");
    assert.equal(await Deno.readTextFile(`${world.folder}/target`), 'network = "none"');
    assert.equal((await Deno.lstat(ownFile(world, uA, "link"))).isSymlink, false);
  });

  await t.step("a FIFO is not waited for", async () => {
    await place("pipe", async (path) => {
      assert.equal((await execute(["mkfifo", "-m", "666", path])).code, 0);
    });
    await refused("pipe", /own\/pipe\.toml:1: it is no file/);
  });

  await t.step("a folder, a device, a file without an end", async () => {
    await place("folder", async (path) => await Deno.mkdir(path));
    await refused("folder", /it is no file/);
    await place("zero", async (path) => {
      await execute(["mknod", "-m", "666", path, "c", "1", "5"]);
    });
    if (Deno.lstatSync(ownFile(world, uA, "zero")).isCharDevice) {
      await refused("zero", /it is no file/);
    }
    await place("large", async (path) => {
      await Deno.writeTextFile(path, "#".repeat(100_000));
      await Deno.chown(path, own, own);
    });
    await refused("large", /larger than 65536 bytes/);
    await place("binary", async (path) => {
      await Deno.writeFile(path, Uint8Array.of(0xff, 0xfe, 0x23));
      await Deno.chown(path, own, own);
    });
    await refused("binary", /not UTF-8/);
  });

  await t.step("the folder itself", async () => {
    await Deno.remove(`${world.state}/profiles/${uA}`, { recursive: true });
    await Deno.symlink("/etc", `${world.state}/profiles/${uA}`);
    const { code, stderr } = await world.client(["profile", "list"], { uid: uA });
    assert.equal(code, 100, stderr);
    assert.match(stderr, /Cannot read your profiles/);
    assert.equal((await write(world, uA, "passwd", "gpu = true")).code !== 0, true);
    assert.throws(() => Deno.statSync("/etc/passwd.toml"), Deno.errors.NotFound);
    await Deno.remove(`${world.state}/profiles/${uA}`);
    assert.equal(await world.run("calm", ["echo", "served"], { uid: uB }), "served");
  });
});

themeTest("which profile a command finds", {}, async (t, world) => {
  const profileOf = async (...words: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await world.client(["run", ...words], { uid: uA });
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  await put(world, "profiles", "printer", 'executables = ["printenv"]\nenv.GREETING = "hello"');

  await t.step("one that names it", async () => {
    assert.equal(await profileOf("printenv", "APPJAIL_PROFILE"), "printer");
    assert.equal(await profileOf("/usr/bin/printenv", "GREETING"), "hello");
  });

  await t.step("two that name it are asked about", async () => {
    await kept(world, uA, "mine", 'executables = ["/usr/bin/printenv"]\nextends = "printer"');
    const { code, stderr } = await world.client(["run", "/usr/bin/printenv"], { uid: uA });
    assert.equal(code, 100);
    assert.match(stderr, /Cannot tell which profile .* is for: mine and printer name it/);
    // What is extended is not found by the commands of what it extends.
    assert.equal(await profileOf("printenv", "APPJAIL_PROFILE"), "printer");
    assert.equal(await profileOf("-p", "mine", "printenv", "GREETING"), "hello");
    // Another person has but one of them.
    const other = await world.client(["run", "/usr/bin/printenv", "GREETING"], { uid: uB });
    assert.equal(other.stdout, "hello\n");
    assert.equal((await world.client(["profile", "delete", "mine"], { uid: uA })).code, 0);
  });

  await t.step("the one that is called as it is comes first", async () => {
    await kept(world, uA, "printenv", 'env.GREETING = "own"');
    assert.equal(await profileOf("printenv", "GREETING"), "own");
  });

  await t.step("a command that nobody names finds one of its own, as ever", async () => {
    assert.equal(await profileOf("env", "sh", "-c", "echo $APPJAIL_PROFILE"), "env");
    const { code } = await world.client(["run", "no-such-command"], { uid: uA });
    assert.equal(code, 127);
  });

  await t.step("a profile's own command, when none is given", async () => {
    await kept(world, uA, "hi", 'command = ["sh", "-c", "echo hi $0", "there"]');
    assert.equal(await profileOf("-p", "hi"), "hi there");
    const { code, stderr } = await world.client(["run", "-p", "env"], { uid: uA });
    assert.equal(code, 100);
    assert.match(stderr, /a command is needed, because profile "env" names none/);
    const detached = await world.client(["run", "-p", "hi", "--detach"], { uid: uA });
    assert.match(detached.stdout, /^hi\.\d+\n$/);
  });
});

themeTest("what a profile says is what its programs get", {}, async (t, world) => {
  await t.step("variables: below --env, over what comes along", async () => {
    await kept(world, uA, "vars", 'env = { A = "profile", B = "profile", LANG = "C" }');
    const options = { uid: uA, env: { LANG: "de_DE.UTF-8", B: "outside" } };
    const words = ["run", "-p", "vars", "--env", "A=asked", "--", "sh", "-c", "echo $A $B $LANG"];
    for (const _ of ["first", "joined"]) {
      assert.equal((await world.client(words, options)).stdout, "asked profile C\n");
    }
  });

  await t.step("the network, and it is the jail's, not the profile's of now", async () => {
    const links = ["sh", "-c", "ls /proc/sys/net/ipv4/conf; cat /proc/net/dev | wc -l"];
    await kept(world, uA, "net", 'network = "none"\nlinger = 60');
    const before = await world.run("net", links, { uid: uA });
    await kept(world, uA, "net", 'network = "host"\nlinger = 60\nenv.NEW = "1"');
    assert.equal(
      await world.run("net", links, { uid: uA }),
      before,
      "it joins the jail that is there",
    );
    assert.equal(await world.shell("net", "echo $NEW", { uid: uA }), "");
    const [jail] = (await world.status(uA)).filter(({ profile }) => profile === "net");
    assert.equal(jail.changed, true);
    const shown = await world.client(["profile", "show", "net"], { uid: uA });
    assert.match(shown.stderr, /runs as it was before; this holds when it is started next/);
    const status = await world.client(["status"], { uid: uA });
    assert.match(status.stdout, /\*[^\n]*\n[^]*\* its profile was changed/);
    await world.client(["stop", "net"], { uid: uA });
    assert.equal(await world.shell("net", "echo $NEW", { uid: uA }), "1");
    const own = readText("/proc/net/dev")?.split("\n").length;
    const inside = await world.shell("net", "cat /proc/net/dev", { uid: uA });
    assert.equal(inside.split("\n").length + 1, own);
  });

  await t.step("how long it stays", async () => {
    await kept(world, uA, "short", "linger = 0");
    await kept(world, uA, "long", "linger = 3600");
    for (const name of ["short", "long"]) await world.run(name, ["true"], { uid: uA });
    const there = async (): Promise<readonly string[]> =>
      (await world.status(uA)).map(({ profile }) => profile);
    await until("the short one is gone", async () => !(await there()).includes("short"));
    assert((await there()).includes("long"));
    await world.client(["stop", "long"], { uid: uA });
  });
});

themeTest("the commands show, make, compare and delete", {}, async (t, world) => {
  await put(world, "profiles", "web", 'description = "A browser"\nnetwork = "none"\ngpu = true\n');
  await put(world, "admin", "web", "gpu = false\n");
  const asA = async (...words: readonly string[]): Promise<Outcome> =>
    await world.client(["profile", ...words], { uid: uA });

  await t.step("list", async () => {
    const { stdout } = await asA("list");
    assert.match(stdout, /^PROFILE +FROM +UID +DESCRIPTION\nweb +shipped\+admin +- +A browser\n$/);
    const [web] = JSON.parse((await asA("list", "--json")).stdout);
    assert.deepEqual(web, {
      profile: "web",
      from: ["shipped", "admin"],
      uid: null,
      running: false,
      changed: false,
      description: "A browser",
      executables: [],
      problems: 0,
    });
  });

  await t.step("show, as it is written and as it comes out", async () => {
    const { stdout } = await asA("show", "web");
    assert.match(
      stdout,
      /# --- .*\/profiles\/web\.toml\n.*A browser[^]*# --- .*\/admin\/web\.toml\n/,
    );
    const resolved = await asA("show", "web", "--resolved");
    assert.match(resolved.stdout, /^network = "none" +# .*\/profiles\/web\.toml$/m);
    assert.match(resolved.stdout, /^gpu = false +# .*\/admin\/web\.toml$/m);
    assert.match(resolved.stdout, /^display = "none"$/m);
    const { settings, sources } = JSON.parse((await asA("show", "web", "--json")).stdout);
    assert.deepEqual([settings.network, settings.dbus.session], ["none", "private"]);
    assert.match(sources.network, /profiles/);
    assert.equal((await asA("show", "nothing")).code, 111);
  });

  await t.step("new, and another that begins with it", async () => {
    assert.equal((await asA("new", "work", "--from", "web")).code, 0);
    assert.match((await asA("show", "work")).stdout, /extends = "web"/);
    const again = await asA("new", "work");
    assert.equal(again.code, 100);
    assert.match(again.stderr, /you have written it already/);
    const unknown = await asA("new", "x", "--from", "wbe");
    assert.equal(unknown.code, 100);
    assert.match(unknown.stderr, /there is no profile "wbe"; did you mean "web"\?/);
  });

  await t.step("diff", async () => {
    await kept(world, uA, "web", 'network = "host"\ngpu = false\nshared = false\n');
    const { stdout } = await asA("diff", "web");
    assert.match(
      stdout,
      /^- network = "none" {2}# .*profiles.*\n\+ network = "host" {2}# gives more\n- shared = true {2}# built in\n\+ shared = false\n$/,
    );
    assert.equal((await asA("diff", "other")).code, 111);
  });

  await t.step("edit in an editor, again and again until it is right", async () => {
    const editor = `${world.folder}/editor`;
    const runtime = `${world.folder}/runtime`;
    await Deno.mkdir(runtime);
    await Deno.chown(runtime, uA, uA);
    await Deno.writeTextFile(
      editor,
      `#!/bin/sh\nstat -c '%a' "$2" "$(dirname "$2")" > ${runtime}/seen\nprintf '%s\\n' "$1" >> "$2"\n`,
    );
    await Deno.chmod(editor, 0o755);
    const edit = async (line: string): Promise<Outcome> =>
      await world.client(["profile", "edit", "web"], {
        uid: uA,
        env: { EDITOR: `${editor} '${line}'`, VISUAL: "", XDG_RUNTIME_DIR: runtime },
      });
    assert.deepEqual(await edit("linger = 9"), { code: 0, stdout: "kept web\n", stderr: "" });
    assert.equal(await Deno.readTextFile(`${runtime}/seen`), "600\n700\n");
    assert.match(
      await Deno.readTextFile(ownFile(world, uA, "web")),
      /shared = false\nlinger = 9\n$/,
    );
    assert.deepEqual([...Deno.readDirSync(runtime)].map(({ name }) => name), ["seen"]);
    // What is refused is still there, and may be given again.
    const refused = await edit("gpu = 7");
    assert.equal(refused.code, 100);
    assert.match(refused.stderr, /own\/web\.toml:\d: "gpu" stands there twice/);
    const [, path = ""] = /what you wrote is in (\S+);/.exec(refused.stderr) ?? [];
    assert.match(await Deno.readTextFile(path), /gpu = 7/);
    await Deno.writeTextFile(path, "linger = 8\n");
    assert.equal((await asA("edit", "web", path)).stdout, "kept web\n");
    const unchanged = await world.client(["profile", "edit", "web"], {
      uid: uA,
      env: { EDITOR: "true", VISUAL: "", XDG_RUNTIME_DIR: runtime },
    });
    assert.equal(unchanged.stdout, "nothing was changed\n");
    const failed = await world.client(["profile", "edit", "web"], {
      uid: uA,
      env: { EDITOR: "false", VISUAL: "", XDG_RUNTIME_DIR: runtime },
    });
    assert.match(failed.stderr, /the editor \(false\) has failed; what you wrote is in/);
  });

  await t.step("two who edit at once do not undo each other's", async () => {
    const own = await Deno.readTextFile(ownFile(world, uA, "web"));
    await kept(world, uA, "web", "linger = 1");
    const late = { type: "write", profile: "web", text: "linger = 2", before: own };
    const answer = await answerOf(askAs(uA, world, late));
    assert(answer?.type === "failed" && /changed meanwhile/.test(answer.message));
    assert.equal(await Deno.readTextFile(ownFile(world, uA, "web")), "linger = 1");
  });

  await t.step("delete", async () => {
    await world.run("web", ["sh", "-c", "echo kept > ~/file"], { uid: uA });
    assert.equal((await asA("delete", "web")).code, 0);
    assert.throws(() => Deno.statSync(ownFile(world, uA, "web")), Deno.errors.NotFound);
    assert.equal(await world.run("web", ["cat", "/home/web/file"], { uid: uA }), "kept");
    assert.match((await asA("list")).stdout, /^web +shipped\+admin/m);
    assert.equal((await asA("delete", "web")).code, 111);
  });

  await t.step("what is used wrongly is told", async () => {
    for (
      const [words, expected] of [
        [[], /it needs one of list, show/],
        [["shwo"], /did you mean "show"/],
        [["show"], /it is appjail profile show NAME/],
        [["show", "a", "b"], /it is appjail profile show NAME/],
        [["list", "--from", "x"], /profile list has no such option/],
        [["show", "../x"], /named with letters/],
      ] as const
    ) {
      const { code, stderr } = await asA(...words);
      assert.equal(code, 100);
      assert.match(stderr, expected);
      assert.equal(stderr.split("\n").length, 2);
    }
  });
});

jailTest(
  "profiles outlive the daemon and its dispatcher, and there is an end to their number",
  async () => {
    await using world = await World.start();
    await kept(world, uA, "stays", 'env.A = "yes"');
    Deno.kill(await world.dispatcherPid(), "SIGKILL");
    await until("the next dispatcher has it", async () => {
      const { code, stdout } = await world.client(["profile", "list", "--names"], { uid: uA });
      return code === 0 && stdout === "stays\n";
    });
    assert.equal(await world.shell("stays", "echo $A", { uid: uA }), "yes");
    await world.stopDaemon();
    await world.startDaemon();
    assert.equal(await world.shell("stays", "echo $A", { uid: uA }), "yes");
    for (let count = 1; count < 300; count++) {
      const request = { type: "write", profile: `p${count}`, text: "gpu = true", before: null };
      assert.equal((await answerOf(askAs(uA, world, request)))?.type, "checked");
    }
    const more = { type: "write", profile: "more", text: "gpu = true", before: null };
    const answer = await answerOf(askAs(uA, world, more));
    assert(answer?.type === "failed" && answer.code === "limit", JSON.stringify(answer));
    // One that is there may still be changed, and another person has room.
    const again = { ...more, profile: "p1", text: "gpu = false", before: "gpu = true" };
    assert.equal((await answerOf(askAs(uA, world, again)))?.type, "checked");
    assert.equal((await answerOf(askAs(uB, world, more)))?.type, "checked");
    const list = await world.client(["profile", "list", "--names"], { uid: uA });
    assert.equal(list.stdout.split("\n").length, 301);
  },
);

themeTest("deleting a profile with its home", {}, async (t, world) => {
  const home = (uid: number): string => `${world.data}/${uid}`;
  const remove = async (name: string, ...words: readonly string[]): Promise<Outcome> =>
    await world.client(["profile", "delete", name, "--home", ...words], { uid: uA });
  const uidOf = async (name: string): Promise<number> =>
    Number(await world.shell(name, "echo secret > ~/file; mkdir ~/a; id -u", { uid: uA }));

  await t.step("says how much there is, and does nothing unasked", async () => {
    const uid = await uidOf("mail");
    const running = await remove("mail", "--yes");
    assert.equal(running.code, 111);
    assert.match(running.stderr, /its jail is there; stop it first: appjail stop mail/);
    await world.client(["stop", "mail"], { uid: uA });
    const { code, stdout } = await remove("mail");
    assert.equal(code, 0);
    assert.match(
      stdout,
      new RegExp(
        `^the home of mail \\(uid ${uid}\\): 3 files, .*\nnothing was deleted; .*--yes\n$`,
      ),
    );
    assert.equal(await Deno.readTextFile(`${home(uid)}/file`), "secret\n");
    const without = await world.client(["profile", "delete", "mail", "--yes"], { uid: uA });
    assert.match(without.stderr, /Cannot use --yes without --home/);
  });

  await t.step("removes all of it, and gives the uid back", async () => {
    await kept(world, uA, "mail", "linger = 0");
    const uid = await uidOf("mail");
    await world.client(["stop", "mail"], { uid: uA });
    const { code, stdout, stderr } = await remove("mail", "--yes");
    assert.equal(code, 0, stderr);
    assert.match(stdout, /deleted mail\n$/);
    const names = [...Deno.readDirSync(world.data)].map(({ name }) => name);
    assert.deepEqual(names, [".lock"]);
    assert.equal((await world.client(["profile", "list", "--names"], { uid: uA })).stdout, "");
    assert.deepEqual(JSON.parse(await Deno.readTextFile(`${world.state}/uids.json`)).uids, []);
    // Attack 7: whoever is given it next, here another person, sees nothing of the old one.
    const seen = await world.shell("fresh", "id -u; ls -A ~ /tmp /dev/shm | wc -l", { uid: uB });
    assert.equal(seen.split("\n")[0], String(uid));
    assert.equal((await world.client(["logs", "fresh"], { uid: uB })).stdout, "");
    assert.equal((await world.client(["run", "-p", "mail", "true"], { uid: uA })).code, 0);
    assert.equal((await Deno.stat(home(uid + 1))).uid, uid + 1);
  });

  await t.step(
    "whatever is in it: deep folders, links to elsewhere, what may not be read",
    async () => {
      const script = "cd; mkdir deep; cd deep; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; " +
        "i=$((i+1)); done; cd; ln -s /etc etc; mkfifo pipe; mkdir shut; chmod 0 shut; id -u";
      const uid = Number(await world.shell("odd", script, { uid: uA }));
      await Deno.writeTextFile(`${world.folder}/victim`, "kept");
      await Deno.link(`${world.folder}/victim`, `${home(uid)}/victim`);
      await world.client(["stop", "odd"], { uid: uA });
      const { code, stdout, stderr } = await remove("odd", "--yes");
      assert.equal(code, 0, stderr);
      assert.match(stdout, /: 306 files, /);
      assert.throws(() => Deno.lstatSync(home(uid)), Deno.errors.NotFound);
      assert.equal(await Deno.readTextFile(`${world.folder}/victim`), "kept");
      assert((await Deno.stat("/etc")).isDirectory);
    },
  );

  await t.step("one that was interrupted is gone on with, and the new home goes, too", async () => {
    const uid = await uidOf("twice");
    await world.client(["stop", "twice"], { uid: uA });
    // As when all was killed between the move and the end.
    await Deno.mkdir(`${world.data}/.${uid}.removal`, { mode: 0o700 });
    await Deno.rename(home(uid), `${world.data}/.${uid}.removal/${uid}`);
    assert.equal(await uidOf("twice"), uid, "it may be used again meanwhile");
    await world.client(["stop", "twice"], { uid: uA });
    assert.equal((await remove("twice", "--yes")).code, 0);
    const left = [...Deno.readDirSync(world.data)].filter(({ name }) => name.includes(String(uid)));
    assert.deepEqual(left, []);
  });

  await t.step("a uid of which something remains is not given back", async () => {
    const uid = await uidOf("old");
    await world.client(["stop", "old"], { uid: uA });
    await Deno.mkdir(`${home(uid)}.plain`, { mode: 0o700 });
    const { code, stderr } = await remove("old", "--yes");
    assert.equal(code, 0, stderr);
    assert.match(
      stderr,
      new RegExp(`uid ${uid} stays old's, because there is still: ${uid}.plain`),
    );
    assert.notEqual(await world.run("other", ["id", "-u"], { uid: uB }), String(uid));
    await Deno.remove(`${home(uid)}.plain`);
    assert.equal((await remove("old", "--yes")).code, 0);
  });

  await t.step("a home that is another's folder, or a link, is left alone", async () => {
    const uid = await uidOf("bent");
    await world.client(["stop", "bent"], { uid: uA });
    await Deno.rename(home(uid), `${world.folder}/moved`);
    await Deno.symlink("/etc", home(uid));
    const { code, stderr } = await remove("bent", "--yes");
    assert.notEqual(code, 0);
    assert.match(stderr, /Cannot /);
    assert((await Deno.stat("/etc/passwd")).isFile);
    assert.equal(await Deno.readLink(home(uid)), "/etc");
  });
});
