/**
 * Runs deployed functions as a Convex backend does. `convex-test` provides the database and the
 * transactions; this module adds what it leaves out: visibility, the checks of arguments, documents
 * and return values, the limits, the log lines, and the message of every failure.
 */
import { inspect } from "node:util";
import { convexTest } from "convex-test";
import {
  getConvexSize,
  jsonToConvex,
  type JSONValue,
  type ValidatorJSON,
  type Value,
} from "convex/values";
import { guardWrites, runningWrites, warnAboutSize, type Schema } from "./documents";
import { display, hasLoneSurrogate, malformed, mismatch } from "./validation";

const MAX_ARGUMENT_BYTES = 16 * 1024 * 1024;

export type FunctionType = "Query" | "Mutation" | "Action";

/** What `npx convex deploy` would push: the schema, and the modules by path without extension. */
export interface Deployment {
  schema: Schema;
  modules: Record<string, Record<string, unknown>>;
}

export interface Call {
  path: string;
  args: JSONValue;
  encoded: boolean;
  /** Undefined if any type is allowed. */
  type: FunctionType | undefined;
  isAdmin: boolean;
}

export type Outcome = { logLines: string[] } & (
  { status: "success"; value: Value } | { status: "error"; errorMessage: string; errorData?: Value }
);

export class Functions {
  paused = false;
  /** The paths of fields that the arguments of functions do not have yet: older functions. */
  unknownFields: string[] = [];
  /** Whether functions cannot be listed, as with a key that can only write. */
  hidesSpec = false;
  /** Called when results of queries may have changed. */
  onChange: () => void = () => undefined;
  /** The deployment's own variables, by name. Functions see them in the environment. */
  readonly #variables = new Map<string, string>();
  readonly #deployment: Deployment;
  #database: Database;

  constructor(deployment: Deployment) {
    this.#deployment = deployment;
    this.#database = emptyDatabase(deployment);
  }

  wipe(): void {
    this.#database = emptyDatabase(this.#deployment);
  }

  /** Sets a variable, or removes it. */
  setVariable(name: string, value: string | null): void {
    if (value === null) {
      this.#variables.delete(name);
      Reflect.deleteProperty(process.env, name);
    } else {
      this.#variables.set(name, value);
      process.env[name] = value;
    }
    this.onChange();
  }

  /** The environment belongs to the process, in which another deployment can follow. */
  removeVariables(): void {
    for (const name of [...this.#variables.keys()]) this.setVariable(name, null);
  }

  async run(call: Call): Promise<Outcome> {
    const logLines: string[] = [];
    try {
      const value = await this.#value(call, logLines);
      if (call.type !== "Query") this.onChange();
      return { status: "success", value, logLines };
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return { status: "error", errorMessage: error.message, ...error.data, logLines };
    }
  }

  /** Runs the HTTP action of a path. */
  async fetch(path: string, method: string): Promise<Response> {
    if (this.#deployment.modules["http"] === undefined) {
      return new Response("This Convex deployment does not have HTTP actions enabled.", {
        status: 404,
      });
    }
    return await this.#database.fetch(path, { method });
  }

  async #value(call: Call, logLines: string[]): Promise<Value> {
    if (this.paused) {
      const remedy = "Resume the deployment in the dashboard settings to allow functions to run.";
      throw new Failure(`Cannot run functions while this deployment is paused. ${remedy}`);
    }
    if (call.isAdmin && call.path === "_system/cli/modules:apiSpec" && !this.hidesSpec)
      return apiSpec(this.#deployment, this.unknownFields);
    if (call.isAdmin && call.path === "_system/cli/queryEnvironmentVariables")
      return [...this.#variables].map(([name, value]) => ({ name, value }));
    const found = this.#find(call);
    const args = checkedArguments(found, call, this.unknownFields, logLines);
    try {
      return await this.#execute(found, args, logLines);
    } catch (error) {
      throw error instanceof Failure ? error : thrownBy(found, error as Error);
    }
  }

  #find({ path, type, isAdmin }: Call): Found {
    const [module = "", name = "default"] = path.replace(".js:", ":").split(":");
    const fn = this.#deployment.modules[module]?.[name];
    if (!isRegistered(fn) || (fn.isInternal && !isAdmin)) {
      throw new Failure(`Could not find public function for '${path.replace(".js:", ":")}'.`);
    }
    const identifier = `${module}.js:${name}`;
    const defined = typeOf(fn);
    if (type !== undefined && type !== defined) {
      throw new Failure(
        `Trying to execute ${identifier} as ${type}, but it is defined as ${defined}.`,
      );
    }
    return { fn, identifier, module };
  }

  /**
   * Runs the handler inline, so that a rejected return value rolls back its writes: convex-test
   * would check it after the commit.
   */
  async #execute({ fn }: Found, args: Value, logLines: string[]): Promise<Value> {
    const handler = async (ctx: unknown): Promise<Value> => {
      globalThis.console = collectingConsole(logLines); // For this call only: convex-test gives every call its own globals.
      const value = (await fn._handler(ctx, args)) ?? null;
      const returns = JSON.parse(fn.exportReturns()) as ValidatorJSON | null;
      const complaint = returns && mismatch(returns, value);
      if (complaint) throw new Failure(`ReturnsValidationError: ${complaint}\n`);
      return value;
    };
    return await runningWrites.run({ schema: this.#deployment.schema, logLines }, () => {
      if (fn.isQuery) return this.#database.query(handler);
      return fn.isMutation ? this.#database.mutation(handler) : this.#database.action(handler);
    });
  }
}

type Database = ReturnType<typeof emptyDatabase>;

/** What `query`, `mutation` and `action` of convex/server return. */
interface RegisteredFunction {
  isQuery?: true;
  isMutation?: true;
  isAction?: true;
  isInternal?: true;
  exportArgs: () => string;
  exportReturns: () => string;
  _handler: (ctx: unknown, args: Value) => Promise<Value | undefined>;
}

interface Found {
  fn: RegisteredFunction;
  identifier: string;
  module: string;
}

/** Sent to the client as `{"status":"error"}`. */
class Failure extends Error {
  readonly data: { errorData?: Value };

