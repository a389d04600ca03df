/** A passphrase that is asked for where there is no terminal: by descriptor, and by other programs. */
import assert from "node:assert/strict";
import { pipe, readAll, readSome, setNonblocking, writeAll } from "../../ipc/fd.ts";
import { Secret } from "../../ipc/secret.ts";
import { ownEnvironment } from "../../cmd/asker.ts";
import { type Asking, longest, passphrasePipe } from "../../cmd/passphrase.ts";
import { appendUnescaped, escaped } from "../../cmd/pinentry.ts";
import { exists, readText } from "../../core/kernel.ts";
import { denoEnvironment } from "../../core/launch.ts";
import { parentOf } from "../../core/process.ts";
import { isRoot, until } from "../jail/world.ts";
import { Random } from "../random.ts";
import { isCloseOnExec, leakingNothing, Scratch } from "../scratch.ts";
import type { Script } from "../terminal/passphrase-driver.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/../..`);
const unlock: Asking = { profile: "work", kind: "encfs", tries: 0, purpose: "unlock" };
const encoder = new TextEncoder();

const hexOf = (value: string | Uint8Array): string =>
  (typeof value === "string" ? encoder.encode(value) : value).toHex();

/** The words of a client's stand-in, with a client's permissions. */
function words(script: Partial<Script>): readonly string[] {
  return [
    Deno.execPath(),
    ...["run", "--quiet", "--no-prompt", "--no-check", "--v8-flags=--single-threaded"],
    ...["--allow-ffi", "--allow-env", "--allow-read"],
    `${root}/tests/terminal/passphrase-driver.ts`,
    JSON.stringify({ asks: [unlock], ...script }),
  ];
}

/** What a person's environment has, and nothing by which somebody could be asked. */
function plainly(env: Readonly<Record<string, string>> = {}): Record<string, string> {
  const own = Deno.env.toObject();
  for (const name of ["DISPLAY", "WAYLAND_DISPLAY", "APPJAIL_ASKPASS"]) delete own[name];
  return { ...own, ...env };
}

interface Told {
  readonly stdin?: Uint8Array | string;
  readonly env?: Readonly<Record<string, string>>;
  /** A shell command, in which "$@" is the stand-in. */
  readonly by?: string;
}

