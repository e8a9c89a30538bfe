/**
 * Checks the test backend against a real one. Every recorded call is replayed and must get the same
 * status, headers and bytes, except for what differs each time (ids, times) and stack traces. Calls
 * that cannot be replayed are listed with the reason.
 */
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as items from "./items";
import { startBackend, type Backend } from "./server";

interface Recorded {
  name: string;
  method: string;
  path: string;
  authorization: string;
  request: string | null;
  status: number;
  headers: Record<string, string>;
  body: string;
}

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: string;
}

const MIB = 1024 * 1024;
const REDACTED = " [logs redacted to clients]";
const RECORDING = new URL("../fixtures/convex-backend-2026-06-30/responses.json", import.meta.url);
const recorded = JSON.parse(readFileSync(RECORDING, "utf8")) as Recorded[];

const NOT_REPLAYED: Record<string, string> = {
  "l8. endless loop mutation":
    "nothing can stop an endless loop in this process; there is no time limit",
  "l9. mutation writing 16001 documents":
    "the recorded answer is a time limit, which this backend does not have",
  "l11. query reading too much":
    "the recorded answer is a time limit, which this backend does not have",
  "l18. typeof WebAssembly":
    "the answer depends on the engine that runs the functions: here it is Node.js, which has WebAssembly",
  "optimistic concurrency conflict after all retries":
    "calls run one after the other, so none can conflict; /_test/fault gives this answer on demand",
};

/** The recording truncates requests to 160 characters. These are the longer ones. */
const CUT_REQUESTS: Record<string, () => string> = {
  i1: () => put("big", 1_048_000),
  i2: () => put("big", 1_048_576),
  i4: () => put("big", 5 * MIB),
  i5: () => put("big", 17 * MIB),
  l3: () => anyArgs({ arr: Array.from({ length: 8193 }, (_, index) => index) }),
  l4: () =>
    anyArgs({ d: Array.from({ length: 70 }).reduce<unknown>((inner) => ({ a: inner }), 1) }),
  l10: () => put("k", 15 * MIB),
};

function put(key: string, bodyLength: number): string {
  return JSON.stringify({
    path: "items:put",
    args: { key, n: 1, body: "x".repeat(bodyLength) },
    format: "json",
  });
}

function anyArgs(more: object): string {
  return JSON.stringify({
    path: "items:anyArgs",
    args: { key: "a", n: 1, ...more },
    format: "json",
  });
}

describe.each([
  { variant: "the recording", redactLogsToClient: false },
  { variant: "the recording with logs redacted to clients", redactLogsToClient: true },
])("answers as $variant:", ({ redactLogsToClient }) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await startBackend(
      { schema: items.schema, modules: { items } },
      { redactLogsToClient },
    );
  });
  afterAll(() => backend.close());

  const calls = recorded.filter(
    ({ name }) => name.endsWith(REDACTED) === redactLogsToClient && !(name in NOT_REPLAYED),
  );
  it.each(calls.map((call) => [call.name, call] as const))("%s", async (_, call) => {
    const answer = await replay(backend, call);
    expect(answer.status).toBe(call.status);
    expect(answer.headers).toMatchObject(call.headers);
    expect(normalized(answer.body)).toBe(normalized(call.body));
  });
});

it("replays every recorded call that is not listed as impossible", () => {
  const names = recorded.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(Object.keys(NOT_REPLAYED)));
  expect(names.filter((name) => !(name in NOT_REPLAYED))).toHaveLength(150);
});

/** Uses `node:http`, because `fetch` changes headers. */
function replay(backend: Backend, call: Recorded): Promise<Answer> {
  const name = call.name.replace(REDACTED, "");
  const body = requestBody(name, call.request);
  return new Promise((resolve, reject) => {
    const headers = {
      ...requestHeaders(name, call.authorization, backend.adminKey),
      "content-length": body.length,
    };
    const sent = request(
      `${backend.url}${call.path}`,
      { method: call.method, headers, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString(),
          });
        });
      },
    );
    sent.on("error", reject);
    if ("expect" in headers) sent.on("continue", () => sent.end(body)).flushHeaders();
    else sent.end(body);
  });
}

function requestHeaders(
  name: string,
  recordedAs: string,
  adminKey: string,
): Record<string, string> {
  const headers: Record<string, string> = { "content-type": "application/json" };
  const authorization = authorizationHeader(name, recordedAs, adminKey);
  if (authorization !== undefined) headers["authorization"] = authorization;
  const client = /Convex-Client: (\S+)/.exec(name)?.[1];
  if (client !== undefined) headers["convex-client"] = client;
  if (name.includes("Origin header")) headers["origin"] = "http://localhost:3000";
  if (name.includes("gzip")) headers["content-encoding"] = "gzip";
  if (name.includes("Expect: 100-continue")) headers["expect"] = "100-continue";
  if (name.includes("text/plain")) headers["content-type"] = "text/plain";
  if (name.includes("no Content-Type")) delete headers["content-type"];
  return headers;
}

/** Recorded keys are redacted; the name of the call says whether the key was wrong. */
function authorizationHeader(
  name: string,
  recordedAs: string,
  adminKey: string,
): string | undefined {
  if (recordedAs === "None") return undefined;
  if (recordedAs === "good admin key") return `Convex ${adminKey}`;
  const secret = adminKey.split("|")[1] ?? "";
  const garbled = `${secret.slice(0, -4)}${secret.endsWith("0000") ? "1111" : "0000"}`;
  return recordedAs.replace("<key>", /garbled|wrong/.test(name) ? garbled : secret);
}

function requestBody(name: string, written: string | null): Buffer {
  const whole = CUT_REQUESTS[name.split(".")[0] ?? ""];
  if (whole) return Buffer.from(whole());
  if (written === null) return Buffer.alloc(0);
  const bytes = /^b'(.*)'$/s.exec(written)?.[1];
  if (bytes !== undefined) return pythonBytes(bytes);
  return Buffer.from(written.replaceAll("\\\\u", "\\u"));
}

/** Binary bodies were recorded as Python prints bytes. */
function pythonBytes(written: string): Buffer {
  const text = written.replace(
    /\\(?:x([\da-f]{2})|(.))/gs,
    (_, hex: string | undefined, escaped: string) =>
      hex === undefined
        ? ({ n: "\n", r: "\r", t: "\t" }[escaped] ?? escaped)
        : String.fromCharCode(parseInt(hex, 16)),
  );
  return Buffer.from(text, "latin1");
}

/** Replaces what differs each time, and the stack trace, which depends on the engine. */
function normalized(body: string): string {
  return body
    .replace(/Request ID: [\da-f]{16}/g, "Request ID: <id>")
    .replace(/\b[\da-z]{32}\b/g, "<id>")
    .replace(/_creationTime: [\d.]+/g, "_creationTime: <time>")
    .replace(/(?:\\n {4}at (?:async )?handler \([^)]*\))+/g, "\\n    at <line>");
}
