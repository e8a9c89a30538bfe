//! `setup --dry-run`.

use anyhow::Result;

use super::uses_docker;
use crate::cli::{Install, Setup, Uninstall};
use crate::command::install::{self, print_line};
use crate::config::Config;
use crate::deployment::bundle::Bundle;

/// Prints what would be done.
pub(super) fn print_plan(options: &Setup, config: &Config, bundle: &Bundle) -> Result<()> {
    let folder = bundle.folder.display();
    let would = |text: String| print_line(&format!("would {text}"));
    match bundle.outdated()? {
        0 => would(format!(
            "leave {folder} as it is; the files are already unpacked"
        ))?,
        files => would(format!("unpack {files} files into {folder}"))?,
    }
    if uses_docker(options) {
        would("check the versions of Node.js and Docker Compose, the Docker daemon, the ports and the disk".into())?;
        would(format!(
            "run `docker compose up --detach --wait` in {folder}, with the image that an existing backend has"
        ))?;
        if options.upgrade {
            would(format!(
                "export the data into {} and move the backend to the configured image, if it has an older one",
                config.journal.with_file_name("exports").display()
            ))?;
        }
        would("ask the backend for its version and whether it accepts the configured key".into())?;
        would(
            "run `docker compose exec backend ./generate_admin_key.sh`, unless it accepts the key"
                .into(),
        )?;
    } else {
        let url = match (&options.url, options.admin_key_stdin) {
            (Some(url), _) => url.clone(),
            (None, true) => "the backend on this machine".to_owned(),
            (None, false) => config.require_deployment()?.name().to_owned(),
        };
        would(format!(
            "ask {url} for its version and whether it accepts the key"
        ))?;
    }
    for file in [config.file.clone(), bundle.env_file()] {
        would(format!(
            "write the URL and the key into {}, unless they are there",
            file.display()
        ))?;
    }
    if bundle.is_installed() {
        would("not run `npm ci`; the packages are already installed".into())?;
    } else {
        would(format!("run `npm ci` in {folder}"))?;
    }
    would(format!(
        "run `npx convex deploy` in {folder}, unless these functions are already deployed"
    ))?;
    if let Some(retention) = options.retention_days {
        would(format!(
            "set the deployment so that {}",
            retention.describe()
        ))?;
    }
    would("install the hooks:".into())?;
    install::run(&Install {
        target: Uninstall {
            scope: options.scope,
            claude_config_dirs: Vec::new(),
            dry_run: true,
        },
        stop_failure: false,
    })?;
    would("run `convex-sidecar doctor`".into())
}
