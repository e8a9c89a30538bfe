/** The tests of the page, which need a browser: `make view-test`. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/view/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Some measure times.
    fileParallelism: false,
  },
});
