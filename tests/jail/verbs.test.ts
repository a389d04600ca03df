/** The verbs beside run: what they print, whom they show what, and what they exit with. */
import assert from "node:assert/strict";
import {
  asUser,
  execute,
  firstUid,
  jailTest,
  type Outcome,
  program,
  uA,
  uB,
  uidsOf,
  until,
  World,
} from "./world.ts";

/** What a client prints, which has to succeed and complain of nothing. */
async function said(world: World, args: readonly string[], uid?: number): Promise<string> {
  const { code, stdout, stderr } = await world.client(args, uid === undefined ? {} : { uid });
  assert.equal(stderr, "", args.join(" "));
  assert.equal(code, 0, args.join(" "));
  return stdout;
}

/** That it fails, with this status and in one line with these words. */
function failed({ code, stdout, stderr }: Outcome, status: number, words: RegExp): void {
  assert.match(stderr, /^appjail: [^\n]+\n$/);
  assert.match(stderr, words);
  assert.equal(code, status, stderr);
  assert.equal(stdout, "");
}

/** A program that goes on by itself, and is up when this returns. */
async function detached(
  world: World,
  profile: string,
  script: string,
  uid?: number,
): Promise<string> {
  const words = ["run", "-p", profile, "--detach", "sh", "-c", `echo up; ${script}`];
  const name = (await said(world, words, uid)).trim();
  await until("it is up", async () => (await said(world, ["logs", profile], uid)).includes(name));
  return name;
}

/** Whether any process of this uid is there, but for what only waits to be reaped. */
async function processesOf(uid: number): Promise<string> {
  const { stdout } = await execute(["ps", "-o", "stat=,args=", "-u", `${uid}`]);
  return stdout.split("\n").filter((line) => line !== "" && !line.startsWith("Z")).join("\n");
}

