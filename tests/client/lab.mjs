// A lab is one set of the four programs that the client test compares: the real Claude Code, the
// sidecar that its hooks run, Convex, and the Messages API. It has its own home and inherits no
// environment, because a variable of a surrounding Claude Code would change what the inner one does.
// No path in a lab names the sidecar or Convex: if the model sees either word, it came from a hook.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { startMessagesApi } from "./messages-api.mjs";

const here = import.meta.dirname;
const repository = resolve(here, "../..");
const { CONVEX_SIDECAR_BIN } = process.env;
export const { CLIENT = "2.1.332" } = process.env;
if (!CONVEX_SIDECAR_BIN) throw new Error("CONVEX_SIDECAR_BIN is not set: run `make client-test`");
const sidecarBinary = resolve(CONVEX_SIDECAR_BIN);
const [clientProgram, ...clientArgs] = findClient();
/** A run takes a second; a client that hangs is killed after this time. */
const TIMEOUT_MS = 60_000;

/**
 * @param hooks where the client gets its hooks from, in any combination: `plugin` (a copy of the
 *   plugin), `installedPlugin` (through the repository's marketplace), `settings` (a scope);
 *   `stopFailure` adds that event, which is not installed by default
 *   `absent` leaves out the executable that they run
 *   `cwd` is the folder that the client is started in, below its home
 *   `gateway` gives all answers of the API the same ID
 */
