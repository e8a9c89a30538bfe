/**
 * What functions read and write: which ranges of which indexes, how far, and which documents. A
 * backend runs a subscribed query again if something is written into what it has read.
 */
import { compareValues, jsonToConvex, type JSONValue, type Value } from "convex/values";

export type Document = Record<string, Value | undefined>;

interface Bound {
  type: "Eq" | "Gt" | "Gte" | "Lt" | "Lte";
  fieldPath: string;
  value: JSONValue;
}

/** A range of an index, and the documents that were read of it. */
export interface Read {
  table: string;
  isDescending: boolean;
  bounds: Bound[];
  documents: Document[];
  /** Whether the range was read to its end. */
  isOver: boolean;
}

/** A version of a document that is new or gone. */
export interface Write {
  table: string;
  document: Document;
}

interface Recording {
  reads: Read[];
  writes: Write[];
  /** The ranges that are being read, by the number of their query. */
  streams: Map<number, Read>;
}

type Syscalls = Record<
  "syscall" | "asyncSyscall" | "jsSyscall",
  (operation: string, argument: string) => unknown
>;

let recording: Recording | undefined;
let isWatching = false;

/** Runs something that calls functions, one at a time, and records what they read and write. */
export async function recorded<T>(
  run: () => Promise<T>,
): Promise<{ value: T; reads: Read[]; writes: Write[] }> {
  if (!isWatching) watch();
  isWatching = true;
  const { reads, writes } = (recording = { reads: [], writes: [], streams: new Map() });
  try {
    return { value: await run(), reads, writes };
  } finally {
    recording = undefined;
  }
}

/** Functions reach the database through `Convex`, which convex-test sets. */
function watch(): void {
  const convex = globalThis.Convex as unknown as Syscalls;
  const watching: Syscalls = {
    jsSyscall: (operation, argument) => convex.jsSyscall(operation, argument),
    syscall(operation, argument) {
      const answer = convex.syscall(operation, argument);
      if (operation === "1.0/queryStream") recordRange(argument, answer as string);
      return answer;
    },
    async asyncSyscall(operation, argument) {
      const stored = async (key: string) => parsed(await convex.asyncSyscall("1.0/get", key));
      const { table = "", id } = JSON.parse(argument) as { table?: string; id?: string };
      const isChange = ["1.0/replace", "1.0/shallowMerge", "1.0/remove"].includes(operation);
      if (recording && isChange) recordWrite(table, await stored(argument));
      const answer = (await convex.asyncSyscall(operation, argument)) as string;
      if (operation === "1.0/queryPage") recordPage(argument, answer);
      if (operation === "1.0/queryStreamNext") recordDocument(argument, answer);
      if (operation === "1.0/get") {
        const bounds: Bound[] = [{ type: "Eq", fieldPath: "_id", value: id ?? null }];
        const documents = [parsed(answer)].filter((document) => document !== null);
        recording?.reads.push({ table, isDescending: false, bounds, documents, isOver: true });
      }
      if (recording && (isChange || operation === "1.0/insert")) {
        const { _id = id } = JSON.parse(answer) as { _id?: string };
        recordWrite(table, await stored(JSON.stringify({ table, id: _id })));
      }
      return answer;
    },
  };
  globalThis.Convex = watching as unknown as typeof globalThis.Convex;
}

function parsed(answer: unknown): Document | null {
  return jsonToConvex(JSON.parse(answer as string) as JSONValue) as Document | null;
}

/** The range of an index that a query begins to read. */
function rangeOf(argument: string): Read {
  const { query } = JSON.parse(argument) as {
    query: {
      source: { tableName: string; order: string | null; indexName?: string; range?: Bound[] };
    };
  };
  const { tableName, indexName = tableName, order, range: bounds = [] } = query.source;
  const [table = ""] = indexName.split(".");
  return { table, isDescending: order === "desc", bounds, documents: [], isOver: false };
}

function recordRange(argument: string, answer: string): void {
  const read = rangeOf(argument);
  recording?.reads.push(read);
  recording?.streams.set((JSON.parse(answer) as { queryId: number }).queryId, read);
}

function recordPage(argument: string, answer: string): void {
  const { page, isDone } = jsonToConvex(JSON.parse(answer) as JSONValue) as {
    page: Document[];
    isDone: boolean;
  };
  recording?.reads.push({ ...rangeOf(argument), documents: page, isOver: isDone });
}

function recordDocument(argument: string, answer: string): void {
  const { queryId } = JSON.parse(argument) as { queryId: number };
  const { value, done } = jsonToConvex(JSON.parse(answer) as JSONValue) as {
    value: Document;
    done: boolean;
  };
  const read = recording?.streams.get(queryId);
  if (done && read) read.isOver = true;
  else read?.documents.push(value);
}

function recordWrite(table: string, document: Document | null): void {
  if (document) recording?.writes.push({ table, document });
}

/** Whether the document is in the range, read or not. */
export function isInRange({ bounds }: Read, document: Document): boolean {
  return bounds.every(({ type, fieldPath, value }) => {
    const order = compareValues(fieldOf(document, fieldPath), jsonToConvex(value));
    if (order === 0) return type !== "Lt" && type !== "Gt";
    return type !== "Eq" && order < 0 === type.startsWith("L");
  });
}

/** Whether the query that has read this must be run again after that write. */
export function isStale(read: Read, { table, document }: Write): boolean {
  if (table !== read.table || !isInRange(read, document)) return false;
  const last = read.documents.at(-1);
  if (read.isOver || !last) return true;
  // What lies behind the last document was not read. Ranges here have one bounded field.
  const fieldPath = read.bounds.at(-1)?.fieldPath ?? "";
  const order = compareValues(fieldOf(document, fieldPath), fieldOf(last, fieldPath));
  return read.isDescending ? order >= 0 : order <= 0;
}

function fieldOf(document: Document, path: string): Value | undefined {
  let value: Value | undefined = document;
  for (const name of path.split(".")) value = (value as Document | undefined)?.[name];
  return value;
}
