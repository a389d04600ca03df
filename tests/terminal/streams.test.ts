/** Streams of which some are a terminal and some are not, as a shell puts them together. */
import assert from "node:assert/strict";
import { execute } from "../jail/world.ts";
import { firstAndJoined, key, quoted, shellAt, terminalTest } from "./driver.ts";

/** Keeps which of a program's streams are terminals. */
const kept = `sh -c 'a=; for fd in 0 1 2; do [ -t $fd ] && a=$a$fd; done; echo "=$a" >> ~/which'`;

terminalTest("each stream is to the program what it is to the caller", async (t, world) => {
  await firstAndJoined(t, world, "which are terminals", async (profile) => {
    await using term = await shellAt(world);
    const before = term.settings;
    const run = `$appjail run -p ${profile}`;
    const kinds: readonly (readonly [string, string])[] = [
      [`${run} ${kept}`, "012"],
      [`${run} ${kept} | cat`, "02"],
      [`echo | ${run} ${kept}`, "12"],
      [`echo | ${run} ${kept} | cat`, "2"],
      [`${run} ${kept} 2>/dev/null`, "01"],
      [`${run} ${kept} </dev/null >/dev/null`, "2"],
      [`${run} ${kept} 2>&1 | cat`, "0"],
      [`${run} ${kept} </dev/null 2>&1 | cat`, ""],
      [`$appjail run -T -p ${profile} ${kept}`, ""],
      [`$appjail run -t -p ${profile} ${kept} </dev/null 2>&1 | cat`, "012"],
      [`$appjail run -t -p ${profile} ${kept} </dev/null >/dev/null 2>&1`, "012"],
      // A stream that is closed is nothing at all.
      [`${run} ${kept} <&-`, "12"],
      [`${run} ${kept} >&- 2>&-`, "0"],
    ];
    for (const [line] of kinds) {
      await term.ask(`${line}; echo "done"=$?`, /done=(\d+)\r\n/);
      assert.deepEqual(term.settings, before, line);
    }
    assert.deepEqual(
      (await world.run(profile, ["sh", "-c", "cat ~/which; rm ~/which"])).split("\n"),
      kinds.map(([, wanted]) => `=${wanted}`),
    );
  });

  await firstAndJoined(t, world, "colours go to a terminal, not to a pipe", async (profile) => {
    await using term = await shellAt(world, { env: { LS_COLORS: "di=01;34" } });
    const run = `$appjail run -p ${profile}`;
    await world.run(profile, ["sh", "-c", "mkdir -p ~/folder"]);
    const ls = `ls --color=auto /home/${profile}`;
    await term.ask(`${run} ${ls}; echo =$?`, /\[01;34mfolder.*\r\n.*=0\r\n/s);
    await term.expect("out$ ");
    await term.send(`${run} ${ls} | cat; echo =$?\r`);
    assert.match((await term.expect(/\r\n(.*)=0\r\n/s))[1] ?? "", /^folder\r\nlent\r\n$/);
  });
});

terminalTest(
  "a pipeline has its jailed part where a shell would have the program",
  async (t, world) => {
    await firstAndJoined(t, world, "standard input a pipe, output a terminal", async (profile) => {
      await using term = await shellAt(world);
      const run = `$appjail run -p ${profile}`;
      await term.ask(`seq 3 | ${run} sed s/^/=/`, "=1\r\n=2\r\n=3\r\n");
      await term.expect("out$ ");
      // ^C is for all of the pipeline.
      await term.ask(
        `(echo rea""dy; exec sleep 1000) | ${run} sh -c 'cat; exec sleep 1000'`,
        "ready\r\n",
      );
      await term.send(key.interrupt);
      await term.expect("out$ ");
      await term.ask('echo "${PIPESTATUS[@]}"', "130 130\r\n");
      // And so is ^Z.
      await term.ask(
        `(echo rea""dy; exec cat /dev/zero) | ${run} sh -c 'head -n1; wc -c'`,
        "ready\r\n",
      );
      await term.send(key.suspend);
      await term.expect(/Stopped .*\r\n.*out\$ /);
      await term.send("fg\r");
      await term.expect(/wc -c'\r\n/);
      await term.send(key.interrupt);
      await term.expect("out$ ");
      // A program that leaves a pager.
      await term.ask(
        `${run} sh -c 'yes | head -n 100000' | head -n 2; echo "${"${PIPESTATUS[@]}"}"`,
        /y\r\ny\r\n\d+ 0\r\n/,
      );
    });

    await firstAndJoined(t, world, "standard input a terminal, output a pipe", async (profile) => {
      await using term = await shellAt(world);
      const before = term.settings;
      const run = `$appjail run -p ${profile}`;
      await term.send(`${run} sh -c 'echo rea""dy >&2; exec cat' | sed -u s/^/=/\r`);
      await term.expect("ready\r\n");
      // A line at a time, and shown once.
      await term.ask("hello", "hello\r\n=hello\r\n");
      await term.send("tyop");
      await term.expect("tyop");
      await term.send("\x7f\x7f\x7fypo\r");
      await term.expect("=typo\r\n");
      await term.send(key.suspend);
      await term.expect(/Stopped .*\r\n.*out\$ /);
      assert.deepEqual(term.settings, before);
      await term.ask("fg", /sed -u.*\r\n/);
      await term.ask("again", "again\r\n=again\r\n");
      await term.send(key.endOfFile);
      await term.expect("out$ ");
      await term.ask("echo =$?", "=0\r\n");

      await term.send(`${run} sh -c 'echo rea""dy >&2; exec cat' > out\r`);
      await term.expect("ready\r\n");
      await term.ask("into the file", "into the file\r\n");
      await term.send("no end of line");
      await term.send(key.endOfFile);
      await term.send(key.endOfFile);
      await term.expect("out$ ");
      assert.equal(await Deno.readTextFile(`${world.folder}/out`), "into the file\nno end of line");

      await term.send(`${run} sh -c 'echo rea""dy >&2; exec cat' > out\r`);
      await term.expect("ready\r\n");
      await term.send(key.interrupt);
      await term.expect("out$ ");
      await term.ask("echo =$?", "=130\r\n");
      await term.send(`${run} sh -c 'echo rea""dy >&2; exec cat' > out\r`);
      await term.expect("ready\r\n");
      await term.send(key.quit);
      await term.expect("out$ ");
      await term.ask("echo =$?", "=131\r\n");
      assert.deepEqual(term.settings, before);
    });

    await firstAndJoined(t, world, "standard error alone a terminal", async (profile) => {
      await using term = await shellAt(world);
      const run = `$appjail run -p ${profile}`;
      await term.ask(
        `${run} sh -c 'stty size <&2; tty <&2; cat' </dev/null | cat`,
        /24 80\r\n\/dev\/pts\/\d+\r\n/,
      );
      await term.expect("out$ ");
      await term.ask(
        `echo x | ${run} sh -c 'cat; echo rea""dy >&2; exec sleep 1000' > out`,
        "ready\r\n",
      );
      await term.send(key.interrupt);
      await term.expect("out$ ");
      await term.ask("echo =$?", "=130\r\n");
      assert.equal(await Deno.readTextFile(`${world.folder}/out`), "x\n");
    });

    await firstAndJoined(t, world, "-T at a terminal", async (profile) => {
      await using term = await shellAt(world);
      const before = term.settings;
      await term.ask(
        `$appjail run -T -p ${profile} sh -c 'echo rea""dy; exec sed -u s/^/=/'`,
        "ready\r\n",
      );
      await term.ask("typed", "=typed");
      await term.send(key.suspend);
      await term.expect(/Stopped .*\r\n.*out\$ /);
      await term.ask("fg", "\r\n");
      await term.ask("again", "=again");
      await term.send(key.endOfFile);
      await term.expect("out$ ");
      await term.ask(`$appjail run -T -p ${profile} sh -c 'echo rea""dy; exec cat'`, "ready");
      await term.send(key.interrupt);
      await term.expect("out$ ");
      await term.ask("echo =$?", "=130\r\n");
      assert.deepEqual(term.settings, before);
    });
  },
);

terminalTest("-t gives a program a terminal where its caller has none", async (t, world) => {
  await firstAndJoined(t, world, "all three streams", async (profile) => {
    const script = "tty; stty size; cat; echo error >&2";
    const { code, stdout, stderr } = await world.client(
      ["run", "-t", "-p", profile, "sh", "-c", script],
      { stdin: "one\ntwo" },
    );
    assert.equal(code, 0);
    // What is typed is shown, as at any terminal.
    assert.match(stdout, /\/dev\/pts\/\d+\r\n/);
    assert.match(stdout, /24 80\r\n/);
    assert.match(stdout, /one\r\n[^]*two/);
    assert.match(stdout, /error\r\n$/);
    assert.equal(stderr, "");
  });
  await firstAndJoined(t, world, "a megabyte comes through", async (profile) => {
    const text = Array.from({ length: 20_000 }, (_, at) => `line ${at} of the text`).join("\n") +
      "\n";
    await Deno.writeTextFile(`${world.folder}/text`, text);
    const run = quoted(
      world.clientWords([
        ...["run", "-t", "-p", profile, "sh", "-c", "stty -echo -onlcr; echo ready; cat"],
      ]),
    );
    // A pipe and a file as standard input.
    for (const line of [`cat text | ${run}`, `${run} < text`]) {
      const { code, stdout } = await execute(["sh", "-c", line], {
        cwd: world.folder,
        env: { APPJAIL_SOCKET: world.socket },
      });
      assert.equal(code, 0);
      assert(stdout.endsWith(text.slice(-10_000)), stdout.slice(-1000));
    }
  });
});
