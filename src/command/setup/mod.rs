//! `setup`: from nothing to a `doctor` without a failed check.
//!
//! Each step first checks whether it is already done, so an interrupted run can simply be repeated.
//! Configuration, settings file and programs are checked before anything is started. The key is
//! written only after the server has accepted it.

mod dry_run;
mod source;
mod upgrade;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use self::source::{Source, check_configured, given, uses_docker};
use self::upgrade::Plan;
use super::install::{self, print_line};
use super::{doctor, load_config};
use crate::cli::{Doctor, Setup};
use crate::config::{self, Config, Deployment, Environment};
use crate::deployment::bundle::Bundle;
use crate::deployment::compose::Compose;
use crate::deployment::convex_cli::ConvexCli;
use crate::deployment::preflight;
use crate::deployment::server::{self, local_url};
use crate::deployment::volume;
use crate::system::files::TextFile;

/// The interval between two frames of the spinner.
const TICK: Duration = Duration::from_millis(100);
/// The ports in the containers.
const BACKEND_PORT: &str = "3210";
const DASHBOARD_PORT: &str = "6791";

/// Runs `setup`.
pub fn run(options: &Setup) -> Result<()> {
    let environment = config::environment();
    let config = load_config()?;
    let bundle = Bundle {
        folder: config.journal.with_file_name("deployment"),
    };
    check_configured(options, &config, &environment)?;
    install::ensure_own_home(std::slice::from_ref(&environment))?;
    let hooks = install::Change::read(options.scope, false, &environment)?;
    if options.dry_run {
        return dry_run::print_plan(options, &config, &bundle);
    }
    hooks.ensure_possible()?;
    let cli = ConvexCli::find(&environment, &bundle)?;
    let source = if uses_docker(options) {
        Source::Containers(Compose::find(&environment, &bundle, &config)?)
    } else {
        Source::Given(given(options, &config, &environment)?)
    };

    step("files", "unpacking", || unpack(&bundle))?;
    step("requirements", "checking programs, ports and disk", || {
        check_requirements(&cli, &source, &environment)
    })?;
    let mut plan = Plan::Start;
    let deployment = match &source {
        Source::Given(given) => step("admin key", "contacting the server", || accept(given))?,
        Source::Containers(compose) => {
            plan = Plan::make(compose, options.upgrade)?;
            let port = step(
                "containers",
                "docker compose up; the first run downloads the images",
                || start(compose, &plan),
            )?;
            step("admin key", "contacting the server", || {
                find_key(compose, port, &config)
            })?
        }
    };
    step("configuration", "writing", || {
        configure(options, &config, &bundle, &deployment)
    })?;
    step("packages", "npm ci", || Ok(((), cli.install()?.to_owned())))?;
    let deploy = || {
        step("functions", "npx convex deploy", || {
            Ok(((), deploy_functions(&cli, &source, &deployment)?))
        })
    };
    match (&source, &plan) {
        (Source::Containers(compose), Plan::Upgrade(upgrade)) => {
            let upgraded = upgrade.run(compose, &cli, &config, &deployment)?;
            deploy().map_err(|error| upgraded.explain(&error))?;
            upgraded.check(compose, &deployment)?;
        }
        _ => deploy()?,
    }
    if let Some(retention) = options.retention_days {
        step("retention", "setting", || {
            retention.set(&deployment)?;
            Ok(((), retention.describe()))
        })?;
    }
    let hooks = step("hooks", "installing", || {
        install_hooks(options, &environment)
    })?;
    hooks.warn();
    print_line("")?;
    let checked = doctor::run(&Doctor::default());
    print_line("")?;
    let printed = print_dashboard(&source, &config, &deployment);
    checked?;
    printed?;
    print_line(NEXT)
}

/// Suggests what to do next after a first setup.
const NEXT: &str = "next: `convex-sidecar import` records past sessions; `convex-sidecar sessions` and `usage` show them";

/// Runs a step behind a spinner and prints its result with the time that it took.
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
    let (value, done) = result?;
    print_line(&format!(
        "✓ {name:13}  {done}  ({:.1}s)",
        start.elapsed().as_secs_f64()
    ))?;
    Ok(value)
}

fn unpack(bundle: &Bundle) -> Result<((), String)> {
    let folder = bundle.folder.display();
    Ok(match bundle.unpack()? {
        0 => ((), format!("already unpacked in {folder}")),
        files => ((), format!("{files} files unpacked into {folder}")),
    })
}

/// Checks everything that could fail later, so that nothing is started unless all steps can
/// succeed.
fn check_requirements(
    cli: &ConvexCli,
    source: &Source,
    environment: &Environment,
) -> Result<((), String)> {
    let node = cli.check()?;
    let Source::Containers(compose) = source else {
        return Ok(((), node));
    };
    if let Some(warning) = compose.stray_variables(environment) {
        install::print_warning(&warning);
    }
    Ok((
        (),
        format!("{node}, {}", preflight::check(compose, environment)?),
    ))
}

