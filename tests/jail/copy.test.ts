// deno-lint-ignore-file no-control-regex -- what a terminal is told has some
/** `appjail put` and `appjail get`: files into a jail and out of it, whatever happens meanwhile. */
import assert from "node:assert/strict";
import { allPids } from "../../core/process.ts";
import { readText } from "../../core/kernel.ts";
import {
  asUser,
  execute,
  firstUid,
  jailTest,
  type Outcome,
  uA,
  uB,
  until,
  World,
} from "./world.ts";

const profile = "work";

/** A world, a home, and a folder of uA's outside with what is copied. */
interface Scene {
  readonly world: World;
  readonly outside: string;
  readonly home: string;
  put(...words: readonly string[]): Promise<Outcome>;
  get(...words: readonly string[]): Promise<Outcome>;
  /** A script of uA's, in the folder outside. */
  script(text: string): Promise<string>;
}

async function scene(world: World): Promise<Scene> {
  const outside = `${world.folder}/outside`;
  await Deno.mkdir(outside);
  await Deno.chown(outside, uA, uA);
  await world.run(profile, ["true"], { uid: uA });
  const client = (verb: string) => (...words: readonly string[]) =>
    world.client([verb, ...words], { uid: uA, cwd: outside });
  return {
    world,
    outside,
    home: `${world.data}/${firstUid}`,
    put: client("put"),
    get: client("get"),
    script: async (text) => {
      const words = asUser(uA, ["sh", "-euc", text]);
      const { code, stdout, stderr } = await execute(words, { cwd: outside });
      assert.equal(code, 0, stderr);
      return stdout;
    },
  };
}

function succeeded({ code, stdout, stderr }: Outcome): void {
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: "", stderr: "" });
}

function refused({ code, stdout, stderr }: Outcome, says: RegExp, status = 111): void {
  assert.match(stderr, says);
  assert.match(stderr, /^(appjail: [^\n]*\n)+$/);
  assert.deepEqual([code, stdout], [status, ""]);
}

/** What lies in a folder, but for where a home has what is lent: nothing of a copy is ever left. */
function namesIn(folder: string): readonly string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name !== "lent")
    .sort();
}

/** Owner, mode, type, size and name of everything, in find(1)'s words. */
async function listing(folder: string, format = "%U:%G %#m %y %s %l %P\\n"): Promise<string> {
  const { stdout } = await execute(["find", ".", "-mindepth", "1", "-printf", format], {
    cwd: folder,
  });
  return stdout.split("\n").sort().join("\n");
}

/** The pids of copiers, on the host. */
function copiers(): readonly number[] {
  return allPids().filter((pid) => {
    const [name = ""] = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return name === "/run/appjail/appjail-copier" &&
      new RegExp(`^Uid:\t${firstUid}\t`, "m").test(readText(`/proc/${pid}/status`) ?? "");
  });
}

/** The copier of the copy that has been started. */
async function copierPid(): Promise<number> {
  return await until("a copier runs", () => copiers()[0]);
}

/** One that has said its last word may be about to end. */
async function noCopier(): Promise<void> {
  await until("no copier runs", () => copiers().length === 0);
}

