/**
 * core/protocol.ts: every message of the eight unions comes through as it was sent, and nothing that
 * differs from one comes through at all (attack 22).
 */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { decodePayload, encodeFrame, FrameReader } from "../../ipc/frame.ts";
import { errorCodes } from "../../core/errors.ts";
import { parse, signalNames } from "../../core/names.ts";
import {
  type ClientToDispatcher,
  dispatcherOptions,
  type DispatcherToClient,
  type DispatcherToHelper,
  type DispatcherToJailer,
  fromClient,
  fromHelper,
  fromJailer,
  fromWatchdog,
  helperOptions,
  type HelperToDispatcher,
  type HelperToWatchdog,
  jailerOptions,
  type JailerToDispatcher,
  plainSpec,
  protocolVersion,
  toClient,
  toHelper,
  toJailer,
  toWatchdog,
  volumeKinds,
  type WatchdogToHelper,
} from "../../core/protocol.ts";
import type { Brand, BrandName } from "valibot";
import { Random } from "../random.ts";
import { noSession } from "../../core/session.ts";

/** A message as it is written, before its names and numbers are parsed: without their brands. */
type Plain<T> = T extends Brand<BrandName> ? (T extends string ? string : number)
  : T extends string | number | boolean | null ? T
  : { readonly [K in keyof T]: Plain<T[K]> };

/** For every type of a union its messages: a type that is missing does not compile. */
type Samples<U extends { readonly type: string }> = {
  readonly [T in U["type"]]: readonly Plain<Extract<U, { readonly type: T }>>[];
};

const [profile, program] = ["work", "work.1"];
const [uid, owner] = [1100, 1000];
const hello = <R extends string>(role: R) =>
  ({ type: "hello", role, protocol: protocolVersion, version: "0.1.0" }) as const;
const ends = [
  { by: "exit", code: 0 },
  { by: "exit", code: 255 },
  { by: "signal", signal: 9, core: false },
  { by: "signal", signal: 127, core: true },
] as const;
const programs = [
  {
    program,
    argv: ["sh", "-c", "echo \u{1f600}"],
    pid: 2,
    cwd: "/home/work",
    terminal: true,
    started: 1_700_000_000_000,
  },
  {
    program: "work.2",
    argv: ["--tmpfs"],
    pid: 0x7fffffff,
    cwd: "/",
    terminal: false,
    started: 0,
  },
];
const cc = Array.from({ length: 19 }, (_, at) => at);
const terminals = [
  null,
  { streams: [0, 1, 2], size: { rows: 24, columns: 80, width: 0, height: 0 }, settings: null },
  {
    streams: [1],
    size: { rows: 0xffff, columns: 0, width: 640, height: 480 },
    settings: { iflag: 0xffffffff, oflag: 0, cflag: 0o277, lflag: 1, cc },
  },
] as const;
const lines = [
  { sequence: 0, program, stream: "stdout", text: "", at: 0 },
  { sequence: 5, program, stream: "stderr", text: "\x1b[2J\n", at: 1_700_000_000_000 },
] as const;
const homes = [
  { kind: null, unlocked: false, until: null, problem: null },
  { kind: "encfs", unlocked: true, until: 0, problem: null },
  { kind: "gocryptfs", unlocked: false, until: 1_700_000_000_000, problem: "it is damaged" },
] as const;
const [home] = homes;
const lend = { name: "x", path: "/home/a/x", write: true };
const lends = [
  { ...lend, until: null, at: "/home/work/x", context: true },
  { ...lend, write: false, until: 1_700_000_000_000, at: null, context: false },
];
const limits = {
  memory: { most: 2 ** 29, by: "rlimit" },
  processes: { most: 100, by: "cgroup" },
  cpu: { most: 50.5, by: "nothing" },
} as const;

const report = {
  profile,
  owner,
  uid,
  started: 1,
  processes: 3,
  memory_bytes: 5,
  cpu_ms: 7,
  home,
  changed: true,
  lends,
  limits: { memory: null, processes: null, cpu: null },
};

