/**
 * The walls of a jail, from inside, and by the uid alone from outside. Attacks that have broken others
 * are named by their CVE.
 */
import assert from "node:assert/strict";
import { inTerminal, perl } from "./probe.ts";
import {
  asUser,
  execute,
  firstUid,
  program,
  themeTest,
  type World,
  type WorldOptions,
} from "./world.ts";

/** Everything that the program consists of: digests, and what tells of any change since. */
async function programFiles(world: World): Promise<string> {
  const files = [await Deno.realPath(program()[0] ?? ""), `/proc/${world.helperPid}/exe`];
  for (const { name, isFile } of Deno.readDirSync(`${world.runtime}/program`)) {
    if (isFile && name !== "executable") files.push(`${world.runtime}/program/${name}`);
  }
  const { stdout } = await execute([
    ...["sh", "-c", 'sha256sum "$@" && stat -L -c "%n %i %s %h %a %y %z" "$@"', "sh"],
    ...files,
  ]);
  return stdout;
}

/** Whether the kernel lets a program make a user namespace of its own; some machines forbid it. */
async function canUnshare(world: World): Promise<boolean> {
  const { code } = await world.client(["run", "-p", "work", "--", "unshare", "-r", "true"]);
  return code === 0;
}

/** What each attempt met with, when none has been of use. */
function assertAllRefused(said: string, ...expected: readonly string[]): void {
  const lines = said.split("\n").filter((line) => line !== "");
  for (const line of lines) {
    assert.match(
      line,
      /: (EPERM|EACCES|EROFS|ENOENT|ETXTBSY|EBUSY|ECONNREFUSED|EINVAL|ESRCH|ENXIO)$/,
    );
  }
  if (expected.length > 0) assert.deepEqual(lines.map((line) => line.split(":")[0]), expected);
}

