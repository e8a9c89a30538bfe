//! Programs that `setup` runs: docker, npm, npx. Their output may repeat a key, so only the end of
//! it is shown, with keys masked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex_lite::Regex;

use crate::config::{AdminKey, CONVEX_CLI_VARIABLES, Environment, executables};

/// How many of the last lines of output are shown.
const SHOWN_LINES: usize = 15;
/// Variables that would change what the programs do or print.
const OTHER_VARIABLES: [&str; 3] = ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "FORCE_COLOR"];
/// An admin key or deploy key that we do not know, as in a container's log.
static KEY_SHAPE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[\w:-]+\|[\w+/=-]{20,}").ok());

/// A program on the PATH.
#[derive(Debug)]
pub struct Program(PathBuf);

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Whether its exit code was 0.
    pub is_success: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Program {
    /// The first program of this name on the PATH; the error for a missing one ends with `remedy`.
    pub fn find(name: &str, environment: &Environment, remedy: &str) -> Result<Self> {
        let path = executables(name, environment).next();
        let path = path.with_context(|| {
            format!(
                "could not find {name} on the PATH; {remedy}, then run `convex-sidecar setup` again"
            )
        })?;
        Ok(Self(path))
    }

    /// Runs it in a folder and waits for its end. It gets these variables, and none that would
    /// select another deployment. A key must be in a variable, never on the command line, which
    /// others can read.
    pub fn run(
        &self,
        folder: &Path,
        args: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Output> {
        let mut command = Command::new(&self.0);
        command.args(args).current_dir(folder).stdin(Stdio::null());
        for name in CONVEX_CLI_VARIABLES.iter().chain(&OTHER_VARIABLES) {
            command.env_remove(name);
        }
        // With `CI`, the Convex CLI sends no telemetry.
        command.env("CI", "1").env("NO_COLOR", "1");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
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
    /// All that it printed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// The last lines that it printed, indented and without keys. They may hold control characters.
    #[must_use]
    pub fn last_lines(&self, key: Option<&AdminKey>) -> String {
        let mut text = self.text().replace('\r', "\n");
        if let Some(key) = key {
            text = key.hidden_in(&text);
        }
        if let Some(shape) = KEY_SHAPE.as_ref() {
            text = shape.replace_all(&text, "…").into_owned();
        }
        let lines: Vec<_> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..]
            .iter()
            .flat_map(|line| ["  ", line, "\n"])
            .collect()
    }
}
