/** The guarantee of the table of workflows: one row per key, and the last write wins, per field. */
import { convexTest } from "convex-test";
import { expect, it } from "vitest";
import { internal } from "./_generated/api";
import type { WorkflowChange } from "./model/validators";
import schema from "./schema";

const { createWorkflow, updateWorkflow, getWorkflow, listWorkflows } = internal.workflows;
const modules = import.meta.glob(["./**/*.{ts,js}", "!./**/*.test.ts"]);
const DAY = 24 * 60 * 60 * 1000;
const FIRST_PAGE = { numItems: 10, cursor: null };

function deployment() {
  return convexTest(schema, modules);
}

it("creates a workflow from the given fields and fills in defaults", async () => {
  const t = deployment();
  const receipt = await t.mutation(createWorkflow, {
    key: "release",
    task: "ship it",
    updatedAt: 5,
  });
  expect(receipt).toEqual({ outcome: "created", updatedAt: 5 });
  expect(await t.query(getWorkflow, { key: "release" })).toMatchObject({
    key: "release",
    task: "ship it",
    status: "running",
    currentStep: "",
    artifacts: [],
    metadata: { createdAt: 5, updatedAt: 5 },
  });
});

it("changes the given fields and keeps the others, for an update and for a repeated create", async () => {
  const t = deployment();
  await t.mutation(createWorkflow, {
    key: "release",
    task: "ship it",
    artifacts: ["notes.md"],
    updatedAt: 5,
  });
  await t.mutation(updateWorkflow, { key: "release", currentStep: "tag", updatedAt: 6 });
  const receipt = await t.mutation(createWorkflow, {
    key: "release",
    status: "completed",
    updatedAt: 7,
  });
  expect(receipt).toEqual({ outcome: "updated", updatedAt: 7 });
  expect(await t.query(getWorkflow, { key: "release" })).toMatchObject({
    task: "ship it",
    status: "completed",
    currentStep: "tag",
    artifacts: ["notes.md"],
    metadata: { createdAt: 5, updatedAt: 7 },
  });
});

it("keeps the change that was made last, not the one that arrived last", async () => {
  const t = deployment();
  await t.mutation(createWorkflow, { key: "release", currentStep: "build", updatedAt: 5 });
  await t.mutation(updateWorkflow, { key: "release", currentStep: "tag", updatedAt: 8 });
  for (const updatedAt of [8, 6]) {
    const late = { key: "release", currentStep: "test", updatedAt };
    expect(await t.mutation(updateWorkflow, late)).toEqual({ outcome: "unchanged", updatedAt: 8 });
    expect(await t.mutation(createWorkflow, late)).toEqual({ outcome: "unchanged", updatedAt: 8 });
  }
  expect(await t.query(getWorkflow, { key: "release" })).toMatchObject({ currentStep: "tag" });
});

it("keeps an older change to one field after a newer change to another", async () => {
  const t = deployment();
  await t.mutation(createWorkflow, { key: "release", status: "failed", updatedAt: 8 });
  expect(
    await t.mutation(updateWorkflow, { key: "release", task: "ship it", updatedAt: 6 }),
  ).toEqual({ outcome: "updated", updatedAt: 8 });
  expect(await t.query(getWorkflow, { key: "release" })).toMatchObject({
    task: "ship it",
    status: "failed",
    metadata: { createdAt: 6, updatedAt: 8, setAt: { task: 6, status: 8 } },
  });
});

it("prefers a set field to the default that a session created, even if the setting is older", async () => {
  const t = deployment();
  const withoutFields: WorkflowChange = { key: "release", updatedAt: 10 };
  await t.mutation(createWorkflow, withoutFields);
  await t.mutation(createWorkflow, { key: "release", status: "pending", updatedAt: 5 });
  expect(await t.query(getWorkflow, { key: "release" })).toMatchObject({
    status: "pending",
    metadata: { createdAt: 5, updatedAt: 10 },
  });
});

/**
 * Changes from two machines. The last one contains two settings, because the sidecar sends
 * everything that its machine knows.
 */
const changes: WorkflowChange[] = [
  { key: "release", task: "ship", updatedAt: 1 },
  { key: "release", currentStep: "build", status: "running", updatedAt: 2 },
  { key: "release", status: "failed", artifacts: ["log"], updatedAt: 3 },
  {
    key: "release",
    task: "ship it",
    currentStep: "tag",
    updatedAt: 5,
    setAt: { task: 4, currentStep: 5 },
  },
];

