/** `appjail run` as people and scripts use it. */
import assert from "node:assert/strict";
import {
  asUser,
  execute,
  firstUid,
  jailTest,
  type Outcome,
  program,
  uA,
  until,
  World,
} from "./world.ts";

/** A shell on the host, in which "$@" is appjail. */
function shell(world: World, script: string, uid?: number): Promise<Outcome> {
  return execute(asUser(uid, ["sh", "-c", script, "sh", ...program()]), {
    env: { APPJAIL_SOCKET: world.socket },
  });
}

/** A file that any jailed program could write if it were given it. */
async function scratch(world: World, name: string, text = ""): Promise<string> {
  const path = `${world.folder}/${name}`;
  await Deno.writeTextFile(path, text);
  return path;
}

jailTest("the exit status is the program's, or says what went wrong", async (t) => {
  await using world = await World.start();
  const status = async (...args: string[]): Promise<number> =>
    (await world.client(["run", ...args])).code;

  await t.step("what it exits with", async () => {
    for (const code of [0, 1, 2, 42, 99, 100, 111, 126, 127, 128, 137, 254, 255]) {
      assert.equal(await status("-p", "x", "sh", "-c", `exit ${code}`), code);
    }
  });

  await t.step("128 and the number of the signal that ended it", async () => {
    for (
      const [name, number] of Object.entries({
        HUP: 1,
        INT: 2,
        QUIT: 3,
        ABRT: 6,
        KILL: 9,
        USR1: 10,
        SEGV: 11,
        PIPE: 13,
        TERM: 15,
      })
    ) {
      assert.equal(await status("-p", "x", "sh", "-c", `kill -${name} $$`), 128 + number, name);
    }
  });

  await t.step("127 for what is not found, 126 for what cannot be executed", async () => {
    await world.shell(
      "x",
      `cd; echo 'echo hi' > plain; mkdir folder
       echo '#!/nonexistent/interpreter' > broken; chmod 755 broken
       ln -s /nonexistent dangling`,
    );
    for (
      const command of [
        "nonexistent",
        "/nonexistent/x",
        "./dangling",
        "../nonexistent",
        "/usr/bin/",
      ]
    ) {
      const { code, stderr } = await world.client(["run", "-p", "x", command]);
      assert.equal(code, command === "/usr/bin/" ? 126 : 127, stderr);
      assert.match(stderr, /^appjail: Cannot run "[^\n]*\n$/);
      assert(stderr.includes(JSON.stringify(command)), stderr);
    }
    for (const command of ["./plain", "./folder", "./broken", "/etc/passwd", "/etc/shadow"]) {
      const { code, stderr } = await world.client(["run", "-p", "x", command]);
      assert.equal(code, 126, stderr);
      assert.match(stderr, /^appjail: Cannot run "[^\n]*\n$/);
    }
  });

  await t.step("100 for words that make no sense", async () => {
    for (
      const words of [
        [],
        ["--"],
        ["-p"],
        ["-p", "x"],
        ["--profile"],
        ["--nonsense", "true"],
        ["-z", "true"],
        ["--detach=yes", "true"],
        ["-p", "", "true"],
        ["-p", "../x", "true"],
        ["-p", "a/b", "true"],
        ["-p", "-rf", "true"],
        ["-p", ".", "true"],
        ["-p", "x\ny", "true"],
        ["-p", "$(id)", "true"],
        ["-p", "x".repeat(65), "true"],
        ["-p", "x", "--cwd", "relative", "true"],
        ["-p", "x", "--cwd", "/nonexistent", "true"],
        ["-p", "x", "--cwd", "/etc/passwd", "true"],
        ["-p", "x", "--env", "=v", "true"],
        ["-p", "x", "--env", "1A=v", "true"],
        ["-p", "x", "--env", "A B=v", "true"],
        ["-p", "x", ""],
      ]
    ) {
      const { code, stderr, stdout } = await world.client(["run", ...words]);
      assert.equal(code, 100, `${JSON.stringify(words)}: ${stderr}`);
      assert.match(stderr, /^appjail: [^\n]+\n$/, JSON.stringify(words));
      assert.equal(stdout, "");
    }
  });

  await t.step("111 when there is no daemon, with a line that says how to start one", async () => {
    const { code, stderr } = await world.client(["run", "true"], {
      env: { APPJAIL_SOCKET: `${world.folder}/none.sock` },
    });
    assert.equal(code, 111);
    assert.equal(
      stderr,
      `appjail: No daemon answers at ${world.folder}/none.sock; ` +
        "start it: systemctl start appjail, or sudo appjail daemon\n",
    );
  });

  await t.step("an argument that is not UTF-8 arrives as it is", async () => {
    const script = `"$@" run -p x sh -c 'printf %s "$1" | od -An -tx1' - "$(printf 'a\\377b')"`;
    const { code, stdout } = await shell(world, script);
    assert.deepEqual([code, stdout.trim()], [0, "61 ff 62"]);
  });
});

jailTest("stdin, stdout and stderr are the caller's own", async (t) => {
  await using world = await World.start();

  await t.step("a file that they are redirected to is that very file inside", async () => {
    const [input, output, errors] = [
      await scratch(world, "input", "what is read\n"),
      await scratch(world, "output"),
      await scratch(world, "errors"),
    ];
    const { code } = await shell(
      world,
      `"$@" run -p x sh -c 'cat; for fd in 0 1 2; do stat -L -c %d:%i /proc/self/fd/$fd; done
       echo complaint >&2' < ${input} > ${output} 2> ${errors}`,
    );
    assert.equal(code, 0);
    const places = [input, output, errors].map((path) => {
      const { dev, ino } = Deno.statSync(path);
      return `${dev}:${ino}\n`;
    });
    assert.equal(await Deno.readTextFile(output), `what is read\n${places.join("")}`);
    assert.equal(await Deno.readTextFile(errors), "complaint\n");
  });

  await t.step("where a file was read to, and that it is appended to, is shared", async () => {
    const input = await scratch(world, "lines", "one\ntwo\nthree\n");
    const output = await scratch(world, "appended", "zero\n");
    const { stderr } = await shell(
      world,
      `{ read line; "$@" run -p x sh -c 'read line; echo $line'; cat; } < ${input} >> ${output}`,
    );
    assert.equal(stderr, "");
    assert.equal(await Deno.readTextFile(output), "zero\ntwo\nthree\n");
  });

  await t.step("a hundred megabytes pass through pipes unchanged", async () => {
    const { stdout, stderr } = await shell(
      world,
      `flow() { seq 100000000 | head -c 100000000; }
       flow | sha256sum
       flow | "$@" run -p x cat | sha256sum`,
    );
    assert.equal(stderr, "");
    const [before, after] = stdout.split("\n");
    assert.match(before ?? "", /^[0-9a-f]{64}/);
    assert.equal(after, before);
  });

  await t.step("a reader that leaves is a broken pipe for the program", async () => {
    const { stdout } = await shell(
      world,
      `{ "$@" run -p x sh -c 'trap "" PIPE; yes 2> /dev/null; echo $? > ~/yes' ; } | head -n 1`,
    );
    assert.equal(stdout, "y\n");
    await until(
      "yes has ended",
      async () => await world.shell("x", "cat ~/yes 2> /dev/null || true") === "1",
    );
  });

  await t.step("one that is closed is nothing, and never another's file", async () => {
    for (
      const [redirection, fd] of [["<&-", 0], [">&-", 1], ["2>&-", 2], ["<&- >&- 2>&-", 0]] as const
    ) {
      const { code } = await shell(
        world,
        `"$@" run -p x sh -c 'test /dev/null -ef /proc/self/fd/${fd} && exit 5' ${redirection}`,
      );
      assert.equal(code, 5, redirection);
    }
  });

  await t.step("and nothing else is open, whatever the caller has open", async () => {
    const { stdout } = await shell(
      world,
      `exec 7< /etc/shadow 8< /root 9<> ${world.folder}/nine
       "$@" run -p x sh -c 'ls /proc/$$/fd'`,
    );
    assert.equal(stdout, "0\n1\n2\n");
  });
});

jailTest("arguments are the program's, whatever they look like", async (t) => {
  await using world = await World.start();
  /** What arrives, with a NUL behind each. */
  const arrive = async (options: readonly string[], args: readonly string[]): Promise<string[]> => {
    const print = ["sh", "-c", 'printf "%s\\0" "$@"', "sh"];
    const { code, stdout, stderr } = await world.client([
      "run",
      ...options,
      ...print,
      ...args,
    ]);
    assert.equal(code, 0, stderr);
    return stdout.split("\0").slice(0, -1);
  };

  await t.step("options, empty ones, blanks, newlines, other scripts", async () => {
    const words = [
      ...["", " ", "a  b", "-p", "y", "--", "--help", "-h", "--detach", "--env=A=1", "--socket"],
      ...["$HOME", "`id`", "*", "~", "\\", "'", '"', "\n", "a\nb", "\t", "\x01\x1b[31m\x7f"],
      ...["grün", "日本語", "🦕", "e\u0301", "\u200b", "\ufffd", "--version"],
    ];
    assert.deepEqual(await arrive(["-p", "x"], words), words);
    assert.deepEqual(await arrive(["-p", "x", "--"], words), words);
    assert.deepEqual(await arrive(["-px"], ["-p", "y"]), ["-p", "y"]);
    assert.deepEqual(await arrive(["--profile=x"], ["--profile=y"]), ["--profile=y"]);
    assert.equal(await world.run("x", ["printf", "%s", "--version"]), "--version");
  });

  await t.step("very long ones, and very many", async () => {
    const long = "0123456789".repeat(10_000);
    assert.deepEqual(await arrive(["-p", "x"], [long, long]), [long, long]);
    const many = Array.from({ length: 2000 }, (_, index) => `argument ${index}`);
    assert.deepEqual(await arrive(["-p", "x"], many), many);
    // As long as execve(2) takes one, of what takes the most room on the way.
    const longest = "\x01".repeat(131_071);
    assert.deepEqual(await arrive(["-p", "x"], [longest]), [longest]);
  });

  await t.step("too long ones are refused in words", async () => {
    for (
      const words of [
        Array.from({ length: 11 }, () => "x".repeat(100_000)),
        Array.from({ length: 20_000 }, () => "x"),
      ]
    ) {
      const { code, stderr } = await world.client(["run", "-p", "x", "true", ...words]);
      assert.equal(code, 100, stderr.slice(0, 500));
      assert.match(stderr, /^appjail: Cannot use the command: [^\n]*(longer|more) than[^\n]*\n$/);
    }
  });
});

jailTest("the profile is the one that is named, else it is called as the command is", async (t) => {
  await using world = await World.start();
  const profiles = async (): Promise<string> => (await world.client(["profiles"])).stdout;

  await t.step("a typing error costs no uid", async () => {
    for (
      const command of ["nonexistent", "/usr/bin/nonexistent", "/etc/passwd", "./id", "bin/id"]
    ) {
      const { code, stderr } = await world.client(["run", command]);
      assert(code === 127 || code === 126, stderr);
    }
    assert.equal(await profiles(), "");
  });

  await t.step("a command's own", async () => {
    assert.equal((await world.client(["run", "id", "-u"])).stdout, `${firstUid}\n`);
    assert.equal((await world.client(["run", "/usr/bin/id", "-un"])).stdout, "id\n");
    assert.equal(await profiles(), "id\n");
  });

  await t.step("a script of the profile's own needs its name", async () => {
    await world.shell("id", "echo 'echo $0 ran with $1' > ~/script; chmod 755 ~/script");
    const { stdout } = await world.client(["run", "-p", "id", "./script", "this"]);
    assert.equal(stdout, "/home/id/./script ran with this\n");
    const { code, stderr } = await world.client(["run", "./script"]);
    assert.equal(code, 127);
    assert.match(stderr, /-p/);
    assert.equal(await profiles(), "id\n");
  });

  await t.step(
    "a named one is made, and its jail does not stay for a command it has not",
    async () => {
      const { code } = await world.client(["run", "-p", "new", "nonexistent"]);
      assert.equal(code, 127);
      assert.equal(await profiles(), "id\nnew\n");
      await until("no jail is left", async () => (await world.status()).length === 0);
    },
  );

  await t.step("two people's are two", async () => {
    assert.equal(await world.run("id", ["id", "-u"], { uid: uA }), `${firstUid + 2}`);
    assert.equal(await world.run("id", ["id", "-u"]), `${firstUid}`);
  });
});

jailTest("a program is started where and with what is asked for", async (t) => {
  await using world = await World.start();
  const run = async (options: readonly string[], script: string, env = {}): Promise<string> => {
    const { code, stdout, stderr } = await world.client(
      ["run", "-p", "x", ...options, "sh", "-c", script],
      { env },
    );
    assert.equal(code, 0, stderr);
    return stdout;
  };

  await t.step("--cwd", async () => {
    assert.equal(await run([], "pwd"), "/home/x\n");
    assert.equal(await run(["--cwd", "/usr/lib"], "pwd"), "/usr/lib\n");
    assert.equal(await run(["-C", "/"], "pwd"), "/\n");
    assert.equal(await run(["-C/tmp"], "pwd"), "/tmp\n");
  });

  await t.step("--env", async () => {
    assert.equal(await run(["--env", "A=1=2", "-e", "B="], 'echo "$A|${B-unset}|$C"'), "1=2||\n");
    assert.equal(
      await run(["--env", "A", "-eB"], 'echo "$A|${B-unset}"', { A: "x y" }),
      "x y|unset\n",
    );
    assert.equal(await run(["-e", "A=1", "-e", "A=2"], "echo $A"), "2\n");
    assert.equal(await run(["--env=HOME=/tmp"], "cd; pwd"), "/tmp\n");
    assert.equal(await run(["--env", "TEXT=grün\n日本"], "echo $TEXT"), "grün 日本\n");
  });

  await t.step("a command of a PATH that is given", async () => {
    await run([], "mkdir -p ~/bin; echo 'echo mine' > ~/bin/tool; chmod 755 ~/bin/tool");
    const { stdout, stderr } = await world.client([
      ...["run", "-p", "x", "--env", "PATH=/home/x/bin:/usr/bin", "tool"],
    ]);
    assert.equal(stdout, "mine\n", stderr);
    assert.equal((await world.client(["run", "-p", "x", "tool"])).code, 127);
    // An empty part is the folder it starts in, as everywhere.
    const here = await world.client(["run", "-p", "x", "-e", "PATH=", "-C", "/home/x/bin", "tool"]);
    assert.equal(here.stdout, "mine\n", here.stderr);
  });

  await t.step("--detach", async () => {
    const { code, stdout } = await world.client([
      ...["run", "-p", "x", "--detach", "sh", "-c", "read x; echo read $?; exec sleep 1000"],
    ]);
    assert.equal(code, 0);
    assert.match(stdout, /^x\.\d+\n$/);
    const [jail] = await until("it runs", async () => {
      const jails = await world.status();
      return jails[0]?.programs.length === 1 && jails;
    });
    assert.equal(`${jail.programs[0].program}\n`, stdout);
    await until(
      "its output is in the log",
      async () => (await world.client(["logs", "x"])).stdout.includes("read 1"),
    );
  });
});

jailTest("what happens to the client is passed on to its program", async (t) => {
  await using world = await World.start();
  /** A client whose program is ready for signals, and writes down which one came. */
  const start = async (name: string): Promise<Deno.ChildProcess> => {
    const client = world.spawn([
      ...["run", "-p", "x", "sh", "-c"],
      `for signal in HUP INT QUIT TERM USR2; do
         trap "echo $signal > ~/${name}; exit 7" $signal
       done
       echo ready > ~/${name}; while :; do sleep 0.02; done`,
    ]);
    await got(name, "ready");
    return client;
  };
  const got = async (name: string, what: string): Promise<void> => {
    const path = `${world.data}/${firstUid}/${name}`;
    await until(
      `${what} arrives in ${name}`,
      async () => (await Deno.readTextFile(path).catch(() => "")) === `${what}\n`,
    );
  };

  await t.step("signals", async () => {
    for (const name of ["HUP", "INT", "QUIT", "TERM", "USR2"] as const) {
      const client = await start(name);
      client.kill(`SIG${name}`);
      assert.equal((await client.output()).code, 7);
      await got(name, name);
    }
  });

  await t.step("that it was killed, as SIGHUP", async () => {
    const client = await start("killed");
    client.kill("SIGKILL");
    await client.output();
    await got("killed", "HUP");
  });

  await t.step("and all of it to all that it has started", async () => {
    const processes = async (): Promise<number> => (await world.status())[0]?.processes ?? 0;
    const client = world.spawn(["run", "-p", "x", "sh", "-c", "sleep 1000 | sleep 1000"]);
    await until("all three run", async () => await processes() === 3);
    client.kill("SIGTERM");
    assert.equal((await client.output()).code, 143);
    await until("none runs", async () => await processes() === 0);
  });

  await t.step("a client whose jail does not come is let go by a signal", async () => {
    const pid = await world.dispatcherPid();
    Deno.kill(pid, "SIGSTOP");
    try {
      const client = world.spawn(["run", "-p", "x", "true"]);
      // It handles the signal from the moment on that it waits.
      await until("it waits", async () =>
        /^SigCgt:\s+[0-9a-f]*[4-7c-f][0-9a-f]{3}$/m.test(
          await Deno.readTextFile(`/proc/${client.pid}/status`),
        ));
      client.kill("SIGTERM");
      // Its streams are on their way to the dispatcher, and open until that reads them.
      assert.equal((await client.status).code, 143);
      Deno.kill(pid, "SIGCONT");
      await client.output().catch(() => {});
    } finally {
      Deno.kill(pid, "SIGCONT");
    }
  });
});
