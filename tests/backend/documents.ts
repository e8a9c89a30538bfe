/**
 * Checks every document before it is stored and rejects, with a real backend's messages, what a real
 * backend rejects: a document that does not match the schema, is too large, or sets a system field.
 * Functions reach the database through `Convex.asyncSyscall`, so that is where the check is.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { GenericSchema, SchemaDefinition } from "convex/server";
import {
  getDocumentSize,
  jsonToConvex,
  type JSONValue,
  type ValidatorJSON,
  type Value,
} from "convex/values";
import { display, mismatch } from "./validation";

const MIB = 1024 * 1024;
const MAX_DOCUMENT_BYTES = MIB;
/**
 * The share of a limit above which a backend warns. The recording has a warning at 94% and none at
 * 31%; the exact value is assumed.
 */
const WARN_ABOVE = 0.8;

export type Schema = SchemaDefinition<GenericSchema, boolean>;

/**
 * For the function call that is writing: the schema to check against, and where its warnings go.
 */
export const runningWrites = new AsyncLocalStorage<{ schema: Schema; logLines: string[] }>();

export function warnAboutSize(
  logLines: string[],
  what: string,
  actual: number,
  limit: number,
): void {
  if (actual > limit * WARN_ABOVE)
    logLines.push(`[WARN] ${what} (actual: ${actual} bytes, limit: ${limit} bytes).`);
}

type Syscall = (operation: string, argument: string) => Promise<string>;
type Document = Record<string, Value>;

declare global {
  // The Convex library calls its host through this global; convex-test sets it.
  var Convex: { syscall: unknown; asyncSyscall: Syscall; jsSyscall: unknown };
}

let isGuarded = false;

/** Must be called after convex-test has set the global. */
export function guardWrites(): void {
  if (isGuarded) return;
  isGuarded = true;
  const convex = globalThis.Convex;
  globalThis.Convex = {
    get syscall() {
      return convex.syscall;
    },
    get jsSyscall() {
      return convex.jsSyscall;
    },
    get asyncSyscall() {
      const next = convex.asyncSyscall;
      return (operation: string, argument: string) => guarded(next, operation, argument);
    },
  };
}

async function guarded(next: Syscall, operation: string, argument: string): Promise<string> {
  const writes = runningWrites.getStore();
  const write = writes && (await parseWrite(next, operation, argument));
  if (!write) return await next(operation, argument);
  const complaint = refusal(writes.schema, write.table, write.document);
  if (complaint) throw new Error(complaint);
  const answer = await next(operation, argument);
  const id = (JSON.parse(answer) as { _id?: string })._id ?? write.id;
  const bytes = getDocumentSize(write.document);
  warnAboutSize(
    writes.logLines,
    `Large document written with ID "${id}"`,
    bytes,
    MAX_DOCUMENT_BYTES,
  );
  return answer;
}

interface Write {
  table: string;
  id: string | undefined;
  document: Document;
}

async function parseWrite(
  next: Syscall,
  operation: string,
  argument: string,
): Promise<Write | undefined> {
  if (!["1.0/insert", "1.0/replace", "1.0/shallowMerge"].includes(operation)) return undefined;
  const { table, id, value } = JSON.parse(argument) as {
    table: string;
    id?: string;
    value: JSONObject;
  };
  const before =
    operation === "1.0/shallowMerge" ? await next("1.0/get", JSON.stringify({ table, id })) : "{}";
  const fields = Object.entries({ ...(JSON.parse(before) as JSONObject), ...value }).filter(
    ([, field]) => !isRemoval(field),
  );
  return { table, id, document: jsonToConvex(Object.fromEntries(fields)) as Document };
}

type JSONObject = Record<string, JSONValue>;

function isRemoval(field: JSONValue): boolean {
  return typeof field === "object" && field !== null && "$undefined" in field;
}

function refusal(
  schema: Schema,
  table: string,
  { _id, _creationTime, ...fields }: Document,
): string | null {
  return (
    reservedField(fields, {
      _id: _id ?? "0".repeat(32),
      _creationTime: _creationTime ?? Date.now(),
    }) ??
    schemaMismatch(schema, table, fields) ??
    oversize(getDocumentSize(fields))
  );
}

function reservedField(fields: Document, system: Document): string | null {
  const name = Object.keys(fields).find((field) => field.startsWith("_"));
  if (name === undefined) return null;
  const rule = "starts with an underscore, which is only allowed for system fields like '_id'";
  return `Document(value: ${display({ ...fields, ...system })}) isn't a valid document: Field '${name}' ${rule}`;
}

function schemaMismatch(schema: Schema, table: string, fields: Document): string | null {
  // `json` is how the library hands a validator to a backend; its types do not show it.
  const validator = schema.tables[table]?.validator as { json: ValidatorJSON } | undefined;
  const complaint = validator && mismatch(validator.json, fields);
  if (!complaint) return null;
  return `Failed to insert or update a document in table "${table}" because it does not match the schema: ${complaint}`;
}

function oversize(bytes: number): string | null {
  if (bytes <= MAX_DOCUMENT_BYTES) return null;
  return `Value is too large (${(bytes / MIB).toFixed(2)} MiB > maximum size ${MAX_DOCUMENT_BYTES / MIB} MiB)`;
}
