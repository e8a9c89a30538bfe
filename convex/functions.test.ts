/**
 * What must be true for every function, including ones added later: only the admin key reaches it,
 * and it has validators for its arguments and its return value. Anyone who can reach the port can
 * call a public function. The only ones are the page's queries, which check a token first
 * (view.test.ts).
 */
import { expect, it } from "vitest";

interface Exported {
  isInternal?: boolean;
  isPublic?: boolean;
  isQuery?: boolean;
  exportArgs?: () => string;
  exportReturns?: () => string;
}

const modules = import.meta.glob<Record<string, Exported>>(
  ["./**/*.ts", "!./**/*.test.ts", "!./_generated/**"],
  { eager: true },
);

const functions = Object.entries(modules).flatMap(([path, exports]) =>
  Object.entries(exports)
    .filter(([, exported]) => exported.isInternal ?? exported.isPublic ?? exported.exportArgs)
    .map(([name, exported]) => [`${path.slice(2, -3)}:${name}`, exported] as const),
);

it("deploys exactly these functions", () => {
  expect(functions.map(([name]) => name).sort()).toEqual([
    "agents:addToUsageDays",
    "agents:createAgentSession",
    "agents:deleteAgentSession",
    "agents:deleteExpiredSessions",
    "agents:findAgentSessions",
    "agents:getAgentSession",
    "agents:getPageAddress",
    "agents:listAgentSessions",
    "agents:listUsageDays",
    "agents:syncAgentSessions",
    "agents:updateAgentSession",
    "view:days",
    "view:running",
    "view:session",
    "view:sessions",
    "workflows:createWorkflow",
    "workflows:deleteExpiredWorkflows",
    "workflows:getWorkflow",
    "workflows:listWorkflows",
    "workflows:updateWorkflow",
  ]);
});

it.each(functions)("%s has validators for its arguments and its return value", (_, exported) => {
  expect(exported.exportArgs?.()).toContain('"type":"object"');
  expect(exported.exportReturns?.()).not.toBe("null");
});

it.each(functions)(
  "%s is internal, or a query of the page that asks for a token",
  (name, exported) => {
    const isOfPage = name.startsWith("view:");
    expect([exported.isInternal, exported.isPublic]).toEqual(
      isOfPage ? [undefined, true] : [true, undefined],
    );
    if (!isOfPage) return;
    expect(exported.isQuery).toBe(true);
    const { value } = JSON.parse(exported.exportArgs?.() ?? "") as {
      value: { token: { fieldType: { type: string }; optional: boolean } };
    };
    expect(value.token).toEqual({ fieldType: { type: "string" }, optional: false });
  },
);
