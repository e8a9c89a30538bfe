/**
 * What the page shows. Every read is bounded, and texts are cut, because a page that stays open reads
 * again whenever something changes. Bounds in time come from the page, which rounds them, so that
 * Convex can answer several pages and repeated reads from its cache.
 */
import { v, type Infer } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import type { Access } from "./access";
import { findSession, sessionsByIndex } from "./agents";
import { agentSession, usageDay, type SessionStatus } from "./validators";
import { readUsageDays } from "./usageDays";

/** The most sessions in a list. With the texts that a query may read, it can be fewer. */
const LIST = { numItems: 100, cursor: null, maximumBytesRead: 4 * 1024 * 1024 };
/** In characters: a line of a list, and a text in full. */
const MAX_LINE = 300;
const MAX_TEXT = 65_536;
/** The most rows of the roll-up that one answer is about. */
const MAX_USAGE_DAYS = 4000;
/** The most entries by which an answer breaks down; those with the highest cost come first. */
const MAX_GROUPS = 30;

const { metadata } = agentSession.fields;

/** A session in a list. Texts are absent for a token that shows only figures. */
export const listedSession = v.object({
  ...agentSession.pick("sessionId", "agentType", "status", "input", "error").fields,
  metadata: metadata
    .pick("startedAt", "completedAt", "updatedAt", "durationMs", "host", "cwd", "model", "title")
    .extend(
      metadata.pick("activity", "prompts", "turns", "toolCalls", "toolErrors", "usage").fields,
    )
    .extend(metadata.pick("costUsd", "costSource", "costIsPartial", "user", "repository").fields),
});

/** A session in full. Where its transcript is stays on its machine. */
export const shownSession = agentSession
  .omit("metadata", "revision")
  .extend({ metadata: metadata.omit("transcript") });

const figures = usageDay.pick(
  "sessions",
  "turns",
  "toolCalls",
  "toolErrors",
  "inputTokens",
  "outputTokens",
  "cacheReadInputTokens",
  "cacheCreationInputTokens",
  "costUsd",
);
const FIGURES = Object.keys(figures.fields) as (keyof Infer<typeof figures>)[];
const group = figures.extend({
  name: v.string(),
  isEstimate: v.boolean(),
  isPartial: v.boolean(),
});

/** Usage by day, oldest first, and by everything else, the highest cost first. */
export const shownDays = v.object({
  days: v.array(group),
  projects: v.array(group),
  models: v.array(group),
  users: v.array(group),
  hosts: v.array(group),
  isComplete: v.boolean(),
});

type Group = Infer<typeof group>;

/** The newest sessions that have changed since a time. */
export async function listSessions(
  ctx: QueryCtx,
  access: Access,
  { since, status }: { since: number; status?: SessionStatus },
): Promise<Infer<typeof listedSession>[]> {
  const { page } = await sessionsByIndex(ctx, since, status).order("desc").paginate(LIST);
  return page.map((row) => toListed(row, access));
}

function toListed(
  { sessionId, agentType, status, input, error, metadata: of }: Doc<"agentSessions">,
  access: Access,
): Infer<typeof listedSession> {
  const listed: Infer<typeof listedSession> = {
    sessionId,
    agentType,
    status,
    metadata: pick(of, Object.keys(listedSession.fields.metadata.fields) as (keyof typeof of)[]),
  };
  if (access === "figures") {
    delete listed.metadata.title;
    return listed;
  }
  if (input !== undefined) listed.input = cut(input, MAX_LINE);
  if (error !== undefined) listed.error = cut(error, MAX_LINE);
  if (of.title !== undefined) listed.metadata.title = cut(of.title, MAX_LINE);
  return listed;
}

/** One session in full; null if there is none. */
export async function showSession(
  ctx: QueryCtx,
  access: Access,
  sessionId: string,
): Promise<Infer<typeof shownSession> | null> {
  const row = await findSession(ctx, sessionId);
  if (!row) return null;
  const names = Object.keys(shownSession.fields.metadata.fields) as (keyof typeof row.metadata)[];
  const { agentType, status, input, output, error } = row;
  const shown: Infer<typeof shownSession> = {
    sessionId,
    agentType,
    status,
    metadata: pick(row.metadata, names),
  };
  const { workflowId } = row.metadata;
  const workflow = workflowId && (await ctx.db.get("workflows", workflowId));
  if (workflow) shown.workflowKey = workflow.key;
  if (access === "figures") {
    delete shown.metadata.title;
    return shown;
  }
  if (input !== undefined) shown.input = cut(input, MAX_TEXT);
  if (output !== undefined) shown.output = cut(output, MAX_TEXT);
  if (error !== undefined) shown.error = cut(error, MAX_TEXT);
  return shown;
}

/** Usage from one day to another, both included, of everything or of one project, person or host. */
export async function showDays(
  ctx: QueryCtx,
  { since, until, ...filter }: { since: string; until: string } & Filter,
): Promise<Infer<typeof shownDays>> {
  const { rows, isComplete } = await readUsageDays(ctx, since, until, MAX_USAGE_DAYS + 1);
  const selected = rows
    .slice(0, MAX_USAGE_DAYS)
    .filter((row) => FILTERS.every((name) => [undefined, row[name]].includes(filter[name])));
  const by = (name: "day" | "project" | "model" | "user" | "host") => grouped(selected, name);
  return {
    days: by("day").sort((one, other) => (one.name < other.name ? -1 : 1)),
    projects: by("project").sort(byCost).slice(0, MAX_GROUPS),
    models: by("model").sort(byCost).slice(0, MAX_GROUPS),
    users: by("user").sort(byCost).slice(0, MAX_GROUPS),
    hosts: by("host").sort(byCost).slice(0, MAX_GROUPS),
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
    const group = groups.get(row[name]) ?? emptyGroup(row[name]);
    for (const figure of FIGURES) group[figure] += row[figure];
    group.isEstimate ||= row.activeSessionsWithEstimate > 0;
    group.isPartial ||= row.activeSessionsWithUnknownCost > 0;
    groups.set(group.name, group);
  }
  return [...groups.values()];
}

function emptyGroup(name: string): Group {
  const nothing = Object.fromEntries(FIGURES.map((figure) => [figure, 0]));
  return { name, ...(nothing as Infer<typeof figures>), isEstimate: false, isPartial: false };
}

function byCost(one: Group, other: Group): number {
  return other.costUsd - one.costUsd || other.outputTokens - one.outputTokens;
}

function pick<T extends object, K extends keyof T>(fields: T, names: K[]): Pick<T, K> {
  const kept = names.filter((name) => fields[name] !== undefined);
  return Object.fromEntries(kept.map((name) => [name, fields[name]])) as Pick<T, K>;
}

/** Not within a surrogate pair, which Convex cannot answer with. */
function cut(text: string, length: number): string {
  if (text.length <= length) return text;
  return `${text.slice(0, length).replace(/[\ud800-\udbff]$/, "")}…`;
}
