//! `view`: make a link to the page that the deployment serves, or revoke all links.

use std::fs;
use std::io::{ErrorKind, IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use serde_json::json;

use super::{load_config, now, print, print_error};
use crate::cli::View;
use crate::config::{self, Config, Environment};
use crate::convex::query::query;
use crate::deployment::tokens;
use crate::record::failure::{Failure, FailureKind};
use crate::system::files::write_private;
use crate::ui::references;

/// The minimum pause before the deployment's list of links is read again. It is longer than another
/// process needs from reading the list to replacing it.
const PAUSE: Duration = Duration::from_millis(200);
/// WSL sets it to the name of the Linux distribution.
const WSL: &str = "WSL_DISTRO_NAME";
const RUNDLL32_OF_WSL: &str = "rundll32.exe";

/// Runs `view`.
pub fn run(options: &View) -> Result<()> {
    let config = load_config()?;
    let deployment = config.require_deployment()?;
    if options.off {
        tokens::revoke_all(deployment)?;
        remove_redirect(&redirect_file(&config))?;
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
    let (now, jitter) = now();
    let expires_at = options.expires.map(|time| now + time.0);
    let (token, entry) = tokens::make(options.figures_only, expires_at)?;
    tokens::add(deployment, &entry, now, PAUSE.mul_f64(1.0 + jitter))?;
    let link = format!("{}/#token={token}", address.trim_end_matches('/'));
    print(&format!("{link}\n"))?;
    if stdout().is_terminal() {
        open(&link, &redirect_file(&config), &config::environment());
    }
    Ok(())
}

/// The file that leads a browser to the link. Other users can see the arguments of a program, so
/// the link itself must not be an argument.
fn redirect_file(config: &Config) -> PathBuf {
    config.journal.with_file_name("view.html")
}

fn remove_redirect(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// A page that redirects to the link immediately.
fn redirect(link: &str) -> String {
    let address = references(link, |char| "&<>\"'".contains(char));
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>convex-sidecar</title>\n\
         <meta http-equiv=\"refresh\" content=\"0; url={address}\">\n<a href=\"{address}\">Open the page</a>\n"
    )
}

/// Says what to do if the deployed functions have no page.
fn without_page(error: Error) -> Error {
    let kind = error.downcast_ref::<Failure>().map(|failure| failure.kind);
    if kind == Some(FailureKind::Undeployed) {
        // The remedy of the error itself is for deployments that another tool deploys to.
        return anyhow!("the deployment has no page yet; run `convex-sidecar setup`");
    }
    error
}

/// Opens the link in a browser, if there is one, through a private file. The link, which is already
/// printed, is valid even if that fails.
fn open(link: &str, file: &Path, environment: &Environment) {
    let mut openers = openers(environment).iter();
    let found = openers.find_map(|(name, arguments)| {
        let program = config::executables(name, environment).next()?;
        Some((*name, program, arguments))
    });
    let Some((name, program, arguments)) = found else {
        return;
    };
    if let Err(error) = write_private(file, &redirect(link)) {
        print_error(&format!("{error:#}"));
        return;
    }
    let mut command = Command::new(program);
    command.args(*arguments).stdin(Stdio::null());
    match environment.get(WSL) {
        Some(system) if name == RUNDLL32_OF_WSL => command.arg(path_in_windows(system, file)),
        _ => command.arg(file),
    };
    // A browser that starts with it must not end with the terminal.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}

/// The path that Windows has for a file of this Linux system.
fn path_in_windows(system: &str, file: &Path) -> String {
    let path = file.display().to_string().replace('/', "\\");
    format!("\\\\wsl$\\{system}{path}")
}

/// A program that opens a file, and its arguments before the file.
type Opener = (&'static str, &'static [&'static str]);

/// In order of preference. None of them is a shell command, such as Windows' `start`, in which `&`
/// in a name would end the command.
fn openers(environment: &Environment) -> &'static [Opener] {
    const RUNDLL32: &[&str] = &["url.dll,FileProtocolHandler"];
    let has = |names: &[&str]| names.iter().any(|name| environment.contains_key(*name));
    if cfg!(windows) {
        &[("rundll32", RUNDLL32)]
    } else if cfg!(target_os = "macos") {
        &[("open", &[])]
    } else if has(&[WSL]) {
        // The browser of Windows.
        &[("wslview", &[]), (RUNDLL32_OF_WSL, RUNDLL32)]
    } else if has(&["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"]) {
        &[("xdg-open", &[])]
    } else {
        &[]
    }
}
