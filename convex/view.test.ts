/**
 * The guarantee of the page's queries, which are public: without a valid token they refuse before
 * they read a row, a token for figures shows no text, and what they read is bounded.
 */
import { createHash } from "node:crypto";
import { convexTest } from "convex-test";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import everyField from "../src/record/every_field.json";
import { api, internal } from "./_generated/api";
import type { AgentSession } from "./model/validators";
import schema from "./schema";

const { running, sessions, session, days } = api.view;
const modules = import.meta.glob(["./**/*.{ts,js}", "!./**/*.test.ts"]);
const NOW = Date.UTC(2026, 10, 26, 12);
const DAY = 24 * 60 * 60 * 1000;
const FULL = "full-token";
const FIGURES = "figures-token";
const EXPIRED = "expired-token";
const TEXTS = ["input", "output", "error"] as const;

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  vi.stubEnv("CONVEX_SIDECAR_VIEW_TOKENS", tokens());
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

function tokens(): string {
  const entry = (token: string, access: string, expiresAt: number) =>
    `${createHash("sha256").update(token).digest("hex")}:${access}:${expiresAt}`;
  return [
    entry(FULL, "full", NOW + DAY),
    entry(FIGURES, "figures", 0),
    entry(EXPIRED, "full", NOW),
    entry("unknown-access", "all", 0),
    entry("no-time", "full", NaN),
  ].join(" ");
}

type Limits = Parameters<typeof convexTest>[0];

function deployment(limits: object = {}) {
  return convexTest({ schema, modules, ...limits } as Limits & { schema: typeof schema });
}

type Deployment = ReturnType<typeof deployment>;

const EVERY_FIELD = everyField as AgentSession;

function sent(sessionId: string, fields: Partial<AgentSession> = {}, at = NOW): AgentSession {
  const metadata = { ...EVERY_FIELD.metadata, startedAt: at, updatedAt: at };
  return { ...EVERY_FIELD, sessionId, revision: 1, status: "completed", metadata, ...fields };
}

/** As it is stored, without a workflow. */
function withoutKey(session: AgentSession): Omit<AgentSession, "workflowKey"> {
  const { workflowKey, ...stored } = session;
  expect(workflowKey).toBeDefined();
  return stored;
}

/** Every query of the page, with this token. */
function calls(t: Deployment, token: string): Record<string, () => Promise<unknown>> {
  return {
    running: () => t.query(running, { token, since: 0 }),
    sessions: () => t.query(sessions, { token, since: 0 }),
    session: () => t.query(session, { token, sessionId: "s" }),
    days: () => t.query(days, { token, since: "2026-01-01", until: "2026-12-31" }),
  };
}

it("tests every query of the page", () => {
  expect(Object.keys(calls(deployment(), FULL)).sort()).toEqual([
    "days",
    "running",
    "session",
    "sessions",
  ]);
});

it.each(["", "wrong", EXPIRED, "unknown-access", "no-time", FULL.toUpperCase(), `${FULL} `])(
  "refuses the token %j before it reads a row",
  async (token) => {
    // Any read would be another error.
    const t = deployment({ transactionLimits: { databaseQueries: 0, documentsRead: 0 } });
    for (const call of Object.values(calls(t, token)))
      await expect(call()).rejects.toMatchObject({ data: { code: "NO_ACCESS" } });
    for (const call of Object.values(calls(t, FULL)))
      await expect(call()).rejects.not.toMatchObject({ data: { code: "NO_ACCESS" } });
  },
);

it.each([undefined, "", " ", ":full:0", `${FULL}:full:0`])(
  "refuses every token if the variable is %j",
  async (variable) => {
    vi.stubEnv("CONVEX_SIDECAR_VIEW_TOKENS", variable);
    const t = deployment();
    for (const token of ["", FULL, FIGURES])
      for (const call of Object.values(calls(t, token)))
        await expect(call()).rejects.toMatchObject({ data: { code: "NO_ACCESS" } });
  },
);

it("refuses a token once it has expired", async () => {
  const t = deployment();
  const none = { sessions: [] };
  expect(await t.query(sessions, { token: FULL, since: 0 })).toEqual(none);
  vi.setSystemTime(NOW + DAY);
  await expect(t.query(sessions, { token: FULL, since: 0 })).rejects.toThrow();
  expect(await t.query(sessions, { token: FIGURES, since: 0 })).toEqual(none);
});

function ids(list: { sessions: { sessionId: string }[] }): string[] {
  return list.sessions.map(({ sessionId }) => sessionId);
}

