// The captured fixtures record what Claude Code did once. This test runs the real client with the
// sidecar today, for every way of installing the hooks. Three independent parties report each
// session: the client's JSON result, the usage that the stand-in for the Messages API charged, and
// the row in Convex. They have to agree on every token.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CLIENT, startLab } from "./lab.mjs";

const ANSWER = "Done. FINAL ANSWER 42.";
const STARTED = { source: "startup", reason: "other", endedBy: "hook" };
const RESUMED = { ...STARTED, source: "resume" };
const bash = (calls, errors = 0) => ({ name: "Bash", calls, errors });

const since = (version) => CLIENT.localeCompare(version, "en", { numeric: true }) >= 0;
/** The versions are explained in docs/hooks.md. */
const FORK_STARTS_WITH_ITS_OWN_ID = since("2.1.231");
const CHARGES_ARE_CUMULATIVE = since("2.1.290");
/** Without it, it is not known which process a run belonged to, and whether it is gone. */
const OWNER_IS_KNOWN = since("2.1.145");
const needsOwner = { skip: !OWNER_IS_KNOWN && `client ${CLIENT} does not tell a hook its owner` };
/**
 * Earlier clients put messages with the same ID together before they send them, so the prompt that
 * the stand-in for the API sees last is not the one that was typed.
 */
const SENDS_MESSAGES_IN_ORDER = since("2.1.332");
const needsOrder = (hooks) =>
  hooks.gateway && !SENDS_MESSAGES_IN_ORDER
    ? { skip: `client ${CLIENT} sends messages with one id in another order` }
    : needsOwner;
/** Earlier clients do not know SessionStart, and ignore a settings file that names it. */
const RUNS_THE_HOOKS = since("1.0.128");

/** Earlier clients start their own subagents and requests, which adds figures that no test expects. */
const FIGURES_COMPARE = since("2.1.77");

const INSTALLATIONS = {
  "a plugin": { plugin: true },
  "a settings file": { settings: "user" },
  "a plugin and a settings file at once": { plugin: true, settings: "user" },
  "a settings file, behind a gateway that gives all answers one id": {
    settings: "user",
    gateway: true,
  },
};

/** With older clients, only hooks in a settings file are tested. */
const installations = Object.entries(INSTALLATIONS).filter(
  ([name]) => OWNER_IS_KNOWN || (FIGURES_COMPARE && name === "a settings file"),
);

