/**
 * Every message, each direction in a union of its own. A frame that is not exactly one of them is
 * refused: unknown types and unknown fields too.
 *
 * @module
 */
import * as v from "valibot";
import { controlCharacters } from "../ipc/tty.ts";
import { errorCodes } from "./errors.ts";
import { logFormats } from "./log.ts";
import { jailBuses, plainBuses } from "./bus-rules.ts";
import {
  absolutePath,
  appUid,
  argument,
  commandLine,
  environment,
  lendName,
  lendSource,
  ownerUid,
  profileName,
  programName,
  signalNames,
} from "./names.ts";
import { sessionNames, windowWays } from "./session.ts";
import { jailX11 } from "./x11.ts";
/** Raised whenever a message changes. Both ends of a channel must have the same. */
export const protocolVersion = 7;

/** Made when it is first asked for, and kept: a role uses a few of these schemas, and starts often. */
function once<T>(make: () => T): () => T {
  let made: { readonly it: T } | undefined;
  return () => (made ??= { it: make() }).it;
}

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** null: it says nothing. */
const hint = v.nullable(v.pipe(v.string(), v.maxLength(4096)));
const session = v.strictObject(v.entriesFromList(sessionNames, hint));
const requestId = v.pipe(count, v.maxValue(Number.MAX_SAFE_INTEGER));
const milliseconds = count;
const pid = v.pipe(count, v.minValue(1), v.maxValue(0x7fffffff));
const signal = v.picklist(signalNames);
const words = v.pipe(v.string(), v.maxLength(65_536));

const u8 = v.pipe(count, v.maxValue(0xff));
const u16 = v.pipe(count, v.maxValue(0xffff));
const u32 = v.pipe(count, v.maxValue(0xffffffff));

/** A terminal that a program is to have, made in its jail; see ipc/tty.ts. */
const terminal = v.strictObject({
  /** Which of its standard streams are this terminal. */
  streams: v.pipe(
    v.array(v.picklist([0, 1, 2])),
    v.minLength(1),
    v.check((streams) => new Set(streams).size === streams.length, "a stream stands there twice"),
  ),
  size: v.strictObject({ rows: u16, columns: u16, width: u16, height: u16 }),
  /** Those of the caller's own terminal; null: the kernel's. */
  settings: v.nullable(
    v.strictObject({
      iflag: u32,
      oflag: u32,
      cflag: u32,
      lflag: u32,
      cc: v.pipe(v.array(u8), v.length(controlCharacters)),
    }),
  ),
});
export type TerminalSpec = v.InferOutput<typeof terminal>;

/** What a program is given, whoever asks for it. */
const programWords = {
  argv: commandLine,
  /** null: the home. */
  cwd: v.nullable(absolutePath),
  /** When the folder is not there: false, the home will do; true, nothing is run. */
  cwd_required: v.boolean(),
  terminal: v.nullable(terminal),
  /**
   * passed: a descriptor comes along for each standard stream that is not the terminal.
   * log: the program's output goes to the jail's log.
   */
  stdio: v.picklist(["passed", "log"]),
};

/** How a program ended, as wait(2) tells it. */
export const exitStatus = v.variant("by", [
  v.strictObject({ by: v.literal("exit"), code: v.pipe(count, v.maxValue(255)) }),
  v.strictObject({
    by: v.literal("signal"),
    signal: v.pipe(count, v.maxValue(127)),
    core: v.boolean(),
  }),
]);
export type ExitStatus = v.InferOutput<typeof exitStatus>;

/** A program that runs in a jail. */
export const programReport = v.strictObject({
  program: programName,
  argv: commandLine,
  /** In the jail's own pid namespace. */
  pid,
  cwd: absolutePath,
  /** Whether it has a terminal of its own, which can be attached to. */
  terminal: v.boolean(),
  /** Milliseconds since the epoch. */
  started: milliseconds,
});
export type ProgramReport = v.InferOutput<typeof programReport>;

/** A line that a program wrote where nobody's descriptor was given. */
export const outputLine = v.strictObject({
  /** Counts the jail's lines; a gap means that older ones were dropped. */
  sequence: count,
  program: programName,
  stream: v.picklist(["stdout", "stderr"]),
  text: v.pipe(v.string(), v.maxLength(16_384)),
  at: milliseconds,
});
export type OutputLine = v.InferOutput<typeof outputLine>;

/** Where a jail is in its life; see core/life.ts. */
export const jailState = v.picklist([
  "starting",
  "running",
  "idle",
  "leaving",
  "silent",
  /** There is no jail, and its home is encrypted. */
  "locked",
  "unlocked",
]);
export type JailState = v.InferOutput<typeof jailState>;

/** The kinds of volumes that a home can be; see core/volume.ts. */
export const volumeKinds = ["encfs", "gocryptfs"] as const;
export type VolumeKind = typeof volumeKinds[number];
const volumeKind = v.picklist(volumeKinds);

/** The two ways to convert a home. */
const conversionWhat = v.picklist(["encrypt", "decrypt"]);

/** How far a piece of work on a home is. */
const progressWords = {
  phase: v.picklist(["counting", "copying", "verifying", "removing"]),
  /** Names of files, folders and whatever else there is; 0 of 0: it is not known. */
  files: count,
  files_total: count,
  bytes: count,
  bytes_total: count,
};

/** What has become of a copy, and what the person should know before it takes the home's place. */
const convertedWords = { files: count, bytes: count, notes: v.array(words) };

/** A text as a person writes it: a profile, see core/profile-toml.ts. */
const pageText = v.pipe(v.string(), v.maxLength(65_536));

/** Something that is wrong with a profile. */
const problem = v.strictObject({ file: words, line: count, message: words });

/** Where a profile's file is; see core/profile-layers.ts. */
const profileLayer = v.picklist(["shipped", "admin", "own"]);

/** A home as it is on the disk: plain, or a volume. */
const homeState = v.strictObject({
  /** null: plain. */
  kind: v.nullable(volumeKind),
  unlocked: v.boolean(),
  /** Stays unlocked without a program: until then, milliseconds since the epoch; 0 for no end. */
  until: v.nullable(milliseconds),
  /** Why it cannot be used as it is; null: it can. */
  problem: v.nullable(words),
});
export type HomeState = v.InferOutput<typeof homeState>;

