/**
 * How a delivered session becomes the stored one. A delivery is the whole session at some revision.
 * It may arrive late, twice or out of order: the highest revision wins and replaces the whole row,
 * so every order of deliveries ends in the same row.
 */
import type { PaginationOptions } from "convex/server";
import { ConvexError, v, type Infer } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import { env, type MutationCtx, type QueryCtx } from "../_generated/server";
import schema from "../schema";
import type {
  AgentSession,
  AgentSessionRow,
  DeletionReceipt,
  SessionReceipt,
  SessionStatus,
} from "./validators";
import { ensurePlausible, expiryTime, isPlausible } from "./time";
import { generationOf, UsageDayChanges } from "./usageDays";
import { ensureWorkflow, getWorkflow } from "./workflows";

/** A session as it is read: the stored document, and the key of its workflow. */
export const agentSessionView = schema
  .doc("agentSessions")
  .omit("usageDaysGeneration")
  .extend({ workflowKey: v.optional(v.string()) });

export type AgentSessionView = Infer<typeof agentSessionView>;

/**
 * In bytes. A query may read 16 MiB. Sessions carry text, so a page ends early, at half of that,
 * instead of failing; its cursor continues from there.
 */
const MAX_PAGE_BYTES = 8 * 1024 * 1024;
/** A session has at most 1 MiB, so this many stay below what a query may read. */
const MAX_FOUND = 10;

/**
 * For a session that exists this is an update: the reply to an earlier request may have been lost.
 */
export async function createAgentSession(
  ctx: MutationCtx,
  session: AgentSession,
): Promise<SessionReceipt> {
  ensurePlausible(session.revision);
  if (isExpired(session)) return expired(session);
  const stored = await findSession(ctx, session.sessionId);
  if (stored) return await replaceIfNewer(ctx, stored, session);
  await store(ctx, null, session);
  return { outcome: "created", revision: session.revision };
}

export async function updateAgentSession(
  ctx: MutationCtx,
  session: AgentSession,
): Promise<SessionReceipt> {
  ensurePlausible(session.revision);
  if (isExpired(session)) return expired(session);
  const stored = await findSession(ctx, session.sessionId);
  if (!stored) throw new ConvexError({ code: "SESSION_NOT_FOUND", sessionId: session.sessionId });
  return await replaceIfNewer(ctx, stored, session);
}

/** One after another, because a batch may contain several revisions of a session. */
export async function syncAgentSessions(
  ctx: MutationCtx,
  sessions: AgentSession[],
): Promise<SessionReceipt[]> {
  const receipts: SessionReceipt[] = [];
  for (const session of sessions) receipts.push(await createAgentSession(ctx, session));
  return receipts;
}

/**
 * Deletes only up to `revision`: a late deletion must not remove a session that has been recorded
 * again since.
 */
export async function deleteAgentSession(
  ctx: MutationCtx,
  sessionId: string,
  revision = Infinity,
): Promise<DeletionReceipt> {
  const stored = await findSession(ctx, sessionId);
  if (!stored) return { deleted: false, revision: null };
  if (stored.revision > revision) return { deleted: false, revision: stored.revision };
  await removeSessions(ctx, [stored]);
  return { deleted: true, revision: null };
}

/** Deletes sessions, also from the roll-up. */
export async function removeSessions(
  ctx: MutationCtx,
  sessions: Doc<"agentSessions">[],
): Promise<void> {
  const usage = new UsageDayChanges(await generationOf(ctx));
  for (const stored of sessions) {
    usage.subtract(stored);
    await ctx.db.delete("agentSessions", stored._id);
  }
  await usage.apply(ctx);
}

export async function getAgentSession(
  ctx: QueryCtx,
  sessionId: string,
): Promise<AgentSessionView | null> {
  const stored = await findSession(ctx, sessionId);
  return stored && (await toView(ctx, stored));
}

/**
 * The sessions whose ID starts with `prefix`: at most `limit`, and never more than a query may
 * read.
 */
export async function findAgentSessions(
  ctx: QueryCtx,
  prefix: string,
  limit: number,
): Promise<AgentSessionView[]> {
  const rows = await ctx.db
    .query("agentSessions")
    .withIndex("by_sessionId", (q) => q.gte("sessionId", prefix).lt("sessionId", `${prefix}\uffff`))
    .take(Math.min(limit, MAX_FOUND));
  return await Promise.all(rows.map((row) => toView(ctx, row)));
}

