/**
 * What the next daemon finds in the folders of jails, as a crash, a pid that was given again or a
 * mistake may have left it. It takes over the jails that really are, ends what else runs under their
 * uids, and touches nothing that is somebody else's.
 */
import assert from "node:assert/strict";
import { runMessage } from "./peer.ts";
import { answerOf, askAs } from "./stand-in.ts";
import { appProcesses, firstUid, jailTest, ownEtc, uA, uidsOf, until, World } from "./world.ts";

/** A file of jails/<uid>/, and what its `state` said. */
interface Found {
  readonly folder: string;
  readonly state: string;
  readonly record: Record<string, unknown>;
}

interface Stranger {
  readonly pid: number;
  readonly start_time: number;
  readonly pid_namespace: number;
}

/** Who a process is, as a state would have it. */
function describe(pid: number): Stranger {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const start_time = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  const pid_namespace = Number(/\d+/.exec(Deno.readLinkSync(`/proc/${pid}/ns/pid`))?.[0]);
  return { pid, start_time, pid_namespace };
}

type Case = readonly [what: string, damage: (found: Found) => void];

function cases(strangers: Readonly<Record<string, Stranger>>, folder: string): readonly Case[] {
  const write = (text: string | Uint8Array) => ({ state }: Found): void =>
    typeof text === "string"
      ? Deno.writeTextFileSync(state, text)
      : Deno.writeFileSync(state, text);
  const say = (change: Readonly<Record<string, unknown>>) => ({ state, record }: Found): void =>
    Deno.writeTextFileSync(state, JSON.stringify({ ...record, ...change }));
  const instead = (make: (path: string, found: Found) => void) => (found: Found): void => {
    Deno.removeSync(found.state);
    make(found.state, found);
  };
  const elsewhere = (name: string, record: unknown): string => {
    const path = `${folder}/${name}`;
    Deno.writeTextFileSync(path, JSON.stringify(record), { mode: 0o644 });
    return path;
  };
  return [
    ...[0, -1, 1, 2 ** 31, 4294967296 + 1, 1.5, "1", null, [1]].map((pid): Case => [
      `pid ${JSON.stringify(pid)}`,
      say({ pid }),
    ]),
    ...Object.entries(strangers).map(([who, stranger]): Case => [who, say({ ...stranger })]),
    ...Object.entries(strangers).map(([who, stranger]): Case => [
      `${who}, since another time`,
      say({ ...stranger, start_time: stranger.start_time + 1 }),
    ]),
    [
      "its own pid, since another time",
      (found) => say({ start_time: Number(found.record["start_time"]) + 1 })(found),
    ],
    [
      "its own pid, in another namespace",
      (found) => say({ pid_namespace: Number(found.record["pid_namespace"]) + 1 })(found),
    ],
    ["another uid", say({ uid: firstUid + 98 })],
    ["another owner", say({ owner: uA + 1 })],
    ["another profile", say({ profile: "other" })],
    ["more than there is", say({ more: 1 })],
    ["nothing", write("")],
    ["no JSON", write("{")],
    ["zeros", write(new Uint8Array(4096))],
    ["a list", write("[]")],
    ["far too much", write("[".repeat(1024 * 1024))],
    ["a FIFO", instead((path) => new Deno.Command("mkfifo", { args: [path] }).outputSync())],
    ["no state", instead(() => {})],
    ["a folder", instead((path) => Deno.mkdirSync(path))],
    [
      "a link to a stranger's",
      instead((path, { record }) =>
        Deno.symlinkSync(
          elsewhere("link", { ...record, ...strangers["a process of root's"] }),
          path,
        )
      ),
    ],
    [
      "a link to its own",
      instead((path, { record }) => Deno.symlinkSync(elsewhere("own", record), path)),
    ],
    [
      "a hard link to its own",
      instead((path, { record }) => Deno.linkSync(elsewhere("hard", record), path)),
    ],
    ["a link to nothing", instead((path) => Deno.symlinkSync("nothing", path))],
    ["somebody else's file", ({ state }) => Deno.chownSync(state, uA, uA)],
    ["a lock that is a link", ({ folder }) => {
      Deno.removeSync(`${folder}/lock`);
      Deno.symlinkSync("state", `${folder}/lock`);
    }],
    ["a lock that is a folder", ({ folder, state }) => {
      Deno.removeSync(`${folder}/lock`);
      Deno.mkdirSync(`${folder}/lock`);
      Deno.removeSync(state);
    }],
  ];
}

