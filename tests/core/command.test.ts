/** core/command.ts: finding a command as a shell does, with real files. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { findCommand } from "../../core/command.ts";
import { AppjailError } from "../../core/errors.ts";
import { Scratch } from "../scratch.ts";

/** Three folders with commands, the last of which is the working folder. */
function place(): Scratch {
  const scratch = new Scratch();
  for (const folder of ["first", "second", "cwd", "cwd/bin"]) scratch.folder(folder);
  scratch.file("first/both", "", 0o755);
  scratch.file("second/both", "", 0o755);
  scratch.file("first/plain", "", 0o644);
  scratch.file("second/plain", "", 0o755);
  scratch.file("first/never", "", 0o600);
  scratch.folder("first/folder");
  scratch.file("second/folder", "", 0o755);
  scratch.folder("first/only-folder");
  scratch.file("cwd/here", "", 0o755);
  scratch.file("cwd/bin/below", "", 0o755);
  scratch.file("cwd/--tmpfs", "", 0o755);
  Deno.symlinkSync("here", `${scratch.path}/cwd/link`);
  Deno.symlinkSync("nowhere", `${scratch.path}/first/dangling`);
  Deno.symlinkSync("circle", `${scratch.path}/first/circle`);
  new Deno.Command("mkfifo", { args: [`${scratch.path}/first/fifo`] }).outputSync();
  return scratch;
}

function finder(scratch: Scratch, path = ["first", "second"]) {
  const search = path.map((folder) =>
    /^[/.]?$/.test(folder) ? folder : `${scratch.path}/${folder}`
  );
  return (command: string): string => {
    try {
      return findCommand(command, search.join(":"), `${scratch.path}/cwd`, "here")
        .replace(`${scratch.path}/`, "");
    } catch (error) {
      ok(error instanceof AppjailError);
      return error.code;
    }
  };
}

Deno.test("the first executable file in PATH is it", () => {
  using scratch = place();
  const find = finder(scratch);
  equal(find("both"), "first/both");
  equal(finder(scratch, ["second", "first"])("both"), "second/both");
  // As shells do, what cannot be executed and folders are passed over.
  equal(find("plain"), "second/plain");
  equal(find("folder"), "second/folder");
});

Deno.test("not found and not executable are told apart", () => {
  using scratch = place();
  const find = finder(scratch);
  for (const command of ["nowhere", "only-folder", "dangling", "circle", "here", "--tmpfs", "é"]) {
    equal(find(command), "command-not-found", command);
  }
  for (const command of ["never", "fifo"]) equal(find(command), "command-not-executable", command);
  equal(find("x".repeat(5000)), "command-not-found");
});

Deno.test("a command with a slash is a path from the working folder, and PATH has no part in it", () => {
  using scratch = place();
  const find = finder(scratch);
  equal(find("./here"), "cwd/./here");
  equal(find("./link"), "cwd/./link");
  equal(find("bin/below"), "cwd/bin/below");
  equal(find("../first/both"), "cwd/../first/both");
  equal(find(`${scratch.path}/second/both`), "second/both");
  equal(find("./both"), "command-not-found");
  equal(find("here/x"), "command-not-found");
  // A folder that is named is there, and cannot be executed.
  equal(find("../first/folder"), "command-not-executable");
  equal(find("../first/never"), "command-not-executable");
  equal(find("/"), "command-not-executable");
});

Deno.test("an empty element of PATH is the working folder", () => {
  using scratch = place();
  for (const path of [[""], ["first", ""], ["", "first"], ["first", "", "second"]]) {
    equal(finder(scratch, path)("here"), "cwd/here");
  }
  equal(finder(scratch, ["."])("here"), "cwd/./here");
  equal(finder(scratch, ["first"])("here"), "command-not-found");
});

Deno.test("a relative element of PATH is meant from the program's working folder, not from ours", () => {
  using scratch = place();
  const cwd = `${scratch.path}/cwd`;
  equal(findCommand("below", "bin", cwd, "here"), `${cwd}/bin/below`);
  // It stands in this process's own working folder, and nowhere else.
  const before = Deno.cwd();
  Deno.chdir(scratch.path);
  try {
    throws(() => findCommand("both", "first", cwd, "here"), { code: "command-not-found" });
    throws(() => findCommand("both", "first", "/nonexistent", "here"), {
      code: "command-not-found",
    });
  } finally {
    Deno.chdir(before);
  }
});

Deno.test("the words say what was looked for, as one line, and where", () => {
  using scratch = place();
  const said = (command: string): string => {
    try {
      return findCommand(command, `${scratch.path}/first`, "/", 'in jail "x"');
    } catch (error) {
      ok(error instanceof AppjailError);
      return error.message.replaceAll(scratch.path, "");
    }
  };
  deepEqual([said("no\nway"), said("never")], [
    'Cannot run "no\\nway": it is not found in jail "x"',
    'Cannot run "never": /first/never in jail "x" may not be executed',
  ]);
});
