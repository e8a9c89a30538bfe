// Failing runs of the real client that keep no transcript, on a busy machine. Only StopFailure
// reports such a failure, and the client kills this hook within milliseconds. Every run must be
// recorded as failed, with its error. The same runs without hooks are timed for comparison.
// CLIENT_TEST_RUNS sets how many runs there are of each.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { CLIENT, startLab } from "./lab.mjs";

const RUNS = Number(process.env.CLIENT_TEST_RUNS ?? 5);
/** StopFailure is known from this version on. */
const SINCE = "2.1.78";
const isKnown = CLIENT.localeCompare(SINCE, "en", { numeric: true }) >= 0;
const BUSY_PROCESSES = 2;

const INSTALLATIONS = {
  "a settings file": { settings: "user", stopFailure: true },
  "a plugin": { plugin: true, stopFailure: true },
  nothing: {},
};

let busy = [];
before(() => {
  const loop = ["-e", "for (;;);"];
  const start = () => spawn(process.execPath, loop, { stdio: "ignore" });
  busy = Array.from({ length: BUSY_PROCESSES }, start);
});
after(() => busy.forEach((child) => child.kill("SIGKILL")));

test(
  `client ${CLIENT}: ${RUNS} failing runs without a transcript are failed, with their error`,
  { skip: !isKnown && `client ${CLIENT} does not know StopFailure` },
  async (context) => {
    const labs = {};
    try {
      for (const [name, hooks] of Object.entries(INSTALLATIONS)) labs[name] = await startLab(hooks);
      const times = Object.fromEntries(Object.keys(labs).map((name) => [name, []]));
      const errors = {};
      // In turn, so that the load is the same for all.
      for (let run = 0; run < RUNS; run++)
        for (const [name, lab] of Object.entries(labs)) {
          const started = performance.now();
          const { code, result } = await lab.claude("FAILNOW", "--no-session-persistence");
          times[name].push(performance.now() - started);
          assert.equal(code, 1);
          errors[result.session_id] = { name, error: result.result };
        }
      for (const [name, of] of Object.entries(times)) context.diagnostic(`${name}: ${summary(of)}`);

      const wrong = [];
      for (const [sessionId, { name, error }] of Object.entries(errors)) {
        if (name === "nothing") continue;
        const row = await labs[name].query("agents:getAgentSession", { sessionId });
        const recorded = row && {
          status: row.status,
          error: row.error,
          input: row.input,
          prompts: row.metadata.prompts,
          transcript: row.metadata.transcript.state,
        };
        const expected = {
          status: "failed",
          error,
          input: "FAILNOW",
          prompts: 1,
          transcript: "missing",
        };
        if (JSON.stringify(recorded) !== JSON.stringify(expected))
          wrong.push({ name, recorded, expected });
      }
      assert.deepEqual(wrong, [], `${wrong.length} of ${2 * RUNS} runs`);
    } finally {
      Object.values(labs).forEach((lab) => lab.stop());
    }
  },
);

function summary(milliseconds) {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const seconds = (at) => (sorted[Math.floor(at * (sorted.length - 1))] / 1000).toFixed(2);
  return `median ${seconds(0.5)} s, worst ${seconds(1)} s of ${sorted.length} runs`;
}
