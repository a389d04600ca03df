/**
 * What a program finds in a jail with the default settings: files, devices, namespaces, accounts and
 * variables, and nothing of the host's beyond them.
 */
import assert from "node:assert/strict";
import { keyHolder, perl, sorted } from "./probe.ts";
import { execute, firstUid, program, themeTest, until } from "./world.ts";

/** Where a mount's file system has its root, where it is mounted, its options, its type. proc(5). */
function mountsOf(mountinfo: string): readonly {
  readonly root: string;
  readonly at: string;
  readonly options: readonly string[];
  readonly type: string;
}[] {
  return mountinfo.trim().split("\n").map((line) => {
    const fields = line.split(" ");
    const [, , , root = "", at = "", options = ""] = fields;
    return { root, at, options: options.split(","), type: fields[fields.indexOf("-") + 1] ?? "" };
  });
}

themeTest(
  "the default jail shows a system to work with, and nothing of its users'",
  { launcher: ["sh", "-c", 'umask 0; cd /root; exec "$@"', "sh"] },
  async (t, world) => {
    const home = "/home/work";
    const runtime = `/run/user/${firstUid}`;

    await t.step("folders: the system's, its own, and no other", async () => {
      const host = new Set([...Deno.readDirSync("/")].map(({ name }) => name));
      const system = ["bin", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr"];
      assert.deepEqual(
        sorted(await world.shell("work", "ls -A /")),
        [
          ...system.filter((name) => host.has(name)),
          ...["dev", "etc", "home", "proc", "run", "tmp", "var"],
        ].sort(),
      );
      assert.equal(
        await world.shell("work", "ls -A /home /run/user"),
        `/home:\nwork\n\n/run/user:\n${firstUid}`,
      );
      const run = sorted(await world.shell("work", "ls -A /run"));
      // A resolv.conf that is kept in /run is there, in its folder.
      const target = await Deno.realPath("/etc/resolv.conf").catch(() => "");
      const resolver = /^\/run\/([^/]+)/.exec(target)?.[1];
      assert.deepEqual(
        run,
        ["appjail", ...resolver === undefined ? [] : [resolver], "user"].sort(),
      );
      for (
        const path of ["/root", "/data", "/sys", "/boot", "/srv", "/mnt", "/media", world.folder]
      ) {
        const { code } = await world.client(["run", "-p", "work", "--", "test", "-e", path]);
        assert.equal(code, 1, path);
      }
      assert.equal(
        await world.shell("work", "ls -A /tmp /var/tmp /dev/shm ~/lent | grep -v :"),
        "\n\n",
      );
      assert.equal(await world.shell("work", "ls -A ~"), "lent");
    });

    await t.step(
      "modes: a runtime folder and a home of its own, and temporary folders",
      async () => {
        assert.equal(
          await world.shell(
            "work",
            `stat -c '%n %a %u' /tmp /var/tmp /dev/shm ~ "$XDG_RUNTIME_DIR"; umask`,
          ),
          `/tmp 1777 ${firstUid}\n/var/tmp 1777 ${firstUid}\n/dev/shm 1777 ${firstUid}\n` +
            `${home} 700 ${firstUid}\n${runtime} 700 ${firstUid}\n0022`,
        );
        await world.shell("work", "echo mine > ~/note");
        const { mode, uid, gid } = await Deno.stat(`${world.data}/${firstUid}`);
        assert.deepEqual([(mode ?? 0) & 0o7777, uid, gid], [0o700, firstUid, firstUid]);
        assert.equal(await Deno.readTextFile(`${world.data}/${firstUid}/note`), "mine\n");
      },
    );

    await t.step("nothing else can be written to, whatever a program tries", async () => {
      // It changes the mode of what is its own, makes files in folders, opens files and speaks to
      // sockets. /proc has a step of its own.
      const found = await world.run(
        "work",
        perl(`use Fcntl; use Socket;
          sub walk { my ($folder) = @_;
            chmod 0700, $folder if -o $folder && !-w _;
            my $name = "$folder/.probe";
            if (sysopen my $file, $name, O_CREAT | O_EXCL | O_WRONLY) { print "$folder\\n"; unlink $name }
            opendir my $all, $folder or return;
            for (readdir $all) {
              next if $_ eq "." || $_ eq ".." || "$folder/$_" eq "//proc";
              my $path = "$folder/$_";
              lstat $path;
              if (-d _) { walk($path) }
              elsif (-S _) { socket my $s, AF_UNIX, SOCK_STREAM, 0;
                print "$path\\n" if connect $s, sockaddr_un($path) }
              elsif (-f _ || -p _) {
                chmod 0600, $path if -o _ && !-w _;
                print "$path\\n" if sysopen my $f, $path, O_WRONLY | O_APPEND | O_NONBLOCK }
              elsif (-b _) { print "$path\\n" }
            } }
          walk("/");`),
      );
      assert.deepEqual(
        sorted(found.replaceAll("//", "/")),
        [
          "/dev/shm",
          home,
          `${home}/note`,
          runtime,
          `${runtime}/bus`,
          "/tmp",
          "/var/tmp",
        ].sort(),
      );
    });

    await t.step("of the kernel's settings, only those of its own namespaces", async () => {
      const found = await world.run(
        "work",
        perl(`use Fcntl;
          sub walk { my ($folder) = @_;
            opendir my $all, $folder or return;
            for (readdir $all) {
              # Processes are another matter.
              next if /^\\.\\.?$/ || $folder eq "/proc" && /^(\\d+|self|thread-self)$/;
              my $path = "$folder/$_";
              lstat $path;
              if (-d _) { walk($path) }
              elsif (-f _ && sysopen my $f, $path, O_WRONLY) { print "$path\\n" }
            } }
          walk("/proc");`),
      );
      // bubblewrap's first user namespace has the uid as its root, and owns the ipc and pid
      // namespaces: their own numbers may be changed, which no one outside of the jail notices.
      const own =
        /^\/proc\/(pressure\/\w+|sys\/fs\/mqueue\/\w+|sys\/kernel\/(auto_msgmni|msg\w+|ns_last_pid|pid_max|sem\w*|shm\w+))$/;
      assert.deepEqual(sorted(found).filter((path) => !own.test(path)), []);
      const before = await Deno.readTextFile("/proc/sys/kernel/pid_max");
      await world.shell(
        "work",
        "echo 4000 > /proc/sys/kernel/pid_max; echo 9 > /proc/sys/kernel/sem",
      );
      assert.equal(await Deno.readTextFile("/proc/sys/kernel/pid_max"), before);
    });

    await t.step("devices: the harmless ones", async () => {
      assert.equal(
        await world.shell(
          "work",
          "cd /dev; find . ! -type l ! -type d ! -path './pts/*' | sort; tty; ls /dev/pts",
        ),
        ["full", "null", "random", "tty", "urandom", "zero"].map((name) => `./${name}`).join("\n") +
          "\nnot a tty\nptmx",
      );
      assert.equal(
        await world.shell("work", "echo gone > /dev/null; head -c 3 /dev/zero | wc -c"),
        "3",
      );
    });

    await t.step("namespaces of its own, but for network and time", async () => {
      const inside = await world.shell("work", "cd /proc/self/ns; readlink *");
      const outside = await execute(["sh", "-c", "cd /proc/self/ns; readlink *"]);
      const shared = sorted(inside).filter((name) => sorted(outside.stdout).includes(name));
      assert.deepEqual([...new Set(shared.map((name) => name.split(":")[0]))], ["net", "time"]);
      for (const kind of ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]) {
        assert.match(inside, new RegExp(`^${kind}:`, "m"));
      }
      assert.equal(await world.shell("work", "cat /proc/sys/kernel/hostname"), Deno.hostname());
    });

    await t.step(
      "mounts: none gives privileges, and what they tell of the host is known",
      async () => {
        const mounts = mountsOf(await world.shell("work", "cat /proc/self/mountinfo"));
        for (const { at, options } of mounts) {
          assert(options.includes("nosuid"), `${at} is not nosuid`);
          assert(options.includes("nodev") || at.startsWith("/dev/"), `${at} is not nodev`);
        }
        const executable = await Deno.realPath(
          program().length > 1 || Deno.build.standalone
            ? Deno.execPath()
            : `/proc/${world.helperPid}/exe`,
        );
        // A bind mount shows where in its file system the source lies, and nothing can be done about
        // that: it tells of the folders of homes and of jails, and where the program is installed.
        const unavoidable = [
          ...["passwd", "group", "machine-id", "none"].map((name) =>
            `${world.runtime}/jails/${firstUid}/${name}`
          ),
          `${world.runtime}/program`,
          `${world.data}/${firstUid}`,
          executable,
          // bubblewrap's own root, and the devices.
          "/newroot",
          ...["null", "zero", "full", "random", "urandom", "tty"].map((name) => `/${name}`),
        ];
        const told = mounts.map(({ root, at }) => ({ root, at })).filter(({ root, at }) =>
          // The file system may be mounted below /, or be a part of a larger one.
          root !== "/" && !root.endsWith(at) &&
          !unavoidable.some((path) => path.endsWith(root) || root.endsWith(path))
        );
        assert.deepEqual(told, []);
      },
    );

    await t.step("accounts: its own, the system's, and nobody's who uses the machine", async () => {
      const entry = `work:x:${firstUid}:${firstUid}:work in its jail:${home}:/bin/sh`;
      assert.equal(
        await world.shell(
          "work",
          `whoami; id; getent passwd ${firstUid}; getent passwd work; getent group work`,
        ),
        `work\nuid=${firstUid}(work) gid=${firstUid}(work) groups=${firstUid}(work)\n` +
          `${entry}\n${entry}\nwork:x:${firstUid}:`,
      );
      assert.equal(
        await world.run("work", perl('print join ":", (getpwuid $<)[0, 2, 7, 8]')),
        `work:${firstUid}:${home}:/bin/sh`,
      );
      const { stdout } = await world.client(
        ["run", "-p", "work", "--", "bash", "-ic", 'PS1="\\u@\\h:\\w "; echo "${PS1@P}"'],
      );
      assert.equal(stdout, `work@${Deno.hostname().split(".")[0]}:~ \n`);
    });

    await t.step("the first process of the jail tells nothing", async () => {
      const words = await world.shell("fresh", "tr '\\0' '\\n' < /proc/1/cmdline");
      for (const word of words.split("\n").filter((word) => word.includes("/"))) {
        assert.match(word, /^\/run\/appjail\//);
      }
      const look = (path: string) => `cat /proc/1/${path} >/dev/null 2>&1 && echo ${path}; `;
      assert.equal(
        await world.shell(
          "fresh",
          ["environ", "mem", "maps", "auxv", "stack", "syscall", "io"].map(look).join("") +
            "ls /proc/1/fd /proc/1/fdinfo /proc/1/map_files /proc/1/task/1/fd /proc/1/root /proc/1/cwd/ " +
            "2>/dev/null; readlink /proc/1/exe /proc/1/cwd /proc/1/root; true",
        ),
        "",
      );
      // Nothing needed a session bus, so there is none.
      const pids = await world.shell("fresh", "ps -eo pid,comm --no-headers");
      assert.match(pids, /^ +1 appjail-jailer\n +\d+ sh\n +\d+ ps$/);
    });

    await t.step("a parent's folder and umask do not come along", async () => {
      const pids = await execute(["pgrep", "-P", String(world.helperPid)]);
      for (const pid of [...sorted(pids.stdout)]) {
        assert.equal(await Deno.readLink(`/proc/${pid}/cwd`), "/");
      }
      assert.equal(await world.shell("work", "pwd; readlink /proc/self/cwd"), `${home}\n${home}`);
    });
  },
);

/** Words that give the daemon an /etc of its own, after a script has changed it. */
function withEtc(script: string): readonly string[] {
  return [
    "unshare",
    "--mount",
    "sh",
    "-ec",
    `cp -a /etc "$SCRATCH/etc"; cd "$SCRATCH/etc"; ${script}; cd /; mount --bind "$SCRATCH/etc" /etc
    exec "$@"`,
    "sh",
  ];
}

themeTest(
  "what is secret in /etc stays so, even where the host's modes are wrong",
  {
    launcher: [
      ...keyHolder,
      ...withEtc(`
          put() { mkdir -p "$(dirname "$1")"; echo "keep off: $1" > "$1"; chmod 644 "$1"; }
          for file in shadow shadow- gshadow gshadow- sudoers sudoers.d/90-cloud security/opasswd \
              ssl/private/server.key ssh/ssh_host_ed25519_key krb5.keytab wireguard/wg0.conf \
              NetworkManager/system-connections/home.nmconnection letsencrypt/live/key.pem \
              wpa_supplicant/wpa_supplicant.conf ppp/chap-secrets openvpn/client.key docker/key.json; do
            put $file; done
          mkdir -p appjail; echo "# keep off: appjail" > appjail/appjail.toml
          chmod 755 ssl/private ssh
          echo 0123456789abcdef0123456789abcdef > machine-id
          echo "alice:x:1234:1234:Alice,Room 5:/home/alice:/bin/bash" >> passwd
          echo "alice:x:1234:" >> group; echo "dialers:x:987:alice,bob" >> group`),
    ],
  },
  async (t, world) => {
    await t.step("no file of it can be read", async () => {
      assert.equal(
        await world.shell(
          "work",
          "grep -rs 'keep off: [a-zN]' /etc; cat /etc/shadow; ls -A /etc/ssh; true",
        ),
        "",
      );
    });
    await t.step("its folders cannot be opened by changing their mode", async () => {
      const { code, stdout } = await world.client([
        ...["run", "-p", "work", "--", "sh", "-c"],
        "chmod 755 /etc/ssh /etc/ssl/private; echo x > /etc/ssh/x || umount /etc/ssh",
      ]);
      assert.deepEqual([code > 0, stdout], [true, ""]);
    });
    await t.step("other people's accounts and memberships are left out", async () => {
      assert.equal(
        await world.shell(
          "work",
          "grep -l alice /etc/* 2>/dev/null; getent passwd alice 1234; getent group dialers",
        ),
        "dialers:x:987:",
      );
    });
    await t.step("the machine's id is the jail's own, and always the same", async () => {
      const both = "cat /etc/machine-id /var/lib/dbus/machine-id";
      const [first, second] = (await world.shell("work", both)).split("\n");
      assert.match(first ?? "", /^[0-9a-f]{32}$/);
      assert.equal(first, second);
      assert.notEqual(first, "0123456789abcdef0123456789abcdef");
      const other = await world.shell("other", "cat /etc/machine-id");
      assert.notEqual(other, first);
      await world.client(["stop", "--force", "work"]);
      assert.equal(await world.shell("work", "cat /etc/machine-id"), first);
    });
    await t.step(
      "keys of whoever started the daemon cannot be used, nor another jail's",
      async () => {
        assert.equal(
          await world.run("work", perl('print "<", secret(), ">"')),
          "<>",
        );
        // Nor is there any that could be made.
        const keyring = perl("print syscall($call{keyctl}, 0, -3, 1)");
        assert.equal(await world.run("work", keyring), "-1");
      },
    );
  },
);

for (
  const [what, change] of [
    ["no machine-id", "rm -f machine-id"],
    ["a link in place of its machine-id", "ln -sf /var/lib/dbus/machine-id machine-id"],
    ["next to nothing in /etc", "rm -rf ssh ssl security machine-id gshadow* *-"],
  ] as const
) {
  themeTest(
    `a jail starts on a host with ${what}`,
    { launcher: withEtc(change) },
    async (_, world) => {
      assert.match(await world.shell("work", "cat /var/lib/dbus/machine-id"), /^[0-9a-f]{32}$/);
    },
  );
}

themeTest(
  "a jail that cannot be built says why, and leaves nothing",
  { launcher: withEtc("rm -f group group-") },
  async (_, world) => {
    const { code, stderr } = await world.client(["run", "-p", "work", "--", "true"]);
    assert.match(stderr, /^appjail: Cannot start jail "work": bwrap: .*\/etc\/group.*\n$/);
    assert.equal(code, 111);
    assert.deepEqual(await world.status(), []);
    assert.deepEqual([...Deno.readDirSync(`${world.runtime}/jails`)], []);
  },
);

themeTest(
  "a program's environment is what the jail gives and what was asked for",
  { bus: true, env: { LD_PRELOAD: "", SECRET_OF_DAEMON: "1", TZ: "Asia/Tokyo" } },
  async (t, world) => {
    /** What every program of the profile has; the shell that is between adds nothing. */
    const base = {
      APPJAIL_PROFILE: "work",
      DBUS_SESSION_BUS_ADDRESS: `unix:path=/run/user/${firstUid}/bus`,
      HOME: "/home/work",
      LANG: "C.UTF-8",
      LOGNAME: "work",
      PATH: "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
      SHELL: "/bin/sh",
      USER: "work",
      XDG_RUNTIME_DIR: `/run/user/${firstUid}`,
    };
    const expected = (more: Readonly<Record<string, string>> = {}): readonly string[] =>
      Object.entries({ ...base, ...more }).map(([name, value]) => `${name}=${value}`).sort();
    const parsed = (text: string): readonly string[] =>
      text.split("\0").filter((entry) => entry !== "").sort();
    /** The caller's: all that a desktop and a CI system have, and what would steer a loader. */
    const caller = {
      AWS_SECRET_ACCESS_KEY: "aws",
      BASH_ENV: "/tmp/evil",
      DBUS_SESSION_BUS_ADDRESS: "unix:path=/run/user/1000/bus",
      DBUS_STARTER_ADDRESS: "unix:path=/x",
      DISPLAY: ":0",
      ENV: "/tmp/evil",
      GITHUB_TOKEN: "token",
      HOME: "/root",
      IFS: "x",
      LC_: "empty",
      LC_evil: "small letters are no category",
      LD_LIBRARY_PATH: "/tmp",
      LD_PRELOAD: "/tmp/none.so",
      LESSOPEN: "|evil %s",
      LOGNAME: "root",
      PATH: `/tmp:${Deno.env.get("PATH")}`,
      PERL5OPT: "-Mevil",
      PWD: "/root",
      SHELL: "/bin/evil",
      SSH_AUTH_SOCK: "/tmp/agent",
      TMPDIR: "/tmp/x",
      USER: "root",
      WAYLAND_DISPLAY: "wayland-0",
      XAUTHORITY: "/root/.Xauthority",
      XDG_CONFIG_HOME: "/root/.config",
      XDG_RUNTIME_DIR: "/run/user/1000",
    };
    /** And what does come along: how a program talks to a person. */
    const polite = {
      COLORTERM: "truecolor",
      LANGUAGE: "de:en",
      LC_ALL: "C",
      LC_TIME: "de_DE.UTF-8",
      NO_COLOR: "",
      TERM: "xterm-256color",
      TZ: "Europe/Berlin",
    };
    const env = async (
      args: readonly string[],
      own: Readonly<Record<string, string>>,
    ): Promise<readonly string[]> => {
      const { code, stdout, stderr } = await execute(
        // An environment of exactly this: env -i, and the test's own is left out.
        [
          "env",
          "-i",
          ...Object.entries({ ...own, APPJAIL_SOCKET: world.socket }).map((pair) => pair.join("=")),
          ...world.clientWords(["run", "-p", "work", ...args, "--", "env", "-0"]),
        ],
      );
      // The loader complains of the LD_PRELOAD; that is the client's own affair.
      assert.equal(code, 0, stderr);
      return parsed(stdout);
    };

    await t.step("the first program has it", async () => {
      assert.deepEqual(await env([], { ...caller, ...polite }), expected(polite));
    });
    await t.step("a joined one has it, with another caller's", async () => {
      assert.equal((await world.status()).length, 1);
      assert.deepEqual(await env([], {}), expected());
      assert.deepEqual(await env([], { LANG: "de_DE.UTF-8" }), expected({ LANG: "de_DE.UTF-8" }));
    });
    await t.step("--env sets, and --env NAME takes along", async () => {
      assert.deepEqual(
        await env(
          [
            "--env",
            "A=1=2",
            "-e",
            "EMPTY=",
            "--env",
            "GITHUB_TOKEN",
            "--env=HOME=/tmp",
            "-eABSENT",
          ],
          caller,
        ),
        expected({ A: "1=2", EMPTY: "", GITHUB_TOKEN: "token", HOME: "/tmp" }),
      );
    });
    await t.step("one that came over D-Bus has it, too", async () => {
      const { code, stderr } = await execute([
        ...["gdbus", "call", "--address", world.busAddress, "--dest=org.appjail.AppJail"],
        ...["--object-path=/org/appjail/AppJail", "--method=org.appjail.AppJail1.Run", "work"],
        "['sh', '-c', 'cat /proc/$$/environ > ~/environ.new && mv ~/environ.new ~/environ']",
        "{'env': <{'A': 'b'}>}",
      ]);
      assert.equal(code, 0, stderr);
      const file = `${world.data}/${firstUid}/environ`;
      const text = await until(
        "the program has written",
        () => Deno.readTextFile(file).catch(() => undefined),
      );
      assert.deepEqual(parsed(text), expected({ A: "b" }));
    });
  },
);

themeTest(
  "a program has the caller's three streams and no other descriptor",
  {
    bus: true,
    launcher: ["sh", "-c", 'exec 7</etc/shadow 8</root; exec "$@"', "sh"],
  },
  async (t, world) => {
    /** The client, from a shell that has more open than it should. */
    const fromShell = async (redirections: string, command: readonly string[]) =>
      await execute([
        ...["sh", "-c", `exec 7</etc/shadow 8</root 9>&1; "$@" ${redirections}`, "sh"],
        ...["env", `APPJAIL_SOCKET=${world.socket}`],
        ...world.clientWords(["run", "-p", "work", "--", ...command]),
      ], { cwd: "/root", stdin: "from the pipe" });
    const list = "ls /proc/$$/fd; true";

    await t.step("the first, and one that joins", async () => {
      for (const _ of ["first", "joined"]) {
        const { stdout } = await fromShell("", ["sh", "-c", list]);
        assert.equal(stdout, "0\n1\n2\n");
      }
      assert.equal((await world.status()).length, 1);
    });
    await t.step("one that came over D-Bus", async () => {
      await execute([
        ...["gdbus", "call", "--address", world.busAddress, "--dest=org.appjail.AppJail"],
        ...["--object-path=/org/appjail/AppJail", "--method=org.appjail.AppJail1.Run", "work"],
        `['sh', '-c', '{ ${list}; } > ~/fds.new && mv ~/fds.new ~/fds']`,
        "{}",
      ]);
      const file = `${world.data}/${firstUid}/fds`;
      // The redirection keeps the shell's own stdout at 10, close-on-exec.
      const text = await until(
        "the program has written",
        () => Deno.readTextFile(file).catch(() => undefined),
      );
      assert.deepEqual(sorted(text).filter((fd) => fd !== "10"), ["0", "1", "2"]);
    });
    await t.step("they are the caller's own", async () => {
      const { stdout } = await fromShell("2>&1", [
        "sh",
        "-c",
        "cat; echo; echo to stderr >&2; readlink /proc/self/cwd",
      ]);
      assert.equal(stdout, "from the pipe\nto stderr\n/home/work\n");
    });
    await t.step("one that is closed is /dev/null", async () => {
      const look =
        "for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done > ~/streams; ls /proc/$$/fd >> ~/streams";
      const { code, stderr } = await fromShell("<&- >&- 2>&-", ["sh", "-c", look]);
      assert.equal(code, 0, stderr);
      const [first, second, third, ...rest] =
        (await Deno.readTextFile(`${world.data}/${firstUid}/streams`))
          .trim().split("\n");
      assert.deepEqual([first, second, third], ["/dev/null", "/home/work/streams", "/dev/null"]);
      assert.deepEqual(rest.filter((fd) => fd !== "10"), ["0", "1", "2"]);
    });
    await t.step("nor has any process of the jail, the dispatcher or the helper", async () => {
      const jail = await world.keep("work");
      const parent = /^PPid:\t(\d+)$/m.exec(
        await Deno.readTextFile(`/proc/${jail.jailer_pid}/status`),
      );
      const dispatcher = await world.dispatcherPid();
      for (const pid of [world.helperPid, dispatcher, jail.jailer_pid, Number(parent?.[1])]) {
        const { stdout } = await execute([
          "sh",
          "-c",
          `readlink /proc/${pid}/fd/* /proc/${pid}/cwd`,
        ]);
        assert.doesNotMatch(stdout, /^\/(root|etc\/shadow)$/m, String(pid));
      }
    });
  },
);

themeTest(
  "without a network, a jail has not even the host's abstract sockets",
  { flags: ["--network", "none"] },
  async (_, world) => {
    using tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = tcp.addr;
    // Abstract sockets belong to the network namespace, unix(7).
    const name = `appjail-test-${crypto.randomUUID()}`;
    const listener = new Deno.Command("perl", {
      args: [
        ...perl(`use Socket; socket my $s, AF_UNIX, SOCK_STREAM, 0;
          bind $s, pack "Sa*", AF_UNIX, "\\0$ARGV[0]" or die; listen $s, 5; print "up\\n"; sleep 1000;`)
          .slice(1),
        name,
      ],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    try {
      await listener.stdout.getReader().read();
      const tries = perl(
        `use Socket; my ($port, $name) = @ARGV;
        socket my $tcp, AF_INET, SOCK_STREAM, 0;
        said "tcp", connect $tcp, sockaddr_in($port, inet_aton("127.0.0.1"));
        socket my $unix, AF_UNIX, SOCK_STREAM, 0;
        said "abstract", connect $unix, pack "Sa*", AF_UNIX, "\\0$name";`,
        String(port),
        name,
      );
      // The test itself can reach both: what is refused, the jail refuses.
      assert.equal((await execute(tries)).stdout, "tcp: done\nabstract: done\n");
      assert.equal(await world.run("work", tries), "tcp: ECONNREFUSED\nabstract: ECONNREFUSED");
      const outside = await Deno.readLink("/proc/self/ns/net");
      assert.notEqual(await world.shell("work", "readlink /proc/self/ns/net"), outside);
      assert.equal(
        await world.shell("work", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"),
        "lo",
      );
      assert.doesNotMatch(
        await world.shell("work", "cat /proc/net/unix"),
        /appjail\.sock|appjail-test/,
      );
    } finally {
      listener.kill();
      await listener.status;
    }
  },
);

themeTest("real programs work", {}, async (t, world) => {
  /** Those that a machine may lack are tried where they are there. */
  const has = (name: string): Promise<boolean> =>
    execute(["test", "-x", `/usr/bin/${name}`]).then(({ code }) => code === 0);
  const cases: readonly (readonly [string, string, string | RegExp])[] = [
    [
      "bash",
      "bash -c 'set -o pipefail; printf %s one | { read -r x; echo \"$x\"; } <<< two; echo {1..3}'",
      /3$/,
    ],
    ["perl", "perl -MPOSIX -e 'print strftime(\"%Y\", gmtime 0)'", "1970"],
    [
      "python3",
      "python3 -c 'import ssl, sqlite3, tempfile, multiprocessing as m; print(len(tempfile.mkdtemp()) > 4, m.Value(\"i\", 7).value)'",
      "True 7",
    ],
    [
      "git",
      "git init -q r && cd r && echo a > a && git add a && git -c user.name=x -c user.email=x@y commit -qm m && git log --format=%s",
      "m",
    ],
    ["gcc", "echo 'int main(){return 7;}' > a.c; gcc -o a a.c; ./a; echo $?", "7"],
    ["node", "node -e 'console.log(require(\"os\").userInfo().username)'", "work"],
    ["vi", "echo a > v; vi -es -c '%s/a/b/' -c wq v; cat v", "b"],
    [
      "ssh",
      "ssh -G host.invalid | grep '^user '; ssh-keygen -q -t ed25519 -N '' -f k && ls k",
      /^user work\nk$/,
    ],
    ["script", "script -qec 'tty; stty size' /dev/null | tr -d '\\r'", /^\/dev\/pts\/0\n/],
    [
      "gdbus",
      "gdbus call --session --dest org.freedesktop.DBus --object-path / --method org.freedesktop.DBus.GetId",
      /^\('[0-9a-f]{32}',\)$/,
    ],
    ["fc-list", "fc-list >/dev/null && echo fonts", "fonts"],
    ["date", "TZ=Europe/Berlin date -d @0 +%H; date -d @0 +%Z", /^0[01]\n\w+$/],
  ];
  for (const [name, script, expected] of cases) {
    await t.step({
      name,
      ignore: !await has(name),
      fn: async () => {
        const said = await world.shell("work", `cd "$(mktemp -d)"; ${script}`);
        if (typeof expected === "string") assert.equal(said, expected);
        else assert.match(said, expected);
      },
    });
  }
  await t.step({
    name: "curl, over the shared network",
    ignore: !await has("curl"),
    fn: async () => {
      await using server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", onListen() {} },
        () => new Response("hello"),
      );
      assert.equal(
        await world.shell("work", `curl -s http://127.0.0.1:${server.addr.port}/`),
        "hello",
      );
    },
  });
});
