/** A person at a terminal, without any privilege, whose program's home is encrypted. */
import assert from "node:assert/strict";
import { allLocked, encryptedProfile, passphrase } from "../jail/volumes.ts";
import { uA } from "../jail/world.ts";
import { key, shellAt, terminalTest } from "./driver.ts";

const prompt = "Passphrase of work (gocryptfs): ";

terminalTest("a person is asked for the passphrase at their terminal", async (t, world) => {
  await encryptedProfile(world, "work", "gocryptfs", undefined, [], { uid: uA });
  const lock = async (): Promise<void> => {
    const { code, stderr } = await world.client(["stop", "--force", "work"], { uid: uA });
    assert.equal(code, 0, stderr);
    await allLocked(world);
  };

  await t.step("^C leaves all as it was", async () => {
    await using term = await shellAt(world, { uid: uA });
    const before = term.settings;
    await term.ask("$appjail run -p work cat /home/work/note", prompt);
    await term.send(key.interrupt);
    await term.expect("\r\nappjail: Cancelled: no passphrase was given\r\nout$ ");
    assert.deepEqual(term.settings, before);
    await allLocked(world);
  });

  await t.step("a wrong one, ^Z, the right one, and the program has the terminal", async () => {
    await using term = await shellAt(world, { uid: uA });
    const before = term.settings;
    await term.ask("$appjail run -p work sh -c 'read x; echo got $x; cat ~/note'", prompt);
    await term.send("wrong\r");
    await term.expect(`\r\nWrong passphrase, try again.\r\n${prompt}`);
    await term.send(key.suspend);
    await term.expect(/Stopped .*\r\n+out\$ /);
    assert.deepEqual(term.settings, before);
    await term.ask("fg", prompt);
    await term.send(`${passphrase}\r`);
    await term.expect("\r\n");
    await term.ask("typed", "got typed\r\nkept\r\nout$ ");
    assert.deepEqual(term.settings, before);
    assert(!term.text.includes(passphrase));
    await lock();
  });

  await t.step("wherever the streams go, and one ^Z stops it once", async () => {
    await using term = await shellAt(world, { uid: uA });
    const before = term.settings;
    const words = "$appjail run -p work cat /home/work/note </dev/null 2>/dev/null | cat";
    await term.ask(words, prompt);
    await term.send(key.suspend);
    await term.expect(/Stopped .*\r\n+out\$ /);
    assert.deepEqual(term.settings, before);
    await term.ask("fg", prompt);
    await term.send(`${passphrase}\r`);
    await term.expect("\r\nkept\r\nout$ ");
    assert.deepEqual(term.settings, before);
    await lock();
  });

  await t.step("one that is killed leaves the terminal as it was", async () => {
    await using term = await shellAt(world, { uid: uA });
    const before = term.settings;
    await term.ask("$appjail unlock work; echo rc=$?", prompt);
    await term.send("half");
    Deno.kill(term.foreground, "SIGTERM");
    await term.expect("rc=143\r\nout$ ");
    assert.deepEqual(term.settings, before);
    await term.ask("echo x", "\r\nx\r\n");
    await allLocked(world);
  });
});
