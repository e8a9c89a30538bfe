/** The page in a real browser, served and fed by the test backend. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { invented } from "./invented";
import { picture, Site } from "./site";

const MAX_PAGE = 120 * 1024;

/** What axe finds. */
interface Result {
  violations: { id: string; impact: string; nodes: { html: string }[] }[];
}

let site: Site;
beforeAll(async () => (site = await Site.start()));
afterAll(async () => {
  await site.stop();
});

/** Waits until the page shows this text somewhere. */
async function shows(page: Page, text: string): Promise<void> {
  await page.getByText(text).first().waitFor();
}

describe("the page", () => {
  it("is small, and asks no other host for anything", async () => {
    const response = await fetch(site.backend.siteUrl);
    const text = await response.text();
    expect(Buffer.byteLength(text)).toBeLessThan(MAX_PAGE);
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    await site.store("s-first", { input: "Mend the till" });
    const opened = Date.now();
    const page = await site.open();
    await shows(page, "Mend the till");
    console.log(`from opening to the first rows: ${Date.now() - opened} ms`);
    const own = [site.backend.siteUrl, site.backend.url.replace("http", "ws"), site.backend.url];
    const others = site.requested.filter((url) => !own.some((origin) => url.startsWith(origin)));
    expect(others.filter((url) => !url.startsWith("data:"))).toEqual([]);
    expect(page.url()).not.toContain(site.token);
    await picture(page, "light");
  });

  it("shows what changes without a reload", async () => {
    const page = await site.open();
    await shows(page, "Mend the till");
    const sent = Date.now();
    await site.store(
      "s-running",
      { input: "Buy paint", status: "running" },
      {
        activity: { state: "working", since: sent },
        completedAt: undefined,
        lastPrompt: "Paint the fence",
      },
    );
    await shows(page, "Paint the fence");
    console.log(`from mutation to row: ${Date.now() - sent} ms`);
    const running = page.locator("#running");
    for (const part of ["working", "for 0 s", "10 tokens", "$0.25 so far", "open for 1 min"])
      expect(await running.textContent()).toContain(part);
    await site.store("s-running", { input: "Paint the fence" });
    await page.locator("#running", { hasNotText: "Paint the fence" }).waitFor();
    await page.locator("#sessions", { hasText: "Paint the fence" }).waitFor();
  });

  it("shows a session of a hook", async ({ skip }) => {
    const { CONVEX_SIDECAR_BIN: program } = process.env;
    if (program === undefined) {
      skip("CONVEX_SIDECAR_BIN names no executable");
      return;
    }
    const page = await site.open();
    await shows(page, "Mend the till");
    const times: number[] = [];
    for (let attempt = 0; attempt < 15 && times.length < 5; attempt += 1) {
      const prompt = `Sweep yard ${attempt}`;
      const event = {
        session_id: `s-hook-${attempt}`,
        hook_event_name: "UserPromptSubmit",
        prompt,
      };
      const started = Date.now();
      // A hook does not wait long for a busy server, and then delivers later.
      if (!(await runHook(program, { ...event, cwd: tmpdir() }))) continue;
      await shows(page, prompt);
      times.push(Date.now() - started);
    }
    expect(times).toHaveLength(5);
    const [, , median] = times.sort((one, other) => one - other);
    console.log(`from the start of a hook to the row, median of 5: ${median} ms`);
  });

  it("filters by project, person, machine and status, in the address", async () => {
    await site.store(
      "s-other",
      { input: "Feed the cat", status: "failed", error: "out of food" },
      { repository: "https://github.com/acme/cats.git", user: "ann@example.com", host: "attic" },
    );
    const page = await site.open();
    await shows(page, "Feed the cat");
    const select = page.getByLabel("Project");
    await select.selectOption({ label: "cats" });
    await page.locator("#sessions", { hasNotText: "Mend the till" }).waitFor();
    await shows(page, "Feed the cat");
    expect(page.url()).toContain("project=");
    await page.goBack();
    await shows(page, "Mend the till");
    const filtered = await site.open({ search: "?status=failed&user=ann%40example.com" });
    await shows(filtered, "Feed the cat");
    expect(await filtered.locator("#sessions").textContent()).not.toContain("Mend the till");
  });

  it("shows one session in full, by a click, a key and a link", async () => {
    const output = "The till rings again.";
    await site.store("s-full", { input: "Mend the till, please", output });
    const page = await site.open();
    const link = page.getByRole("link", { name: "Mend the till, please" });
    await link.click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText(output).waitFor();
    for (const part of ["acme/shop", "dev@example.com", "Bash", "claude-opus-4-8", "pull/12"])
      expect(await dialog.textContent()).toContain(part);
    await picture(page, "session");
    const address = new URL(page.url());
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    await link.focus();
    await page.keyboard.press("Enter");
    await dialog.getByText(output).waitFor();
    const linked = await site.open({ search: address.search });
    await linked.getByRole("dialog").getByText(output).waitFor();
  });

  it("shows text as text", async () => {
    const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
    const escapes = "\u001b[31mred\u001b[0m \u202e right to left";
    const long = `${"long ".repeat(13_000)}end`;
    await site.store(
      "s-hostile",
      { input: hostile, output: long, error: escapes, status: "failed" },
      {
        title: hostile,
        repository: hostile,
        user: hostile,
        host: hostile,
        model: hostile,
        pullRequests: [{ number: 1, url: "javascript:document.title='owned'" }],
      },
    );
    const page = await site.open({ search: "?session=s-hostile" });
    const dialog = page.getByRole("dialog");
    await dialog.getByText("long long").first().waitFor();
    const text = (await page.textContent("body")) ?? "";
    expect(text).toContain(hostile);
    expect(text).toContain("\\u{1b}[31mred\\u{1b}[0m \\u{202e} right to left");
    expect(text).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/);
    expect(await page.locator("img, #session script, #sessions script").count()).toBe(0);
    expect(await page.locator("a[href^='javascript:']").count()).toBe(0);
    expect(await page.title()).not.toContain("owned");
    const { scrollWidth, clientWidth } = await sizeOf(page);
    expect(scrollWidth).toBeLessThanOrEqual(clientWidth);
  });

  it("goes on with older sessions, and back", async () => {
    // Behind those of the other tests.
    const at = Date.now() - 60 * 60 * 1000;
    const sessions = Array.from({ length: 60 }, (_, index) =>
      invented(index, at - index, { input: `Count to ${index}` }, { host: "many" }),
    );
    await site.mutate("agents:syncAgentSessions", { sessions });
    const page = await site.open({ search: "?host=many" });
    await page.getByText("Count to 0", { exact: true }).waitFor();
    expect(await page.locator("#sessions li").count()).toBe(50);
    await page.getByRole("link", { name: "Older sessions" }).click();
    await page.getByText("Count to 59", { exact: true }).waitFor();
    expect(await page.locator("#sessions li").count()).toBe(10);
    await page.getByRole("link", { name: "Back to the newest" }).click();
    await page.getByText("Count to 0", { exact: true }).waitFor();
  });

  it("shows an unknown cost as unknown, and counts nothing of tomorrow as of today", async () => {
    const host = "unpriced";
    const unpriced = { host, costUsd: undefined, costSource: undefined, usageByDay: undefined };
    await site.store("s-unpriced", { input: "Weigh the gold" }, unpriced);
    const tomorrow = { startedAt: Date.now() + 24 * 60 * 60 * 1000 };
    await site.store("s-tomorrow", { input: "Wait a day" }, { ...unpriced, ...tomorrow });
    const page = await site.open({ search: `?host=${host}` });
    await shows(page, "Weigh the gold");
    const totals = page.locator("#totals", { hasText: "1 session" });
    await totals.waitFor();
    const texts = await totals.locator(".total").allTextContents();
    for (const [index, title] of ["Today (UTC)", "7 days", "30 days"].entries())
      expect(texts[index]).toContain(`${title}–1 session, `);
    const costs = await page.locator("#groups td:last-child").allTextContents();
    expect([...new Set(costs)]).toEqual(["–"]);
  });

  it("shows everything for a filter that it does not know", async () => {
    const page = await site.open({ search: "?days=many&status=odd&before=soon&session=" });
    await shows(page, "Mend the till");
    await page.locator("#charts svg").first().waitFor();
    expect(await page.getByLabel("Time").inputValue()).toBe("30");
  });

  it("takes the token of another link in the same tab", async () => {
    const page = await site.open({ token: "wrong" });
    await shows(page, "no longer valid");
    await page.evaluate(`location.hash = "token=${site.token}"`);
    await shows(page, "Mend the till");
    expect(page.url()).not.toContain(site.token);
  });

  it.each([
    ["narrow", { width: 360 }],
    ["dark", { scheme: "dark" as const }],
  ])("fits when it is %s", async (name, look) => {
    const page = await site.open({ ...look, search: "?host=here" });
    await shows(page, "Mend the till");
    const { scrollWidth, clientWidth, scrollHeight } = await sizeOf(page);
    expect(scrollWidth).toBeLessThanOrEqual(clientWidth);
    // Nothing that is there for screen readers alone makes the page longer.
    expect(scrollHeight).toBeLessThan(6_000);
    await picture(page, name);
  });

  it.each(["light", "dark"] as const)("has no serious fault for axe in %s", async (scheme) => {
    const page = await site.open({ scheme, bypassCSP: true });
    await shows(page, "Mend the till");
    const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
    await page.evaluate(readFileSync(axe, "utf8"));
    const { violations } = await page.evaluate<Result>("axe.run()");
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    expect(serious.map(({ id, nodes }) => [id, nodes[0]?.html])).toEqual([]);
  });
});

