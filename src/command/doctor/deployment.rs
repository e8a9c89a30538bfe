//! The deployment: who answers, whether it accepts the key, whether it has the functions. A failed
//! check is the last one, because those after it would fail for the same reason.

use anyhow::Error;
use serde_json::{Value, json};

use super::hooks::Installed;
use super::older_functions;
use super::proof::{self, Proof};
use crate::command::now;
use crate::config::{Config, Deployment};
use crate::convex::client::Convex;
use crate::convex::query::query;
use crate::deployment::retention::{self, Retention};
use crate::deployment::variables::{self, Variables};
use crate::deployment::{server, tokens};
use crate::record::failure::{Failure, FailureKind};
use crate::system::deadline::Deadline;
use crate::ui::{self, Check, Outcome};

/// The checks of the configured deployment, at least one.
pub fn checks(config: &Config, installed: &Installed) -> Vec<Check> {
    let deployment = match &config.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let finding = "not configured; sessions stay in this machine's journal";
            let remedy = format!(
                "run `convex-sidecar setup` to start one on this machine, or set CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY, or `url` \
                 and `admin_key` in {}",
                config.file.display()
            );
            return vec![Check::warning("deployment", finding, remedy)];
        }
        Err(problem) => {
            return vec![Check::failed(
                "deployment",
                format!("{problem:#}"),
                "fix it; until then nothing is sent",
            )];
        }
    };
    let mut checks = Vec::new();
    let failed = server(deployment, &mut checks)
        .and_then(|instance| functions(config, deployment, &instance, &mut checks))
        .and_then(|()| documents(config, deployment, &mut checks))
        .map(|()| {
            // The key may not be allowed to read them.
            let variables = variables::read(deployment).unwrap_or_default();
            checks.extend(retention(&variables).into_iter().chain(page(&variables)));
        })
        .and_then(|()| prove(config, deployment, installed, &mut checks));
    checks.extend(failed.err());
    checks
}

/// Checks that a deployment answers. Returns the name of its instance.
fn server(deployment: &Deployment, checks: &mut Vec<Check>) -> Result<String, Check> {
    let convex = Convex::new(deployment, Deadline::never());
    let instance = convex
        .instance()
        .map_err(|error| Check::failed("server", error.finding(), error.remedy()))?;
    let version = convex
        .version()
        .unwrap_or_else(|failure| failure.to_string());
    checks.push(Check::ok(
        "server",
        format!("{} responds, {version}", deployment.name()),
    ));
    Ok(instance)
}

/// Calls the queries that work without a session. The proof calls the mutations.
fn functions(
    config: &Config,
    deployment: &Deployment,
    instance: &str,
    checks: &mut Vec<Check>,
) -> Result<(), Check> {
    let page = json!({ "paginationOpts": { "numItems": 1, "cursor": Value::Null } });
    let queries = [
        (
            "agents:getAgentSession",
            json!({ "sessionId": "convex-sidecar-doctor" }),
        ),
        (
            "agents:findAgentSessions",
            json!({ "prefix": "convex-sidecar-doctor", "limit": 1 }),
        ),
        ("agents:listAgentSessions", page.clone()),
        (
            "workflows:getWorkflow",
            json!({ "key": "convex-sidecar-doctor" }),
        ),
        ("workflows:listWorkflows", page),
    ];
    let mut failed = Vec::new();
    for (path, args) in queries {
        let Err(error) = query(config, path, &args) else {
            continue;
        };
        match error.downcast_ref::<Failure>().map(|failure| failure.kind) {
            Some(FailureKind::Unauthorized) => return Err(key(deployment, instance, &error)),
            Some(FailureKind::Undeployed | FailureKind::Refused | FailureKind::Unexplained)
            | None => {
                failed.push((path, error));
            }
            // This concerns the server, so the other queries would fail as well.
            Some(_) => {
                return Err(Check::failed(
                    "server",
                    format!("{error:#}"),
                    "fix this; until then sessions wait in the journal",
                ));
            }
        }
    }
    let Some((_, error)) = failed.first() else {
        checks.push(Check::ok(
            "functions",
            "the key is accepted and the functions are deployed",
        ));
        return Ok(());
    };
    let paths: Vec<_> = failed.iter().map(|(path, _)| *path).collect();
    let finding = format!("{}: {error:#}", paths.join(", "));
    Err(match server::outdated(deployment) {
        Ok(Some(outdated)) => Check::failed(
            "functions",
            format!("they are not deployed, and {outdated}"),
            server::UPGRADE,
        ),
        _ => Check::failed(
            "functions",
            finding,
            "deploy the functions: `convex-sidecar setup --skip-docker`, or `npx convex deploy`",
        ),
    })
}

