//! Whether the deployed functions accept everything that this program sends.

use anyhow::Result;

use crate::config::{Config, Deployment};
use crate::convex::answer::Verdict;
use crate::deployment::server::offer_document;
use crate::journal::Journal;
use crate::record::failure::FailureKind;
use crate::ui::Check;

/// How to deploy the functions of this program.
const REMEDY: &str = "deploy the functions of this version: `convex-sidecar setup --skip-docker`, or `npx convex deploy`";

/// A check, if the functions are older than this program or refuse its documents. If they are not,
/// the next delivery sends what earlier ones left out.
pub fn check(config: &Config, deployment: &Deployment) -> Option<Check> {
    match offer_document(deployment).ok()? {
        Verdict::UnknownField { field, .. } => Some(Check::warning(
            "functions",
            format!(
                "the functions are older than this program: they do not know {field}; sessions are delivered without these fields"
            ),
            REMEDY,
        )),
        // The proof that follows shows whether sessions arrive.
        Verdict::Failed(failure) if failure.kind == FailureKind::Unexplained => {
            Some(Check::warning(
                "functions",
                "the functions refuse what this program sends, and the deployment hides why; they are probably older than this program",
                REMEDY,
            ))
        }
        Verdict::Failed(failure) if failure.is_refusal() => Some(Check::failed(
            "functions",
            format!("the functions do not accept the documents of this program: {failure}"),
            REMEDY,
        )),
        Verdict::Success(_) | Verdict::NotFound => {
            // A journal that cannot be written has a check of its own.
            let _ = forget_older_functions(config, deployment);
            None
        }
        // The deployment answered a moment ago, and the proof that follows shows what is wrong now.
        Verdict::TimeIsAhead { .. } | Verdict::Failed(_) => None,
    }
}

fn forget_older_functions(config: &Config, deployment: &Deployment) -> Result<()> {
    if !config.journal.exists() {
        return Ok(());
    }
    let mut journal = Journal::open(&config.journal)?;
    let name = deployment.name();
    if journal.older_functions(name)?.is_some() {
        journal.write(|write| write.forget_older_functions(name))?;
    }
    Ok(())
}
