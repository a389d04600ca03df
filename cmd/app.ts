/**
 * The words that a person types: each verb, its options and its help. What a verb does is loaded
 * when it is used.
 *
 * @module
 */
import {
  type ApplicationText,
  ArgumentScannerError,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type Command,
  type CommandContext,
  formatMessageForArgumentScannerError,
  help,
  numberParser,
  run as runStricli,
  type StricliProcess,
  text_en,
} from "@stricli/core";
import { AppjailError, exitFailure, exitMeanings, exitUsage, wordsOf } from "../core/errors.ts";
import { logFormats } from "../core/log.ts";
import { parseSignal } from "../core/names.ts";
import { align } from "../core/table.ts";
import { complain, type World, writeOut } from "./client.ts";
import type { CopyFlags } from "./copy.ts";
import type { DaemonFlags } from "./daemon.ts";
import type { DesktopFlags } from "./desktop.ts";
import type { DoctorFlags } from "./doctor.ts";
import type { DecryptWords, EncryptFlags, PasswdFlags } from "./encrypt.ts";
import type { EventsFlags } from "./events.ts";
import type { LendFlags, UnlendFlags } from "./lend.ts";
import type { LogsFlags } from "./logs.ts";
import type { PlanFlags } from "./plan.ts";
import type { ProfileFlags } from "./profile.ts";
import type { ProfilesFlags } from "./profiles.ts";
import type { KillFlags, ProgramsFlags, PsFlags } from "./programs.ts";
import type { ShellFlags } from "./shell.ts";
import type { StatusFlags } from "./status.ts";
import type { StatsFlags } from "./stats.ts";
import type { StopFlags } from "./stop.ts";
import type { UnlockFlags } from "./unlock.ts";
import {
  flagName,
  formatting,
  helpOption,
  spellings,
  topOptions,
  type VerbWords,
  wordsOfVerb,
} from "./verb-words.ts";

/** What run has, for its help; it is not stricli that parses it. */
interface RunWords {
  readonly profile?: string;
  readonly detach?: boolean;
  readonly cwd?: string;
  readonly env?: string;
  readonly envFile?: string;
  readonly tty?: boolean;
  readonly noTty?: boolean;
  readonly verbose?: boolean;
  readonly noAutoLend?: boolean;
  readonly passphraseFd?: string;
  readonly socket?: string;
}

interface Context extends CommandContext {
  readonly process: StricliProcess;
  readonly world: World;
}

/** What a verb is, once it is loaded. */
type Verb<FLAGS, ARGS extends readonly unknown[]> = (
  flags: FLAGS,
  world: World,
  ...args: ARGS
) => Promise<number>;

/** A verb as stricli wants it: what it throws is told in our voice, and its status is the exit's. */
function lazily<FLAGS, ARGS extends readonly unknown[]>(load: () => Promise<Verb<FLAGS, ARGS>>) {
  return () =>
    Promise.resolve(async function (this: Context, flags: FLAGS, ...args: ARGS): Promise<void> {
      try {
        this.process.exitCode = await (await load())(flags, this.world, ...args);
      } catch (error) {
        this.process.exitCode = complain(error, this.world);
      }
    });
}

// --- Options that several verbs have ---------------------------------------------------------

const asGiven = (text: string): string => text;

function text<const P extends string>(brief: string, placeholder: P) {
  return { kind: "parsed", parse: asGiven, brief, placeholder, optional: true } as const;
}

function toggle(brief: string) {
  return { kind: "boolean", brief, optional: true, withNegated: false } as const;
}

const socket = text("Where the daemon listens", "PATH");
const json = toggle("Print JSON");
const passphraseFd = text("Read the passphrase of an encrypted home from this descriptor", "N");

function profile<const O extends boolean>(brief: string, optional: O) {
  return { brief, parse: asGiven, placeholder: "PROFILE", optional } as const;
}

const program = {
  brief: "Its handle, such as firefox.1",
  parse: asGiven,
  placeholder: "PROGRAM",
} as const;

