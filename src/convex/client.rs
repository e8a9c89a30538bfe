//! Convex's HTTP API, as far as it is used: one call, and what its answer means. The only user of
//! ureq.
//!
//! What a real backend answers was recorded (`tests/fixtures/convex-backend-2026-06-30`). Whatever
//! goes wrong inside a function is HTTP 200 with `"status":"error"`, and its text may be left out
//! (`REDACT_LOGS_TO_CLIENT`); so the verdict rests on status and `errorData`, and only the wording
//! of a remedy on the text.

use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::value::RawValue;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error, RequestBuilder, Timeout};

use super::answer::{Answer, MAX_MESSAGE, Verdict, excerpt, verdict};
use crate::config::Deployment;
use crate::record::failure::{Failure, FailureKind};
use crate::system::deadline::Deadline;

/// How long a connection may take, so that a dead server costs a hook little.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a request may take where no hook waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a request is written at once, in bytes. Each time is limited by what is left of the
/// deadline, so it has to be less than what a server that reads very slowly takes at once.
const OUTPUT_BUFFER: usize = 16 * 1024;
/// How much of an answer is read at once, in bytes: most are shorter by far, and this much memory
/// is written to before.
const INPUT_BUFFER: usize = 8 * 1024;
/// How much of an answer is read, in bytes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// Which kind of function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Convex's own words")]
pub enum Kind {
    Query,
    Mutation,
}

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    kind: Kind,
    path: &'static str,
    body: String,
}

impl Call {
    /// A call of `path` with arguments that are JSON already.
    pub fn new(kind: Kind, path: &'static str, args: &str) -> Result<Self> {
        let args = RawValue::from_string(args.to_owned()).context("could not read stored JSON")?;
        let body = serde_json::json!({ "path": path, "format": "json" });
        let mut body = serde_json::to_string(&body)?;
        body.pop();
        Ok(Self {
            kind,
            path,
            body: format!("{body},\"args\":{}}}", args.get()),
        })
    }

    /// The function's name.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// The body, JSON.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    const fn route(&self) -> &'static str {
        match self.kind {
            Kind::Query => "api/query",
            Kind::Mutation => "api/mutation",
        }
    }

    /// The request as it may be shown: the key left out.
    #[must_use]
    pub fn describe(&self, deployment: &Deployment) -> String {
        format!(
            "POST {}{}\nAuthorization: Convex …\n{}",
            deployment.url,
            self.route(),
            self.body
        )
    }
}

/// The addresses of hosts. The system can take any time to tell them, so ureq asks it in a thread
/// of its own, and does so for what is an address already, too.
#[derive(Debug, Default)]
struct Hosts(DefaultResolver);

impl Resolver for Hosts {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, Error> {
        let is_address = uri
            .host()
            .is_some_and(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok());
        self.0.resolve(
            uri,
            config,
            if is_address {
                NextTimeout::default()
            } else {
                timeout
            },
        )
    }
}

/// A connection to one deployment.
#[derive(Debug)]
pub struct Convex<'a> {
    agent: Agent,
    authorization: HeaderValue,
    deployment: &'a Deployment,
    deadline: Deadline,
}

