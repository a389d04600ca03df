/**
 * Programs against their jailer, which has their uid. A jail may end by it; nothing else may happen,
 * and whoever asks next has an answer.
 */
import assert from "node:assert/strict";
import { client, processesOf } from "./patient.ts";
import { perl, sorted } from "./probe.ts";
import { execute, firstUid, themeTest, until } from "./world.ts";

/** Its state, one letter of proc(5). */
async function stateOf(pid: number): Promise<string> {
  return /^State:\t(\w)/m.exec(await Deno.readTextFile(`/proc/${pid}/status`))?.[1] ?? "";
}

themeTest("a program cannot end, stop or read its jailer", {}, async (t, world) => {
  const { jailer_pid } = await world.keep("work");

  await t.step("with any signal but TERM, to the process or to one of its threads", async () => {
    const said = await world.run(
      "work",
      perl(`for my $signal (grep { $_ != 15 } 1 .. 64) {
          kill $signal, 1;
          for my $thread (map { m{(\\d+)$} } glob "/proc/1/task/*") {
            syscall $call{tgkill}, 1, $thread + 0, $signal;
          }
          my $pidfd = syscall $call{pidfd_open}, 1, 0;
          syscall $call{pidfd_send_signal}, $pidfd, $signal, 0, 0;
        }
        print "through";`),
    );
    assert.equal(said, "through");
    assert.match(await stateOf(jailer_pid), /^[SR]$/);
  });

  await t.step("by tracing, through its memory, descriptors or namespaces", async () => {
    const attack = perl(`use Fcntl;
      for my $pid (map { m{(\\d+)$} } glob "/proc/1/task/*") {
        attempt "ptrace", 16, $pid + 0, 0, 0; # PTRACE_ATTACH
        attempt "ptrace", 0x4206, $pid + 0, 0, 0; # PTRACE_SEIZE
        said "mem", sysopen my $f, "/proc/1/task/$pid/mem", O_RDWR;
        said "$_", open my $g, "<", "/proc/1/task/$pid/$_" for qw(environ maps auxv syscall stack);
        said "fd", opendir my $h, "/proc/1/task/$pid/fd";
      }
      my ($here, $bytes) = (pack("QQ", 0, 0), "\\0" x 16);
      my $local = pack "pQ", $bytes, 16;
      my $remote = pack "QQ", 0x10000, 16;
      attempt "process_vm_readv", 1, $local, 1, $remote, 1, 0;
      attempt "process_vm_writev", 1, $local, 1, $remote, 1, 0;
      my $pidfd = syscall $call{pidfd_open}, 1, 0;
      for my $fd (0 .. 20) { attempt "pidfd_getfd", $pidfd, $fd, 0 }
      for my $kind (0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000) { # CLONE_NEW…
        attempt "setns", $pidfd, $kind }
      said "ns", open my $n, "<", "/proc/1/ns/$_" for qw(mnt pid user net);
      said "oom", sysopen my $o, "/proc/1/oom_score_adj", O_WRONLY;
      said "comm", sysopen my $c, "/proc/1/comm", O_WRONLY;`.replaceAll("\0", "\\0"));
    const said = await world.run("work", attack);
    assert(said.split("\n").length > 40, said);
    assert.deepEqual(said.split("\n").filter((line) => !/: (EPERM|EACCES|EINVAL)$/.test(line)), []);
    // As the root of a user namespace of its own it has no more to say.
    const inner = await world.client(["run", "-p", "work", "--", "unshare", "-r", ...attack]);
    assert.deepEqual(inner.stdout.split("\n").filter((line) => / done$/.test(line)), []);
  });

  await t.step("it goes on as the same", async () => {
    assert.equal(await world.shell("work", "echo here"), "here");
    assert.equal((await world.status())[0].jailer_pid, jailer_pid);
  });
});