function seconds(input: string): number {
  const number = /^[0-9]+(?:\.[0-9]+)?$/.test(input) ? numberParser(input) : NaN;
  if (number <= 3600) return number;
  throw new Error("it has to be 0 to 3600 seconds");
}

/** Where the daemon has its things: for itself, and for who looks after it. */
const places = {
  config: text("The configuration, by default /etc/appjail/appjail.toml", "FILE"),
  bus: text("The D-Bus to be on: system, session, none, or an address", "BUS"),
  dataRoot: text("Where the homes are, by default /data", "DIR"),
  stateDir: text("Where the registry of uids is, by default /var/lib/appjail", "DIR"),
  runtimeDir: text("Where the sockets are, by default /run/appjail", "DIR"),
  uidRange: text("The uids for profiles, by default 1100-1999", "FIRST-LAST"),
  user: text("Whom the dispatcher runs as, by default appjail", "NAME|UID"),
  profilesDir: text("Where the profiles are that come with the program", "DIR"),
  adminProfiles: text("Your own for everybody, by default /etc/appjail/profiles", "DIR"),
} as const;

/** What stop and lock have in common. */
const stopping = {
  flags: {
    all: toggle("All jails: yours, or as root everybody's"),
    force: toggle("Kill at once, without asking the programs to end first"),
    timeout: {
      kind: "parsed",
      parse: seconds,
      brief: "Seconds that the programs have before they are killed",
      placeholder: "S",
      default: "10",
    },
    socket,
  },
  aliases: { f: "force" },
} as const;

function profiles(brief: string) {
  return { kind: "array", parameter: profile(brief, false) } as const;
}

/** The statuses of appjail's own, and what they mean. */
function exitWords(statuses: readonly (keyof typeof exitMeanings)[]): string {
  return statuses.map((status) => `  ${status}  ${exitMeanings[status]}`).join("\n");
}

// --- The verbs -------------------------------------------------------------------------------

