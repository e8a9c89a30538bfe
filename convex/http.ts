/**
 * The page at the address of the deployment's HTTP actions. It contains no data: everything comes
 * from the queries in view.ts, which ask for a token.
 */
import { httpRouter } from "convex/server";
import { env, httpAction } from "./_generated/server";
import { HTML, SCRIPT_HASH, STYLE_HASH } from "./model/page";

const http = httpRouter();

http.route({
  path: "/",
  method: "GET",
  handler: httpAction(() => {
    const { CONVEX_CLOUD_URL: deployment = "" } = env;
    return Promise.resolve(page(deployment));
  }),
});

/**
 * The page may run its own script and connect to its own deployment, and nothing else. Even if recorded
 * text were interpreted as HTML, it could neither load nor send anything.
 */
function page(deployment: string): Response {
  const { origin } = new URL(deployment);
  const policy = [
    "default-src 'none'",
    `script-src '${SCRIPT_HASH}'`,
    `style-src '${STYLE_HASH}'`,
    "img-src data:",
    `connect-src ${origin} ${origin.replace(/^http/, "ws")}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return new Response(
    HTML.replace("DEPLOYMENT_URL", () => origin),
    {
      headers: {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy.join("; "),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
      },
    },
  );
}

export default http;
