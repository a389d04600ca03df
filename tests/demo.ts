/**
 * `deno task demo`: the whole way, once, for somebody who watches. Each command line that is shown
 * is the one that runs, what stands below it is what it printed, and each tick was checked.
 *
 * Everything lies in one scratch folder: the program, a bus, the daemon's folders. The last thing
 * that is shown is that nothing is left of it.
 *
 * @module
 */
import { isKnownGid, isKnownUid } from "../core/accounts.ts";
import { wordsOf } from "../core/errors.ts";
import { allPids, parentOf, pidsOf, realUid } from "../core/process.ts";
import { align, fit } from "../core/table.ts";
import { build } from "../packaging/build.ts";
import type { Outcome, World } from "./jail/world.ts";

const colours = Deno.stdout.isTerminal() && !Deno.env.has("NO_COLOR");
const paint = (code: number, text: string): string =>
  colours ? `\x1b[${code}m${text}\x1b[0m` : text;

/** How many columns a line may take before it is broken or cut. */
const columns = 100;

// --- What is told ----------------------------------------------------------------------------

const count = { right: 0, wrong: 0 };
let headings = 0;
let interrupted = false;

function heading(text: string): void {
  console.log(`\n${paint(1, `${++headings}. ${text}`)}\n`);
}

function say(text: string): void {
  console.log(text);
}

/** A command line, broken in two where a shell lets it be. */
function showCommand(prompt: string, line: string): void {
  if (interrupted) throw new Error("the demo was interrupted");
  let [rest, shown] = [line, prompt];
  for (;;) {
    const room = columns - 6;
    const at = rest.length > room ? rest.lastIndexOf(" --", room) : -1;
    if (at <= 0) break;
    console.log(`${shown} ${rest.slice(0, at)} \\`);
    [rest, shown] = [rest.slice(at + 1), "     "];
  }
  console.log(`${shown} ${rest}`);
}

function showOutput(text: string): void {
  if (text === "") return;
  for (const line of text.replace(/\n$/, "").split("\n")) {
    console.log(line === "" ? "" : `  ${paint(2, line)}`);
  }
}

/** A thing that has to hold. What was found instead is told when it does not. */
function prove(what: string, holds: boolean, found?: unknown): void {
  if (holds) count.right++;
  else count.wrong++;
  console.log(holds ? `  ${paint(32, "✓")} ${what}` : `  ${paint(31, "✗")} ${what}`);
  if (!holds && found !== undefined) showOutput(`found: ${String(found)}`);
}

// --- The machine -----------------------------------------------------------------------------

const accounts = Deno.readTextFileSync("/etc/passwd").split("\n").map((line) => line.split(":"));

function nameOf(uid: number | undefined): string {
  return accounts.find(([, , id]) => id === String(uid))?.[0] ?? String(uid);
}

/**
 * Where a hundred uids begin that nobody has: the usual place, unless people, processes or an
 * appjail that is installed here have the first of them.
 */
function freeUids(): number {
  let given = "";
  try {
    given = Deno.readTextFileSync("/var/lib/appjail/uids.json");
  } catch {
    // None is installed.
  }
  const isTaken = (uid: number): boolean =>
    isKnownUid(uid) || isKnownGid(uid) || pidsOf(uid).length > 0 || given.includes(`: ${uid},`);
  for (let first = 1100; first < 60_000; first += 100) {
    if (![0, 1, 2, 3].some((offset) => isTaken(first + offset))) return first;
  }
  throw new Error("Cannot show the demo: no hundred of uids from 1100 to 60000 begins free");
}

