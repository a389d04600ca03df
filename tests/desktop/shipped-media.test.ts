/** The shipped profiles of programs for media: see shipped.ts. */
import { programs, startsInItsJail } from "./shipped.ts";

for (const program of programs.media) startsInItsJail(program);
