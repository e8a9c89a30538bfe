/**
 * The real functions behind Convex's HTTP API, for tests that talk to a deployment as the sidecar
 * does: over a socket, with an admin key. It answers like a recorded backend (conformance.test.ts)
 * and can be told to fail as backends and networks do (`/_test/`).
 */
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { convexToJson, type JSONValue, type Value } from "convex/values";
import {
  Functions,
  type Call,
  type Deployment,
  type FunctionType,
  type Outcome,
} from "./functions";
import { elementEnds, syntaxError, writeJson } from "./json";
import { errorMessage } from "./messages";
import { SyncServer } from "./sync";

const INSTANCE_NAME = "convex-self-hosted";
const MAX_BODY_BYTES = 16 * 1024 * 1024;

export interface Options {
  port?: number;
  adminKey?: string;
  /** Stands behind an access proxy that lets only requests with this header pass: `name: value`. */
  accessHeader?: string;
  /** Answers as a backend of 2025-09-12, which does not know the route of the Convex CLI's push. */
  isOlder?: boolean;
  /** Hides errors inside functions, and their log lines, from the client. */
  redactLogsToClient?: boolean;
}

export interface Backend {
  url: string;
  /** Where HTTP actions are served. */
  siteUrl: string;
  adminKey: string;
  close: () => Promise<void>;
}

/** The body of `POST /_test/fault`: what happens to the next `times` calls of the API. */
interface Fault {
  status?: number;
  headers?: Record<string, string>;
  body?: JSONValue;
  delayMs?: number;
  dropReply?: boolean;
  times?: number;
}

/**
 * An element of `GET /_test/requests`; `status` is null while there is no answer, or if there was
 * none.
 */
interface RequestRecord {
  method: string;
  path: string;
  function: string | null;
  args: JSONValue;
  authorization: boolean;
  status: number | null;
}

export async function startBackend(
  deployment: Deployment,
  options: Options = {},
): Promise<Backend> {
  const adminKey = options.adminKey ?? `${INSTANCE_NAME}|${randomBytes(40).toString("hex")}`;
  const functions = new Functions(deployment);
  const routes = new Routes(functions, adminKey, options);
  const server = createServer((request, response) => void routes.serve(request, response));
  const sync = new SyncServer(functions, options.redactLogsToClient ?? false);
  server.on("upgrade", (request, socket, head) => {
    sync.upgrade(request, socket, head);
  });
  const site = createServer((request, response) => void serveSite(functions, request, response));
  const [url, siteUrl] = [await listen(server, options.port ?? 0), await listen(site, 0)];
  // A backend sets these itself; they are none of the deployment's own variables.
  process.env["CONVEX_CLOUD_URL"] = url;
  process.env["CONVEX_SITE_URL"] = siteUrl;
  const close = async () => {
    functions.removeVariables();
    sync.close();
    await Promise.all([server, site].map(stop));
  };
  return { url, siteUrl, adminKey, close };
}

async function listen(server: Server, port: number): Promise<string> {
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

/** Answers a request to the port of the HTTP actions. */
async function serveSite(
  functions: Functions,
  { method = "GET", url = "/" }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const answer = await functions.fetch(url, method);
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.end(Buffer.from(await answer.arrayBuffer()));
}

interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: string;
}

/** An error that does not come from a function: `{"code", "message"}`. */
class Refusal extends Error {
  readonly answer: Answer;

  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.answer = {
      ...json({ code, message }, status),
      headers: { "content-type": "application/json", ...headers },
    };
  }
}

/** As an access proxy answers. */
const FORBIDDEN: Answer = {
  status: 403,
  headers: { "content-type": "text/html" },
  body: "<html><head><title>Forbidden</title></head></html>",
};
/** Where the Convex CLI begins a push. */
const PUSH = "/api/deploy2/evaluate_push";
/** Where `npx convex env set` sets variables of the deployment. */
const VARIABLES = "/api/update_environment_variables";
const BAD_ADMIN_KEY = "The provided admin key was invalid for this instance";

class Routes {
  readonly #functions: Functions;
  readonly #adminKey: string;
  readonly #redacts: boolean;
  readonly #isOlder: boolean;
  readonly #accessHeader: string[] | undefined;
  readonly #records: RequestRecord[] = [];
  #fault: Fault = { times: 0 };

