/**
 * The page: it subscribes to the queries of convex/view.ts and draws each answer in a panel of its
 * own, so that an error of one does not take the others along.
 */
import { ConvexClient } from "convex/browser";
import {
  makeFunctionReference,
  type FunctionReference,
  type FunctionReturnType,
} from "convex/server";
import type { api } from "../convex/_generated/api";
import { addressOf, dropToken, readFilters, takeToken, type Filters } from "./address";
import { barChart } from "./chart";
import { byId, h, show, type Child } from "./dom";
import { allTokens, cost, count, plural, short, utcDay, type Cost } from "./format";
import { listedRow, projectOf, runningRow, sessionInFull, table, type Listed } from "./sessions";

type Days = FunctionReturnType<typeof api.view.days>;
type Group = Days["days"][number];

const HOUR = 60 * 60 * 1000;
const DAY = 24 * HOUR;
/** A session that has run for longer without a sign of life is not shown as running. */
const RUNNING_DAYS = 7;
const RANGES = ["1", "7", "30", "90"];
const STATUSES = ["completed", "failed", "abandoned"] as const;
const LAST_DAY = "9999-12-31";

const queries = {
  running: makeFunctionReference<"query">("view:running") as typeof api.view.running,
  sessions: makeFunctionReference<"query">("view:sessions") as typeof api.view.sessions,
  session: makeFunctionReference<"query">("view:session") as typeof api.view.session,
  days: makeFunctionReference<"query">("view:days") as typeof api.view.days,
};

const deployment = document.querySelector<HTMLMetaElement>("meta[name=deployment]")?.content ?? "";
let filters: Filters = readFilters();
let runningSessions: Listed[] = [];
let listedSessions: Listed[] | undefined;
let stop: (() => void)[] = [];
/** Shows the session of an address. */
let open: (address: string) => void = () => undefined;

const token = takeToken();
if (token === null) {
  end(
    "There is no token in this address. Run `convex-sidecar view` and open the link that it prints.",
  );
} else start(new ConvexClient(deployment, { unsavedChangesWarning: false }), token);

/** Says why there is nothing to see. */
function end(why: string): void {
  byId("content").hidden = true;
  show(byId("notice"), h("p", {}, why));
}

function start(client: ConvexClient, token: string): void {
  const watch = <Q extends FunctionReference<"query">>(
    panel: string,
    query: Q,
    args: Q["_args"],
    draw: (answer: FunctionReturnType<Q>) => void,
  ) => {
    const failed = (error: Error & { data?: { code?: string } }) => {
      if (error.data?.code === "NO_ACCESS") {
        dropToken();
        void client.close();
        end("This link is not valid any more. Ask for a new one, or run `convex-sidecar view`.");
      } else
        show(byId(panel), h("p", { class: "error" }, `This could not be read: ${error.message}`));
    };
    stop.push(client.onUpdate(query, args, draw, failed));
  };

  const subscribe = () => {
    for (const unsubscribe of stop) unsubscribe();
    stop = [];
    const now = Math.floor(Date.now() / HOUR) * HOUR;
    const days = Number(filters.days ?? 30);
    const { project, user, host } = filters;
    const only = {
      ...(project !== undefined && { project }),
      ...(user !== undefined && { user }),
      ...(host !== undefined && { host }),
    };
    const status = STATUSES.find((name) => name === filters.status);
    watch("running", queries.running, { token, since: now - RUNNING_DAYS * DAY }, (answer) => {
      runningSessions = answer;
      drawRunning();
    });
    const selection = { token, since: now - days * DAY, ...(status && { status }) };
    watch("sessions", queries.sessions, selection, (answer) => {
      listedSessions = answer;
      drawSessions();
    });
    const since = utcDay(Date.now(), 29);
    watch("totals", queries.days, { token, since, until: LAST_DAY, ...only }, drawTotals);
    const range = { token, since: utcDay(Date.now(), days - 1), until: LAST_DAY, ...only };
    watch("charts", queries.days, range, (answer) => {
      drawCharts(answer, days);
      drawGroups(answer);
      drawFilters(answer);
    });
    watchSession();
  };

  const watchSession = () => {
    const { session } = filters;
    const dialog = byId("session") as HTMLDialogElement;
    if (session === undefined) {
      dialog.close();
      return;
    }
    if (!dialog.open) {
      show(byId("session-content"), h("p", {}, "Loading …"));
      dialog.showModal();
    }
    watch("session-content", queries.session, { token, sessionId: session }, (answer) => {
      if (answer) show(byId("session-content"), ...sessionInFull(answer));
      else
        show(
          byId("session-content"),
          h("p", {}, "There is no session with this ID, or it was deleted."),
        );
    });
  };

  const goTo = (address: string) => {
    history.pushState(null, "", address);
    filters = readFilters();
    subscribe();
  };
  open = goTo;
  const dialog = byId("session") as HTMLDialogElement;
  dialog.addEventListener("close", () => {
    if (filters.session !== undefined) goTo(addressOf(filters, { session: undefined }));
  });
  byId("close").addEventListener("click", () => {
    dialog.close();
  });
  window.addEventListener("popstate", () => {
    filters = readFilters();
    subscribe();
  });
  for (const name of ["project", "user", "host", "status", "days"] as const) {
    const select = byId(name) as HTMLSelectElement;
    select.addEventListener("change", () => {
      goTo(addressOf(filters, { [name]: select.value }));
    });
  }
  client.subscribeToConnectionState(({ isWebSocketConnected, hasEverConnected }) => {
    const isLost = hasEverConnected && !isWebSocketConnected;
    show(
      byId("connection"),
      isLost ? "The connection is lost; trying again. What you see may be old." : "",
    );
  });
  let hour = Math.floor(Date.now() / HOUR);
  setInterval(() => {
    const current = Math.floor(Date.now() / HOUR);
    if (current === hour) drawRunning();
    else subscribe();
    hour = current;
  }, 10_000);
  subscribe();
}

