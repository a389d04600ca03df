/**
 * Of what form a value in a profile has to be: from one declaration come its type, its check, and the
 * JSON Schema that editors use.
 *
 * @module
 */
import { closestString } from "@std/text/closest-string";
import type { Path } from "./profile-toml.ts";

/** Told of a value that is not as it has to be, and why. */
export type Tell = (path: Path, why: string) => void;

/** A part of a JSON Schema. */
export type Schema = { readonly [word: string]: unknown };

/** What a value has to be. */
export interface Form<T> {
  readonly schema: Schema;
  /** The value, or `undefined` when what is wrong with it was told. */
  readonly read: (value: unknown, path: Path, tell: Tell) => T | undefined;
}

/** What a form's values are. */
export type Of<F> = F extends Form<infer T> ? T : never;

/** `; did you mean "…"?` with the nearest of the words. */
export function nearest(word: string, words: readonly string[]): string {
  if (words.length === 0) return "";
  const closest: string = closestString(word.slice(0, 64), [...words]);
  return `; did you mean ${JSON.stringify(closest)}?`;
}

/** A value as it is shown to a person. */
function shown(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** What a value is, for a person. */
function kindOf(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (value instanceof Date) return "a date";
  if (typeof value === "object") return "a table";
  return shown(value);
}

/** Describes a form, for the schema. */
export function about<T>(description: string, form: Form<T>): Form<T> {
  return { ...form, schema: { description, ...form.schema } };
}

/** One of some words. */
export function word<const W extends string>(...words: readonly W[]): Form<W> {
  return {
    schema: { enum: words },
    read: (value, path, tell) => {
      const found = words.find((one) => one === value);
      if (found === undefined) {
        const known = words.length > 10
          ? "what there is"
          : words.map((one) => JSON.stringify(one)).join(", ");
        tell(
          path,
          `${kindOf(value)} is none of ${known}` +
            (typeof value === "string" ? nearest(value, words) : ""),
        );
      }
      return found;
    },
  };
}

export const flag: Form<boolean> = {
  schema: { type: "boolean" },
  read: (value, path, tell) => {
    if (typeof value === "boolean") return value;
    tell(path, `${kindOf(value)} is neither true nor false`);
    return undefined;
  },
};

/** A line of text that a pattern describes. Whatever it is, there is no control character in it. */
export function text(
  pattern: RegExp,
  what: string,
  { most = 4095, refused }: {
    /** In characters. */
    readonly most?: number;
    /** Why this one cannot be used all the same. */
    readonly refused?: (value: string) => string | undefined;
  } = {},
): Form<string> {
  return {
    schema: { type: "string", pattern: pattern.source, maxLength: most },
    read: (value, path, tell) => {
      if (typeof value !== "string") {
        tell(path, `${kindOf(value)} is not ${what}`);
        return undefined;
      }
      const why = value.length > most
        ? `it is longer than ${most} characters`
        // deno-lint-ignore no-control-regex -- control characters are what it is about
        : /[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(value) || !value.isWellFormed()
        ? "there is a control character in it"
        : !pattern.test(value)
        ? `${shown(value)} is not ${what}`
        : refused?.(value);
      if (why === undefined) return value;
      tell(path, why);
      return undefined;
    },
  };
}

/** A whole number, or any. */
export function number(least: number, most: number, unit: string, whole = true): Form<number> {
  return {
    schema: { type: whole ? "integer" : "number", minimum: least, maximum: most },
    read: (value, path, tell) => {
      const fits = typeof value === "number" && value >= least && value <= most &&
        (!whole || Number.isSafeInteger(value));
      if (fits) return value;
      tell(path, `${kindOf(value)} is not ${least} to ${most} ${unit}`);
      return undefined;
    },
  };
}

const sizeUnits: Readonly<Record<string, number>> = {
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};
/** 64 TiB: more than there is, and exact as a number. */
const largestSize = 64 * 2 ** 40;
const leastSize = 64 * 2 ** 20;

/** A size in bytes, as a number or as a text such as `2G`. */
export const size: Form<number> = {
  schema: {
    anyOf: [
      { type: "integer", minimum: leastSize, maximum: largestSize },
      { type: "string", pattern: "^[1-9][0-9]*[KMGT]$" },
    ],
  },
  read: (value, path, tell) => {
    const [, digits, unit = ""] = typeof value === "string"
      ? /^([1-9][0-9]{0,15})([KMGT])$/.exec(value) ?? []
      : [];
    const bytes = typeof value === "number" ? value : Number(digits) * (sizeUnits[unit] ?? NaN);
    if (Number.isSafeInteger(bytes) && bytes >= leastSize && bytes <= largestSize) return bytes;
    tell(
      path,
      `${kindOf(value)} is no size: it is bytes, or such as "512M" or "2G", 64 MiB at least`,
    );
    return undefined;
  },
};

/** A list of which each element is different. */
export function list<T>(of: Form<T>, most: number, least = 0): Form<readonly T[]> {
  return {
    schema: { type: "array", items: of.schema, maxItems: most, minItems: least, uniqueItems: true },
    read: (value, path, tell) => {
      if (!Array.isArray(value)) {
        tell(path, `${kindOf(value)} is not a list`);
        return undefined;
      }
      if (value.length > most || value.length < least) {
        tell(path, `it has ${value.length} elements, not ${least} to ${most}`);
        return undefined;
      }
      const read: T[] = [];
      const seen = new Set<string>();
      for (const [index, one] of value.entries()) {
        const element = of.read(one, [...path, index], tell);
        if (element === undefined) continue;
        const name = JSON.stringify(element);
        if (seen.has(name)) tell([...path, index], `${kindOf(one)} stands there twice`);
        seen.add(name);
        read.push(element);
      }
      return read.length === value.length && seen.size === read.length ? read : undefined;
    },
  };
}

/** A list that one word may stand for, and in which a word may stand twice: a command line. */
export function words(of: Form<string>, most: number): Form<readonly string[]> {
  return {
    schema: {
      anyOf: [{ type: "string", pattern: "^\\S+$" }, {
        type: "array",
        items: of.schema,
        minItems: 1,
        maxItems: most,
      }],
    },
    read: (value, path, tell) => {
      if (typeof value === "string") {
        if (/\s/.test(value)) {
          tell(path, `${shown(value)} has spaces in it: write a list, ["command", "argument"]`);
          return undefined;
        }
        const one = of.read(value, path, tell);
        return one === undefined || one === "" ? empty(path, tell) : [one];
      }
      if (!Array.isArray(value) || value.length > most) {
        tell(path, `${kindOf(value)} is no command: it is a list of 1 to ${most} words`);
        return undefined;
      }
      if (value.length === 0 || value[0] === "") return empty(path, tell);
      const read = value.map((one, index) => of.read(one, [...path, index], tell));
      const known = read.filter((one) => one !== undefined);
      return known.length === read.length ? known : undefined;
    },
  };
}

function empty(path: Path, tell: Tell): undefined {
  tell(path, "the command is empty");
  return undefined;
}

/** A table with any names that a pattern describes. */
export function names<T>(
  pattern: RegExp,
  what: string,
  of: Form<T>,
  most: number,
): Form<Readonly<Record<string, T>>> {
  return {
    schema: {
      type: "object",
      propertyNames: { pattern: pattern.source },
      additionalProperties: of.schema,
      maxProperties: most,
    },
    read: (value, path, tell) => {
      const entries = entriesOf(value, path, tell);
      if (entries === undefined) return undefined;
      if (entries.length > most) {
        tell(path, `it has more than ${most} entries`);
        return undefined;
      }
      const read: [string, T][] = [];
      for (const [name, one] of entries) {
        if (!pattern.test(name)) {
          tell([...path, name], `${shown(name)} is no ${what}`);
          continue;
        }
        const element = of.read(one, [...path, name], tell);
        if (element !== undefined) read.push([name, element]);
      }
      return read.length === entries.length ? Object.fromEntries(read) : undefined;
    },
  };
}

type Forms = Readonly<Record<string, Form<unknown>>>;

/** A table of which each key may be absent. */
export type Table<F extends Forms> = { readonly [K in keyof F]?: Of<F[K]> };

/**
 * A table with exactly these keys, each of which may be absent. What is wrong is told, and the rest is
 * read all the same.
 *
 * @param needed which have to be there
 */
export function table<const F extends Forms>(
  forms: F,
  needed: readonly (keyof F & string)[] = [],
): Form<Table<F>> {
  return {
    schema: {
      type: "object",
      additionalProperties: false,
      ...needed.length > 0 ? { required: needed } : {},
      properties: Object.fromEntries(
        Object.entries(forms).map(([name, { schema }]) => [name, schema]),
      ),
    },
    read: (value, path, tell) => {
      const entries = entriesOf(value, path, tell);
      if (entries === undefined) return undefined;
      const read: Partial<Record<keyof F, unknown>> = {};
      for (const [name, one] of entries) {
        const form = Object.hasOwn(forms, name) ? forms[name] : undefined;
        if (form === undefined) {
          tell([...path, name], `there is no such key${nearest(name, Object.keys(forms))}`);
          continue;
        }
        const known: keyof F = name;
        const element = form.read(one, [...path, name], tell);
        if (element !== undefined) read[known] = element;
      }
      for (const name of needed) {
        if (!entries.some(([key]) => key === name)) tell(path, `"${name}" is missing`);
      }
      // Each was read by its own form.
      return read as Table<F>;
    },
  };
}

function entriesOf(
  value: unknown,
  path: Path,
  tell: Tell,
): readonly (readonly [string, unknown])[] | undefined {
  if (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)
  ) {
    return Object.entries(value);
  }
  tell(path, `${kindOf(value)} is not a table`);
  return undefined;
}
