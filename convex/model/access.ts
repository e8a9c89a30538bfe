/**
 * Who may see the page: anyone who has a token that `convex-sidecar view` made. The deployment's
 * variable CONVEX_SIDECAR_VIEW_TOKENS has one entry for each, separated by spaces: `<SHA-256 of the
 * token, hex>:<full or figures>:<when it expires, epoch milliseconds; 0 for never>`.
 */
import { ConvexError } from "convex/values";
import { env } from "../_generated/server";

/** What a token shows: everything, or no text that a person or a model wrote. */
export type Access = "full" | "figures";

/**
 * What the token shows; refuses one that is not valid. It must come before any read, so that an
 * answer to a caller without a token does not depend on stored data.
 */
export async function requireAccess(token: string): Promise<Access> {
  const hash = hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
  const { CONVEX_SIDECAR_VIEW_TOKENS: entries = "" } = env;
  let granted: Access | null = null;
  for (const entry of entries.split(" ")) {
    const [expected = "", access, expiresAt] = entry.split(":");
    const isValid = isEqual(hash, expected) && !isOver(Number(expiresAt));
    if (isValid && (access === "full" || access === "figures")) granted = access;
  }
  if (granted === null) throw new ConvexError({ code: "NO_ACCESS" });
  return granted;
}

function isOver(expiresAt: number): boolean {
  return expiresAt !== 0 && !(expiresAt > Date.now());
}

/** Compares all characters, so that the time it takes does not reveal where they differ. */
function isEqual(text: string, expected: string): boolean {
  let difference = text.length ^ expected.length;
  for (let index = 0; index < text.length; index += 1)
    difference |= text.charCodeAt(index) ^ expected.charCodeAt(index);
  return difference === 0;
}

function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
