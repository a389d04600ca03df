/** The shipped profiles of programs for documents: see shipped.ts. */
import { programs, startsInItsJail } from "./shipped.ts";

for (const program of programs.documents) startsInItsJail(program);
