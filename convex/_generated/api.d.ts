/* eslint-disable */
/**
 * Generated `api` utility.
 *
 * THIS CODE IS AUTOMATICALLY GENERATED.
 *
 * To regenerate, run `npx convex dev`.
 * @module
 */

import type {
  ApiFromModules,
  FilterApi,
  FunctionReference,
} from "convex/server";
import type * as agents from "../agents.js";
import type * as crons from "../crons.js";
import type * as http from "../http.js";
import type * as model_access from "../model/access.js";
import type * as model_agents from "../model/agents.js";
import type * as model_page from "../model/page.js";
import type * as model_retention from "../model/retention.js";
import type * as model_time from "../model/time.js";
import type * as model_usageDays from "../model/usageDays.js";
import type * as model_validators from "../model/validators.js";
import type * as model_view from "../model/view.js";
import type * as model_workflows from "../model/workflows.js";
import type * as view from "../view.js";
import type * as workflows from "../workflows.js";

/**
 * A utility for referencing Convex functions in your app's API.
 *
 * Usage:
 * ```js
 * const myFunctionReference = api.myModule.myFunction;
 * ```
 */
declare const fullApi: ApiFromModules<{
  agents: typeof agents;
  crons: typeof crons;
  http: typeof http;
  "model/access": typeof model_access;
  "model/agents": typeof model_agents;
  "model/page": typeof model_page;
  "model/retention": typeof model_retention;
  "model/time": typeof model_time;
  "model/usageDays": typeof model_usageDays;
  "model/validators": typeof model_validators;
  "model/view": typeof model_view;
  "model/workflows": typeof model_workflows;
  view: typeof view;
  workflows: typeof workflows;
}>;
export declare const api: FilterApi<
  typeof fullApi,
  FunctionReference<any, "public">
>;
export declare const internal: FilterApi<
  typeof fullApi,
  FunctionReference<any, "internal">
>;
