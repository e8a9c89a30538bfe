/**
 * The guarantee of the roll-up: it equals a new one built from the stored sessions, whatever was
 * delivered, repeated, reordered or deleted, even between two pages of adding older sessions.
 */
import { convexTest } from "convex-test";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { internal } from "./_generated/api";
import type { Doc } from "./_generated/dataModel";
import { addToUsageDays, batchOf, usageDaysOf } from "./model/usageDays";
import type { AgentSession, AgentSessionRow } from "./model/validators";
import schema from "./schema";

const { createAgentSession, deleteAgentSession, listUsageDays, syncAgentSessions } =
  internal.agents;
const modules = import.meta.glob(["./**/*.{ts,js}", "!./**/*.test.ts"]);
const DAY = 24 * 60 * 60 * 1000;
const START = Date.UTC(2026, 10, 20, 12);
const EVERYTHING = { paginationOpts: { numItems: 1000, cursor: null } };

// Scheduled functions run when a test says so.
beforeEach(() => void vi.useFakeTimers({ now: START + 6 * DAY }));
afterEach(() => void vi.useRealTimers());

function deployment() {
  return convexTest({ schema, modules, transactionLimits: true });
}

type Deployment = ReturnType<typeof deployment>;

interface Changes extends Partial<Omit<AgentSession, "metadata">> {
  metadata?: Partial<AgentSession["metadata"]>;
}

function session({ metadata, ...fields }: Changes = {}): AgentSession {
  return {
    sessionId: "s1",
    agentType: "claude-code",
    status: "completed",
    revision: 1,
    ...fields,
    metadata: {
      startedAt: START,
      updatedAt: START,
      host: "laptop",
      cwd: "/home/dev/proj",
      model: "opus",
      models: ["haiku", "opus"],
      runs: [],
      transcript: { path: "/home/dev/t.jsonl", state: "complete", bytes: 1 },
      prompts: 1,
      turns: 1,
      apiMessages: 1,
      toolCalls: 3,
      toolErrors: 1,
      tools: [],
      compactions: 0,
      subagents: 0,
      usage: tokens(10),
      usageByModel: [{ model: "opus", ...tokens(10) }],
      ...metadata,
    },
  };
}

function tokens(count: number) {
  return {
    inputTokens: count,
    outputTokens: 2 * count,
    cacheReadInputTokens: 3 * count,
    cacheCreationInputTokens: 4 * count,
  };
}

async function rollUp(t: Deployment) {
  const { page, isComplete } = await t.query(listUsageDays, EVERYTHING);
  return {
    rows: page.map((row) => without(row, "_id", "_creationTime", "generation")),
    isComplete,
  };
}

function without<T extends object, K extends keyof T>(fields: T, ...names: K[]): Omit<T, K> {
  const kept = Object.entries(fields).filter(([name]) => !names.includes(name as K));
  return Object.fromEntries(kept) as Omit<T, K>;
}

function storedSessions(t: Deployment): Promise<Doc<"agentSessions">[]> {
  return t.run((ctx) => ctx.db.query("agentSessions").take(1000));
}

function finish(t: Deployment): Promise<void> {
  return t.finishAllScheduledFunctions(vi.runAllTimers);
}