for (const [name, hooks] of installations)
  describe(`client ${CLIENT}, hooks from ${name}`, () => {
    const sessions = new Set();
    let lab;
    before(async () => (lab = await startLab(hooks)));
    after(() => lab?.stop());

    async function claude(...args) {
      const turn = await lab.claude(...args);
      sessions.add(turn.result.session_id);
      return turn;
    }

    test("the client accepts the plugin", { skip: !hooks.plugin }, async () => {
      for (const manifest of ["plugin.json", "marketplace.json"]) {
        const { code, stdout, stderr } = await lab.validateManifest(manifest);
        assert.equal(code, 0, stdout + stderr);
      }
    });

    test("print mode is recorded", async () => {
      const turn = await claude("say hello");
      const row = await assertRecorded(lab, [turn], {
        input: "say hello",
        output: ANSWER,
        tools: [bash(1)],
        runs: [STARTED],
      });
      assert.equal(row.agentType, "claude-code");
      assert.equal(row.metadata.cwd, lab.cwd);
      assert.equal(row.metadata.entrypoint, "sdk-cli");
      assert.equal(row.metadata.clientVersion, CLIENT);
      assert.equal(row.metadata.permissionMode, "bypassPermissions");
    });

    test("two tools in one message, one of which fails, are counted", async () => {
      const turn = await claude("RUNTWO");
      await assertRecorded(lab, [turn], { output: ANSWER, tools: [bash(2, 1)], runs: [STARTED] });
    });

    test("a subagent with its own model is counted", async () => {
      const turn = await claude("RUNSUB");
      const tools = [{ name: "Agent", calls: 1, errors: 0 }, bash(1)];
      const row = await assertRecorded(lab, [turn], {
        output: ANSWER,
        tools,
        subagents: 1,
        runs: [STARTED],
      });
      assert.equal(row.metadata.usageByModel.length, 2);
    });

    test("an API error fails the session", async () => {
      const turn = await claude("FAILNOW");
      assert.equal(turn.code, 1);
      const error = turn.result.result; // older clients show the whole answer
      assert.match(error, /^API Error: 400 .*mock says no/);
      await assertRecorded(lab, [turn], { status: "failed", error, tools: [], runs: [STARTED] });
    });

    test(
      "a session that is resumed after an error is one session with three runs",
      needsOrder(hooks),
      async () => {
        const first = await claude("say hello");
        const id = first.result.session_id;
        const failed = await claude("FAILNOW", "--resume", id);
        const third = await claude("RUNTWO", "--resume", id);
        const expected = {
          input: "say hello",
          output: ANSWER,
          prompts: 3,
          tools: [bash(3, 1)],
          runs: [STARTED, RESUMED, RESUMED],
        };
        await assertRecorded(lab, [first, failed, third], expected);
      },
    );

    test("a fork counts only what it adds", needsOrder(hooks), async () => {
      const parent = await claude("say hello");
      const child = await claude("RUNTWO", "--resume", parent.result.session_id, "--fork-session");
      assert.notEqual(child.result.session_id, parent.result.session_id);
      const runs = FORK_STARTS_WITH_ITS_OWN_ID
        ? [STARTED]
        : [STARTED, { source: "resume", endedBy: "superseded" }];
      await assertRecorded(lab, [parent], {
        input: "say hello",
        output: ANSWER,
        tools: [bash(1)],
        runs,
      });
      await assertRecorded(lab, [child], {
        input: "RUNTWO",
        output: ANSWER,
        tools: [bash(2, 1)],
        inheritedUsage: usageOf(parent.messages),
        inheritedCost: parent.result.total_cost_usd,
        runs: FORK_STARTS_WITH_ITS_OWN_ID
          ? [{ source: "fork", reason: "other", endedBy: "hook" }]
          : [{ reason: "other", endedBy: "hook" }],
      });
    });

    test("each session is stored once, and sync has nothing left to send", async () => {
      assert.deepEqual(
        (await listed(lab)).map((row) => row.sessionId).sort(),
        [...sessions].sort(),
      );
      const before = await lab.calls();
      await lab.sidecar("sync");
      assert.deepEqual(await lab.calls(), before);
    });

    test("a session whose client is killed is swept", needsOwner, async () => {
      const client = lab.startClaude("HANGNOW");
      await waitForPrompt(lab, "HANGNOW").finally(() => client.kill("SIGKILL"));
      await client.finished.catch(() => "a killed client prints no result");
      const [running] = await listed(lab, { status: "running" });
      assert.deepEqual(
        running.metadata.runs.map((run) => run.owner?.pid),
        [client.pid],
      );
      await lab.sidecar("sync");
      const row = await lab.query("agents:getAgentSession", { sessionId: running.sessionId });
      assert.equal(row.status, "abandoned");
      assert.deepEqual(row.metadata.runs.map(withoutTimes), [
        { source: "startup", endedBy: "swept" },
      ]);
    });

    test("the model never sees the sidecar", () => {
      assert.ok(lab.requestsToModel.length > sessions.size);
      assert.deepEqual(lab.requestsToModel.filter(namesTheSidecar), []);
    });
  });

const SCOPES = {
  "the project's settings": { settings: "project" },
  "the local settings": { settings: "local" },
  "a plugin of the marketplace": { installedPlugin: true },
  "a plugin of the marketplace and the project's settings at once": {
    installedPlugin: true,
    settings: "project",
  },
};

