/** The shipped profiles of programs for pictures: see shipped.ts. */
import { programs, startsInItsJail } from "./shipped.ts";

for (const program of programs.pictures) startsInItsJail(program);