/** Whether a process listens on any port, by its sockets and those that its network has. */
async function listensOnTcp(pid: number): Promise<boolean> {
  const { stdout } = await execute(["sh", "-c", `readlink /proc/${pid}/fd/*`]);
  const sockets = new Set([...stdout.matchAll(/^socket:\[(\d+)\]$/gm)].map(([, inode]) => inode));
  const tables = ["tcp", "tcp6"].map((name) => Deno.readTextFileSync(`/proc/${pid}/net/${name}`));
  return tables.join("").split("\n").map((line) => line.trim().split(/\s+/))
    // proc_net_tcp: the fourth field is the state, 0A for one that listens; the tenth the inode.
    .some((fields) => fields[3] === "0A" && sockets.has(fields[9] ?? ""));
}

themeTest("no process of appjail can be made to open a debugger", {}, async (t, world) => {
  const { jailer_pid } = await world.keep("work");
  const start = (args: readonly string[]): Deno.ChildProcess => {
    const [command = "", ...rest] = world.clientWords(args);
    const env = { APPJAIL_SOCKET: world.socket };
    return new Deno.Command(command, {
      args: rest,
      env,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  };
  const clients = [
    // The signal is passed on to the program, which would end of it.
    start(["run", "-p", "work", "--", "sh", "-c", "trap '' USR1; exec sleep 1000"]),
    start(["logs", "--follow", "work"]),
  ];
  const processes = {
    helper: world.helperPid,
    dispatcher: await world.dispatcherPid(),
    jailer: jailer_pid,
    "a client that runs a program": clients[0]?.pid ?? 0,
    "a client that waits": clients[1]?.pid ?? 0,
  };
  for (const [name, pid] of Object.entries(processes)) {
    await t.step(name, async () => {
      // Any Deno opens one for SIGUSR1, from half a second after its start.
      await until("it is old enough", async () => {
        const { stdout } = await execute(["ps", "-o", "etimes=", "-p", String(pid)]);
        return Number(stdout) >= 2;
      });
      const status = await Deno.readTextFile(`/proc/${pid}/status`);
      const mask = (name: string): bigint =>
        BigInt(`0x${new RegExp(`^${name}:\t(\\w+)$`, "m").exec(status)?.[1]}`) >> 9n & 1n;
      assert.deepEqual([mask("SigIgn"), mask("SigCgt")], [1n, 0n]);
      Deno.kill(pid, "SIGUSR1");
      assert.equal(await world.shell("work", "echo here"), "here");
      assert.equal(await listensOnTcp(pid), false);
    });
  }
  await world.client(["stop", "--force", "work"]);
  clients[1]?.kill();
  await Promise.all(clients.map((client) => client.status));
});

themeTest("a jail whose first process is told to end does so in order", {}, async (t, world) => {
  await t.step("programs have their time, and no other is started", async () => {
    const { jailer_pid } = await world.keep("work");
    const file = `${world.data}/${firstUid}/last`;
    const running = client(world, [
      ...["run", "-p", "work", "--", "sh", "-c"],
      "trap 'echo asked > ~/last; until test -e ~/go; do sleep 0.1; done; exit 9' TERM; " +
      "echo ready > ~/last; while :; do sleep 0.1; done",
    ]);
    const says = (what: string) => async () =>
      await Deno.readTextFile(file).catch(() => "") === what;
    await until("it runs", says("ready\n"));
    Deno.kill(jailer_pid, "SIGTERM");
    await until("it was asked", says("asked\n"));
    const late = await client(world, ["run", "-p", "work", "--", "true"]);
    assert.deepEqual(
      [late.code, late.stderr],
      [111, 'appjail: Cannot run "true" in jail "work": it ends\n'],
    );
    await Deno.writeTextFile(`${world.data}/${firstUid}/go`, "");
    assert.equal((await running).code, 9);
    await until("the jail has ended", async () => (await world.status()).length === 0);
    assert.equal(await processesOf(firstUid), 0);
  });
  await t.step("by a program of its own, too, and the next run finds another", async () => {
    await client(world, ["run", "-p", "work", "--", "kill", "-TERM", "1"]);
    await until("the jail has ended", async () => (await world.status()).length === 0);
    assert.equal(await world.shell("work", "echo here"), "here");
  });
});

themeTest(
  "whatever a program does to its jailer, the next run has an answer",
  {},
  async (t, world) => {
    /** Asks, and again after a stop: something is said each time, and in the end it works. */
    const recovers = async (profile = "work"): Promise<void> => {
      const { code, stderr } = await client(world, ["run", "-p", profile, "--", "true"]);
      // The jail may be broken for its own programs, too; that is theirs to bear.
      if (code >= 100 && code < 128) assert.match(stderr, /^appjail: .+\n$/);
      await client(world, ["status"]);
      assert.equal((await client(world, ["stop", "--force", profile])).code, 0, profile);
      assert.equal(await world.shell(profile, "echo here"), "here");
    };
    /** bits/resource.h: prlimit(2) asks for no more than the same uid. */
    const limits = [
      ["cpu", 0, 0],
      ["fsize", 1, 0],
      ["data", 2, 0],
      ["stack", 3, 4096],
      ["rss", 5, 0],
      ["nproc", 6, 0],
      ["nofile", 7, 3],
      ["nofile-few", 7, 20],
      ["as", 9, 4096],
      ["sigpending", 11, 0],
    ] as const;
    await t.step("a limit of it lowered to next to nothing, whichever it is", async () => {
      // Each in a jail of its own: what does not answer takes its time to be given up.
      await Promise.all(limits.map(async ([profile, number, value]) => {
        await client(world, [
          ...["run", "-p", profile, "--"],
          ...perl(
            `my $limit = pack "QQ", ${value}, ${value}; attempt "prlimit64", 1, ${number}, $limit, 0`,
          ),
        ]);
        await recovers(profile);
      }));
      await world.client(["stop", "--all", "--force"]);
    });
    await t.step("its priority taken away, and the processors kept busy", async () => {
      await world.client([
        ...["run", "-p", "work", "--"],
        ...perl(`my $priority = pack "i", 0;
        attempt "sched_setscheduler", $_, 5, $priority for map { m{(\\d+)$} + 0 } glob "/proc/1/task/*"; # SCHED_IDLE
        for (1 .. 4) { fork and next; alarm 5; 1 while 1 }`),
      ]);
      await recovers();
    });
    await t.step("no process number left", async () => {
      // Where the namespace has a limit of its own, Linux 6.14 on; elsewhere this is refused.
      await world.client([
        ...["run", "-p", "work", "--", "sh", "-c"],
        "echo 301 > /proc/sys/kernel/pid_max; exec > /dev/null 2>&1; for i in $(seq 320); do sleep 1000 & done",
      ]);
      await recovers();
    });
    await t.step("a flood of output to the log", async () => {
      for (let count = 0; count < 3; count++) {
        await world.client(["run", "-p", "work", "--detach", "yes"]);
      }
      assert.equal(await world.shell("work", "echo here"), "here");
      await recovers();
    });
    await t.step("a flood of calls of the session bus that say nothing", async () => {
      await world.client([
        ...["run", "-p", "work", "--"],
        ...perl(`use Socket; my @open;
        for (1 .. 900) { socket my $s, AF_UNIX, SOCK_STREAM | 04000, 0;
          connect $s, sockaddr_un("$ENV{XDG_RUNTIME_DIR}/bus"); push @open, $s }`),
      ]);
      assert.equal(await world.shell("work", "echo here"), "here");
      await recovers();
    });
  },
);

themeTest("stop ends everything in bounded time", {}, async (t, world) => {
  /** Stops the jail, and nothing of its uid is left. */
  const ends = async (...flags: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await client(world, ["stop", ...flags, "work"]);
    assert.equal(code, 0, stderr);
    assert.equal(await processesOf(firstUid), 0);
    assert.deepEqual(await world.status(), []);
    return stdout;
  };

  await t.step("programs that end when they are asked", async () => {
    await world.keep("work");
    await world.keep("work");
    assert.equal(await ends(), "stopped work\n");
  });
  await t.step("one that says how it went, and its client has the status", async () => {
    const running = client(world, [
      ...["run", "-p", "work", "--", "sh", "-c"],
      "trap 'echo bye; exit 9' TERM; echo ready > ~/ready; while :; do sleep 0.1; done",
    ]);
    const ready = `${world.data}/${firstUid}/ready`;
    await until("it runs", () => Deno.stat(ready).catch(() => undefined));
    assert.equal(await ends("--timeout", "60"), "stopped work\n");
    const { code, stdout } = await running;
    assert.deepEqual([code, stdout], [9, "bye\n"]);
  });
  await t.step("one that ignores all it can ignore, and one that is stopped", async () => {
    const stubborn = client(world, [
      ...["run", "-p", "work", "--"],
      ...perl(`$SIG{$_} = "IGNORE" for qw(TERM INT HUP QUIT USR1 USR2 PIPE ALRM);
        open my $f, ">", "$ENV{HOME}/stubborn"; close $f; sleep 1 while 1`),
    ]);
    await world.client(["run", "-p", "work", "--detach", "--", "sh", "-c", "kill -STOP $$"]);
    const there = `${world.data}/${firstUid}/stubborn`;
    await until("it runs", () => Deno.stat(there).catch(() => undefined));
    assert.equal(await ends("--timeout", "1"), "stopped work; 1 program had to be killed\n");
    assert.equal((await stubborn).code, 137);
  });
  await t.step("a flood of zombies, and daemons that stay", async () => {
    // The parent leaves; what it left behind is adopted by the jailer, and ignores TERM.
    const { code } = await client(world, [
      ...["run", "-p", "work", "--"],
      ...perl(`use POSIX ();
        for (1 .. 3) {
          fork and next;
          POSIX::setsid(); fork and exit;
          $SIG{TERM} = "IGNORE"; close $_ for *STDIN, *STDOUT, *STDERR;
          fork or exit for 1 .. 60;
          sleep 1 while 1;
        }
        1 while wait > 0;`),
    ]);
    assert.equal(code, 0);
    await until("the zombies are there", async () => {
      const { stdout } = await execute(["ps", "-U", String(firstUid), "-o", "stat="]);
      return sorted(stdout).filter((state) => state.startsWith("Z")).length === 180;
    });
    const [jail] = await world.status();
    assert.deepEqual([jail.state, jail.programs, jail.processes], ["running", [], 183]);
    assert.match(await ends("--timeout", "1"), /^stopped work/);
  });
  await t.step("a fork bomb", async () => {
    // The limit, setrlimit(2), is the bomb's own: this machine is to live.
    const bomb = perl(`$SIG{TERM} = "IGNORE"; my $limit = pack "QQ", 150, 150;
      attempt "prlimit64", 0, 6, $limit, 0;
      while (1) { defined fork or select undef, undef, undef, 0.2 }`);
    await world.client(["run", "-p", "work", "--detach", "--", ...bomb]);
    await until("it has gone off", async () => await processesOf(firstUid) > 120);
    const [jail] = await world.status();
    assert.equal(jail.state, "running");
    assert.equal(jail.programs.length, 1);
    assert(jail.processes > 100, String(jail.processes));
    assert.equal((await client(world, ["run", "-p", "work", "--", "sh", "-c", "exit 5"])).code, 5);
    assert.equal(await ends("--timeout", "1"), "stopped work; 1 program had to be killed\n");
  });
  await t.step("and the jail starts anew", async () => {
    assert.equal(await world.shell("work", "echo here; ls /tmp"), "here");
  });
});

themeTest("a jail stays for as long as anything in it does", {}, async (t, world) => {
  await t.step("a daemon keeps it when its program has ended", async () => {
    const script = "(setsid sh -c 'echo $$ > ~/pid; exec sleep 1000' >/dev/null 2>&1 &); exit 4";
    assert.equal((await world.client(["run", "-p", "work", "--", "sh", "-c", script])).code, 4);
    // One that became idle later has left in the meantime: this one would have, too.
    await world.shell("other", "true");
    await until("the other has left", async () => (await world.status()).length === 1);
    const [jail] = await world.status();
    assert.deepEqual(
      [jail.profile, jail.state, jail.programs, jail.processes],
      ["work", "running", [], 1],
    );
  });
  await t.step("and it leaves with it", async () => {
    const pid = await Deno.readTextFile(`${world.data}/${firstUid}/pid`);
    await world.shell("work", `kill ${pid}`);
    await until("the jail has left", async () => (await world.status()).length === 0);
    assert.equal(await processesOf(firstUid), 0);
  });
});
