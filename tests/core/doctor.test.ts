/** What the doctor makes of what it finds, where the finding can be given to it. */
import { deepEqual, equal, match } from "node:assert/strict";
import { busPolicy, mayOwn } from "../../core/bus-policy.ts";
import { kernelFinding, procFinding } from "../../core/check-kernel.ts";
import { libcFinding } from "../../core/check-programs.ts";
import { rangeFinding } from "../../core/check-uids.ts";
import {
  asRoot,
  type Check,
  diagnose,
  type Diagnosis,
  failure,
  ok,
  unknown,
  warning,
} from "../../core/diagnosis.ts";
import { installing } from "../../core/packages.ts";
import type { AppUid, OwnerUid, ProfileName } from "../../core/names.ts";

const root = { uid: 0, osRelease: "ID=debian\n" };
const somebody = { uid: 1000, osRelease: 'ID="ubuntu"\nID_LIKE=debian\n' };

async function all(checks: readonly Check[]): Promise<readonly Diagnosis[]> {
  return await Array.fromAsync(diagnose(checks, root));
}

Deno.test("what cannot be told before something else is well is not told, nor what comes after it", async () => {
  const found = await all([
    { name: "a", look: () => failure("broken", "mend a") },
    { name: "b", after: ["a"], look: () => ok("never asked") },
    { name: "c", after: ["b"], look: () => ok("never asked") },
    { name: "d", after: ["w", "u"], look: () => ok("fine") },
    { name: "w", look: () => warning("so so", null) },
    { name: "u", look: () => unknown("who knows") },
    { name: "e", after: ["w", "u"], look: () => ok("fine") },
  ]);
  deepEqual(found.map(({ name, result }) => `${name} ${result}`), [
    "a failure",
    "b unknown",
    "c unknown",
    "d ok",
    "w warning",
    "u unknown",
    "e ok",
  ]);
  equal(found[1]?.found, "it cannot be told before a is well");
});

Deno.test("a check that goes wrong itself is a failure in words, and the others go on", async () => {
  const found = await all([
    {
      name: "a",
      look: () => {
        throw new Error("out of order");
      },
    },
    { name: "b", look: () => ok("fine") },
  ]);
  deepEqual(found[0], {
    name: "a",
    result: "failure",
    found: "it cannot be looked at: out of order",
    mend: null,
  });
  equal(found[1]?.result, "ok");
});

Deno.test("root types a command as it is, others by sudo, and all of it", () => {
  equal(asRoot(root, "chmod 700 /x"), "chmod 700 /x");
  equal(asRoot(somebody, "chmod 700 /x"), "sudo chmod 700 /x");
  equal(asRoot(somebody, "echo 'a b' >> /x && c"), `sudo sh -c 'echo '\\''a b'\\'' >> /x && c'`);
});

Deno.test("a package is called as the distribution calls it", () => {
  const names = (osRelease: string) =>
    (["bubblewrap", "encfs", "xauth", "libseccomp"] as const).map((one) =>
      installing(one, osRelease)
    );
  deepEqual(names("ID=debian\n"), [
    "apt install bubblewrap",
    "apt install encfs",
    "apt install xauth",
    "apt install libseccomp2",
  ]);
  deepEqual(
    names('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'),
    names("ID=debian"),
  );
  deepEqual(names("ID=fedora\n"), [
    "dnf install bubblewrap",
    "dnf install fuse-encfs",
    "dnf install xauth",
    "dnf install libseccomp",
  ]);
  deepEqual(names('ID="rocky"\nID_LIKE="rhel centos fedora"\n'), names("ID=fedora"));
  deepEqual(names("ID=arch\n"), [
    "pacman -S bubblewrap",
    "pacman -S encfs",
    "pacman -S xorg-xauth",
    "pacman -S libseccomp",
  ]);
  // An ID that is a name of every object means nothing.
  deepEqual(names("ID=nixos\n"), [undefined, undefined, undefined, undefined]);
  deepEqual(names("ID=constructor\n"), [undefined, undefined, undefined, undefined]);
});

Deno.test("a kernel is judged by its version", () => {
  const result = (release: string) => kernelFinding(root, release).result;
  deepEqual(
    ["4.19.0", "5.7.19", "5.8.0", "5.11.22-generic", "5.12.0-rc1", "5.100", "6.1.0-13-amd64"]
      .map(result),
    ["failure", "failure", "warning", "warning", "ok", "ok", "ok"],
  );
  equal(result("unheard of"), "unknown");
});

Deno.test("a C library is judged by its version, and by whose it is", () => {
  const result = (said: string) => libcFinding(said).result;
  deepEqual(
    ["glibc 2.31\n", "glibc 2.33\n", "glibc 2.34\n", "glibc 2.36\n", "", "musl 1.2"]
      .map(result),
    ["failure", "failure", "ok", "ok", "failure", "failure"],
  );
});