jailTest("what is put belongs to the app, and what is got to the caller", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, get, script, outside, home } = await scene(world);
  await script(`
    mkdir -p tree/deep/er 'tree/ with spaces ' back
    printf text > tree/file; chmod 640 tree/file
    printf more > tree/deep/er/$(printf -- '-a\\nb\\377c')
    printf set > tree/set; chmod 6755 tree/set
    chmod 1755 tree/deep; chmod 555 tree/deep/er
    ln -s /etc/passwd tree/absolute; ln -s ../.. tree/deep/up; ln -s nowhere tree/dangling
    ln tree/file tree/again
    printf x > -dash; printf y > $(printf 'byte\\376'); printf z > 'a:b'
    touch -d @1000000000.5 tree/file tree
  `);
  succeeded(await put("tree", profile));
  const expected = `%#m %y %s %l %P %T@\\n`;
  const withoutBits = (text: string): string => text.replace(/^0[1-7](?=\d{3} )/gm, "0");
  const files = (text: string): string =>
    text.split("\n").filter((line) => / f \d| d \d/.test(line)).sort().join("\n");
  const before = await listing(`${outside}/tree`, expected);
  assert.ok(before.includes("06755 f") && before.includes("01755 d"));
  const there = await listing(`${home}/tree`, expected);
  assert.equal(files(there), files(withoutBits(before)));
  assert.equal(await Deno.readLink(`${home}/tree/absolute`), "/etc/passwd");
  assert.equal(await Deno.readLink(`${home}/tree/deep/up`), "../..");
  assert.equal(await Deno.readLink(`${home}/tree/dangling`), "nowhere");
  const owners = await listing(`${home}`, "%U:%G\\n");
  assert.deepEqual([...new Set(owners.trim().split("\n"))], [`${firstUid}:${firstUid}`]);

  // And back, to where the caller is and to a folder.
  succeeded(await get(`${profile}:tree`, "back"));
  assert.equal(files(await listing(`${outside}/back/tree`, expected)), files(withoutBits(before)));
  const mine = await listing(`${outside}/back`, "%U:%G\\n");
  assert.deepEqual(
    [...new Set(mine.trim().split("\n"))],
    ["games:5"].map(() => mine.split("\n")[1]),
  );
  assert.equal((await Deno.stat(`${outside}/back/tree/file`)).uid, uA);
  assert.equal(
    await world.shell(profile, "stat -c %U tree/file; cat tree/deep/er/*", { uid: uA }),
    `${profile}\nmore`,
  );

  // Odd names as words: after --, with a dot and a slash, and with a byte that is not UTF-8.
  succeeded(await put("--", "-dash", `${profile}:tree/`));
  succeeded(await put("./a:b", `${profile}:tree`));
  const byte = await execute(
    asUser(uA, [
      "sh",
      "-c",
      `exec "$@" put "$(printf 'byte\\376')" ${profile}:tree`,
      "sh",
      ...world.clientWords([]),
    ]),
    { cwd: outside, env: { APPJAIL_SOCKET: world.socket } },
  );
  succeeded(byte);
  await script(`rm -- -dash 'a:b' $(printf 'byte\\376')`);
  succeeded(await get(`${profile}:tree/-dash`, `${profile}:tree/a:b`));
  assert.equal(await script("cat ./-dash a:b"), "xz");
  const home_ = await execute(["sh", "-c", `cat "$(printf '${home}/tree/byte\\376')"`]);
  assert.equal(home_.stdout, "y");
  // Nobody else gets at it.
  refused(await world.client(["get", `${profile}:tree/file`, "/tmp"], { uid: uB }), /no profile/);
  assert.deepEqual(namesIn(outside), ["a:b", "back", "tree", "-dash"].sort());
  assert.deepEqual(namesIn(home), ["tree"]);
});

jailTest(
  "nothing is overwritten, unless that is wished: then it is replaced as a whole",
  async () => {
    await using world = await World.start({ linger: 600 });
    const { put, get, script, outside, home } = await scene(world);
    await script(`
    mkdir -p a out/a; echo new > a/new; echo b > b; echo c > c; echo old > out/a/old; echo old > out/c
    ln -s ../b out/b
  `);
    succeeded(await put("a", "c", profile));
    const before = [await listing(home), await listing(`${outside}/out`)];
    const there = /^appjail: Cannot copy: (out\/)?[ac] is there already, and so /;
    refused(await put("b", "a", "c", profile), there);
    refused(await get(`${profile}:a`, `${profile}:c`, "out"), there);
    assert.deepEqual([await listing(home), await listing(`${outside}/out`)], before);

    await world.shell(profile, "echo hers > a/hers; chmod 500 a", { uid: uA });
    succeeded(await put("-f", "b", "a", "c", profile));
    assert.deepEqual(namesIn(home), ["a", "b", "c"]);
    assert.deepEqual(namesIn(`${home}/a`), ["new"]);
    succeeded(await get("--force", `${profile}:a`, `${profile}:b`, `${profile}:c`, "out"));
    assert.deepEqual(namesIn(`${outside}/out`), ["a", "b", "c"]);
    assert.deepEqual(namesIn(`${outside}/out/a`), ["new"]);
    // The link itself has been replaced, not what it leads to.
    assert.equal((await Deno.lstat(`${outside}/out/b`)).isSymlink, false);
    assert.equal(await script("cat b out/c"), "b\nc\n");
  },
);

