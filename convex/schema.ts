/**
 * The tables of the record, and of the roll-up of its usage. An index is named after all its
 * fields; for a field of `metadata` that is the last part of its path. Every listing index ends in
 * `metadata.updatedAt`, so listings come newest first straight from the index.
 */
import { defineSchema, defineTable } from "convex/server";
import { agentSessionRow, usageDay, usageDaysState, workflowRow } from "./model/validators";

export default defineSchema({
  agentSessions: defineTable(agentSessionRow)
    .index("by_sessionId", ["sessionId"])
    .index("by_status_and_updatedAt", ["status", "metadata.updatedAt"])
    .index("by_workflowId_and_updatedAt", ["metadata.workflowId", "metadata.updatedAt"])
    .index("by_workflowId_and_status_and_updatedAt", [
      "metadata.workflowId",
      "status",
      "metadata.updatedAt",
    ])
    .index("by_updatedAt", ["metadata.updatedAt"]),
  workflows: defineTable(workflowRow)
    .index("by_key", ["key"])
    .index("by_status_and_updatedAt", ["status", "metadata.updatedAt"])
    .index("by_updatedAt", ["metadata.updatedAt"]),
  usageDays: defineTable(usageDay).index(
    "by_generation_and_day_and_project_and_host_and_user_and_model",
    ["generation", "day", "project", "host", "user", "model"],
  ),
  usageDaysState: defineTable(usageDaysState),
});
