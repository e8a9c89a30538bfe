/**
 * A deployment with the page, and a browser that looks at it. The browser is Debian's Chromium, or
 * the one that CHROMIUM names.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";
import { deployed } from "../backend/deployed";
import { startBackend, type Backend } from "../backend/server";

const DOCUMENT = new URL("../../src/record/every_field.json", import.meta.url);
const SCREENSHOTS = fileURLToPath(new URL("../../target/view/", import.meta.url));
const DOCS = fileURLToPath(new URL("../../docs/pictures/", import.meta.url));

export interface Metadata {
  startedAt: number;
  updatedAt: number;
  [field: string]: unknown;
}

/** A session as it is sent. */
export interface Session {
  sessionId: string;
  revision: number;
  metadata: Metadata;
  [field: string]: unknown;
}

export class Site {
  readonly token = randomBytes(24).toString("base64url");
  readonly figuresToken = randomBytes(24).toString("base64url");
  /** Every address that the browser asked for. */
  readonly requested: string[] = [];
  /** What the pages have complained about. */
  readonly complaints: string[] = [];
  backend: Backend;
  readonly #browser: Browser;

  private constructor(backend: Backend, browser: Browser) {
    this.backend = backend;
    this.#browser = browser;
  }

  static async start(): Promise<Site> {
    const { CHROMIUM: executablePath = "/usr/bin/chromium" } = process.env;
    const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    const site = new Site(await startBackend(await deployed()), browser);
    await site.grant();
    return site;
  }

  async stop(): Promise<void> {
    await this.#browser.close();
    await this.backend.close();
  }

  /** Makes the tokens valid, or no token at all. */
  async grant(isGranted = true): Promise<void> {
    const hash = (token: string) => createHash("sha256").update(token).digest("hex");
    const value = `${hash(this.token)}:full:0 ${hash(this.figuresToken)}:figures:0`;
    await this.#post("/api/update_environment_variables", {
      changes: [{ name: "CONVEX_SIDECAR_VIEW_TOKENS", value: isGranted ? value : null }],
    });
  }

  /** Stops the server, and starts one without sessions at the same address. */
  async restart(): Promise<() => Promise<void>> {
    const { port } = new URL(this.backend.url);
    await this.backend.close();
    return async () => {
      this.backend = await startBackend(await deployed(), { port: Number(port) });
      await this.grant();
    };
  }

  /** Stores a session with every field, except for those that are given. */
  async store(sessionId: string, more: object = {}, metadata: object = {}): Promise<Session> {
    const example = JSON.parse(readFileSync(DOCUMENT, "utf8")) as Session;
    const now = Date.now();
    const times = { startedAt: now - 60_000, completedAt: now, updatedAt: now };
    const session = {
      ...example,
      sessionId,
      status: "completed",
      revision: now,
      ...more,
      metadata: { ...example.metadata, ...times, activity: undefined, ...metadata },
    };
    await this.mutate("agents:createAgentSession", session);
    return session;
  }

  async mutate(path: string, args: object): Promise<void> {
    const body = await this.#post("/api/mutation", { path, args, format: "json" });
    if (!body.includes('"success"')) throw new Error(body);
  }

  async #post(path: string, body: object): Promise<string> {
    const authorization = `Convex ${this.backend.adminKey}`;
    const response = await fetch(this.backend.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization },
      body: JSON.stringify(body),
    });
    return await response.text();
  }

  /** Opens the page in a browser window of its own. */
  async open(options: Partial<Look> = {}): Promise<Page> {
    const { width = 1200, height = 900, scheme = "light", token = this.token } = options;
    const { search = "", bypassCSP } = options;
    const context = await this.#browser.newContext({
      viewport: { width, height },
      colorScheme: scheme,
      ...(bypassCSP && { bypassCSP }),
    });
    const page = await context.newPage();
    page.on("request", (request) => this.requested.push(request.url()));
    page.on("pageerror", (error) => this.complaints.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") this.complaints.push(message.text());
    });
    const fragment = token === "" ? "" : `#token=${token}`;
    await page.goto(`${this.backend.siteUrl}/${search}${fragment}`);
    return page;
  }
}

interface Look {
  width: number;
  height: number;
  scheme: "light" | "dark";
  token: string;
  /** The query in the address. */
  search: string;
  /** Lets a test run a script in the page, which the page's policy forbids. */
  bypassCSP: boolean;
}

/** Keeps a picture of the whole page, or of what the window shows. */
export async function picture(page: Page, name: string, fullPage = true): Promise<Buffer> {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return await page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage });
}

/** Also puts it into docs/pictures if UPDATE_PICTURES=1. */
export async function documentedPicture(page: Page, name: string): Promise<Buffer> {
  const png = await picture(page, name, false);
  if (process.env["UPDATE_PICTURES"] === "1") {
    mkdirSync(DOCS, { recursive: true });
    writeFileSync(`${DOCS}${name}.png`, png);
  }
  return png;
}
