/**
 * Small projects that build without a network, one for each of the profiles for strangers' code. All
 * add up the same numbers.
 *
 * @module
 */

/** What each of them says when it is run. */
export const says = "the sum is 5050";

export interface Project {
  readonly profile: string;
  /** What it takes. */
  readonly programs: readonly string[];
  readonly files: Readonly<Record<string, string>>;
  readonly build: readonly string[];
  /** What the build makes. */
  readonly made: string;
  /** How that is run. */
  readonly run: readonly string[];
}

export const buildsOffline: readonly Project[] = [
  {
    profile: "cargo",
    programs: ["cargo"],
    files: {
      "Cargo.toml": '[package]\nname = "sum"\nversion = "0.1.0"\nedition = "2021"\n',
      // A build script is a program of a stranger's that runs unasked.
      "build.rs": 'fn main() { println!("cargo:rustc-env=SUM={}", (1..=100).sum::<u32>()); }\n',
      "src/main.rs": 'fn main() { println!("the sum is {}", env!("SUM")); }\n',
    },
    build: ["cargo", "build", "--offline", "--quiet"],
    made: "target/debug/sum",
    run: ["target/debug/sum"],
  },
  {
    profile: "go",
    programs: ["go"],
    files: {
      "go.mod": "module example.org/sum\n\ngo 1.19\n",
      "main.go": `package main

import "fmt"

func main() { fmt.Println("the sum is", sum(100)) }

func sum(n int) int {
	if n == 0 {
		return 0
	}
	return n + sum(n-1)
}
`,
    },
    build: ["go", "build", "-o", "sum", "."],
    made: "sum",
    run: ["./sum"],
  },
  {
    profile: "make",
    programs: ["make", "gcc"],
    files: {
      "Makefile": "sum: src/sum.c\n\tgcc -O2 -o $@ $<\n",
      "src/sum.c": `#include <stdio.h>
int main(void) {
  int sum = 0;
  for (int n = 1; n <= 100; n++) sum += n;
  printf("the sum is %d\\n", sum);
}
`,
    },
    build: ["make", "--silent"],
    made: "sum",
    run: ["./sum"],
  },
  {
    profile: "node",
    programs: ["node"],
    files: {
      "package.json": '{ "name": "sum", "type": "module" }\n',
      "build.js": `import { writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
const sum = execFileSync(process.execPath, ["src/sum.js"], { encoding: "utf8" }).trim();
writeFileSync("sum.js", \`console.log("the sum is \${sum}");\\n\`);
`,
      "src/sum.js": "console.log([...Array(101).keys()].reduce((one, other) => one + other));\n",
    },
    build: ["node", "build.js"],
    made: "sum.js",
    run: ["node", "sum.js"],
  },
  {
    profile: "python",
    programs: ["python3"],
    files: {
      "src/__main__.py": 'from total import total\nprint("the sum is", total(100))\n',
      "src/total.py": "def total(n):\n    return sum(range(n + 1))\n",
    },
    build: ["python3", "-m", "zipapp", "src", "-o", "sum.pyz"],
    made: "sum.pyz",
    run: ["python3", "sum.pyz"],
  },
];