/// What is wrong with a key that the server refuses.
fn key(deployment: &Deployment, instance: &str, error: &Error) -> Check {
    let finding = match (deployment.key.ensure_complete(), deployment.key_instance()) {
        (Err(problem), _) => format!("{problem} ({error:#})"),
        (Ok(()), Some(own)) if own != instance && !deployment.is_cloud() => {
            format!(
                "the key belongs to the instance `{own}`, and the server is `{instance}` ({error:#})"
            )
        }
        _ => format!("{error:#}"),
    };
    let remedy = if deployment.is_cloud() {
        "create a deploy key for this deployment in its settings on https://dashboard.convex.dev, with the permissions that reading needs"
    } else {
        "create a key for this instance: `convex-sidecar setup`, or `generate_admin_key.sh` in the backend's container"
    };
    Check::failed("admin key", finding, remedy)
}

/// Checks that the functions accept the documents of this program.
fn documents(
    config: &Config,
    deployment: &Deployment,
    checks: &mut Vec<Check>,
) -> Result<(), Check> {
    match older_functions::check(config, deployment) {
        Some(check) if check.outcome == Outcome::Failed => return Err(check),
        check => checks.extend(check),
    }
    Ok(())
}

/// How many links to the page are valid, if there are any.
fn page(variables: &Variables) -> Option<Check> {
    let tokens = tokens::valid(variables, now().0);
    let figures = tokens.iter().filter(|token| token.is_for_figures).count();
    let links = ui::plural(tokens.len() as u64, "link");
    (!tokens.is_empty()).then(|| {
        let finding = format!("{links} to the page, {figures} of them for figures only; `convex-sidecar view --off` revokes all");
        Check::ok("page", finding)
    })
}

/// How long sessions are kept, if the deployment limits that.
fn retention(variables: &Variables) -> Option<Check> {
    let days = variables.get(retention::VARIABLE)?;
    Some(match days.parse::<Retention>() {
        Ok(retention @ Retention::Days(_)) => Check::ok("retention", retention.describe()),
        _ => Check::warning(
            "retention",
            format!(
                "{} is {days:?} in the deployment, which is not a number of days, so sessions are kept forever",
                retention::VARIABLE
            ),
            "set it with `convex-sidecar setup --skip-docker --retention-days DAYS`, or remove it with `off` in place of the days",
        ),
    })
}

fn prove(
    config: &Config,
    deployment: &Deployment,
    installed: &Installed,
    checks: &mut Vec<Check>,
) -> Result<(), Check> {
    let Proof { by, delay } = proof::run(config, deployment, installed).map_err(|error| {
        Check::failed(
            "proof",
            format!("{error:#}"),
            "run `convex-sidecar hook --verbose` by hand; it prints each step",
        )
    })?;
    let went_through = format!("a test session went through {by} to Convex and was then deleted");
    checks.push(match delay {
        None => Check::ok("proof", went_through),
        Some(reason) => Check::warning(
            "proof",
            format!("{went_through}, but not in the time that hooks have: {reason}"),
            "the server is slow; later hooks or `convex-sidecar sync` deliver what a hook could not",
        ),
    });
    Ok(())
}