  constructor(functions: Functions, adminKey: string, options: Options) {
    this.#functions = functions;
    this.#adminKey = adminKey;
    this.#redacts = options.redactLogsToClient ?? false;
    this.#isOlder = options.isOlder ?? false;
    this.#accessHeader = options.accessHeader?.split(": ");
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    const record = recordOf(request, pathname);
    if (!pathname.startsWith("/_test/")) this.#records.push(record);
    const answer = await this.#answer(request, pathname, record).catch(answerOf);
    if (answer === null || response.destroyed) {
      response.destroy();
      return;
    }
    record.status = answer.status;
    response.writeHead(answer.status, answer.headers).end(answer.body);
    request.resume(); // Drain the rest of a rejected body, so that the client can read the reason.
  }

  async #answer(
    request: IncomingMessage,
    path: string,
    record: RequestRecord,
  ): Promise<Answer | null> {
    if (path.startsWith("/_test/")) return await this.#test(request, path);
    const [header = "", secret] = this.#accessHeader ?? [];
    if (request.headers[header] !== secret) return FORBIDDEN;
    if (!path.startsWith("/api/")) return plain(path);
    const body = request.method === "POST" ? await readBody(request) : Buffer.alloc(0);
    Object.assign(record, called(path, body));
    const fault = this.#takeFault();
    if (fault?.delayMs !== undefined) await sleep(fault.delayMs);
    if (fault?.status !== undefined) return faulty(fault, fault.status);
    const answer = await this.#api(request, path, body);
    return fault?.dropReply ? null : answer;
  }

  #takeFault(): Fault | undefined {
    const times = this.#fault.times ?? 1;
    if (times <= 0) return undefined;
    this.#fault = { ...this.#fault, times: times - 1 };
    return this.#fault;
  }

  async #test(request: IncomingMessage, path: string): Promise<Answer> {
    // Closing a connection before its body is read resets it, so the client may not get the answer.
    const body = (await readBody(request)).toString();
    if (path === "/_test/requests") return json(this.#records as unknown as JSONValue);
    if (path === "/_test/wipe") this.#functions.wipe();
    else if (path === "/_test/hide-spec") this.#functions.hidesSpec = true;
    else if (path === "/_test/unknown-fields")
      this.#functions.unknownFields = JSON.parse(body) as string[];
    else if (path === "/_test/fault") this.#fault = JSON.parse(body) as Fault;
    else return { status: 404 };
    return json(null);
  }

  async #api(request: IncomingMessage, path: string, body: Buffer): Promise<Answer> {
    checkClientVersion(request.headers["convex-client"]);
    if (path === "/api/check_admin_key") return this.#checkAdminKey(request);
    if (path === PUSH && !this.#isOlder) return push(request, body);
    if (path === VARIABLES) return this.#setVariables(request, body);
    const paused = { "/api/v1/pause_deployment": true, "/api/v1/unpause_deployment": false }[path];
    const type = typeOf(path);
    if (paused === undefined && type === null) return { status: 404 };
    if (request.method !== "POST") return { status: 405, headers: { allow: "POST" } };
    if (paused !== undefined) return this.#pause(request, paused);
    return await this.#call(request, path, type ?? undefined, body);
  }

  #checkAdminKey(request: IncomingMessage): Answer {
    if (!this.#isAdmin(request)) throw new Refusal(401, "BadAdminKey", BAD_ADMIN_KEY);
    return json({ success: true, allowedOps: [], isReadOnly: false });
  }

  #pause(request: IncomingMessage, paused: boolean): Answer {
    if (!this.#isAdmin(request)) throw new Refusal(401, "BadAdminKey", BAD_ADMIN_KEY);
    this.#functions.paused = paused;
    return { status: 200 };
  }

  #setVariables(request: IncomingMessage, body: Buffer): Answer {
    if (request.method !== "POST") return { status: 405, headers: { allow: "POST" } };
    if (!this.#isAdmin(request)) throw new Refusal(401, "BadAdminKey", BAD_ADMIN_KEY);
    const { changes } = parseFields(body);
    if (!Array.isArray(changes)) throw missing("changes", body);
    for (const { name, value } of changes as { name: string; value: string | null }[])
      this.#functions.setVariable(name, value);
    return { status: 200 };
  }

  async #call(
    request: IncomingMessage,
    path: string,
    type: FunctionType | undefined,
    body: Buffer,
  ): Promise<Answer> {
    const run = runPath(path);
    const { args, format, ...parsed } = parseCall(request, body, run);
    if (!["json", "convex_encoded_json"].includes(format)) {
      throw new Refusal(400, "BadFormat", `format param must be one of [\`json\`]. Got ${format}`);
    }
    checkFunctionPath(parsed.path);
    const isAdmin = this.#isAdmin(request);
    const call: Call = {
      path: parsed.path,
      args,
      type,
      encoded: format === "convex_encoded_json",
      isAdmin,
    };
    return {
      ...json(null),
      body: outcomeJson(await this.#functions.run(call), call.encoded, this.#redacts),
    };
  }

  /** False without a key: public functions need none. */
  #isAdmin(request: IncomingMessage): boolean {
    const { authorization } = request.headers;
    if (authorization === undefined) return false;
    const [scheme, key] = authorization.split(/ (.*)/);
    if (scheme === "Convex" && key === this.#adminKey) return true;
    throw authorizationRefusal(scheme, key);
  }
}

