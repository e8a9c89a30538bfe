/**
 * The shapes of the record: the schema stores them, the functions accept and return them. A session
 * is sent with the key of its workflow and stored with the workflow's ID; that is the only
 * difference between the two.
 */
import { v, type Infer } from "convex/values";

/**
 * Fields that were added after the first version are optional: an older sidecar does not send them,
 * and new functions must deploy onto a deployment that holds older rows.
 */
const usage = {
  inputTokens: v.number(),
  outputTokens: v.number(),
  cacheReadInputTokens: v.number(),
  cacheCreationInputTokens: v.number(),
  thinkingTokens: v.optional(v.number()),
  cacheCreation1hInputTokens: v.optional(v.number()),
  webSearchRequests: v.optional(v.number()),
};

const modelUsage = { model: v.string(), ...usage, costUsd: v.optional(v.number()) };

/** A run: the time that one client process works on the session. */
const run = v.object({
  owner: v.optional(v.object({ pid: v.number(), startTime: v.number() })),
  startedAt: v.number(),
  source: v.optional(v.string()),
  endedAt: v.optional(v.number()),
  reason: v.optional(v.string()),
  endedBy: v.optional(v.union(v.literal("hook"), v.literal("superseded"), v.literal("swept"))),
});

/** What the client of a running session is doing, and since when. */
const activity = v.object({
  state: v.union(v.literal("working"), v.literal("waiting"), v.literal("background")),
  since: v.number(),
});

const transcript = v.object({
  path: v.string(),
  state: v.union(v.literal("complete"), v.literal("partial"), v.literal("missing")),
  bytes: v.number(),
  skippedLines: v.optional(v.number()),
});

/** Times are epoch milliseconds, a day is `YYYY-MM-DD`. */
const sessionMetadata = {
  startedAt: v.number(),
  completedAt: v.optional(v.number()),
  updatedAt: v.number(),
  durationMs: v.optional(v.number()),
  host: v.string(),
  cwd: v.string(),
  gitBranch: v.optional(v.string()),
  entrypoint: v.optional(v.string()),
  clientVersion: v.optional(v.string()),
  permissionMode: v.optional(v.string()),
  model: v.optional(v.string()),
  models: v.array(v.string()),
  title: v.optional(v.string()),
  activity: v.optional(activity),
  lastPrompt: v.optional(v.string()),
  runs: v.array(run),
  transcript,
  prompts: v.number(),
  turns: v.number(),
  apiMessages: v.number(),
  toolCalls: v.number(),
  toolErrors: v.number(),
  tools: v.array(v.object({ name: v.string(), calls: v.number(), errors: v.number() })),
  compactions: v.number(),
  subagents: v.number(),
  subagentTypes: v.optional(v.array(v.object({ name: v.string(), calls: v.number(), ...usage }))),
  usage: v.object(usage),
  usageSource: v.optional(v.union(v.literal("client"), v.literal("transcript"))),
  usageByModel: v.array(v.object(modelUsage)),
  usageByDay: v.optional(v.array(v.object({ day: v.string(), ...modelUsage }))),
  inheritedUsage: v.optional(v.object(usage)),
  costUsd: v.optional(v.number()),
  costSource: v.optional(v.union(v.literal("client"), v.literal("estimate"))),
  costIsPartial: v.optional(v.boolean()),
  linesAdded: v.optional(v.number()),
  linesRemoved: v.optional(v.number()),
  apiDurationMs: v.optional(v.number()),
  toolDurationMs: v.optional(v.number()),
  damagedLines: v.optional(v.number()),
  forkedFrom: v.optional(v.string()),
  parentSessionId: v.optional(v.string()),
  user: v.optional(v.string()),
  repository: v.optional(v.string()),
  commitStart: v.optional(v.string()),
  commitEnd: v.optional(v.string()),
  worktree: v.optional(v.string()),
  pullRequests: v.optional(v.array(v.object({ number: v.number(), url: v.string() }))),
  tags: v.optional(v.array(v.string())),
  outputTruncated: v.optional(v.boolean()),
  outputBytes: v.optional(v.number()),
};

export const sessionStatus = v.union(
  v.literal("running"),
  v.literal("completed"),
  v.literal("failed"),
  v.literal("abandoned"),
);

const session = {
  sessionId: v.string(),
  agentType: v.string(),
  status: sessionStatus,
  input: v.optional(v.string()),
  output: v.optional(v.string()),
  error: v.optional(v.string()),
  revision: v.number(),
};

