//! What a server answers before anything is recorded on it.

use anyhow::{Context, Result, bail};

use crate::config::{Config, Deployment};
use crate::convex::answer::Verdict;
use crate::convex::client::{Call, Convex};
use crate::record::failure::{Failure, FailureKind};
use crate::system::deadline::Deadline;

/// A query that every version of the functions answers.
const QUERY: (&str, &str) = (
    "agents:getAgentSession",
    r#"{"sessionId":"convex-sidecar-setup"}"#,
);

/// A server that answered.
#[derive(Debug)]
pub struct Probe {
    /// Whether it accepts the key.
    pub accepts_key: bool,
    /// Its version, for people.
    pub version: String,
}

/// The URL of a port of this machine.
pub fn local_url(port: impl std::fmt::Display) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Asks a server for its version and whether it accepts the key.
pub fn probe(deployment: &Deployment) -> Result<Probe> {
    let convex = Convex::new(deployment, Deadline::never());
    let version = convex.version()?;
    Ok(Probe {
        accepts_key: convex.accepts_key()?,
        version,
    })
}

/// The name of the instance that answers.
pub fn instance(deployment: &Deployment) -> Result<String> {
    Ok(Convex::new(deployment, Deadline::never()).instance()?)
}

/// Checks a deployment that the user named. Returns the server's version.
pub fn check(deployment: &Deployment) -> Result<String> {
    let probe = probe(deployment)
        .context("could not set up this deployment; start it, or correct the URL")?;
    if probe.accepts_key {
        return Ok(probe.version);
    }
    let remedy = if deployment.is_cloud() {
        "create a deploy key for this deployment in its settings on https://dashboard.convex.dev"
    } else {
        "create one with `generate_admin_key.sh` in its backend's container"
    };
    bail!(
        "could not use the admin key: {}, the instance `{}`, refuses it (HTTP 401); {remedy}",
        deployment.name(),
        instance(deployment)?
    )
}

/// Whether the functions are deployed. A stamp on this machine does not know whether the server's
/// data was deleted since.
pub fn has_functions(deployment: &Deployment) -> Result<bool> {
    let call = Call::query(QUERY.0, QUERY.1)?;
    let verdict = Convex::new(deployment, Deadline::never()).call(&call);
    Ok(matches!(verdict, Verdict::Success(_)))
}

/// What listens on a port of this machine, for people; `None` if nothing can be reached there.
#[must_use]
pub fn listener(port: u16, config: &Config) -> Option<String> {
    let url = local_url(port);
    let deployment = config.deployment_at(&url, "").ok()?;
    match Convex::new(&deployment, Deadline::never()).instance() {
        Ok(instance) => Some(format!(
            "another Convex backend, instance `{instance}` (to record there, run `convex-sidecar setup --url {url} --admin-key-stdin`)"
        )),
        Err(failure) if failure.kind == FailureKind::Unreachable => None,
        Err(_) => Some("a program that is not Convex".to_owned()),
    }
}

/// Whether the error is that the server could not be reached.
#[must_use]
pub fn is_unreachable(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| failure.kind == FailureKind::Unreachable)
}