async function run(world: World, profile: string, ...argv: readonly string[]): Promise<number> {
  const answer = await answerOf(askAs(uA, world, runMessage(profile, argv, "log")));
  assert(answer?.type === "started", `${profile}: ${JSON.stringify(answer)}`);
  return answer.uid;
}

function stay(world: World, profile: string): Promise<number> {
  return run(world, profile, "sleep", "1000");
}

jailTest("a state that is not a jail's leads to nobody, and the next run works", async () => {
  await using world = await World.start();
  using strangers = new DisposableStack();
  const start = (...args: readonly string[]): number => {
    const [command = "", ...rest] = args;
    const child = new Deno.Command(command, { args: rest, stdin: "null" }).spawn();
    strangers.defer(() => child.kill("SIGKILL"));
    return child.pid;
  };
  const root = start("sleep", "1000");
  const other = start("setpriv", `--reuid=${uA}`, "--clear-groups", "sleep", "1000");
  // In a pid namespace of its own, as a jail's would be; the parent only waits for it.
  const parent = start("unshare", "--pid", "--fork", "--kill-child", "sleep", "1000");
  const inside = await until("there is a process in another namespace", () => {
    const children = [...Deno.readDirSync("/proc")].map(({ name }) => name).filter((name) =>
      /^[0-9]+$/.test(name) && stat(name)?.parent === parent
    );
    return children.map(Number).find((pid) => stat(pid)?.command === "sleep");
  });
  await until("it runs as somebody", () => uidsOf(other)[0] === uA);
  const watched = [root, other, inside, Deno.pid];
  const before = watched.map((pid) => [describe(pid), stat(pid)?.state === "T"]);

  for (const profile of ["kept", "neighbour"]) await stay(world, profile);
  const recordOf = (uid: number): Record<string, unknown> =>
    JSON.parse(Deno.readTextFileSync(`${world.runtime}/jails/${uid}/state`));
  const kept = recordOf(firstUid);
  const neighbour = recordOf(firstUid + 1);

  const all = cases({
    "a process of root's": describe(root),
    "a process of a person's": describe(other),
    "a process in a namespace": describe(inside),
    "another jail's": describe(Number(neighbour["pid"])),
    "the one who tests": describe(Deno.pid),
  }, world.folder);
  const profiles = all.map((_, index) => `case${index}`);
  const uids = await Promise.all(profiles.map((profile) => stay(world, profile)));
  await world.stopDaemon();
  const jailers = all.map(([, damage], index) => {
    const uid = uids[index] ?? 0;
    const folder = `${world.runtime}/jails/${uid}`;
    const record = recordOf(uid);
    damage({ folder, state: `${folder}/state`, record });
    return Number(record["pid"]);
  });
  // What is no jail's at all stays where it is.
  Deno.mkdirSync(`${world.runtime}/jails/strange`);
  Deno.mkdirSync(`${world.runtime}/jails/${firstUid + 98}`);
  Deno.writeTextFileSync(`${world.runtime}/ctl/strange.sock`, "");
  await world.startDaemon();

  for (const [index, [what]] of all.entries()) {
    // A link for a lock is not taken for one; the jail itself is what its state says.
    const joined = what === "a lock that is a link";
    assert.equal(uidsOf(jailers[index] ?? 0).length > 0, joined, what);
  }
  assert.deepEqual(watched.map((pid) => [describe(pid), stat(pid)?.state === "T"]), before);
  assert.deepEqual(describe(Number(kept["pid"])).start_time, kept["start_time"]);
  assert.deepEqual(describe(Number(neighbour["pid"])).start_time, neighbour["start_time"]);
  const listed = (await world.status(uA)).map(({ profile }) => profile).sort();
  const linked = profiles[all.findIndex(([what]) => what === "a lock that is a link")];
  assert.deepEqual(listed, [linked, "kept", "neighbour"].sort());

  assert.deepEqual(await Promise.all(profiles.map((profile) => run(world, profile, "true"))), uids);
  assert.deepEqual(watched.map((pid) => [describe(pid), stat(pid)?.state === "T"]), before);
  assert.equal((await world.client(["stop", "--all", "--force"], { uid: uA })).code, 0);
  assert.deepEqual(appProcesses(), []);
  Deno.removeSync(`${world.runtime}/jails/strange`);
  Deno.removeSync(`${world.runtime}/jails/${firstUid + 98}`);
});

