/**
 * Who gets an answer from a deployment, by HTTP and by websocket: every deployed function and route,
 * without the admin key, and with tokens for the page that are not valid.
 */
import { createHash } from "node:crypto";
import { ConvexClient } from "convex/browser";
import { makeFunctionReference, type FunctionReference } from "convex/server";
import { afterAll, beforeAll, expect, it } from "vitest";
import everyField from "../../src/record/every_field.json";
import { deployed } from "./deployed";
import { startBackend, type Backend } from "./server";

const ROUTES = ["/api/query", "/api/mutation", "/api/action", "/api/function"];
const SECRET = everyField.metadata.lastPrompt;
const TOKENS = { full: "full-token", figures: "figures-token", expired: "expired-token" };
/** What is not a token, each with whether the functions even take it. */
const INVALID: unknown[] = [
  "",
  "wrong",
  TOKENS.expired,
  ` ${TOKENS.full}`,
  TOKENS.full.toUpperCase(),
  hash(TOKENS.full),
  "\u0000",
  "🔑".repeat(100_000),
];
const MALFORMED: unknown[] = [undefined, null, 7, [], {}, [TOKENS.full], { $gt: "" }];

let backend: Backend;
/** Every function, with whether it is public. */
let functions: { path: string; isPublic: boolean }[];

beforeAll(async () => {
  const deployment = await deployed();
  backend = await startBackend(deployment);
  functions = Object.entries(deployment.modules).flatMap(([module, exports]) =>
    Object.entries(exports)
      .filter(([, exported]) => typeof exported === "function")
      .map(([name, exported]) => ({
        path: `${module}:${name}`,
        isPublic: (exported as { isPublic?: boolean }).isPublic === true,
      })),
  );
  const value = [
    `${hash(TOKENS.full)}:full:0`,
    `${hash(TOKENS.figures)}:figures:0`,
    `${hash(TOKENS.expired)}:full:1`,
  ].join(" ");
  const changes = [{ name: "CONVEX_SIDECAR_VIEW_TOKENS", value }];
  await post("/api/update_environment_variables", { changes }, true);
  const now = Date.now();
  const metadata = { ...everyField.metadata, startedAt: now, updatedAt: now };
  const args = { ...everyField, status: "running", revision: now, metadata };
  const stored = await post("/api/mutation", { path: "agents:createAgentSession", args }, true);
  expect(stored).toContain("created");
});
afterAll(async () => {
  await backend.close();
});

function hash(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

async function post(route: string, body: object, isAdmin = false): Promise<string> {
  const authorization = `Convex ${backend.adminKey}`;
  const response = await fetch(`${backend.url}${route}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(isAdmin && { authorization }) },
    body: JSON.stringify(body),
  });
  return await response.text();
}

/** Arguments that a query of the page takes. */
function argumentsOf(path: string, token: unknown): Record<string, unknown> {
  if (path === "view:session") return { token, sessionId: everyField.sessionId };
  if (path === "view:days") return { token, since: "2000-01-01", until: "9999-12-31" };
  return { token, since: 0 };
}

it("answers none but the queries of the page without the admin key, on any route", async () => {
  expect(functions.length).toBeGreaterThan(15);
  for (const { path, isPublic } of functions) {
    for (const route of ROUTES) {
      const answer = await post(route, { path, args: argumentsOf(path, TOKENS.full) });
      const takes = isPublic && ["/api/query", "/api/function"].includes(route);
      expect(answer.includes('"success"'), `${route} ${path}: ${answer}`).toBe(takes);
    }
  }
  const open = functions.filter(({ isPublic }) => isPublic).map(({ path }) => path);
  expect(open.sort()).toEqual(["view:days", "view:running", "view:session", "view:sessions"]);
  for (const path of ["_system/cli/queryEnvironmentVariables", "_system/cli/modules:apiSpec"]) {
    const answer = await post("/api/query", { path, args: {} });
    expect(answer).not.toContain('"success"');
    expect(answer).not.toContain(hash(TOKENS.full));
  }
});

it("answers the queries of the page only with a valid token", async () => {
  for (const { path } of functions.filter(({ isPublic }) => isPublic)) {
    for (const token of [...INVALID, ...MALFORMED]) {
      const answer = await post("/api/query", { path, args: argumentsOf(path, token) });
      const name = `${path} ${String(token).slice(0, 40)}`;
      expect(answer, name).toContain('"status":"error"');
      if (INVALID.includes(token)) expect(answer, name).toContain("NO_ACCESS");
      for (const stored of [SECRET, everyField.metadata.host, "acme/shop"])
        expect(answer.replace(JSON.stringify(token), ""), name).not.toContain(`"${stored}`);
    }
    const figures = await post("/api/query", { path, args: argumentsOf(path, TOKENS.figures) });
    expect(figures).toContain('"success"');
    expect(figures).not.toContain(SECRET);
  }
});

it("refuses the same by websocket", async () => {
  const client = new ConvexClient(backend.url, { unsavedChangesWarning: false });
  const outcome = (path: string, args: Record<string, unknown>) =>
    new Promise<string>((resolve) => {
      const query = makeFunctionReference<"query">(path) as FunctionReference<"query">;
      const stop = client.onUpdate(
        query,
        args,
        (value: unknown) => {
          stop();
          resolve(`value ${JSON.stringify(value)}`);
        },
        (error) => {
          stop();
          resolve(`error ${JSON.stringify((error as { data?: unknown }).data)} ${error.message}`);
        },
      );
    });
  for (const { path, isPublic } of functions) {
    if (!isPublic)
      expect(await outcome(path, {})).toContain("error undefined [CONVEX Q(" + path + ")]");
    else {
      expect(await outcome(path, argumentsOf(path, "wrong"))).toMatch(/^error .*NO_ACCESS/);
      expect(await outcome(path, argumentsOf(path, TOKENS.full))).toMatch(/^value/);
    }
  }
  await client.close();
});

it("serves one page that says nothing of what is stored, and nothing else", async () => {
  const page = await fetch(backend.siteUrl);
  const text = await page.text();
  for (const stored of [SECRET, everyField.metadata.host, hash(TOKENS.full), backend.adminKey])
    expect(text).not.toContain(stored.length > 5 ? stored : `"${stored}"`);
  for (const [path, method] of [
    ["/", "POST"],
    ["/index.html", "GET"],
    ["/api/query", "POST"],
    ["/?token=full-token", "PUT"],
    ["//", "GET"],
    ["/..%2f", "GET"],
  ] as const) {
    const answer = await fetch(`${backend.siteUrl}${path}`, { method });
    expect(answer.status, `${method} ${path}`).toBe(404);
  }
});
