/** The functions of the recorded conversation (`sync.json`), and the table that they use. */
import { defineSchema, defineTable, internalMutationGeneric, queryGeneric } from "convex/server";
import { ConvexError, v } from "convex/values";

export const schema = defineSchema({ notes: defineTable({ text: v.string() }) });

export const list = queryGeneric({
  args: { token: v.string() },
  returns: v.any(),
  handler: async (ctx, { token }) => {
    if (token !== "right") throw new ConvexError({ code: "DENIED" });
    return (await ctx.db.query("notes").take(10)) as { text: string }[];
  },
});

export const count = queryGeneric({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("notes").take(10)).length,
});

export const fails = queryGeneric({
  args: {},
  returns: v.null(),
  handler: () => {
    throw new Error("boom");
  },
});

export const add = internalMutationGeneric({
  args: { text: v.string() },
  returns: v.null(),
  handler: async (ctx, { text }) => {
    await ctx.db.insert("notes", { text });
    return null;
  },
});