describe("access", () => {
  it("needs a token", async () => {
    for (const token of ["", "wrong"]) {
      const before = site.requested.length;
      const page = await site.open({ token });
      await shows(page, "convex-sidecar view");
      expect(await page.textContent("body")).not.toContain("Mend the till");
      const connected = site.requested.slice(before).filter((url) => url.startsWith("ws"));
      if (token === "") expect(connected).toEqual([]);
    }
  });

  it("shows no text with a token for figures", async () => {
    const page = await site.open({ token: site.figuresToken });
    await page.locator("#totals", { hasText: "$" }).waitFor();
    const text = await page.textContent("body");
    for (const words of ["Mend the till", "Feed the cat", "out of food"])
      expect(text).not.toContain(words);
  });

  it("ends when the token is revoked", async () => {
    const page = await site.open();
    await shows(page, "Mend the till");
    await site.grant(false);
    await shows(page, "no longer valid");
    await page.locator("#content").waitFor({ state: "hidden" });
    await site.grant();
  });
});

it("comes back with the server, and loses nothing that is shown until then", async () => {
  const page = await site.open();
  await shows(page, "Mend the till");
  const start = await site.restart();
  await shows(page, "Connection lost");
  await shows(page, "Mend the till");
  await start();
  await site.store("s-after", { input: "Open the shop" });
  await shows(page, "Open the shop");
});

it("has complained about nothing but the connection and the tokens that are not valid", () => {
  const expected = /NO_ACCESS|WebSocket|ERR_CONNECTION/;
  expect(site.complaints.filter((complaint) => !expected.test(complaint))).toEqual([]);
});

interface Size {
  scrollWidth: number;
  clientWidth: number;
  scrollHeight: number;
}

async function sizeOf(page: Page): Promise<Size> {
  const names = "scrollWidth, clientWidth, scrollHeight";
  return await page.evaluate<Size>(`(({ ${names} }) => ({ ${names} }))(document.documentElement)`);
}

/** Runs a hook on a machine of its own. Returns whether it has delivered. */
function runHook(program: string, input: object): Promise<boolean> {
  const home = mkdtempSync(join(tmpdir(), "view-"));
  const env = {
    HOME: home,
    CONVEX_SIDECAR_HOME: home,
    CONVEX_SELF_HOSTED_URL: site.backend.url,
    CONVEX_SELF_HOSTED_ADMIN_KEY: site.backend.adminKey,
  };
  return new Promise((resolve) => {
    const child = execFile(program, ["hook", "--strict"], { env }, (error) => {
      resolve(error === null);
    });
    child.stdin?.end(JSON.stringify(input));
  });
}
