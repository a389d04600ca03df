/** Programs that run by themselves, and whoever looks at them afterwards. */
import assert from "node:assert/strict";
import { until, type World } from "../jail/world.ts";
import { atTerminal, firstAndJoined, key, shellAt, terminalTest } from "./driver.ts";

/** Starts a program by itself; its name. */
async function detached(
  world: World,
  profile: string,
  ...words: readonly string[]
): Promise<string> {
  const { code, stdout, stderr } = await world.client([
    "run",
    "-d",
    "-t",
    "-p",
    profile,
    "--",
    ...words,
  ]);
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

async function runs(world: World, program: string): Promise<boolean> {
  const jails = await world.status();
  return jails.flatMap(({ programs }) => programs).some((one) => one.program === program);
}

const bash = ["env", "PS1=in$ ", "bash", "--norc", "--noprofile", "--noediting", "-i"];

terminalTest("a program that runs by itself can be attached to", async (t, world) => {
  await firstAndJoined(t, world, "its terminal is taken over", async (profile) => {
    const program = await detached(world, profile, ...bash);
    await using term = atTerminal(world, ["attach", program], { rows: 31, columns: 101 });
    await until("the client has the terminal", () => term.isRaw);
    await term.ask("stty size; tty", /31 101\r\n\/dev\/pts\/\d+\r\n/);
    await term.ask("sh -c 'echo rea\"\"dy; exec sleep 1000'", "ready\r\n");
    await term.send(key.suspend);
    await term.expect(/Stopped .*\r\n.*in\$ /);
    await term.send("exit 9\r");
    await term.send("exit 9\r");
    assert.equal((await term.ended()).code, 9);
    assert(!term.isRaw);
  });

  await firstAndJoined(t, world, "by one after the other", async (profile) => {
    const program = await detached(world, profile, ...bash);
    await using first = await shellAt(world);
    const before = first.settings;
    await first.send(`$appjail attach ${program}\r`);
    await until("the first has it", () => first.isRaw);
    await first.ask("echo o''ne", "one\r\n");
    await using second = atTerminal(world, ["attach", program]);
    await first.expect(`${program} is attached elsewhere now`);
    await first.expect("out$ ");
    assert.deepEqual(first.settings, before);
    await until("the second has it", () => second.isRaw);
    await second.ask("echo t''wo", "two\r\n");
    assert.doesNotMatch(first.text, /two/);
    // What was closed before is not the end of it; what is closed last is.
    first.close();
    await second.ask("echo thr''ee", "three\r\n");
    second.close();
    await until("it has HUP", async () => !await runs(world, program));
  });

  await firstAndJoined(
    t,
    world,
    "the one that started it at a terminal included",
    async (profile) => {
      await using first = atTerminal(world, ["run", "-p", profile, "--", ...bash]);
      await first.expect("in$ ");
      // deno-lint-ignore no-explicit-any -- of the status
      const jail: any = (await world.status()).find((one) => one.profile === profile);
      const { program } = jail.programs.at(-1);
      await using second = atTerminal(world, ["attach", program]);
      await first.expect("is attached elsewhere now");
      assert.equal((await first.ended()).code, 0);
      await until("the second has it", () => second.isRaw);
      await second.ask("echo o''n", "on\r\n");
      await second.send("exit 6\r");
      assert.equal((await second.ended()).code, 6);
    },
  );

  await firstAndJoined(t, world, "it goes on when nobody looks", async (profile) => {
    const program = await detached(
      world,
      profile,
      "sh",
      "-c",
      "seq 100000; echo end; read x; exit 3",
    );
    // Nobody reads it but the log, so it does not stand still.
    await until("it comes to its end", async () => {
      const { stdout } = await world.client(["logs", profile]);
      return / end\n/.test(stdout) && !stdout.includes("\\x0d");
    });
    await using term = atTerminal(world, ["attach", program]);
    await until("the client has the terminal", () => term.isRaw);
    await term.send("\r");
    assert.equal((await term.ended()).code, 3);
  });

  await t.step("one that is stopped goes on for whoever attaches, or is told of", async () => {
    const program = await detached(
      world,
      "joined",
      "sh",
      "-c",
      "kill -STOP $$; echo on; read x; exit 5",
    );
    await until(
      "it is stopped",
      async () =>
        /^T/m.test(await world.shell("joined", "grep -h '^State' /proc/[0-9]*/status | cut -c8")),
    );
    await using term = atTerminal(world, ["attach", program]);
    await until("the client has the terminal", () => term.isRaw);
    await world.client(["kill", "-s", "CONT", program]);
    await term.expect("on\r\n");
    await term.send("\r");
    assert.equal((await term.ended()).code, 5);
  });
});
