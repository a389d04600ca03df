/** The daemon's log: a line for each decision, in the form that was asked for, and nobody's secrets. */
import assert from "node:assert/strict";
import { askAs } from "./stand-in.ts";
import { encryptedProfile, withPassphrase } from "./volumes.ts";
import { asUser, execute, firstUid, jailTest, uA, until, World } from "./world.ts";

// deno-lint-ignore no-explicit-any -- a test looks into it as it likes
type Line = any;

const secret = "tops3cret";

/** Does whatever is decided about: with a secret in each word that a person chooses. */
async function act(world: World): Promise<void> {
  const client = (args: readonly string[], stdin?: string) =>
    world.client(args, { uid: uA, ...stdin === undefined ? {} : { stdin } });
  const file = `${world.folder}/${secret}.txt`;
  await Deno.writeTextFile(file, "x");
  await Deno.chown(file, uA, uA);
  await Deno.writeTextFile(`${world.folder}/admin/broken.toml`, `network = "${secret}"\n`);
  const run = ["run", "-p", "work", "--env", `TOKEN=${secret}`, "--"];
  assert.equal((await client([...run, "sh", "-c", `: ${secret}; exit 4`])).code, 4);
  assert.equal((await client([...run, "cat", file])).stdout, "x");
  assert.equal((await client(["run", "-d", "-p", "work", "sleep", "1000"])).code, 0);
  assert.equal((await client(["lend", "work", file, "--rw"])).code, 0);
  assert.equal((await client(["unlend", "work", `${secret}.txt`])).code, 0);
  // What is refused quotes what was asked for, to whoever asked.
  for (
    const args of [
      ["lend", "work", `/nonexistent/${secret}`],
      ["lend", "work", "/proc/self/status", "--as", secret],
      ["run", "-p", "broken", "true"],
      ["run", "-p", "work", "--cwd", `/${secret}`, "true"],
    ]
  ) {
    const { code, stderr } = await client(args);
    assert.notEqual(code, 0);
    assert(stderr.includes(secret) || args.includes("/proc/self/status"), stderr);
  }
  assert.equal((await client(["run", "-p", "work", "./nothing"])).code, 127);
  using odd = askAs(uA, world, { type: "run", [secret]: secret });
  await odd.receive();
  const bus = [
    ...["gdbus", "call", "--address", world.busAddress, "--dest", "org.appjail.AppJail"],
    ...["--object-path", "/org/appjail/AppJail", "--method"],
  ];
  const call = (...words: readonly string[]) => execute(asUser(uA, [...bus, ...words]));
  const ran = await call(
    "org.appjail.AppJail1.Run",
    ...["work", `['sh', '-c', ': ${secret}']`, `{'env': <{'TOKEN': '${secret}'}>}`],
  );
  assert.equal(ran.code, 0, ran.stderr);
  const refused = await call("org.appjail.AppJail1.Run", "work", "['id']", `{'${secret}': <1>}`);
  assert(refused.stderr.includes(secret), refused.stderr);
  await client(["stop", "work"]);
  await until("it has ended", () => world.log.includes("it was stopped"));
}

jailTest(
  "as text, a decision is a line with the person and the profile, and no word of theirs but the first",
  async () => {
    await using world = await World.start({ bus: true });
    await act(world);
    assert(!world.log.includes(secret), world.log);
    const { log } = world;
    const who = `uid ${uA} \\(pid \\d+\\)`;
    for (
      const line of [
        `jail work of uid ${uA} has started as ${firstUid}`,
        `${who} runs work.1 as ${firstUid} in a new jail: sh`,
        `work.1 of uid ${uA} has ended: exit 4`,
        `${who} runs work.2 as ${firstUid}: cat`,
        `jail work of uid ${uA} is lent something no longer: its program has ended`,
        `${who} lends something to work, to be changed`,
        `${who} takes back what it has lent to work`,
        `${who} is refused lend of work: lend-refused`,
        `${who} is refused run of broken: profile-refused`,
        `${who} is refused run of work: Cannot run "\\./nothing": .*`,
        `uid ${uA} \\(:1\\.\\d+\\) runs work.\\d+ as ${firstUid}: sh`,
        `uid ${uA} \\(:1\\.\\d+\\) is refused run of work: invalid-argument`,
        `${who} stops work`,
        `jail work of uid ${uA} has ended: it was stopped`,
      ]
    ) assert.match(log, new RegExp(`^appjail-dispatcher: ${line}$`, "m"));
  },
);

