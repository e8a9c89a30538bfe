//! Which image of the backend `setup` starts, and how `setup --upgrade` moves to another one.
//!
//! A backend migrates its data when it starts, and only forward. So `setup` keeps the image of an
//! existing backend, and an upgrade exports the data first.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};

use super::step;
use crate::command::now;
use crate::config::{Config, Deployment};
use crate::convex::query::count;
use crate::deployment::compose::Compose;
use crate::deployment::convex_cli::ConvexCli;
use crate::deployment::versions::{Age, Tag};
use crate::record::failure::{Failure, FailureKind};
use crate::ui;

/// The query whose rows are the sessions.
const SESSIONS: &str = "agents:listAgentSessions";

/// What happens to the image of the backend.
#[derive(Debug)]
pub(super) enum Plan {
    /// The configured image is started: there is no backend yet, or it already runs that image.
    Start,
    /// The image that the backend has is kept.
    Keep {
        /// The tag of that image.
        tag: Tag,
        /// Why, and how to change that, as a message.
        reason: Option<String>,
    },
    /// The backend moves to another image.
    Upgrade(Upgrade),
}

/// Another image for the backend.
#[derive(Debug)]
pub(super) struct Upgrade {
    from: Tag,
    to: Tag,
}

impl Plan {
    /// Decides what happens, and refuses an upgrade to a tag that is known to be older.
    pub(super) fn make(compose: &Compose, is_upgrade: bool) -> Result<Self> {
        let Some(tag) = compose.backend_tag()? else {
            return Ok(Self::Start);
        };
        let (wanted, pinned) = (compose.wanted_tag()?, Tag::pinned()?);
        let how = "`convex-sidecar setup --upgrade` exports the data and moves to it";
        let reason = match wanted.compared_to(&tag) {
            Age::Same => return Ok(Self::Start),
            Age::Older if is_upgrade => return Err(refuse_downgrade(&tag, &wanted, compose.folder())),
            Age::Older => None,
            Age::Unknown if wanted == pinned => is_upgrade.then(|| {
                format!("not known to be older than {pinned}, so it is left alone; to move to another one, set CONVEX_IMAGE_TAG")
            }),
            Age::Newer | Age::Unknown if is_upgrade => {
                return Ok(Self::Upgrade(Upgrade { from: tag, to: wanted }));
            }
            Age::Newer | Age::Unknown => Some(match tag.misses()? {
                Some(needed) => format!(
                    "too old for the Convex CLI, which needs one of {needed} or later; {wanted} is configured, and {how}"
                ),
                None => format!("{wanted} is configured, and {how}"),
            }),
        };
        Ok(Self::Keep { tag, reason })
    }

    /// The tag to start the containers with, if it is not the configured one.
    pub(super) fn kept_tag(&self) -> Option<&Tag> {
        match self {
            Self::Start => None,
            Self::Keep { tag, .. } | Self::Upgrade(Upgrade { from: tag, .. }) => Some(tag),
        }
    }

    /// What the user should know about the image.
    pub(super) fn note(&self) -> String {
        match self {
            Self::Keep {
                tag,
                reason: Some(reason),
            } => format!("; image {tag}: {reason}"),
            _ => String::new(),
        }
    }
}

fn refuse_downgrade(tag: &Tag, wanted: &Tag, folder: &Path) -> Error {
    anyhow!(
        "could not move the backend from {tag} back to {wanted}, because it has migrated its data, which an older backend cannot read; {}",
        way_back(wanted, folder, None)
    )
}

/// How to go back to an older backend: with an export in a new volume.
fn way_back(tag: &Tag, folder: &Path, export: Option<&Path>) -> String {
    let (first, export) = match export {
        Some(export) => ("", format!("'{}'", export.display())),
        None => (
            "`npx convex export --path before.zip`, ",
            "before.zip".to_owned(),
        ),
    };
    format!(
        "to go back, run in {}: {first}`docker compose down`, `docker volume rm convex-sidecar_data`; set CONVEX_IMAGE_TAG={} in .env, run \
         `convex-sidecar setup` with the version that deployed to it, then `npx convex import --replace-all {export}`",
        folder.display(),
        tag.as_str()
    )
}

/// An upgrade after its image became healthy.
#[derive(Debug)]
pub(super) struct Upgraded {
    to: Tag,
    /// The export of the data.
    export: PathBuf,
    /// The number of sessions before, if functions that can tell were deployed.
    sessions: Option<usize>,
}

