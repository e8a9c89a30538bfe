// Checks that the table of prices (src/record/prices.csv) is the client's own list. Each of its
// models runs one session of the real client, whose requests use tokens of every kind, fast mode,
// another region and long prompts. The estimate for the session has to be the client's
// `total_cost_usd`. If they differ, each request runs alone, and both figures are printed. That is
// how to measure the prices of a newer client.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { CLIENT, startLab } from "./lab.mjs";

/** How many clients run side by side. */
const PARALLEL = 3;
const TABLE = resolve(import.meta.dirname, "../../src/record/prices.csv");
const MODELS = readFileSync(TABLE, "utf8")
  .split("\n")
  .filter((line) => line && !line.startsWith("#"))
  .map((line) => line.split(",")[0]);
/** `MODEL=claude-opus-5-5` measures only that one, of the table or not. */
const { MODEL } = process.env;
/** IDs that stand for a model of the table. */
const OTHER_IDS = ["claude-haiku-4-5-20251001"];

const kinds = (input, output, read, fiveMinutes, hour) => ({
  input_tokens: input,
  output_tokens: output,
  cache_read_input_tokens: read,
  cache_creation_input_tokens: fiveMinutes + hour,
  cache_creation: { ephemeral_5m_input_tokens: fiveMinutes, ephemeral_1h_input_tokens: hour },
});
const searches = (count) => ({ server_tool_use: { web_search_requests: count } });
/**
 * No two kinds have the same number of tokens, so a wrong price cannot make up for another one.
 * After a long prompt the client compacts the conversation in a separate request, so the long
 * prompt comes last.
 */
const REQUESTS = {
  "all kinds of tokens": kinds(1_009, 2_003, 30_011, 4_001, 5_003),
  "100,000 prompt tokens": kinds(40_000, 17, 30_000, 20_000, 10_000),
  "one prompt token more": kinds(40_000, 19, 30_000, 20_000, 10_001),
  "web searches": { ...kinds(101, 29, 0, 0, 0), ...searches(3) },
  "standard speed, elsewhere": {
    ...kinds(103, 31, 0, 0, 0),
    speed: "standard",
    inference_geo: "global",
  },
  "fast mode": { ...kinds(1_013, 2_011, 30_013, 4_003, 5_009), speed: "fast" },
  "in the US": { ...kinds(1_019, 2_017, 30_029, 4_007, 5_011), inference_geo: "us" },
  "fast, in the US, with searches": {
    ...kinds(1_021, 2_027, 30_031, 4_013, 5_021),
    ...searches(2),
    speed: "fast",
    inference_geo: "us",
  },
  "fast, with a long prompt": { ...kinds(200_003, 41, 300_007, 50_021, 100_003), speed: "fast" },
};

let lab;
before(async () => (lab = await startLab({})));
after(() => lab?.stop());

test(`the estimate is what client ${CLIENT} charges`, async () => {
  const models = MODEL ? [MODEL] : [...MODELS, ...OTHER_IDS];
  const sessions = models.map((model) => ({ model, names: Object.keys(REQUESTS) }));
  const wrong = (await compare(sessions)).filter(differs);
  const alone = wrong.flatMap(({ model, names }) =>
    names.map((name) => ({ model, names: [name] })),
  );
  for (const { model, names, charged, estimated } of [...wrong, ...(await compare(alone))])
    if (differs({ charged, estimated }))
      console.log(
        `${model}, ${names.length} requests (${names[0]}): ${charged} charged, ${estimated} estimated`,
      );
  assert.deepEqual(
    wrong.map(({ model }) => model),
    [],
  );
});

const differs = ({ charged, estimated }) => !(Math.abs(charged - estimated) < 1e-9);

/** Runs a session for each model and its requests, and adds the client's charge and our estimate. */
async function compare(sessions) {
  const queue = [...sessions];
  const results = [];
  const work = async () => {
    for (let session; (session = queue.shift());) {
      const usages = session.names.map((name) => REQUESTS[name]);
      const { result } = await lab.claude(
        `USAGES ${JSON.stringify(usages)}`,
        "--model",
        session.model,
      );
      results.push({ ...session, id: result.session_id, charged: result.total_cost_usd });
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  const estimates = await estimate(results.map(({ id }) => id));
  return results.map((session) => ({ ...session, estimated: estimates.get(session.id) }));
}

/** The costs of these sessions by the table, without the client's own figures, which would take precedence. */
async function estimate(ids) {
  const projects = join(lab.home, ".claude/projects");
  const copies = join(lab.home, "without cost-state");
  mkdirSync(copies, { recursive: true });
  for (const folder of readdirSync(projects))
    for (const id of ids) {
      const file = join(projects, folder, `${id}.jsonl`);
      const lines = readFileSync(file, "utf8").split("\n");
      const kept = lines.filter((line) => !line.startsWith('{"type":"cost-state"'));
      writeFileSync(join(copies, `${id}.jsonl`), kept.join("\n"));
    }
  await lab.sidecar("import", copies);
  const documents = [];
  for (const id of ids) documents.push(JSON.parse(await lab.sidecar("show", id, "--json")));
  return new Map(
    documents.map(({ sessionId, metadata }) => {
      assert.equal(metadata.costSource, "estimate", sessionId);
      return [sessionId, metadata.costUsd];
    }),
  );
}