/** Something of its owner's that a jail has for as long as it lives, or for a time. */
export const lent = v.strictObject({
  name: lendName,
  /** On the host, as it was asked for. */
  path: absolutePath,
  write: v.boolean(),
  /** It is taken back then, milliseconds since the epoch; null: with the jail's end. */
  until: v.nullable(milliseconds),
  /** Where in the jail it is, beside `~/lent`; null: there alone. */
  at: v.nullable(absolutePath),
  /** It is a socket of the jail's own, for which the compositor at the path has a security context. */
  context: v.boolean(),
});
export type Lent = v.InferOutput<typeof lent>;

/** What a jail that runs can be lent: what comes with its start is told otherwise. */
const lendable = v.omit(lent, ["at", "context"]);
export type Lendable = v.InferOutput<typeof lendable>;

/** The most that one jail is lent at a time. */
export const lendsMost = 256;

const heldLimit = v.nullable(v.strictObject({
  most: v.number(),
  /** cgroup: for the jail altogether; rlimit: memory for each program, processes for all of them. */
  by: v.picklist(["cgroup", "rlimit", "nothing"]),
}));

/** What a jail may use at most, and what makes it keep to that; null: it is not limited. */
export const heldLimits = v.strictObject({
  /** Bytes. */
  memory: heldLimit,
  processes: heldLimit,
  /** Percent of one processor. */
  cpu: heldLimit,
});
export type HeldLimits = v.InferOutput<typeof heldLimits>;

/** A jail, as `appjail status` shows it; or a home that is encrypted, without one. */
export const jailReport = v.strictObject({
  profile: profileName,
  owner: ownerUid,
  uid: appUid,
  state: jailState,
  /** In the host's pid namespace; null until the jail has told. */
  jailer_pid: v.nullable(pid),
  started: milliseconds,
  programs: v.array(programReport),
  /** Processes in the jail beside its jailer, and their memory (PSS) with the jailer's. */
  processes: count,
  memory_bytes: count,
  /** How long they have kept a processor busy, those that have ended too. */
  cpu_ms: count,
  home: homeState,
  lends: v.array(lent),
  limits: heldLimits,
  /** Its profile says something else by now, which will hold when it starts next. */
  changed: v.boolean(),
});
export type JailReport = v.InferOutput<typeof jailReport>;

/** What every event says. */
const eventWords = {
  /** Counts its owner's events, from 0; a gap means that some were dropped. */
  sequence: count,
  at: milliseconds,
  owner: ownerUid,
  /** null: it is about none, or about one that cannot be. */
  profile: v.nullable(profileName),
  /** As which its programs run; null: it has never run. */
  uid: v.nullable(appUid),
};

/** What has happened to a jail, or to a request, for whoever it belongs to; see docs/events.md. */
export const event = once(() =>
  v.variant("event", [
    v.strictObject({ event: v.literal("jail-started"), ...eventWords }),
    v.strictObject({
      event: v.literal("jail-stopped"),
      ...eventWords,
      /**
       * idle: nothing ran in it any more. asked: somebody has stopped it. failed: it could not go
       * on. lost: it has ended by itself.
       */
      reason: v.picklist(["idle", "asked", "failed", "lost"]),
      /** In words, where there are any. */
      why: v.nullable(words),
    }),
    v.strictObject({
      event: v.literal("program-started"),
      ...eventWords,
      program: programName,
      /** Its first word. */
      command: words,
    }),
    v.strictObject({
      event: v.literal("program-exited"),
      ...eventWords,
      program: programName,
      status: exitStatus,
    }),
    v.strictObject({ event: v.literal("home-unlocked"), ...eventWords }),
    v.strictObject({
      event: v.literal("home-locked"),
      ...eventWords,
      /** What had to be done for that, or is left; null: all is as it should be. */
      note: v.nullable(words),
    }),
    v.strictObject({
      event: v.literal("lent"),
      ...eventWords,
      ...lendable.entries,
    }),
    v.strictObject({
      event: v.literal("unlent"),
      ...eventWords,
      name: lendName,
      /** done: the program for which it was lent has ended. */
      reason: v.picklist(["asked", "expired", "done"]),
    }),
    v.strictObject({
      event: v.literal("refused"),
      ...eventWords,
      /** What was asked for, as the request is called. */
      request: words,
      code: v.picklist(errorCodes),
      message: words,
    }),
  ])
);
export type Event = v.InferOutput<ReturnType<typeof event>>;

/** How long something took, in milliseconds; null: it was never measured. */
const spread = v.nullable(v.strictObject({
  min: v.number(),
  median: v.number(),
  p95: v.number(),
  max: v.number(),
}));

/** What has been counted, of one profile or of all that an owner has. */
const figures = once(() => ({
  /** Jails that were started, and programs that joined one. */
  starts: count,
  joins: count,
  programs: count,
  wrong_passphrases: count,
  /** Requests that failed, by the code. */
  failures: v.array(v.strictObject({ code: v.picklist(errorCodes), times: count })),
  /** From the request until the program runs, the time that a person took for a passphrase left out. */
  start_ms: spread,
  join_ms: spread,
}));

/** The figures of one owner, since the dispatcher was started. */
const ownerFigures = once(() =>
  v.strictObject({
    owner: ownerUid,
    since: milliseconds,
    ...figures(),
    profiles: v.array(v.strictObject({ profile: profileName, ...figures() })),
  })
);
export type OwnerFigures = v.InferOutput<ReturnType<typeof ownerFigures>>;
export type Figures = Omit<OwnerFigures, "owner" | "since" | "profiles">;

function hello<const R extends string>(role: R) {
  return v.strictObject({
    type: v.literal("hello"),
    role: v.literal(role),
    protocol: count,
    version: v.pipe(v.string(), v.maxLength(64)),
  });
}