impl<'a> Convex<'a> {
    /// Prepares calls to `deployment`, all of which end by `deadline`. Nothing is sent yet.
    pub fn new(deployment: &'a Deployment, deadline: Deadline) -> Result<Self> {
        // An error only says that it was installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut authorization = HeaderValue::from_str(&deployment.key.authorization())
            .context("could not use the admin key as a header")?;
        authorization.set_sensitive(true);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .user_agent("")
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::PlatformVerifier)
                    .build(),
            );
        let config = if deployment.is_loopback() {
            config.proxy(None)
        } else {
            config
        };
        let agent = Agent::with_parts(
            config.build(),
            DefaultConnector::default(),
            Hosts::default(),
        );
        Ok(Self {
            agent,
            authorization,
            deployment,
            deadline,
        })
    }

    /// What the server says of its version; any deployment answers that, with and without a key.
    pub fn version(&self) -> Result<String> {
        let text = self.get_text("version")?;
        Ok(if text.is_empty() || text == "unknown" {
            "version unknown".to_owned()
        } else {
            format!("version {text}")
        })
    }

    /// The name of the server's instance, with which its admin keys begin; any deployment tells it.
    pub fn instance(&self) -> Result<String> {
        self.get_text("instance_name")
    }

    /// What the server tells anybody.
    fn get_text(&self, path: &str) -> Result<String> {
        let answer = self
            .timed(self.agent.get(self.deployment.url.join(path)?.as_str()))?
            .call();
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let mut text = String::new();
        let is_text = answer
            .into_body()
            .into_reader()
            .take(MAX_MESSAGE as u64)
            .read_to_string(&mut text)
            .is_ok();
        ensure!(
            status.is_success() && is_text,
            "{} is no Convex deployment: HTTP {}",
            self.deployment.name(),
            status.as_u16()
        );
        Ok(excerpt(&text))
    }

    /// Whether the server accepts the key, whatever functions it has: it looks at the key before it
    /// looks for the function.
    pub fn accepts_key(&self) -> Result<bool> {
        let call = Call::new(Kind::Query, "agents:getAgentSession", "{}")?;
        let (status, body) = self.post(&call)?;
        match status {
            200 | 560
                if serde_json::from_slice::<Answer>(&body)
                    .is_ok_and(|answer| answer.status.is_some()) =>
            {
                Ok(true)
            }
            200 | 560 => bail!(
                "could not ask {} about the admin key: the answer is not Convex's",
                self.deployment.name()
            ),
            401 | 403 => Ok(false),
            status => bail!(
                "could not ask {} about the admin key: HTTP {status}",
                self.deployment.name()
            ),
        }
    }

    /// Makes one call. Every failure is a [`Verdict`]: a hook has nobody to tell.
    #[must_use]
    pub fn call(&self, call: &Call) -> Verdict {
        match self.post(call) {
            Ok((status, body)) => match verdict(status, &body) {
                Verdict::Failed(Failure { kind, message }) => Verdict::Failed(Failure {
                    kind,
                    message: self.deployment.key.hidden_in(&message),
                }),
                verdict => verdict,
            },
            Err(failure) => Verdict::Failed(failure),
        }
    }

    /// Makes one call. Returns the status of the answer and its body.
    fn post(&self, call: &Call) -> Result<(u16, Vec<u8>), Failure> {
        let url = format!("{}{}", self.deployment.url, call.route());
        let request = self.timed(self.agent.post(url))?;
        let answer = request
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .header(
                "convex-client",
                concat!("convex-sidecar-", env!("CARGO_PKG_VERSION")),
            )
            .send(&call.body)
            .map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        match answer
            .into_body()
            .into_reader()
            .take(MAX_ANSWER)
            .read_to_end(&mut body)
        {
            Ok(_) => Ok((status, body)),
            // What refuses or fails a request says so by its status.
            Err(_) if !matches!(status, 200 | 560) => Ok((status, body)),
            Err(error) => match Error::from(error) {
                error @ Error::Timeout(_) => Err(self.unreachable(&error)),
                _ => Err(Failure::new(FailureKind::Failing, "the answer broke off")),
            },
        }
    }

    /// The request with what is left of the time.
    fn timed<B>(&self, request: RequestBuilder<B>) -> Result<RequestBuilder<B>, Failure> {
        let timeout = self.deadline.remaining(REQUEST_TIMEOUT);
        if timeout.is_zero() {
            return Err(Failure::new(
                FailureKind::Failing,
                "no time was left for the request",
            ));
        }
        Ok(request.config().timeout_global(Some(timeout)).build())
    }

    fn unreachable(&self, error: &Error) -> Failure {
        let why = match error {
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                "the connection timed out".to_owned()
            }
            Error::Timeout(_) => "no answer in time".to_owned(),
            Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        Failure::new(
            FailureKind::Unreachable,
            format!("could not reach {}: {why}", self.deployment.name()),
        )
    }
}
