/**
 * Revisions, and the times at which fields were set, are times by the clock of the machine that
 * recorded them. The highest one wins, so one far in the future would freeze its row until then.
 */
import { ConvexError } from "convex/values";

/** In milliseconds. */
const DAY = 24 * 60 * 60 * 1000;
/** In milliseconds: no correct clock is ahead by more. */
const MAX_AHEAD = DAY;

/** Whether a clock can have shown this time. */
export function isPlausible(time: number): boolean {
  return Number.isSafeInteger(time) && time <= Date.now() + MAX_AHEAD;
}

/** Refuses a time that no clock can have shown; the error says what time it is here. */
export function ensurePlausible(...times: number[]): void {
  const now = Date.now();
  for (const time of times) {
    if (!isPlausible(time)) throw new ConvexError({ code: "TIME_IS_AHEAD", now });
  }
}

/**
 * Sessions that have not changed since this time are not kept; null if all are kept. A value that
 * is not a positive whole number of days deletes nothing.
 */
export function expiryTime(env: Record<string, string | undefined>): number | null {
  const { CONVEX_SIDECAR_RETENTION_DAYS: days = "" } = env;
  return /^[1-9]\d{0,4}$/.test(days) ? Date.now() - Number(days) * DAY : null;
}
