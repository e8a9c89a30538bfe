/**
 * What the page shows. Every read is bounded, and texts are cut, because a page that stays open reads
 * again whenever something that it has read changes. Running sessions change with every hook; a list
 * of finished ones reads none of them, so that it is read again only when a session ends.
 *
 * Bounds in time come from the page, which rounds them, so that Convex can answer several pages and
 * repeated reads from its cache.
 */
import { getDocumentSize, v, type Infer } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import type { Access } from "./access";
import { findSession } from "./agents";
import { agentSession, type SessionStatus } from "./validators";
import { hasCounts, hasUsage, readUsageDays } from "./usageDays";

/** The maximum number of sessions in a list, and of sessions read to find them. */
const MAX_LISTED = 50;
const MAX_SEARCHED = 300;
/** In bytes. A session has up to 1 MiB, and a query may read 16 MiB. */
const MAX_SEARCHED_BYTES = 4 * 1024 * 1024;
/** In characters: a line of a list, and a text in full. */
const MAX_LINE = 300;
const MAX_TEXT = 65_536;
/** The most rows of the roll-up that one answer is about. */
const MAX_USAGE_DAYS = 4000;
/**
 * In milliseconds: how far back each range of a search goes. SQLite reads all that an index has in a
 * range, however few rows are taken from it, so the first ranges are short.
 */
const SPANS = [6, 24, 72, 216, 720].map((hours) => hours * 60 * 60 * 1000);
const FINISHED: SessionStatus[] = ["completed", "failed", "abandoned"];

const { metadata } = agentSession.fields;
/** Whether the tool calls and the tokens are known. Unknown ones are stored as 0. */
const known = { isCounted: v.boolean(), hasUsage: v.boolean() };

/** A session in a list. Texts are absent for a token that shows only figures. */
const listedSession = v.object({
  ...agentSession.pick("sessionId", "status", "input", "error").fields,
  agentType: v.optional(agentSession.fields.agentType),
  ...known,
  metadata: metadata.pick(
    "startedAt",
    "completedAt",
    "updatedAt",
    "durationMs",
    "host",
    "cwd",
    "model",
    "title",
    "activity",
    "lastPrompt",
    "turns",
    "usage",
    "costUsd",
    "costSource",
    "costIsPartial",
    "user",
    "repository",
  ),
});

/** Sessions, the one that changed last first. */
export const sessionList = v.object({
  sessions: v.array(listedSession),
  /** A list of those that changed before this time continues from here; absent if there are none. */
  older: v.optional(v.number()),
});

/** A session in full. Where its transcript is stays on its machine. */
export const shownSession = agentSession.omit("metadata", "revision", "agentType").extend({
  agentType: v.optional(agentSession.fields.agentType),
  ...known,
  metadata: metadata.omit("transcript"),
});

const group = v.object({
  name: v.string(),
  sessions: v.number(),
  tokens: v.number(),
  /** Absent if no cost is known. */
  costUsd: v.optional(v.number()),
  /** Whether a part of the cost is an estimate, and whether a part of it is not known. */
  isEstimate: v.boolean(),
  isPartial: v.boolean(),
});

/** Usage by day, oldest first, and by everything else, in no particular order. */
export const shownDays = v.object({
  days: v.array(group),
  projects: v.array(group),
  models: v.array(group),
  users: v.array(group),
  hosts: v.array(group),
  isComplete: v.boolean(),
});

type Group = Infer<typeof group>;
type ListedSession = Infer<typeof listedSession>;
type ShownSession = Infer<typeof shownSession>;

/** From `since` on, and before `before`; `now` is about the time of the page. */
interface Range {
  since: number;
  before?: number;
  now?: number;
}

interface Selection extends Range, Filter {
  status?: SessionStatus;
}

