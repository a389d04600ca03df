/** `appjail events` and `appjail stats`: what a person is told of their own jails, and nobody else. */
import assert from "node:assert/strict";
import { within } from "../../core/deadline.ts";
import type { DispatcherToClient, Event } from "../../core/protocol.ts";
import { askAs } from "./stand-in.ts";
import { encryptedProfile, withPassphrase } from "./volumes.ts";
import { firstUid, jailTest, uA, uB, until, World } from "./world.ts";

/** A client that follows, and what it has printed so far. */
class Following implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #read: Promise<void>;
  #text = "";
  #errors = "";

  constructor(world: World, args: readonly string[], uid: number) {
    this.#child = world.spawn(["events", "--follow", ...args], { uid });
    const { stdout, stderr } = this.#child;
    const drain = async (
      stream: ReadableStream<Uint8Array<ArrayBuffer>>,
      take: (text: string) => void,
    ): Promise<void> => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) take(text);
    };
    this.#read = Promise.all([
      drain(stdout, (text) => this.#text += text),
      drain(stderr, (text) => this.#errors += text),
    ]).then(() => {});
  }

  get text(): string {
    return this.#text;
  }

  get errors(): string {
    return this.#errors;
  }

  /** What it has printed as JSON. */
  // deno-lint-ignore no-explicit-any -- a test looks into it as it likes
  get events(): readonly any[] {
    return this.#text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  }

  /** Waits until it has printed an event that is such. */
  // deno-lint-ignore no-explicit-any -- as above
  async until(what: string, is: (event: any) => boolean): Promise<void> {
    await until(what, () => this.events.some(is)).catch((error) => {
      throw new Error(`${error}: ${this.#text}${this.#errors}`);
    });
  }

  async ended(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#read;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close().catch(() => {});
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended.
    }
    await this.ended();
  }
}

const names = (events: readonly { readonly event: string }[]): readonly string[] =>
  events.map(({ event }) => event);

