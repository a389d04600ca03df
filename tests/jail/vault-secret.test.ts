/**
 * Where a passphrase is seen on its way: in the client, and in encfs or gocryptfs; in no other
 * process's calls or memory, in no command line, environment, log, file or bus message.
 */
import assert from "node:assert/strict";
import { volumeKinds } from "../../core/protocol.ts";
import { readText } from "../../core/kernel.ts";
import { allPids } from "../../core/process.ts";
import { encryptedProfile, passphrase, programsOf, remains, shell } from "./volumes.ts";
import { execute, themeTest, until, type World } from "./world.ts";

const secret = new TextEncoder().encode(passphrase);

function includes(bytes: Uint8Array, wanted: Uint8Array): boolean {
  const [first = 0] = wanted;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return true;
  }
  return false;
}

/** Whether it is anywhere in the memory that a process can write to. proc_pid_mem(5). */
async function isInMemory(pid: number): Promise<boolean> {
  using memory = await Deno.open(`/proc/${pid}/mem`);
  for (const line of (readText(`/proc/${pid}/maps`, 16 * 1024 * 1024) ?? "").split("\n")) {
    const [, from = "", to = ""] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
    if (from === "") continue;
    const [start, end] = [parseInt(from, 16), parseInt(to, 16)];
    for (let at = start; at < end;) {
      // V8 reserves far more than it uses; what was never touched cannot be read, or is zero.
      const bytes = new Uint8Array(Math.min(end - at, 4 * 1024 * 1024));
      await memory.seek(at, Deno.SeekMode.Start);
      const count = await memory.read(bytes).catch(() => null);
      if (count === null) break;
      if (includes(bytes.subarray(0, count), secret)) return true;
      at += Math.max(4096, count - secret.length);
    }
  }
  return false;
}

function processNamed(world: World, role: string): number {
  const found = allPids().find((pid) => {
    const words = (readText(`/proc/${pid}/cmdline`) ?? "").split("\0");
    return (words[0] ?? "").endsWith(`appjail-${role}`) &&
      words.some((word) => word.includes(world.folder));
  });
  assert(found !== undefined, role);
  return found;
}

/** The traces in which it stands: the ids of their threads. gocryptfs reads it byte by byte. */
function seenBy(folder: string, name: string): readonly number[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name: file }) => {
    const thread = Number(new RegExp(`^${name}\\.(\\d+)$`).exec(file)?.[1]);
    if (Number.isNaN(thread)) return [];
    const text = Deno.readTextFileSync(`${folder}/${file}`);
    const streams = new Map<string, string>();
    for (const [, call = "", said = ""] of text.matchAll(/^(\w+\(\d+), "((?:[^"\\]|\\.)*)"/gm)) {
      streams.set(call, (streams.get(call) ?? "") + said);
    }
    return [text, ...streams.values()].some((one) => one.includes(passphrase)) ? [thread] : [];
  });
}

const calls = "trace=read,readv,pread64,write,writev,pwrite64,sendmsg,recvmsg,execve,openat";

