/** The script that a user would write with Convex's JavaScript client: one mutation. */
import { readFileSync } from "node:fs";
import { ConvexHttpClient } from "convex/browser";

const { path, args } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const client = new ConvexHttpClient(process.env.CONVEX_SELF_HOSTED_URL);
client.setAdminAuth(process.env.CONVEX_SELF_HOSTED_ADMIN_KEY);
await client.mutation(path, args);
