/**
 * The desktop of somebody who is not root, in a test's scratch folder: a compositor or an X server
 * without a screen, a sound server without a card, a session bus; and profiles that a test writes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { accountOf } from "../../core/accounts.ts";
import { searchPath } from "../../core/environment.ts";
import { coloursOf, type Picture, readPng, readXwd } from "./picture.ts";
import {
  execute,
  isRoot,
  type Outcome,
  ownEtc,
  uA,
  until,
  World,
  type WorldOptions,
} from "../jail/world.ts";

/**
 * A world whose administrator has written these profiles, and in which passwd(5) has uA at home on the
 * desktop that the test makes.
 */
export function withProfiles(
  profiles: Readonly<Record<string, string>>,
  options: WorldOptions = {},
): WorldOptions {
  return {
    ...options,
    before: async (folder) => {
      await ownEtc.before(folder);
      const passwd = `${folder}/etc/passwd`;
      const lines = (await Deno.readTextFile(passwd)).split("\n").map((line) => {
        const fields = line.split(":");
        if (fields[2] === String(uA)) fields[5] = `${folder}/desk`;
        return fields.join(":");
      });
      await Deno.writeTextFile(passwd, lines.join("\n"));
      for (const [name, text] of Object.entries(profiles)) {
        await Deno.writeTextFile(`${folder}/admin/${name}.toml`, text);
      }
    },
    wrap: (words, folder) => ownEtc.wrap(options.wrap?.(words, folder) ?? words, folder),
  };
}

/**
 * Words that first change the daemon's own view of the machine's files: a script for the mount namespace
 * that it has for itself. `$0` is the scratch folder.
 */
export function changed(script: string): Required<Pick<WorldOptions, "wrap">> {
  return {
    wrap: (words, folder) => ["sh", "-c", `set -e; ${script}; exec "$@"`, folder, ...words],
  };
}

/** The daemon's own view of a machine on which a program is not installed. */
export function without(program: string): Required<Pick<WorldOptions, "wrap">> {
  return changed(
    'mkdir "$0/less"; mount -t tmpfs tmpfs "$0/less"; mkdir "$0/less/upper" "$0/less/work"; ' +
      'mount -t overlay -o "lowerdir=/usr/bin,upperdir=$0/less/upper,workdir=$0/less/work" ' +
      `overlay /usr/bin; rm /usr/bin/${program}`,
  );
}

/** Those that come with the program. */
export const shippedProfiles: string = Deno.realPathSync(`${import.meta.dirname}/../../profiles`);

/** Whether a program is there: where a jail looks for it, and where Debian has those of services. */
export function hasProgram(program: string): boolean {
  return [...searchPath.split(":"), "/usr/libexec"].some((folder) => {
    try {
      return Deno.statSync(`${folder}/${program}`).isFile;
    } catch {
      return false;
    }
  });
}

/** A test of a world and a desktop, which needs some programs: without one of them it is ignored. */
export function deskTest(
  name: string,
  programs: readonly string[],
  options: WorldOptions,
  body: (t: Deno.TestContext, world: World, desk: Desk) => Promise<void>,
): void {
  const lacking = programs.filter((program) => !hasProgram(program));
  Deno.test({
    name: lacking.length === 0 ? name : `${name} (there is no ${lacking.join(", no ")})`,
    ignore: !isRoot || lacking.length > 0,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async (t) => {
      await using world = await World.start({ profiles: shippedProfiles, linger: 600, ...options });
      await using desk = await Desk.of(world);
      await body(t, world, desk);
    },
  });
}

/** A window, as its compositor or its X server has it. */
export interface Window {
  readonly title: string;
  readonly on: "wayland" | "x11";
}

export interface XServerOptions {
  readonly width?: number;
  readonly height?: number;
  readonly words?: readonly string[];
}

/** The colour of weston's screen. */
export const background = 0x204060;

/** The desktop of uA. */
export class Desk implements AsyncDisposable {
  /** Its XDG_RUNTIME_DIR, and its home. */
  readonly folder: string;
  /** What a client's environment says of it. */
  readonly env: Record<string, string>;
  readonly #running: Deno.ChildProcess[] = [];
  readonly #ends: (() => Promise<void>)[] = [];
  readonly #gid: number;
  #shots = 0;

  private constructor(folder: string, gid: number) {
    this.folder = folder;
    this.#gid = gid;
    this.env = { XDG_RUNTIME_DIR: folder };
  }

  static async of(world: World): Promise<Desk> {
    const folder = `${world.folder}/desk`;
    await Deno.mkdir(folder, { mode: 0o700 });
    const gid = accountOf(await Deno.readTextFile("/etc/passwd"), uA)?.gid ?? uA;
    await Deno.chown(folder, uA, gid);
    return new Desk(folder, gid);
  }