jailTest("what is used wrongly, or is not there, is told before anything is done", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, get, script, outside, home } = await scene(world);
  await script("echo a > a; mkdir d; echo a > d/a; mkfifo fifo; mkdir none; chmod 0 none");
  refused(await put(), /name a file/, 100);
  refused(await put("a"), /name a file/, 100);
  refused(await put("a", "../work:"), /Cannot use/, 100);
  refused(await put("a", "d/a", `${profile}:`), /two of the copies would be called "a"/, 100);
  refused(await put(".", `${profile}:`), /does not say a name/, 100);
  refused(await put("d/..", `${profile}:`), /does not say a name/, 100);
  refused(await put("missing", `${profile}:`), /Cannot copy missing: it is not there/);
  refused(await put("a/", "d/a/b", `${profile}:`), /that is no folder/);
  refused(await put("none/x", `${profile}:`), /EACCES/);
  refused(await put("none", `${profile}:`), /Cannot copy none: .*EACCES/);
  refused(await put("a", `${profile}:missing`), /Cannot reach missing: there is no such folder/);
  refused(await put("fifo", `${profile}:`), /no file, folder or symbolic link/);
  refused(await get(), /name a file/, 100);
  refused(await get("a"), /name a file/, 100);
  refused(await get(`${profile}:`), /does not say a name/, 100);
  refused(await get(`${profile}:a`, "other:b"), /not of the form work:FILE/, 100);
  refused(await get(`${profile}:a`, "d", "d"), /not of the form work:FILE/, 100);
  refused(await get(`${profile}:a`, "missing"), /missing: there is no such folder/);
  refused(await get("unknown:b"), /You have no profile "unknown"/);
  refused(await get(`${profile}:missing`, "d"), /Cannot copy missing: it is not there/);
  assert.deepEqual(namesIn(home), []);
  assert.deepEqual(namesIn(outside), ["a", "d", "fifo", "none"]);
  // An absolute path in the home, and the rest of the jail.
  succeeded(await put("a", `${profile}:/home/${profile}`));
  succeeded(await put("a", `${profile}:/tmp`));
  assert.equal(await world.shell(profile, "cat a /tmp/a", { uid: uA }), "a\na");
  succeeded(await get(`${profile}:/tmp/a`, "-f"));
  // A file that cannot be read keeps all of it from arriving.
  await script("mkdir e; echo x > e/x; echo y > e/y; chmod 0 e/y");
  refused(await put("e", `${profile}:`), /Cannot copy e\/y: .*EACCES/);
  assert.deepEqual(namesIn(home), ["a"]);
});

jailTest("5 GB that are a hole stay one, and 10,000 files are no trouble", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, get, script, outside, home } = await scene(world);
  await script(`
    truncate -s 5G sparse; printf begin | dd of=sparse conv=notrunc status=none
    printf middle | dd of=sparse conv=notrunc status=none bs=1M seek=2500
    printf end >> sparse
    mkdir many back; cd many; seq 10000 | sed 's/$/ with a name/' | xargs -d '\\n' touch
    for i in $(seq 1 97 10000); do echo $i > "$i with a name"; done
  `);
  succeeded(await put("sparse", "many", profile));
  succeeded(await get(`${profile}:sparse`, `${profile}:many`, "back"));
  for (const file of [`${home}/sparse`, `${outside}/back/sparse`]) {
    const { size, blocks } = await Deno.stat(file);
    assert.equal(size, 5 * 1024 ** 3 + 3);
    assert.ok((blocks ?? 0) * 512 < 10 * 1024 ** 2, `${blocks} blocks`);
    using read = await Deno.open(file);
    for (
      const [at, text] of [[0, "begin"], [2500 * 1024 ** 2, "middle"], [
        5 * 1024 ** 3,
        "end",
      ]] as const
    ) {
      await read.seek(at, Deno.SeekMode.Start);
      const bytes = new Uint8Array(text.length);
      await read.read(bytes);
      assert.equal(new TextDecoder().decode(bytes), text);
    }
  }
  assert.equal(await script("diff -r many back/many && ls back/many | wc -l"), "10000\n");
});

