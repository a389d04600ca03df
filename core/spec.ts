/**
 * What the helper is told to make a jail of: the part of a profile's settings that root's side acts
 * on, in the closed set of words that it knows.
 *
 * @module
 */
import type { Settings } from "./profile.ts";
import type { JailSpec } from "./protocol.ts";

/**
 * The words for the helper.
 *
 * @param network what the daemon lets jails have: `none` is for all of them, whatever a profile says
 */
export function specOf(settings: Settings, network: JailSpec["network"]): JailSpec {
  const { hostname, same_uid, home, tmpfs, devices, seccomp, limits } = settings;
  return {
    network: network === "none" ? "none" : settings.network,
    hostname,
    same_uid,
    home,
    tmpfs: [...tmpfs],
    devices: [...devices],
    seccomp,
    limits,
  };
}
