//! The Convex CLI, which deploys the functions: npm installs it, npx runs it.

use anyhow::{Result, ensure};

use super::bundle::Bundle;
use super::program::{Output, Program};
use super::server;
use crate::config::{Deployment, Environment};

/// Installs exactly the packages of the lock file and runs none of their scripts.
const INSTALL: [&str; 5] = [
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
];
/// Runs the CLI that npm installed, and no other. The functions were type-checked and their code
/// was generated when this program was built.
const DEPLOY: [&str; 8] = [
    "--no-install",
    "convex",
    "deploy",
    "--yes",
    "--typecheck",
    "disable",
    "--codegen",
    "disable",
];

/// The Convex CLI in the folder of the functions.
#[derive(Debug)]
pub struct ConvexCli<'a> {
    npm: Program,
    npx: Program,
    bundle: &'a Bundle,
}

impl<'a> ConvexCli<'a> {
    /// Fails if Node.js is not installed.
    pub fn find(environment: &Environment, bundle: &'a Bundle) -> Result<Self> {
        let find = |name| {
            let remedy = "install Node.js 18 or newer (https://nodejs.org), which includes it";
            Program::find(name, environment, remedy)
        };
        Ok(Self {
            npm: find("npm")?,
            npx: find("npx")?,
            bundle,
        })
    }

    /// Installs the packages, unless they are. Returns what was done.
    pub fn install(&self) -> Result<&'static str> {
        if self.bundle.is_installed() {
            return Ok("already installed");
        }
        let output = self.npm.run(&self.bundle.folder, &INSTALL, &[])?;
        self.ensure_success(
            &output,
            "could not install the Convex CLI; the end of the output of `npm ci`",
            "check the network and npm's registry (`npm config get registry`)",
            None,
        )?;
        Ok("installed")
    }

    /// Deploys the functions, unless they are. Returns what was done.
    pub fn deploy(&self, deployment: &Deployment) -> Result<&'static str> {
        if self.bundle.is_deployed(deployment.name()) && server::has_functions(deployment)? {
            return Ok("already deployed");
        }
        let variables = deployment.cli_environment();
        let output = self.npx.run(&self.bundle.folder, &DEPLOY, &variables)?;
        self.ensure_success(
            &output,
            "could not deploy the functions; the end of the output of `npx convex deploy`",
            "fix that",
            Some(deployment),
        )?;
        self.bundle.set_deployed(deployment.name())?;
        Ok("deployed")
    }

    fn ensure_success(
        &self,
        output: &Output,
        failure: &str,
        remedy: &str,
        deployment: Option<&Deployment>,
    ) -> Result<()> {
        ensure!(
            output.is_success,
            "{failure} in {}:\n{}{remedy}, then run `convex-sidecar setup` again",
            self.bundle.folder.display(),
            output.last_lines(deployment.map(|deployment| &deployment.key))
        );
        Ok(())
    }
}