jailTest("sockets, FIFOs and devices are left out, and told", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, get, script, outside, home } = await scene(world);
  await script("mkdir d back; echo x > d/x; mkfifo $(printf 'd/fi\\033fo')");
  using socket = Deno.listen({ transport: "unix", path: `${outside}/d/socket` });
  const device = await execute(["mknod", `${outside}/d/null`, "c", "1", "3"]);
  assert.equal(device.code, 0, device.stderr);
  const told = (stderr: string): readonly string[] => stderr.trim().split("\n").sort();
  const first = await put("d", profile);
  assert.equal(first.code, 0);
  assert.deepEqual(told(first.stderr), [
    "appjail: left out d/fi\\x1bfo: devices and FIFOs are not copied",
    "appjail: left out d/null: devices and FIFOs are not copied",
    "appjail: left out d/socket: sockets are not copied",
  ]);
  assert.deepEqual(namesIn(`${home}/d`), ["x"]);
  void socket;
  await world.shell(profile, "mkfifo d/fifo; for i in $(seq 100); do mkfifo d/$i; done", {
    uid: uA,
  });
  const second = await get(`${profile}:d`, "back");
  assert.equal(second.code, 0);
  assert.equal(told(second.stderr).length, 51);
  assert.match(second.stderr, /appjail: 51 more were left out\n$/);
  assert.deepEqual(namesIn(`${outside}/back/d`), ["x"]);
});

jailTest("no link leads a copy out of the home", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, get, script, outside, home } = await scene(world);
  await script("echo a > a; mkdir back");
  await world.shell(
    profile,
    `mkdir -p real/below /tmp/out; echo kept > real/file; echo secret > /tmp/out/secret
     ln -s /tmp/out absolute; ln -s ../../tmp/out relative; ln -s real inside; ln -s /etc/passwd passwd
     ln -s /proc/self/root/tmp/out magic`,
    { uid: uA },
  );
  const before = await world.shell(profile, "ls -A /tmp/out", { uid: uA });
  for (const link of ["absolute", "relative", "magic"]) {
    refused(await put("a", `${profile}:${link}`), /leads out of the home|ELOOP/);
    refused(await get(`${profile}:${link}/secret`, "back"), /leads out of the home|ELOOP/);
  }
  refused(await put("a", `${profile}:..`), /leads out of the home/);
  refused(await put("a", `${profile}:real/../../../tmp`), /leads out of the home/);
  refused(await get(`${profile}:../../etc/passwd`, "back"), /leads out of the home/);
  // From elsewhere in the jail, no link at all.
  refused(await get(`${profile}:/var/run/appjail`, "back"), /ELOOP/);
  assert.equal(await world.shell(profile, "ls -A /tmp/out", { uid: uA }), before);
  assert.deepEqual(namesIn(`${outside}/back`), []);
  // One that stays in it is fine, and one that is named is copied as a link.
  succeeded(await put("a", `${profile}:inside/below`));
  assert.deepEqual(namesIn(`${home}/real/below`), ["a"]);
  succeeded(
    await get(`${profile}:inside/file`, `${profile}:passwd`, `${profile}:absolute/`, "back"),
  );
  assert.equal(
    await script("cat back/file; readlink back/passwd back/absolute"),
    "kept\n/etc/passwd\n/tmp/out\n",
  );
});

