/** ipc/tty.ts on real pseudo-terminals. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import {
  duplicate,
  Fd,
  isTerminal,
  open,
  readSome,
  setNonblocking,
  writeAll,
} from "../../ipc/fd.ts";
import {
  applySettings,
  areEqual,
  controlCharacters,
  discardInput,
  hiddenLine,
  isHungUp,
  isInForeground,
  openPseudoTerminal,
  rawSettings,
  reopenTerminal,
  setSize,
  settingsOf,
  sizeOf,
  VEOF,
  VINTR,
  withoutEcho,
  withoutProcessing,
} from "../../ipc/tty.ts";
import { poller } from "../../ipc/poller.ts";
import { isCloseOnExec, leakingNothing } from "../scratch.ts";

/** A terminal whose ends are closed with the stack, and answer at once. */
function terminal(stack: DisposableStack) {
  const { master, slave } = openPseudoTerminal();
  for (const fd of [master, slave]) {
    stack.use(fd);
    setNonblocking(fd.number);
  }
  const settings = settingsOf(slave.number);
  ok(settings !== undefined);
  return { master, slave, settings };
}

/** So many bytes: the kernel passes them on in its own time. */
async function read(fd: Fd, size: number): Promise<readonly number[]> {
  const bytes: number[] = [];
  const buffer = new Uint8Array(4096);
  while (bytes.length < size) {
    await poller.readable(fd.number);
    bytes.push(...buffer.subarray(0, readSome(fd.number, buffer) ?? 0));
  }
  return bytes;
}

/** That nothing has come. To be asked when what would have been first has come elsewhere. */
function isEmpty(fd: Fd): boolean {
  return readSome(fd.number, new Uint8Array(1)) === undefined;
}