const listed = {
  profile,
  running: false,
  changed: true,
  description: "words",
  executables: ["x"],
  problems: 1,
};
const fault = { file: "words", line: 3, message: "words" };

const happened = { sequence: 0, at: 5, owner, profile, uid };
const events: Samples<DispatcherToClient>["happened"][number]["events"] = [
  { event: "jail-started", ...happened },
  ...(["idle", "asked", "lost"] as const).map((reason) => ({
    event: "jail-stopped" as const,
    ...happened,
    reason,
    why: null,
  })),
  { event: "jail-stopped", ...happened, reason: "failed", why: "words" },
  { event: "program-started", ...happened, program, command: "x" },
  { event: "program-exited", ...happened, program, status: { by: "exit", code: 0 } },
  { event: "home-unlocked", ...happened },
  { event: "home-locked", ...happened, note: null },
  { event: "home-locked", ...happened, note: "words" },
  { event: "lent", ...happened, ...lend, until: null },
  { event: "lent", ...happened, ...lend, until: 7 },
  ...(["asked", "expired", "done"] as const).map((reason) => ({
    event: "unlent" as const,
    ...happened,
    name: lend.name,
    reason,
  })),
  ...errorCodes.map((code) => ({
    event: "refused" as const,
    ...happened,
    profile: null,
    uid: null,
    request: "run",
    code,
    message: "words",
  })),
];
const counted = {
  starts: 1,
  joins: 2,
  programs: 3,
  wrong_passphrases: 4,
  failures: errorCodes.map((code) => ({ code, times: 5 })),
  start_ms: { min: 1.5, median: 2, p95: 3, max: 4 },
  join_ms: null,
};

const clientToDispatcher: Samples<ClientToDispatcher> = {
  hello: [hello("client")],
  run: [
    ...terminals.map((terminal) => ({
      type: "run" as const,
      profile: "work",
      argv: ["sh", "-c", ""],
      cwd: "/tmp",
      cwd_required: true,
      env: { A: "b" },
      inherited: { LANG: "C" },
      session: { ...noSession, DISPLAY: ":0" },
      lend: [{ word: 1, name: "x", path: "/home/a/x" }],
      terminal,
      stdio: "passed" as const,
    })),
    {
      type: "run",
      profile: null,
      argv: null,
      cwd: null,
      cwd_required: false,
      env: {},
      inherited: {},
      session: noSession,
      lend: [],
      terminal: null,
      stdio: "log",
    },
    {
      type: "run",
      profile: null,
      argv: ["x"],
      cwd: null,
      cwd_required: false,
      env: {},
      inherited: {},
      session: noSession,
      lend: [],
      terminal: null,
      stdio: "log",
    },
  ],
  attach: [{ type: "attach", program }],
  kill: signalNames.map((signal) => ({ type: "kill", program, signal })),
  wait: [{ type: "wait", program, jail: "1" }, { type: "wait", program, jail: null }],
  signal: signalNames.map((signal) => ({ type: "signal", signal })),
  status: [
    { type: "status", profile: null, everyone: true },
    { type: "status", profile, everyone: false },
  ],
  stop: [
    { type: "stop", profiles: [], force: false, timeout: 0, lock: false },
    { type: "stop", profiles: [profile, "other"], force: true, timeout: 3_600_000, lock: true },
  ],
  unlock: [{ type: "unlock", profile, keep: null }, { type: "unlock", profile, keep: 1 }],
  encrypt: [null, ...volumeKinds].map((kind) => ({
    type: "encrypt",
    profile,
    kind,
    make: false,
    anew: true,
  })),
  decrypt: [{ type: "decrypt", profile, anew: false }],
  passwd: [{ type: "passwd", profile }],
  confirm: [{ type: "confirm", keep: true }, { type: "confirm", keep: false }],
  passphrase: [{ type: "passphrase", pipes: 1 }, { type: "passphrase", pipes: 2 }],
  lend: [
    { type: "lend", profile, ...lend, keep: null },
    { type: "lend", profile, ...lend, keep: 600_000 },
  ],
  unlend: [{ type: "unlend", profile, name: "Übersicht 1.pdf" }],
  logs: [{ type: "logs", profile, follow: true }],
  events: [
    { type: "events", profile: null, everyone: true, follow: false, since: 0 },
    { type: "events", profile, everyone: false, follow: true, since: 5 },
  ],
  stats: [true, false].map((everyone) => ({ type: "stats", everyone })),
  profiles: [{ type: "profiles" }],
  plan: [{ type: "plan", profile, session: noSession }],
  written: [{ type: "written" }],
  show: [{ type: "show", profile }],
  check: [{ type: "check", profile, text: "" }],
  write: [
    { type: "write", profile, text: 'network = "none"\n', before: null },
    { type: "write", profile, text: "x", before: "y" },
  ],
  diff: [{ type: "diff", profile }],
  forget: [true, false].map((home) => ({ type: "forget", profile, home })),
};

