/** core/names.ts: what may come in from outside (attacks 3 and 6). */
import { deepEqual, equal, ok } from "node:assert/strict";
import { constants } from "node:os";
import {
  absolutePath,
  appUid,
  argument,
  commandLine,
  environment,
  lendName,
  ownerUid,
  parse,
  profileName,
  programName,
  signalNames,
  signalNumbers,
} from "../../core/names.ts";
import { Random } from "../random.ts";

type Schema = Parameters<typeof parse>[0];

function accepts(schema: Schema, ...values: readonly unknown[]): void {
  for (const value of values) deepEqual(parse(schema, value), { value });
}

function refuses(schema: Schema, ...values: readonly unknown[]): void {
  for (const value of values) {
    const result = parse(schema, value);
    ok("wrong" in result, `${Deno.inspect(value).slice(0, 100)} was accepted`);
    ok(result.wrong.length > 0 && result.wrong.length < 200 && !result.wrong.includes("\n"));
  }
}

const noStrings = [undefined, null, true, 0, 1100, [], ["x"], {}, { length: 1 }, Symbol("x"), 1n];
const noNumbers = [undefined, null, true, "1100", "", [], [1100], {}, 1100n, new Date(1100)];

Deno.test("a profile has a name that is safe as a user's, a folder's and a bus's", () => {
  accepts(profileName, "firefox", "a", "_", "0", "Work_2", "g++", "libreoffice-7.4", "a.b.c");
  accepts(profileName, "x".repeat(64));
  refuses(profileName, ...noStrings);
  refuses(profileName, "", ".", "..", "../x", "a/b", "/", "-rf", "--tmpfs", "+x", ".hidden");
  refuses(profileName, "x".repeat(65), "x".repeat(300), "x".repeat(1_000_000));
  refuses(profileName, "a\n", "\na", "a\nroot:x:0:0", "a\0", "\0", "a\r", "a\t", "a b", " a", "a ");
  refuses(
    profileName,
    "$(id)",
    "`id`",
    "a;b",
    "a&b",
    "a|b",
    "a:b",
    "a,b",
    "a=b",
    "a*",
    "~",
    "a\\b",
  );
  refuses(profileName, "ä", "аpp", /* Cyrillic */ "a\u0301", "ａ", "a\u202eb", "\ud83d", "😀");
  refuses(profileName, "root", "nobody");
  accepts(profileName, "Root", "root2", "nobody-else");
});

Deno.test("no name that is accepted means anything to a path, a shell or passwd(5)", () => {
  const random = new Random(5);
  const alphabet = "aZ09_.+-/\\:$`'\" \n\0\t;&|<>(){}[]*?~!#%^=,@äß😀";
  let accepted = 0;
  for (let i = 0; i < 20_000; i++) {
    const name = random.text(6, random.below(2) === 0 ? "aZ09_.+-" : alphabet);
    const good = /^[A-Za-z0-9_]+$/.test(name.replace(/[.+-]/g, "_")) &&
      !/^[.+-]/.test(name);
    equal("value" in parse(profileName, name), good, JSON.stringify(name));
    if (!good) continue;
    accepted++;
    equal(new URL(name, "file:///home/").pathname, `/home/${name}`);
    equal(`${name}:x:1:1`.split(":").length, 4);
  }
  ok(accepted > 1000);
});

Deno.test("a uid of an owner is anybody's but nobody's", () => {
  accepts(ownerUid, 0, 1, 999, 1000, 1100, 65_533, 65_534, 65_536, 2 ** 31, 2 ** 32 - 2);
  refuses(ownerUid, ...noNumbers);
  refuses(ownerUid, -1, 65_535, 2 ** 32 - 1, 2 ** 32, 1100 + 2 ** 32, 2 ** 53, 1e300);
  refuses(ownerUid, 1.5, 1100.0000001, NaN, Infinity, -Infinity, -1100);
});

Deno.test("a uid of a profile is no system account's, no nobody's, and no other number's in disguise", () => {
  accepts(appUid, 1000, 1100, 1999, 65_533, 65_536, 2 ** 31, 2 ** 32 - 2);
  refuses(appUid, ...noNumbers);
  refuses(appUid, 0, -0, 1, 33, 999, 65_534, 65_535);
  refuses(appUid, -1, -1100, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1100, 2 ** 64, 1e300);
  refuses(appUid, 1100.5, 1099.9999999, NaN, Infinity);
});

