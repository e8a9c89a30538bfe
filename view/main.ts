/**
 * The page: it subscribes to the queries of convex/view.ts and draws each answer in a panel of its
 * own, so that an error in one does not affect the others.
 */
import { ConvexClient } from "convex/browser";
import {
  makeFunctionReference,
  type FunctionReference,
  type FunctionReturnType,
} from "convex/server";
import type { api } from "../convex/_generated/api";
import { addressOf, dropToken, readFilters, takeToken, type Filters } from "./address";
import { byId, h, show, type Child } from "./dom";
import { count, DAY, HOUR, plural, short, time, utcDay } from "./format";
import {
  link,
  listedRow,
  runningRow,
  sessionInFull,
  type Listed,
  type SessionList,
} from "./sessions";
import { breakdown, charts, joined, NO_DAYS, totalCard, totalCards, type Days } from "./usage";

/** A session that has run for longer without a sign of life is not shown as running. */
const RUNNING_DAYS = 7;
const RANGES = ["1", "7", "30", "90"];
const STATUSES = ["completed", "failed", "abandoned"] as const;
const LAST_DAY = "9999-12-31";
/** The latest time that a `Date` can hold. */
const MAX_TIME = 8.64e15;

const queries = {
  running: makeFunctionReference<"query">("view:running") as typeof api.view.running,
  sessions: makeFunctionReference<"query">("view:sessions") as typeof api.view.sessions,
  session: makeFunctionReference<"query">("view:session") as typeof api.view.session,
  days: makeFunctionReference<"query">("view:days") as typeof api.view.days,
};

const deployment = document.querySelector<HTMLMetaElement>("meta[name=deployment]")?.content ?? "";
let filters: Filters = readFilters();
let running: SessionList = { sessions: [] };
let stop: (() => void)[] = [];
let goTo: (address: string) => void = () => undefined;

const token = takeToken();
// Another link in the address of an open page does not load it again.
window.addEventListener("hashchange", () => {
  if (location.hash.includes("token=")) location.reload();
});
if (token === null) {
  end(
    "There is no token in this address. Run `convex-sidecar view` and open the link that it prints.",
  );
} else start(new ConvexClient(deployment, { unsavedChangesWarning: false }), token);

/** Says why there is nothing to see. */
function end(why: string): void {
  byId("content").hidden = true;
  (byId("session") as HTMLDialogElement).close();
  show(byId("connection"));
  show(byId("notice"), h("p", {}, why));
}

function start(client: ConvexClient, token: string): void {
  let isOver = false;
  const watch = <Q extends FunctionReference<"query">>(
    panel: string,
    query: Q,
    args: Q["_args"],
    draw: (answer: FunctionReturnType<Q>) => void,
  ) => {
    const failed = (error: Error & { data?: { code?: string } }) => {
      if (isOver) return;
      if (error.data?.code === "NO_ACCESS") {
        isOver = true;
        dropToken();
        void client.close();
        end("This link is no longer valid. Ask for a new one, or run `convex-sidecar view`.");
      } else
        show(byId(panel), h("p", { class: "error" }, `This could not be read: ${error.message}`));
    };
    stop.push(client.onUpdate(query, args, draw, failed));
  };

  const subscribe = () => {
    const previous = stop;
    stop = [];
    const now = Math.floor(Date.now() / HOUR) * HOUR;
    const days = rangeOf(filters);
    const { project, user, host } = filters;
    const only = {
      token,
      ...(project !== undefined && { project }),
      ...(user !== undefined && { user }),
      ...(host !== undefined && { host }),
    };
    watch("running", queries.running, { ...only, since: now - RUNNING_DAYS * DAY, now }, (list) => {
      running = list;
      drawRunning();
    });
    const status = STATUSES.find((name) => name === filters.status);
    const before = beforeOf(filters);
    const selection = {
      ...only,
      since: now - days * DAY,
      now,
      ...(status && { status }),
      ...(before !== undefined && { before }),
    };
    watch("sessions", queries.sessions, selection, drawSessions);
    // Today changes with every answer and the days before hardly ever, so each is a query of its own.
    const watchDays = (panel: string, length: number, draw: (days: Days) => void) => {
      let today: Days | undefined;
      let past = length > 1 ? undefined : NO_DAYS;
      const drawBoth = () => {
        if (today && past) draw(joined(past, today));
      };
      const current = { ...only, since: utcDay(Date.now()), until: LAST_DAY };
      watch(panel, queries.days, current, (answer) => {
        today = answer;
        drawBoth();
      });
      if (past) return;
      const since = utcDay(Date.now(), length - 1);
      watch(panel, queries.days, { ...only, since, until: utcDay(Date.now(), 1) }, (answer) => {
        past = answer;
        drawBoth();
      });
    };
    watchDays("totals", 30, (answer) => {
      show(byId("totals"), ...totalCards(answer, Date.now()));
    });
    watchDays("charts", days, (answer) => {
      show(byId("charts"), ...charts(answer, days, Date.now()));
      drawBreakdowns(answer);
      drawFilters(answer);
    });
    watchSession();
    // After the new ones, so that what is still shown is not asked for again.
    for (const unsubscribe of previous) unsubscribe();
  };

  const dialog = byId("session") as HTMLDialogElement;
  const watchSession = () => {
    const { session } = filters;
    if (session === undefined) {
      dialog.close();
      return;
    }
    if (!dialog.open) {
      show(byId("session-content"), h("p", {}, "Loading…"));
      dialog.showModal();
    }
    watch("session-content", queries.session, { token, sessionId: session }, (answer) => {
      const none = "There is no session with this ID, or it was deleted.";
      show(byId("session-content"), ...(answer ? sessionInFull(answer) : [h("p", {}, none)]));
    });
  };

  goTo = (address: string) => {
    history.pushState(null, "", address);
    filters = readFilters();
    subscribe();
  };
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
      goTo(addressOf(filters, { [name]: select.value, before: undefined }));
    });
  }
  client.subscribeToConnectionState(({ isWebSocketConnected, hasEverConnected }) => {
    if (isOver || !hasEverConnected) return;
    byId("connection").className = isWebSocketConnected ? "live" : "lost";
    const lost = "Connection lost; trying again. What you see may be out of date.";
    show(byId("connection"), isWebSocketConnected ? "live" : lost);
  });
  let hour = Math.floor(Date.now() / HOUR);
  setInterval(() => {
    if (isOver) return;
    const current = Math.floor(Date.now() / HOUR);
    if (current === hour) drawRunning();
    else subscribe();
    hour = current;
  }, 10_000);
  subscribe();
}

