//! Masks secrets in text before it is stored, and truncates text to the stored length.
//!
//! People paste keys into prompts, and agents print them (claude-code#63593). Tokens in the formats
//! that vendors document are masked, and so are assignments such as `password=…`; ordinary text,
//! code and hashes stay as they are. A secret without a known format is not recognized;
//! `capture = "metadata"` stores no text at all.
//!
//! Names, paths and other short values are labels. They are also stored with `capture =
//! "metadata"`, and are masked and truncated in the same way. Every string that reaches the journal
//! is a text or a label.

mod rule;
mod rules;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use rule::{Found, Haystack, Work};
use rules::RULES;

/// How far beyond the stored length text is masked, in bytes, so that a secret across the cut is
/// masked as a whole. Longer than any token and than the PEM block of a 4096-bit key.
const OVERLAP: usize = 16 * 1024;
/// How much the expressions may search before a text is left out, in bytes, plus [`WORK_PER_BYTE`]
/// of the text. Code that is full of passwords takes a fifth of that; without the limit, 80 KB of
/// malicious text take 17 seconds (measured).
const WORK: usize = 256 * 1024;
const WORK_PER_BYTE: usize = 4;
/// How much of a text that is too slow to mask as a whole is kept, in bytes.
const SHORT: usize = 4_096;
/// The longest name, ID or other label that is stored, in bytes.
pub const MAX_LABEL: usize = 256;
/// The longest path that is stored, in bytes: the limit of Linux.
pub const MAX_PATH: usize = 4_096;
/// The longest line of text that is stored, such as a title, in bytes.
pub const MAX_LINE: usize = 4_096;
/// The length of the shortest secret with the text that identifies it, such as `pwd=hunt`, in
/// bytes.
const MIN_SECRET: usize = 8;
/// What is stored instead of a label that cannot be masked within the limit.
const LEFT_OUT: &str = "[left out]";

/// A text as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Masked, and truncated on a character boundary.
    pub text: String,
    /// The length of the original text, in bytes.
    pub bytes: u64,
    /// Whether `text` is only the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// A short value that is stored even with `capture = "metadata"`.
