/** core/session.ts: which sockets of a desktop are lent, and what programs are told. */
import { deepEqual, equal, ok } from "node:assert/strict";
import {
  desktopEnvironment,
  desktopLends,
  type DesktopWish,
  displayNumber,
  noSession,
  pulseCookie,
  type Session,
  windowsBy,
} from "../../core/session.ts";
import { Random } from "../random.ts";

const people = { owner: 1000, uid: 1100 };

function lent(wish: Partial<DesktopWish>, session: Partial<Session> = {}): readonly string[] {
  return desktopLends(
    { display: "none", audio: "none", ...wish },
    { ...noSession, ...session },
    people,
  )
    .map(({ path, at, skip_missing, write, unless, context }) =>
      `${path} ${at}${skip_missing ? " if there" : ""}${write ? "" : " ro"}` +
      (unless === null ? "" : ` without ${unless}`) +
      (context === "none" ? "" : ` context ${context}`)
    );
}

Deno.test("a profile that wants nothing of a desktop is lent nothing of it", () => {
  deepEqual(lent({}, { WAYLAND_DISPLAY: "wayland-0", DISPLAY: ":0" }), []);
});

Deno.test("Wayland is where the caller says, or where it usually is", () => {
  const wish = { display: "wayland" } as const;
  deepEqual(lent(wish), ["/run/user/1000/wayland-0 /run/user/1100/wayland-0 context wanted"]);
  deepEqual(lent(wish, { XDG_RUNTIME_DIR: "/run/x/", WAYLAND_DISPLAY: "wayland-7" }), [
    "/run/x/wayland-7 /run/user/1100/wayland-0 context wanted",
  ]);
  deepEqual(lent(wish, { WAYLAND_DISPLAY: "/tmp/compositor" }), [
    "/tmp/compositor /run/user/1100/wayland-0 context wanted",
  ]);
  deepEqual(lent({ display: "wayland-context" }), [
    "/run/user/1000/wayland-0 /run/user/1100/wayland-0 context required",
  ]);
});

Deno.test("by what windows are shown is told by what was lent, and how", () => {
  const [socket] = desktopLends({ display: "auto", audio: "none" }, noSession, people);
  ok(socket !== undefined);
  equal(windowsBy([{ ...socket, context: true }]), "context");
  equal(windowsBy([{ ...socket, context: false }]), "wayland");
  equal(windowsBy([{ name: ".x11", at: "/tmp/.X11-unix/X3", context: false }]), "x11");
  // Something else of that name, in ~/lent, is nothing that a program finds.
  equal(windowsBy([{ name: socket.name, at: null, context: false }]), null);
  equal(windowsBy([]), null);
});

Deno.test("by itself it is Wayland, and X11 only where there is none", () => {
  const wish = { display: "auto" } as const;
  const wayland = "/run/user/1000/wayland-0 /run/user/1100/wayland-0 if there context wanted";
  deepEqual(lent(wish), [wayland]);
  deepEqual(lent(wish, { DISPLAY: ":0", WAYLAND_DISPLAY: "wayland-0" }), [wayland]);
  const x11 = "/tmp/.X11-unix/X3 /tmp/.X11-unix/X3 if there";
  deepEqual(lent(wish, { DISPLAY: ":3.0" }), [x11]);
  // One that is far away is not lent.
  deepEqual(lent(wish, { DISPLAY: "far:0" }), [wayland]);
});

Deno.test("sound is by the socket that the profile names, or by those that there are", () => {
  deepEqual(lent({ audio: "pipewire" }), ["/run/user/1000/pipewire-0 /run/user/1100/pipewire-0"]);
  deepEqual(lent({ audio: "pulse" }, { PULSE_SERVER: "unix:/run/p/native" }), [
    "/run/p/native /run/user/1100/pulse/native",
  ]);
  // PipeWire's own shows cameras, too, and is not needed where it serves PulseAudio's.
  deepEqual(lent({ audio: "auto" }), [
    "/run/user/1000/pulse/native /run/user/1100/pulse/native if there",
    "/run/user/1000/pipewire-0 /run/user/1100/pipewire-0 if there without .pulse",
  ]);
});

Deno.test("PulseAudio's cookie is in the owner's home, and wanted by whoever wants PulseAudio", () => {
  const cookie = "/home/alice/.config/pulse/cookie";
  equal(pulseCookie({ audio: "pulse" }, "/home/alice"), cookie);
  equal(pulseCookie({ audio: "auto" }, "/home/alice"), cookie);
  equal(pulseCookie({ audio: "pipewire" }, "/home/alice"), null);
  equal(pulseCookie({ audio: "none" }, "/home/alice"), null);
  for (const home of [undefined, "", "/", "/a/../b"]) {
    equal(pulseCookie({ audio: "pulse" }, home), null);
  }
});

Deno.test("programs are told of what there is, and of nothing else", () => {
  deepEqual(desktopEnvironment([], 1100), {});
  deepEqual(desktopEnvironment([{ at: null }, { at: "/run/user/1100/pipewire-0" }], 1100), {});
  equal(
    desktopEnvironment([{ at: "/run/user/1100/wayland-0" }], 1100)["WAYLAND_DISPLAY"],
    "wayland-0",
  );
  const x11 = desktopEnvironment([{ at: "/tmp/.X11-unix/X3" }], 1100);
  equal(x11["DISPLAY"], ":3");
  equal(x11["XAUTHORITY"], "/run/user/1100/xauthority");
  equal(
    desktopEnvironment([{ at: "/run/user/1100/pulse/native" }], 1100)["PULSE_SERVER"],
    "unix:/run/user/1100/pulse/native",
  );
});

Deno.test("a display is a number, or none of this machine's", () => {
  deepEqual([":0", ":12.1", "unix:2", "host:0", "", ":x", ":-1", ":999999"].map(displayNumber), [
    ...[0, 12, 2],
    ...Array(5).fill(undefined),
  ]);
});

Deno.test("whatever a caller says, the places in the jail are the same few", () => {
  const random = new Random(7);
  const odd = [
    "..",
    "/",
    "../../etc",
    "/etc/../x",
    "a\0b",
    "",
    ":0",
    "/run//x",
    "wayland-0",
    "/x/.",
  ];
  const places = new Set([
    ...["wayland-0", "pipewire-0", "pulse/native"].map((name) => `/run/user/1100/${name}`),
  ]);
  for (let turn = 0; turn < 2000; turn++) {
    const session: Session = {
      DBUS_SESSION_BUS_ADDRESS: null,
      DISPLAY: random.of(odd),
      PIPEWIRE_REMOTE: random.of(odd),
      PULSE_SERVER: `unix:${random.of(odd)}`,
      WAYLAND_DISPLAY: random.of(odd),
      XAUTHORITY: random.of(odd),
      XDG_RUNTIME_DIR: random.of(odd),
    };
    for (const { at, path } of desktopLends({ display: "auto", audio: "auto" }, session, people)) {
      ok(places.has(at) || at === "/tmp/.X11-unix/X0", at);
      ok(path.startsWith("/") && !/\/\.{1,2}(\/|$)|\/\/|\0/.test(path), JSON.stringify(path));
    }
  }
});