/** A session as it is sent. */
export const agentSession = v.object({
  ...session,
  workflowKey: v.optional(v.string()),
  metadata: v.object(sessionMetadata),
});

/** A session as it is stored. */
export const agentSessionRow = v.object({
  ...session,
  /** The generation of the roll-up that the session has been added to (usageDays.ts). */
  usageDaysGeneration: v.optional(v.number()),
  metadata: v.object({ workflowId: v.optional(v.id("workflows")), ...sessionMetadata }),
});

/**
 * A row of the roll-up: what the sessions of a project, on a host, by a user and with a model used
 * on a UTC day. What belongs to a session as a whole counts on the day that it started: `sessions`
 * are those that started here, `activeSessions` those that count anything here. The cost of a row is
 * incomplete if the cost of some of these sessions is unknown or partial.
 */
export const usageDay = v.object({
  generation: v.number(),
  day: v.string(),
  project: v.string(),
  host: v.string(),
  user: v.string(),
  model: v.string(),
  activeSessions: v.number(),
  activeSessionsWithEstimate: v.number(),
  activeSessionsWithUnknownCost: v.number(),
  sessions: v.number(),
  sessionsWithCost: v.number(),
  sessionsWithEstimate: v.number(),
  sessionsWithPartialCost: v.number(),
  turns: v.number(),
  toolCalls: v.number(),
  toolErrors: v.number(),
  inputTokens: v.number(),
  outputTokens: v.number(),
  cacheReadInputTokens: v.number(),
  cacheCreationInputTokens: v.number(),
  costUsd: v.number(),
});

/** Which roll-up is kept, since when, and whether it has every session. */
export const usageDaysState = v.object({
  version: v.number(),
  generation: v.number(),
  startedAt: v.number(),
  isComplete: v.boolean(),
});

const outcome = v.union(v.literal("created"), v.literal("updated"), v.literal("unchanged"));

/**
 * The outcome of a delivery, and the revision that is stored now. `expired` is a session that is
 * older than what is kept, so nothing is stored; its revision is the one that was sent, by which
 * every version of the sidecar knows that it need not send it again.
 */
export const sessionReceipt = v.object({
  outcome: v.union(outcome, v.literal("expired")),
  revision: v.number(),
});

/** Whether a session was deleted, and the revision that is stored now: null if there is none. */
export const deletionReceipt = v.object({ deleted: v.boolean(), revision: v.nullable(v.number()) });

export const workflowStatus = v.union(
  v.literal("pending"),
  v.literal("running"),
  v.literal("completed"),
  v.literal("failed"),
);

/** When each field was last set, by the clock of the machine that set it; absent if never set. */
const setAt = v.object({
  task: v.optional(v.number()),
  status: v.optional(v.number()),
  currentStep: v.optional(v.number()),
  artifacts: v.optional(v.number()),
});

/** A workflow as it is stored. */
export const workflowRow = v.object({
  key: v.string(),
  task: v.string(),
  status: workflowStatus,
  currentStep: v.string(),
  artifacts: v.array(v.string()),
  metadata: v.object({ createdAt: v.number(), updatedAt: v.number(), setAt: v.optional(setAt) }),
});

/**
 * A change to a workflow as it is sent: fields that are left out stay as they are. A field that
 * `setAt` does not name was set at `updatedAt`.
 */
export const workflowChange = workflowRow
  .pick("task", "status", "currentStep", "artifacts")
  .partial()
  .extend({ key: v.string(), updatedAt: v.number(), setAt: v.optional(setAt) });

/** The outcome of a change, and the time of the latest change that is stored now. */
export const workflowReceipt = v.object({ outcome, updatedAt: v.number() });

export type AgentSession = Infer<typeof agentSession>;
export type AgentSessionRow = Infer<typeof agentSessionRow>;
export type DeletionReceipt = Infer<typeof deletionReceipt>;
export type SessionReceipt = Infer<typeof sessionReceipt>;
export type SessionStatus = Infer<typeof sessionStatus>;
export type SetAt = Infer<typeof setAt>;
export type UsageDay = Infer<typeof usageDay>;
export type WorkflowChange = Infer<typeof workflowChange>;
export type WorkflowReceipt = Infer<typeof workflowReceipt>;
export type WorkflowStatus = Infer<typeof workflowStatus>;
