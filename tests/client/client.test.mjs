// The captured fixtures say what Claude Code did once; this says what happens today between it and the sidecar, with the real client in every
// way of attaching the hooks. A session is told three times by parties that know nothing of each other – the client's own JSON result, the
// bill of the Messages API's stand-in, the row in Convex – and they have to agree to the token.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startLab } from "./lab.mjs";

const ANSWER = "Done. FINAL ANSWER 42.";
const STARTED = { source: "startup", reason: "other", endedBy: "hook" };
const RESUMED = { ...STARTED, source: "resume" };
const bash = (calls, errors = 0) => ({ name: "Bash", calls, errors });
const CLIENT_VERSION = "2.1.197";

const WAYS = {
  "a plugin": { plugin: true },
  "a settings file": { settings: "user" },
  "a plugin and a settings file at once": { plugin: true, settings: "user" },
};

for (const [name, hooks] of Object.entries(WAYS))
  describe(`hooks from ${name}`, () => {
    const sessions = new Set();
    let lab;
    before(async () => (lab = await startLab(hooks)));
    after(() => lab?.stop());

    async function claude(...args) {
      const turn = await lab.claude(...args);
      sessions.add(turn.result.session_id);
      return turn;
    }

    test("the client finds no fault with the plugin", { skip: !hooks.plugin }, async () => {
      const { code, stdout, stderr } = await lab.validatePlugin();
      assert.equal(code, 0, stdout + stderr);
    });

    test("print mode", async () => {
      const turn = await claude("say hello");
      const row = await assertRecorded(lab, [turn], { input: "say hello", output: ANSWER, tools: [bash(1)], runs: [STARTED] });
      assert.equal(row.agentType, "claude-code");
      assert.equal(row.metadata.cwd, lab.cwd);
      assert.equal(row.metadata.entrypoint, "sdk-cli");
      assert.equal(row.metadata.clientVersion, CLIENT_VERSION);
      assert.equal(row.metadata.permissionMode, "bypassPermissions");
    });

    test("two tools in one message, one of which fails", async () => {
      const turn = await claude("RUNTWO");
      await assertRecorded(lab, [turn], { output: ANSWER, tools: [bash(2, 1)], runs: [STARTED] });
    });

    test("a subagent with a model of its own", async () => {
      const turn = await claude("RUNSUB");
      const tools = [{ name: "Agent", calls: 1, errors: 0 }, bash(1)];
      const row = await assertRecorded(lab, [turn], { output: ANSWER, tools, subagents: 1, runs: [STARTED] });
      assert.equal(row.metadata.usageByModel.length, 2);
    });

    test("an API error", async () => {
      const error = "API Error: 400 mock says no";
      const turn = await claude("FAILNOW");
      assert.equal(turn.code, 1);
      assert.equal(turn.result.result, error);
      await assertRecorded(lab, [turn], { status: "failed", error, tools: [], runs: [STARTED] });
    });

    test("a session that is resumed, also after an error", async () => {
      const first = await claude("say hello");
      const id = first.result.session_id;
      const failed = await claude("FAILNOW", "--resume", id);
      const third = await claude("RUNTWO", "--resume", id);
      const expected = { input: "say hello", output: ANSWER, prompts: 3, tools: [bash(3, 1)], runs: [STARTED, RESUMED, RESUMED] };
      await assertRecorded(lab, [first, failed, third], expected);
    });

    test("a fork", async () => {
      const parent = await claude("say hello");
      const child = await claude("RUNTWO", "--resume", parent.result.session_id, "--fork-session");
      assert.notEqual(child.result.session_id, parent.result.session_id);
      const runs = [STARTED, { source: "resume", endedBy: "superseded" }];
      await assertRecorded(lab, [parent], { input: "say hello", output: ANSWER, tools: [bash(1)], runs });
      await assertRecorded(lab, [child], {
        input: "RUNTWO",
        output: ANSWER,
        tools: [bash(2, 1)],
        inheritedUsage: usageOf(parent.messages),
        runs: [{ reason: "other", endedBy: "hook" }],
      });
    });

    test("each session is there once, and sync finds nothing left to send", async () => {
      assert.deepEqual((await listed(lab)).map((row) => row.sessionId).sort(), [...sessions].sort());
      const before = await lab.calls();
      await lab.sidecar("sync");
      assert.deepEqual(await lab.calls(), before);
    });

    test("a client that is killed", async () => {
      const client = lab.startClaude("HANGNOW");
      await untilAsked(lab, "HANGNOW").finally(() => client.kill("SIGKILL"));
      await client.finished.catch(() => "it could not give a result");
      const [running] = await listed(lab, { status: "running" });
      assert.deepEqual(running.metadata.runs.map((run) => run.owner?.pid), [client.pid]);
      await lab.sidecar("sync");
      const row = await lab.query("agents:getAgentSession", { sessionId: running.sessionId });
      assert.equal(row.status, "abandoned");
      assert.deepEqual(row.metadata.runs.map(howItWent), [{ source: "startup", endedBy: "swept" }]);
    });

    test("the model hears nothing of it", () => {
      assert.ok(lab.requestsToModel.length > 10);
      assert.deepEqual(lab.requestsToModel.filter((body) => /convex|sidecar/i.test(body)), []);
    });
  });

