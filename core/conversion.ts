/**
 * Turning a plain home into a volume, or back: what is on the disk at each moment, and how it goes on
 * from there when everything was killed.
 *
 *     DATA/<uid>                     the home, whole at any time
 *     DATA/.<uid>.conversion/        root's alone
 *     DATA/.<uid>.conversion/<uid>   the new home until they change places, then the old one
 *     STATE/volumes/<uid>.conversion what is under way, and how far: the journal
 *
 *     copying ──▶ verified ──▶ switched ──▶ removing ──▶ (nothing)
 *        │                        └── kept: DATA/<uid>.plain or .volume ──▶ (nothing)
 *        └──▶ discarding ──▶ (nothing)
 *
 * While it is copying, the old home is the home, and may be used again after an interruption: the
 * next run copies what has changed. From the moment that it is verified it goes forward alone, and
 * {@linkcode settle} brings it to its end; that is to be called before anything else is done with a
 * home. What takes long (copying, removing) is not done here: cmd/converter.ts.
 *
 * Each function is a series of steps and may be run again whichever of them was the last. It yields
 * after each, so that a test can leave it there, as a power cut would; {@linkcode finish} runs one.
 *
 * @module
 */
import * as v from "valibot";
import { type Fd, readAll, writeAll } from "../ipc/fd.ts";
import { isErrno } from "../ipc/errno.ts";
import { AppjailError } from "./errors.ts";
import {
  changeMode,
  changeOwner,
  createFile,
  exchange,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  openLock,
  readLink,
  readText,
  removeFile,
  removeFolder,
  rename,
  renameNew,
  statusAt,
  statusOf,
  synchronize,
  synchronizeAll,
  tryLock,
} from "./kernel.ts";
import { type AppUid, appUid } from "./names.ts";
import { volumeKinds } from "./protocol.ts";
import { forgetConfig, keepConfig, mountPoints } from "./volume.ts";

const folderName = "volumes";

const phases = ["copying", "verified", "switched", "removing", "discarding"] as const;

/** The journal. */
const conversionFile = v.strictObject({
  version: v.literal(1),
  uid: appUid,
  what: v.picklist(["encrypt", "decrypt"]),
  /** Of the new volume, or of the old one. */
  kind: v.picklist(volumeKinds),
  phase: v.picklist(phases),
  /** Milliseconds since the epoch. */
  started: v.pipe(v.number(), v.integer(), v.minValue(0)),
  /** The inodes of the old home and of the new one, once they are about to change places. */
  homes: v.nullable(v.strictObject({ old: v.string(), new: v.string() })),
});
export type Conversion = v.InferOutput<typeof conversionFile>;
export type ConversionWhat = Conversion["what"];

/** Where homes are, and where is kept what is known of them. */
export interface Places {
  readonly dataRoot: Fd;
  readonly state: Fd;
}

/** A step that was done, by its name. */
export type Steps<T> = Generator<string, T, void>;

/** Does all steps. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const next = steps.next();
    if (next.done === true) return next.value;
  }
}

/** The folder in the data root in which a conversion has what it makes. */
export function workName(uid: AppUid): string {
  return `.${uid}.conversion`;
}

/** What the old home is called when it is kept. */
export function keptName(uid: AppUid, what: ConversionWhat): string {
  return what === "encrypt" ? `${uid}.plain` : `${uid}.volume`;
}

function journalName(uid: AppUid): string {
  return `${uid}.conversion`;
}

function failed(uid: AppUid, why: string): AppjailError {
  return new AppjailError("vault-failed", `Cannot convert the home of uid ${uid}: ${why}`);
}

// --- The journal -----------------------------------------------------------------------------

function openJournalFolder(state: Fd): Fd {
  makeFolder(state, folderName, 0o700);
  return openFolder(state, folderName);
}