function isSelected(session: Listed): boolean {
  const { project, user, host } = filters;
  return (
    [undefined, projectOf(session)].includes(project) &&
    [undefined, session.metadata.user ?? ""].includes(user) &&
    [undefined, session.metadata.host].includes(host)
  );
}

function drawRunning(): void {
  const now = Date.now();
  const rows = runningSessions
    .filter(isSelected)
    .map((of) => runningRow(of, addressOf(filters, { session: of.sessionId }), now, open));
  show(
    byId("running"),
    rows.length > 0 ? h("ul", {}, ...rows) : h("p", { class: "empty" }, "No session is running."),
  );
}

function drawSessions(): void {
  if (!listedSessions) return;
  const rows = listedSessions
    .filter((of) => of.status !== "running" && isSelected(of))
    .map((of) => listedRow(of, addressOf(filters, { session: of.sessionId }), open));
  const isFiltered = Object.keys(filters).some((name) => name !== "session");
  const empty = isFiltered
    ? "No session matches these filters."
    : "No session has finished in this time. `convex-sidecar doctor` on a machine says whether its sessions arrive.";
  show(
    byId("sessions"),
    rows.length > 0 ? h("ul", {}, ...rows) : h("p", { class: "empty" }, empty),
  );
}

type Sum = Required<Cost> & { sessions: number; tokens: number };

function sum(groups: Group[]): Sum {
  const total = (valueOf: (of: Group) => number) =>
    groups.reduce((sum, of) => sum + valueOf(of), 0);
  return {
    sessions: total((of) => of.sessions),
    tokens: total(allTokens),
    costUsd: total((of) => of.costUsd),
    isEstimate: groups.some((of) => of.isEstimate),
    isPartial: groups.some((of) => of.isPartial),
  };
}

function drawTotals({ days }: Days): void {
  const since = (before: number) => {
    const first = utcDay(Date.now(), before);
    return sum(days.filter(({ name }) => name >= first));
  };
  const total = (title: string, of: Sum) =>
    h(
      "div",
      { class: "total" },
      h("h3", {}, title),
      h("p", { class: "large" }, cost(of)),
      h("p", {}, `${plural(of.sessions, "session")}, ${count(of.tokens)} tokens`),
    );
  show(
    byId("totals"),
    total("Today", since(0)),
    total("7 days", since(6)),
    total("30 days", since(29)),
  );
}

function drawCharts({ days, isComplete }: Days, length: number): void {
  const known = new Map(days.map((day) => [day.name, day]));
  const names = Array.from({ length }, (_, index) => utcDay(Date.now(), length - 1 - index));
  const bars = (valueOf: (of: Group) => number, labelOf: (of: Group) => string) =>
    names.map((day) => {
      const found = known.get(day);
      return { day, value: found ? valueOf(found) : 0, label: found ? labelOf(found) : "nothing" };
    });
  show(
    byId("charts"),
    barChart(
      "Cost by day (UTC)",
      bars(({ costUsd }) => costUsd, cost),
    ),
    barChart(
      "Tokens by day (UTC)",
      bars(allTokens, (of) => count(allTokens(of))),
    ),
    !isComplete &&
      h(
        "p",
        { class: "empty" },
        "Older sessions are still being added up, or are too many to show.",
      ),
  );
}

function drawGroups({ projects, models, users, hosts }: Days): void {
  const by = (title: string, groups: Group[], nameOf = (name: string) => name): Child =>
    table(
      title,
      ["", "Sessions", "Tokens", "Cost"],
      groups.map((of) => [
        nameOf(of.name) || "unknown",
        count(of.sessions),
        count(allTokens(of)),
        cost(of),
      ]),
    );
  show(
    byId("groups"),
    by("Projects", projects, short),
    by("Models", models),
    by("People", users),
    by("Machines", hosts),
  );
}

function drawFilters({ projects, users, hosts }: Days): void {
  const options = (
    name: keyof Filters,
    all: string,
    values: string[],
    labelOf = (value: string) => value,
  ) => {
    const chosen = filters[name];
    const listed = new Set(chosen === undefined ? values : [chosen, ...values]);
    listed.delete("");
    setOptions(byId(name), chosen ?? "", [
      ["", all],
      ...[...listed].map((value): [string, string] => [value, labelOf(value)]),
    ]);
  };
  const names = (groups: Group[]) => groups.map(({ name }) => name);
  options("project", "All projects", names(projects), short);
  options("user", "All people", names(users));
  options("host", "All machines", names(hosts));
  options("status", "Any status", [...STATUSES]);
  const labels = RANGES.map((range): [string, string] => [
    range,
    range === "1" ? "1 day" : `${range} days`,
  ]);
  setOptions(byId("days"), filters.days ?? "30", labels);
}

/** Leaves a menu alone that has these options already, because it may be open. */
function setOptions(menu: HTMLElement, chosen: string, options: [string, string][]): void {
  const drawn = JSON.stringify([chosen, options]);
  if (menu.dataset["drawn"] === drawn) return;
  menu.dataset["drawn"] = drawn;
  show(
    menu,
    ...options.map(([value, label]) => h("option", { value, selected: value === chosen }, label)),
  );
}
