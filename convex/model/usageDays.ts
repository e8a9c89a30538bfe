/**
 * The roll-up of usage by day, project, host, user and model, which shows what the agents did and
 * cost without reading every session.
 *
 * It is kept in the mutation that changes a session: what the stored row had contributed is
 * subtracted, what the new one contributes is added. So it follows every order, repetition and
 * deletion, and covers exactly the sessions that are stored. Sessions that are older than the
 * roll-up are added in pages. A session that has been added carries the roll-up's generation, so a
 * delivery between two pages knows whether there is something to subtract.
 */
import type { PaginationOptions } from "convex/server";
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type { AgentSessionRow, UsageDay } from "./validators";

/** Must be increased if what is rolled up, or how, changes: the roll-up is then built again. */
const VERSION = 3;
/** How many sessions are added, and how many rows of an earlier roll-up are deleted, at once. */
const PAGE = { numItems: 100, maximumBytesRead: 4 * 1024 * 1024 };
/** In milliseconds. Adding 100,000 sessions takes seven minutes on a small server (estimate). */
const RESTART_AFTER = 60 * 60 * 1000;
/**
 * The maximum number of rows that one session contributes to, far below what a mutation may read.
 * The rest of a session with more days and models counts where the session itself does.
 */
const MAX_ROWS = 500;
/** The maximum number of rows that the sessions of one batch contribute to. */
const MAX_BATCH_ROWS = 1000;
/** In dollars: less than anything costs, and more than the rounding error of a sum of floats. */
const MIN_COST = 1e-12;
/** Costs are rounded to this fraction of a dollar, so that sums do not depend on their order. */
const PARTS_OF_DOLLAR = 1e12;

/** What is counted in a row of the roll-up. */
const ZERO_COUNTS = {
  activeSessions: 0,
  activeSessionsWithEstimate: 0,
  activeSessionsWithUnknownCost: 0,
  sessions: 0,
  sessionsWithCost: 0,
  sessionsWithEstimate: 0,
  sessionsWithPartialCost: 0,
  turns: 0,
  toolCalls: 0,
  toolErrors: 0,
  inputTokens: 0,
  outputTokens: 0,
  cacheReadInputTokens: 0,
  cacheCreationInputTokens: 0,
  costUsd: 0,
};
const COUNT_FIELDS = Object.keys(ZERO_COUNTS) as (keyof Counts)[];

type Counts = typeof ZERO_COUNTS;
type Key = Omit<UsageDay, keyof Counts | "generation">;
type Contribution = Omit<UsageDay, "generation">;

/**
 * What one session contributes. Tokens and cost count on the day of each message and under its
 * model. What belongs to the session as a whole counts once, on the day that it started and under
 * its main model, and so does a cost that no entry accounts for. The sums over any grouping are
 * therefore the sums over the sessions.
 */
export function usageDaysOf({ metadata }: Pick<AgentSessionRow, "metadata">): Contribution[] {
  const rows = new Map<string, Contribution>();
  const where = {
    project: metadata.repository ?? metadata.cwd,
    host: metadata.host,
    user: metadata.user ?? "",
  };
  const ownDay = dayOf(metadata.startedAt);
  const ownModel = metadata.model ?? metadata.models.at(0) ?? "";
  const add = (day: string, model: string, counts: Partial<Counts>) => {
    const isFull = rows.size >= MAX_ROWS && !rows.has(`${day} ${model}`);
    const key = isFull ? { day: ownDay, model: ownModel } : { day, model };
    const id = `${key.day} ${key.model}`;
    const row = rows.get(id) ?? { ...key, ...where, ...ZERO_COUNTS, activeSessions: 1 };
    rows.set(id, { ...row, ...sum(row, counts) });
  };
  const { costUsd } = metadata;
  const hasCost = costUsd !== undefined;
  const entries = entriesOf(metadata, ownDay, ownModel);
  const rest = hasCost
    ? costUsd - entries.reduce((known, entry) => known + (entry.costUsd ?? 0), 0)
    : 0;
  add(ownDay, ownModel, {
    sessions: 1,
    sessionsWithCost: Number(hasCost),
    sessionsWithEstimate: Number(hasCost && metadata.costSource === "estimate"),
    sessionsWithPartialCost: Number(hasCost && metadata.costIsPartial === true),
    turns: metadata.turns,
    toolCalls: metadata.toolCalls,
    toolErrors: metadata.toolErrors,
    costUsd: Math.abs(rest) >= MIN_COST ? rest : 0,
  });
  for (const entry of entries) {
    const { inputTokens, outputTokens, cacheReadInputTokens, cacheCreationInputTokens } = entry;
    add(isDay(entry.day) ? entry.day : ownDay, entry.model, {
      inputTokens,
      outputTokens,
      cacheReadInputTokens,
      cacheCreationInputTokens,
      costUsd: hasCost ? (entry.costUsd ?? 0) : 0,
    });
  }
  const hasEstimate = hasCost && metadata.costSource === "estimate";
  const hasAllCost = hasCost && metadata.costIsPartial !== true;
  return [...rows.values()].map((row) => {
    const isOwn = row.day === ownDay && row.model === ownModel;
    const isActive = hasTokens(row) || (isOwn && hasUnknownUsage(metadata));
    return {
      ...row,
      activeSessionsWithEstimate: Number(hasEstimate && row.costUsd !== 0),
      activeSessionsWithUnknownCost: Number(!hasAllCost && isActive),
    };
  });
}

