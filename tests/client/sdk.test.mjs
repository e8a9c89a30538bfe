// Sessions that the Agent SDKs start, with the Claude Code that each SDK brings. The record has to
// agree with the SDK's own result messages and with what the stand-in for the Messages API charged.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { tsImport } from "tsx/esm/api";
import { startLab } from "./lab.mjs";

const repository = resolve(import.meta.dirname, "../..");
const examples = join(repository, "examples");
const PYTHON = join(repository, "target/agent-sdk/bin/python");
const sdk = await import(
  join(examples, "agent-sdk-typescript/node_modules/@anthropic-ai/claude-agent-sdk/sdk.mjs")
);
const ANSWER = "Done. FINAL ANSWER 42.";
const STARTED = { source: "startup", reason: "other", endedBy: "hook" };
const RESUMED = { ...STARTED, source: "resume" };
const FORKED = { ...STARTED, source: "fork" };
/** What the SDK asks for before it runs tools without a question. */
const UNATTENDED = { permissionMode: "bypassPermissions", allowDangerouslySkipPermissions: true };

/** Where an agent that reads no settings gets the hooks from. */
const isolatedWays = (lab) => {
  const file = join(lab.env.HOME, "agent/settings.json");
  const hooks = JSON.parse(readFileSync(file, "utf8"));
  return {
    "a settings file": { settings: file },
    "settings as an object": { settings: hooks, json: JSON.stringify(hooks) },
    "a plugin": { plugins: [{ type: "local", path: repository }] },
    "an argument of the client": { extraArgs: { settings: JSON.stringify(hooks) } },
  };
};

async function labWithAgentFolder(hooks) {
  const lab = await startLab(hooks);
  await lab.sidecar("install", "--claude-config-dir", join(lab.env.HOME, "agent"));
  // Some functions of the SDK look for sessions below the home of this process.
  process.env.CLAUDE_CONFIG_DIR = join(lab.env.HOME, ".claude");
  return lab;
}