jailTest("status shows a person their own jails and programs", async (t) => {
  await using world = await World.start();

  await t.step("nothing, in words", async () => {
    assert.equal(await said(world, ["status"]), "No jail of yours is running.\n");
    assert.equal(await said(world, ["status", "--all"]), "No jail is running.\n");
    assert.equal(await said(world, ["status", "--json"]), "[]\n");
    failed(await world.client(["status", "work"]), 111, /You have no profile "work"/);
  });

  const name = await detached(
    world,
    "work",
    "exec sleep 1000 #  \x1b[31m\u202e日本 and so on and so on and so on and so on and so on",
    uA,
  );
  await detached(world, "mail", "exec sleep 1000", uB);

  await t.step("as a table", async () => {
    const [head, jail, one, ...rest] = (await said(world, ["status"], uA)).split("\n");
    assert.match(head ?? "", /^PROFILE +UID +STATE +PID +SINCE +MEMORY +PROGRAMS$/);
    assert.match(
      jail ?? "",
      new RegExp(`^work +${firstUid} +running +\\d+ +\\d\\d:\\d\\d +\\d+\\.\\d MiB +1$`),
    );
    assert.match(one ?? "", /^ {2}work\.1 +pid \d+ +\d+s +sh -c 'echo up; exec sleep 1000/);
    assert((one ?? "").includes("\\x1b[31m"), one);
    assert.deepEqual(rest, [""]);
    // Columns stand below their heads, a number's end below the head's.
    assert.equal((head ?? "").indexOf("STATE"), (jail ?? "").indexOf("running"));
    assert.equal((head ?? "").indexOf("UID") + 3, (jail ?? "").indexOf(`${firstUid}`) + 4);
  });

  await t.step("as JSON", async () => {
    const text = await said(world, ["status", "--json"], uA);
    assert(!text.includes("\x1b"));
    const [jail, ...others] = JSON.parse(text);
    assert.deepEqual(others, []);
    const { jailer_pid, started, memory_bytes, cpu_ms, programs, ...rest } = jail;
    assert.deepEqual(rest, {
      profile: "work",
      owner: uA,
      uid: firstUid,
      state: "running",
      processes: 1,
      changed: false,
      lends: [],
      limits: { memory: null, processes: null, cpu: null },
      home: { kind: null, unlocked: false, until: null, problem: null },
    });
    assert.deepEqual(uidsOf(jailer_pid), [firstUid, firstUid, firstUid, firstUid]);
    assert(Math.abs(Date.now() - started) < 600_000);
    assert(memory_bytes > 4 * 2 ** 20);
    assert(cpu_ms >= 0);
    assert.equal(programs.length, 1);
    assert.equal(programs[0].program, name);
    assert.deepEqual(programs[0].argv.slice(0, 2), ["sh", "-c"]);
    assert(programs[0].argv[2].includes("\x1b[31m\u202e日本"));
    assert(programs[0].pid > 1);
  });

  await t.step("of one profile", async () => {
    assert.match(await said(world, ["status", "work"], uA), /^PROFILE[^\n]*\nwork /);
    await said(world, ["run", "-p", "other", "true"], uA);
    await said(world, ["stop", "other"], uA);
    assert.equal(
      await said(world, ["status", "other"], uA),
      "No jail called other is running.\n",
    );
  });

  await t.step("nobody else's, but to root who asks for all", async () => {
    assert.doesNotMatch(await said(world, ["status"], uA), /mail/);
    assert.doesNotMatch(await said(world, ["status"], uB), /work/);
    assert.equal(await said(world, ["status"]), "No jail of yours is running.\n");
    failed(await world.client(["status", "--all"], { uid: uA }), 111, /only root may see them/);
    failed(await world.client(["status", "mail"], { uid: uA }), 111, /You have no profile "mail"/);
    const all = await said(world, ["status", "--all"]);
    assert.match(all, /^PROFILE +OWNER +UID/);
    assert.match(all, new RegExp(`^work +${uA} +${firstUid} +running`, "m"));
    assert.match(all, new RegExp(`^mail +${uB} +${firstUid + 1} +running`, "m"));
    const mail = await said(world, ["status", "--all", "mail"]);
    assert.match(mail, /^mail/m);
    assert.doesNotMatch(mail, /work/);
  });

  await t.step("no wider than the terminal", async () => {
    const { stdout } = await execute([
      ...["script", "--quiet", "--return", "--command"],
      `stty cols 50; ${world.clientWords(["status"], uA).join(" ")}`,
      "/dev/null",
    ], { env: { APPJAIL_SOCKET: world.socket } });
    const lines = stdout.replaceAll("\r", "").trimEnd().split("\n");
    assert.equal(lines.length, 3, stdout);
    // Each of these characters is one column wide.
    assert.deepEqual(lines.map((line) => line.length <= 50), [true, true, true], stdout);
    assert.equal(lines[2]?.length, 50);
    assert.match(lines[2] ?? "", /…$/);
  });

  await t.step("in as many words as there is room for, where they are very many", async () => {
    const words = ["sh", "-c", "exec sleep 1000", "x".repeat(100_000), "y".repeat(100_000)];
    for (let count = 0; count < 8; count++) {
      await said(world, ["run", "-p", "long", "--detach", ...words], uB);
    }
    const [jail] = JSON.parse(await said(world, ["status", "long", "--json"], uB));
    assert.equal(jail.state, "running");
    assert.equal(jail.programs.length, 8);
    for (const { argv } of jail.programs) {
      assert.deepEqual(argv.slice(0, 3), words.slice(0, 3));
      assert.match(argv[3], /^x{1000,5000}…$/);
      assert.equal(argv.length, 4);
    }
    assert.equal(await world.shell("long", "echo served", { uid: uB }), "served");
    await said(world, ["stop", "--force", "long"], uB);
  });

  await t.step("to somebody who does not read it", async () => {
    const script = `{ "$@" status; echo $? >&2; } | true`;
    const { stderr } = await execute(["sh", "-c", script, "sh", ...program()], {
      env: { APPJAIL_SOCKET: world.socket },
    });
    assert.equal(stderr, "0\n");
  });
});

jailTest("stop ends programs and their jail, and says how it went", async (t) => {
  await using world = await World.start();
  const gone = async (uid: number): Promise<void> => {
    assert.equal(await processesOf(uid), "");
    const mounts = await Deno.readTextFile("/proc/mounts");
    assert(!mounts.includes(`${world.runtime}/jails`), mounts);
    assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);
    assert.deepEqual([...Deno.readDirSync(`${world.runtime}/ctl`)], []);
  };

  await t.step("nothing, in words", async () => {
    assert.equal(await said(world, ["stop", "--all"]), "No jail of yours is running.\n");
    failed(await world.client(["stop", "work"]), 111, /You have no profile "work"/);
    failed(await world.client(["stop"]), 100, /give the profiles' names, or --all/);
    failed(await world.client(["stop", "--all", "x"]), 100, /give names or --all, not both/);
    failed(await world.client(["stop", "../x"]), 100, /"\.\.\/x"/);
    for (const timeout of ["-1", "x", "", "3601", "1e3", "Infinity"]) {
      failed(await world.client(["stop", "--timeout", timeout, "x"]), 100, /0 to 3600 seconds/);
    }
  });

  await t.step("a program that ends when it is asked to", async () => {
    await detached(
      world,
      "work",
      `trap 'echo asked > ~/asked; exit' TERM; while :; do sleep 0.02; done`,
    );
    assert.equal(await said(world, ["stop", "work"]), "stopped work\n");
    await gone(firstUid);
    assert.equal(await Deno.readTextFile(`${world.data}/${firstUid}/asked`), "asked\n");
    assert.equal(await said(world, ["status"]), "No jail of yours is running.\n");
  });

  await t.step("one that does not, after the timeout", async () => {
    const ignoring = `trap 'echo asked >> ~/ignored' TERM; while :; do sleep 0.02; done`;
    await detached(world, "work", ignoring);
    await detached(world, "work", ignoring);
    await detached(world, "work", "exec sleep 1000");
    assert.equal(
      await said(world, ["stop", "--timeout", "0.5", "work"]),
      "stopped work; 2 programs had to be killed\n",
    );
    await gone(firstUid);
    assert.equal(await Deno.readTextFile(`${world.data}/${firstUid}/ignored`), "asked\nasked\n");
  });

  await t.step("by force, without asking", async () => {
    await detached(
      world,
      "work",
      `trap 'echo asked > ~/forced' TERM; while :; do sleep 0.02; done`,
    );
    assert.equal(
      await said(world, ["stop", "--force", "work"]),
      "stopped work; 1 program had to be killed\n",
    );
    await gone(firstUid);
    await assert.rejects(Deno.lstat(`${world.data}/${firstUid}/forced`));
  });

  await t.step("what programs have left behind, stopped ones too", async () => {
    await said(world, [
      "run",
      "-p",
      "work",
      "sh",
      "-c",
      "exec > /dev/null 2>&1; setsid sleep 1000 & setsid sh -c 'kill -STOP $$' &",
    ]);
    assert.match(await processesOf(firstUid), /sleep 1000/);
    await said(world, ["stop", "work"]);
    await gone(firstUid);
  });

  await t.step("a force comes through where patience waits", async () => {
    await detached(world, "work", "trap '' TERM; while :; do sleep 0.02; done");
    const patient = said(world, ["stop", "--timeout", "3600", "work"]);
    await until("it is leaving", async () => /leaving/.test(await said(world, ["status"])));
    assert.match(await said(world, ["stop", "--force", "work"]), /^stopped work/);
    assert.match(await patient, /^stopped work/);
    await gone(firstUid);
  });

  await t.step("several, each person's own, and everybody's for root", async () => {
    for (const [profile, uid] of [["a", uA], ["b", uA], ["c", uA], ["d", uB]] as const) {
      await detached(world, profile, "exec sleep 1000", uid);
    }
    const lines = (text: string): readonly string[] => text.trimEnd().split("\n").sort();
    failed(await world.client(["stop", "a", "d"], { uid: uA }), 111, /You have no profile "d"/);
    assert.equal((await world.status(uA)).length, 3, "none was stopped");
    assert.deepEqual(lines(await said(world, ["stop", "b", "a", "a"], uA)), [
      "stopped a",
      "stopped b",
    ]);
    assert.deepEqual(lines(await said(world, ["stop", "--all"], uA)), ["stopped c"]);
    assert.equal(await said(world, ["stop", "c"], uA), "c was not running\n");
    assert.equal((await world.status(uB)).length, 1);
    await detached(world, "a", "exec sleep 1000", uA);
    assert.deepEqual(lines(await said(world, ["stop", "--all"])), ["stopped a", "stopped d"]);
    assert.equal(await said(world, ["status", "--all"]), "No jail is running.\n");
  });
});

jailTest("logs show what programs print that nobody listens to", async (t) => {
  await using world = await World.start();

  await t.step("line by line, with what wrote it", async () => {
    const script = `printf 'one\\ntwo \\033[31mred\\007\\n\\377\\376\\n'; echo bad >&2; printf end`;
    const name = (await said(world, ["run", "-p", "work", "-d", "sh", "-c", script])).trim();
    const text = await until("all of it is there", async () => {
      const text = await said(world, ["logs", "work"]);
      return text.includes("end") && text.includes("bad") && text;
    });
    assert(!/[^\x20-\x7e\n\ufffd]/.test(text), JSON.stringify(text));
    const lines = text.trimEnd().split("\n").map((line) => {
      const match = /^\d\d:\d\d:\d\d (\S+ (?:out|err)\| .*)$/.exec(line);
      assert(match !== null, line);
      return match[1];
    });
    assert.deepEqual(
      lines.filter((line) => line?.includes("out|")),
      ["one", "two \\x1b[31mred\\x07", "\ufffd\ufffd", "end"].map((line) => `${name} out| ${line}`),
    );
    assert.deepEqual(lines.filter((line) => line?.includes("err|")), [`${name} err| bad`]);
    for (const line of lines) {
      assert(world.log.includes(`[work ${name}] ${line?.slice(name.length + 6)}`));
    }
  });

  await t.step("as it comes, with -f", async () => {
    const follower = world.spawn(["logs", "-f", "work"]);
    const reader = follower.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let seen = "";
    const see = async (what: string): Promise<void> => {
      while (!seen.includes(what)) {
        const { value, done } = await reader.read();
        assert(!done, `${what} never came: ${seen}`);
        seen += value;
      }
    };
    await see("out| end");
    await said(world, ["run", "-p", "work", "-d", "sh", "-c", "read x; echo first; echo second"]);
    await see("out| first");
    await see("out| second");
    // Also those of the jail's next life.
    await said(world, ["stop", "work"]);
    await said(world, ["run", "-p", "work", "-d", "echo", "third"]);
    await see("out| third");
    follower.kill("SIGINT");
    await reader.cancel();
    await follower.stderr.cancel();
    await follower.stdin.close();
    await follower.status;
  });

  await t.step("the last of it alone, when it is very much", async () => {
    const pid = await world.dispatcherPid();
    const kilobytes = async (): Promise<number> => {
      const rollup = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
      return [...rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)]
        .reduce((sum, [, size]) => sum + Number(size), 0);
    };
    const flood = `seq 100000000 | head -c 50000000; echo; echo over`;
    await said(world, ["run", "-p", "work", "-d", "sh", "-c", flood]);
    const before = await kilobytes();
    let most = before;
    await until("the flood is over", async () => {
      most = Math.max(most, await kilobytes());
      // Everybody else is served meanwhile.
      await said(world, ["run", "-p", "calm", "true"], uA);
      return (await said(world, ["logs", "work"])).endsWith("out| over\n");
    }, 60);
    assert(most < before + 96 * 1024, `${before} kB before, ${most} kB at most`);
    const text = await said(world, ["logs", "work"]);
    assert(text.length < 1024 * 1024, `${text.length}`);
    assert(text.length > 64 * 1024, `${text.length}`);
  });

  await t.step("whatever bytes it is", async () => {
    const script = `i=0; while [ $i -lt 40 ]; do
      head -c 8000 /dev/zero | tr '\\0' '\\1'; echo $i; sleep 0.01; i=$((i + 1))
    done; head -c 300000 /dev/urandom; echo; echo over`;
    await said(world, ["run", "-p", "bytes", "-d", "sh", "-c", script]);
    const text = await until("all of it has come", async () => {
      const text = await said(world, ["logs", "bytes"]);
      return text.endsWith("out| over\n") && text;
    });
    // deno-lint-ignore no-control-regex -- that there are none
    assert(!/[\x00-\x08\x0b-\x1f\x7f-\x9f]/.test(text), "it is shown as escapes");
    assert.equal((await said(world, ["status", "--json"])).includes("silent"), false);
  });

  await t.step("nobody else's", async () => {
    failed(await world.client(["logs", "work"], { uid: uB }), 111, /You have no profile "work"/);
    failed(await world.client(["logs", "none"]), 111, /You have no profile "none"/);
    failed(await world.client(["logs"]), 100, /PROFILE is missing/);
  });
});

