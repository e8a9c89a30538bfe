//! The tokens for the page: who may see it (`convex/model/access.ts`). The deployment knows only
//! their hashes.

use std::fmt::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::variables::{self, Variables};
use crate::config::Deployment;
use crate::record::Millis;

/// The variable of the deployment: an entry for each token, separated by spaces.
const VARIABLE: &str = "CONVEX_SIDECAR_VIEW_TOKENS";
/// The random bytes of a token: 192 bits.
const RANDOM: usize = 24;
/// The maximum number of tokens.
const MAX_TOKENS: usize = 50;
/// How often a token is added if other processes keep removing it.
const ATTEMPTS: u32 = 10;

/// A token as the deployment knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    hash: String,
    /// Whether it shows no text.
    pub is_for_figures: bool,
    /// When it expires; 0 for never.
    expires_at: Millis,
}

/// A new token, and its entry. `expires_at` is `None` for a token that does not expire.
pub fn make(is_for_figures: bool, expires_at: Option<Millis>) -> Result<(String, Entry)> {
    let mut random = [0; RANDOM];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| anyhow!("could not get random bytes from the system"))?;
    let token = hex(&random);
    let entry = Entry {
        hash: hex(digest(&SHA256, token.as_bytes()).as_ref()),
        is_for_figures,
        expires_at: expires_at.unwrap_or_default(),
    };
    Ok((token, entry))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The tokens that are valid at `now`.
#[must_use]
pub fn valid(variables: &Variables, now: Millis) -> Vec<Entry> {
    let value = variables.get(VARIABLE).map_or("", String::as_str);
    parse(value, now)
}

/// Adds a token to those that are valid at `now`. The deployment can only replace the whole
/// variable, so if two processes add a token at the same time, one may be lost. After a pause,
/// which should differ between processes, the variable is read again, and a missing token is added
/// again.
pub fn add(deployment: &Deployment, entry: &Entry, now: Millis, pause: Duration) -> Result<()> {
    for attempt in 0..=ATTEMPTS {
        let mut entries = valid(&variables::read(deployment)?, now);
        if entries.contains(entry) {
            return Ok(());
        }
        ensure!(
            entries.len() < MAX_TOKENS,
            "could not add a link, because {} has {MAX_TOKENS} valid ones; `convex-sidecar view --off` revokes all of them",
            deployment.name()
        );
        if attempt < ATTEMPTS {
            entries.push(entry.clone());
            variables::set(deployment, VARIABLE, Some(&format(&entries)))?;
            sleep(pause);
        }
    }
    bail!("could not add a link, because other processes keep changing the links; run this again")
}

/// Revokes all tokens.
pub fn revoke_all(deployment: &Deployment) -> Result<()> {
    variables::set(deployment, VARIABLE, None)
}

fn parse(value: &str, now: Millis) -> Vec<Entry> {
    let entries = value.split(' ').filter_map(|entry| {
        let [hash, shows, expires_at] = entry.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Entry {
            hash: hash.to_owned(),
            is_for_figures: shows == "figures",
            expires_at: expires_at.parse().ok()?,
        })
    });
    entries
        .filter(|entry| entry.expires_at == 0 || entry.expires_at > now)
        .collect()
}

fn format(entries: &[Entry]) -> String {
    let entries = entries.iter().map(|entry| {
        let shows = if entry.is_for_figures {
            "figures"
        } else {
            "full"
        };
        format!("{}:{shows}:{}", entry.hash, entry.expires_at)
    });
    entries.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_tokens_are_dropped_and_the_others_kept() {
        let (token, lasting) = make(false, None).unwrap();
        let (other, brief) = make(true, Some(1_000)).unwrap();
        assert!(token.len() == 2 * RANDOM && token != other);
        let value = format(&[lasting.clone(), brief.clone()]);
        assert_eq!(parse(&value, 999), [lasting.clone(), brief]);
        assert_eq!(parse(&value, 1_000), [lasting]);
        assert_eq!(parse("garbage a:b a:full:x", 0), []);
    }
}
