/**
 * What a service says of itself: the declaration of its interfaces, checked once, and the
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

export interface BusSignal {
  readonly name: string;
  readonly args: readonly BusArgument[];
}

/** A read-only property; its value may differ from one caller to the next. */
export interface BusProperty {
  readonly name: string;
  readonly type: string;
  /** The value for this caller. What it throws is treated as what a method's handler throws. */
  readonly read: (uid: number) => unknown;
}

/** A read-only property of objects that come and go. */
export interface BusObjectProperty {
  readonly name: string;
  readonly type: string;
  /** true: subscribers are told of a new value. const: it never has another. */
  readonly emits: "true" | "const";
}

/** Objects that come and go, each of which is one person's: `<path>/<folder>/<name>`. */
export interface BusObjects {
  readonly folder: string;
  readonly interface: string;
  readonly properties: readonly BusObjectProperty[];
  /** The names of a caller's own. */
  readonly names: (uid: number) => readonly string[];
  /** What one is; `undefined` when there is none, or none that this caller may know of. */
  readonly values: (uid: number, name: string) => Readonly<Record<string, unknown>> | undefined;
}

export interface BusDeclaration {
  readonly name: string;
  readonly path: string;
  readonly interface: string;
  readonly methods: readonly BusMethod[];
  readonly properties: readonly BusProperty[];
  readonly signals?: readonly BusSignal[];
  readonly objects?: BusObjects;
}

export const INTROSPECTABLE = "org.freedesktop.DBus.Introspectable";
export const PEER = "org.freedesktop.DBus.Peer";
export const PROPERTIES = "org.freedesktop.DBus.Properties";
export const OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager";

const text = (name: string): BusArgument => ({ name, type: "s" });

interface Interface {
  readonly methods: readonly BusMethod[];
  readonly signals: readonly BusSignal[];
}

/** The interfaces that the specification says. */
export const STANDARD: Readonly<Record<string, Interface>> = {
  [INTROSPECTABLE]: {
    methods: [{ name: "Introspect", in: [], out: [text("xml_data")] }],
    signals: [],
  },
  [PEER]: {
    methods: [
      { name: "Ping", in: [], out: [] },
      { name: "GetMachineId", in: [], out: [text("machine_uuid")] },
    ],
    signals: [],
  },
  [PROPERTIES]: {
    methods: [
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
    signals: [{
      name: "PropertiesChanged",
      args: [
        text("interface_name"),
        { name: "changed_properties", type: "a{sv}" },
        { name: "invalidated_properties", type: "as" },
      ],
    }],
  },
  [OBJECT_MANAGER]: {
    methods: [{
      name: "GetManagedObjects",
      in: [],
      out: [{ name: "objpath_interfaces_and_properties", type: "a{oa{sa{sv}}}" }],
    }],
    signals: [
      {
        name: "InterfacesAdded",
        args: [
          { name: "object_path", type: "o" },
          { name: "interfaces_and_properties", type: "a{sa{sv}}" },
        ],
      },
      {
        name: "InterfacesRemoved",
        args: [{ name: "object_path", type: "o" }, { name: "interfaces", type: "as" }],
      },
    ],
  },
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
  const ownInterface = (name: string) => {
    must(isInterfaceName(name), "interface", name);
    must(!(name in STANDARD), "interface is a standard one:", name);
  };
  const named = (what: string, { name, type: signature }: BusArgument) => {
    must(isMemberName(name), what, name);
    type(signature);
  };
  must(isWellKnownName(service.name), "bus name", service.name);
  must(isObjectPath(service.path), "object path", service.path);
  ownInterface(service.interface);
  for (const method of service.methods) {
    must(isMemberName(method.name), "method", method.name);
    for (const argument of [...method.in, ...method.out]) named("argument", argument);
  }
  for (const signal of service.signals ?? []) {
    must(isMemberName(signal.name), "signal", signal.name);
    for (const argument of signal.args) named("argument", argument);
  }
  for (const property of service.properties) named("property", property);
  const { objects } = service;
  if (objects === undefined) return;
  must(isMemberName(objects.folder), "folder", objects.folder);
  ownInterface(objects.interface);
  for (const property of objects.properties) named("property", property);
}

/** What a path is. An object's path says nothing about whether there is such an object. */
export type Node =
  | { readonly kind: "parent" | "own" | "folder" }
  | { readonly kind: "object"; readonly name: string };

/** What a path is; `undefined` when it leads nowhere. */
export function nodeAt(service: BusDeclaration, path: string): Node | undefined {
  if (path === service.path) return { kind: "own" };
  if (path === "/" || service.path.startsWith(`${path}/`)) return { kind: "parent" };
  const { objects } = service;
  if (objects === undefined) return undefined;
  const folder = `${service.path}/${objects.folder}`;
  if (path === folder) return { kind: "folder" };
  const name = path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : "";
  return name === "" || name.includes("/") ? undefined : { kind: "object", name };
}

/** The path of an object that comes and goes. */
export function objectPath(service: BusDeclaration, name: string): string {
  return `${service.path}/${service.objects?.folder}/${name}`;
}

/**
 * The introspection document of a node. The parents of the object's path are there so that a tool can
 * walk down to it from `/`.
 *
 * @param names the objects in the folder that the caller may know of
 */
export function introspect(
  service: BusDeclaration,
  path: string,
  node: Node,
  names: readonly string[] = [],
): string {
  const lines = [
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"',
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">',
    "<node>",
  ];
  const standard = (name: string) => {
    const { methods, signals } = STANDARD[name] ?? { methods: [], signals: [] };
    lines.push(...describe(name, methods, signals, []));
  };
  const { methods, signals = [], properties, objects } = service;
  const children: string[] = [];
  switch (node.kind) {
    case "own":
      // Without this, a client may keep the first value that it sees for ever.
      lines.push(
        ...describe(
          service.interface,
          methods,
          signals,
          properties.map(({ name, type }) => ({ name, type, emits: "false" })),
        ),
      );
      standard(PROPERTIES);
      if (objects !== undefined) {
        standard(OBJECT_MANAGER);
        children.push(objects.folder);
      }
      break;
    case "object":
      if (objects !== undefined) {
        lines.push(...describe(objects.interface, [], [], objects.properties));
      }
      standard(PROPERTIES);
      break;
    case "folder":
      children.push(...names);
      break;
    case "parent": {
      const [child = ""] = service.path.slice(path === "/" ? 1 : path.length + 1).split("/");
      children.push(child);
      break;
    }
    default:
      node satisfies never;
  }
  standard(INTROSPECTABLE);
  standard(PEER);
  for (const child of children) lines.push(`  <node name="${child}"/>`);
  return [...lines, "</node>", ""].join("\n");
}

interface Described {
  readonly name: string;
  readonly type: string;
  readonly emits: "true" | "const" | "false";
}

function describe(
  name: string,
  methods: readonly BusMethod[],
  signals: readonly BusSignal[],
  properties: readonly Described[],
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
  for (const signal of signals) {
    lines.push(`    <signal name="${signal.name}">`);
    for (const { name, type } of signal.args) {
      lines.push(`      <arg name="${name}" type="${type}"/>`);
    }
    lines.push("    </signal>");
  }
  for (const { name, type, emits } of properties) {
    lines.push(`    <property name="${name}" type="${type}" access="read">`);
    const annotation = "org.freedesktop.DBus.Property.EmitsChangedSignal";
    lines.push(`      <annotation name="${annotation}" value="${emits}"/>`);
    lines.push("    </property>");
  }
  return [...lines, "  </interface>"];
}
