/**
 * The page's own functions behind the test backend, as a browser uses them: the page comes from the
 * HTTP actions' address, and what it shows comes over a websocket, without the admin key.
 */
import { createHash } from "node:crypto";
import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import * as agents from "../../convex/agents";
import * as http from "../../convex/http";
import schema from "../../convex/schema";
import * as view from "../../convex/view";
import everyField from "../../src/record/every_field.json";
import { startBackend, type Backend } from "./server";

const TOKEN = "token";
const sessions = makeFunctionReference<
  "query",
  { token: string; since: number },
  { sessions: { sessionId: string; status: string }[] }
>("view:sessions");

let backend: Backend;
let client: ConvexClient;
beforeEach(async () => {
  backend = await startBackend({ schema, modules: { agents, http, view } });
  client = new ConvexClient(backend.url, { unsavedChangesWarning: false });
});
afterEach(async () => {
  await client.close();
  await backend.close();
});

function post(path: string, body: object): Promise<Response> {
  return fetch(`${backend.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Convex ${backend.adminKey}` },
    body: JSON.stringify(body),
  });
}

async function allow(token: string | null): Promise<void> {
  const hash = createHash("sha256").update(TOKEN).digest("hex");
  const value = token === null ? null : `${hash}:full:0`;
  const changes = [{ name: "CONVEX_SIDECAR_VIEW_TOKENS", value }];
  expect((await post("/api/update_environment_variables", { changes })).status).toBe(200);
}

async function deliver(fields: object): Promise<void> {
  const args = { ...everyField, ...fields };
  const answer = await post("/api/mutation", { path: "agents:createAgentSession", args });
  expect(await answer.json()).toMatchObject({ status: "success" });
}

it("serves the page, which connects only to its deployment", async () => {
  const answer = await fetch(backend.siteUrl);
  expect([answer.status, answer.headers.get("content-type")]).toEqual([
    200,
    "text/html; charset=utf-8",
  ]);
  const policy = answer.headers.get("content-security-policy");
  expect(policy).toContain(`connect-src ${backend.url} ${backend.url.replace("http", "ws")};`);
  expect(await answer.text()).toContain(`content="${backend.url}"`);
  expect((await fetch(`${backend.siteUrl}/other`)).status).toBe(404);
});

it("shows a change at once, and nothing after the token is revoked", async () => {
  await allow(TOKEN);
  const shown: string[][] = [];
  const failed: unknown[] = [];
  client.onUpdate(
    sessions,
    { token: TOKEN, since: 0 },
    (list) => shown.push(list.sessions.map(({ sessionId, status }) => `${sessionId} ${status}`)),
    (error) => failed.push(error),
  );
  await vi.waitFor(() => {
    expect(shown).toEqual([[]]);
  });
  await deliver({ sessionId: "s", status: "failed", revision: 1 });
  await vi.waitFor(() => {
    expect(shown.at(-1)).toEqual(["s failed"]);
  });
  await deliver({ sessionId: "s", status: "completed", revision: 2 });
  await vi.waitFor(() => {
    expect(shown.at(-1)).toEqual(["s completed"]);
  });
  expect(failed).toEqual([]);
  await allow(null);
  await vi.waitFor(() => {
    expect(failed).toMatchObject([{ data: { code: "NO_ACCESS" } }]);
  });
});
