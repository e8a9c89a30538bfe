/**
 * What the address says: the filters and the session that is shown, so that a link can be shared. The
 * token comes in the fragment, which no server sees, and stays in this tab.
 */
const TOKEN = "convex-sidecar-token";
const NAMES = ["project", "user", "host", "status", "days", "before", "session"] as const;

export type Filters = Partial<Record<(typeof NAMES)[number], string>>;

/** The token of the link or of this tab; it leaves the address, which others may look at. */
export function takeToken(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) {
    sessionStorage.setItem(TOKEN, token);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(TOKEN);
}

export function dropToken(): void {
  sessionStorage.removeItem(TOKEN);
}

export function readFilters(): Filters {
  const query = new URLSearchParams(location.search);
  const given = NAMES.map((name) => [name, query.get(name)] as const);
  return Object.fromEntries(given.filter(([, value]) => value !== null && value !== ""));
}

/** The address with some filters changed; `undefined` removes one. */
export function addressOf(
  filters: Filters,
  changes: { [K in keyof Filters]: string | undefined },
): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...filters, ...changes }))
    if (value !== undefined && value !== "") query.set(name, value);
  const text = query.toString();
  return text === "" ? location.pathname : `?${text}`;
}
