/**
 * What one person can do to another's jails, by either door: nothing, and see nothing of them. And
 * what nobody can do by any name or word.
 */
import assert from "node:assert/strict";
import { type DispatcherToClient, protocolVersion } from "../../core/protocol.ts";
import { noSession } from "../../core/session.ts";
import { within } from "../../core/deadline.ts";
import { connectAs } from "./stand-in.ts";
import {
  appProcesses,
  asUser,
  execute,
  firstUid,
  jailTest,
  type Outcome,
  uA,
  uB,
  World,
} from "./world.ts";

/** Everything that the daemon answers to one request of a user. */
async function ask(
  world: World,
  uid: number,
  ...requests: readonly unknown[]
): Promise<readonly DispatcherToClient[]> {
  using channel = connectAs(uid, world.socket);
  channel.send({ type: "hello", role: "client", protocol: protocolVersion, version: "0" });
  for (const request of requests) channel.send(request);
  const answers: DispatcherToClient[] = [];
  for (;;) {
    const next = await within(channel.receive(), 20_000, () => new Error("no answer"));
    if (next === undefined) return answers;
    if (next.message.type !== "hello") answers.push(next.message);
  }
}

/** A call on the bus as a user, of our own interface unless another is named. */
function call(
  world: World,
  uid: number,
  method: string,
  ...args: readonly string[]
): Promise<Outcome> {
  return execute(asUser(uid, [
    ...["gdbus", "call", "--address", world.busAddress, "--dest=org.appjail.AppJail"],
    ...["--object-path=/org/appjail/AppJail", "--timeout=20"],
    `--method=${method.includes(".") ? method : `org.appjail.AppJail1.${method}`}`,
    "--",
    ...args,
  ]));
}

