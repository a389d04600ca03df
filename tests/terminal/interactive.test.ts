/** People's programs on a terminal: shells, editors, pagers, interpreters, as they are outside. */
import assert from "node:assert/strict";
import { exists } from "../../core/kernel.ts";
import { execute, until, type World } from "../jail/world.ts";
import {
  announced,
  atTerminal,
  firstAndJoined,
  key,
  quoted,
  Screen,
  shellAt,
  terminalTest,
} from "./driver.ts";

const bash = ["bash", "--norc", "--noprofile", "--noediting", "-i"];

terminalTest("a shell has its terminal, and its jobs", async (t, world) => {
  await firstAndJoined(t, world, "job control", async (profile) => {
    await using term = atTerminal(world, ["run", "-p", profile, "-e", "PS1=in$ ", "--", ...bash]);
    await term.expect("in$ ");
    await term.ask("tty; stty size; echo $TERM", /\/dev\/pts\/\d+\r\n24 80\r\nxterm-256color\r\n/);
    await term.ask("cut -d' ' -f1 /proc/self/oom_score_adj </dev/tty && echo o''k", "ok\r\n");
    await term.expect("in$ ");

    await term.ask(announced("sleep 1000"), "ready\r\n");
    await term.send(key.suspend);
    await term.expect(/Stopped .*\r\n.*in\$ /);
    await term.ask("jobs", /\[1\]\+ +Stopped .*sleep 1000'\r\n/);
    await term.ask("bg", /sleep 1000' &\r\n/);
    await term.ask("jobs", /\[1\]\+ +Running .*sleep 1000' &\r\n/);
    await term.ask("fg", /sleep 1000'\r\n/);
    await term.send(key.interrupt);
    await term.expect("in$ ");
    await term.ask("echo =$?", "=130\r\n");

    await term.ask(announced("sleep 1000"), "ready\r\n");
    await term.send(key.quit);
    await term.expect(/Quit.*\r\n.*in\$ /);

    await term.ask(announced("cat"), "ready\r\n");
    await term.ask("hello", "hello\r\nhello\r\n");
    await term.send(key.endOfFile);
    await term.expect("in$ ");

    await term.ask("sleep 1000 &", /\[1\] \d+\r\n/);
    await term.send("exit 7\r");
    assert.deepEqual(await term.ended(), { code: 7, signal: undefined, core: false });
  });

  await firstAndJoined(t, world, "the window's size", async (profile) => {
    const script = "trap 'stty size' WINCH; echo ready; while :; do sleep 1000 & wait $!; done";
    await using term = atTerminal(world, ["run", "-p", profile, "sh", "-c", script], {
      rows: 17,
      columns: 42,
    });
    await term.expect("ready\r\n");
    term.resize(50, 132);
    await term.expect("50 132\r\n");
    term.resize(5, 9);
    await term.expect("5 9\r\n");
    await term.send(key.interrupt);
    assert.equal((await term.ended()).signal, 2);
  });

  await t.step("a window that grew while the client was stopped", async () => {
    await using term = await shellAt(world);
    await term.ask(`$appjail run -p joined sh -c 'read x; stty size'`, "\r\n");
    await until("the client has the terminal", () => term.isRaw);
    await term.send(key.suspend);
    await term.expect(/Stopped .*\r\n.*out\$ /);
    term.resize(11, 99);
    await term.ask("fg", "\r\n");
    await until("the client has the terminal", () => term.isRaw);
    await term.ask("", "11 99\r\n");
    await term.expect("out$ ");
  });
});

/** What is done to a program on a screen, until the screen to be compared is there. */
type Play = (screen: Screen) => Promise<void>;

/** Plays the same in a jail and without one; the screens have to be the same, colours and all. */
async function sameScreens(
  world: World,
  profile: string,
  words: readonly string[],
  play: Play,
): Promise<void> {
  const home = `${world.folder}/outside`;
  const local = quoted(["env", "-C", home, `HOME=${home}`, ...words]);
  const jailed = quoted(world.clientWords(["run", "-p", profile, "--", ...words]));
  const start = (command: string) =>
    Screen.start(world.folder, command, { APPJAIL_SOCKET: world.socket });
  let wanted = "";
  {
    await using screen = await start(local);
    await play(screen);
    await until("the screen is drawn", async () => {
      const before = wanted;
      wanted = await screen.look(true);
      return wanted === before;
    });
  }
  await using screen = await start(jailed);
  await play(screen);
  // Its last strokes may be on their way.
  await until("the screens are the same", async () => await screen.look(true) === wanted, 5)
    .catch(() => {});
  assert.equal(await screen.look(true), wanted);
}

terminalTest("full-screen programs show what they show without a jail", async (t, world) => {
  await Deno.mkdir(`${world.folder}/outside`);
  const text = Array.from({ length: 300 }, (_, at) => `line ${at} – größer`).join("\n");
  const make = ["sh", "-c", 'cat > "$HOME/text"'];
  await Deno.writeTextFile(`${world.folder}/outside/text`, text);
  const vim = ["vim.tiny", "-u", "NONE", "-i", "NONE", "-n"];

  await firstAndJoined(t, world, "vim edits and saves", async (profile) => {
    await world.run(profile, ["rm", "-f", `/home/${profile}/notes`]);
    const command = quoted(world.clientWords(["run", "-p", profile, "--", ...vim, "notes"]));
    await using screen = await Screen.start(world.folder, command, {
      APPJAIL_SOCKET: world.socket,
    });
    await screen.expect("~");
    assert(await screen.isAlternate());
    await screen.type("ihello");
    await screen.press("Enter");
    await screen.type("wörld");
    await screen.press("Escape");
    await screen.type(":wq");
    await screen.press("Enter");
    await screen.ended();
    assert.equal(await world.run(profile, ["cat", "notes"], { cwd: world.folder }), "hello\nwörld");
  });

  await firstAndJoined(t, world, "vim's screen", async (profile) => {
    await world.run(profile, make, { stdin: text });
    await sameScreens(
      world,
      profile,
      [...vim, "-c", "set number hlsearch", "text"],
      async (screen) => {
        await screen.expect("line 0");
        await screen.type("150G");
        await screen.expect("line 149");
        await screen.type("dd:s/line/LINE/");
        await screen.press("Enter");
        await screen.expect("LINE 150");
        await screen.resize(18, 60);
        await screen.type(":set columns?");
        await screen.press("Enter");
        await screen.expect("columns=60");
      },
    );
  });

  await firstAndJoined(t, world, "less pages", async (profile) => {
    await world.run(profile, make, { stdin: text });
    await sameScreens(world, profile, ["env", "LESS=", "less", "text"], async (screen) => {
      await screen.expect("line 22");
      await screen.press("Space");
      await screen.expect("line 45");
      await screen.type("/line 99");
      await screen.press("Enter");
      await screen.expect("line 121");
      await screen.type("G");
      await screen.expect("(END)");
    });
  });

  await firstAndJoined(t, world, "top is quit", async (profile) => {
    await using term = atTerminal(world, ["run", "-p", profile, "top"]);
    await term.expect(/PID/);
    await term.expect(/top/);
    await term.send("q");
    assert.equal((await term.ended()).code, 0);
    assert(!term.isRaw);
  });

  await firstAndJoined(t, world, "tmux", async (profile) => {
    await using term = atTerminal(world, [
      "run",
      "-p",
      profile,
      "-e",
      "PS1=in$ ",
      "--",
      "tmux",
      "-u",
      "-f",
      "/dev/null",
      "new-session",
      ...bash,
    ]);
    await term.expect("in$ ");
    await term.ask("stty size", "23 80");
    await term.send("exit\r");
    await term.expect("[exited]");
    assert.equal((await term.ended()).code, 0);
  });
});

terminalTest("^Z stops a client as a job of the shell that it was typed at", async (t, world) => {
  await firstAndJoined(t, world, "vim is stopped and comes back", async (profile) => {
    await using term = await shellAt(world);
    const before = term.settings;
    await term.send(`$appjail run -p ${profile} -- vim.tiny -u NONE -i NONE -n notes\r`);
    await term.expect("~");
    await term.send("isome text");
    await term.expect("some text");
    await term.send(key.escape);
    await term.send(key.suspend);
    await term.expect(/Stopped .*\r\n.*out\$ /);
    assert.deepEqual(term.settings, before);
    await term.ask("jobs; echo jobs=$?", /Stopped .*vim.tiny.*jobs=0\r\n/s);
    await term.send("fg\r");
    await term.expect("some text");
    await until("the client has the terminal", () => term.isRaw);
    await term.send(":wq\r");
    await term.expect("out$ ");
    assert.deepEqual(term.settings, before);
    await term.ask("echo =$?", "=0\r\n");
    assert.equal(await world.run(profile, ["sh", "-c", "cat ~/notes"]), "some text");
  });

  await firstAndJoined(t, world, "a line-mode program", async (profile) => {
    await using term = await shellAt(world);
    const before = term.settings;
    await term.ask(`$appjail run -p ${profile} cat`, "cat\r\n");
    await until("the client has the terminal", () => term.isRaw);
    await term.ask("one", "one\r\none\r\n");
    for (let turn = 0; turn < 3; turn++) {
      await term.send(key.suspend);
      await term.expect(/Stopped .*\r\n.*out\$ /);
      assert.deepEqual(term.settings, before);
      await term.ask("fg", "cat\r\n");
      await until("the client has the terminal", () => term.isRaw);
      await term.ask(`turn${turn}`, `turn${turn}\r\nturn${turn}\r\n`);
    }
    await term.send(key.endOfFile);
    await term.expect("out$ ");
    await term.ask("echo =$?", "=0\r\n");
  });

  await t.step("a program that stops itself", async () => {
    await using term = await shellAt(world);
    await term.send("$appjail run -p joined sh -c 'kill -STOP $$; echo on; exit 5'\r");
    await term.expect(/Stopped .*\r\n.*out\$ /);
    await term.ask("fg", "on\r\n");
    await term.expect("out$ ");
    await term.ask("echo =$?", "=5\r\n");
  });
});

terminalTest("an interpreter gets ^C and ^D", async (t, world) => {
  if (exists("/usr/bin/python3")) {
    await firstAndJoined(t, world, "python", async (profile) => {
      await using term = atTerminal(world, ["run", "-p", profile, "/usr/bin/python3", "-q"]);
      await term.expect(">>> ");
      await term.ask("print(6*7)", "42\r\n");
      await term.expect(">>> ");
      await term.send(key.interrupt);
      await term.expect("KeyboardInterrupt\r\n");
      await term.expect(">>> ");
      await term.ask("import time; print('read'+'y', flush=True); time.sleep(1000)", "ready\r\n");
      await term.send(key.interrupt);
      await term.expect("KeyboardInterrupt\r\n");
      await term.expect(">>> ");
      // Otherwise it ends by the signal that it had last.
      await term.ask("None", ">>> ");
      await term.send(key.endOfFile);
      assert.equal((await term.ended()).code, 0);
    });
  }
  await firstAndJoined(t, world, "perl", async (profile) => {
    await using term = atTerminal(world, [
      "run",
      "-p",
      profile,
      "perl",
      "-e",
      '$SIG{INT} = sub { print "got it\n" }; $| = 1; print "? ";' +
      'while (1) { my $l = <STDIN>; last if !defined $l && !$!{EINTR}; print "= ", eval($l // "") // "", "\n? " }',
    ]);
    await term.expect("? ");
    await term.ask("6*7", "= 42\r\n");
    await term.send(key.interrupt);
    await term.expect("got it");
    await term.send(key.endOfFile);
    assert.equal((await term.ended()).code, 0);
  });
});

terminalTest("what passes between a person and a program is not changed", async (t, world) => {
  await firstAndJoined(t, world, "every byte, to a raw program and back", async (profile) => {
    const script = "stty raw -echo; printf ready; head -c 512 | od -An -v -tx1 -w512; head -c 512";
    await using term = atTerminal(world, ["run", "-p", profile, "sh", "-c", script]);
    await term.expect("ready");
    await until("the client has the terminal", () => term.isRaw);
    const every = Uint8Array.from({ length: 512 }, (_, at) => at & 0xff);
    await term.send(every);
    const hex = [...every].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    await term.expect(hex);
    await term.send(every);
    await term.ended();
    await until("all of it is shown", () => term.bytes.length >= 5 + hex.length + 2 + 512);
    assert.deepEqual(term.bytes.slice(-512), every);
  });

  await firstAndJoined(t, world, "sequences and letters of the program", async (profile) => {
    const sequences = [
      "\x1b[?1049h", // the alternate screen
      "\x1b[?1000h\x1b[?1006h", // the mouse
      "\x1b[?2004h", // bracketed paste
      "\x1b[38;5;208mcolour\x1b[48;2;1;2;3m\x1b[0m",
      "\x1b]0;a title\x07\x1b[6n\x1b[c",
      "größer 日本語 🦊 e\u0301",
      "\x1b[?1049l",
    ].join("");
    await using term = atTerminal(world, ["run", "-p", profile, "printf", "%s", sequences]);
    assert.equal((await term.ended()).code, 0);
    await until("all of it is shown", () => term.text.length >= sequences.length);
    assert.equal(term.text, sequences);
  });

  await firstAndJoined(t, world, "keys of the mouse, a paste, letters", async (profile) => {
    const typed =
      "\x1b[<0;10;5M\x1b[<0;10;5m\x1b[200~pasted\ntext\x1b[201~größer 日本語 🦊\x1bOA\x1b[24~";
    const size = new TextEncoder().encode(typed).length;
    const script = `stty raw -echo; printf ready; head -c ${size} > ~/typed`;
    await using term = atTerminal(world, ["run", "-p", profile, "sh", "-c", script]);
    await term.expect("ready");
    await until("the client has the terminal", () => term.isRaw);
    await term.send(typed);
    assert.equal((await term.ended()).code, 0);
    assert.equal(await world.run(profile, ["sh", "-c", "cat ~/typed"]), typed);
  });

  await firstAndJoined(t, world, "a megabyte, whole and in order", async (profile) => {
    const script = "seq 1 150000";
    const { stdout } = await execute(["seq", "1", "150000"]);
    await using term = atTerminal(world, ["run", "-p", profile, "sh", "-c", script]);
    assert.equal((await term.ended()).code, 0);
    const wanted = stdout.replaceAll("\n", "\r\n");
    await until("all of it is shown", () => term.text.length >= wanted.length);
    assert.equal(term.text, wanted);
  });

  await firstAndJoined(t, world, "a flood, that ^C ends", async (profile) => {
    await using term = atTerminal(world, ["run", "-p", profile, "yes"]);
    await until("it flows", () => term.text.length > 1_000_000);
    await term.send(key.interrupt);
    assert.equal((await term.ended()).signal, 2);
  });
});