jailTest("a person is told what happens to their jails, and nobody else but root", async (t) => {
  await using world = await World.start({ linger: 0 });
  await using mine = new Following(world, ["--json"], uA);
  await using theirs = new Following(world, ["--json"], uB);
  await using roots = new Following(world, ["--json"], 0);
  await using all = new Following(world, ["--json", "--all"], 0);
  const file = `${world.folder}/letter.txt`;
  await Deno.writeTextFile(file, "x");
  await Deno.chown(file, uA, uA);

  await t.step("from the first program to the end of the jail", async () => {
    const { code } = await world.client(["run", "-p", "work", "--", "sh", "-c", "exit 3"], {
      uid: uA,
    });
    assert.equal(code, 3);
    await mine.until("the jail stops", ({ event }) => event === "jail-stopped");
    const about = { owner: uA, profile: "work", uid: firstUid };
    const expected = [
      { event: "jail-started" },
      { event: "program-started", program: "work.1", command: "sh" },
      { event: "program-exited", program: "work.1", status: { by: "exit", code: 3 } },
      { event: "jail-stopped", reason: "idle", why: null },
    ].map((one, sequence) => ({ ...one, sequence, ...about }));
    assert.deepEqual(
      mine.events.map(({ at, ...rest }) => {
        assert(Math.abs(Date.now() - at) < 60_000);
        return rest;
      }),
      expected.map(({ ...one }) => one),
    );
  });

  await t.step("what is lent, by whom it is asked for and by itself, and taken back", async () => {
    const keep = ["run", "--detach", "-p", "work", "--", "sleep", "1000"];
    assert.equal((await world.client(keep, { uid: uA })).code, 0);
    const lend = await world.client(["lend", "work", file, "--rw", "--for", "1s"], { uid: uA });
    assert.equal(lend.code, 0, lend.stderr);
    await mine.until("its time is over", ({ reason }) => reason === "expired");
    assert.equal(
      (await world.client(["lend", "work", file, "--as", "it"], { uid: uA })).code,
      0,
    );
    assert.equal((await world.client(["unlend", "work", "it"], { uid: uA })).code, 0);
    assert.equal(
      await world.run("work", ["cat", file], { uid: uA }),
      "x",
    );
    const lends = mine.events.filter(({ event }) => /lent/.test(event));
    assert.deepEqual(
      lends.map(({ event, name, path, write, reason }) => [event, name, path, write, reason]),
      [
        ["lent", "letter.txt", file, true, undefined],
        ["unlent", "letter.txt", undefined, undefined, "expired"],
        ["lent", "it", file, false, undefined],
        ["unlent", "it", undefined, undefined, "asked"],
        ["lent", "letter.txt", file, false, undefined],
      ],
    );
  });

  await t.step("what is refused, with its reason", async () => {
    await world.client(["stop", "nothing"], { uid: uA });
    await mine.until("it is told", ({ event }) => event === "refused");
    const refused = mine.events.at(-1);
    assert.deepEqual(
      [refused.request, refused.profile, refused.uid, refused.code, refused.message],
      ["stop", "nothing", null, "unknown-profile", 'You have no profile "nothing"'],
    );
  });

  await t.step("and how it is stopped", async () => {
    await world.client(["stop", "work"], { uid: uA });
    await mine.until("it has stopped", ({ reason }) => reason === "asked");
    assert.deepEqual(
      mine.events.map(({ sequence }) => sequence),
      mine.events.map((_, at) => at),
    );
  });

  await t.step("root is told all of it, and whose it is", async () => {
    const last = mine.events.at(-1);
    await all.until(
      "root has it",
      ({ sequence, at }) => sequence === last.sequence && at === last.at,
    );
    assert.deepEqual(all.events.filter(({ owner }) => owner === uA), mine.events);
  });

  await t.step("somebody else is told nothing, nor root who does not ask for all", async () => {
    // What they are told comes in order: were there anything, it would have come before this.
    for (const [uid, who] of [[uB, theirs], [0, roots]] as const) {
      await world.client(["stop", "mark"], { uid });
      await who.until("their own is told", ({ profile }) => profile === "mark");
      assert.deepEqual(names(who.events), ["refused"]);
      // How much happens to others is not in the numbers either.
      assert.equal(who.events[0].sequence, 0);
    }
    for (const args of [["events", "--all"], ["stats", "--all"]]) {
      const { code, stdout, stderr } = await world.client(args, { uid: uB });
      assert.deepEqual([code, stdout], [111, ""]);
      assert.match(stderr, /^appjail: Cannot show the \w+ of others: only root may see them\n$/);
    }
    // Another's profile is one without events, whether there is one of that name or not.
    for (const profile of ["work", "neither"]) {
      const { code, stdout } = await world.client(["events", profile], { uid: uB });
      assert.deepEqual([code, stdout], [0, ""]);
    }
  });

  await t.step("without following, what there was is shown, of one profile or of all", async () => {
    const { stdout } = await world.client(["events", "--json"], { uid: uA });
    assert.equal(stdout, mine.text);
    const one = await world.client(["events", "nothing"], { uid: uA });
    assert.match(
      one.stdout,
      /^\d\d:\d\d:\d\d {2}nothing {3}- {7}refused {10}stop: You have no profile "nothing"\n$/,
    );
    const none = await world.client(["events", "--since", "1s", "work"], { uid: uA });
    // At least a second lies between.
    await until(
      "nothing is so young",
      async () => (await world.client(["events", "--since", "1s"], { uid: uA })).stdout === "",
    );
    assert.equal(none.code, 0);
    const wrong = await world.client(["events", "--since", "soon"], { uid: uA });
    assert.match(wrong.stderr, /^appjail: Cannot use --since "soon": /);
  });

  await t.step("stats count a person's own, and for root everybody's", async () => {
    const stats = async (args: readonly string[], uid: number) => {
      const { code, stdout, stderr } = await world.client(["stats", "--json", ...args], { uid });
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout);
    };
    const [own, ...more] = await stats([], uA);
    assert.deepEqual(more, []);
    const { starts, joins, programs, failures, start_ms, join_ms, profiles } = own;
    assert.deepEqual([own.owner, starts, joins, programs], [uA, 2, 1, 3]);
    assert.deepEqual(failures, { "unknown-profile": 1 });
    for (const { min, median, p95, max } of [start_ms, join_ms]) {
      assert(0 < min && min <= median && median <= p95 && p95 <= max && max < 60_000);
    }
    assert.deepEqual(
      profiles.map((one: typeof own) => [one.profile, one.programs, one.failures]),
      [["work", 3, {}]],
    );
    const [none] = await stats([], uB);
    assert.deepEqual([none.owner, none.programs, none.profiles], [uB, 0, []]);
    const everybody = await stats(["--all"], 0);
    assert.deepEqual(
      everybody.map(({ owner, programs }: typeof own) => [owner, programs]).sort(),
      [[0, 0], [uA, 3], [uB, 0]],
    );
    const { stdout } = await world.client(["stats"], { uid: uA });
    assert.match(stdout, /^work +2 +1 +3 +0 +\d/m);
    assert.match(stdout, /^failed: unknown-profile 1$/m);
  });
});

