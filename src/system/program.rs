//! Programs of others that `setup` runs: docker, npm, npx. What they print may repeat a key, so
//! nothing of it is shown but the end, masked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex_lite::Regex;

use crate::config::{AdminKey, Environment, LEADING_CONVEX};
use crate::ui::escape_block;

/// How many of the last lines of a program are shown.
const SHOWN: usize = 15;
/// What a program's file may end in, where that says that it is one.
const ENDINGS: &[&str] = if cfg!(windows) {
    &[".exe", ".cmd"]
} else {
    &[""]
};
/// An admin key or a deploy key that nobody told us of, as in a container's log.
static KEY_SHAPE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[\w:-]+\|[\w+/=-]{20,}").ok());

/// A program on the PATH.
#[derive(Debug)]
pub struct Program(PathBuf);

/// How it ended.
#[derive(Debug)]
pub struct Output {
    /// Whether it says that all went well.
    pub is_success: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Program {
    /// The first program of this name on the PATH.
    #[must_use]
    pub fn find(name: &str, environment: &Environment) -> Option<Self> {
        // Windows writes it `Path`.
        let folders = ["PATH", "Path"]
            .iter()
            .find_map(|name| environment.get(*name))
            .into_iter()
            .flat_map(std::env::split_paths);
        let mut paths = folders.flat_map(|folder| {
            ENDINGS
                .iter()
                .map(move |ending| folder.join(format!("{name}{ending}")))
        });
        paths.find(|path| path.is_file()).map(Self)
    }

    /// Runs it in this folder, with these variables and without those that would lead it elsewhere,
    /// and waits for its end. A key is given to it as a variable, never on its command line, which
    /// others can read.
    pub fn run(
        &self,
        folder: &Path,
        args: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Output> {
        let mut command = Command::new(&self.0);
        command.args(args).current_dir(folder).stdin(Stdio::null());
        for name in LEADING_CONVEX.into_iter().chain([
            "COMPOSE_FILE",
            "COMPOSE_PROJECT_NAME",
            "FORCE_COLOR",
        ]) {
            command.env_remove(name);
        }
        // With `CI` the Convex CLI sends no reports to its makers.
        command.env("CI", "1").env("NO_COLOR", "1").envs(
            variables
                .iter()
                .map(|(name, value)| (name, OsStr::new(value))),
        );
        let output = command
            .output()
            .with_context(|| format!("could not run {}", self.0.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Output {
            is_success: output.status.success(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }
}

impl Output {
    /// The end of what it printed, for people: without keys and control sequences.
    #[must_use]
    pub fn end(&self, key: Option<&AdminKey>) -> String {
        let said = format!("{}\n{}", self.stdout, self.stderr);
        let said = key.map_or(said.clone(), |key| key.hidden_in(&said));
        let said = KEY_SHAPE.as_ref().map_or(said.clone(), |shape| {
            shape.replace_all(&said, "…").into_owned()
        });
        let said = escape_block(&said.replace('\r', "\n"));
        let lines: Vec<_> = said
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(SHOWN)..]
            .iter()
            .flat_map(|line| ["  ", line, "\n"])
            .collect()
    }
}
