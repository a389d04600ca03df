/** core/log.ts: one thing, one line, and nothing that a terminal obeys. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  jsonText,
  type LogFields,
  logLine,
  type LogStyle,
  plainStyle,
  printable,
  styleIn,
} from "../../core/log.ts";
import { Random } from "../random.ts";

Deno.test("text that people write is shown as it is", () => {
  for (
    const text of ["", "plain", "tab\tbed", "Grüße, 漢字 😀 é \u0301", 'C:\\dir "x"', "\u{10ffff}"]
  ) {
    equal(printable(text), text);
  }
});

Deno.test("what makes a line two, or steers a terminal, is shown as an escape", () => {
  equal(printable("a\nb\r\n"), "a\\x0ab\\x0d\\x0a");
  equal(printable("\x1b[2J\x1b]0;title\x07"), "\\x1b[2J\\x1b]0;title\\x07");
  // The same in one byte, as terminals of eight bits have it.
  equal(printable("\x9b2J\x9d0;title\x9c"), "\\x9b2J\\x9d0;title\\x9c");
  equal(printable("\0\x08\x7f"), "\\x00\\x08\\x7f");
  equal(printable("a\u2028b\u2029c\x85"), "a\\u2028b\\u2029c\\x85");
});

Deno.test("what turns the direction of text around is shown as an escape", () => {
  equal(printable("user\u202etxt.exe"), "user\\u202etxt.exe");
  for (const code of [0x200e, 0x200f, 0x061c, 0x202a, 0x202d, 0x2066, 0x2067, 0x2068, 0x2069]) {
    equal(printable(String.fromCharCode(code)), `\\u${code.toString(16).padStart(4, "0")}`);
  }
});

Deno.test("whatever comes in, one line of printable text comes out", () => {
  const random = new Random(6);
  for (let i = 0; i < 2000; i++) {
    const text = Array.from(
      { length: random.below(20) },
      () => String.fromCharCode(random.of([random.below(0x100), random.below(0x10000)])),
    ).join("");
    const shown = printable(text);
    ok(
      !/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u.test(shown.replaceAll("\t", "")),
      JSON.stringify(shown),
    );
    equal(printable(shown), shown);
  }
});

Deno.test("a role's lines begin with its name; those for debugging are left out unless wanted", async () => {
  const log = (debug: boolean): string =>
    `const log = logOf("test", { format: "text", journal: false, debug: ${debug} });
     log.info("first\\n\\x1b[2Jsecond"); log.debug("detail");`;
  const module = JSON.stringify(new URL("../../core/log.ts", import.meta.url).href);
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", `import { logOf } from ${module}; {${log(false)}} {${log(true)}}`],
  }).output();
  const text = new TextDecoder();
  ok(success);
  equal(text.decode(stdout), "");
  const line = "appjail-test: first\\x0a\\x1b[2Jsecond\n";
  equal(text.decode(stderr), `${line}${line}appjail-test: detail\n`);
});

Deno.test("a log that nobody reads stops nobody", async () => {
  const module = JSON.stringify(new URL("../../core/log.ts", import.meta.url).href);
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `import { logOf, plainStyle } from ${module};
       const log = logOf("x", plainStyle);
       await Deno.stdin.read(new Uint8Array(1));
       for (let i = 0; i < 10; i++) log.info("nobody reads this");
       console.log("went on");`,
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await child.stderr.cancel();
  await child.stdin.close();
  const said = await new Response(child.stdout).text();
  await child.status;
  match(said, /^went on$/m);
});

Deno.test("as JSON each line is an object: when, how weighty, who, the words, and what it is about", () => {
  const style: LogStyle = { ...plainStyle, format: "json" };
  const at = new Date(Date.UTC(2026, 0, 15, 10, 30, 0, 5));
  const line = logLine("helper", style, "info", "jail work has ended", { uid: 5, note: null }, at);
  equal(line.at(-1), "\n");
  deepEqual(JSON.parse(line), {
    time: "2026-01-15T10:30:00.005Z",
    level: "info",
    role: "helper",
    message: "jail work has ended",
    uid: 5,
    note: null,
  });
  // What is not known is not there.
  const unknown: LogFields = { uid: undefined };
  deepEqual("uid" in JSON.parse(logLine("x", style, "debug", "m", unknown)), false);
  const random = new Random(7);
  for (let i = 0; i < 500; i++) {
    const text = Array.from(
      { length: random.below(20) },
      () => String.fromCharCode(random.of([random.below(0x100), random.below(0x10000)])),
    ).join("");
    const one = logLine("x", style, "warning", text, { text });
    ok(!/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u.test(one.slice(0, -1)), JSON.stringify(text));
    const { message, text: field } = JSON.parse(one);
    deepEqual([message, field], [text, text]);
  }
});

Deno.test("what goes to the journal begins with its priority, as sd-daemon(3) has it", () => {
  const style: LogStyle = { ...plainStyle, journal: true };
  const lines = (["error", "warning", "info", "debug"] as const).map((level) =>
    logLine("helper", style, level, "words")
  );
  deepEqual(lines, [3, 4, 6, 7].map((number) => `<${number}>appjail-helper: words\n`));
  match(logLine("x", { ...style, format: "json" }, "info", "words"), /^<6>\{"time":/);
  equal(logLine("x", plainStyle, "info", "words"), "appjail-x: words\n");
});

Deno.test("a role that fails before its options are known logs as they say, or plainly", () => {
  const log: LogStyle = { format: "json", journal: true, debug: true };
  deepEqual(styleIn(JSON.stringify({ log, other: 1 })), log);
  for (const text of ["", "{}", "null", "[]", '{"log":{}}', '{"log":{"format":"xml"}}', "--help"]) {
    deepEqual(styleIn(text), plainStyle, text);
  }
});

Deno.test("JSON that is shown steers no terminal, and is the same value", () => {
  const value = { name: "\x9b2J\u2028\u202e\x7f", list: [1, null] };
  equal(
    jsonText(value),
    '{"name":"\\u009b2J\\u2028\\u202e\\u007f","list":[1,null]}',
  );
  deepEqual(JSON.parse(jsonText(value, 2)), value);
});
