// An agent that names itself and its workflow. Nothing here records anything: the hooks that
// `convex-sidecar install` added do, whenever the SDK starts Claude Code.
//
//   npx tsx agent.ts "Which files are here?"
import { pathToFileURL } from "node:url";
import { query, type Options, type SDKResultMessage } from "@anthropic-ai/claude-agent-sdk";

export class Agent {
  /**
   * @param type what `convex-sidecar sessions` shows as the agent
   * @param workflow the key of the workflow that its sessions belong to; created if it is new
   */
  constructor(
    readonly type: string,
    readonly workflow: string,
    readonly options: Options = {},
  ) {}

  /** Runs one prompt to its end. `more` can resume a session, for example. */
  async run(prompt: string, more: Options = {}): Promise<SDKResultMessage> {
    const options = { ...this.options, ...more };
    const env = {
      ...(options.env ?? process.env), // `env` replaces the environment, so PATH and HOME must be in it
      CONVEX_SIDECAR_AGENT_TYPE: this.type,
      CONVEX_SIDECAR_WORKFLOW: this.workflow,
    };
    for await (const message of query({ prompt, options: { ...options, env } }))
      if (message.type === "result") return message;
    throw new Error("Claude Code ended without a result");
  }
}

/**
 * The options of an agent that reads none of the user's settings but is still recorded.
 * `convex-sidecar install --claude-config-dir FOLDER` creates the file, `FOLDER/settings.json`.
 */
export const isolated = (settings: string): Options => ({ settingSources: [], settings });

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const reviewer = new Agent("reviewer", "review-2026-11", {
    allowedTools: ["Read", "Glob", "Grep"],
    maxTurns: 10,
  });
  const result = await reviewer.run(process.argv[2] ?? "Which files are here?");
  console.log(result.subtype === "success" ? result.result : result.errors.join("\n"));
  console.log(`convex-sidecar show ${result.session_id}`);
}