/** That these bytes come, and no others before them. */
async function comes(fd: Fd, bytes: Uint8Array): Promise<void> {
  deepEqual(await read(fd, bytes.length), [...bytes]);
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

Deno.test("both ends are terminals, of this process alone", async () => {
  await leakingNothing(() => {
    using stack = new DisposableStack();
    const { master, slave } = terminal(stack);
    for (const fd of [master, slave]) {
      equal(isTerminal(fd.number), true);
      equal(isCloseOnExec(fd.number), true);
      // It is nobody's controlling terminal.
      equal(isInForeground(fd.number), false);
    }
  });
});

Deno.test("settings are read as the kernel has them, and set as they were read", () => {
  using stack = new DisposableStack();
  const { slave, settings } = terminal(stack);
  equal(settings.cc.length, controlCharacters);
  // ^C and ^D, as every new terminal has them.
  deepEqual([settings.cc[VINTR], settings.cc[VEOF]], [3, 4]);
  const cc = settings.cc.map((_, at) => at + 1);
  applySettings(slave.number, { ...settings, cc });
  deepEqual(settingsOf(slave.number), { ...settings, cc });
  applySettings(slave.number, settings);
  deepEqual(settingsOf(slave.number), settings);
});

Deno.test("a raw terminal passes every byte as it is, both ways; one that is not, does not", async () => {
  using stack = new DisposableStack();
  const { master, slave, settings } = terminal(stack);
  const all = Uint8Array.from({ length: 256 }, (_, at) => at);
  writeAll(slave.number, bytesOf("a\nb"));
  await comes(master, bytesOf("a\r\nb"));
  applySettings(slave.number, rawSettings(settings));
  deepEqual(rawSettings(settings), rawSettings(rawSettings(settings)));
  writeAll(master.number, all);
  await comes(slave, all);
  ok(isEmpty(master), "there is an echo");
  writeAll(slave.number, all);
  await comes(master, all);
});

Deno.test("without an echo lines are still lines", async () => {
  using stack = new DisposableStack();
  const { master, slave, settings } = terminal(stack);
  writeAll(master.number, bytesOf("x\r"));
  await comes(master, bytesOf("x\r\n"));
  await comes(slave, bytesOf("x\n"));
  applySettings(slave.number, withoutEcho(settings));
  writeAll(master.number, bytesOf("secret\r"));
  await comes(slave, bytesOf("secret\n"));
  ok(isEmpty(master), "there is an echo");
});

Deno.test("without processing what is written is shown as it is, and lines are still typed", async () => {
  using stack = new DisposableStack();
  const { master, slave, settings } = terminal(stack);
  applySettings(slave.number, withoutProcessing(settings));
  deepEqual(settingsOf(slave.number), withoutProcessing(settings));
  writeAll(slave.number, bytesOf("a\nb\r\n\tc"));
  await comes(master, bytesOf("a\nb\r\n\tc"));
  // Only what goes out is another's to make lines of.
  writeAll(master.number, bytesOf("typed\r"));
  await comes(slave, bytesOf("typed\n"));
  await comes(master, bytesOf("typed\n"));
});

Deno.test("the size is what it was set to, also where it is nonsense", () => {
  using stack = new DisposableStack();
  const { master, slave } = terminal(stack);
  deepEqual(sizeOf(slave.number), { rows: 0, columns: 0, width: 0, height: 0 });
  for (
    const [rows, columns, width, height] of [
      [24, 80, 640, 480],
      [1, 2, 3, 4],
      Array(4).fill(65_535),
    ]
  ) {
    const size = { rows, columns, width, height } as Parameters<typeof setSize>[1];
    setSize(master.number, size);
    deepEqual(sizeOf(slave.number), size);
  }
});

Deno.test("a terminal that is opened again is the same one, but does not share its flags", () => {
  using stack = new DisposableStack();
  const { master, slave } = openPseudoTerminal();
  stack.use(master), stack.use(slave);
  using again = reopenTerminal(slave.number);
  ok(again !== undefined && isTerminal(again.number));
  // The one that was inherited would block here.
  equal(readSome(again.number, new Uint8Array(1)), undefined);
  const blocking = (fd: Fd): boolean =>
    !/^flags:\t\d*4\d{3}$/m.test(Deno.readTextFileSync(`/proc/self/fdinfo/${fd.number}`));
  deepEqual([blocking(slave), blocking(again)], [true, false]);
  equal(reopenTerminal(-1), undefined);
});

Deno.test("the end is seen when every process has closed the other one", async () => {
  const { master, slave } = openPseudoTerminal();
  using _master = master;
  setNonblocking(master.number);
  const second = duplicate(slave.number);
  slave.close();
  equal(readSome(master.number, new Uint8Array(1)), undefined);
  second.close();
  await poller.readable(master.number);
  throws(() => readSome(master.number, new Uint8Array(1)), (error) => isHungUp(error));
  equal(isHungUp(new Error("EIO")), false);
});

Deno.test("what is no terminal is told as none", () => {
  using file = open("/dev/null", 2);
  equal(settingsOf(file.number), undefined);
  equal(settingsOf(-1), undefined);
  equal(isInForeground(file.number), false);
  throws(() => sizeOf(file.number), { code: "ENOTTY" });
  throws(() => setSize(file.number, { rows: 1, columns: 1, width: 0, height: 0 }), {
    code: "ENOTTY",
  });
  const { master, slave } = openPseudoTerminal();
  using _slave = slave;
  const settings = settingsOf(master.number);
  ok(settings !== undefined);
  master.close();
  throws(() => applySettings(file.number, settings), { code: "ENOTTY" });
});

Deno.test("a hidden line is a whole one, is not shown, and is told apart from what it was", () => {
  using stack = new DisposableStack();
  const { master, slave, settings } = terminal(stack);
  const hidden = hiddenLine(settings);
  ok(areEqual(settings, { ...settings, cc: [...settings.cc] }));
  ok(!areEqual(settings, hidden));
  ok(!areEqual(settings, { ...settings, cc: settings.cc.with(VINTR, 1) }));
  // Whatever it was set to: a line has its end, and is what was typed.
  for (const before of [settings, rawSettings(settings), { ...settings, iflag: 0o100640 }]) {
    applySettings(slave.number, hiddenLine(before));
    writeAll(master.number, new TextEncoder().encode("One \x7f\r"));
    const buffer = new Uint8Array(16);
    equal(readSome(slave.number, buffer), 4);
    equal(new TextDecoder().decode(buffer.subarray(0, 4)), "One\n");
    equal(readSome(master.number, buffer), undefined);
  }
});

Deno.test("what was typed and not read can be thrown away", () => {
  using stack = new DisposableStack();
  const { master, slave } = terminal(stack);
  writeAll(master.number, new TextEncoder().encode("one\ntwo\nhal"));
  discardInput(slave.number);
  equal(readSome(slave.number, new Uint8Array(16)), undefined);
  writeAll(master.number, new TextEncoder().encode("three\n"));
  equal(readSome(slave.number, new Uint8Array(16)), 6);
});
