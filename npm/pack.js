/**
 * Packs the archives of a release for npm: a package for each system, which contains the
 * executable, and `convex-sidecar`, which depends on all of them and runs the one that npm
 * installed.
 *
 * usage: node npm/pack.js ARCHIVES PACKAGES [TARGET…]
 *
 * ARCHIVES is a folder with `convex-sidecar-TARGET.tar.gz`, PACKAGES the folder for the packages.
 * Without a TARGET, all archives of a release must be there.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The targets of .github/workflows/release.yml, and what Node.js calls their systems. */
const SYSTEMS = {
  "x86_64-unknown-linux-musl": { os: "linux", cpu: "x64" },
  "aarch64-unknown-linux-musl": { os: "linux", cpu: "arm64" },
  "x86_64-apple-darwin": { os: "darwin", cpu: "x64" },
  "aarch64-apple-darwin": { os: "darwin", cpu: "arm64" },
  "x86_64-pc-windows-msvc": { os: "win32", cpu: "x64" },
  "aarch64-pc-windows-msvc": { os: "win32", cpu: "arm64" },
};

const root = fileURLToPath(new URL("..", import.meta.url));
const [archives, packages, ...wanted] = process.argv.slice(2);
if (packages === undefined) {
  process.stderr.write("usage: node npm/pack.js ARCHIVES PACKAGES [TARGET…]\n");
  process.exit(64);
}
const targets = wanted.length > 0 ? wanted : Object.keys(SYSTEMS);
const cargo = fs.readFileSync(join(root, "Cargo.toml"), "utf8");
const field = (name) => new RegExp(`^${name} = "(.*)"$`, "m").exec(cargo)[1];
const shared = {
  version: field("version"),
  description: field("description"),
  license: field("license"),
  homepage: field("homepage"),
  repository: { type: "git", url: `git+${field("repository")}.git` },
};

/** Packs a folder to which `fill` adds files. */
function pack(manifest, fill) {
  const folder = fs.mkdtempSync(join(tmpdir(), "convex-sidecar-npm-"));
  try {
    fs.writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    for (const name of ["LICENSE", "README.md"])
      fs.copyFileSync(join(root, name), join(folder, name));
    fill(folder);
    const args = ["pack", folder, "--pack-destination", packages, "--ignore-scripts", "--silent"];
    process.stdout.write(execFileSync("npm", args, { shell: process.platform === "win32" }));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

fs.mkdirSync(packages, { recursive: true });
const optionalDependencies = {};
for (const target of targets) {
  const { os, cpu } = SYSTEMS[target];
  const name = `@convex-sidecar/${os}-${cpu}`;
  const file = os === "win32" ? "convex-sidecar.exe" : "convex-sidecar";
  const description = `The executable of convex-sidecar for ${os}-${cpu}`;
  // Yarn would leave the package in a zip, from which no system can start the executable.
  const preferUnplugged = true;
  const fields = { os: [os], cpu: [cpu], files: ["bin"], preferUnplugged };
  const manifest = { name, ...shared, description, ...fields };
  pack(manifest, (folder) => {
    const archive = join(archives, `convex-sidecar-${target}.tar.gz`);
    const inArchive = `convex-sidecar-${target}/${file}`;
    execFileSync("tar", ["-xzf", archive, "-C", folder, "--strip-components=1", inArchive]);
    fs.mkdirSync(join(folder, "bin"));
    fs.copyFileSync(join(folder, file), join(folder, "bin", file));
    fs.chmodSync(join(folder, "bin", file), 0o755);
  });
  optionalDependencies[name] = shared.version;
}
const manifest = {
  name: "convex-sidecar",
  ...shared,
  keywords: ["claude", "claude-code", "agent", "convex", "hooks", "observability"],
  type: "module",
  bin: { "convex-sidecar": "launcher.js" },
  files: ["launcher.js"],
  engines: { node: ">=18" },
  optionalDependencies,
};
pack(manifest, (folder) => {
  fs.copyFileSync(join(root, "npm/launcher.js"), join(folder, "launcher.js"));
});
