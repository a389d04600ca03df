/** The whole way, once: a first program, a second that joins, a status, a stop, nothing left. */
import assert from "node:assert/strict";
import { execute, firstUid, jailTest, World } from "./world.ts";

jailTest("a program runs as a user of its own, and a second one joins its jail", async () => {
  await using world = await World.start({ bus: true, linger: 600 });
  assert.equal(
    await world.shell("work", "id -u; whoami; echo $HOME"),
    `${firstUid}\nwork\n/home/work`,
  );
  await world.shell("work", "echo hello > /tmp/note");
  const call = await execute([
    "gdbus",
    "call",
    "--address",
    world.busAddress,
    "--dest=org.appjail.AppJail",
    "--object-path=/org/appjail/AppJail",
    "--method=org.appjail.AppJail1.Run",
    "work",
    "['cat', '/tmp/note']",
    "{}",
  ]);
  assert.equal(call.stdout, `(uint32 ${firstUid}, 'work.3')\n`, call.stderr);
  assert.equal(
    await world.shell("other", "id -u; ls /tmp /home"),
    `${firstUid + 1}\n/home:\nother\n\n/tmp:`,
  );
  const stopped = await world.client(["stop", "--all"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.deepEqual(await world.status(), []);
  assert.equal(await world.stopDaemon(), 0);
  const left = [...Deno.readDirSync(world.folder)].map(({ name }) => name).sort();
  assert.deepEqual(left, ["admin", "bus", "bus.conf", "data", "profiles", "state"]);
});
