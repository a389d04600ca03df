/** core/x11.ts: the cookie of a jail, from what xauth prints to the file that programs read. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { authorityFile, cookieIn } from "../../core/x11.ts";
import { desktopX11, noSession } from "../../core/session.ts";

const scheme = "4d49542d4d414749432d434f4f4b49452d31";
const line = (secret: string, name = scheme) =>
  `0100 0002 766d 0001 33 0012 ${name} 0004 ${secret}`;

Deno.test("a cookie that the server has made comes before the owner's", () => {
  deepEqual(cookieIn(`${line("aabb")}\nowner\n${line("ccdd")}\n`), { own: true, secret: "aabb" });
  deepEqual(cookieIn(`owner\n${line("ccdd")}\n${line("eeff")}\n`), { own: false, secret: "ccdd" });
  // Of a server that takes all hosts, the address is empty.
  deepEqual(cookieIn(`owner\nffff 0000  0001 33 0012 ${scheme} 0002 0102\n`), {
    own: false,
    secret: "0102",
  });
});

Deno.test("what is no cookie is none", () => {
  for (
    const printed of [
      "",
      "owner\n",
      "owner\nnonsense",
      `owner\n${line("abc")}`,
      `owner\n${line("zz")}`,
      `owner\n${line("aabb", "58444d2d415554484f52495a4154494f4e2d31")}`,
      line(""),
      line("aa".repeat(257)),
    ]
  ) equal(cookieIn(printed), undefined, printed);
});

Deno.test("the file has one entry, for that display of any host", () => {
  const bytes = authorityFile(12, { own: true, secret: "00ff10" });
  deepEqual([...bytes.subarray(0, 6)], [0xff, 0xff, 0, 0, 0, 2]);
  equal(new TextDecoder().decode(bytes.subarray(6, 8)), "12");
  deepEqual([...bytes.subarray(8, 10)], [0, 18]);
  equal(new TextDecoder().decode(bytes.subarray(10, 28)), "MIT-MAGIC-COOKIE-1");
  deepEqual([...bytes.subarray(28)], [0, 3, 0, 0xff, 0x10]);
});

Deno.test("the cookies are where the caller says, if that is a path", () => {
  const session = { ...noSession, DISPLAY: ":3", XAUTHORITY: "/run/user/1000/xauth_x" };
  deepEqual(desktopX11({ display: "x11" }, session), {
    number: 3,
    authority: "/run/user/1000/xauth_x",
    required: true,
  });
  for (const XAUTHORITY of ["", "x", "/a/../b", "/a\0", null]) {
    const x11 = desktopX11({ display: "auto" }, { ...session, XAUTHORITY });
    ok(x11 !== null && x11.authority === null && !x11.required);
  }
  equal(desktopX11({ display: "wayland" }, session), null);
  equal(desktopX11({ display: "auto" }, noSession), null);
});