export async function startLab(hooks) {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "lab-")));
  const folder = (name) => (mkdirSync(join(home, name), { recursive: true }), join(home, name));
  const [bin, cwd] = ["bin", hooks.cwd ?? "project"].map(folder);
  if (!hooks.absent) symlinkSync(sidecarBinary, join(bin, "convex-sidecar"));

  const api = await startMessagesApi({ gateway: hooks.gateway });
  const backend = await startBackend();
  const env = {
    PATH: [bin, ...(hooks.absent ? ["/usr/bin", "/bin"] : [process.env.PATH])].join(delimiter),
    HOME: home,
    ANTHROPIC_BASE_URL: api.url,
    ANTHROPIC_API_KEY: "sk-ant-none",
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    DISABLE_AUTOUPDATER: "1",
    DISABLE_TELEMETRY: "1",
    DISABLE_ERROR_REPORTING: "1",
    IS_SANDBOX: "1", // the client refuses --dangerously-skip-permissions to root without it
    CONVEX_SIDECAR_HOME: join(home, "record"),
    CONVEX_SELF_HOSTED_URL: backend.url,
    CONVEX_SELF_HOSTED_ADMIN_KEY: backend.adminKey,
  };
  const client = (...args) => start(clientProgram, [...clientArgs, ...args], { cwd, env }).finished;
  const options = ["--output-format", "json", "--dangerously-skip-permissions"];
  if (hooks.plugin) options.push("--plugin-dir", copyPlugin("somebody's plugin"));
  if (hooks.settings)
    await sidecar(
      ...["install", "--scope", hooks.settings],
      ...(hooks.stopFailure ? ["--stop-failure"] : []),
    );
  if (["project", "local"].includes(hooks.settings)) trustFolder();
  if (hooks.installedPlugin) await installPlugin();

  /**
   * Starts the client with a prompt; `finished` resolves to its events, the last of which is its
   * result, and the messages that the API charged.
   */
  function startClaude(prompt, ...more) {
    const before = api.messages.length;
    const child = start(clientProgram, [...clientArgs, "-p", prompt, ...options, ...more], {
      cwd,
      env,
    });
    const finished = child.finished.then(({ code, stdout, stderr }) => {
      if (stderr) throw new Error(`the client wrote to stderr: ${stderr}`);
      const events = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      return { code, events, result: events.at(-1), messages: api.messages.slice(before) };
    });
    return { ...child, finished };
  }

  async function sidecar(...args) {
    const { code, stdout, stderr } = await start(sidecarBinary, args, { cwd, env }).finished;
    if (code !== 0) throw new Error(`convex-sidecar ${args.join(" ")}: exit ${code}: ${stderr}`);
    return stdout;
  }

  /** As if a user had accepted the folder in a terminal. Otherwise `doctor` warns. */
  function trustFolder() {
    const projects = { [cwd]: { hasTrustDialogAccepted: true } };
    writeFileSync(join(env.HOME, ".claude.json"), JSON.stringify({ projects }));
  }

  /**
   * A copy of the plugin's files: the client copies the whole folder of a marketplace, and a
   * working copy may contain gigabytes of build output.
   */
  function copyPlugin(name) {
    const copy = folder(name);
    for (const name of [".claude-plugin", "hooks", "skills"])
      cpSync(join(repository, name), join(copy, name), { recursive: true });
    if (hooks.stopFailure) addStopFailure(join(copy, "hooks/hooks.json"));
    return copy;
  }

  function addStopFailure(file) {
    const { hooks, ...rest } = JSON.parse(readFileSync(file, "utf8"));
    const StopFailure = JSON.parse(JSON.stringify(hooks.Stop).replace(/ Stop"/, ' StopFailure"'));
    writeFileSync(file, JSON.stringify({ ...rest, hooks: { ...hooks, StopFailure } }));
  }

  async function installPlugin() {
    const marketplace = copyPlugin("the market");
    for (const args of [
      ["marketplace", "add", marketplace],
      ["install", "convex-sidecar@convex-sidecar"],
    ]) {
      const { code, stdout, stderr } = await client("plugin", ...args);
      if (code !== 0)
        throw new Error(`claude plugin ${args.join(" ")}: exit ${code}: ${stdout}${stderr}`);
    }
  }

  const validateManifest = (manifest) =>
    client("plugin", "validate", "--strict", join(repository, ".claude-plugin", manifest));

  function stop() {
    backend.stop();
    api.close();
    rmSync(home, { recursive: true, force: true });
  }

  const claude = (...args) => startClaude(...args).finished;
  const { query, calls } = backend;
  /** The words of a shell that start the client with a prompt. */
  const shellCommand = (prompt) =>
    [clientProgram, ...clientArgs, "-p", prompt, ...options].map((word) => `'${word}'`).join(" ");
  return {
    home,
    cwd,
    env,
    shellCommand,
    messages: api.messages,
    startClaude,
    claude,
    client,
    validateManifest,
    sidecar,
    query,
    calls,
    requestsToModel: api.requests,
    stop,
  };
}

/**
 * The command that starts the client: a script up to about 2.1.112, a program afterwards. npm installs
 * the program's package for this platform with the main package, so no install script is needed.
 */
function findClient() {
  const installed = [
    join(here, `node_modules/claude-${CLIENT}`),
    join(repository, `target/clients/${CLIENT}/node_modules/@anthropic-ai/claude-code`),
  ].find(existsSync);
  if (!installed) throw new Error(`client ${CLIENT} is not installed: run \`make client-test\``);
  const script = join(installed, "cli.js");
  if (existsSync(script)) return [process.execPath, script];
  const { optionalDependencies } = JSON.parse(
    readFileSync(join(installed, "package.json"), "utf8"),
  );
  const { resolve } = createRequire(join(installed, "package.json"));
  for (const name of Object.keys(optionalDependencies))
    try {
      return [join(dirname(resolve(`${name}/package.json`)), "claude")];
    } catch (error) {
      if (error.code !== "MODULE_NOT_FOUND") throw error; // the package of another platform
    }
  throw new Error(`client ${CLIENT} has no package for this platform`);
}

/**
 * The real functions behind Convex's HTTP API (tests/backend). It prints its URL in one line, and
 * exits when its stdin closes.
 */
async function startBackend() {
  const command = ["--import", "tsx", "tests/backend/main.ts"];
  const child = spawn(process.execPath, command, {
    cwd: repository,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const line = await new Promise((ready, failed) => {
    createInterface({ input: child.stdout }).once("line", ready);
    child.once("exit", (code) =>
      failed(new Error(`the backend exited with ${code} before it listened`)),
    );
  });
  const { url, adminKey } = JSON.parse(line);

  async function query(path, args) {
    const headers = { authorization: `Convex ${adminKey}`, "content-type": "application/json" };
    const reply = await fetch(`${url}/api/query`, {
      method: "POST",
      headers,
      body: JSON.stringify({ path, args, format: "json" }),
    });
    const { status, value, errorMessage } = await reply.json();
    if (status !== "success") throw new Error(`${path}: ${errorMessage}`);
    return value;
  }
  const calls = async () =>
    (await (await fetch(`${url}/_test/requests`)).json()).filter(
      (request) => request.function !== null,
    );
  return { url, adminKey, query, calls, stop: () => child.stdin.end() };
}

function start(file, args, options) {
  const child = spawn(file, args, {
    ...options,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const finished = new Promise((close, failed) => {
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
    child.once("error", failed);
    child.once("close", (code, signal) => close({ code, signal, stdout, stderr }));
  });
  return { pid: child.pid, kill: (signal) => child.kill(signal), finished };
}
