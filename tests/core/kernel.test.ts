/** core/kernel.ts, as far as it needs no root: files by descriptor, and what a child is given. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { Fd, open, pipe, readAll, readSome } from "../../ipc/fd.ts";
import {
  changeMode,
  createFile,
  effectiveUid,
  execute,
  exists,
  isExecutable,
  makeFolder,
  namesIn,
  openFile,
  openFolder,
  openLock,
  openPidfd,
  ownPid,
  readLink,
  readText,
  reap,
  removeFile,
  removeFolder,
  rename,
  renameNew,
  signalPidfd,
  signalProcess,
  spawn,
  statusAt,
  statusBehind,
  statusOf,
  symbolicLink,
  synchronize,
  touch,
  tryLock,
} from "../../core/kernel.ts";
import { leakingNothing, Scratch } from "../scratch.ts";

// No timer, no wait and no process outlives its test.
Deno.test.sanitizer({ ops: true, resources: true });

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

// --- Files ---------------------------------------------------------------------------------------

Deno.test("a folder or a file is opened itself, and never what a link in its place points to", () => {
  using scratch = new Scratch();
  scratch.folder("folder");
  scratch.file("file", "text");
  using root = openFolder("root", scratch.path);
  symbolicLink("folder", root, "to-folder");
  symbolicLink("file", root, "to-file");
  symbolicLink("nowhere", root, "to-nothing");
  using _folder = openFolder(root, "folder");
  using file = openFile(root, "file");
  equal(textOf(readAll(file.number, 100)), "text");
  for (const name of ["to-folder", "file", "to-file", "to-nothing"]) {
    throws(() => openFolder(root, name), { code: "ENOTDIR" });
  }
  for (const name of ["to-file", "to-folder", "to-nothing"]) {
    throws(() => openFile(root, name), { code: "ELOOP" });
    throws(() => openLock(root, name), { code: "ELOOP" });
    throws(() => touch(root, name), { code: "ELOOP" });
    throws(() => createFile(root, name, 0o600), { code: "EEXIST" });
  }
  equal(exists(`${scratch.path}/nowhere`), false);
  equal(readLink(root, "to-folder"), "folder");
  equal(readLink(root, "folder"), undefined);
  throws(() => openFolder(root, "none"), { code: "ENOENT" });
  for (let i = 0; i < 2; i++) {
    deepEqual(
      [...namesIn(root)].sort(),
      [...Deno.readDirSync(scratch.path)].map((one) => one.name).sort(),
    );
  }
});

Deno.test("a pipe in a file's place keeps nobody waiting", () => {
  using scratch = new Scratch();
  new Deno.Command("mkfifo", { args: [`${scratch.path}/fifo`] }).outputSync();
  using root = openFolder("root", scratch.path);
  using fifo = openFile(root, "fifo");
  equal(statusOf(fifo).kind, "other");
  equal(readAll(fifo.number, 10).length, 0);
  using _lock = openLock(root, "fifo");
  equal(readText(`${scratch.path}/fifo`), "");
});

Deno.test("what a file is, is told as the system tells it", () => {
  using scratch = new Scratch();
  scratch.file("file", "12345", 0o640);
  Deno.linkSync(`${scratch.path}/file`, `${scratch.path}/second`);
  scratch.folder("folder");
  Deno.symlinkSync("file", `${scratch.path}/link`);
  using root = openFolder("root", scratch.path);
  for (const name of ["file", "folder", "link"]) {
    const info = Deno.lstatSync(`${scratch.path}/${name}`);
    const { inode, modified, accessed, stored, ...status } = statusAt(root, name) ?? {};
    ok(inode?.endsWith(`:${info.ino}`));
    equal(modified?.[0], Math.floor((info.mtime?.getTime() ?? 0) / 1000));
    equal(accessed?.[0], Math.floor((info.atime?.getTime() ?? 0) / 1000));
    equal(stored, (info.blocks ?? 0) * 512);
    deepEqual(status, {
      kind: name,
      mode: (info.mode ?? 0) & 0o7777,
      uid: info.uid,
      gid: info.gid,
      links: info.nlink,
      size: info.size,
      type: (info.mode ?? 0) & 0o170000,
      device: info.rdev,
      immutable: false,
    });
  }
  equal(statusAt(root, "none"), undefined);
  equal(statusBehind(`${scratch.path}/link`)?.kind, "file");
  for (const path of ["none", "file/x", `${"x".repeat(300)}`]) {
    equal(statusBehind(`${scratch.path}/${path}`), undefined);
  }
  equal(isExecutable(`${scratch.path}/file`), false);
  equal(isExecutable("/bin/sh"), true);
});

Deno.test("files are made, renamed and removed, and what is there already is told, not taken", () => {
  using scratch = new Scratch();
  using root = openFolder("root", scratch.path);
  const before = Deno.umask(0);
  try {
    createFile(root, "new", 0o640).close();
    equal(statusAt(root, "new")?.mode, 0o640);
    equal(makeFolder(root, "folder", 0o751), true);
    equal(statusAt(root, "folder")?.mode, 0o751);
  } finally {
    Deno.umask(before);
  }
  equal(makeFolder(root, "folder", 0o700), false);
  equal(makeFolder(root, "new", 0o700), false);
  throws(() => createFile(root, "new", 0o600), { code: "EEXIST" });
  {
    using folder = openFolder(root, "folder");
    changeMode(folder, 0o700);
    synchronize(folder);
  }
  equal(statusAt(root, "folder")?.mode, 0o700);
  touch(root, "other");
  equal(renameNew(root, "other", "new"), false);
  equal(renameNew(root, "other", "third"), true);
  rename(root, "third", "new");
  deepEqual([...namesIn(root)].sort(), ["folder", "new"]);
  equal(removeFile(root, "none"), false);
  equal(removeFolder(root, "none"), false);
  throws(() => removeFolder(root, "new"), { code: "ENOTDIR" });
  throws(() => removeFile(root, "folder"), { code: "EISDIR" });
  touch(root, "folder/x");
  throws(() => removeFolder(root, "folder"), { code: "ENOTEMPTY" });
  equal(removeFile(root, "folder/x"), true);
  equal(removeFolder(root, "folder"), true);
  equal(removeFile(root, "new"), true);
  deepEqual(namesIn(root), []);
});

Deno.test("a lock is one's alone until the last copy of it is closed", () => {
  using scratch = new Scratch();
  using root = openFolder("root", scratch.path);
  const first = openLock(root, "lock");
  equal(tryLock(first), true);
  equal(tryLock(first), true);
  using second = openLock(root, "lock");
  equal(tryLock(second), false);
  first.close();
  equal(tryLock(second), true);
});

Deno.test("text that is gone, or is not text, is told as nothing", () => {
  for (const path of ["/no such file", "/etc", "/proc/self/mem/x", "/proc/999999999/stat"]) {
    equal(readText(path), undefined, path);
  }
  ok(readText("/proc/self/status")?.includes(`Pid:\t${Deno.pid}`));
});

// --- Processes -----------------------------------------------------------------------------------

/** Starts a program with its output in a pipe, and waits for both. */
function outcome(
  options: Omit<Parameters<typeof spawn>[0], "descriptors">,
  more: readonly number[] = [],
): { readonly text: string; readonly raw: number; readonly pid: number } {
  const { read, write } = pipe();
  using _read = read, _write = write;
  using nothing = open("/dev/null", 0);
  const pid = spawn({
    ...options,
    descriptors: [nothing.number, write.number, write.number, ...more],
  });
  write.close();
  let text = "";
  const buffer = new Uint8Array(4096);
  for (;;) {
    const count = readSome(read.number, buffer) ?? 0;
    if (count === 0) break;
    text += textOf(buffer.subarray(0, count));
  }
  for (;;) {
    const child = reap();
    if (child === "none ended") continue;
    ok(typeof child === "object", "it was lost");
    if (child.pid === pid) return { text, raw: child.status, pid };
  }
}