#[derive(Debug)]
pub enum Label<'a> {
    /// A name or an ID, up to [`MAX_LABEL`].
    Name(&'a mut String),
    /// A path, up to [`MAX_PATH`].
    Path(&'a mut String),
}

/// Masks and truncates texts before they are stored.
pub struct Redactor {
    keeps_text: bool,
    masks: bool,
    patterns: Vec<Regex>,
    /// Texts that are masked wherever they occur.
    secrets: Vec<String>,
    max_bytes: usize,
}

impl fmt::Debug for Redactor {
    /// Without the secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Redactor")
            .field("keeps_text", &self.keeps_text)
            .field("masks", &self.masks)
            .field("patterns", &self.patterns)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Redactor {
    /// A redactor that keeps at most `max_bytes` of each text. It masks what `patterns` match, and
    /// if `masks` is set, the built-in kinds of secrets.
    pub fn new(
        masks: bool,
        patterns: &[String],
        max_bytes: usize,
    ) -> Result<Self, regex_lite::Error> {
        let patterns = patterns
            .iter()
            .map(|pattern| Regex::new(pattern))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keeps_text: true,
            masks,
            patterns,
            secrets: Vec::new(),
            max_bytes,
        })
    }

    /// A redactor that keeps no text and has no patterns from the user.
    #[must_use]
    pub const fn metadata_only() -> Self {
        Self {
            keeps_text: false,
            masks: true,
            patterns: Vec::new(),
            secrets: Vec::new(),
            max_bytes: 0,
        }
    }

    /// This redactor, but without any text (`capture = "metadata"`).
    #[must_use]
    pub fn without_text(self) -> Self {
        Self {
            keeps_text: false,
            ..self
        }
    }

    /// This redactor, but also masking these secrets of the user, in any form.
    #[must_use]
    pub fn hiding(self, secrets: Vec<String>) -> Self {
        Self { secrets, ..self }
    }

    /// The text as it is stored; `None` if it is blank, if no text is stored, or if it cannot be
    /// masked in time.
    #[must_use]
    pub fn keep(&self, text: &str) -> Option<Text> {
        self.keep_within(text, self.max_bytes)
    }

    /// As [`Self::keep`], for one line such as a title.
    #[must_use]
    pub fn keep_line(&self, text: &str) -> Option<Text> {
        self.keep_within(text, self.max_bytes.min(MAX_LINE))
    }

    fn keep_within(&self, text: &str, max_bytes: usize) -> Option<Text> {
        let text = text.trim();
        if !self.keeps_text || text.is_empty() {
            return None;
        }
        self.begin(text, max_bytes)
    }

    /// A name as it is stored.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        let mut name = name.to_owned();
        self.mask_labels([Label::Name(&mut name)]);
        name
    }

    /// The path of a transcript as it is stored. The transcript is found again by it, so only the
    /// built-in kinds of secrets are masked, not the user's patterns, and each folder separately:
    /// the file's name is kept, and its folder is one of the client's.
    #[must_use]
    pub fn path<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        let built_in = Self {
            patterns: Vec::new(),
            secrets: self.secrets.clone(),
            ..*self
        };
        let text = path.to_string_lossy();
        if text.len() <= MAX_PATH && built_in.is_clean(&text) {
            return Cow::Borrowed(path);
        }
        let parts = text.split_inclusive(['/', '\\']);
        let parts: String = parts.map(|part| built_in.line(part, MAX_PATH)).collect();
        Cow::Owned(PathBuf::from(built_in.line(&parts, MAX_PATH)))
    }

    /// Masks and truncates labels. One search through all of them is enough unless it finds
    /// something.
    pub fn mask_labels<'a>(&self, labels: impl IntoIterator<Item = Label<'a>>) {
        let labels: Vec<_> = labels.into_iter().collect();
        let mut all = String::new();
        for Label::Name(text) | Label::Path(text) in &labels {
            if text.len() >= MIN_SECRET {
                all.push_str(&text[..text.floor_char_boundary(MAX_PATH + OVERLAP)]);
                all.push('\n');
            }
        }
        let is_clean = self.is_clean(&all);
        for label in labels {
            let (text, max_bytes) = match label {
                Label::Name(text) => (text, MAX_LABEL),
                Label::Path(text) => (text, MAX_PATH),
            };
            if is_clean {
                text.truncate(text.floor_char_boundary(max_bytes));
            } else {
                *text = self.line(text, max_bytes);
            }
        }
    }

    /// At most `max_bytes` of a line, masked.
    fn line(&self, text: &str, max_bytes: usize) -> String {
        self.begin(text, max_bytes)
            .map_or_else(|| LEFT_OUT.to_owned(), |kept| kept.text)
    }

    /// Whether a text certainly contains nothing that has to be masked.
    fn is_clean(&self, text: &str) -> bool {
        self.find(text).is_some_and(|found| found.is_empty())
    }

    /// At most `max_bytes` of a text, masked; `None` if that takes too long.
    fn begin(&self, text: &str, max_bytes: usize) -> Option<Text> {
        [max_bytes, max_bytes.min(SHORT)]
            .into_iter()
            .find_map(|max_bytes| {
                let end = text.floor_char_boundary(max_bytes.saturating_add(OVERLAP));
                let window = &text[..end];
                let masked = replace(window, self.find(window)?);
                // A secret that was truncated with the text no longer matches, and masking may have
                // moved the rest of it to before the final cut.
                let is_cut_early = window.len() < text.len();
                let safe = if is_cut_early {
                    masked.len().saturating_sub(OVERLAP)
                } else {
                    masked.len()
                };
                let cut = masked.floor_char_boundary(max_bytes.min(safe));
                Some(Text {
                    is_cut: is_cut_early || cut < masked.len(),
                    text: masked[..cut].to_owned(),
                    bytes: text.len() as u64,
                })
            })
    }

    fn find(&self, text: &str) -> Option<Vec<Found>> {
        let mut found = if self.masks {
            find(text, Work::limited(WORK + WORK_PER_BYTE * text.len()))?
        } else {
            Vec::new()
        };
        for (number, pattern) in self.patterns.iter().enumerate() {
            found.extend(pattern.find_iter(text).map(|own| Found {
                range: own.range(),
                rule: RULES.len() + number,
            }));
        }
        for secret in &self.secrets {
            let starts = memchr::memmem::find_iter(text.as_bytes(), secret);
            found.extend(starts.map(|start| Found {
                range: start..start + secret.len(),
                rule: RULES.len(),
            }));
        }
        Some(found)
    }
}

/// Whether an ID has the form of a secret. It cannot be masked, so it cannot be used.
#[must_use]
pub fn is_secret(id: &str) -> bool {
    !Redactor::metadata_only().is_clean(id)
}

/// A message of this program or of a server in its stored form, at most [`MAX_LINE`] long.
#[must_use]
pub fn message(text: &str) -> String {
    Redactor::metadata_only().line(text, MAX_LINE)
}

/// The text without secrets, at its full length.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    replace(
        text,
        find(text, Work::limited(usize::MAX)).unwrap_or_default(),
    )
}

/// The secrets in a text; `None` if finding them takes more work than this.
fn find(text: &str, mut work: Work) -> Option<Vec<Found>> {
    let haystack = Haystack::new(text);
    let mut found = Vec::new();
    for (number, rule) in RULES.iter().enumerate() {
        rule.find(number, &haystack, &mut work, &mut found)?;
    }
    Some(found)
}