const progress = { phase: "copying", files: 1, files_total: 2, bytes: 3, bytes_total: 4 } as const;

const dispatcherToClient: Samples<DispatcherToClient> = {
  hello: [hello("dispatcher")],
  started: [true, false].map((master) => ({
    type: "started",
    program,
    profile,
    uid,
    jail: "1",
    cwd: "/",
    windows: master ? null : "context",
    master,
  })),
  attached: [true, false].map((master) => ({
    type: "attached",
    program,
    profile,
    jail: "1",
    master,
  })),
  suspended: [{ type: "suspended", program }],
  detached: [{ type: "detached", program }],
  exited: ends.map((status) => ({ type: "exited", program, status })),
  reported: [
    { type: "reported", jails: [] },
    {
      type: "reported",
      jails: [
        { ...report, state: "running", jailer_pid: 5, programs, limits },
        { ...report, state: "silent", jailer_pid: null, programs: [] },
        ...homes.map((home) => ({
          ...report,
          state: "locked" as const,
          jailer_pid: null,
          programs: [],
          home,
        })),
      ],
    },
  ],
  stopped: [
    { type: "stopped", profile, owner, ran: false, killed: 0, problem: null },
    { type: "stopped", profile, owner: 0, ran: true, killed: 3, problem: "it does not end" },
  ],
  output: [{ type: "output", lines }, { type: "output", lines: [] }],
  happened: [
    ...events.map((event) => ({ type: "happened" as const, events: [event], missed: 0 })),
    { type: "happened", events: [...events], missed: 3 },
    { type: "happened", events: [], missed: 1 },
  ],
  counted: [
    { type: "counted", figures: { owner, since: 5, ...counted, profiles: [] } },
    {
      type: "counted",
      figures: { owner, since: 5, ...counted, profiles: [{ profile, ...counted }] },
    },
  ],
  listed: [{ type: "listed", profiles: [{ profile, uid, running: true }] }],
  written: [
    { type: "written", profiles: [] },
    {
      type: "written",
      profiles: [
        { ...listed, from: ["shipped", "admin", "own"], uid: null },
        { ...listed, from: [], uid },
      ],
    },
  ],
  layer: (["shipped", "admin", "own"] as const).map((layer) => ({
    type: "layer",
    layer,
    file: "words",
    text: "gpu = true\n",
  })),
  resolved: [uid, null].map((uid) => ({
    type: "resolved",
    values: [
      { key: "network", value: '"host"', from: null },
      { key: "gpu", value: "true", from: "words" },
    ],
    problems: [fault],
    uid,
    running: true,
    changed: false,
  })),
  checked: [{ type: "checked", problems: [] }, { type: "checked", problems: [fault] }],
  planned: [{
    type: "planned",
    uid: null,
    shown: 1000,
    home: "words",
    running: false,
    spec: plainSpec,
  }],
  compared: [{
    type: "compared",
    changes: [
      { key: "gpu", below: "false", own: "true", from: "words", wider: true },
      { key: "gpu", below: "true", own: "false", from: null, wider: false },
    ],
  }],
  passphrase: volumeKinds.flatMap((kind) =>
    (["unlock", "new", "change"] as const).map((purpose) => ({
      type: "passphrase",
      profile,
      kind,
      tries: 2,
      purpose,
    }))
  ),
  progress: [{ type: "progress", ...progress }],
  measured: [{ type: "measured", uid, files: 0, bytes: 2 ** 50 }],
  converted: [{ type: "converted", copied: null }, {
    type: "converted",
    copied: { files: 1, bytes: 2, notes: ["words"] },
  }],
  note: [{ type: "note", text: "words" }],
  done: [{ type: "done" }],
  failed: errorCodes.map((code) => ({ type: "failed", code, message: "words" })),
};

