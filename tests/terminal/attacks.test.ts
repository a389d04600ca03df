/**
 * What a program could do to the terminal of the person who started it, if it had it: put keys into
 * its queue (TIOCSTI, CVE-2017-5226; TIOCLINUX), or find it through a descriptor.
 */
import assert from "node:assert/strict";
import { perl } from "../jail/probe.ts";
import { firstAndJoined, shellAt, type Terminal, terminalTest } from "./driver.ts";

/**
 * Tries to type "echo PWN" + "ED\n" by each request on each descriptor there is, and on the
 * controlling terminal; seccomp filters that compare 64 bits were passed by requests with high bits.
 */
const [, , typist = ""] = perl(`
  open my $own, "+<", "/dev/tty";
  my $letters = "echo PWN\\"\\"ED\\n";
  for my $high (0, 1 << 32, 0x7fffffff << 32) {
    for my $fd (0 .. 15) {
      for my $letter (split //, $letters) {
        syscall($call{ioctl}, $fd, 0x5412 | $high, my $copy = $letter);
      }
      # TIOCL_SETSEL the whole screen, then TIOCL_PASTESEL: ioctl_console(2).
      syscall($call{ioctl}, $fd, 0x541c | $high, my $select = pack("CSSSSS", 2, 1, 1, 80, 25, 2));
      syscall($call{ioctl}, $fd, 0x541c | $high, my $paste = pack("C", 3));
    }
  }
  exit 42;
`);

/** Whether words typed by nobody are in the terminal's queue: the shell would run them. */
async function isTypedAt(term: Terminal): Promise<boolean> {
  await term.ask('echo "end"=', /end=\r\n/);
  return /PWNED\r\n/.test(term.text);
}

terminalTest("no program types at the terminal of its person", async (t, world) => {
  const env = { TYPIST: typist };

  await t.step("the same program without a jail does", async () => {
    const allowed = (await Deno.readTextFile("/proc/sys/dev/tty/legacy_tiocsti").catch(() => "1"))
      .trim() === "1";
    await using term = await shellAt(world, { env });
    await term.ask('perl -e "$TYPIST"; echo =$?', /\n=42\r\n/);
    // Root may always; another only where the sysctl allows it.
    assert.equal(await isTypedAt(term), allowed || Deno.uid() === 0, term.text);
  });

  const ways: readonly (readonly [string, string])[] = [
    ["", ""],
    ["", "< /dev/null"],
    ["", "> /dev/null"],
    ["", "< /dev/null > /dev/null"],
    ["-t", ""],
    ["-t", "< /dev/null > /dev/null"],
    ["-T", ""],
  ];
  await firstAndJoined(t, world, "TIOCSTI and TIOCLINUX", async (profile) => {
    for (const [option, redirections] of ways) {
      await using term = await shellAt(world, { env });
      const run = `$appjail run ${option} -p ${profile} -- perl -e "$TYPIST" ${redirections}`;
      await term.ask(`${run}; echo =$?`, /\n=42\r\n/);
      assert(!await isTypedAt(term), `${option} ${redirections}: ${term.text}`);
    }
  });
});

/** Prints each descriptor, what it is and what device it is; and the controlling terminal's. */
const [, , lister = ""] = perl(`
  opendir my $fds, "/proc/self/fd";
  my @numbers = sort { $a <=> $b } grep { /^\\d+$/ } readdir $fds;
  closedir $fds;
  for my $fd (@numbers) {
    my $to = readlink "/proc/self/fd/$fd" or next;
    my @s = stat "/proc/self/fd/$fd";
    my $there = -e $to && join(":", (stat $to)[0, 6]) eq "$s[0]:$s[6]" ? "here" : "elsewhere";
    print STDERR "fd=$fd $to $s[0] $there\\n";
  }
  open my $tty, "<", "/dev/tty" or print STDERR "no tty\\n";
  print STDERR "cwd=", readlink("/proc/self/cwd"), "\\n";
  print STDERR "listed\\n";
`);

terminalTest(
  "a program has its own terminal alone, and nothing of its person's",
  async (t, world) => {
    await firstAndJoined(t, world, "descriptors", async (profile) => {
      // What the client was started with, as a shell that leaks would.
      const leak = "7</etc/shadow 8</root 9<>/dev/tty";
      await using term = await shellAt(world, { env: { LISTER: lister } });
      const [, own = ""] = await term.ask("tty", /\r\n(\/dev\/pts\/\d+)\r\n/);
      const { dev } = await Deno.stat(own);
      await term.send(`$appjail run -p ${profile} -- perl -e "$LISTER" ${leak}\r`);
      const [shown] = await term.expect(/fd=[^]*listed\r\n/);
      const lines = [...shown.matchAll(/^fd=(\d+) (\S+) (\d+) (\w+)\r$/gm)];
      assert.deepEqual(lines.map(([, fd]) => fd), ["0", "1", "2"], shown);
      for (const [, , path, device, where] of lines) {
        assert.match(path ?? "", /^\/dev\/pts\/\d+$/);
        // Of the devpts of the jail, and to be found there.
        assert.notEqual(Number(device), dev, shown);
        assert.equal(where, "here", shown);
      }
      assert.match(shown, new RegExp(`cwd=/home/${profile}\r`));
      assert.doesNotMatch(shown, /no tty/);
    });

    await firstAndJoined(t, world, "descriptors of a pipeline", async (profile) => {
      await using term = await shellAt(world, { env: { LISTER: lister } });
      await term.send(`true | $appjail run -p ${profile} -- perl -e "$LISTER" 9<>/dev/tty | cat\r`);
      const [shown] = await term.expect(/fd=[^]*listed\r\n/);
      const lines = [...shown.matchAll(/^fd=(\d+) (\S+) (\d+) (\w+)\r$/gm)];
      assert.deepEqual(lines.map(([, fd, path]) => `${fd} ${path?.replace(/\d+/, "N")}`), [
        "0 pipe:[N]",
        "1 pipe:[N]",
        "2 /dev/pts/N",
      ]);
      assert.equal(lines[2]?.[4], "here");
    });

    await firstAndJoined(t, world, "with -T there is no terminal at all", async (profile) => {
      await using term = await shellAt(world, { env: { LISTER: lister } });
      await term.send(`$appjail run -T -p ${profile} -- perl -e "$LISTER" 9<>/dev/tty\r`);
      const [shown] = await term.expect(/fd=[^]*listed\r\n/);
      assert.match(shown, /no tty\r\n/);
      assert.deepEqual(
        [...shown.matchAll(/^fd=(\d+) (\w+):/gm)].map(([, fd, kind]) => `${fd} ${kind}`),
        [
          "0 pipe",
          "1 pipe",
          "2 pipe",
        ],
      );
    });
  },
);
