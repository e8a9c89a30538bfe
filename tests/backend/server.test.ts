/** What the backend of the tests does beyond the recording: it serves the real functions, tells what it was asked, and fails on demand. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { internalMutationGeneric } from "convex/server";
import { v } from "convex/values";
import { afterEach, beforeEach, expect, it } from "vitest";
import * as agents from "../../convex/agents";
import schema from "../../convex/schema";
import * as workflows from "../../convex/workflows";
import { startBackend, type Backend } from "./server";

/** A function with a fault that none of the real ones may have. */
const broken = {
  writesAndReturnsNonsense: internalMutationGeneric({
    args: {},
    returns: v.string(),
    handler: async (ctx) => {
      await ctx.db.insert("workflows", workflow);
      return 1 as unknown as string;
    },
  }),
};
const workflow = {
  key: "k",
  task: "",
  status: "running",
  currentStep: "",
  artifacts: [],
  metadata: { createdAt: 1, updatedAt: 1 },
};

let backend: Backend;
beforeEach(async () => {
  backend = await startBackend({ schema, modules: { agents, workflows, broken } });
});
afterEach(() => backend.close());

const FIRST_PAGE = { paginationOpts: { numItems: 10, cursor: null } };

function call(type: "mutation" | "query", path: string, args: object, authorization = `Convex ${backend.adminKey}`) {
  const headers = { "content-type": "application/json", ...(authorization === "" ? {} : { authorization }) };
  return fetch(`${backend.url}/api/${type}`, { method: "POST", headers, body: JSON.stringify({ path, args, format: "json" }) });
}

const create = (key = "release") => call("mutation", "workflows:createWorkflow", { key, updatedAt: 5 });
const get = (key = "release") => call("query", "workflows:getWorkflow", { key });
const fault = (wanted: object) => fetch(`${backend.url}/_test/fault`, { method: "POST", body: JSON.stringify(wanted) });

interface RequestRecord {
  path: string;
  function: string | null;
  status: number | null;
}

async function requests(): Promise<RequestRecord[]> {
  return (await (await fetch(`${backend.url}/_test/requests`)).json()) as RequestRecord[];
}

