/**
 * What the deployment does by itself. Each is one mutation, which does nothing where there is nothing
 * to do.
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
