//! Masks secrets in text before it is stored, and cuts text to the length that is stored.
//!
//! People paste keys into prompts, and agents print them (claude-code#63593). Tokens in the formats
//! that vendors document are masked, and so are assignments such as `password=…`; ordinary text,
//! code and hashes stay as they are. A secret without a known format is not recognized;
//! `capture = "metadata"` stores no text at all.

mod rule;
mod rules;
mod value;

use std::borrow::Cow;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use rule::{Found, Haystack};
use rules::RULES;

/// How far beyond the stored length text is masked, in bytes, so that a secret across the cut is
/// masked as a whole. Longer than any token and than the PEM block of a 4096-bit key.
const OVERLAP: usize = 16 * 1024;

/// A text as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Masked, and cut on a character boundary.
    pub text: String,
    /// The length of the original text, in bytes.
    pub bytes: u64,
    /// Whether `text` is only the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

/// Decides what is stored of a text.
#[derive(Debug)]
pub struct Redactor {
    keeps_text: bool,
    masks: bool,
    patterns: Vec<Regex>,
    max_bytes: usize,
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
            max_bytes,
        })
    }

    /// A redactor that keeps no text (`capture = "metadata"`).
    #[must_use]
    pub const fn metadata_only() -> Self {
        Self {
            keeps_text: false,
            masks: true,
            patterns: Vec::new(),
            max_bytes: 0,
        }
    }

    /// The text as it is stored; `None` if it is blank or no text is stored.
    #[must_use]
    pub fn keep(&self, text: &str) -> Option<Text> {
        let text = text.trim();
        if !self.keeps_text || text.is_empty() {
            return None;
        }
        let window = &text[..text.floor_char_boundary(self.max_bytes.saturating_add(OVERLAP))];
        let masked = self.mask(window);
        // A secret that was cut with the text no longer matches, and masking may have moved its
        // rest to before the final cut.
        let is_cut_early = window.len() < text.len();
        let safe = if is_cut_early {
            masked.len().saturating_sub(OVERLAP)
        } else {
            masked.len()
        };
        let cut = masked.floor_char_boundary(self.max_bytes.min(safe));
        Some(Text {
            is_cut: is_cut_early || cut < masked.len(),
            text: masked[..cut].to_owned(),
            bytes: text.len() as u64,
        })
    }

    fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found = if self.masks { find(text) } else { Vec::new() };
        for (number, pattern) in self.patterns.iter().enumerate() {
            found.extend(pattern.find_iter(text).map(|own| Found {
                range: own.range(),
                rule: RULES.len() + number,
            }));
        }
        replace(text, found)
    }
}

/// The text without secrets, at its full length.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    replace(text, find(text))
}

fn find(text: &str) -> Vec<Found> {
    let haystack = Haystack::new(text);
    let mut found = Vec::new();
    for (number, rule) in RULES.iter().enumerate() {
        rule.find(number, &haystack, &mut found);
    }
    found
}

/// The text with `[redacted KIND]` in place of each secret. Secrets that overlap become one, of the
/// kind whose rule comes first.
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
    /// The text, cut to at most `max_bytes`.
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
