/**
 * A jail's programs are known to their owner's compositor as what they are: by a security context of
 * the jail's own, where the compositor makes them. Debian 12 has none that does; see compositor.ts.
 */
import assert from "node:assert/strict";
import { connect, peerOf } from "../../ipc/socket.ts";
import {
  contextIn,
  globalsOf,
  type Manner,
  manners,
  offersContexts,
  TestCompositor,
} from "./compositor.ts";
import {
  execute,
  firstUid,
  jailTest,
  type Outcome,
  uA,
  uidsOf,
  until,
  World,
  type WorldOptions,
} from "./world.ts";

const profiles: Readonly<Record<string, string>> = {
  window: 'display = "wayland"',
  other: 'display = "wayland"',
  either: 'display = "auto"',
  demanding: 'display = "wayland-context"',
  alike: 'display = "wayland-context"\nsame_uid = true\n',
  blind: 'display = "none"',
  // Places are lent in their order.
  broken: 'display = "wayland-context"\nlend = [{ path = "/nowhere", at = "/srv/x" }]\n',
};

/** A world with a folder for the sockets of uA's desktop. */
const options: WorldOptions = {
  linger: 600,
  before: async (folder) => {
    await Deno.mkdir(`${folder}/desk`, { mode: 0o700 });
    await Deno.chown(`${folder}/desk`, uA, uA);
    for (const [name, text] of Object.entries(profiles)) {
      await Deno.writeTextFile(`${folder}/admin/${name}.toml`, text);
    }
  },
};

class Screen implements AsyncDisposable {
  readonly world: World;
  readonly env: Readonly<Record<string, string>>;
  #compositor: TestCompositor | undefined;
  #names = 0;

  private constructor(world: World) {
    this.world = world;
    this.env = { XDG_RUNTIME_DIR: `${world.folder}/desk` };
  }

  static async start(manner: Manner): Promise<Screen> {
    const screen = new Screen(await World.start(options));
    screen.become(manner);
    return screen;
  }

  /** Another compositor, in place of the one before. */
  become(manner: Manner): void {
    this.#compositor?.[Symbol.dispose]();
    const name = `wayland-${++this.#names}`;
    Object.assign(this.env, { WAYLAND_DISPLAY: name });
    this.#compositor = new TestCompositor(`${this.world.folder}/desk/${name}`, manner, uA);
  }