it("lists finished sessions newest first from a time on, by status, and those that run", async () => {
  const t = deployment();
  await t.mutation(internal.agents.syncAgentSessions, {
    sessions: [
      sent("old", {}, NOW - 9 * DAY),
      sent("abandoned", { status: "abandoned" }, NOW - 3 * DAY),
      sent("failed", { status: "failed" }, NOW - 2),
      sent("running", { status: "running" }, NOW - 1),
      sent("new"),
    ],
  });
  for (const now of [undefined, NOW, NOW - 5 * DAY, NOW + 5 * DAY]) {
    const range = { token: FULL, since: NOW - 5 * DAY, ...(now !== undefined && { now }) };
    expect(ids(await t.query(sessions, range))).toEqual(["new", "failed", "abandoned"]);
    expect(ids(await t.query(sessions, { ...range, status: "failed" }))).toEqual(["failed"]);
    expect(ids(await t.query(sessions, { ...range, before: NOW }))).toEqual([
      "failed",
      "abandoned",
    ]);
    expect(ids(await t.query(running, range))).toEqual(["running"]);
  }
});

it("finds those of a project, person or machine, and says if there can be more", async () => {
  const t = deployment();
  const of = (index: number, fields: object) => {
    const at = NOW - index * 60_000;
    const { metadata } = sent("", {}, at);
    return sent(`s${index}`, { metadata: { ...metadata, ...fields } });
  };
  const rare = { repository: "https://example.com/rare", user: "ann", host: "attic" };
  const many = Array.from({ length: 700 }, (_, index) =>
    of(index, index % 350 === 349 ? rare : {}),
  );
  await t.run(async (ctx) => {
    for (const session of many) await ctx.db.insert("agentSessions", withoutKey(session));
  });
  const range = { token: FULL, since: NOW - 30 * DAY, now: NOW };
  for (const filter of [{ project: rare.repository }, { user: "ann" }, { host: "attic" }]) {
    const found: string[] = [];
    let before: number | undefined;
    let answers = 0;
    do {
      const page = { ...range, ...filter, ...(before !== undefined && { before }) };
      const list = await t.query(sessions, page);
      found.push(...ids(list));
      before = list.older;
      answers += 1;
    } while (before !== undefined);
    expect(found).toEqual(["s349", "s699"]);
    expect(answers).toBe(3);
  }
  const folder = of(0, { repository: undefined, cwd: "/folder" });
  await t.mutation(internal.agents.createAgentSession, { ...folder, sessionId: "f" });
  expect(ids(await t.query(sessions, { ...range, project: "/folder" }))).toEqual(["f"]);
});

it("lists what is older than many sessions that changed in the same millisecond", async () => {
  const t = deployment();
  const many = Array.from({ length: 102 }, (_, index) =>
    sent(`s${index}`, {}, index === 0 ? NOW : NOW - 1 - Math.floor(index / 101)),
  );
  await t.mutation(internal.agents.syncAgentSessions, { sessions: many });
  const range = { token: FULL, since: 0, now: NOW };
  const first = await t.query(sessions, range);
  const second = await t.query(sessions, { ...range, before: first.older ?? 0 });
  const third = await t.query(sessions, { ...range, before: second.older ?? 0 });
  expect([first, second].map(({ sessions }) => sessions.length)).toEqual([50, 50]);
  expect(ids(third)).toEqual(["s101"]);
  expect(third.older).toBeUndefined();
});

it("goes on with older sessions where a list has ended", async () => {
  const t = deployment();
  const many = Array.from({ length: 120 }, (_, index) =>
    sent(`s${index}`, {}, NOW - index * 3_600_000),
  );
  await t.mutation(internal.agents.syncAgentSessions, { sessions: many });
  const range = { token: FULL, since: 0, now: NOW };
  const first = await t.query(sessions, range);
  const second = await t.query(sessions, { ...range, before: first.older ?? 0 });
  const third = await t.query(sessions, { ...range, before: second.older ?? 0 });
  expect([first, second, third].flatMap(ids)).toEqual(many.map(({ sessionId }) => sessionId));
  expect(third.older).toBeUndefined();
});

it("shows a session in full, except where its transcript is", async () => {
  const t = deployment();
  await t.mutation(internal.agents.createAgentSession, sent("s"));
  const shown = await t.query(session, { token: FULL, sessionId: "s" });
  for (const name of TEXTS) expect(shown?.[name]).toBe(EVERY_FIELD[name]);
  expect(shown?.metadata.usageByModel).toEqual(EVERY_FIELD.metadata.usageByModel);
  expect(JSON.stringify(shown)).not.toContain(EVERY_FIELD.metadata.transcript.path);
  expect(await t.query(session, { token: FULL, sessionId: "unknown" })).toBeNull();
});