const routes = {
  run: buildCommand<RunWords, readonly string[], Context>({
    docs: {
      brief: "Run a program in a profile's jail",
      customUsage: [
        "[-p PROFILE] [--detach] [--cwd DIR] [--env NAME=VALUE]... COMMAND [ARG...]",
        "-p PROFILE",
      ],
      fullDescription:
        `Runs COMMAND as the profile's own user, in the profile's own jail, with your standard
input, output and error. A second program of the same profile joins the first one's jail.

The profile is by default called as COMMAND is, or says that it is for COMMAND; one that does not
exist is made. With a profile alone, its own command is run. Everything after COMMAND is the
program's, options too. COMMAND is looked up in the jail's PATH.

An argument that is the path of a file of yours is lent to the program, to read, for as long as it
runs, and is its path in the jail there: appjail run evince report.pdf

The exit status is the program's, 128 and the signal's number when a signal ended it; else

${exitWords([127, 126, exitUsage, exitFailure])}`,
    },
    parameters: {
      // Only for the help and the completions: run parses its own words, for speed; see run.ts.
      flags: {
        profile: text("The profile, by default the name of COMMAND", "PROFILE"),
        detach: toggle("Print the program's handle and return; its output goes to the log"),
        cwd: text("The folder in the jail to start in, by default its home", "DIR"),
        env: text("Set a variable; NAME alone takes your own value", "NAME=VALUE"),
        envFile: text("Set the variables of a file, one a line", "FILE"),
        tty: toggle("Give it a terminal, whatever your own streams are"),
        noTty: toggle("Give it no terminal: pipes where yours is one"),
        verbose: toggle("Say so when it starts in another folder than yours, or on X11"),
        noAutoLend: toggle("Lend it no file of yours that its arguments name"),
        passphraseFd,
        socket,
      },
      aliases: {
        p: "profile",
        d: "detach",
        C: "cwd",
        e: "env",
        t: "tty",
        T: "noTty",
        v: "verbose",
      },
    },
    func: () => {},
  }),
  status: buildCommand<StatusFlags, [profile?: string], Context>({
    docs: { brief: "Show the jails, and the programs in them" },
    parameters: {
      flags: {
        json,
        all: toggle("Everybody's jails; only root may see them"),
        watch: toggle("Show it again every two seconds, with how busy each jail is"),
        socket,
      },
      positional: {
        kind: "tuple",
        parameters: [profile("Only this one", true)],
      },
    },
    loader: lazily(async () => (await import("./status.ts")).status),
  }),
  stop: buildCommand<StopFlags, readonly string[], Context>({
    docs: { brief: "End every program of a profile, and its jail" },
    parameters: { ...stopping, positional: profiles("The profiles to stop") },
    loader: lazily(async () => (await import("./stop.ts")).stop),
  }),
  unlock: buildCommand<UnlockFlags, [profile: string], Context>({
    docs: {
      brief: "Open a profile's encrypted home, and keep it open",
      fullDescription:
        `Asks for the passphrase, and opens the home without starting a program. It stays
open until appjail lock, or for as long as --for says; programs start in it without asking.
Without this, a home is opened for its first program, and locked when the last one has ended.`,
    },
    parameters: {
      flags: {
        for: text("How long it stays open without a program, such as 30m, 8h, 1d", "TIME"),
        passphraseFd,
        socket,
      },
      positional: { kind: "tuple", parameters: [profile("Whose home", false)] },
    },
    loader: lazily(async () => (await import("./unlock.ts")).unlock),
  }),
  lock: buildCommand<StopFlags, readonly string[], Context>({
    docs: { brief: "End every program of a profile, and lock its encrypted home" },
    parameters: { ...stopping, positional: profiles("The profiles to lock") },
    loader: lazily(async () => (await import("./stop.ts")).lock),
  }),
  encrypt: buildCommand<EncryptFlags, [profile: string], Context>({
    docs: {
      brief: "Encrypt a profile's home",
      fullDescription:
        `Asks for a new passphrase, and copies the home into a new encrypted one, which then takes
its place. Each file of the copy is compared. When it is interrupted, the home is as it was, and
the same command goes on from there.

Afterwards it asks whether the plain copy can be removed. Removing is not erasing: what was on the
disk in the clear may still be found there.`,
    },
    parameters: {
      flags: {
        with: {
          kind: "enum",
          values: ["gocryptfs", "encfs"],
          brief: "What encrypts it, by default gocryptfs",
          optional: true,
        },
        keepPlain: toggle("Keep the plain copy, for root, beside the home"),
        yes: toggle("Remove the plain copy without asking"),
        new: toggle("Make the profile, if you have none of that name"),
        anew: toggle("Do not go on with one that was interrupted"),
        passphraseFd,
        socket,
      },
      positional: { kind: "tuple", parameters: [profile("Whose home", false)] },
    },
    loader: lazily(async () => (await import("./encrypt.ts")).encrypt),
  }),
  decrypt: buildCommand<DecryptWords, [profile: string], Context>({
    docs: {
      brief: "Make a profile's encrypted home a plain one again",
      fullDescription:
        `Asks for the passphrase, and copies the home into a plain one, which then takes its place.
When it is interrupted, the home is as it was, and the same command goes on from there. Afterwards
it asks whether the encrypted copy can be removed.`,
    },
    parameters: {
      flags: {
        keepVolume: toggle("Keep the encrypted copy, for root, beside the home"),
        yes: toggle("Remove the encrypted copy without asking"),
        anew: toggle("Do not go on with one that was interrupted"),
        passphraseFd,
        socket,
      },
      positional: { kind: "tuple", parameters: [profile("Whose home", false)] },
    },
    loader: lazily(async () => (await import("./encrypt.ts")).decrypt),
  }),
  passwd: buildCommand<PasswdFlags, [profile: string], Context>({
    docs: {
      brief: "Change the passphrase of a profile's encrypted home",
      fullDescription:
        `Asks for the current passphrase and for a new one; with --passphrase-fd they are two lines.
What is encrypted stays as it is, and an old copy of the home is still opened by the old one.`,
    },
    parameters: {
      flags: { passphraseFd, socket },
      positional: { kind: "tuple", parameters: [profile("Whose home", false)] },
    },
    loader: lazily(async () => (await import("./encrypt.ts")).passwd),
  }),
  shell: buildCommand<ShellFlags, [profile?: string], Context>({
    docs: { brief: "Start a login shell in a profile's jail" },
    parameters: {
      flags: { socket },
      positional: { kind: "tuple", parameters: [profile("Whose jail, by default shell's", true)] },
    },
    loader: lazily(async () => (await import("./shell.ts")).shell),
  }),
  attach: buildCommand<ProgramsFlags, [program: string], Context>({
    docs: {
      brief: "Take over a program's terminal, or show what it prints",
      fullDescription: `Takes the terminal of a running program over: whoever had it is let go.
Of a program without a terminal, it shows what is left of its output, and goes on as more comes.
Ends with the program's status.`,
    },
    parameters: {
      flags: { socket },
      positional: { kind: "tuple", parameters: [program] },
    },
    loader: lazily(async () => (await import("./programs.ts")).attach),
  }),
  wait: buildCommand<ProgramsFlags, [program: string], Context>({
    docs: { brief: "Wait until a program has ended, and exit with its status" },
    parameters: { flags: { socket }, positional: { kind: "tuple", parameters: [program] } },
    loader: lazily(async () => (await import("./programs.ts")).wait),
  }),
  kill: buildCommand<KillFlags, readonly string[], Context>({
    docs: { brief: "Send a signal to programs" },
    parameters: {
      flags: {
        signal: {
          kind: "parsed",
          parse: parseSignal,
          brief: "Which: a name such as HUP, or a number",
          placeholder: "SIGNAL",
          default: "TERM",
        },
        socket,
      },
      aliases: { s: "signal" },
      positional: { kind: "array", parameter: program },
    },
    loader: lazily(async () => (await import("./programs.ts")).kill),
  }),
  ps: buildCommand<PsFlags, [profile: string], Context>({
    docs: { brief: "List the programs of a profile" },
    parameters: {
      flags: { json, socket },
      positional: { kind: "tuple", parameters: [profile("Whose programs", false)] },
    },
    loader: lazily(async () => (await import("./programs.ts")).ps),
  }),
  logs: buildCommand<LogsFlags, [profile: string], Context>({
    docs: { brief: "Show what detached programs have printed" },
    parameters: {
      flags: { follow: toggle("Go on as more comes"), socket },
      aliases: { f: "follow" },
      positional: { kind: "tuple", parameters: [profile("Whose programs", false)] },
    },
    loader: lazily(async () => (await import("./logs.ts")).logs),
  }),
  events: buildCommand<EventsFlags, [profile?: string], Context>({
    docs: {
      brief: "Show what has happened to your jails, and what happens",
      fullDescription:
        `A line for each jail that has started or stopped, each program that was started or has
ended, each home that was unlocked or locked, whatever was lent or taken back, and each request that
was refused. The daemon keeps the last 500 of each person's, for as long as it runs.`,
    },
    parameters: {
      flags: {
        follow: toggle("Go on as more happens"),
        since: text("None that are older, such as 10m, 8h, 1d", "TIME"),
        json: toggle("Print JSON, an object a line"),
        all: toggle("Everybody's; only root may see them"),
        socket,
      },
      aliases: { f: "follow" },
      positional: { kind: "tuple", parameters: [profile("Only this one's", true)] },
    },
    loader: lazily(async () => (await import("./events.ts")).events),
  }),
  stats: buildCommand<StatsFlags, [], Context>({
    docs: {
      brief: "Count starts and joins of jails, their times and failures",
      fullDescription:
        `Counts since the daemon was started. START is the time from a request to a program that
runs in a new jail, JOIN the same for a jail that is there; what a person takes for a passphrase is
no part of it. Medians and the 95th percentile (P95) are those of the last 256 times.`,
    },
    parameters: {
      flags: {
        json,
        all: toggle("Everybody's; only root may see them"),
        socket,
      },
    },
    loader: lazily(async () => (await import("./stats.ts")).stats),
  }),
  profiles: buildCommand<ProfilesFlags, [], Context>({
    docs: { brief: "List your profiles" },
    parameters: { flags: { json, socket } },
    loader: lazily(async () => (await import("./profiles.ts")).profiles),
  }),
  profile: buildCommand<ProfileFlags, readonly string[], Context>({
    docs: {
      brief: "Show, write and check profiles",
      customUsage: [
        "list [--json] [--names]",
        "show NAME [--resolved] [--json]",
        "new NAME [--from NAME]",
        "edit NAME [FILE]",
        "check FILE...",
        "diff NAME [--json]",
        "delete NAME [--home] [--yes]",
      ],
      fullDescription:
        `A profile says what an application may touch: appjail-profile(5) has every key.

list shows those that there are, and where they are from. show prints what is written about one, or
with --resolved what it comes to. new makes one of your own, which may begin with another. edit lets
you change your own text in your editor, or takes it from FILE; it is checked before it is kept.
check says all that is wrong with files. diff shows what your own text changes. delete removes your
own text; with --home, all that there is of the profile, once you know how much that is.`,
    },
    parameters: {
      flags: {
        json,
        resolved: toggle("What it comes to, and which file says so"),
        names: toggle("The names alone"),
        from: text("The profile that the new one begins with", "PROFILE"),
        home: toggle("Delete the home, too, and give its uid back"),
        yes: toggle("Delete the home without asking"),
        socket,
      },
      positional: {
        kind: "array",
        parameter: { brief: "What to do, and with what", parse: asGiven, placeholder: "COMMAND" },
      },
    },
    loader: lazily(async () => (await import("./profile.ts")).profile),
  }),
  desktop: buildCommand<DesktopFlags, readonly string[], Context>({
    docs: {
      brief: "Start programs in their jails from menus and files",
      customUsage: [
        "install PROFILE...|--all",
        "uninstall PROFILE...|--all [--force]",
        "update [--all]",
        "list [--json]",
      ],
      fullDescription:
        `Writes desktop entries of your own, in ~/.local/share/applications, that stand in the
place of the system's and start the same program in its jail: for every entry whose program is one
of the profile's executables. Names, icons, file types and actions stay. uninstall takes them back,
and what stood there before comes back. update makes those again whose package has changed theirs,
and with --all new ones, too; it is run by itself when your session begins.`,
    },
    parameters: {
      flags: {
        all: toggle("For every profile"),
        force: toggle("Also those that were changed by hand"),
        json,
        socket,
      },
      positional: {
        kind: "array",
        parameter: { brief: "What to do, and with what", parse: asGiven, placeholder: "COMMAND" },
      },
    },
    loader: lazily(async () => (await import("./desktop.ts")).desktop),
  }),
  plan: buildCommand<PlanFlags, [profile: string], Context>({
    docs: {
      brief: "Show what a profile's jail would be, without starting it",
      fullDescription:
        `Shows every file and folder that its programs would see, what of yours they would be lent,
and what else they may and may not do. It is worked out from the words that would start the jail.`,
    },
    parameters: {
      flags: { json, socket },
      positional: { kind: "tuple", parameters: [profile("Whose jail", false)] },
    },
    loader: lazily(async () => (await import("./plan.ts")).plan),
  }),
  put: buildCommand<CopyFlags, readonly string[], Context>({
    docs: {
      brief: "Copy files into a profile's home",
      customUsage: ["[--force] FILE... PROFILE[:DIR]"],
      fullDescription:
        `Copies files, and folders with all that is in them, into the profile's home, or into the
folder DIR of it. They belong to the profile's user there. A symbolic link is copied as one.

Nothing changes until everything has arrived, and nothing is overwritten without --force.`,
    },
    parameters: {
      flags: { force: toggle("Replace what is there; a folder as a whole"), socket },
      aliases: { f: "force" },
      positional: {
        kind: "array",
        parameter: { brief: "The files, and where to", parse: asGiven, placeholder: "FILE" },
      },
    },
    loader: lazily(async () => (await import("./copy.ts")).put),
  }),
  get: buildCommand<CopyFlags, readonly string[], Context>({
    docs: {
      brief: "Copy files out of a profile's home",
      customUsage: ["[--force] PROFILE:FILE... [DIR]"],
      fullDescription:
        `Copies files, and folders with all that is in them, from the profile's home to the folder
DIR, by default the one that you are in. They belong to you there. A symbolic link is copied as one.

Nothing changes until everything has arrived, and nothing is overwritten without --force.`,
    },
    parameters: {
      flags: { force: toggle("Replace what is there; a folder as a whole"), socket },
      aliases: { f: "force" },
      positional: {
        kind: "array",
        parameter: { brief: "The files, and where to", parse: asGiven, placeholder: "FILE" },
      },
    },
    loader: lazily(async () => (await import("./copy.ts")).get),
  }),
  lend: buildCommand<LendFlags, [profile: string, path: string], Context>({
    docs: {
      brief: "Let a running jail have a file or folder of yours",
      fullDescription:
        `Shows PATH in the running jail of PROFILE as ~/lent/NAME: a folder with all that is in it,
a single file, or a socket. Your files are the program's own there, to read, and with --rw to change;
what it makes there is yours. Nothing is copied, and nothing about your files changes.

It ends with the jail, after the time of --for, or with appjail unlend.`,
    },
    parameters: {
      flags: {
        rw: toggle("Let it be changed"),
        as: text("What it is called in the jail, by default as PATH ends", "NAME"),
        for: text("How long, such as 10m, 8h, 1d", "TIME"),
        socket,
      },
      positional: {
        kind: "tuple",
        parameters: [
          profile("Whose jail", false),
          { brief: "What to lend", parse: asGiven, placeholder: "PATH" },
        ],
      },
    },
    loader: lazily(async () => (await import("./lend.ts")).lend),
  }),
  unlend: buildCommand<UnlendFlags, [profile: string, name: string], Context>({
    docs: { brief: "Take back what was lent" },
    parameters: {
      flags: { socket },
      positional: {
        kind: "tuple",
        parameters: [
          profile("Whose jail", false),
          { brief: "What it is called there", parse: asGiven, placeholder: "NAME" },
        ],
      },
    },
    loader: lazily(async () => (await import("./lend.ts")).unlend),
  }),
  daemon: buildCommand<DaemonFlags, [], Context>({
    docs: {
      brief: "Start the daemon; root only",
      fullDescription:
        `Gives each application a user of its own, starts its jail, and answers on a socket and on D-Bus.
It stays in the foreground and logs to standard error, a line for each thing worth knowing.

A flag holds over the configuration file, and the file over what is built in. The folders are made
when they are absent; those that are there have to be root's, and writable by nobody else.

SIGTERM, SIGINT or SIGHUP ends it in order: jails go on, and the next daemon finds them. To end
every jail, call appjail stop --all, as root, while the daemon runs.`,
    },
    parameters: {
      flags: {
        ...places,
        linger: text("Seconds that an empty jail stays, by default 5", "S"),
        network: text("What network jails have: host or none", "NETWORK"),
        logFormat: {
          kind: "enum",
          values: logFormats,
          brief: "How the log is written, by default text",
          optional: true,
        },
        debug: toggle("Log more"),
      },
    },
    loader: lazily(async () => (await import("./daemon.ts")).daemon),
  }),
  doctor: buildCommand<DoctorFlags, [], Context>({
    docs: {
      brief: "Look whether all is here that appjail needs",
      fullDescription:
        `Tries what jails need: the kernel, bubblewrap, other programs, the daemon and its folders,
uids, buses, and the session that it is called from. Each line says what was found, and where
something is wrong, the command that mends it. It changes nothing. As root it can tell more.

Give it the flags that the daemon has, where that has any. It ends with 111 when something fails.`,
    },
    parameters: {
      flags: {
        json,
        busPolicy: toggle("Print the policy that a system bus needs, and look at nothing"),
        ...places,
        socket,
      },
    },
    loader: lazily(async () => (await import("./doctor.ts")).doctor),
  }),
  completions: buildCommand<Record<never, never>, [shell: string], Context>({
    docs: {
      brief: "Print the completions for a shell",
      fullDescription: "Prints the completions for a shell. For this one bash:\n" +
        "  source <(appjail completions bash)",
    },
    parameters: {
      positional: {
        kind: "tuple",
        parameters: [{ brief: "bash, zsh or fish", parse: asGiven, placeholder: "SHELL" }],
      },
    },
    loader: lazily(async () => {
      const { completions } = await import("./completions.ts");
      return (_flags: Record<never, never>, _world: World, shell: string) =>
        Promise.resolve(completions(shell, verbs()));
    }),
  }),
  help: buildCommand<Record<never, never>, [command?: string], Context>({
    docs: { brief: "Explain a command" },
    parameters: {
      positional: {
        kind: "tuple",
        parameters: [{ brief: "Which", parse: asGiven, placeholder: "COMMAND", optional: true }],
      },
    },
    func: () => {},
  }),
};

