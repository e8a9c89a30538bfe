/**
 * Invented sessions of a small team, the same ones in each run: for pictures of the page and for
 * figures on what it reads.
 */
import type { AgentSession } from "../../convex/model/validators";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const PROJECTS = ["shop", "billing", "mobile-app", "docs", "infra"];
const PEOPLE = [
  ["anna@example.com", "anna-mbp"],
  ["ben@example.com", "ben-thinkpad"],
  ["chloe@example.com", "chloe-mbp"],
  ["ci@example.com", "ci-runner-3"],
] as const;
/** Models, with the price of a million output tokens in dollars. */
const MODELS = [
  ["claude-opus-4-8", 25],
  ["claude-sonnet-5", 15],
  ["claude-haiku-4-5", 5],
] as const;
const BRANCHES = ["main", "main", "fix/checkout", "feat/csv-export"];
const PROMPTS = [
  "Why does the checkout page show “ü” as two characters? Fix it and add a test",
  "Upgrade the dependencies, run all tests, and say what changed",
  "Add an export of invoices as CSV; keep the API as it is",
  "Review the change to the retry queue for mistakes",
  "Find out why the nightly build has been slow since Monday",
  "Make the Docker image smaller without a change to what it runs",
  "Explain how sessions are renewed, then write it down in docs/auth.md",
  "Move the settings page to the new form components",
  "The totals on the dashboard are off by one day in Auckland. Find the cause first",
  "Write release notes for 4.2 from the merged pull requests",
];
const ANSWER = `The page decoded the response twice. \`fetchCart\` reads it as UTF-8, and the
template then treated each byte as Latin-1.

- \`src/cart/render.ts\`: the second decoding is gone.
- \`src/cart/render.test.ts\`: a cart with “Müsli” and “Café” renders as it was entered.
- The same mistake was in the e-mail template; I fixed it there, too.

All 412 tests pass.`;
const TOOLS = ["Bash", "Read", "Edit", "Grep", "WebFetch", "mcp__tracker__search"];

/** Numbers that look random; the same seed gives the same ones. */
function numbers(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761) >>> 0;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  next();
  next();
  return (below) => Math.floor(next() * below);
}

function pick<T>(from: readonly T[], number: number): T {
  const found = from[number % from.length];
  if (found === undefined) throw new Error("there is nothing to pick from");
  return found;
}

/** A session that ended, or, if it is running, did something at this time. */
export function invented(
  seed: number,
  at: number,
  fields: Partial<AgentSession> = {},
  metadata: Partial<AgentSession["metadata"]> = {},
): AgentSession {
  const random = numbers(seed);
  const project = pick(PROJECTS, Math.min(random(5), random(6)));
  const [user, host] = pick(PEOPLE, random(4));
  const [model, price] = pick(MODELS, Math.min(random(3), random(3)));
  const turns = 1 + Math.min(random(9), random(9));
  const outputTokens = turns * (1_500 + random(6_000));
  const usage = {
    inputTokens: turns * (200 + random(900)),
    outputTokens,
    cacheReadInputTokens: outputTokens * (20 + random(60)),
    cacheCreationInputTokens: outputTokens * (2 + random(4)),
  };
  const tokens = Object.values(usage).reduce((sum, count) => sum + count, 0);
  const costUsd = Math.round((outputTokens + tokens / 40) * price) / 1e6;
  const startedAt = at - turns * (2 + random(9)) * MINUTE - random(60_000);
  const isRunning = fields.status === "running";
  const used = { model, ...usage, costUsd };
  const calls = TOOLS.map((name, index) => ({ name, calls: random(40 >> index), errors: 0 }));
  const tools = calls.filter((tool) => tool.calls > 0);
  return {
    sessionId: `${hex(random, 8)}-${hex(random, 4)}-4${hex(random, 3)}-a${hex(random, 3)}-${hex(random, 12)}`,
    agentType: "claude-code",
    status: "completed",
    input: pick(PROMPTS, random(PROMPTS.length)),
    output: ANSWER,
    revision: at,
    ...fields,
    metadata: {
      startedAt,
      ...(!isRunning && { completedAt: at, durationMs: at - startedAt }),
      updatedAt: at,
      host,
      cwd: `/home/${user.split("@")[0]}/src/${project}`,
      gitBranch: pick(BRANCHES, random(BRANCHES.length)),
      entrypoint: "cli",
      clientVersion: "2.1.332",
      permissionMode: "default",
      model,
      models: [model],
      runs: [
        {
          owner: { pid: 4_000 + random(20_000), startTime: startedAt - 400 },
          startedAt,
          source: "startup",
          ...(!isRunning && { endedAt: at, reason: "prompt_input_exit", endedBy: "hook" as const }),
        },
      ],
      transcript: { path: "/transcript.jsonl", state: "complete", bytes: outputTokens * 9 },
      prompts: turns,
      turns,
      apiMessages: turns * 7,
      toolCalls: tools.reduce((sum, tool) => sum + tool.calls, 0),
      toolErrors: 0,
      tools,
      compactions: 0,
      subagents: 0,
      usage,
      usageSource: "transcript",
      usageByModel: [used],
      usageByDay: [{ day: new Date(at).toISOString().slice(0, 10), ...used }],
      costUsd,
      costSource: random(4) === 0 || isRunning ? "estimate" : "client",
      user,
      repository: `https://github.com/acme/${project}.git`,
      ...metadata,
    },
  };
}