/*
 * client                         dispatcher
 *   hello ───────────────────────▶
 *   run (+fds) ──────────────────▶
 *         ◀──────────────────────── hello
 *         ◀──────────────────────── started (+the terminal's master) | failed: nothing runs
 *   signal ──────────────────────▶               (any number)
 *         ◀──────────────────────── suspended    (any number)
 *         ◀──────────────────────── exited | detached
 *
 *   attach ──────────────────────▶
 *         ◀──────────────────────── attached | failed, then as after started; output* without a
 *                                   terminal
 *   wait ────────────────────────▶               (after a restart, with the jail's life; or any)
 *         ◀──────────────────────── started      (or failed; then all is as after run)
 *   kill ────────────────────────▶
 *         ◀──────────────────────── done | failed
 *   lend | unlend ───────────────▶
 *         ◀──────────────────────── done | failed
 *   status | stop | logs | events | stats | profiles | unlock ▶
 *         ◀──────────────────────── reported* done | stopped* done | output* done | happened* done
 *                                   | counted* done | listed | done | failed
 *
 *   encrypt | decrypt ───────────▶
 *         ◀──────────────────────── progress*
 *         ◀──────────────────────── converted    (the new home is in its place; or done, failed)
 *   confirm ─────────────────────▶               (or it leaves: the old home stays for now)
 *         ◀──────────────────────── progress* done | failed
 *   passwd ──────────────────────▶
 *         ◀──────────────────────── done | failed
 *
 *   written ─────────────────────▶
 *         ◀──────────────────────── written* done | failed
 *   show ────────────────────────▶
 *         ◀──────────────────────── layer* resolved done | failed
 *   check | write ───────────────▶
 *         ◀──────────────────────── checked done | failed
 *   diff ────────────────────────▶
 *         ◀──────────────────────── compared done | failed
 *   forget ──────────────────────▶
 *         ◀──────────────────────── done | failed, without the home
 *         ◀──────────────────────── progress* measured, with it
 *   confirm ─────────────────────▶               (or it leaves: nothing is removed)
 *         ◀──────────────────────── progress* done | failed
 *
 * Before any of these answers, where a passphrase is needed:
 *         ◀──────────────────────── passphrase
 *   passphrase (+pipes) ─────────▶               (again, where it was wrong)
 */
const clientToDispatcher = once(() =>
  v.variant("type", [
    hello("client"),
    v.strictObject({
      type: v.literal("run"),
      /** null: the basename of the command, and made only when the command exists. */
      profile: v.nullable(v.pipe(v.string(), v.maxLength(1024))),
      ...programWords,
      /** null: the profile's own command. */
      argv: v.nullable(commandLine),
      /** What the caller asked for by name. */
      env: environment,
      /** What the caller's own environment has of the allow-list. */
      inherited: environment,
      /** What they say of the caller's desktop; see core/session.ts. */
      session,
      /** Files of the caller's that words of the command name, to be lent while the program runs. */
      lend: v.pipe(
        v.array(v.strictObject({
          /** Which word; the command is 0. */
          word: v.pipe(count, v.minValue(1)),
          name: lendName,
          path: absolutePath,
        })),
        v.maxLength(32),
      ),
    }),
    v.strictObject({ type: v.literal("attach"), program: programName }),
    v.strictObject({ type: v.literal("kill"), program: programName, signal }),
    v.strictObject({ type: v.literal("wait"), program: programName, jail: v.nullable(words) }),
    v.strictObject({ type: v.literal("signal"), signal }),
    v.strictObject({
      type: v.literal("status"),
      profile: v.nullable(profileName),
      everyone: v.boolean(),
    }),
    v.strictObject({
      type: v.literal("stop"),
      /** Empty: all of the caller's; all of everybody's when the caller is root. */
      profiles: v.pipe(v.array(profileName), v.maxLength(1000)),
      force: v.boolean(),
      timeout: v.pipe(milliseconds, v.maxValue(3_600_000)),
      /** Lock the homes, too, that were to stay unlocked. */
      lock: v.boolean(),
    }),
    v.strictObject({
      type: v.literal("unlock"),
      profile: profileName,
      /** How long it stays unlocked without a program. null: until it is locked. */
      keep: v.nullable(v.pipe(milliseconds, v.minValue(1))),
    }),
    v.strictObject({
      type: v.literal("encrypt"),
      profile: profileName,
      /** null: that of the conversion which was interrupted, or else gocryptfs. */
      kind: v.nullable(volumeKind),
      /** Make the profile, where there is none. */
      make: v.boolean(),
      /** Do not go on with one that was interrupted. */
      anew: v.boolean(),
    }),
    v.strictObject({ type: v.literal("decrypt"), profile: profileName, anew: v.boolean() }),
    v.strictObject({ type: v.literal("passwd"), profile: profileName }),
    /** What is to become of the old home. */
    v.strictObject({ type: v.literal("confirm"), keep: v.boolean() }),
    /** The read ends of so many pipes come along, in each of which the passphrase is. */
    v.strictObject({ type: v.literal("passphrase"), pipes: v.picklist([1, 2]) }),
    v.strictObject({
      type: v.literal("lend"),
      profile: profileName,
      /** In the jail, in `~/lent`. */
      name: lendName,
      path: absolutePath,
      write: v.boolean(),
      /** How long, in milliseconds; null: for the jail's life. */
      keep: v.nullable(v.pipe(milliseconds, v.minValue(1))),
    }),
    v.strictObject({ type: v.literal("unlend"), profile: profileName, name: lendName }),
    v.strictObject({ type: v.literal("logs"), profile: profileName, follow: v.boolean() }),
    v.strictObject({
      type: v.literal("events"),
      profile: v.nullable(profileName),
      everyone: v.boolean(),
      /** Those that happen from now on, too. */
      follow: v.boolean(),
      /** None that are older, milliseconds since the epoch. */
      since: milliseconds,
    }),
    v.strictObject({ type: v.literal("stats"), everyone: v.boolean() }),
    v.strictObject({ type: v.literal("profiles") }),
    /** What its jail would be. */
    v.strictObject({ type: v.literal("plan"), profile: profileName, session }),
    /** Which profiles are written, and which have a uid. */
    v.strictObject({ type: v.literal("written") }),
    v.strictObject({ type: v.literal("show"), profile: profileName }),
    /** What would be wrong with a text, were it the person's own of this name. */
    v.strictObject({ type: v.literal("check"), profile: profileName, text: pageText }),
    /** The same, and it is kept when nothing is. */
    v.strictObject({
      type: v.literal("write"),
      profile: profileName,
      text: pageText,
      /** What it was made from: nothing is kept when that is not what there is. null: there was none. */
      before: v.nullable(pageText),
    }),
    /** What the person's own text changes. */
    v.strictObject({ type: v.literal("diff"), profile: profileName }),
    /** The person's own text goes, and with `home` all that there is of the profile. */
    v.strictObject({ type: v.literal("forget"), profile: profileName, home: v.boolean() }),
  ])
);
export type ClientToDispatcher = v.InferOutput<ReturnType<typeof clientToDispatcher>>;

