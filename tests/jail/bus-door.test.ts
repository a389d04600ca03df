/** The dispatcher's door on D-Bus, with the clients that everybody has. */
import assert from "node:assert/strict";
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

const name = "org.appjail.AppJail";
const path = "/org/appjail/AppJail";

/** One call with gdbus, its arguments in GVariant's text format. */
function call(
  world: World,
  method: string,
  args: readonly string[] = [],
  uid?: number,
): Promise<Outcome> {
  const member = method.includes(".") ? method : `${name}1.${method}`;
  return execute(asUser(uid, [
    ...["gdbus", "call", "--address", world.busAddress, "--dest", name, "--object-path", path],
    ...["--method", member, ...args],
  ]));
}

async function answer(
  world: World,
  method: string,
  args: readonly string[] = [],
  uid?: number,
): Promise<string> {
  const { code, stdout, stderr } = await call(world, method, args, uid);
  assert.equal(code, 0, `${method} ${args.join(" ")}: ${stderr}`);
  return stdout.trimEnd();
}

function refused({ code, stdout, stderr }: Outcome, error: string, words: RegExp): void {
  assert.notEqual(code, 0, stdout);
  const [line = ""] = stderr.split("\n");
  assert(line.startsWith(`Error: GDBus.Error:${error}: `), stderr);
  assert.match(line, words);
  assert.doesNotMatch(stderr, /:\d+:\d+/, "no stack trace");
}

