/**
 * Runs the tests of the functions, of the test backend, and of config files; the other folders
 * under tests/ have their own runners.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["convex/**/*.test.ts", "tests/{backend,schemas}/**/*.test.ts"] },
});
