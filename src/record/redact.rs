//! Masks secrets in text before it is stored, and cuts text to the length that is stored.
//!
//! People paste keys into prompts, and agents print them (claude-code#63593). Tokens in the formats
//! that vendors document are masked, and so are assignments such as `password=…`; ordinary text,
//! code and hashes stay as they are. A secret without a known format is not recognized;
//! `capture = "metadata"` stores no text at all.

use std::borrow::Cow;
use std::sync::OnceLock;

use memchr::memmem::Finder;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

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

/// The format of one kind of secret. Its expression is compiled and run only for a text that holds
/// one of its needles: running all expressions on all texts would take longer than the rest of a
/// hook.
struct Shape {
    kind: &'static str,
    needles: &'static [&'static str],
    /// Whether the needles, which are in lower case, also match upper case.
    ignores_case: bool,
    expression: &'static str,
    finders: OnceLock<Vec<Finder<'static>>>,
    compiled: OnceLock<Option<Regex>>,
}

const fn shape(
    kind: &'static str,
    needles: &'static [&'static str],
    expression: &'static str,
) -> Shape {
    Shape {
        kind,
        needles,
        ignores_case: false,
        expression,
        finders: OnceLock::new(),
        compiled: OnceLock::new(),
    }
}

/// What the groups `before` and `after` of an expression match is not masked.
static SHAPES: [Shape; 20] = [
    shape(
        "private key",
        &["PRIVATE KEY"],
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|$)",
    ),
    shape("anthropic", &["sk-ant-"], r"\bsk-ant-[A-Za-z0-9_-]{16,}"),
    shape(
        "openai",
        &["sk-"],
        r"\bsk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{20,})",
    ),
    shape(
        "openrouter",
        &["sk-or-"],
        r"\bsk-or-(?:v[0-9]+-)?[A-Za-z0-9_-]{20,}",
    ),
    shape(
        "github",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        r"\bgh[pousr]_[A-Za-z0-9]{30,}",
    ),
    shape(
        "github",
        &["github_pat_"],
        r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    ),
    shape(
        "aws",
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    ),
    shape("slack", &["xox"], r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    shape("slack", &["xapp-"], r"\bxapp-[0-9]-[A-Za-z0-9-]{10,}"),
    shape(
        "slack",
        &["hooks.slack.com/"],
        r"(?<before>hooks\.slack\.com/(?:services|workflows)/)[A-Za-z0-9_/+-]{20,}",
    ),
    shape(
        "stripe",
        &["_live_", "_test_"],
        r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{10,}",
    ),
    shape("stripe", &["whsec_"], r"\bwhsec_[A-Za-z0-9+/=]{16,}"),
    shape("google", &["AIza"], r"\bAIza[0-9A-Za-z_-]{35}"),
    shape(
        "google",
        &["ya29.", "GOCSPX-"],
        r"\b(?:ya29\.|GOCSPX-)[0-9A-Za-z_-]{20,}",
    ),
    shape(
        "jwt",
        &["eyJ"],
        r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    ),
    shape(
        "telegram",
        &[":AA"],
        r"(?<before>\b(?:bot)?)[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}",
    ),
    shape("token", &PREFIXES, PREFIXED),
    // Of a self-hosted deployment in hex; of Convex Cloud as base64 of JSON, behind `prod:name`,
    // `dev:name`, `preview:team:project` or `project:team:project`.
    shape(
        "convex key",
        &["|"],
        r"\b[A-Za-z][A-Za-z0-9:_-]*\|(?:[0-9a-f]{40,}\b|eyJ[A-Za-z0-9+/_=-]{16,})",
    ),
    shape(
        "password",
        &["://"],
        r"(?<before>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?<after>@)",
    ),
    shape("secret", &NAMES, ASSIGNMENT).ignoring_case(),
];

/// The prefixes of [`PREFIXED`].
const PREFIXES: [&str; 28] = [
    "sbp_",
    "sb_secret_",
    "glpat-",
    "npm_",
    "pypi-",
    "hf_",
    "gsk_",
    "xai-",
    "r8_",
    "pplx-",
    "SG.",
    "dop_v1_",
    "doo_v1_",
    "dor_v1_",
    "lin_api_",
    "ntn_",
    "shpat_",
    "shpca_",
    "shppa_",
    "shpss_",
    "glsa_",
    "dp.pt.",
    "dp.st.",
    "dp.ct.",
    "dp.sa.",
    "PMAK-",
    "pscale_",
    "tvly-",
];

/// Tokens to which their vendor gave a prefix of its own, such as Supabase, GitLab, npm, Hugging
/// Face, Groq, Linear, Notion, Shopify and Postman.
const PREFIXED: &str = concat!(
    r"\b(?:sb(?:p|_secret)_[A-Za-z0-9_-]{20,}|glpat-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}",
    r"|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{40,}",
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|do[opr]_v1_[0-9a-f]{40,}|lin_api_[A-Za-z0-9]{30,}|ntn_[A-Za-z0-9]{40,}",
    r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32,}|glsa_[A-Za-z0-9_]{32,}|dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{40,}",
    r"|PMAK-[0-9a-f]{24}-[0-9a-f]{34}|pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}|tvly-[A-Za-z0-9-]{20,})",
);

/// Each name in [`ASSIGNMENT`] contains one of these. Needles such as `=` would match half of all
/// answers.
const NAMES: [&str; 8] = [
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "authorization",
];

