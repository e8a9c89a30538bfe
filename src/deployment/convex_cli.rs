//! The Convex CLI, which deploys the functions: npm installs it, npx runs it on Node.js.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bundle::{self, Bundle};
use super::program::{Output, Program};
use super::server;
use crate::config::{Deployment, Environment};
use crate::system::files::{create_private_folder, make_private};

/// Installs exactly the packages of the lock file and runs none of their scripts. The CLI's bundler
/// is an optional package, because there is one for each system; npm can be configured to leave
/// such packages out.
const INSTALL: [&str; 6] = [
    "ci",
    "--ignore-scripts",
    "--include=optional",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
];
/// Runs the CLI that npm installed, and no other. The functions were type-checked and their code
/// was generated when this program was built. Since 1.47, the CLI asks before it adds or removes an
/// index on a table of 100,000 documents or more, and fails without a terminal.
const DEPLOY: [&str; 9] = [
    "--no-install",
    "convex",
    "deploy",
    "--yes",
    "--typecheck",
    "disable",
    "--codegen",
    "disable",
    "--skip-large-indexes-check",
];
/// Writes a snapshot of all tables and stored files to the path that follows.
const EXPORT: [&str; 5] = [
    "--no-install",
    "convex",
    "export",
    "--include-file-storage",
    "--path",
];
/// Starts the CLI and its bundler. Either can be installed but broken: packages may have been
/// removed, or be those of another system.
const START: [[&str; 3]; 2] = [
    ["--no-install", "convex", "--version"],
    ["--no-install", "esbuild", "--version"],
];
/// How long a download or a deployment may take. A deployment waits until new indexes are filled.
const DEPLOY_TIMEOUT: Duration = Duration::from_mins(30);

/// The Convex CLI in the folder of the functions.
#[derive(Debug)]
pub struct ConvexCli<'a> {
    node: Program,
    npm: Program,
    npx: Program,
    bundle: &'a Bundle,
}

impl<'a> ConvexCli<'a> {
    /// Fails if Node.js is not installed.
    pub fn find(environment: &Environment, bundle: &'a Bundle) -> Result<Self> {
        let remedy = install_node()?;
        let remedy = format!("{remedy}, which includes it");
        let find = |name| Program::find(name, environment, &remedy);
        Ok(Self {
            node: find("node")?,
            npm: find("npm")?,
            npx: find("npx")?,
            bundle,
        })
    }

    /// Checks that Node.js is recent enough for the CLI. Returns its version.
    pub fn check(&self) -> Result<String> {
        // Runs in this folder, because version managers choose the version by the current folder.
        let output = self
            .node
            .run(&self.bundle.folder, &["--version"])
            .output()?;
        let version = output.stdout.trim().trim_start_matches('v');
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        let remedy = install_node()?;
        ensure!(
            output.is_success() && major.is_some(),
            "could not ask Node.js for its version; the end of the output of `node --version`:\n{}{remedy}, then run \
             `convex-sidecar setup` again",
            output.last_lines(None)
        );
        ensure!(
            major >= Some(bundle::oldest_node()?),
            "could not use Node.js {version}, which is too old for the Convex CLI; {remedy}, then run `convex-sidecar setup` again"
        );
        Ok(format!("Node.js {version}"))
    }

