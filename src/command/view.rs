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
    // Anything else could be a program, which the system would run instead of opening a browser.
    let is_web = |address: &&str| {
        ["http://", "https://"]
            .iter()
            .any(|web| address.starts_with(web))
    };
    let Some(address) = address.as_str().filter(is_web) else {
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
    let mut openers = openers(environment).iter();
    let found = openers.find_map(|(name, arguments)| {
        let program = config::executables(name, environment).next()?;
        Some((program, arguments))
    });
    if let Some((program, arguments)) = found {
        let mut command = Command::new(program);
        command.args(*arguments).arg(link).stdin(Stdio::null());
        // A browser that starts with it must not end with the terminal.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

/// A program that opens a link, and its arguments before the link.
type Opener = (&'static str, &'static [&'static str]);

/// In order of preference. None of them is a shell command, such as Windows' `start`, in which `&`
/// in a link would end the command.
fn openers(environment: &Environment) -> &'static [Opener] {
    const RUNDLL32: &[&str] = &["url.dll,FileProtocolHandler"];
    let has = |names: &[&str]| names.iter().any(|name| environment.contains_key(*name));
    if cfg!(windows) {
        &[("rundll32", RUNDLL32)]
    } else if cfg!(target_os = "macos") {
        &[("open", &[])]
    } else if has(&["WSL_DISTRO_NAME"]) {
        // The browser of Windows.
        &[("wslview", &[]), ("rundll32.exe", RUNDLL32)]
    } else if has(&["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"]) {
        &[("xdg-open", &[])]
    } else {
        &[]
    }
}
