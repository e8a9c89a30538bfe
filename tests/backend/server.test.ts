/**
 * What the test backend does beyond the recording: it serves the real functions, logs requests, and
 * fails on demand.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { internalMutationGeneric } from "convex/server";
import { v } from "convex/values";
import { afterEach, beforeEach, expect, it } from "vitest";
import * as agents from "../../convex/agents";
import schema from "../../convex/schema";
import everyField from "../../src/record/every_field.json";
import * as workflows from "../../convex/workflows";
import { startBackend, type Backend } from "./server";

/** A function with a bug that no real one may have. */
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

function call(
  type: "mutation" | "query",
  path: string,
  args: object,
  authorization = `Convex ${backend.adminKey}`,
) {
  const headers = {
    "content-type": "application/json",
    ...(authorization === "" ? {} : { authorization }),
  };
  return fetch(`${backend.url}/api/${type}`, {
    method: "POST",
    headers,
    body: JSON.stringify({ path, args, format: "json" }),
  });
}

const create = (key = "release") =>
  call("mutation", "workflows:createWorkflow", { key, updatedAt: 5 });
const get = (key = "release") => call("query", "workflows:getWorkflow", { key });
const fault = (wanted: object) =>
  fetch(`${backend.url}/_test/fault`, { method: "POST", body: JSON.stringify(wanted) });

interface RequestRecord {
  path: string;
  function: string | null;
  status: number | null;
}

async function requests(): Promise<RequestRecord[]> {
  return (await (await fetch(`${backend.url}/_test/requests`)).json()) as RequestRecord[];
}

it("serves the real functions, and writes numbers as the backend does", async () => {
  expect(await (await create()).text()).toBe(
    '{"status":"success","value":{"outcome":"created","updatedAt":5.0}}',
  );
  expect(await (await get()).text()).toMatch(
    /^\{"status":"success","value":\{"_creationTime":\d+\.\d+,"_id":"\w{32}","artifacts":\[\],/,
  );
});

it("returns the error data of the real functions", async () => {
  const answer = await call("mutation", "workflows:updateWorkflow", {
    key: "unknown",
    updatedAt: 5,
  });
  expect(await answer.json()).toMatchObject({
    status: "error",
    errorData: { code: "WORKFLOW_NOT_FOUND", key: "unknown" },
  });
});

it("reports the path of a wrong argument as the backend does", async () => {
  const answer = await call("query", "agents:listAgentSessions", {
    ...FIRST_PAGE,
    status: "paused",
  });
  const { errorMessage } = (await answer.json()) as { errorMessage: string };
  expect(errorMessage.split("\n").slice(1, 4)).toEqual([
    "ArgumentValidationError: Value does not match validator.",
    "Path: .status",
    'Value: "paused"',
  ]);
});

it("hides internal functions from callers without a key", async () => {
  const answer = await call("query", "workflows:getWorkflow", { key: "release" }, "");
  expect(await answer.text()).toContain(
    "Could not find public function for 'workflows:getWorkflow'.",
  );
});

it("reports its instance name and whether a key is valid", async () => {
  expect(await (await fetch(`${backend.url}/instance_name`)).text()).toBe("convex-self-hosted");
  expect((await fetch(`${backend.url}/version`)).status).toBe(200);
  const check = (authorization: string) =>
    fetch(`${backend.url}/api/check_admin_key`, { headers: { authorization } });
  expect(await (await check(`Convex ${backend.adminKey}`)).json()).toEqual({
    success: true,
    allowedOps: [],
    isReadOnly: false,
  });
  expect((await check("Convex convex-self-hosted|00")).status).toBe(401);
});

it("lists the deployed functions for the admin", async () => {
  const { value } = (await (await call("query", "_system/cli/modules:apiSpec", {})).json()) as {
    value: { identifier: string }[];
  };
  const found = value.find(({ identifier }) => identifier === "workflows.js:getWorkflow");
  expect(found).toMatchObject({
    functionType: "Query",
    visibility: { kind: "internal" },
    args: { type: "object" },
  });
});

it("rolls back the writes of a mutation whose return value is rejected", async () => {
  const answer = await call("mutation", "broken:writesAndReturnsNonsense", {});
  expect(await answer.text()).toContain("ReturnsValidationError: Value does not match validator.");
  expect(await (await get("k")).json()).toMatchObject({ value: null });
});

it("rejects a change that makes a document too large, and keeps the old one", async () => {
  await create();
  const artifacts = ["x".repeat(600_000), "x".repeat(600_000)];
  const answer = await call("mutation", "workflows:updateWorkflow", {
    key: "release",
    artifacts,
    updatedAt: 6,
  });
  expect(await answer.text()).toContain("Value is too large (1.14 MiB > maximum size 1 MiB)");
  expect(await (await get()).json()).toMatchObject({
    value: { artifacts: [], metadata: { updatedAt: 5 } },
  });
});

it("logs requests, but never a key", async () => {
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
    expect.objectContaining({
      path: "/version",
      function: null,
      args: null,
      authorization: false,
      status: 200,
    }),
  ]);
  expect(JSON.stringify(records)).not.toContain(backend.adminKey);
});

