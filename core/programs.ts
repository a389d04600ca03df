/**
 * Where the programs of others are that more than one part of appjail looks for. They are named by
 * their whole paths: nothing is ever looked up in a PATH that somebody else may have set.
 *
 * @module
 */

export const bubblewrap = "/usr/bin/bwrap";
export const busDaemon = "/usr/bin/dbus-daemon";
export const busProxy = "/usr/bin/xdg-dbus-proxy";
export const prlimit = "/usr/bin/prlimit";
export const unshare = "/usr/bin/unshare";
export const xauth = "/usr/bin/xauth";
