/**
 * Device files of a profile: a jail has those that its profile names, and may use those that its owner
 * may use. They are made for the test, with the numbers of /dev/null.
 */
import assert from "node:assert/strict";
import { shell } from "./volumes.ts";
import { firstUid, jailTest, ownEtc, uA, World } from "./world.ts";

jailTest("a jail may use a device that its owner may use, by its group", async (t) => {
  const folder = `/dev/appjail-test-${firstUid}`;
  // Groups of nobody's, as far as this machine knows.
  const [shared, foreign] = [firstUid + 50_000, firstUid + 50_001];
  await shell(
    `mkdir "$1"; chmod 755 "$1"
     mknod -m 660 "$1/mine" c 1 3; chgrp "$2" "$1/mine"
     mknod -m 660 "$1/other" c 1 3; chgrp "$3" "$1/other"
     mknod -m 640 "$1/readable" c 1 3; chgrp "$2" "$1/readable"
     mknod -m 666 "$1/everybody" c 1 3`,
    ...[folder, `${shared}`, `${foreign}`],
  );
  try {
    await using world = await World.start(ownEtc);
    const etc = `${world.folder}/etc`;
    const name = await shell('getent passwd "$1" | cut -d: -f1', `${uA}`);
    await Deno.writeTextFile(
      `${etc}/group`,
      `shared:x:${shared}:${name}\nforeign:x:${foreign}:\n`,
      {
        append: true,
      },
    );
    const write = async (name: string, text: string, uid = uA): Promise<void> => {
      const file = `${world.folder}/p.toml`;
      await Deno.writeTextFile(file, text);
      const { code, stderr } = await world.client(["profile", "edit", name, file], { uid });
      assert.equal(code, 0, stderr);
    };
    const tries = `cd ${folder} 2>/dev/null || { echo none; exit 0; }
      for name in everybody mine other readable; do
        if (echo x > $name) 2>/dev/null; then echo $name; fi
      done; id -G | wc -w`;

    await t.step("of a folder, each that its group and its owner's rights allow", async () => {
      await write("has", `devices = ["${folder}"]\n`);
      assert.equal(await world.shell("has", tries, { uid: uA }), "everybody\nmine\n2");
    });
    await t.step("one alone", async () => {
      await write("one", `devices = ["${folder}/mine", "${folder}/not-there"]\n`);
      assert.equal(await world.shell("one", tries, { uid: uA }), "mine\n2");
    });
    await t.step("none without a word of it, and no group", async () => {
      assert.equal(await world.shell("bare", tries, { uid: uA }), "none");
      assert.equal(await world.shell("bare", "id -G | wc -w", { uid: uA }), "1");
    });
    await t.step("and with a device what the kernel tells of them all, to be read", async () => {
      const look = `ls /sys 2>/dev/null; if test -e /sys/devices/virtual/mem/null/uevent; then
        cat /sys/devices/virtual/mem/null/uevent; fi; grep -c ' /sys.* ro,' /proc/mounts`;
      assert.equal(
        await world.shell("has", look, { uid: uA }),
        "block\nbus\nclass\ndev\ndevices\nMAJOR=1\nMINOR=3\nDEVNAME=null\nDEVMODE=0666\n5",
      );
      const without = await world.shell("bare", `${look}; true`, { uid: uA });
      assert.equal(without, "0");
    });
    await t.step("none by what somebody else than root may have put there", async () => {
      // As in /dev/shm, where what a file says of itself may be anybody's invention.
      const theirs = `${folder}/theirs`;
      await shell(
        'mkdir "$1"; chmod 777 "$1"; mknod -m 666 "$1/null" c 1 3; chgrp "$2" "$1/null"',
        ...[theirs, `${shared}`],
      );
      for (const device of [theirs, `${theirs}/null`]) {
        await world.client(["stop", "--force", "has"], { uid: uA });
        await write("has", `devices = ["${device}"]\n`);
        const groups = `cat ${theirs}/null; id -G | wc -w`;
        assert.equal(await world.shell("has", groups, { uid: uA }), "1", device);
      }
      await shell('rm -r "$1"', theirs);
    });
    await t.step("somebody else's profile gives what that person may use", async () => {
      await write("has", `devices = ["${folder}"]\n`, uA + 1);
      assert.equal(await world.shell("has", tries, { uid: uA + 1 }), "everybody\n1");
    });
  } finally {
    await shell('rm -r "$1"', folder);
  }
});