    /// Installs the packages unless they are installed. Returns what was done.
    pub fn install(&self) -> Result<&'static str> {
        if self.bundle.is_installed() {
            return Ok("already installed");
        }
        self.reinstall()?;
        Ok("installed")
    }

    /// Whether these functions were the last ones that were deployed from here, and are still
    /// there.
    pub fn has_deployed(&self, deployment: &Deployment) -> Result<bool> {
        Ok(self.bundle.is_deployed(deployment.name()) && server::has_functions(deployment)?)
    }

    /// Deploys the functions. Returns what was done.
    pub fn deploy(&self, deployment: &Deployment) -> Result<String> {
        let (output, is_reinstalled) = self.run(&DEPLOY, deployment)?;
        let mut done = "deployed".to_owned();
        if is_reinstalled {
            done += ", after the packages were installed again";
        }
        self.ensure_success(
            &output,
            "could not deploy the functions; the end of the output of `npx convex deploy`",
            "fix that",
            Some(deployment),
        )?;
        self.bundle.set_deployed(deployment.name())?;
        let indexes = large_indexes(&output.text());
        if !indexes.is_empty() {
            done = format!(
                "{done}. It changed indexes on large tables without asking, because this version of the functions needs them: {}",
                indexes.join("; ")
            );
        }
        Ok(done)
    }

    /// Exports all data of a deployment into a new private file.
    pub fn export(&self, deployment: &Deployment, path: &Path) -> Result<()> {
        let failure = || format!("could not write the export {}", path.display());
        let folder = path.parent().with_context(failure)?;
        create_private_folder(folder).with_context(failure)?;
        let args = [&EXPORT[..], &[path.to_str().with_context(failure)?]].concat();
        let exported = self.run(&args, deployment).and_then(|(output, _)| {
            self.ensure_success(
                &output,
                "could not export the data; the end of the output of `npx convex export`",
                "fix that",
                Some(deployment),
            )?;
            // The CLI creates the file with the usual mode; until now the private folder has kept
            // others out.
            make_private(path).with_context(failure)?;
            let is_empty = path.metadata().with_context(failure)?.len() == 0;
            ensure!(!is_empty, "{}, which is empty", failure());
            Ok(())
        });
        if exported.is_err() {
            // A partial export is removed.
            let _ = std::fs::remove_file(path);
        }
        exported
    }

    /// Runs the CLI. If it fails and does not even start, installs it again and retries once.
    /// Returns whether it was installed again.
    fn run(&self, args: &[&str], deployment: &Deployment) -> Result<(Output, bool)> {
        let run = || {
            let run = self.npx.run(&self.bundle.folder, args);
            run.deployment(deployment).limit(DEPLOY_TIMEOUT).output()
        };
        let output = run()?;
        if output.is_success() || self.starts() {
            return Ok((output, false));
        }
        self.reinstall()?;
        Ok((run()?, true))
    }

    /// Whether the CLI and its bundler start.
    fn starts(&self) -> bool {
        START.iter().all(|args| {
            let output = self.npx.run(&self.bundle.folder, args).output();
            output.is_ok_and(|output| output.is_success())
        })
    }

    fn reinstall(&self) -> Result<()> {
        let run = self.npm.run(&self.bundle.folder, &INSTALL);
        self.ensure_success(
            &run.limit(DEPLOY_TIMEOUT).output()?,
            "could not install the Convex CLI; the end of the output of `npm ci`",
            "check the network and npm's registry (`npm config get registry`)",
            None,
        )
    }

    fn ensure_success(
        &self,
        output: &Output,
        failure: &str,
        remedy: &str,
        deployment: Option<&Deployment>,
    ) -> Result<()> {
        ensure!(
            output.is_success(),
            "{failure} in {}:\n{}{remedy}, then run `convex-sidecar setup` again",
            self.bundle.folder.display(),
            output.last_lines(deployment.map(|deployment| &deployment.key))
        );
        Ok(())
    }
}

fn install_node() -> Result<String> {
    let oldest = bundle::oldest_node()?;
    Ok(format!(
        "install Node.js {oldest} or newer (https://nodejs.org)"
    ))
}

/// What the CLI says about indexes on large tables: which it created and deleted, with the number
/// of documents. It marks these; indexes on small tables can be in the same list.
fn large_indexes(output: &str) -> Vec<String> {
    let mut action = "created";
    let mut found = Vec::new();
    for line in output.lines() {
        if line.contains("will delete the following") {
            action = "deleted";
        } else if line.contains("will create the following") {
            action = "created";
        } else if let Some((_, index)) = line.split_once('⛔')
            && let Some((index, documents)) = index.split_once('⚠')
        {
            let words = index.split_whitespace().collect::<Vec<_>>().join(" ");
            let documents = documents.trim_start_matches(|letter: char| !letter.is_ascii_digit());
            found.push(format!("{action} {words} ({})", documents.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_on_large_tables_are_found_in_the_output_of_the_cli() {
        let output = "\
⚠️  This code push will delete the following indexes
from your production deployment (http://127.0.0.1:3210):

⛔ agentSessions.by_status   status  ⚠️  120,000 documents
   → replaced by: agentSessions.by_status   status, metadata.updatedAt
⛔ workflows.by_name   name  3 documents

✔ Proceeding with push since deleting large indexes was allowed by flag
⚠️  This push will create the following index on a large table
in your deployment (http://127.0.0.1:3210). The deploy will block until it finishes backfilling:

⛔ agentSessions.by_updatedAt   metadata.updatedAt  ⚠️  120,000 documents
";
        assert_eq!(
            large_indexes(output),
            [
                "deleted agentSessions.by_status status (120,000 documents)",
                "created agentSessions.by_updatedAt metadata.updatedAt (120,000 documents)",
            ]
        );
        assert!(large_indexes("✔ No indexes are deleted by this push").is_empty());
    }
}