interface Said {
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the stand-in in a session of its own: there is no terminal. */
function begin(script: Partial<Script>, { env, by = '"$@"' }: Told = {}): Deno.ChildProcess {
  return new Deno.Command("setsid", {
    args: ["sh", "-c", by, "sh", ...words(script)],
    clearEnv: true,
    env: plainly(env),
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs the stand-in to its end. */
async function run(script: Partial<Script>, told: Told = {}): Promise<Said> {
  const child = begin(script, told);
  const writer = child.stdin.getWriter();
  const { stdin = "" } = told;
  // Who does not read to the end is done with it.
  await writer.write(typeof stdin === "string" ? encoder.encode(stdin) : stdin).catch(() => {});
  await writer.close().catch(() => {});
  const { stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

const got = (...values: readonly (string | Uint8Array)[]): string =>
  values.map((value) => `got ${hexOf(value)}\n`).join("");

// --- The pipe --------------------------------------------------------------------------------

Deno.test("the pipe holds each passphrase as a line, and the passphrases are overwritten", async () => {
  await leakingNothing(() => {
    const [one, two] = ["old \xff", "new"].map((text) =>
      Uint8Array.from(text, (character) => character.charCodeAt(0))
    );
    assert(one !== undefined && two !== undefined);
    using read = passphrasePipe(one, two);
    assert(isCloseOnExec(read.number));
    // To its end: nobody else holds it open.
    assert.equal(
      readAll(read.number, 100).toHex(),
      hexOf(
        new Uint8Array([
          ...encoder.encode("old "),
          0xff,
          ...encoder.encode("\nnew\n"),
        ]),
      ),
    );
    assert.deepEqual([...one, ...two], Array(8).fill(0));
  });
});

Deno.test("the pipe has room for two of the longest, and more are overwritten and refused", async () => {
  const long = (): Uint8Array<ArrayBuffer> => new Uint8Array(longest).fill(120);
  await leakingNothing(() => {
    using read = passphrasePipe(long(), long());
    assert.equal(readAll(read.number, 10_000).length, 2 * (longest + 1));
    const three = [long(), long(), long()];
    assert.throws(() => passphrasePipe(...three));
    assert(three.every((one) => one.every((byte) => byte === 0)));
  });
});

Deno.test("what is secret lies in one place, which is overwritten", () => {
  using secret = new Secret(16);
  const { read, write } = pipe();
  using from = read;
  {
    using to = write;
    writeAll(to.number, encoder.encode("one\ntwo, and more than there is room for"));
    assert.equal(secret.read(from.number, 4), 4);
    assert.equal(secret.read(from.number), 12);
    assert.equal(secret.left, 0);
    assert.throws(() => secret.append(encoder.encode("x")));
    assert.throws(() => secret.push(1));
  }
  const whole = new Uint8Array(secret.bytes.buffer);
  assert.equal(new TextDecoder().decode(secret.bytes), "one\ntwo, and mor");
  secret.shift(4);
  assert.equal(new TextDecoder().decode(secret.bytes), "two, and mor");
  assert.equal(hexOf(whole.subarray(12)), "00000000");
  secret.cut(3);
  assert.equal(new TextDecoder().decode(whole), `two${"\0".repeat(13)}`);
  setNonblocking(from.number);
  readSome(from.number, new Uint8Array(100));
  assert.equal(secret.read(from.number), 0);
  secret[Symbol.dispose]();
  assert.deepEqual([...whole], Array(16).fill(0));
  assert.equal(secret.size, 0);
});

// --- --passphrase-fd -------------------------------------------------------------------------

Deno.test("a descriptor gives its first line, byte for byte", async () => {
  const bytes = new Uint8Array([0xff, 0xfe, 0x80, 13, 9, 32]);
  for (
    const [stdin, expected] of [
      ["secret\n", "secret"],
      ["to the end", "to the end"],
      ["x".repeat(longest), "x".repeat(longest)],
      [`${"x".repeat(longest)}\nrest`, "x".repeat(longest)],
      [new Uint8Array([...bytes, 10, 1]), bytes],
    ] as const
  ) {
    assert.equal((await run({ fd: 0 }, { stdin })).stdout, got(expected));
  }
});

Deno.test("a descriptor gives a line for each time, and the rest to whoever comes after", async () => {
  const asks: readonly Asking[] = [
    { ...unlock, purpose: "current" },
    { ...unlock, kind: "gocryptfs", purpose: "new" },
  ];
  const by = '"$@"; echo rest=$(cat)';
  assert.equal(
    (await run({ fd: 0, asks }, { stdin: "old\nnew\nthird\n", by })).stdout,
    `${got("old", "new")}rest=third\n`,
  );
  using scratch = new Scratch();
  const file = scratch.file("passphrases", "old\nnew\nthird\n");
  assert.equal(
    (await run({ fd: 7, asks }, { by: `{ "$@"; cat <&7; } 7<${file}` })).stdout,
    `${got("old", "new")}third\n`,
  );
});

Deno.test("a descriptor that is slow, or does not block, is waited for", async () => {
  const child = begin({ fd: 0 });
  const writer = child.stdin.getWriter();
  for (const part of ["sl", "o", "w\n"]) {
    await writer.write(encoder.encode(part));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { stdout } = await child.output();
  await writer.close().catch(() => {});
  assert.equal(new TextDecoder().decode(stdout), got("slow"));
  // Perl makes its end non-blocking, which the stand-in inherits.
  const by = `perl -MFcntl -e 'pipe(R, W); fcntl(R, F_SETFL, O_NONBLOCK); fcntl(R, F_SETFD, 0);
    if (!fork) { close R; select(undef, undef, undef, 0.3); print W "late\\n"; exit }
    close W; open(STDIN, "<&R"); exec @ARGV' "$@"`;
  assert.equal((await run({ fd: 0 }, { by })).stdout, got("late"));
});

Deno.test("what a descriptor gives is refused when it can be no passphrase", async () => {
  const fresh: Asking = { ...unlock, purpose: "new" };
  const cases: readonly (readonly [asking: Asking, stdin: string, words: string])[] = [
    [unlock, "", "The passphrase is empty"],
    [unlock, "\nsecond\n", "The passphrase is empty"],
    [fresh, "\n", "An empty passphrase protects nothing"],
    [unlock, "y".repeat(longest + 1), "The passphrase is longer than 2047 bytes"],
    [unlock, "yy\0yy\n", "The passphrase has a NUL byte in it"],
    [
      fresh,
      "y".repeat(512),
      "encfs takes only 511 bytes of a passphrase, and this one is longer",
    ],
  ];
  for (const [asking, stdin, words] of cases) {
    const { stdout, stderr } = await run({ fd: 0, asks: [asking] }, { stdin });
    assert.equal(
      stdout + stderr,
      `failed invalid-argument: Cannot use what was given for work: ${words}\n`,
    );
  }
  for (
    const [asking, size] of [[fresh, 511], [unlock, 512], [
      { ...fresh, kind: "gocryptfs" },
      512,
    ]] as const
  ) {
    const stdin = "y".repeat(size);
    assert.equal((await run({ fd: 0, asks: [asking] }, { stdin })).stdout, got(stdin));
  }
  // One that never ends is not read to its end.
  const by = `tr '\\0' y </dev/zero | "$@"`;
  assert.match((await run({ fd: 0 }, { by })).stdout, /^failed invalid-argument: .* 2047 bytes\n$/);
});

Deno.test("a descriptor is asked once, and nobody else is", async () => {
  using scratch = new Scratch();
  const env = { APPJAIL_ASKPASS: scratch.file("askpass", "#!/bin/sh\necho other\n", 0o755) };
  const asks = [unlock, { ...unlock, tries: 1 }];
  assert.equal(
    (await run({ fd: 0, asks }, { stdin: "one\ntwo\n", env })).stdout,
    `${got("one")}failed wrong-passphrase: ` +
      "The passphrase of work (encfs) that descriptor 0 gave is wrong\n",
  );
  for (
    const [fd, by, why] of [[9, '"$@"', "it is not open"], [8, '"$@" 8</', "EISDIR"], [
      7,
      '"$@" 7>/dev/null',
      "EBADF",
    ]] as const
  ) {
    assert.match(
      (await run({ fd }, { by, env })).stdout,
      new RegExp(
        `^failed invalid-argument: Cannot read the passphrase of work from descriptor ${fd}: .*${why}`,
      ),
    );
  }
});

// --- $APPJAIL_ASKPASS ------------------------------------------------------------------------

/** A program that is asked; `script` is what it does. */
function askpass(scratch: Scratch, script: string): Record<string, string> {
  const path = scratch.file("askpass", `#!/bin/sh\n${script}\n`, 0o755);
  return { APPJAIL_ASKPASS: path, LOG: `${scratch.path}/log` };
}

Deno.test("a program is asked with the prompt, and its first line is the answer", async () => {
  using scratch = new Scratch();
  const cases: readonly (readonly [script: string, answer: string | Uint8Array])[] = [
    ["echo secret", "secret"],
    ["printf 'no newline'", "no newline"],
    ["printf 'one\\ntwo\\n'", "one"],
    ["printf 'a\\377\\200b\\n'", new Uint8Array([97, 255, 128, 98])],
    ["printf se; sleep 0.2; echo cret", "secret"],
    // So many that it would wait for ever if nobody read them.
    ["echo first; seq 100000", "first"],
    ['[ -t 0 ] || [ -n "$(cat)" ] || echo nothing to read', "nothing to read"],
  ];
  for (const [script, answer] of cases) {
    const { stdout, stderr } = await run({}, { env: askpass(scratch, script) });
    assert.equal(stdout + stderr, got(answer), script);
  }
  const asks: readonly Asking[] = [unlock, { ...unlock, tries: 1 }, {
    ...unlock,
    purpose: "current",
  }];
  const env = askpass(scratch, 'echo "$#:$1" >>"$LOG"; echo secret');
  assert.equal((await run({ asks }, { env })).stdout, got("secret", "secret", "secret"));
  assert.deepEqual(Deno.readTextFileSync(`${scratch.path}/log`).split("\n"), [
    "1:Passphrase of work (encfs): ",
    "1:Wrong passphrase, try again. Passphrase of work (encfs): ",
    "1:Current passphrase of work (encfs): ",
    "",
  ]);
});

Deno.test("what a program leaves running holds nobody up", async () => {
  using scratch = new Scratch();
  const env = askpass(scratch, 'sleep 1000 & echo $! >"$LOG"; echo secret');
  assert.equal((await run({}, { env, by: '"$@" 2>/dev/null' })).stdout, got("secret"));
  Deno.kill(Number(Deno.readTextFileSync(`${scratch.path}/log`)), "SIGKILL");
});

Deno.test("a new one is asked of a program twice", async () => {
  using scratch = new Scratch();
  const asks: readonly Asking[] = [{ ...unlock, purpose: "new" }];
  const same = askpass(scratch, 'echo "$1" >>"$LOG"; echo secret');
  assert.equal((await run({ asks }, { env: same })).stdout, got("secret"));
  assert.equal(
    Deno.readTextFileSync(`${scratch.path}/log`),
    "New passphrase of work (encfs): \nThe same once more: \n",
  );
  const other = askpass(scratch, 'echo "$1" | tee -a "$LOG"');
  assert.equal(
    (await run({ asks }, { env: other })).stdout,
    "failed invalid-argument: Cannot use what was given for work: The two differ\n",
  );
  assert(
    Deno.readTextFileSync(`${scratch.path}/log`).includes(
      "The two differ; try again. New passphrase of work (encfs): \n",
    ),
  );
});

Deno.test("a program that fails means no, and what it says is seen", async () => {
  using scratch = new Scratch();
  for (const how of ["exit 1", "kill -TERM $$", "exit 127"]) {
    const env = askpass(scratch, `echo not meant; echo why >&2; ${how}`);
    assert.deepEqual(await run({}, { env }), {
      stdout: "failed cancelled: Cancelled: no passphrase was given\n",
      stderr: "why\n",
    });
  }
  const env = askpass(scratch, "yes | tr -d '\\n'");
  assert.match((await run({}, { env })).stdout, /^failed invalid-argument: .* 2047 bytes\n$/);
});

Deno.test("a program that cannot be started is named, and no other is asked", async () => {
  using scratch = new Scratch();
  const file = scratch.file("no-program", "x");
  for (
    const [APPJAIL_ASKPASS, why] of [[file, "may not be executed"], ["not/there", "not found"]]
  ) {
    const env = { APPJAIL_ASKPASS: APPJAIL_ASKPASS ?? "" };
    assert.match(
      (await run({}, { env })).stdout,
      new RegExp(
        `^failed passphrase-required: Cannot ask for the passphrase with \\$APPJAIL_ASKPASS: .*${why}`,
      ),
    );
  }
  // By its name, where PATH has it.
  scratch.file("my-askpass", "#!/bin/sh\necho found\n", 0o755);
  const env = { APPJAIL_ASKPASS: "my-askpass", PATH: `${scratch.path}:/usr/bin:/bin` };
  assert.equal((await run({}, { env })).stdout, got("found"));
});

Deno.test("a program that asks has the person's environment", async () => {
  const own = { PATH: "/bin", DISPLAY: ":7", HOME: "/home/me" };
  assert.deepEqual(ownEnvironment(own), own);
  // What the launcher has made of it.
  assert.deepEqual(ownEnvironment({ ...own, ...denoEnvironment, APPJAIL_HOME: "/home/me" }), own);
  const homeless = { PATH: "/bin", ...denoEnvironment, APPJAIL_HOME: "" };
  assert.deepEqual(ownEnvironment(homeless), { PATH: "/bin" });
  using scratch = new Scratch();
  const env = askpass(scratch, 'echo "$HOME:$DENO_LOG:$MARK:$(ls /proc/self/fd | tr "\\n" " ")"');
  const told = { ...env, ...denoEnvironment, APPJAIL_HOME: "/home/me", MARK: "1" };
  // The stand-in itself has to be found.
  const DENO_DIR = Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`;
  assert.equal((await run({}, { env: { ...told, DENO_DIR } })).stdout, got("/home/me::1:0 1 2 3 "));
});

/** Whether a process runs. A zombie does not. */
function runs(pid: number): boolean {
  return /^State:\t[^ZX]/m.test(readText(`/proc/${pid}/status`) ?? "");
}

Deno.test("a program that asks goes with the client, and is waited for", async (t) => {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"] as const) {
    await t.step(signal, async () => {
      using scratch = new Scratch();
      const env = askpass(scratch, 'echo $$ >"$LOG.new"; mv "$LOG.new" "$LOG"; exec sleep 1000');
      const child = begin({}, { env, by: 'exec "$@"' });
      const asked = await until("it is asked", () => {
        try {
          return Number(Deno.readTextFileSync(`${scratch.path}/log`));
        } catch {
          return undefined;
        }
      });
      child.kill(signal);
      const [{ signal: by }] = await Promise.all([child.output(), child.stdin.close()]);
      assert.equal(by, signal);
      await until("it is gone", () => !runs(asked));
    });
  }
  await t.step(
    "one that is not wanted any more and ignores TERM is killed, with its own",
    async () => {
      using scratch = new Scratch();
      const env = askpass(
        scratch,
        "trap '' TERM; sleep 1000 & echo $$ $! >\"$LOG\"; printf %5000s; wait",
      );
      assert.match((await run({}, { env })).stdout, /^failed invalid-argument: .* 2047 bytes\n$/);
      for (const pid of Deno.readTextFileSync(`${scratch.path}/log`).trim().split(" ")) {
        await until("it is gone", () => !runs(Number(pid)));
      }
    },
  );
  await t.step("no zombie is left", async () => {
    using scratch = new Scratch();
    const child = begin({ hold: true }, { env: askpass(scratch, "echo secret"), by: 'exec "$@"' });
    const reader = child.stdout.getReader();
    assert.equal(new TextDecoder().decode((await reader.read()).value), "holding\n");
    const children = [...Deno.readDirSync("/proc")].filter(({ name }) =>
      /^\d+$/.test(name) && parentOf(Number(name)) === child.pid
    );
    assert.deepEqual(children, []);
    child.kill("SIGKILL");
    reader.releaseLock();
    await Promise.all([child.output(), child.stdin.close()]);
  });
});

// --- pinentry --------------------------------------------------------------------------------

Deno.test("what would end a line is escaped, and comes back byte for byte", () => {
  assert.equal(escaped("100 %\nof\r\x7f ä"), "100 %25%0Aof%0D%7F ä");
  const back = (text: string): string => {
    using secret = new Secret(64);
    assert(appendUnescaped(Uint8Array.from(text, (one) => one.charCodeAt(0)), secret));
    return secret.bytes.toHex();
  };
  assert.equal(back("a%25b%0a%0A%fF%00"), "6125620a0aff00");
  // What is no escape is itself.
  assert.equal(back("%"), "25");
  assert.equal(back("%2"), "2532");
  assert.equal(back("%zz%2g%"), hexOf("%zz%2g%"));
  assert.equal(back("\xff\xfe"), "fffe");
  using small = new Secret(3);
  assert(!appendUnescaped(encoder.encode("abcd"), small));
  assert.equal(small.size, 3);
  const random = new Random(4);
  for (let round = 0; round < 200; round++) {
    const bytes = Uint8Array.from({ length: 30 }, () => random.below(256));
    const sent = [...bytes].map((byte) =>
      byte === 37 || byte === 10 || random.below(4) === 0
        ? `%${byte.toString(16).padStart(2, "0")}`
        : String.fromCharCode(byte)
    ).join("");
    assert.equal(back(sent), bytes.toHex());
  }
});

/** A pinentry that logs what it is told and answers GETPIN with these lines, in printf's words. */
function pinentry(scratch: Scratch, getpin: string, rest = ""): Record<string, string> {
  const script = `#!/bin/sh
printf 'OK Pleased to meet you\\n'
while IFS= read -r line; do
  printf '%s\\n' "$line" >>"$LOG"
  case $line in
  ${rest}
  GETPIN) printf '${getpin}' ;;
  *) echo OK ;;
  esac
done
echo ended >>"$LOG"
`;
  scratch.file("pinentry", script, 0o755);
  return { PATH: `${scratch.path}:/usr/bin:/bin`, LOG: `${scratch.path}/log`, DISPLAY: ":99" };
}

Deno.test("a pinentry is asked in its protocol", async () => {
  using scratch = new Scratch();
  const log = (): readonly string[] => {
    const text = Deno.readTextFileSync(`${scratch.path}/log`);
    Deno.removeSync(`${scratch.path}/log`);
    return text.trimEnd().split("\n").filter((line) => line !== "ended");
  };
  const cases: readonly (readonly [lines: string, answer: string | Uint8Array])[] = [
    ["D secret\\nOK\\n", "secret"],
    ["# a remark\\nS SOMETHING new\\nD se%%63ret%%25\\nOK all is well\\n", "secret%"],
    ["D one \\nD two\\nOK\\n", "one two"],
    ["D a\\377b\\nOK\\n", new Uint8Array([97, 255, 98])],
  ];
  for (const [lines, answer] of cases) {
    const { stdout, stderr } = await run({}, { env: pinentry(scratch, lines) });
    assert.equal(stdout + stderr, got(answer), lines);
    assert.deepEqual(log(), [
      "SETTITLE appjail",
      "SETDESC Passphrase of work (encfs)",
      "SETPROMPT Passphrase:",
      "GETPIN",
    ]);
  }
  const asks = [{ ...unlock, tries: 2 }];
  const env: Record<string, string> = pinentry(scratch, "D secret\\nOK\\n");
  delete env["DISPLAY"];
  assert.equal(
    (await run({ asks }, { env: { ...env, WAYLAND_DISPLAY: "wayland-9" } })).stdout,
    got("secret"),
  );
  assert(log().includes("SETERROR Wrong passphrase, try again"));
});

Deno.test("a pinentry that can repeat is asked once for a new one, another one twice", async () => {
  using scratch = new Scratch();
  const asks: readonly Asking[] = [{ ...unlock, purpose: "new" }];
  const count = (): number =>
    Deno.readTextFileSync(`${scratch.path}/log`).split("\n").filter((line) => line === "GETPIN")
      .length;
  const can = pinentry(scratch, "S PIN_REPEATED\\nD secret\\nOK\\n");
  assert.equal((await run({ asks }, { env: can })).stdout, got("secret"));
  assert.equal(count(), 1);
  const unknown = "SETREPEAT*) echo ERR 536871187 Unknown IPC command ;;";
  const cannot = pinentry(scratch, "D secret\\nOK\\n", unknown);
  assert.equal((await run({ asks }, { env: cannot })).stdout, got("secret"));
  assert.equal(count(), 3);
});

Deno.test("a pinentry whose window is closed means no, and one that is empty is told so", async () => {
  using scratch = new Scratch();
  for (const error of ["83886179 Operation cancelled", "83886278 Fully cancelled"]) {
    const env = pinentry(scratch, `ERR ${error} <Pinentry>\\n`);
    assert.equal(
      (await run({}, { env })).stdout,
      "failed cancelled: Cancelled: no passphrase was given\n",
    );
  }
  const env = pinentry(scratch, "OK\\n");
  assert.equal(
    (await run({}, { env })).stdout,
    "failed invalid-argument: Cannot use what was given for work: The passphrase is empty\n",
  );
  assert(
    Deno.readTextFileSync(`${scratch.path}/log`).includes(
      "SETERROR The passphrase is empty; try again\n",
    ),
  );
  const long = `D ${"y".repeat(900)}\\n`.repeat(6);
  assert.match(
    (await run({}, { env: pinentry(scratch, `${long}OK\\n`) })).stdout,
    /^failed invalid-argument: .* 2047 bytes\n$/,
  );
});

// --- systemd-ask-password, and nobody --------------------------------------------------------

/** In a mount namespace whose /run is empty but for this. */
function withRun(script: string, then = '"$@"'): string {
  return `exec unshare --mount sh -c 'mount -t tmpfs tmpfs /run; ${script}
${then}' sh "$@"`;
}

Deno.test({
  name: "systemd's agents are asked last",
  ignore: !isRoot || !exists("/lib/systemd/systemd-reply-password"),
  fn: async (t) => {
    const agent = `mkdir -p /run/systemd/system /run/systemd/ask-password
      ( until grep -h ^Message= /run/systemd/ask-password/ask.* 2>/dev/null; do sleep 0.05; done
        socket=$(sed -n s/^Socket=//p /run/systemd/ask-password/ask.*)
        printf "a\\\\377b" | /lib/systemd/systemd-reply-password "$answer" "$socket" ) &`;
    await t.step("and answer", async () => {
      const by = withRun(`answer=1; ${agent}`);
      const { stdout } = await run({}, { by });
      assert.equal(
        stdout,
        `Message=Passphrase of work (encfs): \n${got(new Uint8Array([97, 255, 98]))}`,
      );
    });
    await t.step("or do not", async () => {
      const { stdout } = await run({}, { by: withRun(`answer=0; ${agent}`) });
      assert.match(
        stdout,
        /\nfailed passphrase-required: .* no terminal to ask at, and \S+systemd-ask-password gave none; at one, try: appjail unlock work;/,
      );
    });
  },
});

Deno.test({
  name: "where nobody can be asked, it is said what could be done",
  ignore: !isRoot,
  fn: async () => {
    const words = "failed passphrase-required: Cannot ask for the passphrase of work (encfs): " +
      "there is no terminal to ask at; at one, try: appjail unlock work; or set APPJAIL_ASKPASS to " +
      "a program that asks, or use --passphrase-fd\n";
    assert.equal((await run({}, { by: withRun("mkdir -p /run/systemd") })).stdout, words);
    // One that cannot open its window is as good as none.
    using scratch = new Scratch();
    for (
      const env of [
        pinentry(scratch, "ERR 83918950 Inappropriate ioctl for device <Pinentry>\\n"),
        pinentry(scratch, "", "GETPIN) exit 1 ;;"),
      ]
    ) {
      const { stdout } = await run({}, { env, by: withRun("") });
      assert.match(stdout, /no terminal to ask at, and .*; at one, try: /);
    }
  },
});