/** What is under way for a uid; `undefined` when nothing is. */
export function conversionOf(
  { state }: Pick<Places, "state">,
  uid: AppUid,
): Conversion | undefined {
  let text: string;
  try {
    using folder = openFolder(state, folderName);
    using file = openFile(folder, journalName(uid));
    text = new TextDecoder().decode(readAll(file.number, 64 * 1024));
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const result = v.safeParse(conversionFile, value, { abortEarly: true });
  if (!result.success || result.output.uid !== uid) {
    throw failed(
      uid,
      `${folderName}/${journalName(uid)} in the state folder is not to be understood; it tells ` +
        `which of ${uid} and ${workName(uid)} in the data root is whole`,
    );
  }
  return result.output;
}

/** Writes the journal, durably: a new file, on the disk, in the place of the old one. */
function* write(state: Fd, conversion: Conversion): Steps<Conversion> {
  using folder = openJournalFolder(state);
  synchronize(state);
  const name = journalName(conversion.uid);
  const scratch = `.${name}.new`;
  removeFile(folder, scratch);
  {
    using file = createFile(folder, scratch, 0o600);
    changeMode(file, 0o600);
    writeAll(file.number, new TextEncoder().encode(JSON.stringify(conversion) + "\n"));
    synchronize(file);
  }
  yield `written ${conversion.phase}`;
  rename(folder, scratch, name);
  synchronize(folder);
  yield conversion.phase;
  return conversion;
}

function* forget(state: Fd, uid: AppUid): Steps<void> {
  using folder = openJournalFolder(state);
  removeFile(folder, `.${journalName(uid)}.new`);
  removeFile(folder, journalName(uid));
  synchronize(folder);
  yield "forgotten";
}

/**
 * The right to work on a conversion, one's alone for as long as anybody has it open: it is handed to
 * whoever copies, and to rsync, so that the next one does not begin while they are still there.
 */
export function lockConversion({ state }: Pick<Places, "state">, uid: AppUid): Fd | undefined {
  using folder = openJournalFolder(state);
  const lock = openLock(folder, `${uid}.lock`);
  if (tryLock(lock)) return lock;
  lock.close();
  return undefined;
}

// --- The steps -------------------------------------------------------------------------------

/**
 * Begins a conversion, or goes on with one that was interrupted. Afterwards the folder of the new
 * home is there: empty, or with a copy that is not whole.
 *
 * @param now in milliseconds since the epoch
 */
export function* begin(
  places: Places,
  uid: AppUid,
  { what, kind }: Pick<Conversion, "what" | "kind">,
  now: number,
): Steps<Conversion> {
  const { dataRoot, state } = places;
  const known = conversionOf(places, uid);
  let conversion: Conversion;
  if (known === undefined) {
    refuseMounts(dataRoot, uid);
    if (statusAt(dataRoot, workName(uid)) !== undefined) {
      throw failed(uid, `${workName(uid)} is in the data root, and nothing is known of it`);
    }
    conversion = yield* write(state, {
      version: 1,
      uid,
      what,
      kind,
      phase: "copying",
      started: now,
      homes: null,
    });
  } else if (known.phase !== "copying" || known.what !== what || known.kind !== kind) {
    throw failed(uid, `another conversion is not finished (${known.what}, ${known.kind})`);
  } else {
    refuseMounts(dataRoot, uid);
    conversion = known;
  }
  makeFolder(dataRoot, workName(uid), 0o700);
  using work = openWork(dataRoot, uid);
  synchronize(dataRoot);
  yield "folder made";
  makeFolder(work, String(uid), 0o700);
  using home = openFolder(work, String(uid));
  refuseIfRigid(uid, work, home);
  changeOwner(home, uid, uid);
  changeMode(home, 0o700);
  synchronize(work);
  yield "new home made";
  return conversion;
}

/** The folder is root's alone, whoever made it. */
function openWork(dataRoot: Fd, uid: AppUid): Fd {
  const work = openFolder(dataRoot, workName(uid));
  const { uid: owner, mode } = statusOf(work);
  if (owner === 0 && (mode & 0o077) === 0) return work;
  work.close();
  throw failed(uid, `${workName(uid)} in the data root is not root's alone`);
}

/** What is mounted on a home, or below, would neither be copied nor let it be renamed. */
function refuseMounts(dataRoot: Fd, uid: AppUid): void {
  const root = readLink("root", `/proc/self/fd/${dataRoot.number}`) ?? "";
  for (const name of [String(uid), workName(uid)]) {
    const home = `${root}/${name}`;
    const mounted = mountPoints(readText("/proc/self/mountinfo", 16 * 1024 * 1024))
      .find((point) => point === home || point.startsWith(`${home}/`));
    if (mounted !== undefined) throw failed(uid, `${mounted} is a mount; unmount it first`);
  }
}

/** Tries, before anything is copied, whether two folders can change places here. */
function refuseIfRigid(uid: AppUid, work: Fd, home: Fd): void {
  const name = ".appjail-exchange";
  makeFolder(work, name, 0o700);
  makeFolder(home, name, 0o700);
  const able = exchange(name, work, home);
  removeFolder(work, name);
  removeFolder(home, name);
  if (!able) throw failed(uid, "its file system cannot let two folders change places");
}

/**
 * The copy is the same as the home, and nothing is mounted any more: has it on the disk, and goes on
 * to {@linkcode settle}.
 */
export function* switchOver(places: Places, uid: AppUid): Steps<Conversion | undefined> {
  const { dataRoot, state } = places;
  const conversion = conversionOf(places, uid);
  if (conversion?.phase === "copying") {
    using work = openWork(dataRoot, uid);
    using fresh = openFolder(work, String(uid));
    using home = openFolder(dataRoot, String(uid));
    synchronizeAll(fresh);
    yield "synchronized";
    const homes = { old: inodeOf(home), new: inodeOf(fresh) };
    yield* write(state, { ...conversion, phase: "verified", homes });
  }
  return yield* settle(places, uid);
}

/** Its number in its file system. The device's own may be another after a restart. */
function inodeOf(folder: Fd): string {
  return statusOf(folder).inode.split(":").at(-1) ?? "";
}

/**
 * Brings to its end what must not stand still, and says what is under way then: nothing, a copy that
 * is not whole (copying, discarding), or an old home that is still there (switched, removing).
 */
export function* settle(places: Places, uid: AppUid): Steps<Conversion | undefined> {
  const { dataRoot, state } = places;
  const conversion = conversionOf(places, uid);
  if (conversion === undefined) return undefined;
  if (conversion.phase === "switched" && statusAt(dataRoot, workName(uid)) === undefined) {
    // It was moved away, to be kept.
    yield* forget(state, uid);
    return undefined;
  }
  if (conversion.phase !== "verified") return conversion;
  const { homes, what, kind } = conversion;
  using work = openWork(dataRoot, uid);
  {
    using home = openFolder(dataRoot, String(uid));
    using other = openFolder(work, String(uid));
    const [here, there] = [inodeOf(home), inodeOf(other)];
    if (homes === null || ![homes.old, homes.new].includes(here) || here === there) {
      throw failed(uid, `neither ${uid} nor ${workName(uid)}/${uid} is what it was`);
    }
    if (here === homes.old) {
      if (there !== homes.new) throw failed(uid, `${workName(uid)}/${uid} is another folder now`);
      if (!exchange(String(uid), work, dataRoot)) {
        throw failed(uid, "its file system cannot let two folders change places");
      }
      yield "exchanged";
    }
  }
  synchronize(work);
  synchronize(dataRoot);
  if (what === "encrypt") {
    using home = openFolder(dataRoot, String(uid));
    keepConfig(home, state, uid, kind);
  } else forgetConfig(state, uid);
  yield "configuration kept";
  return yield* write(state, { ...conversion, phase: "switched" });
}

/**
 * The person wants the old home to be gone, or a copy that is not whole. From here on nothing of it
 * is whole; {@linkcode workNames} says what is to be removed, and then {@linkcode removed} follows.
 */
export function* startRemoval(places: Places, uid: AppUid): Steps<Conversion> {
  const conversion = conversionOf(places, uid);
  if (conversion === undefined) throw failed(uid, "nothing is left of one");
  const { phase } = conversion;
  switch (phase) {
    case "removing":
    case "discarding":
      return conversion;
    case "switched":
      return yield* write(places.state, { ...conversion, phase: "removing" });
    case "copying":
      return yield* write(places.state, { ...conversion, phase: "discarding" });
    case "verified":
      throw failed(uid, "it is about to be finished");
    default:
      return phase satisfies never;
  }
}

/** All that was to be removed is gone, but for the folder that it was in. */
export function* removed({ dataRoot, state }: Places, uid: AppUid): Steps<void> {
  removeFolder(dataRoot, workName(uid));
  synchronize(dataRoot);
  yield "folder removed";
  yield* forget(state, uid);
}

/**
 * The person wants to keep the old home. It stays in a folder that is root's alone.
 *
 * @returns the name in the data root
 */
export function* keepOld(places: Places, uid: AppUid): Steps<string> {
  const { dataRoot, state } = places;
  const conversion = conversionOf(places, uid);
  if (conversion?.phase !== "switched") throw failed(uid, "there is no old home");
  const name = keptName(uid, conversion.what);
  let kept = name;
  for (let count = 2; !renameNew(dataRoot, workName(uid), kept); count++) kept = `${name}.${count}`;
  synchronize(dataRoot);
  yield "moved";
  yield* forget(state, uid);
  return kept;
}

/** What stands in the folder of a conversion: what there is to remove. */
export function workNames(dataRoot: Fd, uid: AppUid): readonly string[] {
  try {
    using work = openWork(dataRoot, uid);
    return namesIn(work);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
