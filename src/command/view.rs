//! `view`: make a link to the page that the deployment serves, or revoke all links.

use std::io::{IsTerminal, stdout};
use std::process::{Command, Stdio};

use anyhow::{Error, Result, bail};
use serde_json::json;

use super::{load_config, now, print};
use crate::cli::View;
use crate::config::{self, Environment};
use crate::convex::query::query;
use crate::deployment::{tokens, variables};
use crate::record::failure::{Failure, FailureKind};

/// Runs `view`.
pub fn run(options: &View) -> Result<()> {
    let config = load_config()?;
    let deployment = config.require_deployment()?;
    if options.off {
        tokens::set(deployment, &[])?;
        return print("all links are revoked; open pages stop showing data\n");
    }
    let address = query(&config, "agents:getPageAddress", &json!({})).map_err(without_page)?;
    let Some(address) = address.as_str().filter(|address| !address.is_empty()) else {
        bail!(
            "{} does not say where it serves HTTP actions; set CONVEX_SITE_ORIGIN for the backend",
            deployment.name()
        );
    };
    let (now, _) = now();
    let mut entries = tokens::valid(&variables::read(deployment)?, now);
    let expires_at = options.expires.map(|time| now + time.0);
    let (token, entry) = tokens::make(options.figures_only, expires_at)?;
    entries.push(entry);
    tokens::set(deployment, &entries)?;
    let link = format!("{}/#token={token}", address.trim_end_matches('/'));
    print(&format!("{link}\n"))?;
    if stdout().is_terminal() {
        open(&link, &config::environment());
    }
    Ok(())
}

/// Says what to do if the deployed functions have no page.
fn without_page(error: Error) -> Error {
    let kind = error.downcast_ref::<Failure>().map(|failure| failure.kind);
    if kind == Some(FailureKind::Undeployed) {
        return error.context("the deployment has no page yet; run `convex-sidecar setup`");
    }
    error
}

/// Opens the link in a browser, if there is one. The link is printed anyway.
fn open(link: &str, environment: &Environment) {
    let has_screen = cfg!(any(windows, target_os = "macos"))
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| environment.contains_key(*name));
    let mut command = if cfg!(windows) {
        let mut command = Command::new("rundll32");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else {
        let name = if cfg!(target_os = "macos") {
            "open"
        } else {
            "xdg-open"
        };
        let Some(program) = config::executables(name, environment).next() else {
            return;
        };
        Command::new(program)
    };
    if has_screen {
        command.arg(link).stdin(Stdio::null());
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}
