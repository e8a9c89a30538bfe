/** Sessions: rows of a list, and one in full. */
import type { FunctionReturnType } from "convex/server";
import type { api } from "../convex/_generated/api";
import { h, type Child } from "./dom";
import { allTokens, cost, count, duration, plural, short, time } from "./format";

export type Listed = FunctionReturnType<typeof api.view.sessions>[number];
export type Shown = NonNullable<FunctionReturnType<typeof api.view.session>>;

/** Opens the session of an address without loading the page again. */
export type Open = (address: string) => void;

export function projectOf({ metadata }: Pick<Listed, "metadata">): string {
  return metadata.repository ?? metadata.cwd;
}

function costOf({ metadata }: Pick<Listed, "metadata">): string {
  const { costUsd, costSource, costIsPartial = false } = metadata;
  return cost({ costUsd, isEstimate: costSource === "estimate", isPartial: costIsPartial });
}

function link(address: string, key: string, text: string, open: Open): HTMLElement {
  const follow = (event: Event) => {
    event.preventDefault();
    open(address);
  };
  return h("a", { href: address, "data-key": key, click: follow }, text);
}

/** What a session is about: its prompt, or its title, or at least its id. */
function subject({ input, metadata, sessionId }: Listed): string {
  return input ?? metadata.title ?? sessionId;
}

export function runningRow(of: Listed, address: string, now: number, open: Open): HTMLElement {
  const { activity, startedAt } = of.metadata;
  const state = activity?.state ?? "running";
  const since = duration(now - (activity?.since ?? startedAt));
  return h(
    "li",
    { class: "session" },
    h("p", { class: "text" }, link(address, `running ${of.sessionId}`, subject(of), open)),
    h(
      "p",
      { class: "facts" },
      h("span", { class: `state ${state}` }, `${state} for ${since}`),
      ...facts([
        short(projectOf(of)),
        of.metadata.user,
        of.metadata.host,
        `${count(allTokens(of.metadata.usage))} tokens`,
        `${costOf(of)} so far`,
        `started ${time(startedAt)}`,
      ]),
    ),
  );
}

export function listedRow(of: Listed, address: string, open: Open): HTMLElement {
  const { metadata, status, error } = of;
  return h(
    "li",
    { class: "session" },
    h("p", { class: "text" }, link(address, of.sessionId, subject(of), open)),
    status === "failed" && error !== undefined && h("p", { class: "error text" }, error),
    h(
      "p",
      { class: "facts" },
      h("span", { class: `state ${status}` }, status),
      ...facts([
        short(projectOf(of)),
        metadata.user,
        metadata.host,
        plural(metadata.turns, "turn"),
        `${count(allTokens(metadata.usage))} tokens`,
        costOf(of),
        duration(metadata.durationMs),
        time(metadata.updatedAt),
      ]),
    ),
  );
}

function facts(texts: (string | undefined)[]): Child[] {
  return texts.filter((text) => text !== undefined).map((text) => h("span", {}, text));
}

export function sessionInFull(of: Shown): Child[] {
  const { metadata } = of;
  return [
    h("h2", { id: "session-title" }, metadata.title ?? of.sessionId),
    fields([
      ["Status", of.status],
      ["Project", projectOf(of)],
      ["Person", metadata.user],
      ["Machine", metadata.host],
      ["Branch", metadata.gitBranch],
      ["Workflow", of.workflowKey],
      ["Model", metadata.model],
      ["Started", time(metadata.startedAt)],
      ["Ended", metadata.completedAt === undefined ? undefined : time(metadata.completedAt)],
      ["Open for", duration(metadata.durationMs)],
      ["Cost", costOf(of)],
      ["Turns", String(metadata.turns)],
      ["Tool calls", `${metadata.toolCalls}, ${metadata.toolErrors} failed`],
      ["Tags", metadata.tags?.join(", ")],
      ["Session", of.sessionId],
    ]),
    text("Why it failed", of.error),
    text("Prompt", of.input),
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
        cost(usage),
      ]),
    ),
    table(
      "Tools",
      ["Tool", "Calls", "Failed"],
      metadata.tools.map(({ name, calls, errors }) => [name, count(calls), count(errors)]),
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
      (metadata.pullRequests ?? []).map(({ number, url }) => [`#${number}`, url]),
    ),
  ];
}

function fields(pairs: [string, string | undefined][]): HTMLElement {
  const known = pairs.filter(([, value]) => value !== undefined);
  return h("dl", {}, ...known.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function text(title: string, value: string | undefined): Child {
  return (
    value !== undefined && h("section", {}, h("h3", {}, title), h("pre", { tabindex: 0 }, value))
  );
}

export function table(title: string, head: string[], rows: string[][]): Child {
  if (rows.length === 0) return null;
  return h(
    "table",
    {},
    h("caption", {}, title),
    h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      {},
      ...rows.map(([name = "", ...cells]) =>
        h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((cell) => h("td", {}, cell))),
      ),
    ),
  );
}