describe("TypeScript SDK", () => {
  let lab, Agent, isolated;
  before(async () => {
    lab = await labWithAgentFolder({ settings: "user" });
    const example = join(examples, "agent-sdk-typescript/agent.ts");
    ({ Agent, isolated } = await tsImport(example, import.meta.url));
  });
  after(() => lab?.stop());

  const options = (more) => ({ cwd: lab.cwd, env: lab.env, ...UNATTENDED, ...more });
  /** Runs prompts, one after the result of the other, and returns the results. */
  async function run(prompts, more) {
    const results = [];
    let answered;
    async function* input() {
      for (const content of prompts) {
        const result = new Promise((next) => (answered = next));
        yield { type: "user", message: { role: "user", content }, parent_tool_use_id: null };
        await result;
      }
    }
    const prompt = typeof prompts === "string" ? prompts : input();
    for await (const message of sdk.query({ prompt, options: options(more) }))
      if (message.type === "result") {
        results.push(message);
        answered?.();
      }
    return results;
  }

  test("the example names its agent and its workflow", async () => {
    const from = lab.messages.length;
    const agent = new Agent("reviewer", "review-1", options());
    const result = await agent.run("say hello");
    const row = await assertRecorded(lab, [result], from, { input: "say hello", runs: [STARTED] });
    assert.equal(row.agentType, "reviewer");
    assert.ok(row.metadata.workflowId);
    const workflow = JSON.parse(await lab.sidecar("workflow", "list", "--json"));
    assert.equal(workflow.key ?? workflow.workflowId, "review-1", JSON.stringify(workflow));
  });

  test("a stream of two prompts is one session", async () => {
    const from = lab.messages.length;
    const results = await run(["say hello", "RUNTWO"]);
    await assertRecorded(lab, results, from, { input: "say hello", prompts: 2, runs: [STARTED] });
  });

  test("an interrupted session is recorded once", async () => {
    const from = lab.messages.length;
    const results = [];
    let end;
    const done = new Promise((resolve) => (end = resolve));
    async function* input() {
      for (const content of ["HANGNOW one"]) {
        yield { type: "user", message: { role: "user", content }, parent_tool_use_id: null };
      }
      await done;
    }
    const query = sdk.query({ prompt: input(), options: options() });
    const interrupted = waitForPrompt(lab, "HANGNOW one").then(() => query.interrupt());
    for await (const message of query)
      if (message.type === "result") {
        results.push(message);
        end();
      }
    await interrupted;
    await assertRecorded(lab, results, from, {
      status: "abandoned",
      output: undefined,
      runs: [STARTED],
    });
  });

  test("an aborted session is recorded once", async () => {
    const abortController = new AbortController();
    const before = (await listed(lab)).map((row) => row.sessionId);
    const query = sdk.query({ prompt: "HANGNOW two", options: options({ abortController }) });
    const aborted = waitForPrompt(lab, "HANGNOW two").then(() => abortController.abort());
    await assert.rejects(async () => {
      for await (const message of query) void message;
    });
    await aborted;
    const row = await eventually(async () => {
      await lab.sidecar("sync");
      const rows = await listed(lab);
      const [row, ...others] = rows.filter((row) => !before.includes(row.sessionId));
      assert.deepEqual(others, []);
      assert.equal(row?.status, "abandoned");
      return row;
    });
    assert.equal(row.input, "HANGNOW two");
    assert.equal(row.metadata.runs.length, 1);
  });

  test("a resumed and continued session is one session with three runs", async () => {
    const from = lab.messages.length;
    const [first] = await run("say hello");
    const [second] = await run("RUNTWO", { resume: first.session_id });
    const [third] = await run("say hello", { continue: true });
    assert.equal(third.session_id, first.session_id);
    await assertRecorded(lab, [first, second, third], from, {
      input: "say hello",
      prompts: 3,
      runs: [STARTED, RESUMED, RESUMED],
    });
  });

  test("a fork counts only what it adds", async () => {
    const [parent] = await run("say hello");
    const from = lab.messages.length;
    const [child] = await run("RUNTWO", { resume: parent.session_id, forkSession: true });
    assert.notEqual(child.session_id, parent.session_id);
    await assertRecorded(lab, [child], from, {
      input: "RUNTWO",
      forkedFrom: parent.session_id,
      cost: child.total_cost_usd - parent.total_cost_usd,
      runs: [FORKED],
    });
  });

  test("a fork by forkSession() counts only what it adds", async () => {
    const [parent] = await run("say hello");
    const from = lab.messages.length;
    const { sessionId } = await sdk.forkSession(parent.session_id, { dir: lab.cwd });
    const [child] = await run("RUNTWO", { resume: sessionId });
    assert.equal(child.session_id, sessionId);
    await assertRecorded(lab, [child], from, {
      input: "RUNTWO",
      forkedFrom: parent.session_id,
      runs: [RESUMED],
    });
  });

  test("a process that startup() made and nobody used leaves nothing running", async () => {
    const before = await listed(lab);
    const warm = await sdk.startup({ options: options() });
    warm.close();
    await sleep(1_000);
    await lab.sidecar("sync");
    const rows = await listed(lab);
    assert.equal(rows.length, before.length);
    assert.deepEqual(rows.filter((row) => row.status === "running"), []);
  });

  test("a session that is resumed from a session store is one session", async () => {
    const from = lab.messages.length;
    const sessionStore = new sdk.InMemorySessionStore();
    const [first] = await run("say hello", { sessionStore });
    const [second] = await run("RUNTWO", { sessionStore, resume: first.session_id });
    assert.equal(second.session_id, first.session_id);
    await assertRecorded(lab, [first, second], from, {
      input: "say hello",
      prompts: 2,
      runs: [STARTED, RESUMED],
    });
  });

  for (const way of ["a settings file", "settings as an object", "a plugin", "an argument of the client"])
    test(`without setting sources, hooks from ${way} record a session once`, async () => {
      const from = lab.messages.length;
      const { json, ...more } = isolatedWays(lab)[way];
      const base = more.settings ? isolated(more.settings) : { settingSources: [], ...more };
      const [result] = await run("say hello", base);
      await assertRecorded(lab, [result], from, { input: "say hello", runs: [STARTED] });
    });

  test("without setting sources and without hooks nothing is recorded", async () => {
    const before = await listed(lab);
    const calls = [];
    const callback = (input) => (calls.push(input.hook_event_name), Promise.resolve({}));
    const events = ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"];
    const hooks = Object.fromEntries(events.map((event) => [event, [{ hooks: [callback] }]]));
    await run("say hello", { settingSources: [], hooks });
    assert.equal((await listed(lab)).length, before.length);
    // Why there is a sidecar: callbacks in the process of the SDK never hear of a session's ends.
    assert.deepEqual(calls, ["UserPromptSubmit", "Stop"]);
  });
});

