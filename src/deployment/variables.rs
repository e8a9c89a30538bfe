//! The variables of a deployment, which its functions read.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use crate::config::Deployment;
use crate::convex::client::Convex;
use crate::convex::query::query_at;
use crate::system::deadline::Deadline;

/// Values by name.
pub type Variables = HashMap<String, String>;

/// Reads all variables. Fails if the key cannot read them.
pub fn read(deployment: &Deployment) -> Result<Variables> {
    #[derive(Deserialize)]
    struct Variable {
        name: String,
        value: String,
    }
    let path = "_system/cli/queryEnvironmentVariables";
    let variables = query_at(deployment, path, &json!({}))
        .and_then(|answer| Ok(serde_json::from_value::<Vec<Variable>>(answer)?))
        .with_context(|| format!("could not read the variables of {}", deployment.name()))?;
    let variables = variables.into_iter();
    Ok(variables
        .map(|variable| (variable.name, variable.value))
        .collect())
}

/// Sets a variable, or removes it.
pub fn set(deployment: &Deployment, name: &str, value: Option<&str>) -> Result<()> {
    Convex::new(deployment, Deadline::never())
        .set_variable(name, value)
        .with_context(|| format!("could not set {name} in {}", deployment.name()))
}
