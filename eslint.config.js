/** Strict rules with types, and Convex's own for its folder. The generated files are the CLI's business. */
import convex from "@convex-dev/eslint-plugin";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  { ignores: ["convex/_generated/", "target/", "tests/client/", "**/*.js"] },
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  convex.configs.recommended,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true, allowNullish: true }],
      // It never returns from types that contain themselves, such as Convex's values.
      "@typescript-eslint/no-unsafe-class-instance-assignment": "off",
    },
  },
);
