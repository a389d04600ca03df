/**
 * The daemon under a service manager: it is handed the socket for clients, tells when it is ready and
 * when it leaves, and passes nothing of that on. The same with systemd itself: tests/package/.
 */
import assert from "node:assert/strict";
import { Fd, setCloseOnExec } from "../../ipc/fd.ts";
import { connect, listen, pair } from "../../ipc/socket.ts";
import { readText } from "../../core/kernel.ts";
import { allPids } from "../../core/process.ts";
import { Manager } from "../core/manager.ts";
import { asUser, execute, jailTest, uA, until, World, type WorldOptions } from "./world.ts";

/** Begins a program with a descriptor as its third, as sd_listen_fds(3) has it. */
const handOver = (fd: number, more: string): readonly string[] => [
  "bash",
  "-c",
  `exec 3<&${fd}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=appjail.socket; ${more}; exec "$0" "$@"`,
];

/** A world whose daemon was handed what `make` makes in its runtime folder. */
function handed(make: (runtime: string) => Fd, more = ":"): WorldOptions & Disposable {
  let held: Fd | undefined;
  return {
    before: (folder) => {
      Deno.mkdirSync(`${folder}/run`);
      Deno.chmodSync(`${folder}/run`, 0o755);
      held = make(`${folder}/run`);
      // Deno.Command leaves to a child what is not closed by exec.
      setCloseOnExec(held.number, false);
    },
    wrap: (words) => [...handOver(held?.number ?? -1, more), ...words],
    [Symbol.dispose]: () => held?.close(),
  };
}

/** One that is only for some users. */
function narrow(runtime: string): Fd {
  const listener = listen(`${runtime}/appjail.sock`);
  Deno.chmodSync(`${runtime}/appjail.sock`, 0o660);
  Deno.chownSync(`${runtime}/appjail.sock`, 0, uA);
  return listener;
}

jailTest("a socket that is handed over is served as it is, and stays", async () => {
  using options = handed(narrow);
  await using world = await World.start(options);
  assert.match(await world.run("work", ["id"], { uid: uA }), /\(work\)/);
  const refused = await world.client(["status"], { uid: 6 });
  assert.match(refused.stderr, /EACCES/);
  const { ino, mode, gid } = Deno.lstatSync(world.socket);
  assert.deepEqual([(mode ?? 0) & 0o777, gid], [0o660, uA]);

  // Who comes while there is no daemon waits, and the next one serves them.
  await world.shell("work", "echo there > /tmp/note");
  const running = world.spawn(["run", "-p", "work", "sleep", "1000"]);
  await until("it runs", async () => (await world.status())[0]?.programs.length > 0);
  assert.equal(await world.stopDaemon(), 0);
  assert.equal(Deno.lstatSync(world.socket).ino, ino);
  using waiting = connect(world.socket);
  const asked = world.client(["run", "-p", "work", "cat", "/tmp/note"]);
  await world.startDaemon();
  assert.deepEqual(await asked, { code: 0, stdout: "there\n", stderr: "" });
  waiting.close();
  running.kill("SIGTERM");
  await running.output();
});

jailTest(
  "a service manager is told when clients are heard, and when the daemon leaves",
  async () => {
    for (const name of ["path", "abstract"] as const) {
      const folder = Deno.makeTempDirSync();
      const address = name === "path" ? `${folder}/notify` : `@${folder}/notify`;
      using manager = new Manager(address);
      try {
        await using world = await World.start({ env: { NOTIFY_SOCKET: address } });
        const ready = [["READY=1", `STATUS=Serving ${world.runtime}`]];
        assert.deepEqual(
          await until("it is told", () => {
            const told = manager.told();
            return told.length > 0 && told;
          }),
          ready,
        );
        await world.run("work", ["true"]);
        await world.keep("work");
        assert.deepEqual(manager.told(), []);
        // Another dispatcher hears clients, too.
        Deno.kill(await world.dispatcherPid(), "SIGKILL");
        const again: string[][] = [];
        await until("another is there", () => {
          again.push(...manager.told().map((words) => [...words]));
          return again.length > 0;
        });
        assert.deepEqual(again, ready);
        await world.stopDaemon();
        assert.deepEqual(manager.told(), [["STOPPING=1", "STATUS=Leaving; 1 jail stays"]]);
        await world.startDaemon();
      } finally {
        Deno.removeSync(folder, { recursive: true });
      }
    }
  },
);