  /** The words of a program of uA's with the desktop's own environment, and no other. */
  #words(words: readonly string[]): readonly string[] {
    const env = { ...this.env, HOME: this.folder, PATH: "/usr/bin:/bin", LANG: "C.UTF-8" };
    return [
      // With the group that passwd(5) says, as after a login: what is lent is mapped by it.
      ...["setpriv", `--reuid=${uA}`, `--regid=${this.#gid}`, "--clear-groups", "--"],
      ...["env", "-i", "-C", this.folder],
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      ...words,
    ];
  }

  /** Runs a program of uA's, outside of any jail, to its end. */
  async run(...words: readonly string[]): Promise<Outcome> {
    return await execute(this.#words(words));
  }

  /** The same; it has to succeed. */
  async done(...words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...words);
    assert.equal(code, 0, `${words.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Starts a program of uA's, which is ended with the desktop; what it says is in `NAME.log`. */
  start(name: string, words: readonly string[]): Deno.ChildProcess {
    const script = `exec "$@" >${this.folder}/${name}.log 2>&1`;
    const [command = "", ...args] = this.#words(["sh", "-c", script, "sh", ...words]);
    const child = new Deno.Command(command, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "null",
      detached: true,
    }).spawn();
    this.#running.push(child);
    return child;
  }

  async log(name: string): Promise<string> {
    return await Deno.readTextFile(`${this.folder}/${name}.log`).catch(() => "");
  }

  /** Waits for somebody who answers at a socket: it has its name before. listen(2). */
  async #listens(name: string, socket: string): Promise<void> {
    await until(`${name} listens`, async () => {
      const connection = await Deno.connect({ transport: "unix", path: socket }).catch(() => {});
      connection?.close();
      return connection !== undefined;
    }).catch(async (error) => {
      throw new Error(`${name}: ${await this.log(name)}`, { cause: error });
    });
  }

  /** A Wayland compositor, with a screen of 640 × 480 in one colour. weston(1). */
  async compositor(): Promise<void> {
    await this.#weston(["--backend=headless-backend.so", "--width=640", "--height=480"]);
    await until(
      "the background is drawn",
      async () => (await this.screenshot()).pixels.every((colour) => colour === background),
    );
  }

  /**
   * A desktop for programs of both kinds, with a keyboard and a mouse, which a headless compositor has
   * not: an X server, and on it, as large as its screen, a compositor.
   */
  async bothServers(width = 1280, height = 900): Promise<void> {
    await this.xServer({ width, height });
    await this.#weston(["--backend=x11-backend.so", `--width=${width}`, `--height=${height}`]);
    await until("the background is drawn", async () => {
      // All but the mouse's pointer.
      const drawn = coloursOf(await this.xScreen()).get(background) ?? 0;
      return drawn > 0.99 * width * height;
    });
  }

  /** Starts weston, with a background of one colour and nothing else. */
  async #weston(words: readonly string[]): Promise<void> {
    const settings = `${this.folder}/weston.ini`;
    await Deno.writeTextFile(
      settings,
      `[core]\nidle-time=0\n[shell]\npanel-position=none\nbackground-color=0xff${
        background.toString(16)
      }\n`,
    );
    this.env["WAYLAND_DISPLAY"] = "wayland-7";
    this.start("weston", [
      ...["weston", ...words, "--use-pixman", "--socket=wayland-7", `--config=${settings}`],
      // Screenshots, and what windows there are, are for those who debug.
      "--debug",
    ]);
    await this.#listens("weston", `${this.folder}/wayland-7`);
  }

  /** What windows there are, where both servers run. weston-debug(1), xwininfo(1). */
  async windows(): Promise<readonly Window[]> {
    const scene = await this.done("weston-debug", "scene-graph");
    const tree = await this.done("xwininfo", "-root", "-children");
    return [
      ...[...scene.matchAll(/, top-level window '(.*)' of .*, 0x[0-9a-f]+\):$/gm)]
        .map(([, title = ""]): Window => ({ title, on: "wayland" })),
      ...[...tree.matchAll(/^ +0x[0-9a-f]+ "(.*)": \((?:"(.*?)" ".*")?\) /gm)]
        .filter(([, , program = ""]) => !/^(?:weston-1)?$/.test(program))
        .map(([, title = ""]): Window => ({ title, on: "x11" })),
    ];
  }

  /** What the compositor shows. */
  async screenshot(): Promise<Picture> {
    const folder = `${this.folder}/shot-${this.#shots++}`;
    await this.done("mkdir", folder);
    await this.done("env", "-C", folder, "weston-screenshooter");
    const [file] = [...Deno.readDirSync(folder)];
    assert(file !== undefined, "weston-screenshooter wrote nothing");
    const picture = await readPng(await Deno.readFile(`${folder}/${file.name}`));
    await Deno.remove(folder, { recursive: true });
    return picture;
  }

  /**
   * An X server with a small screen that lets in who has its cookie. Xvfb(1).
   *
   * @param words further words for it
   */
  async xServer({ width = 320, height = 240, words = [] }: XServerOptions = {}): Promise<void> {
    // Only root can make it; a machine without a desktop may have none.
    const sockets = "/tmp/.X11-unix";
    const made = await Deno.mkdir(sockets).then(() => true, () => false);
    if (made) {
      await Deno.chmod(sockets, 0o1777);
      // Another run may have its own in it by then.
      this.#ends.push(() => Deno.remove(sockets).catch(() => {}));
    }
    const cookie = [...crypto.getRandomValues(new Uint8Array(16))]
      .map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const authority = `${this.folder}/server-authority`;
    await Deno.writeTextFile(authority, "");
    await Deno.chown(authority, uA, uA);
    await this.done("xauth", "-q", "-f", authority, "add", ":0", ".", cookie);
    this.start("xvfb", [
      ...["Xvfb", "-displayfd", "1", "-auth", authority, "-noreset", "-nolisten", "tcp"],
      ...["-screen", "0", `${width}x${height}x24`, "-fbdir", this.folder, ...words],
    ]);
    const number = await until(
      "Xvfb tells its number",
      async () => /^([0-9]+)$/m.exec(await this.log("xvfb"))?.[1],
    );
    this.env["DISPLAY"] = `:${number}`;
    this.env["XAUTHORITY"] = `${this.folder}/authority`;
    await Deno.writeTextFile(`${this.folder}/authority`, "");
    await Deno.chown(`${this.folder}/authority`, uA, uA);
    await this.done("xauth", "-q", "add", `:${number}`, ".", cookie);
  }

  /** What the X server shows. */
  async xScreen(): Promise<Picture> {
    return readXwd(await Deno.readFile(`${this.folder}/Xvfb_screen0`));
  }

  /** A sound server without a card: what is played goes nowhere. pulseaudio(1). */
  async soundServer(): Promise<void> {
    this.start("pulseaudio", [
      ...["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n", "--disable-shm=yes"],
      ...["-L", "module-null-sink sink_name=nowhere", "-L", "module-native-protocol-unix"],
    ]);
    await this.#listens("pulseaudio", `${this.folder}/pulse/native`);
    await until("the sink is there", async () => {
      const { stdout } = await this.run("pactl", "list", "short", "sinks");
      return stdout.includes("nowhere");
    });
  }

  /** PipeWire without a card, and who connects its streams, which needs a session bus. pipewire(1). */
  async pipeWire(): Promise<void> {
    await this.sessionBus();
    this.start("pipewire", ["pipewire"]);
    await this.#listens("pipewire", `${this.folder}/pipewire-0`);
    const sink = "factory.name=support.null-audio-sink node.name=nowhere media.class=Audio/Sink " +
      "object.linger=true audio.position=[FL FR]";
    await this.done("pw-cli", "create-node", "adapter", `{ ${sink} }`);
    this.start("wireplumber", ["wireplumber"]);
    await until("the sink is the default one", async () => {
      const { stdout } = await this.run("pw-metadata", "0", "default.audio.sink");
      return stdout.includes("nowhere");
    }).catch(async (error) => {
      throw new Error(`wireplumber: ${await this.log("wireplumber")}`, { cause: error });
    });
  }

  /** PipeWire's own server for those who speak to PulseAudio. pipewire-pulse(1). */
  async pipeWirePulse(): Promise<void> {
    this.start("pipewire-pulse", ["pipewire-pulse"]);
    await this.#listens("pipewire-pulse", `${this.folder}/pulse/native`);
  }

  /** A session bus. dbus-daemon(1). */
  async sessionBus(): Promise<void> {
    const socket = `${this.folder}/bus`;
    const config = `${this.folder}/bus.conf`;
    // It lets its owner in, and the test: no application.
    await Deno.writeTextFile(
      config,
      `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="root"/><allow user="${uA}"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>`,
    );
    this.start("dbus-daemon", [
      ...["dbus-daemon", "--nofork", "--nopidfile", `--config-file=${config}`],
    ]);
    this.env["DBUS_SESSION_BUS_ADDRESS"] = `unix:path=${socket}`;
    await this.#listens("dbus-daemon", socket);
  }

  /** The portals, as GNOME has them: they need a session bus and an X server. */
  async portals(): Promise<void> {
    this.env["XDG_CURRENT_DESKTOP"] = "GNOME";
    for (
      const [program, name] of [
        ["xdg-permission-store", "org.freedesktop.impl.portal.PermissionStore"],
        ["xdg-desktop-portal-gtk", "org.freedesktop.impl.portal.desktop.gtk"],
        ["xdg-desktop-portal", "org.freedesktop.portal.Desktop"],
      ] as const
    ) {
      this.start(program, [`/usr/libexec/${program}`]);
      const { code } = await this.run("gdbus", "wait", "--session", "--timeout", "20", name);
      assert.equal(code, 0, `${program}: ${await this.log(program)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#running.reverse()) {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await child.status;
    }
    for (const end of this.#ends) await end();
  }
}