const dispatcherToHelper: Samples<DispatcherToHelper> = {
  hello: [hello("dispatcher")],
  ready: [{ type: "ready" }],
  allocate: [{ type: "allocate", id: 1, owner, profile }],
  homes: [{ type: "homes", id: 0, uids: [] }, { type: "homes", id: 0, uids: [uid] }],
  unlock: [{ type: "unlock", id: 3, uid }],
  keep: [{ type: "keep", id: 3, uid, until: 0 }],
  lock: [{ type: "lock", id: 3, uid }],
  conversion: [{ type: "conversion", id: 3, uid }],
  convert: ([1, 2] as const).map((pipes) => ({
    type: "convert",
    id: 3,
    uid,
    what: pipes === 1 ? "decrypt" : "encrypt",
    kind: "encfs",
    pipes,
  })),
  settle: [{ type: "settle", id: 3, uid, keep: true }],
  passwd: [{ type: "passwd", id: 3, uid }],
  measure: [{ type: "measure", id: 3, uid }],
  remove: [{ type: "remove", id: 3, uid }],
  cancel: [{ type: "cancel", id: 3, uid }],
  lend: [{ type: "lend", id: 3, uid, ...lend, until: null }],
  unlend: [{ type: "unlend", id: 3, uid, name: "x" }],
  start: [
    { type: "start", id: 2, uid, spec: plainSpec },
    { type: "start", id: 2, uid, spec: { ...plainSpec, network: "none", shared: false } },
    {
      type: "start",
      id: 2,
      uid,
      spec: { ...plainSpec, x11: { number: 0, authority: "/home/a/.Xauthority", required: true } },
    },
    {
      type: "start",
      id: 2,
      uid,
      spec: {
        ...plainSpec,
        lend: [
          { ...lend, at: null, skip_missing: true, unless: null, context: "none" },
          {
            ...lend,
            at: "/home/work/x",
            skip_missing: false,
            unless: lend.name,
            context: "required",
          },
        ],
      },
    },
  ],
  end: [
    { type: "end", id: Number.MAX_SAFE_INTEGER, uid, jail: null },
    { type: "end", id: 1, uid, jail: "5-1" },
  ],
};

