/**
 * The release workflow and what it publishes besides the archives: a Homebrew formula, a Scoop manifest
 * and the metadata of `cargo binstall`. The steps themselves are in packaging/release.sh; those that
 * need only archives run here, the others in tests/binary/release.rs.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const FORMULA = "HomebrewFormula/convex-sidecar.rb";
const MANIFEST = "bucket/convex-sidecar.json";

interface Step {
  run?: string;
  uses?: string;
  if?: string;
  with?: Record<string, string>;
}
interface Job {
  if?: string;
  needs?: string | string[];
  permissions?: Record<string, string>;
  "runs-on": string;
  strategy?: { "fail-fast": boolean; matrix: { include: { target: string; runner: string }[] } };
  steps: Step[];
}
const workflow = read(".github/workflows/release.yml");
const { permissions, jobs } = parse(workflow) as {
  permissions: Record<string, string>;
  jobs: Record<string, Job>;
};
const { check, build, release } = jobs;
const systems = build?.strategy?.matrix.include ?? [];
const targets = systems.map((system) => system.target).sort();
const steps = (job?: Job) => job?.steps.flatMap((step) => step.run ?? []) ?? [];

const script = read("packaging/release.sh");
/** The text of a step of packaging/release.sh. */
const step = (name: string) =>
  new RegExp(`^${name}\\(\\) \\{\\n(.*?)^\\}`, "ms").exec(script)?.[1] ?? "";

describe("the release workflow", () => {
  test("tests each system before a tag exists, and publishes only a tag", () => {
    const onTag = "github.ref_type == 'tag'";
    expect(Object.keys((parse(workflow) as { on: object }).on)).toEqual([
      "push",
      "workflow_dispatch",
    ]);
    expect(build?.strategy?.["fail-fast"]).toBe(false);
    expect(release?.if).toBe(onTag);
    const ofTags = check?.steps.filter((step) => step.if === onTag) ?? [];
    expect(ofTags.map((step) => step.run)).toEqual([
      'packaging/release.sh check_tag "$GITHUB_REF_NAME"',
    ]);
  });

  test("runs the steps of packaging/release.sh and nothing else", () => {
    expect(steps(check)).toEqual([
      'packaging/release.sh check_tag "$GITHUB_REF_NAME"',
      "packaging/release.sh check_packages",
      "packaging/release.sh check_images",
    ]);
    expect(steps(build)).toEqual([
      "packaging/release.sh build ${{ matrix.target }}",
      "packaging/release.sh image",
      "packaging/release.sh run_tests ${{ matrix.target }}",
      "packaging/release.sh pack ${{ matrix.target }}",
    ]);
    expect(steps(release)).toEqual([
      "packaging/release.sh collect",
      'packaging/release.sh publish "$GITHUB_REF_NAME"',
    ]);
    for (const job of Object.values(jobs))
      for (const run of steps(job)) expect(step(run.split(" ")[1] ?? ""), run).not.toBe("");
  });

  test("builds and tests each executable on its target system and processor", () => {
    const expected: Record<string, RegExp> = {
      "x86_64-unknown-linux-musl": /^ubuntu-[\d.]+$/,
      "aarch64-unknown-linux-musl": /^ubuntu-[\d.]+-arm$/,
      "x86_64-apple-darwin": /^macos-\d+-intel$/,
      "aarch64-apple-darwin": /^macos-(latest|\d+)$/,
      "x86_64-pc-windows-msvc": /^windows-\d+$/,
      "aarch64-pc-windows-msvc": /^windows-\d+-arm$/,
    };
    expect(targets).toEqual(Object.keys(expected).sort());
    for (const { target, runner } of systems)
      expect(runner, target).toMatch(expected[target] ?? /$^/);
    // Every step runs on all of them, except for the image, which is for Linux.
    for (const { run, if: condition } of build?.steps ?? [])
      expect(condition, run).toBe(run?.endsWith(" image") ? "runner.os == 'Linux'" : undefined);
    expect(step("image")).toMatch(/docker build .*\n.*docker run /);
    expect(step("build")).toContain('check_executable "$TARGET"');
    expect(step("run_tests")).toMatch(/cargo .* test --locked --target "\$TARGET" .*--test binary/);
    expect(read(".cargo/config.toml")).toMatch(
      /\[target\.'cfg\(all\(windows, target_env = "msvc"\)\)'\]\nrustflags = \["-C", "target-feature=\+crt-static"\]/,
    );
  });

  test("releases only what was checked, and says where it comes from", () => {
    expect(release?.needs).toEqual(["check", "build"]);
    for (const part of [
      "cargo-deny --locked check advisories licenses bans sources",
      "npm audit --audit-level=high",
      "npm audit signatures",
      "npm ci --ignore-scripts",
      // The folders whose packages are used: the one that `setup` installs, and the one for the
      // tests.
      "for folder in deployment .;",
    ])
      expect(step("check_packages")).toContain(part);
    expect(step("check_images")).toContain("docker buildx imagetools inspect");
    const attest = release?.steps.find((step) => step.uses?.includes("attest-build-provenance"));
    expect(attest?.with?.["subject-path"]?.trim().split("\n")).toEqual([
      "convex-sidecar-*.tar.gz",
      "packages/*.tgz",
      "SHA256SUMS",
      "IMAGES",
    ]);
    // Only the last job may write, and no job has a secret that it does not need.
    expect(permissions).toEqual({ contents: "read" });
    expect([check?.permissions, build?.permissions]).toEqual([undefined, undefined]);
    expect(release?.permissions).toEqual({
      contents: "write",
      "id-token": "write",
      attestations: "write",
    });
    expect(workflow).not.toContain("secrets.");
    expect(read("deny.toml")).toContain("[advisories]");
  });
});

