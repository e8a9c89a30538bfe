/**
 * What the page's queries and `sessions --remote` read: a bounded number of documents and index
 * entries, however many sessions are stored. And what an open page costs, which docs/view.md says;
 * with UPDATE_DOCS=1 the figures there are written again.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { convexTest } from "convex-test";
import { getDocumentSize } from "convex/values";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { isInRange, isStale, recorded, type Document, type Read } from "./reads";
import { invented, inventedNow } from "../view/invented";
import { api, internal } from "../../convex/_generated/api";
import { usageDaysOf } from "../../convex/model/usageDays";
import type { AgentSession, UsageDay } from "../../convex/model/validators";
import schema from "../../convex/schema";

const modules = import.meta.glob(["../../convex/**/*.{ts,js}", "!../../convex/**/*.test.ts"]);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const NOW = Date.UTC(2026, 10, 26, 12);
const STORED = 10_000;
const DAYS = 30;
const TOKEN = "token";
/** Thousands of rows take the in-memory database some seconds. */
const TIMEOUT = 120_000;

/** The most documents, and entries of indexes, that a list reads: SQLite reads whole ranges. */
const LIST = { documents: 304, entries: 1_000 };
/** As many sessions in a list as fit, beside those that are read in advance. */
const FULL_LIST = { documents: 53, entries: 200 };

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
  const hash = createHash("sha256").update(TOKEN).digest("hex");
  vi.stubEnv("CONVEX_SIDECAR_VIEW_TOKENS", `${hash}:full:0`);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

type Deployment = ReturnType<typeof deployment>;

/** A deployment with a session every few minutes of the last days. */
function deployment() {
  return convexTest({ schema, modules });
}

function storedSessions(): AgentSession[] {
  const random = (index: number) => (index * 7_919) % 12;
  return Array.from({ length: STORED }, (_, index) => {
    const status = random(index) === 0 ? "failed" : random(index) === 1 ? "abandoned" : "completed";
    return invented(index, NOW - Math.floor(((index + 1) * DAYS * DAY) / STORED), { status });
  });
}

/** Stores the newest ones of 10,000 sessions, and the roll-up of what all of them used. */
async function fill(t: Deployment, newest = STORED): Promise<void> {
  await t.mutation(internal.agents.syncAgentSessions, { sessions: inventedNow(NOW) });
  await t.finishAllScheduledFunctions(vi.runAllTimers);
  vi.setSystemTime(NOW);
  await t.run(async (ctx) => {
    const state = await ctx.db.query("usageDaysState").unique();
    const generation = state?.generation ?? 0;
    const rows = new Map<string, UsageDay>();
    const add = (row: UsageDay) => {
      const key = JSON.stringify([row.day, row.project, row.host, row.user, row.model]);
      const sum = rows.get(key);
      rows.set(key, sum ? added(sum, row) : row);
    };
    for (const { _id, _creationTime, ...row } of await ctx.db.query("usageDays").take(2 * STORED)) {
      expect(_creationTime).toBeGreaterThan(0);
      add(row);
      await ctx.db.delete("usageDays", _id);
    }
    for (const [index, session] of storedSessions().entries()) {
      const row = { ...session, usageDaysGeneration: generation };
      if (index < newest) await ctx.db.insert("agentSessions", row);
      for (const row of usageDaysOf(session)) add({ generation, ...row });
    }
    for (const row of rows.values()) await ctx.db.insert("usageDays", row);
  });
}

function added(sum: UsageDay, row: UsageDay): UsageDay {
  const fields = Object.entries(row).map(([name, value]) => {
    const before = sum[name as keyof UsageDay];
    const isCount =
      name !== "generation" && typeof value === "number" && typeof before === "number";
    return [name, isCount ? before + value : value];
  });
  return Object.fromEntries(fields) as UsageDay;
}

/** The queries, each with its arguments and the most that it may read. */
type Call = [name: string, run: (t: Deployment) => Promise<unknown>, bound: typeof LIST];

