/**
 * ipc/bus.ts against real dbus-daemons with real clients, and against a bus of our own that says
 * what no honest bus would. Its signals and its objects that come and go: signals.test.ts.
 */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { resolveBusAddress } from "../../ipc/bus.ts";
import {
  BUS,
  busctl,
  call,
  encode,
  ERR,
  fakeBus,
  type Fields,
  fromBus,
  gdbus,
  INTERFACE,
  NAME,
  numberOf,
  PATH,
  rawClient,
  run,
  start,
  startDaemon,
  startFake,
  temporaryFolder,
  textOf,
  until,
  Writer,
} from "./private-bus.ts";

/* ---- addresses ---- */

Deno.test("an address is resolved, or refused with a reason", () => {
  equal(
    resolveBusAddress("system", {}),
    "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket",
  );
  const env = {
    DBUS_SYSTEM_BUS_ADDRESS: "unix:path=/sys",
    DBUS_SESSION_BUS_ADDRESS: "unix:path=/ses,guid=00",
  };
  equal(resolveBusAddress("system", env), "unix:path=/sys");
  equal(resolveBusAddress("session", env), "unix:path=/ses,guid=00");
  equal(resolveBusAddress("unix:abstract=/a;unix:path=/b", {}), "unix:abstract=/a;unix:path=/b");
  throws(() => resolveBusAddress("session", {}), /DBUS_SESSION_BUS_ADDRESS is not set/);
  throws(() => resolveBusAddress("unix:abstract=/tmp/x", {}), /abstract= is not supported/);
  throws(() => resolveBusAddress("unixexec:path=/bin/sh", {}), /unixexec: is not supported/);
  throws(() => resolveBusAddress("tcp:host=localhost,port=1", {}), /tcp: is not supported/);
  throws(() => resolveBusAddress("unix:path=relative", {}), /not absolute/);
  throws(() => resolveBusAddress("unix:path=/a%00b", {}), /not absolute/);
  throws(() => resolveBusAddress("unix:guid=1", {}), /no path=/);
  throws(() => resolveBusAddress("nonsense", {}), /not of the form/);
  throws(() => resolveBusAddress(";", {}), /names no address/);
});

/* ---- starting ---- */

Deno.test("a declaration that is wrong is refused before the bus is touched", async () => {
  const method = (type: string) => ({
    methods: [{ name: "M", in: [{ name: "x", type }], out: [] }],
  });
  for (const type of ["h", "ah", "ss", "", "a()", "a{us}", "z"]) {
    await rejects(start("unix:path=/nowhere", method(type)), /Bad (D-Bus declaration|signature)/);
  }
  await rejects(start("unix:path=/nowhere", { path: "/bad/" }), /object path/);
  await rejects(start("unix:path=/nowhere", { interface: `${BUS}.Peer` }), /standard/);
});

Deno.test("an unreachable bus is told in one line", async () => {
  await using place = await temporaryFolder();
  const path = `${place.folder}/none`;
  await rejects(start(`unix:path=${path};unix:path=${path}2`), (error: Error) => {
    match(error.message, /^Cannot reach the bus at .*none: .*none2: /);
    ok(!error.message.includes("\n"));
    return true;
  });
});

Deno.test("a name that another process owns is not taken, nor queued for", async () => {
  await using bus = await startDaemon();
  await using _first = await start(bus.address);
  await rejects(start(bus.address), /Cannot own the bus name .*another process owns it/);
  const { out } = await busctl(
    bus,
    ...["call", BUS, "/", BUS, "ListQueuedOwners", "s", NAME],
  );
  match(out, /^as 1 /);
});