function authorizationRefusal(scheme = "", key: string | undefined): Refusal {
  if (key === undefined && scheme.includes("|"))
    return new Refusal(400, "InvalidAdminKey", "Invalid admin key");
  if (key === undefined || !["Convex", "Bearer"].includes(scheme)) {
    return new Refusal(400, "InvalidHeaderFailure", "Invalid authentication header");
  }
  if (scheme === "Convex") return new Refusal(401, "BadAdminKey", BAD_ADMIN_KEY);
  const expected =
    "Check that the token is a valid JWT format with three base64-encoded parts separated by dots.";
  return new Refusal(401, "InvalidAuthHeader", `Could not parse JWT payload. ${expected}`);
}

/** The beginning of a push: only that it is checked, before the key. */
function push(request: IncomingMessage, body: Buffer): Answer {
  if (request.method !== "POST") return { status: 405, headers: { allow: "POST" } };
  const { adminKey } = parseFields(body);
  if (adminKey === undefined) throw missing("adminKey", body);
  throw new Refusal(401, "BadAdminKey", BAD_ADMIN_KEY);
}

function plain(path: string): Answer {
  const text = { "/version": "unknown", "/instance_name": INSTANCE_NAME }[path];
  if (text === undefined) return { status: 404 };
  return { status: 200, headers: { "content-type": "text/plain; charset=utf-8" }, body: text };
}

function json(value: JSONValue, status = 200): Answer {
  return { status, headers: { "content-type": "application/json" }, body: JSON.stringify(value) };
}

function faulty({ headers, body }: Fault, status: number): Answer {
  if (typeof body === "string") return { status, headers: headers ?? {}, body };
  return {
    status,
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body ?? {}),
  };
}

function answerOf(error: unknown): Answer {
  if (error instanceof Refusal) return error.answer;
  process.stderr.write(`${String(error instanceof Error ? error.stack : error)}\n`);
  return json(
    {
      code: "InternalServerError",
      message: "Your request couldn't be completed. Try again later.",
    },
    500,
  );
}

function recordOf(request: IncomingMessage, path: string): RequestRecord {
  const authorization = request.headers.authorization !== undefined;
  return {
    method: request.method ?? "",
    path,
    function: null,
    args: null,
    authorization,
    status: null,
  };
}

