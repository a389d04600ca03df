/**
 * A profile's home, and what may stand in its place: the helper makes it, looks at it and changes
 * nothing that was there before. And what is left of a uid when its jail has ended: the home alone.
 */
import assert from "node:assert/strict";
import { numberOf } from "../../ipc/libc.ts";
import { appProcesses, execute, firstUid, jailTest, type Outcome, uA, uB, World } from "./world.ts";

/** Every file below a folder with its owner, mode and, where it is one, text. */
function treeOf(folder: string): readonly unknown[] {
  return [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1).flatMap(
    ({ name, isDirectory, isFile }) => {
      const path = `${folder}/${name}`;
      const { uid, gid, mode } = Deno.lstatSync(path);
      const text = isFile ? Deno.readTextFileSync(path) : "";
      return [[path, uid, gid, mode, text], ...isDirectory ? treeOf(path) : []];
    },
  );
}

/** A folder that nobody is to touch: root's, with root's files. */
function victimIn(folder: string): { readonly path: string; readonly check: () => void } {
  const path = `${folder}/victim`;
  Deno.mkdirSync(`${path}/below`, { recursive: true });
  Deno.writeTextFileSync(`${path}/file`, "root's", { mode: 0o600 });
  Deno.writeTextFileSync(`${path}/below/file`, "root's", { mode: 0o644 });
  const own = () => {
    const { uid, gid, mode, mtime } = Deno.lstatSync(path);
    return [uid, gid, mode, mtime, treeOf(path)];
  };
  const before = own();
  return { path, check: () => assert.deepEqual(own(), before) };
}

/** Runs in the profile "mine", which is to be refused because of its home. */
function refused({ code, stdout, stderr }: Outcome): void {
  assert.equal(code, 111, stderr);
  assert.equal(stdout, "");
  assert.match(stderr, new RegExp(`^appjail: Cannot use the home of uid ${firstUid}: [^\n]+\n$`));
}

async function stopped(world: World, profile: string): Promise<void> {
  const { code, stderr } = await world.client(["stop", "--force", profile], { uid: uA });
  assert.equal(code, 0, stderr);
}

jailTest("what stands in the place of a home is refused, and stays as it is", async () => {
  await using world = await World.start();
  const victim = victimIn(world.folder);
  const run = () => world.client(["run", "-p", "mine", "cat", "below/file"], { uid: uA });
  await world.shell("mine", "mkdir below; echo mine > below/file", { uid: uA });
  await stopped(world, "mine");
  const home = `${world.data}/${firstUid}`;
  const aside = `${world.data}/aside`;
  Deno.renameSync(home, aside);
  const folder = (uid: number, mode: number) => () => {
    Deno.mkdirSync(home);
    Deno.chownSync(home, uid, uid);
    Deno.chmodSync(home, mode);
  };
  const places: readonly (readonly [what: string, place: () => void])[] = [
    ["a link to a folder of root's", () => Deno.symlinkSync(victim.path, home)],
    ["a link to the home itself", () => Deno.symlinkSync("aside", home)],
    ["a link to nothing", () => Deno.symlinkSync("nothing", home)],
    ["a link to itself", () => Deno.symlinkSync(String(firstUid), home)],
    ["a hard link to a file of root's", () => Deno.linkSync(`${victim.path}/file`, home)],
    ["a FIFO", () => void new Deno.Command("mkfifo", { args: [home] }).outputSync()],
    ["a folder of root's", folder(0, 0o700)],
    ["a folder of another profile's", folder(firstUid + 1, 0o755)],
  ];
  for (const [what, place] of places) {
    place();
    const { ino, uid, gid, mode } = Deno.lstatSync(home);
    refused(await run());
    const now = Deno.lstatSync(home);
    assert.deepEqual([now.ino, now.uid, now.gid, now.mode], [ino, uid, gid, mode], what);
    Deno.removeSync(home);
  }
  victim.check();
  assert.deepEqual(appProcesses(), []);
  assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);

  // Nor is there a way through the name under which a home is made.
  const scratch = `${world.data}/.${firstUid}.new`;
  Deno.symlinkSync(victim.path, scratch);
  refused(await run());
  Deno.removeSync(scratch);
  Deno.mkdirSync(scratch);
  Deno.writeTextFileSync(`${scratch}/kept`, "");
  refused(await run());
  assert.equal(Deno.lstatSync(`${scratch}/kept`).isFile, true);
  Deno.removeSync(scratch, { recursive: true });
  victim.check();

  Deno.renameSync(aside, home);
  Deno.chmodSync(home, 0o777);
  assert.equal((await run()).stdout, "mine\n");
  assert.equal((Deno.lstatSync(home).mode ?? 0) & 0o7777, 0o700);
});