const PLACES = {
  "the project's settings": { settings: "project" },
  "the local settings": { settings: "local" },
  "a plugin of the marketplace": { installedPlugin: true },
  "a plugin of the marketplace and the project's settings at once": { installedPlugin: true, settings: "project" },
};

for (const [name, hooks] of Object.entries(PLACES))
  test(`hooks from ${name} record a session once, and doctor sees them`, async () => {
    const lab = await startLab(hooks);
    try {
      const turn = await lab.claude("say hello");
      await assertRecorded(lab, [turn], { input: "say hello", output: ANSWER, tools: [bash(1)], runs: [STARTED] });
      assert.equal((await listed(lab, {})).length, 1);
      const checks = (await lab.sidecar("doctor", "--json")).trim().split("\n").map((line) => JSON.parse(line));
      const found = checks.filter((check) => check.name === "hooks");
      assert.equal(found.length, 1, JSON.stringify(found));
      assert.equal(found[0].mark, Object.keys(hooks).length > 1 ? "warning" : "ok");
      assert.equal(found[0].says.includes("the plugin convex-sidecar@convex-sidecar"), "installedPlugin" in hooks);
      assert.equal(found[0].says.includes("/project/.claude/settings."), "settings" in hooks);
    } finally {
      lab.stop();
    }
  });

test("a command of the client that starts no session leaves none, though it runs the hooks of its end", async () => {
  const lab = await startLab({ settings: "user" });
  try {
    assert.equal((await lab.client("mcp", "list")).code, 0);
    assert.deepEqual(await listed(lab, {}), []);
    assert.equal(await lab.sidecar("sessions", "--json"), "");
  } finally {
    lab.stop();
  }
});

test("a plugin without the program is told to the user and not to the model", async () => {
  const lab = await startLab({ plugin: true, absent: true });
  try {
    const { code, result, events } = await lab.claude("say hello", "--output-format", "stream-json", "--verbose", "--include-hook-events");
    assert.equal(code, 0);
    assert.equal(result.result, ANSWER);
    const answers = events.filter((event) => event.subtype === "hook_response");
    assert.deepEqual(answers.map(({ hook_event, exit_code, stderr }) => ({ hook_event, exit_code, stderr })).slice(0, 1), [
      { hook_event: "SessionStart", exit_code: 0, stderr: "" },
    ]);
    assert.match(JSON.parse(answers[0].stdout).systemMessage, /^convex-sidecar is not installed/);
    assert.deepEqual(answers.slice(1).filter((event) => event.stdout || event.stderr || event.exit_code), []);
    assert.deepEqual(lab.requestsToModel.filter((body) => /convex|sidecar/i.test(body)), []);
  } finally {
    lab.stop();
  }
});

