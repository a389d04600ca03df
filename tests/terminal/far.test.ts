/** `appjail -H HOST`: another machine's jails through a real sshd, in a network of its own. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { isRoot, uA, until, World } from "../jail/world.ts";
import { key } from "./driver.ts";
import { FarMachine } from "./far-machine.ts";

function farTest(
  name: string,
  body: (t: Deno.TestContext, far: FarMachine) => Promise<void>,
): void {
  Deno.test({
    name,
    ignore: !isRoot,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async (t) => {
      await using world = await World.start();
      await using far = await FarMachine.start(world);
      await body(t, far);
    },
  });
}

farTest("a program runs there as it would here", async (t, far) => {
  await t.step("as the uid of a profile of whoever comes in", async () => {
    const uid = await far.run("work", ["id", "-u"]);
    const [jail] = await until("it runs", async () => {
      const jails = await far.world.status(uA);
      return jails.length === 1 ? jails : undefined;
    });
    assert.equal(`${jail.uid}`, uid);
    assert.equal(jail.owner, uA);
  });
  await t.step("output and errors stay apart", async () => {
    assert.deepEqual(
      await far.client(["run", "-p", "work", "sh", "-c", "echo out; echo err >&2"]),
      { code: 0, stdout: "out\n", stderr: "err\n" },
    );
  });
  await t.step("its status is the program's", async () => {
    for (const status of [0, 1, 7, 100, 127, 254, 255]) {
      const { code, stderr } = await far.client([
        "run",
        "-p",
        "work",
        "sh",
        "-c",
        `exit ${status}`,
      ]);
      assert.deepEqual([code, stderr], [status, ""]);
    }
    const missing = await far.client(["run", "-p", "work", "nothing-of-this-name"]);
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /^appjail: Cannot run "nothing-of-this-name"/);
  });
  await t.step("a signal that ends it is told as a shell tells it", async () => {
    for (const [signal, status] of [["KILL", 137], ["TERM", 143], ["SEGV", 139]] as const) {
      const { code } = await far.client(["run", "-p", "work", "sh", "-c", `kill -${signal} $$`]);
      assert.equal(code, status, signal);
    }
  });
  await t.step("its input is ours, to the last byte", async () => {
    const text = Array.from({ length: 40_000 }, (_, line) => `${line} ö\n`).join("");
    assert.equal(`${await far.run("work", ["cat"], text)}\n`, text);
    assert.equal(await far.run("work", ["cat"], ""), "");
  });
});

const words: readonly string[] = [
  ...["plain", "", "two words", "a'b", 'a"b', "a\\b", "a\\'b", "\\", "'", "''", "\\\\'"],
  ...["line\nbreak", "\n", "end\n\n", "tab\tbell\x07", "!", "a!b", "!!", "$HOME", "$(id)", "`id`"],
  ...["*", "~", "~root", "=ls", "%self", "{a,b}", "a;b", "a&b", "a|b", "#x", "(x)", "<x>", "?"],
  ...["-n", "--", "-H", "ünï ☃ 漢字 🦀", "\u00a0", "\u202e", "^x", "a=b", "@x", "x".repeat(50_000)],
];

farTest(
  "a word stays what it is, whatever is in it and whatever the login shell there",
  async (t, far) => {
    const print = ["sh", "-c", 'printf "%s\\0" "$@"', "sh"];
    for (const shell of ["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish"]) {
      await t.step({
        name: shell,
        ignore: !existsSync(shell),
        fn: async () => {
          await far.useShell(shell);
          assert.deepEqual(
            (await far.run("work", [...print, ...words])).split("\0").slice(0, -1),
            words,
          );
          // One at a time, each takes its own way: most need nothing but quotes.
          for (const word of ["two words", "a'b", "!", "=ls", "ünï ☃", "line\nbreak"]) {
            assert.equal(await far.run("work", [...print, word]), `${word}\0`);
          }
          const status = await far.client(["run", "-p", "work", "sh", "-c", "exit 9"]);
          assert.deepEqual([status.code, status.stderr], [9, ""]);
        },
      });
    }
    await t.step("bytes that are no text", async () => {
      await far.useShell("/bin/sh");
      // Given by a shell: Deno itself gives no such word to a program.
      const client = far.words(["run", "-p", "work", "--", ...print]);
      const { code, stdout } = await far.client([], {});
      assert.deepEqual([code, stdout], [100, ""]);
      const outcome = await new Deno.Command("sh", {
        args: ["-c", `exec "$@" "$(printf 'a\\377b')"`, "sh", ...client],
        env: { APPJAIL_SSH: `ssh -F ${far.world.folder}/ssh/config` },
      }).output();
      assert.deepEqual([...outcome.stdout], [0x61, 0xff, 0x62, 0]);
    });
    await t.step("more than the kernel takes is refused before it is sent", async () => {
      const { code, stderr } = await far.client(["run", "-p", "work", "true", "x".repeat(131_050)]);
      assert.equal(code, 100);
      assert.match(stderr, /^appjail: Cannot ask far: the command is longer than 128 KiB/);
    });
  },
);

farTest("other commands ask the daemon there", async (t, far) => {
  await far.run("work", ["true"]);
  await t.step("status, for people and for programs", async () => {
    assert.match(
      (await far.client(["run", "-d", "-p", "work", "sleep", "600"])).stdout,
      /^work\.\d+\n$/,
    );
    assert.match((await far.client(["status"])).stdout, /^PROFILE[^\n]*\nwork /);
    const { code, stdout } = await far.client(["status", "--json"]);
    assert.equal(code, 0);
    const [jail] = JSON.parse(stdout);
    assert.deepEqual([jail.profile, jail.owner, jail.programs.length], ["work", uA, 1]);
  });
  await t.step("the socket is one of that machine", async () => {
    for (const before of [true, false]) {
      const words = before ? ["--socket", "/none", "status"] : ["status", "--socket", "/none"];
      const { code, stderr } = await far.client(words);
      assert.equal(code, 111);
      assert.match(stderr, /^appjail: No daemon answers at \/none;/);
    }
  });
  await t.step("stop", async () => {
    assert.deepEqual(await far.client(["stop", "work"]), {
      code: 0,
      stdout: "stopped work\n",
      stderr: "",
    });
  });
});

farTest("what ssh cannot do, it says itself, and ends with 255", async (t, far) => {
  for (
    const [host, says] of [
      ["nowhere", /Could not resolve hostname nowhere\.invalid/],
      ["shut", /Connection refused/],
      ["refused", /Permission denied \(publickey\)/],
      ["stranger", /Host key verification failed/],
    ] as const
  ) {
    await t.step(host, async () => {
      const status = await far.client(["status"], { host });
      assert.equal(status.code, 255);
      assert.equal(status.stdout, "");
      assert.match(status.stderr, says);
      // A copy has its end here, which tells it in our voice.
      const copied = await far.client(["put", "/etc/hostname", "work:"], { host });
      assert.equal(copied.code, 111);
      assert.match(copied.stderr, new RegExp(`^appjail: Cannot reach ${host}: `));
    });
  }
  await t.step("a machine without appjail", async () => {
    const { code, stderr } = await far.client(["status"], { host: "without" });
    assert.equal(code, 127);
    assert.match(stderr, /appjail: (?:command )?not found/);
  });
});

farTest("files go there and come back", async (t, far) => {
  const folder = `${far.world.folder}/near`;
  await Deno.mkdir(folder);
  await Deno.mkdir(`${folder}/tree/below`, { recursive: true });
  await Deno.writeTextFile(`${folder}/tree/below/list`, "one\ntwo\n");
  const large = new Uint8Array(3_000_000).map((_, at) => at * 7 % 251);
  await Deno.writeFile(`${folder}/tree/large`, large);
  await Deno.symlink("below/list", `${folder}/tree/link`);
  await Deno.chown(folder, uA, uA);
  const there = (...words: readonly string[]) => far.client(words, { cwd: folder });
  await t.step("a folder, into a profile's home", async () => {
    assert.deepEqual(await there("put", "tree", "work:"), { code: 0, stdout: "", stderr: "" });
    assert.equal(await far.run("work", ["cat", "tree/link"]), "one\ntwo");
    assert.equal(await far.run("work", ["sh", "-c", "wc -c < tree/large"]), `${large.length}`);
  });
  await t.step("and out of it", async () => {
    await far.run("work", ["sh", "-c", "echo three >> tree/below/list"]);
    assert.deepEqual(await there("get", "work:tree/large", "work:tree/below"), {
      code: 0,
      stdout: "",
      stderr: "",
    });
    assert.deepEqual(await Deno.readFile(`${folder}/large`), large);
    assert.equal(await Deno.readTextFile(`${folder}/below/list`), "one\ntwo\nthree\n");
    assert.equal((await Deno.stat(`${folder}/large`)).uid, uA);
  });
  await t.step("nothing is overwritten unless that is said", async () => {
    const refused = await there("put", "large", "tree", "work:");
    assert.equal(refused.code, 111);
    assert.match(refused.stderr, /^appjail: .*tree.* is there already|^appjail: .*exists/);
    assert.equal((await there("put", "--force", "tree", "work:")).code, 0);
    assert.equal(await far.run("work", ["cat", "tree/below/list"]), "one\ntwo");
  });
  await t.step("what is not there is told in our voice", async () => {
    const file = await there("get", "work:nothing");
    assert.equal(file.code, 111);
    assert.match(file.stderr, /^appjail: [^\n]*nothing[^\n]*\n$/);
    assert.deepEqual(await there("get", "strange:file"), {
      code: 111,
      stdout: "",
      stderr: 'appjail: You have no profile "strange"\n',
    });
    const daemon = await far.client(["--socket", "/none", "put", "large", "work:"], {
      cwd: folder,
    });
    assert.equal(daemon.code, 111);
    assert.match(daemon.stderr, /^appjail: On far: No daemon answers at \/none;/);
    // By the options in the place of the machine's own words, too.
    assert.equal((await there("put", "--socket", "/none", "large", "work:")).code, 111);
  });
});

farTest("a terminal reaches to the program there, and back", async (t, far) => {
  await t.step("it has one, as large as this one", async () => {
    await using terminal = far.atTerminal(["run", "-p", "work", "sh", "-c", "tty; stty size"], {
      rows: 31,
      columns: 97,
    });
    await terminal.expect(/\/dev\/pts\/\d+\r\n31 97\r\n/);
    assert.equal((await terminal.ended()).code, 0);
  });
  await t.step("what is typed, a resize, ^C, and the status", async () => {
    await using terminal = far.atTerminal(["run", "-p", "work", "sh"], { env: { PS1: "" } });
    await terminal.ask("echo he''re", "here\r\n");
    terminal.resize(20, 70);
    await terminal.expect(/./);
    await until("the size has come there", async () => {
      await terminal.send("stty size\r");
      return /20 70\r\n/.test(terminal.text);
    });
    await terminal.ask("echo rea''dy; sleep 1000", "ready\r\n");
    await terminal.send(key.interrupt);
    await terminal.ask("echo af''ter $?", "after 130\r\n");
    await terminal.send("exit 17\r");
    const { code } = await terminal.ended();
    assert.equal(code, 17);
    assert(!terminal.isRaw, "the terminal is as it was");
  });
  await t.step("this process has become ssh, and nothing of ours stays", async () => {
    await using terminal = far.atTerminal(["run", "-p", "work", "sh", "-c", "echo rea''dy; cat"]);
    await terminal.expect("ready");
    const executable = Deno.readLinkSync(`/proc/${terminal.child.pid}/exe`);
    assert.equal(executable, "/usr/bin/ssh");
    const status = Deno.readTextFileSync(`/proc/${terminal.child.pid}/status`);
    const mask = (name: string): bigint =>
      BigInt(`0x${new RegExp(`^${name}:\t([0-9a-f]+)$`, "m").exec(status)?.[1] ?? "ff"}`);
    // SIGUSR1 is bit 9; what ssh itself ignores is its own affair.
    assert.equal((mask("SigIgn") | mask("SigBlk")) & (1n << 9n), 0n);
    const children = Deno.readTextFileSync(
      `/proc/${terminal.child.pid}/task/${terminal.child.pid}/children`,
    );
    assert.equal(children, "");
    await terminal.send(key.endOfFile);
    assert.equal((await terminal.ended()).code, 0);
  });
  await t.step("a window that is closed hangs the program up", async () => {
    const terminal = far.atTerminal([
      "run",
      "-p",
      "work",
      "sh",
      "-c",
      "echo rea''dy; exec sleep 7777",
    ]);
    await terminal.expect("ready");
    const sleeps = async (): Promise<boolean> =>
      (await far.world.status(uA)).some((jail) =>
        jail.programs.some((one: { argv: readonly string[] }) =>
          one.argv.join(" ").includes("7777")
        )
      );
    assert(await sleeps());
    await terminal[Symbol.asyncDispose]();
    await until("the program is gone", async () => !await sleeps());
  });
  await t.step("a passphrase is asked for there, and typed here", async () => {
    await using terminal = far.atTerminal(["encrypt", "--new", "--yes", "bank"]);
    for (const prompt of [/[Pp]assphrase[^\n]*: ?$/, /once more: ?$/]) {
      await terminal.expect(prompt);
      await terminal.send("correct horse\r");
    }
    assert.equal((await terminal.ended()).code, 0, terminal.text);
    assert(!terminal.text.includes("correct"), terminal.text);
  });
});
