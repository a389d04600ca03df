/**
 * What each of the daemon's processes has, when whoever started the daemon had far more and meant
 * ill; and that a role without what it should have, or with more, does nothing at all.
 */
import assert from "node:assert/strict";
import { reexecuted, roleEnvironment } from "../../core/launch.ts";
import {
  execute,
  firstUid,
  jailTest,
  type Outcome,
  program,
  publicFolder,
  uA,
  until,
  World,
} from "./world.ts";

interface Roles {
  readonly helper: number;
  readonly dispatcher: number;
  readonly jailer: number;
}

async function rolesOf(world: World): Promise<Roles> {
  const state = JSON.parse(Deno.readTextFileSync(`${world.runtime}/jails/${firstUid}/state`));
  return {
    helper: world.helperPid,
    dispatcher: await world.dispatcherPid(),
    jailer: state.pid,
  };
}

/** Lines of /proc/PID/status, by their names. */
function statusOf(pid: number): Readonly<Record<string, string>> {
  const lines = Deno.readTextFileSync(`/proc/${pid}/status`).trim().split("\n");
  return Object.fromEntries(lines.map((line) => {
    const [name = "", value = ""] = line.split(/:\s*/);
    return [name, value.trim()];
  }));
}

/** Where each descriptor of a process leads. */
function descriptorsOf(pid: number): Readonly<Record<string, string>> {
  return Object.fromEntries(
    [...Deno.readDirSync(`/proc/${pid}/fd`)].flatMap(({ name }) => {
      try {
        return [[name, Deno.readLinkSync(`/proc/${pid}/fd/${name}`)]];
      } catch (error) {
        // It was closed meanwhile.
        if (error instanceof Deno.errors.NotFound) return [];
        throw error;
      }
    }),
  );
}

/** What a process was started with, by the kernel's own account. */
function environmentOf(pid: number): Readonly<Record<string, string>> {
  const lines = Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0").filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf("=");
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}

function argvOf(pid: number): readonly string[] {
  return Deno.readTextFileSync(`/proc/${pid}/cmdline`).slice(0, -1).split("\0");
}

jailTest("each process has the descriptors and the power that it needs, and no more", async () => {
  // A shell with open files, in a folder of root's, with a umask and limits of its own.
  const careless = 'exec 3</root 7</etc/shadow 8</root 9>&2; umask 0; cd /root; exec "$@"';
  await using world = await World.start({
    bus: true,
    wrap: (words) => ["bash", "-c", careless, "bash", ...words],
  });
  await world.client(["run", "--detach", "-p", "mine", "--", "sleep", "1000"], { uid: uA });
  const roles = await rolesOf(world);
  const log = descriptorsOf(roles.helper)[2] ?? "";
  const anonymous = ["eventpoll", "eventfd", "pidfd"].map((kind) => `anon_inode:[${kind}]`);
  const inWorld = (...paths: readonly string[]) => paths.map((path) => `${world.folder}/${path}`);
  const allowed: Readonly<Record<keyof Roles, readonly string[]>> = {
    helper: inWorld(
      ...[
        "run",
        "run/lock",
        "run/jails",
        "run/ctl",
        "run/vault",
        "run/convert",
        "run/buses",
        "state",
        "state/lock",
        "state/profiles",
        "profiles",
        "data",
        "data/.lock",
      ],
    ),
    dispatcher: inWorld("state/profiles", "profiles"),
    jailer: inWorld(`run/jails/${firstUid}/lock`),
  };
  // Inodes of every unix socket there is: what is none of these reaches a network.
  const sockets = Deno.readTextFileSync("/proc/net/unix").split("\n").map((line) =>
    `socket:[${line.trim().split(/\s+/)[6]}]`
  );
  for (const [role, pid] of Object.entries(roles) as [keyof Roles, number][]) {
    const descriptors = descriptorsOf(pid);
    for (const [number, target] of Object.entries(descriptors)) {
      const known = target === "/dev/null" || anonymous.includes(target) ||
        sockets.includes(target) || allowed[role].includes(target) ||
        // The log, of a helper or its dispatcher; the jail's own pipes, to the helper and programs.
        (role === "jailer" ? target.startsWith("pipe:") && target !== log : target === log) ||
        (role === "helper" && target.startsWith("pipe:"));
      assert(known, `descriptor ${number} of the ${role} is ${target}`);
    }
    assert.equal(descriptors[0], "/dev/null");
    const { Umask, Groups } = statusOf(pid);
    assert.equal(Umask, "0022", role);
    assert.equal(Groups, "", role);
    assert.equal(Deno.readLinkSync(`/proc/${pid}/cwd`), role === "jailer" ? "/home/mine" : "/");
  }
  assert.match(descriptorsOf(roles.dispatcher)[3] ?? "", /^socket:/);
  assert.match(descriptorsOf(roles.dispatcher)[4] ?? "", /^socket:/);

  const nobody = "65534\t65534\t65534\t65534";
  const mine = Array(4).fill(firstUid).join("\t");
  for (const [pid, ids] of [[roles.dispatcher, nobody], [roles.jailer, mine]] as const) {
    const status = statusOf(pid);
    assert.equal(status["Uid"], ids);
    assert.equal(status["Gid"], ids);
    assert.equal(status["NoNewPrivs"], "1");
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      assert.equal(Number.parseInt(status[set] ?? "", 16), 0, set);
    }
  }
});