/// The text with `[redacted KIND]` in place of each secret. Overlapping secrets are merged, and the
/// kind is that of the first rule.
fn replace(text: &str, mut found: Vec<Found>) -> Cow<'_, str> {
    found.retain(|found| !found.range.is_empty());
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable_by_key(|found| found.range.start);
    let mut masked = String::with_capacity(text.len());
    let mut written = 0;
    let mut rest = found.into_iter().peekable();
    while let Some(mut secret) = rest.next() {
        while let Some(next) = rest.next_if(|next| next.range.start < secret.range.end) {
            secret.range.end = secret.range.end.max(next.range.end);
            secret.rule = secret.rule.min(next.rule);
        }
        let kind = RULES.get(secret.rule).map_or("pattern", |rule| rule.kind);
        masked.push_str(&text[written..secret.range.start]);
        masked.push_str("[redacted ");
        masked.push_str(kind);
        masked.push(']');
        written = secret.range.end;
    }
    masked.push_str(&text[written..]);
    Cow::Owned(masked)
}

impl Text {
    /// The text, truncated to at most `max_bytes`.
    #[must_use]
    pub fn cut(mut self, max_bytes: usize) -> Self {
        let cut = self.text.floor_char_boundary(max_bytes);
        self.is_cut |= cut < self.text.len();
        self.text.truncate(cut);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(text: &str) -> String {
        Redactor::new(true, &["ACME-[0-9]{4}".to_owned()], 65_536)
            .unwrap()
            .keep(text)
            .unwrap()
            .text
    }

    #[test]
    fn name_before_a_secret_is_kept() {
        let telegram = format!(
            "https://api.telegram.org/bot7563212233:AA{}/me",
            "a1".repeat(17)
        );
        assert_eq!(
            keep(&telegram),
            "https://api.telegram.org/bot[redacted telegram]/me"
        );
        assert_eq!(keep("password=hunter2 x"), "password=[redacted secret] x");
        assert_eq!(
            keep(r#"{"db_password": "correct-horse"}"#),
            r#"{"db_password": "[redacted secret]"}"#
        );
        assert_eq!(keep("API_KEY=abc123def456"), "API_KEY=[redacted secret]");
        let names = [
            "PASSWORD",
            "Passwd",
            "passPhrase",
            "PWD",
            "client_Secret",
            "X-Token",
            "ApiKey",
            "api-key",
            "ACCESS_KEY",
            "accessKey",
        ];
        for name in
            names
                .into_iter()
                .chain(["private-key", "PrivateKey", "Credentials", "credential"])
        {
            assert_eq!(
                keep(&format!("{name}=abc123def456")),
                format!("{name}=[redacted secret]")
            );
        }
        assert_eq!(
            keep("AUTHORIZATION: basic abcdefghijkl"),
            "AUTHORIZATION: basic [redacted secret]"
        );
        assert_eq!(
            keep("Authorization: Bearer abcdefghijkl"),
            "Authorization: Bearer [redacted secret]"
        );
        assert_eq!(
            keep("postgres://me:s3cret@db/x"),
            "postgres://me:[redacted password]@db/x"
        );
    }

    #[test]
    fn ordinary_text_code_and_hashes_are_not_masked() {
        for text in [
            "let token = parser.next_token();",
            "password: string; secret: Option<String>",
            "the token: it is parsed, then password handling is next",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "risk-assessment-of-a-very-long-kebab-case-name",
            "https://example.com:8080/a@b?x=y",
            "cat a | 0123",
            "a|eyJ2 and dev:name without a key, table|eyJhbGciOi",
            "npm_config_registry hf_model_name sbp_ glpat- do_v1_ dp.pt.x at 12:AA",
            "2026-11-26 10:AA 1234567890:AAbc",
            "msg_63d2ee84395f43e38b4befd8 toolu_9b3707f35a9440559149",
            "max_tokens=4096 token_count: 123456789",
            "def f(password=None, token=token): pass",
            "password = get_password()",
        ] {
            assert_eq!(keep(text), text);
        }
    }

    #[test]
    fn long_text_is_cut_on_a_character_boundary_and_keeps_its_length() {
        let redactor = Redactor::new(true, &[], 5).unwrap();
        let text = redactor.keep("aééé").unwrap();
        assert_eq!(
            (text.text.as_str(), text.bytes, text.is_cut),
            ("aéé", 7, true)
        );
        let text = redactor.keep("aéé").unwrap();
        assert_eq!(
            (text.text.as_str(), text.bytes, text.is_cut),
            ("aéé", 5, false)
        );
    }

    #[test]
    fn secret_across_the_cut_is_masked_as_a_whole() {
        let redactor = Redactor::new(true, &[], 20).unwrap();
        let text = redactor
            .keep(&format!("0123456789 ghp_{}", "a1".repeat(18)))
            .unwrap();
        assert_eq!(text.text, "0123456789 [redacted");
    }
}