/** The command line of a process, in few words: how Deno is started is left out. */
function commandOf(pid: number): string {
  const words = readLines(`/proc/${pid}/cmdline`).join("\n").split("\0").slice(0, -1);
  const name = (words[0] ?? "").replace(/.*\//, "");
  const script = words.findIndex((word) => word.endsWith("/appjail.js"));
  if (script < 0) return [name, ...words.slice(1)].join(" ");
  return [name.replace(/^deno.*/, "appjail"), ...words.slice(script + 1)].join(" ");
}

function readLines(path: string): readonly string[] {
  try {
    return Deno.readTextFileSync(path).trimEnd().split("\n");
  } catch {
    return []; // It ended meanwhile.
  }
}

/** A field of /proc/PID/status. */
function statusField(pid: number, name: string): string {
  const line = readLines(`/proc/${pid}/status`).find((one) => one.startsWith(`${name}:`));
  return line?.slice(name.length + 1).trim() ?? "";
}

function namespacesOf(pid: number): readonly string[] {
  return ["pid", "mnt", "ipc", "uts", "user", "cgroup"].map((name) => {
    try {
      return Deno.readLinkSync(`/proc/${pid}/ns/${name}`);
    } catch {
      return "gone";
    }
  });
}

// --- The demo --------------------------------------------------------------------------------

/** The world, and the people who use it. */
class Demo {
  readonly world: World;
  readonly #env: Readonly<Record<string, string>>;

  constructor(world: World) {
    this.world = world;
    this.#env = {
      D: world.folder,
      PATH: `${world.folder}/dist:/usr/local/bin:/usr/bin:/bin`,
      APPJAIL_SOCKET: world.socket,
      DBUS_SYSTEM_BUS_ADDRESS: world.busAddress,
    };
  }

  /** What a person would tell their shell first. */
  get exports(): string {
    const { folder } = this.world;
    return Object.entries(this.#env).slice(1).map(([name, value]) =>
      `${name}=${value.replace(folder, "$D").replace(/:\/usr.*/, ":$PATH")}`
    ).join(" ");
  }

  /** Runs a command line as a person's shell would, unseen. */
  async ask(uid: number, line: string): Promise<Outcome> {
    const { asUser, execute } = await import("./jail/world.ts");
    return await execute(asUser(uid, ["sh", "-c", line]), { env: this.#env, cwd: "/" });
  }

  /** Shows a command line, runs it, and shows what it prints. */
  async run(uid: number, line: string): Promise<Outcome> {
    showCommand(`${nameOf(uid)}$`, line);
    const outcome = await this.ask(uid, line);
    showOutput(outcome.stdout + outcome.stderr);
    return outcome;
  }

  /** The same for one that goes on; returns when it has printed `sign`. */
  async start(uid: number, line: string, sign: string): Promise<Deno.ChildProcess> {
    const { asUser } = await import("./jail/world.ts");
    showCommand(`${nameOf(uid)}$`, `${line} &`);
    const [command = "", ...args] = asUser(uid, ["sh", "-c", `exec ${line}`]);
    const child = new Deno.Command(command, {
      args,
      env: this.#env,
      cwd: "/",
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let said = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said.includes(sign)) break;
    }
    showOutput(said);
    if (!said.includes(sign)) throw new Error(`${line} ended before it was ready`);
    return child;
  }
}

/** @returns how many uids were given */
async function demonstrate(
  demo: Demo,
  uA: number,
  uB: number,
  firstUid: number,
): Promise<number> {
  const { until } = await import("./jail/world.ts");
  const { world } = demo;
  const [a, b] = [nameOf(uA), nameOf(uB)];

  showCommand("#", `${world.daemonWords().join(" ").replaceAll(world.folder, "$D")} &`);
  showOutput(world.log);
  showCommand("$", `export ${demo.exports}`);
  const version = await demo.run(uA, "appjail --version");
  prove("it is built, and the daemon serves a socket and the bus", version.code === 0);

  heading("A program runs as a user of its own");
  const id = await demo.run(uA, "appjail run -p work id");
  const uid = Number(/^uid=(\d+)\(work\)/.exec(id.stdout)?.[1] ?? NaN);
  prove(
    `${a} asked, and it ran as uid ${firstUid}, which belongs to the profile "work" alone`,
    id.code === 0 && uid === firstUid,
    id.stdout + id.stderr,
  );
  const perl = await demo.start(
    uA,
    `appjail run -p work perl -e 'system "echo written by Perl, pid $$ | tee /tmp/note"; sleep'`,
    "\n",
  );
  const perlPid = await until(
    "Perl runs",
    () => pidsOf(uid).find((pid) => commandOf(pid).startsWith("perl ")),
  );
  prove(
    "Perl runs as the same uid, has no capability, and cannot gain one",
    realUid(perlPid) === uid && /^0+$/.test(statusField(perlPid, "CapBnd")) &&
      statusField(perlPid, "NoNewPrivs") === "1",
    statusField(perlPid, "Uid"),
  );

  heading("A second program joins it: over D-Bus, from a client that knows nothing of appjail");
  const gdbus = (await demo.ask(uA, "command -v gdbus")).code === 0;
  const script = "cat /tmp/note; exec sleep 1000";
  const call = await demo.run(
    uA,
    gdbus
      ? "gdbus call --system --dest org.appjail.AppJail --object-path /org/appjail/AppJail " +
        `--method org.appjail.AppJail1.Run work "['sh', '-c', '${script}']" '{}'`
      : "busctl --system call org.appjail.AppJail /org/appjail/AppJail org.appjail.AppJail1 " +
        `Run 'sasa{sv}' work 3 sh -c '${script}' 0`,
  );
  prove("the answer is the uid, and a handle", call.stdout.includes(` ${uid}`), call.stderr);
  await until(
    "the second program has written",
    async () => (await demo.ask(uA, "appjail logs work")).stdout !== "",
  );
  const logs = await demo.run(uA, "appjail logs work");
  prove(
    "both see one /tmp: the second program has read what the first one has written",
    /written by Perl, pid \d+$/m.test(logs.stdout),
  );
  const sleepPid = await until(
    "the second program runs",
    () => pidsOf(uid).find((pid) => commandOf(pid) === "sleep 1000"),
  );
  const host = namespacesOf(Deno.pid);
  prove(
    "both are in the same namespaces, and in none of the host's",
    namespacesOf(sleepPid).every((one, at) =>
      one === namespacesOf(perlPid)[at] && one !== host[at]
    ),
    namespacesOf(sleepPid).join(" "),
  );

  heading("Nobody else sees it");
  const diary = `$D/data/${uid}/diary`;
  const written = await demo.run(uA, "appjail run -p work sh -c 'echo secret > ~/diary; ls ~'");
  prove(`work has a diary now, which the host has as ${diary}`, written.stdout === "diary\nlent\n");
  const play = await demo.run(
    uA,
    `appjail run -p play sh -c "id -u; ls /home /tmp; cat /home/work/diary ${diary}"`,
  );
  prove(
    `another profile is uid ${uid + 1}, and sees neither that home nor that /tmp`,
    play.stdout === `${uid + 1}\n/home:\nplay\n\n/tmp:\n` && play.code === 1 &&
      play.stderr.split("No such file").length === 3,
  );
  const theirs = await demo.run(uB, "appjail run -p work sh -c 'id -u; ls -A ~ /tmp'");
  prove(
    `${b} has a profile "work", too: it is uid ${uid + 2}, and its home and /tmp hold nothing yet`,
    theirs.stdout === `${uid + 2}\n/home/work:\nlent\n\n/tmp:\n`,
  );
  for (const who of [uB, uA]) {
    const outside = await demo.run(who, `cat ${diary}`);
    prove(
      `outside of the jail, ${nameOf(who)} cannot read the diary`,
      outside.code !== 0 && outside.stderr.includes("Permission denied"),
    );
  }
  const others = await demo.run(uB, "appjail stop play");
  prove(`${b} cannot stop what ${a} runs`, others.code === 111);

  heading("Who runs as whom");
  const status = await demo.run(uA, "appjail status");
  prove(
    "work runs two programs; the pid is its jailer's",
    new RegExp(`^work +${uid} +running +${parentOf(perlPid)} .* 2$`, "m").test(status.stdout),
  );
  showProcesses(demo, uid);

  const window = await showWindow(demo, uA);

  heading("Stop");
  for (const who of [uA, uB]) {
    const stop = await demo.run(who, "appjail stop --all");
    prove(`the jails of ${nameOf(who)} are gone`, stop.code === 0);
  }
  const ended = (await perl.status).code;
  prove(
    "the client that waited for Perl has ended with 143, a shell's word for SIGTERM",
    ended === 143,
  );
  showCommand("#", `kill ${world.helperPid}`);
  const logged = world.log.length;
  const left = await world.stopDaemon();
  showOutput(world.log.slice(logged));
  prove("the daemon has left in order", left === 0, left);
  return window ? 4 : 3;
}

/** Where the picture of the demo's window is kept. */
const pictureFile = Deno.realPathSync(`${import.meta.dirname}/..`) + "/dist/demo.png";

/**
 * A program with a window, where there is a compositor.
 *
 * @returns whether there is one
 */
async function showWindow(demo: Demo, uA: number): Promise<boolean> {
  const { canShow, inText, keepPicture, programs, Screen } = await import("./demo-window.ts");
  heading("A program with a window");
  if (!canShow()) {
    say(`Left out: it takes ${programs.join(", ")}; try: apt install weston`);
    return false;
  }
  say("A compositor of its own, whose screen is in memory, and a profile that may use it.\n");
  await using screen = await Screen.of(demo.world);
  showCommand(`${nameOf(uA)}$`, "weston --backend=headless-backend.so --socket=wayland-7 &");
  await demo.run(0, `echo 'display = "wayland"' | tee $D/admin/window.toml`);
  const exports = Object.entries(screen.exports).map(([name, value]) =>
    `${name}=${value.replace(demo.world.folder, "$D")}`
  ).join(" ");
  const run = await demo.run(
    uA,
    `${exports} appjail run --detach -p window -- weston-flower`,
  );
  const picture = await screen.drawn();
  prove(
    "it has drawn its window on the screen",
    run.code === 0 && picture !== undefined,
    demo.world.log.slice(-500),
  );
  if (picture !== undefined) {
    await keepPicture(picture, pictureFile);
    say(`\n${inText(picture, 64, colours)}\n`);
    say(`The picture: ${pictureFile}\n`);
  }
  const without = await demo.run(
    uA,
    `${exports} appjail run -p play sh -c 'ls $XDG_RUNTIME_DIR; weston-flower'`,
  );
  prove(
    "a profile that says nothing of a display has no part in it",
    without.code !== 0 && !without.stdout.includes("wayland"),
    without.stdout + without.stderr,
  );
  await demo.run(uA, "appjail stop window");
  prove("the window is gone with its jail", await screen.isEmpty());
  return true;
}

/** The processes of the program, and what the kernel says of them. */
function showProcesses({ world }: Demo, uid: number): void {
  const pids = allPids();
  const named = (begin: RegExp, parent?: number): number =>
    pids.find((pid) =>
      begin.test(commandOf(pid)) && (parent === undefined || parentOf(pid) === parent)
    ) ?? 0;
  const helper = world.helperPid;
  const dispatcher = named(/^appjail-dispatcher /, helper);
  const client = named(/^appjail run -p work perl /);
  const inside = pidsOf(uid);
  const jailer = inside.find((pid) => /^appjail-jailer /.test(commandOf(pid))) ?? 0;
  const bubblewrap = parentOf(jailer) ?? 0;
  const programs = inside.filter((pid) => pid !== jailer && pid !== bubblewrap);
  const row = (role: string, pid: number): readonly string[] => [
    String(pid),
    String(parentOf(pid)),
    realUid(pid) === uid ? String(uid) : nameOf(realUid(pid)),
    role,
    commandOf(pid),
  ];
  const table = align([
    ["PID", "PPID", "USER", "ROLE", "COMMAND"],
    row("client", client),
    row("dispatcher", dispatcher),
    row("helper", helper),
    row("(the jail)", bubblewrap),
    row("jailer", jailer),
    ...programs.map((pid) => row("a program", pid)),
  ], [0, 1]);
  say("\nThe same in the host's /proc, without the words that start Deno:\n");
  showOutput(table.map((line) => fit(line, columns - 2)).join("\n"));
  const powerless = (pid: number): boolean =>
    ["CapPrm", "CapEff", "CapBnd"].every((name) => /^0+$/.test(statusField(pid, name)));
  prove("only the helper is root", realUid(helper) === 0 && realUid(dispatcher) !== 0);
  prove(
    `the dispatcher, to which everybody may talk, is ${nameOf(realUid(dispatcher))}, ` +
      "without a capability",
    powerless(dispatcher),
  );
  prove(
    `the jailer and what it has started are uid ${uid}, without a capability`,
    jailer !== 0 && programs.length === 2 && [jailer, ...programs].every(powerless),
  );
}

/** What there is below a folder, sorted. */
function filesBelow(folder: string): readonly string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => [
    `${folder}/${name}`,
    ...(isDirectory ? filesBelow(`${folder}/${name}`) : []),
  ]).sort();
}

