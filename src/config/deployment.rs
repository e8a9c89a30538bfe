//! A Convex deployment and the key to it, always as a pair from one source.
//!
//! Combining a URL from the environment with a key from the file would send the key to anyone who
//! can set the environment. A project's `.env.local` is never read, because a repository must not
//! be able to redirect the record or the key.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use http::HeaderMap;
use url::{Host, Url};

use super::environment::{DEPLOY_KEY, Environment, KEY, URL};
use super::file::File;
use super::key::{AdminKey, SHORTEST_PART};

/// The shortest value of a header that is masked, in bytes; shorter ones occur in ordinary words.
const SHORTEST_SECRET: usize = 4;

/// A Convex deployment and the key to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The base URL, without a path.
    pub url: Url,
    /// Its admin key.
    pub key: AdminKey,
    /// Headers that every request to it carries, for an access proxy. Their values are secrets.
    pub headers: HeaderMap,
    /// Whether the user accepts that others may be able to read or answer plain http.
    allows_insecure_http: bool,
    /// Whether the environment names it, and not the configuration file.
    pub is_from_environment: bool,
}

impl Deployment {
    /// Checks the pair. Plain http is allowed to this machine, and elsewhere only with
    /// `allow_insecure_http`.
    pub(super) fn new(url: &str, key: &str, allow_insecure_http: bool) -> Result<Self> {
        Ok(Self {
            key: AdminKey::parse(key)?,
            url: check_url(url, allow_insecure_http)?,
            headers: HeaderMap::new(),
            allows_insecure_http: allow_insecure_http,
            is_from_environment: false,
        })
    }

    /// Adds these headers to every request.
    #[must_use]
    pub fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// The text with the key and the values of the headers masked, in case a server repeated them.
    #[must_use]
    pub fn hidden_in(&self, text: &str) -> String {
        let values = self.header_values();
        let values = values.filter(|value| value.len() >= SHORTEST_SECRET);
        let words = self.header_words();
        let words = words.filter(|word| word.len() >= SHORTEST_PART);
        let mut secrets: Vec<_> = values.chain(words).collect();
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        let masked = self.key.hidden_in(text);
        secrets
            .iter()
            .fold(masked, |text, secret| text.replace(secret, "…"))
    }

    /// The parts of the key and the headers that must not be stored: the whole values, the secret
    /// part of the key, and each word of a header, such as that after `Bearer`.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let key = [self.key.expose(), self.key.secret()];
        let all = key.into_iter().chain(self.header_values());
        all.chain(self.header_words())
            .filter(|secret| secret.len() >= SHORTEST_PART)
            .map(str::to_owned)
            .collect()
    }

    fn header_words(&self) -> impl Iterator<Item = &str> {
        self.header_values().flat_map(str::split_whitespace)
    }

    fn header_values(&self) -> impl Iterator<Item = &str> {
        self.headers
            .values()
            .filter_map(|value| value.to_str().ok())
    }

    /// The URL as the journal stores it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The variables that select this deployment for a child process. They must never be passed on
    /// its command line, which others can read.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            (URL, self.name().to_owned()),
            (KEY, self.key.expose().to_owned()),
        ]
    }

    /// The variables that select this deployment for the Convex CLI, in its environment or in
    /// `.env.local`.
    #[must_use]
    pub fn cli_environment(&self) -> Vec<(&'static str, String)> {
        if self.is_cloud() {
            vec![(DEPLOY_KEY, self.key.expose().to_owned())]
        } else {
            self.environment().into()
        }
    }

    /// Whether the deployment is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Whether plain http is allowed, even if others can read or answer it.
    #[must_use]
    pub const fn allows_insecure_http(&self) -> bool {
        self.allows_insecure_http
    }

    /// For a deployment on this machine that cannot prove its identity: its port, and its address
    /// if the URL contains one.
    #[must_use]
    pub fn unproven_address(&self) -> Option<(Option<IpAddr>, u16)> {
        let address = match self.url.host()? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let is_proven = self.url.scheme() == "https" || self.allows_insecure_http;
        let port = self.url.port_or_known_default()?;
        (self.is_loopback() && !is_proven).then_some((address, port))
    }

    /// Whether the deployment is in Convex Cloud.
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        self.url
            .host_str()
            .is_some_and(|host| host.ends_with(".convex.cloud"))
    }

    /// The name of the instance that the key belongs to, which is its first part.
    #[must_use]
    pub fn key_instance(&self) -> Option<&str> {
        self.key.instance()
    }
}