const dispatcherToClient = once(() =>
  v.variant("type", [
    hello("dispatcher"),
    v.strictObject({
      type: v.literal("started"),
      program: programName,
      profile: profileName,
      uid: appUid,
      /** Names this life of the jail, so that a later `wait` is about the same one. */
      jail: words,
      cwd: absolutePath,
      /**
       * By what it can show windows: an X server, its owner's compositor as that is, or that
       * compositor's security context. null: by nothing.
       */
      windows: v.nullable(v.picklist(windowWays)),
      /** The terminal's other end comes along. */
      master: v.boolean(),
    }),
    v.strictObject({
      type: v.literal("attached"),
      program: programName,
      profile: profileName,
      jail: words,
      master: v.boolean(),
    }),
    /** Its person has typed ^Z, or it has stopped itself. */
    v.strictObject({ type: v.literal("suspended"), program: programName }),
    /** Another client has taken the terminal over. */
    v.strictObject({ type: v.literal("detached"), program: programName }),
    v.strictObject({ type: v.literal("exited"), program: programName, status: exitStatus }),
    v.strictObject({ type: v.literal("reported"), jails: v.array(jailReport) }),
    v.strictObject({
      type: v.literal("stopped"),
      profile: profileName,
      owner: ownerUid,
      /** Whether there was a jail to be stopped. */
      ran: v.boolean(),
      /** The programs that had to be killed. */
      killed: count,
      /** null: it is gone. */
      problem: v.nullable(words),
    }),
    v.strictObject({ type: v.literal("output"), lines: v.array(outputLine) }),
    v.strictObject({
      type: v.literal("happened"),
      events: v.array(v.lazy(event)),
      /** How many came before these that could not be kept for whoever reads so slowly. */
      missed: count,
    }),
    v.strictObject({ type: v.literal("counted"), figures: v.lazy(ownerFigures) }),
    v.strictObject({
      type: v.literal("listed"),
      profiles: v.array(
        v.strictObject({ profile: profileName, uid: appUid, running: v.boolean() }),
      ),
    }),
    v.strictObject({
      type: v.literal("written"),
      profiles: v.pipe(
        v.array(
          v.strictObject({
            profile: profileName,
            /** Where its files are; none: it has a uid, and nobody has written it. */
            from: v.array(profileLayer),
            /** null: it has never run. */
            uid: v.nullable(appUid),
            running: v.boolean(),
            changed: v.boolean(),
            description: words,
            /** The commands that find it. */
            executables: v.array(words),
            /** How many things are wrong with it. */
            problems: count,
          }),
        ),
        v.maxLength(100),
      ),
    }),
    /** A file of a profile; they come from below. */
    v.strictObject({
      type: v.literal("layer"),
      layer: profileLayer,
      file: words,
      text: pageText,
    }),
    v.strictObject({
      type: v.literal("resolved"),
      values: v.array(
        v.strictObject({
          key: words,
          /** As JSON. */
          value: v.string(),
          /** The file that says so; null: it is built in. */
          from: v.nullable(words),
        }),
      ),
      problems: v.array(problem),
      uid: v.nullable(appUid),
      running: v.boolean(),
      changed: v.boolean(),
    }),
    v.strictObject({ type: v.literal("checked"), problems: v.array(problem) }),
    v.strictObject({
      type: v.literal("planned"),
      /** null: it would get one. */
      uid: v.nullable(appUid),
      /** As which uid its programs would see themselves. */
      shown: v.pipe(count, v.maxValue(0xfffffffe)),
      /** Its home, in words. */
      home: words,
      running: v.boolean(),
      spec: jailSpec(),
    }),
    v.strictObject({
      type: v.literal("compared"),
      changes: v.array(
        v.strictObject({
          key: words,
          /** As JSON: without the person's own text, and with it. */
          below: v.string(),
          own: v.string(),
          /** The file that says so below; null: it is built in. */
          from: v.nullable(words),
          /** It gives the programs more. */
          wider: v.boolean(),
        }),
      ),
    }),
    /** What was asked for needs the passphrase of a home. */
    v.strictObject({
      type: v.literal("passphrase"),
      profile: profileName,
      kind: volumeKind,
      /** How many were wrong. */
      tries: count,
      /**
       * unlock: the one that it has, in one pipe. new: one for a new volume, in each of two pipes.
       * change: the one that it has and a new one, as two lines in one pipe.
       */
      purpose: v.picklist(["unlock", "new", "change"]),
    }),
    v.strictObject({ type: v.literal("progress"), ...progressWords }),
    /** A home that is to be removed, and what it takes on the disk. */
    v.strictObject({ type: v.literal("measured"), uid: appUid, files: count, bytes: count }),
    v.strictObject({
      type: v.literal("converted"),
      /** null: that was done before, and only what is left is to be decided. */
      copied: v.nullable(v.strictObject(convertedWords)),
    }),
    /** Something that the person should know; comes before what it explains. */
    v.strictObject({ type: v.literal("note"), text: words }),
    v.strictObject({ type: v.literal("done") }),
    v.strictObject({ type: v.literal("failed"), code: v.picklist(errorCodes), message: words }),
  ])
);
export type DispatcherToClient = v.InferOutput<ReturnType<typeof dispatcherToClient>>;

/** Which system calls a jail may make; see core/seccomp.ts. */
export const seccompSets = ["default", "nested", "strict", "none"] as const;
export type SeccompSet = (typeof seccompSets)[number];

/** A path as a jail has it, without anything to be resolved: absolute, or in the home (`~/…`). */
export const pathInJail = v.pipe(
  v.string(),
  v.maxLength(1024),
  v.check(
    (path) => /^~?(?:\/[^/\0]+)+$/.test(path) && !/\/\.{1,2}(?:\/|$)/.test(path),
    'a path in a jail begins with "/" or "~/", and has no empty part, "." or ".."',
  ),
);

/** A device file; those that would give the machine away are refused where they are used. */
export const devicePath = v.pipe(
  v.string(),
  v.maxLength(256),
  v.check(
    (path) => /^\/dev(?:\/[\w.+:-]+)+$/.test(path) && !/\/\.{1,2}(?:\/|$)/.test(path),
    "a device is a path below /dev",
  ),
);

/** hostname(7): letters, digits and hyphens, and no dot. */
export const hostName = v.pipe(
  v.string(),
  v.regex(
    /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i,
    "a host name has letters, digits and inner hyphens, 63 at most",
  ),
);

