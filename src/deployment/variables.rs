//! The variables of a deployment, which its functions read.

use anyhow::{Error, Result};
use serde::Deserialize;

use crate::config::Deployment;
use crate::convex::answer::Verdict;
use crate::convex::client::{Call, Convex};
use crate::system::deadline::Deadline;

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

/// The value of a variable, if it is set. Fails if the key cannot read variables.
pub fn variable(deployment: &Deployment, name: &str) -> Result<Option<String>> {
    let call = Call::query("_system/cli/queryEnvironmentVariables", "{}")?;
    let variables = match Convex::new(deployment, Deadline::never()).call(&call) {
        Verdict::Success(variables) => serde_json::from_str::<Vec<Variable>>(&variables)?,
        verdict => {
            let failure = verdict.into_failure();
            return failure.map_or(Ok(None), |failure| Err(Error::new(failure)));
        }
    };
    let found = variables.into_iter().find(|variable| variable.name == name);
    Ok(found.map(|variable| variable.value))
}