jailTest("one person's jails are nothing to another, by either door", async () => {
  await using world = await World.start({ bus: true });
  const detached = await world.client(
    ["run", "--detach", "-p", "mail", "--", "sh", "-c", "echo secret line; exec sleep 1000"],
    { uid: uA },
  );
  assert.equal(detached.stdout, "mail.1\n", detached.stderr);
  const [mine] = await world.status(uA);
  const life = `${mine.jailer_pid}`;
  const state = () => {
    const text = Deno.readTextFileSync(`${world.state}/uids.json`);
    return [
      text,
      appProcesses(),
      Deno.readTextFileSync(`${world.runtime}/jails/${firstUid}/state`),
    ];
  };
  const before = state();
  const unknown = 'You have no profile "mail"';

  for (
    const words of [
      ["status", "mail"],
      ["stop", "mail"],
      ["stop", "--force", "mail"],
      ["logs", "mail"],
      ["logs", "--follow", "mail"],
      ["attach", "mail.1"],
      ["kill", "mail.1"],
      ["kill", "--signal", "KILL", "mail.1"],
      ["wait", "mail.1"],
      ["ps", "mail"],
    ]
  ) {
    const { code, stdout, stderr } = await world.client(words, { uid: uB });
    assert.equal(code, 111, words.join(" "));
    assert.equal(stdout, "");
    assert.equal(stderr, `appjail: ${unknown}\n`);
  }
  const all = await world.client(["status", "--all"], { uid: uB });
  assert.equal(all.code, 111);
  assert.match(all.stderr, /only root may see them/);
  assert.deepEqual(await world.status(uB), []);
  for (const words of [["stop", "--all"], ["stop", "--all", "--force"]]) {
    assert.equal((await world.client(words, { uid: uB })).stdout, "No jail of yours is running.\n");
  }
  const profiles = await world.client(["profiles", "--json"], { uid: uB });
  assert.deepEqual(JSON.parse(profiles.stdout), []);

  // Beyond what the command line says: another's program by its name, and by that of its jail.
  const failed = { type: "failed", code: "unknown-profile", message: unknown };
  const wait = { type: "wait", program: "mail.1" };
  for (const jail of [life, `${life}-1`, "", null]) {
    assert.deepEqual(await ask(world, uB, { ...wait, jail }), [failed]);
  }
  for (
    const request of [
      { type: "attach", program: "mail.1" },
      { type: "kill", program: "mail.1", signal: "SIGKILL" },
      { type: "status", profile: "mail", everyone: false },
      { type: "stop", profiles: ["mail"], force: true, timeout: 0, lock: false },
      { type: "logs", profile: "mail", follow: true },
    ]
  ) assert.deepEqual(await ask(world, uB, request), [failed], request.type);
  const status = { type: "status", profile: null, everyone: true };
  assert.match(JSON.stringify(await ask(world, uB, status)), /"code":"denied"/);
  const signal = { type: "signal", signal: "SIGKILL" };
  assert.match(JSON.stringify(await ask(world, uB, signal)), /\\"signal\\" is no request/);
  // What is no message at all is not answered: the caller is let go.
  assert.deepEqual(await ask(world, uB, { ...signal, program: "mail.1" }), []);

  for (const force of ["true", "false"]) {
    const stopped = await call(world, uB, "Stop", "mail", force);
    assert.equal(stopped.code, 1);
    assert.match(stopped.stderr, /org\.appjail\.Error\.UnknownProfile: You have no profile "mail"/);
  }
  assert.equal((await call(world, uB, "List")).stdout, "(@aa{sv} [],)\n");
  const properties = "org.freedesktop.DBus.Properties.GetAll";
  assert.match(
    (await call(world, uB, properties, "org.appjail.AppJail1")).stdout,
    /^\(\{'Version': <'[^']*'>\},\)\n$/,
  );
  assert.deepEqual(state(), before);

  // By a name that is another's as well, each has a jail of its own.
  const own = await world.client(["run", "--detach", "-p", "mail", "--", "sleep", "1000"], {
    uid: uB,
  });
  assert.equal(own.code, 0, own.stderr);
  assert.equal(
    await world.shell("mail", "id -u; ls -A ~ /tmp", { uid: uB }),
    [
      firstUid + 1,
      "/home/mail:",
      "lent",
      "",
      "/tmp:",
    ].join("\n"),
  );
  const ran = await call(world, uB, "Run", "mail", "['id', '-u']", "{}");
  assert.match(ran.stdout, new RegExp(`^\\(uint32 ${firstUid + 1}, 'mail\\.\\d+'\\)\n$`));
  assert.deepEqual((await world.status(uA)).map(({ uid }) => uid), [firstUid]);
  assert.deepEqual((await world.status(uB)).map(({ uid }) => uid), [firstUid + 1]);
  assert.match((await call(world, uA, "List")).stdout, /'profile': <'mail'>, 'uid': <uint32 \d+>/);
  assert(!(await world.client(["logs", "mail"], { uid: uB })).stdout.includes("secret"));
  assert.match((await world.client(["logs", "mail"], { uid: uA })).stdout, /secret line/);

  // Root sees all, and only when it asks.
  assert.deepEqual(await world.status(), []);
  assert.equal((await world.status(undefined, true)).length, 2);
  assert.equal((await world.client(["stop", "mail"])).stderr, `appjail: ${unknown}\n`);
  assert.equal((await world.client(["stop", "mail"], { uid: uB })).code, 0);
  assert.deepEqual(state().slice(1), before.slice(1));
});

/** What is no name of a profile, and what is wrong with it. */
const wrongNames: readonly string[] = [
  ...[
    "../x",
    "a/b",
    "",
    "-rf",
    ".",
    "..",
    "x".repeat(300),
    "x".repeat(65),
    "a\nb",
    "$(id)",
    "`id`",
  ],
  ...["a b", "ä", "a\u202eb", "\x1b[2J", "--tmpfs", "root", "nobody", "a:b", "*", "%s"],
];

jailTest("no name leads anywhere, by the command line, the socket or the bus", async () => {
  await using world = await World.start({ bus: true });
  const clear = /^appjail: Cannot use [^\n]* as a profile: [^\n]+\n$/;
  // A client costs more than all that it says, so it says but a few; the socket hears all of them.
  for (const name of ["../x", "", "-rf", "a\nb", "$(id)", "x".repeat(300), "\x1b[2J"]) {
    const { code, stdout, stderr } = await world.client(["run", "-p", name, "id"], { uid: uA });
    assert.equal(code, 100, name);
    assert.equal(stdout, "");
    assert.match(stderr, clear);
  }
  const request = {
    type: "run",
    argv: ["id"],
    cwd: null,
    cwd_required: true,
    env: {},
    inherited: {},
    session: noSession,
    lend: [],
    stdio: "log",
    terminal: null,
  };
  for (const profile of wrongNames) {
    const [answer, ...more] = await ask(world, uA, { ...request, profile });
    assert(answer?.type === "failed" && answer.code === "invalid-argument", profile);
    assert.deepEqual(more, []);
  }
  for (const profile of ["a\0b", "\ud800"]) {
    const [answer] = await ask(world, uA, { ...request, profile });
    assert(answer === undefined || answer.type === "failed", JSON.stringify(answer));
  }
  for (const profile of [4000, -1, [], { toString: "x" }, true]) {
    assert.deepEqual(await ask(world, uA, { ...request, profile }), []);
  }
  for (const name of wrongNames) {
    const quoted = JSON.stringify(name);
    for (const arguments_ of [[quoted, "['id']", "{}"], [quoted, "true"]]) {
      const method = arguments_.length === 3 ? "Run" : "Stop";
      const { code, stderr } = await call(world, uA, method, ...arguments_);
      assert.equal(code, 1, `${method} ${name}`);
      assert.match(stderr, /org\.appjail\.Error\.InvalidArguments/, stderr);
    }
  }
  // By the profile that a command implies, too: neither is there.
  for (const command of ["/usr/bin/..", "/usr/bin/.", "/", "--", "-rf", "./x/.."]) {
    const { code } = await world.client(["run", "--", command], { uid: uA });
    assert([100, 126, 127].includes(code), `${command}: ${code}`);
  }
  assert.deepEqual([...Deno.readDirSync(world.data)].map(({ name }) => name), [".lock"]);
  assert.throws(() => Deno.lstatSync(`${world.state}/uids.json`), Deno.errors.NotFound);
  assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);
});