/** A random number generator that depends only on its seed (mulberry32). */
function random(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

type Random = ReturnType<typeof random>;

function pick<T>(below: Random, values: readonly T[]): T {
  return values[below(values.length)] as T;
}

/** A session with one of a few projects, hosts, users and models, with or without costs and days. */
function anySession(below: Random, sessionId: string, revision: number): AgentSession {
  const startedAt = START - below(3) * DAY;
  const entries = Array.from({ length: below(4) }, (_, index) => ({
    day: new Date(startedAt + index * DAY).toISOString().slice(0, 10),
    model: pick(below, ["opus", "haiku", "sonnet"]),
    ...tokens(below(1000)),
    ...(below(2) > 0 && { costUsd: below(1e9) / 3e8 }),
  }));
  return session({
    sessionId,
    revision,
    metadata: {
      startedAt,
      host: pick(below, ["laptop", "server"]),
      turns: below(5),
      toolCalls: below(9),
      ...(below(2) > 0 && { user: "dev@example.com" }),
      ...(below(2) > 0 && { repository: "github.com/example/proj" }),
      ...(below(2) > 0 && { costUsd: below(1e9) / 1e8 }),
      ...(below(2) > 0 && { costSource: "estimate" as const }),
      ...(below(2) > 0 && { costIsPartial: true }),
      ...(below(3) > 0 && { usageByDay: entries }),
      ...(below(4) > 0 && { usageByModel: entries.map((entry) => without(entry, "day")) }),
    },
  });
}

it("counts tokens by the day and model of each message, and the session once", () => {
  const metadata = {
    ...session().metadata,
    repository: "github.com/example/proj",
    costUsd: 0.7,
    costSource: "estimate" as const,
    costIsPartial: true,
    usageByDay: [
      { day: "2026-11-20", model: "haiku", ...tokens(1), costUsd: 0.1 },
      { day: "2026-11-21", model: "opus", ...tokens(2), costUsd: 0.2 },
    ],
  };
  const where = { project: "github.com/example/proj", host: "laptop", user: "" };
  const none = { sessions: 0, sessionsWithCost: 0, sessionsWithEstimate: 0 };
  const marks = (estimate: number, unknown: number) => ({
    ...{ activeSessions: 1, activeSessionsWithEstimate: estimate },
    activeSessionsWithUnknownCost: unknown,
  });
  const noCalls = { sessionsWithPartialCost: 0, turns: 0, toolCalls: 0, toolErrors: 0 };
  expect(usageDaysOf({ metadata })).toEqual([
    {
      ...{ day: "2026-11-20", model: "opus", ...where, ...marks(1, 0) },
      ...{ sessions: 1, sessionsWithCost: 1, sessionsWithEstimate: 1, sessionsWithPartialCost: 1 },
      ...{ turns: 1, toolCalls: 3, toolErrors: 1, ...tokens(0), costUsd: 0.4 },
    },
    {
      ...{ day: "2026-11-20", model: "haiku", ...where, ...marks(1, 1) },
      ...{ ...none, ...noCalls, ...tokens(1), costUsd: 0.1 },
    },
    {
      ...{ day: "2026-11-21", model: "opus", ...where, ...marks(1, 1) },
      ...{ ...none, ...noCalls, ...tokens(2), costUsd: 0.2 },
    },
  ]);
});

it.each<[string, Partial<AgentSession["metadata"]>, object[]]>([
  [
    "by its models, on the day that it started",
    { usageByModel: [{ model: "haiku", ...tokens(5), costUsd: 0.5 }], costUsd: 0.75 },
    [
      { day: "2026-11-20", model: "opus", ...tokens(0), costUsd: 0.25 },
      { day: "2026-11-20", model: "haiku", ...tokens(5), costUsd: 0.5 },
    ],
  ],
  [
    "under its model",
    { usageByModel: [] },
    [{ day: "2026-11-20", model: "opus", ...tokens(10), costUsd: 0 }],
  ],
  [
    "whose model is empty",
    { usageByModel: [], model: "", models: [] },
    [{ day: "2026-11-20", model: "", ...tokens(10) }],
  ],
  [
    "without a valid time",
    { startedAt: 1e300, usageByModel: [] },
    [{ day: "1970-01-01", model: "opus", ...tokens(10) }],
  ],
  [
    "without the cost of entries, if the session has none",
    { usageByModel: [{ model: "opus", ...tokens(5), costUsd: 0.5 }] },
    [{ sessionsWithCost: 0, activeSessionsWithUnknownCost: 1, ...tokens(5), costUsd: 0 }],
  ],
  [
    "with its tokens as of a known cost",
    { usageByModel: [{ model: "opus", ...tokens(5) }], costUsd: 0.5 },
    [{ activeSessionsWithEstimate: 0, activeSessionsWithUnknownCost: 0, costUsd: 0.5 }],
  ],
])("counts a session without days %s", (_, metadata, rows) => {
  expect(usageDaysOf(session({ metadata }))).toMatchObject(rows);
});

it.each<[string, Partial<AgentSession["metadata"]>, number]>([
  ["was used, if nothing is known about its tokens", { prompts: 1, turns: 0 }, 1],
  ["has turns of which no prompt is known", { prompts: 0, turns: 1 }, 1],
  ["was never used", { prompts: 0, turns: 0 }, 0],
  ["has a cost", { prompts: 1, turns: 1, costUsd: 1 }, 0],
  [
    "has a transcript without messages",
    { prompts: 1, apiMessages: 0, transcript: { path: "", state: "missing", bytes: 1 } },
    0,
  ],
  [
    "has messages of a backend that sends no token counts",
    { prompts: 1, apiMessages: 1, transcript: { path: "", state: "missing", bytes: 1 } },
    1,
  ],
])("counts whether the cost of a session that %s is unknown", (_, metadata, unknown) => {
  const bare = {
    transcript: { path: "", state: "missing" as const, bytes: 0 },
    usage: tokens(0),
    usageByModel: [],
    ...metadata,
  };
  expect(usageDaysOf(session({ metadata: bare }))).toMatchObject([
    { sessions: 1, activeSessionsWithUnknownCost: unknown },
  ]);
});

it("ignores a rounding error in a sum, and nothing larger", () => {
  const costs = [0.1, 0.2, 0.3, 0.7, 1.1, 12.3, 0.000_1];
  const usageByDay = costs.map((costUsd, index) => ({
    ...{ day: `2026-11-1${index}`, model: "haiku", ...tokens(1) },
    costUsd: costUsd / 3,
  }));
  const all = costs.reduce((sum, cost) => sum + cost, 0) / 3;
  const own = (costUsd: number) => {
    const metadata = { usageByDay, costUsd, costSource: "estimate" as const };
    return usageDaysOf(session({ metadata })).at(0);
  };
  expect(own(all + 9e-13)).toMatchObject({ costUsd: 0, activeSessionsWithEstimate: 0 });
  expect(own(all + 9e-12)).toMatchObject({ activeSessionsWithEstimate: 1 });
});

it("counts what has no valid day on the day of the session, as the sidecar does", () => {
  const usageByDay = ["", "soon", "2026-02-30", "2026-11-20T10:00", "20261120"].map((day) => ({
    ...{ day, model: "opus", ...tokens(1) },
  }));
  expect(usageDaysOf(session({ metadata: { usageByDay } }))).toMatchObject([
    { day: "2026-11-20", model: "opus", ...tokens(5) },
  ]);
});

it("changes a bounded number of rows at once, whatever the sessions contribute to", async () => {
  const usageByDay = Array.from({ length: 400 }, (_, index) => ({
    ...{ day: "2026-11-20", model: `m${index}`, ...tokens(1) },
  }));
  const sessions = Array.from({ length: 5 }, (_, index) =>
    session({ sessionId: `s${index}`, metadata: { usageByDay } }),
  );
  expect([0, 1, 2, 5].map((length) => batchOf(sessions.slice(0, length)).length)).toEqual([
    0, 1, 2, 2,
  ]);
  const t = deployment();
  for (const older of sessions) await t.run((ctx) => ctx.db.insert("agentSessions", older));
  await t.mutation(createAgentSession, session({ sessionId: "new" }));
  await finish(t);
  const state = await t.run((ctx) => ctx.db.query("usageDaysState").unique());
  expect(state?.isComplete).toBe(true);
  const stored = await storedSessions(t);
  expect(stored.every((of) => of.usageDaysGeneration === state?.generation)).toBe(true);
  const jobs = await t.run((ctx) => ctx.db.system.query("_scheduled_functions").take(99));
  expect(jobs.length).toBeGreaterThan(2);
  expect(jobs.every((job) => job.state.kind === "success")).toBe(true);
}, 30_000);

it("is complete if there are no sessions", async () => {
  const t = deployment();
  expect(await rollUp(t)).toEqual({ rows: [], isComplete: true });
  await t.run((ctx) => ctx.db.insert("agentSessions", session()));
  expect(await rollUp(t)).toEqual({ rows: [], isComplete: false });
});

it("is complete if all sessions were deleted before these functions were deployed", async () => {
  const t = deployment();
  const earlier = { version: 1, generation: 1, startedAt: Date.now(), isComplete: true };
  await t.run((ctx) => ctx.db.insert("usageDaysState", earlier));
  expect(await rollUp(t)).toEqual({ rows: [], isComplete: true });
  await t.run((ctx) => ctx.db.insert("agentSessions", session()));
  expect(await rollUp(t)).toEqual({ rows: [], isComplete: false });
});

it("bounds how many rows a session contributes to, and loses nothing", () => {
  const usageByDay = Array.from({ length: 2000 }, (_, index) => ({
    day: "2026-11-20",
    model: `m${index}`,
    ...tokens(1),
    costUsd: 0.001,
  }));
  const rows = usageDaysOf(session({ metadata: { usageByDay, costUsd: 2 } }));
  expect(rows).toHaveLength(500);
  expect(total(rows)).toMatchObject({ activeSessions: 500, sessions: 1, ...tokens(2000) });
  expect(total(rows)["costUsd"]).toBeCloseTo(2, 9);
});

function total(rows: object[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const [name, value] of rows.flatMap((row) => Object.entries(row)))
    if (typeof value === "number") sums[name] = (sums[name] ?? 0) + value;
  return sums;
}

/** What the sums over the roll-up must be, computed from the sessions. */
function totalOf(sessions: AgentSessionRow[]): Record<string, number> {
  const counted = sessions.map(({ metadata }) => {
    const { usage, usageByModel, usageByDay, costUsd, turns, toolCalls, toolErrors } = metadata;
    const entries = usageByDay?.length ? usageByDay : usageByModel;
    const { inputTokens = 0, outputTokens = 0 } = total(entries.length > 0 ? entries : [usage]);
    const sessionsWithCost = costUsd === undefined ? 0 : 1;
    return {
      ...{ sessions: 1, sessionsWithCost, costUsd: costUsd ?? 0, turns, toolCalls, toolErrors },
      ...{ inputTokens, outputTokens },
    };
  });
  return total(counted);
}

const seeds = Array.from({ length: 30 }, (_, seed) => seed);

it.each(seeds)(
  "equals a new roll-up after any deliveries, deletions and pages (seed %s)",
  async (seed) => {
    const below = random(seed);
    const ids = Array.from({ length: 8 }, (_, index) => `s${index}`);
    const t = deployment();
    // Rows of functions that had no roll-up.
    for (const id of ids.slice(0, below(ids.length + 1))) {
      await t.run((ctx) => ctx.db.insert("agentSessions", anySession(below, id, 1)));
    }
    let cursor: string | null = null;
    for (let step = 0; step < 30; step += 1) {
      const sent = anySession(below, pick(below, ids), 1 + below(6));
      const way = below(5);
      if (way === 0) await t.mutation(deleteAgentSession, { sessionId: sent.sessionId });
      else if (way === 1) await t.mutation(createAgentSession, sent);
      else if (way === 2) await t.mutation(syncAgentSessions, { sessions: [sent, sent] });
      else if (way === 3) cursor = await addPage(t, cursor);
      else vi.setSystemTime(Date.now() + below(2) * DAY);
    }
    await finish(t);
    const stored = await storedSessions(t);
    const { rows, isComplete } = await rollUp(t);
    expect(isComplete).toBe(true);

    const fresh = deployment();
    for (const row of stored.toReversed()) {
      const sent = without(row, "_id", "_creationTime", "usageDaysGeneration");
      await fresh.mutation(createAgentSession, sent);
    }
    expect(rows).toEqual((await rollUp(fresh)).rows);

    const { costUsd = 0, ...counts } = totalOf(stored);
    expect(total(rows)).toMatchObject(counts);
    expect(Math.abs((total(rows)["costUsd"] ?? 0) - costUsd)).toBeLessThan(1e-9);
  },
);

/** Adds a page of two sessions. Returns where the next one starts. */
async function addPage(t: Deployment, cursor: string | null): Promise<string | null> {
  return await t.run(async (ctx) => {
    const state = await ctx.db.query("usageDaysState").unique();
    if (!state) return null;
    const page = { numItems: 2, maximumBytesRead: 1_000_000 };
    await addToUsageDays(ctx, state.generation, cursor, page);
    const jobs = await ctx.db.system.query("_scheduled_functions").order("desc").take(1);
    const [next] = jobs[0]?.args as [{ cursor: string | null }];
    return next.cursor;
  });
}

it("adds older sessions in pages, which the first delivery schedules", async () => {
  const t = deployment();
  for (let index = 0; index < 250; index += 1) {
    const older = session({ sessionId: `s${index}`, metadata: { costUsd: 0.1 } });
    await t.run((ctx) => ctx.db.insert("agentSessions", older));
  }
  expect(await rollUp(t)).toEqual({ rows: [], isComplete: false });
  await t.mutation(createAgentSession, session({ revision: 2, metadata: { costUsd: 0.2 } }));
  expect((await rollUp(t)).rows).toMatchObject([{ sessions: 1, costUsd: 0.2 }]);
  await finish(t);
  const { rows, isComplete } = await rollUp(t);
  expect(rows).toMatchObject([{ sessions: 250, activeSessions: 250, costUsd: 25.1 }]);
  expect(isComplete).toBe(true);
  const jobs = await t.run((ctx) => ctx.db.system.query("_scheduled_functions").take(10));
  expect(jobs.map(({ state }) => state.kind)).toEqual(["success", "success", "success"]);
});

it("starts adding them again if that was interrupted, and only then", async () => {
  const t = deployment();
  await t.run((ctx) => ctx.db.insert("agentSessions", session({ sessionId: "older" })));
  const begun = { version: 3, generation: 1, startedAt: Date.now(), isComplete: false };
  await t.run((ctx) => ctx.db.insert("usageDaysState", begun));
  await t.mutation(createAgentSession, session());
  await finish(t);
  expect((await rollUp(t)).isComplete).toBe(false);
  vi.setSystemTime(Date.now() + DAY / 12);
  await t.mutation(createAgentSession, session({ revision: 2 }));
  await finish(t);
  expect(await rollUp(t)).toMatchObject({ rows: [{ sessions: 2 }], isComplete: true });
});

it("is built again by functions with another version of the roll-up", async () => {
  const t = deployment();
  await t.mutation(syncAgentSessions, {
    sessions: [session(), session({ sessionId: "s2" })],
  });
  await finish(t);
  // As another version of these functions would leave it.
  await t.run(async (ctx) => {
    const state = await ctx.db.query("usageDaysState").unique();
    if (state) await ctx.db.patch("usageDaysState", state._id, { version: 0 });
    for (const row of await ctx.db.query("usageDays").take(10))
      await ctx.db.patch("usageDays", row._id, { turns: 1000 });
  });
  expect(await rollUp(t)).toEqual({ rows: [], isComplete: false });
  await t.mutation(createAgentSession, session({ sessionId: "s2", revision: 2 }));
  await finish(t);
  expect(await rollUp(t)).toMatchObject({ rows: [{ sessions: 2, turns: 2 }], isComplete: true });
  const rows = await t.run((ctx) => ctx.db.query("usageDays").take(10));
  expect(rows.map(({ generation }) => generation)).toEqual([2]);
});

it("lists days newest first, from one day to another", async () => {
  const t = deployment();
  const usageByDay = ["2026-11-20", "2026-11-21", "2026-11-22"].map((day) => ({
    day,
    model: "opus",
    ...tokens(1),
  }));
  await t.mutation(createAgentSession, session({ metadata: { usageByDay } }));
  const days = async (range: object) => {
    const { page } = await t.query(listUsageDays, { ...EVERYTHING, ...range });
    return page.map(({ day }) => day);
  };
  expect(await days({})).toEqual(["2026-11-22", "2026-11-21", "2026-11-20"]);
  expect(await days({ since: "2026-11-21" })).toEqual(["2026-11-22", "2026-11-21"]);
  expect(await days({ until: "2026-11-21" })).toEqual(["2026-11-21", "2026-11-20"]);
  expect(await days({ since: "2026-11-21", until: "2026-11-21" })).toEqual(["2026-11-21"]);
});
