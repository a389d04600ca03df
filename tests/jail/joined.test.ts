/**
 * Joining: a program that comes into a running jail is confined as the first one is (firejail's
 * CVE-2022-31214 was a join that was not), and coming and going at the same time is no trouble.
 */
import assert from "node:assert/strict";
import { isInherited } from "../../core/environment.ts";
import { perl } from "./probe.ts";
import { execute, firstUid, themeTest, until } from "./world.ts";

/** Everything by which two processes could differ in what they may do; one line for each. */
const portrait = perl(`use POSIX ();
  sub file { open my $f, "<", $_[0] or return "$_[0]: " . name(); local $/; <$f> }
  # Numbers that are each process's own, and what it has used so far.
  my $own = qr/^(Name|State|T?gid|Ngid|P?Pid|TracerPid|FDSize|NS\\w+|Vm\\w+|Rss\\w+|HugetlbPages|SigQ|\\w*voluntary\\w*):/i;
  my @lines = grep { !/$own/ || /^Gid:/ } split /\\n/, file("/proc/self/status");
  push @lines, split /\\n/, file("/proc/self/limits");
  push @lines, map { "$_ -> " . readlink "/proc/self/$_" } "cwd", "root", map {; "ns/$_" }
    qw(cgroup ipc mnt net pid pid_for_children time user uts);
  push @lines, map { my $text = file("/proc/self/$_"); $text =~ s/\\s+$//; "$_ = $text" }
    qw(cgroup uid_map gid_map setgroups oom_score_adj personality coredump_filter loginuid timerslack_ns);
  push @lines, split /\\n/, file("/proc/self/mountinfo");
  push @lines, "nice = " . getpriority(0, 0), "umask = " . umask,
    "keyring = " . syscall($call{keyctl}, 0, -3, 0),
    "session = " . (POSIX::getpgrp() == $$ ? "its own" : "another's"),
    "pending = " . POSIX::sigpending(my $set = POSIX::SigSet->new);
  push @lines, map { "variable $_" } grep { !/^(_|PWD|OLDPWD|SHLVL)$/ } sort keys %ENV;
  my $text = join "", map { "$_\\n" } @lines;
  if (@ARGV) { open my $f, ">", "$ARGV[0].new"; print $f $text; close $f; rename "$ARGV[0].new", $ARGV[0] }
  else { print $text }`);

themeTest(
  "a program that joins is confined as the first one",
  // A daemon as nohup and nice leave it, with signals ignored and blocked.
  { bus: true, launcher: ["sh", "-c", 'trap "" HUP INT PIPE USR1 CHLD; umask 0; exec "$@"', "sh"] },
  async (t, world) => {
    const first = await world.run("work", portrait);
    const { jailer_pid } = await world.keep("work");

    await t.step("the first one has what it should", async () => {
      const expected = [
        `Uid:\t${`${firstUid}\t`.repeat(4).trim()}`,
        `Gid:\t${`${firstUid}\t`.repeat(4).trim()}`,
        "NoNewPrivs:\t1",
        ...["Inh", "Prm", "Eff", "Bnd", "Amb"].map((kind) => `Cap${kind}:\t0000000000000000`),
        "umask = 18",
        "nice = 0",
        "session = its own",
        "cwd -> /home/work",
      ];
      const lines = first.split("\n");
      assert.deepEqual(expected.filter((line) => !lines.includes(line)), []);
      // By another program: Perl ignores a signal itself.
      assert.equal(
        await world.run("work", ["grep", "-E", "^(Sig|Shd)(Pnd|Blk|Ign)", "/proc/self/status"]),
        ["SigPnd", "ShdPnd", "SigBlk", "SigIgn"]
          .map((kind) => `${kind}:\t0000000000000000`).join("\n"),
      );
      assert.match(first, /^Max open files +1024 /m);
    });

    await t.step("over the socket, from a caller with ways of its own", async () => {
      const joined = await execute([
        ...["sh", "-c", 'trap "" INT PIPE TERM; umask 077; ulimit -c 0 -f 1000; exec "$@"', "sh"],
        ...["nice", "-n", "5", "env", `APPJAIL_SOCKET=${world.socket}`],
        ...world.clientWords(["run", "-p", "work", "--", ...portrait]),
      ], { cwd: "/root" });
      assert.equal(joined.stdout, first + "\n", joined.stderr);
    });

    await t.step("over D-Bus", async () => {
      const words = [...portrait, "/home/work/portrait"];
      const quoted = words.map((word) =>
        `'${word.replaceAll("\\", "\\\\").replaceAll("'", "\\'").replaceAll("\n", "\\n")}'`
      );
      const { code, stderr } = await execute([
        ...["gdbus", "call", "--address", world.busAddress, "--dest=org.appjail.AppJail"],
        ...["--object-path=/org/appjail/AppJail", "--method=org.appjail.AppJail1.Run", "work"],
        `[${quoted.join(", ")}]`,
        "{}",
      ]);
      assert.equal(code, 0, stderr);
      const file = `${world.data}/${firstUid}/portrait`;
      const joined = await until(
        "the program has written",
        () => Deno.readTextFile(file).catch(() => undefined),
      );
      // On D-Bus there is nobody whose terminal and language could come along.
      const others = (text: string): readonly string[] =>
        text.trim().split("\n").filter((line) => !isInherited(line.replace("variable ", "")));
      assert.deepEqual(others(joined), others(first));
    });

    await t.step("and it was one jail all the time", async () => {
      assert.equal((await world.status())[0].jailer_pid, jailer_pid);
    });
  },
);

