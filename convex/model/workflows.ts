/**
 * What a workflow is and how it changes. Changes may arrive late, twice or out of order, so each carries the time it was made and only a newer one
 * counts.
 */
import type { PaginationOptions } from "convex/server";
import { ConvexError } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type { WorkflowChange, WorkflowReceipt, WorkflowStatus } from "./validators";

export function findWorkflow(ctx: QueryCtx, key: string): Promise<Doc<"workflows"> | null> {
  return ctx.db
    .query("workflows")
    .withIndex("by_key", (q) => q.eq("key", key))
    .unique();
}

/** On a key that exists it is a change like any other, so that a repeated request does no harm. */
export async function createWorkflow(ctx: MutationCtx, change: WorkflowChange): Promise<WorkflowReceipt> {
  const stored = await findWorkflow(ctx, change.key);
  if (stored) return await applyChange(ctx, stored, change);
  await insertWorkflow(ctx, change);
  return { outcome: "created", updatedAt: change.updatedAt };
}

export async function updateWorkflow(ctx: MutationCtx, change: WorkflowChange): Promise<WorkflowReceipt> {
  const stored = await findWorkflow(ctx, change.key);
  if (!stored) throw new ConvexError({ code: "WORKFLOW_NOT_FOUND", key: change.key });
  return await applyChange(ctx, stored, change);
}

/** The workflow a session names by its key. The first session that names it makes it, so nobody has to declare a workflow beforehand. */
export async function workflowOfSession(ctx: MutationCtx, key: string, startedAt: number): Promise<Id<"workflows">> {
  const stored = await findWorkflow(ctx, key);
  return stored?._id ?? (await insertWorkflow(ctx, { key, updatedAt: startedAt }));
}

export function listWorkflows(ctx: QueryCtx, status: WorkflowStatus | undefined, page: PaginationOptions) {
  const workflows = ctx.db.query("workflows");
  const selected =
    status === undefined
      ? workflows.withIndex("by_updated")
      : workflows.withIndex("by_status", (q) => q.eq("status", status));
  return selected.order("desc").paginate(page);
}

function insertWorkflow(ctx: MutationCtx, { updatedAt, ...named }: WorkflowChange): Promise<Id<"workflows">> {
  const blank = { task: "", status: "running" as const, currentStep: "", artifacts: [] };
  return ctx.db.insert("workflows", { ...blank, ...named, metadata: { createdAt: updatedAt, updatedAt } });
}

async function applyChange(
  ctx: MutationCtx,
  stored: Doc<"workflows">,
  { updatedAt, ...named }: WorkflowChange,
): Promise<WorkflowReceipt> {
  if (updatedAt <= stored.metadata.updatedAt) return { outcome: "unchanged", updatedAt: stored.metadata.updatedAt };
  await ctx.db.patch("workflows", stored._id, { ...named, metadata: { ...stored.metadata, updatedAt } });
  return { outcome: "updated", updatedAt };
}
