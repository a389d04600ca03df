/** What root may say to the daemon: by flags, by the configuration, and what is refused of it. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { daemon, type DaemonFlags, isStream, settle } from "../../cmd/daemon.ts";
import { AppjailError } from "../../core/errors.ts";
import { Scratch } from "../scratch.ts";

type Configuration = Parameters<typeof settle>[1];

/** Who runs the dispatcher in these tests: a user that every Debian has. */
const user = "nobody";

function settled(flags: DaemonFlags, config: Configuration = {}, env: Record<string, string> = {}) {
  return settle({ user, ...flags }, config, env);
}

function refuses(flags: DaemonFlags, words: RegExp, config: Configuration = {}): void {
  throws(() => settled(flags, config), (error) => {
    ok(error instanceof AppjailError);
    equal(error.exitStatus, 100);
    ok(error.message.startsWith("Cannot start the daemon: "), error.message);
    match(error.message, words);
    return true;
  });
}

Deno.test("what nobody says anything about is as it is documented", () => {
  deepEqual(settled({}), {
    bus: "system",
    data_root: "/data",
    state_dir: "/var/lib/appjail",
    runtime_dir: "/run/appjail",
    first_uid: 1100,
    last_uid: 1999,
    most_profiles: 200,
    dispatcher_uid: 65534,
    dispatcher_gid: 65534,
    linger: 5000,
    network: "host",
    shipped_profiles: null,
    admin_profiles: "/etc/appjail/profiles",
    notify: null,
    listener: false,
    log: { format: "text", journal: false, debug: false },
  });
});

Deno.test("a flag beats the configuration, and that what is built in", () => {
  const config: Configuration = {
    bus: "none",
    data_root: "/config/data",
    state_dir: "/config/state",
    runtime_dir: "/config/run",
    uid_range: "3000-3999",
    user: "daemon",
    linger: 0.5,
    network: "none",
    profiles_dir: "/usr/share",
    admin_profiles: "/config/profiles",
    max_profiles: 3,
    log_format: "json",
  };
  const fromConfig = {
    bus: null,
    data_root: "/config/data",
    state_dir: "/config/state",
    runtime_dir: "/config/run",
    first_uid: 3000,
    last_uid: 3999,
    most_profiles: 3,
    dispatcher_uid: 1,
    dispatcher_gid: 1,
    linger: 500,
    network: "none",
    shipped_profiles: "/usr/share",
    admin_profiles: "/config/profiles",
    notify: null,
    listener: false,
    log: { format: "json", journal: false, debug: false },
  };
  deepEqual(settle({}, config, {}), fromConfig);
  const flags: DaemonFlags = {
    bus: "unix:path=/run/bus",
    dataRoot: "/flag/data",
    stateDir: "/flag/state",
    runtimeDir: "/flag/run",
    uidRange: "5000-5000",
    user: "nobody",
    linger: "2",
    network: "host",
    profilesDir: "/usr/lib/",
    adminProfiles: "/flag/profiles",
    logFormat: "text",
    debug: true,
  };
  deepEqual(settle(flags, config, {}), {
    bus: "unix:path=/run/bus",
    data_root: "/flag/data",
    state_dir: "/flag/state",
    runtime_dir: "/flag/run",
    first_uid: 5000,
    last_uid: 5000,
    most_profiles: 3,
    dispatcher_uid: 65534,
    dispatcher_gid: 65534,
    linger: 2000,
    network: "host",
    shipped_profiles: "/usr/lib",
    admin_profiles: "/flag/profiles",
    notify: null,
    listener: false,
    log: { format: "text", journal: false, debug: true },
  });
  equal(
    settle({ user: "nobody" }, {}, {}, "/beside/profiles").shipped_profiles,
    "/beside/profiles",
  );
  refuses({ profilesDir: "/nonexistent" }, /there is no such folder/);
  refuses({ adminProfiles: "profiles" }, /absolute/);
  // And one of them alone leaves the others.
  deepEqual(settle({ linger: "0" }, config, {}), { ...fromConfig, linger: 0 });
});

