// Sessions that the Agent SDKs start, with the Claude Code that each SDK bundles. The record has to
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
/** The option that the SDK requires for running tools without asking. */
const UNATTENDED = { permissionMode: "bypassPermissions", allowDangerouslySkipPermissions: true };

const WAYS = ["a settings file", "settings as an object", "a plugin", "an argument of the client"];
/** The ways in which an agent that reads no settings gets the hooks. */
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

const userMessage = (content) => ({
  type: "user",
  message: { role: "user", content },
  parent_tool_use_id: null,
});

async function labWithAgentFolder(hooks) {
  const lab = await startLab(hooks);
  await lab.sidecar("install", "--claude-config-dir", join(lab.env.HOME, "agent"));
  return lab;
}

/** The two run side by side, because most of a session is waiting for a client to start. */
describe("Agent SDKs", { concurrency: 2 }, () => {
  describe("TypeScript SDK", { concurrency: 1 }, () => {
    let lab, Agent, isolated;
    before(async () => {
      lab = await labWithAgentFolder({ settings: "user" });
      // Some functions of the SDK search for sessions below the home of this process.
      process.env.CLAUDE_CONFIG_DIR = join(lab.env.HOME, ".claude");
      const example = join(examples, "agent-sdk-typescript/agent.ts");
      ({ Agent, isolated } = await tsImport(example, import.meta.url));
    });
    after(() => lab?.stop());

    const options = (more) => ({ cwd: lab.cwd, env: lab.env, ...UNATTENDED, ...more });
    /** Runs prompts, each after the result of the one before, and returns the results. */
    async function run(prompts, more) {
      const results = [];
      let answered;
      async function* input() {
        for (const content of prompts) {
          const result = new Promise((next) => (answered = next));
          yield userMessage(content);
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
      const row = await assertRecorded(lab, [result], from, {
        input: "say hello",
        runs: [STARTED],
      });
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
        yield userMessage("HANGNOW one");
        await done;
      }
      const query = sdk.query({ prompt: input(), options: options() });
      const interrupted = waitForPrompt(lab, "HANGNOW one").then(() => query.interrupt());
      // Since the turn has no answer, the SDK throws after the result.
      await assert.rejects(async () => {
        for await (const message of query)
          if (message.type === "result") {
            results.push(message);
            end();
          }
      }, /error result/);
      await interrupted;
      await assertRecorded(lab, results, from, {
        input: "HANGNOW one",
        status: "abandoned",
        output: undefined,
        runs: [STARTED],
      });
    });

    test("an aborted session is recorded once", async () => {
      const abortController = new AbortController();
      const before = await ids(lab);
      const query = sdk.query({ prompt: "HANGNOW two", options: options({ abortController }) });
      const aborted = waitForPrompt(lab, "HANGNOW two").then(() => abortController.abort());
      await assert.rejects(async () => {
        for await (const message of query) void message;
      });
      await aborted;
      await assertAbandoned(lab, before, "HANGNOW two");
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

    test("an unused process made by startup() leaves nothing running", async () => {
      const before = await ids(lab);
      const warm = await sdk.startup({ options: options() });
      warm.close();
      await eventually(async () => {
        await lab.sidecar("sync");
        const added = (await listed(lab)).filter((row) => !before.includes(row.sessionId));
        // The row is kept; `sessions` hides it, because it has no prompt.
        assert.deepEqual(
          added.map(({ status, input, metadata }) => [status, input, metadata.prompts]),
          [["completed", undefined, 0]],
        );
        const shown = await lab.sidecar("sessions", "--json");
        assert.ok(!shown.includes(added[0].sessionId));
      });
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

    for (const way of WAYS)
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
      // This is why there is a sidecar: callbacks in the SDK's process are never called when a
      // session starts or ends.
      assert.deepEqual(calls, ["UserPromptSubmit", "Stop"]);
    });
  });

  describe("Python SDK", { concurrency: 1 }, () => {
    let lab;
    before(async () => (lab = await labWithAgentFolder({ settings: "user" })));
    after(() => lab?.stop());

    /** Runs a scenario of sdk_driver.py and returns the result messages. */
    async function run(scenario, input = {}, whileItRuns = () => undefined) {
      const python = spawn(PYTHON, [join(import.meta.dirname, "sdk_driver.py"), scenario], {
        cwd: lab.cwd,
        env: lab.env,
        stdio: ["pipe", "pipe", "inherit"],
      });
      python.stdin.write(`${JSON.stringify(input)}\n`);
      const told = Promise.resolve(whileItRuns()).then(() => python.stdin.end("go\n"));
      let text = "";
      for await (const part of python.stdout) text += part;
      await told;
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
      const results = await run("interrupt", {}, () => waitForPrompt(lab, "HANGNOW"));
      await assertRecorded(lab, results, from, {
        input: "HANGNOW",
        status: "abandoned",
        output: undefined,
        runs: [STARTED],
      });
    });

    test("a session whose task is canceled is recorded once", async () => {
      const before = await ids(lab);
      await run("abort", {}, () => waitForPrompt(lab, "HANGNOW and more"));
      await assertAbandoned(lab, before, "HANGNOW and more");
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
      const [parent] = await run("once", { prompt: "say hello" });
      const from = lab.messages.length;
      const [child] = await run("once", {
        prompt: "RUNTWO",
        resume: parent.session_id,
        fork_session: true,
      });
      assert.notEqual(child.session_id, parent.session_id);
      await assertRecorded(lab, [child], from, {
        input: "RUNTWO",
        forkedFrom: parent.session_id,
        cost: child.total_cost_usd - parent.total_cost_usd,
        runs: [FORKED],
      });
    });

    test("a session that is resumed from a session store is one session", async () => {
      const from = lab.messages.length;
      const results = await run("store");
      assert.equal(results[1].session_id, results[0].session_id);
      await assertRecorded(lab, results, from, {
        input: "say hello",
        prompts: 2,
        runs: [STARTED, RESUMED],
      });
    });

    for (const way of WAYS)
      test(`without setting sources, hooks from ${way} record a session once`, async () => {
        const from = lab.messages.length;
        const { json, settings, plugins, extraArgs } = isolatedWays(lab)[way];
        const input = { settings: json ?? settings, plugins, extra_args: extraArgs };
        const results = await run("isolated", input);
        await assertRecorded(lab, results, from, { input: "say hello", runs: [STARTED] });
      });
  });
});

/**
 * Compares the row of one session with the result messages of its runs and with what the API charged
 * from message `from` on.
 */
async function assertRecorded(lab, results, from, expected) {
  const last = results.at(-1);
  assert.ok(last, "the SDK gave no result");
  const messages = lab.messages.slice(from);
  const row = await eventually(async () => {
    await lab.sidecar("sync");
    const [row, ...others] = (await listed(lab)).filter((row) => row.sessionId === last.session_id);
    assert.ok(row, `no row of session ${last.session_id}`);
    assert.deepEqual(others, []);
    assertFigures(row, messages, expected);
    return row;
  });
  if (row.output) assert.equal(row.output, last.result);
  // The SDK's own usage is that of the last process; its cost is that of the session so far.
  if (results.length === 1 && row.output)
    assert.deepEqual(pickTokens(row.metadata.usage), total([last.usage]));
  // The SDK counts the model's messages. In later runs of a session it counts one more.
  if (results.length === 1 && row.output && expected.runs[0] === STARTED)
    assert.equal(row.metadata.apiMessages, last.num_turns);
  const cost = expected.cost ?? last.total_cost_usd;
  // A difference of two floating-point numbers is exact only to their precision.
  if (messages.length > 0)
    assert.ok(
      Math.abs(row.metadata.costUsd - cost) < 1e-12,
      `${row.metadata.costUsd} is not ${cost}`,
    );
  return row;
}

function assertFigures(row, messages, expected) {
  const { metadata } = row;
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
      input: expected.input,
      output: "output" in expected ? expected.output : ANSWER,
      status: expected.status ?? "completed",
      prompts: expected.prompts ?? 1,
      apiMessages: messages.length,
      usage: total(messages.map((message) => message.usage)),
      forkedFrom: expected.forkedFrom,
      runs: expected.runs,
    },
  );
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

const ids = async (lab) => (await listed(lab)).map((row) => row.sessionId);

/** A client that the SDK stopped in the middle of a turn gives no result to compare with. */
async function assertAbandoned(lab, before, input) {
  const rows = await eventually(async () => {
    await lab.sidecar("sync");
    const rows = (await listed(lab)).filter((row) => !before.includes(row.sessionId));
    assert.ok(rows.length > 0 && rows.every((row) => row.status !== "running"));
    return rows;
  });
  assert.deepEqual(
    rows.map((row) => [row.status, row.input, row.output, row.metadata.runs.length]),
    [["abandoned", input, undefined, 1]],
  );
}

/** Repeats a check until a process that ends on its own makes it true. */
async function eventually(check) {
  for (let attempt = 0; ; attempt++, await sleep(250))
    try {
      return await check();
    } catch (error) {
      if (attempt > 40) throw error;
    }
}