/**
 * Whether a session was used and its tokens are not known, because only hooks reported it, or
 * because its backend sends no counts.
 */
function hasUnknownUsage(metadata: AgentSessionRow["metadata"]): boolean {
  if (!hasCounts(metadata)) return metadata.prompts + metadata.turns > 0;
  return !hasUsage(metadata);
}

/** Whether the token counts are known. Some backends send none. */
export function hasUsage(metadata: AgentSessionRow["metadata"]): boolean {
  return hasCounts(metadata) && (metadata.apiMessages === 0 || hasTokens(metadata.usage));
}

/** Whether tokens, tool calls and cost are known, and not 0 only because no transcript was read. */
export function hasCounts({ transcript }: AgentSessionRow["metadata"]): boolean {
  return transcript.state !== "missing" || transcript.bytes > 0;
}

function hasTokens(usage: AgentSessionRow["metadata"]["usage"]): boolean {
  const { inputTokens, outputTokens, cacheReadInputTokens, cacheCreationInputTokens } = usage;
  return inputTokens + outputTokens + cacheReadInputTokens + cacheCreationInputTokens > 0;
}

/** A session without days, of an older sidecar, counts on the day that it started. */
function entriesOf(metadata: AgentSessionRow["metadata"], ownDay: string, ownModel: string) {
  if (metadata.usageByDay !== undefined && metadata.usageByDay.length > 0)
    return metadata.usageByDay;
  if (metadata.usageByModel.length > 0)
    return metadata.usageByModel.map((entry) => ({ day: ownDay, ...entry }));
  return [{ day: ownDay, model: ownModel, ...metadata.usage, costUsd: undefined }];
}

/** The UTC day. An invalid time, which no sidecar sends, must not make a delivery fail. */
function dayOf(time: number): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "1970-01-01" : date.toISOString().slice(0, 10);
}

/** Whether it is a date. The sidecar sends no other day. */
function isDay(day: string): boolean {
  return /^\d{4}-/.test(day) && dayOf(Date.parse(day)) === day;
}

function sum(counts: Counts, more: Partial<Counts>, sign: 1 | -1 = 1): Counts {
  const total = { ...ZERO_COUNTS };
  for (const name of COUNT_FIELDS) total[name] = counts[name] + sign * (more[name] ?? 0);
  // Adding 0 turns -0 into 0.
  total.costUsd = Math.round(total.costUsd * PARTS_OF_DOLLAR) / PARTS_OF_DOLLAR + 0;
  return total;
}

/** What changes in the roll-up: collected first, so that each row is written once. */
export class UsageDayChanges {
  readonly #generation: number;
  readonly #changes = new Map<string, { key: Key; counts: Counts }>();

  /** For the roll-up of this {@link generationOf generation}. */
  constructor(generation: number) {
    this.#generation = generation;
  }

  add(session: AgentSessionRow): void {
    this.#change(session, 1);
  }

