/**
 * Serves the functions of `convex/` until it is stopped: for the tests of the executable, which run
 * it as a child process, and for manual experiments. It prints the URL it listens on. It exits when
 * the pipe on its stdin closes, so it never outlives its parent, even a killed one.
 */
import { fstatSync } from "node:fs";
import { parseArgs } from "node:util";
import { deployed } from "./deployed";
import { startBackend } from "./server";

const { values: flags } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    "admin-key": { type: "string" },
    access: { type: "string" },
    older: { type: "boolean", default: false },
    "redact-logs-to-client": { type: "boolean", default: false },
  },
});

function exitWithParent(): void {
  const stdin = fstatSync(0);
  // A terminal or /dev/null says nothing about the parent.
  if (stdin.isFIFO() || stdin.isSocket()) process.stdin.on("close", () => process.exit(0)).resume();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => process.exit(0));
}

exitWithParent();
const served = await deployed();
// The Convex CLI could not deploy functions to an older backend.
const { url, siteUrl, adminKey } = await startBackend(
  flags.older ? { ...served, modules: {} } : served,
  {
    port: Number(flags.port),
    isOlder: flags.older,
    ...(flags.access === undefined ? {} : { accessHeader: flags.access }),
    redactLogsToClient: flags["redact-logs-to-client"],
    ...(flags["admin-key"] === undefined ? {} : { adminKey: flags["admin-key"] }),
  },
);
process.stdout.write(`${JSON.stringify({ url, siteUrl, adminKey })}\n`);
