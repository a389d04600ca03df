/** The person's own terminal: whatever becomes of whom, it is afterwards what it was before. */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { allPids } from "../../core/process.ts";
import { execute, until, type World } from "../jail/world.ts";
import { key, shellAt, type Terminal, terminalTest } from "./driver.ts";

/** A shell at whose terminal something unusual is set, lest a default be taken for it. */
async function unusualShell(world: World): Promise<Terminal> {
  const term = await shellAt(world);
  await term.ask("stty -ixon -echoctl echonl erase ^H susp ^Y; echo set", "\nset");
  await term.expect("out$ ");
  return term;
}

/** What stty(1) says. */
async function stty(term: Terminal): Promise<string> {
  const [, said = ""] = await term.ask("stty -a; echo end=", /stty -a; echo end=\s+(.*)end=/s);
  await term.expect("out$ ");
  return said;
}

/** The client that runs on the terminal. */
async function clientPid(term: Terminal): Promise<number> {
  return await until("the client is in front", () => {
    const pid = term.foreground;
    return readText(`/proc/${pid}/cmdline`)?.includes("appjail") ? pid : undefined;
  });
}

/** The pid out here of the process with these words in its jail. */
async function outerPid(words: string): Promise<number> {
  return await until(
    `${words} runs`,
    () =>
      allPids().find((pid) =>
        readText(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ").trim() === words
      ),
  );
}

let counted = 0;

/** Starts a program in raw mode, lets something happen to it, and looks at the terminal afterwards. */
async function restored(
  world: World,
  happens: (term: Terminal, found: { program: number; client: number }) => Promise<void> | void,
): Promise<void> {
  await using term = await unusualShell(world);
  const [settings, said] = [term.settings, await stty(term)];
  const words = `sleep ${100_000 + Deno.pid}.${counted++}`;
  await term.ask(
    `$appjail run -p work sh -c 'stty raw -echo; echo rea""dy; exec ${words}'`,
    "ready",
  );
  await until("the client has the terminal", () => term.isRaw);
  const program = await outerPid(words);
  await happens(term, { program, client: await clientPid(term) });
  await term.expect("out$ ");
  assert.deepEqual(term.settings, settings);
  assert.equal(await stty(term), said);
  await execute(["kill", "-KILL", String(program)]);
}

terminalTest("the caller's terminal is what it was", async (t, world) => {
  await t.step("while the client is stopped, and after it has gone on", async () => {
    await using term = await unusualShell(world);
    const [settings, said] = [term.settings, await stty(term)];
    await term.ask("$appjail run -p work sh -c 'echo rea\"\"dy; exec cat'", "ready");
    await until("the client has the terminal", () => term.isRaw);
    await term.send("\x19");
    await term.expect(/Stopped .*\r\n.*out\$ /);
    assert.deepEqual(term.settings, settings);
    assert.equal(await stty(term), said);
    await term.ask("fg", "\r\n");
    await until("the client has the terminal", () => term.isRaw);
    await term.send(key.endOfFile);
    await term.expect("out$ ");
    assert.deepEqual(term.settings, settings);
    assert.equal(await stty(term), said);
  });

  const jailer = async (): Promise<number> => {
    const [jail] = await world.status();
    return jail.jailer_pid;
  };
  const signal = (pid: number, name: string) => execute(["kill", `-${name}`, String(pid)]);

  for (const name of ["KILL", "TERM", "SEGV", "HUP"]) {
    await t.step(
      `the program gets ${name}`,
      () => restored(world, async (_term, { program }) => void await signal(program, name)),
    );
  }
  for (const name of ["TERM", "HUP", "INT", "QUIT", "USR2"]) {
    await t.step(
      `the client gets ${name}`,
      () => restored(world, async (_term, { client }) => void await signal(client, name)),
    );
  }
  await t.step(
    "the jailer is killed",
    () => restored(world, async () => void await signal(await jailer(), "KILL")),
  );
  await t.step("the monitor is killed", () =>
    restored(world, async (_term, { program }) => {
      const parent = /^PPid:\t(\d+)/m.exec(readText(`/proc/${program}/status`) ?? "")?.[1];
      await signal(Number(parent), "KILL");
      await signal(program, "TERM");
    }));
  await t.step("the jail is stopped", () =>
    restored(world, async () => {
      const { code, stderr } = await world.client(["stop", "--force", "work"]);
      assert.equal(code, 0, stderr);
    }));
  await t.step("the dispatcher is killed", () =>
    restored(world, async (term, { program }) => {
      const old = await world.dispatcherPid();
      await signal(old, "KILL");
      await until("there is another", async () => await world.dispatcherPid() !== old);
      assert(term.isRaw, "the program goes on, and so does its terminal");
      await signal(program, "TERM");
    }));
  await t.step(
    "the helper is killed, and another daemon comes",
    () =>
      restored(world, async (_term, { program }) => {
        await signal(world.helperPid, "KILL");
        await world.daemonEnded();
        await world.startDaemon();
        await signal(program, "TERM");
      }),
  );
  await t.step("the daemon is killed and does not come back", async () => {
    await restored(world, async (term) => {
      const dispatcher = await world.dispatcherPid();
      await signal(world.helperPid, "KILL");
      await signal(dispatcher, "KILL");
      await world.daemonEnded();
      await term.expect("appjail: The daemon went away");
    });
    await world.startDaemon();
  });
});
