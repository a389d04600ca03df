/**
 * Writes the few lines of shell that stand for the program where it is not one executable.
 *
 * They run on every start, so they call no other program, unless they are reached through a
 * symbolic link from elsewhere; and they trust nothing of the caller's environment, because Deno
 * would obey some of it.
 *
 * @module
 */
import { allPermissions, denoEnvironment, reexecuted, runWords } from "../core/launch.ts";

/**
 * What Deno 2.9 or the Node in it takes from the environment. Each one either runs other code
 * (NODE_OPTIONS), writes a file (DENO_COVERAGE_DIR, DENO_AUDIT_PERMISSIONS), connects somewhere
 * (OTEL_DENO, DENO_CONNECTED, DENO_UNSTABLE_CONTROL_SOCK), ends or stops the program
 * (DENO_V8_FLAGS, NODE_CHANNEL_FD, DENO_TOKIO_EVENT_INTERVAL). The rest did nothing when it was
 * tried, and has no business here. What is set to a value of ours is not in the list.
 */
export const steeringVariables: readonly string[] = [
  "DENO_AUDIT_PERMISSIONS",
  "DENO_AUTH_TOKENS",
  "DENO_AUTO_SERVE",
  "DENO_CACHE_DB_MODE",
  "DENO_CACHE_LSC_ENDPOINT",
  "DENO_CERT",
  "DENO_COMPAT",
  "DENO_CONDITIONS",
  "DENO_CONNECTED",
  "DENO_COVERAGE_DIR",
  "DENO_EMIT_CACHE_MODE",
  "DENO_EXTRA_STDIO_FDS",
  "DENO_INTERNAL_CHILD_ENTRYPOINT",
  "DENO_NODE_SHIM_ACTIVE",
  "DENO_NODE_TRACE_EVENT_CATEGORIES",
  "DENO_NO_PACKAGE_JSON",
  "DENO_PATCH_REACT_CVE",
  "DENO_SERVE_ADDRESS",
  "DENO_TLS_CA_STORE",
  "DENO_TOKIO_EVENT_INTERVAL",
  "DENO_TOKIO_MAX_IO_EVENTS_PER_TICK",
  "DENO_TRACE_PERMISSIONS",
  "DENO_UNSTABLE_CONTROL_SOCK",
  "DENO_UNSTABLE_OTEL_DETERMINISTIC",
  "DENO_USE_CGROUPS",
  "DENO_V8_FLAGS",
  "NODE_CHANNEL_FD",
  "NODE_CHANNEL_SERIALIZATION_MODE",
  "NODE_DEBUG",
  "NODE_EXTRA_CA_CERTS",
  "NODE_OPTIONS",
  "NODE_TLS_REJECT_UNAUTHORIZED",
  "NODE_UNIQUE_ID",
  "NODE_USE_ENV_PROXY",
  "NODE_V8_COVERAGE",
  "NPM_CONFIG_MIN_RELEASE_AGE",
  "NPM_CONFIG_REGISTRY",
  "OTEL_DENO",
  "RUST_BACKTRACE",
  "RUST_LOG",
  "RUST_MIN_STACK",
  "SSLKEYLOGFILE",
  "npm_config_min_release_age",
  "npm_config_registry",
];

/** Where the launcher finds its parts, told from the folder that it lies in. */
export interface Parts {
  /** The copy of Deno, as `appjail.d/deno-2.9.6`. */
  readonly deno: string;
  /** The program's first file, as `appjail.d/0123456789ab/appjail.js`. */
  readonly script: string;
  /** How somebody who misses them gets them again. */
  readonly again: string;
}

/** The launcher's text. */
export function launcher({ deno, script, again }: Parts): string {
  for (const part of [deno, script]) {
    if (!/^[\w./-]+$/.test(part)) throw new Error(`Cannot write a launcher for the path ${part}`);
  }
  const words = [...runWords, ...allPermissions, `"$appjail_dir/${script}"`, '"$@"'].join(" ");
  return `#!/bin/sh
# Starts appjail from the files in ${
    script.split("/").slice(0, -2).join("/")
  }, told from where this one lies.
# Written by packaging/launcher.ts.

# The kernel gives a script the path it was found by, not argv[0]. A leading "./" keeps a folder
# called "-x" from being an option, and a relative path from being taken for a URL.
case $0 in
/*) appjail_dir=\${0%/*} ;;
*/*) appjail_dir=./\${0%/*} ;;
*) appjail_dir=. ;;
esac
if ! [ -e "$appjail_dir/${script}" ]; then
  # Reached through a symbolic link that lies elsewhere.
  appjail_dir=$(PATH=/usr/bin:/bin readlink -f -- "$appjail_dir/\${0##*/}")
  appjail_dir=\${appjail_dir%/*}
fi
if ! [ -x "$appjail_dir/${deno}" ] || ! [ -r "$appjail_dir/${script}" ]; then
  printf '%s\\n' "Cannot start appjail: the files beside $0 are missing or may not be read;\
 ${again}" >&2
  exit 111
fi

# A program that runs in a folder which was removed is served too; Deno would refuse.
case $PWD in
/*) ;;
*)
  case $appjail_dir in /*) cd / ;; esac
  ;;
esac

case \${0##*/} in
${reexecuted.map((role) => `appjail-${role}) set -- ${role} "$@" ;;`).join("\n")}
esac

# For the programs that ask for a passphrase; what Deno is to see comes over it.
export APPJAIL_HOME="\${HOME-}"
unset ${steeringVariables.join(" \\\n  ")}
export ${Object.entries(denoEnvironment).map(([name, value]) => `${name}=${value}`).join(" ")}

# A client passes SIGUSR1 on, which Deno must not get: it would open its debugger (ipc/signals.ts). A
# mask is what all threads have from the start, and the client reads from it.
case \${1-} in
run | shell | attach) exec /usr/bin/env --block-signal=USR1 "$appjail_dir/${deno}" ${words} ;;
esac
exec "$appjail_dir/${deno}" ${words}
`;
}
