/**
 * What the helper does with homes at rest, asked by a dispatcher that has been taken over: nothing for
 * a uid that was not given, nothing out of turn, and no pipe is left open or read by it.
 */
import assert from "node:assert/strict";
import { type Fd, isGone, open, pipe, writeAll } from "../../ipc/fd.ts";
import { encodeFrame } from "../../ipc/frame.ts";
import { type HelperToDispatcher, plainSpec } from "../../core/protocol.ts";
import { StandIn } from "./stand-in.ts";
import {
  allLocked,
  encryptedProfile,
  passphrase,
  remains,
  shell,
  withPassphrase,
} from "./volumes.ts";
import { firstUid, jailTest, lastUid, until, World } from "./world.ts";

/** A pipe with this in it, and its end. */
function filled(secret: string): Fd {
  const { read, write } = pipe();
  writeAll(write.number, new TextEncoder().encode(`${secret}\n`));
  write.close();
  return read;
}

/** Asks for something with so many pipes, and says how that was answered in the end. */
async function asked(
  dispatcher: StandIn,
  message: { readonly id: number; readonly type: string },
  secrets: readonly string[] = [],
): Promise<HelperToDispatcher> {
  const pipes = secrets.map(filled);
  dispatcher.raw(encodeFrame(message), pipes.map(({ number }) => number));
  for (const one of pipes) one.close();
  for (;;) {
    const answer = await dispatcher.hear();
    assert(answer !== undefined, `the helper hung up after ${JSON.stringify(message)}`);
    if ("id" in answer && answer.id === message.id && answer.type !== "progress") return answer;
  }
}

async function refused(
  dispatcher: StandIn,
  message: { readonly id: number; readonly type: string },
  secrets: readonly string[],
  words: RegExp,
): Promise<void> {
  const answer = await asked(dispatcher, message, secrets);
  assert(answer.type === "refused", JSON.stringify(answer));
  assert.match(answer.message, words);
}

/** Waits until it says how far it is. */
async function begun(dispatcher: StandIn): Promise<void> {
  for (;;) {
    const message = await dispatcher.hear();
    assert(message !== undefined);
    if (message.type === "progress") return;
  }
}

/** How many descriptors the helper has open. */
function descriptorsOf(world: World): number {
  return [...Deno.readDirSync(`/proc/${world.helperPid}/fd`)].length;
}

const convert = (uid: number, what = "encrypt", pipes = 2) => ({
  ...{ type: "convert", id: 5, uid, what, kind: "gocryptfs", pipes },
});

jailTest("homes of uids that were never given are left alone, and pipes are closed", async () => {
  await using world = await World.start();
  assert.equal(await world.shell("work", "echo kept > note; id -u"), String(firstUid));
  await world.client(["stop", "--force", "work"]);
  await Deno.mkdir(`${world.data}/${firstUid + 1}`);
  const before = await shell('cd "$1"; find . -printf "%p %U %m\\n" | sort', world.data);
  using dispatcher = await StandIn.take(world);
  await asked(dispatcher, { type: "keep", id: 4, uid: firstUid, until: 0 } as never);
  const descriptors = descriptorsOf(world);
  for (const uid of [firstUid + 1, lastUid, 1000, lastUid + 1, 65533, 4294967294]) {
    const never = new RegExp(`uid ${uid} was given to no profile`);
    await refused(dispatcher, convert(uid), ["a", "a"], never);
    await refused(dispatcher, convert(uid, "decrypt", 1), ["a"], never);
    for (const type of ["unlock", "passwd"]) {
      await refused(dispatcher, { type, id: 6, uid } as never, ["a"], never);
    }
    for (const type of ["conversion", "measure", "remove"]) {
      await refused(dispatcher, { type, id: 7, uid } as never, [], never);
    }
    for (const keep of [true, false]) {
      await refused(dispatcher, { type: "settle", id: 8, uid, keep } as never, [], never);
    }
    // This one is not answered.
    dispatcher.say({ type: "cancel", id: 9, uid });
  }
  await until("no pipe is open", () => descriptorsOf(world) <= descriptors);
  assert.equal(await shell('cd "$1"; find . -printf "%p %U %m\\n" | sort', world.data), before);
  assert.deepEqual(remains(world), []);
});

