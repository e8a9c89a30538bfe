//! `setup`: all of the server side in one go, from nothing to a `doctor` without a failed check.
//!
//! Each step looks first whether it is done already, so a run that was broken off is taken up by
//! the next one. What can be wrong before anything is started is looked at before: configuration,
//! settings file, programs. The key is written only when the server has accepted it.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::install::{self, print_line};
use super::{doctor, load_config};
use crate::cli::{Doctor, Install, Setup};
use crate::config::{self, Config, Deployment, Environment};
use crate::convex::answer::Verdict;
use crate::convex::client::{Call, Convex, Kind};
use crate::deployment::bundle::Bundle;
use crate::deployment::compose::Compose;
use crate::system::deadline::Deadline;
use crate::system::files::{TextFile, create_private_folder};
use crate::system::program::{Output, Program};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);
/// The ports in the containers.
const BACKEND_PORT: &str = "3210";
const DASHBOARD_PORT: &str = "6791";
/// Exactly the packages of the lock file, and no scripts of theirs.
const INSTALL: [&str; 5] = [
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
];
/// The CLI of those packages and no other. The functions were checked and their code generated when
/// this was built.
const DEPLOY: [&str; 8] = [
    "--no-install",
    "convex",
    "deploy",
    "--yes",
    "--typecheck",
    "disable",
    "--codegen",
    "disable",
];
/// A query that any version of the functions answers.
const QUERY: (&str, &str) = (
    "agents:getAgentSession",
    r#"{"sessionId":"convex-sidecar-setup"}"#,
);

/// Runs `setup`.
pub fn run(options: &Setup) -> Result<()> {
    let environment = config::environment();
    let config = load_config()?;
    let bundle = Bundle {
        folder: config.journal.with_file_name("deployment"),
    };
    check_configured(options, &config, &environment)?;
    install::Change::read(options.scope)?;
    if options.dry_run {
        return plan(options, &config, &bundle);
    }
    let node = "install Node.js 18 or newer (https://nodejs.org), which has it";
    let (npm, npx) = (
        find("npm", &environment, node)?,
        find("npx", &environment, node)?,
    );
    let source = Source::of(options, &config, &environment, &bundle)?;

    step("files", "unpacking", || unpack(&bundle))?;
    let deployment = match &source {
        Source::Given(given) => step("admin key", "asking the server", || accept(given))?,
        Source::Containers(compose) => {
            let port = step(
                "containers",
                "docker compose up; the first time it fetches the images",
                || start(compose, &config),
            )?;
            step("admin key", "asking the server", || {
                find_key(compose, port, &config)
            })?
        }
    };
    step("configuration", "writing", || {
        configure(options, &config, &bundle, &deployment)
    })?;
    step("packages", "npm ci", || install_packages(&npm, &bundle))?;
    step("functions", "npx convex deploy", || {
        deploy(&npx, &bundle, &deployment)
    })?;
    let hooks = step("hooks", "installing", || install_hooks(options))?;
    hooks.warn();
    print_line("")?;
    let checked = doctor::run(&Doctor { json: false });
    print_line("")?;
    let told = tell_dashboard(&source, &config, &deployment);
    checked.and(told)
}

/// Does a step of the work and tells that it is done and how long it took.
fn step<T>(name: &str, doing: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
    let start = Instant::now();
    let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::with_template(
        "{spinner} {prefix:13}  {msg}  {elapsed}",
    )?);
    let spinner = spinner
        .with_prefix(name.to_owned())
        .with_message(doing.to_owned());
    spinner.enable_steady_tick(TICK);
    let result = work();
    spinner.finish_and_clear();
    let (value, says) = result?;
    print_line(&format!(
        "✓ {name:13}  {says}  ({:.1}s)",
        start.elapsed().as_secs_f64()
    ))?;
    Ok(value)
}

/// Refuses what would not take effect, because the environment goes before the file, and what would
/// lose a key.
fn check_configured(options: &Setup, config: &Config, environment: &Environment) -> Result<()> {
    let takes_configured = options.skip_docker && !options.admin_key_stdin;
    ensure!(
        takes_configured || !config::names_deployment(environment),
        "could not set up another deployment than the environment's, which goes before {}; unset CONVEX_SELF_HOSTED_URL and \
         CONVEX_SELF_HOSTED_ADMIN_KEY, or set theirs up with `convex-sidecar setup --skip-docker`",
        config.file.display()
    );
    let elsewhere = config
        .deployment
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .filter(|configured| !configured.is_loopback());
    if let Some(elsewhere) = elsewhere.filter(|_| uses_docker(options)) {
        bail!(
            "could not set up a deployment on this machine, because {} has the key to {}; set that up with `convex-sidecar setup \
             --skip-docker`, or take `url` and `admin_key` out of the file",
            config.file.display(),
            elsewhere.name()
        );
    }
    Ok(())
}