Deno.test("a range of uids holds neither the system's, nor nobody's, nor what is no uid", () => {
  for (const uidRange of ["1000-1000", "1100-65533", "65536-70000", "4294967294-4294967294"]) {
    const [first, last] = uidRange.split("-").map(Number);
    const { first_uid, last_uid } = settled({ uidRange, user: "daemon" });
    deepEqual([first_uid, last_uid], [first, last]);
  }
  for (const uidRange of ["999-1999", "0-5", "1-1", "1100-65534", "65535-65536", "2000-70000"]) {
    refuses({ uidRange }, /--uid-range: it has to lie above 999 and leave out 65534 and 65535/);
  }
  for (
    const uidRange of ["1100-4294967295", "4294967296-4294968396", "1100-99999999999999999999"]
  ) {
    refuses({ uidRange }, /--uid-range/);
  }
  for (
    const uidRange of ["", "1100", "1100-", "-1999", "1100:1999", "a-b", "1100-1999-2999", "-1--1"]
  ) refuses({ uidRange }, /--uid-range: it has to be FIRST-LAST, such as 1100-1999/);
  for (const uidRange of [" 1100-1999", "1100 - 1999", "1e3-2e3", "1100.5-1999", "0x44c-0x7cf"]) {
    refuses({ uidRange }, /--uid-range: it has to be FIRST-LAST/);
  }
  refuses({ uidRange: "1999-1100" }, /1999 is above 1100/);
});

Deno.test("the dispatcher runs as somebody who is neither root nor a profile", () => {
  deepEqual([settled({ user: "1" }).dispatcher_uid, settled({ user: "1" }).dispatcher_gid], [1, 1]);
  // A uid that nobody has is its own group.
  const { dispatcher_uid, dispatcher_gid } = settled({ user: "54321" });
  deepEqual([dispatcher_uid, dispatcher_gid], [54321, 54321]);
  equal(settle({}, { user: 54321 }, {}).dispatcher_uid, 54321);
  // A group of one's own number is not taken for granted: "sync" has the one of nobody.
  deepEqual([settled({ user: "4" }).dispatcher_uid, settled({ user: "4" }).dispatcher_gid], [
    4,
    65534,
  ]);
  for (const name of ["0", "root", "00", "0000000000"]) {
    refuses({ user: name }, /--user: .* must not be root/);
  }
  refuses({ user: "1500" }, /uid 1500 lies in the --uid-range/);
  refuses({ user: "4294967295" }, /--user: 4294967295 is no uid/);
  refuses({ user: "65535" }, /65535/);
  for (
    const name of [
      "no-such-user",
      "",
      "+",
      "nobody:x",
      "nobody\n",
      "-1",
      "1e3",
      "1.5",
      "99999999999",
    ]
  ) {
    refuses({ user: name }, /--user/);
  }
  refuses({ user: "no-such-user" }, /try: useradd --system .* no-such-user$/);
  // What is advised can be pasted, whatever was typed.
  refuses({ user: "x; rm -rf /" }, /try: useradd --system .* appjail$/);
});

Deno.test("a folder is an absolute path without surprises", () => {
  equal(settled({ dataRoot: "/data/" }).data_root, "/data");
  equal(settled({ dataRoot: "/data///" }).data_root, "/data");
  equal(settled({ stateDir: "/x y/ä" }).state_dir, "/x y/ä");
  for (const flag of ["dataRoot", "stateDir", "runtimeDir"] as const) {
    for (const path of ["", "data", "./data", "~/data", "/data/../etc", "/..", "//", "/a\0b"]) {
      refuses({ [flag]: path }, /absolute path/);
    }
  }
});

Deno.test("the paths of the sockets fit what the kernel has room for", () => {
  const longest = `/${"x".repeat(75)}`;
  equal(settled({ runtimeDir: longest }).runtime_dir, longest);
  refuses({ runtimeDir: `${longest}x` }, /--runtime-dir: it is too long a path/);
  // Bytes count, not characters: unix(7).
  refuses({ runtimeDir: `/${"ä".repeat(50)}` }, /--runtime-dir: it is too long a path/);
});

Deno.test("an idle jail stays for seconds, which are a number", () => {
  equal(settled({ linger: "0" }).linger, 0);
  equal(settled({ linger: "0.25" }).linger, 250);
  equal(settled({ linger: "86400" }).linger, 86_400_000);
  equal(settled({}, { linger: 1.0006 }).linger, 1001);
  for (
    const linger of ["-1", "86401", "NaN", "Infinity", "x", "5s", "", " ", "0x10", "1e3", "1,5"]
  ) {
    refuses({ linger }, /--linger: it is 0 to 86400 seconds/);
  }
  for (const linger of [-1, NaN, Infinity]) refuses({}, /--linger/, { linger });
});