themeTest("fifty first programs at the same time share one jail", {}, async (_, world) => {
  const numbers = Array.from({ length: 50 }, (_, index) => index);
  const size = 200_000;
  const script = "my ($letter, $status) = @ARGV; print $letter x 1000 for 1 .. 200; " +
    'print STDERR readlink "/proc/self/ns/pid"; close STDOUT; ' +
    // All of them are there at the same time: each waits for the rest.
    'mkdir "/tmp/$status"; do { opendir my $d, "/tmp"; $n = grep /^\\d+$/, readdir $d; select undef, undef, undef, 0.05 } until $n == 50; ' +
    "exit $status";
  const outcomes = await Promise.all(numbers.map((number) =>
    world.client([
      ...["run", "-p", "work", "--", "perl", "-e", script],
      String.fromCharCode(65 + number),
      String(number),
    ])
  ));
  assert.deepEqual(outcomes.map(({ code }) => code), numbers);
  assert.equal(new Set(outcomes.map(({ stderr }) => stderr)).size, 1, outcomes[0]?.stderr);
  outcomes.forEach(({ stdout }, number) => {
    // Not assert.equal: it would print them.
    assert(stdout === String.fromCharCode(65 + number).repeat(size), `output of ${number}`);
  });
});

themeTest(
  "a program that comes while its jail leaves always runs",
  { linger: 0 },
  async (_, world) => {
    /** By when its first process began: a number of a namespace is given again. */
    const lives = new Set<string>();
    const many = async (count: number): Promise<void> => {
      for (let turn = 0; turn < count; turn++) {
        const { code, stdout, stderr } = await world.client(
          ["run", "-p", "work", "--", "sh", "-c", "cut -d ' ' -f 22 /proc/1/stat; exit 7"],
        );
        assert.equal(code, 7, `turn ${turn}: ${stderr}\n${world.log.slice(-2000)}`);
        lives.add(stdout);
      }
    };
    await many(25);
    await Promise.all([many(12), many(12)]);
    // It did leave in between, or nothing was tried.
    assert(lives.size > 10, `${lives.size} lives`);
    await until("the last one has left", async () => (await world.status()).length === 0);
  },
);

themeTest("whatever ends in a jail, it leaves when nothing is left", {}, async (t, world) => {
  const left = () => until("the jail has left", async () => (await world.status()).length === 0);
  const ended = async (words: readonly string[], code: number): Promise<void> => {
    assert.equal((await world.client(["run", "-p", "work", "--", ...words])).code, code);
  };
  await t.step("a command that is not there, after another and many at once", async () => {
    await ended(["true"], 0);
    await Promise.all(Array.from({ length: 8 }, () => ended(["no-such-command"], 127)));
    await left();
  });
  await t.step("one that is killed, and one that kills all it can", async () => {
    await ended(["sh", "-c", "kill -9 $$"], 137);
    await ended(["sh", "-c", "trap '' TERM; kill -TERM -1; exit 3"], 3);
    await left();
  });
});
