/** The words of `appjail run`: its own options, and the program's, which are none of its business. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { parseRun, type RunRequest } from "../../cmd/run.ts";
import { AppjailError } from "../../core/errors.ts";
import { Random } from "../random.ts";

const own = { LANG: "C", TERM: "vt100", EMPTY: "", SECRET: "s3cret" };
const nothing: RunRequest = {
  socket: undefined,
  profile: null,
  detach: false,
  cwd: null,
  env: {},
  tty: "as-is",
  verbose: false,
  autoLend: true,
  passphraseFd: undefined,
  argv: [],
  help: false,
};

function parses(words: readonly string[], expected: Partial<RunRequest>): void {
  deepEqual(parseRun(words, own), { ...nothing, ...expected }, words.join(" "));
}

function refuses(words: readonly string[], message: string): void {
  throws(() => parseRun(words, own), (error) => {
    ok(error instanceof AppjailError);
    equal(error.exitStatus, 100);
    equal(error.message, `${message}; see: appjail help run`);
    return true;
  });
}

Deno.test("each option in each of its forms", () => {
  for (const words of [["-p", "web"], ["-pweb"], ["--profile", "web"], ["--profile=web"]]) {
    parses([...words, "x"], { profile: "web", argv: ["x"] });
  }
  for (const words of [["-C", "/tmp"], ["-C/tmp"], ["--cwd", "/tmp"], ["--cwd=/tmp"]]) {
    parses([...words, "x"], { cwd: "/tmp", argv: ["x"] });
  }
  for (const words of [["-e", "A=b"], ["-eA=b"], ["--env", "A=b"], ["--env=A=b"]]) {
    parses([...words, "x"], { env: { A: "b" }, argv: ["x"] });
  }
  for (const words of [["--socket", "/s"], ["--socket=/s"]]) {
    parses([...words, "x"], { socket: "/s", argv: ["x"] });
  }
  for (const word of ["-d", "--detach"]) parses([word, "x"], { detach: true, argv: ["x"] });
  for (const word of ["-h", "--help"]) {
    parses([word], { help: true });
    parses([word, "x"], { help: true, argv: ["x"] });
  }
  parses(["-d", "-p", "a", "-eA=1", "--cwd=/", "--env", "B=", "x"], {
    detach: true,
    profile: "a",
    cwd: "/",
    env: { A: "1", B: "" },
    argv: ["x"],
  });
});

Deno.test("a value may look like anything, an option or nothing too", () => {
  parses(["--profile", "--detach", "x"], { profile: "--detach", argv: ["x"] });
  parses(["-p", "--", "x"], { profile: "--", argv: ["x"] });
  parses(["-p", "", "x"], { profile: "", argv: ["x"] });
  parses(["--profile=", "x"], { profile: "", argv: ["x"] });
  parses(["-p=x", "y"], { profile: "=x", argv: ["y"] });
  parses(["--cwd=a=b", "x"], { cwd: "a=b", argv: ["x"] });
  parses(["-p", "first", "-p", "last", "x"], { profile: "last", argv: ["x"] });
});

Deno.test("from the command on everything is the program's, untouched", () => {
  const after = ["-p", "other", "--env", "A=b", "--", "-rf", "", "--help", "-", "ä"];
  parses(["x", ...after], { argv: ["x", ...after] });
  parses(["-d", "--", "x", ...after], { detach: true, argv: ["x", ...after] });
  parses(["--", "--tmpfs", "x"], { argv: ["--tmpfs", "x"] });
  parses(["--", "--", "x"], { argv: ["--", "x"] });
  parses(["--", "-p"], { argv: ["-p"] });
  // A command that is empty, or a dash, is refused later, or is not found: it is no option.
  parses(["", "-p"], { argv: ["", "-p"] });
  parses(["-", "-p"], { argv: ["-", "-p"] });
});

Deno.test("--env NAME takes one's own value, --env NAME=VALUE the given one", () => {
  parses(["-e", "TERM", "x"], { env: { TERM: "vt100" }, argv: ["x"] });
  parses(["-e", "EMPTY", "x"], { env: { EMPTY: "" }, argv: ["x"] });
  parses(["-e", "UNSET", "x"], { argv: ["x"] });
  parses(["-e", "A=b=c=", "x"], { env: { A: "b=c=" }, argv: ["x"] });
  parses(["-e", "A= \n$(id)", "x"], { env: { A: " \n$(id)" }, argv: ["x"] });
  parses(["-e", "A=1", "-e", "A=2", "x"], { env: { A: "2" }, argv: ["x"] });
  // What every object of JavaScript has is no variable of the caller's.
  for (const name of ["toString", "constructor", "hasOwnProperty", "__proto__"]) {
    parses(["-e", name, "x"], { argv: ["x"] });
  }
  for (const word of ["=b", "1A=b", "A B=c", "A-B", "", "ä=b", "A\n=b", "-p"]) {
    refuses(
      ["-e", word, "x"],
      `Cannot use --env ${JSON.stringify(word)}: it has to be NAME=VALUE or NAME`,
    );
  }
});

Deno.test("what is wrong is said, with the word that is", () => {
  refuses([], "Cannot run: a command is needed");
  refuses(["-d"], "Cannot run: a command is needed");
  refuses(["--"], "Cannot run: a command is needed");
  deepEqual(parseRun(["-p", "x"], own).argv, [], "a profile may have a command of its own");
  for (const name of ["-p", "--profile", "--cwd", "-C", "--env", "-e", "--socket"]) {
    refuses([name], `Cannot use ${name}: its value is missing`);
  }
  for (const word of ["--profil", "--Profile", "-x", "--all", "--e", "---", "-s"]) {
    refuses([word, "x"], `Cannot use ${word}: run has no such option`);
  }
  refuses(["--nope=1", "x"], "Cannot use --nope: run has no such option");
  refuses(["-xd", "x"], "Cannot use -x: run has no such option");
  refuses(["--=x", "x"], "Cannot use --: run has no such option");
  refuses(["--detach=yes", "x"], "Cannot use --detach=yes: --detach takes no value");
  refuses(["--help=", "x"], "Cannot use --help=: --help takes no value");
  refuses(["-dp", "x", "y"], "Cannot use -dp: --detach takes no value");
});

Deno.test("whatever stands before, the command and its words are the end of the line, or it is refused", () => {
  const random = new Random(12);
  const vocabulary = [
    "-p",
    "-d",
    "-pa",
    "--env",
    "A=b",
    "TERM",
    "--",
    "-",
    "x",
    "",
    "--cwd=/",
    "-h",
  ];
  let parsed = 0;
  for (let i = 0; i < 20_000; i++) {
    const words = Array.from({ length: random.below(8) }, () => random.of(vocabulary));
    let request: RunRequest;
    try {
      request = parseRun(words, own);
    } catch (error) {
      ok(error instanceof AppjailError && error.code === "usage");
      continue;
    }
    parsed++;
    const { argv } = request;
    deepEqual(argv, words.slice(words.length - argv.length));
    const before = words.slice(0, words.length - argv.length);
    // Without "--" right before it, a command is no option.
    const [command] = argv;
    if (command?.startsWith("-") && command !== "-") ok(before.includes("--"));
    ok(argv.length > 0 || request.help || request.profile !== null);
  }
  ok(parsed > 5000);
});