/** How much a jail may use; null: as much as there is. */
export const jailLimits = once(() =>
  v.strictObject({
    /** Bytes. */
    memory: v.nullable(v.pipe(v.number(), v.integer(), v.minValue(64 * 1024 * 1024))),
    /** Processes and threads, the jailer's among them. */
    processes: v.nullable(v.pipe(v.number(), v.integer(), v.minValue(32), v.maxValue(4194304))),
    /** Percent of one processor. */
    cpu: v.nullable(v.pipe(v.number(), v.minValue(1), v.maxValue(1000000))),
  })
);
export type JailLimits = v.InferOutput<ReturnType<typeof jailLimits>>;

/** What a jail is made of: a closed set of words, which the helper turns into mounts. */
export const jailSpec = once(() =>
  v.strictObject({
    network: v.picklist(["host", "none"]),
    /** null: the host's. */
    hostname: v.nullable(hostName),
    /** Whether a program sees its owner's uid instead of the one that it has. */
    same_uid: v.boolean(),
    /** ephemeral: in memory, and gone with the jail. */
    home: v.picklist(["persistent", "ephemeral"]),
    /** The home that is persistent is deleted when the jail has ended. */
    autodelete: v.boolean(),
    /** Further places that are empty, in memory, and gone with the jail. */
    tmpfs: v.pipe(v.array(pathInJail), v.maxLength(64)),
    devices: v.pipe(v.array(devicePath), v.maxLength(64)),
    seccomp: v.picklist(seccompSets),
    limits: jailLimits(),
    buses: jailBuses,
    /** null: its programs are let in to no X server. */
    x11: v.nullable(jailX11),
    /** The owner's file, of which it gets a copy if there is one; null: none. */
    pulse_cookie: v.nullable(absolutePath),
    /** Lend the folder of the owner's that is for this profile, if they are a person with a home. */
    shared: v.boolean(),
    /** What is lent from the start: all of it, or the jail does not start. */
    lend: v.pipe(
      v.array(v.strictObject({
        ...v.omit(lent, ["until"]).entries,
        path: lendSource,
        /**
         * Whether it is a compositor's socket, for which a security context is to be made: `wanted`
         * where there can be one, `required` or the jail does not start.
         */
        context: v.picklist(["none", "wanted", "required"]),
        /** Do without it where there is no such file. */
        skip_missing: v.boolean(),
        /** Do without it where what has this name is lent; null: in any case. */
        unless: v.nullable(lendName),
      })),
      v.maxLength(lendsMost),
    ),
  })
);
export type JailSpec = v.InferOutput<ReturnType<typeof jailSpec>>;

/** A jail without any wishes. */
export const plainSpec: JailSpec = {
  network: "host",
  hostname: null,
  same_uid: false,
  home: "persistent",
  autodelete: false,
  tmpfs: [],
  devices: [],
  seccomp: "default",
  limits: { memory: null, processes: null, cpu: null },
  buses: plainBuses,
  x11: null,
  pulse_cookie: null,
  shared: true,
  lend: [],
};

/** A line of the registry: who was given which uid. */
export const allocation = v.strictObject({
  uid: appUid,
  owner: ownerUid,
  profile: profileName,
});
export type Allocation = v.InferOutput<typeof allocation>;

/** A jail that lives: what the helper knows of it. */
export const liveJail = v.strictObject({
  uid: appUid,
  pid,
  /** Milliseconds since the epoch. */
  started: milliseconds,
  /** Names this life of the jail. */
  jail: words,
  /** Its home is locked when it ends. */
  encrypted: v.boolean(),
  limits: heldLimits,
});
export type LiveJail = v.InferOutput<typeof liveJail>;

/*
 * dispatcher                     helper
 *         ◀──────────────────────── hello
 *         ◀──────────────────────── welcome      (what was allocated, which jails live)
 *   ready ───────────────────────▶               (clients are heard from now on)
 *   allocate ────────────────────▶
 *         ◀──────────────────────── allocated | refused
 *   homes ───────────────────────▶
 *         ◀──────────────────────── homes | refused
 *   unlock (+a pipe) ────────────▶
 *         ◀──────────────────────── unlocked | refused
 *   keep ────────────────────────▶
 *         ◀──────────────────────── kept | refused
 *   lock ────────────────────────▶
 *         ◀──────────────────────── locked | refused
 *   conversion ──────────────────▶
 *         ◀──────────────────────── conversion | refused
 *   convert (+pipes) ────────────▶
 *         ◀──────────────────────── progress*
 *         ◀──────────────────────── converted | refused
 *   settle ──────────────────────▶
 *         ◀──────────────────────── progress*
 *         ◀──────────────────────── settled | refused
 *   passwd (+a pipe) ────────────▶
 *         ◀──────────────────────── changed | refused
 *   measure ─────────────────────▶
 *         ◀──────────────────────── progress* measured | refused
 *   remove ──────────────────────▶
 *         ◀──────────────────────── progress* removed | refused
 *   cancel ──────────────────────▶               (the request that it names is refused then)
 *   lend ────────────────────────▶
 *         ◀──────────────────────── lent | refused
 *   unlend ──────────────────────▶
 *         ◀──────────────────────── unlent | refused
 *   start ───────────────────────▶
 *         ◀──────────────────────── lends        (where it was lent something; also after welcome)
 *         ◀──────────────────────── starting     (the jailer's socket listens)
 *         ◀──────────────────────── started      (the jailer's pid) | refused
 *   end ─────────────────────────▶
 *         ◀──────────────────────── locking      (where its home is encrypted)
 *         ◀──────────────────────── home         (also unasked, whenever one was unlocked or locked)
 *         ◀──────────────────────── ended        (also unasked, whenever a jail is gone)
 */