/** A shell script, with an empty environment. */
const script = (text: string) => ({ path: "/bin/sh", argv: ["sh", "-c", text], env: {} });

Deno.test("a program has the descriptors that it was given and no other (attack 10)", async () => {
  await leakingNothing(() => {
    // Open here, one of them even for whoever is executed.
    using secret = open("/etc/passwd", 0);
    using stack = new DisposableStack();
    const libc = stack.adopt(
      Deno.dlopen("libc.so.6", { dup2: { parameters: ["i32", "i32"], result: "i32" } }),
      (library) => library.close(),
    );
    libc.symbols.dup2(secret.number, 77);
    using _loose = new Fd(77);
    const listing = script("ls /proc/$$/fd; :");
    equal(outcome(listing).text, "0\n1\n2\n");
    equal(outcome(listing, [secret.number]).text, "0\n1\n2\n3\n");
    equal(outcome(script("head -c 4 <&3"), [secret.number]).text, "root");
  });
});

Deno.test("the descriptors come in their order, also where one is in another's place", async () => {
  using scratch = new Scratch();
  await leakingNothing(() => {
    // So many that their own numbers are among those that they are to have.
    const files = Array.from({ length: 50 }, (_, at) => open(scratch.file(`${at}`, `${at} `), 0));
    const numbers = files.map((fd) => fd.number).reverse();
    const numbersThere = numbers.map((_, at) => at + 3);
    ok(numbers.some((number) => numbersThere.includes(number)), "the test needs them to overlap");
    // A shell's redirection knows numbers of one digit; /proc knows them all.
    const { text } = outcome(
      script(`cat ${numbersThere.map((at) => `/proc/self/fd/${at}`).join(" ")}`),
      numbers,
    );
    equal(text, files.map((_, at) => `${49 - at} `).join(""));
    for (const fd of files) fd.close();
  });
  using file = open(scratch.file("twice", "text"), 0);
  equal(outcome(script("head -c 1 <&5; cat <&3"), Array(3).fill(file.number)).text, "text");
});