Deno.test("a path is absolute, and is what open(2) takes", () => {
  accepts(absolutePath, "/", "/x", "/with space/and\nline", "/ä", "/..", `/${"x".repeat(4094)}`);
  refuses(absolutePath, ...noStrings);
  refuses(absolutePath, "", "x", "./x", "~/x", " /x", "/a\0b", "/\0");
  refuses(absolutePath, `/${"x".repeat(4095)}`, `/${"ä".repeat(2048)}`);
});

Deno.test("a word of a command line is what execve(2) takes", () => {
  accepts(argument, "", " ", "\n", "-rf", "--", "ä😀", "x".repeat(131_071));
  refuses(argument, ...noStrings);
  // Bytes count: execve would answer E2BIG.
  refuses(argument, "\0", "a\0b", "x".repeat(131_072), "ä".repeat(65_536));
});

Deno.test("a command line has a command", () => {
  accepts(commandLine, ["x"], ["x", ""], ["--tmpfs"], [" "], Array(16_384).fill("x"));
  refuses(commandLine, ...noStrings.filter((value) => !Array.isArray(value) || value.length === 0));
  refuses(commandLine, [], [""], ["", "x"], ["x", "\0"], ["x", 1], ["x", null], [["x"]]);
  refuses(commandLine, Array(16_385).fill("x"), { 0: "x", length: 1 });
});

Deno.test("a variable has a name as POSIX has it, and a value without NUL", () => {
  accepts(environment, {}, { A: "" }, { _: "x", a_1: "\n", PATH: ":", LC_ALL: "ä=ö" });
  accepts(environment, { [`A${"x".repeat(255)}`]: "x".repeat(131_071) });
  for (
    const name of ["", "1A", "A B", "A=B", "A\0", "A\n", "Ä", "A-B", "A.B", `A${"x".repeat(256)}`]
  ) {
    refuses(environment, { [name]: "x" });
  }
  for (const value of ["\0", "a\0b", 1, null, undefined, ["x"], {}, "x".repeat(131_072)]) {
    refuses(environment, { A: value });
  }
  refuses(environment, null, "A=B", 1, true, [], ["A=B"]);
  const many = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [`A${at}`, ""]));
  accepts(environment, many(4096));
  refuses(environment, many(4097));
});

Deno.test("what JavaScript's objects are made of is no variable, and is not left out in silence", () => {
  for (const name of ["__proto__", "constructor", "prototype"]) {
    refuses(environment, JSON.parse(`{"A":"b","${name}":"x"}`));
  }
  accepts(environment, { toString: "x", hasOwnProperty: "y" });
});

Deno.test("a program is called as its profile, with a count", () => {
  accepts(programName, "firefox.1", "a.b.2", "_.10", `${"x".repeat(64)}.999999999999999`);
  refuses(programName, ...noStrings);
  refuses(programName, "firefox", "firefox.", ".1", "firefox.0", "firefox.01", "firefox.-1");
  refuses(programName, "firefox.1.", "firefox.1\n", "a/b.1", "-x.1", "x.1e3", "x.1 ", "../x.1");
  refuses(programName, `${"x".repeat(65)}.1`, "x.1000000000000000");
});

Deno.test("signals have the numbers that the system gives them", () => {
  for (const name of signalNames) equal(signalNumbers[name], constants.signals[name], name);
  // Of those that a terminal or a person sends, none is missing.
  for (const name of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGKILL", "SIGWINCH"] as const) {
    ok(signalNames.includes(name));
  }
});

Deno.test("what is lent has one name, which can be shown", () => {
  accepts(lendName, "a", "a b", ".vimrc", "-rf", "Übersicht 1.pdf", "日本", "😀", "x".repeat(200));
  refuses(lendName, ...noStrings);
  refuses(lendName, "", ".", "..", "/", "a/b", "../x", "a/", "a\0", "a\nb", "\x1b[0m", "\x7f");
  refuses(lendName, "a\u202eb", "a\u2028b", "\ud800", "x".repeat(201), "ä".repeat(101));
});
