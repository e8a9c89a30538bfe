/**
 * JSON as the real backend, a Rust program, reads and writes it. It writes every number as a float
 * (`1.0`) and the keys of every object in order; a client that would read `revision` as an integer
 * has to fail here first. Unlike JSON.parse, it reports the position of a syntax error.
 */
import { isUtf8 } from "node:buffer";
import type { JSONValue } from "convex/values";

export function writeJson(value: JSONValue): string {
  if (typeof value === "number") return writeNumber(value);
  if (Array.isArray(value)) return `[${value.map(writeJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${writeJson(value[key] as JSONValue)}`).join(",")}}`;
}

/** Beyond 16 digits the backend writes an exponent, as JSON.stringify does beyond 21. */
function writeNumber(value: number): string {
  if (!Number.isInteger(value)) return String(value);
  return Math.abs(value) < 1e16 ? `${value}.0` : value.toExponential().replace("e+", "e");
}

/** Why the body is not JSON in UTF-8, in serde_json's words, or null if it is. */
export function syntaxError(body: Buffer): string | null {
  if (isUtf8(body) && isJson(body.toString())) return null;
  const scanner = new Scanner(body);
  try {
    scanner.document();
    return null;
  } catch (error) {
    return scanner.located((error as Error).message);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Where each element of the document ends, for an error that is not a syntax error. */
export function elementEnds(body: Buffer): string[] {
  const scanner = new Scanner(body);
  scanner.document();
  return scanner.ends.map((end) => position(body, end));
}

function position(body: Buffer, end: number): string {
  const before = body.toString("latin1", 0, end);
  const lineStart = before.lastIndexOf("\n") + 1;
  return `line ${before.split("\n").length} column ${end - lineStart}`;
}

/**
 * Scans JSON without building it, to find the first error. One character is one byte, as in
 * serde_json's columns.
 */
class Scanner {
  readonly ends: number[] = [];
  readonly #body: Buffer;
  readonly #text: string;
  #at = 0;
  #depth = 0;
  #member = "";

  constructor(body: Buffer) {
    this.#body = body;
    this.#text = body.toString("latin1");
  }

  document(): void {
    this.#value();
    this.#space();
    if (this.#at < this.#text.length) this.#fail("trailing characters");
  }

  located(message: string): string {
    return `${this.#member}${message} at ${position(this.#body, this.#at)}`;
  }

  #value(): void {
    const next = this.#peek("EOF while parsing a value");
    if (next === "{" || next === "[") this.#members(next);
    else if (next === '"') this.#string();
    else
      this.#match(/true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y, "expected value");
  }

  #members(open: "{" | "["): void {
    const [close, eof] =
      open === "{" ? ["}", "EOF while parsing an object"] : ["]", "EOF while parsing a list"];
    this.#at += 1;
    this.#depth += 1;
    let next = this.#peek(eof);
    while (next !== close) {
      if (open === "{") this.#field();
      else this.#element();
      next = this.#peek(eof);
      if (next === close) break;
      if (next !== ",") this.#fail(`expected \`,\` or \`${close}\``);
      this.#at += 1;
      next = this.#peek(eof);
      if (next === close) this.#fail("trailing comma");
    }
    this.#at += 1;
    this.#depth -= 1;
  }

  #field(): void {
    if (this.#text[this.#at] !== '"') this.#fail("key must be a string");
    const start = this.#at;
    this.#string();
    const key = this.#text.slice(start + 1, this.#at - 1);
    if (this.#peek("EOF while parsing an object") !== ":") this.#fail("expected `:`");
    this.#at += 1;
    this.#element(`${key}: `);
  }

  /** The backend parses only the outermost elements itself; it takes their contents as a whole. */
  #element(name = `[${this.ends.length}]: `): void {
    if (this.#depth > 1) {
      this.#value();
      return;
    }
    this.#member = name;
    const start = this.#at;
    this.#value();
    if (!isUtf8(this.#body.subarray(start, this.#at)))
      throw new Error("invalid unicode code point");
    this.#member = "";
    this.ends.push(this.#at);
  }

  #string(): void {
    this.#at += 1;
    for (;;) {
      this.#match(/[ !#-[\]-\xff]*/y, "");
      const next = this.#text[this.#at];
      if (next === undefined) throw new Error("EOF while parsing a string");
      if (next === '"') break;
      if (next !== "\\")
        this.#fail("control character (\\u0000-\\u001F) found while parsing a string");
      this.#match(/\\(?:["\\/bfnrt]|u[\da-fA-F]{4})/y, "invalid escape");
    }
    this.#at += 1;
  }

  #match(token: RegExp, otherwise: string): void {
    token.lastIndex = this.#at;
    const found = token.exec(this.#text)?.[0];
    if (found === undefined) this.#fail(otherwise);
    else this.#at += found.length;
  }

  #peek(eof: string): string {
    this.#space();
    const next = this.#text[this.#at];
    if (next === undefined) throw new Error(eof);
    return next;
  }

  #space(): void {
    this.#match(/[ \n\t\r]*/y, "");
  }

  /** The offending character counts as read. */
  #fail(message: string): never {
    this.#at += 1;
    throw new Error(message);
  }
}