for (const [name, hooks] of Object.entries(SCOPES))
  test(
    `hooks from ${name} record a session once, and doctor reports them`,
    needsOwner,
    async () => {
      const lab = await startLab(hooks);
      try {
        const turn = await lab.claude("say hello");
        await assertRecorded(lab, [turn], {
          input: "say hello",
          output: ANSWER,
          tools: [bash(1)],
          runs: [STARTED],
        });
        assert.equal((await listed(lab, {})).length, 1);
        const checks = (await lab.sidecar("doctor", "--json"))
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line));
        const found = checks.filter((check) => check.name === "hooks");
        assert.equal(found.length, 1, JSON.stringify(found));
        assert.equal(found[0].mark, Object.keys(hooks).length > 1 ? "warning" : "ok");
        assert.equal(
          found[0].says.includes("the plugin convex-sidecar@convex-sidecar"),
          "installedPlugin" in hooks,
        );
        assert.equal(found[0].says.includes("/project/.claude/settings."), "settings" in hooks);
      } finally {
        lab.stop();
      }
    },
  );

test(
  "a client command without a session records none, although it runs the SessionEnd hooks",
  needsOwner,
  async () => {
    const lab = await startLab({ settings: "user" });
    try {
      assert.equal((await lab.client("mcp", "list")).code, 0);
      assert.deepEqual(await listed(lab, {}), []);
      assert.equal(await lab.sidecar("sessions", "--json"), "");
    } finally {
      lab.stop();
    }
  },
);

test("a session that a tool call starts names the session of the tool", needsOwner, async () => {
  const lab = await startLab({ settings: "user" });
  try {
    const { result } = await lab.claude(`RUNCOMMAND ${lab.shellCommand("say hello")} </dev/null`);
    assert.equal(result.result, ANSWER);
    const rows = await listed(lab);
    assert.deepEqual(
      Object.fromEntries(rows.map(({ input, metadata }) => [input, metadata.parentSessionId])),
      {
        [rows.find((row) => row.sessionId === result.session_id).input]: undefined,
        "say hello": result.session_id,
      },
    );
    assert.ok(rows.every((row) => row.status === "completed"));
    // It works on its own session beside the other one, which continues.
    assert.deepEqual(
      rows.map((row) => row.metadata.runs.map(withoutTimes)),
      [[STARTED], [STARTED]],
    );
  } finally {
    lab.stop();
  }
});

test("a plugin without the executable informs the user and not the model", needsOwner, async () => {
  const lab = await startLab({ plugin: true, absent: true });
  try {
    const { code, result, events } = await lab.claude(
      "say hello",
      "--output-format",
      "stream-json",
      "--verbose",
      "--include-hook-events",
    );
    assert.equal(code, 0);
    assert.equal(result.result, ANSWER);
    const answers = events.filter((event) => event.subtype === "hook_response");
    assert.deepEqual(
      answers
        .map(({ hook_event, exit_code, stderr }) => ({ hook_event, exit_code, stderr }))
        .slice(0, 1),
      [{ hook_event: "SessionStart", exit_code: 0, stderr: "" }],
    );
    assert.match(JSON.parse(answers[0].stdout).systemMessage, /^convex-sidecar is not installed/);
    assert.deepEqual(
      answers.slice(1).filter((event) => event.stdout || event.stderr || event.exit_code),
      [],
    );
    assert.deepEqual(lab.requestsToModel.filter(namesTheSidecar), []);
  } finally {
    lab.stop();
  }
});