jailTest("a command is a command, whatever option of bubblewrap it is named as", async () => {
  await using world = await World.start({ bus: true });
  // CVE-2024-32462: a command that bubblewrap took for a word of its own.
  for (
    const argv of [
      ["--tmpfs", "/"],
      ["--bind", "/", "/"],
      ["--args", "5"],
      ["--unshare-all"],
      ["--"],
      ["-c"],
    ]
  ) {
    const { code, stdout, stderr } = await world.client(["run", "-p", "mine", "--", ...argv], {
      uid: uA,
    });
    assert.equal(code, 127, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /^appjail: Cannot run "[^"]*"[^\n]*not[^\n]*\n$/);
    const words = JSON.stringify(argv).replaceAll('"', "'");
    const called = await call(world, uA, "Run", "mine", words, "{}");
    assert.match(called.stderr, /org\.appjail\.Error\.CommandNotFound/);
  }
  // One that there is runs, with its words as they are.
  await world.shell("mine", `printf '#!/bin/sh\\necho ran "$@"' > --tmpfs; chmod +x -- --tmpfs`, {
    uid: uA,
  });
  const words = ["run", "-p", "mine", "--env", "PATH=/home/mine", "--", "--tmpfs", "/", "--", "-p"];
  const { stdout, stderr } = await world.client(words, { uid: uA });
  assert.equal(stdout, "ran / -- -p\n", stderr);
});
