/**
 * The functions that record and read workflows: the work that several sessions share. All are internal, as in agents.ts. What they do is in
 * model/workflows.ts.
 */
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import { internalMutation, internalQuery } from "./_generated/server";
import * as Workflows from "./model/workflows";
import { workflowChange, workflowReceipt, workflowStatus, workflowView } from "./model/validators";

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
  returns: v.union(workflowView, v.null()),
  handler: (ctx, { key }) => Workflows.findWorkflow(ctx, key),
});

export const listWorkflows = internalQuery({
  args: { paginationOpts: paginationOptsValidator, status: v.optional(workflowStatus) },
  returns: paginationResultValidator(workflowView),
  handler: (ctx, { paginationOpts, status }) => Workflows.listWorkflows(ctx, status, paginationOpts),
});