test(
  "an older client runs the hooks, and each session is recorded once",
  {
    skip: (!RUNS_THE_HOOKS || FIGURES_COMPARE) && `client ${CLIENT} is tested elsewhere or too old`,
  },
  async () => {
    const lab = await startLab({ settings: "user" });
    try {
      const { result: answered } = await lab.claude("say hello");
      const { result: failed } = await lab.claude("FAILNOW");
      const rows = (await listed(lab)).toSorted((a, b) => a._creationTime - b._creationTime);
      assert.deepEqual(
        rows.map(({ sessionId, input, output, status }) => [sessionId, input, output, status]),
        [
          [answered.session_id, "say hello", ANSWER, "completed"],
          [failed.session_id, "FAILNOW", undefined, "failed"],
        ],
      );
      assert.equal(rows[0].metadata.clientVersion, CLIENT);
      assert.deepEqual(rows[0].metadata.runs.map(withoutTimes), [STARTED]);
      assert.match(rows[1].error, /mock says no/);
    } finally {
      lab.stop();
    }
  },
);

test(
  "a client that ignores the hooks leaves sessions that import records",
  {
    skip: RUNS_THE_HOOKS && `client ${CLIENT} runs the hooks`,
  },
  async () => {
    const lab = await startLab({ settings: "user" });
    try {
      const { result } = await lab.claude("say hello");
      assert.deepEqual(await listed(lab), []);
      await lab.sidecar("import");
      const [row, ...others] = await listed(lab);
      assert.deepEqual(others, []);
      assert.equal(row.sessionId, result.session_id);
      assert.equal(row.metadata.clientVersion, CLIENT);
      assert.deepEqual([row.input, row.output, row.status], ["say hello", ANSWER, "completed"]);
    } finally {
      lab.stop();
    }
  },
);

/**
 * Compares the rows of Convex and the sidecar with what the client reported and the API charged for
 * all turns of one session.
 */
async function assertRecorded(lab, turns, expected) {
  const sessionId = turns[0].result.session_id;
  const row = await lab.query("agents:getAgentSession", { sessionId });
  assert.ok(row, `no row of session ${sessionId}`);
  const { _id, _creationTime, ...document } = row;
  assert.deepEqual(JSON.parse(await lab.sidecar("show", sessionId, "--json")), document);

  const messages = turns.flatMap((turn) => turn.messages);
  const tools = expected.tools;
  assert.deepEqual(
    {
      input: row.input,
      output: row.output,
      error: row.error,
      status: row.status,
      ...pick(row.metadata, FIGURES),
    },
    {
      input: expected.input ?? row.input,
      output: expected.output,
      error: expected.error,
      status: expected.status ?? "completed",
      prompts: expected.prompts ?? 1,
      apiMessages: messages.length,
      toolCalls: tools.reduce((sum, tool) => sum + tool.calls, 0),
      toolErrors: tools.reduce((sum, tool) => sum + tool.errors, 0),
      compactions: 0,
      subagents: expected.subagents ?? 0,
      inheritedUsage: expected.inheritedUsage,
      usage: usageOf(messages),
    },
  );
  assert.deepEqual(byName(row.metadata.tools, "name"), byName(tools, "name"));
  assert.deepEqual(row.metadata.runs.map(withoutTimes), expected.runs);
  assert.equal(row.metadata.transcript.state, "complete");
  if (expected.output) assert.equal(row.output, turns.at(-1).result.result);

  assertClientAgrees(row.metadata, turns);
  assertCostAgrees(row.metadata, turns.at(-1).result, expected.inheritedCost);
  return row;
}

const FIGURES = [
  "prompts",
  "apiMessages",
  "toolCalls",
  "toolErrors",
  "compactions",
  "subagents",
  "inheritedUsage",
  "usage",
];
const pick = (object, keys) => Object.fromEntries(keys.map((key) => [key, object[key]]));
const byName = (list, key) => list.toSorted((a, b) => a[key].localeCompare(b[key]));
const withoutTimes = ({ startedAt, endedAt, owner, ...rest }) => rest;

/**
 * The client's `modelUsage` is everything that it requested, including subagents: in this process or,
 * if it writes cost-state records, in the whole session and what a fork inherits. Its `usage` is the
 * main chain of this process alone.
 */
