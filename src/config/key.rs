//! An admin key, and what users paste instead of one.

use std::fmt;

use anyhow::{Result, bail, ensure};

/// The shortest part of a secret that is masked, in bytes; ordinary text does not contain a word of
/// this length by chance.
pub(super) const SHORTEST_PART: usize = 8;

/// An admin key. It is never shown, neither in messages nor by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKey(String);

impl AdminKey {
    /// The key in pasted text. It must fit into a header and into quotes. Errors never repeat the
    /// text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let key = text.trim();
        if let Some((name, _)) = key.split_once('=').filter(|(name, _)| is_name(name)) {
            bail!(
                "the admin key begins with `{}=`, so it is a line of a file with variables; use what comes after it, without quotes",
                name.trim()
            );
        }
        for scheme in ["Convex ", "Bearer "] {
            ensure!(
                !key.starts_with(scheme),
                "the admin key begins with `{scheme}`, so it is the value of an Authorization header; use what comes after it"
            );
        }
        ensure!(
            !key.contains(['\'', '"', '`']),
            "the admin key contains a quote; use what is between the quotes"
        );
        ensure!(
            key.bytes().all(|byte| byte.is_ascii_graphic()),
            "the admin key contains a space, a line break or a non-ASCII character; copy it again as a single line"
        );
        Ok(Self(key.to_owned()))
    }

    /// Fails if the text does not have the form of an admin key: the name of the instance, `|`, and
    /// the secret.
    pub fn ensure_complete(&self) -> Result<()> {
        let (name, secret) = self.0.split_once('|').unwrap_or(("", &self.0));
        ensure!(
            !name.is_empty(),
            "the admin key has no `|`, so its beginning is missing; a whole key is `NAME|SECRET`, where NAME is that of the instance"
        );
        ensure!(
            !secret.is_empty(),
            "the admin key ends at the `|`, so its end is missing; in a shell, put the whole key in single quotes"
        );
        Ok(())
    }

    /// The name of the instance that it belongs to.
    pub(super) fn instance(&self) -> Option<&str> {
        self.0.split_once('|').map(|(instance, _)| instance)
    }

    /// The value of the `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Convex {}", self.0)
    }

    /// The text with the key, or its secret part, masked, in case a program or a server repeated
    /// it.
    #[must_use]
    pub fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let text = text.replace(&self.0, "…");
        let secret = self.secret();
        if secret.len() >= SHORTEST_PART {
            text.replace(secret, "…")
        } else {
            text
        }
    }

    /// The key without the name of the instance. A text may encode the bar between the two.
    pub(super) fn secret(&self) -> &str {
        self.0.rsplit('|').next().unwrap_or_default()
    }

    /// The key itself, for `config.toml` and the environment of a child only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// Whether the text is the name of a variable, with `export` before it or not.
fn is_name(text: &str) -> bool {
    let name = text.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "convex-self-hosted|0123456789abcdef";

    #[test]
    fn text_pasted_instead_of_a_key_is_named_and_not_repeated() {
        for (text, problem) in [
            (
                format!("CONVEX_SELF_HOSTED_ADMIN_KEY={KEY}"),
                "begins with `CONVEX_SELF_HOSTED_ADMIN_KEY=`",
            ),
            (
                format!("CONVEX_SELF_HOSTED_ADMIN_KEY='{KEY}'"),
                "use what comes after it, without quotes",
            ),
            (
                format!("export CONVEX_DEPLOY_KEY={KEY}"),
                "begins with `export CONVEX_DEPLOY_KEY=`",
            ),
            (format!("admin_key = \"{KEY}\""), "begins with `admin_key=`"),
            (format!("'{KEY}'"), "contains a quote"),
            (format!("\"{KEY}\""), "contains a quote"),
            (format!("Convex {KEY}"), "an Authorization header"),
            (format!("Bearer {KEY}"), "an Authorization header"),
            (format!("Admin key:\n{KEY}"), "a line break"),
            (KEY.replace("45", " "), "a space"),
            (format!("“{KEY}”"), "a non-ASCII character"),
        ] {
            let error = AdminKey::parse(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(!error.contains("0123"), "{text}: {error}");
        }
    }

    #[test]
    fn key_is_complete_with_a_name_and_a_secret() {
        for key in [
            KEY.to_owned(),
            format!(" {KEY}\n"),
            "prod:happy-animal-123|eyJ2MiI6Ij0=".to_owned(),
            "preview:team:project|eyJ2MiI6Ij0=".to_owned(),
        ] {
            AdminKey::parse(&key).unwrap().ensure_complete().unwrap();
        }
        for (key, problem) in [
            ("0123456789abcdef", "no `|`"),
            ("|0123456789abcdef", "no `|`"),
            ("convex-self-hosted|", "ends at the `|`"),
        ] {
            let error = AdminKey::parse(key).unwrap().ensure_complete();
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(problem) && !error.contains("0123"),
                "{error}"
            );
        }
    }
}
