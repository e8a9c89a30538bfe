/** Strict rules that use types, and all of Convex's own rules for its folder. */
import convex from "@convex-dev/eslint-plugin";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  {
    ignores: [
      "convex/_generated/",
      "convex/model/page.ts",
      "target/",
      "tests/client/",
      "examples/",
      "**/*.js",
    ],
  },
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  convex.configs.recommended,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true, allowNullish: true },
      ],
      // Never finishes on recursive types such as Convex's `Value`.
      "@typescript-eslint/no-unsafe-class-instance-assignment": "off",
    },
  },
  {
    // The rules that `recommended` leaves off.
    files: ["convex/**/*.ts"],
    rules: {
      "@convex-dev/import-wrong-runtime": "error",
      "@convex-dev/no-collect-in-query": "error",
      "@convex-dev/require-access-control": "error",
    },
  },
);
