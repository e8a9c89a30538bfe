//! `config.toml`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use http::HeaderMap;
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::deployment::Deployment;
use super::exclude::Excluded;
use super::headers;
use crate::record::prices::{ConfiguredPrice, Prices};
use crate::record::redact::Redactor;
use crate::system::access::{self, Need};
use crate::system::files::read_text;
use crate::system::json::BYTE_ORDER_MARK;

/// How much of an output is kept unless configured, in bytes: enough for a long answer, and far
/// below Convex's limit of 1 MiB per document.
const DEFAULT_MAX_OUTPUT: usize = 65_536;
/// The maximum that can be configured, so that input and output together stay below 1 MiB.
const LARGEST_MAX_OUTPUT: usize = 400_000;

/// The contents of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub url: Option<String>,
    pub admin_key: Option<String>,
    capture: Capture,
    redact: Option<bool>,
    redact_patterns: Vec<String>,
    max_output_bytes: Option<usize>,
    pub allow_insecure_http: bool,
    exclude: Vec<String>,
    user: Option<bool>,
    headers: BTreeMap<String, String>,
    prices: BTreeMap<String, ConfiguredPrice>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Capture {
    #[default]
    Full,
    Metadata,
}

impl File {
    /// Reads the file. If there is none, everything has its default.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path).with_context(|| format!("could not read {}", path.display()))?;
        if text.is_none()
            && let Some(obstacle) = access::obstacle(path, Need::Read)
        {
            bail!("could not read {}: {}", path.display(), obstacle.finding);
        }
        if let (Some(_), Some(owner)) = (&text, access::foreign_owner(path)) {
            // Whoever wrote it decides where the record goes.
            bail!(
                "could not use {}: it belongs to another user (ID {owner}); `chown` it, remove it, or set CONVEX_SIDECAR_HOME to a folder of your own",
                path.display()
            );
        }
        match text {
            Some(text) => {
                parse(&text).with_context(|| format!("could not parse {}", path.display()))
            }
            None => Ok(Self::default()),
        }
    }

    /// How much of an output is kept, in bytes.
    pub fn max_output(&self) -> usize {
        self.max_output_bytes.unwrap_or(DEFAULT_MAX_OUTPUT)
    }

    /// Whether the record names the user.
    pub fn keeps_user(&self) -> bool {
        self.user.unwrap_or(self.capture == Capture::Full)
    }

    /// Additional headers of every request. `path` is this file's, for errors.
    pub fn headers(&self, path: &Path) -> Result<HeaderMap> {
        headers::parse(&self.headers)
            .with_context(|| format!("could not use a header of {}", path.display()))
    }

    /// The excluded projects. `path` is this file's, for errors.
    pub fn excluded(&self, path: &Path, home: Option<&Path>) -> Result<Excluded> {
        Excluded::parse(&self.exclude, home)
            .with_context(|| format!("could not use `exclude` in {}", path.display()))
    }

    /// What models cost. `path` is this file's, for errors.
    pub fn prices(&self, path: &Path) -> Result<Prices> {
        Prices::new(&self.prices).map_err(|model| {
            anyhow!(
                "could not use the price of {model} in {}: prices are dollars per million tokens, from 0 to a million",
                path.display()
            )
        })
    }

    /// How text is kept. `path` is this file's, for errors.
    pub fn redactor(&self, path: &Path) -> Result<Redactor> {
        ensure!(
            self.max_output() <= LARGEST_MAX_OUTPUT,
            "could not use {}: max_output_bytes is {}, but at most {LARGEST_MAX_OUTPUT} fit in a Convex document",
            path.display(),
            self.max_output()
        );
        let redactor = Redactor::new(
            self.redact.unwrap_or(true),
            &self.redact_patterns,
            self.max_output(),
        );
        let redactor = redactor.with_context(|| {
            format!(
                "could not use a pattern of redact_patterns in {}",
                path.display()
            )
        })?;
        Ok(match self.capture {
            Capture::Full => redactor,
            Capture::Metadata => redactor.without_text(),
        })
    }
}

/// Parses the text. A syntax error names its line and what is wrong, but never repeats the line,
/// which may contain the key.
pub(super) fn parse(text: &str) -> Result<File> {
    toml::from_str(text).map_err(|error| syntax_error(text, &error))
}

fn syntax_error(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let line = error.span().map_or(1, |span| {
        text[..span.start.min(text.len())].matches('\n').count() + 1
    });
    anyhow!("line {line}: {}", error.message())
}

