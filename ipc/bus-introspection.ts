/**
 * What a service says of itself: the declaration of its interface, checked once, and the
 * introspection XML made from it.
 *
 * Every name is checked against its grammar before it is used, so nothing here needs escaping.
 */
import {
  isInterfaceName,
  isMemberName,
  isObjectPath,
  isWellKnownName,
  parseSignature,
} from "./bus-message.ts";

export interface BusArgument {
  readonly name: string;
  /** One complete D-Bus type, such as `s` or `a{sv}`. `h` is not possible. */
  readonly type: string;
}

export interface BusMethod {
  readonly name: string;
  readonly in: readonly BusArgument[];
  readonly out: readonly BusArgument[];
}

/** A read-only property; its value may differ from one caller to the next. */
export interface BusProperty {
  readonly name: string;
  readonly type: string;
  /** The value for this caller. What it throws is treated as what a method's handler throws. */
  readonly read: (uid: number) => unknown;
}

export interface BusDeclaration {
  readonly name: string;
  readonly path: string;
  readonly interface: string;
  readonly methods: readonly BusMethod[];
  readonly properties: readonly BusProperty[];
}

export const INTROSPECTABLE = "org.freedesktop.DBus.Introspectable";
export const PEER = "org.freedesktop.DBus.Peer";
export const PROPERTIES = "org.freedesktop.DBus.Properties";

const text = (name: string): BusArgument => ({ name, type: "s" });

/** The interfaces that every object has. */
export const STANDARD: Readonly<Record<string, readonly BusMethod[]>> = {
  [INTROSPECTABLE]: [{ name: "Introspect", in: [], out: [text("xml_data")] }],
  [PEER]: [
    { name: "Ping", in: [], out: [] },
    { name: "GetMachineId", in: [], out: [text("machine_uuid")] },
  ],
  [PROPERTIES]: [
    {
      name: "Get",
      in: [text("interface_name"), text("property_name")],
      out: [{ name: "value", type: "v" }],
    },
    {
      name: "GetAll",
      in: [text("interface_name")],
      out: [{ name: "properties", type: "a{sv}" }],
    },
    {
      name: "Set",
      in: [text("interface_name"), text("property_name"), { name: "value", type: "v" }],
      out: [],
    },
  ],
};

/** Throws a TypeError when a declaration is wrong: a mistake of the program, not of a peer. */
export function checkDeclaration(service: BusDeclaration): void {
  const must = (ok: boolean, what: string, value: string) => {
    if (!ok) throw new TypeError(`Bad D-Bus declaration: ${what} ${JSON.stringify(value)}`);
  };
  const type = (signature: string) => {
    const types = parseSignature(signature);
    must(types.length === 1 && !signature.includes("h"), "type", signature);
    // dbus-next keeps a dictionary as an object, whose keys are strings.
    must(
      !/\{[^sog]/.test(signature),
      "type with a dictionary whose keys are not strings:",
      signature,
    );
  };
  must(isWellKnownName(service.name), "bus name", service.name);
  must(isObjectPath(service.path), "object path", service.path);
  must(isInterfaceName(service.interface), "interface", service.interface);
  must(!(service.interface in STANDARD), "interface is a standard one:", service.interface);
  for (const method of service.methods) {
    must(isMemberName(method.name), "method", method.name);
    for (const argument of [...method.in, ...method.out]) {
      must(isMemberName(argument.name), "argument", argument.name);
      type(argument.type);
    }
  }
  for (const property of service.properties) {
    must(isMemberName(property.name), "property", property.name);
    type(property.type);
  }
}

/** Whether a path is the object's or leads to it. */
export function isNode(service: BusDeclaration, path: string): boolean {
  return path === "/" || `${service.path}/`.startsWith(`${path}/`);
}

/**
 * The introspection document of a path for which `isNode` holds. The parents of the object's path
 * are there so that a tool can walk down to it from `/`.
 */
export function introspect(service: BusDeclaration, path: string): string {
  const lines = [
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"',
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">',
    "<node>",
  ];
  if (path === service.path) {
    lines.push(...describe(service.interface, service.methods, service.properties));
    lines.push(...describe(PROPERTIES, STANDARD[PROPERTIES] ?? [], []));
  }
  for (const name of [INTROSPECTABLE, PEER]) {
    lines.push(...describe(name, STANDARD[name] ?? [], []));
  }
  const [child] = service.path.slice(path === "/" ? 1 : path.length + 1).split("/");
  if (child) lines.push(`  <node name="${child}"/>`);
  return [...lines, "</node>", ""].join("\n");
}

function describe(
  name: string,
  methods: readonly BusMethod[],
  properties: readonly BusProperty[],
): readonly string[] {
  const lines = [`  <interface name="${name}">`];
  for (const method of methods) {
    lines.push(`    <method name="${method.name}">`);
    for (const direction of ["in", "out"] as const) {
      for (const { name, type } of method[direction]) {
        lines.push(`      <arg name="${name}" type="${type}" direction="${direction}"/>`);
      }
    }
    lines.push("    </method>");
  }
  for (const { name, type } of properties) {
    lines.push(`    <property name="${name}" type="${type}" access="read">`);
    // Without this, a client may keep the first value that it sees for ever.
    lines.push(
      '      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>',
    );
    lines.push("    </property>");
  }
  return [...lines, "  </interface>"];
}
