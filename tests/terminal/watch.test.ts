/** `appjail status --watch` at a terminal: it follows what happens, and leaves no trace. */
import assert from "node:assert/strict";
import { uA } from "../jail/world.ts";
import { key, shellAt, terminalTest } from "./driver.ts";

terminalTest("jails are watched on a screen of their own, until ^C", async (t, world) => {
  await using term = await shellAt(world, { uid: uA });
  const before = term.settings;

  await t.step("what begins while one looks comes to be seen, and how busy it is", async () => {
    await term.ask("$appjail status --watch", "No jail of yours is running.");
    assert(term.text.includes("\x1b[?1049h\x1b[?25l"));
    const busy = ["run", "-d", "-p", "work", "sh", "-c", "while :; do :; done"];
    assert.equal((await world.client(busy, { uid: uA })).code, 0);
    await term.expect(/PROFILE +UID +STATE +PID +SINCE +MEMORY +CPU +PROGRAMS/);
    await term.expect(/work +\d+ +running .* [1-9]\d* % +1/);
    await term.expect("sh -c 'while :; do :; done'");
  });
  await t.step("what ends goes", async () => {
    assert.equal((await world.client(["stop", "--force", "work"], { uid: uA })).code, 0);
    await term.expect("No jail of yours is running.");
  });
  await t.step("^C gives the screen and the cursor back", async () => {
    await term.send(key.interrupt);
    await term.expect("\x1b[?25h\x1b[?1049l");
    await term.ask("echo status $?", "status 0");
    assert.deepEqual(term.settings, before);
  });
});

terminalTest("where nobody looks, each time is a line of JSON", async (_, world) => {
  const client = world.spawn(["status", "--watch", "--json"], { uid: uA });
  const reader = client.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (said.split("\n").length < 3) said += (await reader.read()).value ?? "";
  assert.equal(said.split("\n").slice(0, 2).join(), "[],[]");
  client.kill("SIGTERM");
  await reader.cancel();
  assert.equal((await client.status).code, 0);
  await client.stderr.cancel();
});