/** That the daemon has left nothing but what is meant to stay. */
function proveNothingLeft({ folder, data, state }: World, uids: readonly number[]): void {
  heading("Nothing is left");
  const processes = uids.flatMap(pidsOf);
  prove(`no process of the uids ${uids.join(", ")}`, processes.length === 0, processes);
  const mounts = readLines("/proc/mounts").filter((line) => line.includes(folder));
  prove(`no mount below ${folder}`, mounts.length === 0, mounts);
  const sockets = readLines("/proc/net/unix").filter((line) =>
    line.includes(`${folder}/run`) || uids.some((uid) => line.includes(`/run/user/${uid}/`))
  );
  prove("no socket", sockets.length === 0, sockets);
  const brought = ["dist", "bus", "bus.conf", "admin", "profiles", "desk"].map((name) =>
    `${folder}/${name}`
  );
  const files = filesBelow(folder).filter((path) =>
    !brought.some((one) => path === one || path.startsWith(`${one}/`))
  );
  const homes = uids.map((uid) => `${data}/${uid}`);
  // In each home the place for what is lent, empty; in the state that for people's own profiles.
  const kept = [
    ...[data, ...homes, `${homes[0]}/diary`, ...homes.map((home) => `${home}/lent`)],
    ...[state, `${state}/uids.json`, `${state}/profiles`],
  ];
  // Beside each stands an empty file, by which one daemon at a time has it.
  const others = files.filter((path) => !kept.includes(path) && !/\/\.?lock$/.test(path));
  prove(
    "no file but the homes and the registry of uids, which are meant to stay",
    others.length === 0 && kept.every((path) => files.includes(path)),
  );
  showOutput(files.join("\n"));
}

