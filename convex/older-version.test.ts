/**
 * The functions accept what the first version stored and sends (tests/fixtures/functions-v1), so
 * they deploy onto a deployment with its rows, and machines can be updated one after another.
 */
import { convexTest } from "convex-test";
import { makeFunctionReference } from "convex/server";
import { expect, it } from "vitest";
import { internal } from "./_generated/api";
import type { Doc, Id } from "./_generated/dataModel";
import schema from "./schema";

interface Call {
  type: "mutation" | "query";
  path: string;
  args: Record<string, unknown>;
}

const modules = import.meta.glob(["./**/*.{ts,js}", "!./**/*.test.ts"]);
const fixtures = import.meta.glob<string>("../tests/fixtures/functions-v1/*.jsonl", {
  eager: true,
  query: "?raw",
  import: "default",
});
const workflows = recorded<Doc<"workflows">>("workflows");
const sessions = recorded<Doc<"agentSessions">>("sessions");
const calls = recorded<Call>("calls");
const EVERYTHING = { paginationOpts: { numItems: 100, cursor: null } };

function recorded<T>(name: string): T[] {
  const text = fixtures[`../tests/fixtures/functions-v1/${name}.jsonl`] ?? "";
  const lines = text.trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as T);
}

function deployment() {
  return convexTest(schema, modules);
}

type Deployment = ReturnType<typeof deployment>;

/** Stores the rows. The workflows get new ids. */
async function store(t: Deployment): Promise<void> {
  await t.run(async (ctx) => {
    const ids = new Map<Id<"workflows"> | undefined, Id<"workflows">>();
    for (const workflow of workflows) {
      ids.set(workflow._id, await ctx.db.insert("workflows", omit(workflow, "_id")));
    }
    for (const session of sessions) {
      const workflowId = ids.get(session.metadata.workflowId);
      const metadata = workflowId ? { ...session.metadata, workflowId } : session.metadata;
      await ctx.db.insert("agentSessions", { ...omit(session, "_id"), metadata });
    }
  });
}

/** A row without IDs, which differ between deployments. */
function withoutIds({ metadata, ...row }: Doc<"agentSessions"> & { workflowKey?: string }) {
  return {
    ...omit(row, "_id", "_creationTime", "workflowKey"),
    metadata: omit(metadata, "workflowId"),
  };
}

function omit<T extends object, K extends PropertyKey>(fields: T, ...names: K[]): Omit<T, K> {
  const kept = Object.entries(fields).filter(([name]) => !names.includes(name as K));
  return Object.fromEntries(kept) as Omit<T, K>;
}

async function stored(t: Deployment) {
  const { page } = await t.query(internal.agents.listAgentSessions, EVERYTHING);
  return page.map(withoutIds);
}

it("accepts rows of the first version, reads them and replaces them", async () => {
  const t = deployment();
  await store(t);
  expect(await stored(t)).toEqual(sessions.map(withoutIds));
  const { page } = await t.query(internal.workflows.listWorkflows, EVERYTHING);
  expect(page.map(({ key }) => key)).toEqual(workflows.map(({ key }) => key));
  const inNightly = { ...EVERYTHING, workflowKey: "nightly" };
  expect((await t.query(internal.agents.listAgentSessions, inNightly)).page).toHaveLength(2);
  for (const session of sessions) {
    const newer = { ...withoutIds(session), revision: session.revision + 1 };
    const receipt = { outcome: "updated", revision: newer.revision };
    expect(await t.mutation(internal.agents.updateAgentSession, newer)).toEqual(receipt);
  }
  const changed = { key: "nightly", status: "running" as const, updatedAt: Date.now() };
  expect(await t.mutation(internal.workflows.updateWorkflow, changed)).toMatchObject({
    outcome: "updated",
  });
});

it("stores what the first version sends as its own functions stored it", async () => {
  const t = deployment();
  for (const { type, path, args } of calls) {
    if (type === "query") await t.query(makeFunctionReference<"query">(path), args);
    else await t.mutation(makeFunctionReference<"mutation">(path), args);
  }
  const deleted = calls.find(({ path }) => path === "agents:deleteAgentSession")?.args;
  const kept = sessions.filter(({ sessionId }) => sessionId !== deleted?.["sessionId"]);
  expect(kept).toHaveLength(sessions.length - 1);
  expect(await stored(t)).toEqual(kept.map(withoutIds));
  const { page } = await t.query(internal.workflows.listWorkflows, EVERYTHING);
  expect(page.map((row) => omit(row, "_id", "_creationTime"))).toEqual(
    workflows.map((row) => omit(row, "_id")),
  );
});