it("shows a token for figures no text but the names that usage is grouped by", async () => {
  const t = deployment();
  const { metadata } = EVERY_FIELD;
  // Every string but those that name a status, also in fields that are added later.
  const kept = new Set(["failed", "running", metadata.activity?.state, "partial", "superseded"]);
  for (const value of [metadata.usageSource, metadata.costSource]) kept.add(value);
  const marked = (value: unknown, path: string): unknown => {
    if (typeof value === "string") return kept.has(value) ? value : `<${path}>`;
    if (Array.isArray(value)) return value.map((item) => marked(item, path));
    if (typeof value !== "object" || value === null) return value;
    const fields = Object.entries(value).map(([name, field]) => [name, marked(field, name)]);
    return Object.fromEntries(fields) as unknown;
  };
  const stored = marked(EVERY_FIELD, "") as AgentSession;
  Object.assign(stored.metadata, { startedAt: NOW, updatedAt: NOW });
  const shownTo = async (token: string) => {
    const answers = [
      ...Object.values(calls(t, token)).map((call) => call()),
      t.query(session, { token, sessionId: stored.sessionId }),
    ];
    const texts = JSON.stringify(await Promise.all(answers)).match(/<\w+>/g);
    return [...new Set(texts)].sort();
  };
  const names = ["day", "host", "model", "models", "name", "repository", "sessionId", "user"];
  for (const status of ["running", "failed"] as const) {
    await t.mutation(internal.agents.syncAgentSessions, {
      sessions: [{ ...stored, status, revision: status === "failed" ? 2 : 1 }],
    });
    expect(await shownTo(FIGURES)).toEqual(names.map((name) => `<${name}>`));
    expect(await shownTo(FULL)).toEqual(expect.arrayContaining(["<input>", "<output>", "<title>"]));
  }
  const figures = await t.query(session, { token: FIGURES, sessionId: stored.sessionId });
  expect(figures?.metadata).toMatchObject({ usage: metadata.usage, costUsd: metadata.costUsd });
});

it("says whether tokens are known", async () => {
  const t = deployment();
  const { metadata } = sent("s");
  const transcript = { path: "", state: "missing" as const, bytes: 0 };
  await t.mutation(
    internal.agents.createAgentSession,
    sent("unknown", { metadata: { ...metadata, transcript } }),
  );
  const usage = {
    inputTokens: 0,
    outputTokens: 0,
    cacheReadInputTokens: 0,
    cacheCreationInputTokens: 0,
  };
  await t.mutation(
    internal.agents.createAgentSession,
    sent("gateway", { metadata: { ...metadata, apiMessages: 1, usage } }, NOW - 1),
  );
  await t.mutation(internal.agents.createAgentSession, sent("known", {}, NOW - 2));
  const list = await t.query(sessions, { token: FULL, since: 0 });
  const known = list.sessions.map((of) => [of.sessionId, [of.isCounted, of.hasUsage]] as const);
  expect(Object.fromEntries(known)).toEqual({
    unknown: [false, false],
    gateway: [true, false],
    known: [true, true],
  });
});

it("cuts texts, and never within a character", async () => {
  const t = deployment();
  const input = `${"x".repeat(299)}${"😀".repeat(40_000)}`;
  await t.mutation(internal.agents.createAgentSession, sent("s", { input }));
  const [listed] = (await t.query(sessions, { token: FULL, since: 0 })).sessions;
  expect(listed?.input).toBe(`${"x".repeat(299)}…`);
  const shown = await t.query(session, { token: FULL, sessionId: "s" });
  expect(shown?.input?.length).toBeLessThanOrEqual(65_537);
  expect(shown?.input?.isWellFormed()).toBe(true);
});

it("reads a bounded number of sessions, whatever their size", async () => {
  const t = deployment();
  const many = Array.from({ length: 150 }, (_, index) => sent(`s${index}`, {}, NOW - index));
  await t.mutation(internal.agents.syncAgentSessions, { sessions: many });
  expect((await t.query(sessions, { token: FULL, since: 0 })).sessions).toHaveLength(50);
  const output = "x".repeat(900_000);
  for (let index = 1; index < 9; index += 1) {
    const large = sent(`large${index}`, { output }, NOW + index);
    await t.mutation(internal.agents.createAgentSession, large);
  }
  const list = await t.query(sessions, { token: FULL, since: 0 });
  expect(list.sessions.length).toBeLessThan(10);
  expect(list.older).toBeDefined();
});