const live = { uid, pid: 5, started: 1, jail: "1", encrypted: false, limits };
const helperToDispatcher: Samples<HelperToDispatcher> = {
  hello: [hello("helper")],
  welcome: [
    { type: "welcome", allocations: [{ uid, owner, profile }], jails: [live] },
    { type: "welcome", allocations: [], jails: [] },
  ],
  allocated: [{ type: "allocated", id: 1, uid }],
  homes: [{ type: "homes", id: 1, homes: homes.map((home) => ({ uid, home })) }],
  unlocked: [{ type: "unlocked", id: 1 }],
  kept: [{ type: "kept", id: 1 }],
  locked: [
    { type: "locked", id: 1, problem: null },
    { type: "locked", id: 1, problem: "it is mounted still" },
  ],
  conversion: [
    { type: "conversion", id: 1, left: null },
    ...(["copying", "discarding", "switched", "removing"] as const).map((phase) => ({
      type: "conversion" as const,
      id: 1,
      left: { what: "encrypt" as const, kind: "gocryptfs" as const, phase, made: true },
    })),
  ],
  progress: [{ type: "progress", id: 1, ...progress }],
  converted: [{ type: "converted", id: 1, files: 1, bytes: 2, notes: [] }],
  settled: [{ type: "settled", id: 1, kept: null }, { type: "settled", id: 1, kept: "/data/1" }],
  measured: [{ type: "measured", id: 1, files: 3, bytes: 0 }],
  removed: [
    { type: "removed", id: 1, remains: [] },
    { type: "removed", id: 1, remains: ["1100.plain"] },
  ],
  changed: [{ type: "changed", id: 1 }],
  lent: [{ type: "lent", id: 1 }],
  unlent: [{ type: "unlent", id: 1 }],
  lends: [{ type: "lends", uid, lends }, { type: "lends", uid, lends: [] }],
  starting: [{ type: "starting", id: 1 }],
  started: [{ type: "started", id: 1, live }],
  ended: [
    { type: "ended", uid, problem: null, said: null, why: null, note: null },
    {
      type: "ended",
      uid,
      problem: "it did not start",
      said: "bwrap: no",
      why: "no home",
      note: "x",
    },
  ],
  home: [
    { type: "home", uid, unlocked: true, note: null },
    { type: "home", uid, unlocked: false, note: "words" },
  ],
  locking: [{ type: "locking", uid, why: null }, { type: "locking", uid, why: "words" }],
  refused: errorCodes.map((code) => ({ type: "refused", id: 1, code, message: "words" })),
};

const dispatcherToJailer: Samples<DispatcherToJailer> = {
  hello: [hello("dispatcher")],
  exec: [
    ...terminals.map((terminal) => ({
      type: "exec" as const,
      id: 1,
      before: 5,
      argv: ["x", ""],
      env: { A: "" },
      cwd: null,
      cwd_required: false,
      terminal,
      stdio: "passed" as const,
    })),
    {
      type: "exec",
      id: 2,
      before: 5,
      argv: ["x"],
      env: {},
      cwd: "/",
      cwd_required: true,
      terminal: null,
      stdio: "log",
    },
  ],
  signal: signalNames.map((signal) => ({ type: "signal", program, signal })),
  attach: [{ type: "attach", id: 1, program }],
  hangup: [{ type: "hangup", program }],
  heard: [{ type: "heard", program }],
  report: [{ type: "report", id: 1 }],
  terminate: [{ type: "terminate" }],
  leave: [{ type: "leave" }],
};

const jailerToDispatcher: Samples<JailerToDispatcher> = {
  hello: [hello("jailer")],
  present: [
    { type: "present", programs, exits: ends.map((status) => ({ program, status })) },
    { type: "present", programs: [], exits: [] },
  ],
  started: programs.map((one) => ({
    type: "started",
    id: 1,
    program: one,
    master: one.terminal,
  })),
  attached: [{ type: "attached", id: 1, master: true }],
  suspended: [{ type: "suspended", program }],
  refused: errorCodes.map((code) => ({ type: "refused", id: 1, code, message: "words" })),
  exited: ends.map((status) => ({ type: "exited", program, status })),
  idle: [{ type: "idle" }],
  reported: [{ type: "reported", id: 1, programs, processes: 2, memory_bytes: 5, cpu_ms: 7 }],
  output: [{ type: "output", lines }],
};

const helperToWatchdog: Samples<HelperToWatchdog> = {
  hello: [hello("helper")],
  guard: [{ type: "guard" }],
  keep: [{ type: "keep", until: 0 }],
  lock: [{ type: "lock" }],
};

const watchdogToHelper: Samples<WatchdogToHelper> = {
  hello: volumeKinds.map((kind) => ({
    ...hello("watchdog"),
    uid,
    kind,
    volume: "/data/1100",
    until: null,
  })),
  unlocked: [{ type: "unlocked", device: "0:49" }],
  failed: errorCodes.map((code) => ({ type: "failed", code, message: "words" })),
  broken: [{ type: "broken", why: "words" }],
  locked: [{ type: "locked", problem: null }, { type: "locked", problem: "words" }],
};

