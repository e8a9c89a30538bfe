/**
 * The guarantee of the table of sessions: whatever is delivered, in any order and any number of
 * times, each session has one row, which is the newest revision.
 */
import { convexTest } from "convex-test";
import { expect, it } from "vitest";
import { internal } from "./_generated/api";
import type { AgentSession } from "./model/validators";
import schema from "./schema";

const {
  createAgentSession,
  updateAgentSession,
  syncAgentSessions,
  deleteAgentSession,
  findAgentSessions,
  getAgentSession,
  listAgentSessions,
} = internal.agents;
const modules = import.meta.glob(["./**/*.{ts,js}", "!./**/*.test.ts"]);
const DAY = 24 * 60 * 60 * 1000;
const FIRST_PAGE = { numItems: 10, cursor: null };

function deployment() {
  return convexTest(schema, modules);
}

type Deployment = ReturnType<typeof deployment>;

/** A session as the sidecar sends it, without any optional field. */
function session(
  fields: Partial<AgentSession> = {},
  metadata: Partial<AgentSession["metadata"]> = {},
): AgentSession {
  return {
    sessionId: "s1",
    agentType: "main",
    status: "running",
    revision: 1,
    ...fields,
    metadata: {
      startedAt: 1000,
      updatedAt: 1000,
      host: "laptop",
      cwd: "/home/dev/proj",
      models: [],
      runs: [],
      transcript: { path: "/home/dev/t.jsonl", state: "complete", bytes: 0 },
      prompts: 0,
      turns: 0,
      apiMessages: 0,
      toolCalls: 0,
      toolErrors: 0,
      tools: [],
      compactions: 0,
      subagents: 0,
      usage: tokens(0),
      usageByModel: [],
      ...metadata,
    },
  };
}

function tokens(count: number) {
  return {
    inputTokens: count,
    outputTokens: count,
    cacheReadInputTokens: count,
    cacheCreationInputTokens: count,
  };
}

/** The counts of one model with every field. */
function modelUsage(count: number) {
  return {
    model: "claude-opus",
    ...tokens(count),
    thinkingTokens: count,
    cacheCreation1hInputTokens: count,
    webSearchRequests: count,
    costUsd: count / 8,
  };
}

/** A session with every field. */
function fullSession(): AgentSession {
  return session(
    {
      status: "completed",
      input: "say hello",
      output: "Hello.",
      error: "none",
      revision: 7,
      workflowKey: "release",
    },
    {
      completedAt: 3000,
      durationMs: 2000,
      gitBranch: "main",
      entrypoint: "cli",
      clientVersion: "2.1.197",
      permissionMode: "default",
      model: "claude-opus",
      models: ["claude-opus"],
      title: "greeting",
      activity: { state: "background", since: 3000 },
      runs: [
        { startedAt: 1000 },
        {
          owner: { pid: 1, startTime: 2 },
          startedAt: 1,
          source: "resume",
          endedAt: 2,
          reason: "other",
          endedBy: "hook",
        },
      ],
      transcript: { path: "/home/dev/t.jsonl", state: "partial", bytes: 12, skippedLines: 1 },
      tools: [{ name: "Bash", calls: 2, errors: 1 }],
      usageSource: "client",
      usageByModel: [modelUsage(3)],
      usageByDay: [{ day: "2026-11-25", ...modelUsage(3) }],
      inheritedUsage: { ...tokens(1), thinkingTokens: 1 },
      costUsd: 0.25,
      costSource: "client",
      costIsPartial: true,
      linesAdded: 12,
      linesRemoved: 3,
      apiDurationMs: 1500,
      toolDurationMs: 400,
      damagedLines: 1,
      forkedFrom: "s0",
      parentSessionId: "s0",
      user: "dev@example.com",
      repository: "github.com/example/proj",
      commitStart: "5e884898",
      commitEnd: "6b86b273",
      worktree: "feature",
      pullRequests: [{ number: 7, url: "https://github.com/example/proj/pull/7" }],
      tags: ["nightly"],
      outputTruncated: true,
      outputBytes: 70_000,
    },
  );
}

function storedSessions(t: Deployment) {
  return t.run((ctx) => ctx.db.query("agentSessions").take(100));
}

function storedWorkflows(t: Deployment) {
  return t.run((ctx) => ctx.db.query("workflows").take(100));
}

async function listedIds(
  t: Deployment,
  selection: { status?: AgentSession["status"]; workflowKey?: string; since?: number } = {},
) {
  const { page } = await t.query(listAgentSessions, { paginationOpts: FIRST_PAGE, ...selection });
  return page.map(({ sessionId }) => sessionId);
}

