/**
 * Asks for passphrases as a client does, and tells what came of it: `got`, and the bytes in
 * hexadecimal, or `failed`, and the error. For tests; its one argument is a {@linkcode Script}.
 *
 * @module
 */
import { forbidDebugger } from "../../ipc/signals.ts";
import { type Asking, askPassphrase, passphrasePipe } from "../../cmd/passphrase.ts";
import { asAppjailError } from "../../core/errors.ts";
import { listen, stopAsJob } from "../../core/signals.ts";

export interface Script {
  readonly asks: readonly Asking[];
  readonly fd?: number;
  /** Says `holding` and nothing of the passphrase, forgets it at SIGUSR2, and stays until it is killed. */
  readonly hold?: boolean;
  /** Sleeps before it asks, until SIGUSR2. */
  readonly late?: boolean;
  /** Stops as a job by itself, too, as a client does none of whose streams is a terminal. */
  readonly job?: boolean;
}

function usr2(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  Deno.addSignalListener("SIGUSR2", resolve);
  return promise;
}

// As main.ts begins: who is started with a signal ignored goes on ignoring it.
forbidDebugger();
const { asks, fd, hold, late, job }: Script = JSON.parse(Deno.args[0] ?? "");
const env = Deno.env.toObject();
if (job === true) listen("SIGTSTP", () => void stopAsJob(false));
try {
  if (late === true) {
    const told = usr2();
    console.log("waiting");
    await told;
  }
  for (const asking of asks) {
    const passphrase = await askPassphrase(asking, { fd, env });
    if (hold === true) {
      const told = usr2();
      console.log("holding");
      await told;
      using _pipe = passphrasePipe(passphrase);
      console.log("forgotten");
      await new Promise((resolve) => setTimeout(resolve, 1e9));
    }
    console.log(`got ${passphrase.toHex()}`);
    passphrase.fill(0);
  }
} catch (thrown) {
  const error = asAppjailError(thrown);
  console.log(`failed ${error.code}: ${error.message}`);
  if (error.code === "internal") console.error(thrown);
}
// As a client ends: nothing that still waits keeps it.
Deno.exit(0);
