/** The tests of the functions, of the backend that serves them, and of files that nothing here can run; the other folders under tests/ have runners of their own. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["convex/**/*.test.ts", "tests/{backend,schemas}/**/*.test.ts"] },
});