jailTest(
  "a home is told when it is unlocked and locked, and wrong passphrases are counted",
  async () => {
    await using world = await World.start({ linger: 0 });
    await encryptedProfile(world, "safe", "gocryptfs");
    await using following = new Following(world, ["--json", "safe"], 0);
    const wrong = await withPassphrase(
      world,
      ["run", "-p", "safe", "--", "true"],
      "a guess",
    );
    assert.notEqual(wrong.code, 0);
    const { code, stderr } = await withPassphrase(world, ["run", "-p", "safe", "--", "true"]);
    assert.equal(code, 0, stderr);
    await following.until("it is locked", ({ event }) => event === "home-locked");
    const all = names(following.events);
    assert.deepEqual(all.slice(all.indexOf("home-unlocked")), [
      "home-unlocked",
      "jail-started",
      "program-started",
      "program-exited",
      "jail-stopped",
      "home-locked",
    ]);
    // Unlocked for its own sake.
    assert.equal((await withPassphrase(world, ["unlock", "safe"])).code, 0);
    assert.equal((await world.client(["lock", "safe"])).code, 0);
    await following.until(
      "it is locked again",
      () => names(following.events).slice(-2).join() === "home-unlocked,home-locked",
    );
    const [{ wrong_passphrases }] = JSON.parse((await world.client(["stats", "--json"])).stdout);
    assert(wrong_passphrases >= 1, `${wrong_passphrases}`);
    assert.match(world.log, /a passphrase for the home of safe of uid 0 was wrong/);
  },
);

jailTest(
  "a follower outlives a dispatcher, and nothing is made up for the time between",
  async (t) => {
    await using world = await World.start();
    await using json = new Following(world, ["--json"], uA);
    await using text = new Following(world, [], uA);
    assert.equal(
      (await world.client(["run", "-d", "-p", "work", "--", "sleep", "1000"], { uid: uA })).code,
      0,
    );
    await json.until("it runs", ({ event }) => event === "program-started");

    await t.step("the gap is told, and what happens afterwards", async () => {
      const before = json.events.length;
      const pid = await world.dispatcherPid();
      Deno.kill(pid, "SIGKILL");
      await json.until("the gap is told", ({ event }) => event === "gap");
      assert.deepEqual(json.events.slice(before), [{ event: "gap", missed: null }]);
      await until("another dispatcher answers", async () => await world.dispatcherPid() !== pid);
      assert.equal((await world.client(["kill", "work.1"], { uid: uA })).code, 0);
      await json.until("its end is told", ({ event }) => event === "program-exited");
      await json.until("and the jail's", ({ event }) => event === "jail-stopped");
      assert.deepEqual(names(json.events.slice(before)), ["gap", "program-exited", "jail-stopped"]);
      await until("the other has it, too", () => text.text.includes("jail-stopped"));
      assert.match(text.text, /^\(the daemon was lost; what happened until[^\n]*\)\n.*exited/m);
    });

    await t.step("with the daemon gone it ends, and says so", async () => {
      assert.equal(await world.stopDaemon(), 0);
      assert.equal(await text.ended(), 111);
      assert.equal(
        text.errors,
        "appjail: The daemon went away and did not come back; what happens now is not known\n",
      );
      await world.startDaemon();
      // With the daemon there is another history.
      assert.equal((await world.client(["events"], { uid: uA })).stdout, "");
    });
  },
);

