/** core/launch.ts: with which words and permissions each role is started (attack 2). */
import { deepEqual, equal, ok } from "node:assert/strict";
import {
  allPermissions,
  permissions,
  reexecuted,
  roleCommand,
  roleEnvironment,
  runWords,
  stagedScript,
} from "../../core/launch.ts";
import { Scratch } from "../scratch.ts";

Deno.test("no role may do everything, and only the dispatcher, who has no privilege, may connect", () => {
  for (const [role, words] of Object.entries(permissions)) {
    for (const word of words) {
      ok(/^--allow-(ffi|env|read|write|net)$/.test(word), `${role}: ${word}`);
    }
    const reaches = words.filter((word) => /write|net/.test(word));
    deepEqual(reaches.length > 0, role === "dispatcher", role);
  }
  for (const words of [allPermissions, runWords]) {
    ok(!words.some((word) => /^-A$|allow-all|allow-run|allow-sys|allow-import/.test(word)));
  }
  deepEqual([...allPermissions], [...new Set(Object.values(permissions).flat())].sort());
});

Deno.test("a script is run with nothing but itself: no configuration, cache, network or question", () => {
  equal(runWords[0], "run");
  for (
    const word of ["no-prompt", "no-config", "no-lock", "no-remote", "no-npm", "no-code-cache"]
  ) ok(runWords.includes(`--${word}`), word);
});

Deno.test("a role is called by its name, from the daemon's own folder, with its options last", () => {
  const options = { profile: "work", uid: 1100, text: "ä\n\"'$(id)" };
  for (const role of reexecuted) {
    const path = `/run/appjail/program/appjail-${role}`;
    deepEqual(roleCommand("/run/appjail/program", true, role, options), {
      path,
      argv: [path, role, JSON.stringify(options)],
    });
    const bundled = roleCommand("/run/appjail/program", false, role, options);
    equal(bundled.path, path);
    deepEqual(bundled.argv, [
      path,
      ...runWords,
      ...permissions[role],
      `/run/appjail/program/${stagedScript}`,
      role,
      JSON.stringify(options),
    ]);
    deepEqual(JSON.parse(bundled.argv.at(-1) ?? ""), options);
  }
});

Deno.test("a role has an environment that nobody has given it", () => {
  deepEqual(Object.keys(roleEnvironment).sort(), [
    "DENO_DIR",
    "DENO_LOG",
    "DENO_NO_UPDATE_CHECK",
    "HOME",
    "LANG",
    "MALLOC_ARENA_MAX",
    "NO_COLOR",
    "PATH",
  ]);
  equal(roleEnvironment["PATH"], "/usr/bin:/bin");
  // Neither can be made by anybody, root included.
  for (const folder of ["DENO_DIR", "HOME"] as const) {
    ok(/^\/dev\/null\/|^\/nonexistent$/.test(roleEnvironment[folder] ?? ""));
  }
});

Deno.test("deno takes the words, and asks nobody for what they do not allow", async () => {
  using scratch = new Scratch();
  const script = scratch.file(
    "script.js",
    `const state = (name) => Deno.permissions.querySync({ name }).state;
     const names = ["run", "read", "write", "net", "env", "sys", "ffi"];
     console.log(JSON.stringify([Deno.args, ...names.filter((name) => state(name) === "granted")]));
     try { Deno.writeTextFileSync(import.meta.filename, ""); } catch { console.log("refused"); }
     await import("http://127.0.0.1:1/x.js").catch(({ message }) => console.log(message));`,
  );
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...runWords, ...permissions.jailer, script, "jailer", "{}"],
    env: { ...roleEnvironment },
    clearEnv: true,
  }).output();
  const text = new TextDecoder();
  equal(text.decode(stderr), "");
  const [states, write, load = ""] = text.decode(stdout).split("\n");
  equal(states, '[["jailer","{}"],"read","env","ffi"]');
  equal(write, "refused");
  ok(load.includes("--no-remote"), load);
});
