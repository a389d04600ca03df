/**
 * `deno task tour`: records a tour at a real terminal, and draws it: docs/tour.svg. Somebody types, in
 * a bash of alice's, with a daemon of the tour's own (tests/docs-world.ts); what is shown is what the
 * terminal has shown, with the usual folders, uids and machine's name in the place of the scratch ones.
 *
 * @module
 */
import { build } from "../packaging/build.ts";
import { setUp } from "../packaging/setup.ts";
import { DocsWorld } from "./docs-world.ts";
import { Terminal } from "./terminal/driver.ts";
import { drawing, type Line } from "./tour-drawing.ts";

const root = Deno.realPathSync(`${import.meta.dirname}/..`);

/** Where the drawing is. */
export const tourPath = `${root}/docs/tour.svg`;

const prompt = "alice$ ";
const inJail = /\(jail work\)work@[\w.-]+:~\$ $/;
const asks = /(?:assphrase.*|once more): $/;

/** What is typed, and at what: the shell's prompt, unless another one is named. */
const steps: readonly { readonly typed: string; readonly at?: RegExp; readonly unseen?: true }[] = [
  { typed: "appjail run -p work id" },
  { typed: "appjail run -p work sh -c 'echo hello > note; ls'" },
  { typed: "cat /data/1100/note" },
  { typed: "appjail run -p play cat note" },
  { typed: "appjail run --detach -p work sleep 600" },
  { typed: "appjail lend work ~/Pictures --for 10m" },
  { typed: "appjail shell work" },
  { typed: "cat note; ls lent/Pictures; tty", at: inJail },
  { typed: "exit", at: inJail },
  { typed: "appjail status work" },
  { typed: "appjail stop work" },
  { typed: "appjail encrypt --new --yes bank" },
  { typed: "correct horse", at: asks, unseen: true },
  { typed: "correct horse", at: asks, unseen: true },
  { typed: "appjail run -p bank sh -c 'echo secret > ledger; cat ledger'" },
  { typed: "correct horse", at: asks, unseen: true },
  { typed: "appjail lock bank" },
];

/** Records the tour, as the lines of a terminal. */
export async function recordTour(): Promise<readonly Line[]> {
  await using world = await DocsWorld.start();
  await world.perform("mkdir Pictures; touch Pictures/cat.jpg");
  const shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
  await using terminal = Terminal.start(world.words(shell), {
    rows: 50,
    env: { ...world.environment, PS1: prompt, HISTFILE: "" },
  });
  const atPrompt = new RegExp(`(?:^|\\n)${prompt.replace("$", "\\$")}$`);
  let text = "";
  for (const { typed, at = atPrompt } of steps) {
    await terminal.expect(at);
    await terminal.send(`${world.here(typed)}\r`);
    text = terminal.text;
  }
  await terminal.expect(atPrompt);
  text = terminal.text;
  await terminal.send("exit\r");
  return linesOf(world.usual(text));
}

/** What a terminal has shown, without what only steers it. */
function linesOf(text: string): readonly Line[] {
  // deno-lint-ignore no-control-regex -- escape sequences are what it is about
  const plain = text.replaceAll(/\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)/g, "")
    .replaceAll("\r", "").replaceAll(/(\(jail work\)work@)[\w.-]+/g, "$1laptop");
  const typed = /^(alice\$ |\(jail work\)work@laptop:~\$ )(.*)$/;
  return plain.split("\n").filter((line) => line !== "" && line !== prompt).map((line) => {
    const [, before, words] = typed.exec(line.trimEnd()) ?? [];
    return before === undefined || words === undefined
      ? { shown: line.trimEnd(), typed: "" }
      : { shown: before, typed: words };
  });
}

if (import.meta.main) {
  await setUp("test");
  const given = Deno.env.get("APPJAIL_EXE");
  const scratch = Deno.makeTempDirSync({ prefix: "appjail-tour-" });
  try {
    Deno.chmodSync(scratch, 0o755);
    if (given === undefined) {
      await build({ entry: `${root}/main.ts`, out: `${scratch}/dist`, say: console.log });
      Deno.env.set("APPJAIL_EXE", `${scratch}/dist/appjail`);
    }
    Deno.writeTextFileSync(tourPath, drawing(await recordTour()));
    console.log(`The tour is in ${tourPath}`);
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}
