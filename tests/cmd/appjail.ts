/**
 * The program itself as a person calls it, from the checkout.
 *
 * @module
 */
import { runClient } from "../../cmd/app.ts";

const main = new URL("../../main.ts", import.meta.url).pathname;

/** How it ended and what it wrote. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The words that start it. */
export function wordsOf(args: readonly string[]): readonly string[] {
  return [Deno.execPath(), "run", "--quiet", "-A", "--no-check", main, ...args];
}

/** Nothing of the tester's own environment but what Deno itself needs, and what is given. */
export function environment(
  given: Readonly<Record<string, string>> = {},
): { readonly clearEnv: true; readonly env: Record<string, string> } {
  // Where it keeps its packages.
  const own = Object.entries(Deno.env.toObject()).filter(([name]) =>
    /^(HOME|DENO_DIR)$/.test(name)
  );
  return { clearEnv: true, env: { PATH: "/usr/bin:/bin", ...Object.fromEntries(own), ...given } };
}

/** Runs it to its end. */
export async function appjail(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const [command = "", ...words] = wordsOf(args);
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args: words,
    ...environment(env),
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/**
 * What a client does, without a process of its own. One at a time: standard output and error are
 * taken away from everybody meanwhile.
 */
export async function inProcess(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const written = { stdout: "", stderr: "" };
  using stack = new DisposableStack();
  for (const name of ["stdout", "stderr"] as const) {
    const stream = Deno[name];
    const before = stream.writeSync;
    stack.defer(() => stream.writeSync = before);
    const text = new TextDecoder();
    stream.writeSync = (bytes) => {
      written[name] += text.decode(bytes, { stream: true });
      return bytes.length;
    };
  }
  const code = await runClient(args, { env, script: "/nonexistent" });
  return { code, ...written };
}