/** A process's parent, state and name of proc(5). */
function stat(
  pid: number | string,
): { parent: number; state: string; command: string } | undefined {
  try {
    const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const end = text.lastIndexOf(")");
    const [state = "", parent] = text.slice(end + 2).split(" ");
    return { state, parent: Number(parent), command: text.slice(text.indexOf("(") + 1, end) };
  } catch {
    return undefined;
  }
}

jailTest("what stands in the place of a jail's folder is not followed", async () => {
  await using world = await World.start();
  const victim = `${world.folder}/victim`;
  Deno.mkdirSync(victim);
  Deno.writeTextFileSync(`${victim}/state`, "root's");
  Deno.writeTextFileSync(`${victim}/lock`, "root's");
  const own = () => {
    const { uid, gid, mode, mtime } = Deno.lstatSync(victim);
    return [uid, gid, mode, mtime];
  };
  const before = own();
  await world.run("mine", ["true"], { uid: uA });
  const place = `${world.runtime}/jails/${firstUid}`;
  for (
    const put of [
      () => Deno.symlinkSync(victim, place),
      () => Deno.writeTextFileSync(place, ""),
      () => void new Deno.Command("mkfifo", { args: [place] }).outputSync(),
      () => {
        Deno.mkdirSync(place);
        Deno.symlinkSync(`${victim}/state`, `${place}/state`);
        Deno.symlinkSync(`${victim}/lock`, `${place}/lock`);
        Deno.symlinkSync(victim, `${place}/passwd`);
      },
    ]
  ) {
    assert.equal((await world.client(["stop", "--all"], { uid: uA })).code, 0);
    await world.stopDaemon();
    Deno.mkdirSync(`${world.runtime}/jails`, { recursive: true });
    await Deno.remove(place, { recursive: true }).catch(() => {});
    put();
    await world.startDaemon();
    assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
  }
  assert.equal(Deno.readTextFileSync(`${victim}/state`), "root's");
  assert.equal(Deno.readTextFileSync(`${victim}/lock`), "root's");
  assert.deepEqual(own(), before);
});

jailTest(
  "what runs as a profile in no jail that is known is ended, unless it is a person",
  async () => {
    await using world = await World.start(ownEtc);
    for (const profile of ["mine", "other", "person"]) await stay(world, profile);
    const [mine = 0, other = 0, person = 0] = await Promise.all(
      ["mine", "other", "person"].map((profile) => run(world, profile, "true")),
    );
    await world.stopDaemon();
    // As after a change of --runtime-dir: the jails run, and nobody knows of them.
    Deno.renameSync(world.runtime, `${world.folder}/lost`);
    const [bob] = appProcesses(person);
    Deno.writeTextFileSync(`${world.folder}/etc/passwd`, `bob:x:${person}:100::/:/bin/sh\n`, {
      append: true,
    });
    await world.startDaemon();
    assert.deepEqual([...appProcesses(mine), ...appProcesses(other)], []);
    assert(appProcesses(person).includes(bob ?? 0));
    assert.match(world.log, new RegExp(`uid ${person} has become "bob"`));
    assert.equal(await run(world, "mine", "true"), mine);
    for (const pid of appProcesses(person)) Deno.kill(pid, "SIGKILL");
    await until("bob has logged out", () => appProcesses(person).length === 0);
  },
);