  constructor(message: string, data: { errorData?: Value } = {}) {
    super(`${message}\n`);
    this.data = data;
  }
}

function emptyDatabase({ schema, modules }: Deployment) {
  // The handlers run inline, except those of scheduled functions. Of the folder `_generated`,
  // convex-test only needs to know where it would be.
  const files = Object.entries({ ...modules, "_generated/api": {} });
  const database = convexTest({
    schema,
    modules: Object.fromEntries(
      files.map(([path, module]) => [`./${path}.js`, () => Promise.resolve(module)]),
    ),
  });
  guardWrites();
  return database;
}

function isRegistered(fn: unknown): fn is RegisteredFunction {
  return typeof fn === "function" && ("isQuery" in fn || "isMutation" in fn || "isAction" in fn);
}

function typeOf(fn: RegisteredFunction): FunctionType {
  if (fn.isQuery) return "Query";
  return fn.isMutation ? "Mutation" : "Action";
}

function checkedArguments(
  { fn, identifier }: Found,
  call: Call,
  unknownFields: string[],
  logLines: string[],
): Value {
  const given =
    Array.isArray(call.args) && call.args.length === 1 ? (call.args[0] as JSONValue) : call.args;
  if (hasLoneSurrogate(given)) throw new Failure("Invalid arguments provided");
  const args = call.encoded ? jsonToConvex(given) : (given as Value);
  const complaint = malformed(args);
  if (complaint) throw new Failure(`Invalid arguments for ${identifier}: ${complaint}`);
  warnAboutSize(
    logLines,
    "Large size of the function arguments",
    getConvexSize([args]),
    MAX_ARGUMENT_BYTES,
  );
  const validator = argumentsOf(fn, unknownFields);
  const refused = isArguments(args)
    ? mismatch(validator, args)
    : `Expected to receive an object as the function's argument. Instead received: ${display(args)}`;
  if (refused) throw new Failure(`ArgumentValidationError: ${refused}\n`);
  return args;
}

function argumentsOf(fn: RegisteredFunction, unknownFields: string[]): ValidatorJSON {
  const validator = JSON.parse(fn.exportArgs()) as ValidatorJSON;
  for (const field of unknownFields) {
    removeField(validator, field.split("."));
    removeField(validator, ["sessions[]", ...field.split(".")]);
  }
  return validator;
}

/** `[]` after a step stands for the elements of a list. */
function removeField(validator: ValidatorJSON, [step = "", ...rest]: string[]): void {
  if (validator.type !== "object") return;
  const name = step.replace("[]", "");
  const field = validator.value[name]?.fieldType;
  if (rest.length === 0) {
    const others = Object.entries(validator.value).filter(([other]) => other !== name);
    validator.value = Object.fromEntries(others);
  } else if (field) removeField(field.type === "array" ? field.value : field, rest);
}

function isArguments(args: Value): boolean {
  return typeof args === "object" && args !== null && !Array.isArray(args);
}

/** A real backend adds the line of source that threw; here the module stands in for it. */
function thrownBy({ module }: Found, error: Error & { data?: Value }): Failure {
  const message = `Uncaught ${error.name}: ${error.message}\n    at handler (../convex/${module}.ts)`;
  return new Failure(message, error.data === undefined ? {} : { errorData: error.data });
}

function collectingConsole(logLines: string[]): Console {
  const level =
    (name: string) =>
    (...values: unknown[]) => {
      logLines.push(
        `[${name}] ${values.map((value) => inspect(value, { compact: false })).join(" ")}`,
      );
    };
  const levels = {
    log: level("LOG"),
    info: level("INFO"),
    warn: level("WARN"),
    error: level("ERROR"),
    debug: level("DEBUG"),
  };
  return { ...console, ...levels };
}

/** What `npx convex function-spec` reads; not part of the recording. */
function apiSpec({ modules }: Deployment, unknownFields: string[]): Value {
  return Object.entries(modules).flatMap(([module, exports]) =>
    Object.entries(exports).flatMap(([name, fn]) =>
      isRegistered(fn) ? [specOf(`${module}.js:${name}`, fn, unknownFields)] : [],
    ),
  );
}

function specOf(identifier: string, fn: RegisteredFunction, unknownFields: string[]): Value {
  return {
    identifier,
    functionType: typeOf(fn),
    visibility: { kind: fn.isInternal ? "internal" : "public" },
    args: argumentsOf(fn, unknownFields) as unknown as Value,
    returns: JSON.parse(fn.exportReturns()) as Value,
  };
}