jailTest(
  "a link that takes the place of a file or folder while it is copied is not followed",
  async () => {
    await using world = await World.start({ linger: 600 });
    const { put, script, home, outside } = await scene(world);
    const secret = `${world.folder}/secret`;
    await Deno.mkdir(secret);
    await Deno.writeTextFile(`${secret}/file`, "secret");
    await script(`
    mkdir tree links; cd tree
    for i in $(seq 100); do
      echo fine > f$i; ln -s ${secret}/file ../links/f$i
      mkdir d$i; echo fine > d$i/file; ln -s ${secret} ../links/d$i
    done
  `);
    // renameat2(2) with RENAME_EXCHANGE: at any time there is either the one or the other.
    const number = Deno.build.arch === "aarch64" ? 276 : 316;
    const swapper = new Deno.Command("perl", {
      args: [
        "-e",
        `my @n = map { ("f$_", "d$_") } 1..100;
       while (1) { for (@n) { my ($a, $b) = ("tree/$_", "links/$_");
         syscall(${number}, -100, $a, -100, $b, 2) } }`,
      ],
      cwd: outside,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      let links = 0;
      // A few times, and until it was just in time.
      for (let round = 0; round < 3 || (links === 0 && round < 20); round++) {
        const { code, stderr } = await put("--force", "tree", profile);
        assert.equal(code, 0, stderr);
        const { stdout } = await execute(["grep", "-r", "secret", home]);
        assert.equal(stdout, "");
        links += (await listing(home, "%y\\n")).split("l").length - 1;
      }
      assert.ok(links > 0, "nothing was swapped in time");
    } finally {
      swapper.kill("SIGKILL");
      await swapper.status;
    }
  },
);

jailTest("a copy that is interrupted leaves everything as it was", async (t) => {
  await using world = await World.start({ linger: 600 });
  const { get, put, script, outside, home } = await scene(world);
  await script(
    "mkdir into; head -c 150000000 /dev/zero > big; mkdir many; cd many; seq 500 | xargs touch",
  );
  succeeded(await put("big", profile));
  await world.shell(profile, "mkdir into; echo kept > into/big", { uid: uA });
  await script("echo kept > into/big");

  /** Starts a copy, and stops it when a part of it has arrived in its temporary folder. */
  async function begun(words: readonly string[], into: string): Promise<Deno.ChildProcess> {
    await noCopier();
    const before = namesIn(into);
    const child = world.spawn(words, { uid: uA, cwd: outside });
    await until("a part has arrived", () => {
      const name = namesIn(into).find((one) => !before.includes(one));
      try {
        return name !== undefined && Deno.statSync(`${into}/${name}/big`).size > 0;
      } catch {
        return false;
      }
    });
    child.kill("SIGSTOP");
    return child;
  }
  const ways = {
    put: [["put", "--force", "big", `${profile}:into`], `${home}/into`],
    get: [["get", "--force", `${profile}:big`, "into"], `${outside}/into`],
  } as const;
  for (const [verb, [words, into]] of Object.entries(ways)) {
    /** Ends a copy in some way, and looks what is left. */
    const ends = async (
      name: string,
      end: (child: Deno.ChildProcess) => void | Promise<void>,
      expected: (code: number, signal: string | null, stderr: string) => void,
      tidy = true,
    ): Promise<void> => {
      await t.step(`${verb}: ${name}`, async () => {
        const child = await begun(words, into);
        await end(child);
        try {
          child.kill("SIGCONT");
        } catch {
          // It was killed.
        }
        const { code, signal, stderr } = await child.output();
        expected(code, signal, new TextDecoder().decode(stderr));
        assert.equal(Deno.statSync(`${into}/big`).size, "kept\n".length);
        if (tidy) assert.deepEqual(namesIn(into), ["big"]);
      });
    };
    const ended = (by: Deno.Signal) => (_code: number, signal: string | null, stderr: string) =>
      assert.deepEqual([signal, stderr], [by, ""]);
    for (const signal of ["SIGINT", "SIGHUP"] as const) {
      await ends(signal, (child) => child.kill(signal), ended(signal));
    }
    const broken = (code: number, _signal: string | null, stderr: string): void => {
      assert.equal(code, 111);
      assert.match(stderr, /^appjail: The copy was broken off: its end in jail "work" has /);
    };
    await ends(
      "the copier is killed",
      async () => Deno.kill(await copierPid(), "SIGKILL"),
      broken,
      false,
    );
    await ends(
      "the copier is asked to end",
      async () => Deno.kill(await copierPid(), "SIGTERM"),
      broken,
    );
    await ends(
      "the jail is stopped",
      async () => {
        const { code, stderr } = await world.client(["stop", "--force", profile], { uid: uA });
        assert.equal(code, 0, stderr);
      },
      broken,
      false,
    );
    await ends(
      "the client is killed",
      async (child) => {
        child.kill("SIGKILL");
        await child.status;
        // The copier sees it by itself.
        if (verb === "put") {
          await until("the copier has tidied up", () => namesIn(into).length === 1);
        }
      },
      (_code, signal) => assert.equal(signal, "SIGKILL"),
      verb === "put",
    );
    await t.step(`${verb}: what was left goes with the next one`, async () => {
      const next = verb === "put" ? put("many", `${profile}:into`) : (async () => {
        succeeded(await put("many", profile));
        return await get(`${profile}:many`, "into");
      })();
      succeeded(await next);
      assert.deepEqual(namesIn(into), ["big", "many"]);
    });
  }
});

jailTest("a copy goes on when the daemon is killed, and arrives", async () => {
  await using world = await World.start({ linger: 600 });
  const { script, outside, home } = await scene(world);
  await script("head -c 150000000 /dev/urandom > big; mkdir back");
  for (const words of [["put", "big", profile], ["get", `${profile}:big`, "back"]]) {
    const child = world.spawn(words, { uid: uA, cwd: outside });
    await copierPid();
    // Both parts of it: nobody is left to be asked.
    Deno.kill(world.helperPid, "SIGKILL");
    await world.daemonEnded();
    const { code, stderr } = await child.output();
    assert.deepEqual([code, new TextDecoder().decode(stderr)], [0, ""]);
    await noCopier();
    await world.startDaemon();
  }
  for (const copied of [`${home}/big`, `${outside}/back/big`]) {
    const same = await execute(["cmp", `${outside}/big`, copied]);
    assert.equal(same.code, 0, same.stdout);
  }
});

jailTest("a jail that has outlived its daemon is copied to and from by the next one", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, get, script, outside } = await scene(world);
  await script("echo a > a; mkdir back");
  await world.shell(profile, "echo this life > /tmp/note", { uid: uA });
  for (const end of ["in order", "killed"]) {
    if (end === "in order") assert.equal(await world.stopDaemon(), 0);
    else {
      Deno.kill(world.helperPid, "SIGKILL");
      await world.daemonEnded();
    }
    await world.startDaemon();
    succeeded(await put("-f", "a", profile));
    succeeded(await get("-f", `${profile}:a`, `${profile}:/tmp/note`, "back"));
  }
  assert.deepEqual(namesIn(`${outside}/back`), ["a", "note"]);
});