it("stores every field and reads it back with the key of its workflow", async () => {
  const t = deployment();
  expect(await t.mutation(createAgentSession, fullSession())).toEqual({
    outcome: "created",
    revision: 7,
  });
  const [workflow] = await storedWorkflows(t);
  const stored = await t.query(getAgentSession, { sessionId: "s1" });
  const { metadata, ...fields } = fullSession();
  expect(stored).toMatchObject(fields);
  expect(stored?.metadata).toEqual({ ...metadata, workflowId: workflow?._id });
});

it("replaces the whole row: a field that the newer revision lacks is gone", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, fullSession());
  const newer = session({ revision: 8 });
  expect(await t.mutation(updateAgentSession, newer)).toEqual({ outcome: "updated", revision: 8 });
  const stored = await t.query(getAgentSession, { sessionId: "s1" });
  expect({ ...stored, _id: undefined, _creationTime: undefined }).toEqual(newer);
});

it("changes nothing for the same or an older revision, and returns the stored one", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, session({ revision: 3, output: "third" }));
  for (const revision of [3, 2]) {
    const receipt = { outcome: "unchanged", revision: 3 };
    expect(await t.mutation(createAgentSession, session({ revision, output: "late" }))).toEqual(
      receipt,
    );
    expect(await t.mutation(updateAgentSession, session({ revision, output: "late" }))).toEqual(
      receipt,
    );
  }
  expect(await storedSessions(t)).toMatchObject([{ revision: 3, output: "third" }]);
});

it("refuses a revision that no clock can have shown, and says what time it is", async () => {
  const t = deployment();
  const now = Date.now();
  for (const revision of [now + 2 * DAY, 2 ** 60, Infinity, NaN, 1.5]) {
    const ahead = session({ revision });
    const refusal = { data: { code: "TIME_IS_AHEAD", now: expect.any(Number) as number } };
    await expect(t.mutation(createAgentSession, ahead)).rejects.toMatchObject(refusal);
    await expect(t.mutation(updateAgentSession, ahead)).rejects.toMatchObject(refusal);
    const sessions = [session({ sessionId: "s2" }), ahead];
    await expect(t.mutation(syncAgentSessions, { sessions })).rejects.toMatchObject(refusal);
  }
  expect(await storedSessions(t)).toEqual([]);
  await t.mutation(createAgentSession, session({ revision: now + DAY / 2 }));
  expect(await storedSessions(t)).toHaveLength(1);
});

it.each([Date.now() + 365 * DAY, Infinity, NaN])(
  "replaces a row that an earlier version stored with revision %s",
  async (revision) => {
    const t = deployment();
    await t.run((ctx) => ctx.db.insert("agentSessions", session({ revision })));
    const newer = session({ revision: Date.now(), output: "newer" });
    expect(await t.mutation(updateAgentSession, newer)).toMatchObject({ outcome: "updated" });
    expect(await storedSessions(t)).toMatchObject([{ output: "newer" }]);
  },
);

it("rejects an update of an unknown session with error data", async () => {
  const t = deployment();
  await expect(t.mutation(updateAgentSession, session())).rejects.toMatchObject({
    data: { code: "SESSION_NOT_FOUND", sessionId: "s1" },
  });
  expect(await storedSessions(t)).toEqual([]);
});

/**
 * The ways the sidecar can deliver a revision. It follows an update of an unknown session with a
 * create.
 */
const deliveries = {
  create: (t: Deployment, sent: AgentSession) => t.mutation(createAgentSession, sent),
  update: (t: Deployment, sent: AgentSession) =>
    t.mutation(updateAgentSession, sent).catch(() => t.mutation(createAgentSession, sent)),
  sync: (t: Deployment, sent: AgentSession) =>
    t.mutation(syncAgentSessions, { sessions: [sent, sent] }),
};

function permutations<T>(items: T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, index) =>
    permutations(items.toSpliced(index, 1)).map((rest) => [item, ...rest]),
  );
}

const ways = Object.values(deliveries);
/**
 * 120 orders of five deliveries, two of them repeated; each order mixes the ways of delivery
 * differently.
 */
const orders = permutations([1, 2, 3, 3, 1]).map((revisions, order) =>
  revisions.map((revision, index) => ({
    revision,
    way: (order + index * (1 + (order % 2))) % ways.length,
  })),
);

