//! Who answers at a URL. Only a Convex deployment answers `GET /instance_name` with a name in plain
//! text, and it does so without a key. Anything else is identified, so that a wrong URL or a proxy
//! results in one clear message.

use std::fmt;

use url::Url;

use super::answer::excerpt;
use crate::record::failure::Failure;

/// How many characters of a page's title are repeated.
const MAX_TITLE: usize = 60;
/// What Convex answers on the port of the HTTP actions: if there are no actions, and if there is
/// none at this path.
const NO_HTTP_ACTION: [&str; 3] = [
    "does not have HTTP actions enabled",
    "No matching routes found",
    "No HttpAction routed for",
];

/// What answers instead of a Convex deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotConvex {
    /// The port of a deployment's HTTP actions.
    HttpActions,
    /// The Convex dashboard.
    Dashboard,
    /// A web page, with its title; often that of a login.
    Page(Option<String>),
    /// A proxy that lets only some requests pass, with the status of its answer.
    AccessProxy(u16),
    /// A redirection, with its target.
    Redirect(String),
    /// A proxy whose server does not answer, with the status of its answer.
    Gateway(u16),
    /// Anything else, with the status of its answer.
    Other(u16),
}

/// Why a deployment could not be identified.
#[derive(Debug)]
pub enum Unidentified {
    /// There was no answer.
    NoAnswer(Failure),
    /// Something else answered, at this URL.
    NotConvex(NotConvex, String),
}

/// The answer to `GET /instance_name`.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The header `Location`; empty if there is none.
    pub location: &'a str,
    /// The header `Content-Type`; empty if there is none.
    pub content_type: &'a str,
    /// The beginning of the body.
    pub body: &'a str,
}

impl Answer<'_> {
    /// The name of the instance, if a Convex deployment answered.
    pub fn instance(&self) -> Result<String, NotConvex> {
        let body = self.body.trim();
        let is_page = self.content_type.contains("html") || body.starts_with('<');
        Err(match self.status {
            200 if !is_page && is_instance_name(body) => return Ok(body.to_owned()),
            300..=399 => NotConvex::Redirect(without_query(self.location)),
            401 | 403 | 407 => NotConvex::AccessProxy(self.status),
            502.. => NotConvex::Gateway(self.status),
            404 if NO_HTTP_ACTION.iter().any(|text| body.contains(text)) => NotConvex::HttpActions,
            _ if is_page => match title(body) {
                Some(title) if title.contains("Convex Dashboard") => NotConvex::Dashboard,
                title => NotConvex::Page(title),
            },
            status => NotConvex::Other(status),
        })
    }
}

fn is_instance_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The title of a page.
fn title(page: &str) -> Option<String> {
    let start = page.to_ascii_lowercase().find("<title")?;
    let (_, rest) = page[start..].split_once('>')?;
    let title = excerpt(rest.split('<').next()?);
    let cut = title.floor_char_boundary(MAX_TITLE);
    (!title.is_empty()).then(|| title[..cut].to_owned())
}