it("serves the real functions, and numbers as the backend writes them", async () => {
  expect(await (await create()).text()).toBe('{"status":"success","value":{"outcome":"created","updatedAt":5.0}}');
  expect(await (await get()).text()).toMatch(/^\{"status":"success","value":\{"_creationTime":\d+\.\d+,"_id":"\w{32}","artifacts":\[\],/);
});

it("answers the error data of the real functions", async () => {
  const answer = await call("mutation", "workflows:updateWorkflow", { key: "nobody's", updatedAt: 5 });
  expect(await answer.json()).toMatchObject({ status: "error", errorData: { code: "WORKFLOW_NOT_FOUND", key: "nobody's" } });
});

it("names the place of a wrong argument as the backend does", async () => {
  const answer = await call("query", "agents:listAgentSessions", { ...FIRST_PAGE, status: "paused" });
  const { errorMessage } = (await answer.json()) as { errorMessage: string };
  expect(errorMessage.split("\n").slice(1, 4)).toEqual([
    "ArgumentValidationError: Value does not match validator.",
    "Path: .status",
    'Value: "paused"',
  ]);
});

it("hides the internal functions from whoever has no key", async () => {
  const answer = await call("query", "workflows:getWorkflow", { key: "release" }, "");
  expect(await answer.text()).toContain("Could not find public function for 'workflows:getWorkflow'.");
});

it("says what it is and whether a key is right", async () => {
  expect(await (await fetch(`${backend.url}/instance_name`)).text()).toBe("convex-self-hosted");
  expect((await fetch(`${backend.url}/version`)).status).toBe(200);
  const check = (authorization: string) => fetch(`${backend.url}/api/check_admin_key`, { headers: { authorization } });
  expect(await (await check(`Convex ${backend.adminKey}`)).json()).toEqual({ success: true, allowedOps: [], isReadOnly: false });
  expect((await check("Convex convex-self-hosted|00")).status).toBe(401);
});

it("lists the deployed functions to the admin", async () => {
  const { value } = (await (await call("query", "_system/cli/modules:apiSpec", {})).json()) as { value: { identifier: string }[] };
  const found = value.find(({ identifier }) => identifier === "workflows.js:getWorkflow");
  expect(found).toMatchObject({ functionType: "Query", visibility: { kind: "internal" }, args: { type: "object" } });
});

it("undoes the writes of a mutation whose return value is refused", async () => {
  const answer = await call("mutation", "broken:writesAndReturnsNonsense", {});
  expect(await answer.text()).toContain("ReturnsValidationError: Value does not match validator.");
  expect(await (await get("k")).json()).toMatchObject({ value: null });
});

it("refuses a document that a change makes too large, and keeps the old one", async () => {
  await create();
  const artifacts = ["x".repeat(600_000), "x".repeat(600_000)];
  const answer = await call("mutation", "workflows:updateWorkflow", { key: "release", artifacts, updatedAt: 6 });
  expect(await answer.text()).toContain("Value is too large (1.14 MiB > maximum size 1 MiB)");
  expect(await (await get()).json()).toMatchObject({ value: { artifacts: [], metadata: { updatedAt: 5 } } });
});

it("tells the requests it got, and never a key", async () => {
  await create();
  await call("query", "workflows:getWorkflow", { key: "release" }, "Convex convex-self-hosted|00");
  await fetch(`${backend.url}/version`);
  const records = await requests();
  expect(records).toEqual([
    {
      method: "POST",
      path: "/api/mutation",
      function: "workflows:createWorkflow",
      args: { key: "release", updatedAt: 5 },
      authorization: true,
      status: 200,
    },
    expect.objectContaining({ path: "/api/query", authorization: true, status: 401 }),
    expect.objectContaining({ path: "/version", function: null, args: null, authorization: false, status: 200 }),
  ]);
  expect(JSON.stringify(records)).not.toContain(backend.adminKey);
});

it("forgets all data when told to", async () => {
  await create();
  await fetch(`${backend.url}/_test/wipe`, { method: "POST" });
  expect(await (await get()).json()).toMatchObject({ value: null });
});

it("fails as often as told, and then no more", async () => {
  await fault({ status: 503, body: { code: "Overloaded", message: "try again" }, headers: { "retry-after": "1" }, times: 2 });
  for (const answer of [await create(), await create()]) {
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await answer.json()).toEqual({ code: "Overloaded", message: "try again" });
  }
  expect(await (await create()).json()).toMatchObject({ value: { outcome: "created" } });
});

it("runs the mutation and loses the reply when told to", async () => {
  await fault({ dropReply: true });
  await expect(create()).rejects.toThrow("fetch failed");
  expect(await (await get()).json()).toMatchObject({ value: { key: "release" } });
  expect((await requests()).map(({ status }) => status)).toEqual([null, 200]);
});

it("takes its time when told to", async () => {
  await fault({ delayMs: 200 });
  const asked = performance.now();
  expect(await (await create()).json()).toMatchObject({ value: { outcome: "created" } });
  expect(performance.now() - asked).toBeGreaterThan(190);
});

/** As the tests of the executable start it. */
function run(...flags: string[]) {
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  const cwd = fileURLToPath(new URL("../../", import.meta.url));
  return spawn(process.execPath, ["--import", "tsx", main, ...flags], { cwd, stdio: ["pipe", "pipe", "inherit"] });
}

it.each([
  ["its standard input closes", (child: ReturnType<typeof run>) => child.stdin.end()],
  ["it is told to terminate", (child: ReturnType<typeof run>) => child.kill("SIGTERM")],
])("runs as a program that says where it listens, and ends when %s", async (_, end) => {
  const child = run("--admin-key", "convex-self-hosted|0123");
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const { url, adminKey } = JSON.parse(line) as { url: string; adminKey: string };
  expect([new URL(url).hostname, adminKey]).toEqual(["127.0.0.1", "convex-self-hosted|0123"]);
  const headers = { "content-type": "application/json", authorization: `Convex ${adminKey}` };
  const body = JSON.stringify({ path: "agents:listAgentSessions", args: FIRST_PAGE });
  expect(await (await fetch(`${url}/api/query`, { method: "POST", headers, body })).json()).toMatchObject({ value: { page: [] } });
  end(child);
  expect(await once(child, "exit")).toEqual([0, null]);
}, 30_000);
