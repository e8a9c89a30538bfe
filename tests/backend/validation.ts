/**
 * Convex's messages for a value that a validator rejects. `convex-test` checks less than a real
 * backend and has messages of its own. Tests depend on the real messages, so this module produces
 * them; conformance.test.ts checks them against a recording.
 */
import type { Value, ValidatorJSON } from "convex/values";

const MAX_ARRAY_LENGTH = 8192;
const MAX_NESTING = 64;

/** The first complaint about the value, or null if the validator accepts it. */
export function mismatch(validator: ValidatorJSON, value: Value, path = ""): string | null {
  switch (validator.type) {
    case "object":
      return isObject(value)
        ? objectMismatch(validator.value, value, path)
        : noMatch(validator, value, path);
    case "array":
      return Array.isArray(value)
        ? first(value, (element, index) => mismatch(validator.value, element, `${path}[${index}]`))
        : noMatch(validator, value, path);
    case "record":
      return isObject(value)
        ? first(Object.entries(value), ([key, field]) =>
            mismatch(validator.values.fieldType, field, `${path}.${key}`),
          )
        : noMatch(validator, value, path);
    case "union":
      return validator.value.some((member) => mismatch(member, value, path) === null)
        ? null
        : noMatch(validator, value, path);
    default:
      return acceptsScalar(validator, value) ? null : noMatch(validator, value, path);
  }
}

/**
 * Why no validator could accept the value as an argument. Values are built from the inside out, so
 * the innermost error is reported.
 */
export function malformed(value: Value): string | null {
  try {
    nesting(value);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/** JSON allows half a surrogate pair, but Convex cannot store it. */
export function hasLoneSurrogate(value: Value): boolean {
  if (typeof value === "string") return !value.isWellFormed();
  if (Array.isArray(value)) return value.some(hasLoneSurrogate);
  return isObject(value) && Object.entries(value).flat().some(hasLoneSurrogate);
}

/** A value as Convex formats it in messages. */
export function display(value: Value): string {
  if (typeof value === "number") return Number.isInteger(value) ? `${value}.0` : String(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(display).join(", ")}]`;
  if (value instanceof ArrayBuffer) return `b"${Buffer.from(value).toString("base64")}"`;
  if (!isObject(value)) return `${value as bigint | boolean | null}`;
  return `{${sortedEntries(value)
    .map(([key, field]) => `${key}: ${display(field)}`)
    .join(", ")}}`;
}

type ObjectFields = Extract<ValidatorJSON, { type: "object" }>["value"];
type ConvexObject = Record<string, Value>;

function objectMismatch(fields: ObjectFields, value: ConvexObject, path: string): string | null {
  return (
    first(sortedEntries(fields), ([name, { fieldType, optional }]) => {
      const field = value[name];
      if (field !== undefined) return mismatch(fieldType, field, `${path}.${name}`);
      if (optional) return null;
      const remedy =
        "Consider wrapping the field validator in `v.optional(...)` if this is expected.";
      return `Object is missing the required field \`${name}\`. ${remedy}\n\n${objectContext(fields, value, path)}`;
    }) ??
    first(Object.keys(value), (name) =>
      name in fields
        ? null
        : `Object contains extra field \`${name}\` that is not in the validator.\n\n${objectContext(fields, value, path)}`,
    )
  );
}

function objectContext(fields: ObjectFields, value: ConvexObject, path: string): string {
  const validator = displayValidator({ type: "object", value: fields });
  return `${at(path)}Object: ${display(value)}\nValidator: ${validator}`;
}

function noMatch(validator: ValidatorJSON, value: Value, path: string): string {
  return `Value does not match validator.\n${at(path)}Value: ${display(value)}\nValidator: ${displayValidator(validator)}`;
}

function at(path: string): string {
  return path === "" ? "" : `Path: ${path}\n`;
}

function acceptsScalar(validator: ValidatorJSON, value: Value): boolean {
  switch (validator.type) {
    case "null":
      return value === null;
    case "any":
      return true;
    case "literal":
      return value === validator.value;
    case "bytes":
      return value instanceof ArrayBuffer;
    case "id":
      // The ids of convex-test are a number followed by the name of the table.
      return typeof value === "string" && value.replace(/^\d+/, "") === validator.tableName;
    default:
      return typeof value === validator.type;
  }
}

function displayValidator(validator: ValidatorJSON): string {
  switch (validator.type) {
    case "number":
      return "v.float64()";
    case "bigint":
      return "v.int64()";
    case "literal":
      return `v.literal(${display(validator.value)})`;
    case "id":
      return `v.id(${JSON.stringify(validator.tableName)})`;
    case "array":
      return `v.array(${displayValidator(validator.value)})`;
    case "record":
      return `v.record(${displayValidator(validator.keys)}, ${displayValidator(validator.values.fieldType)})`;
    case "union":
      return `v.union(${validator.value.map(displayValidator).join(", ")})`;
    case "object":
      return `v.object({${sortedEntries(validator.value).map(displayField).join(", ")}})`;
    default:
      return `v.${validator.type}()`;
  }
}

function displayField([name, { fieldType, optional }]: [string, ObjectFields[string]]): string {
  const field = displayValidator(fieldType);
  return `${name}: ${optional ? `v.optional(${field})` : field}`;
}

function nesting(value: Value): number {
  if (!Array.isArray(value) && !isObject(value)) return 0;
  const levels =
    1 + Object.values(value).reduce<number>((most, child) => Math.max(most, nesting(child)), 0);
  if (Array.isArray(value)) checkLength(value);
  else Object.keys(value).forEach(checkFieldName);
  if (levels > MAX_NESTING) {
    throw new Error(
      `Value is too nested (nested ${levels} levels deep > maximum nesting ${MAX_NESTING})`,
    );
  }
  return levels;
}

function checkLength(value: Value[]): void {
  if (value.length <= MAX_ARRAY_LENGTH) return;
  throw new Error(
    `Array length is too long (${value.length} > maximum length ${MAX_ARRAY_LENGTH})`,
  );
}

function checkFieldName(name: string): void {
  if (name.startsWith("$"))
    throw new Error(`Field name ${name} starts with '$', which is reserved.`);
  const invalid = /[^\x20-\x7e]/u.exec(name)?.[0];
  if (invalid === undefined) return;
  const rule = "Field names can only contain non-control ASCII characters";
  throw new Error(`Field name ${name} has invalid character '${invalid}': ${rule}`);
}

function isObject(value: Value): value is ConvexObject {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof ArrayBuffer)
  );
}

function sortedEntries<T>(object: Record<string, T>): [string, T][] {
  return Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));
}

function first<T>(items: T[], complaint: (item: T, index: number) => string | null): string | null {
  for (const [index, item] of items.entries()) {
    const found = complaint(item, index);
    if (found !== null) return found;
  }
  return null;
}
