/** Figures and times for people. */
export const HOUR = 60 * 60 * 1000;
export const DAY = 24 * HOUR;

export interface Tokens {
  inputTokens: number;
  outputTokens: number;
  cacheReadInputTokens: number;
  cacheCreationInputTokens: number;
}

export function allTokens(of: Tokens): number {
  return of.inputTokens + of.outputTokens + of.cacheReadInputTokens + of.cacheCreationInputTokens;
}

export function count(number: number): string {
  if (number < 10_000) return number.toLocaleString();
  return number.toLocaleString(undefined, { notation: "compact", maximumFractionDigits: 1 });
}

export interface Cost {
  costUsd?: number | undefined;
  isEstimate?: boolean;
  isPartial?: boolean;
}

/** Such as `1 session` and `2 sessions`. */
export function plural(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** `~` marks an estimate, `≥` a cost of which a part is not known. */
export function cost({ costUsd, isEstimate, isPartial }: Cost): string {
  if (costUsd === undefined) return "–";
  return `${isPartial ? "≥ " : ""}${isEstimate ? "~" : ""}${dollars(costUsd)}`;
}

function dollars(amount: number): string {
  const isSmall = amount !== 0 && Math.abs(amount) < 0.1;
  const digits = Math.abs(amount) >= 1000 ? 0 : isSmall ? 4 : 2;
  return amount.toLocaleString(undefined, {
    style: "currency",
    currency: "USD",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** An amount on the scale of a chart. */
export function roundDollars(amount: number): string {
  return amount > 0 && amount < 1 ? dollars(amount) : `$${count(amount)}`;
}

export function duration(ms: number | undefined): string {
  if (ms === undefined) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400)
    return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

/** In the time zone of the reader. */
export function time(at: number): string {
  return new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Like {@link time}, without the obvious parts: the year, and the day if it is today. */
export function shortTime(at: number, now: number): string {
  const date = new Date(at);
  const hour = { hour: "numeric", minute: "2-digit" } as const;
  if (date.toDateString() === new Date(now).toDateString())
    return date.toLocaleTimeString(undefined, hour);
  return date.toLocaleString(undefined, { month: "short", day: "numeric", ...hour });
}

/** The UTC day this many days before a time, as the roll-up names it. */
export function utcDay(at: number, daysBefore = 0): string {
  return new Date(at - daysBefore * DAY).toISOString().slice(0, 10);
}

/** A UTC day, such as `Nov 26`. */
export function shortDay(day: string): string {
  const options = { month: "short", day: "numeric", timeZone: "UTC" } as const;
  return new Date(day).toLocaleDateString(undefined, options);
}

/** The last part of a path or of the address of a repository. */
export function short(project: string): string {
  return (
    project
      .replace(/\/+$/, "")
      .replace(/\.git$/, "")
      .split(/[/:\\]/)
      .at(-1) ?? project
  );
}
