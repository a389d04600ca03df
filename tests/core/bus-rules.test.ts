/** core/bus-rules.ts: the words for the proxy, and what its log says was refused. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { parse } from "../../core/names.ts";
import {
  busRules,
  jailBuses,
  noRules,
  plainBuses,
  proxyWords,
  Refusals,
} from "../../core/bus-rules.ts";

Deno.test("the words of the proxy are those of each bus, in its own turn", () => {
  deepEqual(
    proxyWords(3, [
      {
        socket: "/run/user/1000/bus",
        offered: "/run/x/session",
        rules: {
          talk: ["org.freedesktop.Notifications"],
          own: ["org.kde.*"],
          call: ["org.x.Y=org.x.Y.Z@/a/*"],
          broadcast: ["org.x.Y=@/a"],
        },
      },
      { socket: "/run/a b", offered: "/run/x/system", rules: noRules },
    ]),
    [
      "--fd=3",
      ...["unix:path=/run/user/1000/bus", "/run/x/session", "--filter", "--log"],
      ...["--talk=org.freedesktop.Notifications", "--own=org.kde.*"],
      ...["--call=org.x.Y=org.x.Y.Z@/a/*", "--broadcast=org.x.Y=@/a"],
      ...["unix:path=/run/a%20b", "/run/x/system", "--filter", "--log"],
    ],
  );
});

Deno.test("no rule is anything but a rule", () => {
  const takes = (rules: object): boolean => "value" in parse(busRules, { ...noRules, ...rules });
  ok(takes({ talk: ["org.a.B", "org.a.*"], call: ["org.a.B=*", "org.a.B=org.a.B.C@/x/*"] }));
  for (
    const wrong of [
      ...["", "org", "--see=org.a", "org.a.B --own=org.a", "org.a.B=x", "*", "org.*.a", "org.a\n"],
    ]
  ) {
    equal(takes({ talk: [wrong] }), false, wrong);
    equal(takes({ own: [wrong] }), false, wrong);
  }
  for (const wrong of ["org.a.B", "=x", "org.a.B=x y", "org.a.B=@relative", "--x=y"]) {
    equal(takes({ call: [wrong] }), false, wrong);
    equal(takes({ broadcast: [wrong] }), false, wrong);
  }
  ok("value" in parse(jailBuses, plainBuses));
});

const log = [
  "C1: -> org.freedesktop.DBus call org.freedesktop.DBus.Hello at /org/freedesktop/DBus",
  "B1: <- org.freedesktop.DBus return from C1",
  "C6: -> org.y.Bar call org.y.Bar.Do at /b",
  "*DENIED* (ping)",
  "B7: <- (no sender) return from C6",
  "*REWRITTEN*",
  "C7: -> org.freedesktop.DBus call org.freedesktop.DBus.RequestName at /org/freedesktop/DBus",
  "Filtering message due to arg0 org.me, policy: 0 (required 3)",
  "*HIDDEN* (ping)",
  "C8: -> org.y.Bar call org.y.Bar.Do at /b",
  "*DENIED* (ping)",
  "",
].join("\n");

Deno.test("each refusal is told once, however the log is cut", () => {
  const expected = [
    "org.y.Bar call org.y.Bar.Do at /b",
    "org.freedesktop.DBus call org.freedesktop.DBus.RequestName at /org/freedesktop/DBus, for org.me",
  ];
  for (const size of [1, 7, 50, log.length]) {
    const refusals = new Refusals();
    const told: string[] = [];
    for (let at = 0; at < log.length; at += size) {
      told.push(...refusals.push(log.slice(at, at + size)));
    }
    deepEqual(told, expected);
  }
});

Deno.test("who is refused ever new things is not told of for ever", () => {
  const refusals = new Refusals();
  let told = 0;
  for (let at = 0; at < 1000; at++) {
    told += refusals.push(`C${at}: -> org.x.N${at} call a at /\n*HIDDEN* (ping)\n`).length;
  }
  equal(told, 200);
});
