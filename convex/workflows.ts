/**
 * The functions that record and read workflows: work that several sessions share. All are internal,
 * as in agents.ts. The logic is in model/workflows.ts.
 */
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import { internalMutation, internalQuery } from "./_generated/server";
import { deleteExpiredWorkflows as deleteExpired } from "./model/retention";
import { workflowChange, workflowReceipt, workflowStatus } from "./model/validators";
import * as Workflows from "./model/workflows";
import schema from "./schema";

export const createWorkflow = internalMutation({
  args: workflowChange,
  returns: workflowReceipt,
  handler: (ctx, change) => Workflows.createWorkflow(ctx, change),
});

export const updateWorkflow = internalMutation({
  args: workflowChange,
  returns: workflowReceipt,
  handler: (ctx, change) => Workflows.updateWorkflow(ctx, change),
});

export const getWorkflow = internalQuery({
  args: { key: v.string() },
  returns: v.nullable(schema.doc("workflows")),
  handler: (ctx, { key }) => Workflows.getWorkflow(ctx, key),
});

export const listWorkflows = internalQuery({
  args: { paginationOpts: paginationOptsValidator, status: v.optional(workflowStatus) },
  returns: paginationResultValidator(schema.doc("workflows")),
  handler: (ctx, { paginationOpts, status }) =>
    Workflows.listWorkflows(ctx, status, paginationOpts),
});

export const deleteExpiredWorkflows = internalMutation({
  args: { cursor: v.nullable(v.string()) },
  returns: v.number(),
  handler: (ctx, { cursor }) => deleteExpired(ctx, cursor),
});