describe("Python SDK", () => {
  let lab;
  before(async () => (lab = await labWithAgentFolder({ settings: "user" })));
  after(() => lab?.stop());

  /** Runs a scenario of sdk_driver.py and returns the result messages. */
  async function run(scenario, input = {}) {
    const python = spawn(PYTHON, [join(import.meta.dirname, "sdk_driver.py"), scenario], {
      cwd: lab.cwd,
      env: lab.env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    python.stdin.end(JSON.stringify(input));
    let text = "";
    for await (const part of python.stdout) text += part;
    const lines = text.trim().split("\n");
    return lines.filter(Boolean).map((line) => JSON.parse(line));
  }

  test("the example names its agent and its workflow", async () => {
    const from = lab.messages.length;
    const results = await run("example");
    const row = await assertRecorded(lab, results, from, { input: "say hello", runs: [STARTED] });
    assert.equal(row.agentType, "reviewer");
    assert.ok(row.metadata.workflowId);
  });

  test("two prompts to one client are one session", async () => {
    const from = lab.messages.length;
    const results = await run("client");
    await assertRecorded(lab, results, from, { input: "say hello", prompts: 2, runs: [STARTED] });
  });

  test("an interrupted session is recorded once", async () => {
    const from = lab.messages.length;
    const results = await run("interrupt");
    await assertRecorded(lab, results, from, {
      status: "abandoned",
      output: undefined,
      runs: [STARTED],
    });
  });

  test("a resumed and continued session is one session with three runs", async () => {
    const from = lab.messages.length;
    const results = await run("resume");
    await assertRecorded(lab, results, from, {
      input: "say hello",
      prompts: 3,
      runs: [STARTED, RESUMED, RESUMED],
    });
  });

  test("a fork counts only what it adds", async () => {
    const from = lab.messages.length;
    const [parent, child] = await run("fork");
    const own = from + parent.messages;
    await assertRecorded(lab, [child], own, {
      input: "RUNTWO",
      forkedFrom: parent.session_id,
      cost: child.total_cost_usd - parent.total_cost_usd,
      runs: [FORKED],
    });
  });

  for (const way of ["a settings file", "settings as an object", "a plugin", "an argument of the client"])
    test(`without setting sources, hooks from ${way} record a session once`, async () => {
      const from = lab.messages.length;
      const { json, settings, plugins, extraArgs } = isolatedWays(lab)[way];
      const input = { settings: json ?? settings, plugins, extra_args: extraArgs };
      const results = await run("isolated", input);
      await assertRecorded(lab, results, from, { input: "say hello", runs: [STARTED] });
    });
});

/**
 * Compares the row of one session with the result messages of its runs and with what the API charged
 * from message `from` on.
 */
async function assertRecorded(lab, results, from, expected) {
  const last = results.at(-1);
  assert.ok(last, "the SDK gave no result");
  const sessionId = last.session_id;
  const row = await lab.query("agents:getAgentSession", { sessionId });
  assert.ok(row, `no row of session ${sessionId}`);
  assert.equal((await listed(lab)).filter((row) => row.sessionId === sessionId).length, 1);
  const { metadata } = row;
  const messages = lab.messages.slice(from);
  assert.deepEqual(
    {
      input: row.input,
      output: row.output,
      status: row.status,
      prompts: metadata.prompts,
      apiMessages: metadata.apiMessages,
      usage: pickTokens(metadata.usage),
      forkedFrom: metadata.forkedFrom,
      runs: metadata.runs.map(({ source, reason, endedBy }) => ({ source, reason, endedBy })),
    },
    {
      input: expected.input ?? row.input,
      output: "output" in expected ? expected.output : ANSWER,
      status: expected.status ?? "completed",
      prompts: expected.prompts ?? 1,
      apiMessages: messages.length,
      usage: total(messages.map((message) => message.usage)),
      forkedFrom: expected.forkedFrom,
      runs: expected.runs,
    },
  );
  if (row.output) assert.equal(row.output, last.result);
  const cost = expected.cost ?? last.total_cost_usd;
  // A difference of two floating-point numbers is exact only to their precision.
  if (messages.length > 0)
    assert.ok(Math.abs(metadata.costUsd - cost) < 1e-12, `${metadata.costUsd} is not ${cost}`);
  return row;
}

const TOKENS = {
  inputTokens: "input_tokens",
  outputTokens: "output_tokens",
  cacheReadInputTokens: "cache_read_input_tokens",
  cacheCreationInputTokens: "cache_creation_input_tokens",
};
const total = (usages) =>
  Object.fromEntries(
    Object.entries(TOKENS).map(([ours, theirs]) => [
      ours,
      usages.reduce((sum, usage) => sum + usage[theirs], 0),
    ]),
  );
const pickTokens = (usage) =>
  Object.fromEntries(Object.keys(TOKENS).map((name) => [name, usage?.[name] ?? 0]));

async function listed(lab) {
  const { page } = await lab.query("agents:listAgentSessions", {
    paginationOpts: { numItems: 100, cursor: null },
  });
  return page;
}

async function waitForPrompt(lab, prompt) {
  for (let attempt = 0; attempt < 400; attempt++, await sleep(50))
    if (lab.requestsToModel.some((body) => body.includes(prompt))) return;
  assert.fail("the client did not call the model");
}

/** Repeats what a process that ends on its own makes true. */
async function eventually(check) {
  for (let attempt = 0; ; attempt++, await sleep(250))
    try {
      return await check();
    } catch (error) {
      if (attempt > 40) throw error;
    }
}
