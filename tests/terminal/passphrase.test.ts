/** A passphrase that is asked for at a terminal: what a person sees, what they can do, what is left. */
import assert from "node:assert/strict";
import type { Asking } from "../../cmd/passphrase.ts";
import { execute, isRoot, until } from "../jail/world.ts";
import { Scratch } from "../scratch.ts";
import { key, Terminal, type TerminalOptions } from "./driver.ts";
import type { Script } from "./passphrase-driver.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/../..`);
const secret = "c0rrect-h0rse";
const unlock: Asking = { profile: "work", kind: "encfs", tries: 0, purpose: "unlock" };
const prompt = "Passphrase of work (encfs): ";

/** The words of a client's stand-in, with a client's permissions. */
function words(script: Partial<Script> = {}): readonly string[] {
  return [
    Deno.execPath(),
    ...["run", "--quiet", "--no-prompt", "--no-check", "--v8-flags=--single-threaded"],
    ...["--allow-ffi", "--allow-env", "--allow-read"],
    `${root}/tests/terminal/passphrase-driver.ts`,
    JSON.stringify({ asks: [unlock], ...script }),
  ];
}

const hex = (text: string): string => new TextEncoder().encode(text).toHex();

function test(name: string, body: (t: Deno.TestContext) => Promise<void>, ignore = false): void {
  Deno.test({ name, ignore, sanitizeOps: false, sanitizeResources: false, fn: body });
}

/** The stand-in on a terminal of its own. */
function start(script: Partial<Script> = {}, options: TerminalOptions = {}): Terminal {
  return Terminal.start(words(script), { cwd: root, ...options });
}

/** A shell at whose terminal something unusual is set, lest a default be taken for it. */
async function shell(script: Partial<Script> = {}): Promise<Terminal> {
  const quoted = words(script).map((word) => `'${word}'`).join(" ");
  const term = Terminal.start(["bash", "--norc", "--noprofile", "--noediting", "-i"], {
    cwd: root,
    env: { PS1: "out$ ", HISTFILE: "", ask: quoted },
  });
  await term.expect("out$ ");
  await term.ask("stty -ixon -echoctl echonl noflsh erase ^H susp ^Y; echo s=", "\ns=");
  await term.expect("out$ ");
  return term;
}

const ECHO = 0o10;
const hidden = (term: Terminal): boolean => (term.settings.lflag & ECHO) === 0;

test("what is typed is not shown, and is what comes", async () => {
  await using term = start();
  await term.expect(prompt);
  assert(hidden(term) && !term.isRaw);
  await term.send(`${secret}${key.enter}`);
  await term.expect(`\r\ngot ${hex(secret)}\r\n`);
  assert.deepEqual((await term.ended()).code, 0);
  assert(!term.text.includes(secret));
  // Neither a star for each, nor anything else that tells how long it is.
  assert.equal(term.text, `${prompt}\r\ngot ${hex(secret)}\r\n`);
  assert(!hidden(term));
});

test("a line is edited with the keys that the person is used to", async (t) => {
  const backspace = "\x7f", line = "\x15", word = "\x17", literally = "\x16";
  const cases: Readonly<Record<string, readonly [typed: string | Uint8Array, hex: string]>> = {
    "backspace": [`abd${backspace}c\r`, hex("abc")],
    "backspace at the beginning": [`${backspace}${backspace}abc\r`, hex("abc")],
    "^U": [`wrong${line}right\r`, hex("right")],
    "^W": [`one two${word}three\r`, hex("one three")],
    "^V": [`a${literally}${key.interrupt}b\r`, "610362"],
    "^D ends a line that is not empty": [`abc${key.endOfFile}`, hex("abc")],
    "^J": ["abc\n", hex("abc")],
    "what is no UTF-8": [new Uint8Array([0xff, 0x80, 0xc3, 13]), "ff80c3"],
    "blanks at both ends": [" a b \r", hex(" a b ")],
    "the longest": [`${"x".repeat(2047)}\r`, hex("x".repeat(2047))],
  };
  for (const [name, [typed, expected]] of Object.entries(cases)) {
    await t.step(name, async () => {
      await using term = start();
      await term.expect(prompt);
      await term.send(typed);
      await term.expect(`got ${expected}\r\n`);
    });
  }
});

