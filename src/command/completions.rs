//! `completions`: what a shell needs to complete our command line, from the same description that
//! parses it.

use anyhow::Result;
use clap::CommandFactory;

use super::print;
use crate::cli::{Cli, Completions};

/// Runs `completions`.
pub fn run(options: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        options.shell,
        &mut Cli::command(),
        "convex-sidecar",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}