/// Assignments such as `password=…`. The value is quoted and has no spaces; or it is bare, as in
/// `.env` files and queries (no space before it, not a call or a member, and with a digit unless the
/// name contains `password`); or it is that of an `Authorization` header.
const ASSIGNMENT: &str = concat!(
    r#"(?i)(?<before>\b[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?-?key|access_?-?key|private_?-?key|credentials?)"#,
    r#"[a-z0-9_]*["']?\s*(?:=|:|=>|:=)\s*["'])[^\s"'<>${}()]{6,}"#,
    r#"|(?<before2>\b[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|pwd)[a-z0-9_]*=)[^\s"'<>${}();,&.\[\]]{4,}"#,
    r#"|(?<before3>\b[a-z0-9_.-]*(?:secret|token|api_?-?key|access_?-?key|private_?-?key|credentials?)[a-z0-9_]*=)"#,
    r#"[A-Za-z_+/-]*[0-9][A-Za-z0-9_+/=-]{7,}"#,
    r#"|(?<before4>\bauthorization["']?\s*[:=]\s*["']?(?:bearer|basic|convex)\s+)[^\s"']{8,}"#,
);

/// Values that code assigns to such names and that are not secrets.
const PLAIN: [&str; 12] = [
    "none",
    "null",
    "true",
    "false",
    "undefined",
    "string",
    "password",
    "passwd",
    "secret",
    "token",
    "required",
    "optional",
];

impl Shape {
    const fn ignoring_case(mut self) -> Self {
        self.ignores_case = true;
        self
    }

    fn expression(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| Regex::new(self.expression).ok())
            .as_ref()
    }

    fn mask<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        let finders = self
            .finders
            .get_or_init(|| self.needles.iter().map(Finder::new).collect());
        let searched = if self.ignores_case {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(&*text)
        };
        if finders
            .iter()
            .all(|finder| finder.find(searched.as_bytes()).is_none())
        {
            return text;
        }
        let Some(expression) = self.expression() else {
            return text;
        };
        replace(expression, self.kind, text)
    }
}

fn replace<'a>(expression: &Regex, kind: &str, text: Cow<'a, str>) -> Cow<'a, str> {
    let masked = expression.replace_all(&text, |captures: &regex_lite::Captures<'_>| {
        let group = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| captures.name(name))
                .map_or("", |group| group.as_str())
        };
        let before = group(&["before", "before2", "before3", "before4"]);
        let value = &captures[0][before.len()..];
        if PLAIN.iter().any(|plain| value.eq_ignore_ascii_case(plain)) {
            return captures[0].to_owned();
        }
        format!("{before}[redacted {kind}]{}", group(&["after"]))
    });
    match masked {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => Cow::Owned(masked),
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
        let mut masked = Cow::Borrowed(text);
        if self.masks {
            masked = SHAPES.iter().fold(masked, |text, shape| shape.mask(text));
        }
        self.patterns
            .iter()
            .fold(masked, |text, pattern| replace(pattern, "pattern", text))
    }
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
    fn every_expression_compiles() {
        for shape in &SHAPES {
            assert!(shape.expression().is_some(), "{}", shape.kind);
        }
    }

    #[test]
    fn every_kind_of_secret_is_masked() {
        // Assembled at run time so that secret scanners do not report this file.
        let body = "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4zAb3dEf6hIj9k";
        let hex = "0123456789abcdef".repeat(4);
        let secrets = [
            format!("sk-ant-{}-{body}", "api03"),
            format!("sk-proj-{body}"),
            format!("sk-{body}"),
            format!("ghp_{}", &body[..36]),
            format!("github_pat_{body}"),
            format!("AKIA{}", "IOSFODNN7EXAMPLE"),
            format!("xoxb-{}-{}", "1234567890", &body[..24]),
            format!("sk_live_{}", &body[..24]),
            format!("AIza{}", &body[..35]),
            format!("eyJ{}.eyJ{}.{}", &body[..20], &body[..30], &body[..40]),
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\n{body}\n{body}\n-----END RSA PRIVATE KEY-----"
            ),
            format!("-----BEGIN PRIVATE KEY-----\n{body}\nnever ends"),
            format!("convex-self-hosted|{hex}"),
            format!("prod:happy-animal-123|eyJ2{body}="),
            format!("dev:happy-animal-123|eyJ2{body}="),
            format!("preview:team:project|eyJ2{body}="),
            format!("project:team:project|eyJ2{body}="),
            format!("sk-or-v1-{hex}"),
            format!("whsec_{}", &body[..32]),
            format!("7563212233:AA{}", &body[..33]),
            format!("sbp_{}", &hex[..40]),
            format!("sb_secret_{}", &body[..31]),
            format!("glpat-{}", &body[..20]),
            format!("npm_{}", &body[..36]),
            format!("pypi-{body}{body}"),
            format!("hf_{}", &body[..34]),
            format!("gsk_{}{}", &body[..40], &body[..12]),
            format!("xai-{body}{body}"),
            format!("r8_{}", &body[..37]),
            format!("pplx-{body}"),
            format!("SG.{}.{}", &body[..22], &body[..43]),
            format!("dop_v1_{hex}"),
            format!("lin_api_{}", &body[..40]),
            format!("ntn_{body}"),
            format!("shpat_{}", &hex[..32]),
            format!("glsa_{}_{}", &body[..32], &hex[..8]),
            format!("dp.pt.{body}"),
            format!("PMAK-{}-{}", &hex[..24], &hex[..34]),
            format!("pscale_tkn_{body}"),
            format!("tvly-{}", &body[..32]),
            "ACME-1234".to_owned(),
        ];
        for secret in &secrets {
            let masked = keep(&format!("before {secret} after"));
            assert!(masked.starts_with("before [redacted "), "{masked}");
            let middle = &secret[secret.len() / 2..];
            assert!(!masked.contains(&middle[..middle.len().min(8)]), "{masked}");
        }
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
