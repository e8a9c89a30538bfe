/**
 * The guarantee of retention: exactly the sessions that have not changed for the number of days in
 * the deployment's variable are deleted, in batches of bounded size, and none of them comes back
 * unless it is resumed.
 */
import { convexTest } from "convex-test";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { internal } from "./_generated/api";
import crons from "./crons";
import type { AgentSession } from "./model/validators";
import schema from "./schema";

const { createAgentSession, updateAgentSession, syncAgentSessions, deleteExpiredSessions } =
  internal.agents;
const modules = import.meta.glob(["./**/*.{ts,js}", "!./**/*.test.ts"]);
const DAY = 24 * 60 * 60 * 1000;
const NOW = Date.UTC(2026, 10, 26, 12);
const EVERYTHING = { paginationOpts: { numItems: 1000, cursor: null } };

// Scheduled functions run when a test says so.
beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  vi.stubEnv("CONVEX_SIDECAR_RETENTION_DAYS", "30");
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

function deployment() {
  return convexTest({ schema, modules, transactionLimits: true });
}

type Deployment = ReturnType<typeof deployment>;

/** A session that last changed this many days ago. */
function session(sessionId: string, days: number, fields: Partial<AgentSession> = {}) {
  const at = NOW - days * DAY;
  const noTokens = {
    inputTokens: 1,
    outputTokens: 1,
    cacheReadInputTokens: 1,
    cacheCreationInputTokens: 1,
  };
  return {
    sessionId,
    agentType: "claude-code",
    status: "completed" as const,
    revision: Math.floor(at),
    ...fields,
    metadata: {
      startedAt: at,
      updatedAt: at,
      host: "laptop",
      cwd: "/home/dev/proj",
      models: [],
      runs: [],
      transcript: { path: "/home/dev/t.jsonl", state: "complete" as const, bytes: 1 },
      prompts: 1,
      turns: 1,
      apiMessages: 1,
      toolCalls: 0,
      toolErrors: 0,
      tools: [],
      compactions: 0,
      subagents: 0,
      usage: noTokens,
      usageByModel: [{ model: "opus", ...noTokens }],
    },
  };
}

/** Stores sessions while all are kept. */
async function deliver(t: Deployment, sessions: AgentSession[]): Promise<void> {
  vi.stubEnv("CONVEX_SIDECAR_RETENTION_DAYS", undefined);
  for (let from = 0; from < sessions.length; from += 200)
    await t.mutation(syncAgentSessions, { sessions: sessions.slice(from, from + 200) });
  await t.finishAllScheduledFunctions(vi.runAllTimers);
  vi.stubEnv("CONVEX_SIDECAR_RETENTION_DAYS", "30");
}

async function deleteExpired(t: Deployment): Promise<number> {
  const deleted = await t.mutation(deleteExpiredSessions, {});
  await t.finishAllScheduledFunctions(vi.runAllTimers, 1000);
  return deleted;
}

async function storedIds(t: Deployment): Promise<string[]> {
  const { page } = await t.query(internal.agents.listAgentSessions, EVERYTHING);
  return page.map(({ sessionId }) => sessionId);
}

async function storedKeys(t: Deployment): Promise<string[]> {
  const { page } = await t.query(internal.workflows.listWorkflows, EVERYTHING);
  return page.map(({ key }) => key).sort();
}

async function sessionsInRollUp(t: Deployment): Promise<number> {
  const { page } = await t.query(internal.agents.listUsageDays, EVERYTHING);
  return page.reduce((sum, { sessions }) => sum + sessions, 0);
}

it("deletes exactly the expired ones of 10,000 old and 100 new sessions, in batches", async () => {
  const t = deployment();
  const older = Array.from({ length: 10_000 }, (_, index) =>
    session(`old${index}`, 30.001 + (index % 200), { workflowKey: `w${index % 50}` }),
  );
  const newer = Array.from({ length: 100 }, (_, index) =>
    session(`new${index}`, (index * 29.999) / 100, { workflowKey: `w${index % 10}` }),
  );
  await store(t, [...older, ...newer]);
  expect(await t.mutation(deleteExpiredSessions, {})).toBe(100);
  expect(await count(t)).toBe(10_000);
  await t.finishAllScheduledFunctions(vi.runAllTimers, 1000);
  expect((await storedIds(t)).sort()).toEqual(newer.map(({ sessionId }) => sessionId).sort());
  expect(await storedKeys(t)).toEqual(Array.from({ length: 10 }, (_, index) => `w${index}`));
  const jobs = await t.run((ctx) => ctx.db.system.query("_scheduled_functions").take(1000));
  expect(jobs.every(({ state }) => state.kind === "success")).toBe(true);
  // The machine that recorded them sends all of them again.
  for (let from = 0; from < older.length; from += 1000) {
    const sessions = older.slice(from, from + 1000);
    const receipts = await t.mutation(syncAgentSessions, { sessions });
    expect(receipts).toEqual(sessions.map(({ revision }) => ({ outcome: "expired", revision })));
  }
  expect(await count(t)).toBe(100);
}, 120_000);