fn find(name: &str, environment: &Environment, remedy: &str) -> Result<Program> {
    let program = Program::find(name, environment);
    program.ok_or_else(|| {
        anyhow!(
            "could not find {name} on the PATH; {remedy}, then run `convex-sidecar setup` again"
        )
    })
}

/// Where the deployment comes from.
enum Source {
    /// From the containers that this starts.
    Containers(Compose),
    /// From the user, who names one that is there.
    Given(Deployment),
}

impl Source {
    fn of(
        options: &Setup,
        config: &Config,
        environment: &Environment,
        bundle: &Bundle,
    ) -> Result<Self> {
        if !uses_docker(options) {
            return given(options, config, environment).map(Self::Given);
        }
        let remedy = "install Docker (https://docs.docker.com/get-docker), or take a deployment that is there with `--url`";
        let docker = find("docker", environment, remedy)?;
        let known = config.deployment.as_ref().ok().and_then(Option::as_ref);
        Ok(Self::Containers(Compose {
            docker,
            folder: bundle.folder.clone(),
            key: known.map(|known| known.key.clone()),
        }))
    }
}

const fn uses_docker(options: &Setup) -> bool {
    !options.skip_docker && options.url.is_none()
}

fn given(options: &Setup, config: &Config, environment: &Environment) -> Result<Deployment> {
    if !options.admin_key_stdin {
        let missing =
            "could not set it up without containers; name one with `--url URL --admin-key-stdin`";
        return config.require_deployment().cloned().context(missing);
    }
    let mut key = String::new();
    std::io::stdin()
        .read_to_string(&mut key)
        .context("could not read the admin key from stdin")?;
    ensure!(
        !key.trim().is_empty(),
        "could not read the admin key from stdin: there was none; pipe it in, as in `… --admin-key-stdin < FILE`"
    );
    let url = options.url.clone().unwrap_or_else(|| {
        local_url(
            environment
                .get("CONVEX_PORT")
                .map_or(BACKEND_PORT, String::as_str),
        )
    });
    config.deployment_at(&url, &key)
}

fn local_url(port: impl std::fmt::Display) -> String {
    format!("http://127.0.0.1:{port}")
}

fn unpack(bundle: &Bundle) -> Result<((), String)> {
    // It lies beside the journal, which others may not look into.
    create_private_folder(&bundle.folder)
        .with_context(|| format!("could not make {}", bundle.folder.display()))?;
    let folder = bundle.folder.display();
    Ok(match bundle.unpack()? {
        0 => ((), format!("unpacked already in {folder}")),
        files => ((), format!("{files} unpacked into {folder}")),
    })
}

/// Starts the containers; the port of the backend.
fn start(compose: &Compose, config: &Config) -> Result<(u16, String)> {
    compose.check()?;
    let before = compose.running()?;
    compose.up(|port| listener(port, config))?;
    let says = if compose.running()? == before {
        "running already"
    } else {
        "started, and healthy"
    };
    Ok((compose.port("backend", BACKEND_PORT)?, says.to_owned()))
}

/// Who listens on a port of this machine.
fn listener(port: u16, config: &Config) -> String {
    let url = local_url(port);
    let asked = config
        .deployment_at(&url, "")
        .and_then(|stranger| Convex::new(&stranger, Deadline::never())?.instance());
    match asked {
        Ok(instance) => format!(
            "another Convex, of the instance `{instance}` (to record there, run `convex-sidecar setup --url {url} --admin-key-stdin`)"
        ),
        Err(_) => "a program that is no Convex".to_owned(),
    }
}