interface Union {
  readonly name: string;
  readonly decode: (value: unknown) => unknown;
  readonly descriptors: (message: never) => number;
  readonly messages: readonly { readonly type: string }[];
}

function union<M extends { readonly type: string }>(
  name: string,
  codec: { decode: (value: unknown) => M; descriptors: (message: M) => number },
  samples: Samples<M>,
): Union {
  const messages = Object.values<readonly { readonly type: string }[]>(samples).flat();
  return { name, ...codec, messages };
}

const client = union("client to dispatcher", fromClient, clientToDispatcher);
const unions: readonly Union[] = [
  client,
  union("dispatcher to client", toClient, dispatcherToClient),
  union("dispatcher to helper", toHelper, dispatcherToHelper),
  union("helper to dispatcher", fromHelper, helperToDispatcher),
  union("dispatcher to jailer", toJailer, dispatcherToJailer),
  union("jailer to dispatcher", fromJailer, jailerToDispatcher),
  union("helper to watchdog", toWatchdog, helperToWatchdog),
  union("watchdog to helper", fromWatchdog, watchdogToHelper),
];

/** A value of JSON, and where in it something else stands. */
type Path = readonly (string | number)[];

/** Every place in a value, the value itself included. */
function* places(value: unknown, path: Path = []): Generator<{ path: Path; value: unknown }> {
  yield { path, value };
  if (Array.isArray(value)) {
    for (const [at, item] of value.entries()) yield* places(item, [...path, at]);
  } else if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) yield* places(item, [...path, key]);
  }
}

/** The value with something else at a place. */
function altered(value: unknown, path: Path, change: (old: unknown) => unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return change(value);
  if (Array.isArray(value)) {
    return value.map((item, at) => at === first ? altered(item, rest, change) : item);
  }
  return Object.fromEntries(
    Object.entries(value as object).map((
      [key, item],
    ) => [key, key === first ? altered(item, rest, change) : item]),
  );
}

/** The objects of a message whose fields are declared; the environments have any names. */
function records(message: unknown): readonly { path: Path; value: Record<string, unknown> }[] {
  return [...places(message)].filter(({ path, value }) =>
    typeof value === "object" && value !== null && !Array.isArray(value) &&
    !["env", "inherited"].includes(String(path.at(-1)))
  ).map(({ path, value }) => ({ path, value: value as Record<string, unknown> }));
}

function refuses({ name, decode }: Union, value: unknown): void {
  throws(() => decode(value), (error) => {
    ok(error instanceof TypeError);
    ok(error.message.length < 1000, `${error.message.length} characters of error`);
    return true;
  }, `${name}: ${JSON.stringify(value).slice(0, 300)}`);
}

for (const one of unions) {
  Deno.test(`${one.name}: every message comes through as it was sent`, () => {
    const reader = new FrameReader();
    for (const message of one.messages) reader.push(encodeFrame(message));
    for (const message of one.messages) {
      const payload = reader.next();
      ok(payload !== undefined);
      deepEqual(one.decode(decodePayload(payload)), message);
    }
    equal(reader.next(), undefined);
  });

  Deno.test(`${one.name}: a field too many, or too few, is refused, however deep it lies`, () => {
    for (const message of one.messages) {
      for (const { path, value } of records(message)) {
        for (const name of ["extra", "Type", "id ", "toString", "constructor", "__proto__"]) {
          const more = { ...value };
          Object.defineProperty(more, name, { value: 1, enumerable: true });
          refuses(one, altered(message, path, () => more));
        }
        for (const name of Object.keys(value)) {
          const { [name]: _left, ...fewer } = value;
          refuses(one, altered(message, path, () => fewer));
        }
      }
    }
  });

  Deno.test(`${one.name}: an unknown type is refused`, () => {
    for (
      const type of ["", "Run", "run ", "toString", "__proto__", "constructor", null, 0, ["run"]]
    ) {
      for (const message of one.messages) refuses(one, { ...message, type });
    }
    for (const value of [null, undefined, 0, "hello", [], [hello("client")], {}, { types: 1 }]) {
      throws(() => one.decode(value), TypeError);
    }
  });

  Deno.test(`${one.name}: what is accepted is exactly what was sent, whatever is changed in it`, () => {
    const others = [null, true, 0, -1, 1.5, 2 ** 32, 1e300, "", "x", "\0", "/", "../x", [], {}, [
      {},
    ]];
    let [accepted, refused] = [0, 0];
    for (const message of one.messages) {
      for (const { path, value } of places(message)) {
        for (const other of [...others, [value], { value }]) {
          const sent = altered(message, path, () => other);
          try {
            deepEqual(one.decode(sent), sent);
            accepted++;
          } catch (error) {
            ok(error instanceof TypeError && error.message.startsWith("No "), `${error}`);
            refused++;
          }
        }
      }
    }
    ok(refused > 4 * accepted, `${refused} refused, ${accepted} accepted`);
  });
}

