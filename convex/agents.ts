/**
 * The functions that record and read agent sessions. All are internal: prompts and answers can be
 * read only with the admin key. The logic is in model/agents.ts.
 */
import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import { env, internalMutation, internalQuery } from "./_generated/server";
import * as Agents from "./model/agents";
import { deleteExpiredSessions as deleteExpired } from "./model/retention";
import * as UsageDays from "./model/usageDays";
import { agentSession, deletionReceipt, sessionReceipt, sessionStatus } from "./model/validators";
import schema from "./schema";

export const createAgentSession = internalMutation({
  args: agentSession,
  returns: sessionReceipt,
  handler: (ctx, session) => Agents.createAgentSession(ctx, session),
});

export const updateAgentSession = internalMutation({
  args: agentSession,
  returns: sessionReceipt,
  handler: (ctx, session) => Agents.updateAgentSession(ctx, session),
});

export const syncAgentSessions = internalMutation({
  args: { sessions: v.array(agentSession) },
  returns: v.array(sessionReceipt),
  handler: (ctx, { sessions }) => Agents.syncAgentSessions(ctx, sessions),
});

export const deleteAgentSession = internalMutation({
  args: { sessionId: v.string(), revision: v.optional(v.number()) },
  returns: deletionReceipt,
  handler: (ctx, { sessionId, revision }) => Agents.deleteAgentSession(ctx, sessionId, revision),
});

export const getAgentSession = internalQuery({
  args: { sessionId: v.string() },
  returns: v.nullable(Agents.agentSessionView),
  handler: (ctx, { sessionId }) => Agents.getAgentSession(ctx, sessionId),
});

export const findAgentSessions = internalQuery({
  args: { prefix: v.string(), limit: v.number() },
  returns: v.array(Agents.agentSessionView),
  handler: (ctx, { prefix, limit }) => Agents.findAgentSessions(ctx, prefix, limit),
});

export const listAgentSessions = internalQuery({
  args: {
    paginationOpts: paginationOptsValidator,
    status: v.optional(sessionStatus),
    workflowKey: v.optional(v.string()),
    since: v.optional(v.number()),
  },
  returns: paginationResultValidator(Agents.agentSessionView),
  handler: (ctx, { paginationOpts, ...filter }) =>
    Agents.listAgentSessions(ctx, filter, paginationOpts),
});

export const listUsageDays = internalQuery({
  args: {
    paginationOpts: paginationOptsValidator,
    since: v.optional(v.string()),
    until: v.optional(v.string()),
  },
  returns: paginationResultValidator(schema.doc("usageDays")).extend({ isComplete: v.boolean() }),
  handler: (ctx, { paginationOpts, ...days }) => UsageDays.listUsageDays(ctx, days, paginationOpts),
});

/** Where the page is served. */
export const getPageAddress = internalQuery({
  args: {},
  returns: v.string(),
  handler: () => {
    const { CONVEX_SITE_URL: address = "" } = env;
    return address;
  },
});

export const addToUsageDays = internalMutation({
  args: { generation: v.number(), cursor: v.nullable(v.string()) },
  returns: v.null(),
  handler: (ctx, { generation, cursor }) => UsageDays.addToUsageDays(ctx, generation, cursor),
});

export const deleteExpiredSessions = internalMutation({
  args: {},
  returns: v.number(),
  handler: (ctx) => deleteExpired(ctx),
});