Deno.test("a policy that refuses the name is told as such", async () => {
  await using bus = await startDaemon(`<deny own="*"/>`);
  await rejects(start(bus.address), /the bus's policy refuses it/);
});

Deno.test("a bus that does not answer is given up at the deadline, at every step", async (t) => {
  for (const step of ["AUTH", "Hello", "RequestName"]) {
    await t.step(step, async () => {
      await using bus = await fakeBus();
      const starting = start(bus.address, { deadlineMs: 300 });
      const refused = rejects(starting, /within 300 ms/);
      if (step !== "AUTH") {
        const wire = await bus.accept();
        const hello = await wire.take();
        if (step !== "Hello") {
          await wire.send(fromBus(hello.header.serial, "s", new Writer().string(":1.1")));
          await wire.take();
        }
      }
      await refused;
    });
  }
});

Deno.test("a bus that refuses or ends during the greeting is told, and nothing else happens", async (t) => {
  await t.step("Hello refused", async () => {
    await using bus = await fakeBus();
    const refused = rejects(start(bus.address), /refuses Hello: too many connections/);
    const wire = await bus.accept();
    const hello = await wire.take();
    const body = new Writer().string("too many connections");
    const error = { type: 3, error: `${ERR}.LimitsExceeded` };
    await wire.send(fromBus(hello.header.serial, "s", body, error));
    await refused;
  });
  await t.step("ended", async () => {
    await using bus = await fakeBus();
    const refused = rejects(start(bus.address), /the bus closed the connection/);
    const wire = await bus.accept();
    await wire.take();
    wire[Symbol.dispose]();
    await refused;
  });
});

/* ---- honest clients ---- */

Deno.test("busctl, gdbus and dbus-send call a method, and the bus says who they are", async () => {
  await using bus = await startDaemon();
  await using test = await start(bus.address);
  const uid = Deno.uid();

  const echo = await busctl(
    bus,
    ...["call", NAME, PATH, INTERFACE, "Echo", "sa{sv}", "hi"],
    ...["4", "n", "u", "5", "l", "as", "1", "x", "v", "v", "d", "1.5"],
    ...["m", "a{sv}", "1", "k", "t", "18446744073709551615"],
  );
  equal(
    echo.out.trim(),
    'a{sv} 3 "text" s "hi" "list" av 2 x -5 (sb) "a" true "map" a{s(uo)} 1 "key" 7 "/a"',
    echo.err,
  );
  const [first] = test.calls;
  equal(first?.method, "Echo");
  equal(first?.uid, uid);
  match(first?.sender ?? "", /^:1\.\d+$/);
  const options = first?.args[1];
  equal(Object.getPrototypeOf(options), null);
  deepEqual({ ...(options as object) }, {
    ...{ n: 5, l: ["x"], v: 1.5 },
    m: Object.assign(Object.create(null), { k: 18446744073709551615n }),
  });

  const rows = await busctl(
    bus,
    ...["call", NAME, PATH, INTERFACE, "Rows", "a(sx)ay", "--", "1", "a", "-7", "2", "1", "255"],
  );
  equal(rows.code, 0, rows.err);
  deepEqual(test.calls[1]?.args, [[["a", -7n]], new Uint8Array([1, 255])]);

  const { out } = await gdbus(bus, "Uid");
  equal(out.trim(), `(uint32 ${uid},)`);
  const sent = await run(
    "dbus-send",
    ...[`--bus=${bus.address}`, `--dest=${NAME}`, "--print-reply", PATH, `${INTERFACE}.Uid`],
  );
  match(sent.out, new RegExp(`uint32 ${uid}`));
});

Deno.test("tools find the object from the root, with the names of arguments", async () => {
  await using bus = await startDaemon();
  await using _test = await start(bus.address);
  match((await busctl(bus, "tree", NAME)).out, /\/org\/example\/Test/);
  const walked = await run(
    "gdbus",
    ...["introspect", "--address", bus.address, "-d", NAME, "-o", "/", "--recurse"],
  );
  match(walked.out, /node \/org\/example\/Test \{/);
  match(walked.out, /Echo\(in +s text,\s+in +a\{sv\} options,\s+out a\{sv\} answer\)/);
  const listed = await busctl(bus, "introspect", NAME, PATH);
  match(listed.out, /\.Version +property +s +"1\.2"/);
  match((await gdbus(bus, `${BUS}.Peer.Ping`)).out, /^\(\)/);
  match((await gdbus(bus, `${BUS}.Peer.GetMachineId`)).out, /^\('[0-9a-f]{32}',\)/);
});

Deno.test("properties are read, each caller's own, and never written", async () => {
  await using bus = await startDaemon();
  await using _test = await start(bus.address);
  const get = () => busctl(bus, "get-property", NAME, PATH, INTERFACE, "Version", "Caller");
  equal((await get()).out, `s "1.2"\nu ${Deno.uid()}\n`);
  const all = await gdbus(bus, `${BUS}.Properties.GetAll`, INTERFACE);
  equal(all.out.trim(), `({'Version': <'1.2'>, 'Caller': <uint32 ${Deno.uid()}>},)`);
  equal((await gdbus(bus, `${BUS}.Properties.GetAll`, `${BUS}.Peer`)).out.trim(), "(@a{sv} {},)");
  const set = await gdbus(bus, `${BUS}.Properties.Set`, INTERFACE, "Version", "<'9'>");
  match(set.err, /PropertyReadOnly/);
  const odd = await gdbus(bus, `${BUS}.Properties.Set`, INTERFACE, "Version", "<{'a': <1>}>");
  match(odd.err, /PropertyReadOnly/);
  equal((await get()).out, `s "1.2"\nu ${Deno.uid()}\n`);
  match((await gdbus(bus, `${BUS}.Properties.Get`, INTERFACE, "Nil")).err, /UnknownProperty/);
  match((await gdbus(bus, `${BUS}.Properties.Get`, "org.x.Y", "Nil")).err, /UnknownInterface/);
});

Deno.test("what does not exist is refused with the standard error, and names what was expected", async () => {
  await using bus = await startDaemon();
  await using test = await start(bus.address);
  const at = async (path: string, member: string, ...args: string[]) =>
    (await run(
      "gdbus",
      ...["call", "--address", bus.address, "-d", NAME, "-o", path, "-m", member, ...args],
    )).err;
  match(await at(PATH, `${INTERFACE}.Nothing`), /UnknownMethod.*Nothing/);
  match(await at(PATH, "org.example.Other.Echo"), /UnknownInterface.*org\.example\.Other/);
  match(await at("/elsewhere", `${INTERFACE}.Echo`), /UnknownObject.*\/elsewhere/);
  match(await at("/org", `${INTERFACE}.Echo`), /UnknownInterface/);
  match(await at("/org/example/Test/x", `${BUS}.Introspectable.Introspect`), /UnknownObject/);
  const wrong = await busctl(bus, "call", NAME, PATH, INTERFACE, "Echo", "u", "5");
  match(wrong.err, /takes arguments of signature "sa\{sv\}", not "u"/);
  using client = await rawClient(bus);
  await client.send(call(2, "Echo", { signature: "u", body: new Writer().u32(1) }));
  equal((await client.answer(2)).header.errorName, `${ERR}.InvalidArgs`);
  equal(test.calls.length, 0);
});

Deno.test("an unexpected exception is logged; the caller learns only that it failed", async () => {
  await using bus = await startDaemon();
  const broken = {
    name: "Broken",
    type: "s",
    read: () => {
      throw new Error("secret detail");
    },
  };
  await using test = await start(bus.address, { properties: [broken] });
  for (
    const { err } of [
      await gdbus(bus, "Throw"),
      await gdbus(bus, `${BUS}.Properties.Get`, INTERFACE, "Broken"),
      await gdbus(bus, `${BUS}.Properties.GetAll`, INTERFACE),
    ]
  ) {
    match(err, /org\.freedesktop\.DBus\.Error\.Failed: The request failed/);
    ok(!/secret|\.ts|at /.test(err.replace(/^Error: .*?Error\.Failed/, "")), err);
  }
  ok(test.lines.some((line) => line.includes("secret detail")));
  ok(test.lines.every((line) => !line.includes("\n")));
});

Deno.test("an error that is meant for the caller arrives with its name and text", async () => {
  await using bus = await startDaemon();
  await using _test = await start(bus.address);
  const { err } = await gdbus(bus, "Refuse", "why");
  match(err, /org\.example\.Error\.Refused: no: .why/);
  using client = await rawClient(bus);
  const long = new Writer().string("x".repeat(100_000));
  await client.send(call(2, "Refuse", { signature: "s", body: long }));
  const answer = await client.answer(2);
  equal(answer.header.errorName, "org.example.Error.Refused");
  ok(answer.bytes.length < 4096);
});

Deno.test("a handler's wrong answer becomes an error, and the bus keeps us", async () => {
  await using bus = await startDaemon();
  await using test = await start(bus.address);
  match((await gdbus(bus, "BadPath")).err, /Error\.Failed/);
  match((await gdbus(bus, "BadCount")).err, /Error\.Failed/);
  match((await gdbus(bus, "Huge")).err, /LimitsExceeded/);
  match((await gdbus(bus, "Uid")).out, /uint32/);
  equal(test.lines.length, 2);
});

/* ---- odd but legal ---- */

Deno.test("no answer is sent where none is expected, not even an error", async () => {
  await using bus = await startDaemon();
  await using test = await start(bus.address);
  using client = await rawClient(bus);
  await client.send(
    call(2, "Uid", { flags: 1 }),
    call(3, "Throw", { flags: 1 }),
    call(4, "Nothing", { flags: 1 }),
    call(5, "Uid", { flags: 1, signature: "u", body: new Writer().u32(1) }),
    call(6, "Introspect", { flags: 1, interface: `${BUS}.Introspectable` }),
    call(7, "Uid"),
  );
  while (true) {
    const { header } = await client.take();
    if (header.sender === BUS) continue;
    equal(header.replySerial, 7);
    break;
  }
  deepEqual(test.calls.map(({ method }) => method), ["Uid", "Throw", "Uid"]);
});

Deno.test("a call without an interface is legal", async () => {
  await using bus = await startDaemon();
  await using _test = await start(bus.address);
  using client = await rawClient(bus);
  const bare = (serial: number, member: string): Uint8Array =>
    encode({ serial, destination: NAME, path: PATH, member });
  await client.send(bare(2, "Uid"));
  equal(numberOf(await client.answer(2)), Deno.uid());
  await client.send(bare(3, "Ping"));
  equal((await client.answer(3)).header.type, 2);
  await client.send(bare(4, "Nothing"));
  equal((await client.answer(4)).header.errorName, `${ERR}.UnknownMethod`);
});

Deno.test("a big-endian caller is understood, or refused where dbus-next would misread", async () => {
  await using fake = await startFake();
  const big = (body: Writer, signature: string): Fields => ({ little: false, signature, body });
  const text = new Writer(false).signature("u").u32(258);
  await fake.wire.send(fake.from(":1.2", 2, "Any", big(text, "v")));
  await fake.tellUid(1001);
  equal((await fake.wire.answer(2)).header.type, 2);
  deepEqual(fake.test.calls[0]?.args, [258]);
  const wide = new Writer(false).signature("t").align(8).u32(0).u32(1);
  await fake.wire.send(fake.from(":1.2", 3, "Any", big(wide, "v")));
  equal((await fake.wire.answer(3)).header.errorName, `${ERR}.InvalidArgs`);
});

/* ---- hostile peers ---- */

Deno.test("a file descriptor index without a descriptor is refused, wherever it hides", async () => {
  await using bus = await startDaemon();
  await using test = await start(bus.address);
  using client = await rawClient(bus);
  const hostile: readonly Fields[] = [
    { member: "Uid", signature: "h", body: new Writer().u32(0) },
    { member: "Uid", signature: "ah", body: new Writer().u32(4).u32(0) },
    { member: "Any", signature: "v", body: new Writer().signature("h").u32(0) },
    { member: "Any", signature: "v", body: new Writer().signature("ah").u32(4).u32(7) },
    { member: "Any", signature: "v", body: new Writer().signature("v").signature("h").u32(0) },
    {
      ...{ member: "Set", interface: `${BUS}.Properties`, signature: "ssv" },
      body: new Writer().string(INTERFACE).string("Version").signature("h").u32(0),
    },
  ];
  let serial = 10;
  for (const fields of hostile) {
    await client.send(call(++serial, "Uid", fields));
    equal((await client.answer(serial)).header.errorName, `${ERR}.InvalidArgs`);
  }
  // Not a call either: nobody is told, nothing happens.
  const body = new Writer().u32(0);
  await client.send(
    call(++serial, "Uid", { type: 4, signature: "h", body }),
    call(++serial, "Uid", { type: 2, reply: 2, signature: "h", body }),
    call(++serial, "Uid", { type: 3, reply: 2, error: "a.b", signature: "h", body }),
    call(++serial, "Uid"),
  );
  equal(numberOf(await client.answer(serial)), Deno.uid());
  equal(test.calls.length, 1);
});

Deno.test("signals, errors and answers that nobody asked for are ignored", async () => {
  await using bus = await startDaemon();
  await using _test = await start(bus.address);
  using client = await rawClient(bus);
  for (let serial = 2; serial < 200; serial++) {
    const reply = serial - 1;
    const body = new Writer().string(NAME);
    await client.send(
      call(serial, "x", { type: 2, reply, signature: "u", body: new Writer().u32(0) }),
      call(serial, "x", { type: 3, reply, error: `${ERR}.Failed` }),
      call(serial, "NameLost", { type: 4, interface: BUS, signature: "s", body }),
    );
  }
  await client.send(call(500, "Uid"));
  equal(numberOf(await client.answer(500)), Deno.uid());
});

Deno.test("no peer can say in the bus's place who a caller is", async () => {
  await using fake = await startFake();
  const { wire, test } = fake;
  await wire.send(fake.from(":1.2", 2, "Uid"));
  const question = await wire.take();
  equal(question.header.member, "GetConnectionUnixUser");
  const forged = (sender: string) =>
    fromBus(question.header.serial, "u", new Writer().u32(0), { sender });
  const nobody = new Writer().u32(0);
  await wire.send(
    forged(":1.2"),
    forged(NAME),
    encode({ type: 2, serial: 1, reply: question.header.serial, signature: "u", body: nobody }),
    fromBus(question.header.serial, "u", new Writer().u32(1001)),
  );
  equal(numberOf(await wire.answer(2)), 1001);
  equal(test.calls[0]?.uid, 1001);
});

Deno.test("a sender that left before the bus could name it is dropped", async () => {
  await using fake = await startFake();
  await fake.wire.send(fake.from(":1.2", 2, "Uid"), fake.from(":1.2", 3, "Uid"));
  const question = await fake.wire.take();
  const error = { type: 3, error: `${ERR}.NameHasNoOwner` };
  await fake.wire.send(
    fromBus(question.header.serial, "s", new Writer().string("gone"), error),
    fake.from(":1.3", 4, "Uid"),
  );
  equal(await fake.tellUid(1001), ":1.3");
  const answer = await fake.wire.take();
  equal(answer.header.replySerial, 4);
  equal(fake.test.calls.length, 1);
});

Deno.test("a uid that the bus will not tell makes the call fail, at the deadline at the latest", async () => {
  await using fake = await startFake({ deadlineMs: 300 });
  await fake.wire.send(fake.from(":1.2", 2, "Uid"));
  const answer = await fake.wire.answer(2);
  equal(answer.header.errorName, `${ERR}.Failed`);
  await fake.wire.send(fake.from(":1.3", 3, "Uid"));
  await fake.tellUid(0xffff_ffff);
  equal((await fake.wire.answer(3)).header.errorName, `${ERR}.Failed`);
  equal(fake.test.calls.length, 0);
});

Deno.test("the bus is asked once for each sender, nothing else is asked, and what is kept is bounded", async () => {
  await using fake = await startFake();
  const { wire } = fake;
  const askedFor: string[] = [];
  let serial = 1;
  async function ask(sender: string): Promise<void> {
    await wire.send(fake.from(sender, ++serial, "Uid"));
    while (true) {
      const message = await wire.take();
      if (message.header.replySerial === serial) return;
      // No AddMatch, no NameHasOwner, no Introspect of a peer: this is all that is ever sent.
      equal(message.header.member, "GetConnectionUnixUser");
      askedFor.push(textOf(message));
      await wire.send(fromBus(message.header.serial, "u", new Writer().u32(1001)));
    }
  }
  await ask(":1.2");
  await ask(":1.2");
  deepEqual(askedFor, [":1.2"]);
  for (let peer = 0; peer < 1024; peer++) await ask(`:2.${peer}`);
  equal(askedFor.length, 1025);
  await ask(":1.2");
  equal(askedFor.length, 1026);
});

Deno.test("one uid has its share of the waiting calls, and all have theirs", async () => {
  await using fake = await startFake({ maxCalls: 4, maxCallsPerUid: 2 });
  const { wire, from } = fake;
  for (const [peer, uid] of [[2, 1001], [3, 1001], [4, 1002], [5, 1003]]) {
    await wire.send(from(`:1.${peer}`, 1, "Uid"));
    await fake.tellUid(uid ?? 0);
    await wire.answer(1);
  }
  await wire.send(from(":1.2", 10, "Wait"), from(":1.3", 11, "Wait"), from(":1.3", 12, "Wait"));
  equal((await wire.answer(12)).header.errorName, `${ERR}.LimitsExceeded`);
  await wire.send(from(":1.4", 13, "Wait"), from(":1.4", 14, "Wait"), from(":1.5", 15, "Wait"));
  equal((await wire.answer(15)).header.errorName, `${ERR}.LimitsExceeded`);
  // Before its uid is known, one connection cannot take more either.
  fake.test.release();
  for (const serial of [10, 11, 13, 14]) equal((await wire.answer(serial)).header.type, 2);
  await wire.send(from(":1.9", 20, "Uid"), from(":1.9", 21, "Uid"), from(":1.9", 22, "Uid"));
  const question = await wire.take();
  equal((await wire.answer(22)).header.errorName, `${ERR}.LimitsExceeded`);
  await wire.send(fromBus(question.header.serial, "u", new Writer().u32(1004)));
  equal((await wire.answer(20)).header.type, 2);
  equal((await wire.answer(21)).header.type, 2);
});

Deno.test("waiting calls hold no more bytes than one uid's share", async () => {
  await using fake = await startFake({
    methods: [{ name: "Wait", in: [{ name: "text", type: "s" }], out: [] }],
  });
  const body = new Writer().string("x".repeat(1024 * 1024 - 1024));
  const large = fake.from(":1.2", 2, "Wait", { signature: "s", body });
  const small = { signature: "s", body: new Writer().string("") };
  await fake.wire.send(fake.from(":1.2", 1, "Wait", small));
  await fake.tellUid(1001);
  for (let sent = 0; sent < 6; sent++) await fake.wire.send(large);
  equal((await fake.wire.answer(2)).header.errorName, `${ERR}.LimitsExceeded`);
  fake.test.release();
  equal((await fake.wire.answer(1)).header.type, 2);
});

Deno.test("malformed messages are refused or dropped, and the next call is served", async (t) => {
  await using fake = await startFake();
  const { wire } = fake;
  await wire.send(fake.from(":1.2", 1, "Uid"));
  await fake.tellUid(1001);
  await wire.answer(1);

  const inVariant = (type: string, write: (writer: Writer) => void): Fields => {
    const body = new Writer().signature(type);
    write(body);
    return { member: "Any", signature: "v", body };
  };
  const deep = new Writer();
  for (let level = 0; level < 200; level++) deep.signature("v");
  deep.signature("y").byte(1);
  const echo = (write: (writer: Writer) => void): Fields => {
    const body = new Writer();
    write(body);
    return { member: "Echo", signature: "sa{sv}", body };
  };
  const refused: Readonly<Record<string, Fields>> = {
    "an array of empty structures": inVariant("a()", (body) => body.u32(0xffff_fff0)),
    "an array longer than the message": inVariant("a(y)", (body) => body.u32(0x7fff_ffff).u32(0)),
    "bytes longer than the message": inVariant("ay", (body) => body.u32(0xffff_ffff)),
    "an array that ends inside an element": inVariant("au", (body) => body.u32(6).u32(1).u32(2)),
    "a string longer than the message": inVariant("s", (body) => body.u32(0xffff_ffff)),
    "a string without its NUL": inVariant("s", (body) => body.u32(1).byte(65, 65)),
    "a string with a NUL inside": inVariant("s", (body) => body.string("a\0b")),
    "a string that is not UTF-8": inVariant("s", (body) => body.u32(2).byte(0xc3, 0x28, 0)),
    "a boolean of 2": inVariant("b", (body) => body.u32(2)),
    "a bad object path": inVariant("o", (body) => body.string("a//b")),
    "a bad signature value": inVariant("g", (body) => body.signature("a{")),
    "a variant of nothing": inVariant("", () => {}),
    "a variant of two": inVariant("yy", (body) => body.byte(1, 2)),
    "an unknown type": inVariant("m", (body) => body.u32(0)),
    "an unclosed structure": inVariant("(s", (body) => body.string("")),
    "a lone dictionary entry": inVariant("{sv}", (body) => body.align(8).string("")),
    "variants that nest for ever": { member: "Any", signature: "v", body: deep },
    "padding that is not zero": inVariant("u", (body) => body.byte(9).u32(1)),
    "more values than anyone needs": inVariant("ab", (body) => {
      body.u32(80_000);
      for (let at = 0; at < 20_000; at++) body.u32(1);
    }),
    "a body cut short": echo((body) => body.string("x")),
    "something after the end": echo((body) => body.string("x").u32(0).align(8).u32(1)),
    "a dictionary with the key __proto__": echo((body) =>
      body.string("x").u32(26).align(8).string("__proto__").signature("s").string("v")
    ),
    "descriptors announced": { member: "Uid", fds: 3 },
  };
  let serial = 10;
  const lives = async () => {
    await wire.send(fake.from(":1.2", ++serial, "Uid"));
    const answer = await wire.take();
    equal(answer.header.replySerial, serial);
    equal(numberOf(answer), 1001);
  };
  for (const [name, fields] of Object.entries(refused)) {
    await t.step(`refused: ${name}`, async () => {
      await wire.send(fake.from(":1.2", ++serial, "Any", fields));
      const answer = await wire.take();
      equal(answer.header.replySerial, serial);
      equal(answer.header.errorName, `${ERR}.InvalidArgs`);
      await lives();
    });
  }

  const good = (more: Fields = {}) => fake.from(":1.2", ++serial, "Uid", more);
  const patched = (patch: (bytes: Uint8Array, view: DataView) => void, more: Fields = {}) => {
    const bytes = good(more);
    patch(bytes, new DataView(bytes.buffer));
    return bytes;
  };
  const dropped: Readonly<Record<string, () => Uint8Array>> = {
    "an unknown message type": () => good({ type: 9 }),
    "serial 0": () => patched((_, view) => view.setUint32(8, 0, true)),
    "no sender": () => encode({ serial: 9, path: PATH, member: "Uid" }),
    "a well-known sender": () => good({ sender: NAME }),
    "no member": () => encode({ serial: 9, path: PATH, sender: ":1.2" }),
    "no path": () => encode({ serial: 9, member: "Uid", sender: ":1.2" }),
    "a malformed path": () => good({ path: "//" }),
    "a malformed member": () => good({ member: "a.b" }),
    "a malformed interface": () => good({ interface: "a" }),
    "a field twice": () => good({ extra: [[3, "s", (writer) => writer.string("Uid")]] }),
    "a field with a wrong type": () => good({ extra: [[9, "s", (writer) => writer.string("1")]] }),
    "field 0": () => good({ extra: [[0, "u", (writer) => writer.u32(1)]] }),
    "a bad unknown field": () => good({ extra: [[77, "a()", (writer) => writer.u32(9)]] }),
    "a descriptor in an unknown field": () =>
      good({ extra: [[77, "h", (writer) => writer.u32(0)]] }),
    "a body without a signature": () => good({ body: new Writer().u32(1) }),
    "a signature without a body": () => good({ signature: "u" }),
    "a bad signature": () =>
      good({ type: 4, sender: BUS, signature: "((", body: new Writer().u32(1) }),
    "fields that overrun": () =>
      patched((bytes, view) => view.setUint32(12, bytes.length - 17, true)),
    "an error of the bus without a name": () => good({ type: 3, sender: BUS, reply: 3 }),
    "an answer of the bus with no question": () =>
      good({ type: 2, sender: BUS, reply: 4_000_000_000 }),
    "a signal of the bus with h": () =>
      good({ type: 4, sender: BUS, signature: "h", body: new Writer().u32(0) }),
    "enormous header fields": () => good({ path: `/${"x".repeat(100_000)}` }),
  };
  for (const [name, make] of Object.entries(dropped)) {
    await t.step(`dropped: ${name}`, async () => {
      const bytes = make();
      if (name === "fields that overrun") {
        // The length stays within the message, so that the stream stays in step.
        equal(bytes.length % 8, 0);
      }
      await wire.send(bytes);
      await lives();
    });
  }

  await t.step("an unknown but sound header field is passed over", async () => {
    await wire.send(good({ extra: [[77, "as", (writer) => writer.u32(0)]] }));
    equal(numberOf(await wire.answer(serial)), 1001);
  });
  await t.step("one byte at a time, and two messages at once", async () => {
    for (const byte of good()) await wire.send(new Uint8Array([byte]));
    equal(numberOf(await wire.answer(serial)), 1001);
    const [one, two] = [good(), good()];
    await wire.send(new Uint8Array([...one, ...two]));
    equal(numberOf(await wire.answer(serial - 1)), 1001);
    equal(numberOf(await wire.answer(serial)), 1001);
  });
  await t.step("a message too large is refused, and its body is not kept", async () => {
    const size = 64 * 1024 * 1024;
    const head = patched((_, view) => view.setUint32(4, size, true), { signature: "ay" });
    await wire.send(head);
    const answer = await wire.take();
    equal(answer.header.errorName, `${ERR}.LimitsExceeded`);
    const chunk = new Uint8Array(1024 * 1024);
    for (let sent = 0; sent < size; sent += chunk.length) await wire.send(chunk);
    await lives();
  });
  await t.step("a flood of it does not flood the log", async () => {
    const before = fake.test.lines.length;
    const bad = good({ type: 9 });
    for (let sent = 0; sent < 2000; sent++) await wire.send(bad);
    await lives();
    ok(fake.test.lines.length - before < 100, String(fake.test.lines.length - before));
  });
});

Deno.test("a stream that is out of step ends the connection", async (t) => {
  const garbage: Readonly<Record<string, (bytes: Uint8Array, view: DataView) => void>> = {
    "no endianness": (bytes) => bytes.fill(0x7a, 0, 1),
    "another protocol": (bytes) => bytes.fill(2, 3, 4),
    "a body above 2^27": (_, view) => view.setUint32(4, 2 ** 27, true),
    "fields above 2^27": (_, view) => view.setUint32(12, 2 ** 32 - 1, true),
  };
  for (const [name, patch] of Object.entries(garbage)) {
    await t.step(name, async () => {
      await using fake = await startFake();
      const bytes = call(2, "Uid", { sender: ":1.2" });
      patch(bytes, new DataView(bytes.buffer));
      await fake.wire.send(bytes);
      match(await fake.test.service.closed, /the connection to the bus failed/);
    });
  }
});

Deno.test("while answers are not taken, no more calls are read; and not for ever", async () => {
  await using fake = await startFake({ deadlineMs: 1000 });
  const one = fake.from(":1.2", 2, "Introspect", { interface: `${BUS}.Introspectable` });
  const many = new Uint8Array(one.length * 1000);
  for (let at = 0; at < many.length; at += one.length) many.set(one, at);
  let taken = 0;
  const flood = (async () => {
    while (taken < 64 * 1024 * 1024) {
      await fake.wire.send(many);
      taken += many.length;
    }
  })().catch(() => {});
  match(await fake.test.service.closed, /took nothing for 1000 ms/);
  await flood;

  ok(taken < 1024 * 1024, `${taken} bytes were read`);
});

Deno.test("a flood of calls through a real bus leaves the service to others", async () => {
  await using bus = await startDaemon();
  await using _test = await start(bus.address);
  using attacker = await rawClient(bus);
  for (let serial = 2; serial < 5000; serial++) await attacker.send(call(serial, "Wait"));
  const refused = await attacker.answer(4999);
  equal(refused.header.errorName, `${ERR}.LimitsExceeded`);
  ok(refused.header.sender !== BUS);
  match((await gdbus(bus, `${BUS}.Peer.Ping`)).out, /^\(\)/);
});

/* ---- the end ---- */

Deno.test("the bus's death is noticed at once, and what waits fails", async () => {
  await using bus = await startDaemon();
  await using test = await start(bus.address);
  await bus.kill();
  match(await test.service.closed, /the bus closed the connection/);

  await using fake = await startFake();
  await fake.wire.send(fake.from(":1.2", 2, "Uid"));
  equal((await fake.wire.take()).header.member, "GetConnectionUnixUser");
  await fake.test.service.close();
  await until(() => fake.test.lines.length > 0, "the waiting question failed");
  match(fake.test.lines[0] ?? "", /a call of :1\.2 failed: .*closed by the service/);
  equal(fake.test.calls.length, 0);
});

Deno.test("a lost name ends the service, another's does not", async () => {
  await using fake = await startFake();
  const lost = (name: string, sender: string) =>
    encode({
      ...{ type: 4, serial: 5, path: "/org/freedesktop/DBus", interface: BUS, member: "NameLost" },
      ...{ sender, signature: "s", body: new Writer().string(name) },
    });
  await fake.wire.send(lost("org.example.Other", BUS), lost(NAME, ":1.2"));
  await fake.wire.send(fake.from(":1.2", 2, "Uid"));
  await fake.tellUid(1001);
  equal(numberOf(await fake.wire.answer(2)), 1001);
  await fake.wire.send(lost(NAME, BUS));
  match(await fake.test.service.closed, /the bus name org\.example\.Test was lost/);
});

Deno.test("close sends what is waiting, and gives the name up", async () => {
  await using fake = await startFake({
    methods: [{ name: "Large", in: [], out: [{ name: "text", type: "s" }] }],
    handle: () => Promise.resolve(["x".repeat(1_000_000)]),
  });
  await fake.wire.send(fake.from(":1.2", 2, "Large"));
  await fake.tellUid(1001);
  // It has begun to come, and more than a socket holds is still to come.
  await fake.wire.begun();
  const closing = fake.test.service.close();
  equal(textOf(await fake.wire.answer(2)).length, 1_000_000);
  await closing;
  equal(await fake.test.service.closed, "closed by the service");
  equal(await fake.wire.next(), null);

  await using bus = await startDaemon();
  const test = await start(bus.address);
  await test.service.close();
  await using _again = await start(bus.address);
});

/* ---- as it will be run ---- */

Deno.test({
  name: "bundled, with no npm cache, three permissions and another uid, it joins and serves",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using bus = await startDaemon();
    const { folder } = bus;
    await Deno.chmod(bus.socket, 0o666);
    const source = new URL("../../ipc/bus.ts", import.meta.url).href;
    await Deno.writeTextFile(
      `${folder}/probe.ts`,
      `import { serveBus } from ${JSON.stringify(source)};
const service = await serveBus({
  address: ${
        JSON.stringify(bus.address)
      }, name: "${NAME}", path: "${PATH}", interface: "${INTERFACE}",
  methods: [{ name: "Me", in: [], out: [{ name: "uid", type: "u" }] }], properties: [],
  handle: (call: { uid: number }) => Promise.resolve([call.uid]), log: console.error,
});
console.log("ready");
await service.closed;
`,
    );
    const config = new URL("../../deno.json", import.meta.url).pathname;
    const deno = Deno.execPath();
    const bundled = await run(
      deno,
      ...["bundle", "--quiet", "--no-lock", "--config", config, "-o", `${folder}/probe.js`],
      `${folder}/probe.ts`,
    );
    equal(bundled.code, 0, bundled.err);
    let program = deno;
    // nobody: dbus-daemon turns away a uid that has no passwd entry.
    const as = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    if ((await run("setpriv", ...as, deno, "--version").catch(() => ({ code: 1 }))).code !== 0) {
      program = `${folder}/deno`;
      await Deno.copyFile(deno, program);
      await Deno.chmod(program, 0o755);
    }
    await Deno.mkdir(`${folder}/empty`);
    await Deno.chown(`${folder}/empty`, 65534, 65534);
    const child = new Deno.Command("setpriv", {
      args: [
        ...as,
        ...[program, "run", "--no-prompt", "--no-config", "--no-remote", "--no-npm"],
        ...[`--allow-read=${bus.socket}`, `--allow-write=${bus.socket}`],
        ...[`--allow-net=unix:${bus.socket}`, `${folder}/probe.js`],
      ],
      ...{ cwd: "/", stdin: "null", stdout: "piped", stderr: "inherit", clearEnv: true },
      env: { DENO_DIR: `${folder}/empty`, HOME: "/", PATH: "/usr/bin:/bin" },
    }).spawn();
    try {
      const reader = child.stdout.getReader();
      equal(new TextDecoder().decode((await reader.read()).value), "ready\n");
      await reader.cancel();
      const uid = await busctl(bus, "call", NAME, PATH, INTERFACE, "Me");
      equal(uid.out.trim(), "u 0", uid.err);
      const owner = await busctl(bus, "call", BUS, "/", BUS, "GetConnectionUnixUser", "s", NAME);
      equal(owner.out.trim(), "u 65534");
    } finally {
      child.kill("SIGKILL");
      await child.status;
    }
  },
});