const RECENT = { token: TOKEN, since: NOW - DAYS * DAY, now: NOW };
const TODAY = new Date(NOW).toISOString().slice(0, 10);
const calls: Call[] = [
  ["running", (t) => t.query(api.view.running, { ...RECENT, since: NOW - 7 * DAY }), FULL_LIST],
  ["running, by host", (t) => t.query(api.view.running, { ...RECENT, host: "none" }), FULL_LIST],
  ["sessions", (t) => t.query(api.view.sessions, RECENT), FULL_LIST],
  ...(["completed", "failed", "abandoned", "running"] as const).map((status): Call => [
    `sessions, ${status}`,
    (t) => t.query(api.view.sessions, { ...RECENT, status }),
    { ...FULL_LIST, entries: 400 },
  ]),
  ...(["project", "user", "host"] as const).map((name): Call => [
    `sessions, by ${name}`,
    (t) => t.query(api.view.sessions, { ...RECENT, [name]: "none" }),
    LIST,
  ]),
  [
    "sessions, by user and status",
    (t) => t.query(api.view.sessions, { ...RECENT, user: "none", status: "failed" }),
    LIST,
  ],
  [
    "sessions, older ones",
    (t) => t.query(api.view.sessions, { ...RECENT, before: NOW - 20 * DAY }),
    FULL_LIST,
  ],
  [
    "session",
    (t) => t.query(api.view.session, { token: TOKEN, sessionId: invented(1, NOW).sessionId }),
    { documents: 2, entries: 2 },
  ],
  [
    "days",
    (t) => t.query(api.view.days, { token: TOKEN, since: "2026-01-01", until: TODAY }),
    { documents: 4_002, entries: 4_002 },
  ],
  [
    "days, by project",
    (t) => t.query(api.view.days, { token: TOKEN, since: TODAY, until: TODAY, project: "none" }),
    { documents: 200, entries: 200 },
  ],
  ...([undefined, "failed"] as const).map((status): Call => [
    `sessions --remote, ${status ?? "any status"}`,
    (t) =>
      t.query(internal.agents.listAgentSessions, {
        since: NOW - 3 * DAY,
        ...(status && { status }),
        paginationOpts: { numItems: 20, cursor: null },
      }),
    { documents: 20, entries: 1_100 },
  ]),
];

it(
  "reads a bounded number of documents and index entries of 10,000 sessions",
  { timeout: TIMEOUT },
  async () => {
    const t = deployment();
    await fill(t);
    const tables: Record<string, Document[]> = await t.run(async (ctx) => ({
      agentSessions: await ctx.db.query("agentSessions").take(2 * STORED),
      usageDays: await ctx.db.query("usageDays").take(2 * STORED),
      usageDaysState: await ctx.db.query("usageDaysState").take(2 * STORED),
    }));
    expect(tables["agentSessions"]?.length).toBeGreaterThan(STORED);
    for (const [name, run, bound] of calls) {
      const { reads } = await recorded(() => run(t));
      const documents = reads.flatMap((read) => read.documents).length;
      const entries = reads.map(
        (read) => tables[read.table]?.filter((row) => isInRange(read, row)).length ?? 0,
      );
      const total = entries.reduce((sum, count) => sum + count, 0);
      console.log(`${name}: ${documents} documents, ${total} index entries in the ranges`);
      expect(documents, `documents of ${name}`).toBeLessThanOrEqual(bound.documents);
      expect(total, `index entries of ${name}`).toBeLessThanOrEqual(bound.entries);
      expect(documents, name).toBeGreaterThan(0);
    }
  },
);

/** A query that an open page has subscribed to. */
interface Subscription {
  name: string;
  run: (t: Deployment) => Promise<unknown>;
  reads: Read[];
  answer: string;
  runs: number;
  /** Of all runs but the first. */
  documents: number;
  bytesRead: number;
  bytesSent: number;
}

const days = { token: TOKEN, since: "2026-10-28", until: "2026-11-25" };
/** What an open page has subscribed to (view/main.ts). */
const SUBSCRIPTIONS: [string, (t: Deployment) => Promise<unknown>][] = [
  ["`view:running`", (t) => t.query(api.view.running, { ...RECENT, since: NOW - 7 * DAY })],
  ["`view:sessions`", (t) => t.query(api.view.sessions, RECENT)],
  [
    "`view:days` of today",
    (t) => t.query(api.view.days, { ...days, since: TODAY, until: "9999-12-31" }),
  ],
  ["`view:days` before", (t) => t.query(api.view.days, days)],
];

async function execute(t: Deployment, of: Subscription): Promise<void> {
  const { value, reads } = await recorded(() => of.run(t));
  const answer = JSON.stringify(value);
  of.runs += 1;
  for (const document of reads.flatMap((read) => read.documents)) {
    of.documents += 1;
    // Convex Cloud counts a document in whole KiB.
    of.bytesRead += Math.ceil(getDocumentSize(document as never) / 1024) * 1024;
  }
  if (answer !== of.answer) of.bytesSent += answer.length;
  Object.assign(of, { reads, answer });
}