function orders<T>(items: T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, index) =>
    orders(items.toSpliced(index, 1)).map((rest) => [item, ...rest]),
  );
}

it("ends in the same row for every order and repetition of changes", async () => {
  for (const order of orders([...changes, ...changes.slice(2, 3)])) {
    const t = deployment();
    for (const change of order) await t.mutation(createWorkflow, change);
    expect(await t.query(getWorkflow, { key: "release" }), JSON.stringify(order)).toMatchObject({
      task: "ship it",
      status: "failed",
      currentStep: "tag",
      artifacts: ["log"],
      metadata: {
        createdAt: 1,
        updatedAt: 5,
        setAt: { task: 4, status: 3, currentStep: 5, artifacts: 3 },
      },
    });
  }
});

it("rejects an update of an unknown workflow with error data", async () => {
  const t = deployment();
  await expect(t.mutation(updateWorkflow, { key: "unknown", updatedAt: 1 })).rejects.toMatchObject({
    data: { code: "WORKFLOW_NOT_FOUND", key: "unknown" },
  });
  expect(await t.query(getWorkflow, { key: "unknown" })).toBeNull();
});

it("lists newest first, filtered by status or not, page by page", async () => {
  const t = deployment();
  await t.mutation(createWorkflow, { key: "oldest", status: "failed", updatedAt: 1 });
  await t.mutation(createWorkflow, { key: "newest", status: "failed", updatedAt: 3 });
  await t.mutation(createWorkflow, { key: "middle", updatedAt: 2 });
  const all = await t.query(listWorkflows, { paginationOpts: FIRST_PAGE });
  expect(all.page.map(({ key }) => key)).toEqual(["newest", "middle", "oldest"]);
  const failed = await t.query(listWorkflows, { paginationOpts: FIRST_PAGE, status: "failed" });
  expect(failed.page.map(({ key }) => key)).toEqual(["newest", "oldest"]);
  const { continueCursor } = await t.query(listWorkflows, {
    paginationOpts: { numItems: 2, cursor: null },
  });
  const rest = await t.query(listWorkflows, {
    paginationOpts: { numItems: 2, cursor: continueCursor },
  });
  expect([rest.page.map(({ key }) => key), rest.isDone]).toEqual([["oldest"], true]);
});

it.each<[string, object]>([
  ["no key", { key: undefined }],
  ["no time", { updatedAt: undefined }],
  ["a status that only sessions have", { status: "abandoned" }],
  ["artifacts that are not strings", { artifacts: [1] }],
  ["a field that is not in the schema", { surprise: 1 }],
])("rejects a change with %s", async (_, wrong) => {
  const t = deployment();
  const change = { key: "release", updatedAt: 1, ...wrong } as WorkflowChange;
  await expect(t.mutation(createWorkflow, change)).rejects.toThrow("Validator error");
  expect((await t.query(listWorkflows, { paginationOpts: FIRST_PAGE })).page).toEqual([]);
});

it.each([Date.now() + 2 * DAY, 2 ** 60, Infinity, NaN, 1.5])(
  "refuses a change that was made at %s",
  async (time) => {
    const t = deployment();
    const refusal = { data: { code: "TIME_IS_AHEAD" } };
    for (const times of [{ updatedAt: time }, { updatedAt: 5, setAt: { task: time } }]) {
      const change = { key: "release", task: "ship it", ...times };
      await expect(t.mutation(createWorkflow, change)).rejects.toMatchObject(refusal);
      await expect(t.mutation(updateWorkflow, change)).rejects.toMatchObject(refusal);
    }
    expect(await t.query(getWorkflow, { key: "release" })).toBeNull();
  },
);

it.each([Date.now() + 365 * DAY, Infinity, NaN])(
  "changes a field that an earlier version stored as set at %s",
  async (time) => {
    const t = deployment();
    const metadata = { createdAt: 1, updatedAt: time, setAt: { task: time } };
    await t.run((ctx) =>
      ctx.db.insert("workflows", {
        key: "release",
        task: "frozen",
        status: "running",
        currentStep: "",
        artifacts: [],
        metadata,
      }),
    );
    const updatedAt = Date.now();
    await t.mutation(updateWorkflow, { key: "release", task: "ship it", updatedAt });
    expect(await t.query(getWorkflow, { key: "release" })).toMatchObject({
      task: "ship it",
      metadata: { createdAt: 1, updatedAt, setAt: { task: updatedAt } },
    });
  },
);
