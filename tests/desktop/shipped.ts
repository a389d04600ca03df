/**
 * The shipped profiles whose programs are in Debian, and how each is tried: the real program, started
 * as a person would, on the desktop of somebody whose home it must not see.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  background,
  type Desk,
  deskTest,
  shippedProfiles,
  type Window,
  withProfiles,
} from "./desk.ts";
import { coloursOf, countAlmost, type Picture } from "./picture.ts";
import { sampleColour, samples } from "./samples.ts";
import { appProcesses, execute, firstUid, uA, until, type World } from "../jail/world.ts";

/** A program with a window. */
export interface Program {
  /** What is called; it finds the profile. */
  readonly command: string;
  readonly profile: string;
  /** What it is to be called, once it has come up. */
  readonly title: RegExp;
  /** A sample that it is given to open. */
  readonly file?: keyof typeof samples;
  /** Whether the sample's colour is then on the screen. */
  readonly coloured?: boolean;
  /** A file in its home that is there when it has ended. */
  readonly keeps?: string;
  /** Words before the file. */
  readonly words?: readonly string[];
}

/** Programs, by what they are for; each group is a file of tests. */
export const programs = {
  web: [
    {
      profile: "chromium",
      command: "chromium",
      file: "page.html",
      title: /^page - Chromium/,
      coloured: true,
    },
    {
      profile: "epiphany",
      command: "epiphany-browser",
      file: "page.html",
      title: /^page/,
      coloured: true,
    },
  ],
  documents: [
    { profile: "okular", command: "okular", file: "paper.pdf", title: /paper/, coloured: true },
    { profile: "evince", command: "evince", file: "paper.pdf", title: /paper/, coloured: true },
    { profile: "zathura", command: "zathura", file: "paper.pdf", title: /paper/, coloured: true },
    {
      profile: "libreoffice",
      command: "libreoffice",
      words: ["--writer"],
      file: "letter.fodt",
      title: /letter/,
      coloured: true,
    },
    { profile: "gedit", command: "gedit", file: "notes.txt", title: /notes/ },
    { profile: "kate", command: "kate", file: "notes.txt", title: /notes/ },
    {
      profile: "gnome-text-editor",
      command: "gnome-text-editor",
      file: "notes.txt",
      title: /notes/,
    },
    { profile: "keepassxc", command: "keepassxc", title: /KeePassXC/ },
  ],
  pictures: [
    { profile: "gimp", command: "gimp", file: "picture.png", title: /picture/, coloured: true },
    { profile: "eog", command: "eog", file: "picture.png", title: /picture/, coloured: true },
    {
      profile: "gwenview",
      command: "gwenview",
      file: "picture.png",
      title: /picture/,
      coloured: true,
    },
    {
      profile: "inkscape",
      command: "inkscape",
      file: "drawing.svg",
      title: /drawing/,
      coloured: true,
    },
    { profile: "krita", command: "krita", file: "picture.png", title: /picture/, coloured: true },
    { profile: "darktable", command: "darktable", title: /darktable/ },
    { profile: "blender", command: "blender", title: /Blender/ },
  ],
  media: [
    {
      profile: "vlc",
      command: "vlc",
      // It asks at its first start whether it may ask the network about what it plays.
      words: ["--no-qt-privacy-ask"],
      file: "film.y4m",
      title: /film/,
      coloured: true,
    },
    { profile: "mpv", command: "mpv", file: "film.y4m", title: /film/, coloured: true },
    { profile: "audacity", command: "audacity", file: "tone.wav", title: /tone/ },
    {
      profile: "rhythmbox",
      command: "rhythmbox",
      title: /Rhythmbox/,
      // Its owner's dconf would keep its settings among the owner's own.
      keeps: ".config/glib-2.0/settings/keyfile",
    },
    { profile: "strawberry", command: "strawberry", title: /Strawberry/ },
    { profile: "obs", command: "obs", title: /^OBS / },
    { profile: "minetest", command: "minetest", title: /Main Menu/ },
  ],
  network: [
    { profile: "thunderbird", command: "thunderbird", title: /Mozilla Thunderbird/ },
    { profile: "claws-mail", command: "claws-mail", title: /Claws Mail/ },
    { profile: "geary", command: "geary", title: /Geary/ },
    { profile: "telegram", command: "telegram-desktop", title: /Telegram/ },
    { profile: "dino", command: "dino-im", title: /Dino/ },
    { profile: "nheko", command: "nheko", title: /nheko/ },
    { profile: "neochat", command: "neochat", title: /NeoChat/ },
    { profile: "hexchat", command: "hexchat", title: /HexChat/ },
    { profile: "pidgin", command: "pidgin", title: /Buddy List/ },
    { profile: "filezilla", command: "filezilla", title: /FileZilla/ },
    { profile: "qbittorrent", command: "qbittorrent", title: /qBittorrent|Legal/ },
    { profile: "transmission", command: "transmission-gtk", title: /Transmission/ },
  ],
} as const satisfies Readonly<Record<string, readonly Program[]>>;

/** What the desktop of all these tests is made of. */
const desktopOfAll: readonly string[] = [
  ...["weston", "weston-debug", "Xvfb", "xauth", "xwininfo", "dbus-daemon", "xdg-dbus-proxy"],
];