/** With the filter for system calls, and without: the walls are the kernel's, and the filter none of them. */
for (const seccomp of ["default", "none"] as const) {
  const title = seccomp === "none" ? ", without a filter" : "";
  const options: WorldOptions = {
    before: (folder) => Deno.writeTextFile(`${folder}/admin/work.toml`, `seccomp = "${seccomp}"\n`),
  };
  themeTest(
    `nothing in a jail reaches the program on the host${title}`,
    options,
    async (t, world) => {
      const before = await programFiles(world);

      await t.step("its files in the jail cannot be changed, moved or covered", async () => {
        const said = await world.run(
          "work",
          perl(`use Fcntl;
        for my $file (glob "/run/appjail/*") {
          said "write", sysopen my $f, $file, O_WRONLY;
          said "truncate", truncate $file, 0;
          said "chmod", chmod 0777, $file;
          said "rename", rename $file, "/tmp/moved";
          said "unlink", unlink $file;
          said "link", link $file, "$ENV{HOME}/link";
          said "link", link $file, "/run/appjail/link";
        }
        said "create", sysopen my $f, "/run/appjail/new", O_WRONLY | O_CREAT;
        said "rename", rename "/run/appjail", "/run/other";
        said "symlink", symlink "/tmp", "/run/appjail/link";
        my ($tmp, $here) = ("/tmp", "/run/appjail");
        attempt "mount", $tmp, $here, 0, 4096, 0;`),
        ).then((text) => text.replaceAll("EXDEV", "EROFS"));
        assertAllRefused(said);
      });

      await t.step(
        "through /proc/PID/exe, of the jailer and of one's own (CVE-2019-5736)",
        async () => {
          // runc was overwritten while it ran, or just afterwards, through a descriptor that was taken in
          // between: both are tried, and once more as the root of a user namespace of its own.
          const attack = perl(`use Fcntl;
      my $O_PATH = 010000000; # asm-generic/fcntl.h
      sub overwrite { my ($path) = @_; said "exe", sysopen my $f, $path, O_WRONLY | O_TRUNC }
      overwrite "/proc/1/exe";
      for (1 .. 4) {
        my $child = fork // die;
        if (!$child) { close STDERR; exec "/run/appjail/executable", "--version" or exit 113 }
        my $exe;
        for (1 .. 1000) {
          sysopen $exe, "/proc/$child/exe", $O_PATH;
          last if readlink("/proc/$child/exe") =~ /appjail/;
        }
        overwrite "/proc/$child/exe";
        waitpid $child, 0;
        overwrite "/proc/self/fd/" . fileno $exe;
      }`);
          // What the copies print comes along.
          const tried = (text: string): string =>
            text.split("\n").filter((line) => line.startsWith("exe: ")).join("\n");
          const said = tried(await world.run("work", attack));
          // Nothing else stopped it: the file was there to be written to.
          const refused = /^(exe: (EACCES|EROFS|ETXTBSY)\n?){9}$/;
          assert.match(said, refused);
          const inner = await world.client(["run", "-p", "work", "--", "unshare", "-r", ...attack]);
          if (await canUnshare(world)) assert.match(tried(inner.stdout), refused);
        },
      );

      await t.step("afterwards it is what it was", async () => {
        assert.match(before, /\/exe$/m);
        assert.equal(await programFiles(world), before);
      });
    },
  );

  themeTest(
    `a program cannot type into its caller's terminal (CVE-2017-5226)${title}`,
    options,
    async (t, world) => {
      const attack = perl(`
    my ($TIOCSTI, $TIOCLINUX, $TIOCSCTTY, $TIOCSETD, $TIOCCONS) =
      (0x5412, 0x541c, 0x540e, 0x5423, 0x541d);
    my $letter = "a";
    for my $fd (0, 1, 2) {
      # 32 bits of the request count: a filter that compares 64 was passed by (CVE-2019-10063).
      for my $high (0, 1 << 32, 0xffffffff << 32) {
        attempt "ioctl", $fd, $TIOCSTI | $high, $letter;
        for my $subcode (2, 3, 4) {
          my $words = pack "CSSSSS", $subcode, 1, 1, 80, 1, 0;
          attempt "ioctl", $fd, $TIOCLINUX | $high, $words;
        }
        # Becoming the terminal's session, by theft or by opening it anew.
        attempt "ioctl", $fd, $TIOCSCTTY | $high, 1;
        attempt "ioctl", $fd, $TIOCSCTTY | $high, 0;
      }
      said "open", open my $again, "+<", "/proc/self/fd/$fd";
      said "open", open my $controlling, "+<", "/dev/tty";
      attempt "ioctl", $fd, $TIOCSTI, $letter;
    }
    print "done\\n" if -t 0 && -t 1;`);
      const run = async (): Promise<void> => {
        const words = inTerminal(world.clientWords(["run", "-p", "work", "--", ...attack]));
        const { stdout, stderr } = await execute(words, { env: { APPJAIL_SOCKET: world.socket } });
        const [verdict, ...attempts] = stdout.trim().split(/\r?\n/);
        // The terminal is the program's standard input, or this would prove nothing.
        assert.equal(verdict, "waiting: 0, of its own: 3", stderr);
        // It has a terminal, and can do so to that one alone.
        assert(attempts.some((line) => / done$/.test(line)), "nothing was tried");
      };
      await t.step("the first one", run);
      await t.step("one that joins", async () => {
        const { jailer_pid } = await world.keep("work");
        await run();
        assert.equal((await world.status())[0].jailer_pid, jailer_pid);
      });
    },
  );

  themeTest(
    `a program finds no way to the daemon, nor to another jail${title}`,
    { ...options, linger: 600 },
    async (t, world) => {
      await world.shell("other", "echo private > ~/note; echo private > /tmp/note");
      await world.keep("other");

      await t.step("by their names", async () => {
        const paths = [
          world.socket,
          `${world.runtime}/ctl/${firstUid}.sock`,
          `${world.runtime}/ctl/${firstUid + 1}.sock`,
          `${world.runtime}/jails/${firstUid + 1}/state`,
          `${world.state}/uids.json`,
          `${world.data}/${firstUid}`,
          "/run/appjail/appjail.sock",
          "/run/appjail/ctl",
          "/run/dbus/system_bus_socket",
          "/home/work/../other",
          "/home/other",
        ];
        const script = "for path; do test -e $path && echo $path; done; true";
        assert.equal(await world.run("work", ["sh", "-c", script, "sh", ...paths]), "");
        // Seen from outside, most of these are there.
        const { stdout } = await execute(["sh", "-c", script, "sh", ...paths]);
        assert.equal(stdout.split("\n").filter((path) => path.startsWith(world.folder)).length, 6);
        assert.equal(
          await world.shell(
            "work",
            "find / -path /proc -prune -o -name uids.json -o -name '*.sock' -print 2>/dev/null; true",
          ),
          "",
        );
      });

      await t.step("by the paths and abstract names in /proc/net/unix, in any way", async () => {
        // With a shared network a program can read of the host's sockets; paths lead nowhere.
        const said = await world.run(
          "work",
          perl(
            `use Socket;
        my @names = @ARGV;
        push @names, map {; "\\0$_" } @names;
        push @names, map {; "/proc/1/root$_", "/proc/1/cwd/../..$_", "/proc/self/root$_", "/..$_" } @ARGV;
        for my $name (@names) {
          socket my $socket, AF_UNIX, SOCK_STREAM, 0;
          said "connect", connect $socket, pack "Sa*", AF_UNIX, $name;
        }`,
            world.socket,
            `${world.runtime}/ctl/${firstUid + 1}.sock`,
          ),
        );
        assertAllRefused(said);
        assert.equal(said.split("\n").length, 12);
      });

      await t.step("by a handle of the host's root folder", async () => {
        // Handles pass by every mount: "shocker", the escape from early Docker. 2 is the root's inode.
        const attack = perl(`for my $mount ("/usr", "/etc", $ENV{HOME}, "/run/appjail") {
        opendir my $folder, $mount or die;
        for my $inode (2, 128, 256) {
          my $handle = pack "LlLL", 8, 1, $inode, 0;
          attempt "open_by_handle_at", fileno $folder, $handle, 0;
        } }`);
        assertAllRefused(
          (await world.run("work", attack)).replaceAll(/ESTALE|EOPNOTSUPP/g, "EPERM"),
        );
        const inner = await world.client(["run", "-p", "work", "--", "unshare", "-rm", ...attack]);
        assertAllRefused(inner.stdout.replaceAll(/ESTALE|EOPNOTSUPP/g, "EPERM"));
      });

      await t.step("by the pids of the host", async () => {
        const [{ jailer_pid }] = await world.status();
        const pids = [world.helperPid, await world.dispatcherPid(), jailer_pid];
        const said = await world.run(
          "work",
          // A number that happens to be its own program's proves nothing.
          perl(
            `for my $pid (@ARGV) { next if $pid < 1000; said "kill", kill 0, $pid;
        said "proc", -e "/proc/$pid"; attempt "pidfd_open", $pid + 0, 0 }`,
            ...pids.map(String),
          ),
        );
        assertAllRefused(said);
      });
    },
  );

  themeTest(`a program gains nothing${title}`, options, async (t, world) => {
    const status = "Uid|Gid|Groups|Cap|NoNewPrivs";
    const plain = [
      `Uid:\t${`${firstUid}\t`.repeat(4).trim()}`,
      `Gid:\t${`${firstUid}\t`.repeat(4).trim()}`,
      "Groups:\t ",
      ...["Inh", "Prm", "Eff", "Bnd", "Amb"].map((kind) => `Cap${kind}:\t0000000000000000`),
      "NoNewPrivs:\t1",
    ].join("\n");

    await t.step("it has its uid, no group beside, no capability, and no hope of any", async () => {
      assert.equal(
        await world.run("work", ["grep", "-E", `^(${status})`, "/proc/self/status"]),
        plain,
      );
    });

    await t.step("setuid, setgid and file capabilities do not work, whoever set them", async () => {
      // Even root's own: somebody may be talked into it, or restore them from a backup.
      const home = `${world.data}/${firstUid}`;
      for (
        const [name, mode] of [["setuid", 0o4755], ["setgid", 0o2755], ["capable", 0o755]] as const
      ) {
        await Deno.copyFile(await Deno.realPath("/bin/grep"), `${home}/${name}`);
        await Deno.chown(`${home}/${name}`, 0, 0);
        await Deno.chmod(`${home}/${name}`, mode);
      }
      // linux/capability.h: revision 2 with the effective bit, and every capability as permitted.
      const { stdout } = await execute(
        perl(
          `my ($file, $name) = ($ARGV[0], "security.capability");
        my $value = pack "L5", 0x02000001, 0xffffffff, 0, 0xff, 0;
        attempt "setxattr", $file, $name, $value, length $value, 0;`,
          `${home}/capable`,
        ),
      );
      assert.equal(stdout, "setxattr: done\n");
      for (const name of ["setuid", "setgid", "capable"]) {
        assert.equal(
          await world.run("work", [
            `/home/work/${name}`,
            "-E",
            `^(${status})`,
            "/proc/self/status",
          ]),
          plain,
          name,
        );
      }
    });

    await t.step("su, sudo and their like do not", async () => {
      for (
        const words of [
          "su -s /bin/sh -c id",
          "sudo -n id",
          "pkexec id",
          "newgrp root",
          "runuser -u root id",
        ]
      ) {
        const { code, stdout } = await world.client([
          "run",
          "-p",
          "work",
          "--",
          "sh",
          "-c",
          `${words} < /dev/null`,
        ]);
        assert.doesNotMatch(stdout, /uid=0|gid=0/, words);
        if (words !== "newgrp root") assert.notEqual(code, 0, words);
      }
    });

    /** Calls that are root's. In a user namespace of its own, a program has some of them: see below. */
    const privileged = perl(`use POSIX (); use Fcntl;
    my ($nothing, $tmp, $etc, $name, $shadow) = ("none", "/tmp", "/etc", "tmpfs", "/etc/shadow");
    said "setuid", POSIX::setuid(0); said "setgid", POSIX::setgid(0);
    said "chown", chown 0, 0, "/tmp"; said "chroot", chroot "/tmp";
    attempt "mount", $nothing, $tmp, $name, 0, 0;
    attempt "mount", $etc, $tmp, 0, 4096, 0;
    attempt "umount2", $shadow, 2;
    attempt "pivot_root", $tmp, $tmp;
    attempt "unshare", 0x00020000; attempt "unshare", 0x20000000;
    attempt "sethostname", $name, 5;
    said "mknod", POSIX::mkfifo("/dev/none", 0600);
    said "nice", POSIX::nice(-5);`);

    await t.step("calls that are root's are refused", async () => {
      assertAllRefused(await world.run("work", privileged));
      assert.match(
        await world.shell("work", "mknod ~/mem c 1 1 2>&1; mknod ~/disk b 8 0 2>&1; true"),
        /^mknod: .*Operation not permitted\nmknod: .*Operation not permitted$/,
      );
    });

    await t.step("nor are the kernel's own to be had", async () => {
      const said = await world.run(
        "work",
        perl(`my ($a, $b) = ("\\0" x 64, "/tmp");
        attempt "reboot", 0xfee1dead, 672274793, 0, 0;
        attempt "kexec_load", 0, 0, 0, 0; attempt "init_module", $a, 64, $a;
        attempt "settimeofday", $a, 0; attempt "swapon", $b, 0;
        for (qw(/dev/mem /dev/kmem /dev/port /dev/kmsg /dev/sda /dev/vda /dev/fuse /dev/net/tun
                /dev/kvm /dev/tty1 /dev/input /dev/dri /dev/snd /proc/kcore /proc/kmsg
                /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe
                /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sys/fs/binfmt_misc/register
                /sys/kernel/uevent_helper)) { said $_, open my $f, "+<", $_ }`),
      );
      assertAllRefused(said.replaceAll("ENOSYS", "EPERM"));
    });

    await t.step({
      name: "in a user namespace of its own it is root of what it made itself, and no more",
      ignore: !await canUnshare(world),
      fn: async () => {
        const inside = async (script: string, flags = "-rn"): Promise<string> => {
          const { stdout } = await world.client([
            ...[
              "run",
              "-p",
              "work",
              "--",
              "unshare",
              flags,
              "sh",
              "-c",
              `exec 2>/dev/null; ${script}`,
            ],
          ]);
          return stdout;
        };
        // What it can do, and browsers do for their own sandboxes: an empty network that nobody else
        // sees. Mounts are none of it.
        const mounts = "mount -t tmpfs none /tmp && echo mounted";
        assert.equal(
          await inside(`id -u; ${mounts}; tail -n +3 /proc/net/dev | wc -l; ls /tmp`),
          "0\n1\n",
        );
        // Where it makes a mount namespace of its own, what it mounts is in there.
        assert.equal(await inside(mounts, "-rm"), seccomp === "none" ? "mounted\n" : "");
        assert.equal(await inside("ls /tmp"), "");
        // What it cannot: lift a cover, write what is read-only, see a disk or the kernel, be another.
        const home = "/home/work";
        assert.equal(
          await inside(
            "umount /etc/shadow && echo 1; umount -l /etc/ssl/private && echo 2; umount -l /etc && echo 3; " +
              "mount -o remount,bind,rw /usr && echo 4; mount -o remount,rw /etc && echo 5; " +
              "mount -o remount,bind,suid,dev,rw /home/work && echo 6; " +
              "touch /usr/x /etc/x /run/appjail/x && echo 7; " +
              "cat /etc/shadow; mount -t proc proc /tmp && echo 8; mount -t sysfs none /tmp && echo 9; " +
              "mount -t devtmpfs none /tmp && echo 10; mount -t ext4 /dev/vda /tmp && echo 11; " +
              `mknod ${home}/m c 1 1 && echo 12; chown 1:1 ${home} && echo 13; ` +
              "setpriv --reuid 1 --clear-groups true && echo 14; " +
              "echo x > /proc/sys/kernel/core_pattern && echo 15; echo x > /proc/sys/kernel/hostname && echo 16; " +
              "nsenter -t 1 -m true && echo 17; nsenter -t 1 -U true && echo 18; ls /proc/1/fd && echo 19; " +
              `date -s 2001-01-01 > /dev/null && echo 20; chroot ${home} true && echo 21; dmesg -C && echo 22; ` +
              "mount --bind /etc/ssl /tmp && ls /tmp/private && echo 23",
          ),
          "",
        );
        // With a pid namespace it may mount a proc of its own, which shows its own processes alone.
        assert.match(
          await inside("mount -t proc proc /proc && ls /proc | grep -c '^[0-9]'; true", "-rmpf"),
          /^([1-4]\n)?$/,
        );
      },
    });
  });
}