it("sums usage by day, project, model, user and host, of everything or a part", async () => {
  const t = deployment();
  const usage = { inputTokens: 1, outputTokens: 2, cacheReadInputTokens: 3 };
  const tokensOf = { ...usage, cacheCreationInputTokens: 4 };
  const of = (sessionId: string, host: string, costUsd: number) => {
    const { metadata } = sent(sessionId);
    const usageByDay = ["2026-11-25", "2026-11-26"].map((day) => ({
      day,
      model: "opus",
      ...tokensOf,
      costUsd: costUsd / 2,
    }));
    const fields = { host, costUsd, usageByDay, cwd: "/p", model: "opus", turns: 3 };
    return sent(sessionId, { metadata: { ...metadata, ...fields } });
  };
  await t.mutation(internal.agents.syncAgentSessions, {
    sessions: [of("s1", "laptop", 1), of("s2", "server", 2)],
  });
  await t.finishAllScheduledFunctions(vi.runAllTimers);
  const range = { token: FIGURES, since: "2026-11-25", until: "2026-11-26" };
  const all = await t.query(days, range);
  expect(all.days).toMatchObject([
    { name: "2026-11-25", sessions: 0, costUsd: 1.5, tokens: 20 },
    { name: "2026-11-26", sessions: 2, costUsd: 1.5, tokens: 20 },
  ]);
  const hosts = Object.fromEntries(all.hosts.map(({ name, costUsd }) => [name, costUsd]));
  expect(hosts).toEqual({ server: 2, laptop: 1 });
  expect([all.projects.length, all.models.length, all.isComplete]).toEqual([1, 1, true]);
  const server = await t.query(days, { ...range, host: "server" });
  expect(server.days).toMatchObject([{ costUsd: 1 }, { costUsd: 1, sessions: 1 }]);
  const today = await t.query(days, { ...range, since: "2026-11-26" });
  expect(today.days).toMatchObject([{ name: "2026-11-26" }]);
});

it("has no cost where none is known, and the known part where some is", async () => {
  const t = deployment();
  const { costUsd, costSource, repository, usage, ...metadata } = EVERY_FIELD.metadata;
  expect([costUsd, costSource, repository]).not.toContain(undefined);
  const of = (sessionId: string, cwd: string, fields: object) => {
    const unpriced = { model: "glm-5", usageByDay: [], usageByModel: [] };
    const times = { usage, startedAt: NOW, updatedAt: NOW };
    return sent(sessionId, { metadata: { ...metadata, ...unpriced, ...times, cwd, ...fields } });
  };
  const usageByDay = [
    { ...usage, day: "2026-11-26", model: "haiku", costUsd: 1 },
    { ...usage, day: "2026-11-26", model: "glm-5" },
  ];
  const sessions = [
    ...[of("s1", "/a", {}), of("s2", "/b", {}), of("s3", "/b", { costUsd: 2 })],
    of("s4", "/c", { costUsd: 1, costIsPartial: true, usageByDay }),
  ];
  await t.mutation(internal.agents.syncAgentSessions, { sessions });
  await t.finishAllScheduledFunctions(vi.runAllTimers);
  const range = { token: FIGURES, since: "2026-11-26", until: "2026-11-26" };
  const { projects } = await t.query(days, range);
  const costs = projects.map((of) => [of.name, of.costUsd, of.isPartial]);
  expect(costs.sort()).toEqual([
    ["/a", undefined, true],
    ["/b", 2, true],
    ["/c", 1, true],
  ]);
  const { models } = await t.query(days, { ...range, project: "/c" });
  expect(Object.fromEntries(models.map((of) => [of.name, of.costUsd]))).toEqual({
    haiku: 1,
    "glm-5": undefined,
  });
});

it("serves the page with a policy that allows its own script and its own deployment", async () => {
  vi.stubEnv("CONVEX_CLOUD_URL", "http://127.0.0.1:3210");
  const answer = await deployment().fetch("/");
  const policy = answer.headers.get("Content-Security-Policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("connect-src http://127.0.0.1:3210 ws://127.0.0.1:3210;");
  const html = await answer.text();
  for (const [kind, pattern] of [
    ["script", /<script type="module">(.*?)<\/script>/s],
    ["style", /<style>(.*?)<\/style>/s],
  ] as const) {
    const source = pattern.exec(html)?.[1] ?? "";
    const hash = createHash("sha256").update(source).digest("base64");
    expect(policy).toContain(`${kind}-src 'sha256-${hash}'`);
  }
  expect(html).toContain('content="http://127.0.0.1:3210"');
  expect(Buffer.byteLength(html)).toBeLessThan(120_000);
  expect((await deployment().fetch("/other")).status).toBe(404);
});