/** A home with something in it that is nobody's business, and something that is lent. */
interface Owner {
  readonly diary: string;
  readonly note: string;
  /** What is in both of them. */
  readonly word: string;
}

/** Writes a file of uA's. */
async function ownersFile(path: string, bytes: Uint8Array): Promise<void> {
  await Deno.writeFile(path, bytes, { mode: 0o600 });
  await Deno.chown(path, uA, uA);
}

async function furnish(desk: Desk): Promise<Owner> {
  const word = crypto.randomUUID();
  const [diary, note] = [`${desk.folder}/diary`, `${desk.folder}/note`];
  for (const path of [diary, note]) await ownersFile(path, new TextEncoder().encode(word));
  return { diary, note, word };
}

/**
 * Looks around in the jail, beside the program and as what it is: what is lent is found by its name
 * and its content, what is not is found by neither.
 */
async function seesNothingElse(
  world: World,
  desk: Desk,
  profile: string,
  { diary, note, word }: Owner,
): Promise<void> {
  const options = { uid: uA, env: desk.env, cwd: "/" };
  const lent = await world.client(["lend", profile, note], options);
  assert.equal(lent.code, 0, lent.stderr);
  // What is not pruned is all of it but the system's own.
  const script = `find / \\( -path /proc -o -path /sys -o -path /usr -o -path /etc \\) -prune \
    -o \\( -name diary -o -name note \\) -print 2>/dev/null
    grep -rsl -- ${word} /home /tmp /var /run /mnt /media /srv
    cat ${diary}; ls ${desk.folder}`;
  const { stdout, stderr } = await world.client(
    ["run", "-p", profile, "--", "sh", "-c", script],
    options,
  );
  assert.equal(stdout, `/home/${profile}/lent/note\n`.repeat(2), stderr);
  for (const path of [diary, desk.folder]) {
    assert(stderr.includes(`${path}': No such file`) || stderr.includes(`${path}: No such file`));
  }
}

/** What a jail could leave: mounts, what lies in the daemon's folder, what lies in the owner's home. */
async function around(world: World, desk: Desk): Promise<Readonly<Record<string, unknown>>> {
  const below = async (folder: string): Promise<readonly string[]> =>
    (await execute(["find", folder])).stdout.split("\n").sort();
  return {
    mounts: (await Deno.readTextFile("/proc/mounts")).split("\n")
      .filter((line) => line.includes(world.folder)),
    runtime: await below(world.runtime),
    home: await below(desk.folder),
  };
}

/** Whether there is more on the screen than an empty frame. */
function isDrawn(screen: Picture, empty: Picture): boolean {
  const [now, before] = [coloursOf(screen), coloursOf(empty)];
  const covered = Math.max(...before.values()) - (now.get(background) ?? 0);
  return covered > 10_000 && now.size > before.size + 16;
}

/** Starts the program, and looks at it, at what it sees, and at what it leaves. */
export function startsInItsJail(
  program: Program,
  more: () => Promise<void> = () => Promise.resolve(),
): void {
  const { profile, command, title, file, coloured, keeps, words = [] } = program;
  const name =
    `${profile}: ${command} comes up in its jail, sees what it is lent, and leaves nothing`;
  deskTest(name, [command, ...desktopOfAll], withProfiles({}), async (_t, world, desk) => {
    await desk.sessionBus();
    await desk.bothServers();
    const owner = await furnish(desk);
    const given: string[] = [];
    if (file !== undefined) {
      given.push(`${desk.folder}/${file}`);
      await ownersFile(`${desk.folder}/${file}`, await samples[file]());
    }
    const before = await around(world, desk);
    const empty = await desk.xScreen();
    const options = { uid: uA, env: desk.env, cwd: "/" };

    const { code, stderr } = await world.client(
      ["run", "--detach", command, ...words, ...given],
      options,
    );
    assert.equal(code, 0, stderr);
    const found = async (): Promise<Window | undefined> =>
      (await desk.windows()).find((window) => title.test(window.title));
    const isX11 = /^display = "x11"$/m.test(
      await Deno.readTextFile(`${shippedProfiles}/${profile}.toml`),
    );
    try {
      const { on } = await until(`a window is called ${title}`, found, 90);
      assert.equal(on, isX11 ? "x11" : "wayland");
      await until("there is something in it", async () => {
        const screen = await desk.xScreen();
        return coloured ? countAlmost(screen, sampleColour) > 5_000 : isDrawn(screen, empty);
      }, 60);
    } catch (error) {
      const titles = (await desk.windows()).map((window) => window.title);
      const { stdout } = await world.client(["logs", profile], options);
      throw new Error(`${titles.join(", ")}\n${stdout.slice(-3000)}\n${world.log.slice(-3000)}`, {
        cause: error,
      });
    }
    await more();
    await seesNothingElse(world, desk, profile, owner);
    assert(await found() !== undefined, "it has gone meanwhile");

    const stopped = await world.client(["stop", profile], options);
    assert.equal(stopped.code, 0, stopped.stderr);
    assert.deepEqual(appProcesses(), []);
    assert.deepEqual(await around(world, desk), before);
    if (keeps !== undefined) await Deno.lstat(`${world.data}/${firstUid}/${keeps}`);
    await until("its window is gone", async () => (await desk.windows()).length === 0);
  });
}
