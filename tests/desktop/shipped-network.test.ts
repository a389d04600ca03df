/** The shipped profiles of programs for mail, talk and transfers: see shipped.ts. */
import { programs, startsInItsJail } from "./shipped.ts";

for (const program of programs.network) startsInItsJail(program);
