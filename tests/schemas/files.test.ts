/**
 * Files that no test can run, because there is no Docker and no GitHub here: checked against the
 * published schemas, the repository, and the docs that describe them.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { Ajv, type ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");
const list = (folder: string, ending: string) => {
  const names = readdirSync(new URL(folder, ROOT), { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.endsWith(ending)).map((name) => `${folder}${name}`);
};
const schema = (name: string) => JSON.parse(read(`tests/schemas/${name}.json`)) as object;
/** The schemas use their own formats and keywords, which are not checked here. */
const OPTIONS = { strict: false, validateFormats: false, allErrors: true };

function problems(validate: ValidateFunction, yaml: string): unknown[] {
  validate(parse(yaml));
  return validate.errors ?? [];
}

/** The fenced code blocks of a document in this language. */
function blocks(path: string, language: string): string[] {
  return [...read(path).matchAll(/^```(\w+)\n(.*?)^```/gms)]
    .filter((block) => block[1] === language)
    .map((block) => block[2] ?? "");
}

describe("docker-compose.yml", () => {
  const text = read("docker-compose.yml");

  test("matches the Compose Specification", () => {
    const validate = new Ajv2020(OPTIONS).compile(schema("compose-spec"));
    expect(problems(validate, text)).toEqual([]);
    expect(problems(validate, text.replace("healthcheck:", "healthchecks:"))).not.toEqual([]);
  });

  test("uses exactly the variables that docs/docker.md explains", () => {
    const rows = [...read("docs/docker.md").matchAll(/^\| `([A-Z\d_]+)` \| (.*?) \|/gm)];
    const used = [...text.matchAll(/(?<!\$)\$\{([A-Z\d_]+)(?::?-([^${}]*)\})?/g)];
    expect(rows.map((row) => row[1]).sort()).toEqual(
      [...new Set(used.map((use) => use[1]))].sort(),
    );
    // If the document states a default, it is the one in the file.
    const defaults = new Map(used.map((use) => [use[1], use[2]]));
    for (const [, name, cell] of rows) {
      const stated = /^`([^`A-Z]+)`$/.exec(cell ?? "")?.[1];
      if (stated !== undefined)
        expect({ [name ?? ""]: stated }).toEqual({ [name ?? ""]: defaults.get(name) });
    }
  });

  test("pins its images", () => {
    const { services } = parse(text) as { services: Record<string, { image: string }> };
    for (const { image } of Object.values(services))
      expect(image).toMatch(/:\$\{[A-Z_]+:-([0-9a-f]{40}|[0-9.]+)\}$/);
  });
});

describe("workflows", () => {
  const validate = new Ajv(OPTIONS).compile(schema("github-workflow"));
  const workflows = [
    ...list(".github/workflows/", ".yml").map(read),
    ...blocks("docs/ci.md", "yaml"),
  ];

  test("match the schema of GitHub Actions", () => {
    expect(workflows.length).toBeGreaterThanOrEqual(2);
    for (const workflow of workflows) {
      expect(problems(validate, workflow)).toEqual([]);
      expect(problems(validate, workflow.replace("runs-on:", "run-on:"))).not.toEqual([]);
    }
  });

  test("pin actions to a commit", () => {
    const uses = workflows.flatMap((workflow) =>
      workflow.split("\n").filter((line) => line.includes("uses:")),
    );
    expect(uses.length).toBeGreaterThanOrEqual(4);
    for (const line of uses)
      expect(line).toMatch(/uses: actions\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test("download an archive in CI that a release has", () => {
    const targets = [...read(".github/workflows/release.yml").matchAll(/target: ([\w-]+),/g)].map(
      (target) => target[1],
    );
    expect(targets.length).toBe(6);
    const [snippet = ""] = blocks("docs/ci.md", "yaml");
    expect(targets).toContain(/name=convex-sidecar-([\w-]+)/.exec(snippet)?.[1]);
    expect(snippet).toContain("SHA256SUMS");
    expect(snippet.trimEnd()).toMatch(/if: always\(\)\n\s+run: convex-sidecar sync --summary$/);
  });

  test("build with the same flags as the Makefile", () => {
    const builds = [read("packaging/release.sh"), read("Dockerfile"), read("Makefile")].map(
      (file) =>
        /cargo (?:\+\S+ )?(build --locked --release)(?: --target "\$TARGET")?$/m.exec(file)?.[1],
    );
    expect(builds).toEqual(Array(3).fill("build --locked --release"));
  });
});

describe("package metadata", () => {
  const cargo = read("Cargo.toml");
  const field = (name: string) => new RegExp(`^${name} = "(.*)"$`, "m").exec(cargo)?.[1];

  test("of the plugin agrees with Cargo.toml", () => {
    const plugin = JSON.parse(read(".claude-plugin/plugin.json")) as Record<string, unknown>;
    for (const name of ["name", "version", "license", "homepage", "repository"]) {
      expect({ [name]: plugin[name] }).toEqual({ [name]: field(name) });
    }
    const { plugins } = JSON.parse(read(".claude-plugin/marketplace.json")) as {
      plugins: unknown[];
    };
    expect(plugins).toEqual([{ ...plugin, source: "./", version: undefined, author: undefined }]);
  });
});

describe("Dockerfile", () => {
  const text = read("Dockerfile");
  const sources = [...text.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap((line) =>
    (line[1] ?? "").split(" "),
  );

  test("copies files that exist, that .dockerignore allows, and that are enough to build", () => {
    const allowed = new Set(
      [...read(".dockerignore").matchAll(/^!(.*)$/gm)].map((line) => line[1]),
    );
    expect(new Set(sources)).toEqual(allowed);
    for (const source of sources) expect(existsSync(new URL(source, ROOT)), source).toBe(true);
    const included = list("src/", ".rs").flatMap((path) =>
      [
        ...(read(path).split("#[cfg(test)]")[0] ?? "").matchAll(
          /\b(include_(?:str|bytes)|file)!\("((?:\.\.\/)*)(.*?)"\)/g,
        ),
      ].map(([, macro, parents, name = ""]) =>
        // A file beside the source; all others are named relative to the root.
        macro !== "file" && parents === "" ? path : name,
      ),
    );
    expect(included.length).toBeGreaterThan(10);
    for (const path of included) expect(sources, path).toContain(path.split("/")[0]);
    const cargo = read("Cargo.toml");
    const members = /^members = .*$/m.exec(cargo)?.[0] ?? "";
    const paths = [...cargo.matchAll(/^path = "(.*)"$/gm), ...members.matchAll(/"(.*?)"/g)];
    expect(paths.length).toBeGreaterThan(2);
    for (const [, path = ""] of paths) expect(sources, path).toContain(path.split("/")[0]);
  });

  test("starts from pinned images with a new enough compiler, and does not run as root", () => {
    const images = [...text.matchAll(/^FROM (\S+)/gm)].map((line) => line[1]);
    for (const image of images) expect(image).toMatch(/:\d+\.\d+\.\d+/);
    const needed = /^rust-version = "(.*)"$/m.exec(read("Cargo.toml"))?.[1] ?? "none";
    expect(images[0]).toContain(`rust:${needed}.`);
    expect(read("packaging/release.sh")).toContain(`\ntoolchain=${needed}.`);
    expect(text.indexOf("\nUSER agent\n")).toBeGreaterThan(text.lastIndexOf("\nFROM "));
    expect(text).toContain("adduser -D -u 10001 agent");
  });

  test("builds for the processor that it is built on", () => {
    expect(text).not.toMatch(/x86_64|amd64|aarch64|arm64|--target|--platform/);
  });
});