  get compositor(): TestCompositor {
    assert(this.#compositor !== undefined);
    return this.#compositor;
  }

  /** `appjail …` as uA, on this desktop. */
  async appjail(...words: readonly string[]): Promise<Outcome> {
    return await this.world.client(words, { uid: uA, env: this.env });
  }

  /** What a client in a profile's jail is offered. */
  async globals(profile: string): Promise<string> {
    const { code, stdout, stderr } = await this.appjail("run", "-p", profile, "--", ...globalsOf);
    assert.equal(code, 0, `${stderr}\n${this.world.log}`);
    return stdout;
  }

  async stop(): Promise<void> {
    assert.equal((await this.appjail("stop", "--force", "--all")).code, 0);
  }

  /** Whether each jail has a context, by its profile. */
  async contexts(): Promise<Readonly<Record<string, boolean>>> {
    const jails = await this.world.status(uA);
    return Object.fromEntries(
      jails.flatMap(({ profile, lends }) =>
        lends.filter(({ at }: { at: string | null }) => at?.endsWith("/wayland-0"))
          .map(({ context }: { context: boolean }) => [profile, context])
      ),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
    this.#compositor?.[Symbol.dispose]();
    assert.deepEqual(this.compositor.faults, []);
  }
}

/** What is left of jails' own sockets. */
function leftIn(world: World): readonly string[] {
  return [...Deno.readDirSync(`${world.runtime}/jails`)].map(({ name }) => name);
}

/** The capabilities that a process can use. */
async function capabilitiesOf(pid: number): Promise<string | undefined> {
  return /^CapEff:\t(.*)$/m.exec(await Deno.readTextFile(`/proc/${pid}/status`))?.[1];
}

/** How many descriptors a process has. */
function descriptorsOf(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

jailTest("a compositor knows a jailed program by its security context", async (t) => {
  await using screen = await Screen.start("makes contexts");
  const { world, compositor } = screen;

  await t.step("it says of itself what it is in, and by whom", async () => {
    const globals = await screen.globals("window");
    assert.equal(contextIn(globals), "org.appjail window");
    assert(globals.includes("wl_compositor"), globals);
    assert(!offersContexts(globals), "it could make contexts itself");
    const outside = await execute([
      ...["env", ...Object.entries(screen.env).map(([name, value]) => `${name}=${value}`)],
      ...globalsOf,
    ]);
    assert.equal(contextIn(outside.stdout), undefined);
    assert(offersContexts(outside.stdout), "without that, this says nothing");
  });

  await t.step("whoever has it made, and whoever listens by it, is the owner and not root", () => {
    const [context] = compositor.contexts;
    assert.deepEqual([context?.maker.uid, context?.maker.gid], [uA, accountGid()]);
    const socket = `${world.runtime}/jails/${firstUid}/wayland`;
    using connection = connect(socket);
    assert.equal(peerOf(connection.number).uid, uA);
    const { uid, mode } = Deno.lstatSync(socket);
    assert.deepEqual([uid, (mode ?? 0) & 0o777], [uA, 0o600]);
  });

  await t.step("nobody else reaches it: not by its path, not from another jail", async () => {
    const socket = `${world.runtime}/jails/${firstUid}/wayland`;
    for (const uid of [uA, firstUid + 1]) {
      const script = "use Socket; socket my $s, AF_UNIX, SOCK_STREAM, 0;" +
        "exit(connect($s, sockaddr_un($ARGV[0])) ? 0 : 1)";
      const words = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
      const { code } = await execute([...words, "perl", "-e", script, socket]);
      assert.equal(code, 1, `uid ${uid}`);
    }
  });

  await t.step("a second program of the jail is in the same one, another jail is not", async () => {
    assert.equal(contextIn(await screen.globals("window")), "org.appjail window");
    assert.equal(compositor.contexts.length, 1);
    assert.equal(contextIn(await screen.globals("other")), "org.appjail other");
    const instances = compositor.contexts.map(({ instance }) => instance);
    assert.equal(instances.length, 2);
    assert.match(instances[0] ?? "", new RegExp(`^${firstUid}-\\d+$`));
    assert.notEqual(instances[0], instances[1]);
  });

  await t.step("status says so, and -v has nothing to warn of", async () => {
    assert.deepEqual(await screen.contexts(), { window: true, other: true });
    const { stdout } = await screen.appjail("status", "window");
    assert.match(stdout, /wayland-0 +rw +in a security context +\/.*\/desk\/wayland-1$/m);
    const { stderr } = await screen.appjail("run", "-v", "-p", "window", "true");
    assert.doesNotMatch(stderr, /context/);
    assert.doesNotMatch(world.log, /security context/);
  });

  await t.step("a jail that outlives the daemon keeps it", async () => {
    assert.equal(await world.stopDaemon(), 0);
    await world.startDaemon();
    assert.equal(contextIn(await screen.globals("window")), "org.appjail window");
    assert.deepEqual(await screen.contexts(), { window: true, other: true });
    assert.equal(compositor.contexts.length, 2);
  });

  await t.step("it ends with its jail, and nothing of it is left", async () => {
    const [first, second] = compositor.contexts;
    assert.equal((await screen.appjail("stop", "--force", "window")).code, 0);
    await first?.ended;
    assert.deepEqual(leftIn(world), [String(firstUid + 1)]);
    assert.equal(contextIn(await screen.globals("other")), "org.appjail other");
    await screen.stop();
    await second?.ended;
    assert.deepEqual(leftIn(world), []);
  });

  for (const profile of ["either", "demanding", "alike"]) {
    await t.step(`the same for a profile that is ${profile}`, async () => {
      assert.equal(contextIn(await screen.globals(profile)), `org.appjail ${profile}`);
      await screen.stop();
      await compositor.contexts.at(-1)?.ended;
    });
  }

  await t.step("a program that sees itself as its owner reaches it all the same", async () => {
    const { stdout } = await screen.appjail("run", "-p", "alike", "sh", "-c", "id -u; echo $XDG*");
    assert.equal(stdout.split("\n")[0], String(uA));
    await screen.stop();
  });

  await t.step("with a jail that does not start it ends as well", async () => {
    const before = compositor.contexts.length;
    const { code, stderr } = await screen.appjail("run", "-p", "broken", "true");
    assert.equal(code, 111, stderr);
    assert.equal(compositor.contexts.length, before + 1, "none was made for it");
    await compositor.contexts.at(-1)?.ended;
    assert.deepEqual(leftIn(world), []);
  });

  await t.step("what is no socket is no compositor, and somebody else's is nobody's", async () => {
    const { WAYLAND_DISPLAY = "" } = screen.env;
    await Deno.writeTextFile(`${world.folder}/desk/file`, "");
    Object.assign(screen.env, { WAYLAND_DISPLAY: "file" });
    const file = await screen.appjail("run", "-p", "demanding", "true");
    assert.equal(file.code, 111, file.stderr);
    assert.match(file.stderr, /no security context of the compositor: it is no socket/);
    Object.assign(screen.env, { WAYLAND_DISPLAY: `${world.folder}/root` });
    using others = new TestCompositor(`${world.folder}/root`, "makes contexts", 0);
    const denied = await screen.appjail("run", "-p", "demanding", "true");
    assert.equal(denied.code, 111, denied.stderr);
    assert.match(denied.stderr, /you may not open it/);
    assert.equal(others.connections, 0);
    Object.assign(screen.env, { WAYLAND_DISPLAY });
  });

  await t.step("a jail without a display asks no compositor for anything", async () => {
    const { connections } = compositor;
    assert.equal((await screen.appjail("run", "-p", "blind", "true")).code, 0);
    assert.equal(compositor.connections, connections);
  });

  await t.step("a plan tells what the compositor can do", async () => {
    const plan = async (profile: string) => (await screen.appjail("plan", profile)).stdout;
    const json = async (profile: string) =>
      JSON.parse((await screen.appjail("plan", "--json", profile)).stdout).security_context;
    assert.match(await plan("window"), /^windows +by a security context of your compositor$/m);
    assert.equal(await json("window"), true);
    assert.match(await plan("blind"), /^windows +none$/m);
    assert.equal(await json("blind"), null);
    screen.become("makes none");
    const without = "your compositor makes no security contexts";
    assert.match(
      await plan("either"),
      new RegExp(`^windows +by your compositor's own socket: ${without}$`, "m"),
    );
    assert.match(
      await plan("demanding"),
      new RegExp(`^windows +it would not start: ${without}$`, "m"),
    );
    assert.equal(await json("window"), false);
    screen.become("says nothing");
    assert.match(await plan("window"), /own socket: your compositor: it does not answer$/m);
    assert.equal(await json("window"), null);
    Object.assign(screen.env, { WAYLAND_DISPLAY: "wayland-99" });
    assert.match(await plan("window"), /^windows +it would not start: there is no compositor/m);
    assert.match(await plan("either"), /^windows +none: there is no compositor/m);
  });
});

/** What is told of a compositor that makes none, whatever the reason. */
const reasons: Readonly<Record<Exclude<Manner, "makes contexts" | "sends descriptors">, RegExp>> = {
  "makes none": /it makes no security contexts/,
  "accepts nobody": /it accepts nobody/,
  "says nothing": /it does not answer/,
  "says nothing of a context": /it does not answer/,
  "sends garbage": /it sends |a text of it |an event of it /,
  "sends a message that is too long": /it sends a message of 65532 bytes/,
  "sends a message that is too short": /it sends a message of 4 bytes/,
  "sends a text that is longer than its message": /a text of it has 4294967295 bytes/,
  "sends an event of an object that there is not": /it sends event 0 of object 99/,
  "answers what was not asked yet": /it sends event 0 of object 6/,
  "has globals without an end": /it says more than 65536 bytes/,
  "reports an error": /it reports error 3 of object 5: invalid_metadata: \\x1b\[31mno/,
  "hangs up at once": /it has hung up/,
  "hangs up in the middle": /it has hung up/,
};

jailTest(
  "a compositor that makes none, or is hostile, is lent as it is, and that is said",
  async (t) => {
    await using screen = await Screen.start("makes none");
    const { world } = screen;
    // What is made once for all, and stays.
    assert.equal((await screen.appjail("run", "-p", "window", "true")).code, 0);
    await screen.stop();
    const descriptors = descriptorsOf(world.helperPid);
    const capabilities = await capabilitiesOf(Deno.pid);

    for (const [manner, reason] of Object.entries(reasons)) {
      await t.step(manner, async () => {
        screen.become(manner as Manner);
        const from = world.log.length;
        const { code, stderr } = await screen.appjail("run", "-v", "-p", "window", "true");
        assert.equal(code, 0, stderr);
        assert.match(stderr, /has your compositor's own socket, without a security context/);
        assert.deepEqual(await screen.contexts(), { window: false });
        const said = world.log.slice(from);
        assert.match(
          said,
          /jail window has the socket \/.*\/desk\/wayland-\d+ as it is: there is no/,
        );
        assert.match(said, reason);
        await screen.stop();

        const demanded = await screen.appjail("run", "-p", "demanding", "true");
        assert.equal(demanded.code, 111, demanded.stderr);
        assert.match(
          demanded.stderr,
          /Cannot start jail "demanding": .* no security context of/,
        );
        assert.match(demanded.stderr, reason);
        assert.deepEqual(leftIn(world), []);
        for (const { ended } of screen.compositor.contexts) await ended;
        screen.compositor.faults.length = 0;
      });
    }

    await t.step("descriptors that come along are let go of", async () => {
      screen.become("sends descriptors");
      assert.equal((await screen.appjail("run", "-p", "window", "true")).code, 0);
      assert.deepEqual(await screen.contexts(), { window: true });
      await screen.stop();
    });

    await t.step(
      "the helper is as it was: root, and with nothing that it did not have",
      async () => {
        assert.deepEqual(uidsOf(world.helperPid), [0, 0, 0, 0]);
        assert.equal(await capabilitiesOf(world.helperPid), capabilities);
        await until("it has let go of all", () => descriptorsOf(world.helperPid) <= descriptors);
        assert.equal(Object.keys(reasons).length + 2, manners.length);
      },
    );
  },
);

function accountGid(): number {
  const line = Deno.readTextFileSync("/etc/passwd").split("\n")
    .find((one) => one.split(":")[2] === String(uA));
  return Number(line?.split(":")[3]);
}