/** In days. */
function rangeOf({ days = "" }: Filters): number {
  return RANGES.includes(days) ? Number(days) : 30;
}

/** The time before which sessions are listed. */
function beforeOf({ before }: Filters): number | undefined {
  const at = Number(before);
  return at > 0 && at < MAX_TIME ? at : undefined;
}

function drawRunning(): void {
  const { sessions, older } = running;
  const now = Date.now();
  const rows = sessions.map((of) => runningRow(of, sessionAddress(of), now, goTo));
  show(
    byId("running"),
    rows.length > 0 ? h("ul", {}, ...rows) : h("p", { class: "empty" }, "No session is running."),
    older !== undefined && h("p", { class: "empty" }, "There are more."),
  );
  const working = sessions.filter((of) => of.metadata.activity?.state === "working").length;
  const number = `${count(sessions.length)}${older === undefined ? "" : "+"}`;
  const more = sessions.length === 0 ? "nothing at the moment" : `${count(working)} working`;
  show(byId("running-total"), totalCard("Running", number, more));
}

function sessionAddress({ sessionId }: Listed): string {
  return addressOf(filters, { session: sessionId });
}

function drawSessions({ sessions, older }: SessionList): void {
  const now = Date.now();
  const rows = sessions.map((of) => listedRow(of, sessionAddress(of), now, goTo));
  const { project, user, host } = filters;
  const before = beforeOf(filters);
  const isSearch = [project, user, host].some((name) => name !== undefined);
  const isFiltered = isSearch || [filters.status, filters.days, before].some(Boolean);
  const empty = isFiltered
    ? "No session matches these filters."
    : "No session finished in this period. To check whether a machine's sessions arrive, run `convex-sidecar doctor` on it.";
  const newest = addressOf(filters, { before: undefined });
  show(
    byId("sessions"),
    before !== undefined &&
      h(
        "p",
        { class: "empty" },
        `Before ${time(before)}. `,
        link(newest, "newest", "Back to the newest", goTo),
      ),
    rows.length > 0
      ? h("ul", {}, ...rows)
      : older === undefined && h("p", { class: "empty" }, empty),
    older !== undefined &&
      h(
        "p",
        { class: "empty" },
        isSearch && `Only those since ${time(older)} were searched. `,
        link(addressOf(filters, { before: String(older) }), "older", "Older sessions", goTo),
      ),
  );
}

function drawBreakdowns({ projects, models, users, hosts }: Days): void {
  const choice = (name: "project" | "user" | "host", labelOf = (value: string) => value) =>
    function shown(value: string): Child {
      const address = addressOf(filters, { [name]: value, before: undefined });
      return link(address, `${name} ${value}`, labelOf(value), goTo);
    };
  show(
    byId("groups"),
    breakdown("Projects", projects, choice("project", short)),
    breakdown("Models", models, (name) => name),
    breakdown("People", users, choice("user")),
    breakdown("Machines", hosts, choice("host")),
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
  const names = (groups: Days["projects"]) => groups.map(({ name }) => name);
  options("project", "All projects", names(projects), short);
  options("user", "All people", names(users));
  options("host", "All machines", names(hosts));
  options("status", "Any status", [...STATUSES]);
  const labels = RANGES.map((range): [string, string] => [range, plural(Number(range), "day")]);
  setOptions(byId("days"), String(rangeOf(filters)), labels);
}

/** Leaves a menu alone if it already has these options, because it may be open. */
function setOptions(menu: HTMLElement, chosen: string, options: [string, string][]): void {
  const drawn = JSON.stringify([chosen, options]);
  if (menu.dataset["drawn"] === drawn) return;
  menu.dataset["drawn"] = drawn;
  show(
    menu,
    ...options.map(([value, label]) => h("option", { value, selected: value === chosen }, label)),
  );
}