/**
 * Stores sessions directly: in memory, each query of a delivery reads every document. They are not
 * in the roll-up.
 */
async function store(t: Deployment, sessions: AgentSession[]): Promise<void> {
  const complete = { version: 2, generation: 1, startedAt: NOW, isComplete: true };
  await t.run((ctx) => ctx.db.insert("usageDaysState", complete));
  const metadata = { createdAt: 1, updatedAt: 1 };
  const workflow = { task: "", status: "running" as const, currentStep: "", artifacts: [] };
  const keys = [...new Set(sessions.map(({ workflowKey }) => workflowKey ?? ""))];
  const ids = await t.run(async (ctx) => {
    const ids = new Map<string, string>();
    for (const key of keys)
      ids.set(key, await ctx.db.insert("workflows", { key, ...workflow, metadata }));
    return [...ids];
  });
  for (let from = 0; from < sessions.length; from += 1000) {
    await t.run(async (ctx) => {
      for (const { workflowKey, metadata, ...fields } of sessions.slice(from, from + 1000)) {
        const workflowId = new Map(ids).get(workflowKey ?? "") as never;
        await ctx.db.insert("agentSessions", { ...fields, metadata: { ...metadata, workflowId } });
      }
    });
  }
}

function count(t: Deployment): Promise<number> {
  return t.run(async (ctx) => (await ctx.db.query("agentSessions").take(20_000)).length);
}

it("takes what it deletes out of the roll-up", async () => {
  const t = deployment();
  await deliver(t, [session("old1", 31), session("old2", 400), session("new", 29)]);
  expect(await sessionsInRollUp(t)).toBe(3);
  expect(await deleteExpired(t)).toBe(2);
  expect(await storedIds(t)).toEqual(["new"]);
  expect(await sessionsInRollUp(t)).toBe(1);
});

it("answers an expired session as delivered and stores nothing, however it is sent", async () => {
  const t = deployment();
  const old = session("old", 31);
  const receipt = { outcome: "expired", revision: old.revision };
  expect(await t.mutation(createAgentSession, old)).toEqual(receipt);
  expect(await t.mutation(updateAgentSession, old)).toEqual(receipt);
  const sessions = [session("new", 1), old];
  expect(await t.mutation(syncAgentSessions, { sessions })).toEqual([
    { outcome: "created", revision: sessions[0]?.revision },
    receipt,
  ]);
  expect(await storedIds(t)).toEqual(["new"]);
});

it("stores an expired session again once it has changed", async () => {
  const t = deployment();
  await deliver(t, [session("s", 31)]);
  await deleteExpired(t);
  const resumed = session("s", 0);
  const receipt = { outcome: "created", revision: resumed.revision };
  await expect(t.mutation(updateAgentSession, resumed)).rejects.toMatchObject({
    data: { code: "SESSION_NOT_FOUND" },
  });
  expect(await t.mutation(createAgentSession, resumed)).toEqual(receipt);
  await deleteExpired(t);
  expect(await storedIds(t)).toEqual(["s"]);
});

it("keeps a workflow that has a session left or has changed since", async () => {
  const t = deployment();
  await deliver(t, [
    session("old1", 31, { workflowKey: "gone" }),
    session("old2", 31, { workflowKey: "shared" }),
    session("new", 1, { workflowKey: "shared" }),
    session("old3", 31, { workflowKey: "changed" }),
  ]);
  await t.mutation(internal.workflows.updateWorkflow, { key: "changed", updatedAt: NOW });
  const unused = { key: "unused", updatedAt: NOW - 31 * DAY };
  await t.mutation(internal.workflows.createWorkflow, unused);
  await deleteExpired(t);
  expect(await storedKeys(t)).toEqual(["changed", "shared"]);
});

it("looks at all workflows, however many there are", async () => {
  const t = deployment();
  for (let index = 0; index < 250; index += 1) {
    const workflow = { key: `w${index}`, updatedAt: NOW - 31 * DAY };
    await t.mutation(internal.workflows.createWorkflow, workflow);
  }
  await deleteExpired(t);
  expect(await storedKeys(t)).toEqual([]);
});

it.each([undefined, "", "0", "-1", "1.5", "30 days", "1e3", "NaN", "999999"])(
  "keeps everything if the variable is %s",
  async (days) => {
    const t = deployment();
    vi.stubEnv("CONVEX_SIDECAR_RETENTION_DAYS", days);
    const old = session("old", 10_000);
    expect(await t.mutation(createAgentSession, old)).toMatchObject({ outcome: "created" });
    expect(await deleteExpired(t)).toBe(0);
    expect(await storedIds(t)).toEqual(["old"]);
  },
);

it("is run every day", () => {
  expect(Object.values(crons.crons)).toMatchObject([
    { name: "agents:deleteExpiredSessions", args: [{}], schedule: { type: "daily" } },
  ]);
});