const dispatcherToHelper = once(() =>
  v.variant("type", [
    hello("dispatcher"),
    v.strictObject({ type: v.literal("ready") }),
    v.strictObject({
      type: v.literal("allocate"),
      id: requestId,
      owner: ownerUid,
      profile: profileName,
    }),
    v.strictObject({ type: v.literal("homes"), id: requestId, uids: v.array(appUid) }),
    /** The read end of the pipe in which the passphrase is comes along. */
    v.strictObject({ type: v.literal("unlock"), id: requestId, uid: appUid }),
    v.strictObject({ type: v.literal("keep"), id: requestId, uid: appUid, until: milliseconds }),
    v.strictObject({ type: v.literal("lock"), id: requestId, uid: appUid }),
    v.strictObject({ type: v.literal("conversion"), id: requestId, uid: appUid }),
    v.strictObject({
      type: v.literal("convert"),
      id: requestId,
      uid: appUid,
      what: conversionWhat,
      kind: volumeKind,
      /** How many come along: two where the volume is to be made, and then to be unlocked. */
      pipes: v.picklist([1, 2]),
    }),
    /** Removes what is left of a conversion: the old home, or a copy that is not whole. */
    v.strictObject({
      type: v.literal("settle"),
      id: requestId,
      uid: appUid,
      /** Keep the old home instead, under another name. */
      keep: v.boolean(),
    }),
    /** Both passphrases are lines in the pipe that comes along. */
    v.strictObject({ type: v.literal("passwd"), id: requestId, uid: appUid }),
    /** What a home takes on the disk. */
    v.strictObject({ type: v.literal("measure"), id: requestId, uid: appUid }),
    /** Removes a home, and takes the uid back when nothing of it is left. */
    v.strictObject({ type: v.literal("remove"), id: requestId, uid: appUid }),
    v.strictObject({ type: v.literal("cancel"), id: requestId, uid: appUid }),
    v.strictObject({
      type: v.literal("lend"),
      id: requestId,
      uid: appUid,
      ...lendable.entries,
    }),
    v.strictObject({ type: v.literal("unlend"), id: requestId, uid: appUid, name: lendName }),
    v.strictObject({ type: v.literal("start"), id: requestId, uid: appUid, spec: jailSpec() }),
    v.strictObject({
      type: v.literal("end"),
      id: requestId,
      uid: appUid,
      /** Which life of the jail, lest a later one be ended; null: the one that is being started. */
      jail: v.nullable(words),
    }),
  ])
);
export type DispatcherToHelper = v.InferOutput<ReturnType<typeof dispatcherToHelper>>;

/** A conversion that is not at its end; see core/conversion.ts. */
const unfinished = v.strictObject({
  what: conversionWhat,
  kind: volumeKind,
  /** What there is beside the home: a copy that is not whole, or the old home; removing: a part of it. */
  phase: v.picklist(["copying", "discarding", "switched", "removing"]),
  /** The new home can be unlocked already. */
  made: v.boolean(),
});
export type Unfinished = v.InferOutput<typeof unfinished>;

const helperToDispatcher = once(() =>
  v.variant("type", [
    hello("helper"),
    v.strictObject({
      type: v.literal("welcome"),
      allocations: v.array(allocation),
      jails: v.array(liveJail),
    }),
    v.strictObject({ type: v.literal("allocated"), id: requestId, uid: appUid }),
    v.strictObject({
      type: v.literal("homes"),
      id: requestId,
      homes: v.array(v.strictObject({ uid: appUid, home: homeState })),
    }),
    v.strictObject({ type: v.literal("unlocked"), id: requestId }),
    v.strictObject({ type: v.literal("kept"), id: requestId }),
    /** null: nothing of it can be reached any more. */
    v.strictObject({ type: v.literal("locked"), id: requestId, problem: v.nullable(words) }),
    v.strictObject({
      type: v.literal("conversion"),
      id: requestId,
      /** null: nothing is left of any. */
      left: v.nullable(unfinished),
    }),
    v.strictObject({ type: v.literal("progress"), id: requestId, ...progressWords }),
    v.strictObject({ type: v.literal("converted"), id: requestId, ...convertedWords }),
    /** The old home's new name in the data root; null: it is gone. */
    v.strictObject({ type: v.literal("settled"), id: requestId, kept: v.nullable(words) }),
    v.strictObject({ type: v.literal("changed"), id: requestId }),
    v.strictObject({ type: v.literal("measured"), id: requestId, files: count, bytes: count }),
    /** What is left of the uid, for which it is not taken back. */
    v.strictObject({ type: v.literal("removed"), id: requestId, remains: v.array(words) }),
    v.strictObject({ type: v.literal("lent"), id: requestId }),
    v.strictObject({ type: v.literal("unlent"), id: requestId }),
    /** All that a jail has been lent. */
    v.strictObject({ type: v.literal("lends"), uid: appUid, lends: v.array(lent) }),
    v.strictObject({ type: v.literal("starting"), id: requestId }),
    v.strictObject({ type: v.literal("started"), id: requestId, live: liveJail }),
    v.strictObject({
      type: v.literal("ended"),
      uid: appUid,
      /** What could not be removed. null: nothing is left. */
      problem: v.nullable(words),
      /** What its own parts complained of first. */
      said: v.nullable(words),
      /** Why the helper has ended it by itself. */
      why: v.nullable(words),
      /** What else is worth to be known: its home had to be taken away from somebody, say. */
      note: v.nullable(words),
    }),
    /** An encrypted home was unlocked, or locked. */
    v.strictObject({
      type: v.literal("home"),
      uid: appUid,
      unlocked: v.boolean(),
      note: v.nullable(words),
    }),
    /** Nothing of it runs any more; its home is being locked. */
    v.strictObject({ type: v.literal("locking"), uid: appUid, why: v.nullable(words) }),
    v.strictObject({
      type: v.literal("refused"),
      id: requestId,
      code: v.picklist(errorCodes),
      message: words,
    }),
  ])
);
export type HelperToDispatcher = v.InferOutput<ReturnType<typeof helperToDispatcher>>;

/*
 * dispatcher                     jailer
 *   hello ───────────────────────▶
 *   exec (+fds) ─────────────────▶               (need not wait for the answer to hello)
 *         ◀──────────────────────── hello
 *         ◀──────────────────────── present      (what runs, what ended unheard)
 *         ◀──────────────────────── started (+the terminal's master, if it is to have one) | refused
 *   signal ──────────────────────▶
 *   attach ──────────────────────▶
 *         ◀──────────────────────── attached (+master) | refused
 *   hangup ──────────────────────▶               (whoever had the terminal is gone)
 *         ◀──────────────────────── suspended
 *         ◀──────────────────────── exited
 *   heard ───────────────────────▶               (an exit need not be kept any longer)
 *         ◀──────────────────────── idle         (nothing runs)
 *   report ──────────────────────▶
 *         ◀──────────────────────── reported
 *         ◀──────────────────────── output       (whenever there is some)
 *   terminate ───────────────────▶               (TERM to everything)
 *   leave ───────────────────────▶               (only ever sent to an idle jail)
 */