/** Sessions of a status, or finished ones. */
export async function listSessions(
  ctx: QueryCtx,
  access: Access,
  { status, project, user, host, ...range }: Selection,
): Promise<Infer<typeof sessionList>> {
  const sessions: ListedSession[] = [];
  let searched = 0;
  let bytes = 0;
  let newest: number | undefined;
  for await (const row of newestFirst(ctx, status ? [status] : FINISHED, range)) {
    const { metadata } = row;
    const isFull = sessions.length === MAX_LISTED || searched === MAX_SEARCHED;
    if (isFull || bytes > MAX_SEARCHED_BYTES) {
      // The next list begins with the other sessions of this millisecond. If this whole list changed
      // in it, they are skipped, because the next list would be the same.
      return { sessions, older: metadata.updatedAt + (metadata.updatedAt === newest ? 0 : 1) };
    }
    newest ??= metadata.updatedAt;
    searched += 1;
    bytes += getDocumentSize(row);
    const isSelected =
      [undefined, metadata.repository ?? metadata.cwd].includes(project) &&
      [undefined, metadata.user ?? ""].includes(user) &&
      [undefined, metadata.host].includes(host);
    if (isSelected) sessions.push(toListed(row, access));
  }
  return { sessions };
}

async function* newestFirst(
  ctx: QueryCtx,
  statuses: SessionStatus[],
  { since, before = Infinity, now = Infinity }: Range,
) {
  const last = Math.min(before, now);
  const bounds = SPANS.map((span) => last - span).filter((bound) => bound > since);
  const starts = Number.isFinite(last) ? [...bounds, since] : [since];
  for (const [index, start] of starts.entries()) {
    const end = starts[index - 1] ?? before;
    const ranges = statuses.map((status) =>
      ctx.db
        .query("agentSessions")
        .withIndex("by_status_and_updatedAt", (q) =>
          q.eq("status", status).gte("metadata.updatedAt", start).lt("metadata.updatedAt", end),
        )
        .order("desc"),
    );
    yield* merged(ranges);
  }
}

/** The rows of several ranges, the newest first. It reads one row of each range in advance. */
async function* merged(ranges: AsyncIterable<Doc<"agentSessions">>[]) {
  const readers = ranges.map((range) => range[Symbol.asyncIterator]());
  const heads = await Promise.all(
    readers.map(async (reader) => ({ reader, next: await reader.next() })),
  );
  for (;;) {
    let newest: { head: (typeof heads)[number]; row: Doc<"agentSessions"> } | undefined;
    for (const head of heads) {
      if (head.next.done) continue;
      const row = head.next.value;
      if (!newest || row.metadata.updatedAt > newest.row.metadata.updatedAt) newest = { head, row };
    }
    if (!newest) return;
    yield newest.row;
    newest.head.next = await newest.head.reader.next();
  }
}

function toListed(row: Doc<"agentSessions">, access: Access): ListedSession {
  const { sessionId, agentType, status, input, error, metadata: of } = row;
  const listed: ListedSession = {
    sessionId,
    status,
    isCounted: hasCounts(row.metadata),
    hasUsage: hasUsage(row.metadata),
    metadata: pick(of, listedSession.fields.metadata.fields),
  };
  if (access === "figures") {
    listed.metadata = withoutTexts(listed.metadata);
    return listed;
  }
  listed.agentType = agentType;
  if (input !== undefined) listed.input = cut(input, MAX_LINE);
  if (error !== undefined) listed.error = cut(error, MAX_LINE);
  const { title, lastPrompt } = of;
  if (title !== undefined) listed.metadata.title = cut(title, MAX_LINE);
  if (lastPrompt !== undefined) listed.metadata.lastPrompt = cut(lastPrompt, MAX_LINE);
  return listed;
}

/** One session in full; null if there is none. */
export async function showSession(
  ctx: QueryCtx,
  access: Access,
  sessionId: string,
): Promise<ShownSession | null> {
  const row = await findSession(ctx, sessionId);
  if (!row) return null;
  const { agentType, status, input, output, error } = row;
  const shown: ShownSession = {
    sessionId,
    status,
    isCounted: hasCounts(row.metadata),
    hasUsage: hasUsage(row.metadata),
    metadata: pick(row.metadata, shownSession.fields.metadata.fields),
  };
  if (access === "figures") {
    shown.metadata = withoutTexts(shown.metadata);
    return shown;
  }
  shown.agentType = agentType;
  const { workflowId } = row.metadata;
  const workflow = workflowId && (await ctx.db.get("workflows", workflowId));
  if (workflow) shown.workflowKey = workflow.key;
  if (input !== undefined) shown.input = cut(input, MAX_TEXT);
  if (output !== undefined) shown.output = cut(output, MAX_TEXT);
  if (error !== undefined) shown.error = cut(error, MAX_TEXT);
  return shown;
}

