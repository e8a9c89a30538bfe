/**
 * The two tables of the record. Every index but the two that find one row by its key ends in `metadata.updatedAt`, so that each listing comes
 * newest first straight from its index.
 */
import { defineSchema, defineTable } from "convex/server";
import { agentSessionRow, workflowRow } from "./model/validators";

export default defineSchema({
  agentSessions: defineTable(agentSessionRow)
    .index("by_session", ["sessionId"])
    .index("by_status", ["status", "metadata.updatedAt"])
    .index("by_workflow", ["metadata.workflowId", "metadata.updatedAt"])
    .index("by_workflow_and_status", ["metadata.workflowId", "status", "metadata.updatedAt"])
    .index("by_updated", ["metadata.updatedAt"]),
  workflows: defineTable(workflowRow)
    .index("by_key", ["key"])
    .index("by_status", ["status", "metadata.updatedAt"])
    .index("by_updated", ["metadata.updatedAt"]),
});
