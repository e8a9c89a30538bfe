/**
 * The functions that were deployed when the answers of a real backend were recorded, reconstructed
 * from the recording. Only conformance.test.ts serves them.
 */
import {
  actionGeneric,
  defineSchema,
  defineTable,
  internalMutationGeneric,
  mutationGeneric,
  queryGeneric,
} from "convex/server";
import { ConvexError, v } from "convex/values";

export const schema = defineSchema({
  items: defineTable({ key: v.string(), n: v.number(), body: v.optional(v.string()) }).index(
    "by_key",
    ["key"],
  ),
});

const item = { key: v.string(), n: v.number(), body: v.optional(v.string()) };

export const put = mutationGeneric({
  args: item,
  handler: (ctx, args) => ctx.db.insert("items", args),
});

export const putInternal = internalMutationGeneric({
  args: item,
  handler: (ctx, args) => ctx.db.insert("items", args),
});

export const anyArgs = mutationGeneric((ctx, args: { key: string; n: number }) =>
  ctx.db.insert("items", args),
);

export const big = mutationGeneric({
  args: { size: v.number() },
  handler: (ctx, { size }) => ctx.db.insert("items", { key: "big", n: 1, body: "x".repeat(size) }),
});

export const logs = mutationGeneric({
  args: {},
  handler: () => {
    console.log("hello from mutation", { a: 1 });
  },
});

export const throwError = mutationGeneric({
  args: {},
  handler: () => {
    throw new Error("plain boom");
  },
});

export const throwConvexError = mutationGeneric({
  args: {},
  handler: () => {
    throw new ConvexError({ code: "E_PROBE", detail: 42 });
  },
});

export const throwConvexErrorString = mutationGeneric({
  args: {},
  handler: () => {
    throw new ConvexError("string data");
  },
});

export const list = queryGeneric({ args: {}, handler: (ctx) => ctx.db.query("items").take(10) });

export const getByKey = queryGeneric({
  args: { key: v.string() },
  handler: (ctx, { key }) =>
    ctx.db
      .query("items")
      .withIndex("by_key", (q) => q.eq("key", key))
      .take(10),
});

export const act = actionGeneric({ args: {}, handler: () => "action ok" });