jailTest("the daemon is found where one says, and its profiles are completed", async (t) => {
  await using world = await World.start();
  const elsewhere = `${world.folder}/nobody.sock`;
  await world.run("work", ["true"], { uid: uA });
  await world.run("mail", ["true"], { uid: uA });
  await world.run("hers", ["true"], { uid: uB });

  await t.step("--socket before $APPJAIL_SOCKET before the usual place", async () => {
    for (
      const words of [["--socket", elsewhere, "profiles"], ["profiles", "--socket", elsewhere]]
    ) {
      failed(await world.client(words), 111, new RegExp(`No daemon answers at ${elsewhere}`));
    }
    const env = { APPJAIL_SOCKET: elsewhere };
    for (
      const words of [
        ["--socket", world.socket, "run", "-p", "work", "true"],
        [`--socket=${world.socket}`, "run", "-p", "work", "true"],
        ["run", "--socket", world.socket, "-p", "work", "true"],
        ["run", `--socket=${world.socket}`, "-p", "work", "true"],
        ["--socket", world.socket, "profiles"],
        ["status", "--socket", world.socket],
      ]
    ) {
      assert.equal((await world.client(words, { env, uid: uA })).code, 0, words.join(" "));
    }
    failed(await world.client(["profiles"], { env }), 111, new RegExp(`answers at ${elsewhere}`));
    const { code, stderr } = await execute([...program(), "profiles"]);
    if (code !== 0) assert.match(stderr, /No daemon answers at \/run\/appjail\/appjail\.sock/);
  });

  await t.step("no verb goes on without a daemon, and each says how to start one", async () => {
    const env = { APPJAIL_SOCKET: elsewhere };
    for (
      const words of [
        ["run", "true"],
        ["status"],
        ["stop", "--all"],
        ["logs", "work"],
        ["profiles"],
      ]
    ) failed(await world.client(words, { env }), 111, /start it: systemctl start appjail, or sudo/);
  });

  await t.step("a person's profiles", async () => {
    assert.equal(await said(world, ["profiles"], uA), "work\nmail\n");
    assert.equal(await said(world, ["profiles"], uB), "hers\n");
    assert.equal(await said(world, ["profiles"]), "");
    const [work] = JSON.parse(await said(world, ["profiles", "--json"], uA));
    assert.equal(work.profile, "work");
    assert.equal(work.uid, firstUid);
    assert.equal(typeof work.running, "boolean");
  });

  await t.step("completions for bash know them", async () => {
    const complete = async (...words: string[]): Promise<readonly string[]> => {
      const { stdout, stderr } = await execute(
        asUser(uA, [
          "bash",
          "-c",
          `appjail() { ${program().map((word) => `'${word}'`).join(" ")} "$@"; }
           source <(appjail completions bash)
           COMP_WORDS=(appjail "$@"); COMP_CWORD=$#
           _appjail && printf '%s\\n' "\${COMPREPLY[@]}"`,
          "bash",
          ...words,
        ]),
        { env: { APPJAIL_SOCKET: world.socket } },
      );
      assert.equal(stderr, "");
      return stdout.trimEnd().split("\n").sort();
    };
    assert.deepEqual(await complete("stop", ""), ["mail", "work"]);
    assert.deepEqual(await complete("status", "w"), ["work"]);
    assert.deepEqual(await complete("logs", "-f", "m"), ["mail"]);
    assert.deepEqual(await complete("run", "-p", ""), ["mail", "work"]);
    assert.deepEqual(await complete("run", "--profile", "=", "w"), ["work"]);
    assert.deepEqual(await complete("sta"), ["status"]);
    assert((await complete("run", "-p", "work", "--e")).includes("--env"));
    assert((await complete("stop", "--")).includes("--timeout"));
  });

  await t.step("and there are some for zsh and fish, and for nothing else", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      assert.match(await said(world, ["completions", shell]), /appjail profiles/);
    }
    failed(await world.client(["completions", "tcsh"]), 100, /bash, zsh or fish/);
  });
});

