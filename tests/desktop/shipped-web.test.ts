/** The shipped profiles of browsers, whose own sandbox has to be on: see shipped.ts, firefox.test.ts. */
import { hasItsSandbox } from "./sandbox.ts";
import { programs, startsInItsJail } from "./shipped.ts";

const [chromium, epiphany] = programs.web;

startsInItsJail(chromium, async () => {
  await hasItsSandbox(
    /^\/usr\/lib\/chromium\/chromium (?!.*--type=)/,
    /^\/usr\/lib\/chromium\/chromium .*--type=renderer/,
  );
});

startsInItsJail(epiphany, async () => {
  // bubblewrap, which waits for it, has its words too.
  await hasItsSandbox(/^epiphany /, /^\/\S*\/WebKitWebProcess /);
});
