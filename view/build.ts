/**
 * Bundles the page into convex/model/page.ts, which is deployed with the functions. `--check` fails
 * instead if that file is not what the sources make.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const TARGET = here("../convex/model/page.ts");
/** In bytes, of the whole page. */
const BUDGET = 120_000;

async function bundled(file: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [here(file)],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  // The browser ends a script and a style at the end tag, wherever it stands.
  return (outputFiles[0]?.text ?? "").trim().replaceAll("</", "<\\/");
}

function hash(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

const script = await bundled("main.ts");
const style = await bundled("style.css");
const html = readFileSync(here("index.html"), "utf8")
  .replace(/\n\s*/g, "\n")
  .replace("STYLE", () => style)
  .replace("SCRIPT", () => script);
const bytes = Buffer.byteLength(html);
if (bytes > BUDGET) throw new Error(`the page has ${bytes} bytes, more than ${BUDGET}`);
const text = `/** The page, made from view/ by \`npm run view\`. */
export const HTML = ${JSON.stringify(html)};
export const SCRIPT_HASH = ${JSON.stringify(hash(script))};
export const STYLE_HASH = ${JSON.stringify(hash(style))};
`;
if (!process.argv.includes("--check")) writeFileSync(TARGET, text);
else if (readFileSync(TARGET, "utf8") !== text)
  throw new Error("convex/model/page.ts does not match its sources; run `npm run view`");
process.stdout.write(`${bytes} bytes\n`);
