/** What a client is told by signals, its program hears; and what is with jobs of a shell. */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { execute, until, type World } from "../jail/world.ts";
import { atTerminal, firstAndJoined, key, shellAt, terminalTest } from "./driver.ts";

/** Says which signals it gets, until TERM. */
const listener = `
  my $said = sub { syswrite STDOUT, "got $_[0]\\n" };
  for my $name (qw(INT HUP QUIT USR1 USR2 WINCH CONT TSTP TERM)) {
    $SIG{$name} = sub { $said->($name); exit 7 if $name eq "TERM" };
  }
  syswrite STDOUT, "ready\\n";
  sleep 1000 while 1;
`;

function signal(pid: number, name: string): Promise<unknown> {
  return execute(["kill", `-${name}`, String(pid)]);
}

/** State of a process, the letter of proc(5). */
function stateOf(pid: number): string | undefined {
  return /^State:\t(\w)/m.exec(readText(`/proc/${pid}/status`) ?? "")?.[1];
}

/** What a client writes, to be waited for. */
class Listened {
  text = "";
  readonly child: Deno.ChildProcess;

  constructor(child: Deno.ChildProcess) {
    this.child = child;
    void (async () => {
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) this.text += text;
    })();
  }

  async expect(what: string): Promise<void> {
    await until(`it writes ${what}`, () => this.text.includes(what)).catch((error) => {
      throw new Error(`${error.message}; it wrote ${JSON.stringify(this.text)}`);
    });
  }

  async end(): Promise<Deno.CommandStatus> {
    const status = await this.child.status;
    await this.child.stdin.close().catch(() => {});
    await this.child.stderr.cancel();
    return status;
  }
}

function startListening(world: World, profile: string, ...options: readonly string[]): Listened {
  return new Listened(
    world.spawn(["run", ...options, "-p", profile, "--", "perl", "-e", listener]),
  );
}

const heard = ["INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT"] as const;

terminalTest("a signal to the client is one to its program", async (t, world) => {
  await firstAndJoined(t, world, "without a terminal", async (profile) => {
    const client = startListening(world, profile);
    await client.expect("ready\n");
    for (const name of heard) {
      await signal(client.child.pid, name);
      await client.expect(`got ${name}\n`);
    }
    await signal(client.child.pid, "TERM");
    await client.expect("got TERM\n");
    assert.equal((await client.end()).code, 7);
    assert.deepEqual(
      client.text,
      ["ready", ...[...heard, "TERM"].map((name) => `got ${name}`), ""].join("\n"),
    );
  });

  await firstAndJoined(t, world, "at a terminal", async (profile) => {
    await using term = atTerminal(world, ["run", "-p", profile, "--", "perl", "-e", listener]);
    await term.expect("ready\r\n");
    for (const name of [...heard, "TSTP", "TERM"]) {
      await signal(term.child.pid, name);
      await term.expect(`got ${name}\r\n`);
    }
    assert.equal((await term.ended()).code, 7);
    assert.equal(term.text.match(/got/g)?.length, heard.length + 2);
  });

  await firstAndJoined(t, world, "to the program's whole process group", async (profile) => {
    const script = "trap 'echo outer' USR2; sh -c 'trap \"echo inner; exit\" USR2; echo ready; " +
      "while :; do sleep 1000 & wait $!; done'; exit 3";
    const client = new Listened(world.spawn(["run", "-p", profile, "--", "sh", "-c", script]));
    await client.expect("ready\n");
    await signal(client.child.pid, "USR2");
    await client.expect("inner\n");
    await client.expect("outer\n");
    assert.equal((await client.end()).code, 3);
  });
});

terminalTest(
  "TSTP and CONT stop a client with its program, and let both go on",
  async (t, world) => {
    const script = 'echo "$$"; exec cat';
    const inner = async (profile: string): Promise<string> =>
      await world.shell(
        profile,
        "for f in /proc/[0-9]*; do " +
          '[ "$(tr -d "\\0" < $f/cmdline)" = cat ] && sed -n "s/^State:.\\(.\\).*/\\1/p" $f/status; done; :',
      );

    for (const options of [["-T"], ["-t"]]) {
      await firstAndJoined(t, world, options.join(" "), async (profile) => {
        const client = new Listened(
          world.spawn(["run", ...options, "-p", profile, "--", "sh", "-c", script]),
        );
        await client.expect("\n");
        const { pid } = client.child;
        for (let turn = 0; turn < 2; turn++) {
          await until("the program runs", async () => await inner(profile) === "S");
          await signal(pid, "TSTP");
          await until("the client is stopped", () => stateOf(pid) === "T");
          await until("the program is stopped", async () => await inner(profile) === "T");
          await signal(pid, "CONT");
          await until("the client goes on", () => stateOf(pid) !== "T");
          await until("the program goes on", async () => await inner(profile) === "S");
          assert.notEqual(stateOf(pid), "T");
        }
        await signal(pid, "TERM");
        assert.equal((await client.end()).signal, "SIGTERM");
      });
    }
  },
);