  /** Subtracts what a stored session has contributed, if it has been added. */
  subtract(stored: Doc<"agentSessions">): void {
    if (stored.usageDaysGeneration === this.#generation) this.#change(stored, -1);
  }

  #change(session: AgentSessionRow, sign: 1 | -1): void {
    for (const row of usageDaysOf(session)) {
      const { day, project, host, user, model } = row;
      const key = { day, project, host, user, model };
      const id = JSON.stringify(Object.values(key));
      const counts = sum(this.#changes.get(id)?.counts ?? ZERO_COUNTS, row, sign);
      this.#changes.set(id, { key, counts });
    }
  }

  /** Writes the changes. A row without a session is deleted. */
  async apply(ctx: MutationCtx): Promise<void> {
    for (const { key, counts } of this.#changes.values()) {
      if (COUNT_FIELDS.every((name) => counts[name] === 0)) continue;
      const stored = await findUsageDay(ctx, this.#generation, key);
      const total = sum(stored ?? ZERO_COUNTS, counts);
      if (!stored) {
        await ctx.db.insert("usageDays", { generation: this.#generation, ...key, ...total });
      } else if (total.activeSessions > 0) await ctx.db.patch("usageDays", stored._id, total);
      else await ctx.db.delete("usageDays", stored._id);
    }
  }
}

function findUsageDay(ctx: QueryCtx, generation: number, key: Key) {
  return ctx.db
    .query("usageDays")
    .withIndex("by_generation_and_day_and_project_and_host_and_user_and_model", (q) =>
      q
        .eq("generation", generation)
        .eq("day", key.day)
        .eq("project", key.project)
        .eq("host", key.host)
        .eq("user", key.user)
        .eq("model", key.model),
    )
    .unique();
}

/** The first of these sessions, and as many more as one mutation can add or remove with their rows. */
export function batchOf<S extends AgentSessionRow>(sessions: S[]): S[] {
  let rows = 0;
  const end = sessions.findIndex((session) => {
    rows += usageDaysOf(session).length;
    return rows > MAX_BATCH_ROWS;
  });
  return end < 0 ? sessions : sessions.slice(0, end);
}

/**
 * The generation of the roll-up that is kept. If there is none, or one with a different {@link
 * VERSION}, a new one is started: the stored sessions are then added to it in pages. If that was
 * interrupted, it is started again.
 */
export async function generationOf(ctx: MutationCtx): Promise<number> {
  const state = await readState(ctx);
  const now = Date.now();
  const isCurrent = state?.version === VERSION;
  if (isCurrent && (state.isComplete || now - state.startedAt < RESTART_AFTER))
    return state.generation;
  const generation = (state?.generation ?? 0) + (isCurrent ? 0 : 1);
  const begun = { version: VERSION, generation, startedAt: now, isComplete: false };
  if (state) await ctx.db.replace("usageDaysState", state._id, begun);
  else await ctx.db.insert("usageDaysState", begun);
  const args = { generation, cursor: null };
  await ctx.scheduler.runAfter(0, internal.agents.addToUsageDays, args);
  return generation;
}

/**
 * Adds a page of the sessions that the roll-up does not have yet, and schedules the next page. After
 * the last one the rows of an earlier generation are deleted.
 */
export async function addToUsageDays(
  ctx: MutationCtx,
  generation: number,
  cursor: string | null,
  page = PAGE,
): Promise<null> {
  const state = await readState(ctx);
  if (state?.generation !== generation) return null;
  const sessions = await ctx.db.query("agentSessions").paginate({ ...page, cursor });
  const changes = new UsageDayChanges(generation);
  const missing = sessions.page.filter((of) => of.usageDaysGeneration !== generation);
  const batch = batchOf(missing);
  for (const session of batch) {
    changes.add(session);
    await ctx.db.patch("agentSessions", session._id, { usageDaysGeneration: generation });
  }
  await changes.apply(ctx);
  const isWhole = batch.length === missing.length;
  const isOver = isWhole && sessions.isDone && (await deleteOlder(ctx, generation));
  if (isOver) await ctx.db.patch("usageDaysState", state._id, { isComplete: true });
  else {
    // The rest of a page that was too much is read again.
    const args = { generation, cursor: isWhole ? sessions.continueCursor : cursor };
    await ctx.scheduler.runAfter(0, internal.agents.addToUsageDays, args);
  }
  return null;
}

/** Deletes some rows of earlier generations. Returns whether there are no more. */
async function deleteOlder(ctx: MutationCtx, generation: number): Promise<boolean> {
  const older = await ctx.db
    .query("usageDays")
    .withIndex("by_generation_and_day_and_project_and_host_and_user_and_model", (q) =>
      q.lt("generation", generation),
    )
    .take(PAGE.numItems);
  for (const row of older) await ctx.db.delete("usageDays", row._id);
  return older.length < PAGE.numItems;
}

/** Newest first, from the day `since` to the day `until`, both included. */
export async function listUsageDays(
  ctx: QueryCtx,
  { since = "", until = "\uffff" }: { since?: string; until?: string },
  paginationOpts: PaginationOptions,
) {
  const { selected, isComplete } = await usageDaysBetween(ctx, since, until);
  return { ...(await selected.paginate(paginationOpts)), isComplete };
}

/** The newest rows of {@link listUsageDays}, at most `limit`. */
export async function readUsageDays(ctx: QueryCtx, since: string, until: string, limit: number) {
  const { selected, isComplete } = await usageDaysBetween(ctx, since, until);
  return { rows: await selected.take(limit), isComplete };
}

async function usageDaysBetween(ctx: QueryCtx, since: string, until: string) {
  const state = await readState(ctx);
  const isCurrent = state?.version === VERSION;
  const generation = isCurrent ? state.generation : -1;
  const selected = ctx.db
    .query("usageDays")
    .withIndex("by_generation_and_day_and_project_and_host_and_user_and_model", (q) =>
      q.eq("generation", generation).gte("day", since).lte("day", until),
    )
    .order("desc");
  // If there are no sessions, nothing is missing.
  const isEmpty = !isCurrent && (await ctx.db.query("agentSessions").first()) === null;
  return { selected, isComplete: isEmpty || (isCurrent && state.isComplete) };
}

function readState(ctx: QueryCtx): Promise<Doc<"usageDaysState"> | null> {
  return ctx.db.query("usageDaysState").unique();
}