Deno.test("the uppermost /proc counts; who hides processes is told, who hides the kernel is ill", () => {
  const mounted = (...options: readonly string[]) =>
    procFinding(options.map((one) => `proc /proc proc ${one} 0 0\n`).join(""));
  match(mounted("rw,nosuid").found, /everybody's/);
  match(mounted("rw,hidepid=invisible").found, /hidepid=invisible, which is no obstacle/);
  match(mounted("rw,hidepid=2", "rw").found, /everybody's/);
  match(mounted("rw,hidepid=0").found, /everybody's/);
  equal(mounted("rw,subset=pid").result, "failure");
});

// --- Uids ----------------------------------------------------------------------------------------

const empty = { passwd: "", group: "", subuid: "", subgid: "" };
const range = { first_uid: 1100 as AppUid, last_uid: 1999 as AppUid };

function ranged(
  accounts: Partial<typeof empty>,
  given: readonly number[] = [],
  file: { readonly path: string; readonly says: boolean } | null = { path: "/c/d", says: false },
) {
  return rangeFinding(root, range, {
    accounts: { ...empty, ...accounts },
    given: given.map((uid) => ({
      uid: uid as AppUid,
      owner: 1000 as OwnerUid,
      profile: "web" as ProfileName,
    })),
    file,
  });
}

Deno.test("uids of people outside of the range, and lines that are none, are no trouble", () => {
  const passwd = "a:x:1099:1:::\nb:x:2000:1:::\n\n# c:x:\nd:x:abc:1:::\n+::::::\n";
  const subuid = "a:100000:65536\nb:1000:100\nc:2000:1\nd:1500:0\n";
  equal(ranged({ passwd, group: passwd, subuid, subgid: subuid }).result, "ok");
});

Deno.test("the better range is the longest part that holds all who have a uid", () => {
  const mend = (accounts: Partial<typeof empty>, given: readonly number[] = []) =>
    ranged(accounts, given).mend;
  const written = (range: string) => `mkdir -p /c && echo 'uid_range = "${range}"' >> /c/d`;
  equal(mend({ passwd: "p:x:1150:1:::\n" }), written("1151-1999"));
  equal(mend({ passwd: "p:x:1150:1:::\n" }, [1100]), written("1100-1149"));
  equal(mend({ group: "g:x:1990:\n" }, [1100]), written("1100-1989"));
  // On both sides of what is taken: nothing holds all.
  equal(mend({ passwd: "p:x:1150:1:::\n" }, [1100, 1200]), null);
  // Too little is left: another one, above it.
  equal(mend({ subuid: "p:1200:600\n" }), written("1800-2699"));
  equal(mend({ subuid: "p:1100:70000\n" }), written("71100-71999"));
});

Deno.test("where the file says a range, that line is changed; what a flag says cannot be", () => {
  const passwd = "p:x:1150:1:::\n";
  equal(
    ranged({ passwd }, [], { path: "/c/d", says: true }).mend,
    `sed -i 's/^[[:space:]]*uid_range.*/uid_range = "1151-1999"/' /c/d`,
  );
  const flag = ranged({ passwd }, [], null);
  equal(flag.mend, null);
  match(flag.found, /1150 is the user p: give the daemon --uid-range 1151-1999$/);
});

Deno.test("a uid of a profile that has become somebody's is a failure, and they get another", () => {
  const person = ranged({ passwd: "o:x:1000:1:::\np:x:1150:1:::\n" }, [1150]);
  deepEqual([person.result, person.mend], ["failure", "usermod --uid 1001 p"]);
  const group = ranged({ group: "g:x:1150:\n" }, [1150]);
  deepEqual([group.result, group.mend], ["failure", "groupmod --gid 1000 g"]);
});

// --- The policy of a bus -------------------------------------------------------------------------

Deno.test("who may have the name is read from a policy, whatever else stands in it", () => {
  deepEqual(mayOwn(busPolicy("appjail")), ["appjail"]);
  deepEqual(mayOwn(busPolicy("65534")), ["65534"]);
  deepEqual(mayOwn(`<!-- ${busPolicy("nobody").replaceAll(/<!--.*?-->/g, "")} -->`), []);
  deepEqual(mayOwn('<policy user="a"><allow own="org.appjail.Other"/></policy>'), []);
  deepEqual(mayOwn('<policy user="a"><deny own="org.appjail.AppJail"/></policy>'), []);
  deepEqual(
    mayOwn("<policy user='a'>\n<allow own='org.appjail.AppJail'/></policy><policy user='b'/>"),
    ["a"],
  );
});