for (const kind of volumeKinds) {
  themeTest(`${kind}: a passphrase on its way`, { bus: true, linger: 60 }, async (t, world) => {
    const { home } = await encryptedProfile(world, "work", kind);
    const traces = `${world.folder}/traces`;
    await Deno.mkdir(traces);
    const [helper, dispatcher] = [world.helperPid, await world.dispatcherPid()];
    const strace = (
      name: string,
      ...words: readonly string[]
    ) => ["strace", "-ff", "-s", "8192", "-e", calls, "-o", `${traces}/${name}`, ...words];
    const [tracer = "", ...words] = strace("daemon", "-p", `${helper}`, "-p", `${dispatcher}`);
    const watching = new Deno.Command(tracer, { args: words, stdout: "null", stderr: "null" })
      .spawn();
    const monitor = new Deno.Command("dbus-monitor", {
      args: ["--address", world.busAddress],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const heard = new Response(monitor.stdout).text();
    await until(
      "both are traced",
      () =>
        [helper, dispatcher].every((pid) =>
          !/^TracerPid:\t0$/m.test(readText(`/proc/${pid}/status`) ?? "TracerPid:\t0")
        ),
    );
    const { code, stdout, stderr } = await execute([
      "env",
      `APPJAIL_SOCKET=${world.socket}`,
      ...strace("client"),
      ...world.clientWords(["unlock", "--passphrase-fd", "0", "work"]),
    ], { stdin: `${passphrase}\n` });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^unlocked work;/);
    const jail = await world.keep("work");

    await t.step("its client has read it, and written it into a pipe", () => {
      assert.notEqual(seenBy(traces, "client").length, 0, "or nothing is traced at all");
    });
    await t.step(
      "of all that the daemon has started, only the volume's program has read it",
      () => {
        const [program] = programsOf(home);
        const readers = seenBy(traces, "daemon");
        assert.notEqual(readers.length, 0, "or nothing is traced at all");
        for (const reader of readers) {
          const group = /^Tgid:\t(\d+)$/m.exec(readText(`/proc/${reader}/status`) ?? "")?.[1];
          assert.equal(Number(group), program, `thread ${reader}`);
        }
      },
    );
    await t.step("no other process has it in its memory", async () => {
      // This one has it, and so the looking finds it.
      assert.equal(await isInMemory(Deno.pid), true);
      watching.kill("SIGTERM");
      await watching.status;
      for (
        const [name, pid] of [
          ["helper", helper],
          ["dispatcher", dispatcher],
          ["watchdog", processNamed(world, "watchdog")],
          ["jailer", jail.jailer_pid],
        ] as const
      ) assert.equal(await isInMemory(pid), false, name);
    });
    await t.step("no command line, environment or descriptor leads to it", () => {
      for (const pid of allPids()) {
        // The tests' own, who made the volume.
        if (pid === Deno.pid) continue;
        for (const name of ["cmdline", "environ"]) {
          assert(!(readText(`/proc/${pid}/${name}`) ?? "").includes(passphrase), `${pid} ${name}`);
        }
      }
      const watchdog = processNamed(world, "watchdog");
      assert.equal(Deno.readLinkSync(`/proc/${watchdog}/fd/0`), "/dev/null");
      // Encfs, too, holds but one end of a pipe that nobody else has.
      const held = Deno.readLinkSync(`/proc/${programsOf(home)[0]}/fd/0`);
      for (const pid of [helper, dispatcher, watchdog]) {
        const theirs = [...Deno.readDirSync(`/proc/${pid}/fd`)].map(({ name }) => {
          try {
            return Deno.readLinkSync(`/proc/${pid}/fd/${name}`);
          } catch {
            return ""; // It was closed meanwhile.
          }
        });
        assert(!held.startsWith("pipe:") || !theirs.includes(held), String(pid));
      }
    });
    await t.step("it is in no log, no file and no message of the bus", async () => {
      const { stdout: logged } = await world.client(["logs", "work"]);
      assert(!`${world.log}${logged}`.includes(passphrase));
      monitor.kill("SIGTERM");
      await monitor.status;
      assert(!(await heard).includes(passphrase));
      await shell('rm -r "$1"', traces);
      const { stdout: files } = await execute(["grep", "-rlF", "-e", passphrase, world.folder]);
      assert.equal(files, "");
    });
    await t.step("nobody may trace, or have a core of, who holds it open", () => {
      const watchdog = processNamed(world, "watchdog");
      for (const pid of [watchdog, ...programsOf(home)]) {
        assert.match(readText(`/proc/${pid}/limits`) ?? "", /^Max core file size +0 +0 /m);
        // gocryptfs makes files with the ids of who wants them, a thread at a time: it stays root.
        assert.match(readText(`/proc/${pid}/status`) ?? "", /^Uid:\t0\t/m);
      }
    });
    assert.equal((await world.client(["lock", "work"])).code, 0);
    assert.deepEqual(remains(world), []);
  });
}