Deno.test("random messages are refused, or come through exactly as they were sent", () => {
  const seed = Number(Deno.env.get("APPJAIL_FUZZ_SEED") || Date.now() % 2 ** 32);
  const random = new Random(seed);
  for (let i = 0; i < 5000; i++) {
    const one = random.of(unions);
    let sent: unknown = random.of(one.messages);
    for (let changes = random.below(3); changes >= 0; changes--) {
      const { path } = random.of([...places(sent)]);
      sent = altered(
        sent,
        path,
        () => random.below(3) > 0 ? random.json() : random.of(one.messages),
      );
    }
    try {
      deepEqual(one.decode(sent), sent);
    } catch (error) {
      ok(error instanceof TypeError, `APPJAIL_FUZZ_SEED=${seed}: ${error}`);
    }
  }
});

Deno.test("descriptors are streams that no terminal stands for, or a terminal's other end", () => {
  // But for the pipes of a passphrase, which are counted where there may be two, and the lock of a jail.
  const handed = new Set([
    "dispatcher to helper: unlock",
    "dispatcher to helper: passwd",
    "helper to watchdog: guard",
  ]);
  for (const { name, messages, descriptors } of unions) {
    for (const message of messages) {
      const { stdio, terminal, master, pipes } = message as {
        readonly pipes?: number;
        readonly stdio?: string;
        readonly terminal?: { readonly streams: readonly number[] } | null;
        readonly master?: boolean;
      };
      const expected = stdio === "passed"
        ? 3 - (terminal?.streams.length ?? 0)
        : master === true || handed.has(`${name}: ${message.type}`)
        ? 1
        : pipes ?? 0;
      equal(descriptors(message as never), expected, `${name}: ${message.type}`);
    }
  }
  const having = (field: string): readonly string[] =>
    unions.filter(({ messages }) => messages.some((one) => field in one)).map(({ name }) => name);
  deepEqual(having("stdio"), ["client to dispatcher", "dispatcher to jailer"]);
  deepEqual(having("master"), ["dispatcher to client", "jailer to dispatcher"]);
});

Deno.test("nobody is taken for another by their hello", () => {
  const roles = ["client", "dispatcher", "helper", "jailer", "watchdog", "root", ""];
  for (const one of unions) {
    const role = one.name.split(" ")[0];
    for (const other of roles) {
      // A watchdog says what it holds.
      const more = role === "watchdog"
        ? { uid, kind: "encfs", volume: "/data/1100", until: null }
        : {};
      const said = { ...hello(other), ...more };
      if (other === role) deepEqual(one.decode(said), said);
      else refuses(one, said);
    }
  }
});

