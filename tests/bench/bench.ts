/**
 * `deno task bench`: how quick a jail is to start and to join, and what it costs, beside firejail and
 * bare bubblewrap measured in the same run. It prints ratios; it judges nothing, and is no test.
 *
 * Commands are timed by hyperfine in turns, so that a machine that grows slower or busier meanwhile
 * does so for all of them. Medians are compared: a mean is what one hiccup makes of it.
 *
 * @module
 */
import { Fd, open } from "../../ipc/fd.ts";
import { answer, connectTo } from "../../cmd/client.ts";
import { align } from "../../core/table.ts";
import { build } from "../../packaging/build.ts";
import { isRoot, World } from "../jail/world.ts";
import { plot } from "./plot.ts";
import { encryptedBytes, encryptedStart, makeVault } from "./vault.ts";
import { keystrokes, median, throughPipes, throughTerminals } from "./streams.ts";
import { noSession } from "../../core/session.ts";

const turns = 3;
const runsEachTurn = 15;
const joinsAsked = 300;
const idleJails = 4;
/** What goes through a pipe; a terminal is given a twentieth of it. */
const bytes = Number(Deno.env.get("APPJAIL_BENCH_BYTES") ?? 4e9);

interface Timed {
  readonly name: string;
  readonly command: string;
  /** Done before each run, and not timed. */
  readonly prepare?: string;
}

/** The median wall time of each command, in milliseconds. */
async function time(
  commands: readonly Timed[],
  scratch: string,
  env: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, number>> {
  const times = new Map<string, number[]>(commands.map(({ name }) => [name, []]));
  const report = `${scratch}/hyperfine.json`;
  for (let turn = 0; turn < turns; turn++) {
    for (const { name, command, prepare } of commands) {
      const { success, stderr } = await new Deno.Command("hyperfine", {
        args: [
          ...["-N", "--style=none", "--warmup=2", `--runs=${runsEachTurn}`],
          ...(prepare === undefined ? [] : ["--prepare", prepare]),
          `--export-json=${report}`,
          command,
        ],
        env: { ...env },
        stdout: "null",
      }).output();
      if (!success) {
        throw new Error(`Cannot time ${command}: ${new TextDecoder().decode(stderr).trim()}`);
      }
      const result = JSON.parse(await Deno.readTextFile(report)).results[0].times as number[];
      times.get(name)?.push(...result.map((seconds) => seconds * 1000));
    }
  }
  return new Map([...times].map(([name, all]) => [name, median(all)]));
}

/** The median time from a request to `started`, in milliseconds: dispatcher and jailer together. */
async function requestToExec(socket: string, profile: string): Promise<number> {
  const times: number[] = [];
  for (let turn = 0; turn < joinsAsked; turn++) {
    using channel = await connectTo(socket);
    const stdio: Fd[] = [0, 1, 2].map(() => open("/dev/null", 2));
    const before = performance.now();
    channel.send({
      type: "run",
      profile,
      argv: ["/bin/true"],
      cwd: null,
      cwd_required: false,
      terminal: null,
      env: {},
      inherited: {},
      session: noSession,
      lend: [],
      stdio: "passed",
    }, stdio);
    const started = await answer(channel);
    times.push(performance.now() - before);
    if (started?.type !== "started") throw new Error("the daemon did not start /bin/true");
    await answer(channel);
  }
  return median(times);
}

/** What a process has for itself alone, in MiB. proc(5), smaps_rollup. */
function privateMemory(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
  const kib = [...text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)]
    .reduce((sum, [, number]) => sum + Number(number), 0);
  return kib / 1024;
}

function parentOf(pid: number): number {
  return Number(/^PPid:\t(\d+)/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))?.[1]);
}