async function main(): Promise<number> {
  if (Deno.uid() !== 0) {
    console.error(
      "Cannot show the demo: it gives each application a user of its own, and that takes root; " +
        "try: sudo npx -y deno@2.9.6 task demo",
    );
    return 100;
  }
  const firstUid = Number(Deno.env.get("APPJAIL_TEST_FIRST_UID") ?? freeUids());
  Deno.env.set("APPJAIL_TEST_FIRST_UID", String(firstUid));
  // Not before: it takes the first uid from the environment when it is loaded.
  const { uA, uB, World } = await import("./jail/world.ts");

  say(paint(1, "appjail: each application as its own user, in its own jail"));
  say(`
All of this is real, in a scratch folder that is removed at the end. Two people take part,
${nameOf(uA)} and ${
    nameOf(uB)
  }: system accounts that nobody uses. A tick stands for something that was checked.`);
  if (firstUid !== 1100) {
    say(`The uids from 1100 are taken on this machine; the demo uses those from ${firstUid}.`);
  }

  heading("The program, a bus, and the daemon");
  let world: World | undefined;
  let folder = "";
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    // The next step does not begin, and what was made is taken away.
    Deno.addSignalListener(signal, () => interrupted = true);
  }
  try {
    world = await World.start({
      bus: true,
      prefix: "appjail-demo-",
      before: async (scratch) => {
        folder = scratch;
        showCommand("#", `D=${scratch}`);
        showCommand("#", "deno task build --out $D/dist");
        const entry = Deno.realPathSync(`${import.meta.dirname}/../main.ts`);
        await build({ entry, out: `${scratch}/dist`, say: (line) => showOutput(line) });
        Deno.env.set("APPJAIL_EXE", `${scratch}/dist/appjail`);
        showCommand("#", "dbus-daemon --nofork --nopidfile --config-file=$D/bus.conf &");
      },
    });
    const given = await demonstrate(new Demo(world), uA, uB, firstUid);
    proveNothingLeft(world, Array.from({ length: given }, (_, offset) => firstUid + offset));
  } catch (error) {
    if (!interrupted) prove(wordsOf(error), false, world?.log);
  } finally {
    await world?.[Symbol.asyncDispose]();
  }
  if (folder !== "") {
    const gone = await Deno.lstat(folder).then(() => false, () => true);
    prove("they are removed too, and the scratch folder with them", gone);
  }
  const { right, wrong } = count;
  const verdict = interrupted
    ? "Interrupted."
    : wrong === 0
    ? `All ${right} checks hold.`
    : `${wrong} of ${right + wrong} checks do not hold.`;
  say(`\n${paint(1, verdict)}`);
  return interrupted ? 130 : wrong === 0 ? 0 : 1;
}

Deno.exit(await main());