Deno.test("__proto__ in the text of a message gives no object another prototype", () => {
  const text = (message: string): unknown => decodePayload(new TextEncoder().encode(message));
  const polluted = (): unknown => (Object.prototype as Record<string, unknown>)["polluted"];
  for (
    const message of [
      '{"type":"profiles","__proto__":{"polluted":1}}',
      '{"__proto__":{"type":"profiles"}}',
      '{"type":"status","profile":null,"__proto__":{"everyone":true}}',
      '{"type":"profiles","constructor":{"prototype":{"polluted":1}}}',
    ]
  ) {
    throws(() => fromClient.decode(text(message)), TypeError);
    equal(polluted(), undefined);
  }
  for (const name of ["__proto__", "constructor", "prototype"]) {
    const run = `{"type":"run","profile":null,"argv":["x"],"cwd":null,"inherited":{},"stdio":"log",
      "env":{"A":"b","${name}":"x"}}`;
    throws(() => fromClient.decode(text(run)), TypeError);
    equal(polluted(), undefined);
  }
});

Deno.test("deep and wide values are refused in bounded time and words", () => {
  const deep = JSON.parse("[".repeat(50_000) + "]".repeat(50_000));
  const wide = Object.fromEntries(Array.from({ length: 2_000 }, (_, at) => [`k${at}`, at]));
  const long = "x".repeat(300_000);
  for (const one of unions) {
    for (const value of [deep, wide, { type: deep }, { type: long }, { [long]: 1 }]) {
      throws(() => one.decode(value), ({ message }: Error) => message.length < 1000);
    }
  }
  const [run] = clientToDispatcher.run;
  ok(run !== undefined);
  for (const value of [deep, long, wide]) {
    for (const name of Object.keys(run)) refuses(client, { ...run, [name]: value });
  }
  refuses(client, { ...run, [long]: 1 });
  refuses(client, { ...run, env: { [long]: "x" } });
});

Deno.test("a word may be long, but not a message", () => {
  const run = { ...clientToDispatcher.run[0], argv: ["x", "y".repeat(131_071)] };
  deepEqual(fromClient.decode(run), run);
  throws(() => encodeFrame({ ...run, argv: Array(9).fill("y".repeat(131_071)) }));
});

Deno.test("the options of the roles are as strict as messages", () => {
  const options = {
    helper: [helperOptions(), {
      bus: null,
      data_root: "/data",
      state_dir: "/var/lib/appjail",
      runtime_dir: "/run/appjail",
      first_uid: 1100,
      last_uid: 1999,
      dispatcher_uid: 100,
      dispatcher_gid: 100,
      most_profiles: 200,
      linger: 5000,
      network: "host",
      shipped_profiles: "/usr/share/appjail/profiles",
      admin_profiles: "/etc/appjail/profiles",
      notify: "/run/systemd/notify",
      listener: true,
      log: { format: "text", journal: false, debug: false },
    }],
    dispatcher: [dispatcherOptions(), {
      bus: "unix:path=/run/bus",
      runtime_dir: "/run/appjail",
      first_uid: 1100,
      last_uid: 1999,
      linger: 0,
      network: "none",
      shipped_profiles: null,
      admin_profiles: "/etc/appjail/profiles",
      log: { format: "text", journal: false, debug: true },
    }],
    jailer: [jailerOptions(), {
      profile,
      uid,
      session_bus: "private",
      pipes: 0,
      groups: 0,
      memory: null,
    }],
  } as const;
  for (const [schema, value] of Object.values(options)) {
    deepEqual(parse(schema, value), { value });
    for (const name of Object.keys(value)) {
      const { [name]: _left, ...fewer } = value as Record<string, unknown>;
      ok("wrong" in parse(schema, fewer), name);
    }
    for (const wrong of [{ ...value, extra: 1 }, null, [], "x"]) {
      ok("wrong" in parse(schema, wrong));
    }
  }
  const [schema, value] = options.helper;
  for (const first_uid of [0, 999, 65_534, -1, 2 ** 32 + 1100, "1100"]) {
    ok("wrong" in parse(schema, { ...value, first_uid }));
  }
  for (const data_root of ["data", "", "/x\0y", null]) {
    ok("wrong" in parse(schema, { ...value, data_root }));
  }
});
