//! Checks a server before anything is recorded on it.

use anyhow::{Context, Result, bail};
use http::HeaderMap;
use serde_json::{Value, json};

use super::versions::Tag;
use crate::config::{Config, Deployment};
use crate::convex::answer::Verdict;
use crate::convex::client::{Call, Convex};
use crate::convex::identity::Unidentified;
use crate::record::document::EVERY_FIELD;
use crate::record::failure::FailureKind;
use crate::system::deadline::Deadline;

/// A server that answered.
#[derive(Debug)]
pub struct Probe {
    /// Whether it accepts the key.
    pub accepts_key: bool,
    /// The name of its instance.
    pub instance: String,
    /// Its version, as a text.
    pub version: String,
}

/// The URL of a port of this machine.
pub fn local_url(port: impl std::fmt::Display) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Asks the server for its name and version, and whether it accepts the key.
pub fn probe(deployment: &Deployment) -> Result<Probe> {
    let convex = Convex::new(deployment, Deadline::never());
    let instance = convex.instance()?;
    let version = convex.version()?;
    Ok(Probe {
        accepts_key: convex.accepts_key()?,
        instance,
        version,
    })
}

/// Checks a deployment that the user named. Returns the server's version.
pub fn check(deployment: &Deployment) -> Result<String> {
    deployment.key.ensure_complete()?;
    let probe = probe(deployment).context("could not set up this deployment")?;
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
        probe.instance
    )
}

/// Refuses a backend that is older than the Convex CLI needs. `tag` finds out which image its
/// container runs, if it has one.
pub fn ensure_deployable(
    deployment: &Deployment,
    tag: impl FnOnce() -> Result<Option<Tag>>,
) -> Result<()> {
    let Some(outdated) = outdated(deployment)? else {
        return Ok(());
    };
    let image = tag()?.map(|tag| format!("; its container runs the image {tag}"));
    bail!(
        "could not deploy the functions: {outdated}{}; {UPGRADE}",
        image.unwrap_or_default()
    )
}

/// What to do about a backend that is older than the Convex CLI needs.
pub const UPGRADE: &str = "`convex-sidecar setup --upgrade` exports the data of the containers that `setup` started and \
    updates them; update any other backend the way it was installed";

/// What is wrong with a backend that is older than the Convex CLI needs; `None` if it is not.
pub fn outdated(deployment: &Deployment) -> Result<Option<String>> {
    let convex = Convex::new(deployment, Deadline::never());
    if convex.knows_push()? {
        return Ok(None);
    }
    Ok(Some(format!(
        "the backend at {} ({}) is older than the Convex CLI needs and answers its push with HTTP 404",
        deployment.name(),
        convex.version()?
    )))
}

/// Whether functions are deployed that accept everything that this program sends. The stamp on this
/// machine cannot tell whether the server's data was deleted since then, or whether another machine
/// has deployed older functions.
pub fn has_functions(deployment: &Deployment) -> Result<bool> {
    let verdict = offer_document(deployment)?;
    Ok(matches!(verdict, Verdict::Success(_) | Verdict::NotFound))
}

/// Offers a document with every field as an update of a session that does not exist. Convex checks
/// the fields before it looks for the session, so nothing is stored.
pub fn offer_document(deployment: &Deployment) -> Result<Verdict> {
    let mut document: Value = serde_json::from_str(EVERY_FIELD)?;
    document["sessionId"] = json!("convex-sidecar-doctor");
    let call = Call::mutation("agents:updateAgentSession", &document.to_string())?;
    Ok(Convex::new(deployment, Deadline::never()).call(&call))
}

/// What listens on a port of this machine, as a text; `None` if nothing can be reached there.
#[must_use]
pub fn listener(port: u16, config: &Config) -> Option<String> {
    let url = local_url(port);
    // It may not be the user's deployment, so it does not get the headers either.
    let deployment = config.deployment_at(&url, "").ok()?;
    let deployment = deployment.with_headers(HeaderMap::new());
    match Convex::new(&deployment, Deadline::never()).instance() {
        Ok(instance) => Some(format!(
            "another Convex backend, instance `{instance}` (to record there, run `convex-sidecar setup --url {url} --admin-key-stdin`)"
        )),
        Err(Unidentified::NoAnswer(failure)) if failure.kind == FailureKind::ForeignListener => {
            Some("a program of another user".to_owned())
        }
        Err(Unidentified::NoAnswer(_)) => None,
        Err(Unidentified::NotConvex(..)) => Some("a program that is not Convex".to_owned()),
    }
}

/// Whether the error is that the server could not be reached.
#[must_use]
pub fn is_unreachable(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Unidentified>()
        .is_some_and(|error| matches!(error, Unidentified::NoAnswer(failure) if failure.kind != FailureKind::ForeignListener))
}