jailTest("what makes no sense for a home is refused, and changes nothing of it", async () => {
  await using world = await World.start();
  const { uid } = await encryptedProfile(world, "vault", "gocryptfs");
  const plain = Number(await world.shell("plain", "echo kept > note; id -u"));
  const config = await Deno.readFile(`${world.data}/${uid}/gocryptfs.conf`);
  {
    using dispatcher = await StandIn.take(world);
    const nothing = (id: number, uid: number) =>
      ({ type: "settle", id, uid, keep: false }) as const;
    // Its jail is there.
    await refused(dispatcher, convert(plain), ["a", "a"], /program|running|jail/);
    for (const type of ["measure", "remove"]) {
      await refused(dispatcher, { type, id: 7, uid: plain } as never, [], /program|running|jail/);
    }
    await refused(
      dispatcher,
      { type: "passwd", id: 6, uid: plain } as never,
      ["a"],
      /jail|program/,
    );
    await until("it is ended", async () => {
      dispatcher.say({ type: "end", id: 1, uid: plain, jail: null });
      return (await dispatcher.hear())?.type === "ended";
    });
    await refused(dispatcher, convert(plain, "decrypt", 1), ["a"], /not encrypted/);
    await refused(
      dispatcher,
      { type: "passwd", id: 6, uid: plain } as never,
      ["a"],
      /not encrypted/,
    );
    await refused(
      dispatcher,
      { type: "unlock", id: 6, uid: plain } as never,
      ["a"],
      /not encrypted/,
    );
    await refused(dispatcher, convert(uid), ["a", "a"], /is gocryptfs/);
    await refused(
      dispatcher,
      { ...convert(uid, "decrypt", 1), kind: "encfs" } as never,
      ["a"],
      /is go/,
    );
    for (const one of [uid, plain]) {
      await refused(dispatcher, nothing(7, one), [], /nothing is left of one/);
      const left = await asked(dispatcher, { type: "conversion", id: 8, uid: one } as never);
      assert.deepEqual(left, { type: "conversion", id: 8, left: null });
      dispatcher.say({ type: "cancel", id: 9, uid: one });
    }
    // Unlocked for somebody, it is not worked on.
    const unlock = { type: "unlock", id: 10, uid } as const;
    assert.equal((await asked(dispatcher, unlock, [passphrase])).type, "unlocked");
    await refused(dispatcher, convert(uid, "decrypt", 1), [passphrase], /lock it first/);
    await refused(dispatcher, { type: "passwd", id: 6, uid } as never, ["a\nb"], /lock it first/);
    await asked(dispatcher, { type: "lock", id: 11, uid } as never);
  }
  await allLocked(world);
  assert.deepEqual(await Deno.readFile(`${world.data}/${uid}/gocryptfs.conf`), config);
  assert.equal(await world.shell("plain", "cat note"), "kept");
  const inside = await withPassphrase(world, ["run", "-p", "vault", "cat", "note"]);
  assert.equal(inside.stdout, "kept\n", inside.stderr);
});

jailTest("while a home is at work, nothing else is done with it", async () => {
  await using world = await World.start();
  const uid = Number(
    await world.shell("work", "head -c 300000000 /dev/urandom > big; echo kept > note; id -u"),
  );
  await world.client(["stop", "--force", "work"]);
  {
    using dispatcher = await StandIn.take(world);
    const pipes = [passphrase, passphrase].map(filled);
    dispatcher.raw(encodeFrame(convert(uid)), pipes.map(({ number }) => number));
    for (const one of pipes) one.close();
    await begun(dispatcher);
    const busy = /is being encrypted, decrypted, removed or given another passphrase/;
    const again = { ...convert(uid), id: 20 };
    await refused(dispatcher, again, ["a", "a"], busy);
    await refused(dispatcher, { type: "unlock", id: 21, uid } as never, ["a"], busy);
    await refused(dispatcher, { type: "passwd", id: 22, uid } as never, ["a\nb"], busy);
    await refused(dispatcher, { type: "settle", id: 23, uid, keep: true } as never, [], busy);
    const start = { type: "start", id: 24, uid, spec: plainSpec } as const;
    await refused(dispatcher, start, [], busy);
    // Somebody else's number ends nothing.
    dispatcher.say({ type: "cancel", id: 20, uid });
    dispatcher.say({ type: "cancel", id: 5, uid: lastUid });
    await begun(dispatcher);
    dispatcher.say({ type: "cancel", id: 5, uid });
    for (;;) {
      const answer = await dispatcher.hear();
      assert(answer !== undefined);
      if (answer.type === "progress") continue;
      assert(answer.type === "refused" && answer.code === "cancelled", JSON.stringify(answer));
      break;
    }
  }
  await allLocked(world);
  assert.equal(await world.shell("work", "cat note"), "kept");
});

jailTest("with another number of pipes than it says, it is no request", async () => {
  await using world = await World.start();
  const uid = Number(await world.shell("work", "id -u"));
  await world.client(["stop", "--force", "work"]);
  using stray = open("/dev/null", 0);
  for (
    const [message, count] of [
      [convert(uid), 1],
      [convert(uid, "encrypt", 1), 2],
      [convert(uid), 0],
      [{ type: "unlock", id: 1, uid }, 0],
      [{ type: "unlock", id: 1, uid }, 2],
      [{ type: "passwd", id: 1, uid }, 2],
      [{ type: "settle", id: 1, uid, keep: true }, 1],
    ] as const
  ) {
    const log = world.log.length;
    {
      using dispatcher = await StandIn.take(world);
      dispatcher.raw(encodeFrame(message), Array.from({ length: count }, () => stray.number));
      // A request whose descriptors have not come may be one that comes in pieces: its end tells.
      try {
        dispatcher.raw(encodeFrame({ type: "lock", id: 2, uid }));
      } catch (error) {
        assert(isGone(error), String(error));
      }
      await dispatcher.dropped();
    }
    await until(
      "another dispatcher",
      () => world.log.slice(log).includes("the dispatcher is gone; starting another"),
    );
    assert.equal(await world.stopDaemon(), 0);
    await world.startDaemon();
  }
  assert.equal(await world.shell("work", "id -u"), String(uid));
});
