// A stand-in for the Messages API, so that the client test runs the real Claude Code offline, for
// free and with the same result every time. It does what the last human prompt asks for, and keeps
// every request and every usage it returned, as an independent account of the tokens.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

/**
 * @param gateway whether all answers have the same ID, as those of some gateways; the IDs of the
 *   real API are unique
 * @returns the URL for the client, all request bodies so far, and all messages so far as {model,
 * usage, subagent}
 */
export async function startMessagesApi({ gateway }) {
  const requests = [];
  const messages = [];
  const server = createServer(async (request, response) => {
    const text = await bodyOf(request);
    const path = request.url.split("?")[0];
    if (request.method === "POST") requests.push(text);
    if (request.method === "POST" && path === "/v1/messages/count_tokens")
      return json(response, 200, { input_tokens: 7 });
    if (request.method !== "POST" || path !== "/v1/messages")
      return response.writeHead(request.method === "HEAD" ? 200 : 404).end();

    const body = JSON.parse(text);
    const prompt = lastHumanPrompt(body.messages);
    if (prompt.includes("HANGNOW")) return;
    if (prompt.includes("FAILNOW"))
      return json(response, 400, {
        type: "error",
        error: { type: "invalid_request_error", message: "mock says no" },
      });
    const id = gateway ? "msg_gateway" : `msg_${randomUUID()}`;
    const message = { id, ...answer(body, prompt, messages.length + 1) };
    messages.push({
      model: message.model,
      usage: message.usage,
      subagent: prompt.includes("SUBTASK"),
    });
    if (body.stream) stream(response, message);
    else json(response, 200, message);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const close = () => (server.closeAllConnections(), server.close());
  return { url: `http://127.0.0.1:${server.address().port}`, requests, messages, close };
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const blocksOf = (message) =>
  typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
const hasToolResult = (message) => blocksOf(message).some((block) => block.type === "tool_result");
/** Newer clients run a subagent in the background and report its end in a separate message. */
const isNotification = (message) =>
  blocksOf(message).some(
    (block) => block.type === "text" && block.text.includes("<task-notification>"),
  );

/**
 * The client adds blocks marked <system-reminder>, and merges unanswered prompts into one message
 * with the next.
 */
function lastHumanPrompt(messages) {
  const message = messages.findLast(
    (message) => message.role === "user" && !hasToolResult(message),
  );
  const text = blocksOf(message ?? { content: [] }).findLast(
    (block) => block.type === "text" && !block.text.startsWith("<system-reminder>"),
  );
  return text?.text ?? "";
}

/**
 * No two messages have the same usage, so a sum that counts one twice or not at all cannot be right
 * by chance.
 */
function answer(body, prompt, number) {
  const lastOfUser = body.messages.findLast((message) => message.role === "user");
  const [, script] = /USAGES (.*)/.exec(prompt) ?? [];
  if (script) return scripted(body, JSON.parse(script));
  const content = contentFor(prompt, hasToolResult(lastOfUser) || isNotification(lastOfUser));
  return {
    type: "message",
    role: "assistant",
    model: body.model,
    content,
    stop_reason: content.some((block) => block.type === "tool_use") ? "tool_use" : "end_turn",
    stop_sequence: null,
    usage: {
      input_tokens: 100 + number ** 2,
      output_tokens: 10 + 3 * number ** 2,
      cache_read_input_tokens: 1000 + 7 * number ** 2,
      cache_creation_input_tokens: 200 + 11 * number ** 2,
    },
  };
}

/** One answer for each usage, in this order; all but the last call a tool. */
function scripted(body, usages) {
  const answered = body.messages.filter(hasToolResult).length;
  const isLast = answered + 1 >= usages.length;
  const tool = {
    type: "tool_use",
    id: `toolu_${randomUUID()}`,
    name: "Bash",
    input: { command: "true", description: "go on" },
  };
  return {
    type: "message",
    role: "assistant",
    model: body.model,
    content: isLast ? [{ type: "text", text: "Done." }] : [tool],
    stop_reason: isLast ? "end_turn" : "tool_use",
    stop_sequence: null,
    usage: usages[answered],
  };
}

function contentFor(prompt, toolsHaveRun) {
  const text = (words) => ({ type: "text", text: words });
  const tool = (name, input) => ({
    type: "tool_use",
    id: `toolu_${randomUUID()}`,
    name,
    input,
  });
  const bash = (command, description) => tool("Bash", { command, description });
  if (toolsHaveRun) return [text("Done. FINAL ANSWER 42.")];
  const [, command] = /RUNCOMMAND (.*)/.exec(prompt) ?? [];
  if (command) return [bash(command, "run it")];
  if (prompt.includes("RUNTWO"))
    return [text("Two at once."), bash("echo first", "first"), bash("exit 3", "second")];
  if (prompt.includes("RUNSUB"))
    return [
      tool("Agent", {
        description: "delegate",
        prompt: "SUBTASK please",
        subagent_type: "general-purpose",
        model: "haiku",
      }),
    ];
  return [text("I will run a command."), bash("echo hello", "greet")];
}

/**
 * The documented events in order. As in the real API, the first usage is provisional: one output
 * token; message_delta has the rest.
 */
function stream(response, message) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (type, fields) =>
    response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`);
  const { content, stop_reason, stop_sequence, usage } = message;
  const start = {
    ...message,
    content: [],
    stop_reason: null,
    usage: { ...usage, output_tokens: 1 },
  };
  send("message_start", { message: start });
  content.forEach((block, index) => {
    const isText = block.type === "text";
    const delta = isText
      ? { type: "text_delta", text: block.text }
      : { type: "input_json_delta", partial_json: JSON.stringify(block.input) };
    send("content_block_start", {
      index,
      content_block: isText ? { ...block, text: "" } : { ...block, input: {} },
    });
    send("content_block_delta", { index, delta });
    send("content_block_stop", { index });
  });
  send("message_delta", { delta: { stop_reason, stop_sequence }, usage });
  send("message_stop", {});
  response.end();
}

function json(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}