it(
  "ends in the same single row for every order, repetition and way of delivery",
  { timeout: 30_000 },
  async () => {
    const text = ["", "first", "second", "third"];
    for (const order of orders) {
      const t = deployment();
      for (const { revision, way } of order) {
        await ways[way]?.(
          t,
          session(
            { revision, output: text[revision] ?? "", workflowKey: "w" },
            { updatedAt: revision },
          ),
        );
      }
      const [row, ...more] = await storedSessions(t);
      expect(
        [row?.revision, row?.output, row?.metadata.updatedAt, more.length],
        JSON.stringify(order),
      ).toEqual([3, "third", 3, 0]);
      expect(await storedWorkflows(t)).toHaveLength(1);
    }
  },
);

it("syncs many sessions at once, including several revisions of one", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, session({ sessionId: "old", revision: 5 }));
  const sessions = [
    session({ sessionId: "new", revision: 2 }),
    session({ sessionId: "new", revision: 1 }),
    session({ sessionId: "new", revision: 3 }),
    session({ sessionId: "old", revision: 5 }),
  ];
  expect(await t.mutation(syncAgentSessions, { sessions })).toEqual([
    { outcome: "created", revision: 2 },
    { outcome: "unchanged", revision: 2 },
    { outcome: "updated", revision: 3 },
    { outcome: "unchanged", revision: 5 },
  ]);
  expect(await storedSessions(t)).toHaveLength(2);
});

it("creates the workflow that sessions name, once for all of them", async () => {
  const t = deployment();
  await t.mutation(
    createAgentSession,
    session({ sessionId: "a", workflowKey: "release" }, { startedAt: 500 }),
  );
  await t.mutation(syncAgentSessions, {
    sessions: [session({ sessionId: "b", workflowKey: "release" })],
  });
  const created = { key: "release", task: "", status: "running", currentStep: "", artifacts: [] };
  const workflows = await storedWorkflows(t);
  expect(workflows).toMatchObject([{ ...created, metadata: { createdAt: 500, updatedAt: 500 } }]);
  const rows = await storedSessions(t);
  expect(rows.map(({ metadata }) => metadata.workflowId)).toEqual([
    workflows[0]?._id,
    workflows[0]?._id,
  ]);
});

it("creates no workflow for a revision that is not stored", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, session({ revision: 2 }));
  await t.mutation(createAgentSession, session({ revision: 1, workflowKey: "late" }));
  expect(await storedWorkflows(t)).toEqual([]);
});

it("lists newest first, filtered by time, by status, by workflow, by several or not at all", async () => {
  const t = deployment();
  const sessions = [
    session({ sessionId: "oldest", status: "completed", workflowKey: "w" }, { updatedAt: 1 }),
    session({ sessionId: "newest", status: "completed" }, { updatedAt: 4 }),
    session({ sessionId: "failed", status: "failed", workflowKey: "w" }, { updatedAt: 3 }),
    session({ sessionId: "middle", status: "completed", workflowKey: "w" }, { updatedAt: 2 }),
  ];
  await t.mutation(syncAgentSessions, { sessions });
  expect(await listedIds(t)).toEqual(["newest", "failed", "middle", "oldest"]);
  expect(await listedIds(t, { status: "completed" })).toEqual(["newest", "middle", "oldest"]);
  expect(await listedIds(t, { workflowKey: "w" })).toEqual(["failed", "middle", "oldest"]);
  expect(await listedIds(t, { workflowKey: "w", status: "completed" })).toEqual([
    "middle",
    "oldest",
  ]);
  expect(await listedIds(t, { since: 3 })).toEqual(["newest", "failed"]);
  expect(await listedIds(t, { status: "completed", since: 2 })).toEqual(["newest", "middle"]);
  expect(await listedIds(t, { workflowKey: "w", since: 2 })).toEqual(["failed", "middle"]);
  expect(await listedIds(t, { workflowKey: "w", status: "completed", since: 2 })).toEqual([
    "middle",
  ]);
  expect(await listedIds(t, { since: 5 })).toEqual([]);
  expect(await listedIds(t, { status: "abandoned" })).toEqual([]);
  expect(await listedIds(t, { workflowKey: "unknown" })).toEqual([]);
});

it("lists a session in the same form as it gets it", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, fullSession());
  const { page } = await t.query(listAgentSessions, { paginationOpts: FIRST_PAGE });
  expect(page).toEqual([await t.query(getAgentSession, { sessionId: "s1" })]);
});

