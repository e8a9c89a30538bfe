//! The containers of the project, as `docker compose ps` describes them.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Deserialize;

use super::compose::Compose;

/// A container of the project.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Container {
    /// The name of its service.
    pub service: String,
    /// The name of its image.
    pub image: String,
    /// `running`, `restarting`, `exited`, …
    pub state: String,
    /// `healthy`, `starting`, `unhealthy`; empty without a health check.
    pub health: String,
    /// The exit code with which it last ended.
    pub exit_code: i32,
}

impl Container {
    /// Whether it occupies its ports.
    #[must_use]
    pub fn is_up(&self) -> bool {
        ["running", "restarting", "paused"].contains(&self.state.as_str())
    }

    /// Whether it is not the one that keeps the others from starting.
    #[must_use]
    pub fn is_well(&self) -> bool {
        // A container that was created waits for one that is not well.
        self.state == "created"
            || (self.state == "running" && ["", "healthy"].contains(&self.health.as_str()))
    }
}

impl Compose<'_> {
    /// The IDs of the running containers.
    pub fn running(&self) -> Result<BTreeSet<String>> {
        let ids = self.run(&["ps", "--quiet"], "could not list the containers")?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// The containers, running or not.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let args = ["ps", "--all", "--format", "json"];
        Ok(parse(&self.run(&args, "could not list the containers")?))
    }
}

/// The containers in the output of `docker compose ps --format json`: one document per line, or a
/// list of them before Compose 2.21.
#[must_use]
pub fn parse(json: &str) -> Vec<Container> {
    if let Ok(list) = serde_json::from_str(json) {
        return list;
    }
    json.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_read_from_a_list_and_from_lines() {
        let backend = r#"{"Service":"backend","State":"restarting","ExitCode":132,"Health":""}"#;
        let dashboard = r#"{"Service":"dashboard","State":"created","ExitCode":0,"Name":"x"}"#;
        for json in [
            format!("[{backend},{dashboard}]"),
            format!("{backend}\n{dashboard}\n"),
        ] {
            let containers = parse(&json);
            assert_eq!(containers.len(), 2, "{json}");
            assert_eq!(
                (containers[0].exit_code, containers[0].is_well()),
                (132, false)
            );
            assert!(containers[1].is_well());
        }
        assert!(parse("").is_empty());
    }
}