jailTest("gdbus runs programs, and sees and stops what is its user's own", async (t) => {
  await using world = await World.start({ bus: true });

  await t.step("Run starts a program, whose output is in the log", async () => {
    assert.equal(
      await answer(world, "Run", ["work", "['id', '-u']", "{}"]),
      `(uint32 ${firstUid}, 'work.1')`,
    );
    await until(
      "its output is in the daemon's log",
      () => world.log.includes(`[work work.1] ${firstUid}\n`),
    );
    await until(
      "and in the profile's",
      async () =>
        new RegExp(`^\\d\\d:\\d\\d:\\d\\d work\\.1 out\\| ${firstUid}$`, "m")
          .test((await world.client(["logs", "work"])).stdout),
    );
  });

  await t.step("with the options that it has", async () => {
    const options = "{'cwd': <'/usr/lib'>, 'env': <{'A': 'b c', 'HOME': '/tmp'}>}";
    await answer(world, "Run", ["work", "['sh', '-c', 'echo \"$A $HOME $PWD\"']", options]);
    await until("all of it arrives", () => world.log.includes("] b c /tmp /usr/lib\n"));
  });

  await t.step("nothing to read, and nothing of the caller's", async () => {
    const script = 'cat; ls /proc/self/fd; echo "${DBUS_STARTER_ADDRESS-none}"; echo end >&2';
    await answer(world, "Run", ["work", `['sh', '-c', '${script}']`, "{}"]);
    await until("it ends", () => world.log.includes("] end\n"));
    await until("it is idle", async () => (await world.status())[0]?.state === "idle");
  });

  await t.step("List shows them, and what they are", async () => {
    const long = "['sleep', '1000']";
    const [, program] = /'(work\.\d+)'/.exec(await answer(world, "Run", ["work", long, "{}"])) ??
      [];
    const list = await answer(world, "List");
    assert.match(
      list,
      new RegExp(
        `^\\(\\[\\{'profile': <'work'>, 'uid': <uint32 ${firstUid}>, 'state': <'running'>, ` +
          "'jailer_pid': <uint32 \\d+>, 'started': <uint64 \\d{13}>, " +
          `'programs': <\\[\\{'program': <'${program}'>, 'argv': <\\['sleep', '1000'\\]>, ` +
          "'pid': <uint32 \\d+>, 'started': <uint64 \\d{13}>\\}\\]>, 'encrypted': <false>\\}\\],\\)$",
      ),
    );
    const [jail] = await world.status();
    assert(list.includes(`'jailer_pid': <uint32 ${jail.jailer_pid}>`));
  });

  await t.step("another person sees only their own, and touches nothing else", async () => {
    assert.equal(await answer(world, "List", [], uA), "(@aa{sv} [],)");
    refused(
      await call(world, "Stop", ["work", "true"], uA),
      "org.appjail.Error.UnknownProfile",
      /"work"/,
    );
    assert.equal(
      await answer(world, "Run", ["work", "['sleep', '1000']", "{}"], uA),
      `(uint32 ${firstUid + 1}, 'work.1')`,
    );
    const list = await answer(world, "List", [], uA);
    assert.match(list, new RegExp(`'uid': <uint32 ${firstUid + 1}>`));
    assert.doesNotMatch(list, new RegExp(`'uid': <uint32 ${firstUid}>`));
    assert.doesNotMatch(await answer(world, "List"), new RegExp(`'uid': <uint32 ${firstUid + 1}>`));
    assert.equal(await answer(world, "List", [], uB), "(@aa{sv} [],)");
  });

  await t.step("both doors lead to one jail", async () => {
    await answer(world, "Run", ["work", "['sh', '-c', 'echo from the bus > /tmp/note']", "{}"]);
    await until(
      "it is there",
      async () =>
        await world.shell("work", "cat /tmp/note 2> /dev/null || true") === "from the bus",
    );
    assert.equal((await world.status()).length, 1);
  });

  await t.step("Lend and Unlend are about one's own files and jails", async () => {
    const folder = `${world.folder}/lent`;
    await Deno.mkdir(folder);
    await Deno.chown(folder, uA, 60);
    assert.equal(await answer(world, "Lend", ["work", folder, "{}"], uA), "('lent',)");
    const options = "{'name': <'x'>, 'write': <true>, 'seconds': <uint32 3600>}";
    assert.equal(await answer(world, "Lend", ["work", folder, options], uA), "('x',)");
    assert.equal(
      await world.shell("work", "touch ~/lent/x/y; ls ~/lent ~/lent/lent", { uid: uA }),
      "/home/work/lent:\nlent\nx\n\n/home/work/lent/lent:\ny",
    );
    const [{ lends }] = await world.status(uA);
    assert.deepEqual(
      lends.map(({ write, until }: { write: boolean; until: unknown }) => [write, until === null]),
      [
        [false, true],
        [true, false],
      ],
    );
    assert.equal(await answer(world, "Unlend", ["work", "x"], uA), "()");
    const error = "org.appjail.Error.LendRefused";
    refused(await call(world, "Unlend", ["work", "x"], uA), error, /nothing of that name is lent/);
    refused(await call(world, "Lend", ["work", "/etc/shadow", "{}"], uA), error, /may not open it/);
    refused(await call(world, "Lend", ["work", folder, "{}"]), error, /root's profiles/);
    refused(
      await call(world, "Lend", ["work", folder, "{}"], uB),
      "org.appjail.Error.UnknownProfile",
      /"work"/,
    );
    const invalid = "org.appjail.Error.InvalidArguments";
    for (
      const [path, more] of [
        ["lent", "{}"],
        ["/", "{}"],
        [folder, "{'name': <'../x'>}"],
        [folder, "{'rw': <true>}"],
        [folder, "{'seconds': <uint32 0>}"],
        [folder, "{'write': <'yes'>}"],
      ] as const
    ) refused(await call(world, "Lend", ["work", path, more], uA), invalid, /./);
  });

  await t.step("Stop ends the jail of one person", async () => {
    assert.equal(await answer(world, "Stop", ["work", "false"]), "()");
    assert.equal(await answer(world, "List"), "(@aa{sv} [],)");
    assert.equal((await world.status(uA)).length, 1);
    assert.equal(await answer(world, "Stop", ["work", "false"]), "()", "none runs");
    assert.equal(await answer(world, "Stop", ["work", "true"], uA), "()");
  });
});

jailTest("what is wrong with a call is told by an error's name and in words", async (t) => {
  await using world = await World.start({ bus: true });
  const invalid = "org.appjail.Error.InvalidArguments";

  await t.step("the profile", async () => {
    for (const profile of ["", "../x", "a/b", "-rf", ".", "a b", "$(id)", "x".repeat(65), "root"]) {
      const words = JSON.stringify(profile);
      refused(
        await call(world, "Run", [words, "['id']", "{}"]),
        invalid,
        /The profile cannot be used/,
      );
      refused(await call(world, "Stop", [words, "false"]), invalid, /The profile cannot be used/);
    }
    refused(
      await call(world, "Stop", ["none", "false"]),
      "org.appjail.Error.UnknownProfile",
      /"none"/,
    );
  });

  await t.step("the command", async () => {
    refused(await call(world, "Run", ["x", "@as []", "{}"]), invalid, /a command is needed/);
    refused(await call(world, "Run", ["x", "['']", "{}"]), invalid, /the command is empty/);
    refused(
      await call(world, "Run", ["x", "['nonexistent']", "{}"]),
      "org.appjail.Error.CommandNotFound",
      /Cannot run "nonexistent"/,
    );
    for (const command of ["/etc/passwd", "/usr"]) {
      refused(
        await call(world, "Run", ["x", `['${command}']`, "{}"]),
        "org.appjail.Error.CommandNotExecutable",
        /may not be executed/,
      );
    }
  });

  await t.step("the options", async () => {
    for (
      const [options, words] of [
        ["{'colour': <1>}", /There is no option "colour": the options are cwd and env/],
        ["{'constructor': <1>}", /There is no option "constructor"/],
        ["{'cwd': <1>}", /The option cwd cannot be used/],
        ["{'cwd': <'tmp'>}", /The option cwd cannot be used: it is not an absolute path/],
        ["{'cwd': <'/nonexistent'>}", /the folder \/nonexistent is not there/],
        ["{'cwd': <'/etc/passwd'>}", /the folder \/etc\/passwd is not there/],
        ["{'env': <'A=1'>}", /The option env cannot be used/],
        ["{'env': <['A']>}", /The option env cannot be used/],
        ["{'env': <{'A': 1}>}", /The option env cannot be used/],
        ["{'env': <{'A B': 'x'}>}", /The option env cannot be used: no name of a variable/],
        ["{'env': <{'': 'x'}>}", /The option env cannot be used: no name of a variable/],
      ] as const
    ) refused(await call(world, "Run", ["x", "['id']", options]), invalid, words);
  });

  await t.step("the call itself", async () => {
    const bus = "org.freedesktop.DBus.Error";
    refused(await call(world, "Nothing"), `${bus}.UnknownMethod`, /Nothing/);
    refused(await call(world, "org.appjail.AppJail2.List"), `${bus}.UnknownInterface`, /AppJail2/);
    refused(await call(world, "Stop", ["work"]), `${bus}.InvalidArgs`, /./);
    refused(
      await call(world, "Run", ["x", "['id']", "{'__proto__': <1>}"]),
      `${bus}.InvalidArgs`,
      /"__proto__" is not accepted/,
    );
    refused(
      await call(world, "org.freedesktop.DBus.Properties.Set", [`${name}1`, "Version", "<'1'>"]),
      `${bus}.PropertyReadOnly`,
      /Version/,
    );
  });

  await t.step("and it cost nothing but the uid of a profile that was named", async () => {
    assert.equal((await world.client(["profiles"])).stdout, "x\n");
    await until("no jail is left", async () => await answer(world, "List") === "(@aa{sv} [],)");
  });
});

jailTest("introspection names everything, and dbus-send and busctl can call it", async (t) => {
  await using world = await World.start({ bus: true });

  await t.step("the interface", async () => {
    const { stdout } = await execute([
      ...["gdbus", "introspect", "--address", world.busAddress, "--dest", name],
      ...["--object-path", path],
    ]);
    const [own] = /interface org\.appjail\.AppJail1 \{[\s\S]*?\n {2}\};/.exec(stdout) ?? [];
    assert.equal(
      own?.replaceAll(/\s+/g, " "),
      "interface org.appjail.AppJail1 { methods: " +
        "Run(in s profile, in as argv, in a{sv} options, out u uid, out s program); " +
        "Stop(in s profile, in b force); " +
        "Lend(in s profile, in s path, in a{sv} options, out s name); " +
        "Unlend(in s profile, in s name); List(out aa{sv} jails); Subscribe(); Unsubscribe(); " +
        "signals: JailStarted(s profile, u uid); " +
        "JailStopped(s profile, u uid, s reason, s why); " +
        "ProgramStarted(s profile, u uid, s program, s command); " +
        "ProgramExited(s profile, u uid, s program, u status, u signal); " +
        "HomeUnlocked(s profile, u uid); HomeLocked(s profile, u uid); Missed(u count); " +
        "properties: " +
        '@org.freedesktop.DBus.Property.EmitsChangedSignal("false") ' +
        `readonly s Version = '${await version(world)}'; };`,
    );
  });

  await t.step("dbus-send", async () => {
    const send = (member: string, ...args: string[]): Promise<Outcome> =>
      execute([
        ...["dbus-send", `--bus=${world.busAddress}`, "--print-reply", `--dest=${name}`],
        ...[path, member, ...args],
      ]);
    await world.client(["run", "-p", "work", "--detach", "sleep", "1000"]);
    const list = await send(`${name}1.List`);
    assert.match(list.stdout, /string "profile"\s+variant\s+string "work"/);
    const get = await send(
      "org.freedesktop.DBus.Properties.Get",
      `string:${name}1`,
      "string:Version",
    );
    assert.match(get.stdout, new RegExp(`variant +string "${await version(world)}"`));
    // It cannot send a dictionary of variants: what it sends is refused by its signature.
    const wrong = await send(`${name}1.Run`, "string:x", "array:string:id", "dict:string:string:");
    assert.match(wrong.stderr, /^Error org\.freedesktop\.DBus\.Error\.InvalidArgs: /);
    const stop = await send(`${name}1.Stop`, "string:work", "boolean:false");
    assert.equal(stop.code, 0, stop.stderr);
    assert.deepEqual(await world.status(), []);
  });

  await t.step("busctl", async () => {
    // It comes with systemd, which not every machine has.
    const { code } = await execute(["sh", "-c", "command -v busctl"]);
    if (code !== 0) return;
    const busctl = async (...words: string[]): Promise<string> => {
      const { stdout, stderr } = await execute([
        "busctl",
        `--address=${world.busAddress}`,
        ...words,
      ]);
      assert.equal(stderr, "");
      return stdout;
    };
    const object = [name, path, `${name}1`];
    assert.equal(
      await busctl(
        "call",
        ...object,
        "Run",
        "sasa{sv}",
        "work",
        "2",
        "sleep",
        "1000",
        "1",
        "cwd",
        "s",
        "/tmp",
      ),
      `us ${firstUid} "work.1"\n`,
    );
    assert.match(await busctl("call", ...object, "List"), /^aa\{sv\} 1 7 "profile" s "work"/);
    assert.equal(
      await busctl("get-property", ...object, "Version"),
      `s "${await version(world)}"\n`,
    );
    assert.equal(await busctl("call", ...object, "Stop", "sb", "work", "true"), "");
  });
});

async function version(world: World): Promise<string> {
  const got = await answer(world, "org.freedesktop.DBus.Properties.Get", [`${name}1`, "Version"]);
  const [, text = ""] = /^\(<'(\d+\.\d+\.\d+)'>,\)$/.exec(got) ?? [];
  assert.notEqual(text, "", got);
  return text;
}

jailTest(
  "who cannot be a person cannot call, and a bus that comes back is served again",
  async (t) => {
    // A bus asks who a caller is by name, so this one is told that the first profile has one.
    let bus: Deno.ChildProcess | undefined;
    const startBus = async (folder: string): Promise<void> => {
      await Deno.remove(`${folder}/bus`).catch(() => {});
      bus = new Deno.Command("unshare", {
        args: [
          ...["--mount", "sh", "-c", 'mount --bind "$0/passwd" /etc/passwd && exec "$@"', folder],
          ...["dbus-daemon", "--nofork", "--nopidfile", `--config-file=${folder}/bus.conf`],
        ],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
      await until(
        "the bus listens",
        () => Deno.lstat(`${folder}/bus`).then(() => true, () => false),
      );
      await Deno.chmod(`${folder}/bus`, 0o777);
    };
    const stopBus = async (): Promise<void> => {
      bus?.kill("SIGKILL");
      await bus?.status;
      bus = undefined;
    };
    await using _bus = { [Symbol.asyncDispose]: stopBus };
    await using world = await World.start({
      before: async (folder) => {
        const passwd = await Deno.readTextFile("/etc/passwd");
        await Deno.writeTextFile(
          `${folder}/passwd`,
          `${passwd}app:x:${firstUid}:${firstUid}::/nonexistent:/bin/false\n`,
        );
        await Deno.writeTextFile(
          `${folder}/bus.conf`,
          `<busconfig><type>system</type><listen>unix:path=${folder}/bus</listen>
         <auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
         <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
         </policy></busconfig>`,
        );
        await startBus(folder);
      },
      wrap: (words, folder) =>
        words.map((word, at) => words[at - 1] === "--bus" ? `unix:path=${folder}/bus` : word),
    });
    const onBus = (times: number) =>
      until("the daemon is on the bus", () => world.log.split("on the bus as").length > times);
    await onBus(1);

    await t.step("a program in a jail is refused, whatever it asks", async () => {
      await answer(world, "Run", ["mine", "['true']", "{}"], uA);
      for (
        const [method, args] of [
          ["List", []],
          ["Run", ["x", "['id']", "{}"]],
          ["Stop", ["mine", "true"]],
          ["Lend", ["mine", "/tmp", "{}"]],
          ["Unlend", ["mine", "tmp"]],
          ["Subscribe", []],
          ["Unsubscribe", []],
        ] as const
      ) {
        refused(
          await call(world, method, args, firstUid),
          "org.appjail.Error.AccessDenied",
          /A program in a jail cannot ask for jails/,
        );
      }
      assert.equal((await world.client(["profiles"], { uid: uA })).stdout, "mine\n");
      // Its owner is told, whose program it is that asks.
      const { stdout } = await world.client(["events"], { uid: uA });
      assert.match(stdout, /^[\d:]+ {2}mine +\d+ +refused +subscribe: A program in a jail cannot/m);
      const own = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
      assert.equal(await answer(world, own, [], firstUid), "(@a{oa{sa{sv}}} {},)");
    });

    await t.step("nor does it find the bus where it is", async () => {
      assert.equal(
        await world.shell("mine", `ls -d ${world.folder} /run/dbus 2> /dev/null | wc -l`, {
          uid: uA,
        }),
        "0",
      );
    });

    await t.step(
      "a bus that dies takes nothing with it, and is joined when it is there again",
      async () => {
        await answer(world, "Run", ["mine", "['sleep', '1000']", "{}"], uA);
        await stopBus();
        await until("the daemon has seen it", () => world.log.includes("off the bus"));
        assert.equal(await world.shell("mine", "echo served", { uid: uA }), "served");
        await startBus(world.folder);
        await onBus(2);
        assert.match(await answer(world, "List", [], uA), /'sleep', '1000'/);
      },
    );
  },
);
