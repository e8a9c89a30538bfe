/**
 * The two tables of the record. An index is named after all its fields; for a field of `metadata`
 * that is the last part of its path. Every listing index ends in `metadata.updatedAt`, so listings
 * come newest first straight from the index.
 */
import { defineSchema, defineTable } from "convex/server";
import { agentSessionRow, workflowRow } from "./model/validators";

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
});
