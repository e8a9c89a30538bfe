/**
 * What the deployment does by itself. Each job is one mutation, which does nothing if there is
 * nothing to do.
 */
import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();

crons.daily(
  "delete expired sessions",
  { hourUTC: 3, minuteUTC: 17 },
  internal.agents.deleteExpiredSessions,
);

export default crons;