test("whoever does not want to any more says so", async (t) => {
  for (
    const [name, typed] of [["^C", "abc\x03"], ["^D", "\x04"], [
      "^D, once it is empty",
      "a\b\x04",
    ]]
  ) {
    await t.step(name ?? "", async () => {
      await using term = await shell();
      const before = term.settings;
      await term.ask("eval $ask; echo rc=$?", prompt);
      await until("nothing is shown", () => hidden(term));
      await term.send(typed ?? "");
      await term.expect("failed cancelled: Cancelled: no passphrase was given\r\n");
      await term.expect("out$ ");
      assert.deepEqual(term.settings, before);
      // What was typed is nobody else's.
      assert.equal(await answerTo(term, "echo x"), "x");
    });
  }
});

/** What a command prints at the shell's prompt, alone. */
async function answerTo(term: Terminal, command: string): Promise<string> {
  await term.send(`${command}\r`);
  const [, , said = ""] = await term.expect(/^([^\r]*)\r\n+([^\r]*)\r\n+out\$ /);
  return said;
}

test("a signal that ends the client leaves the terminal as it was, and no key of the passphrase", async (t) => {
  for (const signal of ["SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
    await t.step(signal, async () => {
      await using term = await shell();
      const before = term.settings;
      await term.ask("eval $ask; echo rc=$?", prompt);
      await until("nothing is shown", () => hidden(term));
      await term.send("ec");
      Deno.kill(term.foreground, signal);
      const status = { SIGTERM: 143, SIGHUP: 129, SIGQUIT: 131 }[signal];
      await term.expect(`rc=${status}\r\n`);
      await term.expect("out$ ");
      assert.deepEqual(term.settings, before);
      assert.equal(await answerTo(term, "echo x"), "x");
    });
  }
  await t.step("^\\ does the same, without a core", async () => {
    await using term = await shell();
    const before = term.settings;
    await term.ask("ulimit -c unlimited; eval $ask; echo rc=$?", prompt);
    await until("nothing is shown", () => hidden(term));
    await term.send(`abc${key.quit}`);
    await term.expect("rc=131\r\n");
    assert(!term.text.includes("core dumped"));
    await term.expect("out$ ");
    assert.deepEqual(term.settings, before);
  });
});

test("^Z gives the terminal back, and it is asked again afterwards", async (t) => {
  const stopped = async (
    stop: (term: Terminal) => Promise<void>,
    script: Partial<Script> = {},
  ): Promise<void> => {
    await using term = await shell(script);
    const before = term.settings;
    await term.ask("eval $ask", prompt);
    await until("nothing is shown", () => hidden(term));
    await term.send("half");
    await stop(term);
    await term.expect(/Stopped .*\r\n+out\$ /);
    assert.deepEqual(term.settings, before);
    assert.equal(await answerTo(term, "echo x"), "x");
    await term.ask("fg", prompt);
    await until("nothing is shown", () => hidden(term));
    await term.send(`${secret}\r`);
    await term.expect(`got ${hex(secret)}\r\n`);
    await term.expect("out$ ");
    assert.deepEqual(term.settings, before);
    // Asked once, and once again.
    assert.equal(term.text.split(prompt).length - 1, 2);
    assert(!term.text.includes(secret));
  };
  await t.step("typed", () => stopped((term) => term.send("\x19")));
  await t.step(
    "once, where the client stops for it as a job, too",
    () => stopped((term) => term.send("\x19"), { job: true }),
  );
  await t.step("as a signal", () =>
    stopped((term) => {
      Deno.kill(term.foreground, "SIGTSTP");
      return Promise.resolve();
    }));

  await t.step("in the background it waits", async () => {
    await using term = await shell();
    const before = term.settings;
    await term.ask("eval $ask", prompt);
    await until("nothing is shown", () => hidden(term));
    await term.send("\x19");
    await term.expect(/Stopped .*\r\n+out\$ /);
    await term.ask("bg", "out$ ");
    // What is typed meanwhile is the shell's.
    assert.equal(await answerTo(term, "echo x"), "x");
    assert.deepEqual(term.settings, before);
    await term.ask("fg", prompt);
    await until("nothing is shown", () => hidden(term));
    await term.send(`${secret}\r`);
    await term.expect(`got ${hex(secret)}\r\n`);
    await term.expect("out$ ");
    assert.deepEqual(term.settings, before);
  });

  await t.step("stopped by SIGSTOP, it asks again too", async () => {
    await using term = await shell();
    const before = term.settings;
    await term.ask("eval $ask", prompt);
    await until("nothing is shown", () => hidden(term));
    Deno.kill(term.foreground, "SIGSTOP");
    await term.expect(/Stopped .*\r\n+out\$ /);
    await term.ask("fg", prompt);
    await until("nothing is shown", () => hidden(term));
    await term.send(`${secret}\r`);
    await term.expect(`got ${hex(secret)}\r\n`);
    await term.expect("out$ ");
    assert.deepEqual(term.settings, before);
  });
});

test("whoever ignores a signal is spared it", async () => {
  await using term = await shell();
  await term.ask("(trap '' HUP INT; eval $ask); echo rc=$?", prompt);
  await until("nothing is shown", () => hidden(term));
  Deno.kill(-term.foreground, "SIGHUP");
  await term.send(`abc${key.interrupt}`);
  await term.send(`${secret}\r`);
  // ^C throws away what was typed before it, as for any program that ignores it.
  await term.expect(`got ${hex(secret)}\r\nrc=0\r\n`);
});

test("wrong ones are told, and it is asked again", async () => {
  const asks = [0, 1, 2].map((tries) => ({ ...unlock, tries }));
  await using term = start({ asks });
  for (const tries of [0, 1, 2]) {
    if (tries > 0) await term.expect(/^Wrong passphrase, try again\.\r\n/);
    await term.expect(/^Passphrase of work \(encfs\): /);
    await until("nothing is shown", () => hidden(term));
    await term.send(`try ${tries}\r`);
    await term.expect(`got ${hex(`try ${tries}`)}\r\n`);
  }
  assert.equal((await term.ended()).code, 0);
});

test("what cannot be one is refused at once, three times", async (t) => {
  const cases: Readonly<Record<string, readonly [typed: string, words: string]>> = {
    "nothing": ["\r", "The passphrase is empty"],
    "too long": [`${"y".repeat(2048)}\r`, "The passphrase is longer than 2047 bytes"],
    "longer than a terminal's line": [
      `${"y".repeat(5000)}\r`,
      "The passphrase is longer than 2047 bytes",
    ],
    "NUL": ["a\0b\r", "The passphrase has a NUL byte in it"],
  };
  for (const [name, [typed, words]] of Object.entries(cases)) {
    await t.step(name, async () => {
      await using term = start();
      for (let round = 0; round < 3; round++) {
        if (round > 0) await term.expect(`${words}; try again.\r\n`);
        await term.expect(prompt);
        await term.send(typed);
      }
      await term.expect(
        `failed invalid-argument: Cannot use what was given for work: ${words}\r\n`,
      );
      assert(!hidden(term));
      assert(!term.text.includes("yy"));
    });
  }
});

test("a new one is asked for twice", async (t) => {
  const fresh: Asking = { ...unlock, purpose: "new" };
  const first = "New passphrase of work (encfs): ", second = "\r\nThe same once more: ";
  await t.step("and taken when both are the same", async () => {
    await using term = start({ asks: [fresh] });
    await term.expect(first);
    // Both at once, as a password manager types them.
    await term.send(`${secret}\r${secret}\r`);
    await term.expect(second);
    await term.expect(`\r\ngot ${hex(secret)}\r\n`);
    assert(!term.text.includes(secret));
  });
  await t.step("and asked for again when they differ, or it is refused", async () => {
    await using term = start({ asks: [fresh] });
    await term.expect(first);
    await term.send(`${secret}\r`);
    await term.expect(second);
    await term.send(`${secret}x\r`);
    await term.expect("\r\nThe two differ; try again.\r\n");
    await term.expect(first);
    await term.send("\r");
    await term.expect("\r\nAn empty passphrase protects nothing; try again.\r\n");
    await term.expect(first);
    await term.send(`${"z".repeat(512)}\r`);
    await term.expect(
      "failed invalid-argument: Cannot use what was given for work: encfs takes only 511 bytes",
    );
  });
  await t.step("^C at the second", async () => {
    await using term = start({ asks: [fresh] });
    await term.expect(first);
    await term.send(`${secret}\r`);
    await term.expect(second);
    await term.send(key.interrupt);
    await term.expect("failed cancelled");
    assert(!hidden(term));
  });
});

test("what was typed before the question is no answer to it", async () => {
  await using term = start({ late: true });
  await term.expect("waiting");
  await term.send("seen\r");
  await term.expect("seen");
  Deno.kill(term.child.pid, "SIGUSR2");
  await term.expect(prompt);
  await until("nothing is shown", () => hidden(term));
  await term.send(`${secret}\r`);
  await term.expect(`got ${hex(secret)}\r\n`);
});

test("a terminal that some program has left raw is as good", async () => {
  await using term = await shell();
  await term.send('stty raw -echo; eval $ask; stty sane; echo d""one\r');
  await term.expect(prompt);
  await until("a line is read", () => !term.isRaw);
  await term.send(`${secret}\r`);
  await term.expect(`got ${hex(secret)}`);
  await term.expect("done");
});

test("a client whose window is closed ends", async () => {
  const term = start();
  await term.expect(prompt);
  term.close();
  // By SIGHUP, or because nothing can be read any more: whichever it hears of first.
  await term.ended();
});

test(
  "it is asked at the terminal wherever the streams go, unless it is in the background",
  async (t) => {
    using scratch = new Scratch();
    await t.step("in front", async () => {
      await using term = await shell();
      await term.ask(`eval $ask </dev/null >${scratch.path}/out 2>&1; echo d""one`, prompt);
      await term.send(`${secret}\r`);
      await term.expect("done");
      assert.equal(Deno.readTextFileSync(`${scratch.path}/out`), `got ${hex(secret)}\n`);
    });
    await t.step("in the background", async () => {
      await using term = await shell();
      const before = term.settings;
      const other = scratch.file("askpass", "#!/bin/sh\necho from elsewhere\n", 0o755);
      await term.send(`export APPJAIL_ASKPASS=${other}; eval "$ask" & wait; echo d""one\r`);
      await term.expect(`got ${hex("from elsewhere")}\r\n`);
      await term.expect("done");
      await term.expect("out$ ");
      assert.deepEqual(term.settings, before);
      assert(!term.text.includes(prompt));
    });
  },
);

test("a real pinentry is asked, on a terminal that it is told of", async () => {
  using scratch = new Scratch();
  await using term = Terminal.start(["sh", "-c", "tty; exec sleep 1000"]);
  const [, name = ""] = await term.expect(/(\/dev\/pts\/\d+)\r\n/);
  scratch.file("pinentry", `#!/bin/sh\nexec pinentry-tty --ttyname ${name}\n`, 0o755);
  const asks: readonly Asking[] = [unlock, { ...unlock, purpose: "new" }];
  // In a session without a terminal.
  const answered = execute(["setsid", "--wait", ...words({ asks })], {
    cwd: root,
    env: { PATH: `${scratch.path}:/usr/bin:/bin`, DISPLAY: ":99", APPJAIL_ASKPASS: "" },
  });
  await term.expect("Passphrase of work (encfs)");
  await term.expect("Passphrase:");
  await term.send("100% ä\r");
  await term.expect("New passphrase of work (encfs)");
  await term.expect("Passphrase:");
  await term.send("new\r");
  await term.expect("The same once more");
  await term.send("new\r");
  assert.equal((await answered).stdout, `got ${hex("100% ä")}\ngot ${hex("new")}\n`);
});

/** Where any of these bytes are in what a process can read of its memory. */
function placesOf(pid: number, wanted: readonly Uint8Array[]): readonly string[] {
  const places: string[] = [];
  using memory = Deno.openSync(`/proc/${pid}/mem`);
  const buffer = new Uint8Array(1024 * 1024 + 64);
  for (const line of Deno.readTextFileSync(`/proc/${pid}/maps`).trim().split("\n")) {
    const [, from = "", to = "", mode = "", name = ""] =
      /^(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)$/.exec(line) ?? [];
    if (!mode.startsWith("r") || name === "[vvar]" || name.startsWith("[vvar")) continue;
    const [start, end] = [Number.parseInt(from, 16), Number.parseInt(to, 16)];
    for (let at = start; at < end; at += 1024 * 1024) {
      memory.seekSync(at, Deno.SeekMode.Start);
      let count = 0;
      try {
        count = memory.readSync(buffer.subarray(0, Math.min(buffer.length, end - at))) ?? 0;
      } catch {
        // A page behind the end of a file.
      }
      if (wanted.some((one) => indexOf(buffer.subarray(0, count), one) >= 0)) {
        places.push(`${line} at ${at.toString(16)}`);
      }
    }
  }
  return places;
}

function indexOf(bytes: Uint8Array, wanted: Uint8Array): number {
  for (
    let at = bytes.indexOf(wanted[0] ?? 0);
    at >= 0;
    at = bytes.indexOf(wanted[0] ?? 0, at + 1)
  ) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}

/** Where the passphrase is, or a part of it. */
function leftOf(pid: number): readonly string[] {
  const bytes = new TextEncoder().encode(secret);
  const half = bytes.length >> 1;
  return placesOf(pid, [bytes.subarray(0, half), bytes.subarray(half)]);
}

test("the passphrase is in one place of the client's memory, and then in none", async (t) => {
  const forgets = async (pid: number, shows: (what: string) => Promise<unknown>): Promise<void> => {
    await shows("holding");
    assert.equal(leftOf(pid).length, 1, leftOf(pid).join("\n"));
    Deno.kill(pid, "SIGUSR2");
    await shows("forgotten");
    assert.deepEqual(leftOf(pid), []);
    // No core is written.
    const limits = Deno.readTextFileSync(`/proc/${pid}/limits`);
    assert.match(limits, /^Max core file size +0 +0 /m);
    Deno.kill(pid, "SIGKILL");
  };

  await t.step("typed at a terminal", async () => {
    await using term = start({ hold: true });
    await term.expect(prompt);
    await term.send(`${secret}\r`);
    await forgets(term.child.pid, (what) => term.expect(what));
  });

  using scratch = new Scratch();
  // A variable would be in the client's own environment.
  const file = scratch.file("secret", `${secret}\n`);
  const askpass = scratch.file("askpass", `#!/bin/sh\ncat ${file}\n`, 0o755);
  scratch.file(
    "pinentry",
    `#!/bin/sh
    echo OK
    while read -r line; do
      if [ "$line" = GETPIN ]; then printf 'D '; cat ${file}; fi
      echo OK
    done
    `,
    0o755,
  );
  const pinentry = { DISPLAY: ":99", PATH: `${scratch.path}:/usr/bin:/bin` };
  for (
    const [name, script, env] of [
      ["from a descriptor", { fd: 0 }, {}],
      ["from a program", {}, { APPJAIL_ASKPASS: askpass }],
      ["from a pinentry", {}, { APPJAIL_ASKPASS: "", ...pinentry }],
    ] as const
  ) {
    await t.step(name, async () => {
      const child = new Deno.Command("setsid", {
        args: ["sh", "-c", 'exec "$@" <"$0"', file, ...words({ hold: true, ...script })],
        env,
        cwd: root,
        stdin: "null",
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      await forgets(
        child.pid,
        async (what) => assert.equal((await reader.read()).value, `${what}\n`),
      );
      await reader.cancel();
      await child.status;
    });
  }
}, !isRoot);

test("nobody of the same uid may look at a client that asks for a passphrase", async () => {
  // Of root's uid, but without its privileges.
  const plainly = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];
  const look = async (pid: number): Promise<boolean> =>
    (await execute([...plainly, "head", "-c", "0", `/proc/${pid}/mem`])).code === 0;
  await using term = Terminal.start([...plainly, ...words({ late: true })], { cwd: root });
  await term.expect("waiting");
  const { pid } = term.child;
  assert(await look(pid));
  Deno.kill(pid, "SIGUSR2");
  // Before the first key is typed.
  await term.expect(prompt);
  assert(!await look(pid));
  await term.send(`${secret}\r`);
  await term.expect(`got ${hex(secret)}`);
}, !isRoot);
