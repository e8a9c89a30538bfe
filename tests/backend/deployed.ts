/** The functions of `convex/`, as `npx convex deploy` would push them. */
import { readdirSync } from "node:fs";
import type { Schema } from "./documents";
import type { Deployment } from "./functions";

const CONVEX = new URL("../../convex/", import.meta.url);

export async function deployed(): Promise<Deployment> {
  const files = readdirSync(CONVEX).filter(
    (file) => /^\w+\.ts$/.test(file) && file !== "schema.ts",
  );
  const load = async (file: string) =>
    (await import(new URL(file, CONVEX).href)) as Record<string, unknown>;
  const modules = await Promise.all(
    files.map(async (file) => [file.replace(".ts", ""), await load(file)]),
  );
  const schema = await load("schema.ts");
  return {
    schema: schema["default"] as Schema,
    modules: Object.fromEntries(modules) as Deployment["modules"],
  };
}