jailTest("appjail explains itself", async () => {
  const run = (...words: string[]): Promise<Outcome> => execute([...program(), ...words]);
  const version = await run("--version");
  assert.match(
    version.stdout,
    /^appjail \d+\.\d+\.\d+ \((compiled|bundled|from source); Deno \d+\.\d+\.\d+; protocol \d+\)\n$/,
  );
  assert.equal((await run("-V")).stdout, version.stdout);
  const help = await run("help");
  assert.equal(help.code, 0);
  assert.equal((await run("--help")).stdout, help.stdout);
  const verbs = [...help.stdout.matchAll(/^ {2}([a-z]+) +[A-Z]/gm)].map(([, verb = ""]) => verb);
  for (const verb of ["run", "status", "stop", "logs", "profiles", "daemon", "completions"]) {
    assert(verbs.includes(verb), verb);
  }
  await Promise.all(verbs.map(async (verb) => {
    const [one, same] = await Promise.all([run("help", verb), run(verb, "--help")]);
    assert.equal(one.code, 0, one.stderr);
    assert.match(one.stdout, new RegExp(`^usage:\\n +appjail ${verb}`), one.stdout);
    if (verb !== "help") assert.equal(same.stdout, one.stdout);
  }));
  const nothing = await run();
  assert.equal(nothing.code, 100);
  assert.equal(nothing.stderr, help.stdout);
  failed(await run("stauts"), 100, /Cannot use "stauts": .*did you mean "status"\?/);
  failed(await run("--verison"), 100, /Cannot use "--verison": .*did you mean "--version"\?/);
  failed(await run("status", "--jsn"), 100, /did you mean "--json"\?/);
  failed(await run("status", "a", "b"), 100, /Cannot use "b": it is one too many/);
  failed(await run("help", "nonsense"), 100, /there is no such command/);
  failed(await run("status", "--json", "--socket"), 100, /--socket/);
});