it("deletes all data on request", async () => {
  await create();
  await fetch(`${backend.url}/_test/wipe`, { method: "POST" });
  expect(await (await get()).json()).toMatchObject({ value: null });
});

it("fails the requested number of times, then recovers", async () => {
  await fault({
    status: 503,
    body: { code: "Overloaded", message: "try again" },
    headers: { "retry-after": "1" },
    times: 2,
  });
  for (const answer of [await create(), await create()]) {
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await answer.json()).toEqual({ code: "Overloaded", message: "try again" });
  }
  expect(await (await create()).json()).toMatchObject({ value: { outcome: "created" } });
});

it("runs the mutation and drops the reply on request", async () => {
  await fault({ dropReply: true });
  await expect(create()).rejects.toThrow("fetch failed");
  expect(await (await get()).json()).toMatchObject({ value: { key: "release" } });
  expect((await requests()).map(({ status }) => status)).toEqual([null, 200]);
});

it("delays the reply on request", async () => {
  await fault({ delayMs: 200 });
  const sentAt = performance.now();
  expect(await (await create()).json()).toMatchObject({ value: { outcome: "created" } });
  expect(performance.now() - sentAt).toBeGreaterThan(190);
});

/** The way the tests of the executable start it. */
function run(...flags: string[]) {
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  const cwd = fileURLToPath(new URL("../../", import.meta.url));
  return spawn(process.execPath, ["--import", "tsx", main, ...flags], {
    cwd,
    stdio: ["pipe", "pipe", "inherit"],
  });
}

it.each([
  ["its stdin closes", (child: ReturnType<typeof run>) => child.stdin.end()],
  ["it gets SIGTERM", (child: ReturnType<typeof run>) => child.kill("SIGTERM")],
])(
  "runs as a program that prints its URL, and exits when %s",
  async (_, end) => {
    const child = run("--admin-key", "convex-self-hosted|0123");
    const [line] = (await once(createInterface(child.stdout), "line")) as [string];
    const { url, adminKey } = JSON.parse(line) as { url: string; adminKey: string };
    expect([new URL(url).hostname, adminKey]).toEqual(["127.0.0.1", "convex-self-hosted|0123"]);
    const headers = { "content-type": "application/json", authorization: `Convex ${adminKey}` };
    const body = JSON.stringify({ path: "agents:listAgentSessions", args: FIRST_PAGE });
    expect(
      await (await fetch(`${url}/api/query`, { method: "POST", headers, body })).json(),
    ).toMatchObject({ value: { page: [] } });
    end(child);
    expect(await once(child, "exit")).toEqual([0, null]);
  },
  30_000,
);

/** What backends of these dates answered to the incomplete push; the key does not matter. */
it.each([
  {
    isOlder: false,
    status: 400,
    body: '{"code":"BadJsonBody","message":"Failed to deserialize the JSON body into the target type: missing field `adminKey` at line 1 column 2"}',
  },
  { isOlder: true, status: 404, body: "" },
])("knows the route of a push unless it is older ($isOlder)", async ({ isOlder, status, body }) => {
  const other = await startBackend({ schema, modules: {} }, { isOlder });
  const answer = await fetch(`${other.url}/api/deploy2/evaluate_push`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  expect([answer.status, await answer.text()]).toEqual([status, body]);
  await other.close();
});

it("runs what a function schedules", async () => {
  const listUsageDays = async () => {
    const answer = await call("query", "agents:listUsageDays", FIRST_PAGE);
    return ((await answer.json()) as { value: { isComplete: boolean } }).value;
  };
  await call("mutation", "agents:createAgentSession", everyField);
  // Until the scheduled function has run, the sums with this session are not complete.
  const withSession = { page: [{ sessions: 0 }, { sessions: 1 }], isComplete: true };
  await expect.poll(listUsageDays).toMatchObject(withSession);
});

it("keeps variables of the deployment, which its functions see", async () => {
  const set = (value: string | null, authorization = `Convex ${backend.adminKey}`) =>
    fetch(`${backend.url}/api/update_environment_variables`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization },
      body: JSON.stringify({ changes: [{ name: "TEST_VARIABLE", value }] }),
    });
  const variables = async () => {
    const answer = await call("query", "_system/cli/queryEnvironmentVariables", {});
    return ((await answer.json()) as { value: unknown }).value;
  };
  const answer = await set("x");
  expect([answer.status, await answer.text()]).toEqual([200, ""]);
  expect(await variables()).toEqual([{ name: "TEST_VARIABLE", value: "x" }]);
  expect(process.env["TEST_VARIABLE"]).toBe("x");
  expect((await set("y", `Convex ${backend.adminKey}0`)).status).toBe(401);
  expect((await set(null)).status).toBe(200);
  expect(await variables()).toEqual([]);
  expect(process.env["TEST_VARIABLE"]).toBeUndefined();
});