Deno.test("a program has its arguments, environment and folder as they were given", () => {
  using scratch = new Scratch();
  const words = ["", "a b", "$(id)", "-rf", "ä😀", "\n"];
  const { text } = outcome({
    path: "/bin/sh",
    argv: ["called so", "-c", 'pwd; printf "%s|" "$0" "$@"; /usr/bin/env', "zero", ...words],
    env: { A: "b=c", EMPTY: "", TWO: "\n" },
    cwd: scratch.path,
  });
  equal(
    text.replace(/^PWD=.*\n/m, "").replace(/^OLDPWD=.*\n/m, ""),
    `${scratch.path}\nzero|${words.map((word) => `${word}|`).join("")}A=b=c\nEMPTY=\nTWO=\n\n`,
  );
});

Deno.test("a session of its own is asked for, and only then", () => {
  // Field 6 of stat is the session.
  const session = "read -r _ _ _ _ _ session _ < /proc/$$/stat; echo $session";
  const own = outcome({ ...script(session), session: true });
  equal(own.text, `${own.pid}\n`);
  const shared = outcome(script(session));
  ok(shared.text !== `${shared.pid}\n`);
});

Deno.test("a program starts with every signal as the system has it", () => {
  const { text } = outcome({
    path: "/bin/grep",
    argv: ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"],
    env: {},
  });
  deepEqual(text.trim().split("\n").map((line) => Number(`0x${line.split("\t")[1]}`)), [0, 0]);
});

Deno.test("the end of a program is told by its raw status", () => {
  equal(outcome(script("exit 7")).raw, 7 << 8);
  equal(outcome(script("kill -9 $$")).raw & 0x7f, 9);
  equal(reap(), "no child");
});

Deno.test("a program that cannot be started is told why, and costs nothing", async () => {
  using scratch = new Scratch();
  const cases = {
    [`${scratch.path}/none`]: "ENOENT",
    [scratch.file("plain")]: "EACCES",
    [scratch.folder("folder")]: "EACCES",
    [scratch.file("text", "no program\n", 0o755)]: "ENOEXEC",
    [scratch.file("lost", "#!/nonexistent/interpreter\n", 0o755)]: "ENOENT",
  };
  await leakingNothing(() => {
    for (const [path, code] of Object.entries(cases)) {
      throws(() => outcome({ path, argv: ["x"], env: {} }), { code, call: "exec" });
      equal(reap(), "no child");
    }
    throws(() => outcome({ ...script("true"), cwd: `${scratch.path}/none` }), { code: "ENOENT" });
    throws(() => outcome({ ...script("true"), argv: ["sh", "x".repeat(131_072)] }), {
      code: "E2BIG",
    });
    throws(() => outcome({ ...script("true"), argv: ["a\0b"] }), TypeError);
    throws(() => outcome({ ...script("true"), env: { A: "x\0B=y" } }), TypeError);
    throws(() => outcome(script("true"), [-1]), { code: "EBADF" });
  });
});

Deno.test("to become a program that is not there fails, and nothing is lost", () => {
  throws(() => execute("/nonexistent", ["x"], {}), { code: "ENOENT" });
  equal(ownPid(), Deno.pid);
  equal(effectiveUid(), Deno.uid());
});

Deno.test("a pidfd means one process and no other", () => {
  const { read, write } = pipe();
  const pid = spawn({ ...script("read _"), descriptors: [read.number, 2, 2] });
  read.close();
  using pidfd = openPidfd(pid);
  ok(pidfd !== undefined);
  equal(signalPidfd(pidfd, 0), true);
  equal(signalPidfd(pidfd, 15), true);
  let child = reap();
  while (child === "none ended") child = reap();
  deepEqual(child, { pid, status: 15 });
  equal(signalPidfd(pidfd, 9), false);
  equal(signalProcess(pid, 0), false);
  equal(openPidfd(pid), undefined);
  for (const none of [0, -1, 2 ** 31 - 1]) equal(openPidfd(none), undefined);
  throws(() => signalPidfd(new Fd(-1), 9), { code: "EBADF" });
  write.close();
});

Deno.test("a started program has the soft limit of descriptors that it is given", () => {
  const own = outcome(script("ulimit -n")).text;
  equal(outcome({ ...script("ulimit -n"), softDescriptors: 100n }).text, "100\n");
  // Never above the hard one, and ours is as it was.
  const hard = outcome(script("ulimit -Hn")).text;
  equal(outcome({ ...script("ulimit -n"), softDescriptors: 1n << 40n }).text, hard);
  equal(outcome(script("ulimit -n")).text, own);
});
