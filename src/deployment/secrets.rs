//! Masks keys and passwords in what other programs print, such as the log of a container.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

/// An admin key or deploy key that we do not know, as in a container's log.
static KEY_SHAPE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[\w:-]+\|[\w+/=-]{20,}").ok());
/// A URL with a user name and a password, up to the last `@`: a password that is not encoded can
/// hold any character, and is then in the error message of the program that could not parse it.
static URL_PASSWORD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(\w[\w+.-]*://[^\s:/@]*:)([^\s"'`]*)@"#).ok());
/// A variable with a password.
static PASSWORD_VARIABLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"(?i)(\w*(?:password|secret)\w*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;]+)"#).ok()
});

/// The text without keys and passwords.
#[must_use]
pub fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(shape) = URL_PASSWORD.as_ref() {
        text = shape
            .replace_all(&text, |found: &Captures<'_>| {
                if is_port(&found[1], &found[2]) {
                    found[0].to_owned()
                } else {
                    format!("{}…@", &found[1])
                }
            })
            .into_owned();
    }
    for (shape, with) in [(&KEY_SHAPE, "…"), (&PASSWORD_VARIABLE, "$1…")] {
        if let Some(shape) = shape.as_ref() {
            text = shape.replace_all(&text, with).into_owned();
        }
    }
    text
}

/// Whether what looks like a password is a port and a path with an `@`, as in the URL of a
/// package: `http://localhost:4873/@scope/name`.
fn is_port(before: &str, password: &str) -> bool {
    before.starts_with("http")
        && password
            .split_once('/')
            .is_some_and(|(port, _)| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_and_addresses_stay() {
        for (text, shown) in [
            (
                "connecting to postgres://convex:hunter2@db.example:5432/x",
                "connecting to postgres://convex:…@db.example:5432/x",
            ),
            ("mysql://u:p@ss:w/rd@db", "mysql://u:…@db"),
            ("postgres://u:12/34@db", "postgres://u:…@db"),
            ("redis://:secret@cache", "redis://:…@cache"),
            (
                "POSTGRES_PASSWORD=hunter2 INSTANCE_SECRET: 'ab cd'",
                "POSTGRES_PASSWORD=… INSTANCE_SECRET: …",
            ),
            (
                "http://localhost:4873/@scope/name",
                "http://localhost:4873/@scope/name",
            ),
            (
                "http://127.0.0.1:3210 user@host",
                "http://127.0.0.1:3210 user@host",
            ),
            ("key convex-self-hosted|0123456789abcdef0123456789", "key …"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