jailTest("a role closes what it was not handed, whoever has forgotten to", async () => {
  await using world = await World.start();
  const options = argvOf(world.helperPid).at(-1) ?? "";
  assert.equal(await world.stopDaemon(), 0);
  const careless = 'exec 3</root 7</etc/shadow 8</root; exec "$@"';
  const [command = "", ...args] = ["bash", "-c", careless, "bash", ...program(), "helper", options];
  const helper = new Deno.Command(command, { args, stdin: "null", stderr: "null" }).spawn();
  try {
    await until("it listens", () => Deno.lstat(world.socket).then(() => true, () => false));
    const targets = Object.values(descriptorsOf(helper.pid));
    assert(!targets.includes("/etc/shadow") && !targets.includes("/root"), targets.join(" "));
  } finally {
    helper.kill("SIGTERM");
    await helper.status;
  }
});

/** Programs that tell when they are run, under the names of all that the daemon might start. */
function trojansIn(folder: string): { readonly path: string; readonly marker: string } {
  const [path, marker] = [`${folder}/trojans`, `${folder}/marker`];
  Deno.mkdirSync(path);
  Deno.chmodSync(path, 0o755);
  Deno.writeTextFileSync(marker, "");
  Deno.chmodSync(marker, 0o666);
  for (
    const name of [
      ...[
        "bwrap",
        "setpriv",
        "dbus-daemon",
        "sh",
        "dash",
        "bash",
        "deno",
        "env",
        "readlink",
        "cat",
      ],
      ...["appjail", "appjail-jailer", "appjail-helper", "appjail-dispatcher", "kill", "umount"],
      ...["mount", "id", "true", "printf", "nodejs", "node", "ls"],
    ]
  ) {
    Deno.writeTextFileSync(`${path}/${name}`, `#!/bin/sh\necho "$0 $*" >> ${marker}\nexit 1\n`);
    Deno.chmodSync(`${path}/${name}`, 0o755);
  }
  Deno.writeTextFileSync(`${path}/evil.js`, `Deno.writeTextFileSync("${marker}", "evil");`);
  Deno.writeTextFileSync(`${path}/evil.sh`, `echo evil >> ${marker}\n`);
  return { path, marker };
}