/** The verbs and their options, as they are declared above. */
export function verbs(): readonly VerbWords[] {
  return Object.entries<Command<Context>>(routes).map(([name, command]) =>
    wordsOfVerb(name, command)
  );
}

// --- What is said when it is used wrongly ----------------------------------------------------

/** `Cannot use X: why; did you mean "Y"?` */
function cannotUse(
  input: string,
  why: string,
  corrections: readonly string[],
  see: string,
): string {
  const [first] = corrections;
  const advice = first === undefined
    ? `; see: appjail ${see}`
    : `; did you mean "${first.replaceAll("`", "")}"?`;
  return `Cannot use ${JSON.stringify(input)}: ${why}${advice}`;
}

function usageText(verb: string): ApplicationText {
  const see = `help ${verb}`;
  return {
    ...text_en,
    headers: {
      ...text_en.headers,
      usage: "usage:",
      flags: "options:",
      arguments: "arguments:",
    },
    briefs: {
      ...text_en.briefs,
      argumentEscapeSequence: "What follows are arguments, whatever they look like",
    },
    noCommandRegisteredForInput: ({ input, corrections }) =>
      input.startsWith("-")
        ? cannotUse(
          input,
          "there is no such option",
          topOptions.map(({ long }) => long).filter((one) =>
            input.length > 3 && one.startsWith(input.slice(0, 4))
          ),
          "help",
        )
        : cannotUse(input, "there is no such command", corrections, "help"),
    exceptionWhileParsingArguments: (thrown) => {
      if (!(thrown instanceof ArgumentScannerError)) return wordsOf(thrown);
      return formatMessageForArgumentScannerError(thrown, {
        FlagNotFoundError: ({ input, corrections }) =>
          cannotUse(
            `--${input}`,
            `${verb} has no such option`,
            corrections.map((one) => `--${one}`),
            see,
          ),
        AliasNotFoundError: ({ input }) =>
          cannotUse(`-${input}`, `${verb} has no such option`, [], see),
        ArgumentParseError: ({ externalFlagNameOrPlaceholder, input, exception }) =>
          cannotUse(`--${externalFlagNameOrPlaceholder} ${input}`, wordsOf(exception), [], see),
        UnsatisfiedFlagError: ({ externalFlagName }) =>
          cannotUse(flagName(externalFlagName), "its value is missing", [], see),
        UnexpectedFlagError: ({ externalFlagName }) =>
          cannotUse(flagName(externalFlagName), "it was given before", [], see),
        UnexpectedPositionalError: ({ input }) => cannotUse(input, "it is one too many", [], see),
        UnsatisfiedPositionalError: ({ placeholder }) =>
          `Cannot do this: ${placeholder} is missing; see: appjail ${see}`,
      });
    },
    exceptionWhileLoadingCommandFunction: (thrown) => `Cannot load ${verb}: ${wordsOf(thrown)}`,
    exceptionWhileRunningCommand: wordsOf,
    exceptionWhileLoadingCommandContext: wordsOf,
  };
}

function shortHelp(): string {
  const lines = align([
    ...verbs().map(({ name, brief }) => [`  ${name}`, brief]),
    [],
    ...topOptions.map((option) => [`  ${spellings(option).join(", ")}`, option.brief]),
  ]);
  return [
    "appjail: each application as its own user, in its own jail",
    "",
    "usage: appjail [--socket PATH] COMMAND ...",
    "",
    ...lines,
    "",
    "Try: appjail run id",
    "",
  ].join("\n");
}

// --- The whole -------------------------------------------------------------------------------

/** `--socket` may stand before the verb; it is moved behind it. */
function inOrder(args: readonly string[]): readonly string[] {
  const [first = "", ...rest] = args;
  if (first !== "--socket" && !first.startsWith("--socket=")) return args;
  const [path, ...words] = first === "--socket" ? rest : [first.slice("--socket=".length), ...rest];
  if (path === undefined) {
    throw new AppjailError("usage", "Cannot use --socket: its value is missing; see: appjail help");
  }
  const [verb, ...after] = words;
  if (verb === undefined || verb.startsWith("-") || verb === "help") return words;
  return [verb, "--socket", path, ...after];
}

/** Does what the words say, and returns the exit status. */
export async function runClient(args: readonly string[], world: World): Promise<number> {
  try {
    return await dispatch(inOrder(args), world);
  } catch (error) {
    return complain(error, world);
  }
}

async function dispatch(words: readonly string[], world: World): Promise<number> {
  const [verb, ...rest] = words;
  switch (verb) {
    case undefined:
      writeOut(shortHelp(), Deno.stderr);
      return exitUsage;
    case "--version":
    case "-V":
      writeOut((await import("./version.ts")).versionLine(), Deno.stdout);
      return 0;
    case "--help":
    case "-h":
      writeOut(shortHelp(), Deno.stdout);
      return 0;
    case "help": {
      const [about = "--help", ...more] = rest;
      if (about.startsWith("-")) return await dispatch(["--help"], world);
      return await interpret(more.length > 0 ? words : [about, "--help"], world);
    }
    case "run":
      return await (await import("./run.ts")).run(rest, world);
    default:
      return await interpret(words, world);
  }
}

/** Lets stricli find the verb and its options. */
async function interpret(words: readonly string[], world: World): Promise<number> {
  const process: StricliProcess = {
    stdout: { write: (text) => void writeOut(text, Deno.stdout) },
    stderr: { write: (text) => void writeOut(`appjail: ${text}`, Deno.stderr) },
  };
  const verb = words[0] ?? "";
  const application = buildApplication<Context>(
    buildRouteMap({ routes, docs: { brief: "Each application as its own user, in its own jail" } }),
    {
      name: "appjail",
      scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
      localization: { text: usageText(verb) },
    },
    {
      help: help({
        brief: helpOption.brief,
        formatting,
      }),
    },
  );
  await runStricli(application, [...words], { process, world });
  const status = Number(process.exitCode ?? exitFailure);
  // Its own are below zero; these two say that the words were wrong: UnknownCommand, InvalidArgument.
  return status >= 0 ? status : status === -5 || status === -4 ? exitUsage : exitFailure;
}
