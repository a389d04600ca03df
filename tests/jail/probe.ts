/**
 * What the tests let loose in a jail: small programs in Perl, because its base is part of every
 * Debian and can make any system call.
 *
 * @module
 */

const arm = Deno.build.arch === "aarch64";

/** asm/unistd_64.h and asm-generic/unistd.h, as a Perl hash. */
const callNumbers: Readonly<Record<string, number>> = {
  add_key: arm ? 217 : 248,
  chroot: arm ? 51 : 161,
  init_module: arm ? 105 : 175,
  ioctl: arm ? 29 : 16,
  keyctl: arm ? 219 : 250,
  kexec_load: arm ? 104 : 246,
  mount: arm ? 40 : 165,
  open_by_handle_at: arm ? 265 : 304,
  pidfd_getfd: 438,
  pidfd_open: 434,
  pidfd_send_signal: 424,
  pivot_root: arm ? 41 : 155,
  prlimit64: arm ? 261 : 302,
  process_vm_readv: arm ? 270 : 310,
  process_vm_writev: arm ? 271 : 311,
  ptrace: arm ? 117 : 101,
  reboot: arm ? 142 : 169,
  request_key: arm ? 218 : 249,
  sched_setscheduler: arm ? 119 : 144,
  sethostname: arm ? 161 : 170,
  setns: arm ? 268 : 308,
  settimeofday: arm ? 170 : 164,
  setxattr: arm ? 5 : 188,
  swapon: arm ? 224 : 167,
  tgkill: arm ? 131 : 234,
  umount2: arm ? 39 : 166,
  unshare: arm ? 97 : 272,
};

/**
 * The words of a Perl program. In it, `$call{…}` is a system call's number, `said(WHAT, RESULT)`
 * prints one line with "done" or the errno's name, `attempt(NAME, …)` makes a system call and says how
 * that went, and `secret()` reads the key of {@linkcode keyHolder}.
 */
export function perl(script: string, ...args: readonly string[]): readonly string[] {
  const numbers = Object.entries(callNumbers).map(([name, number]) => `${name}=>${number}`);
  const prelude = `use strict; use Errno; $| = 1; my %call = (${numbers.join(",")});
    sub name { my ($name) = sort grep { $!{$_} } keys %!; $name }
    sub said { my ($what, $well) = @_; print "$what: ", ($well ? "done" : name()), "\\n" }
    sub attempt { my ($name, @words) = @_; said $name, syscall($call{$name}, @words) >= 0 }
    sub secret { my ($type, $name, $bytes) = ("user", "appjail-test", "\\0" x 64);
      my $key = syscall($call{request_key}, $type, $name, 0, 0);
      return "" if $key < 0;
      my $size = syscall($call{keyctl}, 11, $key, $bytes, 64);
      $size < 0 ? "" : substr $bytes, 0, $size }
    `;
  return ["perl", "-e", prelude + script, ...args];
}

/** Words that put a key into a session keyring of their own, and go on as the words behind them. */
export const keyHolder: readonly string[] = perl(`
  my ($type, $name, $secret) = ("user", "appjail-test", "the secret of the session");
  exit 111 if syscall($call{keyctl}, 1, 0) < 0;
  exit 112 if syscall($call{add_key}, $type, $name, $secret, length $secret, -3) < 0;
  exec @ARGV or exit 113;
`);

/**
 * Words that give a program a terminal as a shell would: a session leader that owns it runs them,
 * and then tells how many bytes wait to be read from it. To show that it would tell, it puts three
 * there itself in the end. Prints `waiting: N, of its own: M`, and after that what the program said.
 */
export function inTerminal(words: readonly string[]): readonly string[] {
  return perl(
    `use POSIX (); use Fcntl;
    my ($TIOCSCTTY, $TIOCSTI, $FIONREAD, $TIOCGPTN, $TIOCSPTLCK) =
      (0x540e, 0x5412, 0x541b, 0x80045430, 0x40045431); # asm-generic/ioctls.h
    sysopen my $master, "/dev/ptmx", O_RDWR | O_NOCTTY or die "ptmx: $!";
    my ($unlocked, $number) = (pack("i", 0), pack "i", 0);
    ioctl $master, $TIOCSPTLCK, $unlocked or die "unlock: $!";
    ioctl $master, $TIOCGPTN, $number or die "ptn: $!";
    pipe my $said, my $say;
    my $leader = fork // die;
    if (!$leader) {
      close $said;
      POSIX::setsid();
      sysopen my $terminal, "/dev/pts/" . unpack("i", $number), O_RDWR or die "pts: $!";
      ioctl $terminal, $TIOCSCTTY, 0;
      my $mode = POSIX::Termios->new; $mode->getattr(fileno $terminal);
      $mode->setlflag(0); $mode->setattr(fileno $terminal, POSIX::TCSANOW());
      my $waiting = sub { my $count = pack "i", 0; ioctl $terminal, $FIONREAD, $count or die; unpack "i", $count };
      my $child = fork // die;
      if (!$child) {
        POSIX::dup2(fileno $terminal, 0); POSIX::dup2(fileno $say, $_) for 1, 2;
        exec @ARGV or exit 113;
      }
      waitpid $child, 0;
      my $before = $waiting->();
      for (1 .. 3) { my $letter = "x"; ioctl $terminal, $TIOCSTI, $letter }
      print "waiting: $before, of its own: ", $waiting->() - $before, "\n";
      exit;
    }
    close $say;
    my $all = do { local $/; <$said> };
    waitpid $leader, 0;
    print $all;`,
    ...words,
  );
}

/** The lines of a text, sorted. */
export function sorted(text: string): readonly string[] {
  return text.split("\n").filter((line) => line !== "").sort();
}
