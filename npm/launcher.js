#!/usr/bin/env node
/** Runs the executable for this system, which is in one of the optional dependencies. */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(import.meta.url);

function fail(message) {
  process.stderr.write(`convex-sidecar: ${message}\n`);
  process.exit(1);
}

function findExecutable() {
  const { optionalDependencies } = require("./package.json");
  const name = `@convex-sidecar/${process.platform}-${process.arch}`;
  const file = process.platform === "win32" ? "convex-sidecar.exe" : "convex-sidecar";
  try {
    return require.resolve(`${name}/bin/${file}`);
  } catch {
    if (name in optionalDependencies)
      fail(
        `could not find the package ${name}, which contains the executable for this system; install convex-sidecar ` +
          "again on this system, with optional dependencies (without --omit=optional)",
      );
    const systems = Object.keys(optionalDependencies).map((other) => other.split("/")[1]);
    fail(
      `there is no executable for ${process.platform}-${process.arch}, only for ${systems.join(", ")}; ` +
        "https://github.com/convex-sidecar/convex-sidecar says how to build one",
    );
  }
}

const executable = findExecutable();
// The handlers are set before the program starts, so that a signal that arrives in between is
// passed on once it runs.
const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
for (const signal of signals) process.on(signal, () => child.kill(signal));
const child = spawn(executable, process.argv.slice(2), { stdio: "inherit" });
child.on("error", ({ message }) => fail(`could not run the executable: ${message}`));
child.on("exit", (code, signal) => {
  for (const handled of signals) process.removeAllListeners(handled);
  if (signal === null) process.exit(code ?? 1);
  process.kill(process.pid, signal);
});
