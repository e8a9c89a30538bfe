/** Usage: totals, charts by day, and what it breaks down into. */
import type { FunctionReturnType } from "convex/server";
import type { api } from "../convex/_generated/api";
import { barChart } from "./chart";
import { h, type Child } from "./dom";
import { cost, count, plural, roundDollars, utcDay } from "./format";

export type Days = FunctionReturnType<typeof api.view.days>;
export type Group = Days["days"][number];
type Breakdown = "projects" | "models" | "users" | "hosts";

/** The most rows of a breakdown. */
const MAX_ROWS = 10;

export const NO_DAYS: Days = {
  days: [],
  projects: [],
  models: [],
  users: [],
  hosts: [],
  isComplete: true,
};

/** Two answers about different days as one. */
export function joined(one: Days, other: Days): Days {
  const both = (name: Breakdown | "days") => {
    const groups = new Map<string, Group[]>();
    for (const of of [...one[name], ...other[name]])
      groups.set(of.name, [...(groups.get(of.name) ?? []), of]);
    return [...groups].map(([name, all]) => sum(name, all));
  };
  const ranked = (name: Breakdown) => both(name).sort(byCost);
  return {
    days: both("days"),
    projects: ranked("projects"),
    models: ranked("models"),
    users: ranked("users"),
    hosts: ranked("hosts"),
    isComplete: one.isComplete && other.isComplete,
  };
}

function byCost(one: Group, other: Group): number {
  return (other.costUsd ?? 0) - (one.costUsd ?? 0) || other.tokens - one.tokens;
}

/** The cost is not known if none of the groups has one, and 0 if there are none. */
function sum(name: string, groups: Group[]): Group {
  const isKnown = groups.length === 0 || groups.some((of) => of.costUsd !== undefined);
  const total = (valueOf: (of: Group) => number) =>
    groups.reduce((sum, of) => sum + valueOf(of), 0);
  return {
    name,
    sessions: total((of) => of.sessions),
    tokens: total((of) => of.tokens),
    ...(isKnown && { costUsd: total((of) => of.costUsd ?? 0) }),
    isEstimate: groups.some((of) => of.isEstimate),
    isPartial: groups.some((of) => of.isPartial),
  };
}

export function totalCards({ days }: Days, now: number): Child[] {
  const card = (title: string, before: number) => {
    const [first, today] = [utcDay(now, before), utcDay(now)];
    const of = sum(
      title,
      // A machine whose clock is ahead adds to days that are still to come.
      days.filter(({ name }) => name >= first && name <= today),
    );
    return totalCard(
      title,
      cost(of),
      `${plural(of.sessions, "session")}, ${count(of.tokens)} tokens`,
    );
  };
  return [card("Today (UTC)", 0), card("7 days", 6), card("30 days", 29)];
}

export function totalCard(title: string, value: string, more: string): HTMLElement {
  return h(
    "div",
    { class: "total" },
    h("h3", {}, title),
    h("p", { class: "large" }, value),
    h("p", {}, more),
  );
}

export function charts({ days, isComplete }: Days, length: number, now: number): Child[] {
  const known = new Map(days.map((day) => [day.name, day]));
  const names = Array.from({ length }, (_, index) => utcDay(now, length - 1 - index));
  const bars = (valueOf: (of: Group) => number, labelOf: (of: Group) => string) =>
    names.map((day) => {
      const found = known.get(day);
      return { day, value: found ? valueOf(found) : 0, label: found ? labelOf(found) : "nothing" };
    });
  const costs = bars(({ costUsd }) => costUsd ?? 0, cost);
  const tokens = bars(
    (of) => of.tokens,
    (of) => count(of.tokens),
  );
  return [
    barChart("cost", "Cost by day (UTC)", costs, roundDollars),
    barChart("tokens", "Tokens by day (UTC)", tokens, count),
    !isComplete &&
      h(
        "p",
        { class: "empty" },
        "Older sessions are still being added up, or there are too many to show.",
      ),
  ];
}

/** What usage breaks down into, each with how a name is shown. */
export function breakdown(title: string, groups: Group[], shown: (name: string) => Child): Child {
  if (groups.length === 0) return null;
  const isFree = groups.every((of) => (of.costUsd ?? 0) === 0);
  const valueOf = (of: Group) => (isFree ? of.tokens : (of.costUsd ?? 0));
  const highest = Math.max(...groups.map(valueOf));
  const rows = groups.slice(0, MAX_ROWS).map((of) => {
    const bar = h("span", { class: "share" });
    // The page's policy forbids the attribute `style`, not this.
    bar.style.width = `${highest > 0 ? (100 * valueOf(of)) / highest : 0}%`;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, of.name === "" ? "unknown" : shown(of.name)),
      h("td", { class: "shares", "aria-hidden": true }, bar),
      h("td", { class: "sessions" }, count(of.sessions)),
      h("td", {}, count(of.tokens)),
      h("td", {}, cost(of)),
    );
  });
  const more = groups.length - rows.length;
  const head = h(
    "tr",
    {},
    h("td", {}),
    h("td", { class: "shares", "aria-hidden": true }),
    h("th", { scope: "col", class: "sessions" }, "Sessions"),
    h("th", { scope: "col" }, "Tokens"),
    h("th", { scope: "col" }, "Cost"),
  );
  return h(
    "div",
    {},
    h(
      "table",
      { class: "breakdown" },
      h("caption", {}, title),
      h("thead", {}, head),
      h("tbody", {}, ...rows),
    ),
    more > 0 && h("p", { class: "empty" }, `and ${count(more)} more`),
  );
}