terminalTest("a program is told when its client is gone", async (t, world) => {
  /** Leaves a note of its end. */
  const noting =
    'exec 2>/dev/null; trap "echo HUP > ~/note; exit" HUP; rm -f ~/note; echo rea""dy; while :; do sleep 0.1; done';
  const note = (profile: string): Promise<string> =>
    world.shell(profile, "cat ~/note 2>/dev/null; :");

  await firstAndJoined(t, world, "killed without a terminal", async (profile) => {
    const client = new Listened(world.spawn(["run", "-p", profile, "--", "sh", "-c", noting]));
    await client.expect("ready\n");
    await signal(client.child.pid, "KILL");
    await client.end();
    await until("the program has HUP", async () => await note(profile) === "HUP");
  });
  await firstAndJoined(t, world, "killed at a terminal", async (profile) => {
    await using term = await shellAt(world);
    await term.ask(`$appjail run -p ${profile} -- sh -c '${noting}'`, "ready\r\n");
    const client = await until(
      "the client is in front",
      () => term.foreground === term.child.pid ? undefined : term.foreground,
    );
    await signal(client, "KILL");
    await term.expect(/Killed.*\r\n/);
    await until("the program has HUP", async () => await note(profile) === "HUP");
  });
  await firstAndJoined(t, world, "a closed window", async (profile) => {
    await using term = atTerminal(world, ["run", "-p", profile, "--", "sh", "-c", noting]);
    await term.expect("ready\r\n");
    term.close();
    await until("the program has HUP", async () => await note(profile) === "HUP");
    await term.ended();
    await until("nothing stays", async () => {
      const [jail] = (await world.status()).filter((one) => one.profile === profile);
      // deno-lint-ignore no-explicit-any -- of the status
      return !(jail?.programs ?? []).some(({ argv }: any) => argv[0] === "sh");
    });
  });
  await firstAndJoined(t, world, "a closed window with a jobbing shell", async (profile) => {
    await using term = atTerminal(world, [
      ...["run", "-p", profile, "-e", "PS1=in$ ", "--", "bash", "--norc", "--noprofile", "-i"],
    ]);
    await term.expect("in$ ");
    await term.ask("sleep 12345 & echo o''k", "ok\r\n");
    await term.ask(`sh -c '${noting}'`, "ready\r\n");
    term.close();
    await until("the program in front has HUP", async () => await note(profile) === "HUP");
    await until(
      "the jobs are gone",
      async () =>
        !/sleep 12345/.test(await world.shell(profile, "cat /proc/*/cmdline | tr '\\0' ' '; :")),
    );
  });
  await t.step("nohup spares it", async () => {
    await using term = await shellAt(world);
    await term.ask(
      "nohup $appjail run -p joined -- perl -e " +
        '\'print STDERR "rea" . "dy\\n"; sleep 1000\' > out 2>&1 & echo =$!',
      /=\d+\r\n/,
    );
    await until(
      "it runs",
      async () => /ready/.test(await Deno.readTextFile(`${world.folder}/out`).catch(() => "")),
    );
    const pid = await until("the client runs", async () => {
      const { stdout } = await execute(["pgrep", "-P", String(term.child.pid)]);
      return Number(stdout.trim().split("\n")[0]) || undefined;
    });
    term.close();
    await term.ended();
    await signal(pid, "HUP");
    const [joined] = (await world.status()).filter(({ profile }) => profile === "joined");
    // deno-lint-ignore no-explicit-any -- of the status
    const program = joined.programs.find(({ argv }: any) => argv[0] === "perl");
    assert(program !== undefined);
    await world.client(["kill", program.program]);
    await until("the client ends with it", () => [undefined, "Z"].includes(stateOf(pid)));
  });
});

terminalTest(
  "a client in the background leaves the terminal to whom it belongs",
  async (t, world) => {
    await firstAndJoined(t, world, "it writes, and is not stopped", async (profile) => {
      await using term = await shellAt(world);
      const before = term.settings;
      await term.ask(
        `$appjail run -p ${profile} sh -c 'echo rea""dy; sleep 0.2; echo writ""ten; exit 4' &`,
        /ready\r+\n/,
      );
      assert.deepEqual(term.settings, before);
      // What is typed is the shell's.
      await term.ask("echo he''re", "here\r\n");
      await term.ask("wait %1; echo =$?", /=4\r\n/);
      assert.match(term.text, /written\r+\n/);
      assert.deepEqual(term.settings, before);
    });
    await firstAndJoined(t, world, "one that reads comes to the front", async (profile) => {
      await using term = await shellAt(world);
      const before = term.settings;
      await term.ask(
        `$appjail run -p ${profile} sh -c 'echo rea""dy; read x; echo "got $x"' &`,
        /ready\r+\n/,
      );
      await term.ask("echo he''re", "here\r\n");
      assert.deepEqual(term.settings, before);
      await term.ask("fg", "\r\n");
      await until("the client has the terminal", () => term.isRaw);
      await term.ask("line", "got line\r\n");
      await term.expect("out$ ");
      assert.deepEqual(term.settings, before);
    });
    await firstAndJoined(
      t,
      world,
      "one that was stopped goes on in the background",
      async (profile) => {
        await using term = await shellAt(world);
        const before = term.settings;
        await term.ask(
          `$appjail run -p ${profile} sh -c 'echo rea""dy; while ! [ -e ~/go ]; do sleep 0.05; done; rm ~/go; echo writ""ten'`,
          /ready\r+\n/,
        );
        await until("the client has the terminal", () => term.isRaw);
        await term.send(key.suspend);
        await term.expect(/Stopped .*\r\n.*out\$ /);
        await term.ask("bg", "&\r\n");
        await term.ask("echo he''re", "here\r\n");
        assert.deepEqual(term.settings, before);
        await world.shell(profile, "touch ~/go");
        await term.expect(/written\r+\n/);
        await term.ask("wait; echo =$?", "=0\r\n");
        assert.deepEqual(term.settings, before);
      },
    );
  },
);