jailTest("as JSON, each line is an object that says the same to a program", async () => {
  await using world = await World.start({ bus: true, flags: ["--log-format", "json"] });
  await act(world);
  await encryptedProfile(world, "safe", "gocryptfs", "true", [], { uid: uA });
  const unlocked = await withPassphrase(world, ["run", "-p", "safe", "true"], undefined, {
    uid: uA,
  });
  assert.equal(unlocked.code, 0, unlocked.stderr);
  await until("it is locked", () => world.log.includes('"event":"home-locked"'));
  assert.equal(await world.stopDaemon(), 0);
  assert(!world.log.includes(secret), world.log);
  const lines: readonly Line[] = world.log.trimEnd().split("\n").map((line) => JSON.parse(line));
  for (const { time, level, role, message } of lines) {
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert(["info", "warning"].includes(level), level);
    assert(["helper", "dispatcher", "watchdog"].includes(role), role);
    assert.equal(typeof message, "string");
  }
  assert.deepEqual([...new Set(lines.map(({ role }) => role))].sort(), [
    "dispatcher",
    "helper",
    "watchdog",
  ]);
  /** The first line of such a kind, without what differs from run to run. */
  const first = (key: string, value: string): Line => {
    const { time: _, message: _words, ...rest } = lines.find((line) => line[key] === value) ?? {};
    return rest;
  };
  const { pid, ...run } = first("decision", "run");
  assert(pid > 1);
  assert.deepEqual(run, {
    level: "info",
    role: "dispatcher",
    decision: "run",
    uid: uA,
    profile: "work",
    app_uid: firstUid,
    program: "work.1",
    joined: false,
    command: "sh",
    lent: 0,
  });
  const refusals = lines.filter(({ decision }) => decision === "refused");
  assert.deepEqual(
    [...new Set(refusals.map(({ request, profile, code }) => `${request} ${profile} ${code}`))],
    [
      "lend work lend-refused",
      "run broken profile-refused",
      "run work invalid-argument",
      "run work command-not-found",
    ],
  );
  assert.match(refusals.at(-1).bus_name ?? "", /^:1\.\d+$/);
  assert.deepEqual(
    [...new Set(lines.flatMap(({ event }) => event ?? []))],
    [
      ...["jail-started", "program-exited", "unlent", "jail-stopped"],
      ...["home-unlocked", "home-locked"],
    ],
  );
  const { reason, why } = lines.findLast(({ event, profile }) =>
    event === "jail-stopped" && profile === "work"
  );
  assert.deepEqual([reason, why], ["asked", null]);
});

jailTest(
  "to the journal each line begins with its weight, for which its very stream is asked",
  async (t) => {
    const named = async (stream: string): Promise<string> => {
      await using world = await World.start({
        wrap: (words) => ["sh", "-c", `JOURNAL_STREAM=${stream} exec "$@"`, "sh", ...words],
      });
      await world.run("work", ["true"]);
      await until("it has run", () => world.log.includes("has ended"));
      return world.log;
    };
    await t.step("a stream that is the journal's", async () => {
      const log = await named("$(stat -Lc %d:%i /proc/self/fd/2)");
      for (const line of log.trimEnd().split("\n")) assert.match(line, /^<[67]>appjail-/);
    });
    await t.step("another, whose variable was inherited", async () => {
      const log = await named("9:4711");
      for (const line of log.trimEnd().split("\n")) assert.match(line, /^appjail-/);
    });
  },
);
