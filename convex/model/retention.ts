/**
 * How long sessions are kept, if the deployment's variable CONVEX_SIDECAR_RETENTION_DAYS says so.
 * What was deleted is not remembered: a session that old is not stored when it is sent again, and a
 * resumed one is new again.
 */
import { internal } from "../_generated/api";
import { env, type MutationCtx } from "../_generated/server";
import { removeSessions } from "./agents";
import { expiryTime } from "./time";
import { batchOf } from "./usageDays";

/** How many sessions are deleted, or workflows checked, at once. */
const BATCH = { numItems: 100, maximumBytesRead: 4 * 1024 * 1024 };

/**
 * Deletes a batch of the sessions that have not changed for longer than they are kept, and schedules
 * the next batch. The workflows follow after the last batch.
 */
export async function deleteExpiredSessions(ctx: MutationCtx): Promise<number> {
  const limit = expiryTime(env);
  if (limit === null) return 0;
  const expired = await ctx.db
    .query("agentSessions")
    .withIndex("by_updatedAt", (q) => q.lt("metadata.updatedAt", limit))
    .paginate({ ...BATCH, cursor: null });
  const batch = batchOf(expired.page);
  await removeSessions(ctx, batch);
  const { deleteExpiredWorkflows } = internal.workflows;
  const isDone = expired.isDone && batch.length === expired.page.length;
  if (!isDone) await ctx.scheduler.runAfter(0, internal.agents.deleteExpiredSessions, {});
  else await ctx.scheduler.runAfter(0, deleteExpiredWorkflows, { cursor: null });
  return batch.length;
}

/**
 * Checks one page of workflows, deletes those that have expired and have no sessions left, and
 * schedules the next page.
 */
export async function deleteExpiredWorkflows(
  ctx: MutationCtx,
  cursor: string | null,
): Promise<number> {
  const limit = expiryTime(env);
  if (limit === null) return 0;
  const workflows = await ctx.db
    .query("workflows")
    .withIndex("by_updatedAt", (q) => q.lt("metadata.updatedAt", limit))
    .paginate({ ...BATCH, cursor });
  let deleted = 0;
  for (const { _id } of workflows.page) {
    const session = await ctx.db
      .query("agentSessions")
      .withIndex("by_workflowId_and_updatedAt", (q) => q.eq("metadata.workflowId", _id))
      .first();
    if (session) continue;
    await ctx.db.delete("workflows", _id);
    deleted += 1;
  }
  if (!workflows.isDone) {
    const args = { cursor: workflows.continueCursor };
    await ctx.scheduler.runAfter(0, internal.workflows.deleteExpiredWorkflows, args);
  }
  return deleted;
}