/// The target of a redirect without the query, which may be secret.
fn without_query(location: &str) -> String {
    let end = location.find(['?', '#']).unwrap_or(location.len());
    let plain = &location[..end];
    match Url::parse(plain) {
        Ok(mut url) if url.has_host() => {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => plain.to_owned(),
    }
}

impl Unidentified {
    /// A message that says what was found.
    #[must_use]
    pub fn finding(&self) -> String {
        let (what, name) = match self {
            Self::NoAnswer(failure) => return failure.message.clone(),
            Self::NotConvex(what, name) => (what, name),
        };
        match what {
            NotConvex::HttpActions => {
                format!("{name} is the address of a deployment's HTTP actions, not of its API")
            }
            NotConvex::Dashboard => format!("{name} is the Convex dashboard, not a deployment"),
            NotConvex::Page(title) => {
                let title = title.as_ref().map(|title| format!(" ({title:?})"));
                format!(
                    "a web page{} answers at {name}, not Convex",
                    title.unwrap_or_default()
                )
            }
            NotConvex::AccessProxy(status) => {
                format!("a proxy in front of {name} refuses requests: HTTP {status}")
            }
            NotConvex::Redirect(target) => format!("{name} redirects to {target:?}"),
            NotConvex::Gateway(status) => {
                format!(
                    "a proxy answers at {name}, but the server behind it does not: HTTP {status}"
                )
            }
            NotConvex::Other(status) => format!("{name} is not a Convex deployment: HTTP {status}"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoAnswer(failure) if let Some(remedy) = failure.kind.remedy() => remedy,
            Self::NoAnswer(_) => {
                "start it (`convex-sidecar setup` starts the containers on this machine), or correct the URL"
            }
            Self::NotConvex(what, _) => match what {
                NotConvex::HttpActions => {
                    "use the address of the API: port 3210 instead of 3211, `.convex.cloud` instead of `.convex.site`"
                }
                NotConvex::Dashboard => {
                    "use the address of the backend, which has port 3210 by default"
                }
                NotConvex::Page(_) | NotConvex::AccessProxy(_) => {
                    "correct the URL, or, if there is an access proxy or a login in front of the server, set the headers that it requires \
                     (`headers` in config.toml) or use an address behind it"
                }
                NotConvex::Redirect(_) => {
                    "redirects are not followed; configure the final URL, or, if that is a login, set the headers that an access proxy requires (`headers` in config.toml)"
                }
                NotConvex::Gateway(_) => {
                    "start the backend, or correct the address to which the proxy passes requests"
                }
                NotConvex::Other(_) => {
                    "correct the URL; that of a self-hosted deployment has port 3210 by default"
                }
            },
        }
    }
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.finding(), self.remedy())
    }
}

impl std::error::Error for Unidentified {}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, content_type: &str, body: &str) -> Result<String, NotConvex> {
        let answer = Answer {
            status,
            location: "https://a:b@example.com/start?state=secret#secret",
            content_type,
            body,
        };
        answer.instance()
    }

    #[test]
    fn only_a_name_in_plain_text_is_an_instance() {
        let (text, html) = ("text/plain; charset=utf-8", "text/html; charset=utf-8");
        for name in ["convex-self-hosted", "happy-animal-123", "local_test.1"] {
            assert_eq!(answer(200, text, name), Ok(name.to_owned()));
        }
        let page = |title: &str| NotConvex::Page(Some(title.to_owned()));
        for (status, content_type, body, expected) in [
            (
                200,
                html,
                "<!DOCTYPE html><title>Sign in</title>",
                page("Sign in"),
            ),
            (
                200,
                "",
                "\n<html><TITLE lang=en>\nSign\nin</TITLE>",
                page("Sign in"),
            ),
            (200, html, "<html></html>", NotConvex::Page(None)),
            (200, html, "welcome", NotConvex::Page(None)),
            (
                404,
                html,
                "<title>404: Convex Dashboard</title>",
                NotConvex::Dashboard,
            ),
            (
                404,
                text,
                "This Convex deployment does not have HTTP actions enabled.",
                NotConvex::HttpActions,
            ),
            (
                404,
                text,
                "No matching routes found",
                NotConvex::HttpActions,
            ),
            (
                404,
                html,
                "<title>404 Not Found</title>",
                page("404 Not Found"),
            ),
            (404, text, "404 page not found", NotConvex::Other(404)),
            (
                200,
                "application/json",
                "{\"name\":\"x\"}",
                NotConvex::Other(200),
            ),
            (200, text, "", NotConvex::Other(200)),
            (200, text, "It works on my machine", NotConvex::Other(200)),
            (
                400,
                text,
                "Client sent HTTP to HTTPS",
                NotConvex::Other(400),
            ),
            (
                401,
                html,
                "<title>Login</title>",
                NotConvex::AccessProxy(401),
            ),
            (403, text, "", NotConvex::AccessProxy(403)),
            (
                502,
                html,
                "<title>502 Bad Gateway</title>",
                NotConvex::Gateway(502),
            ),
            (503, text, "upstream connect error", NotConvex::Gateway(503)),
            (
                302,
                html,
                "",
                NotConvex::Redirect("https://example.com/start".to_owned()),
            ),
        ] {
            assert_eq!(answer(status, content_type, body), Err(expected), "{body}");
        }
    }
}