/// The deployment that the environment names, else the one that the file at `path` names.
pub(super) fn choose(
    environment: &Environment,
    file: &File,
    path: &Path,
) -> Result<Option<Deployment>> {
    let (url, key) = match (environment.get(URL), environment.get(KEY)) {
        (Some(url), Some(key)) => (url, key),
        (Some(_), None) => bail!(
            "{URL} is set but {KEY} is not; URL and key must come from one source, so set both or neither"
        ),
        (None, Some(_)) => bail!(
            "{KEY} is set but {URL} is not; URL and key must come from one source, so set both or neither"
        ),
        (None, None) => match (&file.url, &file.admin_key) {
            (Some(url), Some(key)) => (url, key),
            (None, None) => return Ok(None),
            (Some(_), None) => bail!(
                "`url` is set but `admin_key` is not in {}; set both or neither",
                path.display()
            ),
            (None, Some(_)) => bail!(
                "`admin_key` is set but `url` is not in {}; set both or neither",
                path.display()
            ),
        },
    };
    ensure!(
        !key.trim().is_empty(),
        "`admin_key` is empty in {}; `convex-sidecar setup` creates a key",
        path.display()
    );
    Ok(Some(Deployment {
        is_from_environment: environment.contains_key(URL),
        ..Deployment::new(url, key, file.allow_insecure_http)?
    }))
}

fn check_url(text: &str, allow_insecure_http: bool) -> Result<Url> {
    // The text is not repeated, because it may contain a password.
    let url = Url::parse(text.trim()).map_err(|error| {
        anyhow!(
            "could not parse the deployment's URL: {error}; it should look like http://127.0.0.1:3210"
        )
    })?;
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "the deployment's URL contains a user name or a password; remove it"
    );
    ensure!(
        url.path() == "/" && url.query().is_none(),
        "the deployment's URL has a path or a query; it should look like http://127.0.0.1:3210"
    );
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) || allow_insecure_http => {}
        "http" => bail!(
            "the admin key is not sent over plain http to {}; use https, or set allow_insecure_http = true in config.toml",
            url.host_str().unwrap_or_default()
        ),
        other => {
            bail!("the deployment's URL has the scheme {other}; use https, or http on this machine")
        }
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "convex-self-hosted|0123456789abcdef";

    #[test]
    fn plain_http_is_allowed_to_this_machine_only() {
        for url in [
            "http://127.0.0.1:3210",
            "http://localhost:3210/",
            "http://[::1]:3210",
            "https://example.com",
        ] {
            assert!(Deployment::new(url, SECRET, false).is_ok(), "{url}");
        }
        for url in [
            "http://example.com",
            "http://127.0.0.1.example.com",
            "http://10.0.0.1:3210",
            "ftp://localhost",
            "localhost:3210",
            "https://a:b@example.com",
            "http://localhost/x",
        ] {
            assert!(Deployment::new(url, SECRET, false).is_err(), "{url}");
        }
        assert!(Deployment::new("http://10.0.0.1:3210", SECRET, true).is_ok());
    }

    #[test]
    fn key_of_convex_cloud_uses_the_variable_of_the_cli() {
        let names = |url: &str| {
            Deployment::new(url, SECRET, false)
                .unwrap()
                .cli_environment()
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("https://happy-animal-123.convex.cloud"), [DEPLOY_KEY]);
        assert_eq!(names("https://convex.cloud.example"), [URL, KEY]);
    }
}