jailTest("a copy that takes its time shows on a terminal how far it is", async () => {
  await using world = await World.start({ linger: 600 });
  const { put, script, outside, home } = await scene(world);
  await script("head -c 150000000 /dev/zero > big; mkdir back");
  succeeded(await put("big", profile));
  for (
    const [words, into] of [
      [["put", "big", `${profile}:/home/${profile}/into`], `${home}/into`],
      [["get", `${profile}:big`, "back"], `${outside}/back`],
    ] as const
  ) {
    if (into.startsWith(home)) await world.shell(profile, "mkdir into", { uid: uA });
    await noCopier();
    const typescript = `${world.folder}/typescript-${words[0]}`;
    const client = world.clientWords(words, uA).map((word) => `'${word}'`).join(" ");
    const child = new Deno.Command("script", {
      args: ["-qefc", `stty cols 70; exec ${client}`, typescript],
      cwd: outside,
      env: { APPJAIL_SOCKET: world.socket, SHELL: "/bin/sh" },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    // Held up until it has been seen.
    const copier = await copierPid();
    await until("a part has arrived", () => {
      const [name] = namesIn(into);
      try {
        return Deno.statSync(`${into}/${name}/big`).size > 0;
      } catch {
        return false;
      }
    });
    Deno.kill(copier, "SIGSTOP");
    const shown =
      /\r\[#* *\] +\d+ % {2}[\d.]+ [kM]?B of 150 MB {2}\S+ [kM]?B\/s {2}\d+:\d\d left\x1b\[K/;
    await until("the bar is shown", () => shown.test(Deno.readTextFileSync(typescript)));
    Deno.kill(copier, "SIGCONT");
    assert.equal((await child.status).code, 0, Deno.readTextFileSync(typescript));
    // And it is gone when the copy is.
    assert.match(Deno.readTextFileSync(typescript), /\x1b\[K\r\x1b\[K(\nScript done.*\n)?$/);
  }
});

jailTest("a disk that is full keeps all of a copy from arriving", async () => {
  const mounted: string[] = [];
  const small = async (folder: string): Promise<void> => {
    const { code, stderr } = await execute([
      "mount",
      ...["-t", "tmpfs", "-o", "size=8m,mode=755", "none", folder],
    ]);
    assert.equal(code, 0, stderr);
    mounted.push(folder);
  };
  await using world = await World.start({
    linger: 600,
    before: async (folder) => {
      await Deno.mkdir(`${folder}/data`, { mode: 0o711 });
      await small(`${folder}/data`);
    },
  });
  try {
    const { put, get, script, outside, home } = await scene(world);
    await script("head -c 30000000 /dev/zero > big; head -c 1000 /dev/zero > little; mkdir into");
    await small(`${outside}/into`);
    await Deno.chown(`${outside}/into`, uA, uA);
    refused(await put("little", "big", profile), /^appjail: Cannot write big: .*ENOSPC/);
    assert.deepEqual(namesIn(home), []);
    succeeded(await put("little", profile));
    succeeded(await put("big", `${profile}:/tmp`));
    refused(
      await get(`${profile}:little`, `${profile}:/tmp/big`, "into"),
      /^appjail: Cannot write big: .*ENOSPC/,
    );
    assert.deepEqual(namesIn(`${outside}/into`), []);
    succeeded(await get(`${profile}:little`, "into"));
  } finally {
    await world.client(["stop", "--all", "--force"]);
    await world.stopDaemon();
    for (const folder of mounted) await execute(["umount", folder]);
  }
});