/**
 * Newest first, of those that have changed since a time. With SQLite, Convex reads the whole index
 * range from there on, however short the page is. A workflow that does not exist has no sessions.
 */
export async function listAgentSessions(
  ctx: QueryCtx,
  {
    status,
    workflowKey,
    since = -Infinity,
  }: { status?: SessionStatus; workflowKey?: string; since?: number },
  paginationOpts: PaginationOptions,
) {
  const workflow = workflowKey === undefined ? undefined : await getWorkflow(ctx, workflowKey);
  if (workflow === null) return { page: [], isDone: true, continueCursor: "" };
  const rows = await sessionsByIndex(ctx, since, status, workflow?._id)
    .order("desc")
    .paginate({ ...paginationOpts, maximumBytesRead: MAX_PAGE_BYTES });
  return { ...rows, page: await Promise.all(rows.page.map((row) => toView(ctx, row))) };
}

/** The sessions that have changed since a time, from the index that fits. */
function sessionsByIndex(
  ctx: QueryCtx,
  since: number,
  status?: SessionStatus,
  workflowId?: Id<"workflows">,
) {
  const sessions = ctx.db.query("agentSessions");
  if (workflowId !== undefined && status !== undefined) {
    return sessions.withIndex("by_workflowId_and_status_and_updatedAt", (q) =>
      q.eq("metadata.workflowId", workflowId).eq("status", status).gte("metadata.updatedAt", since),
    );
  }
  if (workflowId !== undefined) {
    return sessions.withIndex("by_workflowId_and_updatedAt", (q) =>
      q.eq("metadata.workflowId", workflowId).gte("metadata.updatedAt", since),
    );
  }
  if (status !== undefined)
    return sessions.withIndex("by_status_and_updatedAt", (q) =>
      q.eq("status", status).gte("metadata.updatedAt", since),
    );
  return sessions.withIndex("by_updatedAt", (q) => q.gte("metadata.updatedAt", since));
}

/** Whether the session is older than what is kept (retention.ts). */
function isExpired({ metadata }: AgentSession): boolean {
  const limit = expiryTime(env);
  return limit !== null && metadata.updatedAt < limit;
}

/** Answers as if it was stored, so that it counts as delivered. If a row exists, it will be deleted. */
function expired({ revision }: AgentSession): SessionReceipt {
  return { outcome: "expired", revision };
}

export function findSession(
  ctx: QueryCtx,
  sessionId: string,
): Promise<Doc<"agentSessions"> | null> {
  return ctx.db
    .query("agentSessions")
    .withIndex("by_sessionId", (q) => q.eq("sessionId", sessionId))
    .unique();
}

/**
 * A revision that is implausible was stored by an earlier version of these functions. Any plausible
 * one replaces it, so that the row is not frozen until that time.
 */
async function replaceIfNewer(
  ctx: MutationCtx,
  stored: Doc<"agentSessions">,
  session: AgentSession,
): Promise<SessionReceipt> {
  if (isPlausible(stored.revision) && session.revision <= stored.revision)
    return { outcome: "unchanged", revision: stored.revision };
  await store(ctx, stored, session);
  return { outcome: "updated", revision: session.revision };
}

/** Stores a session in place of its row, if there is one, and in the roll-up. */
async function store(
  ctx: MutationCtx,
  stored: Doc<"agentSessions"> | null,
  session: AgentSession,
): Promise<void> {
  const usageDaysGeneration = await generationOf(ctx);
  const row = { ...(await toRow(ctx, session)), usageDaysGeneration };
  const usage = new UsageDayChanges(usageDaysGeneration);
  usage.add(row);
  if (stored) {
    usage.subtract(stored);
    await ctx.db.replace("agentSessions", stored._id, row);
  } else await ctx.db.insert("agentSessions", row);
  await usage.apply(ctx);
}

async function toRow(
  ctx: MutationCtx,
  { workflowKey, ...session }: AgentSession,
): Promise<AgentSessionRow> {
  if (workflowKey === undefined) return session;
  const workflowId = await ensureWorkflow(ctx, workflowKey, session.metadata.startedAt);
  return { ...session, metadata: { ...session.metadata, workflowId } };
}

async function toView(ctx: QueryCtx, row: Doc<"agentSessions">): Promise<AgentSessionView> {
  const view = { ...row };
  delete view.usageDaysGeneration;
  const { workflowId } = row.metadata;
  const workflow = workflowId && (await ctx.db.get("workflows", workflowId));
  return workflow ? { ...view, workflowKey: workflow.key } : view;
}