describe("what is created from the archives", () => {
  const folder = mkdtempSync(join(tmpdir(), "convex-sidecar-release-"));
  const VERSION = "12.34.56";
  const checksums = new Map<string, string>();
  const run = (...args: string[]) =>
    spawnSync("packaging/release.sh", args, { cwd: folder, encoding: "utf8" });
  const fill = (file: string) => run("name_archives", file);
  const made = (path: string) => readFileSync(join(folder, path), "utf8");
  const page = `https://github.com/convex-sidecar/convex-sidecar/releases/download/v${VERSION}`;
  const address = (target: string) => `${page}/convex-sidecar-${target}.tar.gz`;

  /** Made-up archives of another version. */
  beforeAll(() => {
    for (const name of ["packaging", "npm", "HomebrewFormula", "bucket", "LICENSE", "README.md"])
      cpSync(join(ROOT, name), join(folder, name), { recursive: true });
    const cargo = read("Cargo.toml").replace(/^version = ".*"$/m, `version = "${VERSION}"`);
    writeFileSync(join(folder, "Cargo.toml"), cargo);
    for (const target of targets) {
      const name = `convex-sidecar-${target}`;
      const program = target.includes("windows") ? "convex-sidecar.exe" : "convex-sidecar";
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, program), `the executable for ${target}`);
      execFileSync("tar", ["-czf", `${name}.tar.gz`, name], { cwd: folder });
      rmSync(join(folder, name), { recursive: true });
      const archive = readFileSync(join(folder, `${name}.tar.gz`));
      checksums.set(target, createHash("sha256").update(archive).digest("hex"));
    }
    const { status, stderr } = run("collect");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  }, 120_000);
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test("the checksums are those of the archives", () => {
    const lines = targets.map(
      (target) => `${checksums.get(target)}  convex-sidecar-${target}.tar.gz`,
    );
    expect(made("SHA256SUMS").trimEnd().split("\n")).toEqual(lines);
  });

  test("there is an npm package for every system", () => {
    const { optionalDependencies } = JSON.parse(
      execFileSync(
        "tar",
        ["-xzOf", `packages/convex-sidecar-${VERSION}.tgz`, "package/package.json"],
        { cwd: folder, encoding: "utf8" },
      ),
    ) as { optionalDependencies: Record<string, string> };
    expect(Object.keys(optionalDependencies).length).toBe(targets.length);
    expect(new Set(Object.values(optionalDependencies))).toEqual(new Set([VERSION]));
  });

  test("the Homebrew formula names the archives for macOS and Linux with their checksums", () => {
    const text = made(FORMULA);
    expect(/^ {2}version "(.*)"$/m.exec(text)?.[1]).toBe(VERSION);
    // on_macos or on_linux, on_arm or on_intel, address, checksum.
    const found = [...text.matchAll(/^ {2}on_(\w+) do\n(.*?)^ {2}end$/gms)].flatMap(
      ([, os, body = ""]) =>
        [...body.matchAll(/^ {4}on_(\w+) do\n {6}url "(.*)"\n {6}sha256 "(.*)"\n {4}end$/gm)].map(
          ([, cpu, url, sha256]) => ({ os, cpu, url, sha256 }),
        ),
    );
    const expected = targets
      .filter((target) => !target.includes("windows"))
      .map((target) => ({
        os: target.includes("apple") ? "macos" : "linux",
        cpu: target.startsWith("aarch64") ? "arm" : "intel",
        url: address(target),
        sha256: checksums.get(target),
      }));
    expect(new Set(found)).toEqual(new Set(expected));
    expect(text.match(/sha256/g)?.length).toBe(expected.length);
    // The files that it installs are in the archive.
    const packed = /cp target\/"\$1"\/release\/convex-sidecar\* (.*) "\$name"/.exec(
      step("pack"),
    )?.[1];
    expect(packed?.split(" ").map((file) => file.split("/").at(-1))).toContain("convex-sidecar.1");
    expect(text).toContain('bin.install "convex-sidecar"\n    man1.install "convex-sidecar.1"');
    const ruby = spawnSync("ruby", ["-c", join(folder, FORMULA)], { encoding: "utf8" });
    if (ruby.error === undefined) expect(ruby.stdout).toBe("Syntax OK\n");
  });

  test("the Scoop manifest names the archives for Windows with their checksums", () => {
    const manifest = JSON.parse(made(MANIFEST)) as {
      version: string;
      bin: string;
      architecture: Record<string, { url: string; hash: string; extract_dir: string }>;
    };
    const schema = JSON.parse(read("tests/schemas/scoop-manifest.json")) as object;
    const validate = new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(
      schema,
    );
    const problems = (value: unknown) => (validate(value) ? [] : validate.errors);
    expect(problems(manifest)).toEqual([]);
    expect(problems({ ...manifest, hash: "none" })).not.toEqual([]);
    expect(manifest.version).toBe(VERSION);
    const architecture = (target: string) => ({
      url: address(target),
      hash: checksums.get(target),
      extract_dir: `convex-sidecar-${target}`,
    });
    expect(manifest.architecture).toEqual({
      "64bit": architecture("x86_64-pc-windows-msvc"),
      arm64: architecture("aarch64-pc-windows-msvc"),
    });
    expect(manifest.bin).toBe("convex-sidecar.exe");
  });

  test("cargo binstall looks for the archives", () => {
    const cargo = read("Cargo.toml");
    const field = (name: string) => new RegExp(`^${name} = "(.*)"$`, "m").exec(cargo)?.[1] ?? "";
    const rendered = (template: string, target: string) =>
      template
        .replace("{ repo }", field("repository"))
        .replace("{ version }", VERSION)
        .replaceAll("{ name }", "convex-sidecar")
        .replaceAll("{ target }", target)
        .replace(
          "{ bin }{ binary-ext }",
          target.includes("windows") ? "convex-sidecar.exe" : "convex-sidecar",
        );
    for (const target of targets) {
      expect(rendered(field("pkg-url"), target)).toBe(address(target));
      const packed = execFileSync("tar", ["-tzf", `convex-sidecar-${target}.tar.gz`], {
        cwd: folder,
        encoding: "utf8",
      });
      expect(packed.split("\n")).toContain(rendered(field("bin-dir"), target));
    }
    expect(field("pkg-fmt")).toBe("tgz");
  });

  test("what a release filled in is replaced by the next one", () => {
    for (const file of [FORMULA, MANIFEST]) expect(fill(file).stdout).toBe(made(file));
  });

  test("a missing archive stops the release", () => {
    writeFileSync(
      join(folder, "SHA256SUMS"),
      made("SHA256SUMS").replace(/^.*aarch64-apple.*\n/m, ""),
    );
    const { status, stderr } = fill(FORMULA);
    expect(status).not.toBe(0);
    expect(stderr).toContain("no archive convex-sidecar-aarch64-apple-darwin.tar.gz");
  });
});
