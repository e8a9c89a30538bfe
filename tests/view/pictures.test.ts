/**
 * Pictures of the page with a team's sessions, all invented. `UPDATE_PICTURES=1 make view-test` makes
 * those of the docs again.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { inventedDays, inventedNow } from "./invented";
import { documentedPicture, picture, Site } from "./site";

/** In bytes: they are in every clone of the project. */
const MAX_PICTURE = 120_000;

let site: Site;
beforeAll(async () => {
  site = await Site.start();
  const now = Date.now();
  const sessions = [...inventedDays(now, 30, 9), ...inventedNow(now)];
  for (let start = 0; start < sessions.length; start += 50)
    await site.mutate("agents:syncAgentSessions", { sessions: sessions.slice(start, start + 50) });
});
afterAll(async () => {
  await site.stop();
});

it.each(["light", "dark"] as const)("the list in %s", async (scheme) => {
  const page = await site.open({ scheme, height: 900 });
  await page.locator("#sessions li").first().waitFor();
  await page.locator("#charts svg").first().waitFor();
  expect((await documentedPicture(page, `page-${scheme}`)).length).toBeLessThan(MAX_PICTURE);
  await picture(page, `team-${scheme}`);
});

it("one session", async () => {
  const page = await site.open({ width: 1100, height: 820, scheme: "dark" });
  await page.locator("#sessions li a").first().click();
  await page.getByRole("heading", { name: "Prompt" }).waitFor();
  expect((await documentedPicture(page, "page-session")).length).toBeLessThan(MAX_PICTURE);
});

it.each([
  ["narrow", { width: 360, height: 2600 }],
  ["wide", { width: 1920, height: 1700 }],
  ["figures", { width: 1200, height: 1700 }],
])("the list when it is %s", async (name, look) => {
  const token = name === "figures" ? site.figuresToken : site.token;
  const page = await site.open({ ...look, token });
  await page.locator("#sessions li").first().waitFor();
  await page.locator("#charts svg").first().waitFor();
  await picture(page, `team-${name}`, false);
  await page.locator("#sessions li a").first().click();
  await page.getByRole("heading", { name: "Details" }).waitFor();
  await picture(page, `team-${name}-session`, false);
});
