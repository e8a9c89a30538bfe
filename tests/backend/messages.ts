/** The texts of errors as a client gets them. */
import { randomBytes } from "node:crypto";

/** The message of an error in a function; a deployment can hide all but the request id. */
export function errorMessage(message: string, redacts: boolean): string {
  const prefix = `[Request ID: ${randomBytes(8).toString("hex")}] Server Error`;
  return redacts ? prefix : `${prefix}\n${message}`;
}