jailTest(
  "a follower that does not read holds nobody up, and is told how much it has missed",
  async () => {
    await using world = await World.start();
    const keep = ["run", "-d", "-p", "work", "--", "sleep", "1000"];
    assert.equal((await world.client(keep, { uid: uA })).code, 0);
    const follow = { type: "events", profile: null, everyone: false, follow: true, since: 0 };
    using stuck = askAs(uA, world, follow);
    const file = `${world.folder}/f`;
    await Deno.writeTextFile(file, "x");
    await Deno.chown(file, uA, uA);
    await using quick = new Following(world, ["--json"], uA);
    const ask = async (request: unknown): Promise<void> => {
      using channel = askAs(uA, world, request);
      for (;;) {
        const next = await within(channel.receive(), 20_000, () => new Error("no answer"));
        assert(next !== undefined && next.message.type !== "failed", JSON.stringify(next?.message));
        if (next.message.type === "done") return;
      }
    };
    const name = `f${"x".repeat(190)}`;
    const turns = 700;
    for (let turn = 0; turn < turns; turn++) {
      await ask({ type: "lend", profile: "work", name, path: file, write: false, keep: null });
      await ask({ type: "unlend", profile: "work", name });
    }
    const last = 2 * turns + 1;
    await quick.until("who reads has all of it", ({ sequence }) => sequence === last);
    assert.deepEqual(
      quick.events.map(({ sequence }) => sequence),
      Array.from({ length: last + 1 }, (_, at) => at),
    );
    // Now it reads: what comes is in order, and what does not is counted.
    const heard: Event[] = [];
    let missed = 0;
    while (heard.at(-1)?.sequence !== last) {
      const next: { readonly message: DispatcherToClient } | undefined = await within(
        stuck.receive(),
        20_000,
        () => new Error(`it hears nothing after ${JSON.stringify(heard.at(-1))}`),
      );
      assert(next !== undefined);
      if (next.message.type !== "happened") continue;
      const { events } = next.message;
      missed += next.message.missed;
      const [first] = events;
      // The number tells of the gap, and the gap of the number.
      if (first !== undefined) assert.equal(first.sequence, heard.length + missed);
      heard.push(...events);
    }
    assert(missed > 0, `${heard.length} events waited somewhere`);
    assert.equal(heard.length + missed, last + 1);
  },
);

jailTest(
  "a flood of nonsense is a few lines in the log and in the events, and a number",
  async () => {
    await using world = await World.start();
    for (let at = 0; at < 500; at++) {
      using channel = askAs(uB, world, { type: "unlend", profile: "work", name: `secret-${at}` });
      for (;;) {
        const next = await within(channel.receive(), 20_000, () => new Error("no answer"));
        if (next === undefined || next.message.type === "failed") break;
      }
    }
    const lines = world.log.split("\n").filter((line) => line.includes("is refused"));
    assert(lines.length >= 20 && lines.length < 500, `${lines.length} lines`);
    assert(!world.log.includes("secret-"), world.log);
    assert.match(
      lines[0] ?? "",
      /uid \d+ \(pid \d+\) is refused unlend of work: You have no profile/,
    );
    const [{ failures }] = JSON.parse(
      (await world.client(["stats", "--json"], { uid: uB })).stdout,
    );
    // What is not told is counted.
    assert.deepEqual(failures, { "unknown-profile": 500 });
  },
);