/** For the log of requests: a body that cannot be parsed counts as no function call. */
function called(path: string, body: Buffer): Partial<RequestRecord> {
  try {
    const call = JSON.parse(body.toString()) as { path?: string; args?: JSONValue };
    return { function: runPath(path) ?? call.path ?? null, args: call.args ?? null };
  } catch {
    return {};
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES)
      throw new Refusal(
        400,
        "BadJsonBody",
        "Failed to buffer the request body: length limit exceeded",
      );
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function checkClientVersion(version: string | string[] | undefined): void {
  if (typeof version !== "string") return;
  const [, name, number] = /^(.+?)-(\d+\.\d+\.\d+.*)$/.exec(version) ?? [];
  if (number === undefined) {
    const expected = "Expected format is {client_name}-{semver}, e.g. my-esolang-client-0.0.1";
    throw new Refusal(
      400,
      "InvalidClientVersion",
      `Failed to parse client version string: '${version}'. ${expected}`,
    );
  }
  // The recording does not show the oldest supported version; 0.0.1 is known to be too old.
  if (name === "npm" && number.startsWith("0.0.")) {
    const remedy = "Update your Convex npm version with `npx convex update` or `npm update`.";
    const message = `The Convex npm package at version ${number} is no longer supported. ${remedy}`;
    throw new Refusal(400, "ClientVersionUnsupported", message, {
      "x-convex-deprecation-state": "Unsupported",
    });
  }
}

/** Null if there is no such route, undefined if it can call any type of function. */
function typeOf(path: string): FunctionType | undefined | null {
  if (path === "/api/mutation") return "Mutation";
  if (path === "/api/query") return "Query";
  if (path === "/api/action") return "Action";
  return path === "/api/function" || runPath(path) !== undefined ? undefined : null;
}

/** `/api/run/module/name` names `module:name`. */
function runPath(path: string): string | undefined {
  const [, module, name] = /^\/api\/run\/(.+)\/([^/]+)$/.exec(path) ?? [];
  return module === undefined ? undefined : `${module}:${name}`;
}

function checkFunctionPath(path: string): void {
  const [module = ""] = path.split(":");
  const file = module.split("/").at(-1);
  const component = module.split("/").find((part) => !/^[\w.]*$/.test(part));
  const rule =
    file === ""
      ? `Module path ${module} doesn't have a filename.`
      : component !== undefined &&
        `Path component ${component}.js can only contain alphanumeric characters, underscores, or periods.`;
  if (rule)
    throw new Refusal(
      400,
      "BadConvexFunctionIdentifier",
      `${path} is not a valid path to a Convex function. ${rule}`,
    );
}

interface ParsedCall {
  path: string;
  args: JSONValue;
  format: string;
}

function parseCall(request: IncomingMessage, body: Buffer, run: string | undefined): ParsedCall {
  if (!/^application\/(?:json|.+\+json)\b/.test(request.headers["content-type"] ?? "")) {
    throw new Refusal(400, "BadJsonBody", "Expected request with `Content-Type: application/json`");
  }
  const { path = run, args, format = "json" } = parseFields(body);
  if (typeof path !== "string") throw missing("path", body);
  if (args === undefined) throw missing("args", body);
  return { path, args, format: typeof format === "string" ? format : JSON.stringify(format) };
}

function parseFields(body: Buffer): Record<string, JSONValue | undefined> {
  const complaint = syntaxError(body);
  if (complaint)
    throw new Refusal(400, "BadJsonBody", `Failed to parse the request body as JSON: ${complaint}`);
  const call = JSON.parse(body.toString()) as JSONValue;
  if (!Array.isArray(call)) return call as Record<string, JSONValue>;
  const [element] = call;
  const found = typeof element === "number" ? `integer \`${element}\`` : typeof element;
  throw wrongShape(`[0]: invalid type: ${found}, expected a string at ${elementEnds(body)[0]}`);
}

function missing(field: string, body: Buffer): Refusal {
  return wrongShape(`missing field \`${field}\` at line 1 column ${body.length}`);
}

function wrongShape(complaint: string): Refusal {
  return new Refusal(
    400,
    "BadJsonBody",
    `Failed to deserialize the JSON body into the target type: ${complaint}`,
  );
}

function outcomeJson(outcome: Outcome, encoded: boolean, redacts: boolean): string {
  const write = (value: Value) => writeJson(encoded ? convexToJson(value) : plainJson(value));
  const fields: [string, string][] = [["status", JSON.stringify(outcome.status)]];
  if (outcome.status === "success") fields.push(["value", write(outcome.value)]);
  else fields.push(["errorMessage", JSON.stringify(errorMessage(outcome.errorMessage, redacts))]);
  if (outcome.status === "error" && outcome.errorData !== undefined)
    fields.push(["errorData", write(outcome.errorData)]);
  if (outcome.logLines.length > 0 && !redacts)
    fields.push(["logLines", JSON.stringify(outcome.logLines)]);
  return `{${fields.map(([name, value]) => `"${name}":${value}`).join(",")}}`;
}

/** `format: "json"`: types that JSON lacks become strings. */
function plainJson(value: Value): JSONValue {
  return JSON.parse(
    JSON.stringify(value, (_, field: unknown) => {
      if (typeof field === "bigint") return String(field);
      return field instanceof ArrayBuffer ? Buffer.from(field).toString("base64") : field;
    }),
  ) as JSONValue;
}
