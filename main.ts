/**
 * Which of its processes this program is: argv[0] first, then the subcommand. The only file that
 * reads the arguments and the environment, and that exits.
 *
 * @module
 */
import { open, readAll } from "./ipc/fd.ts";
import { textOf } from "./ipc/octets.ts";
import { forbidDebugger } from "./ipc/signals.ts";
import { asAppjailError } from "./core/errors.ts";
import { reexecuted, type ReexecutedRole } from "./core/launch.ts";
import { styleIn, writeLog } from "./core/log.ts";

/**
 * argv as it was given: Deno does not carry its first word, nor a byte that is not UTF-8, and
 * node:process would cost 15 ms.
 */
function commandLine(): readonly string[] {
  using file = open("/proc/self/cmdline", 0);
  return textOf(readAll(file.number, 8 * 1024 * 1024)).split("\0").slice(0, -1);
}

/** The program's first file. Not import.meta: in a bundle this is not the main module itself. */
function scriptPath(): string {
  return decodeURIComponent(new URL(Deno.mainModule).pathname);
}

async function play(role: ReexecutedRole, options: string): Promise<number> {
  switch (role) {
    case "helper": {
      const { helper } = await import("./cmd/helper.ts");
      return await helper(options, scriptPath().replace(/\/[^/]*$/, ""));
    }
    case "dispatcher":
      return await (await import("./cmd/dispatcher.ts")).dispatcher(options);
    case "jailer":
      return await (await import("./cmd/jailer.ts")).jailer(options);
    case "copier":
      return await (await import("./cmd/copier.ts")).copier(options);
    case "converter":
      return await (await import("./cmd/converter.ts")).converter(options);
    case "watchdog":
      return await (await import("./cmd/watchdog.ts")).watchdog(options);
    default:
      return role satisfies never;
  }
}

async function main(): Promise<number> {
  forbidDebugger();
  const given = commandLine();
  const [first = ""] = given;
  const name = first.slice(first.lastIndexOf("/") + 1);
  const lossy = Deno.args.some((word) => word.includes("\ufffd"));
  const args = lossy ? given.slice(-Deno.args.length) : Deno.args;
  const role = reexecuted.find((one) => name === `appjail-${one}`) ??
    reexecuted.find((one) => Deno.args[0] === one);
  if (role === undefined) {
    const world = {
      env: Deno.env.toObject(),
      get script() {
        return scriptPath();
      },
    };
    // The one verb that must be quick; cmd/app.ts knows it too, for the sake of its help.
    if (args[0] === "run") {
      const { run } = await import("./cmd/run.ts");
      return await run(args.slice(1), world);
    }
    const { runClient } = await import("./cmd/app.ts");
    return await runClient(args, world);
  }
  const fail = (thrown: unknown): number => {
    const error = asAppjailError(thrown);
    writeLog(role, styleIn(Deno.args.at(-1) ?? ""), "error", error.message);
    return error.exitStatus;
  };
  // What nobody waits for ends the role too, in words.
  const end = (event: Event, thrown: unknown): never => {
    event.preventDefault();
    Deno.exit(fail(thrown));
  };
  addEventListener("unhandledrejection", (event) => end(event, event.reason));
  addEventListener("error", (event) => end(event, event.error));
  try {
    return await play(role, Deno.args.at(-1) ?? "");
  } catch (thrown) {
    return fail(thrown);
  }
}

// No await here: a bundle of this file is evaluated as a script.
main().then(Deno.exit);
