/** The tests of the functions and of the backend that serves them; the other folders under tests/ have runners of their own. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["convex/**/*.test.ts", "tests/backend/**/*.test.ts"] },
});