function assertClientAgrees(metadata, turns) {
  const results = turns.map((turn) => turn.result);
  const models = new Map();
  for (const { modelUsage } of CHARGES_ARE_CUMULATIVE ? results.slice(-1) : results)
    for (const [name, figures] of Object.entries(modelUsage)) {
      const model = name.replace(/\[1m\]$/, ""); // the suffix marks a larger context window
      models.set(model, total([models.get(model) ?? NOTHING, figures]));
    }
  const reported = [...models].map(([model, usage]) => ({ model, ...usage }));
  const tokens = ({ model, ...usage }) => ({ model, ...total([usage]) });
  const counted = metadata.usageByModel.map(tokens);
  if (CHARGES_ARE_CUMULATIVE && metadata.inheritedUsage) {
    assert.equal(counted.length, 1);
    counted[0] = {
      ...total([counted[0], metadata.inheritedUsage]),
      model: counted[0].model,
    };
  }
  assert.deepEqual(byName(counted, "model"), byName(reported, "model"));

  // If subagents run in the background, `usage` is only that of the turn after the last of them.
  if (CHARGES_ARE_CUMULATIVE && metadata.subagents > 0) return;
  const mainChain = results.map((result) => fromWire(result.usage));
  const subagents = usageOf(
    turns.flatMap((turn) => turn.messages).filter((message) => message.subagent),
  );
  assert.deepEqual(metadata.usage, total([...mainChain, subagents]));
}

/**
 * If the client reports its charge, the record's cost equals it to the last digit. Earlier clients
 * use the prices of their time. A fork's charge includes its parent's.
 */
function assertCostAgrees(metadata, result, inherited = 0) {
  if (!CHARGES_ARE_CUMULATIVE) return assert.notEqual(metadata.costSource, "client");
  if (inherited === 0) {
    assert.equal(metadata.costUsd, result.total_cost_usd);
    for (const [name, { costUSD }] of Object.entries(result.modelUsage)) {
      const model = name.replace(/\[1m\]$/, "");
      const counted = metadata.usageByModel.find((usage) => usage.model === model);
      // If a session has only one model, that model has the session's cost.
      const { length } = metadata.usageByModel;
      assert.equal(length === 1 ? metadata.costUsd : counted.costUsd, costUSD);
    }
  } else {
    // A difference of two floating-point numbers is exact only to their precision.
    assert.ok(Math.abs(metadata.costUsd + inherited - result.total_cost_usd) < 1e-12);
  }
}

const NOTHING = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadInputTokens: 0,
  cacheCreationInputTokens: 0,
};
const fromWire = (usage) => ({
  inputTokens: usage.input_tokens,
  outputTokens: usage.output_tokens,
  cacheReadInputTokens: usage.cache_read_input_tokens,
  cacheCreationInputTokens: usage.cache_creation_input_tokens,
});
const total = (usages) =>
  Object.fromEntries(
    Object.keys(NOTHING).map((key) => [key, usages.reduce((sum, usage) => sum + usage[key], 0)]),
  );
const usageOf = (messages) => total(messages.map((message) => fromWire(message.usage)));

async function listed(lab, filter = {}) {
  const { page } = await lab.query("agents:listAgentSessions", {
    paginationOpts: { numItems: 100, cursor: null },
    ...filter,
  });
  return page;
}

/** The client lists the plugin's skill to the model, with its description. */
const SKILL = /- convex-sidecar:sessions: [^"\\]*/g;
const namesTheSidecar = (body) => /convex|sidecar/i.test(body.replace(SKILL, ""));

/**
 * The client waits for its SessionStart hooks before it calls the model, so after this none is
 * running.
 */
async function waitForPrompt(lab, prompt) {
  for (let attempt = 0; attempt < 200; attempt++, await sleep(50))
    if (lab.requestsToModel.some((body) => body.includes(prompt))) return;
  assert.fail("the client did not call the model");
}