/** @param picture where to draw the start times, if anywhere */
async function main(picture: string | undefined): Promise<number> {
  if (!isRoot) {
    console.error("bench: it starts a daemon, and that takes root");
    return 100;
  }
  const scratch = await Deno.makeTempDir({ dir: "/tmp", prefix: "appjail-bench-" });
  await Deno.chmod(scratch, 0o755);
  try {
    let exe = Deno.env.get("APPJAIL_EXE");
    if (exe === undefined || exe === "") {
      await build({
        entry: Deno.realPathSync(`${import.meta.dirname}/../..`) + "/main.ts",
        out: `${scratch}/dist`,
        base: Deno.env.get("DENORT_BIN") || undefined,
        say: (line) => console.log(line),
      });
      exe = `${scratch}/dist/appjail`;
      Deno.env.set("APPJAIL_EXE", exe);
    }
    await using world = await World.start({ linger: 600 });
    const env = { APPJAIL_SOCKET: world.socket };
    const joined = await world.client(["run", "-d", "-p", "joined", "sleep", "3600"]);
    if (joined.code !== 0) throw new Error(joined.stderr);
    // A first time for each, so that no run pays for making the profile.
    await world.run("cold", ["true"]);
    using firejail = firejailToJoin();
    console.log(`Timing, ${turns} turns of ${runsEachTurn} runs each ...`);
    const times = await time(
      [
        {
          name: "cold",
          command: `${exe} run -p cold true`,
          prepare: `sh -c "${exe} stop --force cold || true"`,
        },
        { name: "firejail", command: "firejail --quiet true" },
        {
          name: "bubblewrap",
          command: "bwrap --unshare-user --unshare-pid --unshare-ipc --unshare-uts " +
            "--unshare-cgroup-try --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp true",
        },
        { name: "join", command: `${exe} run -p joined true` },
        { name: "firejail join", command: `firejail --quiet --join=${firejail.name} true` },
        { name: "deno", command: `${exe} --version` },
      ],
      scratch,
      env,
    );
    const inside = await requestToExec(world.socket, "joined");
    console.log(`Timing ${bytes / 1e9} GB through pipes, and through terminals ...`);
    const piped = await throughPipes(world, exe, bytes);
    const shown = await throughTerminals(world, exe, Math.ceil(bytes / 20));
    const typed = await keystrokes(world, exe);
    console.log("Timing an encrypted home ...");
    await makeVault(world);
    const unlocked = await encryptedStart(world);
    const written = await encryptedBytes(world, Math.ceil(bytes / 20));
    const names = Array.from({ length: idleJails }, (_, at) => `idle${at}`);
    for (const name of names) await world.run(name, ["true"]);
    const jails = (await world.status()).filter(({ profile }) => names.includes(profile));
    const memory = median(
      jails.map(({ jailer_pid }) =>
        privateMemory(jailer_pid) + privateMemory(parentOf(jailer_pid))
      ),
    );

    const of = (name: string): number => times.get(name) ?? NaN;
    const ms = (value: number): string => `${value.toFixed(1)} ms`;
    const reached = (yes: boolean, aim: string): string => `${aim}: ${yes ? "reached" : "missed"}`;
    const ratio = (name: string, peer: string): number => of(name) / of(peer);
    const row = (what: string, ours: string, peer: string, theirs: string, aim = "") => [
      what,
      ours,
      peer,
      theirs,
      aim,
    ];
    const rows = [
      row("WHAT", "APPJAIL", "PEER", "RATIO", "AIM"),
      row(
        "cold `run true`",
        ms(of("cold")),
        `firejail, default profile: ${ms(of("firejail"))}`,
        ratio("cold", "firejail").toFixed(2),
        reached(ratio("cold", "firejail") <= 0.9, "at most 0.90"),
      ),
      row(
        "",
        "",
        `bare bubblewrap: ${ms(of("bubblewrap"))}`,
        ratio("cold", "bubblewrap").toFixed(2),
      ),
      row(
        "joining `run true`",
        ms(of("join")),
        `firejail --join: ${ms(of("firejail join"))}`,
        ratio("join", "firejail join").toFixed(2),
        reached(of("join") <= 20, "at most 20 ms"),
      ),
      row(
        "",
        "",
        `appjail --version: ${ms(of("deno"))}`,
        ratio("join", "deno").toFixed(2),
      ),
      row(
        "a join from request to exec",
        ms(inside),
        "",
        "",
        reached(inside <= 3, "at most 3 ms"),
      ),
      row(
        "an idle jail's private memory",
        `${memory.toFixed(1)} MiB`,
        "",
        "",
        reached(memory <= 13, "at most 13 MiB"),
      ),
      // Of speeds, which are the inverse of times.
      row(
        "bytes through `cat` and pipes",
        ms(piped.ours),
        `cat: ${ms(piped.theirs)}`,
        (piped.theirs / piped.ours).toFixed(2),
        reached(piped.theirs / piped.ours >= 0.95, "at least 0.95"),
      ),
      row(
        "a text on a terminal",
        ms(shown.ours),
        `script: ${ms(shown.theirs)}`,
        (shown.theirs / shown.ours).toFixed(2),
        reached(shown.theirs / shown.ours >= 0.8, "at least 0.80"),
      ),
      row(
        "a key's echo",
        `${typed.ours.toFixed(3)} ms`,
        `cat: ${typed.theirs.toFixed(3)} ms`,
        "",
        reached(typed.ours - typed.theirs < 0.3, "less than 0.3 ms more"),
      ),
      row(
        "cold, with a locked gocryptfs home",
        ms(unlocked.ours),
        `with a plain home: ${ms(unlocked.theirs)}`,
        (unlocked.ours / unlocked.theirs).toFixed(2),
      ),
      row(
        "bytes to that home and back",
        ms(written.ours),
        `on the bare mount: ${ms(written.theirs)}`,
        (written.theirs / written.ours).toFixed(2),
        reached(written.theirs / written.ours >= 0.95, "at least 0.95"),
      ),
    ];
    console.log(`\n${align(rows, [1, 3]).join("\n")}\n`);
    console.log("Medians. Absolute times are this machine's; compare ratios.");
    if (picture !== undefined) {
      const bar = (label: string, name: string) => ({
        label,
        value: of(name),
        ours: label === "appjail",
      });
      const groups = [
        {
          title: "A jail is made",
          bars: [
            bar("appjail", "cold"),
            bar("firejail, default profile", "firejail"),
            bar("bubblewrap alone", "bubblewrap"),
          ],
        },
        {
          title: "A jail is joined",
          bars: [bar("appjail", "join"), bar("firejail --join", "firejail join")],
        },
      ];
      const note = "Wall time of `true`, medians; all measured in one run on one machine.";
      await Deno.writeTextFile(picture, plot("How long until a program has run", groups, note));
      console.log(`Drew ${picture}.`);
    }
    return 0;
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

/** A firejail sandbox that stays, to be joined. */
function firejailToJoin(): Disposable & { readonly name: string } {
  const name = `bench${Deno.pid}`;
  const child = new Deno.Command("firejail", {
    args: ["--quiet", `--name=${name}`, "sleep", "3600"],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  for (let tries = 0; tries < 200; tries++) {
    const { success } = new Deno.Command("firejail", {
      args: ["--quiet", `--join=${name}`, "true"],
      stdout: "null",
      stderr: "null",
    }).outputSync();
    if (success) return { name, [Symbol.dispose]: () => child.kill("SIGTERM") };
  }
  child.kill("SIGTERM");
  throw new Error("Cannot compare with firejail --join: firejail does not start");
}

if (import.meta.main) {
  const [option, file, ...more] = Deno.args;
  if (option !== undefined && (option !== "--plot" || file === undefined || more.length > 0)) {
    console.error("bench: usage: deno task bench [--plot FILE.svg]");
    Deno.exit(100);
  }
  Deno.exit(await main(file));
}