/// The URL in the text of `config.toml`.
pub fn url_in(text: &str) -> Result<Option<Url>> {
    Ok(parse(text)?.url.and_then(|url| Url::parse(url.trim()).ok()))
}

/// The text of `config.toml` with this deployment in it; everything else is kept byte for byte.
pub fn with_deployment(text: &str, deployment: &Deployment) -> Result<String> {
    #[derive(Deserialize)]
    struct Pair {
        url: Option<Spanned<String>>,
        admin_key: Option<Spanned<String>>,
    }
    let old: Pair = toml::from_str(text).map_err(|error| syntax_error(text, &error))?;
    // A value that already means the same keeps its spelling.
    let has_url = old
        .url
        .as_ref()
        .is_some_and(|url| Url::parse(url.get_ref().trim()).is_ok_and(|url| url == deployment.url));
    let has_key = old
        .admin_key
        .as_ref()
        .is_some_and(|key| key.get_ref().trim() == deployment.key.expose());
    let fields = [
        (has_url, "url", old.url, deployment.name()),
        (has_key, "admin_key", old.admin_key, deployment.key.expose()),
    ];
    let mut replacements: Vec<(Range<usize>, String)> = Vec::new();
    let mut lines = String::new();
    for (_, name, old, value) in fields.into_iter().filter(|(has_value, ..)| !has_value) {
        // Neither value can contain a quote.
        match old {
            Some(old) => replacements.push((old.span(), format!("'{value}'"))),
            None => lines.extend([name, " = '", value, "'\n"]),
        }
    }
    replacements.sort_by_key(|(span, _)| Reverse(span.start));
    let mut text = text.to_owned();
    for (span, value) in replacements {
        text.replace_range(span, &value);
    }
    // Keys after the heading of a table would belong to that table.
    let all: toml::Table = toml::from_str(&text).map_err(|error| syntax_error(&text, &error))?;
    if all.values().any(toml::Value::is_table) {
        let start = text.len() - text.trim_start_matches(BYTE_ORDER_MARK).len();
        text.insert_str(start, &lines);
        return Ok(text);
    }
    if !lines.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text + &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "convex-self-hosted|0123456789abcdef";

    #[test]
    fn with_deployment_changes_url_and_key_only() {
        let deployment = Deployment::new("http://127.0.0.1:3210", SECRET, false).unwrap();
        let url = "url = 'http://127.0.0.1:3210'";
        let key = format!("admin_key = '{SECRET}'");
        let with = |text: &str| with_deployment(text, &deployment).unwrap();
        assert_eq!(with(""), format!("{url}\n{key}\n"));
        assert_eq!(
            with("# mine\r\nredact = true"),
            format!("# mine\r\nredact = true\n{url}\n{key}\n")
        );
        let rest = "redact_patterns = ['''\nurl = 'x'\n''']\n  \"url\"  = ";
        let old = format!(
            "admin_key=\"old|0\" # of June\n{rest}\"http://127.0.0.1:1\"\ncapture = 'metadata'"
        );
        let new = format!(
            "admin_key='{SECRET}' # of June\n{rest}'http://127.0.0.1:3210'\ncapture = 'metadata'"
        );
        assert_eq!(with(&old), new);
        assert_eq!(with(&new), new);
        let own = format!("url = \"http://127.0.0.1:3210/\"\nadmin_key = \"{SECRET}\"");
        assert_eq!(with(&own), own);
        for table in ["[headers]\nX-Id = 'x'\n", "[prices.'m']\ninput = 1\n"] {
            let with_table = with(table);
            assert_eq!(with_table, format!("{url}\n{key}\n{table}"));
            assert_eq!(with(&with_table), with_table);
        }
        let with_mark = format!("{BYTE_ORDER_MARK}[headers]\nX-Id = 'x'\n");
        assert_eq!(with(&with(&with_mark)), with(&with_mark));
        let file = parse(&new).unwrap();
        let read = Deployment::new(&file.url.unwrap(), &file.admin_key.unwrap(), false);
        assert_eq!(read.unwrap(), deployment);
        let problem = with_deployment(&format!("admin_key = '{SECRET}\n"), &deployment)
            .unwrap_err()
            .to_string();
        assert!(
            problem.starts_with("line 1: ") && !problem.contains("0123456789"),
            "{problem}"
        );
    }
}