const dispatcherToJailer = once(() =>
  v.variant("type", [
    hello("dispatcher"),
    v.strictObject({
      type: v.literal("exec"),
      id: requestId,
      ...programWords,
      env: environment,
      /** Milliseconds since the epoch; afterwards nobody waits for it any more. */
      before: milliseconds,
    }),
    v.strictObject({ type: v.literal("attach"), id: requestId, program: programName }),
    v.strictObject({ type: v.literal("hangup"), program: programName }),
    v.strictObject({ type: v.literal("signal"), program: programName, signal }),
    v.strictObject({ type: v.literal("heard"), program: programName }),
    v.strictObject({ type: v.literal("report"), id: requestId }),
    v.strictObject({ type: v.literal("terminate") }),
    v.strictObject({ type: v.literal("leave") }),
  ])
);
export type DispatcherToJailer = v.InferOutput<ReturnType<typeof dispatcherToJailer>>;

const jailerToDispatcher = once(() =>
  v.variant("type", [
    hello("jailer"),
    v.strictObject({
      type: v.literal("present"),
      programs: v.array(programReport),
      exits: v.array(v.strictObject({ program: programName, status: exitStatus })),
    }),
    v.strictObject({
      type: v.literal("started"),
      id: requestId,
      program: programReport,
      master: v.boolean(),
    }),
    v.strictObject({ type: v.literal("attached"), id: requestId, master: v.literal(true) }),
    v.strictObject({ type: v.literal("suspended"), program: programName }),
    v.strictObject({
      type: v.literal("refused"),
      id: requestId,
      code: v.picklist(errorCodes),
      message: words,
    }),
    v.strictObject({ type: v.literal("exited"), program: programName, status: exitStatus }),
    v.strictObject({ type: v.literal("idle") }),
    v.strictObject({
      type: v.literal("reported"),
      id: requestId,
      programs: v.array(programReport),
      processes: count,
      memory_bytes: count,
      cpu_ms: count,
    }),
    v.strictObject({ type: v.literal("output"), lines: v.array(outputLine) }),
  ])
);
export type JailerToDispatcher = v.InferOutput<ReturnType<typeof jailerToDispatcher>>;

/*
 * helper                         converter
 *         ◀──────────────────────── progress     (a few times a second)
 *         ◀──────────────────────── done | failed
 *   (the end of the channel) ────▶               (it ends what it has begun, and leaves)
 */
const converterToHelper = once(() =>
  v.variant("type", [
    v.strictObject({ type: v.literal("progress"), ...progressWords }),
    v.strictObject({ type: v.literal("done"), ...convertedWords }),
    v.strictObject({ type: v.literal("failed"), code: v.picklist(errorCodes), message: words }),
  ])
);
export type ConverterToHelper = v.InferOutput<ReturnType<typeof converterToHelper>>;

/** Nothing is said to a converter. */
const helperToConverter = once(() => v.strictObject({ type: v.literal("never") }));
export type HelperToConverter = v.InferOutput<ReturnType<typeof helperToConverter>>;

/** How a role logs; see core/log.ts. */
const logStyle = once(() =>
  v.strictObject({
    format: v.picklist(logFormats),
    journal: v.boolean(),
    debug: v.boolean(),
  })
);

const homeKind = v.picklist(["plain", ...volumeKinds]);
export type HomeKind = v.InferOutput<typeof homeKind>;

/** A piece of work of a converter's. */
const converterWork = once(() =>
  v.variant("what", [
    /** Makes a volume in the folder. The passphrase is the line on its standard input. */
    v.strictObject({
      what: v.literal("make"),
      kind: volumeKind,
      volume: absolutePath,
      /** An empty folder, at which encfs mounts the volume for a moment. */
      scratch: absolutePath,
    }),
    /** Copies all that is in one folder to the other, and verifies the copy. */
    v.strictObject({
      what: v.literal("copy"),
      from: absolutePath,
      to: absolutePath,
      /** What `to` is the mount of. */
      target: homeKind,
      /** Where the volume lies: encfs makes paths of it. */
      stored: absolutePath,
    }),
    /** Changes the passphrase: the old and the new one are two lines on its standard input. */
    v.strictObject({
      what: v.literal("passphrase"),
      kind: volumeKind,
      volume: absolutePath,
      /** A folder of root's own, on the same file system, and the name of one to be made in it. */
      parent: absolutePath,
      scratch: argument,
    }),
    /** Counts all that is in a folder. */
    v.strictObject({ what: v.literal("measure"), folder: absolutePath }),
    /** Removes all that is in a folder of root's own. */
    v.strictObject({ what: v.literal("remove"), folder: absolutePath }),
  ])
);
export type ConverterWork = v.InferOutput<ReturnType<typeof converterWork>>;

/** What a converter is told through its one argument. */
export const converterOptions = once(() =>
  v.strictObject({ log: logStyle(), work: converterWork() })
);
export type ConverterWords = v.InferInput<ReturnType<typeof converterOptions>>;

/*
 * helper                         watchdog
 *   hello ───────────────────────▶
 *         ◀──────────────────────── hello        (what it holds; again and again on each connection)
 *         ◀──────────────────────── unlocked | failed (and it ends)
 *   guard (+a jail's lock) ──────▶               (before the jail is started)
 *   keep ────────────────────────▶
 *   lock ────────────────────────▶
 *         ◀──────────────────────── broken       (its program has ended by itself)
 *         ◀──────────────────────── locked       (and it ends)
 */
const helperToWatchdog = once(() =>
  v.variant("type", [
    hello("helper"),
    v.strictObject({ type: v.literal("guard") }),
    /** 0: for ever. In the past: no longer than for a jail. */
    v.strictObject({ type: v.literal("keep"), until: milliseconds }),
    v.strictObject({ type: v.literal("lock") }),
  ])
);
export type HelperToWatchdog = v.InferOutput<ReturnType<typeof helperToWatchdog>>;