jailTest("nothing of a service manager's reaches what the daemon starts", async () => {
  const folder = Deno.makeTempDirSync();
  using _manager = new Manager(`${folder}/notify`);
  using options = handed(
    (runtime) => listen(`${runtime}/appjail.sock`),
    `export NOTIFY_SOCKET=${folder}/notify WATCHDOG_USEC=1 INVOCATION_ID=x; chmod 666 ` +
      `"$SCRATCH/run/appjail.sock"`,
  );
  try {
    await using world = await World.start(options);
    const { uid } = await world.keep("work");
    const ours = allPids().filter((pid) => {
      const [command = ""] = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
      const status = readText(`/proc/${pid}/status`) ?? "";
      return pid === world.helperPid || status.includes(`\nUid:\t${uid}\t`) ||
        command === `${world.runtime}/program/appjail-dispatcher`;
    });
    assert(ours.length >= 5, `${ours}`);
    for (const pid of ours) {
      const variables = readText(`/proc/${pid}/environ`) ?? "";
      assert.doesNotMatch(variables, /NOTIFY_SOCKET|LISTEN_|WATCHDOG_USEC|INVOCATION_ID/);
    }
    // The listening socket is the helper's and the dispatcher's.
    const inode = /: \w+ \w+ 00010000 \w+ \w+ (\d+) .*appjail\.sock$/m.exec(
      (readText("/proc/net/unix", 64 * 1024 * 1024) ?? "").split("\n")
        .filter((line) => line.endsWith(world.socket)).join("\n"),
    )?.[1];
    assert(inode !== undefined);
    const holders = ours.filter((pid) =>
      [...Deno.readDirSync(`/proc/${pid}/fd`)].some(({ name }) => {
        try {
          return Deno.readLinkSync(`/proc/${pid}/fd/${name}`) === `socket:[${inode}]`;
        } catch {
          return false;
        }
      })
    );
    assert.deepEqual(
      holders.sort(),
      [world.helperPid, await world.dispatcherPid()].sort(),
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

jailTest(
  "what is no socket for clients is refused, in a line that says what to write",
  async () => {
    const elsewhere = (runtime: string) => listen(`${runtime}/other.sock`);
    const [one, other] = pair();
    using _other = other;
    const gone = (runtime: string): Fd => {
      const listener = listen(`${runtime}/appjail.sock`);
      Deno.removeSync(`${runtime}/appjail.sock`);
      return listener;
    };
    for (
      const [make, more, says] of [
        [
          elsewhere,
          ":",
          /is that of .*\/other\.sock; its unit has to say: ListenStream=.*\.sock$/m,
        ],
        [() => one, ":", /does not listen for streams at a path; its unit has to say/],
        [gone, ":", /is not at .* any more; try: systemctl restart appjail\.socket/],
        [narrow, "exec 3<&-", /its descriptor 3 is no socket/],
        [narrow, "exec 3</dev/null", /its descriptor 3 is no socket/],
        [narrow, "export LISTEN_FDS=2", /it was handed 2 sockets \(LISTEN_FDS\), and takes one/],
      ] as const
    ) {
      using options = handed(make, more);
      await assert.rejects(World.start(options), (error) => {
        assert(error instanceof Error);
        const [, line = ""] = error.message.split("\n");
        assert.match(line, says, error.message);
        return true;
      });
    }
  },
);

jailTest("what was handed to another process is not taken for the daemon's own", async () => {
  using options = handed(
    (runtime) => listen(`${runtime}/other.sock`),
    "export LISTEN_PID=$PPID",
  );
  await using world = await World.start(options);
  assert.equal((await execute(asUser(uA, ["test", "-S", world.socket]))).code, 0);
  assert.equal(await world.run("work", ["echo", "made"], { uid: uA }), "made");
  await world.stopDaemon();
  assert.throws(() => Deno.lstatSync(world.socket), Deno.errors.NotFound);
  await world.startDaemon();
});