/** Compares what Convex and the sidecar hold with what the client reported and the API charged for all turns of one session. */
async function assertRecorded(lab, turns, expected) {
  const sessionId = turns[0].result.session_id;
  const row = await lab.query("agents:getAgentSession", { sessionId });
  assert.ok(row, `no row of session ${sessionId}`);
  const { _id, _creationTime, ...document } = row;
  assert.deepEqual(JSON.parse(await lab.sidecar("show", sessionId, "--json")), document);

  const messages = turns.flatMap((turn) => turn.messages);
  const tools = expected.tools;
  assert.deepEqual(
    { input: row.input, output: row.output, error: row.error, status: row.status, ...pick(row.metadata, FIGURES) },
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
  assert.deepEqual(row.metadata.runs.map(howItWent), expected.runs);
  assert.equal(row.metadata.transcript.state, "complete");
  if (expected.output) assert.equal(row.output, turns.at(-1).result.result);

  assertClientAgrees(row.metadata, turns);
  return row;
}

const FIGURES = ["prompts", "apiMessages", "toolCalls", "toolErrors", "compactions", "subagents", "inheritedUsage", "usage"];
const pick = (object, keys) => Object.fromEntries(keys.map((key) => [key, object[key]]));
const byName = (list, key) => list.toSorted((a, b) => a[key].localeCompare(b[key]));
const howItWent = ({ startedAt, endedAt, owner, ...rest }) => rest;

/**
 * The client reports each process of a session by itself: `modelUsage` is everything this process asked for, subagents included, and `usage`
 * the main chain alone. Neither contains what a resumed or forked transcript brought along.
 */
function assertClientAgrees(metadata, turns) {
  const models = new Map();
  for (const [name, figures] of turns.flatMap((turn) => Object.entries(turn.result.modelUsage))) {
    const model = name.replace(/\[1m\]$/, ""); // the client marks its larger context window in the name
    models.set(model, total([models.get(model) ?? NOTHING, figures]));
  }
  const reported = [...models].map(([model, usage]) => ({ model, ...usage }));
  assert.deepEqual(byName(metadata.usageByModel, "model"), byName(reported, "model"));

  const mainChain = turns.map((turn) => fromWire(turn.result.usage));
  const subagents = usageOf(turns.flatMap((turn) => turn.messages).filter((message) => message.subagent));
  assert.deepEqual(metadata.usage, total([...mainChain, subagents]));
}

const NOTHING = { inputTokens: 0, outputTokens: 0, cacheReadInputTokens: 0, cacheCreationInputTokens: 0 };
const fromWire = (usage) => ({
  inputTokens: usage.input_tokens,
  outputTokens: usage.output_tokens,
  cacheReadInputTokens: usage.cache_read_input_tokens,
  cacheCreationInputTokens: usage.cache_creation_input_tokens,
});
const total = (usages) =>
  Object.fromEntries(Object.keys(NOTHING).map((key) => [key, usages.reduce((sum, usage) => sum + usage[key], 0)]));
const usageOf = (messages) => total(messages.map((message) => fromWire(message.usage)));

async function listed(lab, filter = {}) {
  const { page } = await lab.query("agents:listAgentSessions", { paginationOpts: { numItems: 100, cursor: null }, ...filter });
  return page;
}

/** The client waits for the hooks of a session's start before it asks the model, so from then on nothing of theirs is under way. */
async function untilAsked(lab, prompt) {
  for (let attempt = 0; attempt < 200; attempt++, await sleep(50))
    if (lab.requestsToModel.some((body) => body.includes(prompt))) return;
  assert.fail("the client did not ask the model");
}