const watchdogToHelper = once(() =>
  v.variant("type", [
    v.strictObject({
      type: v.literal("hello"),
      role: v.literal("watchdog"),
      protocol: count,
      version: v.pipe(v.string(), v.maxLength(64)),
      uid: appUid,
      kind: volumeKind,
      volume: absolutePath,
      until: v.nullable(milliseconds),
    }),
    /** The device of the mount, major:minor. */
    v.strictObject({ type: v.literal("unlocked"), device: v.pipe(v.string(), v.maxLength(32)) }),
    v.strictObject({ type: v.literal("failed"), code: v.picklist(errorCodes), message: words }),
    v.strictObject({ type: v.literal("broken"), why: words }),
    v.strictObject({ type: v.literal("locked"), problem: v.nullable(words) }),
  ])
);
export type WatchdogToHelper = v.InferOutput<ReturnType<typeof watchdogToHelper>>;

/** What a watchdog is told through its one argument. */
export const watchdogOptions = once(() =>
  v.strictObject({
    uid: appUid,
    kind: volumeKind,
    /** Where the volume lies, and the folder of root's in which unlocked homes are. */
    volume: absolutePath,
    vaults: absolutePath,
    log: logStyle(),
  })
);
export type WatchdogOptions = v.InferOutput<ReturnType<typeof watchdogOptions>>;
export type WatchdogWords = v.InferInput<ReturnType<typeof watchdogOptions>>;

/** What the daemon tells its helper half through its one argument. */
export const helperOptions = once(() =>
  v.strictObject({
    bus: v.nullable(argument),
    data_root: absolutePath,
    state_dir: absolutePath,
    runtime_dir: absolutePath,
    first_uid: appUid,
    last_uid: appUid,
    /** The dispatcher's own. */
    dispatcher_uid: ownerUid,
    dispatcher_gid: ownerUid,
    /** The most profiles that one owner may have. */
    most_profiles: v.pipe(count, v.minValue(1)),
    /** How long an idle jail stays, in milliseconds. */
    linger: milliseconds,
    network: v.picklist(["host", "none"]),
    /** Where the profiles are that come with the program; null: there are none. */
    shipped_profiles: v.nullable(absolutePath),
    /** Where the administrator's are, if there are any. */
    admin_profiles: absolutePath,
    /** What a service manager has handed over; core/service.ts. */
    notify: v.nullable(argument),
    listener: v.boolean(),
    log: logStyle(),
  })
);
export type HelperOptions = v.InferOutput<ReturnType<typeof helperOptions>>;

/** What a jailer is told through its one argument. */
export const jailerOptions = once(() =>
  v.strictObject({
    profile: profileName,
    /** As which its programs see themselves. */
    uid: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xfffffffe)),
    /** private: one that the jailer starts; filtered: one that is there. */
    session_bus: v.picklist(["private", "none", "filtered"]),
    /** In how many supplementary groups it has to be: those of its devices. */
    groups: count,
    /** What each program may have, in bytes; null: as much as there is. */
    memory: v.nullable(v.pipe(v.number(), v.integer(), v.minValue(1))),
    /** How many pipes it holds: what has the other end of one, on the host, ends with it. */
    pipes: v.pipe(count, v.maxValue(2)),
  })
);
export type JailerOptions = v.InferOutput<ReturnType<typeof jailerOptions>>;

/** What a dispatcher is told through its one argument. */
export const dispatcherOptions = once(() =>
  v.strictObject({
    bus: v.nullable(argument),
    runtime_dir: absolutePath,
    first_uid: appUid,
    last_uid: appUid,
    linger: milliseconds,
    network: v.picklist(["host", "none"]),
    /** As for the helper; the folder itself comes along, when it is not null. */
    shipped_profiles: v.nullable(absolutePath),
    admin_profiles: absolutePath,
    log: logStyle(),
  })
);
export type DispatcherOptions = v.InferOutput<ReturnType<typeof dispatcherOptions>>;

/**
 * How one end of a channel checks and counts what comes in. See ipc/channel.ts. The schema is made
 * when the first message comes: a role hears two of the six unions at most.
 */
function codec<const S extends v.GenericSchema<unknown, { readonly type: string }>>(
  name: string,
  make: () => S,
  descriptors: (message: v.InferOutput<S>) => number = () => 0,
): {
  readonly decode: (value: unknown) => v.InferOutput<S>;
  readonly descriptors: (message: v.InferOutput<S>) => number;
} {
  return {
    decode: (value) => {
      const result = v.safeParse(make(), value, { abortEarly: true, abortPipeEarly: true });
      if (result.success) return result.output;
      const issue = result.issues[0];
      const path = v.getDotPath(issue);
      // Both parts quote what came, which may be long.
      const where = path === null ? "" : `, at ${path.slice(0, 100)}`;
      throw new TypeError(`No ${name} message${where}: ${issue.message.slice(0, 300)}`);
    },
    descriptors,
  };
}

/** One for each standard stream that is the caller's own. */
function standardStreams(
  message: {
    readonly type: string;
    readonly stdio?: string;
    readonly terminal?: TerminalSpec | null;
  },
): number {
  return message.stdio === "passed" ? 3 - (message.terminal?.streams.length ?? 0) : 0;
}

/** One, when a terminal's master comes along. */
function oneMaster(message: { readonly type: string; readonly master?: boolean }): number {
  return message.master === true ? 1 : 0;
}

/** One, for the messages that carry a pipe or a lock. */
function oneOf<const T extends string>(...types: readonly T[]) {
  return (message: { readonly type: string }): number =>
    types.some((type) => type === message.type) ? 1 : 0;
}
const unlockPipe = oneOf("unlock", "passwd");

/** As many as are named. */
function pipes(message: { readonly type: string; readonly pipes?: number }): number {
  return message.pipes ?? 0;
}

export const fromClient = codec(
  "client",
  clientToDispatcher,
  (message) => message.type === "run" ? standardStreams(message) : pipes(message),
);
export const toClient = codec("dispatcher", dispatcherToClient, oneMaster);
export const toHelper = codec(
  "dispatcher",
  dispatcherToHelper,
  (message) => message.type === "convert" ? pipes(message) : unlockPipe(message),
);
export const fromHelper = codec("helper", helperToDispatcher);
export const toJailer = codec("dispatcher", dispatcherToJailer, standardStreams);
export const fromJailer = codec("jailer", jailerToDispatcher, oneMaster);
export const fromConverter = codec("converter", converterToHelper);
export const toConverter = codec("helper", helperToConverter);
export const toWatchdog = codec("helper", helperToWatchdog, oneOf("guard"));
export const fromWatchdog = codec("watchdog", watchdogToHelper);