/**
 * What is left for a token that shows only figures: figures, times, ids, and the names that usage is
 * grouped by. The folder is such a name only if there is no repository.
 */
function withoutTexts<M extends Partial<Metadata> & Pick<Metadata, "cwd">>(of: M): M {
  const kept = pick(of, FIGURES) as Partial<Metadata>;
  kept.cwd = of.repository === undefined ? of.cwd : "";
  if (kept.runs) kept.runs = kept.runs.map((run) => pick(run, RUN_FIGURES));
  return kept as M;
}

type Metadata = ShownSession["metadata"];

const FIGURES = metadata.pick(
  "startedAt",
  "completedAt",
  "updatedAt",
  "durationMs",
  "activity",
  "runs",
  "host",
  "user",
  "repository",
  "model",
  "models",
  "tools",
  "prompts",
  "turns",
  "apiMessages",
  "toolCalls",
  "toolErrors",
  "compactions",
  "subagents",
  "subagentTypes",
  "usage",
  "usageByModel",
  "usageByDay",
  "inheritedUsage",
  "costUsd",
  "costSource",
  "costIsPartial",
  "linesAdded",
  "linesRemoved",
  "apiDurationMs",
  "toolDurationMs",
).fields;
const RUN_FIGURES = metadata.fields.runs.element.pick("startedAt", "endedAt", "endedBy").fields;

/** Usage from one day to another, both included, of everything or of one project, person or host. */
export async function showDays(
  ctx: QueryCtx,
  { since, until, ...filter }: { since: string; until: string } & Filter,
): Promise<Infer<typeof shownDays>> {
  const { rows, isComplete } = await readUsageDays(ctx, since, until, MAX_USAGE_DAYS + 1);
  const selected = rows
    .slice(0, MAX_USAGE_DAYS)
    .filter((row) => FILTERS.every((name) => [undefined, row[name]].includes(filter[name])));
  return {
    days: grouped(selected, "day").sort((one, other) => (one.name < other.name ? -1 : 1)),
    projects: grouped(selected, "project"),
    models: grouped(selected, "model"),
    users: grouped(selected, "user"),
    hosts: grouped(selected, "host"),
    isComplete: isComplete && rows.length <= MAX_USAGE_DAYS,
  };
}

const FILTERS = ["project", "user", "host"] as const;
type Filter = Partial<Record<(typeof FILTERS)[number], string>>;

function grouped(
  rows: Doc<"usageDays">[],
  name: "day" | "project" | "model" | "user" | "host",
): Group[] {
  const groups = new Map<string, Group>();
  for (const row of rows) {
    const group: Group = groups.get(row[name]) ?? { ...NOTHING, name: row[name] };
    group.sessions += row.sessions;
    group.tokens += row.inputTokens + row.outputTokens;
    group.tokens += row.cacheReadInputTokens + row.cacheCreationInputTokens;
    if (row.sessionsWithCost > 0 || row.costUsd !== 0)
      group.costUsd = (group.costUsd ?? 0) + row.costUsd;
    group.isEstimate ||= row.activeSessionsWithEstimate > 0;
    group.isPartial ||= row.activeSessionsWithUnknownCost > 0;
    groups.set(group.name, group);
  }
  // If only a part of the cost is known and that is nothing, it is unknown.
  for (const group of groups.values())
    if (group.isPartial && group.costUsd === 0) delete group.costUsd;
  return [...groups.values()];
}

const NOTHING = { sessions: 0, tokens: 0, isEstimate: false, isPartial: false };

/** The fields with these names. */
function pick<T extends object, N extends object>(of: T, names: N): Pick<T, keyof T & keyof N> {
  const kept = Object.entries(of).filter(([name, value]) => name in names && value !== undefined);
  return Object.fromEntries(kept) as Pick<T, keyof T & keyof N>;
}

/** Never cuts within a surrogate pair, because Convex cannot return half of one. */
function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  return `${text.slice(0, length).replace(/[\ud800-\udbff]$/, "")}…`;
}