/** 200 hooks of an hour: 20 sessions with four turns each. Each one stores its session. */
function hookedSessions(): AgentSession[] {
  const hooks = Array.from({ length: 20 }, (_, index) => {
    const start = NOW + index * 2 * MINUTE;
    return Array.from({ length: 10 }, (_, hook) => {
      const at = start + hook * 2 * MINUTE;
      const { usage, usageByDay, usageByModel, ...metadata } = invented(
        50_000 + index,
        at,
      ).metadata;
      const turns = Math.ceil(hook / 2);
      const part = <T extends { outputTokens: number; costUsd?: number | undefined }>(
        of: T,
      ): T => ({
        ...of,
        outputTokens: of.outputTokens * turns,
        ...(of.costUsd !== undefined && { costUsd: of.costUsd * turns }),
      });
      const state = hook % 2 === 1 ? ("working" as const) : ("waiting" as const);
      const isOver = hook === 9;
      return invented(
        50_000 + index,
        at,
        { status: isOver ? "completed" : "running" },
        {
          ...(!isOver && { activity: { state, since: at } }),
          startedAt: start,
          turns,
          host: metadata.host,
          usage: part(usage),
          usageByModel: usageByModel.map(part),
          usageByDay: (usageByDay ?? []).map((of) => part({ ...of, day: TODAY })),
          costUsd: (metadata.costUsd ?? 0) * turns,
        },
      );
    });
  });
  return hooks.flat().sort((one, other) => one.revision - other.revision);
}

it("costs what docs/view.md says", { timeout: TIMEOUT }, async () => {
  const t = deployment();
  await fill(t, 200);
  const open = SUBSCRIPTIONS.map(([name, run]): Subscription => {
    const nothing = { reads: [], answer: "", runs: 0, documents: 0, bytesRead: 0, bytesSent: 0 };
    return { name, run, ...nothing };
  });
  for (const of of open) await execute(t, of);
  const atOpening = open.map((of) => ({ ...of }));
  const hooks = hookedSessions();
  expect(hooks).toHaveLength(200);
  for (const session of hooks) {
    vi.setSystemTime(session.revision);
    const { writes } = await recorded(() =>
      t.mutation(internal.agents.createAgentSession, session),
    );
    for (const of of open) {
      const isChanged = writes.some((write) => of.reads.some((read) => isStale(read, write)));
      if (isChanged) await execute(t, of);
    }
  }
  const table = [
    "| Query | Opening: documents, read, sent | 200 hooks: runs, documents, read, sent |",
    "|---|---|---|",
    ...open.map((of, index) => {
      const first = atOpening[index];
      if (!first) throw new Error("it was not opened");
      return `| ${of.name} | ${amounts(first)} | ${of.runs - 1}, ${amounts(difference(of, first))} |`;
    }),
    `| All | ${amounts(total(atOpening))} | ${total(open).runs - open.length}, ${amounts(difference(total(open), total(atOpening)))} |`,
  ].join("\n");
  console.log(table);
  const path = new URL("../../docs/view.md", import.meta.url);
  const text = readFileSync(path, "utf8");
  const written = text.replace(/\| Query \|[^]*?\n(?!\|)/, () => `${table}\n`);
  if (process.env["UPDATE_DOCS"] === "1") writeFileSync(path, written);
  else expect(text).toBe(written);
});

type Figures = Pick<Subscription, "runs" | "documents" | "bytesRead" | "bytesSent">;

function total(all: Figures[]): Figures {
  const sum = (name: keyof Figures) => all.reduce((sum, of) => sum + of[name], 0);
  const [runs, documents] = [sum("runs"), sum("documents")];
  return { runs, documents, bytesRead: sum("bytesRead"), bytesSent: sum("bytesSent") };
}

function difference(of: Figures, before: Figures): Figures {
  const less = (name: keyof Figures) => of[name] - before[name];
  const [runs, documents] = [less("runs"), less("documents")];
  return { runs, documents, bytesRead: less("bytesRead"), bytesSent: less("bytesSent") };
}

function amounts({ documents, bytesRead, bytesSent }: Figures): string {
  const kb = (bytes: number) => `${Math.round(bytes / 1024).toLocaleString("en")} KiB`;
  return `${documents.toLocaleString("en")}, ${kb(bytesRead)}, ${kb(bytesSent)}`;
}