/// The key that is configured for this backend, if it is still accepted; else a new one.
fn find_key(compose: &Compose, port: u16, config: &Config) -> Result<(Deployment, String)> {
    let configured = config.deployment.as_ref().ok().and_then(Option::as_ref);
    let configured = configured.filter(|configured| {
        configured.is_loopback() && configured.url.port_or_known_default() == Some(port)
    });
    let silent = || {
        format!(
            "could not use the backend in the container; `docker compose logs backend` in {} tells of it",
            compose.folder.display()
        )
    };
    if let Some(kept) = configured {
        let (is_accepted, version) = probe(kept).with_context(silent)?;
        if is_accepted {
            return Ok((
                kept.clone(),
                format!(
                    "{} answers, {version}, and accepts the configured key already",
                    kept.name()
                ),
            ));
        }
    }
    // Sessions that wait know the deployment by the name that was configured.
    let url = configured.map_or_else(
        || local_url(port),
        |configured| configured.name().to_owned(),
    );
    let made = config.deployment_at(&url, &compose.generate_key()?)?;
    let (is_accepted, version) = probe(&made).with_context(silent)?;
    if !is_accepted {
        let instance = Convex::new(&made, Deadline::never())?.instance()?;
        let ours = made.key_instance().unwrap_or_default();
        let remedy = if instance == ours {
            format!(
                "start the backend anew with `docker compose restart backend` in {}",
                compose.folder.display()
            )
        } else {
            format!(
                "set CONVEX_PORT to a free port in {}",
                compose.folder.join(".env").display()
            )
        };
        bail!(
            "could not make an admin key: {} refuses (HTTP 401) what the container made for the instance `{ours}`, it is the instance \
             `{instance}`; {remedy}, then run `convex-sidecar setup` again",
            made.name()
        );
    }
    let says = if configured.is_some() {
        "made anew, because the configured one was refused"
    } else {
        "made"
    };
    let says = format!("{says}; {} answers, {version}, and accepts it", made.name());
    Ok((made, says))
}

fn accept(given: &Deployment) -> Result<(Deployment, String)> {
    let (is_accepted, version) = probe(given)
        .context("could not set up this deployment; start it, or name the right URL")?;
    if !is_accepted {
        let instance = Convex::new(given, Deadline::never())?.instance()?;
        let remedy = if given.is_cloud() {
            "make a deploy key of this deployment in its settings on https://dashboard.convex.dev"
        } else {
            "make one with `generate_admin_key.sh` in the container of its backend"
        };
        bail!(
            "could not use the admin key: {}, the instance `{instance}`, refuses it (HTTP 401); {remedy}",
            given.name()
        );
    }
    let says = format!("{} answers, {version}, and accepts the key", given.name());
    Ok((given.clone(), says))
}

/// Whether the server accepts the key, and its version.
fn probe(deployment: &Deployment) -> Result<(bool, String)> {
    let convex = Convex::new(deployment, Deadline::never())?;
    let version = convex.version()?;
    Ok((convex.accepts_key()?, version))
}

/// Writes `config.toml`, and for the Convex CLI `.env.local`.
fn configure(
    options: &Setup,
    config: &Config,
    bundle: &Bundle,
    deployment: &Deployment,
) -> Result<((), String)> {
    let file = TextFile::read(config.file.clone())?;
    let before = file.text.as_deref().unwrap_or_default();
    let read = config::url_in(before)
        .and_then(|url| Ok((url, config::with_deployment(before, deployment)?)));
    let (url, text) = read.with_context(|| format!("could not parse {}", config.file.display()))?;
    if let Some(url) = url.filter(|url| *url != deployment.url && options.url.is_none()) {
        bail!(
            "could not write {}, because it has the key to {url}, and this is {name}; take `url` and `admin_key` out of the file, or say \
             `--url {name}`",
            config.file.display(),
            name = deployment.name()
        );
    }
    let env_file = TextFile::read(bundle.env_file())?;
    let variables = deployment.cli_environment();
    let lines = variables
        .iter()
        .flat_map(|(name, value)| [name, "='", value.as_str(), "'\n"])
        .collect();
    let mut written = Vec::new();
    for (file, text) in [(file, text), (env_file, lines)] {
        if file.text.as_ref() != Some(&text) || !file.is_private() {
            file.write_private(&text)?;
            written.push(file.path.display().to_string());
        }
    }
    Ok(match written.as_slice() {
        [] => (
            (),
            format!("{} has URL and key already", config.file.display()),
        ),
        written => ((), format!("written: {}", written.join(", "))),
    })
}

