/** core/environment.ts: what comes along into a jail, and what does not (attack 21). */
import { deepEqual, equal, ok } from "node:assert/strict";
import { baseEnvironment, inheritedOf, isInherited, searchPath } from "../../core/environment.ts";
import { appUid, parse, profileName } from "../../core/names.ts";

/** What people have in their environments that is a secret, a door, or a lever. */
const secret = [
  "SSH_AUTH_SOCK",
  "SSH_AGENT_PID",
  "SSH_CONNECTION",
  "GPG_AGENT_INFO",
  "GITHUB_TOKEN",
  "GH_TOKEN",
  "NPM_TOKEN",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
  "OPENAI_API_KEY",
  "PASSWORD",
  "PGPASSWORD",
  "XAUTHORITY",
  "DISPLAY",
  "WAYLAND_DISPLAY",
  "XDG_RUNTIME_DIR",
  "XDG_SESSION_ID",
  "DBUS_SESSION_BUS_ADDRESS",
  "DBUS_SYSTEM_BUS_ADDRESS",
  "DBUS_STARTER_ADDRESS",
  "PULSE_SERVER",
  "PIPEWIRE_REMOTE",
  "KRB5CCNAME",
  "HOME",
  "USER",
  "LOGNAME",
  "MAIL",
  "PWD",
  "OLDPWD",
  "PATH",
  "SHELL",
  "LD_PRELOAD",
  "LD_LIBRARY_PATH",
  "LD_AUDIT",
  "GCONV_PATH",
  "LOCPATH",
  "NLSPATH",
  "TERMINFO",
  "TERMCAP",
  "IFS",
  "ENV",
  "BASH_ENV",
  "PS4",
  "PROMPT_COMMAND",
  "BASH_FUNC_ls%%",
  "LESSOPEN",
  "PYTHONPATH",
  "PERL5LIB",
  "NODE_OPTIONS",
  "DENO_DIR",
  "DENO_AUTH_TOKENS",
  "APPJAIL_SOCKET",
  "APPJAIL_DEBUG",
  "SUDO_USER",
  "http_proxy",
  "LC_",
  "LC_ALL_",
  "LC_ALL=",
  "LC_all",
  "XLC_ALL",
  "LANG_",
  "lang",
  "TERM2",
  "__proto__",
  "constructor",
  "",
];
const wanted = [
  "LANG",
  "LANGUAGE",
  "LC_ALL",
  "LC_CTYPE",
  "LC_TIME",
  "TERM",
  "COLORTERM",
  "TZ",
  "LS_COLORS",
  "EDITOR",
  "VISUAL",
  "PAGER",
  "LESS",
];

Deno.test("of a person's environment only how to talk to them comes along", () => {
  const own = Object.fromEntries([...secret, ...wanted].map((name) => [name, `value of ${name}`]));
  deepEqual(
    inheritedOf(own),
    Object.fromEntries(wanted.map((name) => [name, `value of ${name}`])),
  );
  for (const name of secret) equal(isInherited(name), false, name);
  equal(isInherited("NO_COLOR"), true);
});

Deno.test("a jail's own environment is its own: nothing of it is what the caller had", () => {
  const [profile, uid] = [parse(profileName, "work"), parse(appUid, 1100)];
  ok("value" in profile && "value" in uid);
  deepEqual(baseEnvironment(profile.value, uid.value), {
    HOME: "/home/work",
    USER: "work",
    LOGNAME: "work",
    SHELL: "/bin/sh",
    PATH: searchPath,
    XDG_RUNTIME_DIR: "/run/user/1100",
    DBUS_SESSION_BUS_ADDRESS: "unix:path=/run/user/1100/bus",
    LANG: "C.UTF-8",
    APPJAIL_PROFILE: "work",
  });
  for (const folder of searchPath.split(":")) ok(folder.startsWith("/"), folder);
});