function hostile(folder: string): Readonly<Record<string, string>> {
  const path = `${folder}/trojans`;
  return {
    PATH: `${path}:/usr/bin:/bin`,
    IFS: "/",
    ENV: `${path}/evil.sh`,
    BASH_ENV: `${path}/evil.sh`,
    CDPATH: path,
    LD_LIBRARY_PATH: path,
    GCONV_PATH: path,
    LOCPATH: path,
    TMPDIR: path,
    HOME: path,
    NODE_OPTIONS: `--require=${path}/evil.js`,
    NODE_V8_COVERAGE: `${folder}/coverage`,
    NODE_EXTRA_CA_CERTS: `${path}/evil.js`,
    DENO_DIR: `${folder}/deno`,
    DENO_COVERAGE_DIR: `${folder}/coverage`,
    DENO_V8_FLAGS: "--help",
    DENO_CERT: `${path}/evil.js`,
    DENO_AUDIT_PERMISSIONS: `${folder}/audit`,
    DENO_LOG: "trace",
    RUST_LOG: "trace",
    RUST_BACKTRACE: "full",
    APPJAIL_DEBUG: "1",
    DBUS_SESSION_BUS_ADDRESS: `unix:path=${path}/bus`,
    DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${path}/bus`,
    XDG_RUNTIME_DIR: path,
    LISTEN_FDS: "2",
    LISTEN_PID: "1",
    NOTIFY_SOCKET: `${path}/notify`,
  };
}

jailTest("no variable of who starts the daemon, or a client, leads any of them", async () => {
  const folder = await Deno.makeTempDir({ dir: publicFolder, prefix: "appjail-test-" });
  await Deno.chmod(folder, 0o755);
  try {
    const { marker } = trojansIn(folder);
    const env = hostile(folder);
    await using world = await World.start({ env });
    const as = (...words: readonly string[]): Promise<Outcome> =>
      execute(
        [
          ...["/usr/bin/setpriv", `--reuid=${uA}`, `--regid=${uA}`, "--clear-groups", "--"],
          ...program(),
          ...words,
        ],
        { env: { ...env, APPJAIL_SOCKET: world.socket } },
      );
    const script = "id -u; command -v sh; command -v bwrap; echo $PATH; env | grep -c evil";
    const ran = await as("run", "-p", "mine", "--", "sh", "-c", script);
    assert.equal(
      ran.stdout,
      `${firstUid}\n/usr/bin/sh\n/usr/bin/bwrap\n` +
        "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games\n0\n",
      ran.stderr,
    );
    assert.equal(ran.stderr, "");
    // A program that calls the jail's session bus has it started.
    const bus = "gdbus call --session --dest=org.freedesktop.DBus --object-path=/ " +
      "--method=org.freedesktop.DBus.GetId; exec sleep 1000";
    const detached = await as("run", "--detach", "-p", "mine", "--", "sh", "-c", bus);
    assert.equal(detached.code, 0, detached.stderr);
    await until(
      "the session bus answers",
      async () => (await as("logs", "mine")).stdout.includes("('"),
    );
    for (const [role, pid] of Object.entries(await rolesOf(world))) {
      const { PWD: _, ...rest } = environmentOf(pid);
      assert.deepEqual(rest, roleEnvironment, role);
      // Where a service manager wants to be told is a word of its own: a datagram goes there, no more.
      const words = argvOf(pid).join(" ").replace(/"notify":"[^"]*"/, "");
      assert.doesNotMatch(words, /trojans/, role);
    }
    const stopped = await as("stop", "--force", "mine");
    assert.equal(stopped.code, 0, stopped.stderr);
    assert.equal(Deno.readTextFileSync(marker), "");
    const left = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assert.deepEqual(left, ["marker", "trojans"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** A role that is to end by itself: with one line, and a status that says whose fault it was. */
function oneLine({ code, stdout, stderr }: Outcome, what: string): void {
  assert([100, 111].includes(code), `${what}: ${code} ${stderr}`);
  assert.equal(stdout, "", what);
  assert.match(stderr, /^appjail-[a-z]+: [^\n]+\n$/, what);
  assert.doesNotMatch(stderr, /Uncaught|\bat [\w.]+ \(|\.js:|\.ts:/, what);
}

jailTest("a role that is called by hand says so in a line and does nothing", async () => {
  await using world = await World.start();
  await world.client(["run", "--detach", "-p", "mine", "--", "sleep", "1000"], { uid: uA });
  const roles = await rolesOf(world);
  const options = Object.fromEntries(
    Object.entries(roles).map(([role, pid]) => [role, argvOf(pid).at(-1) ?? ""]),
  );
  const before = [...Deno.readDirSync(world.runtime)].length;
  for (const role of reexecuted) {
    for (const uid of [0, uA]) {
      const as = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
      for (const words of [[], ["{"], ["{}"], [options[role] ?? "{}"]]) {
        if (uid === 0 && words.length > 0 && words[0] !== options[role]) continue;
        // As root the helper's own options are what the daemon itself would give it.
        if (role === "helper" && uid === 0 && words[0] === options["helper"]) continue;
        const outcome = await execute([...as, ...program(), role, ...words]);
        oneLine(outcome, `${role} ${words} as ${uid}`);
      }
    }
  }
  // argv[0] names a role before any word does.
  const link = Deno.env.get("APPJAIL_EXE") === undefined ? [] : [`${program()[0]}-jailer`];
  for (const path of link) oneLine(await execute([path]), path);
  const staged = argvOf(roles.dispatcher);
  const words = staged.slice(1, staged.indexOf("dispatcher"));
  const named = (name: string, ...args: readonly string[]): Promise<Outcome> =>
    execute([
      ...["bash", "-c", 'exec -a "$0" "$@"', name, `${world.runtime}/program/executable`],
      ...[...words, ...args],
    ], { env: { APPJAIL_SOCKET: world.socket } });
  for (const name of ["appjail-jailer", "/x/appjail-helper", "../appjail-dispatcher"]) {
    oneLine(await named(name, "profiles"), name);
  }
  for (const name of ["", "-", "-sh", "appjail-jailer ", "\n", "--version"]) {
    const { code, stdout, stderr } = await named(name, "profiles", "--json");
    assert.equal(code, 0, `${JSON.stringify(name)}: ${stderr}`);
    assert.equal(stdout.trim(), "[]");
  }
  // With no argv at all, as in CVE-2021-4034, it is nobody but a client that says nothing.
  const none = await execute(["perl", "-e", "my $p = shift; exec { $p } ()", ...program()]);
  assert.equal(none.code, 100, none.stderr);
  assert.match(none.stderr, /usage: appjail/);
  assert.equal([...Deno.readDirSync(world.runtime)].length, before);
  assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
});

jailTest("a role that could have power again does not go on", async () => {
  await using world = await World.start();
  await world.client(["run", "--detach", "-p", "mine", "--", "sleep", "1000"], { uid: uA });
  const roles = await rolesOf(world);
  // Descriptors as they should be: a socket whose other end is gone, one that listens, a file; folders.
  const given = (second: "socket" | "file") =>
    `use POSIX; use Socket; $^F = 99;
     socketpair(A, B, AF_UNIX, SOCK_STREAM, 0) or die;
     ${
      second === "file" ? "open(C, '<', '/etc/passwd')" : "socket(C, AF_UNIX, SOCK_STREAM, 0)"
    } or die;
     POSIX::dup2(fileno(C), 4); POSIX::close(fileno(C)) if fileno(C) > 4;
     open(D, '<', '/usr') or die; POSIX::dup2(fileno(D), 5); POSIX::dup2(5, 6); exec @ARGV or die;`;
  const nobody = ["--reuid=65534", "--regid=65534"];
  const clean = [...nobody, "--clear-groups", "--no-new-privs"];
  const drops: readonly (readonly [drop: readonly string[], says: RegExp])[] = [
    [["--no-new-privs"], /does not go on: it is root/],
    [["--euid=65534", "--egid=65534", "--clear-groups", "--no-new-privs"], /it is root/],
    [[...clean, "--inh-caps=+setuid", "--ambient-caps=+setuid"], /it can become root/],
    [[...clean, "--inh-caps=+setgid", "--ambient-caps=+setgid"], /it can join root's group/],
    [[...nobody, "--groups=4", "--no-new-privs"], /it is in supplementary groups/],
    [[...nobody, "--clear-groups"], /a set-user-id program could make it root/],
  ];
  for (const role of ["dispatcher", "jailer"] as const) {
    const argv = argvOf(roles[role]).map((word) =>
      word.replace(/^\/run\/appjail\//, `${world.runtime}/program/`)
    );
    const start = (drop: readonly string[]): Promise<Outcome> =>
      execute([
        ...["timeout", "20", "perl", "-e", given(role === "jailer" ? "file" : "socket")],
        ...["setpriv", ...drop, "--", ...argv],
      ]);
    for (const [drop, says] of drops) {
      const outcome = await start(drop);
      oneLine(outcome, `${role} ${drop}`);
      assert.equal(outcome.code, 111);
      assert.match(outcome.stderr, says, `${role} ${drop}`);
    }
    // With nothing to give back it goes on, as far as one gets whom nobody speaks to.
    const { stderr } = await start(clean);
    assert.doesNotMatch(stderr, /does not go on/, role);
  }
});