function hex(random: (below: number) => number, length: number): string {
  return Array.from({ length }, () => random(16).toString(16)).join("");
}

/** Finished sessions of the days before a time: fewer at night and at weekends. */
export function inventedDays(now: number, days: number, perDay: number): AgentSession[] {
  const sessions: AgentSession[] = [];
  const random = numbers(7);
  for (let day = 0; day < days; day += 1) {
    const isWeekend = [0, 6].includes(new Date(now - day * DAY).getUTCDay());
    const share = isWeekend ? 0.2 : 0.7 + random(60) / 100;
    for (let index = 0; index < perDay * share; index += 1) {
      const at = now - day * DAY - random(10 * HOUR) - 6 * MINUTE;
      const seed = day * 10_000 + index;
      sessions.push(invented(seed, at, outcome(random(12))));
    }
  }
  return sessions;
}

function outcome(number: number): Partial<AgentSession> {
  if (number === 0) {
    const error = "API Error: 529 Overloaded. The service is temporarily unavailable";
    return { status: "failed", error };
  }
  return number === 1 ? { status: "abandoned" } : {};
}

/** Sessions that run, and the one that ended last. */
export function inventedNow(now: number): AgentSession[] {
  const running = (
    seed: number,
    state: "working" | "waiting" | "background",
    minutes: number,
    [project, person, lastPrompt]: [string, number, string],
  ) => {
    const since = now - minutes * MINUTE;
    const [user, host] = pick(PEOPLE, person);
    const repository = `https://github.com/acme/${project}.git`;
    const metadata = { user, host, repository, activity: { state, since }, lastPrompt };
    return invented(seed, since, { status: "running" }, metadata);
  };
  const checkout = pick(PROMPTS, 0);
  const [user, host] = pick(PEOPLE, 0);
  const repository = "https://github.com/acme/shop.git";
  return [
    running(90_001, "working", 3, [
      "billing",
      1,
      "Fix the flaky test of the payment retries, and run it 50 times",
    ]),
    running(90_012, "waiting", 14, [
      "mobile-app",
      0,
      "Plan how to split the sync module; do not write code yet",
    ]),
    running(90_003, "background", 1, [
      "shop",
      2,
      "Deploy the preview and tell me when the smoke tests pass",
    ]),
    invented(
      90_004,
      now - 4 * MINUTE,
      { input: checkout, output: ANSWER },
      {
        user,
        host,
        repository,
        cwd: "/home/anna/src/shop",
        title: "Umlauts in the checkout",
        gitBranch: "fix/checkout",
        pullRequests: [{ number: 482, url: "https://github.com/acme/shop/pull/482" }],
        tags: ["team=web"],
      },
    ),
  ];
}
