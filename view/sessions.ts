/** Sessions: rows of a list, and one in full. */
import type { FunctionReturnType } from "convex/server";
import type { api } from "../convex/_generated/api";
import { h, type Child } from "./dom";
import { allTokens, cost, count, duration, plural, short, shortTime, time } from "./format";

export type SessionList = FunctionReturnType<typeof api.view.sessions>;
export type Listed = SessionList["sessions"][number];
export type Shown = NonNullable<FunctionReturnType<typeof api.view.session>>;

/** Shows an address without loading the page again. */
export type GoTo = (address: string) => void;

type Any = Listed | Shown;

export function projectOf({ metadata }: Any): string {
  return metadata.repository ?? metadata.cwd;
}

/** The cost of the session, or of a part of it. */
function costOf({ metadata }: Any, { costUsd }: { costUsd?: number } = metadata): string {
  const { costSource, costIsPartial = false } = metadata;
  return cost({ costUsd, isEstimate: costSource === "estimate", isPartial: costIsPartial });
}

/** The number of tokens. An unknown one is not 0. */
function tokensOf({ hasUsage, metadata }: Any): string {
  return hasUsage ? count(allTokens(metadata.usage)) : "–";
}

export function link(address: string, key: string, text: string, goTo: GoTo): HTMLElement {
  const follow = (event: Event) => {
    if (event instanceof MouseEvent && (event.ctrlKey || event.metaKey || event.shiftKey)) return;
    event.preventDefault();
    goTo(address);
  };
  return h("a", { href: address, "data-key": key, click: follow }, text);
}

/** What a session is about: its last prompt if it is running, its first one, its title, or its ID. */
function subject({ status, input, metadata, sessionId }: Listed): string {
  const current = status === "running" ? metadata.lastPrompt : undefined;
  return current ?? input ?? metadata.title ?? `Session ${sessionId.slice(0, 8)}`;
}

export function runningRow(of: Listed, address: string, now: number, goTo: GoTo): HTMLElement {
  const { activity, startedAt, updatedAt } = of.metadata;
  const state = activity?.state ?? "running";
  return row(of, `running ${of.sessionId}`, address, goTo, {
    state: [state, duration(now - (activity?.since ?? startedAt))],
    cost: of.metadata.costUsd === undefined ? "no cost yet" : `${costOf(of)} so far`,
    time: `open for ${duration(now - startedAt)}`,
    when: h("span", { title: time(updatedAt) }, `last seen ${shortTime(updatedAt, now)}`),
  });
}

export function listedRow(of: Listed, address: string, now: number, goTo: GoTo): HTMLElement {
  const { durationMs, updatedAt } = of.metadata;
  return row(of, of.sessionId, address, goTo, {
    state: [of.status],
    cost: costOf(of),
    time: duration(durationMs),
    when: h("span", { title: time(updatedAt) }, shortTime(updatedAt, now)),
  });
}

interface Columns {
  /** The state, and for how long. */
  state: [string, string?];
  cost: string;
  time: string;
  when: Child;
}

function row(of: Listed, key: string, address: string, goTo: GoTo, columns: Columns): HTMLElement {
  const { metadata, status, error } = of;
  const { title } = metadata;
  const [state, since] = columns.state;
  return h(
    "li",
    { class: "session" },
    h("p", { class: "status" }, pill(state), since !== undefined && h("span", {}, `for ${since}`)),
    h(
      "div",
      {},
      h("p", { class: "text" }, link(address, key, subject(of), goTo)),
      status === "failed" && error !== undefined && h("p", { class: "error text" }, error),
      facts([
        title !== undefined && title !== subject(of) ? title : undefined,
        short(projectOf(of)),
        metadata.user,
        metadata.host,
        metadata.model,
        plural(metadata.turns, "turn"),
      ]),
    ),
    h(
      "p",
      { class: "figures" },
      h("strong", {}, columns.cost),
      h("span", {}, `${tokensOf(of)} tokens`),
    ),
    h("p", { class: "figures" }, h("strong", {}, columns.time), h("span", {}, columns.when)),
  );
}

function pill(state: string): HTMLElement {
  return h("span", { class: `state ${state}` }, state);
}

function facts(texts: (string | undefined)[]): HTMLElement {
  const known = texts.filter((text) => text !== undefined && text !== "");
  return h("p", { class: "facts" }, ...known.map((text) => h("span", {}, text ?? "")));
}