fn install_packages(npm: &Program, bundle: &Bundle) -> Result<((), String)> {
    if bundle.is_installed() {
        return Ok(((), "installed already".to_owned()));
    }
    let output = npm.run(&bundle.folder, &INSTALL, &[])?;
    let remedy = "look at the network and at npm's registry (`npm config get registry`)";
    expect(
        &output,
        "could not install the Convex CLI",
        "npm ci",
        remedy,
        bundle,
        None,
    )?;
    Ok(((), "installed".to_owned()))
}

fn deploy(npx: &Program, bundle: &Bundle, deployment: &Deployment) -> Result<((), String)> {
    if bundle.is_deployed(deployment.name()) && has_functions(deployment)? {
        return Ok(((), "deployed already".to_owned()));
    }
    let output = npx.run(&bundle.folder, &DEPLOY, &deployment.cli_environment())?;
    expect(
        &output,
        "could not deploy the functions",
        "npx convex deploy",
        "mend that",
        bundle,
        Some(deployment),
    )?;
    bundle.set_deployed(deployment.name())?;
    Ok(((), "deployed".to_owned()))
}

fn expect(
    output: &Output,
    failed: &str,
    command: &str,
    remedy: &str,
    bundle: &Bundle,
    deployment: Option<&Deployment>,
) -> Result<()> {
    ensure!(
        output.is_success,
        "{failed}; the end of what `{command}` says in {}:\n{}{remedy}, then run `convex-sidecar setup` again",
        bundle.folder.display(),
        output.end(deployment.map(|deployment| &deployment.key))
    );
    Ok(())
}

/// Somebody may have made the volume anew since they were deployed.
fn has_functions(deployment: &Deployment) -> Result<bool> {
    let call = Call::new(Kind::Query, QUERY.0, QUERY.1)?;
    Ok(matches!(
        Convex::new(deployment, Deadline::never())?.call(&call),
        Verdict::Success(_)
    ))
}

fn install_hooks(options: &Setup) -> Result<(install::Change, String)> {
    // It is minutes since it was read first.
    let change = install::Change::read(options.scope)?;
    let says = change.describe();
    if !change.is_none() {
        change.apply()?;
    }
    Ok((change, says))
}

fn tell_dashboard(source: &Source, config: &Config, deployment: &Deployment) -> Result<()> {
    let url = match source {
        Source::Containers(compose) => local_url(compose.port("dashboard", DASHBOARD_PORT)?),
        Source::Given(_) if deployment.is_cloud() => {
            return print_line("dashboard: https://dashboard.convex.dev");
        }
        Source::Given(_) => return Ok(()),
    };
    print_line(&format!(
        "dashboard: {url}; log in with the `admin_key` in {}",
        config.file.display()
    ))
}

/// Says what would be done.
fn plan(options: &Setup, config: &Config, bundle: &Bundle) -> Result<()> {
    let folder = bundle.folder.display();
    let would = |text: String| print_line(&format!("would {text}"));
    match bundle.outdated()? {
        0 => print_line(&format!(
            "would leave {folder} as it is: the files are unpacked already"
        ))?,
        files => would(format!("unpack {files} files into {folder}"))?,
    }
    if uses_docker(options) {
        would(format!(
            "run `docker compose up --detach --wait` in {folder}"
        ))?;
        would(
            "ask the backend for its version, and whether it accepts the configured key".to_owned(),
        )?;
        would(
            "run `docker compose exec backend ./generate_admin_key.sh`, unless it does".to_owned(),
        )?;
    } else {
        let url = match (&options.url, options.admin_key_stdin) {
            (Some(url), _) => url.clone(),
            (None, true) => "the backend on this machine".to_owned(),
            (None, false) => config.require_deployment()?.name().to_owned(),
        };
        would(format!(
            "ask {url} for its version, and whether it accepts the key"
        ))?;
    }
    for file in [config.file.clone(), bundle.env_file()] {
        would(format!(
            "write URL and key into {}, unless they are there",
            file.display()
        ))?;
    }
    if bundle.is_installed() {
        print_line("would not run `npm ci`: the packages are installed already")?;
    } else {
        would(format!("run `npm ci` in {folder}"))?;
    }
    would(format!(
        "run `npx convex deploy` in {folder}, unless these functions are deployed already"
    ))?;
    would("install the hooks:".to_owned())?;
    install::run(Install {
        scope: options.scope,
        dry_run: true,
    })?;
    would("run `convex-sidecar doctor`".to_owned())
}
