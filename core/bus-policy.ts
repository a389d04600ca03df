/**
 * What a system bus has to be told before the dispatcher may have its name there, and anybody call
 * it. It denies everything that it does not name. dbus-daemon(1), CONFIGURATION FILE.
 *
 * @module
 */

export const busName = "org.appjail.AppJail";

/** Where a bus looks for such files. */
export const policyFolders: readonly string[] = [
  "/etc/dbus-1/system.d",
  "/usr/share/dbus-1/system.d",
  "/usr/local/share/dbus-1/system.d",
];

/** Where an administrator puts one. */
export const policyPath: string = `${policyFolders[0]}/${busName}.conf`;

/** @param user whom the dispatcher runs as: a name or a number */
export function busPolicy(user: string): string {
  return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <!-- For everybody: nothing but these interfaces, and not the name. -->
  <policy context="default">
    <deny own="${busName}"/>
    <deny send_destination="${busName}"/>
    <allow send_destination="${busName}" send_interface="org.appjail.AppJail1"/>
    <allow send_destination="${busName}"
           send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="${busName}" send_interface="org.freedesktop.DBus.Peer"/>
    <allow send_destination="${busName}" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <!-- The name is for the dispatcher's user, the daemon's flag "user". -->
  <policy user="${user}">
    <allow own="${busName}"/>
  </policy>
</busconfig>
`;
}

/** The users whom a policy lets have the name, each as it is written. */
export function mayOwn(text: string): readonly string[] {
  const plain = text.replace(/<!--[\s\S]*?-->/g, "");
  return [...plain.matchAll(/<policy\s+user=["']([^"']*)["']\s*>([\s\S]*?)<\/policy>/g)]
    .filter(([, , rules = ""]) => new RegExp(`<allow\\s+own=["']${busName}["']`).test(rules))
    .map(([, user = ""]) => user);
}