impl Upgrade {
    /// Exports, pulls and restarts. If that fails, the message says what still runs and where the
    /// export is.
    pub(super) fn run(
        &self,
        compose: &Compose,
        cli: &ConvexCli,
        config: &Config,
        deployment: &Deployment,
    ) -> Result<Upgraded> {
        let (from, to) = (&self.from, &self.to);
        let (export, before) = step("export", "npx convex export", || {
            export(cli, config, deployment)
        })
        .map_err(|error| {
            anyhow!("{error:#}. Nothing was changed: the backend still runs {from}")
        })?;
        let is_at = format!("an export of its data is in {}", export.display());
        step("images", "docker compose pull", || {
            compose.pull(to)?;
            Ok(((), format!("{to} downloaded")))
        })
        .map_err(|error| {
            anyhow!("{error:#}. The backend was not changed: it still runs {from}, and {is_at}")
        })?;
        step(
            "upgrade",
            "restarting the containers and migrating the data",
            || {
                compose.up(Some(to))?;
                Ok((
                    (),
                    format!("the backend runs {to} instead of {from} and is healthy"),
                ))
            },
        )
        .map_err(|error| self.go_back(compose, &export, &error))?;
        Ok(Upgraded {
            to: to.clone(),
            export,
            sessions: before,
        })
    }

    /// Starts the previous image again, unless the new one has touched the data. An older backend
    /// would start on newer data and only warn in its log.
    fn go_back(&self, compose: &Compose, export: &Path, error: &Error) -> Error {
        let (from, to, at) = (&self.from, &self.to, export.display());
        let folder = compose.folder();
        let kept = format!("The data from before the upgrade is in {at}");
        if compose.has_migrated() {
            return anyhow!(
                "{error:#}. {kept}. {from} was not started again, because {to} has begun to migrate the data; when the cause is fixed, \
                 `convex-sidecar setup --upgrade` continues; {}",
                way_back(from, folder, Some(export))
            );
        }
        match compose.up(Some(from)) {
            Ok(()) => {
                anyhow!("{error:#}. {kept}, and the backend runs {from} again with its data intact")
            }
            Err(again) => anyhow!(
                "{error:#}. {kept}. {from} could not be started again either: {again:#}; {}",
                way_back(from, folder, Some(export))
            ),
        }
    }
}

impl Upgraded {
    /// Adds to the error of a failed deployment the state that it leaves.
    pub(super) fn explain(&self, error: &Error) -> Error {
        anyhow!(
            "{error:#}. The backend runs {}, with its data and the functions that were deployed before; its data from before the upgrade is \
             in {}",
            self.to,
            self.export.display()
        )
    }

    /// Counts the sessions again. Fewer than before is a failure.
    pub(super) fn check(&self, compose: &Compose, deployment: &Deployment) -> Result<()> {
        step("sessions", "counting", || {
            let after = count(deployment, SESSIONS)
                .context("could not count the sessions after the upgrade")?;
            let Some(before) = self.sessions else {
                return Ok(((), format!("{} after the upgrade", sessions(after))));
            };
            ensure!(
                after >= before,
                "could not find all sessions after the upgrade: {before} before, {after} now; to restore them, run `npx convex import \
                 --replace-all '{}'` in {}",
                self.export.display(),
                compose.folder().display()
            );
            Ok((
                (),
                format!("{} before the upgrade, {after} now", sessions(before)),
            ))
        })
    }
}

/// Exports the data into a new private file. Returns its path and the number of sessions in it.
fn export(
    cli: &ConvexCli,
    config: &Config,
    deployment: &Deployment,
) -> Result<((PathBuf, Option<usize>), String)> {
    let (now, _) = now();
    let name = format!("convex-{}.zip", ui::file_time(now));
    let path = config.journal.with_file_name("exports").join(name);
    let sessions_before = match count(deployment, SESSIONS) {
        Ok(count) => Some(count),
        Err(error) => match error.downcast_ref::<Failure>().map(|failure| failure.kind) {
            Some(FailureKind::Undeployed) => None,
            _ => bail!("could not count the sessions before the upgrade: {error:#}"),
        },
    };
    cli.export(deployment, &path)?;
    let what = sessions_before.map_or_else(
        || "the data; no functions that can count sessions are deployed".to_owned(),
        sessions,
    );
    let done = format!("{what}: {}", path.display());
    Ok(((path, sessions_before), done))
}

fn sessions(count: usize) -> String {
    ui::plural(count as u64, "session")
}