/// Starts the containers. Returns the port of the backend.
fn start(compose: &Compose, plan: &Plan) -> Result<(u16, String)> {
    let before = compose.running()?;
    let is_retention_set = matches!(plan, Plan::Start) && volume::set_retention(compose)?;
    // Containers that an upgrade will restart are left alone until the data is exported.
    if before.is_empty() || !matches!(plan, Plan::Upgrade(_)) {
        compose.up(plan.kept_tag())?;
    }
    let done = if compose.running()? == before {
        "already running"
    } else {
        "started and healthy"
    };
    let retention = if is_retention_set {
        format!(
            "; old revisions are kept for two days (DOCUMENT_RETENTION_DELAY in {})",
            compose.variables_file().display()
        )
    } else {
        String::new()
    };
    let done = format!(
        "{done}{}{retention}{}",
        compose.passing_variables(),
        plan.note()
    );
    Ok((compose.port("backend", BACKEND_PORT)?, done))
}

/// The configured key if this backend still accepts it, else a new one.
fn find_key(compose: &Compose, port: u16, config: &Config) -> Result<(Deployment, String)> {
    let configured = config.configured().filter(|configured| {
        configured.is_loopback() && configured.url.port_or_known_default() == Some(port)
    });
    let folder = compose.folder();
    let probe = |deployment: &Deployment| {
        server::probe(deployment).map_err(|error| {
            if server::is_unreachable(&error) {
                return preflight::unreachable(port, folder);
            }
            error.context(format!(
                "could not use the backend in the container; see `docker compose logs backend` in {}",
                folder.display()
            ))
        })
    };
    if let Some(kept) = configured {
        let probe = probe(kept)?;
        if probe.accepts_key {
            let done = format!(
                "{} responds ({}) and still accepts the configured key",
                kept.name(),
                probe.version
            );
            return Ok((kept.clone(), done));
        }
    }
    // Pending sessions belong to the deployment under its configured name.
    let url = configured.map_or_else(
        || local_url(port),
        |configured| configured.name().to_owned(),
    );
    let created = config.deployment_at(&url, &compose.generate_key()?)?;
    let probe = probe(&created)?;
    if !probe.accepts_key {
        let instance = probe.instance;
        let own = created.key_instance().unwrap_or_default();
        let remedy = if instance == own {
            format!(
                "restart the backend with `docker compose restart backend` in {}",
                folder.display()
            )
        } else {
            format!(
                "set CONVEX_PORT to a free port in {}",
                folder.join(".env").display()
            )
        };
        bail!(
            "could not create an admin key: {} is the instance `{instance}` and refuses (HTTP 401) the key that the container created for \
             the instance `{own}`; {remedy}, then run `convex-sidecar setup` again",
            created.name()
        );
    }
    let how = if configured.is_some() {
        "created again, because the configured key was refused"
    } else {
        "created"
    };
    let done = format!(
        "{how}; {} responds ({}) and accepts it",
        created.name(),
        probe.version
    );
    Ok((created, done))
}

fn accept(given: &Deployment) -> Result<(Deployment, String)> {
    let version = server::check(given)?;
    let done = format!("{} responds ({version}) and accepts the key", given.name());
    Ok((given.clone(), done))
}

/// Writes `config.toml`, and `.env.local` for the Convex CLI.
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
            "could not write {}, because it has the key to {url}, not to {name}; remove `url` and `admin_key` from the file, or add \
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
    let done = if written.is_empty() {
        format!("{} already has the URL and the key", config.file.display())
    } else {
        format!("written: {}", written.join(", "))
    };
    Ok(((), done))
}

/// Deploys the functions, unless they are deployed.
fn deploy_functions(cli: &ConvexCli, source: &Source, deployment: &Deployment) -> Result<String> {
    if cli.has_deployed(deployment)? {
        return Ok("already deployed".to_owned());
    }
    server::ensure_deployable(deployment, || match source {
        Source::Containers(compose) => compose.backend_tag(),
        Source::Given(_) => Ok(None),
    })?;
    cli.deploy(deployment)
}

fn install_hooks(options: &Setup, environment: &Environment) -> Result<(install::Change, String)> {
    // The file is read again, because the steps before this one can take minutes.
    let change = install::Change::read(options.scope, false, environment)?;
    let copied = change.place()?.map(|copied| format!("; {copied}"));
    let done = change.describe() + &copied.unwrap_or_default();
    if change.is_needed() {
        change.apply()?;
    }
    Ok((change, done))
}

fn print_dashboard(source: &Source, config: &Config, deployment: &Deployment) -> Result<()> {
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