it("pages through all sessions without skipping or repeating one", async () => {
  const t = deployment();
  const sessionIds = Array.from({ length: 7 }, (_, index) => `s${index}`);
  // All have the same time, so a cursor by time alone would skip or repeat some.
  await t.mutation(syncAgentSessions, {
    sessions: sessionIds.map((sessionId) => session({ sessionId })),
  });
  const listed: string[] = [];
  for (let cursor: string | null = null, isDone = false; !isDone;) {
    const found: Awaited<ReturnType<typeof nextPage>> = await nextPage(t, cursor);
    listed.push(...found.page.map(({ sessionId }) => sessionId));
    ({ continueCursor: cursor, isDone } = found);
  }
  expect(listed).toEqual(sessionIds.toReversed());
});

function nextPage(t: Deployment, cursor: string | null) {
  return t.query(listAgentSessions, { paginationOpts: { numItems: 3, cursor } });
}

it("ends a page early instead of reading more than a query may", async () => {
  const t = deployment();
  const output = "x".repeat(1_000_000);
  for (let count = 0; count < 12; count += 1) {
    await t.mutation(createAgentSession, session({ sessionId: `s${count}`, output }));
  }
  const { page, isDone, continueCursor } = await t.query(listAgentSessions, {
    paginationOpts: { numItems: 12, cursor: null },
  });
  expect([page.length, isDone]).toEqual([9, false]);
  const rest = await t.query(listAgentSessions, {
    paginationOpts: { numItems: 12, cursor: continueCursor },
  });
  expect([rest.page.length, rest.isDone]).toEqual([3, true]);
});

it("returns null for an unknown session and deletes nothing", async () => {
  const t = deployment();
  expect(await t.query(getAgentSession, { sessionId: "s1" })).toBeNull();
  expect(await t.mutation(deleteAgentSession, { sessionId: "s1" })).toEqual({
    deleted: false,
    revision: null,
  });
});

it("finds sessions by a prefix of their id", async () => {
  const t = deployment();
  await t.mutation(syncAgentSessions, {
    sessions: ["ab1", "ab2", "abc", "b"].map((sessionId) => session({ sessionId })),
  });
  const find = async (prefix: string, limit = 5) => {
    const found = await t.query(findAgentSessions, { prefix, limit });
    return found.map(({ sessionId }) => sessionId);
  };
  expect(await find("ab")).toEqual(["ab1", "ab2", "abc"]);
  expect(await find("ab", 2)).toEqual(["ab1", "ab2"]);
  expect(await find("abc")).toEqual(["abc"]);
  expect(await find("c")).toEqual([]);
});

it("keeps a revision that is newer than the deletion", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, session({ revision: 6 }));
  expect(await t.mutation(deleteAgentSession, { sessionId: "s1", revision: 5 })).toEqual({
    deleted: false,
    revision: 6,
  });
  expect(await storedSessions(t)).toHaveLength(1);
  expect(await t.mutation(deleteAgentSession, { sessionId: "s1", revision: 6 })).toEqual({
    deleted: true,
    revision: null,
  });
  expect(await storedSessions(t)).toEqual([]);
});

it("deletes a session and keeps its workflow, which other sessions may share", async () => {
  const t = deployment();
  await t.mutation(createAgentSession, session({ workflowKey: "w" }));
  expect(await t.mutation(deleteAgentSession, { sessionId: "s1" })).toMatchObject({
    deleted: true,
  });
  expect(await storedSessions(t)).toEqual([]);
  expect(await storedWorkflows(t)).toHaveLength(1);
});

it.each<[string, object]>([
  ["no session id", { sessionId: undefined }],
  ["a status that does not exist", { status: "paused" }],
  ["a revision that is not a number", { revision: "1" }],
  ["null for an optional field", { output: null }],
  ["a field that is not in the schema", { surprise: 1 }],
  ["incomplete metadata", { metadata: { startedAt: 1 } }],
  [
    "the id of a workflow instead of its key",
    { metadata: { ...session().metadata, workflowId: "w" } },
  ],
  ["an unknown source of the cost", { metadata: { ...session().metadata, costSource: "guess" } }],
  ["an unknown source of usage", { metadata: { ...session().metadata, usageSource: "guess" } }],
  ["a day without its model", { metadata: { ...session().metadata, usageByDay: [{ day: "x" }] } }],
])("rejects a session with %s", async (_, wrong) => {
  const t = deployment();
  const sent = { ...session(), ...wrong };
  await expect(t.mutation(createAgentSession, sent)).rejects.toThrow("Validator error");
  await expect(t.mutation(syncAgentSessions, { sessions: [session(), sent] })).rejects.toThrow(
    "Validator error",
  );
  expect(await storedSessions(t)).toEqual([]);
});