jailTest("a link that comes and goes in the place of a home is never followed", async () => {
  await using world = await World.start();
  const victim = victimIn(world.folder);
  await world.run("mine", ["true"], { uid: uA });
  await stopped(world, "mine");
  // As fast as it can, for a home that is there and for those that are only being made.
  const swaps = `
    my ($victim, $home, @scratch) = @ARGV;
    $| = 1;
    print "swapping\\n";
    while (getppid() == ${Deno.pid}) {
      rename $home, "aside"; symlink $victim, $home; unlink $home; rename "aside", $home;
      for (@scratch) { rmdir $_; symlink $victim, $_; unlink $_; }
    }`;
  const profiles = Array.from({ length: 3 }, (_, index) => `new${index}`);
  const scratch = profiles.map((_, index) => `.${firstUid + 1 + index}.new`);
  const swapper = new Deno.Command("perl", {
    args: ["-e", swaps, victim.path, String(firstUid), ...scratch],
    cwd: world.data,
    stdout: "piped",
  }).spawn();
  try {
    await swapper.stdout.getReader().read();
    for (const profile of profiles) {
      for (const name of ["mine", profile]) {
        const outcome = await world.client(["run", "-p", name, "id", "-u"], { uid: uA });
        if (outcome.code === 0) continue;
        assert.equal(outcome.code, 111, outcome.stderr);
        assert.match(
          outcome.stderr,
          /^appjail: Cannot (?:use the home of uid|start jail)[^\n]*\n$/,
        );
      }
      await world.client(["stop", "--force", "mine"], { uid: uA });
    }
  } finally {
    swapper.kill("SIGKILL");
    await swapper.status;
  }
  victim.check();
  // All that a swap could do is over with the swaps.
  const left = [...Deno.readDirSync(world.data)].find(({ name }) => name === String(firstUid));
  if (left?.isSymlink) Deno.removeSync(`${world.data}/${left.name}`);
  assert.equal(await world.shell("mine", "id -u", { uid: uA }), String(firstUid));
});

jailTest("what lies in a home keeps its owner and mode, and gives no power", async () => {
  await using world = await World.start();
  const victim = victimIn(world.folder);
  await world.shell("mine", "echo mine > own; chmod 4755 own", { uid: uA });
  await stopped(world, "mine");
  const home = `${world.data}/${firstUid}`;
  Deno.linkSync(`${victim.path}/file`, `${home}/linked`);
  Deno.symlinkSync(`${victim.path}/file`, `${home}/pointing`);
  Deno.copyFileSync("/usr/bin/id", `${home}/setuid`);
  Deno.chmodSync(`${home}/setuid`, 0o4755);
  Deno.copyFileSync("/usr/bin/id", `${home}/setgid`);
  Deno.chmodSync(`${home}/setgid`, 0o2755);
  const before = treeOf(home);
  const ids = "./setuid -u; ./setuid -ru; ./setgid -g; cat linked pointing; echo more > linked";
  const { stdout } = await world.client(["run", "-p", "mine", "sh", "-c", ids], { uid: uA });
  assert.equal(stdout, `${firstUid}\n`.repeat(3));
  assert.deepEqual(treeOf(home), before);
  victim.check();
});

jailTest("when a jail has ended nothing of its uid is left but the home", async () => {
  await using world = await World.start();
  const mqOpen = numberOf(240, 180);
  const leave = `
    umask 0
    echo secret > ~/file
    for folder in /tmp /var/tmp /dev/shm "$XDG_RUNTIME_DIR"; do echo secret > $folder/secret; done
    ipcmk -M 4096 -p 0666 > /dev/null && ipcmk -Q -p 0666 > /dev/null && ipcmk -S 1 -p 0666 > /dev/null
    perl -e 'fork and exit; fork and exit; $SIG{$_} = "IGNORE" for qw(TERM HUP INT); setpgrp; sleep 1000' > /dev/null 2>&1
    perl -e 'my $name = "queue"; syscall(${mqOpen}, $name, 0102, 0666, 0) >= 0 or print "no queue"'
    setsid sh -c 'trap "" TERM HUP; sleep 1000; sleep 1000' > /dev/null 2>&1 < /dev/null &
    ipcs -m -q -s | grep -c 666`;
  assert.equal(await world.shell("mine", leave, { uid: uA }), "3");
  assert(appProcesses(firstUid).length > 4);
  await stopped(world, "mine");
  assert.deepEqual(appProcesses(), []);
  const found = await execute([
    "find",
    ...["/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue", "-xdev", "(", "-uid", `${firstUid}`],
    ...["-o", "-gid", `${firstUid}`, ")", "-not", "-path", `${world.data}/*`],
  ]);
  assert.equal(found.stdout, "");
  for (const kind of ["shm", "msg", "sem"]) {
    assert(!Deno.readTextFileSync(`/proc/sysvipc/${kind}`).includes(` ${firstUid} `));
  }
  const look = `
    cat /tmp/secret /var/tmp/secret /dev/shm/secret "$XDG_RUNTIME_DIR/secret" ~/file 2> /dev/null
    ipcs -m -q -s | grep -c 666
    perl -e 'my $name = "queue"; print "a queue\\n" if syscall(${mqOpen}, $name, 0, 0, 0) >= 0'
    ls /proc | grep -c '^[0-9]'`;
  // Its own next jail has the home; another's has nothing. In both: jailer, sh, ls and grep.
  for (const [profile, uid, home] of [["mine", uA, "secret\n"], ["mine", uB, ""]] as const) {
    assert.match(await world.shell(profile, look, { uid }), new RegExp(`^${home}0\n[345]$`));
  }
});