export function sessionInFull(of: Shown): Child[] {
  const { metadata } = of;
  return [
    h("h2", { id: "session-title" }, metadata.title ?? `Session ${of.sessionId.slice(0, 8)}`),
    h("p", { class: "status" }, pill(of.status)),
    facts([short(projectOf(of)), metadata.user, metadata.host, metadata.model]),
    h(
      "dl",
      { class: "stats" },
      ...stat("Cost", costOf(of)),
      ...stat("Tokens", tokensOf(of)),
      ...stat("Turns", count(metadata.turns)),
      ...stat("Tool calls", of.isCounted ? toolCalls(metadata) : "–"),
      ...stat("Open for", duration(metadata.durationMs)),
    ),
    text("Why it failed", of.error, "error"),
    text("Last prompt", metadata.lastPrompt),
    text(metadata.lastPrompt === undefined ? "Prompt" : "First prompt", of.input),
    text("Answer", of.output),
    table(
      "Usage by model",
      ["Model", "Input", "Output", "Cache read", "Cache written", "Cost"],
      metadata.usageByModel.map((usage) => [
        usage.model,
        count(usage.inputTokens),
        count(usage.outputTokens),
        count(usage.cacheReadInputTokens),
        count(usage.cacheCreationInputTokens),
        costOf(of, usage),
      ]),
    ),
    table(
      "Tools",
      ["Tool", "Calls", "Failed"],
      metadata.tools.map(({ name, calls, errors }) => [name, count(calls), count(errors)]),
    ),
    table(
      "Subagents",
      ["Type", "Started", "Tokens"],
      (metadata.subagentTypes ?? []).map((type) => [
        type.name,
        count(type.calls),
        count(allTokens(type)),
      ]),
    ),
    table(
      "Runs",
      ["Started", "Ended", "How it ended"],
      metadata.runs.map(({ startedAt, endedAt, reason, endedBy }) => [
        time(startedAt),
        endedAt === undefined ? "–" : time(endedAt),
        reason ?? endedBy ?? "–",
      ]),
    ),
    table(
      "Pull requests",
      ["Number", "Address"],
      (metadata.pullRequests ?? []).map(({ number, url }) => [`#${number}`, webLink(url)]),
    ),
    h("h3", {}, "Details"),
    fields([
      ["Project", projectOf(of)],
      ["Folder", metadata.cwd],
      ["Branch", metadata.gitBranch],
      ["Workflow", of.workflowKey],
      ["Tags", metadata.tags?.join(", ")],
      ["Started", time(metadata.startedAt)],
      ["Ended", metadata.completedAt === undefined ? undefined : time(metadata.completedAt)],
      ["Last change", time(metadata.updatedAt)],
      ["Client", metadata.clientVersion],
      ["Session", of.sessionId],
    ]),
  ];
}

function toolCalls({ toolCalls, toolErrors }: Shown["metadata"]): string {
  return toolErrors === 0 ? count(toolCalls) : `${count(toolCalls)} (${count(toolErrors)} failed)`;
}

function stat(name: string, value: string): HTMLElement[] {
  return [h("div", {}, h("dt", {}, name), h("dd", {}, value))];
}

/** A link to the web only: an address can be anything that a session says. */
function webLink(address: string): Child {
  if (!/^https?:\/\//.test(address)) return address;
  return h("a", { href: address, target: "_blank", rel: "noreferrer" }, address);
}

function fields(pairs: [string, string | undefined][]): HTMLElement {
  const known = pairs.filter(([, value]) => value !== undefined && value !== "");
  const items = known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
  return h("dl", { class: "fields" }, ...items);
}

function text(title: string, value: string | undefined, kind = ""): Child {
  if (value === undefined) return null;
  return h("div", {}, h("h3", {}, title), h("pre", { tabindex: 0, class: kind }, value));
}

/** If it does not fit, it can be scrolled, with the keyboard too. */
function table(title: string, head: string[], rows: Child[][]): Child {
  if (rows.length === 0) return null;
  const body = rows.map(([name, ...cells]) =>
    h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((cell) => h("td", {}, cell))),
  );
  return h(
    "div",
    { class: "scroll", role: "group", "aria-label": title, tabindex: 0 },
    h(
      "table",
      {},
      h("caption", {}, title),
      h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...body),
    ),
  );
}
