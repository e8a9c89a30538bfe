/**
 * Starts stand-ins for a Convex deployment (`tests/backend`) for tests that run under Wine, where
 * Node does not start. Each connection to it gets its own backend: it sends the options of
 * `tests/backend/main.ts` as one line of JSON, receives the line that the backend prints, and ends
 * the backend by closing. Prints its own address.
 */
import { spawn } from "node:child_process";
import { type AddressInfo, createServer } from "node:net";
import { createInterface } from "node:readline";

const server = createServer((socket) => {
  socket.on("error", () => socket.destroy());
  createInterface({ input: socket }).once("line", (line) => {
    const options = JSON.parse(line) as string[];
    const main = ["--import", "tsx", "tests/backend/main.ts", ...options];
    const backend = spawn(process.execPath, main, { stdio: ["pipe", "pipe", "inherit"] });
    backend.stdout.pipe(socket, { end: false });
    backend.on("exit", () => socket.destroy());
    // A backend exits when its stdin closes.
    socket.on("close", () => backend.stdin.end());
  });
});
server.listen(0, "127.0.0.1", () => {
  console.log(`127.0.0.1:${(server.address() as AddressInfo).port}`);
});