Deno.test("a bus is the system's, a session's, an address, or none", () => {
  equal(settled({ bus: "none" }).bus, null);
  equal(settled({ bus: "system" }).bus, "system");
  equal(settled({ bus: "unix:path=/x" }).bus, "unix:path=/x");
  const env = { DBUS_SESSION_BUS_ADDRESS: "unix:path=/run/user/1000/bus" };
  equal(settled({ bus: "session" }, {}, env).bus, "unix:path=/run/user/1000/bus");
  refuses({ bus: "session" }, /--bus session: DBUS_SESSION_BUS_ADDRESS is not set/);
  // What stands in the environment unasked is not used.
  equal(settled({}, {}, env).bus, "system");
  refuses({ bus: "x\0y" }, /NUL/);
});

Deno.test("the network is the host's or none", () => {
  equal(settled({ network: "none" }).network, "none");
  for (const network of ["", "None", "private", "host "]) refuses({ network }, /host.*none/);
});

// --- The configuration file ----------------------------------------------------------------------

/**
 * That the daemon refuses a configuration. It could not start with a right one either: what it is
 * told of a user is wrong, and that is looked at later.
 */
async function refusesFile(config: string, words: RegExp): Promise<void> {
  await rejects(daemon({ config, user: "root" }, { env: {}, script: "/nonexistent" }), (error) => {
    ok(error instanceof AppjailError);
    equal(error.exitStatus, 100);
    match(error.message, words);
    return true;
  });
}

Deno.test("who is not root is told so, before anything is read", {
  ignore: Deno.uid() === 0,
}, async () => {
  await refusesFile("/nonexistent", /takes root; try: sudo appjail daemon$/);
});

Deno.test(
  "a configuration that says what cannot be, or what nobody knows, is refused with its place",
  {
    ignore: Deno.uid() !== 0,
  },
  async () => {
    using scratch = new Scratch();
    const path = `${scratch.path}/appjail.toml`;
    const cases: Readonly<Record<string, RegExp>> = {
      "nonsense": /appjail\.toml: ./,
      'bus = "system': /appjail\.toml: ./,
      "unknown = 1": /appjail\.toml: unknown: /,
      "[bus]\nx = 1": /appjail\.toml: bus: Invalid type/,
      'linger = "5"': /appjail\.toml: linger: Invalid type/,
      'network = "private"': /appjail\.toml: network: /,
      "max_profiles = 0": /appjail\.toml: max_profiles: /,
      "user = 1.5": /appjail\.toml: user: /,
      // These it may say; the values are looked at with the flags.
      'uid_range = "1-5"': /--uid-range: it has to lie above 999/,
      "linger = -1": /--user: the dispatcher speaks to strangers/,
      "": /--user: the dispatcher speaks to strangers/,
    };
    for (const [text, words] of Object.entries(cases)) {
      Deno.writeTextFileSync(path, text);
      await refusesFile(path, words);
    }
  },
);

Deno.test("a configuration that somebody else could write is not read", {
  ignore: Deno.uid() !== 0,
}, async () => {
  using scratch = new Scratch();
  for (const mode of [0o666, 0o664, 0o646]) {
    await refusesFile(scratch.file("file", "", mode), /writable by nobody else/);
  }
  const foreign = scratch.file("foreign");
  Deno.chownSync(foreign, 1000, 0);
  await refusesFile(foreign, /it has to be root's/);
  Deno.symlinkSync("file", `${scratch.path}/link`);
  await refusesFile(`${scratch.path}/link`, /ELOOP/);
  await refusesFile(`${scratch.path}/none`, /none: .*ENOENT/);
  for (const path of [scratch.path, "/dev/zero"]) await refusesFile(path, /it is not a file/);
});

Deno.test("the journal is known by its very stream, not by a variable that was inherited", () => {
  // 0xfff12 minor, 0x1fab major: as gnu_dev_makedev(3) puts them into one number.
  const device = (BigInt(0x1fab & 0xfff) << 8n) | (BigInt(0x1000) << 32n) | 0x12n |
    (BigInt(0xfff00) << 12n);
  const status = { inode: `${0x1fab}:${0xfff12}:4711` };
  ok(isStream(`${device}:4711`, status));
  ok(isStream("8:4711", { inode: "0:8:4711" }));
  for (const named of [undefined, "", "8", "8:4712", "9:4711", "8:4711:0", "x:4711", " 8:4711"]) {
    equal(isStream(named, { inode: "0:8:4711" }), false, `${named}`);
  }
  equal(isStream("8:4711", undefined), false);
});

Deno.test("a log format is text or json", () => {
  equal(settled({}, {}).log.format, "text");
  equal(settled({}, { log_format: "json" }).log.format, "json");
  equal(settled({ logFormat: "text" }, { log_format: "json" }).log.format, "text");
});
