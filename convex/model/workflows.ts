/**
 * What a workflow is and how it changes. Changes come from several machines, late, twice or out of
 * order, so each field carries the time at which it was set, and the last write wins, per field:
 * every order of deliveries ends in the same row, and a change that was made offline is not lost
 * because another machine has changed a different field since then.
 */
import type { PaginationOptions } from "convex/server";
import { ConvexError } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { ensurePlausible, isPlausible } from "./time";
import type { SetAt, WorkflowChange, WorkflowReceipt, WorkflowStatus } from "./validators";

/** The fields that a change can set, each on its own. */
const FIELDS = ["task", "status", "currentStep", "artifacts"] as const;

export function getWorkflow(ctx: QueryCtx, key: string): Promise<Doc<"workflows"> | null> {
  return ctx.db
    .query("workflows")
    .withIndex("by_key", (q) => q.eq("key", key))
    .unique();
}

/** For a key that exists this is a change like any other, so a repeated request does no harm. */
export async function createWorkflow(
  ctx: MutationCtx,
  change: WorkflowChange,
): Promise<WorkflowReceipt> {
  ensurePlausible(change.updatedAt, ...Object.values(change.setAt ?? {}));
  const stored = await getWorkflow(ctx, change.key);
  if (stored) return await applyChange(ctx, stored, change);
  await insertWorkflow(ctx, change);
  return { outcome: "created", updatedAt: change.updatedAt };
}

export async function updateWorkflow(
  ctx: MutationCtx,
  change: WorkflowChange,
): Promise<WorkflowReceipt> {
  ensurePlausible(change.updatedAt, ...Object.values(change.setAt ?? {}));
  const stored = await getWorkflow(ctx, change.key);
  if (!stored) throw new ConvexError({ code: "WORKFLOW_NOT_FOUND", key: change.key });
  return await applyChange(ctx, stored, change);
}

/** The workflow that a session names by its key. The first session that names it creates it. */
export async function ensureWorkflow(
  ctx: MutationCtx,
  key: string,
  startedAt: number,
): Promise<Id<"workflows">> {
  const stored = await getWorkflow(ctx, key);
  return stored?._id ?? (await insertWorkflow(ctx, { key, updatedAt: startedAt }));
}

export function listWorkflows(
  ctx: QueryCtx,
  status: WorkflowStatus | undefined,
  page: PaginationOptions,
) {
  const workflows = ctx.db.query("workflows");
  const selected =
    status === undefined
      ? workflows.withIndex("by_updatedAt")
      : workflows.withIndex("by_status_and_updatedAt", (q) => q.eq("status", status));
  return selected.order("desc").paginate(page);
}

function insertWorkflow(ctx: MutationCtx, change: WorkflowChange): Promise<Id<"workflows">> {
  const defaults = { task: "", status: "running" as const, currentStep: "", artifacts: [] };
  const { updatedAt } = change;
  return ctx.db.insert("workflows", {
    key: change.key,
    ...defaults,
    ...newerFields(change, {}),
    metadata: { createdAt: firstTime(change), updatedAt, setAt: newerTimes(change, {}) },
  });
}

async function applyChange(
  ctx: MutationCtx,
  stored: Doc<"workflows">,
  change: WorkflowChange,
): Promise<WorkflowReceipt> {
  const { createdAt, updatedAt: storedAt, setAt = {} } = stored.metadata;
  const metadata = {
    createdAt: Math.min(createdAt, firstTime(change)),
    updatedAt: isPlausible(storedAt) ? Math.max(storedAt, change.updatedAt) : change.updatedAt,
    setAt: { ...setAt, ...newerTimes(change, setAt) },
  };
  const fields = newerFields(change, setAt);
  const hasChanged =
    Object.keys(fields).length > 0 ||
    metadata.createdAt < createdAt ||
    metadata.updatedAt !== storedAt;
  if (!hasChanged) return { outcome: "unchanged", updatedAt: storedAt };
  await ctx.db.patch("workflows", stored._id, { ...fields, metadata });
  return { outcome: "updated", updatedAt: metadata.updatedAt };
}

type Field = keyof SetAt;

function timeOf(change: WorkflowChange, field: Field): number {
  return change.setAt?.[field] ?? change.updatedAt;
}

/**
 * Whether the change sets the field later than the stored row. Any change overrides a default, and
 * a time that an earlier version of these functions stored although it is implausible.
 */
function isNewer(change: WorkflowChange, field: Field, stored: SetAt): boolean {
  if (change[field] === undefined) return false;
  const storedAt = stored[field];
  return storedAt === undefined || !isPlausible(storedAt) || timeOf(change, field) > storedAt;
}

function newerFields(change: WorkflowChange, stored: SetAt) {
  const { task, status, currentStep, artifacts } = change;
  return {
    ...(task !== undefined && isNewer(change, "task", stored) && { task }),
    ...(status !== undefined && isNewer(change, "status", stored) && { status }),
    ...(currentStep !== undefined && isNewer(change, "currentStep", stored) && { currentStep }),
    ...(artifacts !== undefined && isNewer(change, "artifacts", stored) && { artifacts }),
  };
}

function newerTimes(change: WorkflowChange, stored: SetAt): SetAt {
  const newer = FIELDS.filter((field) => isNewer(change, field, stored));
  return Object.fromEntries(newer.map((field) => [field, timeOf(change, field)]));
}

/** When the oldest setting in a change was made, which may be before `updatedAt`. */
function firstTime(change: WorkflowChange): number {
  return Math.min(
    change.updatedAt,
    ...FIELDS.filter((field) => change[field] !== undefined).map((field) => timeOf(change, field)),
  );
}
