//! Which deployment `setup` sets up: its own containers, or an existing one.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

use super::BACKEND_PORT;
use crate::cli::Setup;
use crate::config::{self, Config, Deployment, Environment};
use crate::deployment::compose::Compose;
use crate::deployment::server::local_url;

/// Refuses what would have no effect, because the environment overrides the file, and what would
/// lose a key.
pub(super) fn check_configured(
    options: &Setup,
    config: &Config,
    environment: &Environment,
) -> Result<()> {
    let uses_configured = options.skip_docker && !options.admin_key_stdin;
    ensure!(
        uses_configured || !config::has_deployment(environment),
        "could not set up a different deployment, because the environment overrides {}; unset CONVEX_SELF_HOSTED_URL and \
         CONVEX_SELF_HOSTED_ADMIN_KEY, or set up theirs with `convex-sidecar setup --skip-docker`",
        config.file.display()
    );
    let elsewhere = config
        .configured()
        .filter(|configured| !configured.is_loopback());
    if let Some(elsewhere) = elsewhere.filter(|_| uses_docker(options)) {
        bail!(
            "could not set up a deployment on this machine, because {} has the key to {}; set that up with `convex-sidecar setup \
             --skip-docker`, or remove `url` and `admin_key` from the file",
            config.file.display(),
            elsewhere.name()
        );
    }
    Ok(())
}

/// Where the deployment comes from.
pub(super) enum Source<'a> {
    /// From containers that this starts.
    Containers(Compose<'a>),
    /// An existing one, which the user names.
    Given(Deployment),
}

/// Whether Docker runs the deployment.
pub(super) const fn uses_docker(options: &Setup) -> bool {
    !options.skip_docker && options.url.is_none()
}

/// The deployment that the user names.
pub(super) fn given(
    options: &Setup,
    config: &Config,
    environment: &Environment,
) -> Result<Deployment> {
    if !options.admin_key_stdin {
        let missing = "could not set up a deployment without containers; pass one with `--url URL --admin-key-stdin`";
        return config.require_deployment().cloned().context(missing);
    }
    let mut key = String::new();
    std::io::stdin()
        .read_to_string(&mut key)
        .context("could not read the admin key from stdin")?;
    ensure!(
        !key.trim().is_empty(),
        "could not read the admin key from stdin, which is empty; pipe it in, as in `… --admin-key-stdin < FILE`"
    );
    let port = || {
        environment
            .get("CONVEX_PORT")
            .map_or(BACKEND_PORT, String::as_str)
    };
    let url = options.url.clone().unwrap_or_else(|| local_url(port()));
    config.deployment_at(&url, &key)
}