themeTest(
  "the uid alone, without a jail, opens nothing either",
  { bus: true },
  async (t, world) => {
    const [one, two] = [firstUid, firstUid + 1];
    for (const name of ["one", "two"]) {
      await world.shell(name, "echo private > ~/note; chmod 644 ~/note");
    }
    await world.keep("one");
    const jailTwo = await world.keep("two");
    /** On the host, as the first one's uid. */
    const as = async (words: readonly string[]): Promise<string> => {
      const { stdout } = await execute(asUser(one, words));
      return stdout;
    };
    const sleeperOf = async (jail: { jailer_pid: number }): Promise<number> => {
      const { stdout } = await execute(["pgrep", "-P", String(jail.jailer_pid), "-x", "sleep"]);
      return Number(stdout);
    };

    await t.step("other homes, other jails' folders, sockets and the state", async () => {
      const said = await as(
        perl(
          `use Fcntl; use Socket;
        my ($data, $runtime, $state, $one, $two) = @ARGV;
        sub list { said "list $_[0]", opendir my $f, $_[0] }
        sub show { said "read $_[0]", open my $f, "<", $_[0] }
        sub put { said "write $_[0]", sysopen my $f, $_[0], O_WRONLY | O_CREAT }
        sub talk { socket my $s, AF_UNIX, SOCK_STREAM, 0; said "talk $_[0]", connect $s, sockaddr_un($_[0]) }
        list $_ for $data, "$data/$two", $state, "$runtime/jails", "$runtime/jails/$one",
          "$runtime/jails/$two", "$runtime/ctl";
        show $_ for "$data/$two/note", "$state/uids.json", "$runtime/lock", "$runtime/jails/$one/lock",
          "$runtime/jails/$two/state", "$runtime/jails/$two/passwd";
        put $_ for "$data/new", "$data/$two/new", "$state/new", "$runtime/new", "$runtime/ctl/new",
          "$runtime/jails/new", "$runtime/jails/$one/new", "$runtime/jails/$one/state",
          "$runtime/jails/$one/passwd", "$runtime/jails/$two/new", "$runtime/program/new",
          "$runtime/program/executable";
        talk "$runtime/ctl/$_.sock" for $one, $two;
        said "remove", unlink "$runtime/jails/$one/state";
        said "remove", rmdir "$runtime/jails/$one";
        said "rename", rename "$data/$one", "$data/moved";`,
          ...[world.data, world.runtime, world.state, String(one), String(two)],
        ),
      );
      assertAllRefused(said);
      assert.equal(said.trim().split("\n").length, 30);
      // And this it may, or the above proves nothing.
      assert.equal(await as(["cat", `${world.data}/${one}/note`]), "private\n");
    });

    await t.step("the processes of another jail, and the helper", async () => {
      const said = await as(
        perl(
          `my @foreign = @ARGV;
        for my $pid (@foreign) {
          said "kill", kill 0, $pid;
          said "root", opendir my $f, "/proc/$pid/root/";
          said "mem", open my $g, "+<", "/proc/$pid/mem";
        }
        # Its own jailer forbids a look, and whoever made a user namespace is above that: the uid on
        # the host may trace the jail. Nothing but bubblewrap has it there.
        for my $pid (@foreign) {
          said "environ", open my $f, "<", "/proc/$pid/environ";
          said "fd", opendir my $g, "/proc/$pid/fd";
          attempt "ptrace", 16, $pid + 0, 0, 0; # PTRACE_ATTACH
          attempt "ptrace", 0x4206, $pid + 0, 0, 0; # PTRACE_SEIZE
          my $pidfd = syscall $call{pidfd_open}, $pid + 0, 0;
          attempt "pidfd_getfd", $pidfd, 3, 0;
        }`,
          ...[jailTwo.jailer_pid, await sleeperOf(jailTwo), world.helperPid]
            .map(String),
        ),
      );
      assertAllRefused(said);
      assert.equal(said.trim().split("\n").length, 24);
    });

    await t.step("the daemon, by its socket and over D-Bus", async () => {
      for (
        const request of [["run", "-p", "one", "true"], ["status"], ["stop", "--all"], [
          "logs",
          "one",
        ]]
      ) {
        const { code, stderr } = await world.client(request, { uid: one });
        assert.equal(stderr, "appjail: A program in a jail cannot ask for jails\n");
        assert.equal(code, 111);
      }
      assert.equal((await world.status()).length, 2);
    });
  },
);
