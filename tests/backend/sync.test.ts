/**
 * Checks the websocket of the test backend against a real one: every recorded message of the client
 * is sent, and each answer must be the recorded one, except for times, ids and stack traces.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import * as notes from "./notes";
import { startBackend, type Backend } from "./server";

interface Said {
  step: string;
  from?: "client" | "server";
  message?: unknown;
}

const RECORDING = new URL("../fixtures/convex-backend-2026-06-30/sync.json", import.meta.url);
const { messages } = JSON.parse(readFileSync(RECORDING, "utf8")) as { messages: Said[] };

let backend: Backend;
let socket: WebSocket;
const received: unknown[] = [];
let arrived: () => void = () => undefined;

beforeAll(async () => {
  const { schema, ...functions } = notes;
  backend = await startBackend({ schema, modules: { notes: functions } });
  socket = new WebSocket(`${backend.url.replace("http", "ws")}/api/1.48.0/sync`);
  socket.on("message", (data: Buffer) => {
    received.push(JSON.parse(data.toString()));
    arrived();
  });
  await new Promise((resolve) => socket.once("open", resolve));
});

afterAll(async () => {
  socket.close();
  await backend.close();
});

it("answers as recorded", async () => {
  expect(messages.length).toBeGreaterThanOrEqual(20);
  for (const { step, from, message } of messages) {
    if (from === "client") socket.send(JSON.stringify(message));
    if (step === "a mutation elsewhere changes both") await add("one");
    if (from === "server") expect(comparable(await next()), step).toEqual(comparable(message));
  }
});

it("sends nothing when no result has changed", async () => {
  socket.send(JSON.stringify({ type: "Event", eventType: "x", event: null }));
  await add("x".repeat(10));
  expect(comparable(await next())).toMatchObject({
    modifications: [{ type: "QueryUpdated", queryId: 1, value: 2 }],
  });
  expect(received).toEqual([]);
});

async function add(text: string): Promise<void> {
  await fetch(`${backend.url}/api/mutation`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Convex ${backend.adminKey}` },
    body: JSON.stringify({ path: "notes:add", args: { text }, format: "json" }),
  });
}

async function next(): Promise<unknown> {
  if (received.length === 0) await new Promise<void>((resolve) => (arrived = resolve));
  return received.shift();
}

/** A message without what differs each time. */
function comparable(message: unknown): unknown {
  const text = JSON.stringify(message, (name, value: unknown) => {
    if (["ts", "serverTs", "clientClockSkew", "_creationTime", "_id"].includes(name)) return name;
    if (typeof value !== "string") return value;
    return value.replace(/[0-9a-f]{16}/, "ID").replace(/\n {4}at [^\n]*/g, "");
  });
  return JSON.parse(text);
}
