/**
 * What the page reads. These are the only public functions: the page has no admin key, so each one
 * asks for a token first and refuses before it reads a row (model/access.ts). The logic is in
 * model/view.ts.
 */
import { v } from "convex/values";
import { query } from "./_generated/server";
import { requireAccess } from "./model/access";
import { sessionStatus } from "./model/validators";
import * as View from "./model/view";

const filter = {
  project: v.optional(v.string()),
  user: v.optional(v.string()),
  host: v.optional(v.string()),
};

/** Which sessions a list contains: a time range and filters. */
const selection = {
  token: v.string(),
  since: v.number(),
  now: v.optional(v.number()),
  ...filter,
};

export const running = query({
  args: selection,
  returns: View.sessionList,
  handler: async (ctx, { token, ...selected }) => {
    const access = await requireAccess(token);
    return await View.listSessions(ctx, access, { ...selected, status: "running" });
  },
});

export const sessions = query({
  args: { ...selection, before: v.optional(v.number()), status: v.optional(sessionStatus) },
  returns: View.sessionList,
  handler: async (ctx, { token, ...selected }) => {
    const access = await requireAccess(token);
    return await View.listSessions(ctx, access, selected);
  },
});

export const session = query({
  args: { token: v.string(), sessionId: v.string() },
  returns: v.nullable(View.shownSession),
  handler: async (ctx, { token, sessionId }) => {
    const access = await requireAccess(token);
    return await View.showSession(ctx, access, sessionId);
  },
});

export const days = query({
  args: { token: v.string(), since: v.string(), until: v.string(), ...filter },
  returns: View.shownDays,
  handler: async (ctx, { token, ...filter }) => {
    await requireAccess(token);
    return await View.showDays(ctx, filter);
  },
});
