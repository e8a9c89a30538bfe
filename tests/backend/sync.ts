/**
 * The websocket by which ConvexClient subscribes to queries, as far as a page uses it: Connect,
 * ModifyQuerySet and Transition. What a real backend and the client said to each other was recorded
 * (sync.test.ts).
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { convexToJson, type JSONValue } from "convex/values";
import { WebSocketServer, type RawData, type WebSocket } from "ws";
import type { Functions } from "./functions";
import { errorMessage } from "./messages";

const PATH = /^\/api\/[^/]+\/sync$/;

interface Query {
  udfPath: string;
  args: JSONValue[];
  /** The result that was sent last, JSON. */
  sent: string;
}

type Modification =
  | { type: "Add"; queryId: number; udfPath: string; args: JSONValue[] }
  | { type: "Remove"; queryId: number };

interface ModifyQuerySet {
  type: "ModifyQuerySet";
  newVersion: number;
  modifications: Modification[];
}

export class SyncServer {
  readonly #server = new WebSocketServer({ noServer: true });
  readonly #clients = new Set<SyncClient>();

  constructor(functions: Functions, redacts: boolean) {
    functions.onChange = () => {
      for (const client of this.#clients) client.refresh();
    };
    this.#server.on("connection", (socket: WebSocket) => {
      const client = new SyncClient(socket, functions, redacts);
      this.#clients.add(client);
      socket.on("close", () => this.#clients.delete(client));
    });
  }

  /** Takes a request to speak this protocol. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (!PATH.test(request.url ?? "")) {
      socket.destroy();
      return;
    }
    this.#server.handleUpgrade(request, socket, head, (accepted) => {
      this.#server.emit("connection", accepted, request);
    });
  }

  close(): void {
    for (const socket of this.#server.clients) socket.terminate();
    this.#server.close();
  }
}

class SyncClient {
  readonly #socket: WebSocket;
  readonly #functions: Functions;
  readonly #redacts: boolean;
  readonly #queries = new Map<number, Query>();
  #version = { querySet: 0, identity: 0, ts: timestamp(0n) };
  #time = 0n;
  /** What is asked is done one after the other. */
  #work = Promise.resolve();

  constructor(socket: WebSocket, functions: Functions, redacts: boolean) {
    this.#socket = socket;
    this.#functions = functions;
    this.#redacts = redacts;
    socket.on("message", (data: RawData) => {
      const message = JSON.parse((data as Buffer).toString()) as { type: string };
      if (message.type === "ModifyQuerySet")
        this.#then(() => this.#modify(message as ModifyQuerySet));
    });
  }

  /** Sends the results that have changed. */
  refresh(): void {
    this.#then(async () => {
      const changed: JSONValue[] = [];
      for (const queryId of this.#queries.keys()) {
        const update = await this.#update(queryId);
        if (update) changed.push(update);
      }
      if (changed.length > 0) this.#send(this.#version.querySet, changed);
    });
  }

  #then(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      this.#socket.terminate();
    });
  }

  async #modify({ newVersion, modifications }: ModifyQuerySet): Promise<void> {
    const updates: JSONValue[] = [];
    for (const modification of modifications) {
      const { queryId } = modification;
      if (modification.type === "Remove") {
        this.#queries.delete(queryId);
        updates.push({ type: "QueryRemoved", queryId });
      } else {
        const { udfPath, args } = modification;
        this.#queries.set(queryId, { udfPath, args, sent: "" });
        const update = await this.#update(queryId);
        if (update) updates.push(update);
      }
    }
    this.#send(newVersion, updates);
  }

  /** The result of a query; undefined if it is the one that was sent last. */
  async #update(queryId: number): Promise<JSONValue | undefined> {
    const query = this.#queries.get(queryId);
    if (!query) return undefined;
    const call = { path: query.udfPath, args: query.args, encoded: true };
    const outcome = await this.#functions.run({ ...call, type: "Query", isAdmin: false });
    const rest = { logLines: this.#redacts ? [] : outcome.logLines, journal: null };
    const update: JSONValue =
      outcome.status === "success"
        ? { type: "QueryUpdated", queryId, value: convexToJson(outcome.value), ...rest }
        : {
            type: "QueryFailed",
            queryId,
            errorMessage: errorMessage(outcome.errorMessage, this.#redacts),
            ...rest,
            ...(outcome.errorData === undefined
              ? {}
              : { errorData: convexToJson(outcome.errorData) }),
          };
    const text = JSON.stringify(update).replace(/\[Request ID: [0-9a-f]+\]/, "");
    if (text === query.sent) return undefined;
    query.sent = text;
    return update;
  }

  #send(querySet: number, modifications: JSONValue[]): void {
    const now = BigInt(Date.now()) * 1_000_000n;
    this.#time = now > this.#time ? now : this.#time + 1n;
    const endVersion = { querySet, identity: 0, ts: timestamp(this.#time) };
    const transition = { type: "Transition", startVersion: this.#version, endVersion };
    const times = { clientClockSkew: 0, serverTs: Number(this.#time) };
    this.#version = endVersion;
    this.#socket.send(JSON.stringify({ ...transition, modifications, ...times }));
  }
}

/** Nanoseconds, little-endian. */
function timestamp(nanoseconds: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(nanoseconds);
  return bytes.toString("base64");
}
